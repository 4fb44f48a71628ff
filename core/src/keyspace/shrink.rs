//! Giving back the room of tables that were once larger.
//!
//! The standard library's never do so by themselves: what a hundred thousand keys have needed that somebody waited for
//! would stay until the server ends. A table whose owner calls [`Shrink::shrink`] after each removal is at most eight
//! times as large as it has to be, and pays for that with less than one move for each removal.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash};

/// With so little it does not matter.
const CAPACITY_MIN: usize = 64;

/// What can give back room.
pub trait Shrink {
    /// Gives back room if there is much more than needed. To be called after each removal.
    fn shrink(&mut self);
}

/// Empties a buffer that is filled again and again, and gives back what it has beyond so many elements: what one request
/// has needed should not stay for all time.
#[inline(always)]
pub fn empty<T>(buffer: &mut Vec<T>, keep_max: usize) {
    buffer.clear();
    if buffer.capacity() > keep_max {
        buffer.shrink_to(keep_max);
    }
}

/// How much room to keep, if there is too much.
#[inline(always)]
fn fitting(len: usize, capacity: usize) -> Option<usize> {
    (capacity > CAPACITY_MIN && len < capacity / 8).then_some(2 * len)
}

impl<K: Eq + Hash, V, S: BuildHasher> Shrink for HashMap<K, V, S> {
    #[inline(always)]
    fn shrink(&mut self) {
        if let Some(room) = fitting(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

impl<K: Eq + Hash, S: BuildHasher> Shrink for HashSet<K, S> {
    #[inline(always)]
    fn shrink(&mut self) {
        if let Some(room) = fitting(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

impl<T> Shrink for Vec<T> {
    #[inline(always)]
    fn shrink(&mut self) {
        if let Some(room) = fitting(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

impl<T> Shrink for VecDeque<T> {
    #[inline(always)]
    fn shrink(&mut self) {
        if let Some(room) = fitting(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_keep_what_is_usual() {
        let mut buffer = vec![0_u8; 100];
        empty(&mut buffer, 1000);
        assert!(buffer.is_empty() && buffer.capacity() >= 100);
        buffer.resize(100_000, 0);
        empty(&mut buffer, 1000);
        assert!(buffer.is_empty() && buffer.capacity() <= 1000);
    }

    #[test]
    fn room_is_given_back_and_rarely() {
        let mut map: HashMap<u32, u32> = (0..100_000).map(|n| (n, n)).collect();
        let (mut row, mut queue): (Vec<u32>, VecDeque<u32>) =
            ((0..100_000).collect(), (0..100_000).collect());
        let mut sizes = 0;
        for n in 0..100_000 {
            let before = map.capacity();
            map.remove(&n);
            row.pop();
            queue.pop_front();
            map.shrink();
            row.shrink();
            queue.shrink();
            sizes += usize::from(map.capacity() < before / 2);
            for capacity in [map.capacity(), row.capacity(), queue.capacity()] {
                assert!(capacity <= CAPACITY_MIN.max(8 * (map.len() + 1)), "{capacity} at {n}");
            }
        }
        assert!(sizes < 10, "{sizes}");
    }
}
