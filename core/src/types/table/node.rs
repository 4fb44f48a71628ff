//! The directory of a table: a tree of nodes that branch on a few bits of the hash, with leaves below.
//!
//! A node spreads up to [`BITS`] bits over its slots. A leaf that needs fewer of them owns a run of slots, of which
//! the first holds it; so leaves split and merge one bit at a time while the tree stays shallow.

use std::mem::size_of;
use std::ptr;

use triomphe::Arc;

use super::leaf::{Leaf, SLOTS, Set, tag};
use super::size_class;
use crate::keyspace::dict::prefetch;

/// The most bits that a node spends: a write to a shared table copies one node of each level, 256 slots.
pub(super) const BITS: u32 = 8;

/// The most bits that lead to a leaf: as many as a cursor has, so that every leaf begins at a cursor.
pub(super) const DEPTH_MAX: u32 = super::CURSOR_BITS;

/// A leaf that is left with so few items looks whether its neighbour can take them …
const MERGE_FROM: usize = SLOTS / 4;
/// … and the two become one if they fill half a leaf at most. The next split is far then.
const MERGE_TO: usize = SLOTS / 2;

#[derive(Clone)]
pub(super) struct Node {
    bits: u32,
    slots: Vec<Slot>,
}

#[derive(Clone)]
pub(super) enum Slot {
    /// The leaf of all hashes that agree with this slot in `bits` of the node's bits.
    Leaf { first: u8, bits: u8, leaf: Arc<Leaf> },
    /// Only in nodes that have all [`BITS`].
    Node { first: u8, node: Arc<Node> },
    /// Belongs to the leaf in the slot `first`. (The others name themselves, so that a look-up goes there without
    /// asking, and without a branch that nobody can foresee.)
    Of { first: u8 },
}

/// A leaf and the number of bits of the hash that lead to it.
pub(super) struct Place<'a> {
    pub(super) leaf: &'a Leaf,
    pub(super) depth: u32,
}

impl Node {
    /// One leaf for all hashes.
    pub(super) fn new(leaf: Arc<Leaf>) -> Node {
        Node { bits: 0, slots: vec![Slot::Leaf { first: 0, bits: 0, leaf }] }
    }

    /// Heap bytes of this node, without what is below.
    pub(super) fn memory(&self) -> usize {
        size_class(size_of::<usize>() + size_of::<Node>())
            + size_class(self.slots.capacity() * size_of::<Slot>())
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The leaf in which a key of this hash stands, or would.
    #[inline]
    pub(super) fn place(&self, hash: u64) -> Place<'_> {
        self.place_from(hash, 0)
    }

    /// The node below this one on the way to a hash, and how many bits of the hash lead to it; this one if there is
    /// none.
    #[inline]
    pub(super) fn below(&self, hash: u64) -> (&Node, u32) {
        match &self.slots[self.slot_of(hash, 0)] {
            Slot::Node { node, .. } => (node, BITS),
            Slot::Leaf { .. } | Slot::Of { .. } => (self, 0),
        }
    }

