//! Commands on keys of any type, and the settings of the keyspace.

mod dump;
pub(crate) mod info;
pub(crate) mod lifetime;
mod naming;
mod object;
mod random;
pub mod scan;
mod sort;

use mortise_sdk::declare::config::Bytes;
use mortise_sdk::{config, setting_enum};

use crate::features::Feature;

/// Keys of any type.
pub const FEATURE: Feature = Feature {
    name: "keys",
    commands: &[
        lifetime::COMMANDS,
        naming::COMMANDS,
        scan::COMMANDS,
        random::COMMANDS,
        object::COMMANDS,
        dump::COMMANDS,
        sort::COMMANDS,
    ],
    config: KeyspaceConfig::directives(),
    info: &[info::MEMORY, info::KEYSPACE],
    ..Feature::EMPTY
};

setting_enum! {
    /// What to evict when memory is short.
    pub enum EvictionPolicy {
        /// The least recently used among keys with a TTL.
        VolatileLru = "volatile-lru",
        /// The least frequently used among keys with a TTL.
        VolatileLfu = "volatile-lfu",
        /// Any key with a TTL.
        VolatileRandom = "volatile-random",
        /// The key that expires first.
        VolatileTtl = "volatile-ttl",
        /// The least recently used key.
        AllKeysLru = "allkeys-lru",
        /// The least frequently used key.
        AllKeysLfu = "allkeys-lfu",
        /// Any key.
        AllKeysRandom = "allkeys-random",
        /// Nothing: commands that need memory are refused.
        NoEviction = "noeviction",
    }
}

impl EvictionPolicy {
    /// Whether only keys with a deadline go.
    pub fn needs_deadline(self) -> bool {
        matches!(
            self,
            EvictionPolicy::VolatileLru
                | EvictionPolicy::VolatileLfu
                | EvictionPolicy::VolatileRandom
                | EvictionPolicy::VolatileTtl
        )
    }

    /// Whether one key is as good as another.
    pub fn is_random(self) -> bool {
        matches!(self, EvictionPolicy::AllKeysRandom | EvictionPolicy::VolatileRandom)
    }

    /// Whether the least recently used key goes.
    pub fn is_lru(self) -> bool {
        matches!(self, EvictionPolicy::VolatileLru | EvictionPolicy::AllKeysLru)
    }

    /// Whether entries carry a counter of use in place of the time of their last use.
    pub fn is_lfu(self) -> bool {
        matches!(self, EvictionPolicy::VolatileLfu | EvictionPolicy::AllKeysLfu)
    }
}

config! {
    /// Databases, expiry, and how use of keys is measured.
    pub struct KeyspaceConfig {
        /// Number of databases that SELECT can choose from.
        fixed databases: u32 = 16, in 1..=i32::MAX;
        /// How hard to look for expired keys that nobody asks for.
        live active_expire_effort: u8 = 1, in 1..=10;
        /// Free evicted values in the background, and tell replicas to. Large values are freed there in any case.
        live lazyfree_lazy_eviction: bool = false;
        /// Free expired values in the background.
        live lazyfree_lazy_expire: bool = false;
        /// Free values that commands replace, such as RENAME, in the background.
        live lazyfree_lazy_server_del: bool = false;
        /// Let DEL behave as UNLINK.
        live lazyfree_lazy_user_del: bool = false;
        /// Let FLUSHALL, FLUSHDB, SCRIPT FLUSH and FUNCTION FLUSH be asynchronous unless they say SYNC.
        live lazyfree_lazy_user_flush: bool = false;
        /// Upper limit of the memory that is used, in bytes. Zero means no limit. Everything counts that is allocated:
        /// data, clients with their buffers, scripts; but for what waits to be written to the append-only file or to be
        /// sent to replicas (INFO: mem_not_counted_for_evict).
        live maxmemory: Bytes = Bytes(0) => maxmemory;
        /// How many keys are looked at to find the one to evict.
        live maxmemory_samples: u32 = 5, in 1..=i32::MAX;
        /// How long commands may evict. With 10 each does for half a millisecond at most and the rest goes in the
        /// background; with less for a tenth of that each; each step more is 15 % more, and 100 is as long as it takes.
        live maxmemory_eviction_tenacity: u32 = 10, in 0..=100;
        /// What to evict when memory is short; an LFU policy lets keys count how often they are used.
        live maxmemory_policy: EvictionPolicy = EvictionPolicy::NoEviction;
        /// How slowly the counter of use saturates under an LFU policy.
        live lfu_log_factor: u32 = 10, in 0..=i32::MAX;
        /// Minutes after which the counter of use loses one.
        live lfu_decay_time: u32 = 1, in 0..=i32::MAX;
    }
}
