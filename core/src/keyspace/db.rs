//! A database: a table of entries, who listens to its keys, and the only doors to changing them.
//!
//! Reading is free; `edit`, `create`, `remove` and `flush` announce to the [`Door`] what is about to change, once per
//! edit and before the change. Nothing else in the server can change an entry.

use super::SpaceId;
use super::dict::{Dict, Place};
use super::door::{Door, Home};
use super::entry::{Entry, NewValue, Payload};
use super::hash::hash;
use super::interest::Interest;
use crate::types::Object;

/// What SWAPDB exchanges and FLUSHDB takes away: the table, and how far a cut has come in it.
pub struct Contents {
    dict: Dict,
    cut_space: SpaceId,
    cut_db: u32,
    /// From which hash on a cut has still to walk; `None` if it has nothing to do here.
    cut_from: Option<u64>,
}

impl Contents {
    fn new(space: SpaceId, db: u32) -> Contents {
        Contents { dict: Dict::new(), cut_space: space, cut_db: db, cut_from: None }
    }

    /// Bytes that it takes, about: entries differ, and only some are asked.
    pub fn memory(&self) -> usize {
        const ASKED: usize = 32;
        let of_entry = |entry: &Entry| {
            let object = match entry.payload() {
                Payload::Object(object) if !matches!(object, Object::Foreign(_)) => object.memory(),
                _ => 0,
            };
            entry.memory() + object
        };
        let sizes: Vec<usize> = self.dict.iter().take(ASKED).map(of_entry).collect();
        self.dict.memory() + sizes.iter().sum::<usize>() * self.dict.len() / sizes.len().max(1)
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut_from.is_none()
    }

    /// Lets a cut walk one segment on, or less if that holds much; false if it has nothing to do here.
    pub(super) fn advance_cut(&mut self, door: &mut Door) -> bool {
        let Some(from) = self.cut_from else { return false };
        let (space, db) = (self.cut_space, self.cut_db);
        door.begin_step();
        self.cut_from = self.dict.visit_segment_mut(from, |entry| door.walk(space, db, entry));
        true
    }
}

/// A database.
pub struct Db {
    space: SpaceId,
    index: u32,
    contents: Contents,
    /// Who wants to hear of which key.
    pub interest: Interest,
    /// Where active expiry goes on.
    pub(super) expire_from: u64,
    /// The same for parts of values.
    pub(crate) expire_parts_from: u64,
}

impl Db {
    pub(super) fn new(space: SpaceId, index: u32) -> Db {
        Db {
            space,
            index,
            contents: Contents::new(space, index),
            interest: Interest::default(),
            expire_from: 0,
            expire_parts_from: 0,
        }
    }

    /// Which one it is.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The table, to be read.
    #[inline(always)]
    pub fn dict(&self) -> &Dict {
        &self.contents.dict
    }

    pub(super) fn dict_mut(&mut self) -> &mut Dict {
        &mut self.contents.dict
    }

    #[inline(always)]
    fn home(&self) -> Home {
        Home {
            space: self.space,
            db: self.index,
            cut_space: self.contents.cut_space,
            cut_db: self.contents.cut_db,
        }
    }

    /// Whether the key is there but has expired.
    #[inline(always)]
    pub fn is_expired(&self, hash: u64, key: &[u8], now_ms: i64) -> bool {
        self.contents.dict.expiring() > 0
            && self
                .contents
                .dict
                .find(hash, key)
                .and_then(Entry::deadline)
                .is_some_and(|deadline| deadline <= now_ms)
    }

