//! The hash table: segmented extendible hashing.
//!
//! A directory, indexed by the top bits of the hash, points to segments of 127 buckets. A bucket is a cache line: seven
//! tags (a byte of the hash each), an overflow counter, and seven entries. A full segment is split in two, which costs a
//! few microseconds however large the table is; two sparse neighbours are merged. Within a segment the home bucket
//! follows the hash's order, so a SCAN cursor is simply a lower bound in hash order: splits and merges keep it valid.
//!
//! A segment's header also counts its entries with a deadline and keeps a lower bound of these deadlines. Active expiry
//! finds what has expired by reading headers, and no entry pays a byte for it.
//!
//! The table owns its entries. It does not know time, events or who listens: `Db` does.

#![allow(unsafe_code)]

mod bucket;
mod sample;

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;

use bucket::{Bucket, SLOTS, matches, tag};

use super::entry::Entry;
use super::hash::hash;

/// Buckets of a full-grown segment: with the header, 8 KiB.
const BUCKETS_MAX: usize = 127;
const FILL_PERCENT_MAX: usize = 86;
/// Two neighbours are merged when together they fill less than this.
const FILL_PERCENT_MERGE: usize = 40;
const NO_DEADLINE: i64 = i64::MAX;
/// The cursor of SCAN has 48 bits, so that it fits into clients' doubles.
const CURSOR_SHIFT: u32 = 16;

#[repr(C, align(64))]
struct Header {
    len: u32,
    buckets: u32,
    /// How many of the hash's top bits all entries share.
    depth: u32,
    expiring: u32,
    /// No entry expires before this.
    deadline_min: i64,
}

#[derive(Clone, Copy)]
struct Segment(NonNull<Header>);

const _: () = assert!(size_of::<Bucket>() == 64 && size_of::<Header>() == 64);

impl Segment {
    fn layout(buckets: usize) -> Layout {
        Layout::from_size_align(64 + buckets * 64, 64).expect("a segment is 8 KiB at most")
    }

    fn new(buckets: usize, depth: u32) -> Segment {
        let layout = Segment::layout(buckets);
        // SAFETY: the layout is not zero-sized. All zeroes are a valid header and valid buckets: tags 0 mean free, and
        // `Option<Entry>` with its niche in a `NonNull` is `None` when zero.
        unsafe {
            let Some(ptr) = NonNull::new(alloc_zeroed(layout).cast::<Header>()) else {
                handle_alloc_error(layout)
            };
            let header = &mut *ptr.as_ptr();
            header.buckets = buckets as u32;
            header.depth = depth;
            header.deadline_min = NO_DEADLINE;
            Segment(ptr)
        }
    }

    /// Frees the segment without its entries, which have been moved elsewhere.
    ///
    /// # Safety
    /// Nobody may use the segment afterwards.
    unsafe fn free_moved(self) {
        // SAFETY: it was allocated with this layout; the caller promises the rest.
        unsafe { dealloc(self.0.as_ptr().cast(), Segment::layout(self.header().buckets as usize)) }
    }

    // SAFETY (of the accessors): a `Segment` is only reachable through the `Dict` that owns it, and each public
    // function of `Dict` borrows the dict for as long as what it hands out lives.
    #[inline(always)]
    fn header<'a>(self) -> &'a Header {
        // SAFETY: see above.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn header_mut<'a>(mut self) -> &'a mut Header {
        // SAFETY: see above; callers hold the dict exclusively and keep one header borrow at a time.
        unsafe { self.0.as_mut() }
    }

    #[inline(always)]
    fn bucket_ptr(self, i: usize) -> *mut Bucket {
        debug_assert!(i < self.header().buckets as usize);
        // SAFETY: `i` is below the number of buckets, which follow the header in the same allocation.
        unsafe { self.0.as_ptr().add(1).cast::<Bucket>().add(i) }
    }

    #[inline(always)]
    fn bucket<'a>(self, i: usize) -> &'a Bucket {
        // SAFETY: see above.
        unsafe { &*self.bucket_ptr(i) }
    }

    #[inline(always)]
    fn bucket_mut<'a>(self, i: usize) -> &'a mut Bucket {
        // SAFETY: see above; callers hold the dict exclusively and keep one bucket borrow at a time.
        unsafe { &mut *self.bucket_ptr(i) }
    }

