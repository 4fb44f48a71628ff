//! Reading: LLEN, LINDEX, LRANGE, LPOS.

use std::ops::ControlFlow;

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RO, Spec, key};
use mortise_sdk::{Error, Result, args, error};

use super::value::{List, ListRef};
use super::{End, LIST};
use crate::engine::call::Call;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[LLEN, LINDEX, LRANGE, LPOS];

const LLEN: Command = Spec {
    usage: "LLEN key",
    about: "Counts the elements of a list.",
    since: "1.0.0",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO])],
    ..LIST
}
.runs(llen);

fn llen(call: &mut Call<'_>) -> Result {
    let (list, out) = call.read::<List>(call.key(1))?;
    out.count(list.map_or(0, ListRef::len));
    Ok(())
}

const LINDEX: Command = Spec {
    usage: "LINDEX key index:int",
    about: "Returns an element of a list by its index, which counts from the end if it is negative.",
    since: "1.0.0",
    cost: "O(log(N)), N being the elements",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..LIST
}
.runs(lindex);

fn lindex(call: &mut Call<'_>) -> Result {
    let number = call.integer(2);
    let (list, out) = call.read::<List>(call.key(1))?;
    if let Some(list) = list {
        let index = list.index(number?);
        if index.and_then(|index| list.show(index, |item| item.reply(out))).is_some() {
            return Ok(());
        }
    }
    out.null();
    Ok(())
}

const LRANGE: Command = Spec {
    usage: "LRANGE key start:int stop:int",
    about: "Returns a range of elements of a list.",
    since: "1.0.0",
    cost: "O(log(N)+M), N being the elements and M those returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..LIST
}
.runs(lrange);

fn lrange(call: &mut Call<'_>) -> Result {
    let (first, last) = (call.integer(2)?, call.integer(3)?);
    let (list, out) = call.read::<List>(call.key(1))?;
    let range = list.map_or(0..0, |list| list.range(first, last));
    out.array(range.len());
    if let Some(list) = list {
        list.show_each(range, |item| item.reply(out));
    }
    Ok(())
}

const LPOS: Command = Spec {
    usage: "LPOS key element [RANK rank:int] [COUNT num-matches:int] [MAXLEN len:int]",
    about: "Returns the index of an element, or those of several that are the same.",
    since: "6.0.6",
    cost: "O(N), N being the elements looked at",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..LIST
}
.runs(lpos);

fn lpos(call: &mut Call<'_>) -> Result {
    const RANK_ZERO: Error = Error::new(
        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from \
         the end of the list",
    );
    let (mut rank, mut count, mut len_max) = (1, None, 0);
    let mut options = call.options(3);
    while !options.is_empty() {
        let positive =
            |text: &[u8], negative| args::parse_integer(text).filter(|n| *n >= 0).ok_or(Error::new(negative));
        if let Some(text) = options.takes_value("RANK") {
            rank = args::parse_integer(text).ok_or(error::NOT_INTEGER)?;
            if rank == 0 {
                return Err(RANK_ZERO);
            }
            if rank == i64::MIN {
                return Err(Error::not_between(-i64::MAX, i64::MAX));
            }
        } else if let Some(text) = options.takes_value("COUNT") {
            count = Some(positive(text, "ERR COUNT can't be negative")?);
        } else if let Some(text) = options.takes_value("MAXLEN") {
            len_max = positive(text, "ERR MAXLEN can't be negative")?;
        } else {
            return Err(error::SYNTAX);
        }
    }
    let element = call.arg(2);
    let (list, out) = call.read::<List>(call.key(1))?;
    let Some(list) = list else {
        match count {
            Some(_) => out.array(0),
            None => out.null(),
        }
        return Ok(());
    };
    let most = match count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
    };
    let len = list.len();
    // As many as are to be looked at, from the end at which the search begins.
    let looked_at = if len_max == 0 { len } else { len.min(usize::try_from(len_max).unwrap_or(len)) };
    let (end, range) = if rank < 0 { (End::Right, len - looked_at..len) } else { (End::Left, 0..looked_at) };
    let mut to_skip = rank.unsigned_abs() - 1;
    let mut found = Vec::new();
    list.find(element, range, end, |index| {
        if to_skip > 0 {
            to_skip -= 1;
            return ControlFlow::Continue(());
        }
        found.push(index);
        if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    match (count, found.first()) {
        (Some(_), _) => {
            out.array(found.len());
            found.iter().for_each(|index| out.count(*index));
        }
        (None, Some(index)) => out.count(*index),
        (None, None) => out.null(),
    }
    Ok(())
}
