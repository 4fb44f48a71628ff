//! The order of large lists: a B+tree whose nodes know how many elements are below each child. Leaves are chunks.
//!
//! Nodes and leaves are shared by clones and copied when one of them writes: cloning costs as much as counting a
//! reference, and no operation touches more than a path of nodes. All leaves have the same depth.

use std::mem::size_of;
use std::ops::Range;

use triomphe::Arc;

use super::End;
use super::chunk::{Chunk, ChunkLimits};
use super::item::Encoded;
use crate::types::table::size_class;

/// The most children of a node.
const WIDTH_MAX: usize = 64;
/// A node that is left with so few children looks whether a neighbour can take them …
const MERGE_FROM: usize = WIDTH_MAX / 4;
/// … and the two become one if that leaves some room.
const MERGE_TO: usize = WIDTH_MAX * 3 / 4;

#[derive(Clone)]
pub(super) enum Tree {
    Leaf(Arc<Chunk>),
    Inner(Arc<Inner>),
}

#[derive(Clone, Default)]
pub(super) struct Inner {
    total: Totals,
    children: Vec<Child>,
}

#[derive(Clone)]
struct Child {
    /// Of the tree below, so that it need not be asked.
    total: Totals,
    tree: Tree,
}

/// What a tree holds.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    /// Elements.
    pub(super) len: usize,
    /// Bytes on the heap.
    pub(super) memory: usize,
}

impl Totals {
    fn add(&mut self, other: Totals) {
        self.len += other.len;
        self.memory += other.memory;
    }

    fn subtract(&mut self, other: Totals) {
        self.len -= other.len;
        self.memory -= other.memory;
    }
}

impl Child {
    fn of(tree: Tree) -> Child {
        Child { total: tree.total(), tree }
    }
}

impl Tree {
    pub(super) fn leaf(chunk: Chunk) -> Tree {
        Tree::Leaf(Arc::new(chunk))
    }

    /// A root above several trees of one depth, in order.
    pub(super) fn above(trees: impl IntoIterator<Item = Tree>) -> Tree {
        let mut inner = Inner::default();
        trees.into_iter().for_each(|tree| inner.insert(inner.children.len(), tree));
        Tree::Inner(Arc::new(inner))
    }

    /// What it holds, itself included.
    #[inline(always)]
    pub(super) fn total(&self) -> Totals {
        match self {
            Tree::Leaf(chunk) => Totals { len: chunk.len(), memory: leaf_memory(chunk) },
            Tree::Inner(inner) => {
                let nodes = size_class(size_of::<usize>() + size_of::<Inner>())
                    + size_class(inner.children.capacity() * size_of::<Child>());
                Totals { len: inner.total.len, memory: inner.total.memory + nodes }
            }
        }
    }

    /// How many leaves there are, about: those below the nodes right above them are not counted but taken for many.
    pub(super) fn leaves(&self) -> usize {
        match self {
            Tree::Leaf(_) => 1,
            Tree::Inner(inner) => match inner.children.first() {
                Some(Child { tree: Tree::Inner(_), .. }) => inner.children.len() * MERGE_FROM,
                _ => inner.children.len(),
            },
        }
    }

    /// The chunk in which an element stands, and its place there. The index must be below the number of elements.
    #[inline(always)]
    pub(super) fn chunk_of(&self, mut index: usize) -> (&Chunk, usize) {
        let mut tree = self;
        loop {
            match tree {
                Tree::Leaf(chunk) => return (chunk, index),
                Tree::Inner(inner) => {
                    let (child, below) = inner.child_at(index);
                    (tree, index) = (&inner.children[child].tree, below);
                }
            }
        }
    }

    /// Adds an element at an end. If there is no room for it, returns a tree of the same depth that is the new neighbour
    /// at that end.
    pub(super) fn push(&mut self, end: End, item: &Encoded<'_>, limits: ChunkLimits) -> Option<Tree> {
        match self {
            Tree::Leaf(chunk) if chunk.takes(item, limits) => {
                open(chunk).push(end, item);
                None
            }
            Tree::Leaf(_) => Some(Tree::leaf(Chunk::of(item))),
            Tree::Inner(inner) => Arc::make_mut(inner).push(end, item, limits),
        }
    }

    /// Removes the element at an end.
    pub(super) fn pop(&mut self, end: End) {
        match self {
            // A chunk of one is not copied to be emptied: it may be shared, and its element long.
            Tree::Leaf(chunk) if chunk.len() == 1 => *self = Tree::leaf(Chunk::default()),
            Tree::Leaf(chunk) => open(chunk).pop(end),
            Tree::Inner(inner) => Arc::make_mut(inner).pop(end),
        }
    }