    /// The entry of a key, whether expired or not.
    #[inline(always)]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.contents.dict.find(hash, key)
    }

    /// The entry of a key, whose access is noted by setting its clock.
    #[inline(always)]
    pub fn access(&mut self, hash: u64, key: &[u8], clock: impl FnOnce(u32) -> u32) -> Option<&Entry> {
        let mut place = self.contents.dict.place(hash, key)?;
        let entry = place.entry_mut();
        entry.set_clock(clock(entry.clock()));
        Some(place.into_entry())
    }

    /// The entry of a key, to be changed.
    #[inline(always)]
    pub fn edit<'a>(&'a mut self, door: &'a mut Door, hash: u64, key: &[u8]) -> Option<EntryEdit<'a>> {
        let home = self.home();
        let place = self.contents.dict.place(hash, key)?;
        Some(EntryEdit { place, door, home, touched: false })
    }

    /// The entry of a key, to be changed; a new one with an empty value if there is none. True: it is new.
    #[inline]
    pub fn edit_or_create<'a>(
        &'a mut self,
        door: &'a mut Door,
        hash: u64,
        key: &[u8],
        empty: impl FnOnce() -> NewValue<'static>,
    ) -> (EntryEdit<'a>, bool) {
        let home = self.home();
        let Db { contents, interest, .. } = self;
        let (place, new) = contents
            .dict
            .place_or_insert(hash, key, || newborn(door, home, interest, Entry::new(key, empty())));
        (EntryEdit { place, door, home, touched: new }, new)
    }

    /// Puts a value under a key, whatever it held; what was boxed is handed over. True: the key is new.
    #[inline]
    pub fn put<'a>(
        &'a mut self,
        door: &'a mut Door,
        hash: u64,
        key: &[u8],
        value: NewValue<'_>,
    ) -> (EntryEdit<'a>, bool, Option<Box<Object>>) {
        let home = self.home();
        let Db { contents, interest, .. } = self;
        let mut value = Some(value);
        let (place, new) = contents.dict.place_or_insert(hash, key, || {
            let value = value.take().expect("taken once");
            newborn(door, home, interest, Entry::new(key, value))
        });
        let mut edit = EntryEdit { place, door, home, touched: new };
        let old = value.and_then(|value| edit.set(value));
        (edit, new, old)
    }

    /// Takes a table that has room, if there is nothing in its own.
    pub fn begin_with(&mut self, table: Dict) {
        if self.contents.dict.is_empty() {
            self.contents.dict = table;
        }
    }

    /// Puts a ready-made entry where there is none.
    pub fn admit<'a>(&'a mut self, door: &'a mut Door, hash: u64, entry: Entry) -> EntryEdit<'a> {
        let home = self.home();
        let entry = newborn(door, home, &self.interest, entry);
        let place = self.contents.dict.insert(hash, entry);
        EntryEdit { place, door, home, touched: true }
    }

    /// Removes a key's entry and hands it over.
    pub fn remove(&mut self, door: &mut Door, hash: u64, key: &[u8]) -> Option<Entry> {
        Some(self.edit(door, hash, key)?.remove())
    }

    /// Empties the database; what nobody else needs of it is handed over to be freed.
    pub fn flush(&mut self, door: &mut Door) -> Option<Contents> {
        if self.contents.dict.is_empty() {
            return None;
        }
        let home = self.home();
        let mut fresh = Contents::new(self.space, self.index);
        std::mem::swap(&mut fresh, &mut self.contents);
        (self.expire_from, self.expire_parts_from) = (0, 0);
        door.flushed(home, fresh)
    }

    pub(super) fn put_back(&mut self, contents: Contents) -> Contents {
        let replaced = std::mem::replace(&mut self.contents, contents);
        self.mark_listened();
        replaced
    }

    pub(super) fn swap_contents(&mut self, other: &mut Db) {
        std::mem::swap(&mut self.contents, &mut other.contents);
        std::mem::swap(&mut self.expire_from, &mut other.expire_from);
        std::mem::swap(&mut self.expire_parts_from, &mut other.expire_parts_from);
        self.mark_listened();
        other.mark_listened();
    }

    /// Sets the listened bit of every entry that someone is interested in.
    fn mark_listened(&mut self) {
        for key in self.interest.keys() {
            if let Some(mut place) = self.contents.dict.place(hash(key), key) {
                place.entry_mut().set_listened(true);
            }
        }
    }

    /// Marks that someone listens to a key, if it exists.
    pub fn listen(&mut self, key: &[u8]) {
        if let Some(mut place) = self.contents.dict.place(hash(key), key) {
            place.entry_mut().set_listened(true);
        }
    }

    /// Puts an entry (or its absence) back as undo kept it, and hands over what stood there.
    pub(super) fn restore(&mut self, door: &Door, key: &[u8], before: Option<Entry>) -> Option<Entry> {
        let hash = hash(key);
        let replaced = self.contents.dict.remove(hash, key);
        if let Some(mut entry) = before {
            entry.set_listened(door.marks_newborns || self.interest.of(key).is_some());
            self.contents.dict.insert(hash, entry);
        }
        replaced
    }

    pub(super) fn begin_cut(&mut self, space: SpaceId, index: u32) {
        self.contents.cut_space = space;
        self.contents.cut_db = index;
        self.contents.cut_from = (!self.contents.dict.is_empty()).then_some(0);
    }

    pub(super) fn advance_cut(&mut self, door: &mut Door) -> bool {
        self.contents.advance_cut(door)
    }
}

