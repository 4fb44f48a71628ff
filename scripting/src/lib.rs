#![doc = include_str!("../README.md")]

mod bridge;
mod cache;
mod convert;
mod environment;
mod errors;
mod flags;
// Lua calls the clock, so it speaks C; the rest of what is unsafe is the binding.
#[allow(unsafe_code)]
mod hook;
mod host;
mod libraries;
mod number;
mod random;
#[allow(unsafe_code)]
mod raw;
mod result;
mod sandbox;

pub use cache::{Digest, Script};
pub use flags::Flags;
pub use host::{Host, Replication, Verdict};
pub use sandbox::{NOSCRIPT, Outcome, Remains, Sandbox, Settings, Usage};
