#![doc = include_str!("../README.md")]

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
