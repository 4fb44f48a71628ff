//! The limit of memory: what is evicted before a command, and which commands are refused.

use mortise_sdk::declare::flags;

use super::Engine;
use super::call::Key;
use super::event;
use super::gates::is_exec;
use super::registry::Command;
use super::session::Session;
use super::unit::removal;
use crate::admin::latency::events::Event;
use crate::keys::{EvictionPolicy, info};
use crate::keyspace::SpaceId;
use crate::keyspace::evict::{self, Judge, Pool};

/// How long one command evicts at most, unless `maxmemory-eviction-tenacity` says otherwise: the next goes on, and so
/// does the clock. It keeps a lowered limit from holding the engine for long.
const EVICTION_NS_MAX: u64 = 500_000;

/// After how many keys it is looked at all memory again.
const LOOK_PERIOD: u32 = 16;

/// How soon the clock goes on.
const REST_MS: i64 = 1;

/// How often the log says that keys go for the sake of something else than keys.
const LOG_PERIOD_MS: i64 = 60_000;

/// What eviction remembers from one command to the next.
#[derive(Default)]
pub(super) struct Eviction {
    pool: Pool,
    /// When the clock goes on with what has not been finished: Unix milliseconds.
    next_ms: Option<i64>,
    /// When it was last looked at what else takes memory.
    looked_ms: i64,
}

impl Engine {
    /// Before a command, if there is a limit: evicts until memory is within it again. What is then true of memory is what
    /// the gate goes by. The time it takes is nobody's.
    #[cold]
    pub(super) fn make_room(&mut self) {
        self.out_of_memory = false;
        self.eviction.next_ms = None;
        let is_left_to_primary =
            self.replication.is_replica() && self.config.replication.replica_ignore_maxmemory;
        if self.loading || is_left_to_primary || self.clients.pause.stops_writes(self.now_ms) {
            return;
        }
        let limit = self.config.keyspace.maxmemory.0;
        let mut used = self.counted_for_evict();
        if used > limit && self.limit_other_clients() {
            used = self.counted_for_evict();
        }
        if used <= limit {
            self.within_limit();
            return;
        }
        // What is to be freed is known from the beginning: messages about what has gone take memory, too, and more would go
        // for their sake, until nothing is left.
        let (mut missing, mut count) = ((used - limit) as i64, 0);
        let start_ns = self.lap_ns;
        let took_ns_max = eviction_ns_max(self.config.keyspace.maxmemory_eviction_tenacity);
        while missing > 0 {
            if self.lap_ns - start_ns > took_ns_max {
                // More will go: this command is let through, as long as there is something to evict.
                self.eviction.next_ms = Some(self.now_ms + REST_MS);
                break;
            }
            let Some(freed) = self.evict_one() else {
                self.out_of_memory = true;
                break;
            };
            self.settle();
            self.bring_forward();
            self.lap();
            (missing, count) = (missing - freed, count + 1);
            // Meanwhile others may have freed something as well.
            if count % LOOK_PERIOD == 0 && self.counted_for_evict() <= limit {
                missing = 0;
            }
        }
        self.eviction.pool.rest();
        let took_ns = self.lap() - start_ns;
        self.note_latency(Event::EvictionCycle, took_ns);
        if missing <= 0 {
            self.within_limit();
        } else {
            self.stats.over_limit_since_ns.get_or_insert(start_ns);
        }
        if self.now_ms - self.eviction.looked_ms >= LOG_PERIOD_MS {
            self.eviction.looked_ms = self.now_ms;
            self.say_what_else_takes_memory(limit);
        }
    }

    /// Bytes that `maxmemory` limits.
    fn counted_for_evict(&mut self) -> u64 {
        self.memory.in_use(self.lap_ns).saturating_sub(self.not_counted_for_evict())
    }

    /// Bytes that `maxmemory` does not limit: keys that go make what waits to be appended longer, and what waits to be sent
    /// to replicas.
    pub(crate) fn not_counted_for_evict(&self) -> u64 {
        self.journal.buffer_memory() + self.behind_memory()
    }

    fn within_limit(&mut self) {
        let over_ns = self.over_limit_ns();
        self.stats.over_limit_ns += over_ns;
        self.stats.over_limit_since_ns = None;
    }

    /// For how long more memory has been used than the limit allows, if that is so.
    pub(crate) fn over_limit_ns(&self) -> u64 {
        self.stats.over_limit_since_ns.map_or(0, |since_ns| self.lap_ns.saturating_sub(since_ns))
    }

    /// Clients and scripts count as well, as in Redis. Where they take much, keys go for their sake, which is rarely what
    /// was wanted.
    fn say_what_else_takes_memory(&self, limit: u64) {
        let (clients, scripts) = (info::clients(self), info::scripts(self) + info::lua(self));
        if clients + scripts > limit / 2 {
            tracing::warn!(
                "maxmemory is {limit} bytes, of which clients take {clients} and scripts {scripts}: keys are evicted, or \
                 commands refused, for their sake. maxmemory-clients and client-output-buffer-limit limit clients"
            );
        }
    }

