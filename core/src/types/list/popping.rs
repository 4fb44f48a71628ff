//! LPOP, RPOP, LMPOP, and the three that wait: BLPOP, BRPOP, BLMPOP.

use std::ops::Range;

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, DELETE, RW, Spec, added, key};
use mortise_sdk::resp::format_integer;
use mortise_sdk::{Error, Result, args, error};

use super::value::List;
use super::{End, LIST};
use crate::engine::Caller;
use crate::engine::blocked::OnTimeout;
use crate::engine::call::{Call, Key};
use crate::features::Command;

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
        let name = &call.command.name;
        return Err(Error::text(format!("ERR wrong number of arguments for '{name}' command")));
    }
    let count = at_least(call.arg(2), 0, error::NOT_POSITIVE)?;
    if pop(call, call.key(1), end, count, Form::Several)?.is_none() {
        call.out().null_array();
    }
    Ok(())
}

/// An integer of at least `min`; the error says what is wrong, whatever it is.
fn at_least(text: &[u8], min: i64, error: Error) -> Result<usize> {
    let n = args::parse_integer(text).filter(|n| *n >= min).ok_or(error)?;
    Ok(usize::try_from(n).unwrap_or(usize::MAX))
}

/// `numkeys key... <LEFT | RIGHT> [COUNT count]`
struct ManyKeys {
    keys: Range<usize>,
    end: End,
    count: usize,
}

impl ManyKeys {
    fn parse(call: &Call<'_>, numkeys: usize) -> Result<ManyKeys> {
        let keys = at_least(call.arg(numkeys), 1, Error::new("ERR numkeys should be greater than 0"))?;
        let first = numkeys + 1;
        // More keys than arguments: there is no room for where to pop from.
        if keys >= call.argc() - first {
            return Err(error::SYNTAX);
        }
        let keys = first..first + keys;
        let mut options = call.options(keys.end);
        let end = End::parse(&mut options)?;
        let mut count = None;
        while !options.is_empty() {
            let Some(text) = options.takes_value("COUNT").filter(|_| count.is_none()) else {
                return Err(error::SYNTAX);
            };
            count = Some(at_least(text, 1, Error::new("ERR count should be greater than 0"))?);
        }
        Ok(ManyKeys { keys, end, count: count.unwrap_or(1) })
    }
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
    for index in keys {
        if let Some(popped) = pop(call, call.key(index), end, count, Form::KeyAndSeveral)? {
            say_pop(call, end, index, Some(popped));
            return Ok(());
        }
    }
    call.out().null_array();
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
    let timeout = call.timeout(call.argc() - 1)?;
    pop_or_wait(call, 1..call.argc() - 1, End::Left, None, timeout)
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
    let timeout = call.timeout(call.argc() - 1)?;
    pop_or_wait(call, 1..call.argc() - 1, End::Right, None, timeout)
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
    let form = if count.is_some() { Form::KeyAndSeveral } else { Form::KeyAndOne };
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
    let (command, key) = (end.pop_command(), call.arg(index));
    match popped {
        Some(popped) => call.propagates(&[command, key, format_integer(popped as i64).as_bytes()]),
        None => call.propagates(&[command, key]),
    }
}
