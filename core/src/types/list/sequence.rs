//! A large list: elements in order, with constant cost at the ends and logarithmic cost in between.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use super::End;
use super::chunk::{Chunk, ChunkLimits};
use super::item::{Encoded, Item, Wanted};
use super::tree::Tree;
use crate::types::Object;

/// Elements in order.
///
/// `Clone` shares: it takes constant time, and what is written to either of the two stays unknown to the other.
#[derive(Clone)]
pub struct Sequence {
    root: Tree,
}

impl Sequence {
    /// The elements that packed bytes hold.
    pub(super) fn from_bytes(bytes: &[u8]) -> Sequence {
        Sequence { root: Tree::leaf(Chunk::from_bytes(bytes)) }
    }

    /// Number of elements.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.root.total().len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes on the heap, rounded as the allocator does. What clones share counts in each of them.
    pub fn memory(&self) -> usize {
        self.root.total().memory
    }

    /// How many steps it takes to free it, about.
    pub fn free_effort(&self) -> usize {
        self.root.leaves()
    }

    /// The bytes of all elements, if they stand in one chunk.
    pub(super) fn only_chunk(&self) -> Option<&[u8]> {
        match &self.root {
            Tree::Leaf(chunk) if !chunk.is_squeezed() => Some(chunk.bytes()),
            _ => None,
        }
    }

