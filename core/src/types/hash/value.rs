//! What a hash is, and how it is read: packed in its entry while it is small, a [`Table`] when it is large; and both again
//! for hashes of which some fields have deadlines.

use super::expiring::ExpiringHash;
use super::packed::{self, Field};
use crate::engine::event::{self, EventClass};
use crate::keyspace::entry::{Entry, Kind, NewValue, Payload};
use crate::types::table::Table;
use crate::types::{Object, Type};

/// The type of hashes.
pub struct Hash;

/// A moment at which nothing has expired: who reads at it sees every field.
pub const NEVER: i64 = i64::MIN;

/// How often a field is drawn before those that have not expired are counted.
const DRAWS_MAX: usize = 16;

/// A hash as it is read. One with deadlines is read at a moment: what has expired by then is not there, though it may not
/// have been removed yet.
#[derive(Clone, Copy)]
pub enum HashRef<'a> {
    /// Fields and values in turn, in the order in which the fields came.
    Packed(&'a [u8]),
    /// A table.
    Table(&'a Table),
    /// Fields, values and deadlines in turn.
    PackedExpiring(&'a [u8], i64),
    /// A table, beside one of deadlines.
    Expiring(&'a ExpiringHash, i64),
}

impl Type for Hash {
    type View<'a> = HashRef<'a>;
    const CLASS: EventClass = event::HASH;

    fn view(entry: &Entry) -> Option<HashRef<'_>> {
        Hash::view_at(entry, NEVER)
    }

    #[inline(always)]
    fn view_at(entry: &Entry, now_ms: i64) -> Option<HashRef<'_>> {
        match entry.payload() {
            Payload::Bytes(bytes) if entry.kind() == Kind::PackedHash => Some(HashRef::Packed(bytes)),
            Payload::Bytes(bytes) if entry.kind() == Kind::PackedExpiringHash => {
                Some(HashRef::PackedExpiring(bytes, now_ms))
            }
            Payload::Object(Object::Hash(table)) => Some(HashRef::Table(table)),
            Payload::Object(Object::ExpiringHash(hash)) => Some(HashRef::Expiring(hash, now_ms)),
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

/// Before which moment no field of a hash with deadlines expires.
pub fn due(entry: &Entry) -> Option<i64> {
    match entry.payload() {
        Payload::Bytes(bytes) if entry.kind() == Kind::PackedExpiringHash => Some(packed::due(bytes)),
        Payload::Object(Object::ExpiringHash(hash)) => Some(hash.due()),
        _ => None,
    }
}

impl<'a> HashRef<'a> {
    /// A packed hash.
    pub fn packed(bytes: &'a [u8]) -> HashRef<'a> {
        HashRef::Packed(bytes)
    }

    /// Number of fields. What has expired counts until it is removed.
    pub fn len(self) -> usize {
        match self {
            HashRef::Packed(bytes) => packed::fields(bytes).count(),
            HashRef::Table(table) => table.len(),
            HashRef::PackedExpiring(bytes, _) => packed::expiring_fields(bytes).count(),
            HashRef::Expiring(hash, _) => hash.table().len(),
        }
    }

    /// Number of fields that have not expired: as many as [`HashRef::iter`] gives.
    pub fn len_live(self) -> usize {
        if self.hides_some() { self.iter().count() } else { self.len() }
    }

    /// Whether it has no field, not even one that has expired.
    pub fn is_empty(self) -> bool {
        match self {
            HashRef::Packed(bytes) => bytes.is_empty(),
            HashRef::Table(table) => table.is_empty(),
            HashRef::PackedExpiring(bytes, _) => bytes.len() <= packed::DUE_LEN,
            HashRef::Expiring(hash, _) => hash.table().is_empty(),
        }
    }

    /// Whether some fields may have expired and not been removed yet.
    pub fn hides_some(self) -> bool {
        match self {
            HashRef::Packed(_) | HashRef::Table(_) => false,
            HashRef::PackedExpiring(bytes, now_ms) => packed::due(bytes) <= now_ms,
            HashRef::Expiring(hash, now_ms) => hash.due() <= now_ms,
        }
    }

    /// The value of a field.
    #[inline]
    pub fn get(self, field: &[u8]) -> Option<&'a [u8]> {
        match self {
            HashRef::Packed(bytes) => packed::fields(bytes).named(field).map(|found| found.value),
            HashRef::Table(table) => table.get(field),
            HashRef::PackedExpiring(..) | HashRef::Expiring(..) => {
                self.get_with_deadline(field).map(|found| found.0)
            }
        }
    }

    /// The value of a field, and when it expires.
    pub fn get_with_deadline(self, field: &[u8]) -> Option<(&'a [u8], Option<i64>)> {
        match self {
            HashRef::Packed(_) | HashRef::Table(_) => self.get(field).map(|value| (value, None)),
            HashRef::PackedExpiring(bytes, now_ms) => {
                let found = packed::expiring_fields(bytes).named(field)?;
                (!found.has_expired(now_ms)).then_some((found.value, found.deadline))
            }
            HashRef::Expiring(hash, now_ms) => {
                let value = hash.table().get(field)?;
                let deadline = hash.deadline(field);
                deadline.is_none_or(|deadline| deadline > now_ms).then_some((value, deadline))
            }
        }
    }

    /// Every field with its value.
    pub fn iter(self) -> Box<dyn Iterator<Item = (&'a [u8], &'a [u8])> + 'a> {
        let pair = |field: Field<'a>| (field.name, field.value);
        match self {
            HashRef::Packed(bytes) => Box::new(packed::fields(bytes).map(pair)),
            HashRef::Table(table) => Box::new(table.iter()),
            HashRef::PackedExpiring(bytes, now_ms) => {
                let live = move |field: &Field<'a>| !field.has_expired(now_ms);
                Box::new(packed::expiring_fields(bytes).filter(live).map(pair))
            }
            HashRef::Expiring(hash, now_ms) => {
                Box::new(hash.table().iter().filter(move |(field, _)| !hash.has_expired(field, now_ms)))
            }
        }
    }

    /// Every field that has a deadline, with it.
    pub fn deadlines(self) -> Vec<(&'a [u8], i64)> {
        match self {
            HashRef::Packed(_) | HashRef::Table(_) => Vec::new(),
            HashRef::PackedExpiring(bytes, _) => {
                let fields = packed::expiring_fields(bytes);
                fields.filter_map(|field| Some((field.name, field.deadline?))).collect()
            }
            HashRef::Expiring(hash, _) => hash.deadlines().collect(),
        }
    }

    /// Visits fields from a cursor on, as HSCAN does; returns the next cursor, 0 at the end. A packed hash is visited
    /// as a whole.
    pub fn scan(self, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> u64 {
        match self {
            HashRef::Packed(_) | HashRef::PackedExpiring(..) => {
                self.iter().for_each(|(field, value)| visit(field, value));
                0
            }
            HashRef::Table(table) => table.scan(cursor, count, visit),
            HashRef::Expiring(hash, now_ms) => hash.table().scan(cursor, count, &mut |field, value| {
                if !hash.has_expired(field, now_ms) {
                    visit(field, value);
                }
            }),
        }
    }

    /// Whether drawing fields by chance finds one that has not expired nearly always. It is tried out; of a packed hash,
    /// walking through it is quicker anyway.
    pub fn is_mostly_live(self, next: &mut dyn FnMut() -> u64) -> bool {
        match self {
            HashRef::Table(table) => !table.is_empty(),
            HashRef::Expiring(hash, _) => {
                let mut is_live =
                    || hash.table().random(next).is_some_and(|drawn| self.get(drawn.0).is_some());
                (0..DRAWS_MAX).filter(|_| is_live()).count() >= DRAWS_MAX / 2
            }
            HashRef::Packed(_) | HashRef::PackedExpiring(..) => false,
        }
    }

    /// A field chosen uniformly by random numbers.
    pub fn random(self, next: &mut dyn FnMut() -> u64) -> Option<(&'a [u8], &'a [u8])> {
        let table = match self {
            HashRef::Table(table) => return table.random(next),
            HashRef::Expiring(hash, _) => Some(hash.table()),
            HashRef::Packed(_) | HashRef::PackedExpiring(..) => None,
        };
        if let Some(table) = table {
            for _ in 0..DRAWS_MAX {
                let drawn = table.random(next)?;
                if self.get(drawn.0).is_some() {
                    return Some(drawn);
                }
            }
        }
        let len = self.len_live() as u64;
        if len == 0 { None } else { self.iter().nth((next() % len) as usize) }
    }
}
