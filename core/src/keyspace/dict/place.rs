//! An occupied place in the table: the entry there may be read, changed, replaced and taken out.

use super::bucket::SLOTS;
use super::segment::Segment;
use super::{BUCKETS_MAX, Dict, FILL_PERCENT_MERGE};
use crate::keyspace::entry::{Entry, NewValue};
use crate::types::{self, Object};

/// An occupied place in the table.
pub struct Place<'a> {
    pub(super) dict: &'a mut Dict,
    pub(super) segment: Segment,
    pub(super) hash: u64,
    pub(super) bucket: usize,
    pub(super) slot: usize,
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
    pub(in crate::keyspace) fn entry_mut(&mut self) -> &mut Entry {
        self.segment.bucket_mut(self.bucket).entries[self.slot].as_mut().expect("a place is occupied")
    }

    /// The entry, for as long as the table is borrowed.
    #[inline(always)]
    pub(in crate::keyspace) fn into_entry(self) -> &'a Entry {
        let Place { dict, segment, bucket, slot, .. } = self;
        let _: &'a mut Dict = dict;
        segment.bucket(bucket).entries[slot].as_ref().expect("a place is occupied")
    }

    /// The entry's segment, as the index of deadlines knows it.
    fn segment_place(&self) -> usize {
        self.dict.directory_range(self.hash, self.segment.header().depth).start
    }

    /// Sets or removes the deadline.
    pub(in crate::keyspace) fn set_deadline(&mut self, deadline: Option<i64>) {
        let had = self.entry().has_deadline();
        self.entry_mut().set_deadline(deadline);
        self.follow_deadline(had, deadline);
    }

    /// Keeps the index of deadlines after the entry's has changed.
    #[inline]
    fn follow_deadline(&mut self, had: bool, deadline: Option<i64>) {
        if !had && deadline.is_none() {
            return;
        }
        let place = self.segment_place();
        let Dict { volatile, directory, .. } = &mut *self.dict;
        match deadline {
            Some(deadline) if had => volatile.moved(place, deadline),
            Some(deadline) => volatile.added(directory.len(), place, deadline),
            None => volatile.removed(place),
        }
    }

    /// Replaces the value; what was boxed is handed over.
    #[inline(always)]
    pub(in crate::keyspace) fn set(&mut self, value: NewValue<'_>) -> Option<Box<Object>> {
        let had = self.entry().kind().has_field_deadlines();
        let old = self.entry_mut().set(value);
        if had || self.entry().kind().has_field_deadlines() {
            self.follow_fields(had);
        }
        old
    }

    /// Keeps the index of values whose parts have deadlines, after those have changed; whether there were any before.
    #[cold]
    pub(in crate::keyspace) fn follow_fields(&mut self, had: bool) {
        let place = self.segment_place();
        let due = types::field_due(self.entry());
        let Dict { partly_volatile, directory, .. } = &mut *self.dict;
        match due {
            Some(due) if had => partly_volatile.moved(place, due),
            Some(due) => partly_volatile.added(directory.len(), place, due),
            None if had => partly_volatile.removed(place),
            None => {}
        }
    }

    /// Puts another entry with the same key in its place and returns the old one.
    pub(in crate::keyspace) fn replace(&mut self, entry: Entry) -> Entry {
        debug_assert_eq!(self.entry().key(), entry.key());
        let deadline = entry.deadline();
        let old = std::mem::replace(self.entry_mut(), entry);
        self.follow_deadline(old.has_deadline(), deadline);
        let had = old.kind().has_field_deadlines();
        if had || self.entry().kind().has_field_deadlines() {
            self.follow_fields(had);
        }
        old
    }

    /// Takes the entry out of the table.
    pub(in crate::keyspace) fn remove(self) -> Entry {
        let entry = self.segment.take(self.hash, (self.bucket, self.slot));
        self.dict.len -= 1;
        if entry.has_deadline() {
            let place = self.segment_place();
            self.dict.volatile.removed(place);
        }
        if entry.kind().has_field_deadlines() {
            let place = self.segment_place();
            self.dict.partly_volatile.removed(place);
        }
        let header = self.segment.header();
        if header.depth > 0 && (header.len as usize) < BUCKETS_MAX * SLOTS * FILL_PERCENT_MERGE / 200 {
            self.dict.shrink(self.hash);
        }
        entry
    }
}
