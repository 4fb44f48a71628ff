//! Moving elements between lists: LMOVE, RPOPLPUSH, LMOVEM, and those that wait: BLMOVE, BRPOPLPUSH, BLMOVEM.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, DELETE, Deprecation, INSERT, KeyUse, RW, Spec, key};
use mortise_sdk::{Error, Result, args, error};

use super::value::List;
use super::{End, LIST};
use crate::engine::Caller;
use crate::engine::blocked::OnTimeout;
use crate::engine::call::{Call, Key, Options};
use crate::engine::edit::Edit;
use crate::features::Command;
use crate::types::Type;
use crate::types::popping::End as _;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[LMOVE, RPOPLPUSH, LMOVEM, BLMOVE, BRPOPLPUSH, BLMOVEM];

const KEYS: &[KeyUse] = &[key("source", &[RW, ACCESS, DELETE]), key("destination", &[RW, INSERT])];

const LMOVE: Command = Spec {
    usage: "LMOVE source destination wherefrom=<LEFT | RIGHT> whereto=<LEFT | RIGHT>",
    about: "Moves an element from an end of one list to an end of another, and returns it.",
    since: "6.2.0",
    flags: &[WRITE, DENYOOM],
    keys: KEYS,
    ..LIST
}
.runs(lmove);

fn lmove(call: &mut Call<'_>) -> Result {
    let ends = Ends::parse(&mut call.options(3))?;
    move_or_null(call, ends)
}

const RPOPLPUSH: Command = Spec {
    usage: "RPOPLPUSH source destination",
    about: "Moves the last element of a list to the front of another, and returns it.",
    since: "1.2.0",
    flags: &[WRITE, DENYOOM],
    keys: KEYS,
    deprecated: Some(Deprecation {
        since: "6.2.0",
        replaced_by: "`LMOVE` with the `RIGHT` and `LEFT` arguments",
    }),
    ..LIST
}
.runs(rpoplpush);

fn rpoplpush(call: &mut Call<'_>) -> Result {
    move_or_null(call, Ends::RIGHT_TO_LEFT)
}

fn move_or_null(call: &mut Call<'_>, ends: Ends) -> Result {
    if !move_one(call, ends)? {
        call.out().null();
    }
    Ok(())
}

const BLMOVE: Command = Spec {
    usage: "BLMOVE source destination wherefrom=<LEFT | RIGHT> whereto=<LEFT | RIGHT> timeout:double",
    about: "Moves an element between two lists, waiting until there is one.",
    since: "6.2.0",
    flags: &[WRITE, DENYOOM, NOSCRIPT, BLOCKING],
    keys: KEYS,
    ..LIST
}
.runs(blmove);

fn blmove(call: &mut Call<'_>) -> Result {
    let ends = Ends::parse(&mut call.options(3))?;
    let timeout = call.timeout(5)?;
    let words = [b"LMOVE", call.arg(1), call.arg(2), call.arg(3), call.arg(4)];
    move_or_wait(call, ends, timeout, &words)
}

const BRPOPLPUSH: Command = Spec {
    usage: "BRPOPLPUSH source destination timeout:double",
    about: "Moves the last element of a list to the front of another, waiting until there is one.",
    since: "2.2.0",
    flags: &[WRITE, DENYOOM, NOSCRIPT, BLOCKING],
    keys: KEYS,
    history: &[("6.0.0", "`timeout` may have a fraction.")],
    deprecated: Some(Deprecation {
        since: "6.2.0",
        replaced_by: "`BLMOVE` with the `RIGHT` and `LEFT` arguments",
    }),
    ..LIST
}
.runs(brpoplpush);

fn brpoplpush(call: &mut Call<'_>) -> Result {
    let timeout = call.timeout(3)?;
    move_or_wait(call, Ends::RIGHT_TO_LEFT, timeout, &[b"RPOPLPUSH", call.arg(1), call.arg(2)])
}

