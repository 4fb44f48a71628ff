//! Random commands, said to two servers, have to be answered alike: how they are made, compared, and made few again when
//! they are not.
//!
//! What there is to say comes from the other server's own COMMAND DOCS, as far as both know the command: a new type is
//! covered as it comes. Data begin empty with each sequence, so that a sequence is all that is needed to see it again.

mod compare;
mod generate;
mod grammar;
mod pair;
mod shrink;
mod values;

pub use generate::{Generator, SETTINGS, Setting};
pub use grammar::{Argument, Command, Kind, commands};
pub use pair::{Difference, Pair};
pub use shrink::{script, shrink};

/// A command with its arguments.
pub type Request = Vec<Vec<u8>>;

/// A source of chance that gives the same again from the same seed.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// The next random number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.word() % bound.max(1) as u64) as usize
    }

    /// Whether something happens that does so in so many of a hundred cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of several.
    pub fn one_of<'a, T>(&mut self, several: &'a [T]) -> &'a T {
        &several[self.below(several.len())]
    }
}
