//! Chance: a generator of random words that is told its seed.

/// SplitMix64 (Steele, Lea, Flood 2014): passes BigCrush, and any seed will do. Not for secrets.
pub struct Random(u64);

impl Random {
    /// The sequence that follows from a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next word.
    #[inline]
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.word()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn numbers_below_a_bound_are_spread_evenly() {
        let mut random = Random::new(7);
        let mut counts = [0u32; 10];
        (0..10_000).for_each(|_| counts[random.below(10)] += 1);
        // Expected 1000 each with a deviation of 30.
        assert!(counts.iter().all(|&n| (850..1150).contains(&n)), "{counts:?}");
    }
}
