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

    /// Those of a space, if it has any.
    pub fn get(&self, space: SpaceId) -> Option<&PubSub> {
        self.0.get(&space)
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
            let pubsub = self.pubsub.get(space);
            let listeners = pubsub.and_then(|pubsub| pubsub.shards.get(channel));
            return listeners.map_or(0, |listeners| self.count_listeners(Kind::Shard, channel, listeners));
        }
        self.deliver_sharded(space, channel, message)
    }

    /// Hands a message to everyone in a space who listens to a sharded channel.
    pub(crate) fn deliver_sharded(&mut self, space: SpaceId, channel: &[u8], message: &[u8]) -> usize {
        let mut aside = Aside::take(self, space);
        let Aside { engine, pubsub, .. } = &mut aside;
        let parts: [&[u8]; 3] = [b"smessage", channel, message];
        let listeners = pubsub.shards.get(channel);
        listeners.map_or(0, |listeners| engine.deliver_to(listeners, Kind::Shard, channel, &parts))
    }

    /// Sends a message to everyone in a space who listens to a channel, by its name or by a pattern; says how many they
    /// are. It leaves at once, unless the unit has changes to tell before, or may still be aborted.
    pub fn publish(&mut self, space: SpaceId, channel: &[u8], message: &[u8]) -> usize {
        if self.unit.has_to_tell() || self.keyspace.may_abort() {
            self.unit.send(space, Kind::Channel, channel, message);
            let Some(pubsub) = self.pubsub.get(space) else { return 0 };
            let count =
                |kind, name: &[u8], listeners: &Listeners| self.count_listeners(kind, name, listeners);
            let by_name =
                pubsub.channels.get(channel).map_or(0, |listeners| count(Kind::Channel, channel, listeners));
            let by_pattern = pubsub.patterns.matching(channel);
            return by_name
                + by_pattern
                    .map(|(pattern, listeners)| count(Kind::Pattern, pattern, listeners))
                    .sum::<usize>();
        }
        self.deliver_all(space, channel, message)
    }

    /// Hands a message to everyone in a space who listens to a channel.
    pub(crate) fn deliver_all(&mut self, space: SpaceId, channel: &[u8], message: &[u8]) -> usize {
        let mut aside = Aside::take(self, space);
        let Aside { engine, pubsub, .. } = &mut aside;
        let mut receivers = 0;
        if let Some(listeners) = pubsub.channels.get(channel) {
            let parts: [&[u8]; 3] = [b"message", channel, message];
            receivers += engine.deliver_to(listeners, Kind::Channel, channel, &parts);
        }
        for (pattern, listeners) in pubsub.patterns.matching(channel) {
            let parts: [&[u8]; 4] = [b"pmessage", pattern, channel, message];
            receivers += engine.deliver_to(listeners, Kind::Pattern, pattern, &parts);
        }
        receivers
    }

    /// Hands a message of such parts to all listeners to a name; says how many they are.
    fn deliver_to(&mut self, listeners: &Listeners, kind: Kind, name: &[u8], parts: &[&[u8]]) -> usize {
        let mut frame = Frame::new(parts);
        let mut receivers = 0;
        for listener in listeners.iter() {
            if self.listens(listener.id, kind, name) {
                self.deliver(listener.id, &listener.outbox, frame.encode(listener.version()));
                receivers += 1;
            }
        }
        receivers
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::engine::testing::Bench;

    #[test]
    fn who_has_left_is_forgotten_in_slices_and_hears_nothing_meanwhile() {
        const CHANNELS: usize = 5000;
        let mut bench = Bench::new();
        let (much, other) = (bench.connect(), bench.connect());
        bench.ask(other, &["SUBSCRIBE channel:1"]);
        for channel in 0..CHANNELS {
            bench.ask(much, &[&format!("SUBSCRIBE channel:{channel}")]);
        }
        bench.ask(much, &["PSUBSCRIBE chan*", "SSUBSCRIBE channel:1"]);
        let id = bench.id(much);
        bench.engine.disconnect(id);
        let left = |bench: &mut Bench| bench.engine.pubsub.of(SpaceId::FIRST).channels.len();
        assert_eq!(left(&mut bench), CHANNELS, "nothing is forgotten at once");
        let third = bench.connect();
        let asked = [
            ("PUBLISH channel:1 x", ":1\r\n"),
            ("PUBLISH channel:2 x", ":0\r\n"),
            ("SPUBLISH channel:1 x", ":0\r\n"),
            ("PUBSUB NUMSUB channel:1 channel:2", "*4\r\n$9\r\nchannel:1\r\n:1\r\n$9\r\nchannel:2\r\n:0\r\n"),
            ("PUBSUB CHANNELS", "*1\r\n$9\r\nchannel:1\r\n"),
        ];
        for (line, reply) in asked {
            assert_eq!(bench.ask(third, &[line]), reply, "{line}");
        }
        let mut before = CHANNELS;
        while left(&mut bench) > 1 {
            bench.engine.forget_names();
            let now = left(&mut bench);
            assert!(before - now <= 64, "{before} and then {now}");
            before = now;
        }
        while bench.engine.forget_names() {}
        let pubsub = bench.engine.pubsub.of(SpaceId::FIRST);
        assert!(pubsub.patterns.is_empty() && pubsub.shards.is_empty());
        for (line, reply) in asked {
            assert_eq!(bench.ask(third, &[line]), reply, "{line}");
        }
    }

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
