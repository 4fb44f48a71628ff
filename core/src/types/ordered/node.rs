//! The nodes of the tree.

use std::borrow::Borrow;

use triomphe::Arc;

use super::Value;

/// The most items of a leaf, and children of an inner node.
pub(super) const WIDTH: usize = 64;
/// A node that is left with so few looks whether a neighbour can take them …
const MERGE_FROM: usize = WIDTH / 4;
/// … and the two become one if that leaves some room.
const MERGE_TO: usize = WIDTH * 3 / 4;

/// Items of a leaf, and the place of one of them.
pub(super) type Found<'a, K, V> = (&'a [(K, V)], usize);

pub(super) enum Node<K, V: Value> {
    Leaf(Arc<Vec<(K, V)>>),
    Inner(Arc<Inner<K, V>>),
}

impl<K, V: Value> Clone for Node<K, V> {
    fn clone(&self) -> Node<K, V> {
        match self {
            Node::Leaf(items) => Node::Leaf(Arc::clone(items)),
            Node::Inner(inner) => Node::Inner(Arc::clone(inner)),
        }
    }
}

#[derive(Clone)]
pub(super) struct Inner<K, V: Value> {
    /// Bounds: all keys of a child are not below its own, and below that of the next. The first is never read.
    keys: Vec<K>,
    totals: Vec<V::Total>,
    children: Vec<Node<K, V>>,
}

/// What a root has come to.
pub(super) enum Only<K, V: Value> {
    /// It is needed.
    Itself,
    /// It is empty.
    Nothing,
    /// It has nothing but this.
    Child(Node<K, V>),
}

impl<K: Ord + Clone, V: Value> Node<K, V> {
    pub(super) fn of(key: K, value: V) -> Node<K, V> {
        Node::Leaf(Arc::new(vec![(key, value)]))
    }

    /// A root above what was the root and its new neighbour.
    pub(super) fn above(left: Node<K, V>, right: Node<K, V>) -> Node<K, V> {
        let mut inner = Inner { keys: Vec::new(), totals: Vec::new(), children: Vec::new() };
        [left, right].into_iter().for_each(|child| inner.insert_child(inner.children.len(), child));
        Node::Inner(Arc::new(inner))
    }

    pub(super) fn only_child(&self) -> Only<K, V> {
        match self {
            Node::Leaf(items) if items.is_empty() => Only::Nothing,
            Node::Inner(inner) if inner.children.len() < 2 => {
                inner.children.first().map_or(Only::Nothing, |child| Only::Child(child.clone()))
            }
            _ => Only::Itself,
        }
    }

    fn total(&self) -> V::Total {
        let mut total = V::Total::default();
        match self {
            Node::Leaf(items) => items.iter().for_each(|(_, value)| total += value.total()),
            Node::Inner(inner) => inner.totals.iter().for_each(|below| total += *below),
        }
        total
    }

    fn width(&self) -> usize {
        match self {
            Node::Leaf(items) => items.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    fn first_key(&self) -> Option<&K> {
        self.first_items().first().map(|(key, _)| key)
    }

    pub(super) fn first_items(&self) -> &[(K, V)] {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(items) => return items,
                Node::Inner(inner) => node = &inner.children[0],
            }
        }
    }

