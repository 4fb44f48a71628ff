//! What the allocator says: how much memory is used, and how much of it lies idle.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tikv_jemalloc_ctl::thread::{ThreadLocal, allocatedp, deallocatedp};
use tikv_jemalloc_ctl::{arenas, epoch, raw, stats, stats_print};

/// How old a sample may be that the limit of memory goes by. Asking costs microseconds.
const SAMPLE_AGE_NS: u64 = 1_000_000;

thread_local! {
    static COUNTERS: Option<(ThreadLocal<u64>, ThreadLocal<u64>)> = counters();
    /// The sample that this thread's balance was last added to, and the balance.
    static FOLLOWED: Cell<(u64, i64)> = const { Cell::new((0, 0)) };
}

fn counters() -> Option<(ThreadLocal<u64>, ThreadLocal<u64>)> {
    Some((allocatedp::read().ok()?, deallocatedp::read().ok()?))
}

/// Bytes that this thread has allocated, less those that it has freed.
fn balance() -> i64 {
    COUNTERS.with(|counters| {
        counters.as_ref().map_or(0, |(allocated, freed)| allocated.get().wrapping_sub(freed.get()) as i64)
    })
}

/// Memory in bytes, as last sampled.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What was asked for and not given back, rounded up to the allocator's sizes.
    pub allocated: u64,
    /// The pages that hold it.
    pub active: u64,
    /// Pages of the allocator that are in memory.
    pub resident: u64,
    /// The most that was allocated, of all samples.
    pub peak: u64,
    /// What was allocated before there was any data.
    pub startup: u64,
    /// Bytes on their way to the worker that will free them.
    pub leaving: Leaving,
    samples: u64,
    sampled_ns: u64,
}

/// What is no longer data, but not free yet.
#[derive(Clone, Debug, Default)]
pub struct Leaving(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    bytes: AtomicU64,
    /// Values that are not free yet.
    values: AtomicU64,
    /// Values that a worker has freed.
    freed: AtomicU64,
    /// Bytes that have ever left.
    left: AtomicU64,
}

impl Leaving {
    /// A part of a value leaves, or something else that is no value; its bytes count until what is returned is dropped.
    pub fn begin<T>(&self, thing: T, bytes: u64) -> Departure<T> {
        self.begin_values(thing, bytes, 0)
    }

    /// So many values leave.
    pub fn begin_values<T>(&self, thing: T, bytes: u64, values: u64) -> Departure<T> {
        self.0.bytes.fetch_add(bytes, Relaxed);
        self.0.left.fetch_add(bytes, Relaxed);
        self.0.values.fetch_add(values, Relaxed);
        Departure { thing: Some(thing), bytes, values, leaving: self.0.clone() }
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Relaxed)
    }

    /// How many values there are.
    pub fn values(&self) -> u64 {
        self.0.values.load(Relaxed)
    }

    /// How many values have left since [`Leaving::reset`].
    pub fn freed(&self) -> u64 {
        self.0.freed.load(Relaxed)
    }

    /// Counts anew what has left.
    pub fn reset(&self) {
        self.0.freed.store(0, Relaxed);
    }
}

/// Something that is to be freed, and counts until it is.
pub struct Departure<T> {
    thing: Option<T>,
    bytes: u64,
    values: u64,
    leaving: Arc<Counters>,
}

impl<T> Drop for Departure<T> {
    fn drop(&mut self) {
        drop(self.thing.take());
        self.leaving.bytes.fetch_sub(self.bytes, Relaxed);
        self.leaving.freed.fetch_add(self.values, Relaxed);
        self.leaving.values.fetch_sub(self.values, Relaxed);
    }
}

impl Memory {
    /// Asks the allocator.
    pub fn sample(&mut self) {
        self.samples += 1;
        // The allocator adds up its counters when its epoch advances. It refuses only if it was built without counters:
        // then they stay zero.
        if epoch::advance().is_err() {
            return;
        }
        let read = |value: Result<usize, tikv_jemalloc_ctl::Error>| value.map_or(0, |bytes| bytes as u64);
        self.allocated = read(stats::allocated::read()).saturating_sub(kept_by_threads());
        self.active = read(stats::active::read());
        self.resident = read(stats::resident::read());
        self.peak = self.peak.max(self.allocated);
        if self.startup == 0 {
            self.startup = self.allocated;
        }
    }

    /// Bytes that this thread has freed or left to a worker, less those that it has allocated, from some point on: what
    /// lies between two calls is what was freed in between.
    pub fn given_up(&self) -> i64 {
        self.leaving.0.left.load(Relaxed) as i64 - balance()
    }

