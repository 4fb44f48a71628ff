//! A segment of the table: a header and buckets in one allocation.
//!
//! This file owns the layout, and all that is `unsafe` about the table but the freeing of segments whose entries have
//! moved, which `Dict` alone can answer for. It knows no directory and no deadlines.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::BUCKETS_MAX;
use super::bucket::{Bucket, SLOTS, matches, tag};
use crate::keyspace::entry::Entry;
use crate::keyspace::hash::hash;

const FILL_PERCENT_MAX: usize = 86;

/// Entries of a full-grown segment that is full.
pub(super) const FULL_LEN: usize = BUCKETS_MAX * SLOTS * FILL_PERCENT_MAX / 100;

/// What stands in front of a segment's buckets.
#[repr(C, align(64))]
pub(super) struct Header {
    pub(super) len: u32,
    pub(super) buckets: u32,
    /// How many of the hash's top bits all entries share.
    pub(super) depth: u32,
}

/// A segment, wherever the directory names it. It owns nothing: the [`Dict`](super::Dict) does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment(NonNull<Header>);

const _: () = assert!(size_of::<Bucket>() == 64 && size_of::<Header>() == 64);

impl Segment {
    fn layout(buckets: usize) -> Layout {
        Layout::from_size_align(64 + buckets * 64, 64).expect("a segment is 8 KiB at most")
    }

    pub(super) fn new(buckets: usize, depth: u32) -> Segment {
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
            Segment(ptr)
        }
    }

    /// Frees the segment without its entries, which have been moved elsewhere.
    ///
    /// # Safety
    /// Nobody may use the segment afterwards.
    pub(super) unsafe fn free_moved(self) {
        // SAFETY: it was allocated with this layout; the caller promises the rest.
        unsafe { dealloc(self.0.as_ptr().cast(), Segment::layout(self.header().buckets as usize)) }
    }

    // SAFETY (of the accessors): a `Segment` is only reachable through the `Dict` that owns it, and each public
    // function of `Dict` borrows the dict for as long as what it hands out lives.
    #[inline(always)]
    pub(super) fn header<'a>(self) -> &'a Header {
        // SAFETY: see above.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn header_mut<'a>(mut self) -> &'a mut Header {
        // SAFETY: see above; callers hold the dict exclusively and keep one header borrow at a time.
        unsafe { self.0.as_mut() }
    }

    #[inline(always)]
    pub(super) fn bucket_ptr(self, i: usize) -> *mut Bucket {
        debug_assert!(i < self.header().buckets as usize);
        // SAFETY: `i` is below the number of buckets, which follow the header in the same allocation.
        unsafe { self.0.as_ptr().add(1).cast::<Bucket>().add(i) }
    }

    #[inline(always)]
    pub(super) fn bucket<'a>(self, i: usize) -> &'a Bucket {
        // SAFETY: see above.
        unsafe { &*self.bucket_ptr(i) }
    }

    #[inline(always)]
    pub(super) fn bucket_mut<'a>(self, i: usize) -> &'a mut Bucket {
        // SAFETY: see above; callers hold the dict exclusively and keep one bucket borrow at a time.
        unsafe { &mut *self.bucket_ptr(i) }
    }

    /// The home bucket: the 32 bits below the shared prefix, scaled, so that it grows with the hash.
    #[inline(always)]
    pub(super) fn home(self, hash: u64) -> usize {
        let header = self.header();
        let x = (hash << header.depth) >> 32;
        ((x * u64::from(header.buckets)) >> 32) as usize
    }

    #[inline(always)]
    pub(super) fn next(self, i: usize) -> usize {
        if i + 1 == self.header().buckets as usize { 0 } else { i + 1 }
    }

    #[inline(always)]
    pub(super) fn find(self, hash: u64, key: &[u8]) -> Option<(usize, usize)> {
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

    pub(super) fn is_full(self) -> bool {
        let header = self.header();
        header.len as usize >= (header.buckets as usize * SLOTS * FILL_PERCENT_MAX / 100).max(1)
    }

    /// Puts an entry whose key is absent into a segment that is not full.
    pub(super) fn put(self, hash: u64, entry: Entry) -> (usize, usize) {
        let header = self.header_mut();
        header.len += 1;
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

    pub(super) fn take(self, hash: u64, at: (usize, usize)) -> Entry {
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
        self.header_mut().len -= 1;
        entry
    }

    /// Moves every entry out; the segment is empty (and its overflow counters stale) afterwards.
    pub(super) fn drain(self, mut to: impl FnMut(u64, Entry)) {
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
