//! Strings: text, integers, bits.

mod bits;
mod commands;
pub mod expiry;
pub mod long;
mod numbers;
mod ranges;
pub(crate) mod rdb;
pub mod value;

use mortise_sdk::declare::Spec;

pub(crate) use commands::set_for_module;

use crate::features::Feature;

/// Strings.
pub const FEATURE: Feature = Feature {
    name: "string",
    commands: &[commands::COMMANDS, ranges::COMMANDS, numbers::COMMANDS, bits::COMMANDS],
    ..Feature::EMPTY
};

const STRING: Spec = Spec::group("string");
