//! Sorted sets: members with scores, in order.

mod adding;
mod algebra;
mod geo;
mod popping;
mod range;
mod ranges;
pub(crate) mod rdb;
mod reading;
mod removing;
mod results;
mod scan;
#[cfg(test)]
mod tests;
pub mod value;

use mortise_sdk::config;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::config::Bytes;

use crate::features::Feature;

const SORTED_SET: Spec = Spec::group("sorted-set");

/// Sorted sets.
pub const FEATURE: Feature = Feature {
    name: "zset",
    commands: &[
        adding::COMMANDS,
        removing::COMMANDS,
        reading::COMMANDS,
        ranges::COMMANDS,
        popping::COMMANDS,
        algebra::COMMANDS,
        scan::COMMANDS,
        geo::PLACES,
        geo::SEARCH,
    ],
    config: ZsetConfig::directives(),
    ..Feature::EMPTY
};

config! {
    /// Encoding of sorted sets.
    pub struct ZsetConfig {
        /// A sorted set with at most so many members is kept compact …
        live zset_max_listpack_entries | zset_max_ziplist_entries: usize = 128, in 0..=i64::MAX;
        /// … if no member is longer than this.
        live zset_max_listpack_value | zset_max_ziplist_value: Bytes = Bytes(64), in 0..=i64::MAX;
    }
}
