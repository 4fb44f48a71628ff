//! Listpacks: items one after another, each with its own length behind it, so that it can be walked both ways.
//!
//! ```text
//! bytes u32   items u16 (65535: nobody has counted)   item…   255
//! item: what follows and its length · the item · how long both are, in groups of seven bits from the end
//! ```

use super::super::{Broken, Result};
use super::Item;

const HEADER_LEN: usize = 6;
const END: u8 = 0xff;
/// What a listpack takes beside its items.
pub const FRAME_LEN: usize = HEADER_LEN + 1;
const UNCOUNTED: u16 = u16::MAX;

/// A listpack that has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Listpack<'a> {
    items: &'a [u8],
    len: usize,
}

const BROKEN: Broken = Broken::Malformed("listpack integrity check failed");

impl<'a> Listpack<'a> {
    /// Checks all of a listpack.
    pub fn parse(bytes: &'a [u8]) -> Result<Listpack<'a>> {
        let (header, behind) = bytes.split_at_checked(HEADER_LEN).ok_or(BROKEN)?;
        let total = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let counted = u16::from_le_bytes([header[4], header[5]]);
        let (end, items) = behind.split_last().ok_or(BROKEN)?;
        if total as usize != bytes.len() || *end != END {
            return Err(BROKEN);
        }
        let (mut at, mut len) = (0, 0);
        while at < items.len() {
            let (_, front) = item(&items[at..]).ok_or(BROKEN)?;
            let mut back = [0; BACK_LEN_MAX];
            let back = back_of(front, &mut back);
            if items.get(at + front..at + front + back.len()) != Some(back) {
                return Err(BROKEN);
            }
            at += front + back.len();
            len += 1;
        }
        if counted != UNCOUNTED && usize::from(counted) != len {
            return Err(BROKEN);
        }
        Ok(Listpack { items, len })
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

/// The items of a listpack.
#[derive(Clone, Debug)]
pub struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        let (item, front) = item(self.0)?;
        self.0 = self.0.get(front + back_len(front)..)?;
        Some(item)
    }
}

/// The item at the beginning, and how many bytes it takes without the length behind it.
#[inline]
fn item(bytes: &[u8]) -> Option<(Item<'_>, usize)> {
    let (first, behind) = bytes.split_first()?;
    let first_bits = i64::from(*first);
    let text = |len: usize, head: usize| Some((Item::Bytes(behind.get(head..head + len)?), 1 + head + len));
    match *first {
        0x00..0x80 => Some((Item::Integer(first_bits), 1)),
        0x80..0xc0 => text(usize::from(first & 0x3f), 0),
        0xc0..0xe0 => {
            let n = (first_bits & 0x1f) << 8 | i64::from(*behind.first()?);
            Some((Item::Integer(if n < 1 << 12 { n } else { n - (1 << 13) }), 2))
        }
        0xe0..0xf0 => text(usize::from(first & 0x0f) << 8 | usize::from(*behind.first()?), 1),
        0xf0 => text(u32::from_le_bytes(*behind.first_chunk()?) as usize, 4),
        0xf1 => Some((Item::Integer(i64::from(i16::from_le_bytes(*behind.first_chunk()?))), 3)),
        0xf2 => {
            let [low, middle, high] = *behind.first_chunk()?;
            let n = i32::from_le_bytes([0, low, middle, high]) >> 8;
            Some((Item::Integer(i64::from(n)), 4))
        }
        0xf3 => Some((Item::Integer(i64::from(i32::from_le_bytes(*behind.first_chunk()?))), 5)),
        0xf4 => Some((Item::Integer(i64::from_le_bytes(*behind.first_chunk()?)), 9)),
        _ => None,
    }
}

const BACK_LEN_MAX: usize = 5;

/// How many bytes the length takes that stands behind an item. (The limits are one lower than they could be.)
fn back_len(front: usize) -> usize {
    match front {
        0..128 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    }
}

/// The length that stands behind an item.
fn back_of(front: usize, buffer: &mut [u8; BACK_LEN_MAX]) -> &[u8] {
    let len = back_len(front);
    for (index, byte) in buffer[..len].iter_mut().enumerate() {
        let bits = (front >> (7 * (len - 1 - index))) as u8 & 0x7f;
        *byte = if index == 0 { bits } else { bits | 0x80 };
    }
    &buffer[..len]
}

/// How many bytes a text takes as an item; one that spells an integer is one.
pub fn item_len(text: &[u8]) -> usize {
    mortise_sdk::args::parse_integer(text).map_or(text_len(text.len()), integer_len)
}

/// How many bytes a text takes as an item that spells no integer.
pub fn text_len(len: usize) -> usize {
    let front = text_front(len) + len;
    front + back_len(front)
}

/// How many bytes stand before a text.
fn text_front(len: usize) -> usize {
    match len {
        0..0x40 => 1,
        0x40..0x1000 => 2,
        _ => 5,
    }
}

/// How many bytes an integer takes as an item.
pub fn integer_len(n: i64) -> usize {
    match n {
        0..0x80 => 2,
        -0x1000..0x1000 => 3,
        -0x8000..0x8000 => 4,
        -0x80_0000..0x80_0000 => 5,
        -0x8000_0000..0x8000_0000 => 6,
        _ => 10,
    }
}

/// Makes a listpack.
#[derive(Clone, Debug)]
pub struct Builder {
    bytes: Vec<u8>,
    len: usize,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder { bytes: vec![0; HEADER_LEN], len: 0 }
    }
}

impl Builder {
    /// Number of items so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none so far.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that it takes so far.
    pub fn size(&self) -> usize {
        self.bytes.len() - HEADER_LEN + FRAME_LEN
    }

