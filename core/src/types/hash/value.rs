//! What a hash is, and what may be done to it: packed in its entry while it is small, a [`Table`] when it is large.

use crate::engine::edit::Edit;
use crate::engine::event::{self, EventClass};
use crate::keyspace::entry::{Entry, Kind, NewValue, Payload};
use crate::types::packed::{self, Items};
use crate::types::table::Table;
use crate::types::{Object, Type};

/// The type of hashes.
pub struct Hash;

/// A hash as it is read.
#[derive(Clone, Copy)]
pub enum HashRef<'a> {
    /// Fields and values in turn, in the order in which the fields came.
    Packed(&'a [u8]),
    /// A table.
    Table(&'a Table),
}

impl Type for Hash {
    type View<'a> = HashRef<'a>;
    const CLASS: EventClass = event::HASH;

    fn view(entry: &Entry) -> Option<HashRef<'_>> {
        match entry.payload() {
            Payload::Bytes(bytes) if entry.kind() == Kind::PackedHash => Some(HashRef::Packed(bytes)),
            Payload::Object(Object::Hash(table)) => Some(HashRef::Table(table)),
            _ => None,
        }
    }

    fn empty() -> NewValue<'static> {
        NewValue::Bytes(Kind::PackedHash, b"")
    }

    fn is_gone(view: HashRef<'_>) -> bool {
        view.is_empty()
    }
}

impl<'a> HashRef<'a> {
    /// A packed hash.
    pub fn packed(bytes: &'a [u8]) -> HashRef<'a> {
        HashRef::Packed(bytes)
    }

    /// Number of fields.
    pub fn len(self) -> usize {
        match self {
            HashRef::Packed(bytes) => Items::new(bytes).count() / 2,
            HashRef::Table(table) => table.len(),
        }
    }

    /// Whether it has no field.
    pub fn is_empty(self) -> bool {
        match self {
            HashRef::Packed(bytes) => bytes.is_empty(),
            HashRef::Table(table) => table.is_empty(),
        }
    }

    /// The value of a field.
    pub fn get(self, field: &[u8]) -> Option<&'a [u8]> {
        match self {
            HashRef::Packed(bytes) => find(bytes, field).map(|found| found.value),
            HashRef::Table(table) => table.get(field),
        }
    }

    /// Every field with its value.
    pub fn iter(self) -> Box<dyn Iterator<Item = (&'a [u8], &'a [u8])> + 'a> {
        match self {
            HashRef::Packed(bytes) => {
                let mut items = Items::new(bytes);
                Box::new(std::iter::from_fn(move || Some((items.next()?, items.next()?))))
            }
            HashRef::Table(table) => Box::new(table.iter()),
        }
    }

    /// Visits fields from a cursor on, as HSCAN does; returns the next cursor, 0 at the end. A packed hash is visited
    /// as a whole.
    pub fn scan(self, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> u64 {
        match self {
            HashRef::Packed(_) => {
                self.iter().for_each(|(field, value)| visit(field, value));
                0
            }
            HashRef::Table(table) => table.scan(cursor, count, visit),
        }
    }

    /// A field chosen uniformly by random numbers.
    pub fn random(self, next: &mut dyn FnMut() -> u64) -> Option<(&'a [u8], &'a [u8])> {
        match self {
            HashRef::Packed(_) => {
                let len = self.len() as u64;
                if len == 0 { None } else { self.iter().nth((next() % len) as usize) }
            }
            HashRef::Table(table) => table.random(next),
        }
    }
}

/// Where a field stands in a packed hash.
struct Found<'a> {
    start: usize,
    value_start: usize,
    end: usize,
    value: &'a [u8],
}

fn find<'a>(bytes: &'a [u8], field: &[u8]) -> Option<Found<'a>> {
    find_or_count(bytes, field).ok()
}

/// A field of a packed hash, or else how many others there are.
fn find_or_count<'a>(bytes: &'a [u8], field: &[u8]) -> Result<Found<'a>, usize> {
    let mut items = Items::new(bytes);
    let mut others = 0;
    loop {
        let start = items.position();
        let Some(name) = items.next() else { return Err(others) };
        let value_start = items.position();
        let Some(value) = items.next() else { return Err(others) };
        if name == field {
            return Ok(Found { start, value_start, end: items.position(), value });
        }
        others += 1;
    }
}

impl Edit<'_, Hash> {
    /// Sets a field; true if it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        let limits = self.limits();
        let fits = field.len() <= limits.hash_value_len && value.len() <= limits.hash_value_len;
        if let HashRef::Packed(bytes) = self.view() {
            let has_room = bytes.len() + field.len() + value.len() < packed::SIZE_MAX;
            let found = find_or_count(bytes, field);
            let stays_small =
                fits && found.as_ref().map_or_else(|others| *others < limits.hash_entries, |_| true);
            match found {
                Ok(found) if fits && has_room => {
                    let (at, len) = (found.value_start, found.end - found.value_start);
                    packed::with_items(&[value], |items| self.open().splice(at, len, items));
                    return false;
                }
                Err(_) if stays_small && has_room => {
                    let at = bytes.len();
                    packed::with_items(&[field, value], |items| self.open().splice(at, 0, items));
                    return true;
                }
                _ => self.unpack(stays_small),
            }
        }
        let Some(table) = self.table() else { return false };
        let is_new = table.set(field, value);
        if table.is_kept_small() && !(fits && table.len() <= limits.hash_entries) {
            table.keep_small(false);
        }
        is_new
    }

    /// Removes a field; false if there was none.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        if let HashRef::Packed(bytes) = self.view() {
            let Some(Found { start, end, .. }) = find(bytes, field) else { return false };
            self.open().splice(start, end - start, b"");
            return true;
        }
        if self.view().get(field).is_none() {
            return false;
        }
        self.table().is_some_and(|table| table.remove(field))
    }

    fn table(&mut self) -> Option<&mut Table> {
        match self.open().object_mut() {
            Some(Object::Hash(table)) => Some(table),
            _ => None,
        }
    }

    fn unpack(&mut self, small: bool) {
        let mut table = Table::new();
        table.keep_small(small);
        for (field, value) in self.view().iter() {
            table.set(field, value);
        }
        self.set_value(NewValue::Object(Box::new(Object::Hash(table))));
    }
}
