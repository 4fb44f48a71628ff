//! The server seen from outside: a harness that starts servers, speaks to them over sockets, and runs `.test` scripts.
//!
//! Nothing here looks into the server; what holds for Mortise can be asked of any Redis. `README.md` says how a test is written.

pub mod client;
pub mod differ;
pub mod differences;
pub mod following;
pub mod notation;
pub mod proxy;
pub mod reference;
pub mod reply;
pub mod runner;
pub mod script;
pub mod sentinel;
pub mod server;
pub mod shadow;
pub mod simulate;
pub mod source;
pub mod suite;
pub mod tempdir;
pub mod tls;
mod witness;
mod words;

pub use client::{Client, Protocol};
pub use reply::Reply;
pub use runner::check;
pub use server::Server;
pub use tempdir::TempDir;
