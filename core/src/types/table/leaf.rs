//! A leaf of a table: up to [`SLOTS`] items, packed.
//!
//! Short items stand in one byte buffer as `key length, value length, key, value`; the buffer has no holes and grows
//! by the allocator's size classes, not by doubling. Longer items live in an allocation of their own, which copies of
//! the leaf share. A leaf knows tags, not hashes, and nothing of where it stands.

use std::iter;
use std::mem::size_of;
use std::ptr;

use triomphe::Arc;

use super::{key_hash, size_class};
use crate::keyspace::dict::prefetch;

/// The most items that a leaf holds. With 28 its shell is 128 bytes, two cache lines that are fetched together.
pub(super) const SLOTS: usize = 28;

const CACHE_LINE: usize = 64;

/// Items whose key and value together are longer than this are kept out of line. It bounds what copying a shared
/// leaf costs: `SLOTS * (INLINE_MAX + 2)` bytes.
const INLINE_MAX: usize = 128;

/// Set in an offset whose other bits are an index into [`Rest::longs`].
const OUTLINED: u16 = 0x8000;

const _: () = assert!(SLOTS * (INLINE_MAX + 2) < OUTLINED as usize && INLINE_MAX <= u8::MAX as usize);

#[derive(Default)]
#[repr(C)]
pub(super) struct Leaf {
    /// A byte of each item's hash, 0 where there is no item.
    tags: Tags,
    len: u8,
    data: Vec<u8>,
    rest: Option<Box<Rest>>,
    offsets: Offsets,
}

struct Tags([u8; SLOTS]);
#[derive(Clone)]
struct Offsets([u16; SLOTS]);

/// What few leaves have.
#[derive(Clone, Default)]
struct Rest {
    longs: Vec<Arc<Long>>,
    /// Heap bytes of `longs` with what they refer to.
    long_memory: usize,
    /// More items of the same hash prefix, once the leaf is full and its prefix cannot grow. Only keys that were
    /// made to collide come here.
    overflow: Vec<Arc<Leaf>>,
}

#[derive(Clone)]
struct Long {
    key_len: usize,
    bytes: Box<[u8]>,
}

/// What became of an item that was to be set.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Set {
    Added,
    Replaced,
    /// Nothing has changed: the leaf has to be split.
    Full,
}

/// The tag of an item with this hash.
pub(super) fn tag(hash: u64) -> u8 {
    (hash as u8).max(1)
}

impl Leaf {
    /// Number of items.
    pub(super) fn len(&self) -> usize {
        let overflow = self.overflow().iter().map(|leaf| leaf.own_len()).sum::<usize>();
        self.own_len() + overflow
    }