    /// What the data takes: as last sampled, and what this thread has allocated and freed since, less what is on its way
    /// out. A sample that is too old at `now_ns` is renewed, so what other threads do shows within a millisecond.
    pub fn in_use(&mut self, now_ns: u64) -> u64 {
        if now_ns.saturating_sub(self.sampled_ns) >= SAMPLE_AGE_NS {
            self.sample();
            self.sampled_ns = now_ns;
        }
        let balance = balance();
        let (sample, before) = FOLLOWED.replace((self.samples, balance));
        if sample == self.samples {
            self.allocated = self.allocated.saturating_add_signed(balance - before);
        }
        self.allocated.saturating_sub(self.leaving.bytes())
    }
}

/// Bytes that threads keep for their next allocations. The allocator counts them as allocated, but they are nobody's, and
/// come and go by tens of kilobytes.
#[allow(unsafe_code)]
fn kept_by_threads() -> u64 {
    /// All arenas together, in the allocator's numbering.
    const KEPT: &[u8] = b"stats.arenas.4096.tcache_bytes\0";
    // SAFETY: the name ends with a NUL, and the allocator keeps a `size_t` under it, which a `usize` is.
    unsafe { raw::read::<usize>(KEPT) }.map_or(0, |bytes| bytes as u64)
}

/// What the allocator says of itself, in its own words.
pub fn report() -> String {
    let mut text = Vec::new();
    // Writing to a vector does not fail.
    let _ = stats_print::stats_print(&mut text, stats_print::Options::default());
    String::from_utf8_lossy(&text).into_owned()
}

/// Gives unused pages back to the system. Takes as long as there are many.
#[allow(unsafe_code)]
pub fn purge() {
    let Ok(arenas) = arenas::narenas::read() else { return };
    for arena in 0..arenas {
        for pages in ["dirty", "muzzy"] {
            let name = format!("arena.{arena}.{pages}_decay_ms\0");
            // SAFETY: the name ends with a NUL, and the allocator keeps an `ssize_t` under it, which an `isize` is.
            let kept = unsafe { raw::read::<isize>(name.as_bytes()) };
            let Ok(kept) = kept else { continue };
            for time_ms in [0, kept] {
                // Unused pages may be kept for no time: all go at once. Then for as long as before.
                // SAFETY: as above.
                let set = unsafe { raw::write::<isize>(name.as_bytes(), time_ms) };
                // An arena that has not been used yet refuses, and has nothing to give back.
                if set.is_err() {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The executable has its own; tests of the library need one that is counted, too.
    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    #[test]
    fn what_is_allocated_is_counted() {
        let mut memory = Memory::default();
        memory.sample();
        let before = memory.clone();
        // Much more than what tests beside this one give back meanwhile; untouched, it takes no pages.
        let block = vec![0u8; 1 << 30];
        memory.sample();
        assert!(memory.allocated >= before.allocated + (512 << 20), "{memory:?} after {before:?}");
        assert!(memory.peak >= memory.allocated && memory.startup == before.startup);
        drop(block);
    }

    #[test]
    fn the_allocator_reports_and_gives_back() {
        assert!(report().starts_with("___ Begin jemalloc statistics ___"));
        drop(vec![1u8; 256 << 20]);
        let mut memory = Memory::default();
        purge();
        memory.sample();
        assert!(memory.resident < memory.allocated + (128 << 20), "{memory:?}");
    }

    #[test]
    fn what_this_thread_does_shows_at_once_and_what_leaves_does_not_count() {
        let mut memory = Memory::default();
        let before = memory.in_use(SAMPLE_AGE_NS);
        // Much more than what tests beside this one give back meanwhile; untouched, it takes no pages.
        let block = vec![0u8; 1 << 30];
        // No time has passed, so the allocator is not asked.
        let during = memory.in_use(SAMPLE_AGE_NS);
        assert!(during >= before + (60 << 20), "{during} after {before}");
        let given_up = memory.given_up();
        let departure = memory.leaving.begin_values(block, 64 << 20, 3);
        assert_eq!((memory.leaving.values(), memory.leaving.freed()), (3, 0));
        let leaving = memory.in_use(SAMPLE_AGE_NS);
        assert!(leaving <= during - (60 << 20), "{leaving} after {during}");
        assert!((memory.given_up() - given_up).abs_diff(64 << 20) < 1 << 20);
        drop(departure);
        let after = memory.in_use(SAMPLE_AGE_NS);
        assert!(after <= during - (60 << 20), "{after} after {during}");
        assert_eq!(memory.leaving.bytes(), 0);
        assert_eq!((memory.leaving.values(), memory.leaving.freed()), (0, 3));
    }
}
