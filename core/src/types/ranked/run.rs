//! A run of members in order, packed: the content of a leaf, and the separators of an inner node.
//!
//! Scores and the places of the members stand in order; the members themselves stand in one buffer as they came,
//! without holes. Long members have an allocation of their own, which copies of the run share.

use std::mem::size_of;
use std::ops::Range;

use triomphe::Arc;

use super::super::table::size_class;

/// The most entries of a run.
pub(super) const RUN_MAX: usize = 64;

/// Longer members are kept out of line. It bounds what copying a shared run costs.
const INLINE_MAX: usize = 128;

/// Set in an offset whose other bits are an index into [`Longs::members`].
const OUTLINED: u16 = 0x8000;

const _: () = assert!(RUN_MAX * (INLINE_MAX + 1) < OUTLINED as usize && INLINE_MAX <= u8::MAX as usize);

pub(super) struct Run {
    scores: Vec<f64>,
    /// Each member as its length, a byte, and its bytes.
    data: Vec<u8>,
    longs: Option<Box<Longs>>,
    offsets: [u16; RUN_MAX],
}

#[derive(Clone, Default)]
struct Longs {
    members: Vec<Arc<Box<[u8]>>>,
    /// Heap bytes of the members.
    memory: usize,
}

impl Run {
    pub(super) fn new() -> Run {
        Run { scores: Vec::new(), data: Vec::new(), longs: None, offsets: [0; RUN_MAX] }
    }

    pub(super) fn len(&self) -> usize {
        self.scores.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == RUN_MAX
    }

    /// Heap bytes, without the run's own.
    pub(super) fn memory(&self) -> usize {
        let longs = self.longs.as_ref().map_or(0, |longs| {
            // By length and not by capacity, which a copy does not keep.
            let members = size_class(longs.members.len() * size_of::<usize>());
            size_class(size_of::<Longs>()) + members + longs.memory
        });
        self.scores.capacity() * size_of::<f64>() + self.data.capacity() + longs
    }

    pub(super) fn get(&self, index: usize) -> (f64, &[u8]) {
        (self.scores[index], self.member(index))
    }

    /// Where this entry stands, or would, not below `from`.
    pub(super) fn search(&self, from: usize, score: f64, member: &[u8]) -> Result<usize, usize> {
        // Counting is quicker than halving: no branch is mispredicted, and the lines are fetched all at once.
        let (mut below, mut equal) = (from, 0);
        for &other in &self.scores[from..] {
            below += usize::from(other < score);
            equal += usize::from(other == score);
        }
        let index = self.partition(below..below + equal, |index| self.member(index) < member);
        if index < below + equal && self.member(index) == member {
            return Ok(index);
        }
        Err(index)
    }