    /// Heap bytes of the leaf with its shell.
    pub(super) fn memory(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| {
            let overflow = rest.overflow.iter().map(|leaf| leaf.memory()).sum::<usize>();
            // By length and not by capacity, which a copy does not keep.
            let vectors = size_class(size_of::<usize>() * rest.longs.len())
                + size_class(size_of::<usize>() * rest.overflow.len());
            size_class(size_of::<Rest>()) + vectors + rest.long_memory + overflow
        });
        size_class(size_of::<usize>() + size_of::<Leaf>()) + self.data.capacity() + rest
    }

    /// Whether the leaf has more items than slots.
    pub(super) fn overflows(&self) -> bool {
        !self.overflow().is_empty()
    }

    /// The value of `key`.
    pub(super) fn get(&self, tag: u8, key: &[u8]) -> Option<&[u8]> {
        if let Some(slot) = self.find(tag, key) {
            return Some(self.own_item(slot).1);
        }
        self.overflow().iter().find_map(|leaf| leaf.get(tag, key))
    }

    /// The item at `index`, below `len`.
    pub(super) fn item(&self, mut index: usize) -> (&[u8], &[u8]) {
        let mut leaf = self;
        for next in self.overflow() {
            if index < leaf.own_len() {
                break;
            }
            index -= leaf.own_len();
            leaf = next;
        }
        leaf.own_item(index)
    }

    /// All items, in no order.
    pub(super) fn items(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let overflow = self.overflow().iter().map(|leaf| &**leaf);
        iter::once(self).chain(overflow).flat_map(|leaf| (0..leaf.own_len()).map(|slot| leaf.own_item(slot)))
    }

    /// Sets the value of `key`. A leaf that may not be split (`whole`) takes any number of items.
    pub(super) fn set(&mut self, tag: u8, key: &[u8], value: &[u8], whole: bool) -> Set {
        if let Some(slot) = self.find(tag, key) {
            self.replace(slot, tag, key, value);
            return Set::Replaced;
        }
        if let Some(rest) = &mut self.rest
            && let Some(leaf) = rest.overflow.iter_mut().find(|leaf| leaf.find(tag, key).is_some())
        {
            return Arc::make_mut(leaf).set(tag, key, value, whole);
        }
        if self.own_len() < SLOTS {
            self.push(tag, key, value);
            return Set::Added;
        }
        if !whole {
            return Set::Full;
        }
        let overflow = &mut self.rest.get_or_insert_default().overflow;
        if overflow.last().is_none_or(|leaf| leaf.own_len() == SLOTS) {
            overflow.push(Arc::new(Leaf::default()));
        }
        Arc::make_mut(overflow.last_mut().expect("one was pushed")).set(tag, key, value, whole)
    }

    /// Removes `key`, if it is here.
    pub(super) fn remove(&mut self, tag: u8, key: &[u8]) -> bool {
        if let Some(slot) = self.find(tag, key) {
            self.remove_slot(slot);
            self.shrink();
            return true;
        }
        let Some(rest) = &mut self.rest else { return false };
        let Some(at) = rest.overflow.iter().position(|leaf| leaf.find(tag, key).is_some()) else {
            return false;
        };
        let leaf = Arc::make_mut(&mut rest.overflow[at]);
        leaf.remove(tag, key);
        if leaf.own_len() == 0 {
            rest.overflow.swap_remove(at);
            self.drop_empty_rest();
        }
        true
    }

    /// Two leaves with these items: on the left those whose hash has a 0 at `bit`, counted from the highest.
    pub(super) fn split(&self, bit: u32) -> (Leaf, Leaf) {
        debug_assert!(!self.overflows());
        let (mut left, mut right) = (Leaf::default(), Leaf::default());
        let mut goes_right = [false; SLOTS];
        let mut sizes = [0; 2];
        for slot in 0..self.own_len() {
            goes_right[slot] = (key_hash(self.own_item(slot).0) << bit) >> 63 == 1;
            sizes[usize::from(goes_right[slot])] += self.record(slot).len();
        }
        left.data.reserve_exact(size_class(sizes[0]));
        right.data.reserve_exact(size_class(sizes[1]));
        for (slot, &goes_right) in goes_right[..self.own_len()].iter().enumerate() {
            if goes_right { &mut right } else { &mut left }.copy_from(self, slot);
        }
        (left, right)
    }

    /// Takes over the items of `other`; there must be slots for them.
    pub(super) fn absorb(&mut self, other: &Leaf) {
        debug_assert!(!self.overflows() && !other.overflows());
        self.reserve(other.data.len());
        for slot in 0..other.own_len() {
            self.copy_from(other, slot);
        }
    }

    /// Asks for the leaf's shell.
    #[inline]
    pub(super) fn prefetch(&self) {
        let address = ptr::from_ref(self).cast::<u8>();
        prefetch(address);
        prefetch(address.wrapping_add(CACHE_LINE));
    }

    /// Asks for the item that a look-up of this tag will probably read.
    #[inline]
    pub(super) fn prefetch_item(&self, tag: u8) {
        let slot = self.tags.equal_to(tag).trailing_zeros() as usize;
        if let Some(offset) = self.offsets.0.get(slot)
            && let Some(record) = self.data.get(usize::from(*offset)..)
        {
            prefetch(record.as_ptr());
            prefetch(record.as_ptr().wrapping_add(CACHE_LINE));
        }
    }

    // Below, only the leaf's own slots: without its overflow.

    fn own_len(&self) -> usize {
        usize::from(self.len)
    }

    fn overflow(&self) -> &[Arc<Leaf>] {
        self.rest.as_ref().map_or(&[], |rest| &rest.overflow)
    }

    fn find(&self, tag: u8, key: &[u8]) -> Option<usize> {
        let mut candidates = self.tags.equal_to(tag);
        while candidates != 0 {
            let slot = candidates.trailing_zeros() as usize;
            if self.own_item(slot).0 == key {
                return Some(slot);
            }
            candidates &= candidates - 1;
        }
        None
    }

    fn own_item(&self, slot: usize) -> (&[u8], &[u8]) {
        let offset = self.offsets.0[slot];
        if offset & OUTLINED != 0 {
            let long = &self.longs()[usize::from(offset & !OUTLINED)];
            return long.bytes.split_at(long.key_len);
        }
        let record = &self.data[usize::from(offset)..];
        let (key_len, value_len) = (usize::from(record[0]), usize::from(record[1]));
        record[2..2 + key_len + value_len].split_at(key_len)
    }

    /// The bytes of an item in `data`: none if it is out of line.
    fn record(&self, slot: usize) -> &[u8] {
        let offset = self.offsets.0[slot];
        if offset & OUTLINED != 0 {
            return &[];
        }
        let record = &self.data[usize::from(offset)..];
        &record[..2 + usize::from(record[0]) + usize::from(record[1])]
    }

    fn longs(&self) -> &[Arc<Long>] {
        self.rest.as_ref().map_or(&[], |rest| &rest.longs)
    }

    fn push(&mut self, tag: u8, key: &[u8], value: &[u8]) {
        if key.len() + value.len() > INLINE_MAX {
            return self.push_long(tag, Arc::new(Long::new(key, value)));
        }
        self.reserve(2 + key.len() + value.len());
        let offset = self.data.len() as u16;
        self.data.extend_from_slice(&[key.len() as u8, value.len() as u8]);
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
        self.push_slot(tag, offset);
    }

    fn push_long(&mut self, tag: u8, long: Arc<Long>) {
        let rest = self.rest.get_or_insert_default();
        let offset = rest.longs.len() as u16 | OUTLINED;
        rest.long_memory += long.memory();
        rest.longs.push(long);
        self.push_slot(tag, offset);
    }

    fn push_slot(&mut self, tag: u8, offset: u16) {
        self.tags.0[self.own_len()] = tag;
        self.offsets.0[self.own_len()] = offset;
        self.len += 1;
    }

    fn copy_from(&mut self, other: &Leaf, slot: usize) {
        let (tag, offset) = (other.tags.0[slot], other.offsets.0[slot]);
        if offset & OUTLINED != 0 {
            return self.push_long(tag, Arc::clone(&other.longs()[usize::from(offset & !OUTLINED)]));
        }
        let record = other.record(slot);
        self.reserve(record.len());
        let offset = self.data.len() as u16;
        self.data.extend_from_slice(record);
        self.push_slot(tag, offset);
    }

    fn replace(&mut self, slot: usize, tag: u8, key: &[u8], value: &[u8]) {
        let offset = self.offsets.0[slot];
        if offset & OUTLINED == 0 {
            let record = &mut self.data[usize::from(offset)..];
            if usize::from(record[1]) == value.len() {
                let start = 2 + usize::from(record[0]);
                record[start..start + value.len()].copy_from_slice(value);
                return;
            }
        } else if let Some(rest) = &mut self.rest
            && let Some(long) = Arc::get_mut(&mut rest.longs[usize::from(offset & !OUTLINED)])
            && long.bytes.len() - long.key_len == value.len()
        {
            long.bytes[long.key_len..].copy_from_slice(value);
            return;
        }
        self.remove_slot(slot);
        self.push(tag, key, value);
        self.shrink();
    }

    fn remove_slot(&mut self, slot: usize) {
        let offset = self.offsets.0[slot];
        if offset & OUTLINED == 0 {
            let (start, size) = (usize::from(offset), self.record(slot).len());
            self.data.drain(start..start + size);
            for other in &mut self.offsets.0 {
                // The bytes behind have moved. Slots without an item may change too, they are never read.
                if *other > offset && *other & OUTLINED == 0 {
                    *other -= size as u16;
                }
            }
        } else {
            self.remove_long(offset);
        }
        let last = self.own_len() - 1;
        self.tags.0[slot] = self.tags.0[last];
        self.offsets.0[slot] = self.offsets.0[last];
        self.tags.0[last] = 0;
        self.offsets.0[last] = 0;
        self.len -= 1;
    }

    fn remove_long(&mut self, offset: u16) {
        let len = self.own_len();
        let rest = self.rest.as_mut().expect("an outlined item has its long");
        let long = rest.longs.swap_remove(usize::from(offset & !OUTLINED));
        rest.long_memory -= long.memory();
        let moved = rest.longs.len() as u16 | OUTLINED;
        if let Some(other) = self.offsets.0[..len].iter_mut().find(|other| **other == moved) {
            *other = offset;
        }
        self.drop_empty_rest();
    }

    fn drop_empty_rest(&mut self) {
        if self.rest.as_ref().is_some_and(|rest| rest.longs.is_empty() && rest.overflow.is_empty()) {
            self.rest = None;
        }
    }

    fn reserve(&mut self, more: usize) {
        let len = self.data.len();
        if len + more > self.data.capacity() {
            self.data.reserve_exact(size_class(len + more) - len);
        }
    }

    fn shrink(&mut self) {
        if self.data.len() * 2 < self.data.capacity() {
            self.data.shrink_to(size_class(self.data.len()));
        }
    }
}

