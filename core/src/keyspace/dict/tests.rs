//! The table against a model, and the guarantee of SCAN.

use std::collections::{BTreeMap, HashSet};

use super::super::entry::{Kind, NewValue, Payload};
use super::super::hash::hash;
use super::*;

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn entry(key: &[u8], n: i64) -> Entry {
    Entry::new(key, NewValue::Integer(n))
}

#[test]
fn behaves_like_a_map_while_it_grows_and_shrinks() {
    let (mut dict, mut model, mut state) = (Dict::new(), BTreeMap::new(), 42);
    for round in 0..6 {
        let grows = round % 2 == 0;
        for _ in 0..30_000 {
            let key = format!("key:{}", random(&mut state) % 20_000).into_bytes();
            let h = hash(&key);
            if (random(&mut state) % 10 < 8) == grows {
                let n = random(&mut state) as i64;
                match dict.place(h, &key) {
                    Some(mut place) => {
                        place.entry_mut().set(NewValue::Integer(n));
                        place.set_deadline((n % 3 == 0).then_some(n));
                    }
                    None => {
                        dict.insert(h, entry(&key, n)).set_deadline((n % 3 == 0).then_some(n));
                    }
                }
                model.insert(key, n);
            } else {
                assert_eq!(dict.remove(h, &key).is_some(), model.remove(&key).is_some());
            }
        }
        assert_eq!(dict.len(), model.len());
        assert_eq!(dict.expiring(), model.values().filter(|n| *n % 3 == 0).count());
        for (key, n) in &model {
            let found = dict.find(hash(key), key).expect("in the model");
            assert!(matches!(found.payload(), Payload::Integer(m) if m == *n));
        }
        assert_eq!(dict.iter().count(), model.len());
    }
    for key in model.keys() {
        assert!(dict.remove(hash(key), key).is_some());
    }
    assert!(dict.is_empty());
    assert!(dict.segments < 4, "an emptied table gives its segments back");
}

#[test]
fn scan_misses_nothing_that_stays() {
    let (mut dict, mut state) = (Dict::new(), 7);
    let stays: Vec<Vec<u8>> = (0..5_000).map(|i| format!("stays:{i}").into_bytes()).collect();
    for key in &stays {
        dict.insert(hash(key), entry(key, 0));
    }
    let (mut cursor, mut seen, mut extra) = (0, HashSet::new(), 0u64);
    loop {
        cursor = dict.scan(cursor, 10, |entry| {
            seen.insert(entry.key().to_vec());
        });
        if cursor == 0 {
            break;
        }
        for _ in 0..40 {
            let (key, gone) =
                (format!("extra:{extra}"), format!("extra:{}", random(&mut state) % (extra + 1)));
            extra += 1;
            dict.insert(hash(key.as_bytes()), entry(key.as_bytes(), 1));
            if seen.len() > 2_000 {
                for n in 0..3 {
                    let gone = format!("extra:{}", extra.wrapping_sub(n * 7919));
                    dict.remove(hash(gone.as_bytes()), gone.as_bytes());
                }
            }
            dict.remove(hash(gone.as_bytes()), gone.as_bytes());
        }
    }
    assert!(stays.iter().all(|key| seen.contains(key)));
}

