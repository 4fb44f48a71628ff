//! Entries drawn at random, for eviction.

use super::bucket::SLOTS;
use super::segment::prefetch;
use super::{Dict, Entry};

impl Dict {
    /// An entry chosen by random numbers, each as likely as any other. `None` if the table is empty.
    pub fn sample_evenly(&self, mut random: impl FnMut() -> u64) -> Option<&Entry> {
        if self.is_empty() {
            return None;
        }
        loop {
            let drawn = random();
            let segment = self.segment(drawn);
            // A segment that is named by several places of the directory is drawn more often, and refused as often.
            let names = 1u64 << (self.bits - segment.header().depth);
            if drawn & (names - 1) != 0 {
                continue;
            }
            // All segments of a table have equally many places (if there are several).
            let places = segment.header().buckets as usize * SLOTS;
            let place = (random() % places as u64) as usize;
            if let Some(entry) = &segment.bucket(place / SLOTS).entries[place % SLOTS] {
                return Some(entry);
            }
        }
    }

    /// An entry with a deadline chosen by random numbers, each as likely as any other. `None` if there is none.
    pub fn sample_expiring(&self, mut random: impl FnMut() -> u64) -> Option<&Entry> {
        /// Where fewer places than one in so many hold an entry with a deadline, counting is quicker than drawing.
        const RARE: usize = 16;
        let rank = (random() % self.expiring().max(1) as u64) as usize;
        let (place, rank) = self.volatile.of_rank(rank)?;
        let segment = self.directory[place];
        let buckets = segment.header().buckets as usize;
        let places = buckets * SLOTS;
        if self.volatile.count(place) * RARE >= places {
            for _ in 0..4 * RARE {
                let drawn = (random() % places as u64) as usize;
                let entry = segment.bucket(drawn / SLOTS).entries[drawn % SLOTS].as_ref();
                if let Some(entry) = entry.filter(|entry| entry.has_deadline()) {
                    return Some(entry);
                }
            }
        }
        let ahead = |i: usize| {
            if i + 2 < buckets {
                segment.bucket(i + 2).occupied().for_each(|entry| prefetch(entry.address()));
            }
            segment.bucket(i).occupied()
        };
        (0..buckets).flat_map(ahead).filter(|entry| entry.has_deadline()).nth(rank)
    }
}
