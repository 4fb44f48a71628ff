//! The order against a model: a sorted vector.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::*;

/// A score that can be compared, with its member.
#[derive(Clone, Debug, PartialEq)]
struct Entry(f64, Vec<u8>);

impl Eq for Entry {}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        let scores = self.0.partial_cmp(&other.0).expect("no score is NaN");
        scores.then_with(|| self.1.cmp(&other.1))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

type Model = BTreeSet<Entry>;

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

fn entry(random: &mut Random, scores: u64, members: u64) -> Entry {
    let score = match random.below(scores + 1) {
        0 => [f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0][random.below(4) as usize],
        n => n as f64 - scores as f64 / 2.0,
    };
    let member = random.below(members);
    Entry(
        score,
        match member % 40 {
            0 => [member.to_string().as_bytes(), &[b'm'; 200]].concat(),
            _ if member == 1 => Vec::new(),
            _ => format!("member:{member}").into_bytes(),
        },
    )
}

/// That every question is answered as by the model, and the tree and its books are in order.
fn check(ranked: &Ranked, model: &Model, random: &mut Random) {
    let entries: Vec<&Entry> = model.iter().collect();
    assert_eq!(ranked.len(), entries.len());
    assert_eq!(ranked.is_empty(), entries.is_empty());
    let upwards: Vec<Entry> = ranked.iter_from(0, false).map(own).collect();
    assert!(upwards.iter().eq(entries.iter().copied()));
    if let Some(last) = ranked.len().checked_sub(1) {
        assert!(ranked.iter_from(last, true).map(own).eq(upwards.iter().rev().cloned()));
    }
    assert_eq!(ranked.at(entries.len()), None);
    assert_eq!(ranked.iter_from(entries.len(), true).count(), 0);
    for (rank, Entry(score, member)) in entries.iter().enumerate() {
        assert_eq!(ranked.rank(*score, member), Some(rank));
    }
    for _ in 0..entries.len().min(50) {
        let rank = random.below(entries.len() as u64) as usize;
        let Entry(score, member) = entries[rank];
        assert_eq!(ranked.at(rank), Some((*score, &member[..])));
        assert!(ranked.iter_from(rank, false).map(own).eq(upwards[rank..].iter().cloned()));
        assert_eq!(ranked.iter_from(rank, true).len(), rank + 1);
        assert!(ranked.iter_from(rank, true).map(own).eq(upwards[..=rank].iter().rev().cloned()));
        let below = entries.iter().filter(|entry| entry.0 < *score).count();
        assert_eq!(ranked.rank_of_bound(|other, _| other < *score), below);
        let before = |other: f64, bytes: &[u8]| (other, bytes) < (*score, member);
        assert_eq!(ranked.rank_of_bound(before), rank);
    }
    assert_eq!(ranked.rank_of_bound(|_, _| false), 0);
    assert_eq!(ranked.rank_of_bound(|_, _| true), entries.len());
    assert_eq!(ranked.memory(), walk(&ranked.root));
}

fn own((score, member): (f64, &[u8])) -> Entry {
    Entry(score, member.to_vec())
}

/// Checks counts and separators; returns the memory.
fn walk(tree: &Tree) -> usize {
    let Tree::Inner(inner) = tree else { return tree.memory() };
    let mut memory = tree.memory();
    for (index, child) in inner.children.iter().enumerate() {
        assert!(child.len() > 0);
        assert_eq!(inner.counts[index], child.len());
        let first = leftmost(child).get(0);
        assert!(index == 0 || inner.keys.get(index) == first, "a separator is the first entry of its child");
        memory += walk(child);
    }
    assert_eq!(inner.keys.len(), inner.children.len());
    memory
}

fn leftmost(tree: &Tree) -> &Run {
    match tree {
        Tree::Leaf(run) => run,
        Tree::Inner(inner) => leftmost(&inner.children[0]),
    }
}

