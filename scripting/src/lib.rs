//! A Lua sandbox: scripts in, calls to a host out. (The README takes this place.)

mod bridge;
mod cache;
mod convert;
mod environment;
mod errors;
mod flags;
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
