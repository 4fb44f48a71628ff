//! A run of elements in one buffer, which grows and shrinks at both ends: what the leaves of a list's tree are.
//!
//! The elements stand one after another, with room in front of them or behind. The place of each sixteenth is noted, so
//! that none is more than fifteen steps away from a place that is known.

use std::borrow::Cow;
use std::cell::RefCell;
use std::mem::size_of;

use super::End;
use super::item::{self, Encoded, Item, Wanted};
use crate::persistence::snapshot::lzf::{self, Compressor};
use crate::types::table::size_class;

/// Elements between two places that are noted.
const STRIDE: usize = 16;

/// The most bytes of a chunk that holds more than one element: places are noted in two bytes.
pub(super) const SIZE_MAX: usize = 64 * 1024;

thread_local! {
    /// Its table is large, and serves one chunk after another.
    static COMPRESSOR: RefCell<Compressor> = RefCell::default();
}

/// How full chunks may become.
#[derive(Clone, Copy, Debug)]
pub struct ChunkLimits {
    /// Bytes, at most 64 KB.
    pub bytes: u32,
    /// Elements.
    pub items: u32,
    /// Elements that take at least so many bytes get a chunk of their own.
    pub alone_len: u32,
    /// So many chunks at each end stay as they are; those in between are squeezed. 0: none is squeezed.
    pub depth: u32,
}

impl ChunkLimits {
    /// With a number of elements, Redis limits the bytes of a node to these.
    const SAFE_BYTES: u32 = 8 * 1024;

    /// What `list-max-listpack-size` says: a number of elements, or -1 to -5 for 4 to 64 KB.
    pub fn from_directive(size: i32) -> ChunkLimits {
        let (bytes, items) = match size {
            0.. => (Self::SAFE_BYTES, size.clamp(1, 1 << 15) as u32),
            _ => ((4 * 1024) << (-1 - size.max(-5)), u32::MAX),
        };
        ChunkLimits { bytes, items, alone_len: u32::MAX, depth: 0 }
    }

    /// Whether an element belongs together with others.
    #[inline(always)]
    pub(super) fn is_short(self, item: &Encoded<'_>) -> bool {
        item.len() < self.alone_len as usize
    }

    /// Whether so many elements of so many bytes fit.
    #[inline(always)]
    pub(super) fn fit(self, items: usize, bytes: usize) -> bool {
        items <= self.items as usize && bytes <= self.bytes as usize
    }
}

impl Default for ChunkLimits {
    fn default() -> ChunkLimits {
        ChunkLimits::from_directive(-2)
    }
}

#[derive(Default)]
pub(super) struct Chunk {
    /// The elements from `start` on; before them there is room.
    data: Vec<u8>,
    start: usize,
    len: usize,
    /// So many elements stand before the first whose place is noted.
    lead: usize,
    /// Where each sixteenth element stands after those.
    places: Vec<u16>,
    /// If the data is squeezed: how many bytes the elements take when it is not. Then only their number can be asked.
    squeezed: Option<u32>,
}

impl Chunk {
    pub(super) fn of(item: &Encoded<'_>) -> Chunk {
        let mut chunk = Chunk::default();
        chunk.push_back(item);
        chunk
    }

    /// The elements that some bytes hold.
    pub(super) fn from_bytes(bytes: &[u8]) -> Chunk {
        let mut chunk = Chunk::default();
        chunk.reserve_back(bytes.len());
        chunk.data.extend_from_slice(bytes);
        chunk.note_places();
        chunk
    }

    /// Number of elements.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The elements, one after another.
    #[inline(always)]
    pub(super) fn bytes(&self) -> &[u8] {
        debug_assert!(!self.is_squeezed(), "squeezed elements cannot be read");
        &self.data[self.start..]
    }

    /// How many bytes the elements take, when they are not squeezed.
    #[inline(always)]
    pub(super) fn size(&self) -> usize {
        self.squeezed.map_or(self.data.len() - self.start, |size| size as usize)
    }

