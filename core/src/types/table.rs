//! The table in which large hashes and sets live, and the scores of large sorted sets: a map of byte strings.
//!
//! Items are packed into leaves, which are ordered by hash and found by its leading bits (extendible hashing, with a
//! tree of small nodes for the directory). Leaves split and merge one at a time, so no operation does more than a few
//! leaves' work however large the table is. Nodes and leaves are shared by clones and copied when one of them writes:
//! cloning costs as much as counting a reference.
//!
//! The table knows bytes only: no types, no expiry, no randomness of its own.

mod iter;
mod leaf;
mod node;
#[cfg(test)]
mod tests;

use triomphe::Arc;

pub use iter::Iter;

use leaf::{Leaf, tag};
use node::{Node, Place};

/// A cursor of [`Table::scan`] is a lower bound of the hash, in its upper bits.
const CURSOR_BITS: u32 = 48;

/// How often [`Table::random`] draws before it takes what is near. An attempt succeeds by one in three.
const RANDOM_ATTEMPTS: usize = 128;

/// A map from byte strings to byte strings. A set is one with empty values.
///
/// `Clone` shares: it takes constant time, and what is written to either of the two stays unknown to the other.
#[derive(Clone)]
pub struct Table {
    root: Arc<Node>,
    len: usize,
    memory: usize,
    kept_small: bool,
}

impl Table {
    /// An empty table.
    pub fn new() -> Table {
        let leaf = Leaf::default();
        let memory = leaf.memory();
        let root = Node::new(Arc::new(leaf));
        Table { len: 0, memory: memory + root.memory(), root: Arc::new(root), kept_small: false }
    }

    /// Whether it holds a collection that is small by the number and length of its items, and is a table because of the
    /// bytes that it takes alone. To Redis such a one is still small.
    #[inline]
    pub fn is_kept_small(&self) -> bool {
        self.kept_small
    }

    /// Says whether it is such a one. Once it is not, it never is again.
    pub fn keep_small(&mut self, small: bool) {
        self.kept_small = small;
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes on the heap, rounded as the allocator does. What clones share counts in each of them.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// The hash of a key, for those who look it up more than once.
    #[inline]
    pub fn hash(key: &[u8]) -> u64 {
        key_hash(key)
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.get_hashed(key_hash(key), key)
    }

    /// The value of `key`, whose hash is known.
    #[inline]
    pub fn get_hashed(&self, hash: u64, key: &[u8]) -> Option<&[u8]> {
        self.root.place(hash).leaf.get(tag(hash), key)
    }

    /// Whether there is an item with this key.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    /// Sets the value of `key`. Returns whether the key is new.
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.set_hashed(key_hash(key), key, value)
    }

    /// Sets the value of `key`, whose hash is known. Returns whether the key is new.
    pub fn set_hashed(&mut self, hash: u64, key: &[u8], value: &[u8]) -> bool {
        let added = self.write(|root, memory| root.set(hash, key, value, memory));
        self.len += usize::from(added);
        added
    }