    /// Evicts the key that will be missed least, and says how many bytes that has freed; nothing if the policy admits none.
    fn evict_one(&mut self) -> Option<i64> {
        let (space, index, key) = self.victim()?;
        let (dirty, before) = (self.unit.dirty, self.memory.given_up());
        self.remove_key(space, index, Key::new(&key), "evicted", event::EVICTED);
        let freed = self.memory.given_up() - before;
        self.stats.evicted_keys += 1;
        let word = removal(self.config.keyspace.lazyfree_lazy_eviction);
        self.unit.say_words(space, index, &[word, &key]);
        // Said above; the command that follows has changed nothing by that.
        self.unit.dirty = dirty;
        Some(freed)
    }

    fn victim(&mut self) -> Option<(SpaceId, u32, Box<[u8]>)> {
        let config = &self.config.keyspace;
        let (policy, samples) = (config.maxmemory_policy, config.maxmemory_samples as usize);
        if policy == EvictionPolicy::NoEviction {
            return None;
        }
        let places = self.keyspace.places();
        if policy.is_random() {
            let (space, index) = self.random_place(places, policy.needs_deadline())?;
            let Engine { keyspace, random, .. } = self;
            let db = keyspace.existing(space, index)?;
            let entry = evict::any(db, policy, &mut || random.word())?;
            return Some((space, index, entry.key().into()));
        }
        let judge = Judge { policy, clock: self.clock24, now_ms: self.now_ms, samples };
        let Engine { keyspace, random, eviction, .. } = self;
        // If all candidates of old have been used since, those that are drawn then are none the less there.
        (0..2).find_map(|_| {
            for &place in &places {
                if let Some(db) = keyspace.existing(place.0, place.1) {
                    eviction.pool.offer(db, place, &judge, &mut || random.word());
                }
            }
            eviction.pool.take(keyspace, &judge)
        })
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
            true => transaction.queue.iter().any(|queued| {
                queued.command.flags.has(flags::DENYOOM)
                    || queued.command.flags.has(flags::SUSPENDS)
                        && self.scripting.wants_memory(session.space, &queued.command, queued.args.view())
            }),
            false => command.flags.has(flags::DENYOOM) || !command.flags.has(flags::NOT_QUEUED),
        }
    }

    /// A limit that was lowered takes effect at once, and goes on to with every tick.
    pub(crate) fn keep_within_limit(&mut self) {
        if self.config.keyspace.maxmemory.0 > 0 {
            self.make_room();
        } else {
            self.eviction.next_ms = None;
            self.within_limit();
        }
    }

    /// `maxmemory` was set: what is beyond it goes without waiting for the next command.
    pub(crate) fn limit_changed(&mut self) {
        let limit = self.config.keyspace.maxmemory.0;
        self.memory.sample();
        if limit > 0 && self.counted_for_evict() > limit {
            tracing::warn!(
                "the new maxmemory value set via CONFIG SET ({limit}) is smaller than the current memory usage ({}). This \
                 will result in key eviction and/or the inability to accept new write commands depending on the \
                 maxmemory-policy.",
                self.memory.allocated
            );
            self.eviction.next_ms = Some(self.now_ms);
        }
    }

    /// Whether eviction goes on by itself.
    pub fn is_evicting(&self) -> bool {
        self.eviction.next_ms.is_some()
    }

    /// Goes on with eviction that has not come to its end, if its time has come.
    pub(super) fn go_on_evicting(&mut self) {
        if self.eviction_due_ms().is_some_and(|next| next <= self.now_ms) {
            self.keep_within_limit();
        }
    }

    /// When that is: Unix milliseconds.
    pub(super) fn eviction_due_ms(&self) -> Option<i64> {
        self.eviction.next_ms
    }
}

/// How long one command may evict.
fn eviction_ns_max(tenacity: u32) -> u64 {
    const MODERATE: u32 = 10;
    const LIMITLESS: u32 = 100;
    match tenacity {
        0..=MODERATE => EVICTION_NS_MAX / u64::from(MODERATE) * u64::from(tenacity),
        LIMITLESS.. => u64::MAX,
        _ => (EVICTION_NS_MAX as f64 * 1.15f64.powi((tenacity - MODERATE) as i32)) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::eviction_ns_max;

    #[test]
    fn tenacity_is_time() {
        for (tenacity, us) in [(0, 0), (1, 50), (10, 500), (11, 575), (20, 2_022), (50, 133_931)] {
            assert_eq!(eviction_ns_max(tenacity) / 1000, us, "{tenacity}");
        }
        assert!((100_000_000_000..200_000_000_000).contains(&eviction_ns_max(99)), "two minutes");
        assert_eq!(eviction_ns_max(100), u64::MAX);
    }
}
