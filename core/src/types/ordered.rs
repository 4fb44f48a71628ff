//! A map in order of its keys, which adds up what its values weigh, and whose clones share everything.
//!
//! A B+tree. Nodes are shared by clones and copied when one of them writes: cloning costs as much as counting a
//! reference, and no operation touches more than a path of nodes. An inner node knows the total of each child, so that
//! positions and totals are found without walking.

mod node;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::ops::{AddAssign, SubAssign};

use node::Node;

/// What is added up.
pub trait Total: Copy + Default + AddAssign + SubAssign {
    /// How many items a total stands for.
    fn items(self) -> usize;
}

impl Total for usize {
    fn items(self) -> usize {
        self
    }
}

/// A value, which weighs something. Cloning it is cheap.
pub trait Value: Clone {
    /// What is added up.
    type Total: Total;
    /// What this value adds.
    fn total(&self) -> Self::Total;
}

impl Value for () {
    type Total = usize;

    fn total(&self) -> usize {
        1
    }
}

/// Keys in order, each with a value.
///
/// `Clone` shares: it takes constant time, and what is written to either of the two stays unknown to the other.
#[derive(Clone)]
pub struct Ordered<K: Clone, V: Value> {
    root: Option<Node<K, V>>,
    total: V::Total,
}

impl<K: Clone, V: Value> Default for Ordered<K, V> {
    fn default() -> Ordered<K, V> {
        Ordered { root: None, total: V::Total::default() }
    }
}

impl<K: Ord + Clone, V: Value> Ordered<K, V> {
    /// What all values add up to.
    #[inline]
    pub fn total(&self) -> V::Total {
        self.total
    }

    /// Number of keys.
    #[inline]
    pub fn len(&self) -> usize {
        self.total.items()
    }

    /// Whether there is no key.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Bytes on the heap, about, without what values own there.
    pub fn memory(&self) -> usize {
        // Nodes are full where keys come in order, and two thirds full where they do not.
        let items = self.len();
        match items {
            0 => 0,
            1..node::WIDTH => 48 + items.next_power_of_two() * size_of::<(K, V)>(),
            _ => items * size_of::<(K, V)>() * 5 / 4,
        }
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (items, at) = self.root.as_ref()?.seek_up(key, true)?;
        let (found, value) = &items[at];
        (found.borrow() == key).then_some(value)
    }

