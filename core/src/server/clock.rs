//! The system's clock, as the engine is handed it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::engine::event::Clock;

/// The system's clock. It is read after each command, so its monotonic time is the processor's own counter where that is
/// steady: a third of what asking the system costs.
pub struct SystemClock {
    counter: quanta::Clock,
    start: u64,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    pub fn new() -> SystemClock {
        let counter = quanta::Clock::new();
        SystemClock { start: counter.raw(), counter }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn monotonic_ns(&self) -> u64 {
        self.counter.delta_as_nanos(self.start, self.counter.raw())
    }

    fn unix_us(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
    }
}
