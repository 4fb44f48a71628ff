//! The table against a model, and the guarantee of SCAN.

use std::collections::{BTreeMap, HashSet};

use super::super::entry::{Kind, NewValue, Payload};
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
fn expired_entries_are_found_by_headers() {
    let mut dict = Dict::new();
    for i in 0..20_000i64 {
        let key = format!("{i}").into_bytes();
        let mut place = dict.insert(hash(&key), entry(&key, i));
        place.set_deadline((i % 10 == 0).then_some(i));
    }
    let (mut at, mut found) = (Some(0), Vec::new());
    while let Some(hash) = at {
        at = dict.visit_expired(hash, 9_999, |entry| found.push(entry.deadline().unwrap()));
    }
    assert_eq!(found.len(), 1_000);
    assert!(found.iter().all(|deadline| *deadline <= 9_999));
}
