//! Where the entries with a deadline are: how many each segment has, and from when on some of them may have expired.
//!
//! Stands beside the directory, so that whoever looks for such entries touches only segments that have them: eight
//! segments to a cache line here, and a summary of every 256 above. A table without deadlines has none of it.

/// No entry expires before this.
pub(super) const NO_DEADLINE: i64 = i64::MAX;
/// Segments that one summary of the upper level covers.
const BLOCK: usize = 256;

/// What is known of some entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Summary {
    /// None of them expires before this.
    deadline_min: i64,
    /// How many have a deadline.
    count: usize,
}

impl Summary {
    /// There are none.
    pub(super) const NONE: Summary = Summary { deadline_min: NO_DEADLINE, count: 0 };

    /// One more, with this deadline.
    pub(super) fn add(&mut self, deadline: i64) {
        self.count += 1;
        self.deadline_min = self.deadline_min.min(deadline);
    }

    fn remove(&mut self) {
        self.count -= 1;
        if self.count == 0 {
            self.deadline_min = NO_DEADLINE;
        }
    }

    fn and(self, other: Summary) -> Summary {
        Summary { deadline_min: self.deadline_min.min(other.deadline_min), count: self.count + other.count }
    }
}

/// The index. A *place* is the first one of a segment in the directory; a segment's other places stay empty here.
#[derive(Default)]
pub(super) struct Volatile {
    len: usize,
    /// By place; empty as long as no entry has had a deadline.
    segments: Vec<Summary>,
    blocks: Vec<Summary>,
}

impl Volatile {
    /// How many entries have a deadline.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        (self.segments.capacity() + self.blocks.capacity()) * size_of::<Summary>()
    }

    /// An entry with this deadline has come into a segment; the directory has so many places.
    pub(super) fn added(&mut self, places: usize, place: usize, deadline: i64) {
        if self.segments.is_empty() {
            self.segments = vec![Summary::NONE; places];
            self.sum_up();
        }
        self.len += 1;
        self.segments[place].add(deadline);
        self.blocks[place / BLOCK].add(deadline);
    }

    /// An entry with a deadline has gone from a segment, or has none any more.
    pub(super) fn removed(&mut self, place: usize) {
        self.len -= 1;
        self.segments[place].remove();
        self.blocks[place / BLOCK].remove();
    }

    /// An entry of a segment has another deadline.
    pub(super) fn moved(&mut self, place: usize, deadline: i64) {
        for summary in [&mut self.segments[place], &mut self.blocks[place / BLOCK]] {
            summary.deadline_min = summary.deadline_min.min(deadline);
        }
    }

    /// Nothing in a segment expires before `deadline_min`, not counting what is about to go.
    pub(super) fn renew(&mut self, place: usize, deadline_min: i64) {
        self.segments[place].deadline_min = deadline_min;
        self.sum_up_block(place / BLOCK);
    }

    /// The first segment from a place on in which something may have expired.
    pub(super) fn due(&mut self, from: usize, now_ms: i64) -> Option<usize> {
        let mut from = from;
        while from < self.segments.len() {
            let block = from / BLOCK;
            let end = self.segments.len().min((block + 1) * BLOCK);
            if self.blocks[block].deadline_min <= now_ms {
                let is_due = |summary: &Summary| summary.deadline_min <= now_ms;
                if let Some(at) = self.segments[from..end].iter().position(is_due) {
                    return Some(from + at);
                }
                self.sum_up_block(block);
            }
            from = end;
        }
        None
    }

    /// The segment in which the entry of this rank is, in the order of places, and its rank there.
    pub(super) fn of_rank(&self, rank: usize) -> Option<(usize, usize)> {
        let (block, rank) = find_rank(&self.blocks, rank)?;
        let (at, rank) = find_rank(&self.segments[block * BLOCK..], rank)?;
        Some((block * BLOCK + at, rank))
    }

    /// How many a segment has.
    pub(super) fn count(&self, place: usize) -> usize {
        self.segments.get(place).map_or(0, |summary| summary.count)
    }

    /// A segment has been split in two, whose entries are these.
    pub(super) fn split(&mut self, first: usize, second: usize, summaries: [Summary; 2]) {
        if !self.segments.is_empty() {
            (self.segments[first], self.segments[second]) = (summaries[0], summaries[1]);
            self.sum_up_block(first / BLOCK);
            self.sum_up_block(second / BLOCK);
        }
    }

    /// Two segments have become one, at the place of the first.
    pub(super) fn merged(&mut self, first: usize, second: usize) {
        if !self.segments.is_empty() {
            let both = self.segments[first].and(self.segments[second]);
            self.split(first, second, [both, Summary::NONE]);
        }
    }

    /// The directory has twice as many places: each has become two.
    pub(super) fn doubled(&mut self) {
        self.segments = self.segments.iter().flat_map(|&summary| [summary, Summary::NONE]).collect();
        self.sum_up();
    }

    /// The directory has half as many places: of two, the first is left.
    pub(super) fn halved(&mut self) {
        self.segments = self.segments.iter().step_by(2).copied().collect();
        self.sum_up();
    }

    fn sum_up(&mut self) {
        self.blocks = vec![Summary::NONE; self.segments.len().div_ceil(BLOCK)];
        (0..self.blocks.len()).for_each(|block| self.sum_up_block(block));
    }

    fn sum_up_block(&mut self, block: usize) {
        let end = self.segments.len().min((block + 1) * BLOCK);
        self.blocks[block] =
            self.segments[block * BLOCK..end].iter().copied().fold(Summary::NONE, Summary::and);
    }
}

fn find_rank(summaries: &[Summary], mut rank: usize) -> Option<(usize, usize)> {
    for (at, summary) in summaries.iter().enumerate() {
        if rank < summary.count {
            return Some((at, rank));
        }
        rank -= summary.count;
    }
    None
}
