//! The machine's own hiccups: how long a thread that does nothing but look at the clock is held up, and what fresh
//! memory costs.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::load::histogram;
use crate::process;

/// Memory is touched page by page.
const PAGE: usize = 4096;

/// Reads the clock again and again; returns the gaps between two looks, in nanoseconds.
///
/// Whatever is longer than a microsecond is the machine's: an interrupt, another process, the hypervisor.
pub fn watch_clock(length: Duration) -> Histogram<u64> {
    let mut gaps = histogram();
    let start = Instant::now();
    let mut last = start;
    while last - start < length {
        let now = Instant::now();
        gaps.saturating_record((now - last).as_nanos() as u64);
        last = now;
    }
    gaps
}

/// What it costs to touch memory that the process did not have before.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageCost {
    /// How much was touched.
    pub bytes: u64,
    /// How many page faults that took.
    pub faults: u64,
    /// Mean time of a fault.
    pub fault_ns: u64,
    /// Time of the longest single touch.
    pub touch_ns_max: u64,
}

/// Touches `bytes` of fresh memory, and gives it back.
///
/// Where the machine is virtual, the first touch also makes the host provide the memory, which no counter of the
/// guest shows. After one such round the guest's free memory is backed, and a second round costs the guest's own
/// page faults alone.
pub fn touch_memory(bytes: usize) -> io::Result<PageCost> {
    let mut memory: Vec<u8> = Vec::new();
    memory.try_reserve_exact(bytes).map_err(io::Error::other)?;
    let faults = process::usage(std::process::id())?.minor_faults;
    let start = Instant::now();
    let mut last = start;
    let mut touch_max = Duration::ZERO;
    while memory.len() + PAGE <= bytes {
        memory.resize(memory.len() + PAGE, 1);
        let now = Instant::now();
        touch_max = touch_max.max(now - last);
        last = now;
    }
    std::hint::black_box(&memory);
    let faults = process::usage(std::process::id())?.minor_faults - faults;
    Ok(PageCost {
        bytes: memory.len() as u64,
        faults,
        fault_ns: ((last - start).as_nanos() as u64).checked_div(faults).unwrap_or(0),
        touch_ns_max: touch_max.as_nanos() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_memory_faults() {
        let cost = touch_memory(8 << 20).unwrap();
        assert_eq!(cost.bytes, 8 << 20);
        assert!(cost.faults > 0 && cost.touch_ns_max > 0, "{cost:?}");
    }

    #[test]
    fn the_clock_is_watched_without_gaps() {
        let gaps = watch_clock(Duration::from_millis(20));
        let total: u64 = gaps.iter_recorded().map(|v| v.value_iterated_to() * v.count_at_value()).sum();
        assert!((19_000_000..2_000_000_000).contains(&total), "{total}");
    }
}
