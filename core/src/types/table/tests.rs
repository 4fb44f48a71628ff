//! Tables against models.

use std::collections::{HashMap, HashSet};

use super::node::{Node, Slot};
use super::*;

/// Keys that begin so have the same hash.
pub(super) const COLLIDING: &[u8] = b"\xffcolliding:";
pub(super) const COLLISION: u64 = 0x0123_4567_89ab_cdef;

type Model = HashMap<Vec<u8>, Vec<u8>>;

/// A small generator (splitmix64): the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn key(i: u64) -> Vec<u8> {
    match i % 50 {
        0 => [format!("{i}:").as_bytes(), &[b'k'; 300]].concat(),
        1 => [COLLIDING, i.to_string().as_bytes()].concat(),
        _ if i == 2 => Vec::new(),
        _ => format!("key:{i}").into_bytes(),
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    let length = match random.below(20) {
        0 => random.below(3000),
        1 => 0,
        _ => random.below(24),
    };
    vec![random.next() as u8; length as usize]
}

/// That the table says the same as the model by every road, and has kept its books.
fn check(table: &Table, model: &Model) {
    assert_eq!(table.len(), model.len());
    assert_eq!(table.is_empty(), model.is_empty());
    assert_eq!(table.iter().len(), model.len());
    let items: Model = table.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    assert!(items == *model, "the items differ");
    assert_eq!(table.iter().count(), model.len());
    for (key, value) in model {
        assert_eq!(table.get(key), Some(&value[..]));
    }
    assert_eq!(table.memory(), walk(&table.root));
}

fn walk(node: &Node) -> usize {
    let below = node.slots().iter().map(|slot| match slot {
        Slot::Leaf { leaf, .. } => leaf.memory(),
        Slot::Node { node, .. } => walk(node),
        Slot::Of { .. } => 0,
    });
    node.memory() + below.sum::<usize>()
}

fn scan_all(table: &Table, count: usize) -> Vec<Vec<u8>> {
    let (mut keys, mut cursor) = (Vec::new(), 0);
    loop {
        cursor = table.scan(cursor, count, &mut |key, _| keys.push(key.to_vec()));
        assert!(cursor < 1 << CURSOR_BITS);
        if cursor == 0 {
            return keys;
        }
    }
}

#[test]
fn an_empty_table() {
    let mut table = Table::default();
    check(&table, &Model::new());
    assert_eq!(table.get(b""), None);
    assert!(!table.remove(b""));
    assert_eq!(table.random(&mut || 1), None);
    assert!(scan_all(&table, 10).is_empty());
}

#[test]
fn a_table_of_one() {
    let mut table = Table::new();
    assert!(table.set(b"", b""));
    assert!(!table.set(b"", b"value"));
    assert_eq!(table.get(b""), Some(&b"value"[..]));
    assert_eq!(table.random(&mut || 0), Some((&b""[..], &b"value"[..])));
    assert_eq!(scan_all(&table, 10), [b""]);
    assert!(table.remove(b""));
    check(&table, &Model::new());
}

#[test]
fn equal_to_a_model_and_clones_never_change() {
    for seed in 0..4 {
        let mut random = Random(seed);
        let (mut table, mut model) = (Table::new(), Model::new());
        let mut kept: Vec<(Table, Model)> = Vec::new();
        // Growing, then shrinking to nothing; a narrow range of keys overwrites more.
        let range = [200, 3000, 20_000, 6000][seed as usize];
        for step in 0..24_000 {
            let grows = step < 14_000;
            let key = key(random.below(range));
            if random.below(10) < if grows { 7 } else { 1 } {
                let value = value(&mut random);
                assert_eq!(table.set(&key, &value), model.insert(key, value).is_none());
            } else if random.below(2) == 0 || model.is_empty() {
                assert_eq!(table.remove(&key), model.remove(&key).is_some());
            } else {
                let (found, _) = table.random(&mut || random.next()).expect("not empty");
                let found = found.to_vec();
                assert!(table.remove(&found) && model.remove(&found).is_some());
            }
            assert_eq!(table.get(&key_of(&model)), model.get(&key_of(&model)).map(|value| &value[..]));
            if step % 2000 == 0 {
                check(&table, &model);
                kept.push((table.clone(), model.clone()));
                if kept.len() == 6 {
                    let (table, model) = kept.remove(random.below(6) as usize);
                    check(&table, &model);
                }
            }
            if step % 5000 == 0 && random.below(2) == 0 {
                // As an undo does: back to what was kept.
                (table, model) = kept[0].clone();
            }
        }
        for (table, model) in &kept {
            check(table, model);
        }
        for key in model.keys().cloned().collect::<Vec<_>>() {
            assert!(table.remove(&key));
        }
        check(&table, &Model::new());
        assert_eq!(table.memory(), Table::new().memory());
    }
}

fn key_of(model: &Model) -> Vec<u8> {
    model.keys().next().cloned().unwrap_or_default()
}

#[test]
fn overwriting_by_equal_length_keeps_the_memory() {
    let mut table = Table::new();
    for i in 0..1000u32 {
        table.set(&i.to_le_bytes(), b"12345678");
    }
    let memory = table.memory();
    for i in 0..1000u32 {
        assert!(!table.set(&i.to_le_bytes(), b"87654321"));
    }
    assert_eq!(table.memory(), memory);
    assert!(table.iter().all(|(_, value)| value == b"87654321"));
}

