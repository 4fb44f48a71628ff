//! Strings that are changed or deleted if they are what somebody thinks they are, and several that are set with one time to
//! live: DELEX, DELIFEQ, DIGEST, MSETEX.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, DELETE, OW, RM, RO, RW, Spec, UPDATE, key};
use mortise_sdk::error::{self, Error, Result};

use super::STRING;
use super::commands::{Fate, compares, store};
use super::expiry::{Comparison, Condition, Lifetime};
use super::value::{Str, StrRef};
use crate::engine::call::{Call, Key};
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[DELEX, DELIFEQ, DIGEST, MSETEX];

const DELEX: Command = Spec {
    usage: "DELEX key [condition=<IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | IFDNE ifdne-digest>]",
    about: "Deletes a key, if its value compares as is wanted.",
    since: "8.4.0",
    cost: "O(1), O(N) for `IFDEQ` and `IFDNE`, N being the length of the string",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, DELETE])],
    ..STRING
}
.runs(delex);

fn delex(call: &mut Call<'_>) -> Result {
    let mut options = call.options(2);
    let comparison = Comparison::take(&mut options)?;
    if !options.is_empty() {
        return Err(error::SYNTAX);
    }
    let key = call.key(1);
    match comparison {
        Some(comparison) => delete_if(call, key, comparison),
        None => {
            let removed = remove(call, key);
            call.reply(removed)
        }
    }
}

const DELIFEQ: Command = Spec {
    usage: "DELIFEQ key value",
    about: "Deletes a key, if its value is this.",
    since: "9.0.0",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RM, DELETE])],
    ..STRING
}
.runs(delifeq);

fn delifeq(call: &mut Call<'_>) -> Result {
    delete_if(call, call.key(1), Comparison::equal_to(call.arg(2)))
}

fn delete_if(call: &mut Call<'_>, key: Key<'_>, comparison: Comparison<'_>) -> Result {
    let removed = call.exists(key) && compares(call, key, comparison)? && remove(call, key);
    call.reply(removed)
}

/// Removes a key; whoever follows need not compare.
fn remove(call: &mut Call<'_>, key: Key<'_>) -> bool {
    let removed = call.remove(key, "del");
    if removed {
        call.propagates_removal(key, call.engine.config.keyspace.lazyfree_lazy_user_del);
    }
    removed
}

const DIGEST: Command = Spec {
    usage: "DIGEST key",
    about: "Returns the digest of a string, by which it can be compared.",
    since: "8.4.0",
    cost: "O(N), N being the length of the string",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..STRING
}
.runs(digest);

fn digest(call: &mut Call<'_>) -> Result {
    let (value, out) = call.read::<Str>(call.key(1))?;
    match value.map(StrRef::digest) {
        Some(digest) => out.bulk(format!("{digest:016x}").as_bytes()),
        None => out.null(),
    }
    Ok(())
}

const MSETEX: Command = Spec {
    usage: "MSETEX numkeys:int data=<key value>... [condition=<NX | XX>] [expiration=<EX seconds:int | \
            PX milliseconds:int | EXAT unix-time-seconds:time | PXAT unix-time-milliseconds:time | KEEPTTL>]",
    about: "Sets several keys to strings at once, and may give them a time to live.",
    since: "8.4.0",
    cost: "O(N), N being the keys",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[OW, UPDATE])],
    tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
    ..STRING
}
.runs(msetex);

fn msetex(call: &mut Call<'_>) -> Result {
    const PAIRS_AT: usize = 2;
    let number = mortise_sdk::args::parse_integer(call.arg(1))
        .filter(|number| (1..=i64::from(i32::MAX / 2)).contains(number))
        .ok_or(Error::new("ERR invalid numkeys value or out of range"))? as usize;
    let options_at = PAIRS_AT + 2 * number;
    if options_at > call.argc() {
        return Err(error::SYNTAX);
    }
    let (condition, lifetime) = msetex_options(call, options_at)?;
    let fate = match lifetime {
        Lifetime::Until(expiry) => Fate::Until(expiry.deadline(call)?),
        Lifetime::Keep => Fate::Keep,
        Lifetime::Unsaid | Lifetime::Persist => Fate::Clear,
    };

    let keys_at = || (PAIRS_AT..options_at).step_by(2);
    let is_met = condition.is_none_or(|condition| {
        keys_at().all(|index| call.exists(call.key(index)) == (condition == Condition::Present))
    });
    if !is_met {
        return call.reply(false);
    }
    for index in keys_at() {
        let (key, value) = (call.key(index), call.arg(index + 1));
        store(call, key, value, None, fate);
        // Whoever follows need not look at conditions and clocks.
        match fate {
            Fate::Clear => call.propagates(&[b"SET", key.bytes, value]),
            Fate::Keep => call.propagates(&[b"SET", key.bytes, value, b"KEEPTTL"]),
            Fate::Until(_) => {}
        }
    }
    call.reply(true)
}

/// The options of MSETEX, which stand behind keys and values.
fn msetex_options<'c>(call: &Call<'c>, at: usize) -> Result<(Option<Condition>, Lifetime<'c>)> {
    let (mut condition, mut lifetime) = (None, Lifetime::default());
    let mut options = call.options(at);
    while !options.is_empty() {
        let wanted = if options.takes("NX") {
            Some(Condition::Absent)
        } else if options.takes("XX") {
            Some(Condition::Present)
        } else {
            None
        };
        let accepted = match wanted {
            Some(wanted) => *condition.get_or_insert(wanted) == wanted,
            None if options.takes("KEEPTTL") => lifetime.keep(),
            None => lifetime.take_expiry(&mut options),
        };
        if !accepted {
            return Err(error::SYNTAX);
        }
    }
    Ok((condition, lifetime))
}
