//! What happens on the clock: timeouts, the end of a pause, active expiry.
//!
//! What may take long is done in slices, between which the engine is everybody's: a slice ends after half a millisecond,
//! and says when the next one is due.

use super::Engine;
use super::call::Key;
use crate::admin::latency::events::Event;
use crate::keyspace::{SpaceId, expire};

/// Share of the time that slices may take, in percent, at `active-expire-effort` 1; each step adds two.
const EXPIRE_PERCENT: u64 = 25;

/// When a slice ends: what it has begun by then takes it to half a millisecond at most.
pub(crate) const SLICE_NS: u64 = 400_000;

/// What is done in slices, and how far it has come.
#[derive(Debug, Default)]
pub(super) struct Slices {
    /// Databases in which this cycle has still to look for what has expired, the next one last.
    to_expire: Vec<(SpaceId, u32)>,
    /// When it goes on: Unix milliseconds.
    next_ms: Option<i64>,
}

impl Engine {
    /// One tick. Returns the time until something is due earlier than the next regular tick, in milliseconds.
    pub fn tick(&mut self, period_ms: u64) -> Option<u64> {
        if self.cron_paused {
            self.end_due();
            return None;
        }
        self.let_asked_end();
        self.refresh_clock();
        self.begin_slices();
        self.end_due();
        self.look_at_clients(period_ms);
        self.look_at_client_memory();
        self.keep_within_limit();
        if self.tracking.is_over() {
            self.forget_some_tracked();
        }
        self.settle();
        self.save_if_due();
        self.rewrite_if_due();
        self.tick_journal();
        self.look_at_replicas();
        self.end_if_due();
        self.expire_own_keys();
        self.free_spent();
        self.settle();
        if self.stats.is_sample_due(self.now_ms) {
            self.sample();
        }
        self.next_due_ms().map(|due| due.saturating_sub(self.now_ms).max(0) as u64)
    }

    /// Does what has come to its time: ends waiting calls and a pause, goes on with a slice. Ticks do so, and so does
    /// whoever knows that something is due between them.
    pub fn end_due(&mut self) {
        self.refresh_clock();
        self.end_expired_waits();
        self.retry_due();
        if self.clients.pause.until_ms().is_some_and(|until| until <= self.now_ms) {
            self.clients.pause.end();
            self.resume_paused();
        }
        if self.failover_due_ms().is_some_and(|due| due <= self.now_ms) {
            self.advance_failover();
        }
        self.settle();
        self.go_on_evicting();
        if self.slices.next_ms.is_some_and(|next| next <= self.now_ms) {
            self.slice();
        }
    }

    /// When something comes to its time next: Unix milliseconds.
    pub fn next_due_ms(&self) -> Option<i64> {
        let due = [
            self.blocked.next_due_ms(),
            self.clients.pause.until_ms(),
            self.slices.next_ms,
            self.eviction_due_ms(),
            self.failover_due_ms(),
        ];
        due.into_iter().flatten().min()
    }

    /// Notes what the process uses and how fast counters grow.
    pub(crate) fn sample(&mut self) {
        self.usage = self.rim.usage();
        let replication = (self.replication.counts.bytes_in, self.replication.bytes_out());
        self.stats.sample(self.now_ms, &self.usage, replication);
        self.memory.sample();
    }

    /// Begins to look for what has expired in all databases, unless that still goes on.
    fn begin_slices(&mut self) {
        if self.slices.to_expire.is_empty() {
            self.slices.to_expire = self.keyspace.places();
        } else {
            self.stats.expire_cycles_cut += 1;
        }
        self.slices.next_ms.get_or_insert(self.now_ms);
    }

    /// Works for a slice's time, and notes when to go on if there is more to do.
    fn slice(&mut self) {
        let start = self.lap_ns;
        self.slices.next_ms = None;
        while self.forget_names() || self.forget_pending() || self.expire_some() || self.stamp_some() {
            self.lap();
            let took_ns = self.lap_ns.saturating_sub(start);
            if took_ns >= SLICE_NS {
                let effort = u64::from(self.config.keyspace.active_expire_effort.saturating_sub(1));
                let percent = EXPIRE_PERCENT + 2 * effort;
                let rest_ms = (took_ns * (100 - percent) / percent + 500_000) / 1_000_000;
                self.slices.next_ms = Some(self.now_ms + rest_ms.max(1) as i64);
                break;
            }
        }
        self.lap();
        let took_ns = self.lap_ns.saturating_sub(start);
        self.stats.expire_cycles_ns += took_ns;
        self.note_latency(Event::ExpireCycle, took_ns);
    }

    /// Goes on with what a cut that was ended early has left; false if there is nothing.
    fn stamp_some(&mut self) -> bool {
        self.keyspace.is_stamping() && !self.keyspace.advance_cut()
    }

    /// Hands what trials and cuts no longer need to the worker.
    pub(crate) fn free_spent(&mut self) {
        for thing in self.keyspace.take_spent() {
            self.unit.discard_later(thing);
        }
    }

    /// Removes a few keys that have expired; false if there is nothing left to do in this cycle.
    fn expire_some(&mut self) -> bool {
        const FOUND_MAX: usize = 16;
        const SEGMENTS: usize = 4;
        // A replica is told by its primary what has expired.
        if self.loading
            || self.replication.is_replica()
            || !self.active_expire
            || self.clients.pause.stops_writes(self.now_ms)
        {
            self.slices.to_expire.clear();
        }
        let Some(&(space, index)) = self.slices.to_expire.last() else { return false };
        let found = expire::walk(self.keyspace.db(space, index).0, self.now_ms, FOUND_MAX, SEGMENTS);
        for key in &found.keys {
            self.expire_key(space, index, Key::new(key));
            self.unit.dirty += 1;
            self.settle();
        }
        if !self.expire_some_parts(space, index) && found.wrapped {
            self.slices.to_expire.pop();
        }
        true
    }

    /// Removes a few parts of values that have expired; false if none is left.
    fn expire_some_parts(&mut self, space: SpaceId, index: u32) -> bool {
        const FOUND_MAX: usize = 4;
        const SEGMENTS: usize = 4;
        const PARTS: usize = 64;
        let db = self.keyspace.db(space, index).0;
        if db.dict().partly_expiring() == 0 {
            return false;
        }
        let from = db.expire_parts_from;
        let found = expire::walk_parts(db, self.now_ms, FOUND_MAX, SEGMENTS);
        let mut leaves_some = false;
        for key in &found.keys {
            leaves_some |= self.expire_parts(space, index, Key::new(key), PARTS);
            self.unit.dirty += 1;
            self.settle();
        }
        if leaves_some {
            self.keyspace.db(space, index).0.expire_parts_from = from;
        }
        leaves_some || !found.wrapped
    }
}