    /// Puts an element before the one at an index. What has no room becomes new neighbours on the right.
    pub(super) fn insert(&mut self, index: usize, item: &Encoded<'_>, limits: ChunkLimits) -> Vec<Tree> {
        match self {
            Tree::Leaf(chunk) if chunk.takes(item, limits) => {
                open(chunk).insert(index, item);
                Vec::new()
            }
            Tree::Leaf(chunk) if index == chunk.len() => vec![Tree::leaf(Chunk::of(item))],
            Tree::Leaf(_) if index == 0 => {
                vec![std::mem::replace(self, Tree::leaf(Chunk::of(item)))]
            }
            Tree::Leaf(chunk) => {
                let left = open(chunk);
                let mut right = left.split_off(index);
                if left.takes(item, limits) {
                    left.push(End::Right, item);
                } else if right.takes(item, limits) {
                    right.push(End::Left, item);
                } else {
                    return vec![Tree::leaf(Chunk::of(item)), Tree::leaf(right)];
                }
                vec![Tree::leaf(right)]
            }
            Tree::Inner(inner) => Arc::make_mut(inner).insert_item(index, item, limits),
        }
    }

    /// Changes the chunk in which an element stands: `change` is given the chunk and the element's place there. It may
    /// remove elements, but add none.
    pub(super) fn change<T>(
        &mut self,
        index: usize,
        limits: ChunkLimits,
        change: impl FnOnce(&mut Chunk, usize) -> T,
    ) -> T {
        match self {
            Tree::Leaf(chunk) => change(open(chunk), index),
            Tree::Inner(inner) => {
                let inner = Arc::make_mut(inner);
                let (child, below) = inner.child_at(index);
                let done = inner.update(child, |tree| tree.change(below, limits, change));
                inner.tidy(child, limits);
                done
            }
        }
    }

    /// Removes elements, but not all. Whole trees that go are put aside, so that they can be freed elsewhere.
    pub(super) fn remove(&mut self, range: Range<usize>, limits: ChunkLimits, gone: &mut Vec<Tree>) {
        match self {
            Tree::Leaf(chunk) => open(chunk).remove(range.start, range.end),
            Tree::Inner(inner) => Arc::make_mut(inner).remove(range, limits, gone),
        }
    }

    /// Squeezes the chunk in which an element stands, or lets it be as it was.
    pub(super) fn press(&mut self, index: usize, squeezed: bool) {
        match self {
            Tree::Leaf(chunk) if chunk.is_squeezed() == squeezed => {}
            Tree::Leaf(chunk) if squeezed => Arc::make_mut(chunk).squeeze(),
            Tree::Leaf(chunk) => {
                open(chunk);
            }
            Tree::Inner(inner) => {
                let inner = Arc::make_mut(inner);
                let (child, below) = inner.child_at(index);
                inner.update(child, |tree| tree.press(below, squeezed));
            }
        }
    }

    /// Nodes without choice at the top are no use.
    pub(super) fn lower(&mut self) {
        while let Tree::Inner(inner) = self
            && let [only] = &inner.children[..]
        {
            *self = only.tree.clone();
        }
        if let Tree::Inner(inner) = self
            && inner.children.is_empty()
        {
            *self = Tree::leaf(Chunk::default());
        }
    }
}

impl Inner {
    /// The child in which an element stands, and its place there; for an index behind the last, the last child.
    #[inline(always)]
    fn child_at(&self, mut index: usize) -> (usize, usize) {
        // From the nearer end: most look-ups are at one.
        if index >= self.total.len / 2 {
            let mut behind = self.total.len;
            for (child, of) in self.children.iter().enumerate().rev() {
                behind -= of.total.len;
                if index >= behind {
                    return (child, index - behind);
                }
            }
        }
        for (child, of) in self.children.iter().enumerate() {
            if index < of.total.len {
                return (child, index);
            }
            index -= of.total.len;
        }
        unreachable!("the first child begins at 0")
    }

    /// Lets a child change, and counts what it holds anew.
    #[inline(always)]
    fn update<T>(&mut self, child: usize, change: impl FnOnce(&mut Tree) -> T) -> T {
        let Child { total, tree } = &mut self.children[child];
        self.total.subtract(*total);
        let done = change(tree);
        *total = tree.total();
        self.total.add(*total);
        done
    }

    fn insert(&mut self, child: usize, tree: Tree) {
        let new = Child::of(tree);
        self.total.add(new.total);
        self.children.insert(child, new);
    }

    fn take(&mut self, child: usize) -> Tree {
        let Child { total, tree } = self.children.remove(child);
        self.total.subtract(total);
        tree
    }

    fn push(&mut self, end: End, item: &Encoded<'_>, limits: ChunkLimits) -> Option<Tree> {
        let last = self.children.len() - 1;
        let (child, beyond) = match end {
            End::Left => (0, 0),
            End::Right => (last, last + 1),
        };
        let neighbour = self.update(child, |tree| tree.push(end, item, limits))?;
        if self.children.len() < WIDTH_MAX {
            self.insert(beyond, neighbour);
            return None;
        }
        // The others stay full: who comes at an end mostly comes there again.
        Some(Tree::above([neighbour]))
    }

