//! Reading for a consumer group: XREADGROUP. What it has not seen, what has been pending for long, and what is pending to
//! a consumer already.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::keys::{Begin, Find};
use mortise_sdk::declare::{ACCESS, RO, Spec, added, key};
use mortise_sdk::{Error, Result, error};

use super::STREAM;
use super::chunk::Entry;
use super::claims::{Claimed, edit_with_group, say_consumer};
use super::group::{Group, Name, Pending};
use super::id::StreamId;
use super::ranges::{write_entries, write_entry, write_entry_with, write_id};
use super::reading::{Budget, From, Options, Reader, write_header, write_name, write_within};
use super::value::Stream;
use crate::engine::Caller;
use crate::engine::call::{Call, Key};
use crate::features::Command;
use crate::resp::output::Output;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[XREADGROUP];

const XREADGROUP: Command = Spec {
    usage: "XREADGROUP <GROUP group_consumer=<group consumer>> [COUNT count:int] [MAXCOUNT maxcount:int] \
            [MAXSIZE maxsize:int] [BLOCK milliseconds:int] [CLAIM min-idle-time:int] [NOACK] \
            STREAMS streams=<key... id...>",
    about: "Returns entries that a consumer group has not seen, or that are pending to a consumer; or waits for some.",
    since: "5.0.0",
    cost: "O(M*log(N)), N being the entries and M those returned, for each stream",
    flags: &[WRITE, BLOCKING],
    keys: &[key("key", &[RO, ACCESS])
        .at(Begin::Keyword("STREAMS", 4), Find::Range { last: -1, step: 1, limit: 2 })
        .located(first_stream)],
    history: &[("8.4.0", "`CLAIM`."), ("8.10.0", "`MAXCOUNT` and `MAXSIZE`.")],
    ages: &[added("CLAIM", "8.4.0"), added("MAXCOUNT", "8.10.0"), added("MAXSIZE", "8.10.0")],
    ..STREAM
}
.runs(xreadgroup);

/// Where the keys begin. A group or a consumer may be called STREAMS, too.
fn first_stream<'a>(argc: usize, arg: &dyn Fn(usize) -> &'a [u8]) -> Option<usize> {
    let mut index = 1;
    while index < argc {
        index += match arg(index).to_ascii_uppercase().as_slice() {
            b"STREAMS" => return Some(index + 1),
            b"GROUP" => 3,
            b"COUNT" | b"MAXCOUNT" | b"MAXSIZE" | b"BLOCK" | b"CLAIM" => 2,
            _ => 1,
        };
    }
    None
}

fn xreadgroup(call: &mut Call<'_>) -> Result {
    let options = Options::parse(call, true)?;
    let Some(reader) = options.reader else { return Err(error::SYNTAX) };
    let from = (0..options.streams)
        .map(|index| group_reads_from(call, &options, reader, index))
        .collect::<Result<Vec<_>>>()?;
    call.propagates_nothing();
    let count = options.count(call);
    let mut budget = options.budget(call);
    let (mark, mut served) = (call.out().mark(), 0);
    for (index, from) in from.iter().enumerate() {
        if budget.is_spent() {
            break;
        }
        let key = options.key(call, index);
        let is_served = match from {
            From::New => deliver_new(call, key, reader, count, &mut budget)?,
            From::Behind(id) => deliver_again(call, key, reader, *id, count, &mut budget)?,
        };
        served += usize::from(is_served);
        if is_served && call.caller() == Caller::Retry {
            break;
        }
    }
    if served > 0 {
        write_header(call.out(), mark, served);
        return Ok(());
    }
    let retry_ms = reader.claim_ms.map(|min_ms| idle_at(call, &options, reader, min_ms));
    options.wait(call, &from)?;
    call.retry_when_gone();
    if let Some(ms) = retry_ms {
        call.retry_at(ms);
    }
    Ok(())
}

/// When something may have been pending for long enough; all that is pending now has not.
fn idle_at(call: &mut Call<'_>, options: &Options<'_>, reader: Reader<'_>, min_ms: i64) -> i64 {
    /// What is made pending later is looked for as seldom as this at most.
    const SELDOM_MS: i64 = 100;
    let now_ms = call.now_ms();
    let mut at_ms = now_ms.saturating_add(min_ms.max(SELDOM_MS));
    for index in 0..options.streams {
        let Ok((Some(stream), _)) = call.read::<Stream>(options.key(call, index)) else { continue };
        let oldest = stream.group(reader.group).and_then(|group| group.by_age().next());
        if let Some((_, pending)) = oldest {
            at_ms = at_ms.min(pending.delivered_ms.saturating_add(min_ms));
        }
    }
    at_ms.max(now_ms + 1)
}