    /// Whether there is a key.
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Sets the value of a key; returns the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.total += value.total();
        let Some(root) = &mut self.root else {
            self.root = Some(Node::of(key, value));
            return None;
        };
        let (replaced, right) = root.insert(key, value, true);
        if let Some(right) = right
            && let Some(left) = self.root.take()
        {
            self.root = Some(Node::above(left, right));
        }
        if let Some(replaced) = &replaced {
            self.total -= replaced.total();
        }
        replaced
    }

    /// Removes a key; returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // What is not there must not cost a copy of the way to it.
        self.get(key)?;
        let removed = self.root.as_mut()?.remove(key)?;
        self.total -= removed.total();
        self.tidy_root();
        Some(removed)
    }

    /// Changes the value of a key.
    pub fn change<Q: Ord + ?Sized, R>(&mut self, key: &Q, change: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
    {
        self.get(key)?;
        let (result, before, after) = self.root.as_mut()?.change(key, change)?;
        self.total += after;
        self.total -= before;
        Some(result)
    }

    /// Changes the value of the last key.
    #[inline]
    pub fn change_last<R>(&mut self, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let (result, before, after) = self.root.as_mut()?.change_last(change)?;
        self.total += after;
        self.total -= before;
        Some(result)
    }

    /// Removes all keys below one. What is freed by that is the caller's to care for, who keeps a clone if it is much.
    pub fn cut_front<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.total -= self.total_below(key);
        if let Some(root) = &mut self.root
            && !root.cut_front(key)
        {
            self.root = None;
        }
        self.tidy_root();
    }

    /// What the values of all keys below one add up to.
    pub fn total_below<Q: Ord + ?Sized>(&self, key: &Q) -> V::Total
    where
        K: Borrow<Q>,
    {
        let mut total = V::Total::default();
        if let Some(root) = &self.root {
            root.total_below(key, &mut total);
        }
        total
    }

    /// The first key that has one behind it too many: up to which a total, with its own value, does not `fit`. What fits
    /// must fit with less.
    pub fn first_beyond(&self, fits: impl Fn(V::Total) -> bool) -> Option<(&K, &V)> {
        let mut total = V::Total::default();
        let (items, at) = self.root.as_ref()?.first_beyond(&fits, &mut total)?;
        let (key, value) = &items[at];
        Some((key, value))
    }

    /// The first key.
    pub fn first(&self) -> Option<(&K, &V)> {
        let (key, value) = self.root.as_ref()?.first_items().first()?;
        Some((key, value))
    }

    /// The last key.
    #[inline]
    pub fn last(&self) -> Option<(&K, &V)> {
        let (key, value) = self.root.as_ref()?.last_items().last()?;
        Some((key, value))
    }

    /// The last key that is not above another.
    pub fn floor<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        self.down_from(key).next()
    }

    /// All keys upwards.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let items = self.root.as_ref().map_or(&[][..], Node::first_items);
        Iter { map: self, items, at: 0, reverse: false }
    }

    /// All keys downwards.
    pub fn iter_down(&self) -> Iter<'_, K, V> {
        let items = self.root.as_ref().map_or(&[][..], Node::last_items);
        Iter { map: self, items, at: items.len(), reverse: true }
    }

    /// Keys upwards, from this one on.
    pub fn up_from<Q: Ord + ?Sized>(&self, key: &Q) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let (items, at) = self.root.as_ref().and_then(|root| root.seek_up(key, true)).unwrap_or_default();
        Iter { map: self, items, at, reverse: false }
    }

    /// Keys downwards, from this one on.
    pub fn down_from<Q: Ord + ?Sized>(&self, key: &Q) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let found = self.root.as_ref().and_then(|root| root.seek_down(key, true));
        let (items, at) = found.map_or((&[][..], 0), |(items, at)| (items, at + 1));
        Iter { map: self, items, at, reverse: true }
    }

    fn tidy_root(&mut self) {
        while let Some(root) = &self.root {
            match root.only_child() {
                node::Only::Itself => return,
                node::Only::Nothing => self.root = None,
                node::Only::Child(child) => self.root = Some(child),
            }
        }
    }
}

impl<K: Clone, V: Value> std::fmt::Debug for Ordered<K, V>
where
    V::Total: std::fmt::Debug,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ordered").field("total", &self.total).finish_non_exhaustive()
    }
}

/// Keys with their values, in order or against it.
pub struct Iter<'a, K: Clone, V: Value> {
    map: &'a Ordered<K, V>,
    /// The items of a leaf.
    items: &'a [(K, V)],
    /// Upwards, the place of the next; downwards, how many are left in the leaf.
    at: usize,
    reverse: bool,
}

impl<'a, K: Ord + Clone, V: Value> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        // The next leaf is found from the root: that costs less than to remember the way.
        if self.reverse {
            if self.at == 0 {
                let (first, _) = self.items.first()?;
                let found = self.map.root.as_ref().and_then(|root| root.seek_down(first, false));
                (self.items, self.at) = found.map_or((&[][..], 0), |(items, at)| (items, at + 1));
            }
            self.at = self.at.checked_sub(1)?;
            let (key, value) = self.items.get(self.at)?;
            return Some((key, value));
        }
        if self.at == self.items.len() {
            let (last, _) = self.items.last()?;
            let found = self.map.root.as_ref().and_then(|root| root.seek_up(last, false));
            (self.items, self.at) = found.unwrap_or_default();
        }
        let (key, value) = self.items.get(self.at)?;
        self.at += 1;
        Some((key, value))
    }
}
