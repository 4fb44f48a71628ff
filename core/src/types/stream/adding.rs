//! Adding and removing entries: XADD, XTRIM, XDEL; what is known of all: XLEN, XSETID.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{DELETE, RO, RW, Spec, UPDATE, added, key};
use mortise_sdk::{Error, Result, args, error};

use super::STREAM;
use super::id::{NewId, StreamId};
use super::idempotence::{Sent, name_of};
use super::once;
use super::references::References;
use super::value::{Stream, Trim, TrimTo};
use crate::engine::args::Args;
use crate::engine::call::Call;
use crate::engine::event;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[XADD, XTRIM, XDEL, XLEN, XSETID];

/// The trimming options of XADD and XTRIM, and what else XADD has in front of its fields.
struct Options<'a> {
    trim: Option<Trim>,
    /// Where MAXLEN or MINID stands.
    trim_at: usize,
    no_mkstream: bool,
    /// Whose entry XADD is to add only once.
    sent: Option<Sent<'a>>,
    /// XADD's id, and where it stands.
    id: Option<(usize, NewId)>,
}

impl<'a> Options<'a> {
    fn parse(call: &Call<'a>, adds: bool) -> Result<Options<'a>> {
        const NOT_APPROXIMATE: Error =
            Error::new("ERR syntax error, LIMIT cannot be used without the special ~ option");
        let args = call.args();
        let mut parsed = Options { trim: None, trim_at: 0, no_mkstream: false, sent: None, id: None };
        let (mut to, mut approximate, mut limit, mut references) = (None, false, None, None);
        let mut at = 2;
        while let Some(word) = args.get(at) {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let follow = args.len() - at - 1;
            if adds && word == b"*" {
                parsed.id = Some((at, NewId::Next));
                break;
            } else if follow > 0 && (is("MAXLEN") || is("MINID")) {
                if to.is_some() {
                    return Err(Error::new(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                    ));
                }
                parsed.trim_at = at;
                let operator = if follow > 1 { args.at(at + 1) } else { b"" };
                approximate = operator == b"~";
                at += usize::from(approximate || operator == b"=") + 1;
                to = Some(match is("MAXLEN") {
                    true => TrimTo::Len(not_negative(args.at(at), "ERR The MAXLEN argument must be >= 0.")?),
                    false => TrimTo::Id(StreamId::parse(args.at(at), 0)?),
                });
            } else if follow > 0 && is("LIMIT") {
                at += 1;
                limit = Some(not_negative(args.at(at), "ERR The LIMIT argument must be >= 0.")?);
            } else if let Some(word) = References::parse(word) {
                if references.replace(word).is_some() {
                    return Err(error::SYNTAX);
                }
            } else if adds && (is("IDMP") && follow > 1 || is("IDMPAUTO") && follow > 0) {
                let name = is("IDMP").then(|| args.at(at + 2));
                let sent = Sent { producer: args.at(at + 1), name };
                if parsed.sent.replace(sent).is_some() {
                    return Err(error::SYNTAX);
                }
                if sent.producer.is_empty() || name.is_some_and(<[u8]>::is_empty) {
                    return Err(once::EMPTY);
                }
                at += 1 + usize::from(name.is_some());
            } else if adds && is("NOMKSTREAM") {
                parsed.no_mkstream = true;
            } else if adds {
                parsed.id = Some((at, NewId::parse(word)?));
                break;
            } else {
                return Err(error::SYNTAX);
            }
            at += 1;
        }
        let Some(to) = to else {
            if limit.is_some_and(|limit| limit > 0) {
                return Err(Error::new(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                ));
            }
            if !adds {
                return Err(Error::new("ERR syntax error, XTRIM must be called with a trimming strategy"));
            }
            if limit.is_some() {
                return Err(NOT_APPROXIMATE);
            }
            return Ok(parsed);
        };
        let limit = match limit {
            Some(_) if !approximate && !call.caller().is_stream() => {
                return Err(NOT_APPROXIMATE);
            }
            _ if call.caller().is_stream() || !approximate => 0,
            Some(limit) => limit,
            None => limit_of(call.limits().stream_node_entries),
        };
        parsed.trim = Some(Trim { to, approximate, limit, references: references.unwrap_or_default() });
        Ok(parsed)
    }

    /// The options as they are propagated: what was trimmed is exact now.
    fn exactly(&self, args: Args<'_>, stream: &Stream) -> Vec<Vec<u8>> {
        let Some(trim) = self.trim else { return Vec::new() };
        let (name, value) = match trim.to {
            // No id says that nothing stays.
            TrimTo::Id(_) if trim.approximate && stream.is_empty() => (&b"MAXLEN"[..], b"0".to_vec()),
            TrimTo::Id(id) => {
                let id = if trim.approximate { stream.first_id() } else { id };
                (args.at(self.trim_at), id.to_string().into_bytes())
            }
            TrimTo::Len(len) => {
                let len = if trim.approximate { stream.len() as u64 } else { len };
                (args.at(self.trim_at), len.to_string().into_bytes())
            }
        };
        let mut words = vec![name.to_vec(), b"=".to_vec(), value];
        if trim.references != References::Stay {
            words.insert(0, trim.references.word().into());
        }
        words
    }
}

/// How many entries are trimmed at most, if it is not said: those of a hundred nodes.
fn limit_of(node_entries: usize) -> u64 {
    const UNLIMITED_NODES: u64 = 10_000;
    const MAX: u64 = 1_000_000;
    match (node_entries as u64).saturating_mul(100) {
        0 => UNLIMITED_NODES,
        limit => limit.min(MAX),
    }
}

fn not_negative(text: &[u8], negative: &'static str) -> Result<u64> {
    let n = args::parse_integer(text).ok_or(error::NOT_INTEGER)?;
    u64::try_from(n).map_err(|_| Error::new(negative))
}

const XADD: Command = Spec {
    usage: "XADD key [NOMKSTREAM] [condition=<KEEPREF | DELREF | ACKED>] \
            [idmp=<IDMPAUTO producer-id | IDMP <producer-id idempotent-id>>] \
            [trim=<strategy=<MAXLEN | MINID> [operator=<equal== | approximately=~>] threshold [LIMIT count:int]>] \
            id_or_auto=<auto_id=* | id> field_value=<field value>...",
    about: "Adds an entry to a stream, which is created if need be; returns its id.",
    since: "5.0.0",
    cost: "O(1); O(N) with trimming, N being the entries removed",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[
        key("key", &[RW, UPDATE]).notes("UPDATE instead of INSERT because of the optional trimming feature")
    ],
    tips: &["nondeterministic_output"],
    history: &[
        ("6.2.0", "`NOMKSTREAM`, `MINID` and `LIMIT`."),
        ("7.0.0", "The id may be `<ms>-*`."),
        ("8.2.0", "`KEEPREF`, `DELREF` and `ACKED`."),
        ("8.6.0", "`IDMP` and `IDMPAUTO`."),
    ],
    ages: &[
        added("NOMKSTREAM", "6.2.0"),
        added("MINID", "6.2.0"),
        added("LIMIT", "6.2.0"),
        added("condition", "8.2.0"),
        added("idmp", "8.6.0"),
    ],
    ..STREAM
}
.runs(xadd);

fn xadd(call: &mut Call<'_>) -> Result {
    const TOP: Error =
        Error::new("ERR The ID specified in XADD is equal or smaller than the target stream top item");
    let options = Options::parse(call, true)?;
    let wrong_number = || Error::wrong_arity("xadd");
    let Some((id_at, asked)) = options.id else { return Err(wrong_number()) };
    let args = call.args();
    let pairs = args.from(id_at + 1);
    if pairs.is_empty() || pairs.len() % 2 == 1 {
        return Err(wrong_number());
    }
    if asked == NewId::Exactly(StreamId::MIN) {
        return Err(Error::new("ERR The ID specified in XADD must be greater than 0-0"));
    }
    if options.sent.is_some() && asked != NewId::Next {
        return Err(Error::new("ERR IDMP and IDMPAUTO can be used only with auto-generated IDs"));
    }
    let (key, now_ms) = (call.key(1), call.now_ms());
    if options.no_mkstream && !call.exists(key) {
        call.out().null();
        return Ok(());
    }
    let mut edit = call.create::<Stream>(key)?;
    let own_name = options.sent.filter(|sent| sent.name.is_none()).map(|_| name_of(&pairs));
    let sent = options.sent.map(|Sent { producer, name }| {
        // One of both there is.
        (producer, name.or(own_name.as_ref().map(|name| &name[..])).unwrap_or_default())
    });
    let otherwise = edit.limits().stream_memory;
    let known = edit.view().idempotence().zip(sent);
    if let Some(id) = known.and_then(|(known, (of, name))| known.find(of, name, otherwise, now_ms)) {
        edit.note_duplicate();
        edit.changed_aside(None, false);
        drop(edit);
        call.propagates_nothing();
        call.out().bulk(id.text().as_bytes());
        return Ok(());
    }
    if edit.view().last_id() == StreamId::MAX {
        return Err(Error::new(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    let id = edit.view().id_of(asked, now_ms).ok_or(TOP)?;
    if pairs.iter().map(<[u8]>::len).sum::<usize>() > Stream::ENTRY_LEN_MAX {
        return Err(Error::new("ERR Elements are too large to be stored"));
    }
    edit.append(id, &pairs);
    if let Some((producer, name)) = sent {
        edit.remember(producer, name, id, now_ms);
    }
    edit.also_changed("xadd", event::STREAM);
    let mut exactly = Vec::new();
    if let Some(trim) = options.trim {
        if edit.trim(trim) > 0 {
            edit.also_changed("xtrim", event::STREAM);
        }
        exactly = options.exactly(args, edit.view());
    }
    drop(edit);
    let text = id.text();
    call.out().bulk(text.as_bytes());
    if call.is_propagated() {
        let mut words: Vec<&[u8]> = vec![args.at(0), key.bytes];
        words.extend(exactly.iter().map(Vec::as_slice));
        words.push(text.as_bytes());
        words.extend(pairs.iter());
        call.propagates(&words);
        if let Some((producer, name)) = sent {
            call.propagates(&[b"XIDMPRECORD", key.bytes, producer, name, text.as_bytes()]);
        }
    }
    Ok(())
}

const XTRIM: Command = Spec {
    usage: "XTRIM key trim=<strategy=<MAXLEN | MINID> [operator=<equal== | approximately=~>] threshold \
            [LIMIT count:int]> [condition=<KEEPREF | DELREF | ACKED>]",
    about: "Removes entries from the beginning of a stream; returns how many.",
    since: "5.0.0",
    cost: "O(log(N) + M), N being the entries and M those of one node",
    flags: &[WRITE],
    keys: &[key("key", &[RW, DELETE])],
    tips: &["nondeterministic_output"],
    history: &[("6.2.0", "`MINID` and `LIMIT`."), ("8.2.0", "`KEEPREF`, `DELREF` and `ACKED`.")],
    ages: &[added("MINID", "6.2.0"), added("LIMIT", "6.2.0"), added("condition", "8.2.0")],
    ..STREAM
}
.runs(xtrim);

fn xtrim(call: &mut Call<'_>) -> Result {
    let options = Options::parse(call, false)?;
    let (args, key) = (call.args(), call.key(1));
    let (mut count, mut exactly) = (0, Vec::new());
    if let Some(mut edit) = call.edit::<Stream>(key)? {
        count = options.trim.map_or(0, |trim| edit.trim(trim));
        exactly = options.exactly(args, edit.view());
        if count > 0 {
            edit.changed("xtrim");
        }
    }
    if count > 0 && call.is_propagated() {
        let mut words: Vec<&[u8]> = vec![args.at(0), key.bytes];
        words.extend(exactly.iter().map(Vec::as_slice));
        call.propagates(&words);
    }
    call.reply(count)
}

const XDEL: Command = Spec {
    usage: "XDEL key id...",
    about: "Deletes entries of a stream; returns how many there were.",
    since: "5.0.0",
    cost: "O(M*log(N)), N being the entries and M those named",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, DELETE])],
    ..STREAM
}
.runs(xdel);

fn xdel(call: &mut Call<'_>) -> Result {
    let ids = call.args().from(2);
    let mut deleted = 0;
    if let Some(mut edit) = call.edit::<Stream>(call.key(1))? {
        // All are read before the first goes.
        let ids: Vec<StreamId> = ids.iter().map(|id| StreamId::parse(id, 0)).collect::<Result<_>>()?;
        deleted = ids.into_iter().filter(|id| edit.delete(*id)).count();
        if deleted > 0 {
            edit.changed("xdel");
        }
    }
    call.reply(deleted)
}

const XLEN: Command = Spec {
    usage: "XLEN key",
    about: "Counts the entries of a stream.",
    since: "5.0.0",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO])],
    ..STREAM
}
.runs(xlen);

