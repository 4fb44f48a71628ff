//! Reading what comes behind an id, or what a consumer group has not seen: XREAD, XREADGROUP.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::keys::{Begin, Find};
use mortise_sdk::declare::{ACCESS, RO, Spec, key};
use mortise_sdk::{Error, Result, args, error};

use super::STREAM;
use super::claims::{Claimed, edit_with_group, say_consumer};
use super::group::Pending;
use super::id::StreamId;
use super::ranges::{write_entries, write_entry, write_id};
use super::value::Stream;
use crate::engine::Caller;
use crate::engine::args::OwnedArgs;
use crate::engine::blocked::OnTimeout;
use crate::engine::call::{Call, Key};
use crate::features::Command;
use crate::resp::output::Output;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[XREAD, XREADGROUP];

/// What is read of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    /// Entries behind this one; of a group, those that are pending to the consumer.
    Behind(StreamId),
    /// What the group has not seen yet.
    New,
}

/// Who reads for a group.
#[derive(Clone, Copy)]
struct Reader<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    /// What is delivered counts as acknowledged.
    no_ack: bool,
}

/// The options of both commands.
struct Options<'a> {
    /// 0: no limit.
    count: usize,
    /// How long to wait, in milliseconds.
    block_ms: Option<i64>,
    reader: Option<Reader<'a>>,
    /// The first stream.
    first: usize,
    streams: usize,
}

