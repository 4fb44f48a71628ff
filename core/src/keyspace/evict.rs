//! Which key goes when memory is short: samples of entries, and of them the one that will be missed least.
//!
//! The policies are Redis's. How well they are followed depends on how much is sampled, `maxmemory-samples` entries for
//! each key that goes, and on what is remembered of earlier samples: the best of them wait in a pool for their turn. A
//! candidate that has been used since it was drawn is no longer one.

use super::db::Db;
use super::entry::Entry;
use super::hash::hash;
use super::{Keyspace, SpaceId};
use crate::engine::access::AccessClock;
use crate::keys::EvictionPolicy;

/// How many candidates are remembered.
const POOL_LEN_MAX: usize = 16;
/// Longer keys are not remembered from one command to the next.
const KEY_LEN_MAX: usize = 1024;

/// What makes one key go before another, at a moment.
#[derive(Clone, Copy)]
pub struct Judge {
    /// The policy.
    pub policy: EvictionPolicy,
    /// The clock that entries carry.
    pub clock: AccessClock,
    /// Unix milliseconds.
    pub now_ms: i64,
    /// How many entries are looked at.
    pub samples: usize,
}

impl Judge {
    /// How little an entry will be missed: more is less. Does not change as long as the entry is left alone, or rises.
    fn score(&self, entry: &Entry) -> u64 {
        match self.policy {
            EvictionPolicy::AllKeysLru | EvictionPolicy::VolatileLru => {
                let used_s = self.now_ms / 1000 - i64::from(self.clock.idle_seconds(entry.clock()));
                u64::MAX - used_s.max(0) as u64
            }
            EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => {
                u64::from(u8::MAX - self.clock.frequency(entry.clock()).min(u8::MAX.into()) as u8)
            }
            EvictionPolicy::VolatileTtl => u64::MAX - entry.deadline().unwrap_or(i64::MAX).max(0) as u64,
            _ => 0,
        }
    }

    fn admits(&self, entry: &Entry) -> bool {
        !self.policy.needs_deadline() || entry.has_deadline()
    }
}

/// An entry of a database that a policy admits, each as likely as any other. Nothing if there is none.
pub fn any<'a>(db: &'a Db, policy: EvictionPolicy, random: &mut dyn FnMut() -> u64) -> Option<&'a Entry> {
    match policy.needs_deadline() {
        true => db.dict().sample_expiring(random),
        false => db.dict().sample_evenly(random),
    }
}

/// Keys that may go next.
#[derive(Default)]
pub struct Pool {
    policy: Option<EvictionPolicy>,
    /// The one that will be missed least is the last.
    candidates: Vec<Candidate>,
}

struct Candidate {
    score: u64,
    place: (SpaceId, u32),
    hash: u64,
    key: Box<[u8]>,
}

impl Pool {
    /// Draws entries of a database, and remembers those that are worth it.
    pub fn offer(&mut self, db: &Db, place: (SpaceId, u32), judge: &Judge, random: &mut dyn FnMut() -> u64) {
        if self.policy != Some(judge.policy) {
            // What was weighed in another way cannot be compared.
            *self = Pool { policy: Some(judge.policy), candidates: Vec::with_capacity(POOL_LEN_MAX) };
        }
        for _ in 0..judge.samples {
            let Some(entry) = any(db, judge.policy, &mut *random) else { return };
            self.remember(entry, judge.score(entry), place);
        }
    }

    fn remember(&mut self, entry: &Entry, score: u64, place: (SpaceId, u32)) {
        let mut at = self.candidates.partition_point(|known| known.score < score);
        if at == 0 && self.candidates.len() == POOL_LEN_MAX {
            return;
        }
        let key = entry.key();
        let same = |known: &Candidate| known.place == place && *known.key == *key;
        if let Some(known) = self.candidates.iter().position(same) {
            // Drawn again; it may have been used or have got older meanwhile.
            let mut candidate = self.candidates.remove(known);
            candidate.score = score;
            self.candidates.insert(at - usize::from(known < at), candidate);
            return;
        }
        if self.candidates.len() == POOL_LEN_MAX {
            self.candidates.remove(0);
            at -= 1;
        }
        self.candidates.insert(at, Candidate { score, place, hash: hash(key), key: key.into() });
    }

    /// Takes the key that will be missed least. Nothing if none is left that is as dispensable as when it was drawn.
    pub fn take(&mut self, keyspace: &Keyspace, judge: &Judge) -> Option<(SpaceId, u32, Box<[u8]>)> {
        while let Some(Candidate { score, place: (space, index), hash, key }) = self.candidates.pop() {
            let entry = keyspace.existing(space, index).and_then(|db| db.find(hash, &key));
            if entry.is_some_and(|entry| judge.admits(entry) && judge.score(entry) >= score) {
                return Some((space, index, key));
            }
        }
        None
    }

