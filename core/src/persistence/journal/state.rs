//! What is known of the journal.

use std::sync::Arc;
use std::time::Duration;

use super::super::disk::AppendFile;
use super::append::Writing;
use super::manifest::Manifest;
use super::rewrite_steps::Beginning;
use super::syncs::Syncs;

/// Whether there is a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// There is none.
    #[default]
    Off,
    /// There will be when its first base is written. What happens meanwhile is kept in a file of its own.
    Waiting,
    /// There is one.
    On,
}

/// The journal that is being written.
#[derive(Default)]
pub struct Journal {
    /// Whether there is one.
    pub state: State,
    /// Which files it consists of.
    pub manifest: Manifest,
    /// What is to become durable.
    pub syncs: Arc<Syncs>,
    /// Bytes of all its files, but for what is being written with the engine free.
    pub size: u64,
    /// Bytes that it had when it was last rewritten, or loaded.
    pub base_size: u64,
    /// How often a write could not wait for a sync any longer.
    pub delayed: u64,
    /// A rewrite is to begin as soon as may be.
    pub is_scheduled: bool,
    /// Whether the last rewrite went well.
    pub last_is_ok: bool,
    /// How long it took, in seconds.
    pub last_took_s: Option<i64>,
    /// Bytes that were copied as they changed meanwhile.
    pub last_preserved: u64,
    /// Rewrites that have begun.
    pub rewrites: u64,
    /// Rewrites that have failed since the last that has not.
    pub failures: u64,
    /// For tests: so long it is waited before each write.
    pub write_delay: Duration,
    /// Something that was acknowledged could not be kept if the server went on: it has to end.
    pub is_lost: bool,
    /// The command that switches it is part of a transaction, whose commands before it have not been appended yet.
    pub(crate) is_in_unit: bool,
    /// What could not be written last, and why.
    pub(super) write_error: Option<String>,
    /// Units of the stream are put into the buffer.
    pub(crate) feeds: bool,
    /// Whether writes are refused because of it, as is known to the gates.
    pub(crate) refuses: bool,
    /// What is to be written next.
    pub(super) buffer: Vec<u8>,
    /// What is being written with the engine free, as far as the engine knows, and how long that is.
    pub(super) writing: Option<Arc<Writing>>,
    pub(super) apart_len: usize,
    /// The file.
    pub(super) file: Option<Arc<dyn AppendFile>>,
    /// The next one, as soon as it may be written.
    pub(super) beginning: Option<Beginning>,
    /// Bytes of the present one.
    pub(super) increment_len: u64,
    /// The database that was last selected in it.
    pub(super) db: Option<u32>,
    /// The moment that was last noted in it.
    pub(super) stamped_s: i64,
    /// Bytes written since the server started.
    pub(super) written: u64,
    /// Up to where they were asked to be made durable.
    pub(super) asked: u64,
    pub(super) last_sync_s: i64,
    pub(super) postponed_since_s: Option<i64>,
    pub(super) logged_s: i64,
    pub(super) limit: Limit,
}

/// After rewrites have failed, the next waits longer and longer.
#[derive(Default)]
pub(super) struct Limit {
    pub(super) delay_minutes: i64,
    pub(super) next_s: Option<i64>,
}

impl Journal {
    /// A server's that has not written any yet.
    pub(crate) fn new() -> Journal {
        Journal { last_is_ok: true, ..Journal::default() }
    }

    /// Bytes of all its files, as they will be when what is being written is.
    pub fn current_size(&self) -> u64 {
        self.size + self.apart_len as u64
    }

    /// How much of everything that is ever appended stands before what comes next.
    #[inline(always)]
    pub(crate) fn place(&self) -> u64 {
        self.written + self.buffered() as u64
    }

    /// Whether what stands before a place is durable, in a journal that is whole.
    pub(crate) fn has_durable(&self, place: u64) -> bool {
        self.state == State::On && self.syncs.durable() >= place
    }

    /// Bytes that are to be written.
    pub fn buffered(&self) -> usize {
        self.buffer.len() + self.apart_len
    }

    /// Bytes that the buffer takes in which they wait.
    pub fn buffer_memory(&self) -> u64 {
        (self.buffer.capacity() + self.apart_len) as u64
    }

    /// Whether the last write went well.
    pub fn last_write_is_ok(&self) -> bool {
        self.write_error.is_none() && !self.syncs.has_failed()
    }

    /// Lets go of what was not written: it is of no use to any file.
    pub(super) fn forget_unwritten(&mut self) {
        self.buffer = Vec::new();
        self.writing = None;
        self.apart_len = 0;
        self.postponed_since_s = None;
        self.asked = self.written;
    }
}
