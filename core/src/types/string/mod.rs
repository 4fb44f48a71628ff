//! Strings: text, integers, bits.

mod bitfield;
mod bits;
mod commands;
mod compare;
pub mod expiry;
pub mod hyperloglog;
mod increx;
mod lcs;
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
    config: hyperloglog::HyperLogLogConfig::directives(),
    commands: &[
        commands::COMMANDS,
        compare::COMMANDS,
        ranges::COMMANDS,
        numbers::COMMANDS,
        increx::COMMANDS,
        bits::COMMANDS,
        bitfield::COMMANDS,
        lcs::COMMANDS,
        hyperloglog::COMMANDS,
    ],
    ..Feature::EMPTY
};

const STRING: Spec = Spec::group("string");
