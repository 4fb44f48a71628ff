//! What was delivered and not acknowledged: XACK, XCLAIM, XAUTOCLAIM.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{DELETE, RW, Spec, UPDATE, key};
use mortise_sdk::{Error, Result, args, error};

use super::STREAM;
use super::group::{Name, Pending};
use super::id::StreamId;
use super::ranges::{write_entry, write_id};
use super::value::Stream;
use crate::engine::call::{Call, Key};
use crate::engine::edit::Edit;
use crate::features::Command;
use crate::resp::output::Output;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[XACK, XCLAIM, XAUTOCLAIM];

/// An entry that is pending to a consumer now, as it is propagated.
pub(super) struct Claimed<'a> {
    pub(super) id: StreamId,
    pub(super) consumer: &'a Name,
    pub(super) delivered_ms: i64,
    pub(super) deliveries: u64,
    /// The group's.
    pub(super) last_id: StreamId,
}

impl Claimed<'_> {
    /// Propagates it.
    pub(super) fn say(&self, call: &mut Call<'_>, key: Key<'_>, group: &[u8]) {
        call.propagates(&[
            b"XCLAIM",
            key.bytes,
            group,
            self.consumer.bytes(),
            b"0",
            self.id.text().as_bytes(),
            b"TIME",
            self.delivered_ms.to_string().as_bytes(),
            b"RETRYCOUNT",
            self.deliveries.to_string().as_bytes(),
            b"FORCE",
            b"JUSTID",
            b"LASTID",
            self.last_id.text().as_bytes(),
        ]);
    }
}

/// Propagates that a consumer came into being.
pub(super) fn say_consumer(call: &mut Call<'_>, key: Key<'_>, group: &[u8], consumer: &[u8]) {
    call.propagates(&[b"XGROUP", b"CREATECONSUMER", key.bytes, group, consumer]);
}

/// An edit of a stream that must have the group, and where to reply.
pub(super) fn edit_with_group<'a>(
    call: &'a mut Call<'_>,
    key: Key<'_>,
    group: &[u8],
) -> Result<(Edit<'a, Stream>, &'a mut Output)> {
    let (edit, out) = call.edit_replying::<Stream>(key)?;
    let edit = edit.filter(|edit| edit.view().group(group).is_some());
    Ok((edit.ok_or_else(|| no_group(key, group))?, out))
}

/// The error of a command that needs a group which is not there.
pub(super) fn no_group(key: Key<'_>, group: &[u8]) -> Error {
    Error::quoting("NOGROUP No such key '{}' or consumer group '{}'", &[key.bytes, group])
}

const XACK: Command = Spec {
    usage: "XACK key group id...",
    about: "Acknowledges entries that were delivered to a consumer group; returns how many were pending.",
    since: "5.0.0",
    cost: "O(M*log(N)), N being the entries pending and M those named",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    ..STREAM
}
.runs(xack);

fn xack(call: &mut Call<'_>) -> Result {
    let (name, ids) = (call.arg(2), call.args().from(3));
    let mut count = 0;
    if let Some(mut edit) = call.edit::<Stream>(call.key(1))?
        && edit.view().group(name).is_some()
    {
        // All are read before the first is acknowledged.
        let ids: Vec<StreamId> = ids.iter().map(|id| StreamId::parse(id, 0)).collect::<Result<_>>()?;
        let is_pending = |id: &StreamId| edit.view().group(name).is_some_and(|group| group.contains(id));
        if ids.iter().any(is_pending) {
            let acknowledged =
                edit.change_group(name, |group| ids.into_iter().filter(|id| group.acknowledge(*id)).count());
            count = acknowledged.unwrap_or(0);
            edit.changed_aside(None, false);
        }
    }
    call.reply(count)
}

/// Claims entries for a consumer of a group.
struct Claiming<'a, 'e> {
    edit: Edit<'e, Stream>,
    out: &'e mut Output,
    group: &'a [u8],
    consumer: &'a [u8],
    /// Known from the first claim on.
    name: Option<Name>,
    is_new: bool,
    changed: bool,
    min_idle_ms: i64,
    now_ms: i64,
    delivered_ms: i64,
    deliveries: Option<u64>,
    just_id: bool,
    force: bool,
    claimed: Vec<(StreamId, Name, i64, u64)>,
}

/// What became of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Claim {
    /// It was answered.
    Done,
    /// The entry is not there any more, and pending no longer.
    Gone,
    /// It is not pending, or not for so long.
    NotToBe,
}

