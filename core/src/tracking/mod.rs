//! Client-side caching: who may hold a copy of which key, and who is told that it has changed.
//!
//! A client that tracks what it reads stands in the table of each key that it has read since the key last changed; one
//! that tracks prefixes hears of every key under them. Owns both tables and the messages. Who has left still stands in
//! the table until the key changes: its number is given to nobody else.
//!
//! To everybody else this costs one branch a command, and a change that nobody can have read costs none: what is read is
//! marked as listened to, as a watched key is, and while somebody tracks, so is what comes into being.

pub(crate) mod commands;
mod notice;
mod prefixes;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use mortise_sdk::config;
use mortise_sdk::declare::flags::{PUBSUB, READONLY, SUSPENDS};

use crate::engine::args::Args;
use crate::engine::event::{self, EventClass};
use crate::engine::registry::Command;
use crate::engine::session::{ClientId, Session};
use crate::engine::tick::SLICE_NS;
use crate::engine::{Caller, Engine};
use crate::features::Feature;
use crate::keyspace::SpaceId;
use notice::Notice;
use prefixes::Prefixes;
use table::Table;

/// Client-side caching.
pub const FEATURE: Feature = Feature {
    name: "tracking",
    commands: &[commands::COMMANDS],
    config: TrackingConfig::directives(),
    ..Feature::EMPTY
};

config! {
    /// Client-side caching.
    pub struct TrackingConfig {
        /// For how many keys the server remembers who has read them. Beyond that, some are forgotten, and who has read
        /// them is told that they have changed. Zero means no limit.
        live tracking_table_max_keys: u64 = 1000000, in 0..=i64::MAX;
    }
}

/// What each command of a session has to know of it.
#[derive(Clone, Copy, Default)]
pub struct Reads {
    /// The keys that it reads are remembered.
    pub tracked: bool,
    /// Which of them.
    pub choice: Choice,
    /// CLIENT CACHING has said that the next command is different.
    pub excepted: bool,
}

/// Of which commands the keys are remembered.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Choice {
    /// Of all that read.
    #[default]
    All,
    /// Only of those before which CLIENT CACHING YES was said.
    OptIn,
    /// Of all but those before which CLIENT CACHING NO was said.
    OptOut,
}

impl Reads {
    fn are_wanted(self) -> bool {
        match self.choice {
            Choice::All => true,
            Choice::OptIn => self.excepted,
            Choice::OptOut => !self.excepted,
        }
    }
}

/// How a client tracks.
#[derive(Default)]
pub struct Tracker {
    /// Who is told instead.
    pub redirect: Option<ClientId>,
    /// It is told of keys under prefixes rather than of those that it has read.
    pub broadcast: bool,
    /// Of which commands the keys are remembered.
    pub choice: Choice,
    /// It is not told of what it changes itself.
    pub noloop: bool,
    /// Whoever is told instead has gone.
    pub is_broken: bool,
    /// The prefixes.
    pub prefixes: BTreeSet<Box<[u8]>>,
}

/// Who tracks what.
#[derive(Default)]
pub struct Tracking {
    clients: usize,
    table: Table,
    prefixes: Prefixes,
    /// How many keys the table may hold.
    keys_max: u64,
    /// It holds more.
    is_over: bool,
    /// How often in a row it has held more than could be forgotten at once.
    rounds: usize,
}

impl Tracking {
    /// How many clients track.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// How many keys somebody may have a copy of.
    pub fn keys(&self) -> usize {
        self.table.keys()
    }

    /// How many copies of keys there may be.
    pub fn items(&self) -> usize {
        self.table.items()
    }

    /// How many prefixes somebody tracks.
    pub fn prefixes(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether the table holds more keys than it may.
    #[inline(always)]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// A client that has left tracked a prefix.
    pub(crate) fn forget_prefix(&mut self, space: SpaceId, prefix: &[u8], id: ClientId) {
        self.prefixes.remove(space, prefix, id);
    }

    fn look_at_limit(&mut self) {
        self.is_over = self.keys_max > 0 && self.table.keys() as u64 > self.keys_max;
    }
}

impl Engine {
    /// Takes over the limit of the table, and what the keyspace and units have to know.
    pub(crate) fn follow_tracking(&mut self) {
        self.tracking.keys_max = self.config.tracking.tracking_table_max_keys;
        self.tracking.look_at_limit();
        self.keyspace.door.marks_newborns = self.tracking.clients > 0;
        let wanted = self.config.notifications.notify_keyspace_events;
        let published = wanted.any(event::KEYSPACE) || wanted.any(event::KEYEVENT);
        self.unit.mask = if !self.tracking.prefixes.is_empty() {
            EventClass(!0)
        } else if published {
            wanted
        } else {
            EventClass(0)
        };
    }

