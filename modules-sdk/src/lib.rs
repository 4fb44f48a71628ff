//! The contract of Mortise: the language in which features are declared.
//!
//! Built-in features and loaded modules use the same words: a feature is four tables (commands, data types,
//! configuration directives, INFO fields). This crate knows no server; the server implements it.

pub mod args;
pub mod declare;
pub mod error;
pub mod extended;
pub mod glob;
pub mod resp;

pub use error::{Error, Result};
