//! Sets: members without an order.

mod algebra;
mod commands;
mod counting;
pub mod ints;
pub(crate) mod rdb;
#[cfg(test)]
mod tests;
pub mod value;
mod walk;

use mortise_sdk::config;
use mortise_sdk::declare::Spec;

use crate::features::Feature;

/// Sets.
pub const FEATURE: Feature = Feature {
    name: "set",
    commands: &[commands::COMMANDS, algebra::COMMANDS, counting::COMMANDS, walk::COMMANDS],
    config: SetConfig::directives(),
    ..Feature::EMPTY
};

const SET: Spec = Spec::group("set");

config! {
    /// Encoding of sets.
    pub struct SetConfig {
        /// A set of at most so many members is kept as sorted integers if all of them are integers.
        live set_max_intset_entries: usize = 512, in 0..=i64::MAX;
        /// Another set with at most so many members is kept compact …
        live set_max_listpack_entries: usize = 128, in 0..=i64::MAX;
        /// … if no member is longer than this.
        live set_max_listpack_value: usize = 64, in 0..=i64::MAX;
    }
}
