//! The journal: every change is appended to a file, and the file is played again when the server starts.
//!
//! | file | owns |
//! |---|---|
//! | `append.rs` | units of the stream on their way into the file |
//! | `check.rs` | looking at the files without a server, and mending them |
//! | `commands.rs` | values as the commands that make them |
//! | `manifest.rs` | which files there are, what they are called, and in which order they are read |
//! | `number.rs` | how numbers are read |
//! | `placing.rs` | the directory, and the manifest's place in it |
//! | `reading.rs` | requests in a file |
//! | `replay.rs` | playing the files when the server starts |
//! | `rewrite.rs` | BGREWRITEAOF: a new base in the place of what has grown long |
//! | `rewrite_steps.rs` | what a rewrite has to wait for the disk for |
//! | `settings.rs` | settings with a form of their own |
//! | `state.rs` | what is known of the journal |
//! | `step.rs` | what takes as long as the disk does |
//! | `switch.rs` | how it is switched on and off |
//! | `syncs.rs` | what is to be made durable, and what is |

pub mod append;
pub mod check;
pub(super) mod commands;
pub mod manifest;
mod number;
mod placing;
pub mod reading;
pub mod replay;
mod rewrite;
pub(super) mod rewrite_steps;
pub mod settings;
pub mod state;
pub mod step;
mod switch;
pub mod syncs;

use mortise_sdk::declare::config::Bytes;
use mortise_sdk::{config, setting_enum};

use crate::features::Feature;
use settings::{JournalDir, JournalName};

/// The append-only file.
pub const FEATURE: Feature = Feature {
    name: "journal",
    commands: &[rewrite::COMMANDS],
    config: JournalConfig::directives(),
    ..Feature::EMPTY
};

setting_enum! {
    /// When what was appended is made durable.
    pub enum AppendSync {
        /// Each second: a crash of the machine may cost what was acknowledged in the last one.
        EverySec = "everysec",
        /// Before anything is acknowledged that hangs on it.
        Always = "always",
        /// When the system thinks fit.
        No = "no",
    }
}

config! {
    /// The append-only file.
    pub struct JournalConfig {
        /// Append every change to a file, from which the data is made again when the server starts.
        live appendonly: bool = false => appendonly;
        /// What the names of the journal's files begin with.
        fixed appendfilename: JournalName = JournalName(String::from("appendonly.aof"));
        /// The directory in which these stand, in the one that dir names.
        fixed appenddirname: JournalDir = JournalDir(String::from("appendonlydir"));
        /// When what was appended is made durable: everysec, always or no. With always, every reply waits until what it
        /// has seen is durable; those who wait at the same time are served by one write to the disk.
        live appendfsync: AppendSync = AppendSync::EverySec;
        /// Leave it to the system while a snapshot or a new base of the journal is being written.
        live no_appendfsync_on_rewrite: bool = false;
        /// Rewrite the journal by itself when it has grown by so many percent since the last time. Zero means never.
        live auto_aof_rewrite_percentage: i32 = 100, in 0..=i32::MAX;
        /// But not while it is smaller than this.
        live auto_aof_rewrite_min_size: Bytes = Bytes(64 << 20), in 0..=i64::MAX;
        /// Start although the end of the last file is missing, as after a crash of the machine; what there is of it is
        /// loaded, and the rest is cut off.
        live aof_load_truncated: bool = true;
        /// Begin the journal with a snapshot, which is smaller and faster to load than commands.
        live aof_use_rdb_preamble: bool = true;
        /// Note in the journal when things happened, so that it can be cut off at a moment.
        live aof_timestamp_enabled: bool = false;
        /// Make a new base durable bit by bit while it is written, so that the disk has not everything to do at its end.
        live aof_rewrite_incremental_fsync: bool = true;
        /// For tests: leave the files that a rewrite has replaced where they are.
        hidden aof_disable_auto_gc: bool = false => aof_disable_auto_gc;
    }
}
