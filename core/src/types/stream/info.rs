//! What there is to know of a stream: XINFO.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RO, Spec, key};
use mortise_sdk::{Error, Result, args, error};

use super::STREAM;
use super::group::{Consumer, Group};
use super::id::StreamId;
use super::ranges::{write_entries, write_entry, write_id};
use super::value::Stream;
use crate::engine::call::Call;
use crate::features::{Command, container};
use crate::resp::output::Output;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[XINFO, XINFO_STREAM, XINFO_GROUPS, XINFO_CONSUMERS, XINFO_HELP];

const XINFO: Command = Spec {
    usage: "XINFO",
    about: "Commands that tell of streams.",
    since: "5.0.0",
    cost: "depends on the subcommand",
    flags: &[CONTAINER],
    ..STREAM
}
.runs(container);

const XINFO_STREAM: Command = Spec {
    usage: "XINFO STREAM key [FULL full=<[COUNT count:int]>]",
    about: "Tells of a stream; with FULL, also its entries and groups.",
    since: "5.0.0",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    history: &[
        ("6.0.0", "`FULL`."),
        (
            "7.0.0",
            "`max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and `lag`.",
        ),
        ("7.2.0", "`active-time` of consumers."),
        ("8.6.0", "What is remembered of entries that are added only once, if there ever were such."),
        ("8.8.0", "`nacked-count` of groups, if there is something to count."),
    ],
    ..STREAM
}
.runs(xinfo_stream);

/// Entries that FULL shows, if it is not said.
const SHOWN: usize = 10;

fn xinfo_stream(call: &mut Call<'_>) -> Result {
    let otherwise = call.limits().stream_memory;
    let (stream, _) = call.read::<Stream>(call.key(2))?;
    stream.ok_or(error::NO_SUCH_KEY)?;
    let is = |at: usize, word: &str| call.arg(at).eq_ignore_ascii_case(word.as_bytes());
    let shown = match call.argc() {
        3 => None,
        4 if is(3, "FULL") => Some(SHOWN),
        6 if is(3, "FULL") && is(4, "COUNT") => {
            let count = args::parse_integer(call.arg(5)).ok_or(error::NOT_INTEGER)?;
            Some(match usize::try_from(count) {
                Ok(0) => usize::MAX,
                Ok(count) => count,
                Err(_) => SHOWN,
            })
        }
        _ => return Err(call.misused()),
    };
    let (stream, out) = call.read::<Stream>(call.key(2))?;
    let stream = stream.ok_or(error::NO_SUCH_KEY)?;
    let known = stream.idempotence();
    let more = if known.is_some() { 6 } else { 0 };
    out.map(if shown.is_some() { 9 } else { 10 } + more);
    let weight = stream.weight();
    write_count(out, "length", stream.len());
    write_count(out, "radix-tree-keys", weight.nodes);
    // Redis's tree has one more, and others where keys part.
    write_count(out, "radix-tree-nodes", weight.nodes + 1);
    for (name, id) in
        [("last-generated-id", stream.last_id()), ("max-deleted-entry-id", stream.max_deleted_id())]
    {
        out.bulk(name.as_bytes());
        write_id(out, id);
    }
    out.bulk(b"entries-added");
    out.integer(stream.entries_added() as i64);
    out.bulk(b"recorded-first-entry-id");
    write_id(out, stream.first_id());
    if let Some(known) = known {
        let (memory, tracked) = (known.memory_or(otherwise), known.tracked());
        write_count(out, "idmp-duration", memory.duration_s as usize);
        write_count(out, "idmp-maxsize", memory.len as usize);
        write_count(out, "pids-tracked", tracked.producers);
        write_count(out, "iids-tracked", tracked.entries);
        write_count(out, "iids-added", known.added as usize);
        write_count(out, "iids-duplicates", known.duplicates as usize);
    }
    match shown {
        None => {
            write_count(out, "groups", stream.groups().len());
            for (name, reverse) in [("first-entry", false), ("last-entry", true)] {
                out.bulk(name.as_bytes());
                match stream.range(StreamId::MIN, StreamId::MAX, reverse).next() {
                    Some(entry) => write_entry(out, entry),
                    None => out.null(),
                }
            }
        }
        Some(shown) => {
            out.bulk(b"entries");
            write_entries(out, stream, (StreamId::MIN, StreamId::MAX), shown, false, |_| {});
            out.bulk(b"groups");
            out.array(stream.groups().len());
            for (name, group) in stream.groups().iter() {
                write_group(out, stream, name.bytes(), group, shown);
            }
        }
    }
    Ok(())
}

fn write_count(out: &mut Output, name: &str, count: usize) {
    out.bulk(name.as_bytes());
    out.count(count);
}

/// How far a group has come: a count that may be unknown.
fn write_if_known(out: &mut Output, name: &str, count: Option<i64>) {
    out.bulk(name.as_bytes());
    match count {
        Some(count) => out.integer(count),
        None => out.null(),
    }
}

