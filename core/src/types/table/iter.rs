//! The iterator over all items of a table.

use std::slice;

use super::leaf::Leaf;
use super::node::{Node, Slot};

/// All items of a table. See [`Table::iter`](super::Table::iter).
pub struct Iter<'a> {
    /// What remains of the nodes that lead to the leaf.
    path: Vec<slice::Iter<'a, Slot>>,
    leaf: Option<&'a Leaf>,
    /// The next item of the leaf.
    index: usize,
    remaining: usize,
}

impl<'a> Iter<'a> {
    pub(super) fn new(root: &'a Node, len: usize) -> Iter<'a> {
        Iter { path: vec![root.slots().iter()], leaf: None, index: 0, remaining: len }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(leaf) = self.leaf
                && self.index < leaf.len()
            {
                self.index += 1;
                self.remaining -= 1;
                return Some(leaf.item(self.index - 1));
            }
            match self.path.last_mut()?.next() {
                None => {
                    self.path.pop();
                }
                Some(Slot::Leaf { leaf, .. }) => {
                    self.leaf = Some(leaf);
                    self.index = 0;
                }
                Some(Slot::Node { node, .. }) => self.path.push(node.slots().iter()),
                Some(Slot::Of { .. }) => {}
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Iter<'_> {}
