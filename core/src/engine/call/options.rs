//! The options of a call, taken one after another.

use mortise_sdk::error::{self, Result};

use crate::engine::args::Args;

/// A walk over a call's options, from left to right.
#[derive(Clone)]
pub struct Options<'c> {
    args: Args<'c>,
    next: usize,
}

impl<'c> Options<'c> {
    /// A walk that begins with the argument at `next`.
    pub fn new(args: Args<'c>, next: usize) -> Options<'c> {
        Options { args, next }
    }

    /// How many arguments are left.
    pub fn left(&self) -> usize {
        self.args.len().saturating_sub(self.next)
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.left() == 0
    }

    /// The index of the next argument.
    pub fn position(&self) -> usize {
        self.next
    }

    /// The next argument without passing it.
    pub fn peek(&self) -> Option<&'c [u8]> {
        self.args.get(self.next)
    }

    /// Passes the next argument if it is this word in any case.
    pub fn takes(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
        self.next += usize::from(found);
        found
    }

    /// Passes this word and a value behind it; nothing if the word is another, or if no value follows.
    pub fn takes_value(&mut self, word: &str) -> Option<&'c [u8]> {
        if self.left() < 2 || !self.peek().is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes())) {
            return None;
        }
        self.next += 2;
        self.args.get(self.next - 1)
    }

    /// Passes the next argument; a syntax error if there is none.
    pub fn required(&mut self) -> Result<&'c [u8]> {
        self.next().ok_or(error::SYNTAX)
    }
}

impl<'c> Iterator for Options<'c> {
    type Item = &'c [u8];

    fn next(&mut self) -> Option<&'c [u8]> {
        let arg = self.peek()?;
        self.next += 1;
        Some(arg)
    }
}
