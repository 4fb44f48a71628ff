//! The crate from outside: sessions against a client, and files.

mod client;
mod common;
mod files;
mod session;
