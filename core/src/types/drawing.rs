//! Drawing from collections by chance: what HRANDFIELD, SRANDMEMBER, SPOP and ZRANDMEMBER share.

use std::collections::HashSet;
use std::hash::Hash;

use mortise_sdk::error::{self, Error, Result};

use crate::engine::random::Random;

/// A call may ask for so many with repetitions, lest one short request fills the memory with its reply.
const REPEATED_MAX: usize = 1 << 24;

/// Drawing one by one until enough are different pays if at most one in so many is wanted.
const DRAWN_SHARE: usize = 3;

/// What is to be drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Draws {
    /// How many.
    pub(super) count: usize,
    /// Whether one may come more than once.
    pub(super) repeated: bool,
}

impl Draws {
    /// What a client means by a number: so many different ones, or, if it is negative, as many with repetitions.
    pub(super) fn of(number: i64) -> Result<Draws> {
        if number == i64::MIN {
            return Err(Error::not_between(-i64::MAX, i64::MAX));
        }
        let count = usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX);
        Ok(Draws { count, repeated: number < 0 })
    }

    /// Refuses more repetitions than a reply may have.
    pub(super) fn check(self) -> Result {
        if self.repeated && self.count > REPEATED_MAX { Err(error::OUT_OF_RANGE) } else { Ok(()) }
    }

    /// Refuses a number of which a reply with two items for each could not be counted.
    pub(super) fn check_pairs(self) -> Result {
        if self.count > i64::MAX as usize / 2 { Err(error::OUT_OF_RANGE) } else { Ok(()) }
    }

    /// Whether they are so few of a number of items that it pays to draw them one by one.
    pub(super) fn are_few_of(self, len: usize) -> bool {
        self.count.saturating_mul(DRAWN_SHARE) <= len
    }
}

/// As many items of different keys as are wanted, drawn one by one; nothing if there turn out to be too few for that.
pub(super) fn draw_different<T: Copy, K: Eq + Hash>(
    count: usize,
    mut draw: impl FnMut() -> Option<T>,
    key: impl Fn(T) -> K,
) -> Option<Vec<T>> {
    // Two of three draws find a new one where all are there.
    let draws_max = 64 + 8 * count;
    let (mut drawn, mut items) = (HashSet::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..draws_max {
        if items.len() == count {
            return Some(items);
        }
        let item = draw()?;
        if drawn.insert(key(item)) {
            items.push(item);
        }
    }
    None
}

/// Fisher and Yates: each of the first `count` places gets one of those that are left.
pub(super) fn shuffle_front<T>(items: &mut [T], count: usize, random: &mut Random) {
    for index in 0..count.min(items.len()) {
        items.swap(index, index + random.below(items.len() - index));
    }
}

/// So many of `len` ranks, each set of them as likely as any other, in order (Floyd's algorithm).
pub(super) fn different_ranks(len: usize, count: usize, random: &mut Random) -> Vec<usize> {
    let mut chosen = HashSet::with_capacity(count);
    for last in len - count..len {
        let rank = random.below(last + 1);
        if !chosen.insert(rank) {
            chosen.insert(last);
        }
    }
    let mut ranks: Vec<usize> = chosen.into_iter().collect();
    ranks.sort_unstable();
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_ranks_are_different_and_evenly_drawn() {
        let mut random = Random::new(1);
        let mut drawn = [0_u32; 10];
        for _ in 0..4000 {
            let ranks = different_ranks(10, 4, &mut random);
            assert_eq!(ranks.len(), 4);
            assert!(ranks.is_sorted_by(|left, right| left < right));
            ranks.iter().for_each(|rank| drawn[*rank] += 1);
        }
        // Expected 1600 each with a deviation of 31.
        assert!(drawn.iter().all(|count| (1440..1760).contains(count)), "{drawn:?}");
    }

    #[test]
    fn different_items_are_drawn_while_there_are_enough() {
        let mut random = Random::new(5);
        for (wanted, there, found) in
            [(0, 5, true), (5, 20, true), (5, 5, true), (6, 5, false), (1, 0, false)]
        {
            let draw = || (there > 0).then(|| random.below(there));
            let drawn = draw_different(wanted, draw, |item| item);
            assert_eq!(drawn.is_some(), found, "{wanted} of {there}");
            let mut items = drawn.unwrap_or_default();
            items.sort_unstable();
            items.dedup();
            assert_eq!(items.len(), if found { wanted } else { 0 });
        }
    }
}