#[test]
fn equal_to_a_model_and_clones_never_change() {
    for (seed, scores, members) in [(1, 1, 4000), (2, 10, 300), (3, 100_000, 1_000_000), (4, 50, 9000)] {
        let mut random = Random(seed);
        let (mut ranked, mut model) = (Ranked::new(), Model::new());
        let mut kept: Vec<(Ranked, Model)> = Vec::new();
        for step in 0..30_000 {
            let grows = step < 16_000;
            if random.below(10) < if grows { 7 } else { 1 } {
                let entry = entry(&mut random, scores, members);
                if model.insert(entry.clone()) {
                    assert_eq!(ranked.rank(entry.0, &entry.1), None);
                    ranked.insert(entry.0, &entry.1);
                } else {
                    assert!(ranked.remove(entry.0, &entry.1) && model.remove(&entry));
                    assert!(!ranked.remove(entry.0, &entry.1));
                }
            } else if let Some(rank) = random.next().checked_rem(ranked.len() as u64) {
                let (score, member) = ranked.pop_at(rank as usize).expect("the rank exists");
                assert!(model.remove(&Entry(score, member.into())));
            }
            if step % 5 == 0
                && let Some(rank) = random.next().checked_rem(ranked.len() as u64)
            {
                let Entry(score, member) = ranked.at(rank as usize).map(own).expect("the rank exists");
                // A step aside, or anywhere.
                let new = if step % 2 == 0 { score + 1.0 } else { random.below(scores) as f64 };
                if model.insert(Entry(new, member.clone())) {
                    ranked.change(score, new, &member);
                    assert!(model.remove(&Entry(score, member)));
                }
            }
            if step % 500 == 0 && !ranked.is_empty() {
                let len = ranked.len() as u64;
                let start = random.below(len);
                let count = random.below((len - start).min(200) + 1);
                let ranks = start as usize..(start + count) as usize;
                for (score, member) in ranked.iter_from(ranks.start, false).take(ranks.len()) {
                    assert!(model.remove(&Entry(score, member.into())));
                }
                ranked.remove_ranks(ranks);
            }
            if step % 3000 == 0 {
                check(&ranked, &model, &mut random);
                kept.push((ranked.clone(), model.clone()));
            }
        }
        for (ranked, model) in &kept {
            check(ranked, model, &mut random);
        }
        while let Some((score, member)) =
            ranked.pop_at(random.below(2) as usize * (ranked.len().saturating_sub(1)))
        {
            assert!(model.remove(&Entry(score, member.into())));
        }
        check(&ranked, &Model::new(), &mut random);
        assert_eq!(ranked.memory(), Ranked::new().memory());
    }
}

#[test]
fn ascending_and_descending_entries() {
    let mut random = Random(5);
    for sign in [1.0, -1.0] {
        let (mut ranked, mut model) = (Ranked::new(), Model::new());
        for i in 0..20_000 {
            let entry = Entry(f64::from(i) * sign, format!("{i}").into_bytes());
            ranked.insert(entry.0, &entry.1);
            model.insert(entry);
        }
        check(&ranked, &model, &mut random);
    }
}

#[test]
fn minus_zero_equals_zero() {
    let mut ranked = Ranked::new();
    ranked.insert(-0.0, b"b");
    ranked.insert(0.0, b"a");
    assert_eq!(ranked.rank(0.0, b"b"), Some(1));
    assert!(ranked.remove(-0.0, b"a") && ranked.remove(0.0, b"b"));
}

#[test]
fn bounds_of_members_hold_after_scores_have_changed() {
    // Lexicographic ranges ask for members alone; no separator may remember a score of old.
    let mut random = Random(6);
    let mut ranked = Ranked::new();
    let member = |i: u64| format!("{i:05}").into_bytes();
    for i in 0..10_000 {
        ranked.insert(random.below(100) as f64, &member(i));
    }
    let entries: Vec<Entry> = ranked.iter_from(0, false).map(own).collect();
    for Entry(score, member) in entries {
        assert!(ranked.remove(score, &member));
        ranked.insert(0.0, &member);
    }
    for i in (0..10_000).step_by(7) {
        assert_eq!(ranked.rank_of_bound(|_, other| other < &member(i)[..]), i as usize);
    }
}

#[test]
fn an_emptied_order_gives_memory_back() {
    let mut ranked = Ranked::new();
    for i in 0..100_000u32 {
        ranked.insert(f64::from(i % 1000), &i.to_be_bytes());
    }
    let full = ranked.memory();
    for i in (0..100_000u32).filter(|i| i % 100 != 7) {
        assert!(ranked.remove(f64::from(i % 1000), &i.to_be_bytes()));
    }
    assert_eq!(ranked.len(), 1000);
    assert!(ranked.memory() < full / 40, "{} of {full}", ranked.memory());
}

#[test]
fn orders_travel_between_threads() {
    fn travels<T: Send + Sync>() {}
    travels::<Ranked>();
}
