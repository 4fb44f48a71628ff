//! The generator behind `math.random`: the sequence of `lrand48`, which is the same everywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// 48 bits that are multiplied on. Clones share them: the sequence outlives the Lua state that draws from it.
#[derive(Clone, Debug)]
pub(crate) struct Random(Arc<AtomicU64>);

impl Default for Random {
    fn default() -> Random {
        Random(Arc::new(AtomicU64::new(0x1234_ABCD_330E)))
    }
}

impl Random {
    /// The largest number that comes.
    pub(crate) const MAX: u32 = i32::MAX as u32;

    /// From now on the sequence that belongs to a seed.
    pub(crate) fn seed(&self, seed: i32) {
        self.0.store(u64::from(seed as u32) << 16 | 0x330E, Ordering::Relaxed);
    }

    /// The next number, of 31 bits.
    pub(crate) fn draw(&self) -> u32 {
        // One sandbox draws at a time, so that reading and writing need not be one step.
        let bits = self.0.load(Ordering::Relaxed);
        let bits = bits.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & ((1 << 48) - 1);
        self.0.store(bits, Ordering::Relaxed);
        (bits >> 17) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_sequence_of_lrand48() {
        let random = Random::default();
        let take = |seed| {
            random.seed(seed);
            [random.draw(), random.draw(), random.draw()]
        };
        // As C's `srand48(0)`, `srand48(42)` and `srand48(-1)` give them.
        assert_eq!(take(0), [366850414, 1610402240, 206956554]);
        assert_eq!(take(42), [1598855263, 735945821, 238553827]);
        assert_eq!(take(-1), [644300343, 97305740, 768640432]);
    }
}
