//! The Mortise server.

pub mod acl;
pub mod admin;
pub mod config;
pub mod engine;
pub mod features;
pub mod keys;
pub mod keyspace;
pub mod modules;
pub mod persistence;
pub mod pubsub;
pub mod replication;
pub mod resp;
pub mod scripting;
pub mod server;
pub mod session;
pub mod tracking;
pub mod transactions;
pub mod types;

pub use server::main;