    /// The home bucket: the 32 bits below the shared prefix, scaled, so that it grows with the hash.
    #[inline(always)]
    fn home(self, hash: u64) -> usize {
        let header = self.header();
        let x = (hash << header.depth) >> 32;
        ((x * u64::from(header.buckets)) >> 32) as usize
    }

    #[inline(always)]
    fn next(self, i: usize) -> usize {
        if i + 1 == self.header().buckets as usize { 0 } else { i + 1 }
    }

    #[inline(always)]
    fn find(self, hash: u64, key: &[u8]) -> Option<(usize, usize)> {
        let mut i = self.home(hash);
        let tag = tag(hash);
        for _ in 0..self.header().buckets {
            let bucket = self.bucket(i);
            let mut found = matches(bucket, tag);
            while found != 0 {
                let slot = found.trailing_zeros() as usize / 8;
                found &= found - 1;
                if let Some(entry) = &bucket.entries[slot]
                    && entry.key() == key
                {
                    return Some((i, slot));
                }
            }
            if bucket.overflow == 0 {
                return None;
            }
            i = self.next(i);
        }
        None
    }

    fn is_full(self) -> bool {
        let header = self.header();
        header.len as usize >= (header.buckets as usize * SLOTS * FILL_PERCENT_MAX / 100).max(1)
    }

    /// Puts an entry whose key is absent into a segment that is not full.
    fn put(self, hash: u64, entry: Entry) -> (usize, usize) {
        let header = self.header_mut();
        header.len += 1;
        if let Some(deadline) = entry.deadline() {
            header.expiring += 1;
            header.deadline_min = header.deadline_min.min(deadline);
        }
        let mut i = self.home(hash);
        loop {
            let bucket = self.bucket_mut(i);
            if let Some(slot) = bucket.free_slot() {
                bucket.tags[slot] = tag(hash);
                bucket.entries[slot] = Some(entry);
                return (i, slot);
            }
            bucket.overflow = bucket.overflow.saturating_add(1);
            i = self.next(i);
        }
    }

    fn take(self, hash: u64, at: (usize, usize)) -> Entry {
        let (i, slot) = at;
        let bucket = self.bucket_mut(i);
        bucket.tags[slot] = 0;
        let entry = bucket.entries[slot].take().expect("the position was found occupied");
        let mut passed = self.home(hash);
        while passed != i {
            let bucket = self.bucket_mut(passed);
            if bucket.overflow != u8::MAX {
                bucket.overflow -= 1;
            }
            passed = self.next(passed);
        }
        let header = self.header_mut();
        header.len -= 1;
        if entry.has_deadline() {
            header.expiring -= 1;
            if header.expiring == 0 {
                header.deadline_min = NO_DEADLINE;
            }
        }
        entry
    }

    /// Moves every entry out; the segment is empty (and its overflow counters stale) afterwards.
    fn drain(self, mut to: impl FnMut(u64, Entry)) {
        /// How far ahead entries are fetched into the cache.
        const AHEAD: usize = 4;
        let buckets = self.header().buckets as usize;
        for i in 0..buckets + AHEAD {
            if i < buckets {
                self.bucket(i).occupied().for_each(|entry| prefetch(entry.address()));
            }
            if let Some(i) = i.checked_sub(AHEAD) {
                for slot in 0..SLOTS {
                    if let Some(entry) = self.bucket_mut(i).entries[slot].take() {
                        to(hash(entry.key()), entry);
                    }
                }
            }
        }
    }
}

/// The table of a database.
pub struct Dict {
    directory: Vec<Segment>,
    /// The directory is indexed by this many top bits of the hash; at least 1, so that shifts stay below 64.
    bits: u32,
    len: usize,
    expiring: usize,
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
    /// An empty table: under 200 bytes.
    pub fn new() -> Dict {
        let segment = Segment::new(1, 0);
        Dict { directory: vec![segment; 2], bits: 1, len: 0, expiring: 0, segments: 1, owns: PhantomData }
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
        self.expiring
    }

    /// Slots there are, for DEBUG HTSTATS.
    pub fn capacity(&self) -> usize {
        self.segments().map(|segment| segment.header().buckets as usize * SLOTS).sum()
    }

    /// Bytes of a place in the table.
    pub const SLOT_MEMORY: usize = size_of::<Bucket>().div_ceil(SLOTS);

