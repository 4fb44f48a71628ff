//! What survives: values and whole data sets as bytes, in a file that takes its place as a whole.
//!
//! | file | owns |
//! |---|---|
//! | `snapshot/` | the format: bytes in, bytes or values out |
//! | `data.rs` | all data of a space as a file holds it |
//! | `disk.rs` | the operations on files, and how a new file takes its place |
//! | `state.rs` | what is known of snapshots, and when one is due |
//! | `save.rs` | SAVE, BGSAVE, LASTSAVE |
//! | `cut.rs` | a snapshot that is written while everything goes on |
//! | `start.rs` | what the server finds when it starts |
//! | `journal/` | the append-only file: every change, in files that are played again at the start |
//! | `thaw.rs` | what becomes of values that were kept until a module with their type is loaded |
//! | `shutdown.rs` | SHUTDOWN |
//! | `check.rs` | looking at a file without a server |
//! | `info.rs` `settings.rs` | INFO's section; settings with a form of their own |
//!
//! Nothing here opens a file by itself: whoever owns the disk hands it over, and a test may hand over one that fails.

pub mod check;
pub mod cut;
pub mod data;
pub mod disk;
mod info;
pub mod journal;
mod save;
pub mod settings;
pub mod shutdown;
pub mod snapshot;
pub mod start;
pub mod state;
mod thaw;

use mortise_sdk::{config, setting_enum};

use crate::config::values::SavePoints;
use crate::features::Feature;
use settings::{FileName, Shutdown};

/// Saving and loading.
pub const FEATURE: Feature = Feature {
    name: "persistence",
    commands: &[save::COMMANDS, shutdown::COMMANDS],
    config: PersistenceConfig::directives(),
    info: &[info::PERSISTENCE],
    ..Feature::EMPTY
};

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
        /// When a snapshot is taken by itself: so many seconds after the last one if there have been so many changes. An
        /// empty text means never. Where there are save points, the data is saved as well when the server is shut down.
        live save: SavePoints = SavePoints::usual();
        /// Name of the snapshot's file, in the directory that dir names.
        protected dbfilename: FileName = FileName(String::from("dump.rdb"));
        /// Compress what is saved, values that DUMP shows among it.
        live rdbcompression: bool = true;
        /// Put a checksum at the end of the snapshot's file.
        fixed rdbchecksum: bool = true;
        /// Refuse writes after a snapshot that was to be taken by itself has failed, until one succeeds.
        live stop_writes_on_bgsave_error: bool = true;
        /// Whose payloads RESTORE checks to the last byte. Mortise checks all of them whatever this says: nothing that
        /// has not been checked becomes a value.
        live sanitize_dump_payload: Sanitize = Sanitize::No;
        /// How SIGTERM shuts the server down: default, or save or nosave, now, force.
        live shutdown_on_sigterm: Shutdown = Shutdown::default();
        /// How SIGINT does.
        live shutdown_on_sigint: Shutdown = Shutdown::default();
        /// Seconds for which the server's end waits at most for replicas to get what was written. Zero means not at all.
        live shutdown_timeout: u32 = 10, in 0..=i32::MAX;
        /// Make a snapshot durable bit by bit while it is written, so that the disk has not everything to do at its end.
        live rdb_save_incremental_fsync: bool = true;
        /// For tests: microseconds to wait after each key that is saved; below zero, a microsecond after so many keys.
        live rdb_key_save_delay: i32 = 0;
        /// For tests: the same after each key that is loaded.
        hidden key_load_delay: i32 = 0;
        /// How many bytes of data are put in at a time while it is loaded, between which clients are answered.
        hidden loading_process_events_interval_bytes: u32 = 2 << 20, in 1024..=i32::MAX;
    }
}