    /// Removes `key`. Returns whether it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.remove_hashed(key_hash(key), key)
    }

    /// Removes `key`, whose hash is known. Returns whether it was there.
    pub fn remove_hashed(&mut self, hash: u64, key: &[u8]) -> bool {
        // Looked up first: what changes nothing must not copy shared leaves.
        if self.get_hashed(hash, key).is_none() {
            return false;
        }
        self.write(|root, memory| root.remove(hash, 0, key, memory));
        self.len -= 1;
        true
    }

    /// All items, in the order of [`Table::scan`] by leaves, in none within a leaf.
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(&self.root, self.len)
    }

    /// Visits items from `cursor` on until there were `count`, or a few more. Returns the cursor to go on from: 0 at
    /// the end, below 2^48 always.
    ///
    /// What is present from the first call (with cursor 0) to the last is visited at least once, whatever happens to
    /// the table in between: a cursor is a bound of hashes and not a place.
    pub fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> u64 {
        const BELOW: u32 = u64::BITS - CURSOR_BITS;
        let mut from = cursor << BELOW;
        let mut visited = 0;
        loop {
            let Place { leaf, depth } = self.root.place(from);
            let last = from | (u64::MAX >> depth);
            // A leaf that has grown since by a merge: its first part was visited already.
            let is_cut = from << depth != 0;
            for (key, value) in leaf.items() {
                if !is_cut || key_hash(key) >= from {
                    visit(key, value);
                    visited += 1;
                }
            }
            if last == u64::MAX {
                return 0;
            }
            from = last + 1;
            if visited >= count {
                return from >> BELOW;
            }
        }
    }

    /// An item drawn evenly from all, given a source of random words.
    pub fn random(&self, next: &mut dyn FnMut() -> u64) -> Option<(&[u8], &[u8])> {
        if self.len == 0 {
            return None;
        }
        // A leaf is drawn by its share of the hashes, which is not its share of the items; drawing one of more slots
        // than any leaf has, in proportion to the leaf's share, and starting over at an empty one evens that out.
        // Hashes being spread evenly, three times the expected number is more than a leaf has, save in tiny tables.
        for _ in 0..RANDOM_ATTEMPTS {
            let Place { leaf, depth } = self.root.place(next());
            let items = leaf.len();
            let bound = (3.0 * self.len as f64 / (1u64 << depth) as f64).max(items as f64);
            let fraction = (next() >> 11) as f64 / (1u64 << 53) as f64;
            let index = (fraction * bound) as usize;
            if index < items {
                return Some(leaf.item(index));
            }
        }
        // Only a source that is not random comes here.
        self.iter().nth((next() % self.len.min(64) as u64) as usize)
    }

    /// Begins to bring what a look-up of this hash needs into the cache. Before any key of a batch is looked up, all of
    /// them take the same step, then all the next, so that the waits for memory overlap.
    #[inline]
    pub fn approach(&self, hash: u64) -> Approach<'_> {
        let (node, depth) = self.root.below(hash);
        node.prefetch(hash, depth);
        Approach { node, depth, hash }
    }

    /// Brings what look-ups of some hashes need into the cache, as far as that goes without waiting for each.
    #[inline]
    pub fn fetch<const N: usize>(&self, hashes: [u64; N]) {
        for leaf in hashes.map(|hash| self.approach(hash)).map(Approach::leaf) {
            leaf.item();
        }
    }

    fn write<T>(&mut self, change: impl FnOnce(&mut Node, &mut usize) -> T) -> T {
        change(Arc::make_mut(&mut self.root), &mut self.memory)
    }
}

/// A look-up on its way into the cache: it knows the node that leads to its leaf.
#[derive(Clone, Copy)]
pub struct Approach<'a> {
    node: &'a Node,
    depth: u32,
    hash: u64,
}

impl<'a> Approach<'a> {
    /// Asks for the leaf, once the node has come.
    #[inline]
    pub fn leaf(self) -> ApproachLeaf<'a> {
        let leaf = self.node.place_from(self.hash, self.depth).leaf;
        leaf.prefetch();
        ApproachLeaf { leaf, tag: tag(self.hash) }
    }
}

/// A look-up that knows its leaf.
#[derive(Clone, Copy)]
pub struct ApproachLeaf<'a> {
    leaf: &'a Leaf,
    tag: u8,
}

impl ApproachLeaf<'_> {
    /// Asks for the item, once the leaf has come.
    #[inline]
    pub fn item(self) {
        self.leaf.prefetch_item(self.tag);
    }
}

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("len", &self.len).field("memory", &self.memory).finish_non_exhaustive()
    }
}

/// What the allocator makes of a request of `size` bytes: four classes to each doubling, as jemalloc has them.
pub(super) fn size_class(size: usize) -> usize {
    match size {
        0 => 0,
        1..=8 => 8,
        9..=128 => size.next_multiple_of(16),
        _ => size.next_multiple_of(1 << ((size - 1).ilog2() - 2)),
    }
}

#[inline]
fn key_hash(key: &[u8]) -> u64 {
    // Collisions cannot be found by trying, so tests have keys that are made to collide.
    #[cfg(test)]
    if key.starts_with(tests::COLLIDING) {
        return tests::COLLISION;
    }
    crate::keyspace::hash::hash(key)
}
