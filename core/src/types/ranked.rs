//! The order of large sorted sets: members by score and then by bytes, with their ranks.
//!
//! A B+tree whose nodes know how many entries are below each child. Leaves are packed runs. Nodes and leaves are
//! shared by clones and copied when one of them writes: cloning costs as much as counting a reference, and no
//! operation touches more than a path of nodes.
//!
//! Which score a member has is not asked here: a table beside it knows.

mod run;
#[cfg(test)]
mod tests;
mod tree;

use std::ops::Range;

use run::Run;
use tree::{Target, Tree};

/// Members ordered by score, then by their bytes.
///
/// Scores are never NaN; -0 equals 0. `Clone` shares: it takes constant time, and what is written to either of the
/// two stays unknown to the other.
#[derive(Clone)]
pub struct Ranked {
    root: Tree,
    len: usize,
    memory: usize,
}

impl Ranked {
    /// Without members.
    pub fn new() -> Ranked {
        let root = Tree::empty();
        Ranked { len: 0, memory: root.memory(), root }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes on the heap, rounded as the allocator does. What clones share counts in each of them.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Inserts a member that is not there.
    pub fn insert(&mut self, score: f64, member: &[u8]) {
        debug_assert!(!score.is_nan(), "a score is a number");
        debug_assert!(self.rank(score, member).is_none(), "the member is there already");
        self.len += 1;
        if let Some(right) = self.root.insert(score, member, true, &mut self.memory) {
            let left = std::mem::replace(&mut self.root, Tree::empty());
            self.root = Tree::above(left, right, &mut self.memory);
        }
    }

    /// Gives a member that is there with the score `old` another one.
    pub fn change(&mut self, old: f64, new: f64, member: &[u8]) {
        // Mostly a member keeps its place, or the tree would have to be walked twice.
        if !self.root.rescore(old, new, member) && self.remove(old, member) {
            self.insert(new, member);
        }
    }

    /// Removes a member. Returns whether it was there with this score.
    pub fn remove(&mut self, score: f64, member: &[u8]) -> bool {
        self.remove_target(Target::Entry(score, member)) > 0
    }

    /// Removes the members of some ranks, all of which there must be.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) {
        let mut left = ranks.len();
        while left > 0 {
            // As many at a time as stand in one leaf.
            let removed = self.remove_target(Target::Ranks(ranks.start, left));
            if removed == 0 {
                break;
            }
            left -= removed;
        }
    }

    /// Removes and returns the member of this rank.
    pub fn pop_at(&mut self, rank: usize) -> Option<(f64, Box<[u8]>)> {
        let (score, member) = self.at(rank)?;
        let member = member.into();
        self.remove_target(Target::Ranks(rank, 1));
        Some((score, member))
    }

    /// How many members stand before this one.
    pub fn rank(&self, score: f64, member: &[u8]) -> Option<usize> {
        let (mut tree, mut before) = (&self.root, 0);
        loop {
            match tree {
                Tree::Leaf(run) => return Some(before + run.search(0, score, member).ok()?),
                Tree::Inner(inner) => {
                    let child = inner.child_of(score, member);
                    before += inner.counts[..child].iter().sum::<usize>();
                    tree = &inner.children[child];
                }
            }
        }
    }

    /// The member of this rank, with its score.
    pub fn at(&self, rank: usize) -> Option<(f64, &[u8])> {
        self.iter_from(rank, false).next()
    }

    /// The members from `rank` on, upwards or, if `reverse`, downwards to rank 0. None if there is no such rank.
    pub fn iter_from(&self, rank: usize, reverse: bool) -> Iter<'_> {
        Iter::new(self, rank, reverse)
    }

    /// How many leading members have a property that no member has behind one without it.
    ///
    /// It serves the bounds of ranges: the rank of the first member of score ≥ 5 is
    /// `rank_of_bound(|score, _| score < 5.0)`.
    pub fn rank_of_bound(&self, leads: impl Fn(f64, &[u8]) -> bool) -> usize {
        let (mut tree, mut before) = (&self.root, 0);
        let leads_in = |run: &Run, index: usize| {
            let (score, member) = run.get(index);
            leads(score, member)
        };
        loop {
            match tree {
                Tree::Leaf(run) => return before + run.partition(0..run.len(), |index| leads_in(run, index)),
                Tree::Inner(inner) => {
                    // The last child whose first entry leads; the first child if none does.
                    let child =
                        inner.keys.partition(1..inner.keys.len(), |index| leads_in(&inner.keys, index)) - 1;
                    before += inner.counts[..child].iter().sum::<usize>();
                    tree = &inner.children[child];
                }
            }
        }
    }

    /// The leaf with the entry of this rank, and its place there.
    fn leaf_of(&self, mut rank: usize) -> (&Run, usize) {
        let mut tree = &self.root;
        loop {
            match tree {
                Tree::Leaf(leaf) => return (leaf, rank),
                Tree::Inner(inner) => {
                    let (child, below) = inner.child_at(rank);
                    (tree, rank) = (&inner.children[child], below);
                }
            }
        }
    }

    /// Removes what there is of a target in one leaf; says how many entries that were.
    fn remove_target(&mut self, target: Target<'_>) -> usize {
        let Some(removed) = self.root.remove(target, &mut self.memory) else { return 0 };
        self.len -= removed.count;
        while let Tree::Inner(inner) = &self.root
            && inner.children.len() < 2
        {
            self.memory -= self.root.memory();
            self.root = match inner.children.first() {
                Some(child) => child.clone(),
                None => {
                    let root = Tree::empty();
                    self.memory += root.memory();
                    root
                }
            };
        }
        removed.count
    }
}

impl Default for Ranked {
    fn default() -> Ranked {
        Ranked::new()
    }
}

impl std::fmt::Debug for Ranked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ranked").field("len", &self.len).field("memory", &self.memory).finish_non_exhaustive()
    }
}

/// Members with their scores, in order. See [`Ranked::iter_from`].
#[derive(Clone)]
pub struct Iter<'a> {
    ranked: &'a Ranked,
    leaf: &'a Run,
    /// The place of the next entry in the leaf.
    index: usize,
    /// Its rank.
    rank: usize,
    remaining: usize,
    reverse: bool,
}

impl<'a> Iter<'a> {
    fn new(ranked: &'a Ranked, rank: usize, reverse: bool) -> Iter<'a> {
        let remaining = match (rank < ranked.len, reverse) {
            (false, _) => 0,
            (true, false) => ranked.len - rank,
            (true, true) => rank + 1,
        };
        let rank = rank.min(ranked.len.saturating_sub(1));
        let (leaf, index) = ranked.leaf_of(rank);
        Iter { ranked, leaf, index, rank, remaining, reverse }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (f64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let entry = self.leaf.get(self.index);
        if self.remaining > 0 {
            self.rank = if self.reverse { self.rank - 1 } else { self.rank + 1 };
            let next = if self.reverse { self.index.checked_sub(1) } else { Some(self.index + 1) };
            match next.filter(|next| *next < self.leaf.len()) {
                Some(next) => self.index = next,
                // The next leaf is found from the root: that costs less than to remember the way.
                None => (self.leaf, self.index) = self.ranked.leaf_of(self.rank),
            }
        }
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Iter<'_> {}
