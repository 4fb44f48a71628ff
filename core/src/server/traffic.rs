//! Bytes that a thread has read and written.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The figures of one I/O thread. Only that thread changes them, hence without locked instructions; they keep to a cache
/// line of their own.
#[derive(Default)]
#[repr(align(64))]
pub struct Traffic {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Traffic {
    /// Bytes were read.
    #[inline(always)]
    pub fn read(&self, len: usize) {
        self.bytes_in.store(self.bytes_in.load(Relaxed).wrapping_add(len as u64), Relaxed);
    }

    /// Bytes were written.
    #[inline(always)]
    pub fn wrote(&self, len: usize) {
        self.bytes_out.store(self.bytes_out.load(Relaxed).wrapping_add(len as u64), Relaxed);
    }

    /// Bytes read and written by all threads.
    pub fn sum(threads: &[Traffic]) -> (u64, u64) {
        let sum =
            |of: fn(&Traffic) -> &AtomicU64| threads.iter().map(|thread| of(thread).load(Relaxed)).sum();
        (sum(|thread| &thread.bytes_in), sum(|thread| &thread.bytes_out))
    }
}