impl<'a> Options<'a> {
    fn parse(call: &Call<'a>, for_group: bool) -> Result<Options<'a>> {
        let args = call.args();
        let (mut count, mut block_ms, mut group, mut no_ack) = (0, None, None, false);
        let mut at = 1;
        while let Some(word) = args.get(at) {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let follow = args.len() - at - 1;
            if is("BLOCK") && follow > 0 {
                at += 1;
                block_ms = Some(timeout_ms(args.at(at), call.now_ms())?);
            } else if is("COUNT") && follow > 0 {
                at += 1;
                let n = args::parse_integer(args.at(at)).ok_or(error::NOT_INTEGER)?;
                count = usize::try_from(n).unwrap_or(0);
            } else if is("STREAMS") && follow > 0 {
                if follow % 2 == 1 {
                    // XREADGROUP says the same of itself.
                    return Err(Error::new(
                        "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
                    ));
                }
                let reader = match group {
                    Some((group, consumer)) => Some(Reader { group, consumer, no_ack }),
                    None if for_group => return Err(Error::new("ERR Missing GROUP option for XREADGROUP")),
                    None => None,
                };
                return Ok(Options { count, block_ms, reader, first: at + 1, streams: follow / 2 });
            } else if is("GROUP") && follow >= 2 {
                if !for_group {
                    return Err(Error::new(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                group = Some((args.at(at + 1), args.at(at + 2)));
                at += 2;
            } else if is("NOACK") {
                if !for_group {
                    return Err(Error::new(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                no_ack = true;
            } else {
                return Err(error::SYNTAX);
            }
            at += 1;
        }
        Err(error::SYNTAX)
    }

    fn key(&self, call: &Call<'a>, index: usize) -> Key<'a> {
        call.key(self.first + index)
    }

    /// How many entries are read of a stream.
    fn count(&self, call: &Call<'_>) -> usize {
        /// Who waited is not to be served a huge stream by surprise.
        const AFTER_WAITING: usize = 1000;
        match self.count {
            0 if call.caller() == Caller::Retry => AFTER_WAITING,
            0 => usize::MAX,
            count => count,
        }
    }

    /// Waits for the streams to change. What is said as `$` is the last entry of now, whenever the call is tried again.
    fn wait(&self, call: &mut Call<'a>, from: &[From]) -> Result {
        let Some(block_ms) = self.block_ms else {
            call.out().null_array();
            return Ok(());
        };
        let args = call.args();
        let names: Vec<&[u8]> = (0..self.streams).map(|index| args.at(self.first + index)).collect();
        call.wait_for(&names, block_ms as f64 / 1000.0, OnTimeout::NullArray)?;
        let ids = self.first + self.streams;
        if args.from(ids).iter().any(|id| id == b"$") {
            let texts: Vec<_> = from
                .iter()
                .map(|from| if let From::Behind(id) = from { Some(id.text()) } else { None })
                .collect();
            let words =
                (0..args.len()).map(|at| match at.checked_sub(ids).and_then(|at| texts[at].as_ref()) {
                    Some(id) => id.as_bytes(),
                    None => args.at(at),
                });
            call.wait_with(OwnedArgs::new(words));
        }
        Ok(())
    }
}

/// A timeout in milliseconds.
fn timeout_ms(text: &[u8], now_ms: i64) -> Result<i64> {
    let ms = args::parse_integer(text).ok_or(Error::new("ERR timeout is not an integer or out of range"))?;
    if ms < 0 {
        return Err(Error::new("ERR timeout is negative"));
    }
    match ms.checked_add(now_ms) {
        Some(_) => Ok(ms),
        None => Err(Error::new("ERR timeout is out of range")),
    }
}

/// Puts the headers of the streams that had something in front of them, or says that there are none.
fn write_header(out: &mut Output, mark: usize, served: usize) {
    let mut header = Output::new(out.version());
    if out.is_resp3() {
        header.map(served);
    } else {
        header.array(served);
    }
    out.insert(mark, header.bytes());
}

/// A stream's name, in front of its entries.
fn write_name(out: &mut Output, key: Key<'_>) {
    if !out.is_resp3() {
        out.array(2);
    }
    out.bulk(key.bytes);
}

const XREAD: Command = Spec {
    usage: "XREAD [COUNT count:int] [BLOCK milliseconds:int] STREAMS streams=<key... id...>",
    about: "Returns entries of streams behind given ids, or waits for some.",
    since: "5.0.0",
    cost: "O(log(N) + M), N being the entries and M those returned, for each stream",
    flags: &[READONLY, BLOCKING],
    keys: &[key("key", &[RO, ACCESS])
        .at(Begin::Keyword("STREAMS", 1), Find::Range { last: -1, step: 1, limit: 2 })],
    ..STREAM
}
.runs(xread);

fn xread(call: &mut Call<'_>) -> Result {
    let options = Options::parse(call, false)?;
    let retried = call.caller() == Caller::Retry;
    let mut from = Vec::with_capacity(options.streams);
    for index in 0..options.streams {
        let said = call.arg(options.first + options.streams + index);
        let stream = match call.read::<Stream>(options.key(call, index)) {
            Ok((stream, _)) => stream,
            // A key that comes to hold something else is no reason to stop waiting.
            Err(_) if retried => None,
            Err(error) => return Err(error),
        };
        from.push(From::Behind(match said {
            b"$" => stream.map(Stream::last_id).unwrap_or_default(),
            b">" => {
                return Err(Error::new(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> \
                     option.",
                ));
            }
            said => StreamId::parse(said, 0)?,
        }));
    }
    let count = options.count(call);
    let (mark, mut served) = (call.out().mark(), 0);
    for (index, from) in from.iter().enumerate() {
        let key = options.key(call, index);
        let (Ok((Some(stream), out)), From::Behind(id)) = (call.read::<Stream>(key), *from) else { continue };
        let Some(next) = id.next().filter(|_| stream.has_after(id)) else { continue };
        served += 1;
        write_name(out, key);
        write_entries(out, stream, (next, StreamId::MAX), count, false, |_| {});
        if retried {
            // Who waited is served from one stream.
            break;
        }
    }
    if served > 0 {
        write_header(call.out(), mark, served);
        return Ok(());
    }
    options.wait(call, &from)
}

const XREADGROUP: Command = Spec {
    usage: "XREADGROUP <GROUP group_consumer=<group consumer>> [COUNT count:int] [BLOCK milliseconds:int] [NOACK] \
            STREAMS streams=<key... id...>",
    about: "Returns entries that a consumer group has not seen, or that are pending to a consumer; or waits for some.",
    since: "5.0.0",
    cost: "O(M*log(N)), N being the entries and M those returned, for each stream",
    flags: &[WRITE, BLOCKING],
    keys: &[key("key", &[RO, ACCESS])
        .at(Begin::Keyword("STREAMS", 4), Find::Range { last: -1, step: 1, limit: 2 })],
    ..STREAM
}
.runs(xreadgroup);

fn xreadgroup(call: &mut Call<'_>) -> Result {
    let options = Options::parse(call, true)?;
    let Some(reader) = options.reader else { return Err(error::SYNTAX) };
    let from = (0..options.streams)
        .map(|index| group_reads_from(call, &options, reader, index))
        .collect::<Result<Vec<_>>>()?;
    call.propagates_nothing();
    let count = options.count(call);
    let (mark, mut served) = (call.out().mark(), 0);
    for (index, from) in from.iter().enumerate() {
        let key = options.key(call, index);
        let is_served = match from {
            From::New => deliver_new(call, key, reader, count)?,
            From::Behind(id) => deliver_again(call, key, reader, *id, count)?,
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
    options.wait(call, &from)?;
    call.retry_when_gone();
    Ok(())
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

/// Delivers what the group has not seen; false if there is nothing.
fn deliver_new(call: &mut Call<'_>, key: Key<'_>, reader: Reader<'_>, count: usize) -> Result<bool> {
    let now_ms = call.now_ms();
    let Reader { group: name, consumer, no_ack } = reader;
    let (mut edit, out) = edit_with_group(call, key, name)?;
    let stream = edit.view();
    let Some(group) = stream.group(name) else { return Ok(false) };
    let Some(next) = group.last_id.next().filter(|_| stream.has_after(group.last_id)) else {
        return Ok(false);
    };
    write_name(out, key);
    let (mut ids, mut read) = (Vec::new(), group.entries_read);
    write_entries(out, stream, (next, StreamId::MAX), count, false, |entry| {
        read = stream.entries_read_past(entry.id(), read);
        ids.push(entry.id());
    });
    let Some(last) = ids.last().copied() else { return Ok(false) };
    let Some((consumer, is_new)) = edit.hear_of(name, consumer, now_ms) else { return Ok(false) };
    edit.change_group(name, |group| {
        (group.last_id, group.entries_read) = (last, read);
        group.note_active(&consumer, now_ms);
        if !no_ack {
            for id in &ids {
                let consumer = consumer.clone();
                group.give(*id, Pending { consumer, delivered_ms: now_ms, deliveries: 1 });
            }
        }
    });
    edit.changed_aside(is_new.then_some("xgroup-createconsumer"), false);
    drop(edit);
    if !call.is_propagated() {
        return Ok(true);
    }
    if no_ack {
        if is_new {
            say_consumer(call, key, name, consumer.bytes());
        }
    } else {
        for id in ids {
            Claimed { id, consumer: &consumer, delivered_ms: now_ms, deliveries: 1, last_id: id }
                .say(call, key, name);
        }
    }
    say_progress(call, key, name, last, read);
    Ok(true)
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
) -> Result<bool> {
    let now_ms = call.now_ms();
    let Reader { group: name, consumer, .. } = reader;
    let (mut edit, out) = edit_with_group(call, key, name)?;
    let Some((consumer, is_new)) = edit.hear_of(name, consumer, now_ms) else { return Ok(false) };
    write_name(out, key);
    let (stream, mark) = (edit.view(), out.mark());
    let own = stream.group(name).and_then(|group| group.consumers.get(consumer.bytes()));
    let own = own.into_iter().flat_map(|own| behind.next().map(|next| own.pending.up_from(&next)));
    let (mut ids, mut len) = (Vec::new(), 0);
    for (id, ()) in own.flatten().take(count) {
        len += 1;
        match stream.get(*id) {
            Some(entry) => {
                write_entry(out, entry);
                ids.push(*id);
            }
            // It was deleted.
            None => {
                out.array(2);
                write_id(out, *id);
                out.null_array();
            }
        }
    }
    out.array_before(mark, len);
    let again = edit.change_group(name, |group| {
        let mut again = Vec::with_capacity(ids.len());
        for id in ids {
            let deliveries = group.pending.change(&id, |pending| {
                pending.delivered_ms = now_ms;
                pending.deliveries = pending.deliveries.saturating_add(1);
                pending.deliveries
            });
            again.extend(deliveries.map(|deliveries| (id, deliveries)));
        }
        (again, group.last_id)
    });
    edit.changed_aside(is_new.then_some("xgroup-createconsumer"), false);
    drop(edit);
    if !call.is_propagated() {
        return Ok(true);
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
    Ok(true)
}
