//! Hashes: fields and their values.

pub mod commands;
pub mod value;