    /// Shows an element, if there is one at this index.
    #[inline]
    pub(super) fn show<T>(&self, index: usize, show: impl FnOnce(Item<'_>) -> T) -> Option<T> {
        if index >= self.len() {
            return None;
        }
        let (chunk, index) = self.root.chunk_of(index);
        chunk.readable().get(index).map(show)
    }

    /// Shows elements in order.
    #[inline]
    pub(super) fn show_each(&self, range: Range<usize>, show: &mut impl FnMut(Item<'_>)) {
        let mut at = range.start;
        while at < range.end {
            let (chunk, index) = self.readable(at);
            let count = (chunk.len() - index).min(range.end - at);
            show_each_in(&chunk.bytes()[chunk.offset(index)..], count, show);
            at += count;
        }
    }

    /// Shows elements from the last to the first.
    pub(super) fn show_each_back(&self, range: Range<usize>, show: &mut impl FnMut(Item<'_>)) {
        let mut behind = range.end;
        while behind > range.start {
            let (chunk, index) = self.readable(behind - 1);
            let count = (index + 1).min(behind - range.start);
            (index + 1 - count..=index).rev().filter_map(|index| chunk.get(index)).for_each(&mut *show);
            behind -= count;
        }
    }

    /// Tells where an element stands in a range, seen from an end, until it has heard enough.
    pub(super) fn find(
        &self,
        wanted: &Wanted<'_>,
        range: Range<usize>,
        end: End,
        found: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let (mut from, mut to) = (range.start, range.end);
        while from < to {
            match end {
                End::Left => {
                    let (chunk, mut index) = self.readable(from);
                    let begin = from - index;
                    while let Some(place) = chunk.find(index, wanted).filter(|place| begin + place < to) {
                        found(begin + place)?;
                        index = place + 1;
                    }
                    from = begin + chunk.len();
                }
                End::Right => {
                    let (chunk, last) = self.readable(to - 1);
                    let begin = to - 1 - last;
                    let places = places(&chunk, wanted, from.saturating_sub(begin)..last + 1);
                    places.iter().rev().try_for_each(|place| found(begin + place))?;
                    to = begin;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Adds an element at an end.
    #[inline]
    pub(super) fn push(&mut self, end: End, item: &Encoded<'_>, limits: ChunkLimits) {
        if let Some(neighbour) = self.root.push(end, item, limits) {
            let root = self.take_root();
            self.root = match end {
                End::Left => Tree::above([neighbour, root]),
                End::Right => Tree::above([root, neighbour]),
            };
        }
        if limits.depth > 0 && self.end_chunk_len(end) == 1 {
            self.press(0, limits);
        }
    }

    fn end_chunk_len(&self, end: End) -> usize {
        self.end_chunk(end).len()
    }

    #[inline(always)]
    fn end_chunk(&self, end: End) -> &Chunk {
        let index = if end == End::Left { 0 } else { self.len().saturating_sub(1) };
        self.root.chunk_of(index).0
    }

    /// Whether the element at an end, of which there must be one, is so large that it takes long to free.
    #[inline(always)]
    pub(super) fn is_heavy(&self, end: End) -> bool {
        Object::effort_of(1, self.end_chunk(end).size()) > Object::FREE_EFFORT_INLINE_MAX
    }

    /// Removes the element at an end; there must be one.
    #[inline]
    pub(super) fn pop(&mut self, end: End, limits: ChunkLimits) {
        let was_last = limits.depth > 0 && self.end_chunk_len(end) == 1;
        self.root.pop(end);
        self.root.lower();
        if was_last {
            self.press(0, limits);
        }
    }

    /// Puts an element before the one at an index.
    pub(super) fn insert(&mut self, index: usize, item: &Encoded<'_>, limits: ChunkLimits) {
        let neighbours = self.root.insert(index, item, limits);
        if !neighbours.is_empty() {
            let root = self.take_root();
            self.root = Tree::above([root].into_iter().chain(neighbours));
        }
        self.press(index, limits);
    }

    /// Puts an element in the place of another; hands over what is to be freed.
    pub(super) fn replace(&mut self, index: usize, item: &Encoded<'_>, limits: ChunkLimits) -> Gone {
        let (chunk, _) = self.root.chunk_of(index);
        // What is long may be shared, and is not copied to be replaced.
        if chunk.len() > 1 && chunk.takes(item, limits) {
            self.root.change(index, limits, |chunk, index| chunk.replace(index, item));
            self.press(index, limits);
            return Gone(Vec::new());
        }
        self.insert(index, item, limits);
        self.remove(index + 1..index + 2, limits)
    }

    /// Removes elements; hands over what is to be freed.
    pub(super) fn remove(&mut self, range: Range<usize>, limits: ChunkLimits) -> Gone {
        if range.is_empty() {
            return Gone(Vec::new());
        }
        if range.len() == self.len() {
            return Gone(vec![self.take_root()]);
        }
        let (mut gone, start) = (Gone(Vec::new()), range.start);
        self.root.remove(range, limits, &mut gone.0);
        self.root.lower();
        self.press(start, limits);
        gone
    }

    /// Removes at most `most` elements that are the same as another, beginning at an end. Says how many.
    pub(super) fn remove_same(
        &mut self,
        wanted: &Wanted<'_>,
        most: usize,
        end: End,
        limits: ChunkLimits,
    ) -> usize {
        let (mut from, mut to, mut left) = (0, self.len(), most);
        while from < to && left > 0 {
            let (chunk, index) = self.readable(if end == End::Left { from } else { to - 1 });
            let (begin, len) = match end {
                End::Left => (from - index, chunk.len()),
                End::Right => (to - 1 - index, index + 1),
            };
            let mut places = places(&chunk, wanted, from.saturating_sub(begin)..len);
            match end {
                End::Left => places.truncate(left),
                End::Right => drop(places.drain(..places.len().saturating_sub(left))),
            }
            if !places.is_empty() {
                self.root.change(begin, limits, |chunk, begin| {
                    let places: Vec<usize> = places.iter().map(|place| place + begin).collect();
                    chunk.remove_each(&places);
                });
                self.press(begin, limits);
                left -= places.len();
            }
            match end {
                End::Left => (from, to) = (begin + len - places.len(), to - places.len()),
                End::Right => to = begin,
            }
        }
        self.root.lower();
        most - left
    }

    /// The chunk in which an element stands, as it can be read, and the element's place there.
    #[inline(always)]
    fn readable(&self, index: usize) -> (Cow<'_, Chunk>, usize) {
        let (chunk, index) = self.root.chunk_of(index);
        (chunk.readable(), index)
    }

    /// After a change near an element, or at an end: the chunks at the ends are as they were, and those in between that
    /// may have been changed are squeezed again, if any is to be.
    #[inline(always)]
    fn press(&mut self, near: usize, limits: ChunkLimits) {
        if limits.depth > 0 && !self.is_empty() {
            self.press_near(near.min(self.len() - 1), limits.depth);
        }
    }

    #[cold]
    fn press_near(&mut self, near: usize, depth: u32) {
        let len = self.len();
        let (left, right) = (self.free_end(End::Left, depth), self.free_end(End::Right, depth));
        if left + right >= len {
            return;
        }
        let between = left..len - right;
        let (chunk, place) = self.root.chunk_of(near);
        let (begin, end) = (near - place, near - place + chunk.len());
        for index in [left, len - right - 1, near, begin.saturating_sub(1), end] {
            if between.contains(&index) {
                self.root.press(index, true);
            }
        }
    }

    /// Lets the chunks at an end be as they were; says how many elements they hold.
    fn free_end(&mut self, end: End, depth: u32) -> usize {
        let (len, mut at) = (self.len(), 0);
        for _ in 0..depth {
            if at >= len {
                break;
            }
            let index = if end == End::Left { at } else { len - 1 - at };
            self.root.press(index, false);
            at += self.root.chunk_of(index).0.len();
        }
        at
    }

    fn take_root(&mut self) -> Tree {
        std::mem::replace(&mut self.root, Tree::leaf(Chunk::default()))
    }

    #[cfg(test)]
    pub(super) fn check(&self) -> usize {
        self.root.check()
    }
}

/// What was cut off a list.
pub(super) struct Gone(Vec<Tree>);

impl Gone {
    /// How many steps it takes to free it, about.
    pub(super) fn free_effort(&self) -> usize {
        self.0.iter().map(Tree::leaves).sum()
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        self.0.iter().map(|tree| tree.total().memory).sum()
    }
}

/// Shows the first elements of some bytes.
#[inline(always)]
pub(super) fn show_each_in(mut bytes: &[u8], count: usize, show: &mut impl FnMut(Item<'_>)) {
    for _ in 0..count {
        let Some((item, len)) = Item::read(bytes) else { return };
        bytes = &bytes[len..];
        show(item);
    }
}

/// Where an element stands in a range of a chunk.
fn places(chunk: &Chunk, wanted: &Wanted<'_>, range: Range<usize>) -> Vec<usize> {
    let next = |from: usize| chunk.find(from, wanted).filter(|place| *place < range.end);
    std::iter::successors(next(range.start), |place| next(place + 1)).collect()
}