#[test]
fn a_long_value_is_overwritten_for_one_of_its_owners() {
    let mut table = Table::new();
    table.set(b"key", &[1; 5000]);
    let kept = table.clone();
    table.set(b"key", &[2; 5000]);
    table.set(b"key", &[3; 5000]);
    assert_eq!(table.get(b"key"), Some(&[3; 5000][..]));
    assert_eq!(kept.get(b"key"), Some(&[1; 5000][..]));
}

#[test]
fn a_write_copies_little_of_what_is_shared() {
    let mut table = Table::new();
    for i in 0..20_000u32 {
        table.set(&i.to_le_bytes(), b"");
    }
    let kept = table.clone();
    table.set(b"new", b"");
    assert!(!table.remove(b"absent"));
    let leaves = |table: &Table| {
        let leaf = |(key, _)| std::ptr::from_ref(table.root.place(key_hash(key)).leaf);
        table.iter().map(leaf).collect::<HashSet<_>>()
    };
    let (ours, theirs) = (leaves(&table), leaves(&kept));
    assert!(ours.difference(&theirs).count() <= 2);
    assert!(theirs.difference(&ours).count() == 1);
}

#[test]
fn an_emptied_table_gives_memory_back() {
    let mut table = Table::new();
    for i in 0..100_000u32 {
        table.set(&i.to_le_bytes(), b"");
    }
    let full = table.memory();
    for i in 1000..100_000u32 {
        assert!(table.remove(&i.to_le_bytes()));
    }
    assert!(table.memory() < full / 40, "{} of {full}", table.memory());
    let mut calls = 0;
    let mut cursor = 0;
    loop {
        cursor = table.scan(cursor, 10, &mut |_, _| ());
        calls += 1;
        if cursor == 0 {
            break;
        }
    }
    assert!(calls <= 150, "{calls}");
}

#[test]
fn a_scan_at_rest_visits_each_item_once() {
    let mut table = Table::new();
    for i in 0..5000 {
        table.set(&key(i), b"");
    }
    for count in [0, 1, 10, 1000, usize::MAX] {
        let keys = scan_all(&table, count);
        assert_eq!(keys.len(), 5000);
        assert_eq!(keys.into_iter().collect::<HashSet<_>>().len(), 5000);
    }
}

#[test]
fn a_scan_misses_nothing_that_stays() {
    // The others come and go, so that leaves split and merge under the cursor.
    for (before, during) in [(0..0, 3000..60_000), (3000..60_000, 0..0), (3000..9000, 9000..15_000)] {
        let mut random = Random(7);
        let mut table = Table::new();
        for i in (0..3000).chain(before.clone()) {
            table.set(&key(i), b"");
        }
        let (mut goes, mut comes) = (before, during);
        let (mut seen, mut cursor) = (HashSet::new(), 0);
        loop {
            cursor = table.scan(cursor, 10, &mut |key, _| {
                seen.insert(key.to_vec());
            });
            if cursor == 0 {
                break;
            }
            for _ in 0..random.below(1500) {
                goes.next().map(|i| table.remove(&key(i)));
                comes.next().map(|i| table.set(&key(i), b""));
            }
        }
        assert!((0..3000).all(|i| seen.contains(&key(i))));
    }
}

#[test]
fn any_cursor_is_taken() {
    let mut table = Table::new();
    for i in 0..500 {
        table.set(&key(i), b"");
    }
    for cursor in [1, (1 << 48) - 1, 1 << 48, u64::MAX] {
        assert!(table.scan(cursor, 10, &mut |_, _| ()) < 1 << 48);
    }
}

#[test]
fn random_items_are_drawn_evenly() {
    let mut random = Random(1);
    for len in [1u32, 30, 100, 1000] {
        let mut table = Table::new();
        for i in 0..len * 4 {
            table.set(&i.to_le_bytes(), b"");
        }
        // Uneven leaves, as deletions leave them.
        for i in len..len * 4 {
            table.remove(&i.to_le_bytes());
        }
        let draws = len * 100;
        let mut drawn = vec![0u32; len as usize];
        for _ in 0..draws {
            let (key, _) = table.random(&mut || random.next()).expect("not empty");
            drawn[u32::from_le_bytes(key.try_into().expect("four bytes")) as usize] += 1;
        }
        let chi_square: f64 = drawn.iter().map(|&n| (f64::from(n) - 100.0).powi(2) / 100.0).sum();
        let freedom = f64::from(len - 1);
        // Eight deviations: the hashes differ from run to run.
        assert!(chi_square <= freedom + 8.0 * (2.0 * freedom).sqrt() + 1e-9, "{chi_square} of {freedom}");
    }
}

#[test]
fn random_ends_with_a_constant_source() {
    let mut table = Table::new();
    for i in 0..1000u32 {
        table.set(&i.to_le_bytes(), b"");
    }
    assert!(table.random(&mut || u64::MAX).is_some());
}

#[test]
fn tables_travel_between_threads() {
    fn travels<T: Send + Sync>() {}
    travels::<Table>();
}

#[test]
fn size_classes() {
    let classes = [0, 1, 8, 9, 16, 100, 128, 129, 160, 161, 256, 257, 513, 1025, 5000].map(size_class);
    assert_eq!(classes, [0, 8, 8, 16, 16, 112, 128, 160, 160, 192, 256, 320, 640, 1280, 5120]);
}
