//! Ziplists: what listpacks replaced. Only read: files and payloads of Redis up to 6.2 hold them.
//!
//! ```text
//! bytes u32   place of the last item u32   items u16 (65535: nobody has counted)   item…   255
//! item: length of the one before · what follows and its length · the item
//! ```

use super::super::{Broken, Result};
use super::Item;

const HEADER_LEN: usize = 10;
const END: u8 = 0xff;
const UNCOUNTED: u16 = u16::MAX;
/// The length of the item before does not fit into a byte, and four follow.
const LONG_BEFORE: u8 = 0xfe;

/// A ziplist that has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Ziplist<'a> {
    items: &'a [u8],
    len: usize,
}

const BROKEN: Broken = Broken::Malformed("ziplist integrity check failed");

impl<'a> Ziplist<'a> {
    /// Checks all of a ziplist.
    pub fn parse(bytes: &'a [u8]) -> Result<Ziplist<'a>> {
        let (header, behind) = bytes.split_at_checked(HEADER_LEN).ok_or(BROKEN)?;
        let total = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let tail = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let counted = u16::from_le_bytes([header[8], header[9]]);
        let (end, items) = behind.split_last().ok_or(BROKEN)?;
        if total as usize != bytes.len() || *end != END {
            return Err(BROKEN);
        }
        let (mut at, mut before, mut len) = (0, 0, 0);
        while at < items.len() {
            let found = entry(&items[at..]).ok_or(BROKEN)?;
            if found.before != before {
                return Err(BROKEN);
            }
            before = found.len;
            at += before;
            len += 1;
        }
        let last = HEADER_LEN + at - before;
        if tail as usize != last || (counted != UNCOUNTED && usize::from(counted) != len) {
            return Err(BROKEN);
        }
        Ok(Ziplist { items, len })
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The items in order.
    pub fn iter(&self) -> Items<'a> {
        Items(self.items)
    }

    /// The items as pairs, if their number is even.
    pub fn pairs(&self) -> Result<impl Iterator<Item = (Item<'a>, Item<'a>)> + Clone + use<'a>> {
        super::pairs(self.iter(), self.len).ok_or(BROKEN)
    }
}

/// The items of a ziplist.
#[derive(Clone, Debug)]
pub struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let found = entry(self.0)?;
        self.0 = &self.0[found.len..];
        Some(found.item)
    }
}

struct Entry<'a> {
    /// Bytes of the item before, as it says.
    before: usize,
    /// Bytes of all of it.
    len: usize,
    item: Item<'a>,
}

/// The entry at the beginning.
fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let (first, behind) = bytes.split_first()?;
    let (before, body) = match *first {
        END => return None,
        LONG_BEFORE => (u32::from_le_bytes(*behind.first_chunk()?) as usize, behind.get(4..)?),
        short => (usize::from(short), behind),
    };
    let (item, len) = item(body)?;
    Some(Entry { before, len: bytes.len() - body.len() + len, item })
}

/// The item whose encoding stands at the beginning, and how many bytes both take.
fn item(bytes: &[u8]) -> Option<(Item<'_>, usize)> {
    let (first, behind) = bytes.split_first()?;
    let text = |len: usize, head: usize| Some((Item::Bytes(behind.get(head..head + len)?), 1 + head + len));
    match *first {
        0x00..0x40 => text(usize::from(*first), 0),
        0x40..0x80 => text(usize::from(first & 0x3f) << 8 | usize::from(*behind.first()?), 1),
        0x80 => text(u32::from_be_bytes(*behind.first_chunk()?) as usize, 4),
        0xc0 => Some((Item::Integer(i64::from(i16::from_le_bytes(*behind.first_chunk()?))), 3)),
        0xd0 => Some((Item::Integer(i64::from(i32::from_le_bytes(*behind.first_chunk()?))), 5)),
        0xe0 => Some((Item::Integer(i64::from_le_bytes(*behind.first_chunk()?)), 9)),
        0xf0 => {
            let [low, middle, high] = *behind.first_chunk()?;
            Some((Item::Integer(i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8)), 4))
        }
        0xf1..=0xfd => Some((Item::Integer(i64::from(first & 0x0f) - 1), 1)),
        0xfe => Some((Item::Integer(i64::from(*behind.first()? as i8)), 2)),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A ziplist of items whose encodings are given.
    pub(crate) fn built(items: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        let (mut before, mut last) = (0usize, HEADER_LEN);
        for item in items {
            last = bytes.len();
            match before {
                0..254 => bytes.push(before as u8),
                _ => {
                    bytes.push(LONG_BEFORE);
                    bytes.extend_from_slice(&(before as u32).to_le_bytes());
                }
            }
            bytes.extend_from_slice(item);
            before = bytes.len() - last;
        }
        bytes.push(END);
        let total = bytes.len() as u32;
        bytes[..4].copy_from_slice(&total.to_le_bytes());
        bytes[4..8].copy_from_slice(&(last as u32).to_le_bytes());
        bytes[8..10].copy_from_slice(&(items.len() as u16).to_le_bytes());
        bytes
    }

    #[test]
    fn every_encoding_is_read() {
        let long: Vec<u8> = [&b"\x41\x2c"[..], &[b'y'; 300]].concat();
        let huge: Vec<u8> = [&b"\x80\0\0\x40\0"[..], &[b'z'; 16_384]].concat();
        let items: [&[u8]; 12] = [
            b"\x03abc",
            &long,
            &huge,
            b"\xc0\xff\xff",
            b"\xd0\0\0\0\x80",
            b"\xe0\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\xf0\xfe\xff\xff",
            b"\xfe\x80",
            b"\xf1",
            b"\xfd",
            b"\x00",
            b"\x0212",
        ];
        let bytes = built(&items);
        let list = Ziplist::parse(&bytes).unwrap();
        let integers = [-1, i64::from(i32::MIN), i64::MAX, -2, -128, 0, 12].map(Item::Integer);
        let expected = [Item::Bytes(b"abc"), Item::Bytes(&[b'y'; 300]), Item::Bytes(&[b'z'; 16_384])];
        let expected = expected.into_iter().chain(integers).chain([Item::Bytes(b""), Item::Bytes(b"12")]);
        assert!(list.iter().eq(expected));
        assert_eq!(list.len(), 12);
        assert!(Ziplist::parse(&built(&[])).unwrap().is_empty());
    }

    #[test]
    fn one_wrong_byte_is_found_or_harmless() {
        let long: Vec<u8> = [&b"\x41\x2c"[..], &[b'y'; 300]].concat();
        let bytes = built(&[b"\x03abc", &long, b"\xc0\x01\x02", b"\xf3"]);
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut broken = bytes.clone();
                broken[at] = value;
                if let Ok(list) = Ziplist::parse(&broken) {
                    assert_eq!(list.iter().count(), list.len(), "{at} {value}");
                }
            }
            assert!(Ziplist::parse(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
