//! Appending: units of the stream on their way into the file.
//!
//! A unit is put behind those before it when it settles, and they are written when the engine is given back, before anybody
//! hears of what they say. When they are made durable is up to `appendfsync`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mortise_sdk::resp::encode;

use super::super::disk::AppendFile;
use super::AppendSync;
use super::state::{Journal, State};
use super::step::Step;
use crate::engine::Engine;
use crate::engine::settle::StreamUnit;
use crate::keyspace::SpaceId;
use crate::server::error_text;

/// A write that fails is logged no more often than once in so many seconds.
const LOG_EVERY_S: i64 = 30;
/// A write waits for a sync so many seconds at most.
const PATIENCE_S: i64 = 2;
/// A buffer that has grown larger is given back.
const KEPT_LEN_MAX: usize = 1 << 20;
/// What the system says when a disk is full.
const ENOSPC: i32 = 28;

/// How much was written, and what then failed, if anything did: nothing more could be written, or the system said why.
type Wrote = (usize, Option<Option<io::Error>>);

/// Something that is written with the engine free: what was to be written, and how that has ended.
pub type Writing = Step<(Vec<u8>, Wrote)>;

/// What whoever gives the engine back has to do, or to wait for, before anybody is told anything.
pub enum Apart {
    /// To write something.
    Mine(Arc<Writing>),
    /// Another thread writes, and this is to be written behind it.
    Anothers(Arc<Writing>),
}

/// Writes all of it, if that can be.
fn write_all(file: &dyn AppendFile, bytes: &[u8], delay: Duration) -> Wrote {
    if !delay.is_zero() {
        std::thread::sleep(delay);
    }
    let mut written = 0;
    while written < bytes.len() {
        match file.append(&bytes[written..]) {
            Ok(0) => return (written, Some(None)),
            Ok(len) => written += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(Some(error))),
        }
    }
    (written, None)
}

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// The line that says when what follows it happened: Unix seconds.
pub(super) fn timestamp(now_s: i64) -> Vec<u8> {
    format!("#TS:{now_s}\r\n").into_bytes()
}

impl Journal {
    /// Puts a unit behind what is to be written. Several commands are one transaction.
    #[inline(always)]
    pub fn feed(&mut self, unit: &StreamUnit, space: SpaceId) {
        let is_ours =
            |said: &crate::engine::unit::Propagated<'_>| said.targets.journal && said.space == space;
        let several = unit.is_whole && unit.iter().filter(is_ours).nth(1).is_some();
        let mut begins = several;
        for said in unit.iter().filter(is_ours) {
            if self.db != Some(said.db) {
                self.select(said.db);
            }
            // In the database of its first command already, as Redis begins a transaction.
            if std::mem::take(&mut begins) {
                self.buffer.extend_from_slice(MULTI);
            }
            self.buffer.extend_from_slice(said.bytes);
        }
        if several {
            self.buffer.extend_from_slice(EXEC);
        }
    }

    #[cold]
    fn select(&mut self, db: u32) {
        self.db = Some(db);
        encode::append_request(&mut self.buffer, [&b"SELECT"[..], db.to_string().as_bytes()].into_iter());
    }

    /// Notes when what follows happens, unless that is known.
    pub(super) fn stamp(&mut self, now_s: i64) {
        if self.stamped_s != now_s {
            self.stamped_s = now_s;
            self.buffer.extend_from_slice(&timestamp(now_s));
        }
    }

