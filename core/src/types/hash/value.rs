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

struct Found<'a> {
    start: usize,
    value_start: usize,
    end: usize,
    value: &'a [u8],
}

fn find<'a>(bytes: &'a [u8], field: &[u8]) -> Option<Found<'a>> {
    let mut items = Items::new(bytes);
    loop {
        let start = items.position();
        let name = items.next()?;
        let value_start = items.position();
        let value = items.next()?;
        if name == field {
            return Some(Found { start, value_start, end: items.position(), value });
        }
    }
}

impl Edit<'_, Hash> {
    /// Sets a field; true if it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        let limits = self.limits();
        if let HashRef::Packed(bytes) = self.view() {
            let fits = field.len() <= limits.hash_value_len && value.len() <= limits.hash_value_len;
            let found = find(bytes, field);
            if fits && (found.is_some() || self.view().len() < limits.hash_entries) {
                let mut item = Vec::with_capacity(field.len() + value.len() + 10);
                let (at, remove, new) = match found {
                    Some(found) => (found.value_start, found.end - found.value_start, false),
                    None => {
                        packed::push(&mut item, field);
                        (bytes.len(), 0, true)
                    }
                };
                packed::push(&mut item, value);
                self.open().splice(at, remove, &item);
                return new;
            }
            self.unpack();
        }
        self.table().is_some_and(|table| table.set(field, value))
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

    fn unpack(&mut self) {
        let mut table = Table::new();
        for (field, value) in self.view().iter() {
            table.set(field, value);
        }
        self.set_value(NewValue::Object(Box::new(Object::Hash(table))));
    }
}