    /// Eviction is over for now: what is remembered until the next time is to be small.
    pub fn rest(&mut self) {
        self.candidates.retain(|candidate| candidate.key.len() <= KEY_LEN_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::super::NewValue;
    use super::*;
    use crate::engine::random::Random;
    use crate::keys::KeyspaceConfig;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn judge(policy: EvictionPolicy, samples: usize) -> Judge {
        let config = KeyspaceConfig { maxmemory_policy: policy, ..KeyspaceConfig::default() };
        Judge { policy, clock: AccessClock::new(NOW_MS, &config, || 1), now_ms: NOW_MS, samples }
    }

    /// Keys 0…199: the higher the number, the longer ago it was used and the sooner it expires; odd ones have a deadline.
    fn keyspace(clock: AccessClock) -> Keyspace {
        let mut keyspace = Keyspace::default();
        let (db, door) = keyspace.db(SpaceId::FIRST, 0);
        for n in 0..200u32 {
            let key = n.to_string().into_bytes();
            let mut edit = db.put(door, hash(&key), &key, NewValue::Integer(0)).0;
            edit.set_clock(clock.idle_for(n));
            edit.set_deadline((n % 2 == 1).then_some(1_000_000 - i64::from(n)));
        }
        keyspace
    }

    fn number(key: &[u8]) -> u64 {
        std::str::from_utf8(key).unwrap().parse().unwrap()
    }

    #[test]
    fn policies_choose_as_they_say() {
        for policy in [EvictionPolicy::AllKeysLru, EvictionPolicy::VolatileLru, EvictionPolicy::VolatileTtl] {
            let judge = judge(policy, 10);
            let keyspace = keyspace(judge.clock);
            let db = keyspace.existing(SpaceId::FIRST, 0).unwrap();
            let (mut random, mut sum) = (Random::new(7), 0);
            for _ in 0..300 {
                let mut pool = Pool::default();
                pool.offer(db, (SpaceId::FIRST, 0), &judge, &mut || random.word());
                let (_, _, key) = pool.take(&keyspace, &judge).expect("there are keys");
                let n = number(&key);
                assert!(!policy.needs_deadline() || n % 2 == 1, "{policy:?} takes keys with a deadline only");
                sum += n;
            }
            assert!(sum / 300 > 160, "{policy:?}");
        }
        for policy in [EvictionPolicy::AllKeysRandom, EvictionPolicy::VolatileRandom] {
            let keyspace = keyspace(judge(policy, 10).clock);
            let db = keyspace.existing(SpaceId::FIRST, 0).unwrap();
            let mut random = Random::new(7);
            let sum: u64 =
                (0..300).map(|_| number(any(db, policy, &mut || random.word()).unwrap().key())).sum();
            assert!((70..130).contains(&(sum / 300)), "{policy:?}");
        }
    }

    #[test]
    fn the_best_of_earlier_samples_wait_for_their_turn() {
        let judge = judge(EvictionPolicy::AllKeysLru, 40);
        let keyspace = keyspace(judge.clock);
        let db = keyspace.existing(SpaceId::FIRST, 0).unwrap();
        let (mut pool, mut random) = (Pool::default(), Random::new(3));
        pool.offer(db, (SpaceId::FIRST, 0), &judge, &mut || random.word());
        let taken: Vec<u64> =
            std::iter::from_fn(|| pool.take(&keyspace, &judge)).map(|(_, _, key)| number(&key)).collect();
        assert_eq!(taken.len(), POOL_LEN_MAX);
        assert!(taken.is_sorted_by(|one, next| one > next), "each once, the oldest first: {taken:?}");
        assert!(taken[POOL_LEN_MAX - 1] > 80, "the best of forty: {taken:?}");
    }

    #[test]
    fn what_has_been_used_or_has_gone_is_no_candidate() {
        let judge = judge(EvictionPolicy::VolatileLru, 200);
        let mut keyspace = keyspace(judge.clock);
        let (mut pool, mut random) = (Pool::default(), Random::new(3));
        let db = keyspace.existing(SpaceId::FIRST, 0).unwrap();
        (0..10).for_each(|_| pool.offer(db, (SpaceId::FIRST, 0), &judge, &mut || random.word()));
        let (db, door) = keyspace.db(SpaceId::FIRST, 0);
        db.edit(door, hash(b"199"), b"199").unwrap().set_clock(judge.clock.idle_for(0));
        db.edit(door, hash(b"197"), b"197").unwrap().set_deadline(None);
        db.remove(door, hash(b"195"), b"195");
        let (_, _, key) = pool.take(&keyspace, &judge).expect("others are there");
        assert_eq!(*key, *b"193");
    }

    #[test]
    fn another_policy_begins_anew_and_long_keys_are_not_kept() {
        let long = [b'9'; KEY_LEN_MAX + 1];
        let lru = judge(EvictionPolicy::AllKeysLru, 200);
        let mut keyspace = keyspace(lru.clock);
        let (db, door) = keyspace.db(SpaceId::FIRST, 0);
        db.put(door, hash(&long), &long, NewValue::Integer(0)).0.set_clock(lru.clock.idle_for(300));
        let (mut pool, mut random) = (Pool::default(), Random::new(3));
        let db = keyspace.existing(SpaceId::FIRST, 0).unwrap();
        (0..20).for_each(|_| pool.offer(db, (SpaceId::FIRST, 0), &lru, &mut || random.word()));
        assert_eq!(pool.candidates.last().unwrap().key.len(), long.len());
        pool.rest();
        assert_eq!(*pool.candidates.last().unwrap().key, *b"199");
        let ttl = judge(EvictionPolicy::VolatileTtl, 1);
        pool.offer(db, (SpaceId::FIRST, 0), &ttl, &mut || random.word());
        assert_eq!(pool.candidates.len(), 1);
    }
}
