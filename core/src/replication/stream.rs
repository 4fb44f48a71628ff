//! Units become the stream: the bytes that replicas read.

use std::sync::atomic::Ordering::Relaxed;

use mortise_sdk::resp::encode;

use super::{Counts, Replication};
use crate::engine::Engine;
use crate::engine::settle::StreamUnit;
use crate::engine::unit::Propagated;
use crate::keyspace::SpaceId;
use crate::persistence::data::InStream;

impl Replication {
    /// A unit was committed: several commands are one transaction.
    pub(crate) fn feed(&mut self, unit: &StreamUnit) {
        if !self.is_fed() {
            return;
        }
        let is_told = |said: &Propagated<'_>| said.targets.replicas && said.space == SpaceId::FIRST;
        let several = unit.is_whole && unit.iter().filter(is_told).nth(1).is_some();
        let before = self.pending.len();
        let mut begins = several;
        for said in unit.iter().filter(is_told) {
            if self.selected != Some(said.db) {
                self.selected = Some(said.db);
                self.say(&[b"SELECT", said.db.to_string().as_bytes()]);
            }
            // In the database of its first command already, as Redis begins a transaction.
            if std::mem::take(&mut begins) {
                self.say(&[b"MULTI"]);
            }
            self.pending.extend_from_slice(said.bytes);
        }
        if several {
            self.say(&[b"EXEC"]);
        }
        self.offset += (self.pending.len() - before) as u64;
    }

    fn say(&mut self, words: &[&[u8]]) {
        encode::append_request(&mut self.pending, words.iter().copied());
    }

    /// Puts a command into the stream that no unit has: one about the stream itself, or whatever DEBUG is told.
    pub(crate) fn tell(&mut self, words: &[&[u8]]) {
        if self.is_fed() {
            let before = self.pending.len();
            self.say(words);
            self.offset += (self.pending.len() - before) as u64;
        }
    }

    /// Bytes that have been written to replicas since counting began.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_ever_out() - self.counts.bytes_out_before
    }

    fn bytes_ever_out(&self) -> u64 {
        let sent = self.replicas.values().map(|replica| replica.outbox.bytes_out.load(Relaxed));
        self.counts.bytes_out + sent.sum::<u64>()
    }

    /// From now on it is counted anew.
    pub(crate) fn reset_counts(&mut self) {
        self.counts = Counts {
            bytes_out: self.counts.bytes_out,
            bytes_out_before: self.bytes_ever_out(),
            ..Counts::default()
        };
    }

    /// The first offset that is still to be kept for some replica.
    fn needed(&self) -> u64 {
        self.replicas.values().filter_map(|replica| replica.needs()).min().unwrap_or(u64::MAX)
    }

    /// The stream of the primary goes on: it is handed on as it came.
    pub(super) fn hand_on(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        if self.backlog.is_some() {
            self.pending.extend_from_slice(bytes);
        }
    }
}

impl Engine {
    /// Gives up what is kept of the stream and nobody needs any more, or the beginning of that.
    pub(super) fn trim_backlog(&mut self) {
        let state = &mut self.replication;
        let needed = state.needed();
        if let Some(backlog) = &state.backlog {
            let mut backlog = backlog.lock();
            backlog.trim(self.config.replication.repl_backlog_size.0, needed);
            state.kept = (backlog.len(), backlog.memory());
        }
    }

    /// Where in the stream the data is now, if anybody could go on from there.
    pub(crate) fn in_stream(&self) -> Option<InStream> {
        let state = &self.replication;
        let (is_known, db) = match &state.following {
            Some(following) => (following.resumes, following.db),
            None => (state.backlog.is_some(), state.selected.unwrap_or(0)),
        };
        is_known.then_some(InStream { name: state.name, offset: state.offset, db })
    }

    /// The engine is about to be released: what the stream has got meanwhile is kept, and sent to replicas.
    #[inline(always)]
    pub(crate) fn pass_on(&mut self) {
        if !self.replication.pending.is_empty() {
            self.pass_stream_on();
        }
    }

    #[cold]
    pub(super) fn pass_stream_on(&mut self) {
        /// More is not kept for the next time.
        const KEEP_LEN_MAX: usize = 1 << 20;
        let state = &mut self.replication;
        let Some(backlog) = &state.backlog else {
            state.pending.clear();
            return;
        };
        let needed = state.needed();
        let mut backlog = backlog.lock();
        backlog.append(&state.pending);
        backlog.trim(self.config.replication.repl_backlog_size.0, needed);
        let end = backlog.end();
        state.kept = (backlog.len(), backlog.memory());
        drop(backlog);
        debug_assert_eq!(end, state.offset, "what is kept is the stream's end");
        state.pending.clear();
        if state.pending.capacity() > KEEP_LEN_MAX {
            state.pending = Vec::new();
        }
        let limits = self.output_limits_min;
        let mut laden = Vec::new();
        for replica in state.replicas.values() {
            if replica.is_fed() {
                self.wake.push(replica.outbox.clone());
            }
            if replica.behind(end) > limits {
                laden.push(replica.id);
            }
        }
        for id in laden {
            self.check_output_limit(id, 0);
        }
    }
}
