//! ZPOPMIN, ZPOPMAX, ZMPOP, and the three that wait: BZPOPMIN, BZPOPMAX, BZMPOP.

use std::ops::Range;

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, DELETE, RW, Spec, key};
use mortise_sdk::resp::format_integer;
use mortise_sdk::{Error, Result, args, error};

use super::SORTED_SET;
use super::value::Zset;
use crate::engine::Caller;
use crate::engine::blocked::OnTimeout;
use crate::engine::call::{Call, Key};
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[ZPOPMIN, ZPOPMAX, ZMPOP, BZPOPMIN, BZPOPMAX, BZMPOP];

/// From which end members are popped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Min,
    Max,
}

impl End {
    fn event(self) -> &'static str {
        match self {
            End::Min => "zpopmin",
            End::Max => "zpopmax",
        }
    }

    /// The command that pops from one key.
    fn command(self) -> &'static [u8] {
        match self {
            End::Min => b"ZPOPMIN",
            End::Max => b"ZPOPMAX",
        }
    }
}

/// How popped members are answered.
#[derive(Clone, Copy)]
struct Form {
    /// The key stands in front.
    key: bool,
    /// Each member is paired with its score.
    pairs: bool,
}

/// Pops up to `count` members from one key and answers with them. Says how many there were, none if there is no key.
fn pop(call: &mut Call<'_>, key: Key<'_>, end: End, count: usize, form: Form) -> Result<Option<usize>> {
    let (zset, out) = call.edit_replying::<Zset>(key)?;
    let Some(mut zset) = zset else { return Ok(None) };
    let len = zset.view().len();
    let popped = count.min(len);
    match form {
        Form { key: false, pairs: false } => out.array(popped * 2),
        Form { key: false, pairs: true } => out.array(popped),
        Form { key: true, pairs: false } => {
            out.array(popped * 2 + 1);
            out.bulk(key.bytes);
        }
        Form { key: true, pairs: true } => {
            out.array(2);
            out.bulk(key.bytes);
            out.array(popped);
        }
    }
    if popped == 0 {
        return Ok(Some(0));
    }
    let ranks = match end {
        End::Min => 0..popped,
        End::Max => len - popped..len,
    };
    for (score, member) in zset.view().slice(ranks.clone(), end == End::Max) {
        if form.pairs {
            out.array(2);
        }
        out.bulk(member);
        out.double(score);
    }
    zset.remove_ranks(ranks);
    zset.changed(end.event());
    Ok(Some(popped))
}

const ZPOPMIN: Command = Spec {
    usage: "ZPOPMIN key [count:int]",
    about: "Pops members with the lowest scores.",
    since: "5.0.0",
    cost: "O(M*log(N)), N being the members and M those popped",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    ..SORTED_SET
}
.runs(zpopmin);

fn zpopmin(call: &mut Call<'_>) -> Result {
    pop_one_key(call, End::Min)
}

const ZPOPMAX: Command = Spec {
    usage: "ZPOPMAX key [count:int]",
    about: "Pops members with the highest scores.",
    since: "5.0.0",
    cost: "O(M*log(N)), N being the members and M those popped",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    ..SORTED_SET
}
.runs(zpopmax);

fn zpopmax(call: &mut Call<'_>) -> Result {
    pop_one_key(call, End::Max)
}

fn pop_one_key(call: &mut Call<'_>, end: End) -> Result {
    if call.argc() > 3 {
        return Err(error::SYNTAX);
    }
    let counted = call.argc() == 3;
    let count = match counted {
        true => usize::try_from(positive(call.arg(2), 0, error::NOT_POSITIVE)?).unwrap_or(usize::MAX),
        false => 1,
    };
    let pairs = counted && call.out().is_resp3();
    if pop(call, call.key(1), end, count, Form { key: false, pairs })?.is_none() {
        call.out().array(0);
    }
    Ok(())
}

/// An integer of at least `min`; the error says what is wrong, whatever it is.
fn positive(text: &[u8], min: i64, error: Error) -> Result<i64> {
    args::parse_integer(text).filter(|n| *n >= min).ok_or(error)
}

/// `numkeys key... <MIN | MAX> [COUNT count]`
struct ManyKeys {
    keys: Range<usize>,
    end: End,
    count: usize,
}