    #[inline]
    pub(super) fn last_items(&self) -> &[(K, V)] {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(items) => return items,
                Node::Inner(inner) => node = &inner.children[inner.children.len() - 1],
            }
        }
    }

    /// The first item that is not below a key, or, unless `inclusive`, above it.
    pub(super) fn seek_up<Q: Ord + ?Sized>(&self, key: &Q, inclusive: bool) -> Option<Found<'_, K, V>>
    where
        K: Borrow<Q>,
    {
        match self {
            Node::Leaf(items) => {
                let at = items.partition_point(|(other, _)| {
                    if inclusive { other.borrow() < key } else { other.borrow() <= key }
                });
                (at < items.len()).then_some((items, at))
            }
            Node::Inner(inner) => {
                let child = inner.child_of(key);
                let next = || Some((inner.children.get(child + 1)?.first_items(), 0));
                inner.children[child].seek_up(key, inclusive).or_else(next)
            }
        }
    }

    /// The last item that is not above a key, or, unless `inclusive`, below it.
    pub(super) fn seek_down<Q: Ord + ?Sized>(&self, key: &Q, inclusive: bool) -> Option<Found<'_, K, V>>
    where
        K: Borrow<Q>,
    {
        match self {
            Node::Leaf(items) => {
                let end = items.partition_point(|(other, _)| {
                    if inclusive { other.borrow() <= key } else { other.borrow() < key }
                });
                Some((items, end.checked_sub(1)?))
            }
            Node::Inner(inner) => {
                let child = inner.child_of(key);
                let before = || {
                    let items = inner.children[child.checked_sub(1)?].last_items();
                    Some((items, items.len().checked_sub(1)?))
                };
                inner.children[child].seek_down(key, inclusive).or_else(before)
            }
        }
    }

    pub(super) fn total_below<Q: Ord + ?Sized>(&self, key: &Q, total: &mut V::Total)
    where
        K: Borrow<Q>,
    {
        match self {
            Node::Leaf(items) => items
                .iter()
                .take_while(|(other, _)| other.borrow() < key)
                .for_each(|(_, value)| *total += value.total()),
            Node::Inner(inner) => {
                let child = inner.child_of(key);
                inner.totals[..child].iter().for_each(|below| *total += *below);
                inner.children[child].total_below(key, total);
            }
        }
    }

    /// The first item that does not fit any more; `total` is that of all before it.
    pub(super) fn first_beyond(
        &self,
        fits: &impl Fn(V::Total) -> bool,
        total: &mut V::Total,
    ) -> Option<Found<'_, K, V>> {
        let mut add = |more: V::Total| {
            let mut with = *total;
            with += more;
            let fits = fits(with);
            if fits {
                *total = with;
            }
            fits
        };
        match self {
            Node::Leaf(items) => {
                let at = items.iter().position(|(_, value)| !add(value.total()))?;
                Some((items, at))
            }
            Node::Inner(inner) => {
                let child = inner.totals.iter().position(|below| !add(*below))?;
                inner.children[child].first_beyond(fits, total)
            }
        }
    }

    /// Inserts an item. Returns the value that it replaced and, if the node had to be split, its new right neighbour.
    /// `is_last` says that no node of the level is to the right: those stay full when keys come in ascending order.
    pub(super) fn insert(&mut self, key: K, value: V, is_last: bool) -> (Option<V>, Option<Node<K, V>>) {
        match self {
            Node::Leaf(items) => {
                let at = items.partition_point(|(other, _)| *other < key);
                let items = Arc::make_mut(items);
                if let Some((other, old)) = items.get_mut(at)
                    && *other == key
                {
                    return (Some(std::mem::replace(old, value)), None);
                }
                if items.len() < WIDTH {
                    items.insert(at, (key, value));
                    return (None, None);
                }
                if is_last && at == WIDTH {
                    return (None, Some(Node::of(key, value)));
                }
                let mut right = items.split_off(WIDTH / 2);
                match at <= WIDTH / 2 {
                    true => items.insert(at, (key, value)),
                    false => right.insert(at - WIDTH / 2, (key, value)),
                }
                (None, Some(Node::Leaf(Arc::new(right))))
            }
            Node::Inner(inner) => Arc::make_mut(inner).insert(key, value, is_last),
        }
    }

    /// Changes a value; returns what it added before, and what it adds now.
    pub(super) fn change<Q: Ord + ?Sized, R>(
        &mut self,
        key: &Q,
        change: impl FnOnce(&mut V) -> R,
    ) -> Option<(R, V::Total, V::Total)>
    where
        K: Borrow<Q>,
    {
        match self {
            Node::Leaf(items) => {
                let at = items.binary_search_by(|(other, _)| other.borrow().cmp(key)).ok()?;
                Some(change_value(&mut Arc::make_mut(items)[at].1, change))
            }
            Node::Inner(inner) => {
                let child = inner.child_of(key);
                let inner = Arc::make_mut(inner);
                let (result, before, after) = inner.children[child].change(key, change)?;
                inner.totals[child] += after;
                inner.totals[child] -= before;
                Some((result, before, after))
            }
        }
    }

    #[inline]
    pub(super) fn change_last<R>(
        &mut self,
        change: impl FnOnce(&mut V) -> R,
    ) -> Option<(R, V::Total, V::Total)> {
        match self {
            Node::Leaf(items) => Some(change_value(&mut Arc::make_mut(items).last_mut()?.1, change)),
            Node::Inner(inner) => {
                let inner = Arc::make_mut(inner);
                let (result, before, after) = inner.children.last_mut()?.change_last(change)?;
                let total = inner.totals.last_mut()?;
                *total += after;
                *total -= before;
                Some((result, before, after))
            }
        }
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        match self {
            Node::Leaf(items) => {
                let at = items.binary_search_by(|(other, _)| other.borrow().cmp(key)).ok()?;
                let items = Arc::make_mut(items);
                let (_, value) = items.remove(at);
                if items.len() * 4 < items.capacity() {
                    items.shrink_to(items.len() * 2);
                }
                Some(value)
            }
            Node::Inner(inner) => {
                let child = inner.child_of(key);
                let inner = Arc::make_mut(inner);
                let value = inner.children[child].remove(key)?;
                inner.totals[child] -= value.total();
                inner.tidy(child);
                Some(value)
            }
        }
    }

    /// Removes all items below a key; false if none are left.
    pub(super) fn cut_front<Q: Ord + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        match self {
            Node::Leaf(items) => {
                let at = items.partition_point(|(other, _)| other.borrow() < key);
                if at > 0 {
                    Arc::make_mut(items).drain(..at);
                }
                !items.is_empty()
            }
            Node::Inner(inner) => {
                let child = inner.child_of(key);
                let inner = Arc::make_mut(inner);
                inner.drop_children(child);
                match inner.children[0].cut_front(key) {
                    true => inner.totals[0] = inner.children[0].total(),
                    false => inner.drop_children(1),
                }
                !inner.children.is_empty()
            }
        }
    }
}

