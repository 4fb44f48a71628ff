//! Strings: text, integers, bits.

pub mod commands;
pub mod long;
pub mod value;
