//! A set of commands, by their places in the registry.

/// A set of numbers below a bound that the caller knows. Sets that are combined have the same bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits(Box<[u64]>);

impl Bits {
    /// A set for numbers below `bound`, that holds all of them or none.
    pub(crate) fn filled(bound: usize, all: bool) -> Bits {
        Bits(vec![if all { u64::MAX } else { 0 }; bound.div_ceil(64)].into())
    }

    /// Whether it holds a number; `None` beyond its bound.
    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> Option<bool> {
        self.0.get(index / 64).map(|word| word >> (index % 64) & 1 == 1)
    }

    /// Puts a number in, or takes it out.
    pub(crate) fn set(&mut self, index: usize, value: bool) {
        if let Some(word) = self.0.get_mut(index / 64) {
            let bit = 1 << (index % 64);
            *word = if value { *word | bit } else { *word & !bit };
        }
    }

    /// Puts all numbers of another set in, or takes them out.
    pub(crate) fn set_all(&mut self, of: &Bits, value: bool) {
        for (word, bits) in self.0.iter_mut().zip(&of.0) {
            *word = if value { *word | bits } else { *word & !bits };
        }
    }

    /// How many numbers it has in common with another set.
    pub(crate) fn common(&self, with: &Bits) -> u32 {
        self.0.iter().zip(&with.0).map(|(a, b)| (a & b).count_ones()).sum()
    }

    /// How many it holds.
    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}
