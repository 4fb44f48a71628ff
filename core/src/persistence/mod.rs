//! What survives: values and whole data sets as bytes.

pub mod data;
pub mod snapshot;

use mortise_sdk::{config, setting_enum};

use crate::features::Feature;

/// Saving and loading.
pub const FEATURE: Feature =
    Feature { name: "persistence", config: PersistenceConfig::directives(), ..Feature::EMPTY };

setting_enum! {
    /// Whose payloads are checked to the last byte.
    pub enum Sanitize {
        /// Nobody's.
        No = "no",
        /// Everybody's.
        Yes = "yes",
        /// Those of clients.
        Clients = "clients",
    }
}

config! {
    /// Files, and what DUMP shows.
    pub struct PersistenceConfig {
        /// Compress what is saved, values that DUMP shows among it.
        live rdbcompression: bool = true;
        /// Whose payloads RESTORE checks to the last byte. Mortise checks all of them whatever this says: nothing that
        /// has not been checked becomes a value.
        live sanitize_dump_payload: Sanitize = Sanitize::No;
    }
}
