//! Setting and getting strings as a whole.

use mortise_sdk::Result;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{
    ACCESS, Access, DELETE, Deprecation, INSERT, OW, RO, RW, Spec, UPDATE, VARIABLE_FLAGS, added, key,
};
use mortise_sdk::error::{self, Error};
use mortise_sdk::host::Text;
use mortise_sdk::resp::format_integer;

use super::STRING;
use super::expiry::{Comparison, Condition, Expiry, Form, Lifetime, SetOptions};
use super::value::{Str, StrRef, stored, stored_from};
use crate::engine::call::{Call, Key};
use crate::engine::event;
use crate::features::Command;
use crate::keyspace::entry::NewValue;
use crate::resp::output::Output;
use crate::types::Type;

/// This file's commands.
pub(super) const COMMANDS: &[Command] =
    &[GET, GETDEL, GETEX, GETSET, MGET, MSET, MSETNX, PSETEX, SET, SETEX, SETNX];

// ---- getting

const GET: Command = Spec {
    usage: "GET key",
    about: "Returns the string at a key.",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..STRING
}
.runs(get);

fn get(call: &mut Call<'_>) -> Result {
    let (value, out) = call.read::<Str>(call.key(1))?;
    write(value, out);
    Ok(())
}

/// Answers with a string, or none.
#[inline(always)]
fn write(value: Option<StrRef<'_>>, out: &mut Output) {
    match value {
        Some(StrRef::Bytes(bytes)) => out.bulk(bytes),
        Some(StrRef::Integer(n)) => out.bulk_integer(n),
        Some(StrRef::Long(text)) => out.bulk_parts(text.len(), text.chunks()),
        None => out.null(),
    }
}

/// Answers with the string at a key; false if there is none.
fn reply_value(call: &mut Call<'_>, key: Key<'_>) -> Result<bool> {
    let (value, out) = call.read::<Str>(key)?;
    write(value, out);
    Ok(value.is_some())
}

const MGET: Command = Spec {
    usage: "MGET key...",
    about: "Returns the strings at several keys.",
    cost: "O(N), N being the keys",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["request_policy:multi_shard"],
    ..STRING
}
.runs(mget);

fn mget(call: &mut Call<'_>) -> Result {
    let keys = call.argc() - 1;
    call.out().array(keys);
    call.each_key(1, 1, |call, _, key| {
        let (entry, out) = call.look(key);
        write(entry.and_then(Str::view), out);
        true
    });
    Ok(())
}

const GETDEL: Command = Spec {
    usage: "GETDEL key",
    about: "Returns the string at a key and deletes the key.",
    since: "6.2.0",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    ..STRING
}
.runs(getdel);

fn getdel(call: &mut Call<'_>) -> Result {
    let key = call.key(1);
    if reply_value(call, key)? && call.remove(key, "del") {
        call.propagates_removal(key, call.engine.config.keyspace.lazyfree_lazy_user_del);
    }
    Ok(())
}

const GETEX: Command = Spec {
    usage: "GETEX key [expiration=<EX seconds:int | PX milliseconds:int | \
            EXAT unix-time-seconds:time | PXAT unix-time-milliseconds:time | PERSIST>]",
    about: "Returns the string at a key and may change its time to live.",
    since: "6.2.0",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, ACCESS, UPDATE]).notes("RW and update as the time to live may change")],
    ..STRING
}
.runs(getex);

fn getex(call: &mut Call<'_>) -> Result {
    let mut options = call.options(2);
    let mut lifetime = Lifetime::Unsaid;
    while !options.is_empty() {
        let accepted =
            if options.takes("PERSIST") { lifetime.persist() } else { lifetime.take_expiry(&mut options) };
        if !accepted {
            return Err(mortise_sdk::error::SYNTAX);
        }
    }
    let key = call.key(1);
    if !reply_value(call, key)? {
        return Ok(());
    }
    match lifetime {
        Lifetime::Unsaid | Lifetime::Keep => {}
        Lifetime::Persist => {
            let expires = call.peek(key).is_some_and(|entry| entry.has_deadline());
            if expires && call.set_deadline(key, None, "persist") {
                call.propagates(&[b"PERSIST", key.bytes]);
            }
        }
        Lifetime::Until(expiry) => expire_at(call, key, expiry)?,
    }
    Ok(())
}

/// Gives a key a deadline; one that names a moment in the past deletes the key at once.
fn expire_at(call: &mut Call<'_>, key: Key<'_>, expiry: Expiry<'_>) -> Result {
    let deadline = expiry.deadline(call)?;
    if expiry.is_absolute() && deadline <= call.now_ms() {
        if call.remove(key, "del") {
            call.propagates_removal(key, call.engine.config.keyspace.lazyfree_lazy_expire);
        }
    } else if call.set_deadline(key, Some(deadline), "expire") {
        call.propagates(&[b"PEXPIREAT", key.bytes, format_integer(deadline).as_bytes()]);
    }
    Ok(())
}

// ---- setting

