//! Lists against a model: whatever is done, a list holds what a deque holds, and shares of it hold what they held.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::End;
use super::chunk::ChunkLimits;
use super::item::{Encoded, Wanted};
use super::sequence::Sequence;
use crate::engine::random::Random;

/// How full chunks become: so that trees are deep with few elements, and as usual.
const LIMITS: [ChunkLimits; 7] = [
    ChunkLimits { bytes: 8192, items: 2, alone_len: u32::MAX, depth: 0 },
    ChunkLimits { bytes: 8192, items: 1, alone_len: u32::MAX, depth: 0 },
    ChunkLimits { bytes: 300, items: u32::MAX, alone_len: 100, depth: 0 },
    ChunkLimits { bytes: 8192, items: u32::MAX, alone_len: u32::MAX, depth: 0 },
    ChunkLimits { bytes: 300, items: u32::MAX, alone_len: u32::MAX, depth: 1 },
    ChunkLimits { bytes: 8192, items: 3, alone_len: u32::MAX, depth: 2 },
    ChunkLimits { bytes: 1000, items: u32::MAX, alone_len: 100, depth: u32::MAX },
];

struct Pair {
    list: Sequence,
    model: VecDeque<Vec<u8>>,
    limits: ChunkLimits,
    random: Random,
}

impl Pair {
    fn new(limits: ChunkLimits, seed: u64) -> Pair {
        Pair { list: Sequence::from_bytes(b""), model: VecDeque::new(), limits, random: Random::new(seed) }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.random.word() % bound.max(1) as u64) as usize
    }

    fn element(&mut self) -> Vec<u8> {
        match self.below(40) {
            0 => vec![b'l'; 300 + self.below(20_000)],
            1..4 => vec![b'm'; self.below(200)],
            4..20 => (self.random.word() as i64 >> self.below(64)).to_string().into_bytes(),
            // Few different ones, so that there are many of each.
            _ => format!("element:{}", self.below(6)).into_bytes(),
        }
    }

    fn end(&mut self) -> End {
        if self.below(2) == 0 { End::Left } else { End::Right }
    }

    /// Does the same to both, at random; `leaning` says what mostly.
    fn step(&mut self, leaning: usize) {
        let (len, limits) = (self.model.len(), self.limits);
        let (element, end) = (self.element(), self.end());
        let index = self.below(len);
        match self.below(10) + leaning {
            0..=4 => {
                self.list.push(end, &Encoded::of(&element), limits);
                match end {
                    End::Left => self.model.push_front(element),
                    End::Right => self.model.push_back(element),
                }
            }
            5..=7 => {
                let index = self.below(len + 1);
                self.list.insert(index, &Encoded::of(&element), limits);
                self.model.insert(index, element);
            }
            _ if len == 0 => {}
            8 => {
                self.list.replace(index, &Encoded::of(&element), limits);
                self.model[index] = element;
            }
            9..=11 => {
                self.list.pop(end, limits);
                match end {
                    End::Left => self.model.pop_front(),
                    End::Right => self.model.pop_back(),
                };
            }
            12 | 13 => {
                let to = (index + 1 + self.below(60)).min(len);
                drop(self.list.remove(index..to, limits));
                self.model.drain(index..to);
            }
            _ => {
                let most = [1, 3, usize::MAX][self.below(3)];
                let same = self.model[index].clone();
                let removed = self.list.remove_same(&Wanted::new(Encoded::of(&same)), most, end, limits);
                let places: Vec<usize> = places(&self.model, &same, end);
                let places = &places[..places.len().min(most)];
                assert_eq!(removed, places.len());
                let mut at = 0..;
                self.model.retain(|_| !places.contains(&at.next().expect("there is no end")));
            }
        }
    }

    fn check(&mut self) {
        self.list.check();
        assert_eq!(self.list.len(), self.model.len());
        let mut items = Vec::new();
        self.list.show_each(0..self.list.len(), &mut |item| items.push(item.text().into_owned()));
        assert!(self.model.iter().eq(&items));
        let (from, to) = (self.below(items.len() + 1), self.below(items.len() + 1));
        let (from, to) = (from.min(to), from.max(to));
        let mut part = Vec::new();
        self.list.show_each(from..to, &mut |item| part.push(item.text().into_owned()));
        assert_eq!(part, items[from..to]);
        part.clear();
        self.list.show_each_back(from..to, &mut |item| part.push(item.text().into_owned()));
        assert!(part.iter().eq(items[from..to].iter().rev()));
        for _ in 0..10 {
            let index = self.below(items.len() + 2);
            let shown = self.list.show(index, |item| item.text().into_owned());
            assert_eq!(shown.as_ref(), items.get(index));
        }
        let (wanted, end) = (self.element(), self.end());
        let mut found = Vec::new();
        let _ = self.list.find(&Wanted::new(Encoded::of(&wanted)), from..to, end, &mut |index| {
            found.push(index);
            ControlFlow::Continue(())
        });
        let mut expected = places(&self.model, &wanted, end);
        expected.retain(|index| (from..to).contains(index));
        assert_eq!(found, expected);
    }
}

