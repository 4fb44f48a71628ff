//! What may be done to a stream.

use mortise_sdk::args::Arguments;
use triomphe::Arc;

use super::group::{Group, Name};
use super::id::StreamId;
use super::idempotence::Memory;
use super::references::{Deleted, References};
use super::value::{Stream, Trim};
use crate::engine::edit::Edit;
use crate::types::Object;

impl Edit<'_, Stream> {
    /// The stream, about to be changed.
    pub(super) fn stream(&mut self) -> &mut Stream {
        match self.open().object_mut() {
            Some(Object::Stream(stream)) => stream,
            _ => unreachable!("the type was checked when the edit began"),
        }
    }

    /// Adds an entry, whose fields and values stand in turn and whose id is above all others.
    #[inline]
    pub fn append(&mut self, id: StreamId, pairs: &(impl Arguments + ?Sized)) {
        let limits = self.limits();
        self.stream().append(id, pairs, limits);
    }

    /// Deletes an entry; false if there is none.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let Some(bytes) = self.view().bytes_of(id) else { return false };
        self.part_with(bytes);
        self.stream().delete(id)
    }

    /// Sets what XSETID sets.
    pub(super) fn set_last_id(&mut self, id: StreamId, added: Option<u64>, max_deleted: Option<StreamId>) {
        self.stream().set_last_id(id, added, max_deleted);
    }

    /// Sets how long and how much the stream remembers of entries that are added only once; what it remembers is forgotten.
    pub(super) fn set_memory(&mut self, memory: Memory) {
        let before = self.stream().set_memory(memory);
        if let Some(before) =
            before.filter(|before| before.tracked().entries > Object::FREE_EFFORT_INLINE_MAX)
        {
            let bytes = before.bytes();
            self.discard_parts(before, bytes);
        }
    }

    /// Remembers an entry that was added under a name.
    pub(super) fn remember(&mut self, producer: &[u8], name: &[u8], id: StreamId, now_ms: i64) {
        let otherwise = self.limits().stream_memory;
        self.stream().idempotence_mut().remember(producer, name, id, otherwise, now_ms);
    }

    /// Counts an entry that came again.
    pub(super) fn note_duplicate(&mut self) {
        self.stream().idempotence_mut().duplicates += 1;
    }

    /// Adds a group of which there is none.
    pub(super) fn add_group(&mut self, name: &[u8], group: Group) {
        self.stream().groups.insert(Name::new(name), Arc::new(group));
    }

    /// Changes a group; nothing if there is none.
    pub(super) fn change_group<T>(&mut self, name: &[u8], change: impl FnOnce(&mut Group) -> T) -> Option<T> {
        self.stream().groups.change(name, |group| change(Arc::make_mut(group)))
    }

    /// Removes a group; false if there is none.
    pub(super) fn remove_group(&mut self, name: &[u8]) -> bool {
        if self.view().group(name).is_none() {
            return false;
        }
        if let Some(group) = self.stream().groups.remove(name)
            && group.free_effort() > Object::FREE_EFFORT_INLINE_MAX
        {
            let bytes = group.memory();
            self.discard_parts(group, bytes);
        }
        true
    }

    /// Makes an entry pending to nobody, with how often it counts as delivered. It need not have been pending.
    pub(super) fn release(&mut self, group: &[u8], id: StreamId, deliveries: u64) {
        self.change_group(group, |group| group.release(id, deliveries));
    }

    /// Removes a consumer of a group; says how much was pending to it. Nothing if there is none.
    pub(super) fn remove_consumer(&mut self, group: &[u8], consumer: &[u8]) -> usize {
        /// What is pending takes about so much where it stands twice.
        const EACH: usize = 80;
        let removed = self.change_group(group, |group| group.remove_consumer(consumer)).flatten();
        let Some(removed) = removed else { return 0 };
        let pending = removed.pending;
        if removed.is_much {
            self.discard_parts(removed, pending * EACH);
        }
        pending
    }

    /// Hears of a consumer of a group, who comes into being if there is none of that name. `None` if there is no group;
    /// true: it came into being.
    pub(super) fn hear_of(&mut self, group: &[u8], consumer: &[u8], now_ms: i64) -> Option<(Name, bool)> {
        self.change_group(group, |group| group.hear_of(consumer, now_ms))
    }

    /// Deletes an entry unless its references speak against that. `None` if there is no such entry.
    pub fn delete_if(&mut self, id: StreamId, references: References) -> Option<Deleted> {
        if references == References::Go && self.view().is_pending(id) {
            self.drop_references(id, id);
        }
        self.view().get(id)?;
        if references == References::Prevent && self.view().is_referenced(id) {
            return Some(Deleted::IsReferenced);
        }
        self.delete(id).then_some(Deleted::Gone)
    }

    /// What is pending of some ids is so no longer, in any group.
    fn drop_references(&mut self, from: StreamId, to: StreamId) {
        for (name, ids) in self.view().pending_between(from, to) {
            self.change_group(name.bytes(), |group| {
                ids.into_iter().filter(|id| group.acknowledge(*id)).count()
            });
        }
    }

    /// Trims the stream; says how many entries went.
    pub fn trim(&mut self, trim: Trim) -> usize {
        if trim.references == References::Prevent {
            let ids = self.view().unreferenced_front(trim);
            return ids.into_iter().filter(|id| self.delete(*id)).count();
        }
        let from = self.view().first_id();
        let count = self.trim_all(trim);
        if count > 0 && trim.references == References::Go {
            let stream = self.view();
            let behind = if stream.is_empty() { None } else { stream.first_id().before() };
            let to = behind.unwrap_or(stream.last_id());
            self.drop_references(from, to);
        }
        count
    }

    fn trim_all(&mut self, trim: Trim) -> usize {
        if !self.view().is_trimmed_by(trim) {
            return 0;
        }
        let (count, all) = self.stream().trim(trim);
        if let Some(all) = all {
            let (before, now) = (all.total(), self.view().chunks.total());
            if before.chunks - now.chunks > Object::FREE_EFFORT_INLINE_MAX {
                self.discard_parts(all, before.bytes - now.bytes);
            }
        }
        count
    }
}