/// What is asked for of a stream, which must have the group.
fn group_reads_from(
    call: &mut Call<'_>,
    options: &Options<'_>,
    reader: Reader<'_>,
    index: usize,
) -> Result<From> {
    let key = options.key(call, index);
    let said = call.arg(options.first + options.streams + index);
    let retried = call.caller() == Caller::Retry;
    let stream = match call.read::<Stream>(key) {
        Ok((Some(stream), _)) => Some(stream),
        Ok((None, _)) | Err(_) if retried => {
            return Err(Error::new("UNBLOCKED the stream key no longer exists"));
        }
        Ok((None, _)) => None,
        Err(error) => return Err(error),
    };
    if stream.and_then(|stream| stream.group(reader.group)).is_none() {
        return Err(match retried {
            true => Error::new("NOGROUP the consumer group this client was blocked on no longer exists"),
            false => Error::quoting(
                "NOGROUP No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option",
                &[key.bytes, reader.group],
            ),
        });
    }
    match said {
        b"$" => Err(Error::new(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
             specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
        )),
        b">" => Ok(From::New),
        said => Ok(match StreamId::parse(said, 0)? {
            StreamId::MAX => From::New,
            id => From::Behind(id),
        }),
    }
}

/// What a consumer is given of what was pending already.
#[derive(Default)]
struct Idle {
    /// With how often they were delivered before.
    claimed: Vec<(StreamId, u64)>,
    /// These were deleted; they are pending no longer.
    gone: Vec<StreamId>,
}

impl Idle {
    /// Looks for what has been pending for long, and answers with it as far as the budget goes.
    fn write(
        out: &mut Output,
        (stream, group): (&Stream, &Group),
        (min_ms, now_ms): (i64, i64),
        count: usize,
        budget: &mut Budget,
    ) -> Idle {
        /// So much may be found deleted by one call.
        const GONE_MAX: usize = 1000;
        let mut idle = Idle::default();
        let all = group.by_age().take_while(|(_, pending)| pending.is_idle_for(min_ms, now_ms));
        for (id, pending) in all {
            if idle.claimed.len() == count || idle.gone.len() == GONE_MAX {
                break;
            }
            let Some(entry) = stream.get(id) else {
                idle.gone.push(id);
                continue;
            };
            let is_written = budget.writes(out, |out| {
                write_entry_with(out, entry, &[pending.idle_ms(now_ms), pending.deliveries as i64]);
            });
            if !is_written {
                break;
            }
            idle.claimed.push((id, pending.deliveries));
        }
        idle
    }
}

/// Delivers what the group has not seen, and before that what has been pending for long if that is asked for; false if
/// there is nothing.
fn deliver_new(
    call: &mut Call<'_>,
    key: Key<'_>,
    reader: Reader<'_>,
    count: usize,
    budget: &mut Budget,
) -> Result<bool> {
    let now_ms = call.now_ms();
    let Reader { group: name, consumer, no_ack, claim_ms } = reader;
    let (mut edit, out) = edit_with_group(call, key, name)?;
    let stream = edit.view();
    let Some(group) = stream.group(name) else { return Ok(false) };
    let start = out.mark();
    write_name(out, key);
    let mark = out.mark();
    let idle = claim_ms.map(|min_ms| Idle::write(out, (stream, group), (min_ms, now_ms), count, budget));
    let Idle { claimed, gone } = idle.unwrap_or_default();
    let (mut ids, mut read, before) = (Vec::new(), group.entries_read, group.last_id);
    if let Some(next) = before.next().filter(|_| stream.has_after(before)) {
        let seen = |entry: Entry<'_>| {
            read = stream.entries_read_past(entry.id(), read);
            ids.push(entry.id());
        };
        if claim_ms.is_some() || budget.is_limited() {
            let range = stream.range(next, StreamId::MAX, false).take(count - claimed.len());
            write_within(out, range, budget, seen);
        } else {
            write_entries(out, stream, (next, StreamId::MAX), count, false, seen);
        }
    }
    let is_served = !claimed.is_empty() || !ids.is_empty();
    if !is_served {
        out.rollback(start);
        if gone.is_empty() {
            return Ok(false);
        }
    } else if claim_ms.is_some() || budget.is_limited() {
        out.array_before(mark, claimed.len() + ids.len());
    }
    let known = is_served.then(|| edit.hear_of(name, consumer, now_ms)).flatten();
    let last = ids.last().copied();
    edit.change_group(name, |group| {
        gone.iter().for_each(|id| _ = group.acknowledge(*id));
        let Some((consumer, _)) = &known else { return };
        group.note_active(consumer, now_ms);
        if let Some(last) = last {
            (group.last_id, group.entries_read) = (last, read);
        }
        let again = claimed.iter().map(|(id, deliveries)| (*id, deliveries.saturating_add(1)));
        let new = ids.iter().filter(|_| !no_ack).map(|id| (*id, 1));
        for (id, deliveries) in again.chain(new) {
            let consumer = Some(consumer.clone());
            group.give(id, Pending { consumer, delivered_ms: now_ms, deliveries });
        }
    });
    let is_new = known.as_ref().is_some_and(|(_, is_new)| *is_new);
    edit.changed_aside(is_new.then_some("xgroup-createconsumer"), false);
    drop(edit);
    if !call.is_propagated() {
        return Ok(is_served);
    }
    // Where it is replayed, a claim of what is not there makes it pending no longer; to whom does not matter.
    let consumer = known.map_or_else(|| Name::new(consumer), |(consumer, _)| consumer);
    if no_ack && is_new {
        say_consumer(call, key, name, consumer.bytes());
    }
    let again = claimed.iter().map(|(id, deliveries)| (*id, deliveries.saturating_add(1), before));
    let new = ids.iter().filter(|_| !no_ack).map(|id| (*id, 1, *id));
    for (id, deliveries, last_id) in gone.iter().map(|id| (*id, 1, before)).chain(again).chain(new) {
        Claimed { id, consumer: &consumer, delivered_ms: now_ms, deliveries, last_id }.say(call, key, name);
    }
    if let Some(last) = last {
        say_progress(call, key, name, last, read);
    }
    Ok(is_served)
}

