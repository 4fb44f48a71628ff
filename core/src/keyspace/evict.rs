//! Which key goes when memory is short: a sample of entries, and the one of them that will be missed least.
//!
//! The policies are Redis's. What is sampled says how well they are followed: `maxmemory-samples`.

use super::db::Db;
use super::entry::Entry;
use crate::engine::access::AccessClock;
use crate::keys::EvictionPolicy;

/// The entry to evict from a database, and how little it will be missed: more is less. Nothing if the policy admits none.
pub fn victim<'a>(
    db: &'a Db,
    policy: EvictionPolicy,
    clock: AccessClock,
    samples: usize,
    random: &mut dyn FnMut() -> u64,
) -> Option<(u64, &'a Entry)> {
    let mut best: Option<(u64, &Entry)> = None;
    for _ in 0..samples {
        let entry = match policy.needs_deadline() {
            true => db.dict().sample_expiring(&mut *random)?,
            false => db.dict().sample(&mut *random)?,
        };
        let score = dispensable(policy, clock, entry);
        if best.is_none_or(|(known, _)| score > known) {
            best = Some((score, entry));
        }
        if policy.is_random() {
            break;
        }
    }
    best
}

fn dispensable(policy: EvictionPolicy, clock: AccessClock, entry: &Entry) -> u64 {
    match policy {
        EvictionPolicy::AllKeysLru | EvictionPolicy::VolatileLru => {
            u64::from(clock.idle_seconds(entry.clock()))
        }
        EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => {
            u64::from(u8::MAX - clock.frequency(entry.clock()).min(u8::MAX.into()) as u8)
        }
        EvictionPolicy::VolatileTtl => u64::MAX - entry.deadline().unwrap_or(i64::MAX).max(0) as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Keyspace, NewValue, SpaceId, hash::hash};
    use super::*;
    use crate::engine::random::Random;
    use crate::keys::KeyspaceConfig;

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

    #[test]
    fn policies_choose_as_they_say() {
        let config = KeyspaceConfig::default();
        let clock = AccessClock::new(1_700_000_000_000, &config, || 1);
        let mut keyspace = keyspace(clock);
        let (db, _) = keyspace.db(SpaceId::FIRST, 0);
        let mut random = Random::new(7);
        let mut mean = |policy, samples| {
            let mut sum = 0;
            for _ in 0..300 {
                let (_, entry) =
                    victim(db, policy, clock, samples, &mut || random.word()).expect("there are keys");
                let n: u64 = std::str::from_utf8(entry.key()).unwrap().parse().unwrap();
                assert!(!policy.needs_deadline() || n % 2 == 1, "{policy:?} takes keys with a deadline only");
                sum += n;
            }
            sum / 300
        };
        for policy in [EvictionPolicy::AllKeysLru, EvictionPolicy::VolatileLru, EvictionPolicy::VolatileTtl] {
            assert!(mean(policy, 10) > 160, "{policy:?}");
        }
        for policy in [EvictionPolicy::AllKeysRandom, EvictionPolicy::VolatileRandom] {
            assert!((70..130).contains(&mean(policy, 10)), "{policy:?}");
        }
        let none = Keyspace::default().db(SpaceId::FIRST, 0).0.dict().sample(|| 1).is_none();
        assert!(none, "an empty database has no victim");
    }
}
