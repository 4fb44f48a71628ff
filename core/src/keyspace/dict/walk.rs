//! Walks through the table in hash order: SCAN, segment by segment, what has expired.

use super::Dict;
use super::segment::{Segment, prefetch};
use super::volatile::NO_DEADLINE;
use crate::keyspace::entry::Entry;
use crate::keyspace::hash::hash;
use crate::types;

/// The cursor of SCAN has 48 bits, so that it fits into clients' doubles.
const CURSOR_SHIFT: u32 = 16;

impl Dict {
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
        let buckets = segment.header().buckets as usize;
        for i in 0..buckets {
            if i + 2 < buckets {
                segment.bucket(i + 2).occupied().for_each(|entry| prefetch(entry.address()));
            }
            segment.bucket(i).occupied().for_each(&mut visit);
        }
        Dict::following(segment, hash)
    }

    /// As [`Dict::visit_segment`], with entries that may be stamped. It may be broken off by `visit`, and is to be begun
    /// again with the same hash then.
    pub(in crate::keyspace) fn visit_segment_mut(
        &mut self,
        hash: u64,
        mut visit: impl FnMut(&mut Entry) -> bool,
    ) -> Option<u64> {
        let segment = self.segment(hash);
        let buckets = segment.header().buckets as usize;
        for i in 0..buckets {
            if i + 2 < buckets {
                segment.bucket(i + 2).occupied().for_each(|entry| prefetch(entry.address()));
            }
            for entry in segment.bucket_mut(i).entries.iter_mut().flatten() {
                if !visit(entry) {
                    return Some(hash);
                }
            }
        }
        Dict::following(segment, hash)
    }

    pub(super) fn following(segment: Segment, hash: u64) -> Option<u64> {
        let depth = segment.header().depth;
        if depth == 0 {
            return None;
        }
        ((hash | (u64::MAX >> depth)) as u128 + 1).try_into().ok()
    }

    /// Visits entries that have expired, `limit` at most, in the first segment from a hash on that may have any; returns
    /// the hash to go on from, `None` if there is nothing further on. Whoever walks removes what was visited.
    pub fn visit_expired(
        &mut self,
        from: u64,
        now_ms: i64,
        limit: usize,
        mut visit: impl FnMut(&Entry),
    ) -> Option<u64> {
        let first = self.directory_range(from, self.segment(from).header().depth).start;
        let place = self.volatile.due(first, now_ms)?;
        let from = (place as u64) << (u64::BITS - self.bits);
        let segment = self.segment(from);
        let (mut visited, mut deadline_min) = (0, NO_DEADLINE);
        let buckets = segment.header().buckets as usize;
        for i in 0..buckets {
            if i + 2 < buckets {
                segment.bucket(i + 2).occupied().for_each(|entry| prefetch(entry.address()));
            }
            for entry in segment.bucket(i).occupied() {
                match entry.deadline() {
                    // There may be more here: the segment stays due.
                    Some(deadline) if deadline <= now_ms && visited == limit => return Some(from),
                    Some(deadline) if deadline <= now_ms => {
                        visit(entry);
                        visited += 1;
                    }
                    Some(deadline) => deadline_min = deadline_min.min(deadline),
                    None => {}
                }
            }
        }
        self.volatile.renew(place, deadline_min);
        Dict::following(segment, from)
    }

    /// As [`Dict::visit_expired`], for entries whose values have parts that have expired.
    pub fn visit_partly_expired(
        &mut self,
        from: u64,
        now_ms: i64,
        limit: usize,
        mut visit: impl FnMut(&Entry),
    ) -> Option<u64> {
        let first = self.directory_range(from, self.segment(from).header().depth).start;
        let place = self.partly_volatile.due(first, now_ms)?;
        let from = (place as u64) << (u64::BITS - self.bits);
        let segment = self.segment(from);
        let (mut visited, mut due_min) = (0, NO_DEADLINE);
        for i in 0..segment.header().buckets as usize {
            for entry in segment.bucket(i).occupied() {
                let Some(due) = types::field_due(entry) else { continue };
                if due > now_ms {
                    due_min = due_min.min(due);
                } else if visited == limit {
                    return Some(from);
                } else {
                    visit(entry);
                    visited += 1;
                }
            }
        }
        self.partly_volatile.renew(place, due_min);
        Dict::following(segment, from)
    }

    /// Every entry, in hash order of the segments.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.segments().flat_map(|segment| {
            (0..segment.header().buckets as usize).flat_map(move |i| segment.bucket(i).occupied())
        })
    }
}
