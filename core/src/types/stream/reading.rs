//! Reading what comes behind an id: XREAD. What it is told is what XREADGROUP is told, too.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::keys::{Begin, Find};
use mortise_sdk::declare::{ACCESS, RO, Spec, added, key};
use mortise_sdk::{Error, Result, args, error};

use super::STREAM;
use super::chunk::Entry;
use super::id::StreamId;
use super::ranges::{write_entries, write_entry};
use super::value::Stream;
use crate::engine::Caller;
use crate::engine::args::OwnedArgs;
use crate::engine::blocked::OnTimeout;
use crate::engine::call::{Call, Key};
use crate::features::Command;
use crate::resp::output::Output;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[XREAD];

/// What is read of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum From {
    /// Entries behind this one; of a group, those that are pending to the consumer.
    Behind(StreamId),
    /// What the group has not seen yet.
    New,
}

/// Who reads for a group.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) group: &'a [u8],
    pub(super) consumer: &'a [u8],
    /// What is new and delivered counts as acknowledged.
    pub(super) no_ack: bool,
    /// What has been pending for so many milliseconds is delivered as well.
    pub(super) claim_ms: Option<i64>,
}

/// The options of both commands.
pub(super) struct Options<'a> {
    /// 0: no limit.
    count: usize,
    /// How many entries, and how many bytes, the reply may have in all.
    count_max: Option<usize>,
    size_max: Option<usize>,
    /// How long to wait, in milliseconds.
    block_ms: Option<i64>,
    pub(super) reader: Option<Reader<'a>>,
    /// The first stream.
    pub(super) first: usize,
    pub(super) streams: usize,
}

