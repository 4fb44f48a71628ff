//! Fields and values as they stand in a chunk: numbers shorter than their digits, all else with its length in front.
//!
//! ```text
//! 0x00..=0x7f  text of that many bytes       0xc1..=0xc8  an integer of 1 to 8 bytes, the lowest first
//! 0x80..=0xbf  the integer 0 to 63           0xff         text; its length follows as a varint
//! ```
//!
//! What Redis would need for the same is worked out as well: it decides where its nodes end, and with them what
//! approximate trimming removes.

use mortise_sdk::args::parse_integer;
use mortise_sdk::resp::format_integer;

use crate::persistence::snapshot::blob::listpack;
use crate::resp::output::Output;

const SMALL: u8 = 0x80;
const SMALL_MAX: i64 = 63;
const INTEGER: u8 = 0xc0;
const LONG: u8 = 0xff;

/// A field or a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// Any text.
    Text(&'a [u8]),
    /// A text that spells an integer.
    Integer(i64),
}

impl Item<'_> {
    /// Answers with it.
    #[inline]
    pub fn write(self, out: &mut Output) {
        match self {
            Item::Text(text) => out.bulk(text),
            Item::Integer(n) => out.bulk_integer(n),
        }
    }

    /// Does something with its bytes.
    pub fn with_bytes<T>(self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Item::Text(text) => use_bytes(text),
            Item::Integer(n) => use_bytes(format_integer(n).as_bytes()),
        }
    }

    /// Whether it is this text.
    #[inline]
    pub fn is(self, text: &[u8]) -> bool {
        match self {
            Item::Text(own) => own == text,
            Item::Integer(n) => parse_integer(text) == Some(n),
        }
    }
}

/// Appends a varint: seven bits a byte, the lowest first.
#[inline]
pub(super) fn push_varint(to: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Reads a varint at `at`, and where it ends.
#[inline]
pub(super) fn varint(bytes: &[u8], at: usize) -> Option<(u128, usize)> {
    let first = *bytes.get(at)?;
    if first < 0x80 {
        return Some((u128::from(first), at + 1));
    }
    long_varint(bytes, at)
}

fn long_varint(bytes: &[u8], mut at: usize) -> Option<(u128, usize)> {
    let (mut number, mut shift) = (0u128, 0);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        number |= u128::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((number, at));
        }
        shift += 7;
        if shift > 70 {
            return None;
        }
    }
}

/// Appends an item; returns the bytes that Redis would need for it.
#[inline]
pub(super) fn push(to: &mut Vec<u8>, text: &[u8]) -> usize {
    if let Some(n) = parse_integer(text) {
        push_integer(to, n);
        return listpack::integer_len(n);
    }
    match u8::try_from(text.len()) {
        Ok(len) if len < SMALL => to.push(len),
        _ => {
            to.push(LONG);
            push_varint(to, text.len() as u128);
        }
    }
    to.extend_from_slice(text);
    listpack::text_len(text.len())
}

fn push_integer(to: &mut Vec<u8>, n: i64) {
    if (0..=SMALL_MAX).contains(&n) {
        to.push(SMALL | n as u8);
        return;
    }
    let bytes = n.to_le_bytes();
    // As many as still bear the sign.
    let spare = match n < 0 {
        true => n.leading_ones() - 1,
        false => n.leading_zeros() - 1,
    };
    let len = 8 - (spare / 8) as usize;
    to.push(INTEGER + len as u8);
    to.extend_from_slice(&bytes[..len]);
}

/// The item at `at`, and where it ends.
#[inline]
pub(super) fn read(bytes: &[u8], at: usize) -> Option<(Item<'_>, usize)> {
    let first = *bytes.get(at)?;
    let at = at + 1;
    match first {
        0..SMALL => {
            let end = at + usize::from(first);
            Some((Item::Text(bytes.get(at..end)?), end))
        }
        SMALL..=0xbf => Some((Item::Integer(i64::from(first & 0x3f)), at)),
        LONG => {
            let (len, at) = varint(bytes, at)?;
            let end = at.checked_add(usize::try_from(len).ok()?)?;
            Some((Item::Text(bytes.get(at..end)?), end))
        }
        _ => {
            let len = usize::from(first - INTEGER).clamp(1, 8);
            let own = bytes.get(at..at + len)?;
            let mut all = [if own[len - 1] < 0x80 { 0 } else { 0xff }; 8];
            all[..len].copy_from_slice(own);
            Some((Item::Integer(i64::from_le_bytes(all)), at + len))
        }
    }
}

/// What an item takes in a listpack.
pub(super) fn listpack_len(item: Item<'_>) -> usize {
    match item {
        Item::Text(text) => listpack::text_len(text.len()),
        Item::Integer(n) => listpack::integer_len(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back() {
        let long = vec![b'x'; 70_000];
        let mut texts: Vec<Vec<u8>> =
            [&b""[..], b"abc", &long, &long[..127], &long[..128], b"-0", b"007", b"+1", b"1.5", b"-"]
                .map(<[u8]>::to_vec)
                .to_vec();
        for shift in 0..64 {
            for n in [1i64 << shift, (1i64 << shift).wrapping_sub(1), (-1i64) << shift] {
                texts.push(n.to_string().into_bytes());
                texts.push(n.wrapping_sub(1).to_string().into_bytes());
            }
        }
        let mut bytes = Vec::new();
        texts.iter().for_each(|text| {
            push(&mut bytes, text);
        });
        let mut at = 0;
        for text in &texts {
            let (item, end) = read(&bytes, at).expect("it was pushed");
            assert!(item.is(text), "{item:?} of {text:?}");
            assert!(item.with_bytes(|bytes| bytes == text));
            at = end;
        }
        assert_eq!(at, bytes.len());
        assert!(read(&bytes, at).is_none());
    }

    #[test]
    fn numbers_are_short() {
        for (text, len) in [("63", 1), ("64", 2), ("-1", 2), ("-128", 2), ("128", 3), ("1700000000000", 7)] {
            let mut bytes = Vec::new();
            push(&mut bytes, text.as_bytes());
            assert_eq!(bytes.len(), len, "{text}");
        }
    }

    #[test]
    fn varints_come_back() {
        for number in [0, 1, 127, 128, 1 << 35, u128::from(u64::MAX), (u128::from(u64::MAX) << 1) + 1] {
            let mut bytes = Vec::new();
            push_varint(&mut bytes, number);
            assert_eq!(varint(&bytes, 0), Some((number, bytes.len())));
            bytes.pop();
            assert_eq!(varint(&bytes, 0), None);
        }
    }
}
