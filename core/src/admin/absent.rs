//! INFO's sections about what this server does not have: what clients read there is what a server that stands
//! alone and is no cluster has to say.

use super::info::{field, never};
use crate::features::Section;

/// Cluster.
pub(super) const CLUSTER: Section = Section {
    name: "cluster",
    fields: &[field("cluster_enabled", "Whether it is part of a cluster.", never)],
};
