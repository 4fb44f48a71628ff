//! The limit of memory: what is evicted before a command, and which commands are refused.

use mortise_sdk::declare::flags;

use super::Engine;
use super::call::Key;
use super::event;
use super::gates::is_exec;
use super::registry::Command;
use super::session::Session;
use crate::admin::latency::events::Event;
use crate::keys::EvictionPolicy;
use crate::keyspace::{SpaceId, evict};

/// How long one command evicts at most, as Redis does by default; the next goes on. It keeps a lowered limit from holding
/// the engine for long.
const EVICTION_NS_MAX: u64 = 500_000;

impl Engine {
    /// Before a command, if there is a limit: evicts until memory is within it again. What is then true of memory is what
    /// the gate goes by. The time it takes is nobody's.
    #[cold]
    pub(super) fn make_room(&mut self) {
        self.out_of_memory = false;
        if self.loading || self.clients.pause.stops_writes(self.now_ms) {
            return;
        }
        let limit = self.config.keyspace.maxmemory.0;
        let mut used = self.memory.in_use(self.lap_ns);
        if used <= limit {
            return;
        }
        let start_ns = self.lap_ns;
        while used > limit {
            if self.lap_ns - start_ns > EVICTION_NS_MAX {
                // More will go with the next command: this one is let through, as long as there is something to evict.
                break;
            }
            if !self.evict_one() {
                self.out_of_memory = true;
                break;
            }
            self.settle();
            self.bring_forward();
            self.lap();
            used = self.memory.in_use(self.lap_ns);
        }
        let took_ns = self.lap() - start_ns;
        self.note_latency(Event::EvictionCycle, took_ns);
    }

    /// Evicts the key that will be missed least; false if the policy admits none.
    fn evict_one(&mut self) -> bool {
        let Some((space, index, key)) = self.victim() else { return false };
        let dirty = self.unit.dirty;
        self.remove_key(space, index, Key::new(&key), "evicted", event::EVICTED);
        self.stats.evicted_keys += 1;
        self.unit.say_words(space, index, &[b"DEL", &key]);
        // Said above; the command that follows has changed nothing by that.
        self.unit.dirty = dirty;
        true
    }

    fn victim(&mut self) -> Option<(SpaceId, u32, Box<[u8]>)> {
        let policy = self.config.keyspace.maxmemory_policy;
        if policy == EvictionPolicy::NoEviction {
            return None;
        }
        let (samples, clock) = (self.config.keyspace.maxmemory_samples as usize, self.clock24);
        let mut places = self.keyspace.places();
        if policy.is_random() {
            places = self.random_place(places, policy.needs_deadline()).into_iter().collect();
        }
        let mut best: Option<(u64, _, u32, Box<[u8]>)> = None;
        for (space, index) in places {
            let Engine { keyspace, random, .. } = self;
            let db = keyspace.db(space, index).0;
            let found = evict::victim(db, policy, clock, samples, &mut || random.word());
            if let Some((score, entry)) = found
                && best.as_ref().is_none_or(|(known, ..)| score > *known)
            {
                best = Some((score, space, index, entry.key().into()));
            }
        }
        best.map(|(_, space, index, key)| (space, index, key))
    }

    /// A database, drawn by its share of the keys that may go.
    fn random_place(&mut self, places: Vec<(SpaceId, u32)>, expiring: bool) -> Option<(SpaceId, u32)> {
        let len = |engine: &mut Engine, (space, index)| {
            let dict = engine.keyspace.db(space, index).0.dict();
            if expiring { dict.expiring() } else { dict.len() }
        };
        let lens: Vec<usize> = places.iter().map(|place| len(self, *place)).collect();
        let total: usize = lens.iter().sum();
        let mut drawn = self.random.word() % total.max(1) as u64;
        places.into_iter().zip(lens).find_map(|(place, len)| {
            if drawn < len as u64 {
                return Some(place);
            }
            drawn -= len as u64;
            None
        })
    }

    /// Whether memory is short for a command: one that may use more, or that would be kept for EXEC.
    #[inline(always)]
    pub(super) fn lacks_memory(&self, session: &Session, command: &Command) -> bool {
        self.out_of_memory && self.wants_memory(session, command)
    }

    #[cold]
    fn wants_memory(&self, session: &Session, command: &Command) -> bool {
        let Some(transaction) = &session.transaction else { return command.flags.has(flags::DENYOOM) };
        match is_exec(command) {
            true => transaction.queue.iter().any(|queued| queued.command.flags.has(flags::DENYOOM)),
            false => command.flags.has(flags::DENYOOM) || !command.flags.has(flags::NOT_QUEUED),
        }
    }

    /// A limit that was lowered takes effect at once, and goes on to with every tick.
    pub(crate) fn keep_within_limit(&mut self) {
        if self.config.keyspace.maxmemory.0 > 0 {
            self.make_room();
        }
    }
}
