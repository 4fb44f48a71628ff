//! The nodes of a B+tree with counts.
//!
//! Separators are exact: that of every child but the first is the child's first entry, and not merely a bound. So a
//! predicate that is monotone over what is present is monotone over the separators too.

use std::mem::size_of;

use triomphe::Arc;

use super::super::table::size_class;
use super::run::{RUN_MAX, Run};

/// A node that is left with so few entries looks whether a neighbour can take them …
const MERGE_FROM: usize = RUN_MAX / 4;
/// … and the two become one if that leaves some room.
const MERGE_TO: usize = RUN_MAX * 3 / 4;

#[derive(Clone)]
pub(super) enum Tree {
    Leaf(Arc<Run>),
    Inner(Arc<Inner>),
}

/// What is to be removed.
pub(super) enum Target<'a> {
    Entry(f64, &'a [u8]),
    /// At most so many entries from this rank on, which must be below their number: those that stand in one leaf.
    Ranks(usize, usize),
}

/// What was removed from a node.
pub(super) struct Removed {
    /// How many entries, all of one leaf.
    pub(super) count: usize,
    /// Whether the first of the node was among them.
    was_first: bool,
}

#[derive(Clone)]
pub(super) struct Inner {
    /// The first entry of each child. That of the first child is never read: it may be out of date.
    pub(super) keys: Run,
    /// Number of entries below each child.
    pub(super) counts: Vec<usize>,
    pub(super) children: Vec<Tree>,
}

impl Tree {
    pub(super) fn empty() -> Tree {
        Tree::Leaf(Arc::new(Run::new()))
    }

    /// A root above what was the root and its new neighbour.
    pub(super) fn above(left: Tree, right: Tree, memory: &mut usize) -> Tree {
        let mut inner = Inner::new();
        for child in [left, right] {
            inner.push(child);
        }
        *memory += inner.memory();
        Tree::Inner(Arc::new(inner))
    }

    /// Heap bytes of this node, without what is below.
    pub(super) fn memory(&self) -> usize {
        match self {
            Tree::Leaf(run) => leaf_memory(run),
            Tree::Inner(inner) => inner.memory(),
        }
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        match self {
            Tree::Leaf(run) => run.len(),
            Tree::Inner(inner) => inner.counts.iter().sum(),
        }
    }

    /// The first entry; there must be one.
    fn first(&self) -> (f64, &[u8]) {
        let mut tree = self;
        loop {
            match tree {
                Tree::Leaf(run) => return run.get(0),
                Tree::Inner(inner) => tree = &inner.children[0],
            }
        }
    }

    /// Entries of a leaf, children of an inner node.
    fn width(&self) -> usize {
        match self {
            Tree::Leaf(run) => run.len(),
            Tree::Inner(inner) => inner.children.len(),
        }
    }

    /// Inserts an entry. If the node had to be split, returns its new right neighbour. `is_last` says that no node
    /// of the level is to the right: those stay full when entries come in ascending order.
    pub(super) fn insert(
        &mut self,
        score: f64,
        member: &[u8],
        is_last: bool,
        memory: &mut usize,
    ) -> Option<Tree> {
        match self {
            Tree::Leaf(run) => {
                let run = Arc::make_mut(run);
                *memory -= leaf_memory(run);
                let right = insert_into_run(run, score, member, is_last);
                *memory += leaf_memory(run) + right.as_ref().map_or(0, leaf_memory);
                Some(Tree::Leaf(Arc::new(right?)))
            }
            Tree::Inner(inner) => Arc::make_mut(inner).insert(score, member, is_last, memory),
        }
    }

    /// Gives an entry another score, if it can be seen in its leaf that it keeps its place.
    pub(super) fn rescore(&mut self, old: f64, new: f64, member: &[u8]) -> bool {
        match self {
            Tree::Leaf(run) => match run.search(0, old, member) {
                Ok(index) if run.belongs_at(index, new, member) => {
                    Arc::make_mut(run).set_score(index, new);
                    true
                }
                _ => false,
            },
            Tree::Inner(inner) => {
                let child = inner.child_of(old, member);
                Arc::make_mut(inner).children[child].rescore(old, new, member)
            }
        }
    }

    /// Removes entries of one leaf. Nothing if there are none.
    pub(super) fn remove(&mut self, target: Target<'_>, memory: &mut usize) -> Option<Removed> {
        match self {
            Tree::Leaf(run) => {
                let (index, count) = match target {
                    Target::Entry(score, member) => (run.search(0, score, member).ok()?, 1),
                    Target::Ranks(rank, count) => (rank, count.min(run.len() - rank)),
                };
                let run = Arc::make_mut(run);
                *memory -= leaf_memory(run);
                if count == 1 {
                    run.remove(index);
                } else {
                    run.remove_range(index..index + count);
                }
                *memory += leaf_memory(run);
                Some(Removed { count, was_first: index == 0 })
            }
            Tree::Inner(inner) => Arc::make_mut(inner).remove(target, memory),
        }
    }
}

impl Inner {
    fn new() -> Inner {
        Inner { keys: Run::new(), counts: Vec::new(), children: Vec::new() }
    }

    fn memory(&self) -> usize {
        size_class(size_of::<usize>() + size_of::<Inner>())
            + self.keys.memory()
            + size_class(self.counts.len() * size_of::<usize>())
            + size_class(self.children.len() * size_of::<Tree>())
    }

    /// The child in which this entry stands, or would.
    pub(super) fn child_of(&self, score: f64, member: &[u8]) -> usize {
        self.keys.search(1, score, member).unwrap_or_else(|index| index - 1)
    }

