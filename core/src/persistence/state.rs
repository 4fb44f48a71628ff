//! What is known of snapshots: when one was taken, what of the data it does not hold, whether one is due, and what is
//! being saved or loaded now.

use std::path::Path;
use std::sync::Arc;

use mortise_sdk::error::{self, Error};

use super::cut::{Drawing, Purpose};
use super::data::Report;
use super::disk::{Disk, MemoryDisk, Pending, Target};
use super::shutdown::Ending;
use crate::config::Config;
use crate::engine::Engine;
use crate::keyspace::SpaceId;
use crate::types::frozen::FrozenTypes;

/// After a snapshot has failed, the next is tried so many seconds later.
const RETRY_S: i64 = 5;

/// What is known of snapshots.
pub struct Persistence {
    /// Where files are.
    pub disk: Arc<dyn Disk>,
    /// Files that are being written.
    pub pending: Pending,
    /// Whether the last snapshot in the background was written.
    pub last_is_ok: bool,
    /// How long the last one took, in seconds.
    pub last_took_s: Option<i64>,
    /// When a snapshot was written: Unix seconds.
    pub last_save_s: i64,
    /// Snapshots written.
    pub saves: u64,
    /// Bytes copied as they changed while the last snapshot in the background was written.
    pub last_preserved: u64,
    /// The most bytes that any did copy.
    pub peak_preserved: u64,
    /// The snapshot that is being written in the background.
    pub drawing: Option<Drawing>,
    /// One is to be written as soon as may be.
    pub is_scheduled: bool,
    /// The file that is being loaded.
    pub loading: Option<Progress>,
    /// What was loaded last.
    pub loaded: Report,
    /// What files held that only modules understand which are not loaded.
    pub frozen: Arc<FrozenTypes>,
    /// Parts of the file that was loaded which nobody here understands; they are saved as they were.
    pub kept: Kept,
    /// Whether a signal has asked for the server's end, and the clock has ticked since.
    pub(super) end_asked: Option<bool>,
    /// The server's end, while it waits for replicas.
    pub(super) ending: Option<Ending>,
    pub(super) drawn: u64,
    last_try_s: i64,
    /// The number of changes that the last snapshot holds.
    saved_dirty: u64,
}

/// What a file held beside its keys, and a file that is saved holds again.
#[derive(Clone, Default)]
pub struct Kept {
    /// Code of libraries of functions.
    pub functions: Vec<Arc<[u8]>>,
    /// What modules keep beside their values, as it was written.
    pub of_modules: Vec<Arc<[u8]>>,
}

impl Kept {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty() && self.of_modules.is_empty()
    }
}

/// How far a file has been loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// When it began: Unix seconds.
    pub began_s: i64,
    /// Bytes of the file.
    pub total: u64,
    /// Bytes that have been loaded.
    pub loaded: u64,
    /// Bytes of memory that its data took when it was saved.
    pub used_memory: u64,
}

impl Default for Persistence {
    fn default() -> Persistence {
        Persistence {
            disk: Arc::new(MemoryDisk::default()),
            pending: Pending::default(),
            last_is_ok: true,
            last_took_s: None,
            last_save_s: 0,
            saves: 0,
            last_preserved: 0,
            peak_preserved: 0,
            drawing: None,
            is_scheduled: false,
            loading: None,
            loaded: Report::default(),
            frozen: Arc::default(),
            kept: Kept::default(),
            end_asked: None,
            ending: None,
            drawn: 0,
            last_try_s: 0,
            saved_dirty: 0,
        }
    }
}

impl Persistence {
    /// Where the snapshot is to stand. `number` tells several temporary files of a process apart.
    pub fn target(config: &Config, pid: u32, number: Option<u64>) -> Target {
        let dir = Path::new(&config.server.dir);
        let temporary = match number {
            None => format!("temp-{pid}.rdb"),
            Some(number) => format!("temp-{pid}.{number}.rdb"),
        };
        Target { path: dir.join(&config.persistence.dbfilename.0), temporary: dir.join(temporary) }
    }

    /// Whether a snapshot is being written in the background.
    pub fn is_saving(&self) -> bool {
        self.drawing.as_ref().is_some_and(|drawing| !matches!(drawing.purpose, Purpose::Base(_)))
    }

    /// Whether a base of the journal is.
    pub fn is_rewriting(&self) -> bool {
        self.drawing.is_some() && !self.is_saving()
    }

    /// Whether writes are refused, as they could not be saved.
    pub fn refuses_writes(&self, config: &Config) -> bool {
        let settings = &config.persistence;
        !self.last_is_ok && settings.stop_writes_on_bgsave_error && !settings.save.0.is_empty()
    }
}

impl Engine {
    /// Changes that no snapshot holds.
    pub fn unsaved_changes(&self) -> u64 {
        self.unit.dirty.saturating_sub(self.persistence.saved_dirty)
    }

    /// Why writes are refused, if they are: they could not be saved, or not be appended to the journal.
    pub fn refuses_writes(&self) -> Option<Error> {
        if !self.hindered {
            return None;
        }
        if self.persistence.refuses_writes(&self.config) {
            return Some(error::MISCONF);
        }
        let reason = self.journal_failure()?;
        Some(Error::text(format!("MISCONF Errors writing to the AOF file: {reason}")))
    }

    /// The space that the snapshot holds.
    pub(super) fn saved_space(&self) -> SpaceId {
        SpaceId::FIRST
    }

    /// A snapshot holds all changes up to this number.
    pub(super) fn note_saved(&mut self, dirty: u64) {
        self.persistence.saved_dirty = dirty;
        self.persistence.last_save_s = self.now_ms / 1000;
    }

    /// How a snapshot ended that was to be written in the background.
    pub(super) fn note_outcome(&mut self, is_ok: bool) {
        self.persistence.last_is_ok = is_ok;
        self.follow_hindrances();
    }

    /// A snapshot in the background is being tried.
    pub(super) fn note_try(&mut self) {
        self.persistence.last_try_s = self.now_ms / 1000;
        self.persistence.is_scheduled = false;
    }

    /// Begins a snapshot in the background if one is due. The ticks ask.
    pub(crate) fn save_if_due(&mut self) {
        if self.loading || self.persistence.drawing.is_some() {
            return;
        }
        let (now_s, state) = (self.now_ms / 1000, &self.persistence);
        if !state.last_is_ok && now_s - state.last_try_s <= RETRY_S {
            return;
        }
        if state.is_scheduled {
            // If it cannot begin now, it stays scheduled.
            let _ = self.begin_background_save();
            return;
        }
        let changes = self.unsaved_changes();
        let since_s = now_s - state.last_save_s;
        let due = self
            .config
            .persistence
            .save
            .0
            .iter()
            .find(|point| changes >= u64::from(point.changes) && since_s > i64::from(point.seconds));
        if let Some(point) = due.copied() {
            tracing::info!("{} changes in {} seconds. Saving...", point.changes, point.seconds);
            let _ = self.begin_background_save();
        }
    }
}
