//! After a command: who hears of the changes, in order.

use super::event::{self, EventClass};
use super::unit::{Commands, Propagated, Reach, Told};
use super::{Engine, Job};
use crate::keyspace::SpaceId;
use crate::keyspace::hash::hash;
use crate::pubsub::Kind;

/// A unit as the stream carries it: what was done, in order, as one.
pub struct StreamUnit {
    /// Its place in the stream: the number of commands before it.
    pub offset: u64,
    /// The commands.
    pub commands: Commands,
    /// Several are one transaction.
    pub is_whole: bool,
}

impl StreamUnit {
    /// Its commands in order.
    pub fn iter(&self) -> impl Iterator<Item = Propagated<'_>> {
        self.commands.iter()
    }
}

/// Who reads the stream: a journal, replicas, a shadow engine in tests.
pub trait StreamReader: Send {
    /// A unit was committed.
    fn unit(&mut self, unit: &StreamUnit);
}

impl Engine {
    /// Releases what a unit has collected: listeners hear of its changes, readers of the stream get it, and calls that
    /// waited for its keys run, each a unit of its own.
    #[inline(always)]
    pub(crate) fn settle(&mut self) {
        if self.unit.is_quiet() {
            return;
        }
        if self.unit.only_says() {
            return self.stream_unit();
        }
        self.settle_unit();
        self.serve_waiting();
    }

    /// The order: watch, tracking, notifications, waiting calls; then the stream; then what is to be freed.
    #[cold]
    pub(super) fn settle_unit(&mut self) {
        let tale = self.unit.take_told();
        for told in tale.iter() {
            let change = match told {
                Told::Change(change) => change,
                Told::Message(message) => {
                    let kind = message.kind;
                    let (space, channel, message) = (message.space, &message.channel, &message.message);
                    match kind {
                        Kind::Shard => self.deliver_sharded(space, channel, message),
                        Kind::Channel | Kind::Pattern => self.deliver_all(space, channel, message),
                    };
                    continue;
                }
                Told::Read(read) => {
                    self.remember_late(read.client, read.space, read.db, &read.key);
                    continue;
                }
                Told::AllChanged(space) => {
                    self.invalidate_all(*space);
                    continue;
                }
                Told::Spoilt(client) => {
                    self.clients.get_mut(*client).into_iter().for_each(|client| client.spoilt = true);
                    continue;
                }
            };
            let (space, db, key) = (change.space, change.db, tale.key(change));
            if change.reach == Reach::All {
                self.spoil_watchers(space, db, key);
                self.invalidate(space, db, key, change.class);
            }
            if self.unit.mask.any(change.class) {
                self.notify(space, db, key, change.event, change.class);
            }
            if change.reach != Reach::Subscribers {
                self.note_ready(space, db, key);
            }
        }
        self.unit.give_back(tale);
        self.stream_unit();
        for garbage in self.unit.take_garbage() {
            self.jobs.push(Job::Free(Box::new(move || drop(garbage))));
        }
    }

    fn spoil_watchers(&mut self, space: SpaceId, db: u32, key: &[u8]) {
        let Engine { keyspace, clients, .. } = self;
        let (database, _) = keyspace.db(space, db);
        if database.interest.of(key).is_none() {
            return;
        }
        let gone = database.find(hash(key), key).is_none();
        let Some(interested) = database.interest.of_mut(key) else { return };
        for watcher in &mut interested.watchers {
            if std::mem::take(&mut watcher.stale) && gone {
                // What had expired before it was watched has been removed: to the watcher it never was there.
                continue;
            }
            // What it watched before it gave that up is nothing to it.
            if let Some(client) = clients.get_mut(watcher.client).filter(|of| of.watch_round == watcher.round)
            {
                client.spoilt = true;
            }
        }
    }

    fn note_ready(&mut self, space: SpaceId, db: u32, key: &[u8]) {
        let Some(interested) = self.keyspace.db(space, db).0.interest.of_mut(key) else { return };
        if !interested.waiters.is_empty() && !std::mem::replace(&mut interested.is_ready, true) {
            self.blocked.ready.push_back((space, db, key.into()));
        }
    }

    /// Keyspace notifications.
    fn notify(&mut self, space: SpaceId, db: u32, key: &[u8], event: &str, class: EventClass) {
        let wanted = self.config.notifications.notify_keyspace_events;
        if !wanted.any(class) {
            return;
        }
        if wanted.any(event::KEYSPACE) {
            let channel = [format!("__keyspace@{db}__:").as_bytes(), key].concat();
            self.deliver_all(space, &channel, event.as_bytes());
        }
        if wanted.any(event::KEYEVENT) {
            self.deliver_all(space, format!("__keyevent@{db}__:{event}").as_bytes(), key);
        }
    }

    fn stream_unit(&mut self) {
        let commands = self.unit.take_said();
        if commands.is_empty() {
            return;
        }
        let is_whole = self.unit.take_wholeness();
        let unit = StreamUnit { offset: self.stream_offset, commands, is_whole };
        self.stream_offset += unit.commands.len() as u64;
        self.feed_journal(&unit);
        self.replication.feed(&unit);
        for reader in &mut self.readers {
            reader.unit(&unit);
        }
        self.unit.give_said_back(unit.commands);
    }
}