impl<'a> Options<'a> {
    pub(super) fn parse(call: &Call<'a>, for_group: bool) -> Result<Options<'a>> {
        let args = call.args();
        const NOT_LESS: Error = Error::new("ERR MAXCOUNT must be greater than or equal to COUNT");
        let (mut count, mut block_ms, mut group, mut no_ack) = (0, None, None, false);
        let (mut count_max, mut size_max, mut claim_ms) = (None, None, None);
        let mut at = 1;
        while let Some(word) = args.get(at) {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let follow = args.len() - at - 1;
            if is("BLOCK") && follow > 0 {
                if call.caller() == Caller::Script {
                    const IN_SCRIPT: &str = "ERR {} command is not allowed with BLOCK option from scripts";
                    return Err(Error::quoting(IN_SCRIPT, &[args.at(0)]));
                }
                at += 1;
                block_ms = Some(timeout_ms(args.at(at), call.now_ms())?);
            } else if is("COUNT") && follow > 0 {
                at += 1;
                let n = args::parse_integer(args.at(at)).ok_or(error::NOT_INTEGER)?;
                count = usize::try_from(n).unwrap_or(0);
            } else if is("MAXCOUNT") && follow > 0 {
                at += 1;
                count_max = Some(positive(args.at(at), "ERR MAXCOUNT must be a positive integer")?);
            } else if is("MAXSIZE") && follow > 0 {
                at += 1;
                size_max = Some(positive(args.at(at), "ERR MAXSIZE must be a positive integer")?);
            } else if is("CLAIM") && follow > 0 {
                if !for_group {
                    return Err(Error::new(
                        "ERR The CLAIM option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                at += 1;
                const NO_TIME: Error = Error::new("ERR min-idle-time is not an integer or out of range");
                const NEGATIVE: Error = Error::new("ERR min-idle-time must be a positive integer");
                let ms = args::parse_integer(args.at(at)).ok_or(NO_TIME)?;
                claim_ms = Some(if ms >= 0 { ms } else { return Err(NEGATIVE) });
            } else if is("STREAMS") && follow > 0 {
                if follow % 2 == 1 {
                    // XREADGROUP says the same of itself.
                    return Err(Error::new(
                        "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
                    ));
                }
                let reader = match group {
                    Some((group, consumer)) => Some(Reader { group, consumer, no_ack, claim_ms }),
                    None if for_group => return Err(Error::new("ERR Missing GROUP option for XREADGROUP")),
                    None => None,
                };
                if count_max.is_some_and(|max| max < count) {
                    return Err(NOT_LESS);
                }
                let (first, streams) = (at + 1, follow / 2);
                return Ok(Options { count, count_max, size_max, block_ms, reader, first, streams });
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

    pub(super) fn key(&self, call: &Call<'a>, index: usize) -> Key<'a> {
        call.key(self.first + index)
    }

    /// How many entries are read of a stream.
    pub(super) fn count(&self, call: &Call<'_>) -> usize {
        /// Who waited is not to be served a huge stream by surprise.
        const AFTER_WAITING: usize = 1000;
        match self.count {
            0 if call.caller() == Caller::Retry => AFTER_WAITING,
            0 => usize::MAX,
            count => count,
        }
    }

    /// What the reply may have in all, which begins now.
    pub(super) fn budget(&self, call: &mut Call<'_>) -> Budget {
        Budget {
            start: call.out().mark(),
            entries: self.count_max.unwrap_or(usize::MAX),
            bytes: self.size_max.unwrap_or(usize::MAX),
            has_some: false,
        }
    }

    /// Waits for the streams to change. What is said as `$` is the last entry of now, whenever the call is tried again.
    pub(super) fn wait(&self, call: &mut Call<'a>, from: &[From]) -> Result {
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

/// What a reply may still have, over all its streams.
pub(super) struct Budget {
    /// Where the reply begins.
    start: usize,
    entries: usize,
    bytes: usize,
    /// Whether an entry is in it: one always is, however large.
    has_some: bool,
}

impl Budget {
    /// Whether nothing more is to come.
    pub(super) fn is_spent(&self) -> bool {
        self.entries == 0
    }

    /// Whether there is a limit at all.
    pub(super) fn is_limited(&self) -> bool {
        self.entries < usize::MAX || self.bytes < usize::MAX
    }

    /// Writes an entry unless that would be too much, in which case nothing more is to come.
    pub(super) fn writes(&mut self, out: &mut Output, write: impl FnOnce(&mut Output)) -> bool {
        if self.is_spent() {
            return false;
        }
        let mark = out.mark();
        write(out);
        if self.has_some && out.mark() - self.start > self.bytes {
            out.rollback(mark);
            self.entries = 0;
            return false;
        }
        self.has_some = true;
        if self.entries < usize::MAX {
            self.entries -= 1;
        }
        true
    }
}

/// Answers with entries of a stream as far as the budget goes; says how many these are. They have no header yet.
pub(super) fn write_within<'a>(
    out: &mut Output,
    entries: impl Iterator<Item = Entry<'a>>,
    budget: &mut Budget,
    mut seen: impl FnMut(Entry<'a>),
) -> usize {
    let mut len = 0;
    for entry in entries {
        if !budget.writes(out, |out| write_entry(out, entry)) {
            break;
        }
        seen(entry);
        len += 1;
    }
    len
}

fn positive(text: &[u8], otherwise: &'static str) -> Result<usize> {
    let n = args::parse_integer(text).and_then(|n| usize::try_from(n).ok());
    n.filter(|n| *n > 0).ok_or(Error::new(otherwise))
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
pub(super) fn write_header(out: &mut Output, mark: usize, served: usize) {
    let mut header = Output::new(out.version());
    if out.is_resp3() {
        header.map(served);
    } else {
        header.array(served);
    }
    out.insert(mark, header.bytes());
}

/// A stream's name, in front of its entries.
pub(super) fn write_name(out: &mut Output, key: Key<'_>) {
    if !out.is_resp3() {
        out.array(2);
    }
    out.bulk(key.bytes);
}

const XREAD: Command = Spec {
    usage: "XREAD [COUNT count:int] [MAXCOUNT maxcount:int] [MAXSIZE maxsize:int] [BLOCK milliseconds:int] \
            STREAMS streams=<key... id...>",
    about: "Returns entries of streams behind given ids, or waits for some.",
    since: "5.0.0",
    cost: "O(log(N) + M), N being the entries and M those returned, for each stream",
    flags: &[READONLY, BLOCKING],
    keys: &[key("key", &[RO, ACCESS])
        .at(Begin::Keyword("STREAMS", 1), Find::Range { last: -1, step: 1, limit: 2 })],
    history: &[("8.10.0", "`MAXCOUNT` and `MAXSIZE`.")],
    ages: &[added("MAXCOUNT", "8.10.0"), added("MAXSIZE", "8.10.0")],
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
    let mut budget = options.budget(call);
    let (mark, mut served) = (call.out().mark(), 0);
    for (index, from) in from.iter().enumerate() {
        let key = options.key(call, index);
        let (Ok((Some(stream), out)), From::Behind(id)) = (call.read::<Stream>(key), *from) else { continue };
        let Some(next) = id.next().filter(|_| stream.has_after(id)) else { continue };
        let start = out.mark();
        write_name(out, key);
        if budget.is_limited() {
            let (head, range) = (out.mark(), stream.range(next, StreamId::MAX, false));
            let len = write_within(out, range.take(count), &mut budget, |_| {});
            if len == 0 {
                out.rollback(start);
                break;
            }
            out.array_before(head, len);
        } else {
            write_entries(out, stream, (next, StreamId::MAX), count, false, |_| {});
        }
        served += 1;
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
