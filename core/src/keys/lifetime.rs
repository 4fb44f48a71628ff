//! Whether keys exist, of what type they are, how long they live, and their end.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, DELETE, RM, RO, RW, Spec, UPDATE, added, key};
use mortise_sdk::resp::format_integer;
use mortise_sdk::{Error, Result};

use crate::engine::call::{Call, Options};
use crate::features::Command;
use crate::types::AnyRef;

const GENERIC: Spec = Spec::group("generic");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[
    DEL,
    UNLINK,
    EXISTS,
    TOUCH,
    TYPE,
    EXPIRE,
    PEXPIRE,
    EXPIREAT,
    PEXPIREAT,
    TTL,
    PTTL,
    EXPIRETIME,
    PEXPIRETIME,
    PERSIST,
];

const DEL: Command = Spec {
    usage: "DEL key...",
    about: "Deletes keys.",
    cost: "O(N), N being the keys, plus their elements",
    flags: &[WRITE],
    keys: &[key("key", &[RM, DELETE])],
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    ..GENERIC
}
.runs(del);

// Large values are freed on a worker whatever the command, so both are one.
fn del(call: &mut Call<'_>) -> Result {
    let removed = call.each_key(1, 1, |call, _, key| call.remove(key, "del"));
    call.reply(removed)
}

const UNLINK: Command = Spec {
    usage: "UNLINK key...",
    about: "Deletes keys, and frees large values in the background.",
    since: "4.0.0",
    cost: "O(1) a key, and O(N) in the background for N elements",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RM, DELETE])],
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    ..GENERIC
}
.runs(del);

const EXISTS: Command = Spec {
    usage: "EXISTS key...",
    about: "Counts the keys that exist.",
    cost: "O(N), N being the keys",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO])],
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    history: &[("3.0.3", "Takes several keys.")],
    ..GENERIC
}
.runs(exists);

fn exists(call: &mut Call<'_>) -> Result {
    let found = call.each_key(1, 1, |call, _, key| call.glance(key).0.is_some());
    call.reply(found)
}

const TOUCH: Command = Spec {
    usage: "TOUCH key...",
    about: "Counts the keys that exist, as used at this moment.",
    since: "3.2.1",
    cost: "O(N), N being the keys",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO])],
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    ..GENERIC
}
.runs(touch);

fn touch(call: &mut Call<'_>) -> Result {
    let found = call.each_key(1, 1, |call, _, key| call.touch(key));
    call.reply(found)
}

const TYPE: Command = Spec {
    usage: "TYPE key",
    about: "Returns the type of the value at a key.",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO])],
    ..GENERIC
}
.runs(type_);

fn type_(call: &mut Call<'_>) -> Result {
    let (entry, out) = call.glance(call.key(1));
    out.simple(entry.map_or("none", |entry| AnyRef::of(entry).type_name()));
    Ok(())
}

const EXPIRE: Command = Spec {
    usage: "EXPIRE key seconds:int [condition=<NX | XX | GT | LT>]",
    about: "Gives a key some seconds to live.",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    history: &[("7.0.0", "Options `NX`, `XX`, `GT` and `LT`.")],
    ages: &[added("condition", "7.0.0")],
    ..GENERIC
}
.runs(expire);

fn expire(call: &mut Call<'_>) -> Result {
    expire_at(call, 1000, call.now_ms())
}

const PEXPIRE: Command = Spec {
    usage: "PEXPIRE key milliseconds:int [condition=<NX | XX | GT | LT>]",
    about: "Gives a key some milliseconds to live.",
    since: "2.6.0",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    history: &[("7.0.0", "Options `NX`, `XX`, `GT` and `LT`.")],
    ages: &[added("condition", "7.0.0")],
    ..GENERIC
}
.runs(pexpire);

fn pexpire(call: &mut Call<'_>) -> Result {
    expire_at(call, 1, call.now_ms())
}

const EXPIREAT: Command = Spec {
    usage: "EXPIREAT key unix-time-seconds:time [condition=<NX | XX | GT | LT>]",
    about: "Sets the second at which a key ends.",
    since: "1.2.0",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    history: &[("7.0.0", "Options `NX`, `XX`, `GT` and `LT`.")],
    ages: &[added("condition", "7.0.0")],
    ..GENERIC
}
.runs(expireat);

fn expireat(call: &mut Call<'_>) -> Result {
    expire_at(call, 1000, 0)
}

const PEXPIREAT: Command = Spec {
    usage: "PEXPIREAT key unix-time-milliseconds:time [condition=<NX | XX | GT | LT>]",
    about: "Sets the millisecond at which a key ends.",
    since: "2.6.0",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    history: &[("7.0.0", "Options `NX`, `XX`, `GT` and `LT`.")],
    ages: &[added("condition", "7.0.0")],
    ..GENERIC
}
.runs(pexpireat);

fn pexpireat(call: &mut Call<'_>) -> Result {
    expire_at(call, 1, 0)
}