/// Moves an element, which is propagated as `words`; waits if there is none.
fn move_or_wait(call: &mut Call<'_>, ends: Ends, timeout: f64, words: &[&[u8]]) -> Result {
    let attempt = move_one(call, ends);
    if attempt == Ok(false) && call.cannot_wait() {
        call.out().null();
        return Ok(());
    }
    if has_moved_or_waits(call, attempt, timeout)? && call.is_propagated() {
        call.propagates(words);
    }
    Ok(())
}

/// After an attempt to move: whether it has. If there were not enough elements, the call waits for the source.
fn has_moved_or_waits(call: &mut Call<'_>, attempt: Result<bool>, timeout: f64) -> Result<bool> {
    match attempt {
        Ok(true) => return Ok(true),
        Ok(false) => {}
        // That the source comes to hold something else is no reason to stop waiting.
        Err(_) if call.caller() == Caller::Retry && !is_list(call, call.key(1)) => {}
        Err(error) => return Err(error),
    }
    // No array, though it would be one element: so Redis answers when the time is over.
    call.wait_for(&[call.arg(1)], timeout, OnTimeout::NullArray)?;
    Ok(false)
}

fn is_list(call: &mut Call<'_>, key: Key<'_>) -> bool {
    call.peek(key).is_some_and(|entry| List::view(entry).is_some())
}

/// From which end of the source to which end of the destination.
#[derive(Clone, Copy)]
struct Ends {
    from: End,
    to: End,
}

impl Ends {
    const RIGHT_TO_LEFT: Ends = Ends { from: End::Right, to: End::Left };

    fn parse(options: &mut Options<'_>) -> Result<Ends> {
        Ok(Ends { from: End::parse(options)?, to: End::parse(options)? })
    }
}

/// Moves an element between the keys that arguments 1 and 2 name and answers with it; false if there is no source.
fn move_one(call: &mut Call<'_>, ends: Ends) -> Result<bool> {
    let element = call.edit::<List>(call.key(1))?.and_then(|list| {
        let index = if ends.from == End::Left { 0 } else { list.view().len() - 1 };
        list.view().show(index, |item| item.text().into_owned())
    });
    let Some(element) = element else { return Ok(false) };
    move_elements(call, ends, 1, &[&element])?;
    call.out().bulk(&element);
    Ok(true)
}

/// Puts elements that were read from an end of the source at an end of the destination, in the order in which they are
/// given, and removes them from the source.
fn move_elements(call: &mut Call<'_>, ends: Ends, count: usize, elements: &[&[u8]]) -> Result {
    let (source, destination) = (call.key(1), call.key(2));
    if source.bytes == destination.bytes {
        let Some(mut list) = call.edit::<List>(source)? else { return Ok(()) };
        take(&mut list, ends.from, count);
        elements.iter().for_each(|element| list.push(ends.to, element));
        list.also_changed(ends.to.pushed(), List::CLASS);
        list.changed(ends.from.popped());
    } else {
        // A destination of another type is refused before anything moves.
        let mut list = call.create::<List>(destination)?;
        elements.iter().for_each(|element| list.push(ends.to, element));
        list.changed(ends.to.pushed());
        let Some(mut list) = call.edit::<List>(source)? else { return Ok(()) };
        take(&mut list, ends.from, count);
        list.changed(ends.from.popped());
    }
    // Both are one change.
    call.engine.unit.dirty -= 1;
    Ok(())
}

fn take(list: &mut Edit<'_, List>, end: End, count: usize) {
    let len = list.view().len();
    match (count, end) {
        (1, _) => list.pop(end),
        (_, End::Left) => list.remove(0..count),
        (_, End::Right) => list.remove(len - count..len),
    }
}