fn change_value<V: Value, R>(value: &mut V, change: impl FnOnce(&mut V) -> R) -> (R, V::Total, V::Total) {
    let before = value.total();
    let result = change(value);
    (result, before, value.total())
}

impl<K: Ord + Clone, V: Value> Inner<K, V> {
    /// The child in which a key stands, or would.
    fn child_of<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.keys[1..].partition_point(|bound| bound.borrow() <= key)
    }

    fn insert(&mut self, key: K, value: V, is_last: bool) -> (Option<V>, Option<Node<K, V>>) {
        let index = self.child_of(&key);
        let is_last = is_last && index + 1 == self.children.len();
        self.totals[index] += value.total();
        let (replaced, right) = self.children[index].insert(key, value, is_last);
        if let Some(replaced) = &replaced {
            self.totals[index] -= replaced.total();
        }
        let Some(child) = right else { return (replaced, None) };
        self.totals[index] -= child.total();
        if self.children.len() < WIDTH {
            self.insert_child(index + 1, child);
            return (replaced, None);
        }
        let middle = if is_last { WIDTH } else { WIDTH / 2 };
        let mut neighbour = Inner {
            keys: self.keys.split_off(middle),
            totals: self.totals.split_off(middle),
            children: self.children.split_off(middle),
        };
        match index < middle && middle < WIDTH {
            true => self.insert_child(index + 1, child),
            false => neighbour.insert_child(index + 1 - middle, child),
        }
        (replaced, Some(Node::Inner(Arc::new(neighbour))))
    }

    fn insert_child(&mut self, index: usize, child: Node<K, V>) {
        let Some(key) = child.first_key() else { return };
        self.keys.insert(index, key.clone());
        self.totals.insert(index, child.total());
        self.children.insert(index, child);
    }

    fn remove_child(&mut self, index: usize) -> (K, V::Total, Node<K, V>) {
        (self.keys.remove(index), self.totals.remove(index), self.children.remove(index))
    }

    fn drop_children(&mut self, count: usize) {
        self.keys.drain(..count);
        self.totals.drain(..count);
        self.children.drain(..count);
    }

    /// After something was removed from a child.
    fn tidy(&mut self, index: usize) {
        let width = |index: usize| self.children[index].width();
        if width(index) > MERGE_FROM {
            return;
        }
        if width(index) == 0 {
            self.remove_child(index);
            return;
        }
        let fits = |left: usize| left + 1 < self.children.len() && width(left) + width(left + 1) <= MERGE_TO;
        let left = if fits(index) {
            index
        } else if index > 0 && fits(index - 1) {
            index - 1
        } else {
            return;
        };
        let (bound, total, right) = self.remove_child(left + 1);
        self.totals[left] += total;
        match (&mut self.children[left], right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                Arc::make_mut(left).extend(Arc::unwrap_or_clone(right));
            }
            (Node::Inner(left), Node::Inner(right)) => {
                let (left, mut right) = (Arc::make_mut(left), Arc::unwrap_or_clone(right));
                // The first bound of the right one may be out of date, ours for it is not.
                right.keys[0] = bound;
                left.keys.extend(right.keys);
                left.totals.extend(right.totals);
                left.children.extend(right.children);
            }
            _ => unreachable!("all leaves have the same depth"),
        }
    }
}