/// Where an element stands, seen from an end.
fn places(model: &VecDeque<Vec<u8>>, wanted: &[u8], end: End) -> Vec<usize> {
    let mut places: Vec<usize> = (0..model.len()).filter(|index| model[*index] == wanted).collect();
    if end == End::Right {
        places.reverse();
    }
    places
}

#[test]
fn a_list_does_what_a_deque_does() {
    for (round, limits) in LIMITS.into_iter().cycle().take(28).enumerate() {
        let mut pair = Pair::new(limits, round as u64);
        for phase in 0..6 {
            // It grows, then stays, then shrinks.
            let leaning = [0, 0, 3, 1, 4, 5][phase];
            for step in 0..250 {
                pair.step(leaning);
                if step % 10 == 0 {
                    pair.check();
                }
            }
        }
        pair.check();
    }
}

#[test]
fn what_is_shared_stays_as_it_was() {
    for limits in LIMITS {
        let mut pair = Pair::new(limits, 7);
        (0..600).for_each(|_| pair.step(0));
        let (list, model) = (pair.list.clone(), pair.model.clone());
        (0..600).for_each(|_| pair.step(3));
        pair.check();
        (pair.list, pair.model) = (list, model);
        pair.check();
    }
}

#[test]
fn a_list_that_is_used_up_is_small_again() {
    for (first, then) in [(End::Left, End::Left), (End::Left, End::Right), (End::Right, End::Left)] {
        let limits = ChunkLimits { items: 4, ..ChunkLimits::default() };
        let mut pair = Pair::new(limits, 3);
        for n in 0..40_000u32 {
            pair.list.push(first, &Encoded::of(n.to_string().as_bytes()), limits);
        }
        assert!(pair.list.check() >= 2, "it is deep");
        let full = pair.list.memory();
        // A long queue is mostly empty chunks, were they not given back.
        for n in 0..39_990u32 {
            pair.list.pop(then, limits);
            let expected = match first == then {
                true => 39_998 - n,
                false => n + 1,
            };
            let end = if then == End::Left { 0 } else { pair.list.len() - 1 };
            let shown = pair.list.show(end, |item| item.text().into_owned());
            assert_eq!(shown, Some(expected.to_string().into_bytes()));
        }
        assert!(pair.list.memory() < full / 100, "{} of {full}", pair.list.memory());
        assert!(pair.list.check() <= 1);
    }
}

#[test]
fn what_elements_cost_is_counted() {
    let limits = ChunkLimits::default();
    let mut list = Sequence::from_bytes(b"");
    for n in 0..200_000u32 {
        list.push(End::Right, &Encoded::of(format!("element:{n:08}").as_bytes()), limits);
    }
    let each = list.memory() as f64 / 200_000.0;
    // Sixteen bytes, one for their length, and what chunks and nodes take.
    assert!((17.0..17.8).contains(&each), "{each} bytes");
    assert!(list.free_effort() > 64, "it is freed elsewhere");
}

#[test]
fn the_middle_of_a_list_is_squeezed_and_its_ends_are_not() {
    let sizes = [0, 1, 3].map(|depth| {
        let limits = ChunkLimits { depth, ..ChunkLimits::default() };
        let mut list = Sequence::from_bytes(b"");
        for n in 0..20_000u32 {
            let end = if n % 2 == 0 { End::Left } else { End::Right };
            list.push(end, &Encoded::of(format!("a rather long element {n}").as_bytes()), limits);
        }
        assert!(list.show(7, |item| item.text().starts_with(b"a rather long element ")).is_some());
        list.memory()
    });
    let [plain, one, three] = sizes;
    assert!(one < plain / 2 && one < three && three < plain, "{sizes:?}");
    // What was squeezed is as it was when it comes to an end.
    let limits = ChunkLimits { depth: 1, ..ChunkLimits::default() };
    let mut list = Sequence::from_bytes(b"");
    (0..20_000u32)
        .for_each(|n| list.push(End::Right, &Encoded::of(format!("element {n}").as_bytes()), limits));
    for n in 0..20_000u32 {
        let shown = list.show(0, |item| item.text().into_owned());
        assert_eq!(shown, Some(format!("element {n}").into_bytes()));
        list.pop(End::Left, limits);
    }
    assert!(list.is_empty());
}
