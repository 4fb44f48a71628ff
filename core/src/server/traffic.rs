//! Bytes that a thread has read and written.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The figures of one I/O thread. Only that thread changes them, hence without locked instructions; they keep to a cache
/// line of their own.
#[derive(Default)]
#[repr(align(64))]
pub struct Traffic {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
}

/// The figures of several threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// How often was read.
    pub reads: u64,
    /// How often was written.
    pub writes: u64,
}

impl Traffic {
    /// Bytes were read.
    #[inline(always)]
    pub fn read(&self, len: usize) {
        add(&self.bytes_in, len as u64);
        add(&self.reads, 1);
    }

    /// Bytes were written.
    #[inline(always)]
    pub fn wrote(&self, len: usize) {
        add(&self.bytes_out, len as u64);
        add(&self.writes, 1);
    }

    /// What several threads have read and written.
    pub fn sum(threads: &[Traffic]) -> Sum {
        let sum =
            |of: fn(&Traffic) -> &AtomicU64| threads.iter().map(|thread| of(thread).load(Relaxed)).sum();
        Sum {
            bytes_in: sum(|thread| &thread.bytes_in),
            bytes_out: sum(|thread| &thread.bytes_out),
            reads: sum(|thread| &thread.reads),
            writes: sum(|thread| &thread.writes),
        }
    }
}

#[inline(always)]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}