    /// The first index in `range` for which `leads` does not hold, or its end.
    pub(super) fn partition(&self, range: Range<usize>, leads: impl Fn(usize) -> bool) -> usize {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = (low + high) / 2;
            if leads(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    pub(super) fn insert(&mut self, index: usize, score: f64, member: &[u8]) {
        let offset = self.store(member);
        self.insert_offset(index, score, offset);
    }

    pub(super) fn remove(&mut self, index: usize) {
        let len = self.len();
        let offset = self.offsets[index];
        if offset & OUTLINED == 0 {
            let start = usize::from(offset);
            let size = 1 + usize::from(self.data[start]);
            self.data.drain(start..start + size);
            for other in &mut self.offsets {
                // The bytes behind have moved. Places without an entry may change too, they are never read.
                if *other > offset && *other & OUTLINED == 0 {
                    *other -= size as u16;
                }
            }
        } else {
            self.remove_long(offset);
        }
        self.scores.remove(index);
        self.offsets.copy_within(index + 1..len, index);
        self.shrink();
    }

    /// Removes several entries.
    pub(super) fn remove_range(&mut self, range: Range<usize>) {
        let mut rest = self.part(0..range.start);
        rest.append(self, range.end..self.len());
        *self = rest;
    }

    /// Whether an entry with another score would stand where it stands, between two others of the run.
    pub(super) fn belongs_at(&self, index: usize, score: f64, member: &[u8]) -> bool {
        0 < index
            && index + 1 < self.len()
            && self.get(index - 1) < (score, member)
            && (score, member) < self.get(index + 1)
    }

    /// Changes a score of an entry that keeps its place.
    pub(super) fn set_score(&mut self, index: usize, score: f64) {
        self.scores[index] = score;
    }

    /// Replaces an entry by one that belongs in the same place.
    pub(super) fn replace(&mut self, index: usize, score: f64, member: &[u8]) {
        self.remove(index);
        self.insert(index, score, member);
    }

    /// A run of these entries alone.
    pub(super) fn part(&self, range: Range<usize>) -> Run {
        let mut part = Run::new();
        part.append(self, range);
        part
    }

    /// Adds entries of another run at the end.
    pub(super) fn append(&mut self, other: &Run, range: Range<usize>) {
        let size: usize = range.clone().map(|index| other.record(index).len()).sum();
        self.reserve(range.len(), size);
        for index in range {
            let offset = other.offsets[index];
            let offset = if offset & OUTLINED == 0 {
                self.data.extend_from_slice(other.record(index));
                (self.data.len() - other.record(index).len()) as u16
            } else {
                self.store_long(Arc::clone(&other.longs()[usize::from(offset & !OUTLINED)]))
            };
            self.insert_offset(self.len(), other.scores[index], offset);
        }
    }

    fn member(&self, index: usize) -> &[u8] {
        let offset = self.offsets[index];
        if offset & OUTLINED != 0 {
            return &self.longs()[usize::from(offset & !OUTLINED)];
        }
        &self.record(index)[1..]
    }

    /// The bytes of an entry in `data`: none if its member is out of line.
    fn record(&self, index: usize) -> &[u8] {
        let offset = self.offsets[index];
        if offset & OUTLINED != 0 {
            return &[];
        }
        let record = &self.data[usize::from(offset)..];
        &record[..1 + usize::from(record[0])]
    }

    fn longs(&self) -> &[Arc<Box<[u8]>>] {
        self.longs.as_ref().map_or(&[], |longs| &longs.members)
    }

    fn store(&mut self, member: &[u8]) -> u16 {
        if member.len() > INLINE_MAX {
            return self.store_long(Arc::new(member.into()));
        }
        self.reserve(1, 1 + member.len());
        let offset = self.data.len() as u16;
        self.data.push(member.len() as u8);
        self.data.extend_from_slice(member);
        offset
    }

    fn store_long(&mut self, member: Arc<Box<[u8]>>) -> u16 {
        let longs = self.longs.get_or_insert_default();
        longs.memory += long_memory(&member);
        longs.members.push(member);
        (longs.members.len() - 1) as u16 | OUTLINED
    }

    fn remove_long(&mut self, offset: u16) {
        let len = self.len();
        let longs = self.longs.as_mut().expect("an outlined member has its long");
        let member = longs.members.swap_remove(usize::from(offset & !OUTLINED));
        longs.memory -= long_memory(&member);
        let moved = longs.members.len() as u16 | OUTLINED;
        if let Some(other) = self.offsets[..len].iter_mut().find(|other| **other == moved) {
            *other = offset;
        }
        if longs.members.is_empty() {
            self.longs = None;
        }
    }

    fn insert_offset(&mut self, index: usize, score: f64, offset: u16) {
        self.reserve(1, 0);
        let len = self.len();
        self.offsets.copy_within(index..len, index + 1);
        self.offsets[index] = offset;
        self.scores.insert(index, score);
    }

    /// Makes room, by the allocator's size classes and not by doubling.
    fn reserve(&mut self, entries: usize, bytes: usize) {
        let len = self.scores.len();
        if len + entries > self.scores.capacity() {
            self.scores
                .reserve_exact(size_class((len + entries) * size_of::<f64>()) / size_of::<f64>() - len);
        }
        let len = self.data.len();
        if len + bytes > self.data.capacity() {
            self.data.reserve_exact(size_class(len + bytes) - len);
        }
    }

    fn shrink(&mut self) {
        if self.scores.len() * 2 < self.scores.capacity() {
            self.scores.shrink_to(size_class(self.scores.len() * size_of::<f64>()) / size_of::<f64>());
        }
        if self.data.len() * 2 < self.data.capacity() {
            self.data.shrink_to(size_class(self.data.len()));
        }
    }
}

impl Clone for Run {
    /// A copy is made to be changed, so it keeps its room to grow.
    fn clone(&self) -> Run {
        let mut scores = Vec::with_capacity(self.scores.capacity());
        scores.extend_from_slice(&self.scores);
        let mut data = Vec::with_capacity(self.data.capacity());
        data.extend_from_slice(&self.data);
        Run { scores, data, longs: self.longs.clone(), offsets: self.offsets }
    }
}

fn long_memory(member: &Arc<Box<[u8]>>) -> usize {
    size_class(size_of::<usize>() + size_of::<Box<[u8]>>()) + size_class(member.len())
}
