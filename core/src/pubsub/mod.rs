//! Channels: who listens, and sending to them.
//!
//! A message is encoded once for each protocol and handed to every listener's outbox.

pub mod channels;
mod commands;
pub mod patterns;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mortise_sdk::config;
use mortise_sdk::resp::encode::{self, Version};

use crate::config::values::EventClasses;
use crate::engine::Engine;
use crate::engine::outbox::Outbox;
use crate::engine::session::ClientId;
use crate::features::Feature;
use crate::keyspace::SpaceId;
use channels::{Channels, Listeners};
use patterns::Patterns;

/// Publish and subscribe.
pub const FEATURE: Feature = Feature {
    name: "pubsub",
    commands: &[commands::COMMANDS],
    config: NotificationsConfig::directives(),
    ..Feature::EMPTY
};

config! {
    /// Keyspace notifications.
    pub struct NotificationsConfig {
        /// Which key changes are published, by letter: K on keyspace channels, E on keyevent channels; g generic,
        /// $ string, l list, s set, h hash, z sorted set, t stream, d module, x expired, e evicted, m missed, n new;
        /// A stands for g$lshztxed. K or E is needed for anything to be published.
        live notify_keyspace_events: EventClasses = EventClasses(0);
    }
}

/// What can be listened to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Channels, to which PUBLISH sends.
    Channel,
    /// Patterns of their names.
    Pattern,
    /// Sharded channels, to which SPUBLISH sends. They are names of their own, and no pattern matches them.
    Shard,
}

/// Channels and patterns of a space, with their listeners.
#[derive(Default)]
pub struct PubSub {
    /// Channels by name.
    pub channels: Channels,
    /// Patterns.
    pub patterns: Patterns,
    /// Sharded channels by name.
    pub shards: Channels,
}

impl PubSub {
    /// Channels by name: the sharded ones, or the others.
    pub fn named(&self, kind: Kind) -> &Channels {
        match kind {
            Kind::Channel | Kind::Pattern => &self.channels,
            Kind::Shard => &self.shards,
        }
    }

    /// A client begins to listen.
    pub fn add(&mut self, kind: Kind, name: &[u8], id: ClientId, outbox: Arc<Outbox>) {
        match kind {
            Kind::Channel => self.channels.add(name, id, outbox),
            Kind::Pattern => self.patterns.add(name, id, outbox),
            Kind::Shard => self.shards.add(name, id, outbox),
        }
    }

    /// A client no longer listens.
    pub fn remove(&mut self, kind: Kind, name: &[u8], id: ClientId) {
        match kind {
            Kind::Channel => self.channels.remove(name, id),
            Kind::Pattern => self.patterns.remove(name, id),
            Kind::Shard => self.shards.remove(name, id),
        }
    }
}

/// The channels of all spaces: a message stays in the space in which it was published.
#[derive(Default)]
pub struct PubSubs(BTreeMap<SpaceId, PubSub>);

impl PubSubs {
    /// Those of a space.
    pub fn of(&mut self, space: SpaceId) -> &mut PubSub {
        self.0.entry(space).or_default()
    }

    /// Those of each space.
    pub fn iter(&self) -> impl Iterator<Item = &PubSub> {
        self.0.values()
    }
}

/// Who listens in a space, taken out of the engine while a message is handed to them. They come back whatever happens: a
/// panic costs a connection, and not all subscriptions.
struct Aside<'a> {
    engine: &'a mut Engine,
    space: SpaceId,
    pubsub: PubSub,
}

impl<'a> Aside<'a> {
    #[inline(always)]
    fn take(engine: &'a mut Engine, space: SpaceId) -> Aside<'a> {
        let pubsub = std::mem::take(engine.pubsub.of(space));
        Aside { engine, space, pubsub }
    }
}

impl Drop for Aside<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.engine.pubsub.of(self.space) = std::mem::take(&mut self.pubsub);
    }
}

/// A message as it goes over the wire, encoded when the first listener of a protocol needs it.
struct Frame<'a> {
    parts: &'a [&'a [u8]],
    encoded: [Option<Bytes>; 2],
}