    /// A client begins to track, or to do so in another way.
    pub(crate) fn begin_tracking(&mut self, session: &mut Session, tracker: Tracker) {
        let Some(client) = self.clients.get_mut(session.id) else { return };
        let before = client.tracking.take();
        self.tracking.clients += usize::from(before.is_none());
        for prefix in &tracker.prefixes {
            self.tracking.prefixes.add(session.space, prefix, session.id);
        }
        let choice = tracker.choice;
        session.reads = Reads { tracked: !tracker.broadcast, choice, excepted: session.reads.excepted };
        client.tracking = Some(Box::new(tracker));
        self.follow_tracking();
    }

    /// A client no longer tracks. When nobody does, nothing is remembered.
    pub(crate) fn end_tracking(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let Some(tracker) = client.tracking.take() else { return };
        let space = client.space;
        self.leave_prefixes(id, space, tracker.prefixes);
        self.tracking.clients -= 1;
        if self.tracking.clients == 0 {
            self.unit.discard_later(Box::new(std::mem::take(&mut self.tracking.table)));
        }
        self.follow_tracking();
    }

    /// After a command of a session that tracks: remembers what it has read.
    #[cold]
    pub(crate) fn note_reads(
        &mut self,
        session: &mut Session,
        command: &Command,
        args: Args<'_>,
        caller: Caller,
    ) {
        // The commands of a script say by themselves that it has read.
        if matches!(caller, Caller::Client | Caller::Retry | Caller::Transaction)
            && command.flags.has(READONLY)
            && !command.flags.any(SUSPENDS | PUBSUB)
        {
            self.remember_keys(session, command, args);
        }
        let is_over = matches!(caller, Caller::Client | Caller::Retry) && session.transaction.is_none();
        if is_over && command.facts.words[0] != "client" {
            session.reads.excepted = false;
        }
    }

    /// Remembers that a session's client may have copies of the keys of a call.
    #[cold]
    pub(crate) fn remember_keys(&mut self, session: &Session, command: &Command, args: Args<'_>) {
        if !session.reads.are_wanted() {
            return;
        }
        let keys = command.facts.keys_of(args.len(), &|index| args.at(index)).unwrap_or_default();
        let (space, db) = (session.space, session.db);
        for key in keys {
            let key = args.at(key.index);
            self.keyspace.db(space, db).0.listen(key);
            if self.unit.has_to_tell() {
                // What has changed before in the same unit is no news to who has read it since.
                self.unit.reads(session.id, space, db, key);
            } else {
                self.remember(session.id, space, db, key);
            }
        }
    }

    /// A client may have a copy of a key from now on.
    pub(crate) fn remember(&mut self, id: ClientId, space: SpaceId, db: u32, key: &[u8]) {
        if self.tracking.clients > 0 {
            self.tracking.table.insert(space, db, key, id);
            self.tracking.look_at_limit();
        }
    }

    /// As part of a unit that settles: a client has read a key between changes.
    pub(crate) fn remember_late(&mut self, id: ClientId, space: SpaceId, db: u32, key: &[u8]) {
        self.keyspace.db(space, db).0.listen(key);
        self.remember(id, space, db, key);
    }

    /// A key has changed: whoever may have a copy of it is told.
    #[inline(always)]
    pub(crate) fn invalidate(&mut self, space: SpaceId, db: u32, key: &[u8], class: EventClass) {
        if self.tracking.clients > 0 {
            self.invalidate_key(space, db, key, class);
        }
    }

    #[cold]
    fn invalidate_key(&mut self, space: SpaceId, db: u32, key: &[u8], class: EventClass) {
        // What goes by itself goes by nobody's doing.
        let by_itself = class == event::EXPIRED || class == event::EVICTED;
        let by = if by_itself { None } else { self.acting() };
        self.tracking.prefixes.changed(space, key, by);
        self.forget_copies(space, db, key);
    }

    fn forget_copies(&mut self, space: SpaceId, db: u32, key: &[u8]) {
        let Some(readers) = self.tracking.table.take(space, db, key) else { return };
        self.tracking.look_at_limit();
        let keys = [key];
        let mut notice = Notice::of(&keys);
        let caller = self.acting();
        for id in readers.iter() {
            let tracks = self.clients.get(id).and_then(|client| client.tracking.as_ref());
            let Some(tracker) = tracks else { continue };
            if tracker.broadcast || tracker.noloop && caller == Some(id) {
                continue;
            }
            self.tell(id, &mut notice);
        }
    }

