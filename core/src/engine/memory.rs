//! The limit of memory: what is evicted before a command, and which commands are refused.

use mortise_sdk::declare::flags;

use super::Engine;
use super::call::Key;
use super::event;
use super::gates::is_exec;
use super::registry::Command;
use super::session::Session;
use crate::keys::EvictionPolicy;
use crate::keyspace::entry::Payload;
use crate::keyspace::evict;

/// Keys that one command evicts at most; the next goes on. It keeps a lowered limit from holding the engine for long.
const EVICTED_MAX: usize = 64;

impl Engine {
    /// Before a command, if there is a limit: evicts until memory is within it again. What is then true of memory is what
    /// the gate goes by.
    #[cold]
    pub(super) fn make_room(&mut self) {
        self.out_of_memory = false;
        let limit = self.config.keyspace.maxmemory.0;
        self.memory.sample();
        // What is large is freed on the worker, so the allocator would not show at once what has been gained.
        let (mut evicted, mut gained) = (0, 0);
        while self.memory.allocated.saturating_sub(gained) > limit {
            if evicted >= EVICTED_MAX {
                // More will go with the next command: this one is let through, as long as there is something to evict.
                return;
            }
            let Some(bytes) = self.evict_one() else {
                self.out_of_memory = true;
                return;
            };
            evicted += 1;
            gained += bytes as u64;
        }
        self.settle();
    }

    /// Evicts the key that will be missed least; says how many bytes it held, nothing if the policy admits none.
    fn evict_one(&mut self) -> Option<usize> {
        let policy = self.config.keyspace.maxmemory_policy;
        if policy == EvictionPolicy::NoEviction {
            return None;
        }
        let (samples, clock) = (self.config.keyspace.maxmemory_samples as usize, self.clock24);
        let mut best: Option<(u64, _, u32, Box<[u8]>)> = None;
        for (space, index) in self.keyspace.places() {
            let Engine { keyspace, random, .. } = self;
            let db = keyspace.db(space, index).0;
            let found = evict::victim(db, policy, clock, samples, &mut || random.word());
            if let Some((score, entry)) = found
                && best.as_ref().is_none_or(|(known, ..)| score > *known)
            {
                best = Some((score, space, index, entry.key().into()));
            }
        }
        let (_, space, index, key) = best?;
        let bytes = self.keyspace.db(space, index).0.find(Key::new(&key).hash, &key).map_or(0, |entry| {
            let object = match entry.payload() {
                Payload::Object(object) => object.memory(),
                _ => 0,
            };
            entry.memory() + object
        });
        let dirty = self.unit.dirty;
        self.remove_key(space, index, Key::new(&key), "evicted", event::EVICTED);
        self.stats.evicted_keys += 1;
        self.unit.say_words(space, index, &[b"DEL", &key]);
        // Said above; the command that follows has changed nothing by that.
        self.unit.dirty = dirty;
        Some(bytes)
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