    /// Whether there is something to be written.
    #[inline(always)]
    pub fn is_due(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Whether something is being written with the engine free, as far as the engine knows.
    #[inline(always)]
    pub fn is_apart(&self) -> bool {
        self.apart_len > 0
    }

    /// Writes what is in the buffer. What could not be written stays there, if it can be tried again.
    fn write(&mut self, now_s: i64, is_final: bool) -> bool {
        let Some(file) = self.file.clone() else { return false };
        let wrote = write_all(&*file, &self.buffer, self.write_delay);
        self.end_write(wrote, now_s, is_final)
    }

    /// Takes what is in the buffer to be written with the engine free.
    fn write_apart(&mut self) -> Option<Arc<Writing>> {
        let file = self.file.clone()?;
        let (bytes, delay) = (std::mem::take(&mut self.buffer), self.write_delay);
        self.apart_len = bytes.len();
        let step = Step::new(move || {
            let wrote = write_all(&*file, &bytes, delay);
            (bytes, wrote)
        });
        self.writing = Some(step.clone());
        Some(step)
    }

    /// What was to be written with the engine free has been, or is now.
    fn end_apart(&mut self, now_s: i64) {
        let Some(step) = self.writing.take() else { return };
        self.apart_len = 0;
        let Some((mut bytes, wrote)) = step.take() else {
            // What it was is not known any more.
            self.is_lost = true;
            return;
        };
        // What has come meanwhile stands behind it.
        bytes.append(&mut self.buffer);
        let meanwhile = std::mem::replace(&mut self.buffer, bytes);
        if self.end_write(wrote, now_s, false) && self.buffer.is_empty() && self.buffer.capacity() == 0 {
            self.buffer = meanwhile;
        }
    }

    /// How writing from the beginning of the buffer has ended.
    fn end_write(&mut self, (mut written, error): Wrote, now_s: i64, is_final: bool) -> bool {
        let Some(file) = self.file.clone() else { return false };
        self.postponed_since_s = None;
        let Some(error) = error else {
            self.written += written as u64;
            self.size += written as u64;
            self.increment_len += written as u64;
            if written < self.buffer.len() {
                self.buffer.drain(..written);
            } else if self.buffer.capacity() > KEPT_LEN_MAX {
                self.buffer = Vec::new();
            } else {
                self.buffer.clear();
            }
            if self.write_error.take().is_some() {
                tracing::info!("AOF write error looks solved. The server can write again.");
            }
            return true;
        };
        let logs = now_s - self.logged_s > LOG_EVERY_S;
        if logs {
            self.logged_s = now_s;
        }
        let full = || io::Error::from_raw_os_error(ENOSPC);
        let error = match error {
            Some(error) if written == 0 => {
                if logs {
                    tracing::warn!("Error writing to the AOF file: {}", error_text(&error));
                }
                error
            }
            error => {
                if logs {
                    let expected = self.buffer.len();
                    tracing::warn!(
                        "Short write while writing to the AOF file: (nwritten={written}, expected={expected})"
                    );
                }
                match file.truncate(self.increment_len) {
                    Ok(()) => written = 0,
                    Err(error) if logs => tracing::warn!(
                        "Could not remove short write from the append-only file.  The server may refuse to load the AOF \
                         the next time it starts.  ftruncate: {}",
                        error_text(&error)
                    ),
                    Err(_) => {}
                }
                error.unwrap_or_else(full)
            }
        };
        self.write_error = Some(error_text(&error));
        if is_final {
            tracing::warn!(
                "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting..."
            );
            self.is_lost = true;
            self.syncs.promise_nothing();
        } else if written > 0 {
            self.buffer.drain(..written);
            self.written += written as u64;
            self.size += written as u64;
            self.increment_len += written as u64;
        }
        false
    }

    /// Makes durable what has been written, and waits for it.
    pub(super) fn sync_now(&mut self, now_s: i64) {
        let Some(file) = &self.file else { return };
        match file.sync() {
            Ok(()) => {
                self.asked = self.written;
                self.last_sync_s = now_s;
                self.syncs.note_durable(self.written);
            }
            Err(error) => tracing::warn!("Fail to fsync the AOF file: {}", error_text(&error)),
        }
    }
}

impl Engine {
    /// Puts a unit of the stream into the journal.
    #[inline(always)]
    pub(crate) fn feed_journal(&mut self, unit: &StreamUnit) {
        if !self.journal.feeds {
            return;
        }
        if self.config.journal.aof_timestamp_enabled {
            self.journal.stamp(self.now_ms / 1000);
        }
        let space = self.saved_space();
        self.journal.feed(unit, space);
    }

    /// Writes what the journal has to write, and sees to it that it becomes durable when it is to. Whoever gives the
    /// engine back calls this, before anybody is told what the commands say. Only if it is `forced` it does not wait for
    /// a sync that is under way.
    pub fn flush_journal(&mut self, forced: bool) {
        let now_s = self.measured_s();
        let mode = self.config.journal.appendfsync;
        if !self.is_time_to_append(forced, now_s) {
            return;
        }
        if self.journal.write(self.now_ms / 1000, mode == AppendSync::Always) {
            self.sync_journal(mode, now_s);
        }
        self.follow_refusal();
    }

    /// The same, but what there is to write is left to whoever gives the engine back, so that a slow disk holds only those
    /// who hear of it. It is for servers with several threads. Where replies wait for the disk anyway it is written at
    /// once.
    pub fn flush_journal_apart(&mut self) -> Option<Apart> {
        if self.config.journal.appendfsync == AppendSync::Always {
            self.flush_journal(false);
            return None;
        }
        let now_s = self.measured_s();
        let is_time = self.is_time_to_append(false, now_s);
        if self.journal.asked < self.journal.written {
            // Something may be on its way to be written at any time; what has been is not to wait for a lull.
            self.sync_journal(self.config.journal.appendfsync, now_s);
        }
        self.follow_refusal();
        if let Some(writing) = &self.journal.writing {
            return Some(Apart::Anothers(writing.clone()));
        }
        if !is_time {
            return None;
        }
        self.journal.write_apart().map(Apart::Mine)
    }