    fn pop(&mut self, end: End) {
        let child = match end {
            End::Left => 0,
            End::Right => self.children.len() - 1,
        };
        self.update(child, |tree| tree.pop(end));
        if self.children[child].total.len == 0 {
            self.take(child);
        }
    }

    fn insert_item(&mut self, index: usize, item: &Encoded<'_>, limits: ChunkLimits) -> Vec<Tree> {
        let (mut child, mut below) = self.child_at(index);
        if below == 0 && child > 0 {
            // Between two children, the left one takes it if it can.
            child -= 1;
            below = self.children[child].total.len;
        }
        let neighbours = self.update(child, |tree| tree.insert(below, item, limits));
        for (neighbour, place) in neighbours.into_iter().zip(child + 1..) {
            self.insert(place, neighbour);
        }
        if self.children.len() <= WIDTH_MAX {
            return Vec::new();
        }
        let mut right = Inner::default();
        for Child { tree, .. } in self.children.drain(WIDTH_MAX / 2..) {
            right.insert(right.children.len(), tree);
        }
        self.total.subtract(right.total);
        vec![Tree::Inner(Arc::new(right))]
    }

    fn remove(&mut self, range: Range<usize>, limits: ChunkLimits, gone: &mut Vec<Tree>) {
        let (first, mut from) = self.child_at(range.start);
        let (mut child, mut left) = (first, range.len());
        while left > 0 {
            let len = self.children[child].total.len;
            let part = left.min(len - from);
            if part == len {
                gone.push(self.take(child));
            } else {
                self.update(child, |tree| tree.remove(from..from + part, limits, gone));
                child += 1;
            }
            (left, from) = (left - part, 0);
        }
        // At most two children are left in part, and they are neighbours now.
        self.tidy((first + 1).min(self.children.len().saturating_sub(1)), limits);
        self.tidy(first.min(self.children.len().saturating_sub(1)), limits);
    }

    /// Removes a child if it is empty; if little is left of it, a neighbour may take that.
    fn tidy(&mut self, child: usize, limits: ChunkLimits) {
        let Some(of) = self.children.get(child) else { return };
        if of.total.len == 0 {
            self.take(child);
            return;
        }
        let is_small = match &of.tree {
            Tree::Leaf(chunk) => limits.fit(chunk.len() * 4, chunk.size() * 4),
            Tree::Inner(inner) => inner.children.len() <= MERGE_FROM,
        };
        if !is_small {
            return;
        }
        let fits = |left: usize| {
            let pair = self.children.get(left..left + 2)?;
            Some(match (&pair[0].tree, &pair[1].tree) {
                (Tree::Leaf(left), Tree::Leaf(right)) => left.takes_all(right, limits),
                (Tree::Inner(left), Tree::Inner(right)) => {
                    left.children.len() + right.children.len() <= MERGE_TO
                }
                _ => false,
            })
        };
        let left = [Some(child), child.checked_sub(1)].into_iter().flatten();
        let Some(left) = left.into_iter().find(|left| fits(*left) == Some(true)) else { return };
        let right = self.take(left + 1);
        self.update(left, |left| match (left, right) {
            (Tree::Leaf(left), Tree::Leaf(right)) => open(left).append(&right.readable()),
            (Tree::Inner(left), Tree::Inner(right)) => {
                let left = Arc::make_mut(left);
                left.total.add(right.total);
                left.children.extend(Arc::unwrap_or_clone(right).children);
            }
            _ => unreachable!("all leaves have the same depth"),
        });
    }

    /// Whether what it says of its children is so; for tests.
    #[cfg(test)]
    fn check(&self) -> usize {
        let mut total = Totals::default();
        let mut depths = Vec::new();
        for child in &self.children {
            assert_eq!(child.total, child.tree.total());
            assert!(child.total.len > 0, "no child is empty");
            total.add(child.total);
            depths.push(child.tree.check());
        }
        assert_eq!(total, self.total);
        assert!(self.children.len() <= WIDTH_MAX);
        assert!(depths.iter().all(|depth| *depth == depths[0]), "all leaves have the same depth");
        depths[0] + 1
    }
}

#[cfg(test)]
impl Tree {
    /// Whether all nodes are right about what is below them; says how deep it is.
    pub(super) fn check(&self) -> usize {
        match self {
            Tree::Leaf(_) => 0,
            Tree::Inner(inner) => inner.check(),
        }
    }
}

/// A chunk to be changed.
#[inline(always)]
fn open(chunk: &mut Arc<Chunk>) -> &mut Chunk {
    let chunk = Arc::make_mut(chunk);
    chunk.expand();
    chunk
}

fn leaf_memory(chunk: &Chunk) -> usize {
    size_class(size_of::<usize>() + size_of::<Chunk>()) + chunk.memory()
}