/// Propagates how far a group has come.
fn say_progress(call: &mut Call<'_>, key: Key<'_>, group: &[u8], last: StreamId, read: Option<u64>) {
    let read = read.map_or("-1".to_owned(), |read| read.to_string());
    call.propagates(&[
        b"XGROUP",
        b"SETID",
        key.bytes,
        group,
        last.text().as_bytes(),
        b"ENTRIESREAD",
        read.as_bytes(),
    ]);
}

/// Delivers again what is pending to the consumer behind an id. Also nothing is an answer.
fn deliver_again(
    call: &mut Call<'_>,
    key: Key<'_>,
    reader: Reader<'_>,
    behind: StreamId,
    count: usize,
    budget: &mut Budget,
) -> Result<bool> {
    let now_ms = call.now_ms();
    let Reader { group: name, consumer, .. } = reader;
    let (mut edit, out) = edit_with_group(call, key, name)?;
    let Some((consumer, is_new)) = edit.hear_of(name, consumer, now_ms) else { return Ok(false) };
    let start = out.mark();
    write_name(out, key);
    let (stream, mark) = (edit.view(), out.mark());
    let own = stream.group(name).and_then(|group| group.consumers.get(consumer.bytes()));
    let own = own.into_iter().flat_map(|own| behind.next().map(|next| own.pending.up_from(next)));
    let (mut ids, mut len) = (Vec::new(), 0);
    let mut is_cut = false;
    for id in own.flatten().take(count) {
        let entry = stream.get(id);
        let is_written = budget.writes(out, |out| match entry {
            Some(entry) => write_entry(out, entry),
            // It was deleted.
            None => {
                out.array(2);
                write_id(out, id);
                out.null_array();
            }
        });
        if !is_written {
            is_cut = true;
            break;
        }
        len += 1;
        ids.extend(entry.map(|_| id));
    }
    // That nothing is pending is an answer; that nothing more fits is none.
    let is_served = len > 0 || !is_cut;
    match is_served {
        true => out.array_before(mark, len),
        false => out.rollback(start),
    }
    let again = edit.change_group(name, |group| {
        let mut again = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(deliveries) = group.get(&id).map(|pending| pending.deliveries.saturating_add(1)) else {
                continue;
            };
            let consumer = Some(consumer.clone());
            group.give(id, Pending { consumer, delivered_ms: now_ms, deliveries });
            again.push((id, deliveries));
        }
        (again, group.last_id)
    });
    edit.changed_aside(is_new.then_some("xgroup-createconsumer"), false);
    drop(edit);
    if !call.is_propagated() {
        return Ok(is_served);
    }
    if is_new {
        say_consumer(call, key, name, consumer.bytes());
    }
    if let Some((again, last_id)) = again {
        for (id, deliveries) in again {
            Claimed { id, consumer: &consumer, delivered_ms: now_ms, deliveries, last_id }
                .say(call, key, name);
        }
    }
    Ok(is_served)
}
