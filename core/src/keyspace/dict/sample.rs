//! Entries drawn at random, for eviction.

use super::bucket::SLOTS;
use super::{Dict, Entry};

impl Dict {
    /// An entry chosen by a random number, nearly uniformly. `None` if the table is empty.
    pub fn sample(&self, mut random: impl FnMut() -> u64) -> Option<&Entry> {
        if self.is_empty() {
            return None;
        }
        loop {
            let hash = random();
            let segment = self.segment(hash);
            let bucket = segment.bucket(segment.home(hash));
            // Rejecting free slots makes a full bucket as likely per entry as a sparse one.
            if let Some(entry) = &bucket.entries[(random() % SLOTS as u64) as usize] {
                return Some(entry);
            }
        }
    }

    /// An entry with a deadline chosen by random numbers: from the first segment that has any, from a random one on.
    /// `None` if there is none.
    pub fn sample_expiring(&self, mut random: impl FnMut() -> u64) -> Option<&Entry> {
        if self.expiring == 0 {
            return None;
        }
        let mut hash = random();
        let segment = loop {
            let segment = self.segment(hash);
            if segment.header().expiring > 0 {
                break segment;
            }
            hash = Dict::following(segment, hash).unwrap_or(0);
        };
        let buckets = segment.header().buckets as usize;
        let places = buckets * SLOTS;
        let at = |place: usize| segment.bucket(place / SLOTS).entries[place % SLOTS].as_ref();
        let mut first = 0;
        // A place drawn blindly is as likely as any other; where deadlines are rare, the next one after it will do.
        for _ in 0..2 * places / segment.header().expiring as usize {
            first = (random() % places as u64) as usize;
            if let Some(entry) = at(first).filter(|entry| entry.has_deadline()) {
                return Some(entry);
            }
        }
        (first..places).chain(0..first).filter_map(at).find(|entry| entry.has_deadline())
    }
}