/// GET returns the old value, which a plain SET overwrites unseen.
fn set_access<'a>(argc: usize, arg: &dyn Fn(usize) -> &'a [u8]) -> Access {
    match (3..argc).any(|index| arg(index).eq_ignore_ascii_case(b"get")) {
        true => RW | ACCESS | UPDATE,
        false => OW | UPDATE,
    }
}

const SET: Command = Spec {
    usage: "SET key value [condition=<NX | XX | IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | \
            IFDNE ifdne-digest>] [GET] [expiration=<EX seconds:int | \
            PX milliseconds:int | EXAT unix-time-seconds:time | \
            PXAT unix-time-milliseconds:time | KEEPTTL>]",
    about: "Sets a key to a string, whatever it held, and may give it a time to live or ask for conditions.",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[RW, ACCESS, UPDATE, VARIABLE_FLAGS])
        .notes("RW and access for GET; without it, OW")
        .refined(set_access)],
    history: &[
        ("2.6.12", "Options `EX`, `PX`, `NX` and `XX`."),
        ("6.0.0", "Option `KEEPTTL`."),
        ("6.2.0", "Options `GET`, `EXAT` and `PXAT`."),
        ("7.0.0", "`NX` and `GET` go together."),
        ("8.4.0", "Options `IFEQ`, `IFNE`, `IFDEQ` and `IFDNE`."),
    ],
    ages: &[
        added("condition", "2.6.12"),
        added("IFEQ", "8.4.0"),
        added("IFNE", "8.4.0"),
        added("IFDEQ", "8.4.0"),
        added("IFDNE", "8.4.0"),
        added("GET", "6.2.0"),
        added("EX", "2.6.12"),
        added("PX", "2.6.12"),
        added("EXAT", "6.2.0"),
        added("PXAT", "6.2.0"),
        added("KEEPTTL", "6.0.0"),
    ],
    ..STRING
}
.runs(set);

fn set(call: &mut Call<'_>) -> Result {
    let options = SetOptions::parse(call.options(3))?;
    let fate = match options.lifetime {
        Lifetime::Until(expiry) => Fate::Until(expiry.deadline(call)?),
        Lifetime::Keep => Fate::Keep,
        Lifetime::Unsaid | Lifetime::Persist => Fate::Clear,
    };
    let key = call.key(1);
    if options.gets {
        reply_value(call, key)?;
    }
    if let Some(comparison) = options.comparison {
        return set_if(call, &options, comparison, fate);
    }
    let done = store(call, key, call.arg(2), options.condition, fate);
    if !options.gets {
        return if done { call.ok() } else { call.reply(None::<&[u8]>) };
    }
    if done && !matches!(fate, Fate::Until(_)) && call.is_propagated() {
        // The reply is no business of those who follow.
        let says_get = |(index, word): &(usize, &[u8])| *index >= 3 && word.eq_ignore_ascii_case(b"GET");
        let words = call.args().iter().enumerate().filter(|word| !says_get(word)).map(|(_, word)| word);
        call.propagates(&words.collect::<Vec<_>>());
    }
    Ok(())
}

/// Sets the key if its value compares as is wanted. GET has been answered.
#[cold]
fn set_if(call: &mut Call<'_>, options: &SetOptions<'_>, comparison: Comparison<'_>, fate: Fate) -> Result {
    let (key, value) = (call.key(1), call.arg(2));
    let done = compares(call, key, comparison)?;
    if done {
        store(call, key, value, None, fate);
        // Whoever follows need not compare.
        match fate {
            Fate::Clear => call.propagates(&[b"SET", key.bytes, value]),
            Fate::Keep => call.propagates(&[b"SET", key.bytes, value, b"KEEPTTL"]),
            Fate::Until(_) => {}
        }
    }
    match done {
        _ if options.gets => Ok(()),
        true => call.ok(),
        false => call.reply(None::<&[u8]>),
    }
}

/// Whether the string at a key, or that there is none, compares as is wanted.
pub(super) fn compares(call: &mut Call<'_>, key: Key<'_>, comparison: Comparison<'_>) -> Result<bool> {
    match call.peek(key) {
        None => Ok(comparison.holds(None)),
        Some(entry) => Str::view(entry).map(|text| comparison.holds(Some(text))).ok_or(error::WRONGTYPE),
    }
}

/// What becomes of the deadline of a key that is set.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    Clear,
    Keep,
    Until(i64),
}

/// Sets a key to a string; false if the condition is not met.
#[inline(always)]
pub(super) fn store(
    call: &mut Call<'_>,
    key: Key<'_>,
    value: &[u8],
    condition: Option<Condition>,
    fate: Fate,
) -> bool {
    if let Some(condition) = condition
        && call.exists(key) != (condition == Condition::Present)
    {
        return false;
    }
    let stored = stored_from(value, call.engine.input.as_ref());
    let Fate::Until(deadline) = fate else {
        call.put::<Str>(key, stored, matches!(fate, Fate::Keep)).changed("set");
        return true;
    };
    store_until(call, key, stored, deadline);
    if call.is_propagated() {
        propagate_until(call, key, value, deadline);
    }
    true
}