    #[inline(always)]
    pub(super) fn is_squeezed(&self) -> bool {
        self.squeezed.is_some()
    }

    /// The chunk as it can be read.
    #[inline(always)]
    pub(super) fn readable(&self) -> Cow<'_, Chunk> {
        match self.squeezed {
            None => Cow::Borrowed(self),
            Some(size) => {
                let bytes = lzf::expand(&self.data, size as usize).expect("what was squeezed comes back");
                Cow::Owned(Chunk::from_bytes(&bytes))
            }
        }
    }

    /// Lets the elements take less space, if that is possible.
    pub(super) fn squeeze(&mut self) {
        /// Fewer bytes are left as they are.
        const LEN_MIN: usize = 48;
        /// What squeezing must save.
        const GAIN_MIN: usize = 8;
        if self.is_squeezed() || self.size() < LEN_MIN {
            return;
        }
        let mut data = Vec::new();
        if COMPRESSOR.with_borrow_mut(|compressor| compressor.compress(self.bytes(), GAIN_MIN, &mut data)) {
            data.shrink_to_fit();
            let size = self.size() as u32;
            *self =
                Chunk { data, start: 0, len: self.len, lead: 0, places: Vec::new(), squeezed: Some(size) };
        }
    }

    /// Makes a chunk fit to be read and changed.
    #[inline(always)]
    pub(super) fn expand(&mut self) {
        if self.is_squeezed() {
            *self = self.readable().into_owned();
        }
    }

    /// Heap bytes, without the chunk's own.
    pub(super) fn memory(&self) -> usize {
        let data = self.data.capacity();
        // Squeezed, it has just the size it needs.
        let data = if self.is_squeezed() { size_class(data) } else { data };
        data + size_class(self.places.capacity() * size_of::<u16>())
    }

    /// Whether there is room for another element.
    #[inline(always)]
    pub(super) fn takes(&self, item: &Encoded<'_>, limits: ChunkLimits) -> bool {
        limits.fit(self.len + 1, self.size() + item.len()) && limits.is_short(item) && !self.is_lone(limits)
            || self.len == 0
    }

    /// Whether another chunk could be appended, so that some room is left.
    pub(super) fn takes_all(&self, other: &Chunk, limits: ChunkLimits) -> bool {
        let bytes = self.size() + other.size();
        limits.fit(self.len + other.len, bytes + bytes / 4) && !self.is_lone(limits) && !other.is_lone(limits)
    }

    /// Whether it holds one long element, which takes no other beside it.
    #[inline(always)]
    fn is_lone(&self, limits: ChunkLimits) -> bool {
        self.len == 1 && self.size() >= limits.alone_len as usize
    }

    /// Where an element stands in the buffer; behind the last one for its number.
    #[inline(always)]
    fn place(&self, index: usize) -> usize {
        if index >= self.len {
            return self.data.len();
        }
        let (mut at, steps) = match index.checked_sub(self.lead) {
            None => (self.start, index),
            Some(behind) => (usize::from(self.places[behind / STRIDE]), behind % STRIDE),
        };
        for _ in 0..steps {
            at += item::len_at(&self.data, at);
        }
        at
    }

    /// Where an element stands among the bytes of all.
    pub(super) fn offset(&self, index: usize) -> usize {
        self.place(index) - self.start
    }

    /// An element that is there.
    #[inline(always)]
    pub(super) fn get(&self, index: usize) -> Option<Item<'_>> {
        Item::read(&self.data[self.place(index)..]).map(|(item, _)| item)
    }

    /// The first element from an index on that is the same as another.
    pub(super) fn find(&self, from: usize, wanted: &Wanted<'_>) -> Option<usize> {
        let (mut index, mut at) = (from, self.place(from));
        // Its bytes are found more quickly than one element is reached after another.
        let hint = at + wanted.hint(&self.data[at..])?;
        if self.len > 1 {
            let noted = self.places.partition_point(|place| usize::from(*place) <= hint);
            if let Some(noted) = noted.checked_sub(1)
                && usize::from(self.places[noted]) > at
            {
                (index, at) = (self.lead + noted * STRIDE, usize::from(self.places[noted]));
            }
        }
        while index < self.len {
            if wanted.item().is_at(&self.data[at..]) {
                return Some(index);
            }
            at += item::len_at(&self.data, at);
            index += 1;
        }
        None
    }

    /// Adds an element at an end.
    #[inline]
    pub(super) fn push(&mut self, end: End, item: &Encoded<'_>) {
        match end {
            End::Left => self.push_front(item),
            End::Right => self.push_back(item),
        }
    }

    fn push_back(&mut self, item: &Encoded<'_>) {
        self.reserve_back(item.len());
        if (self.len - self.lead).is_multiple_of(STRIDE) {
            self.places.push(self.data.len() as u16);
        }
        item.push_to(&mut self.data);
        self.len += 1;
    }

    fn push_front(&mut self, item: &Encoded<'_>) {
        self.reserve_front(item.len());
        self.start -= item.len();
        item.write(&mut self.data[self.start..]);
        self.len += 1;
        self.lead += 1;
        if self.lead == STRIDE {
            self.places.insert(0, self.start as u16);
            self.lead = 0;
        }
    }

    /// Removes an element at an end.
    #[inline]
    pub(super) fn pop(&mut self, end: End) {
        match end {
            End::Left => {
                self.start += item::len_at(&self.data, self.start);
                self.len -= 1;
                match self.lead.checked_sub(1) {
                    Some(lead) => self.lead = lead,
                    None => {
                        self.places.remove(0);
                        self.lead = self.len.min(STRIDE - 1);
                    }
                }
            }
            End::Right => {
                self.data.truncate(self.place(self.len - 1));
                self.len -= 1;
                self.lead = self.lead.min(self.len);
                self.places.truncate((self.len - self.lead).div_ceil(STRIDE));
            }
        }
        self.shrink();
    }

    /// Removes some elements.
    pub(super) fn remove(&mut self, from: usize, to: usize) {
        if to - from == 1 && from == 0 {
            return self.pop(End::Left);
        }
        if to - from == 1 && to == self.len {
            return self.pop(End::Right);
        }
        let (start, end) = (self.place(from), self.place(to));
        if from == 0 {
            self.start = end;
        } else {
            self.data.drain(start..end);
        }
        self.note_places();
        self.shrink();
    }

    /// Removes the elements at some indices, which rise.
    pub(super) fn remove_each(&mut self, indices: &[usize]) {
        let mut kept = Vec::with_capacity(self.data.capacity());
        let mut from = self.start;
        for &index in indices {
            let at = self.place(index);
            kept.extend_from_slice(&self.data[from..at]);
            from = at + item::len_at(&self.data, at);
        }
        kept.extend_from_slice(&self.data[from..]);
        (self.data, self.start) = (kept, 0);
        self.note_places();
        self.shrink();
    }

    /// Puts an element before the one at an index.
    pub(super) fn insert(&mut self, index: usize, item: &Encoded<'_>) {
        if index == 0 {
            return self.push_front(item);
        }
        if index == self.len {
            return self.push_back(item);
        }
        self.reserve_back(item.len());
        self.open(self.place(index), 0, item);
    }

    /// Puts an element in the place of another.
    pub(super) fn replace(&mut self, index: usize, item: &Encoded<'_>) {
        let before = item::len_at(&self.data, self.place(index));
        if item.len() == before {
            let at = self.place(index);
            item.write(&mut self.data[at..]);
            return;
        }
        self.reserve_back(item.len().saturating_sub(before));
        self.open(self.place(index), before, item);
        self.shrink();
    }

    /// Makes so much room at a place as an element needs, instead of what stood there, and writes it.
    fn open(&mut self, at: usize, before: usize, item: &Encoded<'_>) {
        let (end, len) = (self.data.len(), item.len());
        if len > before {
            self.data.resize(end + len - before, 0);
        }
        self.data.copy_within(at + before..end, at + len);
        self.data.truncate(end + len - before);
        item.write(&mut self.data[at..]);
        self.note_places();
    }

    /// Takes the elements from an index on away, into a chunk of their own.
    pub(super) fn split_off(&mut self, index: usize) -> Chunk {
        let at = self.place(index);
        let right = Chunk::from_bytes(&self.data[at..]);
        self.data.truncate(at);
        self.note_places();
        self.shrink();
        right
    }

    /// Adds the elements of another chunk.
    pub(super) fn append(&mut self, other: &Chunk) {
        self.reserve_back(other.bytes().len());
        self.data.extend_from_slice(other.bytes());
        self.note_places();
    }

    /// Walks through all elements and notes the places anew.
    fn note_places(&mut self) {
        (self.len, self.lead) = (0, 0);
        self.places.clear();
        let mut at = self.start;
        // A lone element may be longer than places reach; its own is where it begins.
        while at < self.data.len() {
            if self.len.is_multiple_of(STRIDE) {
                self.places.push(at as u16);
            }
            at += item::len_at(&self.data, at);
            self.len += 1;
        }
    }

    /// Makes room behind the elements.
    fn reserve_back(&mut self, more: usize) {
        let fits = |chunk: &Chunk| {
            let end = chunk.data.len() + more;
            end <= chunk.data.capacity() && (end <= SIZE_MAX || chunk.start == 0)
        };
        if fits(self) {
            return;
        }
        let (start, used) = (self.start, self.data.len() - self.start);
        if self.data.len() + more > SIZE_MAX {
            self.move_to(0);
        } else if start >= more && start >= used / 8 {
            // Half of what room is left in front stays there.
            self.move_to((start - more) / 2);
        }
        if !fits(self) {
            let capacity = size_class(self.data.len() + more);
            self.data.reserve_exact(capacity - self.data.len());
        }
    }

    /// Makes room in front of the elements.
    fn reserve_front(&mut self, more: usize) {
        if self.start >= more {
            return;
        }
        let used = self.data.len() - self.start;
        let room = self.data.capacity() - used;
        if room >= more && room >= used / 8 {
            self.move_to(more + (room - more) / 2);
            return;
        }
        // What is behind stays as it is; all new room is in front.
        let capacity = size_class(used + more);
        let mut data = Vec::with_capacity(capacity);
        data.resize(capacity - used, 0);
        data.extend_from_slice(self.bytes());
        self.data = data;
        self.shift_places(capacity - used);
    }

    /// Moves the elements to where they have room of `start` bytes in front of them.
    fn move_to(&mut self, start: usize) {
        let (from, end) = (self.start, self.data.len());
        if start > from {
            self.data.resize(end + start - from, 0);
        }
        self.data.copy_within(from..end, start);
        self.data.truncate(start + end - from);
        self.shift_places(start);
    }

    /// The elements stand elsewhere.
    fn shift_places(&mut self, start: usize) {
        for place in &mut self.places {
            // Wrapping: a lone element may be longer than places reach.
            *place = place.wrapping_add(start as u16).wrapping_sub(self.start as u16);
        }
        self.start = start;
    }

    /// Gives room back of which more than three quarters is not used.
    fn shrink(&mut self) {
        const KEPT: usize = 256;
        let used = self.data.len() - self.start;
        if self.data.capacity() > KEPT && used * 4 < self.data.capacity() {
            self.move_to(0);
            self.data.shrink_to(size_class(used));
        }
    }
}