fn xlen(call: &mut Call<'_>) -> Result {
    let (stream, out) = call.read::<Stream>(call.key(1))?;
    out.count(stream.map_or(0, Stream::len));
    Ok(())
}

const XSETID: Command = Spec {
    usage: "XSETID key last-id [ENTRIESADDED entries_added:int] [MAXDELETEDID max_deleted_entry_id]",
    about: "Sets the id that new entries of a stream must be above. It serves replication.",
    since: "5.0.0",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    history: &[("7.0.0", "`entries_added` and `max_deleted_entry_id`.")],
    ages: &[added("ENTRIESADDED", "7.0.0"), added("MAXDELETEDID", "7.0.0")],
    ..STREAM
}
.runs(xsetid);

fn xsetid(call: &mut Call<'_>) -> Result {
    let id = StreamId::parse(call.arg(2), 0)?;
    let (mut added, mut deleted) = (None, None);
    let mut options = call.options(3);
    while !options.is_empty() {
        if let Some(count) = options.takes_value("ENTRIESADDED") {
            added = Some(not_negative(count, "ERR entries_added must be positive")?);
        } else if let Some(max) = options.takes_value("MAXDELETEDID") {
            let max = StreamId::parse(max, 0)?;
            if id < max {
                return Err(Error::new(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
            deleted = Some(max).filter(|max| *max != StreamId::MIN);
        } else {
            return Err(error::SYNTAX);
        }
    }
    let mut edit = call.edit::<Stream>(call.key(1))?.ok_or(error::NO_SUCH_KEY)?;
    let stream = edit.view();
    if let Some(last) = stream.last_entry_id() {
        if id < last {
            return Err(Error::new(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if added.is_some_and(|added| added < stream.len() as u64) {
            return Err(Error::new(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
    }
    edit.set_last_id(id, added, deleted);
    edit.changed_aside(Some("xsetid"), false);
    drop(edit);
    call.ok()
}
