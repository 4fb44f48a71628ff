//! What happens on the clock: timeouts, the end of a pause, active expiry.

use super::Engine;
use super::call::Key;
use crate::keyspace::expire;

/// Share of a tick that active expiry may take, in percent, at `active-expire-effort` 1; each step adds two.
const EXPIRE_PERCENT: u64 = 25;

impl Engine {
    /// One tick. Returns the time until something is due earlier than the next regular tick, in milliseconds.
    pub fn tick(&mut self, period_ms: u64) -> Option<u64> {
        self.end_due();
        self.look_at_clients(period_ms);
        if self.active_expire && !self.clients.pause.stops_writes(self.now_ms) {
            let start = self.lap_ns;
            self.expire_actively(period_ms);
            self.stats.expire_cycles_ns += self.lap_ns.saturating_sub(start);
        }
        self.keep_within_limit();
        self.settle();
        if self.stats.is_sample_due(self.now_ms) {
            self.sample();
        }
        self.next_due_ms().map(|due| due.saturating_sub(self.now_ms).max(0) as u64)
    }

    /// Ends what has come to its time: waiting calls, a pause. Ticks do so, and so does whoever knows that something is
    /// due between them.
    pub fn end_due(&mut self) {
        self.refresh_clock();
        self.end_expired_waits();
        self.retry_due();
        if self.clients.pause.until_ms().is_some_and(|until| until <= self.now_ms) {
            self.clients.pause.end();
            self.resume_paused();
        }
        self.settle();
    }

    /// When something comes to its time next: Unix milliseconds.
    pub fn next_due_ms(&self) -> Option<i64> {
        [self.blocked.next_due_ms(), self.clients.pause.until_ms()].into_iter().flatten().min()
    }

    /// Notes what the process uses and how fast counters grow.
    pub(crate) fn sample(&mut self) {
        self.usage = self.rim.usage();
        self.stats.sample(self.now_ms, &self.usage);
        self.memory.sample();
    }

    /// Removes expired keys until none are left or the time for it is used up.
    fn expire_actively(&mut self, period_ms: u64) {
        const FOUND_MAX: usize = 64;
        const SEGMENTS: usize = 64;
        let effort = u64::from(self.config.keyspace.active_expire_effort.saturating_sub(1));
        let budget_ns = period_ms * 10_000 * (EXPIRE_PERCENT + 2 * effort);
        let start = self.lap_ns;
        for (space, index) in self.keyspace.places() {
            loop {
                let now_ms = self.now_ms;
                let found = expire::walk(self.keyspace.db(space, index).0, now_ms, FOUND_MAX, SEGMENTS);
                for key in &found.keys {
                    self.expire_key(space, index, Key::new(key));
                    self.unit.dirty += 1;
                    self.settle();
                }
                self.lap();
                if self.lap_ns.saturating_sub(start) > budget_ns {
                    self.stats.expire_cycles_cut += 1;
                    return;
                }
                if found.wrapped {
                    break;
                }
            }
        }
    }
}