/// A group with what is pending, of which not more than `shown` entries are shown anywhere.
fn write_group(out: &mut Output, stream: &Stream, name: &[u8], group: &Group, shown: usize) {
    let released = group.released_len();
    out.map(if released > 0 { 8 } else { 7 });
    out.bulk(b"name");
    out.bulk(name);
    out.bulk(b"last-delivered-id");
    write_id(out, group.last_id);
    write_if_known(out, "entries-read", group.entries_read.map(|read| read as i64));
    write_if_known(out, "lag", stream.lag(group));
    write_count(out, "pel-count", group.len());
    out.bulk(b"pending");
    out.array(group.len().min(shown));
    for (id, pending) in group.iter().take(shown) {
        out.array(4);
        write_id(out, id);
        out.bulk(pending.consumer_name());
        out.integer(pending.shown_ms());
        out.integer(pending.deliveries as i64);
    }
    out.bulk(b"consumers");
    out.array(group.consumers.len());
    for (name, consumer) in group.consumers.iter() {
        write_consumer(out, group, name.bytes(), consumer, shown);
    }
    if released > 0 {
        write_count(out, "nacked-count", released);
    }
}

fn write_consumer(out: &mut Output, group: &Group, name: &[u8], consumer: &Consumer, shown: usize) {
    out.map(5);
    out.bulk(b"name");
    out.bulk(name);
    out.bulk(b"seen-time");
    out.integer(consumer.seen_ms);
    out.bulk(b"active-time");
    out.integer(consumer.active_ms.unwrap_or(-1));
    write_count(out, "pel-count", consumer.pending.len());
    out.bulk(b"pending");
    out.array(consumer.pending.len().min(shown));
    for id in consumer.pending.iter().take(shown) {
        let pending = group.get(&id);
        out.array(3);
        write_id(out, id);
        out.integer(pending.map_or(0, |pending| pending.shown_ms()));
        out.integer(pending.map_or(0, |pending| pending.deliveries as i64));
    }
}

const XINFO_GROUPS: Command = Spec {
    usage: "XINFO GROUPS key",
    about: "Tells of the consumer groups of a stream.",
    since: "5.0.0",
    cost: "O(N), N being the groups",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    history: &[("7.0.0", "`entries-read` and `lag`.")],
    ..STREAM
}
.runs(xinfo_groups);

fn xinfo_groups(call: &mut Call<'_>) -> Result {
    let (stream, out) = call.read::<Stream>(call.key(2))?;
    let stream = stream.ok_or(error::NO_SUCH_KEY)?;
    out.array(stream.groups().len());
    for (name, group) in stream.groups().iter() {
        out.map(6);
        out.bulk(b"name");
        out.bulk(name.bytes());
        write_count(out, "consumers", group.consumers.len());
        write_count(out, "pending", group.len());
        out.bulk(b"last-delivered-id");
        write_id(out, group.last_id);
        write_if_known(out, "entries-read", group.entries_read.map(|read| read as i64));
        write_if_known(out, "lag", stream.lag(group));
    }
    Ok(())
}

const XINFO_CONSUMERS: Command = Spec {
    usage: "XINFO CONSUMERS key groupname",
    about: "Tells of the consumers of a group.",
    since: "5.0.0",
    cost: "O(N), N being the consumers",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output"],
    history: &[("7.2.0", "`inactive`.")],
    ..STREAM
}
.runs(xinfo_consumers);

fn xinfo_consumers(call: &mut Call<'_>) -> Result {
    let (key, name, now_ms) = (call.key(2), call.arg(3), call.now_ms());
    let (stream, out) = call.read::<Stream>(key)?;
    let stream = stream.ok_or(error::NO_SUCH_KEY)?;
    let group = stream.group(name).ok_or_else(|| {
        Error::quoting("NOGROUP No such consumer group '{}' for key name '{}'", &[name, key.bytes])
    })?;
    out.array(group.consumers.len());
    for (name, consumer) in group.consumers.iter() {
        out.map(4);
        out.bulk(b"name");
        out.bulk(name.bytes());
        write_count(out, "pending", consumer.pending.len());
        out.bulk(b"idle");
        out.integer(now_ms.saturating_sub(consumer.seen_ms).max(0));
        out.bulk(b"inactive");
        out.integer(consumer.active_ms.map_or(-1, |active_ms| now_ms.saturating_sub(active_ms).max(0)));
    }
    Ok(())
}

const XINFO_HELP: Command = Spec {
    usage: "XINFO HELP",
    about: "Lists the subcommands of XINFO.",
    since: "5.0.0",
    flags: &[LOADING, STALE],
    ..STREAM
}
.runs(xinfo_help);

fn xinfo_help(call: &mut Call<'_>) -> Result {
    call.help(&[
        ("CONSUMERS <key> <groupname>", "Tell of the consumers of a group."),
        ("GROUPS <key>", "Tell of the consumer groups of a stream."),
        (
            "STREAM <key> [FULL [COUNT <count>]",
            "Tell of a stream; with FULL also its entries and groups, of each list COUNT\nelements.",
        ),
    ])
}