const LMOVEM: Command = Spec {
    usage: "LMOVEM source destination wherefrom=<LEFT | RIGHT> whereto=<LEFT | RIGHT> \
            [how-many=<selector=<COUNT count:int | EXACTLY exactly:int> ordering=<OBO | BULK>>]",
    about: "Moves elements from an end of one list to an end of another, and returns them.",
    since: "8.10.0",
    cost: "O(N), N being the elements moved",
    flags: &[WRITE, DENYOOM],
    keys: KEYS,
    ..LIST
}
.runs(lmovem);

fn lmovem(call: &mut Call<'_>) -> Result {
    let mut options = call.options(3);
    let ends = Ends::parse(&mut options)?;
    let many = Many::parse(&mut options)?;
    match move_many(call, ends, many)? {
        true => {}
        false if many.exactly => call.out().null_array(),
        false => call.out().array(0),
    }
    Ok(())
}

const BLMOVEM: Command = Spec {
    usage: "BLMOVEM source destination wherefrom=<LEFT | RIGHT> whereto=<LEFT | RIGHT> timeout:double \
            [how-many=<selector=<COUNT count:int | EXACTLY exactly:int> ordering=<OBO | BULK>>]",
    about: "Moves elements from an end of one list to an end of another, waiting until there are enough.",
    flags: &[WRITE, DENYOOM, BLOCKING],
    ..LMOVEM.spec
}
.runs(blmovem);

fn blmovem(call: &mut Call<'_>) -> Result {
    let mut options = call.options(3);
    let ends = Ends::parse(&mut options)?;
    let timeout = call.timeout(5)?;
    let many = Many::parse(&mut call.options(6))?;
    let attempt = move_many(call, ends, many);
    if has_moved_or_waits(call, attempt, timeout)? && call.is_propagated() {
        let mut words: Vec<&[u8]> = call.args().iter().collect();
        words.remove(5);
        words[0] = b"LMOVEM";
        call.propagates(&words);
    }
    Ok(())
}

/// How many elements LMOVEM moves, and how.
#[derive(Clone, Copy)]
struct Many {
    count: usize,
    /// So many or none.
    exactly: bool,
    /// They keep their order, whatever the ends are; else they are moved one by one.
    in_order: bool,
}

impl Many {
    fn parse(options: &mut Options<'_>) -> Result<Many> {
        if options.is_empty() {
            return Ok(Many { count: 1, exactly: false, in_order: false });
        }
        let (text, exactly) = match options.takes_value("COUNT") {
            Some(text) => (text, false),
            None => (options.takes_value("EXACTLY").ok_or(error::SYNTAX)?, true),
        };
        let count = args::parse_integer(text).filter(|count| *count > 0);
        let count = count.ok_or(Error::new("ERR count should be greater than 0"))?;
        let in_order = options.takes("BULK");
        if !in_order && !options.takes("OBO") || !options.is_empty() {
            return Err(error::SYNTAX);
        }
        Ok(Many { count: usize::try_from(count).unwrap_or(usize::MAX), exactly, in_order })
    }
}

/// Moves elements and answers with them, in their order at the destination; false if there are not enough.
fn move_many(call: &mut Call<'_>, ends: Ends, many: Many) -> Result<bool> {
    let Some(list) = call.edit::<List>(call.key(1))? else { return Ok(false) };
    let len = list.view().len();
    if many.exactly && len < many.count {
        return Ok(false);
    }
    let count = many.count.min(len);
    let mut elements = Vec::with_capacity(count);
    let range = if ends.from == End::Left { 0..count } else { len - count..len };
    list.view().show_each(range, |item| elements.push(item.text().into_owned()));
    drop(list);
    // They are in the source's order. One by one, those that come to the end from which they are taken are turned round.
    if !many.in_order && ends.from == ends.to {
        elements.reverse();
    }
    let mut pushed: Vec<&[u8]> = elements.iter().map(|element| &element[..]).collect();
    if ends.to == End::Left {
        pushed.reverse();
    }
    move_elements(call, ends, count, &pushed)?;
    let out = call.out();
    out.array(elements.len());
    elements.iter().for_each(|element| out.bulk(element));
    Ok(true)
}
