//! Units become the stream: the bytes that replicas read.

use std::sync::atomic::Ordering::Relaxed;

use mortise_sdk::resp::encode;

use super::Replication;
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
        let several = unit.iter().filter(is_told).nth(1).is_some();
        let before = self.pending.len();
        if several {
            self.say(&[b"MULTI"]);
        }
        for said in unit.iter().filter(is_told) {
            if self.selected != Some(said.db) {
                self.selected = Some(said.db);
                self.say(&[b"SELECT", said.db.to_string().as_bytes()]);
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

    /// Puts a command into the stream that is about the stream itself.
    pub(super) fn tell(&mut self, words: &[&[u8]]) {
        if self.is_fed() {
            let before = self.pending.len();
            self.say(words);
            self.offset += (self.pending.len() - before) as u64;
        }
    }

    /// Bytes that were ever written to replicas.
    pub(crate) fn bytes_out(&self) -> u64 {
        let sent = self.replicas.values().map(|replica| replica.outbox.bytes_out.load(Relaxed));
        self.counts.bytes_out + sent.sum::<u64>()
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
        let needed = state.replicas.values().filter_map(|replica| replica.needs()).min();
        let mut backlog = backlog.lock();
        backlog.append(&state.pending);
        backlog.trim(self.config.replication.repl_backlog_size.0, needed.unwrap_or(u64::MAX));
        let end = backlog.end();
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
