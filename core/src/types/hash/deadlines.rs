//! When fields expire: HEXPIRE and its kin, HTTL and its kin, HPERSIST.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RO, RW, Spec, UPDATE, key};
use mortise_sdk::error::{self, Error, Result};
use mortise_sdk::resp::format_integer;

use super::HASH;
use super::value::Hash;
use crate::engine::call::{Call, Options};
use crate::engine::edit::Edit;
use crate::features::Command;
use crate::keys::lifetime::{Condition, rounded_seconds};

/// This file's commands.
pub(super) const COMMANDS: &[Command] =
    &[HEXPIRE, HPEXPIRE, HEXPIREAT, HPEXPIREAT, HTTL, HPTTL, HEXPIRETIME, HPEXPIRETIME, HPERSIST];

const WRONG_NUMBER: Error =
    Error::new("ERR numfields should be greater than 0 and match the provided number of fields");
/// What is answered for a field that is not there.
const NO_FIELD: i64 = -2;
/// What is answered for a field without a deadline.
const NO_DEADLINE: i64 = -1;
/// What is answered for a field whose deadline was changed …
const CHANGED: i64 = 1;
/// … and for one that went at once.
const DELETED: i64 = 2;

const HEXPIRE: Command = Spec {
    usage: "HEXPIRE key seconds:int [condition=<NX | XX | GT | LT>] fields=<FIELDS numfields:int field...>",
    about: "Gives fields of a hash some seconds to live.",
    since: "7.4.0",
    cost: "O(N), N being the fields named",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    ..HASH
}
.runs(hexpire);

fn hexpire(call: &mut Call<'_>) -> Result {
    expire_at(call, 1000, call.now_ms())
}

const HPEXPIRE: Command = Spec {
    usage: "HPEXPIRE key milliseconds:int [condition=<NX | XX | GT | LT>] \
            fields=<FIELDS numfields:int field...>",
    about: "Gives fields of a hash some milliseconds to live.",
    ..HEXPIRE.spec
}
.runs(hpexpire);

fn hpexpire(call: &mut Call<'_>) -> Result {
    expire_at(call, 1, call.now_ms())
}

const HEXPIREAT: Command = Spec {
    usage: "HEXPIREAT key unix-time-seconds:time [condition=<NX | XX | GT | LT>] \
            fields=<FIELDS numfields:int field...>",
    about: "Sets the second at which fields of a hash end.",
    ..HEXPIRE.spec
}
.runs(hexpireat);

fn hexpireat(call: &mut Call<'_>) -> Result {
    expire_at(call, 1000, 0)
}

const HPEXPIREAT: Command = Spec {
    usage: "HPEXPIREAT key unix-time-milliseconds:time [condition=<NX | XX | GT | LT>] \
            fields=<FIELDS numfields:int field...>",
    about: "Sets the millisecond at which fields of a hash end.",
    ..HEXPIRE.spec
}
.runs(hpexpireat);

fn hpexpireat(call: &mut Call<'_>) -> Result {
    expire_at(call, 1, 0)
}

/// Sets the deadline that the call names in units of `unit_ms`, counted from `base_ms`.
fn expire_at(call: &mut Call<'_>, unit_ms: i64, base_ms: i64) -> Result {
    let number = call.integer(2)?;
    let deadline = number
        .checked_mul(unit_ms)
        .and_then(|ms| ms.checked_add(base_ms))
        .filter(|_| number >= 0)
        .ok_or_else(|| call.invalid_expire_time())?;
    let mut options = call.options(3);
    let condition = Condition::parse(&mut options);
    condition.check()?;
    if !options.takes("FIELDS") {
        return Err(Condition::unsupported(options.required()?));
    }
    let fields = fields(options, 1)?;

    // A stream says itself what goes.
    let is_past = deadline <= call.now_ms() && !call.caller().is_stream();
    let event = if is_past { "hexpired" } else { "hexpire" };
    let done = change(call, fields, event, |hash, field| {
        match hash.view().get_with_deadline(field) {
            None => return NO_FIELD,
            Some((_, current)) if !condition.allows(current, deadline) => return 0,
            Some(_) => {}
        }
        if is_past {
            hash.remove(field);
            return DELETED;
        }
        hash.set_field_deadline(field, Some(deadline));
        CHANGED
    })?;
    propagate_deadline(call, deadline, is_past, &done);
    Ok(())
}

/// Changes each of the fields and answers with what became of it; names the event and returns the fields that were
/// changed, if there were any.
fn change<'c>(
    call: &mut Call<'c>,
    fields: Options<'c>,
    event: &'static str,
    mut change: impl FnMut(&mut Edit<'_, Hash>, &[u8]) -> i64,
) -> Result<Vec<&'c [u8]>> {
    let (hash, out) = call.edit_replying::<Hash>(call.key(1))?;
    out.array(fields.left());
    let mut changed = Vec::new();
    let Some(mut hash) = hash else {
        fields.for_each(|_| out.integer(NO_FIELD));
        return Ok(changed);
    };
    for field in fields {
        let became = change(&mut hash, field);
        out.integer(became);
        if became >= CHANGED {
            changed.push(field);
        }
    }
    if !changed.is_empty() {
        hash.changed(event);
    }
    Ok(changed)
}