    fn follow_refusal(&mut self) {
        let refuses = self.journal_refuses_writes();
        if refuses != self.journal.refuses {
            self.follow_hindrances();
        }
    }

    /// Whether there is something to write, and now is the time. If there is nothing, it sees to it that what was written
    /// becomes durable.
    fn is_time_to_append(&mut self, forced: bool, now_s: i64) -> bool {
        let mode = self.config.journal.appendfsync;
        if let Some(writing) = &self.journal.writing {
            let may_wait = !forced && mode != AppendSync::Always;
            if may_wait && !writing.is_done() && !self.is_impatient(now_s) {
                return false;
            }
            self.journal.end_apart(self.now_ms / 1000);
        }
        let is_held = self.journal.beginning.is_some() && !self.follow_beginning(forced, now_s);
        if is_held || !self.journal.is_due() {
            let due = match mode {
                AppendSync::EverySec => now_s > self.journal.last_sync_s && !self.journal.syncs.is_busy(),
                AppendSync::Always => true,
                AppendSync::No => false,
            };
            if (due || self.journal.syncs.holds()) && self.journal.asked < self.journal.written {
                self.sync_journal(mode, now_s);
            }
            return false;
        }
        let is_busy = mode == AppendSync::EverySec && !forced && self.journal.syncs.is_busy();
        !is_busy || self.is_impatient(now_s)
    }

    /// Something has to wait for the disk: whether it has for so long that it must not any longer.
    pub(super) fn is_impatient(&mut self, now_s: i64) -> bool {
        let since_s = *self.journal.postponed_since_s.get_or_insert(now_s);
        if now_s - since_s < PATIENCE_S {
            return false;
        }
        self.journal.delayed += 1;
        tracing::info!(
            "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting for fsync \
             to complete, this may slow down the server."
        );
        true
    }

    /// Has made durable what has been written, if it is time.
    fn sync_journal(&mut self, mode: AppendSync, now_s: i64) {
        // What was promised is waited for, whatever has been set since.
        let is_owed = self.journal.syncs.holds();
        // Whoever says so prefers speed to durability while something else keeps the disk busy.
        if !is_owed && self.config.journal.no_appendfsync_on_rewrite && self.persistence.drawing.is_some() {
            return;
        }
        let journal = &mut self.journal;
        let Some(file) = &journal.file else { return };
        match if is_owed { AppendSync::Always } else { mode } {
            AppendSync::Always => {
                journal.syncs.ask(file, journal.written, true);
                journal.asked = journal.written;
                journal.last_sync_s = now_s;
            }
            AppendSync::EverySec if now_s > journal.last_sync_s => {
                if !journal.syncs.is_busy() {
                    journal.syncs.ask(file, journal.written, false);
                    journal.asked = journal.written;
                }
                journal.last_sync_s = now_s;
            }
            _ => {}
        }
    }

    /// Whether writes are refused, as they could not be appended or made durable.
    pub(crate) fn journal_refuses_writes(&self) -> bool {
        let journal = &self.journal;
        journal.state != State::Off && (journal.write_error.is_some() || journal.syncs.has_failed())
    }

    /// Why they are.
    pub(crate) fn journal_failure(&self) -> Option<String> {
        let journal = &self.journal;
        if journal.state == State::Off {
            return None;
        }
        journal.write_error.clone().or_else(|| journal.syncs.failure())
    }

    /// What the journal has to do from time to time.
    pub(crate) fn tick_journal(&mut self) {
        if self.journal.state == State::Off {
            return;
        }
        // With several threads what was postponed is written as everything is: when the tick gives the engine back.
        if self.config.server.io_threads == 1 || !self.journal.is_due() {
            self.flush_journal(false);
        }
        self.follow_refusal();
    }

    /// Writes everything and makes it durable, as nothing may come after it.
    pub(crate) fn settle_journal(&mut self) {
        self.flush_journal(true);
        let now_s = self.measured_s();
        self.journal.sync_now(now_s);
    }

    /// What the journal has asked and what has come of it, for the thread that does it.
    pub fn syncs(&self) -> Arc<super::syncs::Syncs> {
        self.journal.syncs.clone()
    }
}