    /// Asks for the slot that leads on to a hash.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64, depth: u32) {
        prefetch(ptr::from_ref(&self.slots[self.slot_index(hash, depth)]).cast());
    }

    /// The leaf of a hash, from a node on to which `depth` bits have led.
    #[inline]
    pub(super) fn place_from(&self, hash: u64, depth: u32) -> Place<'_> {
        let (mut node, mut depth) = (self, depth);
        loop {
            match &node.slots[node.slot_of(hash, depth)] {
                Slot::Leaf { bits, leaf, .. } => return Place { leaf, depth: depth + u32::from(*bits) },
                Slot::Node { node: child, .. } => {
                    node = child;
                    depth += BITS;
                }
                Slot::Of { .. } => unreachable!("slot_of resolves runs"),
            }
        }
    }

    /// Sets the value of a key; whether it is new. `memory` follows.
    pub(super) fn set(&mut self, hash: u64, key: &[u8], value: &[u8], memory: &mut usize) -> bool {
        let (mut node, mut depth) = (self, 0);
        loop {
            let index = node.slot_of(hash, depth);
            if let Slot::Leaf { bits, leaf, .. } = &mut node.slots[index] {
                let whole = depth + u32::from(*bits) == DEPTH_MAX;
                let leaf = Arc::make_mut(leaf);
                *memory -= leaf.memory();
                let set = leaf.set(tag(hash), key, value, whole);
                *memory += leaf.memory();
                match set {
                    Set::Added => return true,
                    Set::Replaced => return false,
                    Set::Full => node.split(index, depth, memory),
                }
            }
            // Not an else: a split may have put a node in the leaf's place.
            let index = node.slot_of(hash, depth);
            if matches!(node.slots[index], Slot::Node { .. }) {
                let Slot::Node { node: child, .. } = &mut node.slots[index] else {
                    unreachable!("just matched")
                };
                node = Arc::make_mut(child);
                depth += BITS;
            }
        }
    }

    /// Removes a key that is known to be present.
    pub(super) fn remove(&mut self, hash: u64, depth: u32, key: &[u8], memory: &mut usize) {
        let index = self.slot_of(hash, depth);
        match &mut self.slots[index] {
            Slot::Leaf { leaf, .. } => {
                let leaf = Arc::make_mut(leaf);
                *memory -= leaf.memory();
                leaf.remove(tag(hash), key);
                *memory += leaf.memory();
            }
            Slot::Node { node: child, .. } => {
                let child = Arc::make_mut(child);
                child.remove(hash, depth + BITS, key, memory);
                if child.bits > 0 {
                    return;
                }
                // All that was left below is one leaf: it moves up.
                *memory -= child.memory();
                let leaf = child.slots.pop().expect("a node of no bits has one slot");
                let Slot::Leaf { leaf, .. } = leaf else {
                    unreachable!("a node of no bits has no node below")
                };
                self.slots[index] = Slot::Leaf { first: index as u8, bits: BITS as u8, leaf };
            }
            Slot::Of { .. } => unreachable!("slot_of resolves runs"),
        }
        if self.merge(index, memory) {
            self.halve(memory);
        }
    }

    /// The slot that holds what this hash leads to, of which `depth` bits are spent.
    #[inline]
    fn slot_of(&self, hash: u64, depth: u32) -> usize {
        self.slots[self.slot_index(hash, depth)].first()
    }

    #[inline]
    fn slot_index(&self, hash: u64, depth: u32) -> usize {
        // In two steps, for a node of no bits.
        ((hash << depth) >> 1 >> (63 - self.bits)) as usize
    }

    /// Makes one step towards room for the full leaf at `index`: the node gets another bit, or the leaf a node of its
    /// own, or it becomes two.
    #[cold]
    fn split(&mut self, index: usize, depth: u32, memory: &mut usize) {
        let Slot::Leaf { bits, leaf, .. } = &self.slots[index] else { unreachable!("only leaves are split") };
        let local = u32::from(*bits);
        if local == BITS {
            let child = Node::new(Arc::clone(leaf));
            *memory += child.memory();
            self.slots[index] = Slot::Node { first: index as u8, node: Arc::new(child) };
            return;
        }
        if local == self.bits {
            return self.double(memory);
        }
        let (left, right) = leaf.split(depth + local);
        *memory -= leaf.memory();
        *memory += left.memory() + right.memory();
        let (bits, half) = (local as u8 + 1, 1 << (self.bits - local - 1));
        let middle = index + half;
        self.slots[index] = Slot::Leaf { first: index as u8, bits, leaf: Arc::new(left) };
        self.slots[middle] = Slot::Leaf { first: middle as u8, bits, leaf: Arc::new(right) };
        for slot in &mut self.slots[middle + 1..middle + half] {
            *slot = Slot::Of { first: middle as u8 };
        }
    }

    fn double(&mut self, memory: &mut usize) {
        *memory -= self.memory();
        let mut slots = Vec::with_capacity(self.slots.len() * 2);
        for slot in self.slots.drain(..) {
            let first = slot.first() * 2;
            slots.push(slot.moved_to(first));
            slots.push(Slot::Of { first: first as u8 });
        }
        self.slots = slots;
        self.bits += 1;
        *memory += self.memory();
    }

    /// Unites the leaf at `index` with its neighbour as often as they fit into one. Whether it did.
    fn merge(&mut self, mut index: usize, memory: &mut usize) -> bool {
        let mut merged = false;
        while let Slot::Leaf { bits, leaf, .. } = &self.slots[index]
            && *bits > 0
            && (merged || leaf.len() <= MERGE_FROM)
        {
            let (bits, width) = (*bits, 1 << (self.bits - u32::from(*bits)));
            let (left, right) = (index & !width, index | width);
            let Slot::Leaf { bits: other_bits, leaf: other, .. } = &self.slots[index ^ width] else { break };
            let fits = leaf.len() + other.len() <= MERGE_TO && !leaf.overflows() && !other.overflows();
            if bits != *other_bits || !fits {
                break;
            }
            let other = Arc::clone(other);
            let Slot::Leaf { leaf, .. } = &mut self.slots[index] else { unreachable!("just matched") };
            let mut leaf = Arc::clone(leaf);
            *memory -= leaf.memory() + other.memory();
            // Frees the slots' references first, so that an unshared leaf is changed where it is.
            for slot in &mut self.slots[left..right + width] {
                *slot = Slot::Of { first: left as u8 };
            }
            Arc::make_mut(&mut leaf).absorb(&other);
            *memory += leaf.memory();
            self.slots[left] = Slot::Leaf { first: left as u8, bits: bits - 1, leaf };
            index = left;
            merged = true;
        }
        merged
    }

    /// Gives up bits that no leaf needs any more.
    fn halve(&mut self, memory: &mut usize) {
        let needs = |slot: &Slot| match slot {
            Slot::Leaf { bits, .. } => u32::from(*bits),
            Slot::Node { .. } => BITS,
            Slot::Of { .. } => 0,
        };
        let bits = self.slots.iter().map(needs).max().unwrap_or(0);
        if bits == self.bits {
            return;
        }
        *memory -= self.memory();
        let shift = self.bits - bits;
        let mut slots = Vec::with_capacity(1 << bits);
        for slot in self.slots.drain(..).step_by(1 << shift) {
            let first = slot.first() >> shift;
            slots.push(slot.moved_to(first));
        }
        self.slots = slots;
        self.bits = bits;
        *memory += self.memory();
    }
}

impl Slot {
    /// The slot that holds what this one leads to.
    #[inline]
    fn first(&self) -> usize {
        match self {
            Slot::Leaf { first, .. } | Slot::Node { first, .. } | Slot::Of { first } => usize::from(*first),
        }
    }

    fn moved_to(mut self, slot: usize) -> Slot {
        match &mut self {
            Slot::Leaf { first, .. } | Slot::Node { first, .. } | Slot::Of { first } => *first = slot as u8,
        }
        self
    }
}
