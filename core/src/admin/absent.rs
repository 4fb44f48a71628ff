//! INFO's sections about what this server does not have: what clients read there is what a server that saves nothing,
//! stands alone and is no cluster has to say.

use mortise_sdk::declare::info::Shown;

use super::info::{field, never};
use crate::engine::Engine;
use crate::features::Section;

fn ok(_: &Engine) -> Shown {
    Shown::from("ok")
}

fn minus_one(_: &Engine) -> Shown {
    Shown::Int(-1)
}

/// Snapshots and the append-only file.
pub(super) const PERSISTENCE: Section = Section {
    name: "persistence",
    fields: &[
        field("loading", "Whether a file is being loaded.", |e| e.loading.into()),
        field("async_loading", "Whether a file is being loaded beside the data in use.", never),
        field("current_cow_peak", "Most memory copied because of a save, bytes.", never),
        field("current_cow_size", "Memory copied because of a save, bytes.", never),
        field("current_cow_size_age", "Age of that figure in seconds.", never),
        field("current_fork_perc", "How far a save is, in percent.", |_| Shown::Ratio(0.0)),
        field("current_save_keys_processed", "Keys that a save has written.", never),
        field("current_save_keys_total", "Keys that a save is to write.", never),
        field("rdb_changes_since_last_save", "Changes that no snapshot holds.", |e| e.unit.dirty.into()),
        field("rdb_bgsave_in_progress", "Whether a snapshot is being written.", never),
        field(
            "rdb_last_save_time",
            "When a snapshot was written, or the server started: Unix seconds.",
            |e| (e.process.started_ms / 1000).into(),
        ),
        field("rdb_last_bgsave_status", "How the last snapshot ended.", ok),
        field("rdb_last_bgsave_time_sec", "How long the last snapshot took.", minus_one),
        field("rdb_current_bgsave_time_sec", "How long the present snapshot has taken.", minus_one),
        field("rdb_saves", "Snapshots written.", never),
        field("rdb_last_cow_size", "Memory copied because of the last snapshot, bytes.", never),
        field("rdb_last_load_keys_expired", "Keys of the loaded snapshot that had expired.", never),
        field("rdb_last_load_keys_loaded", "Keys of the loaded snapshot.", never),
        field("aof_enabled", "Whether changes are appended to a file.", never),
        field("aof_rewrite_in_progress", "Whether that file is being rewritten.", never),
        field("aof_rewrite_scheduled", "Whether a rewrite waits for a snapshot to end.", never),
        field("aof_last_rewrite_time_sec", "How long the last rewrite took.", minus_one),
        field("aof_current_rewrite_time_sec", "How long the present rewrite has taken.", minus_one),
        field("aof_last_bgrewrite_status", "How the last rewrite ended.", ok),
        field("aof_rewrites", "Rewrites.", never),
        field(
            "aof_rewrites_consecutive_failures",
            "Rewrites that failed since the last that did not.",
            never,
        ),
        field("aof_last_write_status", "How the last write to the file ended.", ok),
        field("aof_last_cow_size", "Memory copied because of the last rewrite, bytes.", never),
        field("module_fork_in_progress", "Whether a module has forked; none can.", never),
        field("module_fork_last_cow_size", "Memory copied because of it, bytes.", never),
    ],
};

/// Replicas.
pub(super) const REPLICATION: Section = Section {
    name: "replication",
    fields: &[
        field("role", "Whether it is a primary or a replica.", |_| Shown::from("master")),
        field("connected_slaves", "Replicas.", never),
        field("master_failover_state", "How far a failover is.", |_| Shown::from("no-failover")),
        field("master_replid", "The name of the stream of changes.", |e| e.process.run_id.clone().into()),
        field("master_replid2", "The name it had before a failover.", |_| Shown::Text("0".repeat(40))),
        field("master_repl_offset", "Length of the stream of changes.", never),
        field("second_repl_offset", "Up to where the second name is valid.", minus_one),
        field("repl_backlog_active", "Whether a part of the stream is kept for replicas.", never),
        field("repl_backlog_size", "How much of it would be kept, bytes.", |_| Shown::Int(1 << 20)),
        field("repl_backlog_first_byte_offset", "Where the part that is kept begins.", never),
        field("repl_backlog_histlen", "How long it is, bytes.", never),
    ],
};

/// Cluster.
pub(super) const CLUSTER: Section = Section {
    name: "cluster",
    fields: &[field("cluster_enabled", "Whether it is part of a cluster.", never)],
};
