//! LPOP, RPOP, LMPOP, and the three that wait: BLPOP, BRPOP, BLMPOP.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, DELETE, RW, Spec, added, key};
use mortise_sdk::{Error, Result, error};

use super::value::List;
use super::{End, LIST};
use crate::engine::call::{Call, Key};
use crate::features::Command;
use crate::types::popping::{ManyKeys, at_least, pop_first, pop_or_wait};

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[LPOP, RPOP, LMPOP, BLPOP, BRPOP, BLMPOP];

/// How popped elements are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One element alone.
    One,
    /// An array of elements.
    Several,
    /// The key and one element.
    KeyAndOne,
    /// The key and an array of elements.
    KeyAndSeveral,
}

/// Pops up to `count` elements from one key and answers with them. Says how many there were, none if there is no key.
#[inline(always)]
fn pop(call: &mut Call<'_>, key: Key<'_>, end: End, count: usize, form: Form) -> Result<Option<usize>> {
    let (list, out) = call.edit_replying::<List>(key)?;
    let Some(mut list) = list else { return Ok(None) };
    let len = list.view().len();
    let popped = count.min(len);
    match form {
        Form::One => {}
        Form::Several => out.array(popped),
        Form::KeyAndOne | Form::KeyAndSeveral => {
            out.array(2);
            out.bulk(key.bytes);
        }
    }
    if form == Form::KeyAndSeveral {
        out.array(popped);
    }
    match (popped, end) {
        (0, _) => return Ok(Some(0)),
        (1, _) => {
            let index = if end == End::Left { 0 } else { len - 1 };
            list.view().show(index, |item| item.reply(out));
            list.pop(end);
        }
        (_, End::Left) => {
            list.view().show_each(0..popped, |item| item.reply(out));
            list.remove(0..popped);
        }
        (_, End::Right) => {
            list.view().show_each_back(len - popped..len, |item| item.reply(out));
            list.remove(len - popped..len);
        }
    }
    list.changed(end.popped());
    Ok(Some(popped))
}

const LPOP: Command = Spec {
    usage: "LPOP key [count:int]",
    about: "Removes and returns the first element of a list, or several.",
    since: "1.0.0",
    cost: "O(N), N being the elements returned",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    history: &[("6.2.0", "Option `count`.")],
    ages: &[added("count", "6.2.0")],
    ..LIST
}
.runs(lpop);

fn lpop(call: &mut Call<'_>) -> Result {
    pop_one_key(call, End::Left)
}

const RPOP: Command = Spec {
    usage: "RPOP key [count:int]",
    about: "Removes and returns the last element of a list, or several.",
    since: "1.0.0",
    cost: "O(N), N being the elements returned",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    history: &[("6.2.0", "Option `count`.")],
    ages: &[added("count", "6.2.0")],
    ..LIST
}
.runs(rpop);

fn rpop(call: &mut Call<'_>) -> Result {
    pop_one_key(call, End::Right)
}

#[inline(always)]
fn pop_one_key(call: &mut Call<'_>, end: End) -> Result {
    if call.argc() == 2 {
        if pop(call, call.key(1), end, 1, Form::One)?.is_none() {
            call.out().null();
        }
        return Ok(());
    }
    if call.argc() > 3 {
        return Err(Error::wrong_arity(&call.command.name));
    }
    let count = at_least(call.arg(2), 0, error::NOT_POSITIVE)?;
    if pop(call, call.key(1), end, count, Form::Several)?.is_none() {
        call.out().null_array();
    }
    Ok(())
}

const LMPOP: Command = Spec {
    usage: "LMPOP numkeys:int key... where=<LEFT | RIGHT> [COUNT count:int]",
    about: "Removes and returns elements at an end of the first list that has any.",
    since: "7.0.0",
    cost: "O(N+M), N being the keys and M the elements returned",
    flags: &[WRITE],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    ..LIST
}
.runs(lmpop);

fn lmpop(call: &mut Call<'_>) -> Result {
    let ManyKeys { keys, end, count } = ManyKeys::parse(call, 1)?;
    let pop = |call: &mut Call<'_>, key: Key<'_>| pop(call, key, end, count, Form::KeyAndSeveral);
    if !pop_first(call, keys, end, true, pop)? {
        call.out().null_array();
    }
    Ok(())
}

const BLPOP: Command = Spec {
    usage: "BLPOP key... timeout:double",
    about: "Removes and returns the first element of the first list that has any, or waits for one.",
    since: "2.0.0",
    cost: "O(N), N being the keys",
    flags: &[WRITE, NOSCRIPT, BLOCKING],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    history: &[("6.0.0", "`timeout` may have a fraction.")],
    ..LIST
}
.runs(blpop);

fn blpop(call: &mut Call<'_>) -> Result {
    pop_one_or_wait(call, End::Left)
}

const BRPOP: Command = Spec {
    usage: "BRPOP key... timeout:double",
    about: "Removes and returns the last element of the first list that has any, or waits for one.",
    since: "2.0.0",
    cost: "O(N), N being the keys",
    flags: &[WRITE, NOSCRIPT, BLOCKING],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    history: &[("6.0.0", "`timeout` may have a fraction.")],
    ..LIST
}
.runs(brpop);

fn brpop(call: &mut Call<'_>) -> Result {
    pop_one_or_wait(call, End::Right)
}

/// Pops one element from the first list that has any, or waits until the time that the last argument tells.
fn pop_one_or_wait(call: &mut Call<'_>, end: End) -> Result {
    let last = call.argc() - 1;
    let timeout = call.timeout(last)?;
    pop_or_wait(call, 1..last, end, false, timeout, |call, key| pop(call, key, end, 1, Form::KeyAndOne))
}

const BLMPOP: Command = Spec {
    usage: "BLMPOP timeout:double numkeys:int key... where=<LEFT | RIGHT> [COUNT count:int]",
    about: "Removes and returns elements at an end of the first list that has any, or waits.",
    since: "7.0.0",
    cost: "O(N+M), N being the keys and M the elements returned",
    flags: &[WRITE, BLOCKING],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    ..LIST
}
.runs(blmpop);

fn blmpop(call: &mut Call<'_>) -> Result {
    let ManyKeys { keys, end, count } = ManyKeys::parse(call, 2)?;
    let timeout = call.timeout(1)?;
    pop_or_wait(call, keys, end, true, timeout, |call, key| pop(call, key, end, count, Form::KeyAndSeveral))
}
