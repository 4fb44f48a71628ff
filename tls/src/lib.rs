#![doc = include_str!("../README.md")]

mod client;
mod config;
mod files;
mod names;
mod reload;
mod session;
mod store;

pub use client::{ClientSession, Connector};
pub use config::{Acceptor, ClientAuth, Loaded, Settings};
pub use reload::Current;
pub use session::{RECORD_LEN_MAX, Session, ciphertext_len_max};

use std::fmt;

/// What is wrong with a setting, a file or a peer, in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(String);

impl Problem {
    fn new(text: impl Into<String>) -> Problem {
        Problem(text.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}