impl Clone for Leaf {
    /// A copy is made to be changed, so it keeps its room to grow.
    fn clone(&self) -> Leaf {
        let mut data = Vec::with_capacity(self.data.capacity());
        data.extend_from_slice(&self.data);
        let (rest, offsets) = (self.rest.clone(), self.offsets.clone());
        Leaf { tags: Tags(self.tags.0), data, rest, offsets, len: self.len }
    }
}

impl Tags {
    /// A bit for each slot with this tag.
    #[inline]
    fn equal_to(&self, tag: u8) -> u64 {
        const LOW_SEVEN: u64 = u64::from_ne_bytes([0x7f; 8]);
        /// Multiplied by it, the lowest bits of the eight bytes come together in the highest byte.
        const GATHER: u64 = 0x0102_0408_1020_4080;
        let pattern = u64::from_ne_bytes([tag; 8]);
        let mut padded = [0; SLOTS.next_multiple_of(8)];
        padded[..SLOTS].copy_from_slice(&self.0);
        let mut equal = 0;
        for (i, word) in padded.as_chunks::<8>().0.iter().enumerate() {
            let differences = u64::from_le_bytes(*word) ^ pattern;
            let nonzero = ((differences & LOW_SEVEN) + LOW_SEVEN) | differences | LOW_SEVEN;
            equal |= ((!nonzero >> 7).wrapping_mul(GATHER) >> 56) << (8 * i);
        }
        equal
    }
}

