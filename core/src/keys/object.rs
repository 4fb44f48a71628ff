//! OBJECT: how a value is kept, and how it is used.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{RO, Spec, key};
use mortise_sdk::{Error, Result};

use crate::engine::call::Call;
use crate::features::{Command, container};
use crate::keyspace::Entry;
use crate::types;

const GENERIC: Spec = Spec::group("generic");

/// This file's commands.
pub(super) const COMMANDS: &[Command] =
    &[OBJECT_CONTAINER, OBJECT_ENCODING, OBJECT_FREQ, OBJECT_IDLETIME, OBJECT_REFCOUNT, OBJECT_HELP];

const OBJECT_CONTAINER: Command = Spec {
    usage: "OBJECT",
    about: "Commands about how values are kept.",
    since: "2.2.3",
    cost: "depends on the subcommand",
    flags: &[CONTAINER],
    ..GENERIC
}
.runs(container);

const OBJECT_ENCODING: Command = Spec {
    usage: "OBJECT ENCODING key",
    about: "Returns the name of a value's representation in memory.",
    since: "2.2.3",
    flags: &[READONLY],
    keys: &[key("key", &[RO])],
    tips: &["nondeterministic_output"],
    ..GENERIC
}
.runs(object_encoding);

fn object_encoding(call: &mut Call<'_>) -> Result {
    let encoding = entry(call).map(types::encoding);
    call.reply(encoding)
}

const OBJECT_FREQ: Command = Spec {
    usage: "OBJECT FREQ key",
    about: "Returns the logarithmic counter of a key's uses, which LFU policies keep.",
    since: "4.0.0",
    flags: &[READONLY],
    keys: &[key("key", &[RO])],
    tips: &["nondeterministic_output"],
    ..GENERIC
}
.runs(object_freq);

fn object_freq(call: &mut Call<'_>) -> Result {
    let Some(clock) = entry(call).map(Entry::clock) else {
        call.out().null();
        return Ok(());
    };
    if !call.engine.config.keyspace.maxmemory_policy.is_lfu() {
        return Err(Error::new(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    let frequency = call.engine.clock24.frequency(clock);
    call.reply(i64::from(frequency))
}

const OBJECT_IDLETIME: Command = Spec {
    usage: "OBJECT IDLETIME key",
    about: "Returns the seconds since a key was last used.",
    since: "2.2.3",
    flags: &[READONLY],
    keys: &[key("key", &[RO])],
    tips: &["nondeterministic_output"],
    ..GENERIC
}
.runs(object_idletime);

fn object_idletime(call: &mut Call<'_>) -> Result {
    let Some(clock) = entry(call).map(Entry::clock) else {
        call.out().null();
        return Ok(());
    };
    if call.engine.config.keyspace.maxmemory_policy.is_lfu() {
        return Err(Error::new(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
             policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    let idle = call.engine.clock24.idle_seconds(clock);
    call.reply(i64::from(idle))
}

const OBJECT_REFCOUNT: Command = Spec {
    usage: "OBJECT REFCOUNT key",
    about: "Returns a value's count of references.",
    since: "2.2.3",
    flags: &[READONLY],
    keys: &[key("key", &[RO])],
    tips: &["nondeterministic_output"],
    ..GENERIC
}
.runs(object_refcount);

fn object_refcount(call: &mut Call<'_>) -> Result {
    // With a limit, and a clock of its own for each key, Redis shares no integers.
    let config = &call.engine.config.keyspace;
    let policy = config.maxmemory_policy;
    let is_alone = config.maxmemory.0 > 0 && (policy.is_lru() || policy.is_lfu());
    let count = entry(call).map(|entry| if is_alone { 1 } else { types::refcount(entry) });
    call.reply(count)
}

const OBJECT_HELP: Command = Spec {
    usage: "OBJECT HELP",
    about: "Lists the subcommands of OBJECT.",
    since: "6.2.0",
    flags: &[LOADING, STALE],
    ..GENERIC
}
.runs(object_help);

fn object_help(call: &mut Call<'_>) -> Result {
    call.help(&[
        ("ENCODING <key>", "Return how the value of a key is kept in memory."),
        ("FREQ <key>", "Return the logarithmic counter of a key's uses, which LFU policies keep."),
        ("IDLETIME <key>", "Return how many seconds a key has not been used."),
        ("REFCOUNT <key>", "Return how many references there are to the value of a key."),
    ])
}

/// The entry of the key asked for. The look-up is counted, but is no use of the key, and nobody is told of a miss.
fn entry<'a>(call: &'a mut Call<'_>) -> Option<&'a Entry> {
    let key = call.key(2);
    match call.exists(key) {
        true => call.engine.stats.keyspace_hits += 1,
        false => call.engine.stats.keyspace_misses += 1,
    }
    call.peek(key)
}