    /// All keys of a space may have changed: whoever tracks there is told so, and nothing is remembered of them.
    #[cold]
    pub(crate) fn invalidate_all(&mut self, space: SpaceId) {
        if self.tracking.clients == 0 {
            return;
        }
        let tracking =
            self.clients.iter().filter(|client| client.space == space && client.tracking.is_some());
        let ids: Vec<ClientId> = tracking.map(|client| client.id).collect();
        let mut notice = Notice::of_all();
        for id in ids {
            self.tell(id, &mut notice);
        }
        self.unit.discard_later(Box::new(self.tracking.table.clear(space)));
        self.tracking.look_at_limit();
    }

    /// Tells those who track prefixes of what has changed under them since they were last told.
    #[inline(always)]
    pub(crate) fn broadcast(&mut self) {
        if self.tracking.prefixes.has_changes() {
            self.broadcast_changes();
        }
    }

    #[cold]
    fn broadcast_changes(&mut self) {
        for changes in self.tracking.prefixes.take_changes() {
            let keys: Vec<&[u8]> = changes.keys.iter().map(|(key, _)| &**key).collect();
            let mut notice = Notice::of(&keys);
            for id in changes.clients {
                let tracks = self.clients.get(id).and_then(|client| client.tracking.as_ref());
                // It may have given up the prefix, which is not forgotten yet.
                let Some(tracker) = tracks.filter(|tracker| tracker.prefixes.contains(&changes.prefix))
                else {
                    continue;
                };
                if !tracker.noloop {
                    self.tell(id, &mut notice);
                    continue;
                }
                let others = changes.keys.iter().filter(|(_, by)| *by != Some(id));
                let keys: Vec<&[u8]> = others.map(|(key, _)| &**key).collect();
                if !keys.is_empty() {
                    self.tell(id, &mut Notice::of(&keys));
                }
            }
        }
        self.evict_clients();
    }

    /// Sends a notice to a client that tracks, or to whom it wants told instead.
    fn tell(&mut self, id: ClientId, notice: &mut Notice<'_>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let Some(tracker) = &mut client.tracking else { return };
        let own = client.outbox.clone();
        let Some(redirect) = tracker.redirect else {
            if let Some(frame) = notice.pushed(own.version()) {
                self.deliver_behind(id, &own, &frame);
            }
            return;
        };
        let is_broken = !self.clients.contains(redirect);
        if let Some(tracker) = self.clients.get_mut(id).and_then(|client| client.tracking.as_mut()) {
            tracker.is_broken |= is_broken;
        }
        let Some(target) = self.clients.get(redirect) else {
            if let Some(frame) = notice::broken(own.version(), redirect) {
                self.deliver_behind(id, &own, &frame);
            }
            return;
        };
        let outbox = target.outbox.clone();
        // On RESP2 a message of a channel is all that may come unasked, and only to a subscriber.
        let frame = notice
            .pushed(outbox.version())
            .or_else(|| (target.subscriptions() > 0).then(|| notice.message()));
        let Some(frame) = frame else { return };
        if self.acting() == Some(id) {
            self.deliver_behind(redirect, &outbox, &frame);
        } else {
            self.deliver(redirect, &outbox, &frame);
        }
    }

    /// The table holds more keys than it may: some are forgotten, more of them each time that this does not suffice, as
    /// long as it does not take others' time. A client to which that happens before its command is told before the reply.
    #[cold]
    pub(crate) fn forget_some_tracked(&mut self) {
        const FORGOTTEN_AT_ONCE: usize = 100;
        let count = FORGOTTEN_AT_ONCE * (self.tracking.rounds + 1);
        let begin_ns = self.lap();
        for forgotten in 0..count {
            let looks = usize::is_multiple_of(forgotten, FORGOTTEN_AT_ONCE);
            if !self.tracking.is_over || looks && self.lap().saturating_sub(begin_ns) >= SLICE_NS {
                break;
            }
            let random = self.random();
            let Some((space, db, key)) = self.tracking.table.any(random) else { break };
            self.forget_copies(space, db, &key);
        }
        self.tracking.rounds = if self.tracking.is_over { self.tracking.rounds + 1 } else { 0 };
        self.bring_forward();
    }
}
