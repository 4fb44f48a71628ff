//! A clock that goes on by a step each time it is read, and jumps when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use mortise_core::engine::event::Clock;

/// The clock. Clones are one clock.
#[derive(Clone)]
pub(super) struct SimClock(Arc<Times>);

struct Times {
    monotonic_ns: AtomicU64,
    step_ns: AtomicU64,
    /// Unix microseconds when the monotonic time began.
    origin_us: AtomicI64,
    latest_us: AtomicI64,
}

/// How far it goes when it is read.
const STEP_NS: u64 = 500;

impl SimClock {
    /// A clock that shows this time.
    pub(super) fn new(unix_ms: i64) -> SimClock {
        SimClock(Arc::new(Times {
            monotonic_ns: AtomicU64::new(0),
            step_ns: AtomicU64::new(STEP_NS),
            origin_us: AtomicI64::new(unix_ms * 1000),
            latest_us: AtomicI64::new(unix_ms * 1000),
        }))
    }

    /// Unix milliseconds.
    pub(super) fn unix_ms(&self) -> i64 {
        self.unix_us() / 1000
    }

    /// Nanoseconds since it began.
    pub(super) fn ns(&self) -> u64 {
        self.0.monotonic_ns.load(Relaxed)
    }

    /// The latest time of day that it has shown: Unix milliseconds.
    pub(super) fn latest_ms(&self) -> i64 {
        self.0.latest_us.fetch_max(self.unix_us(), Relaxed);
        self.0.latest_us.load(Relaxed) / 1000 + 1
    }

    /// Goes on.
    pub(super) fn advance_ms(&self, ms: u64) {
        self.0.monotonic_ns.fetch_add(ms * 1_000_000, Relaxed);
    }

    /// Shows another time of day from now on; other clocks that measure do not notice.
    pub(super) fn jump_ms(&self, ms: i64) {
        self.latest_ms();
        self.0.origin_us.fetch_add(ms * 1000, Relaxed);
        // The time of day is asked for once a millisecond.
        self.advance_ms(2);
    }

    /// Goes so fast while something is done.
    pub(super) fn at_pace<T>(&self, step_ns: u64, what: impl FnOnce() -> T) -> T {
        self.0.step_ns.store(step_ns, Relaxed);
        let done = what();
        self.0.step_ns.store(STEP_NS, Relaxed);
        done
    }
}

impl Clock for SimClock {
    fn monotonic_ns(&self) -> u64 {
        self.0.monotonic_ns.fetch_add(self.0.step_ns.load(Relaxed), Relaxed)
    }

    fn unix_us(&self) -> i64 {
        self.0.origin_us.load(Relaxed) + (self.0.monotonic_ns.load(Relaxed) / 1000) as i64
    }
}