/// The fields that are named behind FIELDS, each with `words - 1` words that belong to it.
pub(super) fn fields<'a>(mut options: Options<'a>, words: usize) -> Result<Options<'a>> {
    let number = options.next().ok_or(WRONG_NUMBER)?;
    let number = mortise_sdk::args::parse_integer(number).ok_or(error::NOT_INTEGER)?;
    let is_right =
        number > 0 && usize::try_from(number).is_ok_and(|n| n.checked_mul(words) == Some(options.left()));
    if is_right { Ok(options) } else { Err(WRONG_NUMBER) }
}

/// Propagates words in front of which a command and its key stand, and behind them the fields.
pub(super) fn propagate(call: &mut Call<'_>, words: &[&[u8]], fields: &[&[u8]]) {
    if fields.is_empty() || !call.is_propagated() {
        return;
    }
    let mut said = vec![words[0], call.arg(1)];
    said.extend(&words[1..]);
    said.extend(fields);
    call.propagates(&said);
}

/// Propagates that fields have a deadline; or that it had passed and they are gone, which is counted.
pub(super) fn propagate_deadline(call: &mut Call<'_>, deadline: i64, is_past: bool, fields: &[&[u8]]) {
    if is_past {
        call.engine.unit.expired_parts += fields.len() as u64;
        return propagate(call, &[b"HDEL"], fields);
    }
    let (deadline, number) = (format_integer(deadline), format_integer(fields.len() as i64));
    propagate(call, &[b"HPEXPIREAT", deadline.as_bytes(), b"FIELDS", number.as_bytes()], fields);
}

const HTTL: Command = Spec {
    usage: "HTTL key fields=<FIELDS numfields:int field...>",
    about: "Returns how many seconds fields of a hash have to live.",
    since: "7.4.0",
    cost: "O(N), N being the fields named",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output"],
    ..HASH
}
.runs(httl);

fn httl(call: &mut Call<'_>) -> Result {
    let now_ms = call.now_ms();
    remaining(call, |deadline| rounded_seconds(deadline.saturating_sub(now_ms).max(0)))
}

const HPTTL: Command = Spec {
    usage: "HPTTL key fields=<FIELDS numfields:int field...>",
    about: "Returns how many milliseconds fields of a hash have to live.",
    ..HTTL.spec
}
.runs(hpttl);

fn hpttl(call: &mut Call<'_>) -> Result {
    let now_ms = call.now_ms();
    remaining(call, |deadline| deadline.saturating_sub(now_ms).max(0))
}

const HEXPIRETIME: Command = Spec {
    usage: "HEXPIRETIME key fields=<FIELDS numfields:int field...>",
    about: "Returns the second at which fields of a hash end.",
    tips: &[],
    ..HTTL.spec
}
.runs(hexpiretime);

fn hexpiretime(call: &mut Call<'_>) -> Result {
    remaining(call, rounded_seconds)
}

const HPEXPIRETIME: Command = Spec {
    usage: "HPEXPIRETIME key fields=<FIELDS numfields:int field...>",
    about: "Returns the millisecond at which fields of a hash end.",
    tips: &[],
    ..HTTL.spec
}
.runs(hpexpiretime);

fn hpexpiretime(call: &mut Call<'_>) -> Result {
    remaining(call, |deadline| deadline)
}

/// Answers what the deadlines of fields are in the terms of the command.
fn remaining(call: &mut Call<'_>, shown: impl Fn(i64) -> i64) -> Result {
    // Where only their number is wrong, commands that read say less.
    let fields =
        named_fields(call).map_err(|error| if error == WRONG_NUMBER { error::SYNTAX } else { error })?;
    let (hash, out) = call.read::<Hash>(call.key(1))?;
    out.array(fields.left());
    for field in fields {
        let found = hash.and_then(|hash| hash.get_with_deadline(field));
        out.integer(found.map_or(NO_FIELD, |(_, deadline)| deadline.map_or(NO_DEADLINE, &shown)));
    }
    Ok(())
}

/// The fields of a command that has nothing but a key in front of them.
pub(super) fn named_fields<'c>(call: &Call<'c>) -> Result<Options<'c>> {
    let mut options = call.options(2);
    if !options.takes("FIELDS") {
        return Err(error::SYNTAX);
    }
    fields(options, 1)
}

const HPERSIST: Command = Spec {
    usage: "HPERSIST key fields=<FIELDS numfields:int field...>",
    about: "Takes the time to live from fields of a hash.",
    since: "7.4.0",
    cost: "O(N), N being the fields named",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    ..HASH
}
.runs(hpersist);

fn hpersist(call: &mut Call<'_>) -> Result {
    let fields = named_fields(call)?;
    let done = change(call, fields, "hpersist", |hash, field| match hash.view().get_with_deadline(field) {
        None => NO_FIELD,
        Some((_, None)) => NO_DEADLINE,
        Some((_, Some(_))) => {
            hash.set_field_deadline(field, None);
            CHANGED
        }
    })?;
    propagate_persist(call, &done);
    Ok(())
}

/// Propagates that fields have no deadline any more.
pub(super) fn propagate_persist(call: &mut Call<'_>, fields: &[&[u8]]) {
    let number = format_integer(fields.len() as i64);
    propagate(call, &[b"HPERSIST", b"FIELDS", number.as_bytes()], fields);
}
