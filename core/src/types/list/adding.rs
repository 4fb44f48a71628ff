//! Adding elements: LPUSH, RPUSH, LPUSHX, RPUSHX, LINSERT, and LSET, which replaces one.

use std::ops::ControlFlow;

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{INSERT, RW, Spec, UPDATE, key};
use mortise_sdk::{Error, Result, error};

use super::value::List;
use super::{End, LIST};
use crate::engine::args::Args;
use crate::engine::call::Call;
use crate::engine::edit::Edit;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[LPUSH, RPUSH, LPUSHX, RPUSHX, LINSERT, LSET];

const LPUSH: Command = Spec {
    usage: "LPUSH key element...",
    about: "Adds elements in front of a list, which is created if need be; returns how many it holds.",
    since: "1.0.0",
    cost: "O(N), N being the elements added",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, INSERT])],
    history: &[("2.4.0", "Takes several elements.")],
    ..LIST
}
.runs(lpush);

fn lpush(call: &mut Call<'_>) -> Result {
    push(call, End::Left)
}

#[inline(always)]
fn push(call: &mut Call<'_>, end: End) -> Result {
    let args = call.args();
    let list = call.create::<List>(call.key(1))?;
    let len = push_all(list, args, end);
    call.reply(len)
}

/// Adds what the call names; says how many elements there are then.
#[inline(always)]
fn push_all(mut list: Edit<'_, List>, args: Args<'_>, end: End) -> usize {
    for index in 2..args.len() {
        list.push(end, args.at(index));
    }
    let len = list.view().len();
    list.changed(end.pushed());
    len
}

const RPUSH: Command = Spec {
    usage: "RPUSH key element...",
    about: "Adds elements at the end of a list, which is created if need be; returns how many it holds.",
    since: "1.0.0",
    cost: "O(N), N being the elements added",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, INSERT])],
    history: &[("2.4.0", "Takes several elements.")],
    ..LIST
}
.runs(rpush);

fn rpush(call: &mut Call<'_>) -> Result {
    push(call, End::Right)
}

const LPUSHX: Command = Spec {
    usage: "LPUSHX key element...",
    about: "Adds elements in front of a list, if it exists.",
    since: "2.2.0",
    cost: "O(N), N being the elements added",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, INSERT])],
    history: &[("4.0.0", "Takes several elements.")],
    ..LIST
}
.runs(lpushx);

fn lpushx(call: &mut Call<'_>) -> Result {
    push_if_there(call, End::Left)
}

fn push_if_there(call: &mut Call<'_>, end: End) -> Result {
    let args = call.args();
    let list = call.edit::<List>(call.key(1))?;
    let len = list.map_or(0, |list| push_all(list, args, end));
    call.reply(len)
}

const RPUSHX: Command = Spec {
    usage: "RPUSHX key element...",
    about: "Adds elements at the end of a list, if it exists.",
    since: "2.2.0",
    cost: "O(N), N being the elements added",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, INSERT])],
    history: &[("4.0.0", "Takes several elements.")],
    ..LIST
}
.runs(rpushx);

fn rpushx(call: &mut Call<'_>) -> Result {
    push_if_there(call, End::Right)
}

const LINSERT: Command = Spec {
    usage: "LINSERT key where=<BEFORE | AFTER> pivot element",
    about: "Inserts an element before or after the first one that is the same as another.",
    since: "2.2.0",
    cost: "O(N), N being the elements in front of the place",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[RW, INSERT])],
    ..LIST
}
.runs(linsert);

/// Answers with the number of elements; 0 if there is no list, -1 if there is no such element.
fn linsert(call: &mut Call<'_>) -> Result {
    let mut options = call.options(2);
    let behind = if options.takes("AFTER") {
        1
    } else if options.takes("BEFORE") {
        0
    } else {
        return Err(error::SYNTAX);
    };
    let (pivot, element) = (call.arg(3), call.arg(4));
    let Some(mut list) = call.edit::<List>(call.key(1))? else { return call.reply(0_i64) };
    let view = list.view();
    let mut place = None;
    view.find(pivot, 0..view.len(), End::Left, |index| {
        place = Some(index);
        ControlFlow::Break(())
    });
    let Some(place) = place else {
        drop(list);
        return call.reply(-1_i64);
    };
    list.insert(place + behind, element);
    let len = list.view().len();
    list.changed("linsert");
    call.reply(len)
}

const LSET: Command = Spec {
    usage: "LSET key index:int element",
    about: "Replaces an element of a list.",
    since: "1.0.0",
    cost: "O(log(N)), N being the elements",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[RW, UPDATE])],
    ..LIST
}
.runs(lset);

fn lset(call: &mut Call<'_>) -> Result {
    let (number, element) = (call.integer(2), call.arg(3));
    let mut list = call.edit::<List>(call.key(1))?.ok_or(error::NO_SUCH_KEY)?;
    let index = list.view().index(number?).ok_or(Error::new("ERR index out of range"))?;
    list.replace(index, element);
    list.changed("lset");
    call.ok()
}
