//! Reading entries by their ids: XRANGE, XREVRANGE.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RO, Spec, key};
use mortise_sdk::{Result, args, error};

use super::STREAM;
use super::chunk::Entry;
use super::id::StreamId;
use super::value::Stream;
use crate::engine::call::Call;
use crate::features::Command;
use crate::resp::output::Output;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[XRANGE, XREVRANGE];

/// Answers with an id.
pub(super) fn write_id(out: &mut Output, id: StreamId) {
    out.bulk(id.text().as_bytes());
}

/// Answers with an entry: its id, and its fields and values in turn.
#[inline]
pub(super) fn write_entry(out: &mut Output, entry: Entry<'_>) {
    write_entry_with(out, entry, &[]);
}

/// Answers with an entry, and with numbers behind it.
#[inline]
pub(super) fn write_entry_with(out: &mut Output, entry: Entry<'_>, numbers: &[i64]) {
    out.array(2 + numbers.len());
    write_id(out, entry.id());
    out.array(entry.len() * 2);
    for (field, value) in entry.pairs() {
        field.write(out);
        value.write(out);
    }
    numbers.iter().for_each(|number| out.integer(*number));
}

/// Answers with entries, whose number shows at the end, or is known if there may be many.
pub(super) fn write_entries<'a>(
    out: &mut Output,
    stream: &'a Stream,
    (from, to): (StreamId, StreamId),
    count: usize,
    reverse: bool,
    mut seen: impl FnMut(Entry<'a>),
) {
    /// So many are written before it is said how many they are.
    const FEW: usize = 200;
    let range = stream.range(from, to, reverse).take(count);
    let mut write = |out: &mut Output, entry: Entry<'a>| {
        write_entry(out, entry);
        seen(entry);
    };
    if count > FEW {
        out.array(stream.count(from, to).min(count));
        range.for_each(|entry| write(out, entry));
        return;
    }
    let mark = out.mark();
    let len = range.map(|entry| write(out, entry)).count();
    out.array_before(mark, len);
}

const XRANGE: Command = Spec {
    usage: "XRANGE key start end [COUNT count:int]",
    about: "Returns entries of a stream by their ids, upwards.",
    since: "5.0.0",
    cost: "O(log(N) + M), N being the entries and M those returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    history: &[("6.2.0", "Bounds may be excluded.")],
    ..STREAM
}
.runs(xrange);

fn xrange(call: &mut Call<'_>) -> Result {
    let from = StreamId::parse_start(call.arg(2))?;
    let to = StreamId::parse_end(call.arg(3))?;
    range(call, from, to, false)
}

const XREVRANGE: Command = Spec {
    usage: "XREVRANGE key end start [COUNT count:int]",
    about: "Returns entries of a stream by their ids, downwards.",
    since: "5.0.0",
    cost: "O(log(N) + M), N being the entries and M those returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    history: &[("6.2.0", "Bounds may be excluded.")],
    ..STREAM
}
.runs(xrevrange);

fn xrevrange(call: &mut Call<'_>) -> Result {
    let from = StreamId::parse_start(call.arg(3))?;
    let to = StreamId::parse_end(call.arg(2))?;
    range(call, from, to, true)
}

fn range(call: &mut Call<'_>, from: StreamId, to: StreamId, reverse: bool) -> Result {
    let mut count = None;
    let mut options = call.options(4);
    while !options.is_empty() {
        let text = options.takes_value("COUNT").ok_or(error::SYNTAX)?;
        let n = args::parse_integer(text).ok_or(error::NOT_INTEGER)?;
        count = Some(usize::try_from(n).unwrap_or(0));
    }
    let (stream, out) = call.read::<Stream>(call.key(1))?;
    match (stream, count) {
        (None, _) => out.array(0),
        (Some(_), Some(0)) => out.null_array(),
        (Some(stream), count) => {
            write_entries(out, stream, (from, to), count.unwrap_or(usize::MAX), reverse, |_| {});
        }
    }
    Ok(())
}