impl Claiming<'_, '_> {
    fn claim(&mut self, id: StreamId) -> Claim {
        let stream = self.edit.view();
        let pending = stream.group(self.group).and_then(|group| group.get(&id)).cloned();
        let Some(entry) = stream.get(id) else {
            let Some(pending) = pending else { return Claim::NotToBe };
            self.edit.change_group(self.group, |group| group.acknowledge(id));
            self.changed = true;
            // To whom it is claimed where this is replayed does not matter: the entry is not there.
            let to = pending.consumer.clone().unwrap_or_else(|| Name::new(self.consumer));
            self.claimed.push((id, to, pending.shown_ms(), pending.deliveries));
            return Claim::Gone;
        };
        let deliveries = match &pending {
            Some(pending) if self.min_idle_ms > 0 && !pending.is_idle_for(self.min_idle_ms, self.now_ms) => {
                return Claim::NotToBe;
            }
            Some(pending) => pending.deliveries,
            // Once, as if it had just been delivered.
            None if self.force => 1,
            None => return Claim::NotToBe,
        };
        match self.just_id {
            true => write_id(self.out, id),
            false => write_entry(self.out, entry),
        }
        let deliveries = self.deliveries.unwrap_or(deliveries.saturating_add(u64::from(!self.just_id)));
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                let Some((name, is_new)) = self.edit.hear_of(self.group, self.consumer, self.now_ms) else {
                    return Claim::NotToBe;
                };
                (self.is_new, self.name) = (is_new, Some(name.clone()));
                name
            }
        };
        self.changed = true;
        let delivered_ms = self.delivered_ms;
        let pending = Pending { consumer: Some(name.clone()), delivered_ms, deliveries };
        let now_ms = self.now_ms;
        self.edit.change_group(self.group, |group| {
            group.note_active(&name, now_ms);
            group.give(id, pending);
        });
        self.claimed.push((id, name, delivered_ms, deliveries));
        Claim::Done
    }

    /// Names the change, if there is one; says what is to be propagated, with the group's last id.
    fn end(mut self) -> (Vec<(StreamId, Name, i64, u64)>, StreamId) {
        let last_id = self.edit.view().group(self.group).map(|group| group.last_id).unwrap_or_default();
        if self.changed {
            self.edit.changed_aside(self.is_new.then_some("xgroup-createconsumer"), false);
        }
        (self.claimed, last_id)
    }
}

/// Propagates claims.
fn say_claims(
    call: &mut Call<'_>,
    key: Key<'_>,
    group: &[u8],
    (claims, last_id): (Vec<(StreamId, Name, i64, u64)>, StreamId),
) {
    for (id, consumer, delivered_ms, deliveries) in claims {
        Claimed { id, consumer: &consumer, delivered_ms, deliveries, last_id }.say(call, key, group);
    }
}

const XCLAIM: Command = Spec {
    usage: "XCLAIM key group consumer min-idle-time id... [IDLE ms:int] [TIME unix-time-milliseconds:time] \
            [RETRYCOUNT count:int] [FORCE] [JUSTID] [LASTID id]",
    about: "Makes pending entries those of another consumer, and returns them.",
    since: "5.0.0",
    cost: "O(M*log(N)), N being the entries pending and M those named",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    tips: &["nondeterministic_output"],
    ..STREAM
}
.runs(xclaim);

/// The options of XCLAIM.
struct XclaimOptions {
    min_idle_ms: i64,
    ids: Vec<StreamId>,
    delivered_ms: i64,
    deliveries: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: StreamId,
}

