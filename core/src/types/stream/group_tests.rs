//! Groups against a model: random deliveries, claims, releases, and consumers that go and come again.

use std::collections::BTreeMap;

use super::group::{Group, Pending};
use super::id::StreamId;
use crate::engine::random::Random;

/// What is pending: to whom, since when, how often; nobody has no name, and then the time is a place.
#[derive(Clone, Default)]
struct Model(BTreeMap<StreamId, (Option<Vec<u8>>, i64, u64)>);

fn assert_same(group: &Group, model: &Model) {
    assert_eq!(group.len(), model.0.len());
    assert_eq!(
        group.ends(),
        model.0.first_key_value().map(|(id, _)| *id).zip(model.0.last_key_value().map(|(id, _)| *id))
    );
    let seen = |(id, pending): (StreamId, &Pending)| {
        let consumer = pending.consumer.as_ref().map(|name| name.bytes().to_vec());
        (id, (consumer, pending.delivered_ms, pending.deliveries))
    };
    let all: Vec<_> = model.0.iter().map(|(id, one)| (*id, one.clone())).collect();
    assert!(group.iter().map(seen).eq(all.iter().cloned()));
    let mut by_age = all.clone();
    by_age.sort_by_key(|(id, (consumer, ms, _))| (consumer.is_some(), *ms, *id));
    assert!(group.by_age().map(seen).eq(by_age));
    for (name, consumer) in group.consumers.iter() {
        let own = all.iter().filter(|(_, (of, ..))| of.as_deref() == Some(name.bytes())).map(|(id, _)| *id);
        assert!(consumer.pending.iter().eq(own));
    }
    assert_eq!(group.released_len(), all.iter().filter(|(_, (of, ..))| of.is_none()).count());
}

#[test]
fn as_a_model_does() {
    for (seed, consumers, batch) in [(1, 3, 20), (2, 40, 5), (3, 2, 400)] {
        let mut random = Random::new(seed);
        let (mut group, mut model) = (Group::new(StreamId::MIN, None), Model::default());
        let mut kept = (group.clone(), model.clone());
        let (mut now_ms, mut next, mut release) = (0, 1, i64::MIN);
        for edit in 0..4_000 {
            now_ms += random.below(3) as i64;
            let name = format!("consumer {}", random.below(consumers)).into_bytes();
            let some: Vec<StreamId> = (0..1 + random.below(4))
                .filter_map(|_| model.0.keys().nth(random.below(model.0.len() + 1)).copied())
                .collect();
            match random.below(20) {
                0..6 => {
                    let (consumer, _) = group.hear_of(&name, now_ms);
                    for _ in 0..1 + random.below(batch) {
                        let id = StreamId::new(next, 0);
                        next += 1 + random.word() % 2;
                        let pending =
                            Pending { consumer: Some(consumer.clone()), delivered_ms: now_ms, deliveries: 1 };
                        group.give(id, pending);
                        model.0.insert(id, (Some(name.clone()), now_ms, 1));
                    }
                }
                6..10 => {
                    let (consumer, _) = group.hear_of(&name, now_ms);
                    for id in some {
                        // At times as if it had been long ago.
                        let delivered_ms = now_ms - [0, 0, 50][random.below(3)];
                        let pending =
                            Pending { consumer: Some(consumer.clone()), delivered_ms, deliveries: 2 };
                        group.give(id, pending);
                        model.0.insert(id, (Some(name.clone()), delivered_ms, 2));
                    }
                }
                10..12 => {
                    for id in some {
                        group.release(id, 7);
                        model.0.insert(id, (None, release, 7));
                        release += 1;
                    }
                }
                12..19 => {
                    for id in some {
                        assert_eq!(group.acknowledge(id), model.0.remove(&id).is_some());
                        assert!(!group.acknowledge(id));
                    }
                }
                _ => {
                    let removed = group.remove_consumer(&name).map_or(0, |removed| removed.pending);
                    let before = model.0.len();
                    model.0.retain(|_, (of, ..)| of.as_deref() != Some(&name));
                    assert_eq!(removed, before - model.0.len());
                }
            }
            if edit % 7 == 0 {
                assert_same(&group, &model);
                assert_same(&kept.0, &kept.1);
                kept = (group.clone(), model.clone());
            }
        }
        assert_same(&group, &model);
    }
}

#[test]
fn what_is_left_of_consumers_that_are_gone_is_forgotten() {
    let mut group = Group::new(StreamId::MIN, None);
    let deliver = |group: &mut Group, name: &[u8], from: u64| {
        let (consumer, _) = group.hear_of(name, 1);
        for ms in (from..from + 10_000).step_by(2) {
            let pending = Pending { consumer: Some(consumer.clone()), delivered_ms: 1, deliveries: 1 };
            group.give(StreamId::new(ms, 0), pending);
        }
    };
    deliver(&mut group, b"ann", 0);
    deliver(&mut group, b"bob", 1);
    assert_eq!(group.remove_consumer(b"ann").map(|removed| removed.pending), Some(5_000));
    assert_eq!((group.len(), group.free_effort()), (5_000, 10_001), "it is not forgotten at once");
    assert!(!group.contains(&StreamId::new(0, 0)) && group.contains(&StreamId::new(1, 0)));
    assert!(!group.acknowledge(StreamId::new(0, 0)));
    // One of the same name has nothing of it.
    assert!(group.hear_of(b"ann", 2).1);
    assert_eq!(group.iter().count(), 5_000);
    for now_ms in 0..20 {
        group.hear_of(b"bob", now_ms);
    }
    assert_eq!(group.free_effort(), 5_002);
    assert_eq!(group.remove_consumer(b"bob").map(|removed| removed.pending), Some(5_000));
    assert_eq!((group.len(), group.free_effort()), (0, 1), "what is the last leaves nothing");
}