    /// Bytes of directory and segments, without entries.
    pub fn memory(&self) -> usize {
        self.directory.capacity() * size_of::<Segment>() + self.segments * (64 + BUCKETS_MAX * 64)
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
        self.expiring += usize::from(entry.has_deadline());
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
        }
        let halves = [Segment::new(buckets, depth + 1), Segment::new(buckets, depth + 1)];
        full.drain(|hash, entry| {
            halves[(hash >> (63 - depth)) as usize & 1].put(hash, entry);
        });
        let range = self.directory_range(hash, depth);
        let middle = range.start + range.len() / 2;
        self.directory[range.start..middle].fill(halves[0]);
        self.directory[middle..range.end].fill(halves[1]);
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
        self.directory[range].fill(merged);
        self.segments -= 1;
        // The directory halves when no two neighbouring places differ; checked seldom, as it reads all of it.
        if self.bits > 1 && self.segments * 8 < self.directory.len() {
            while self.bits > 1 && self.directory.chunks_exact(2).all(|pair| pair[0].0 == pair[1].0) {
                self.directory = self.directory.chunks_exact(2).map(|pair| pair[0]).collect();
                self.bits -= 1;
            }
        }
    }

    /// Visits at least `count` entries (or all that are left) in hash order, from a cursor on; returns the next cursor,
    /// 0 at the end. What is there from the first call to the last is visited at least once, however the table grows
    /// and shrinks in between.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(&Entry)) -> u64 {
        let mut lower = cursor << CURSOR_SHIFT;
        let mut visited = 0;
        loop {
            let upper = self.visit_bucket_range(lower, &mut |_, entry| {
                visited += 1;
                visit(entry);
            });
            let Some(upper) = upper else { return 0 };
            lower = upper;
            if visited >= count {
                return lower >> CURSOR_SHIFT;
            }
        }
    }

    /// Visits the entries whose hash lies in [lower, upper), where `upper` is the end of the home bucket of `lower`
    /// rounded up to a cursor's granularity; returns `upper`, or `None` at the end of the table.
    fn visit_bucket_range(&self, lower: u64, visit: &mut dyn FnMut(u64, &Entry)) -> Option<u64> {
        let segment = self.segment(lower);
        let (depth, buckets) = (segment.header().depth, segment.header().buckets as usize);
        let home = segment.home(lower);
        let segment_first = if depth == 0 { 0 } else { lower & !(u64::MAX >> depth) };
        let segment_end = u128::from(segment_first) + (1u128 << (64 - depth));
        // The first 32-bit fraction whose home is beyond this bucket, turned back into a hash.
        let fraction = ((home as u128 + 1) << 32).div_ceil(buckets as u128);
        let bucket_end = u128::from(segment_first) + ((fraction << 32) >> depth);
        let granule = (1u128 << CURSOR_SHIFT) - 1;
        let upper = (bucket_end.min(segment_end) + granule) & !granule;
        let last_home = segment.home((upper - 1).min(segment_end - 1) as u64);
        let mut i = home;
        for step in 0..buckets {
            let bucket = segment.bucket(i);
            for entry in bucket.occupied() {
                let hash = hash(entry.key());
                if hash >= lower && u128::from(hash) < upper {
                    visit(hash, entry);
                }
            }
            if step >= last_home - home && bucket.overflow == 0 {
                break;
            }
            i = segment.next(i);
        }
        u64::try_from(upper).ok()
    }

    /// Visits every entry of the segment that holds `hash`; returns the first hash of the next segment, `None` after the
    /// last one. Walking from 0 with what it returns visits every entry once if nothing changes in between.
    pub fn visit_segment(&self, hash: u64, mut visit: impl FnMut(&Entry)) -> Option<u64> {
        let segment = self.segment(hash);
        for i in 0..segment.header().buckets as usize {
            segment.bucket(i).occupied().for_each(&mut visit);
        }
        Dict::following(segment, hash)
    }

    /// As [`Dict::visit_segment`], with entries that may be stamped.
    pub(super) fn visit_segment_mut(&mut self, hash: u64, mut visit: impl FnMut(&mut Entry)) -> Option<u64> {
        let segment = self.segment(hash);
        for i in 0..segment.header().buckets as usize {
            segment.bucket_mut(i).entries.iter_mut().flatten().for_each(&mut visit);
        }
        Dict::following(segment, hash)
    }

    fn following(segment: Segment, hash: u64) -> Option<u64> {
        let depth = segment.header().depth;
        if depth == 0 {
            return None;
        }
        ((hash | (u64::MAX >> depth)) as u128 + 1).try_into().ok()
    }

    /// Visits the entries that have expired in the segment that holds `hash`, if its header says that there may be any,
    /// and renews the header's lower bound with what is left. Returns the first hash of the next segment.
    pub fn visit_expired(&mut self, hash: u64, now_ms: i64, mut visit: impl FnMut(&Entry)) -> Option<u64> {
        let segment = self.segment(hash);
        if segment.header().deadline_min <= now_ms {
            let mut deadline_min = NO_DEADLINE;
            let buckets = segment.header().buckets as usize;
            for i in 0..buckets {
                if i + 2 < buckets {
                    segment.bucket(i + 2).occupied().for_each(|entry| prefetch(entry.address()));
                }
                for entry in segment.bucket(i).occupied() {
                    match entry.deadline() {
                        Some(deadline) if deadline <= now_ms => visit(entry),
                        Some(deadline) => deadline_min = deadline_min.min(deadline),
                        None => {}
                    }
                }
            }
            segment.header_mut().deadline_min = deadline_min;
        }
        Dict::following(segment, hash)
    }

    /// Every entry, in hash order of the segments.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.segments().flat_map(|segment| {
            (0..segment.header().buckets as usize).flat_map(move |i| segment.bucket(i).occupied())
        })
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

