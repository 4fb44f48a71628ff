//! INFO's sections about what this server does not have: what clients read there is what a server that stands
//! alone and is no cluster has to say.

use mortise_sdk::declare::info::Shown;

use super::info::{field, never};
use crate::engine::Engine;
use crate::features::Section;

fn minus_one(_: &Engine) -> Shown {
    Shown::Int(-1)
}

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