impl XclaimOptions {
    fn parse(call: &Call<'_>) -> Result<XclaimOptions> {
        let args = call.args();
        let now_ms = call.now_ms();
        let number = |text: &[u8], what: &'static str| args::parse_integer(text).ok_or(Error::new(what));
        let min_idle_ms = number(call.arg(4), "ERR Invalid min-idle-time argument for XCLAIM")?.max(0);
        let ids: Vec<StreamId> = args.from(5).iter().map_while(|id| StreamId::parse(id, 0).ok()).collect();
        let (mut delivered, mut deliveries) = (-1i64, None);
        let (mut force, mut just_id, mut last_id) = (false, false, StreamId::MIN);
        let mut options = call.options(5 + ids.len());
        while !options.is_empty() {
            if options.takes("FORCE") {
                force = true;
            } else if options.takes("JUSTID") {
                just_id = true;
            } else if let Some(text) = options.takes_value("IDLE") {
                let idle = number(text, "ERR Invalid IDLE option argument for XCLAIM")?;
                delivered = now_ms.wrapping_sub(idle);
            } else if let Some(text) = options.takes_value("TIME") {
                delivered = number(text, "ERR Invalid TIME option argument for XCLAIM")?;
            } else if let Some(text) = options.takes_value("RETRYCOUNT") {
                let count = number(text, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
                deliveries = u64::try_from(count).ok();
            } else if let Some(text) = options.takes_value("LASTID") {
                last_id = StreamId::parse(text, 0)?;
            } else {
                let said = options.next().unwrap_or_default();
                return Err(Error::quoting("ERR Unrecognized XCLAIM option '{}'", &[said]));
            }
        }
        // A time that cannot be is now: clients may have worked it out by a clock of their own. What is replayed was right
        // by the clock of then.
        let is_right = (0..=now_ms).contains(&delivered) || (delivered >= 0 && call.caller().is_stream());
        let delivered_ms = if is_right { delivered } else { now_ms };
        Ok(XclaimOptions { min_idle_ms, ids, delivered_ms, deliveries, force, just_id, last_id })
    }
}

fn xclaim(call: &mut Call<'_>) -> Result {
    let (key, name, consumer, now_ms) = (call.key(1), call.arg(2), call.arg(3), call.now_ms());
    require_group(call, key, name)?;
    let options = XclaimOptions::parse(call)?;
    let (mut edit, out) = edit_with_group(call, key, name)?;
    let moves = edit.view().group(name).is_some_and(|group| group.last_id < options.last_id);
    if moves {
        edit.change_group(name, |group| group.last_id = options.last_id);
    }
    let mark = out.mark();
    let mut claiming = Claiming {
        edit,
        out,
        group: name,
        consumer,
        name: None,
        is_new: false,
        changed: moves,
        min_idle_ms: options.min_idle_ms,
        now_ms,
        delivered_ms: options.delivered_ms,
        deliveries: options.deliveries,
        just_id: options.just_id,
        force: options.force,
        claimed: Vec::new(),
    };
    let len = options.ids.iter().filter(|id| claiming.claim(**id) == Claim::Done).count();
    claiming.out.array_before(mark, len);
    let read = claiming.edit.view().group(name).and_then(|group| group.entries_read);
    let claims = claiming.end();
    call.propagates_nothing();
    if !call.is_propagated() {
        return Ok(());
    }
    if moves && len == 0 {
        let read = read.map_or("-1".to_owned(), |read| read.to_string());
        let last = options.last_id.text();
        call.propagates(&[
            b"XGROUP",
            b"SETID",
            key.bytes,
            name,
            last.as_bytes(),
            b"ENTRIESREAD",
            read.as_bytes(),
        ]);
    }
    say_claims(call, key, name, claims);
    Ok(())
}

/// The group must be there.
fn require_group(call: &mut Call<'_>, key: Key<'_>, group: &[u8]) -> Result {
    let (stream, _) = call.read::<Stream>(key)?;
    match stream.and_then(|stream| stream.group(group)) {
        Some(_) => Ok(()),
        None => Err(no_group(key, group)),
    }
}

const XAUTOCLAIM: Command = Spec {
    usage: "XAUTOCLAIM key group consumer min-idle-time start [COUNT count:int] [JUSTID]",
    about: "Makes entries that have been pending for long those of another consumer, and returns them.",
    since: "6.2.0",
    cost: "O(M*log(N)), N being the entries pending and M those looked at",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, DELETE])],
    tips: &["nondeterministic_output"],
    history: &[("7.0.0", "Tells of deleted entries, which are pending no longer.")],
    ..STREAM
}
.runs(xautoclaim);

fn xautoclaim(call: &mut Call<'_>) -> Result {
    /// So many are looked at for one that is returned.
    const LOOKED_AT: i64 = 10;
    const COUNT_MAX: i64 = i64::MAX / 16;
    let (key, name, consumer, now_ms) = (call.key(1), call.arg(2), call.arg(3), call.now_ms());
    let min_idle_ms = args::parse_integer(call.arg(4))
        .ok_or(Error::new("ERR Invalid min-idle-time argument for XAUTOCLAIM"))?
        .max(0);
    let start = StreamId::parse_start(call.arg(5))?;
    let (mut count, mut just_id) = (100, false);
    let mut options = call.options(6);
    while !options.is_empty() {
        if let Some(text) = options.takes_value("COUNT") {
            count = args::parse_integer(text)
                .filter(|count| (1..=COUNT_MAX).contains(count))
                .ok_or(Error::new("ERR COUNT must be > 0"))?;
        } else if options.takes("JUSTID") {
            just_id = true;
        } else {
            return Err(error::SYNTAX);
        }
    }
    require_group(call, key, name)?;
    let (edit, out) = edit_with_group(call, key, name)?;
    let most = usize::try_from(count.saturating_mul(LOOKED_AT)).unwrap_or(usize::MAX);
    let group = edit.view().group(name);
    let pending: Vec<StreamId> = group
        .into_iter()
        .flat_map(|group| group.up_from(&start))
        .map(|(id, _)| id)
        .take(most.saturating_add(1))
        .collect();
    out.array(3);
    let mark = out.mark();
    let mut claiming = Claiming {
        edit,
        out,
        group: name,
        consumer,
        name: None,
        is_new: false,
        changed: false,
        min_idle_ms,
        now_ms,
        delivered_ms: now_ms,
        deliveries: None,
        just_id,
        force: false,
        claimed: Vec::new(),
    };
    let (mut len, mut gone, mut looked_at) = (0, Vec::new(), 0);
    for id in pending.iter().take(most) {
        if count == 0 {
            break;
        }
        looked_at += 1;
        match claiming.claim(*id) {
            Claim::Done => len += 1,
            Claim::Gone => gone.push(*id),
            Claim::NotToBe => continue,
        }
        count -= 1;
    }
    claiming.out.array_before(mark, len);
    let next = pending.get(looked_at).copied().unwrap_or_default();
    let mut cursor = Output::new(claiming.out.version());
    write_id(&mut cursor, next);
    claiming.out.insert(mark, cursor.bytes());
    claiming.out.array(gone.len());
    gone.iter().for_each(|id| write_id(claiming.out, *id));
    let claims = claiming.end();
    call.propagates_nothing();
    if call.is_propagated() {
        say_claims(call, key, name, claims);
    }
    Ok(())
}
