//! What may be done to a hash.

use super::expiring::ExpiringHash;
use super::packed::{self as layout, DUE_LEN, DeadlineBytes, Field, Fields};
use super::value::{Hash, HashRef};
use crate::engine::edit::{Edit, Limits};
use crate::engine::event;
use crate::keyspace::entry::{Kind, NewValue};
use crate::types::packed::{self, with_items};
use crate::types::table::Table;
use crate::types::{Object, Type};

impl Edit<'_, Hash> {
    /// Sets a field, which has no deadline from then on; true if it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        let item = NewField { field, value, limits: self.limits() };
        if let HashRef::Packed(bytes) = self.view() {
            match item.place_in(bytes, layout::fields(bytes)) {
                Place::Of { at, len, .. } => {
                    with_items(&[value], |items| self.open().splice(at, len, items));
                    return false;
                }
                Place::Behind { at } => {
                    with_items(&[field, value], |items| self.open().splice(at, 0, items));
                    return true;
                }
                Place::None { small } => self.unpack(small),
            }
        }
        match self.table() {
            Some(table) => item.put_into(table),
            None => self.set_among_expiring(field, value, false),
        }
    }

    /// Sets a field, which keeps its deadline; true if it is new.
    pub fn set_keeping_deadline(&mut self, field: &[u8], value: &[u8]) -> bool {
        if self.entry().kind().has_field_deadlines() {
            self.set_among_expiring(field, value, true)
        } else {
            self.set(field, value)
        }
    }

    /// Removes a field; false if there was none.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        if let HashRef::Packed(bytes) = self.view() {
            let Some(Field { start, end, .. }) = layout::fields(bytes).named(field) else { return false };
            self.open().splice(start, end - start, b"");
            return true;
        }
        let Some(value) = self.view().get(field) else { return false };
        let bytes = field.len() + value.len();
        self.part_with(bytes);
        match self.table() {
            Some(table) => table.remove(field),
            None => self.remove_among_expiring(field),
        }
    }

    /// Sets or removes the deadline of a field that is there.
    pub fn set_field_deadline(&mut self, field: &[u8], deadline: Option<i64>) {
        if !self.entry().kind().has_field_deadlines() {
            if deadline.is_none() {
                return;
            }
            self.begin_expiring();
        }
        if let HashRef::PackedExpiring(bytes, _) = self.view() {
            let Some(found) = layout::expiring_fields(bytes).named(field) else { return };
            if found.deadline == deadline {
                return;
            }
            let (at, len) = (found.value_end, found.end - found.value_end);
            with_items(&[DeadlineBytes::new(deadline).get()], |items| self.open().splice(at, len, items));
            match deadline {
                Some(deadline) => self.be_due_by(deadline),
                None => self.end_expiring(),
            }
            return;
        }
        let Some(hash) = self.expiring() else { return };
        if hash.deadline(field) != deadline {
            hash.set_deadline(field, deadline);
            match deadline {
                Some(_) => self.fields_moved(),
                None => self.end_expiring(),
            }
        }
    }

    /// Removes fields that have expired, `limit` at most; says which. Nothing is changed if there are none.
    pub fn remove_expired(&mut self, limit: usize) -> Vec<Box<[u8]>> {
        let now_ms = self.now_ms();
        let expired: Vec<Box<[u8]>> = match self.view() {
            HashRef::PackedExpiring(bytes, _) => {
                let (mut expired, mut due) = (Vec::new(), i64::MAX);
                let mut kept = Vec::with_capacity(bytes.len());
                kept.extend_from_slice(&[0; DUE_LEN]);
                for field in layout::expiring_fields(bytes) {
                    if field.has_expired(now_ms) && expired.len() < limit {
                        expired.push(field.name.into());
                    } else {
                        due = due.min(field.deadline.unwrap_or(i64::MAX));
                        kept.extend_from_slice(&bytes[field.start..field.end]);
                    }
                }
                kept[..DUE_LEN].copy_from_slice(&due.to_le_bytes());
                if !expired.is_empty() {
                    self.set_value(NewValue::Bytes(Kind::PackedExpiringHash, &kept));
                } else if let Some(bytes) = self.rearrange().bytes_mut() {
                    bytes[..DUE_LEN].copy_from_slice(&due.to_le_bytes());
                }
                expired
            }
            HashRef::Expiring(..) => {
                let expired = match self.rearrange().object_mut() {
                    Some(Object::ExpiringHash(hash)) => hash.expired(now_ms, limit),
                    _ => Vec::new(),
                };
                if !expired.is_empty()
                    && let Some(hash) = self.expiring()
                {
                    expired.iter().for_each(|field| {
                        hash.remove(field);
                    });
                }
                expired
            }
            HashRef::Packed(_) | HashRef::Table(_) => Vec::new(),
        };
        self.fields_moved();
        self.end_expiring();
        expired
    }

    /// A field that has expired and was not removed yet is removed now, which is told as when it is found by itself.
    fn remove_if_expired(&mut self, field: &[u8]) {
        let now_ms = self.now_ms();
        let has_expired = match self.view() {
            HashRef::PackedExpiring(bytes, _) if layout::due(bytes) <= now_ms => {
                layout::expiring_fields(bytes).named(field).is_some_and(|found| found.has_expired(now_ms))
            }
            HashRef::Expiring(hash, _) => hash.has_expired(field, now_ms),
            _ => false,
        };
        if has_expired {
            self.remove_among_expiring(field);
            self.tell_expired(&[field]);
        }
    }

    /// Tells that fields have expired, apart from what the command itself will tell.
    pub fn tell_expired(&mut self, fields: &[&[u8]]) {
        let key: Box<[u8]> = self.entry().key().into();
        let mut words: Vec<&[u8]> = vec![b"HDEL", &key];
        words.extend(fields);
        self.beside("hexpired", event::HASH, &words, fields.len() as u64);
    }

    // ---- among fields with deadlines

    fn set_among_expiring(&mut self, field: &[u8], value: &[u8], keeps_deadline: bool) -> bool {
        self.remove_if_expired(field);
        if !self.entry().kind().has_field_deadlines() {
            return self.set(field, value);
        }
        let item = NewField { field, value, limits: self.limits() };
        if let HashRef::PackedExpiring(bytes, _) = self.view() {
            match item.place_in(bytes, layout::expiring_fields(bytes)) {
                Place::Of { at, len, deadline: before } => {
                    let deadline = before.filter(|_| keeps_deadline);
                    with_items(&[value, DeadlineBytes::new(deadline).get()], |items| {
                        self.open().splice(at, len, items);
                    });
                    if deadline != before {
                        self.end_expiring();
                    }
                    return false;
                }
                Place::Behind { at } => {
                    with_items(&[field, value, b""], |items| self.open().splice(at, 0, items));
                    return true;
                }
                Place::None { small } => self.unpack_expiring(small),
            }
        }
        let Some(hash) = self.expiring() else { return false };
        let lost = !keeps_deadline && hash.deadline(field).is_some();
        let is_new = item.put_into(hash.table_mut());
        if lost {
            hash.set_deadline(field, None);
            self.end_expiring();
        }
        is_new
    }

    fn remove_among_expiring(&mut self, field: &[u8]) -> bool {
        if let HashRef::PackedExpiring(bytes, _) = self.view() {
            let Some(found) = layout::expiring_fields(bytes).named(field) else { return false };
            let (at, len, expired) = (found.start, found.end - found.start, found.deadline.is_some());
            self.open().splice(at, len, b"");
            if expired {
                self.end_expiring();
            }
            return true;
        }
        let Some(hash) = self.expiring() else { return self.remove(field) };
        let removed = hash.remove(field);
        self.end_expiring();
        removed
    }

    /// The hash becomes one of the kind that has deadlines.
    #[cold]
    fn begin_expiring(&mut self) {
        if let HashRef::Packed(bytes) = self.view() {
            let expiring = layout::with_deadlines(bytes, |_| None);
            if expiring.len() < packed::SIZE_MAX {
                return self.set_value(NewValue::Bytes(Kind::PackedExpiringHash, &expiring));
            }
            self.unpack(true);
        }
        let Some(table) = self.table().map(std::mem::take) else { return };
        self.set_value(NewValue::Object(Box::new(Object::ExpiringHash(Box::new(ExpiringHash::new(table))))));
    }

    /// The hash becomes one of the kind that has no deadlines, if it has none any more.
    fn end_expiring(&mut self) {
        match self.view() {
            HashRef::PackedExpiring(bytes, _) => {
                if layout::expiring_fields(bytes).any(|field| field.deadline.is_some()) {
                    return;
                }
                let mut plain = Vec::with_capacity(bytes.len());
                for field in layout::expiring_fields(bytes) {
                    plain.extend_from_slice(&bytes[field.start..field.value_end]);
                }
                self.set_value(NewValue::Bytes(Kind::PackedHash, &plain));
            }
            HashRef::Expiring(hash, _) if hash.expiring() == 0 => {
                let Some(hash) = self.expiring() else { return };
                let hash = std::mem::replace(hash, ExpiringHash::new(Table::new()));
                self.set_value(NewValue::Object(Box::new(Object::Hash(hash.into_table()))));
            }
            _ => {}
        }
    }

    /// A field of the packed hash may have expired from a moment on.
    fn be_due_by(&mut self, deadline: i64) {
        if let HashRef::PackedExpiring(bytes, _) = self.view()
            && deadline < layout::due(bytes)
        {
            self.open().bytes_mut().expect("it is packed")[..DUE_LEN]
                .copy_from_slice(&deadline.to_le_bytes());
            self.fields_moved();
        }
    }

    // ---- the tables

    fn table(&mut self) -> Option<&mut Table> {
        if self.entry().kind() != Kind::Hash {
            return None;
        }
        match self.open().object_mut() {
            Some(Object::Hash(table)) => Some(table),
            _ => None,
        }
    }

    fn expiring(&mut self) -> Option<&mut ExpiringHash> {
        if self.entry().kind() != Kind::ExpiringHash {
            return None;
        }
        match self.open().object_mut() {
            Some(Object::ExpiringHash(hash)) => Some(hash),
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

    fn unpack_expiring(&mut self, small: bool) {
        let Some(HashRef::PackedExpiring(bytes, _)) = Hash::view(self.entry()) else { return };
        let mut table = Table::new();
        table.keep_small(small);
        for field in layout::expiring_fields(bytes) {
            table.set(field.name, field.value);
        }
        let mut hash = ExpiringHash::new(table);
        for field in layout::expiring_fields(bytes) {
            hash.set_deadline(field.name, field.deadline);
        }
        self.set_value(NewValue::Object(Box::new(Object::ExpiringHash(Box::new(hash)))));
    }
}

/// A field that is set.
struct NewField<'a> {
    field: &'a [u8],
    value: &'a [u8],
    limits: Limits,
}

