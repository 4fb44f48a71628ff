//! Hashes: fields and their values.

mod commands;
mod deadlines;
pub mod expiring;
mod getting;
mod numbers;
mod packed;
pub(crate) mod rdb;
#[cfg(test)]
mod tests;
pub mod value;
mod verbs;
mod walk;

use mortise_sdk::config;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::config::Bytes;

use crate::features::Feature;

/// Hashes.
pub const FEATURE: Feature = Feature {
    name: "hash",
    commands: &[
        commands::COMMANDS,
        deadlines::COMMANDS,
        getting::COMMANDS,
        numbers::COMMANDS,
        walk::COMMANDS,
    ],
    config: HashConfig::directives(),
    ..Feature::EMPTY
};

const HASH: Spec = Spec::group("hash");

config! {
    /// Encoding of hashes.
    pub struct HashConfig {
        /// A hash with at most so many fields is kept compact …
        live hash_max_listpack_entries | hash_max_ziplist_entries: usize = 512, in 0..=i64::MAX;
        /// … if no field and no value is longer than this.
        live hash_max_listpack_value | hash_max_ziplist_value: Bytes = Bytes(64), in 0..=i64::MAX;
    }
}