/// An entry that is about to come into being: the door is told, and who waits for its key will hear of it.
#[inline]
fn newborn(door: &mut Door, home: Home, interest: &Interest, mut entry: Entry) -> Entry {
    door.newborn(home, &mut entry);
    let listened = door.marks_newborns || !interest.is_empty() && interest.of(entry.key()).is_some();
    entry.set_listened(listened);
    entry
}

/// An entry that may be changed. The door is told before the first change, and only if there is one.
pub struct EntryEdit<'a> {
    place: Place<'a>,
    door: &'a mut Door,
    home: Home,
    touched: bool,
}

impl EntryEdit<'_> {
    /// The entry.
    #[inline(always)]
    pub fn entry(&self) -> &Entry {
        self.place.entry()
    }

    #[inline(always)]
    fn touch(&mut self) {
        if !self.touched {
            self.touched = true;
            self.door.touch(self.home, self.place.entry_mut());
        }
    }

    /// The entry, about to be changed.
    #[inline(always)]
    pub(crate) fn open(&mut self) -> &mut Entry {
        self.touch();
        self.place.entry_mut()
    }

    /// Replaces the value; what was boxed is handed over to be freed.
    #[inline(always)]
    pub fn set(&mut self, value: NewValue<'_>) -> Option<Box<Object>> {
        self.touch();
        self.place.set(value)
    }

    /// The entry, to be arranged otherwise without changing what it says; the door is not told.
    pub(crate) fn rearrange(&mut self) -> &mut Entry {
        self.place.entry_mut()
    }

    /// After a change through [`EntryEdit::open`] of the deadlines that parts of the value have.
    pub fn fields_moved(&mut self) {
        let had = self.entry().kind().has_field_deadlines();
        self.place.follow_fields(had);
    }

    /// Sets or removes the deadline.
    #[inline(always)]
    pub fn set_deadline(&mut self, deadline: Option<i64>) {
        if self.entry().deadline() != deadline {
            self.touch();
            self.place.set_deadline(deadline);
        }
    }

    /// Notes an access; not a change of the value, so the door is not told.
    #[inline(always)]
    pub fn set_clock(&mut self, clock: u32) {
        self.place.entry_mut().set_clock(clock);
    }

    /// Puts another entry with the same key in its place.
    pub fn replace(&mut self, mut entry: Entry) -> Entry {
        self.touch();
        entry.set_epoch(self.entry().epoch());
        entry.set_listened(self.entry().is_listened());
        self.place.replace(entry)
    }

    /// Takes the entry out.
    pub fn remove(mut self) -> Entry {
        self.touch();
        self.place.remove()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_database_is_small() {
        let db = Db::new(SpaceId::FIRST, 0);
        let size = size_of::<Db>() + db.contents.memory();
        assert!(size < 1024, "{size} bytes");
    }
}