impl Default for Tags {
    fn default() -> Tags {
        Tags([0; SLOTS])
    }
}

impl Default for Offsets {
    fn default() -> Offsets {
        Offsets([0; SLOTS])
    }
}

impl Long {
    fn new(key: &[u8], value: &[u8]) -> Long {
        Long { key_len: key.len(), bytes: [key, value].concat().into() }
    }

    fn memory(&self) -> usize {
        size_class(size_of::<usize>() + size_of::<Long>()) + size_class(self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_fits_its_size_class() {
        assert!(size_of::<usize>() + size_of::<Leaf>() <= 128);
    }

    #[test]
    fn tags_are_found_in_every_slot() {
        let mut tags = Tags::default();
        for (slot, tag) in tags.0.iter_mut().enumerate() {
            *tag = 100 + (slot % 20) as u8;
        }
        for tag in 1..=255 {
            let expected =
                tags.0.iter().enumerate().filter(|(_, t)| **t == tag).map(|(slot, _)| 1u64 << slot);
            assert_eq!(tags.equal_to(tag), expected.sum::<u64>(), "tag {tag}");
        }
    }

    #[test]
    fn a_whole_leaf_overflows_and_recovers() {
        let mut leaf = Leaf::default();
        let key = |i: usize| format!("key:{i}").into_bytes();
        for i in 0..SLOTS {
            assert_eq!(leaf.set(7, &key(i), b"v", false), Set::Added);
        }
        assert_eq!(leaf.set(7, b"one more", b"v", false), Set::Full);
        for i in SLOTS..500 {
            assert_eq!(leaf.set(7, &key(i), b"v", true), Set::Added);
        }
        let copy = leaf.clone();
        for i in 0..500 {
            assert_eq!(leaf.set(7, &key(i), &key(i), true), Set::Replaced);
        }
        assert_eq!(leaf.items().filter(|(key, value)| key == value).count(), 500);
        for i in 0..500 {
            assert!(leaf.remove(7, &key(i)));
            assert!(!leaf.remove(7, &key(i)));
        }
        assert_eq!((leaf.len(), leaf.overflows()), (0, false));
        assert_eq!((copy.len(), copy.get(7, &key(499))), (500, Some(&b"v"[..])));
    }
}
