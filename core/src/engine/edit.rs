//! A value being changed: it must name its event, and goes when nothing is left of it.

use std::marker::PhantomData;

use super::event::{self, EventClass};
use super::unit::Unit;
use crate::keyspace::entry::{Entry, NewValue, Payload};
use crate::keyspace::{EntryEdit, SpaceId};
use crate::types::list::ChunkLimits;
use crate::types::stream::idempotence::Memory;
use crate::types::{Object, Type};

/// Up to which size collections stay packed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Fields of a packed hash.
    pub hash_entries: usize,
    /// Bytes of a field or value of a packed hash.
    pub hash_value_len: usize,
    /// Members of a set of packed integers.
    pub set_ints: usize,
    /// Members of another packed set.
    pub set_entries: usize,
    /// Bytes of a member of a packed set.
    pub set_value_len: usize,
    /// Members of a packed sorted set.
    pub zset_entries: usize,
    /// Bytes of a member of a packed sorted set.
    pub zset_value_len: usize,
    /// How full the chunks of lists may become.
    pub list: ChunkLimits,
    /// Bytes of a stream's node.
    pub stream_node_bytes: usize,
    /// Entries of a stream's node.
    pub stream_node_entries: usize,
    /// How long and how much a stream remembers of entries that are added only once.
    pub stream_memory: Memory,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            hash_entries: 128,
            hash_value_len: 64,
            set_ints: 512,
            set_entries: 128,
            set_value_len: 64,
            zset_entries: 128,
            zset_value_len: 64,
            list: ChunkLimits::default(),
            stream_node_bytes: 4096,
            stream_node_entries: 100,
            stream_memory: Memory::default(),
        }
    }
}

/// A value of type `T` that may be changed through the verbs beside the type. It can be viewed, but no `&mut` to it
/// exists. An edit ends with [`Edit::changed`], or unchanged.
#[must_use]
pub struct Edit<'a, T: Type> {
    /// `None` once the key has been removed.
    entry: Option<EntryEdit<'a>>,
    unit: &'a mut Unit,
    limits: Limits,
    space: SpaceId,
    db: u32,
    /// The moment of the edit: what has expired by then is not seen.
    now_ms: i64,
    newborn: bool,
    /// Something changed that no event has named yet.
    unnamed: bool,
    of: PhantomData<T>,
}

