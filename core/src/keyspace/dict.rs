//! The hash table: segmented extendible hashing.
//!
//! A directory, indexed by the top bits of the hash, points to segments of 127 buckets. A bucket is a cache line: seven
//! tags (a byte of the hash each), an overflow counter, and seven entries. A full segment is split in two, which costs a
//! few microseconds however large the table is; two sparse neighbours are merged. Within a segment the home bucket
//! follows the hash's order, so a SCAN cursor is simply a lower bound in hash order: splits and merges keep it valid.
//!
//! Beside the directory stands how many entries with a deadline each segment has, and a lower bound of these deadlines.
//! Active expiry finds what has expired there, eviction what may expire, and no entry pays a byte for it. A second such
//! index is for values whose parts have deadlines of their own.
//!
//! The table owns its entries. It does not know time, events or who listens: `Db` does.

#![allow(unsafe_code)]

mod bucket;
mod place;
mod sample;
mod segment;
#[cfg(test)]
mod tests;
mod volatile;
mod walk;

use std::marker::PhantomData;

use bucket::{Bucket, SLOTS, matches, tag};
use segment::{FULL_LEN, Header, Segment};
use volatile::{Summary, Volatile};

pub use place::Place;
pub(crate) use segment::prefetch;

use super::entry::Entry;
use crate::types;

/// Buckets of a full-grown segment: with the header, 8 KiB.
const BUCKETS_MAX: usize = 127;
/// Two neighbours are merged when together they fill less than this.
const FILL_PERCENT_MERGE: usize = 40;

/// The table of a database.
pub struct Dict {
    directory: Vec<Segment>,
    /// The directory is indexed by this many top bits of the hash; at least 1, so that shifts stay below 64.
    bits: u32,
    len: usize,
    volatile: Volatile,
    /// The entries whose values have parts with deadlines: by the next of these.
    partly_volatile: Volatile,
    segments: usize,
    owns: PhantomData<Entry>,
}

// SAFETY: the dict owns its segments and entries exclusively; `Entry` is `Send` and `Sync`.
unsafe impl Send for Dict {}
// SAFETY: shared access only reads.
unsafe impl Sync for Dict {}

impl Default for Dict {
    fn default() -> Dict {
        Dict::new()
    }
}

impl Dict {
    /// An empty table: about 150 bytes on the heap.
    pub fn new() -> Dict {
        let segment = Segment::new(1, 0);
        Dict {
            directory: vec![segment; 2],
            bits: 1,
            len: 0,
            volatile: Volatile::default(),
            partly_volatile: Volatile::default(),
            segments: 1,
            owns: PhantomData,
        }
    }

    /// An empty table that has grown as if so many entries had come: none of them has to be moved when they do.
    pub fn for_entries(count: usize) -> Dict {
        let mut dict = Dict::new();
        if count <= FULL_LEN {
            return dict;
        }
        // Some segments get more than others, and would be full before the last entry has come.
        const EXPECTED: usize = FULL_LEN - FULL_LEN / 8;
        let bits = count.div_ceil(EXPECTED).next_power_of_two().trailing_zeros().max(1);
        let small = dict.segment(0);
        dict.directory = (0..1usize << bits).map(|_| Segment::new(BUCKETS_MAX, bits)).collect();
        dict.bits = bits;
        dict.segments = dict.directory.len();
        // SAFETY: the directory no longer names it, and it has no entries.
        unsafe { small.free_moved() };
        dict
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of entries with a deadline.
    pub fn expiring(&self) -> usize {
        self.volatile.len()
    }

    /// Number of entries whose values have parts with deadlines of their own.
    pub fn partly_expiring(&self) -> usize {
        self.partly_volatile.len()
    }

    /// Slots there are, for DEBUG HTSTATS.
    pub fn capacity(&self) -> usize {
        self.segments().map(|segment| segment.header().buckets as usize * SLOTS).sum()
    }

    /// Bytes of a place in the table.
    pub const SLOT_MEMORY: usize = size_of::<Bucket>().div_ceil(SLOTS);

    /// Bytes of directory and segments, without entries.
    pub fn memory(&self) -> usize {
        // Only a table's first segment is smaller than others.
        let buckets = self.segment(0).header().buckets as usize;
        let segment = size_of::<Header>() + buckets * size_of::<Bucket>();
        self.directory.capacity() * size_of::<Segment>()
            + self.segments * segment
            + self.volatile.memory()
            + self.partly_volatile.memory()
    }

    #[inline(always)]
    fn segment(&self, hash: u64) -> Segment {
        self.directory[(hash >> (64 - self.bits)) as usize]
    }

    /// Each segment once, in hash order.
    fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        let mut i = 0;
        std::iter::from_fn(move || {
            let segment = *self.directory.get(i)?;
            i += if segment.header().depth == 0 {
                self.directory.len()
            } else {
                1 << (self.bits - segment.header().depth)
            };
            Some(segment)
        })
    }