    /// Appends a text, as an integer if it spells one. It is to be shorter than 4 GB, as the whole is.
    pub fn push(&mut self, text: &[u8]) {
        const INTEGER_LEN_MAX: usize = 20;
        if text.len() <= INTEGER_LEN_MAX
            && let Some(n) = mortise_sdk::args::parse_integer(text)
        {
            return self.push_integer(n);
        }
        let len = text.len();
        match len {
            0..0x40 => self.bytes.push(0x80 | len as u8),
            0x40..0x1000 => self.bytes.extend_from_slice(&[0xe0 | (len >> 8) as u8, len as u8]),
            _ => {
                self.bytes.push(0xf0);
                self.bytes.extend_from_slice(&(len as u32).to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(text);
        self.close(text_front(len) + len);
    }

    /// Appends an integer.
    pub fn push_integer(&mut self, n: i64) {
        let before = self.bytes.len();
        let all = n.to_le_bytes();
        match n {
            0..0x80 => self.bytes.push(n as u8),
            -0x1000..0x1000 => {
                let bits = (n & 0x1fff) as u16 | 0xc000;
                self.bytes.extend_from_slice(&bits.to_be_bytes());
            }
            -0x8000..0x8000 => self.push_wide(0xf1, &all[..2]),
            -0x80_0000..0x80_0000 => self.push_wide(0xf2, &all[..3]),
            -0x8000_0000..0x8000_0000 => self.push_wide(0xf3, &all[..4]),
            _ => self.push_wide(0xf4, &all),
        }
        self.close(self.bytes.len() - before);
    }

    fn push_wide(&mut self, first: u8, bytes: &[u8]) {
        self.bytes.push(first);
        self.bytes.extend_from_slice(bytes);
    }

    fn close(&mut self, front: usize) {
        let mut back = [0; BACK_LEN_MAX];
        self.bytes.extend_from_slice(back_of(front, &mut back));
        self.len += 1;
    }

    /// Appends the items of another one.
    pub fn append(&mut self, other: Builder) {
        self.bytes.extend_from_slice(&other.bytes[HEADER_LEN..]);
        self.len += other.len;
    }

    /// The listpack.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let total = self.bytes.len() as u32;
        let counted = u16::try_from(self.len).unwrap_or(UNCOUNTED);
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        self.bytes[4..HEADER_LEN].copy_from_slice(&counted.to_le_bytes());
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(texts: &[Vec<u8>]) -> Vec<u8> {
        let mut builder = Builder::default();
        texts.iter().for_each(|text| builder.push(text));
        builder.finish()
    }

    fn texts() -> Vec<Vec<u8>> {
        let edges = [6, 7, 12, 15, 23, 31, 63].map(|bits| i64::MAX >> (63 - bits));
        let integers = edges.into_iter().flat_map(|edge| [edge, edge.wrapping_add(1), -edge, -edge - 1]);
        let mut texts: Vec<Vec<u8>> = integers.map(|n| n.to_string().into_bytes()).collect();
        for len in [0, 1, 63, 64, 125, 126, 127, 4095, 4096, 16_376, 16_377, 16_378, 16_379, 2_097_146] {
            texts.push(vec![b'x'; len]);
        }
        texts.push(b"01".to_vec());
        texts
    }

    #[test]
    fn items_come_back() {
        let bytes = built(&texts());
        let pack = Listpack::parse(&bytes).unwrap();
        assert_eq!(pack.len(), texts().len());
        assert!(pack.iter().map(Item::to_vec).eq(texts()));
        let integers = pack.iter().take_while(|item| matches!(item, Item::Integer(_))).count();
        assert_eq!(integers, 28, "what spells an integer is one");
    }

    /// As redis-server 7.0.15 makes it (DEBUG LISTPACK shows as much): `a`, 1, -1, 300.
    #[test]
    fn the_bytes_are_the_known_ones() {
        let bytes = built(&[b"a".to_vec(), b"1".to_vec(), b"-1".to_vec(), b"300".to_vec()]);
        assert_eq!(bytes, b"\x12\0\0\0\x04\0\x81a\x02\x01\x01\xdf\xff\x02\xc1\x2c\x02\xff");
    }

    #[test]
    fn more_than_can_be_counted() {
        let texts = vec![b"7".to_vec(); 70_000];
        let bytes = built(&texts);
        assert_eq!(Listpack::parse(&bytes).unwrap().len(), 70_000);
    }

    #[test]
    fn one_wrong_byte_is_found_or_harmless() {
        let bytes = built(&[b"abc".to_vec(), b"1000".to_vec(), vec![b'y'; 200], b"-5".to_vec()]);
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut broken = bytes.clone();
                broken[at] = value;
                if let Ok(pack) = Listpack::parse(&broken) {
                    assert_eq!(pack.iter().count(), pack.len(), "{at} {value}");
                }
            }
            assert!(Listpack::parse(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
    #[test]
    fn sizes_are_told_beforehand() {
        let mut texts: Vec<Vec<u8>> =
            [0, 1, 63, 64, 126, 127, 4095, 4096, 16_380, 16_383, 70_000].map(|len| vec![b'x'; len]).into();
        texts.extend((0..63).flat_map(|bit| {
            [1i64 << bit, (1 << bit) - 1, -(1 << bit), -(1 << bit) - 1].map(|n| n.to_string().into_bytes())
        }));
        for text in texts {
            let mut pack = Builder::default();
            pack.push(&text);
            let size = pack.finish().len();
            assert_eq!(size, FRAME_LEN + item_len(&text), "{}", text.escape_ascii());
        }
    }
}