impl<'a, T: Type> Edit<'a, T> {
    /// Begins an edit of an entry that is known to hold a `T`.
    pub(super) fn new(
        entry: EntryEdit<'a>,
        unit: &'a mut Unit,
        limits: Limits,
        (space, db): (SpaceId, u32),
        now_ms: i64,
        newborn: bool,
    ) -> Edit<'a, T> {
        Edit { entry: Some(entry), unit, limits, space, db, now_ms, newborn, unnamed: false, of: PhantomData }
    }

    #[inline(always)]
    fn edit(&self) -> &EntryEdit<'a> {
        self.entry.as_ref().expect("an edit holds its entry until it ends")
    }

    /// The value as it is now.
    #[inline(always)]
    pub fn view(&self) -> T::View<'_> {
        T::view_at(self.edit().entry(), self.now_ms).expect("the type was checked when the edit began")
    }

    /// The entry as it is now.
    pub fn entry(&self) -> &Entry {
        self.edit().entry()
    }

    /// Whether the edit brought the key into being.
    pub fn is_new(&self) -> bool {
        self.newborn
    }

    /// Whether something has changed that no event has named yet.
    pub fn has_changed(&self) -> bool {
        self.unnamed
    }

    /// The moment of the edit.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Up to which size collections stay packed.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The entry, about to be changed: the way in for the verbs of the types.
    #[inline(always)]
    pub(crate) fn open(&mut self) -> &mut Entry {
        self.unnamed = true;
        self.entry.as_mut().expect("an edit holds its entry until it ends").open()
    }

    /// The entry, to be arranged otherwise without changing what it says: nobody is told.
    pub(crate) fn rearrange(&mut self) -> &mut Entry {
        self.entry.as_mut().expect("an edit holds its entry until it ends").rearrange()
    }

    /// After a change of the deadlines that parts of the value have.
    pub(crate) fn fields_moved(&mut self) {
        self.entry.as_mut().expect("an edit holds its entry until it ends").fields_moved();
    }

    /// Tells of parts that have expired, which the edit has met and removed: the event, and what the stream is to carry
    /// for it in front of the command.
    pub(crate) fn beside(&mut self, event: &'static str, class: EventClass, words: &[&[u8]], parts: u64) {
        let Edit { entry, unit, space, db, .. } = self;
        let Some(entry) = entry else { return };
        let (entry, dirty) = (entry.entry(), unit.dirty);
        unit.changed(*space, *db, entry.key(), entry.is_listened(), event, class);
        unit.say_expired(*space, *db, words);
        unit.dirty = dirty;
        unit.expired_parts += parts;
    }

    /// Replaces the value as a whole.
    #[inline(always)]
    pub(crate) fn set_value(&mut self, value: NewValue<'_>) {
        self.unnamed = true;
        let old = self.entry.as_mut().expect("an edit holds its entry until it ends").set(value);
        self.unit.discard(old);
    }

    /// Lets go of much of a value that nobody needs any more: a worker frees it.
    pub(crate) fn discard_parts(&mut self, parts: impl Send + 'static, bytes: usize) {
        let leaving = self.unit.leaving.begin(parts, bytes as u64);
        self.unit.discard_later(Box::new(leaving));
    }

    /// A part of so many bytes is about to go. If it is large, a share of the value is handed to the worker, with which it
    /// is freed: nobody waits for that.
    #[inline(always)]
    pub(crate) fn part_with(&mut self, bytes: usize) {
        if Object::effort_of(1, bytes) > Object::FREE_EFFORT_INLINE_MAX {
            self.part_with_much(bytes);
        }
    }

    #[cold]
    fn part_with_much(&mut self, bytes: usize) {
        if let Payload::Object(object) = self.entry().payload()
            && let Some(share) = object.share()
        {
            self.discard_parts(share, bytes);
        }
    }

    /// The value that the key was created with is not empty: it stays even if nothing else is done.
    pub(super) fn fresh_value(&mut self) {
        self.unnamed = true;
    }

    /// When the key expires, in Unix milliseconds.
    pub fn deadline(&self) -> Option<i64> {
        self.edit().entry().deadline()
    }

    /// Sets or removes the deadline; part of the change that the event will name.
    #[inline(always)]
    pub fn set_deadline(&mut self, deadline: Option<i64>) {
        if self.deadline() != deadline {
            self.unnamed = true;
            self.entry.as_mut().expect("an edit holds its entry until it ends").set_deadline(deadline);
        }
    }

    /// Names the change; everyone who should know will. An emptied value goes, which is named as well.
    #[inline(always)]
    pub fn changed(mut self, event: &'static str) {
        self.also_changed(event, T::CLASS);
    }

    /// Names a change while the edit goes on, or with a class other than the type's.
    #[inline(always)]
    pub fn also_changed(&mut self, event: &'static str, class: EventClass) {
        self.unnamed = false;
        let Some(entry) = &self.entry else { return };
        let entry = entry.entry();
        let listened = entry.is_listened();
        if self.newborn {
            self.unit.tell(self.space, self.db, entry.key(), "new", event::NEW);
            self.newborn = false;
        }
        self.unit.changed(self.space, self.db, entry.key(), listened, event, class);
        if T::is_gone(T::view(entry).expect("the type was checked when the edit began")) {
            self.remove_emptied(listened);
        }
    }

    /// Names a change beside the content, as of a stream's groups: it is propagated and its event is told, but to who
    /// watches the key nothing has changed. Calls that wait for the key are tried again if it `wakes` them.
    pub(crate) fn changed_aside(&mut self, event: Option<&'static str>, wakes: bool) {
        self.unnamed = false;
        let Some(entry) = &self.entry else { return };
        let key = entry.entry().key();
        let woken = wakes && entry.entry().is_listened();
        self.unit.changed_aside(self.space, self.db, key, woken, event.map(|event| (event, T::CLASS)));
    }

    /// Ends an edit all of which has been told by [`Edit::beside`]. An emptied value goes, which is named.
    pub(crate) fn ended(mut self) {
        self.unnamed = false;
        let Some(entry) = &self.entry else { return };
        let (listened, gone) = (entry.entry().is_listened(), T::view(entry.entry()).is_some_and(T::is_gone));
        if gone {
            self.remove_emptied(listened);
        }
    }

    #[cold]
    fn remove_emptied(&mut self, listened: bool) {
        let Some(entry) = self.entry.take() else { return };
        let entry = entry.remove();
        self.unit.changed(self.space, self.db, entry.key(), listened, "del", event::GENERIC);
        // The removal belongs to the change that was just counted.
        self.unit.dirty -= 1;
        self.unit.discard(entry.into_object());
    }
}

impl<T: Type> Drop for Edit<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.newborn && !self.unnamed {
            return;
        }
        // A command that failed after creating leaves nothing behind.
        let empty = self.entry.as_ref().is_some_and(|entry| T::view(entry.entry()).is_some_and(T::is_gone));
        if self.newborn && (empty || !self.unnamed) {
            if let Some(entry) = self.entry.take() {
                self.unit.discard(entry.remove().into_object());
            }
            return;
        }
        debug_assert!(std::thread::panicking() || !self.unnamed, "an edited value must name its event");
        // Propagated all the same.
        self.unit.dirty += 1;
    }
}
