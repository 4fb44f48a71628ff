//! Strings: text, integers, bits.

pub mod commands;
pub mod long;
pub mod value;

use crate::features::Feature;

/// Strings.
pub const FEATURE: Feature = Feature { name: "string", commands: &[commands::COMMANDS], ..Feature::EMPTY };