/// Sets the deadline that the call names in units of `unit_ms`, counted from `base_ms`.
fn expire_at(call: &mut Call<'_>, unit_ms: i64, base_ms: i64) -> Result {
    let mut options = call.options(3);
    let condition = Condition::parse(&mut options);
    if let Some(other) = options.next() {
        return Err(Condition::unsupported(other));
    }
    condition.check()?;
    let number = call.integer(2)?;
    let deadline = number.checked_mul(unit_ms).and_then(|ms| ms.checked_add(base_ms));
    let deadline = deadline.ok_or_else(|| call.invalid_expire_time())?;
    let key = call.key(1);
    let Some(current) = call.peek(key).map(|entry| entry.deadline()) else { return call.reply(false) };
    if !condition.allows(current, deadline) {
        return call.reply(false);
    }
    // A journal says itself when a key goes.
    if deadline <= call.now_ms() && !call.caller().is_stream() {
        call.remove(key, "del");
        call.propagates_removal(key, call.engine.config.keyspace.lazyfree_lazy_expire);
        return call.reply(true);
    }
    call.set_deadline(key, Some(deadline), "expire");
    if call.is_propagated() {
        call.propagates(&[b"PEXPIREAT", key.bytes, format_integer(deadline).as_bytes()]);
    }
    call.reply(true)
}

/// Under which condition a deadline is set.
#[derive(Default)]
pub(crate) struct Condition {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Condition {
    /// Passes all options that say something of it.
    pub(crate) fn parse(options: &mut Options<'_>) -> Condition {
        let mut condition = Condition::default();
        loop {
            if options.takes("NX") {
                condition.nx = true;
            } else if options.takes("XX") {
                condition.xx = true;
            } else if options.takes("GT") {
                condition.gt = true;
            } else if options.takes("LT") {
                condition.lt = true;
            } else {
                return condition;
            }
        }
    }

    /// The error for another option.
    pub(crate) fn unsupported(option: &[u8]) -> Error {
        Error::quoting("ERR Unsupported option {}", &[option])
    }

    /// Refuses what contradicts itself.
    pub(crate) fn check(&self) -> Result {
        if self.nx && (self.xx || self.gt || self.lt) {
            return Err(Error::new("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if self.gt && self.lt {
            return Err(Error::new("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(())
    }

    /// Whether a deadline may be replaced by another. A key without deadline lives for ever, which is longest.
    pub(crate) fn allows(&self, current: Option<i64>, new: i64) -> bool {
        match current {
            None => !self.xx && !self.gt,
            Some(current) => !(self.nx || self.gt && new <= current || self.lt && new >= current),
        }
    }
}

const TTL: Command = Spec {
    usage: "TTL key",
    about: "Returns how many seconds a key has to live.",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output"],
    history: &[("2.8.0", "Answers -2 for a missing key.")],
    ..GENERIC
}
.runs(ttl);

fn ttl(call: &mut Call<'_>) -> Result {
    let now_ms = call.now_ms();
    remaining(call, |deadline| rounded_seconds(deadline.saturating_sub(now_ms).max(0)))
}

const PTTL: Command = Spec {
    usage: "PTTL key",
    about: "Returns how many milliseconds a key has to live.",
    since: "2.6.0",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output"],
    history: &[("2.8.0", "Answers -2 for a missing key.")],
    ..GENERIC
}
.runs(pttl);

fn pttl(call: &mut Call<'_>) -> Result {
    let now_ms = call.now_ms();
    remaining(call, |deadline| deadline.saturating_sub(now_ms).max(0))
}

const EXPIRETIME: Command = Spec {
    usage: "EXPIRETIME key",
    about: "Returns the second at which a key ends.",
    since: "7.0.0",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..GENERIC
}
.runs(expiretime);

fn expiretime(call: &mut Call<'_>) -> Result {
    remaining(call, rounded_seconds)
}

const PEXPIRETIME: Command = Spec {
    usage: "PEXPIRETIME key",
    about: "Returns the millisecond at which a key ends.",
    since: "7.0.0",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..GENERIC
}
.runs(pexpiretime);

fn pexpiretime(call: &mut Call<'_>) -> Result {
    remaining(call, |deadline| deadline)
}

/// Answers what a deadline is in the terms of the command: -1 if the key has none, -2 if there is no key.
fn remaining(call: &mut Call<'_>, shown: impl FnOnce(i64) -> i64) -> Result {
    let (entry, out) = call.glance(call.key(1));
    out.integer(entry.map_or(-2, |entry| entry.deadline().map_or(-1, shown)));
    Ok(())
}

/// Milliseconds as the nearest number of seconds.
pub(crate) fn rounded_seconds(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 >= 500)
}

const PERSIST: Command = Spec {
    usage: "PERSIST key",
    about: "Takes the time to live from a key.",
    since: "2.2.0",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    ..GENERIC
}
.runs(persist);

fn persist(call: &mut Call<'_>) -> Result {
    let key = call.key(1);
    let has_deadline = call.peek(key).is_some_and(|entry| entry.has_deadline());
    let changed = has_deadline && call.set_deadline(key, None, "persist");
    call.reply(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_without_deadline_lives_longest() {
        let (gt, lt) =
            (Condition { gt: true, ..Condition::default() }, Condition { lt: true, ..Condition::default() });
        assert!(!gt.allows(None, i64::MAX) && lt.allows(None, i64::MAX));
        assert!(gt.allows(Some(5), 6) && !gt.allows(Some(5), 5));
        assert!(lt.allows(Some(5), 4) && !lt.allows(Some(5), 5));
    }
}
