//! The contract of Mortise: the language in which features are declared.
//!
//! Built-in features and loaded modules use the same words: a feature is four tables (commands, data types,
//! configuration directives, INFO fields). This crate knows no server; the server implements it.

//!
//! A module is written with [`prelude`] alone; the server uses the rest.

pub mod args;
pub mod border;
pub mod call;
pub mod data_type;
pub mod declare;
pub mod error;
pub mod extended;
pub mod glob;
pub mod host;
pub mod module;
pub mod prelude;
pub mod resp;
pub mod testing;
pub mod words;

pub use error::{Error, Result};
/// The border: tables of functions that server and modules give each other.
pub use mortise_abi as abi;
