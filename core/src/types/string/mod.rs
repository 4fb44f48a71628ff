//! Strings: text, integers, bits.

mod bits;
mod commands;
mod compare;
pub mod expiry;
mod increx;
pub mod long;
mod numbers;
mod ranges;
pub mod value;

use mortise_sdk::declare::Spec;

use crate::features::Feature;

/// Strings.
pub const FEATURE: Feature = Feature {
    name: "string",
    commands: &[
        commands::COMMANDS,
        compare::COMMANDS,
        ranges::COMMANDS,
        numbers::COMMANDS,
        increx::COMMANDS,
        bits::COMMANDS,
    ],
    ..Feature::EMPTY
};

const STRING: Spec = Spec::group("string");
