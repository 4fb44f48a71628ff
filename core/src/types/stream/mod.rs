//! Streams: entries with ids, in order, and groups of consumers that read them.

mod adding;
mod bytes;
pub mod chunk;
mod claims;
mod deleting;
mod delivering;
mod edits;
pub mod group;
#[cfg(test)]
mod group_tests;
mod groups;
pub mod id;
pub mod idempotence;
mod info;
pub mod item;
mod once;
pub mod owed;
mod pending;
mod ranges;
pub(crate) mod rdb;
mod reading;
pub mod references;
mod releasing;
#[cfg(test)]
mod tests;
pub mod value;

use mortise_sdk::config;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::config::Bytes;

use crate::features::Feature;

const STREAM: Spec = Spec::group("stream");

/// Streams.
pub const FEATURE: Feature = Feature {
    name: "stream",
    commands: &[
        adding::COMMANDS,
        deleting::COMMANDS,
        ranges::COMMANDS,
        reading::COMMANDS,
        delivering::COMMANDS,
        groups::COMMANDS,
        claims::COMMANDS,
        releasing::COMMANDS,
        once::COMMANDS,
        pending::COMMANDS,
        info::COMMANDS,
    ],
    config: StreamConfig::directives(),
    ..Feature::EMPTY
};

config! {
    /// Nodes of streams: what approximate trimming removes as a whole.
    pub struct StreamConfig {
        /// A node of a stream takes no more bytes than this; 0 for no limit.
        live stream_node_max_bytes: Bytes = Bytes(4096), in 0..=i64::MAX;
        /// A node of a stream has at most so many entries; 0 for no limit.
        live stream_node_max_entries: usize = 100, in 0..=i64::MAX;
        /// For how many seconds a stream remembers an entry that is to be added only once (`XADD IDMP`), unless XCFGSET
        /// says otherwise of it.
        live stream_idmp_duration: u32 = 100, in 1..=86_400;
        /// How many entries of a producer a stream remembers, likewise.
        live stream_idmp_maxsize: u32 = 100, in 1..=10_000;
    }
}