impl ManyKeys {
    fn parse(call: &Call<'_>, numkeys: usize) -> Result<ManyKeys> {
        let error = Error::new("ERR numkeys should be greater than 0");
        let keys = positive(call.arg(numkeys), 1, error)?;
        let first = numkeys + 1;
        // More keys than arguments: there is no room for where to pop from.
        let keys =
            usize::try_from(keys).ok().filter(|keys| *keys < call.argc() - first).ok_or(error::SYNTAX)?;
        let keys = first..first + keys;
        let mut options = call.options(keys.end);
        let end = if options.takes("MIN") {
            End::Min
        } else if options.takes("MAX") {
            End::Max
        } else {
            return Err(error::SYNTAX);
        };
        let mut count = None;
        while !options.is_empty() {
            let Some(text) = options.takes_value("COUNT").filter(|_| count.is_none()) else {
                return Err(error::SYNTAX);
            };
            count = Some(positive(text, 1, Error::new("ERR count should be greater than 0"))?);
        }
        Ok(ManyKeys { keys, end, count: usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX) })
    }

    const FORM: Form = Form { key: true, pairs: true };
}

const ZMPOP: Command = Spec {
    usage: "ZMPOP numkeys:int key... where=<MIN | MAX> [COUNT count:int]",
    about: "Pops members with the lowest or highest scores from the first sorted set that has any.",
    since: "7.0.0",
    cost: "O(K) + O(M*log(N)), K being the keys, N the members and M those popped",
    flags: &[WRITE],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    ..SORTED_SET
}
.runs(zmpop);

fn zmpop(call: &mut Call<'_>) -> Result {
    let ManyKeys { keys, end, count } = ManyKeys::parse(call, 1)?;
    for index in keys {
        if let Some(popped) = pop(call, call.key(index), end, count, ManyKeys::FORM)? {
            say_pop(call, end, index, Some(popped));
            return Ok(());
        }
    }
    call.out().null_array();
    Ok(())
}

const BZPOPMIN: Command = Spec {
    usage: "BZPOPMIN key... timeout:double",
    about: "Pops the member with the lowest score from the first sorted set that has any, or waits for one.",
    since: "5.0.0",
    cost: "O(log(N)), N being the members",
    flags: &[WRITE, NOSCRIPT, BLOCKING, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    history: &[("6.0.0", "`timeout` may have a fraction.")],
    ..SORTED_SET
}
.runs(bzpopmin);

fn bzpopmin(call: &mut Call<'_>) -> Result {
    let timeout = call.timeout(call.argc() - 1)?;
    pop_or_wait(call, 1..call.argc() - 1, End::Min, None, timeout)
}

const BZPOPMAX: Command = Spec {
    usage: "BZPOPMAX key... timeout:double",
    about: "Pops the member with the highest score from the first sorted set that has any, or waits for one.",
    since: "5.0.0",
    cost: "O(log(N)), N being the members",
    flags: &[WRITE, NOSCRIPT, BLOCKING, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    history: &[("6.0.0", "`timeout` may have a fraction.")],
    ..SORTED_SET
}
.runs(bzpopmax);

fn bzpopmax(call: &mut Call<'_>) -> Result {
    let timeout = call.timeout(call.argc() - 1)?;
    pop_or_wait(call, 1..call.argc() - 1, End::Max, None, timeout)
}

const BZMPOP: Command = Spec {
    usage: "BZMPOP timeout:double numkeys:int key... where=<MIN | MAX> [COUNT count:int]",
    about: "Pops members with the lowest or highest scores from the first sorted set that has any, or waits.",
    since: "7.0.0",
    cost: "O(K) + O(M*log(N)), K being the keys, N the members and M those popped",
    flags: &[WRITE, BLOCKING],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    ..SORTED_SET
}
.runs(bzmpop);

fn bzmpop(call: &mut Call<'_>) -> Result {
    let ManyKeys { keys, end, count } = ManyKeys::parse(call, 2)?;
    let timeout = call.timeout(1)?;
    pop_or_wait(call, keys, end, Some(count), timeout)
}

/// Pops from the first key that holds anything; waits if none does.
fn pop_or_wait(
    call: &mut Call<'_>,
    keys: Range<usize>,
    end: End,
    count: Option<usize>,
    timeout: f64,
) -> Result {
    let form = Form { key: true, pairs: count.is_some() };
    for index in keys.clone() {
        match pop(call, call.key(index), end, count.unwrap_or(1), form) {
            Ok(Some(popped)) => {
                say_pop(call, end, index, count.map(|_| popped));
                return Ok(());
            }
            Ok(None) => {}
            // A key that comes to hold something else is no reason to stop waiting.
            Err(_) if call.caller() == Caller::Retry => {}
            Err(error) => return Err(error),
        }
    }
    let names: Vec<&[u8]> = keys.map(|index| call.arg(index)).collect();
    call.wait_for(&names, timeout, OnTimeout::NullArray)
}

/// Propagates what was popped as a pop from one key.
fn say_pop(call: &mut Call<'_>, end: End, index: usize, popped: Option<usize>) {
    if !call.is_propagated() {
        return;
    }
    let key = call.arg(index);
    match popped {
        Some(popped) => {
            call.propagates(&[end.command(), key, format_integer(popped as i64).as_bytes()]);
        }
        None => call.propagates(&[end.command(), key]),
    }
}