/// An occupied place in the table.
pub struct Place<'a> {
    dict: &'a mut Dict,
    segment: Segment,
    hash: u64,
    bucket: usize,
    slot: usize,
}

impl<'a> Place<'a> {
    /// The key's hash.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The entry.
    #[inline(always)]
    pub fn entry(&self) -> &Entry {
        self.segment.bucket(self.bucket).entries[self.slot].as_ref().expect("a place is occupied")
    }

    /// The entry, to be changed in anything but its key and deadline.
    #[inline(always)]
    pub(super) fn entry_mut(&mut self) -> &mut Entry {
        self.segment.bucket_mut(self.bucket).entries[self.slot].as_mut().expect("a place is occupied")
    }

    /// The entry, for as long as the table is borrowed.
    #[inline(always)]
    pub(super) fn into_entry(self) -> &'a Entry {
        let Place { dict, segment, bucket, slot, .. } = self;
        let _: &'a mut Dict = dict;
        segment.bucket(bucket).entries[slot].as_ref().expect("a place is occupied")
    }

    /// Sets or removes the deadline.
    pub(super) fn set_deadline(&mut self, deadline: Option<i64>) {
        let had = self.entry().has_deadline();
        self.entry_mut().set_deadline(deadline);
        let header = self.segment.header_mut();
        match (had, deadline) {
            (false, Some(_)) => {
                header.expiring += 1;
                self.dict.expiring += 1;
            }
            (true, None) => {
                header.expiring -= 1;
                self.dict.expiring -= 1;
            }
            _ => {}
        }
        if let Some(deadline) = deadline {
            header.deadline_min = header.deadline_min.min(deadline);
        } else if header.expiring == 0 {
            header.deadline_min = NO_DEADLINE;
        }
    }

    /// Puts another entry with the same key in its place and returns the old one.
    pub(super) fn replace(&mut self, entry: Entry) -> Entry {
        debug_assert_eq!(self.entry().key(), entry.key());
        let deadline = entry.deadline();
        let had = self.entry().has_deadline();
        let old = std::mem::replace(self.entry_mut(), entry);
        let header = self.segment.header_mut();
        header.expiring = header.expiring + u32::from(deadline.is_some()) - u32::from(had);
        self.dict.expiring = self.dict.expiring + usize::from(deadline.is_some()) - usize::from(had);
        header.deadline_min = header.deadline_min.min(deadline.unwrap_or(NO_DEADLINE));
        old
    }

    /// Takes the entry out of the table.
    pub(super) fn remove(self) -> Entry {
        let entry = self.segment.take(self.hash, (self.bucket, self.slot));
        self.dict.len -= 1;
        self.dict.expiring -= usize::from(entry.has_deadline());
        let header = self.segment.header();
        if header.depth > 0 && (header.len as usize) < BUCKETS_MAX * SLOTS * FILL_PERCENT_MERGE / 200 {
            self.dict.shrink(self.hash);
        }
        entry
    }
}

#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it never faults, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch(address.cast(), _MM_HINT_T0);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests;