impl Clone for Chunk {
    /// A copy is made to be changed, so it keeps its room to grow.
    fn clone(&self) -> Chunk {
        let mut data = Vec::with_capacity(self.data.capacity());
        data.extend_from_slice(&self.data);
        Chunk { data, places: self.places.clone(), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn check(chunk: &Chunk, model: &VecDeque<Vec<u8>>, step: usize) {
        assert_eq!(chunk.len(), model.len(), "step {step}");
        let mut bytes = Vec::new();
        model.iter().for_each(|item| Encoded::of(item).push_to(&mut bytes));
        assert_eq!(chunk.bytes(), bytes, "step {step}");
        let mut offset = 0;
        for (index, item) in model.iter().enumerate() {
            assert_eq!(chunk.offset(index), offset, "step {step}, element {index}");
            assert_eq!(chunk.get(index).expect("it is there").text().as_ref(), &item[..]);
            offset += Encoded::of(item).len();
        }
    }

    #[test]
    fn a_chunk_does_what_a_deque_does() {
        let mut random = crate::engine::random::Random::new(5);
        for round in 0..40 {
            let (mut chunk, mut model) = (Chunk::default(), VecDeque::new());
            // Some rounds push at one end mostly, some pop mostly.
            let leaning = random.word() % 8;
            for step in 0..600 {
                let item = match random.word() % 4 {
                    0 => (random.word() as i64 >> (random.word() % 60)).to_string().into_bytes(),
                    _ => vec![b'a' + (step % 26) as u8; (random.word() % 40) as usize],
                };
                let encoded = Encoded::of(&item);
                let index = random.word() as usize % (model.len() + 1);
                match random.word() % 12 + leaning {
                    0..=5 => {
                        chunk.push(End::Left, &encoded);
                        model.push_front(item);
                    }
                    6..=9 => {
                        chunk.push(End::Right, &encoded);
                        model.push_back(item);
                    }
                    10 => {
                        chunk.insert(index, &encoded);
                        model.insert(index, item);
                    }
                    _ if index == model.len() => {}
                    11 => {
                        chunk.replace(index, &encoded);
                        model[index] = item;
                    }
                    12 | 13 => {
                        chunk.pop(End::Left);
                        model.pop_front();
                    }
                    14 | 15 => {
                        chunk.pop(End::Right);
                        model.pop_back();
                    }
                    16 => {
                        let to = (index + 1 + random.word() as usize % 20).min(model.len());
                        chunk.remove(index, to);
                        model.drain(index..to);
                    }
                    17 => {
                        let same = model[index].clone();
                        let wanted = Wanted::new(Encoded::of(&same));
                        let found: Vec<usize> =
                            std::iter::successors(chunk.find(0, &wanted), |at| chunk.find(at + 1, &wanted))
                                .collect();
                        let is = |(at, item): (usize, &Vec<u8>)| (*item == same).then_some(at);
                        assert_eq!(found, model.iter().enumerate().filter_map(is).collect::<Vec<_>>());
                        chunk.remove_each(&found);
                        model.retain(|item| *item != same);
                    }
                    18 if step % 20 == 0 => {
                        let right = chunk.split_off(index);
                        check(&right, &model.split_off(index), step);
                    }
                    _ => {
                        let copy = chunk.clone();
                        chunk.append(&copy);
                        model.extend(model.clone());
                        while model.len() > 300 {
                            chunk.pop(End::Left);
                            model.pop_front();
                        }
                    }
                }
                check(&chunk, &model, step + round * 1000);
                assert!(chunk.data.capacity() <= 256 || chunk.bytes().len() * 4 >= chunk.data.capacity());
            }
        }
    }

    #[test]
    fn the_directive_names_elements_or_kilobytes() {
        let limits = |size| {
            let ChunkLimits { bytes, items, .. } = ChunkLimits::from_directive(size);
            (bytes, items)
        };
        assert_eq!(limits(128), (8192, 128));
        assert_eq!(limits(0), (8192, 1));
        assert_eq!(limits(i32::MAX), (8192, 1 << 15));
        assert_eq!(limits(-1), (4096, u32::MAX));
        assert_eq!(limits(-2), (8192, u32::MAX));
        assert_eq!(limits(-5), (65_536, u32::MAX));
        assert_eq!(limits(-77), (65_536, u32::MAX));
    }
}