#[inline(always)]
fn store_until(call: &mut Call<'_>, key: Key<'_>, value: NewValue<'_>, deadline: i64) {
    // The old deadline is kept so that the new one takes its place in the entry.
    call.put_and::<Str, _>(key, value, |mut string| {
        string.set_deadline(Some(deadline));
        string.also_changed("set", event::STRING);
        string.also_changed("expire", event::GENERIC);
    });
}

#[cold]
fn propagate_until(call: &mut Call<'_>, key: Key<'_>, value: &[u8], deadline: i64) {
    call.propagates(&[b"SET", key.bytes, value, b"PXAT", format_integer(deadline).as_bytes()]);
}

/// Sets a key to a string as SET does, for a module's command: it is propagated as SET in place of the call.
#[inline(always)]
pub(crate) fn set_for_module(call: &mut Call<'_>, key: Key<'_>, text: Text<'_>, deadline: Option<i64>) {
    let value = match text {
        Text::Integer(n) => NewValue::Integer(n),
        Text::Bytes(bytes) => stored(bytes),
    };
    match deadline {
        Some(deadline) => store_until(call, key, value, deadline),
        None => call.put::<Str>(key, value, false).changed("set"),
    }
    if call.is_propagated() {
        match deadline {
            Some(deadline) => propagate_until(call, key, &text.bytes(), deadline),
            None => call.propagates(&[b"SET", key.bytes, &text.bytes()]),
        }
    }
}

const SETNX: Command = Spec {
    usage: "SETNX key value",
    about: "Sets a key to a string unless it exists.",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[OW, INSERT])],
    ..STRING
}
.runs(setnx);

fn setnx(call: &mut Call<'_>) -> Result {
    let done = store(call, call.key(1), call.arg(2), Some(Condition::Absent), Fate::Clear);
    call.reply(done)
}

const SETEX: Command = Spec {
    usage: "SETEX key seconds:int value",
    about: "Sets a key to a string that lives for some seconds.",
    since: "2.0.0",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[OW, UPDATE])],
    ..STRING
}
.runs(setex);

fn setex(call: &mut Call<'_>) -> Result {
    set_expiring(call, Form::EX)
}

const PSETEX: Command = Spec {
    usage: "PSETEX key milliseconds:int value",
    about: "Sets a key to a string that lives for some milliseconds.",
    since: "2.6.0",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[OW, UPDATE])],
    ..STRING
}
.runs(psetex);

fn psetex(call: &mut Call<'_>) -> Result {
    set_expiring(call, Form::PX)
}

fn set_expiring(call: &mut Call<'_>, form: Form) -> Result {
    let deadline = Expiry::new(call.arg(2), form).deadline(call)?;
    store(call, call.key(1), call.arg(3), None, Fate::Until(deadline));
    call.ok()
}

const GETSET: Command = Spec {
    usage: "GETSET key value",
    about: "Replaces a string and returns the old one.",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    deprecated: Some(Deprecation { since: "6.2.0", replaced_by: "`SET` with the `!GET` argument" }),
    ..STRING
}
.runs(getset);

fn getset(call: &mut Call<'_>) -> Result {
    let (key, value) = (call.key(1), call.arg(2));
    reply_value(call, key)?;
    store(call, key, value, None, Fate::Clear);
    call.propagates(&[b"SET", key.bytes, value]);
    Ok(())
}

const MSET: Command = Spec {
    usage: "MSET <key value>...",
    about: "Sets several keys to strings at once.",
    since: "1.0.1",
    cost: "O(N), N being the keys",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[OW, UPDATE])],
    tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
    ..STRING
}
.runs(mset);

fn mset(call: &mut Call<'_>) -> Result {
    check_pairs(call)?;
    set_pairs(call);
    call.ok()
}

const MSETNX: Command = Spec {
    usage: "MSETNX <key value>...",
    about: "Sets several keys to strings, unless one of them exists.",
    since: "1.0.1",
    cost: "O(N), N being the keys",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[OW, INSERT])],
    tips: &["request_policy:multi_shard", "response_policy:agg_min"],
    ..STRING
}
.runs(msetnx);

fn msetnx(call: &mut Call<'_>) -> Result {
    check_pairs(call)?;
    if (1..call.argc()).step_by(2).any(|index| call.exists(call.key(index))) {
        return call.reply(false);
    }
    set_pairs(call);
    call.reply(true)
}

/// A key without a value is told as a wrong number of arguments.
fn check_pairs(call: &Call<'_>) -> Result {
    if call.argc().is_multiple_of(2) {
        return Err(Error::wrong_arity(&call.command.name));
    }
    Ok(())
}

fn set_pairs(call: &mut Call<'_>) {
    call.each_key(1, 2, |call, index, key| store(call, key, call.arg(index + 1), None, Fate::Clear));
}
