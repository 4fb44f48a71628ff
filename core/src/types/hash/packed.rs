//! Packed hashes: where a field stands in the bytes.
//!
//! Fields and values follow each other in turn, as packed items. If some of the fields have deadlines, each value is
//! followed by its field's: the number's bytes without the zeroes at its end, which are none where there is no deadline;
//! and eight bare bytes in front of all say before which moment no field expires.

use crate::types::packed::{self, Items};

/// Bytes in front of the fields, if some have deadlines.
pub(super) const DUE_LEN: usize = 8;

/// A field, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) deadline: Option<i64>,
    pub(super) start: usize,
    pub(super) value_start: usize,
    /// Where the value ends, and the deadline begins if there may be one.
    pub(super) value_end: usize,
    pub(super) end: usize,
}

impl Field<'_> {
    /// Whether it has expired.
    pub(super) fn has_expired(&self, now_ms: i64) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now_ms)
    }
}

/// The fields of a packed hash, of which some have deadlines or none.
#[derive(Clone)]
pub(super) struct Fields<'a, const EXPIRING: bool> {
    items: Items<'a>,
}

/// All fields of a packed hash without deadlines.
pub(super) fn fields(bytes: &[u8]) -> Fields<'_, false> {
    Fields { items: Items::new(bytes) }
}

/// All fields of a packed hash with deadlines.
pub(super) fn expiring_fields(bytes: &[u8]) -> Fields<'_, true> {
    let mut items = Items::new(bytes);
    items.bare();
    Fields { items }
}

impl<'a, const EXPIRING: bool> Iterator for Fields<'a, EXPIRING> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        let start = self.items.position();
        let name = self.items.next()?;
        let value_start = self.items.position();
        let value = self.items.next()?;
        let value_end = self.items.position();
        let deadline = if EXPIRING { read_deadline(self.items.next()?) } else { None };
        Some(Field { name, value, deadline, start, value_start, value_end, end: self.items.position() })
    }
}

impl<'a, const EXPIRING: bool> Fields<'a, EXPIRING> {
    /// The field of a name.
    pub(super) fn named(self, name: &[u8]) -> Option<Field<'a>> {
        self.named_or_count(name).ok()
    }

    /// The field of a name, or else how many others there are.
    #[inline]
    pub(super) fn named_or_count(self, name: &[u8]) -> Result<Field<'a>, usize> {
        let mut others = 0;
        for field in self {
            if field.name == name {
                return Ok(field);
            }
            others += 1;
        }
        Err(others)
    }
}

/// A packed hash without deadlines as one with them, which `deadline` tells of each field in order.
pub(super) fn with_deadlines(bytes: &[u8], mut deadline: impl FnMut(&[u8]) -> Option<i64>) -> Vec<u8> {
    let mut expiring = Vec::with_capacity(bytes.len() + bytes.len() / 8 + DUE_LEN);
    let mut due = i64::MAX;
    expiring.extend_from_slice(&due.to_le_bytes());
    for field in fields(bytes) {
        let deadline = deadline(field.name);
        due = due.min(deadline.unwrap_or(i64::MAX));
        expiring.extend_from_slice(&bytes[field.start..field.end]);
        packed::push(&mut expiring, DeadlineBytes::new(deadline).get());
    }
    expiring[..DUE_LEN].copy_from_slice(&due.to_le_bytes());
    expiring
}

/// Before which moment no field of a packed hash with deadlines expires.
pub(super) fn due(bytes: &[u8]) -> i64 {
    bytes.first_chunk::<DUE_LEN>().map_or(i64::MAX, |due| i64::from_le_bytes(*due))
}

/// A deadline in the fewest bytes.
#[derive(Clone, Copy)]
pub(super) struct DeadlineBytes {
    bytes: [u8; 8],
    len: usize,
}

impl DeadlineBytes {
    pub(super) fn new(deadline: Option<i64>) -> DeadlineBytes {
        // 1970 itself would look like none.
        let number = deadline.map_or(0, |deadline| deadline.max(1));
        DeadlineBytes { bytes: number.to_le_bytes(), len: 8 - number.leading_zeros() as usize / 8 }
    }

    pub(super) fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A deadline of its bytes.
pub(super) fn read_deadline(bytes: &[u8]) -> Option<i64> {
    if bytes.is_empty() {
        return None;
    }
    let mut number = [0; 8];
    number.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_back() {
        for deadline in [1, 255, 256, 1_800_000_000_000, 1 << 48, i64::MAX] {
            assert_eq!(read_deadline(DeadlineBytes::new(Some(deadline)).get()), Some(deadline));
        }
        assert_eq!(DeadlineBytes::new(Some(1_800_000_000_000)).get().len(), 6);
        assert_eq!(DeadlineBytes::new(None).get(), b"");
        assert_eq!(read_deadline(b""), None);
    }
}