/// Where it goes among packed ones.
enum Place {
    /// In the place of these bytes: its value, and the deadline if it has one.
    Of { at: usize, len: usize, deadline: Option<i64> },
    /// Behind all others.
    Behind { at: usize },
    /// There is none; whether the hash is small all the same, but for its bytes.
    None { small: bool },
}

impl NewField<'_> {
    /// Whether it is short enough for a small hash.
    fn is_short(&self) -> bool {
        self.field.len().max(self.value.len()) <= self.limits.hash_value_len
    }

    #[inline(always)]
    fn place_in<const EXPIRING: bool>(&self, bytes: &[u8], fields: Fields<'_, EXPIRING>) -> Place {
        let has_room = bytes.len() + self.field.len() + self.value.len() < packed::SIZE_MAX;
        let is_short = self.is_short();
        match fields.named_or_count(self.field) {
            Ok(found) if is_short && has_room => Place::Of {
                at: found.value_start,
                len: found.end - found.value_start,
                deadline: found.deadline,
            },
            Err(others) if is_short && has_room && others < self.limits.hash_entries => {
                Place::Behind { at: bytes.len() }
            }
            Ok(_) => Place::None { small: is_short },
            Err(others) => Place::None { small: is_short && others < self.limits.hash_entries },
        }
    }

    /// Puts it into a table; true if it is new.
    #[inline(always)]
    fn put_into(&self, table: &mut Table) -> bool {
        let is_new = table.set(self.field, self.value);
        if table.is_kept_small() && !(self.is_short() && table.len() <= self.limits.hash_entries) {
            table.keep_small(false);
        }
        is_new
    }
}
