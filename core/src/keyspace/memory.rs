//! What the allocator says: how much memory is used, and how much of it lies idle.

use tikv_jemalloc_ctl::{epoch, stats};

/// Memory in bytes, as last sampled.
#[derive(Clone, Copy, Debug, Default)]
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
}

impl Memory {
    /// Asks the allocator.
    pub fn sample(&mut self) {
        // The allocator adds up its counters when its epoch advances. It refuses only if it was built without counters:
        // then they stay zero.
        if epoch::advance().is_err() {
            return;
        }
        let read = |value: Result<usize, tikv_jemalloc_ctl::Error>| value.map_or(0, |bytes| bytes as u64);
        self.allocated = read(stats::allocated::read());
        self.active = read(stats::active::read());
        self.resident = read(stats::resident::read());
        self.peak = self.peak.max(self.allocated);
        if self.startup == 0 {
            self.startup = self.allocated;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_counted() {
        let mut memory = Memory::default();
        memory.sample();
        let before = memory;
        let block = vec![1u8; 64 << 20];
        memory.sample();
        assert!(memory.allocated >= before.allocated + (32 << 20), "{memory:?} after {before:?}");
        assert!(memory.peak >= memory.allocated && memory.startup == before.startup);
        drop(block);
    }
}