    /// The child with the entry of this rank, and its rank there.
    pub(super) fn child_at(&self, mut rank: usize) -> (usize, usize) {
        for (child, &count) in self.counts.iter().enumerate() {
            if rank < count {
                return (child, rank);
            }
            rank -= count;
        }
        unreachable!("a rank is below the number of entries")
    }

    fn insert(&mut self, score: f64, member: &[u8], is_last: bool, memory: &mut usize) -> Option<Tree> {
        let index = self.child_of(score, member);
        let is_last = is_last && index + 1 == self.children.len();
        self.counts[index] += 1;
        let child = self.children[index].insert(score, member, is_last, memory)?;
        self.counts[index] -= child.len();

        *memory -= self.memory();
        let mut right = None;
        if self.children.len() < RUN_MAX {
            self.insert_child(index + 1, child);
        } else {
            let middle = if is_last { RUN_MAX } else { RUN_MAX / 2 };
            let mut neighbour = self.split_off(middle);
            if index < middle && middle < RUN_MAX {
                self.insert_child(index + 1, child);
            } else {
                neighbour.insert_child(index + 1 - middle, child);
            }
            *memory += neighbour.memory();
            right = Some(Tree::Inner(Arc::new(neighbour)));
        }
        *memory += self.memory();
        right
    }

    fn remove(&mut self, target: Target<'_>, memory: &mut usize) -> Option<Removed> {
        let (index, target) = match target {
            Target::Entry(score, member) => (self.child_of(score, member), target),
            Target::Ranks(rank, count) => {
                let (index, rank) = self.child_at(rank);
                (index, Target::Ranks(rank, count))
            }
        };
        let child = &mut self.children[index];
        let Removed { count, was_first } = child.remove(target, memory)?;
        self.counts[index] -= count;
        if was_first || child.width() <= MERGE_FROM {
            self.tidy(index, was_first, memory);
        }
        Some(Removed { count, was_first: was_first && index == 0 })
    }

    /// Puts the separator and the width of a child right, from which entries were removed.
    fn tidy(&mut self, index: usize, was_first: bool, memory: &mut usize) {
        *memory -= self.memory();
        if self.counts[index] == 0 {
            *memory -= self.remove_child(index).memory();
        } else {
            if was_first && index > 0 {
                let (score, member) = self.children[index].first();
                self.keys.replace(index, score, member);
            }
            if self.children[index].width() <= MERGE_FROM {
                self.merge_with_a_neighbour(index, memory);
            }
        }
        *memory += self.memory();
    }

    fn merge_with_a_neighbour(&mut self, index: usize, memory: &mut usize) {
        // The width of a leaf is known here, without waiting for the leaf.
        let width = |index: usize| match &self.children[index] {
            Tree::Leaf(_) => self.counts[index],
            child => child.width(),
        };
        let fits = |left: usize| left + 1 < self.children.len() && width(left) + width(left + 1) <= MERGE_TO;
        let left = if fits(index) {
            index
        } else if index > 0 && fits(index - 1) {
            index - 1
        } else {
            return;
        };
        // The neighbour's first separator may be out of date, ours for it is not.
        let (score, member) = self.keys.get(left + 1);
        let (score, member): (f64, Box<[u8]>) = (score, member.into());
        let count = self.counts[left + 1];
        let right = self.remove_child(left + 1);
        *memory -= self.children[left].memory() + right.memory();
        self.counts[left] += count;
        match (&mut self.children[left], right) {
            (Tree::Leaf(left), Tree::Leaf(right)) => Arc::make_mut(left).append(&right, 0..right.len()),
            (Tree::Inner(left), Tree::Inner(right)) => {
                let left = Arc::make_mut(left);
                left.keys.insert(left.keys.len(), score, &member);
                left.keys.append(&right.keys, 1..right.keys.len());
                let right = Arc::unwrap_or_clone(right);
                left.counts.extend(right.counts);
                left.children.extend(right.children);
            }
            _ => unreachable!("all leaves have the same depth"),
        }
        *memory += self.children[left].memory();
    }

    fn push(&mut self, child: Tree) {
        self.insert_child(self.children.len(), child);
    }

    fn insert_child(&mut self, index: usize, child: Tree) {
        let (score, member) = child.first();
        self.keys.insert(index, score, member);
        self.counts.insert(index, child.len());
        self.children.insert(index, child);
    }

    fn remove_child(&mut self, index: usize) -> Tree {
        self.keys.remove(index);
        self.counts.remove(index);
        self.children.remove(index)
    }

    fn split_off(&mut self, middle: usize) -> Inner {
        let keys = self.keys.part(middle..self.keys.len());
        self.keys = self.keys.part(0..middle);
        Inner { keys, counts: self.counts.split_off(middle), children: self.children.split_off(middle) }
    }
}

/// Inserts an entry; if the run had to be split, returns the right part.
fn insert_into_run(run: &mut Run, score: f64, member: &[u8], is_last: bool) -> Option<Run> {
    let index = run.search(0, score, member).unwrap_or_else(|index| index);
    if !run.is_full() {
        run.insert(index, score, member);
        return None;
    }
    if is_last && index == RUN_MAX {
        let mut right = Run::new();
        right.insert(0, score, member);
        return Some(right);
    }
    let middle = RUN_MAX / 2;
    let mut right = run.part(middle..RUN_MAX);
    *run = run.part(0..middle);
    if index <= middle {
        run.insert(index, score, member);
    } else {
        right.insert(index - middle, score, member);
    }
    Some(right)
}

fn leaf_memory(run: &Run) -> usize {
    size_class(size_of::<usize>() + size_of::<Run>()) + run.memory()
}
