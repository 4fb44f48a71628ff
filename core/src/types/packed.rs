//! Small collections packed into bytes: items one after another, each with its length in front.
//!
//! The length is a LEB128 varint, so an item up to 127 bytes costs one byte more than itself.

use std::collections::HashSet;

use crate::keyspace::hash::hash;

/// Collections that take more bytes than this are not packed, whatever the limits of their type allow: what is packed is
/// copied as a whole, and walked through from its beginning.
pub const SIZE_MAX: usize = 64 * 1024;

/// Appends an item.
pub fn push(to: &mut Vec<u8>, item: &[u8]) {
    let mut len = item.len();
    while len >= 0x80 {
        to.push(len as u8 | 0x80);
        len >>= 7;
    }
    to.push(len as u8);
    to.extend_from_slice(item);
}

/// Packs items where they cost no allocation unless they are long.
#[inline]
pub fn with_items<T>(items: &[&[u8]], use_packed: impl FnOnce(&[u8]) -> T) -> T {
    const SHORT_LEN_MAX: usize = 192;
    /// An item up to this length has its own in one byte.
    const ONE_BYTE_LEN_MAX: usize = 127;
    let len: usize = items.iter().map(|item| item.len() + 1).sum();
    if len > SHORT_LEN_MAX || items.iter().any(|item| item.len() > ONE_BYTE_LEN_MAX) {
        let mut packed = Vec::with_capacity(len + 8);
        items.iter().for_each(|item| push(&mut packed, item));
        return use_packed(&packed);
    }
    let mut packed = [0; SHORT_LEN_MAX];
    let mut at = 0;
    for item in items {
        packed[at] = item.len() as u8;
        packed[at + 1..at + 1 + item.len()].copy_from_slice(item);
        at += 1 + item.len();
    }
    use_packed(&packed[..len])
}

/// Reads the item at `at`: the item, and where the next one begins. `None` at the end.
#[inline]
pub fn item(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let first = *bytes.get(at)?;
    let (len, start) = if first < 0x80 { (first as usize, at + 1) } else { long_len(bytes, at)? };
    Some((bytes.get(start..start + len)?, start + len))
}

#[cold]
fn long_len(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let (mut len, mut shift) = (0usize, 0);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        len |= ((byte & 0x7f) as usize) << shift;
        if byte < 0x80 {
            return Some((len, at));
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
}

/// The items of packed bytes.
#[derive(Clone, Copy)]
pub struct Items<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Items<'a> {
    /// All items.
    pub fn new(bytes: &'a [u8]) -> Items<'a> {
        Items { bytes, at: 0 }
    }

    /// Where the next item begins.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next eight bytes, which are no item but stand bare.
    pub fn bare(&mut self) -> Option<[u8; 8]> {
        let bytes = self.bytes.get(self.at..self.at + 8)?;
        self.at += 8;
        bytes.try_into().ok()
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (item, next) = item(self.bytes, self.at)?;
        self.at = next;
        Some(item)
    }
}

/// Finds out whether many items are all different, in little more time and room than it takes to look at them.
#[derive(Default)]
pub struct Distinct {
    hashes: Vec<u64>,
}

impl Distinct {
    /// Notes an item.
    pub fn note(&mut self, item: &[u8]) {
        self.hashes.push(hash(item));
    }

    /// Whether all that were noted are different. They are asked for again should two have one hash.
    pub fn are_distinct<'a, I: Iterator<Item = &'a [u8]>>(mut self, items: impl FnOnce() -> I) -> bool {
        self.hashes.sort_unstable();
        if self.hashes.windows(2).all(|pair| pair[0] != pair[1]) {
            return true;
        }
        let mut seen = HashSet::new();
        items().all(|item| seen.insert(item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back() {
        let long = vec![7; 70_000];
        let items: [&[u8]; 4] = [b"", b"abc", &long, b"z"];
        let mut bytes = Vec::new();
        items.iter().for_each(|item| push(&mut bytes, item));
        assert!(Items::new(&bytes).eq(items));
        bytes.pop();
        assert_eq!(Items::new(&bytes).count(), 3, "a truncated item is none");
    }

    #[test]
    fn what_comes_twice_is_found() {
        for (items, are_distinct) in [(&["a", "b", "c"][..], true), (&["a", "b", "a"], false), (&[], true)] {
            let mut distinct = Distinct::default();
            items.iter().for_each(|item| distinct.note(item.as_bytes()));
            assert_eq!(distinct.are_distinct(|| items.iter().map(|item| item.as_bytes())), are_distinct);
        }
        let twins = Distinct { hashes: vec![7, 8, 7] };
        assert!(
            twins.are_distinct(|| [&b"a"[..], b"b", b"c"].into_iter()),
            "one hash does not make two items one"
        );
    }

    #[test]
    fn items_are_packed_alike_wherever_they_are_put() {
        for lens in [[0, 0], [1, 64], [126, 64], [127, 63], [128, 1], [0, 128], [127, 127], [500, 3]] {
            let items = lens.map(|len| vec![b'x'; len]);
            let mut model = Vec::new();
            items.iter().for_each(|item| push(&mut model, item));
            with_items(&[&items[0], &items[1]], |packed| assert_eq!(packed, model, "{lens:?}"));
        }
    }
}