#[test]
fn scan_without_changes_sees_each_entry_once() {
    let mut dict = Dict::new();
    for i in 0..10_000 {
        let key = format!("{i}").into_bytes();
        dict.insert(hash(&key), Entry::new(&key, NewValue::Bytes(Kind::Text, b"v")));
    }
    let (mut cursor, mut count) = (0, 0);
    loop {
        cursor = dict.scan(cursor, 100, |_| count += 1);
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(count, 10_000);
}

#[test]
fn expired_entries_are_found_and_nothing_else_is_looked_at() {
    let mut dict = Dict::new();
    for i in 0..20_000i64 {
        let key = format!("{i}").into_bytes();
        let mut place = dict.insert(hash(&key), entry(&key, i));
        place.set_deadline((i % 10 == 0).then_some(i));
    }
    assert_eq!(dict.visit_expired(0, -1, 10, |_| panic!("nothing has expired")), None, "one step to the end");
    let (mut at, mut found) = (Some(0), Vec::new());
    while let Some(hash) = at {
        let mut some = Vec::new();
        at = dict.visit_expired(hash, 9_999, 7, |entry| some.push(entry.key().to_vec()));
        assert!(some.len() <= 7, "no more than were asked for");
        for key in some {
            found.push(
                dict.remove(super::super::hash::hash(&key), &key).and_then(|entry| entry.deadline()).unwrap(),
            );
        }
    }
    assert_eq!(found.len(), 1_000);
    assert!(found.iter().all(|deadline| *deadline <= 9_999));
    assert_eq!(dict.visit_expired(0, 9_999, 10, |_| panic!("all are gone")), None);
}

/// The index of deadlines against what stands in the segments.
fn assert_index_is_right(dict: &Dict) {
    let mut expiring = 0;
    for i in 0..dict.directory.len() {
        let segment = dict.directory[i];
        let place = dict.directory_range((i as u64) << (64 - dict.bits), segment.header().depth).start;
        let there = (0..segment.header().buckets as usize)
            .flat_map(|i| segment.bucket(i).occupied())
            .filter(|entry| entry.has_deadline())
            .count();
        assert_eq!(dict.volatile.count(i), if place == i { there } else { 0 }, "place {i}");
        expiring += dict.volatile.count(i);
    }
    assert_eq!(dict.expiring(), expiring);
}

#[test]
fn the_index_of_deadlines_follows_splits_and_merges() {
    let (mut dict, mut state) = (Dict::new(), 3);
    // Without deadlines at first, so that the index comes into being in a table that has grown.
    for round in 0..6u64 {
        for i in 0..60_000u64 {
            let key = format!("{i}").into_bytes();
            let h = hash(&key);
            if round % 2 == 1 {
                dict.remove(h, &key);
                continue;
            }
            let deadline = (round > 0 && random(&mut state).is_multiple_of(3))
                .then(|| (random(&mut state) % 1_000) as i64);
            let mut new = entry(&key, 1);
            if i % 2 == 0 {
                new.set_deadline(deadline);
                dict.insert(h, new);
            } else {
                dict.insert(h, new).set_deadline(deadline);
            }
            if i % 7 == 0 {
                dict.place(h, &key).unwrap().set_deadline(None);
            }
            if i % 5 == 0 {
                let mut other = entry(&key, 2);
                other.set_deadline(deadline);
                dict.place(h, &key).unwrap().replace(other);
            }
        }
        assert_index_is_right(&dict);
        let due =
            dict.iter().filter(|entry| entry.deadline().is_some_and(|deadline| deadline <= 100)).count();
        let (mut at, mut found) = (Some(0), 0);
        while let Some(from) = at {
            at = dict.visit_expired(from, 100, usize::MAX, |_| found += 1);
        }
        assert_eq!(found, due);
    }
}

#[test]
fn rare_deadlines_are_drawn_as_often_as_each_other() {
    // Few among many, and far from evenly spread over the table.
    for (keys, every) in [(200_000u64, 20_000), (20_000, 3), (300, 40)] {
        let (mut dict, mut state, mut rare) = (Dict::new(), 11, 0);
        for i in 0..keys {
            let key = format!("{i}").into_bytes();
            let mut place = dict.insert(hash(&key), entry(&key, 0));
            if i % every == 0 {
                place.set_deadline(Some(i as i64));
                rare += 1;
            }
        }
        let draws = 400 * rare;
        let mut drawn = BTreeMap::new();
        for _ in 0..draws {
            let entry = dict.sample_expiring(|| random(&mut state)).expect("there are some");
            *drawn.entry(entry.deadline().expect("only such are drawn")).or_insert(0) += 1;
        }
        assert_eq!(drawn.len() as u64, rare, "each of {keys} by {every}");
        // 400 each with a deviation of 20.
        assert!(drawn.values().all(|n| (290..510).contains(n)), "{keys} by {every}");
    }
    assert!(Dict::new().sample_expiring(|| 7).is_none());
}

#[test]
fn each_entry_is_drawn_as_often_as_any_other_however_they_cluster() {
    // An eighth of the hashes keeps all of its keys, of the rest every fortieth is left: segments of all depths and fills.
    let (mut dict, mut state, mut left) = (Dict::new(), 5, 0u64);
    let keys: Vec<Vec<u8>> = (0..60_000).map(|i| format!("{i}").into_bytes()).collect();
    for key in &keys {
        dict.insert(hash(key), entry(key, 0));
    }
    for (i, key) in keys.iter().enumerate() {
        if hash(key) >> 61 != 3 && i % 40 != 0 {
            dict.remove(hash(key), key);
        } else {
            left += 1;
        }
    }
    let mut drawn = BTreeMap::new();
    for _ in 0..100 * left {
        let entry = dict.sample_evenly(|| random(&mut state)).expect("there are some");
        *drawn.entry(entry.key().to_vec()).or_insert(0u64) += 1;
    }
    assert_eq!((drawn.len() as u64, dict.len() as u64), (left, left));
    // 100 each with a deviation of 10; and what clusters has no more than its share.
    assert!(drawn.values().all(|n| (50..160).contains(n)));
    let dense = drawn.keys().filter(|key| hash(key) >> 61 == 3).count() as u64;
    let drawn_dense: u64 = drawn.iter().filter(|(key, _)| hash(key) >> 61 == 3).map(|(_, n)| n).sum();
    assert!(drawn_dense.abs_diff(100 * dense) < dense, "{drawn_dense} draws of {dense} entries");
}

#[test]
fn an_empty_table_is_small_and_says_so() {
    let mut dict = Dict::new();
    assert!(dict.memory() < 200, "{}", dict.memory());
    (0..100_000).for_each(|i| {
        let key = format!("{i}").into_bytes();
        dict.insert(hash(&key), entry(&key, 0));
    });
    let slots = dict.capacity() * Dict::SLOT_MEMORY;
    assert!(
        dict.memory() > slots * 9 / 10 && dict.memory() < slots * 11 / 10,
        "{} of {slots}",
        dict.memory()
    );
}

#[test]
fn a_table_with_room_is_as_large_as_one_that_has_grown() {
    for count in [0, 1, 700, 764, 765, 20_000, 50_000, 100_000] {
        let (mut grown, mut roomy) = (Dict::new(), Dict::for_entries(count));
        let before = roomy.segments().count();
        for n in 0..count {
            let key = format!("key:{n}").into_bytes();
            grown.insert(hash(&key), entry(&key, n as i64));
            roomy.insert(hash(&key), entry(&key, n as i64)).set_deadline((n % 7 == 0).then_some(n as i64));
        }
        let (after, grown) = (roomy.segments().count(), grown.segments().count());
        assert!(after - before <= before / 20, "{count}: {before} {after}");
        assert!(roomy.segments().count() <= 2 * grown, "{count}: {after}, grown {grown}");
        assert_eq!((roomy.len(), roomy.expiring()), (count, count.div_ceil(7)));
        for n in 0..count {
            let key = format!("key:{n}").into_bytes();
            assert!(roomy.remove(hash(&key), &key).is_some(), "{count}: {n}");
        }
        assert!(roomy.is_empty() && roomy.expiring() == 0);
    }
}