impl<'a> Frame<'a> {
    fn new(parts: &'a [&'a [u8]]) -> Frame<'a> {
        Frame { parts, encoded: [None, None] }
    }

    fn encode(&mut self, version: Version) -> &Bytes {
        let parts = self.parts;
        self.encoded[usize::from(version == Version::Resp3)].get_or_insert_with(|| {
            let mut frame = Vec::with_capacity(64 + parts.iter().map(|part| part.len() + 16).sum::<usize>());
            encode::push(&mut frame, version, parts.len());
            parts.iter().for_each(|part| encode::bulk(&mut frame, part));
            frame.into()
        })
    }
}

impl Engine {
    /// Sends a message to everyone in a space who listens to a sharded channel; says how many they are. It leaves when
    /// other messages would.
    pub fn publish_sharded(&mut self, space: SpaceId, channel: &[u8], message: &[u8]) -> usize {
        if self.unit.has_to_tell() || self.keyspace.may_abort() {
            self.unit.send(space, Kind::Shard, channel, message);
            return self.pubsub.of(space).shards.get(channel).map_or(0, Listeners::len);
        }
        self.deliver_sharded(space, channel, message)
    }

    /// Hands a message to everyone in a space who listens to a sharded channel.
    pub(crate) fn deliver_sharded(&mut self, space: SpaceId, channel: &[u8], message: &[u8]) -> usize {
        let mut aside = Aside::take(self, space);
        let Aside { engine, pubsub, .. } = &mut aside;
        let parts: [&[u8]; 3] = [b"smessage", channel, message];
        pubsub.shards.get(channel).map_or(0, |listeners| engine.deliver_to(listeners, &parts))
    }

    /// Sends a message to everyone in a space who listens to a channel, by its name or by a pattern; says how many they
    /// are. It leaves at once, unless the unit has changes to tell before, or may still be aborted.
    pub fn publish(&mut self, space: SpaceId, channel: &[u8], message: &[u8]) -> usize {
        if self.unit.has_to_tell() || self.keyspace.may_abort() {
            self.unit.send(space, Kind::Channel, channel, message);
            let pubsub = self.pubsub.of(space);
            let by_name = pubsub.channels.get(channel).map_or(0, |listeners| listeners.len());
            let by_pattern: usize =
                pubsub.patterns.matching(channel).map(|(_, listeners)| listeners.len()).sum();
            return by_name + by_pattern;
        }
        self.deliver_all(space, channel, message)
    }

    /// Hands a message to everyone in a space who listens to a channel.
    pub(crate) fn deliver_all(&mut self, space: SpaceId, channel: &[u8], message: &[u8]) -> usize {
        let mut aside = Aside::take(self, space);
        let Aside { engine, pubsub, .. } = &mut aside;
        let mut receivers = 0;
        if let Some(listeners) = pubsub.channels.get(channel) {
            receivers += engine.deliver_to(listeners, &[b"message", channel, message]);
        }
        for (pattern, listeners) in pubsub.patterns.matching(channel) {
            receivers += engine.deliver_to(listeners, &[b"pmessage", pattern, channel, message]);
        }
        receivers
    }

    /// Hands a message of such parts to all listeners; says how many they are.
    fn deliver_to(&mut self, listeners: &Listeners, parts: &[&[u8]]) -> usize {
        let mut frame = Frame::new(parts);
        for listener in listeners.iter() {
            self.deliver(listener.id, &listener.outbox, frame.encode(listener.version()));
        }
        listeners.len()
    }

    /// A client listens to nothing any more.
    pub(crate) fn unsubscribe_all(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let pubsub = self.pubsub.of(client.space);
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            for name in client.unlisten_all(kind) {
                pubsub.remove(kind, &name, id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::engine::testing::Bench;

    #[test]
    fn subscriptions_survive_a_panic_while_a_message_is_delivered() {
        let mut bench = Bench::new();
        bench.engine.pubsub.of(SpaceId::FIRST).add(Kind::Channel, b"news", 1, Arc::default());
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let result = catch_unwind(AssertUnwindSafe(|| {
            let aside = Aside::take(&mut bench.engine, SpaceId::FIRST);
            assert!(aside.engine.pubsub.of(SpaceId::FIRST).channels.is_empty(), "they are aside");
            panic!("while it is delivered");
        }));
        std::panic::set_hook(hook);
        assert!(result.is_err());
        assert_eq!(bench.engine.pubsub.of(SpaceId::FIRST).channels.len(), 1);
    }
}