    /// Fetches the home bucket of a hash into the cache.
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: u64) {
        let segment = self.segment(hash);
        prefetch(segment.bucket_ptr(segment.home(hash)).cast());
    }

    /// Fetches the entry that a hash probably means; call it when the bucket has arrived.
    #[inline(always)]
    pub fn prefetch_entry(&self, hash: u64) {
        let segment = self.segment(hash);
        let bucket = segment.bucket(segment.home(hash));
        let found = matches(bucket, tag(hash));
        if found != 0
            && let Some(entry) = &bucket.entries[found.trailing_zeros() as usize / 8]
        {
            prefetch(entry.address());
            prefetch(entry.address().wrapping_add(64));
        }
    }

    /// The entry of a key.
    #[inline(always)]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        let segment = self.segment(hash);
        let (i, slot) = segment.find(hash, key)?;
        segment.bucket(i).entries[slot].as_ref()
    }

    /// The place of a key, to change what is there.
    #[inline(always)]
    pub fn place(&mut self, hash: u64, key: &[u8]) -> Option<Place<'_>> {
        let segment = self.segment(hash);
        let (bucket, slot) = segment.find(hash, key)?;
        Some(Place { dict: self, segment, hash, bucket, slot })
    }

    /// Adds an entry whose key is absent.
    #[inline]
    pub fn insert(&mut self, hash: u64, entry: Entry) -> Place<'_> {
        debug_assert!(self.find(hash, entry.key()).is_none(), "the key must be absent");
        let mut segment = self.segment(hash);
        while segment.is_full() {
            self.grow(hash);
            segment = self.segment(hash);
        }
        self.len += 1;
        if let Some(deadline) = entry.deadline() {
            let place = self.directory_range(hash, segment.header().depth).start;
            self.volatile.added(self.directory.len(), place, deadline);
        }
        if let Some(due) = types::field_due(&entry) {
            let place = self.directory_range(hash, segment.header().depth).start;
            self.partly_volatile.added(self.directory.len(), place, due);
        }
        let (bucket, slot) = segment.put(hash, entry);
        Place { dict: self, segment, hash, bucket, slot }
    }

    /// The place of a key, filled by `make` if there is none; true if it was.
    #[inline(always)]
    pub fn place_or_insert(
        &mut self,
        hash: u64,
        key: &[u8],
        make: impl FnOnce() -> Entry,
    ) -> (Place<'_>, bool) {
        let segment = self.segment(hash);
        match segment.find(hash, key) {
            Some((bucket, slot)) => (Place { dict: self, segment, hash, bucket, slot }, false),
            None => (self.insert(hash, make()), true),
        }
    }

    /// Removes a key's entry.
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        Some(self.place(hash, key)?.remove())
    }

    /// Makes room where `hash` belongs: a small table is rebuilt larger, a full segment split in two.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, hash: u64) {
        let full = self.segment(hash);
        let (depth, buckets) = (full.header().depth, full.header().buckets as usize);
        if depth == 0 && buckets < BUCKETS_MAX {
            let larger = Segment::new((buckets * 2 + 1).min(BUCKETS_MAX), 0);
            full.drain(|hash, entry| {
                larger.put(hash, entry);
            });
            self.directory.fill(larger);
            // SAFETY: the directory no longer names it and its entries have moved.
            unsafe { full.free_moved() };
            return;
        }
        if depth == self.bits {
            assert!(self.bits < 40, "a directory of 2^40 segments is beyond any memory");
            self.directory = self.directory.iter().flat_map(|&segment| [segment; 2]).collect();
            self.bits += 1;
            self.volatile.doubled();
            self.partly_volatile.doubled();
        }
        let (mut summaries, mut partly) = ([Summary::NONE; 2], [Summary::NONE; 2]);
        let halves = [Segment::new(buckets, depth + 1), Segment::new(buckets, depth + 1)];
        full.drain(|hash, entry| {
            let half = (hash >> (63 - depth)) as usize & 1;
            if let Some(deadline) = entry.deadline() {
                summaries[half].add(deadline);
            }
            if let Some(due) = types::field_due(&entry) {
                partly[half].add(due);
            }
            halves[half].put(hash, entry);
        });
        let range = self.directory_range(hash, depth);
        let middle = range.start + range.len() / 2;
        self.directory[range.start..middle].fill(halves[0]);
        self.directory[middle..range.end].fill(halves[1]);
        self.volatile.split(range.start, middle, summaries);
        self.partly_volatile.split(range.start, middle, partly);
        self.segments += 1;
        // SAFETY: as above.
        unsafe { full.free_moved() };
    }

    /// The part of the directory that a segment of this depth, holding `hash`, stands in.
    fn directory_range(&self, hash: u64, depth: u32) -> std::ops::Range<usize> {
        let width = 1usize << (self.bits - depth);
        let first = if depth == 0 { 0 } else { ((hash >> (64 - depth)) as usize) << (self.bits - depth) };
        first..first + width
    }

    /// Merges the segment of `hash` with its neighbour if both have become sparse.
    #[cold]
    #[inline(never)]
    fn shrink(&mut self, hash: u64) {
        let sparse = self.segment(hash);
        let depth = sparse.header().depth;
        if depth == 0 {
            return;
        }
        let neighbour = self.segment(hash ^ (1 << (64 - depth)));
        let limit = BUCKETS_MAX * SLOTS * FILL_PERCENT_MERGE / 100;
        if neighbour.header().depth != depth
            || (sparse.header().len + neighbour.header().len) as usize > limit
        {
            return;
        }
        let merged = Segment::new(BUCKETS_MAX, depth - 1);
        for segment in [sparse, neighbour] {
            segment.drain(|hash, entry| {
                merged.put(hash, entry);
            });
            // SAFETY: its entries have moved, and the directory is overwritten below before anyone can look.
            unsafe { segment.free_moved() };
        }
        let range = self.directory_range(hash, depth - 1);
        let middle = range.start + range.len() / 2;
        self.volatile.merged(range.start, middle);
        self.partly_volatile.merged(range.start, middle);
        self.directory[range].fill(merged);
        self.segments -= 1;
        // The directory halves when no two neighbouring places differ; checked seldom, as it reads all of it.
        if self.bits > 1 && self.segments * 8 < self.directory.len() {
            while self.bits > 1 && self.directory.chunks_exact(2).all(|pair| pair[0] == pair[1]) {
                self.directory = self.directory.chunks_exact(2).map(|pair| pair[0]).collect();
                self.bits -= 1;
                self.volatile.halved();
                self.partly_volatile.halved();
            }
        }
    }
}

impl Drop for Dict {
    fn drop(&mut self) {
        let segments: Vec<Segment> = self.segments().collect();
        for segment in segments {
            segment.drain(|_, entry| drop(entry));
            // SAFETY: the dict is going away, and the segment's entries are gone.
            unsafe { segment.free_moved() };
        }
    }
}
