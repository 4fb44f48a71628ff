//! What a list is, and what may be done to it: packed in its entry while it is small, a [`Sequence`] when it is large.

use std::ops::{ControlFlow, Range};

use super::End;
use super::chunk::ChunkLimits;
use super::item::{self, Encoded, Item, Wanted};
use super::sequence::{Gone, Sequence, show_each_in};
use crate::engine::edit::Edit;
use crate::engine::event::{self, EventClass};
use crate::keyspace::entry::{Entry, Kind, NewValue, Payload};
use crate::types::{Object, Type};

/// The type of lists.
pub struct List;

/// A list as it is read.
#[derive(Clone, Copy)]
pub enum ListRef<'a> {
    /// The number of elements in two bytes, and the elements; or nothing at all.
    Packed(&'a [u8]),
    /// A tree.
    Sequence(&'a Sequence),
}

/// Bytes in front of packed elements: how many there are.
const COUNT_LEN: usize = 2;

/// Lists that take more bytes, or have more elements, are not packed: each is walked through from its beginning.
const PACKED_LIMITS: ChunkLimits = ChunkLimits { bytes: 2048, items: 128, alone_len: u32::MAX, depth: 0 };

impl Type for List {
    type View<'a> = ListRef<'a>;
    const CLASS: EventClass = event::LIST;

    #[inline(always)]
    fn view(entry: &Entry) -> Option<ListRef<'_>> {
        match entry.payload() {
            Payload::Bytes(bytes) if entry.kind() == Kind::PackedList => Some(ListRef::Packed(bytes)),
            Payload::Object(Object::List(list)) => Some(ListRef::Sequence(list)),
            _ => None,
        }
    }

    fn empty() -> NewValue<'static> {
        NewValue::Bytes(Kind::PackedList, b"")
    }

    #[inline(always)]
    fn is_gone(view: ListRef<'_>) -> bool {
        view.is_empty()
    }
}

/// How many elements packed bytes hold, and the elements.
#[inline(always)]
fn packed(bytes: &[u8]) -> (usize, &[u8]) {
    match bytes {
        [low, high, items @ ..] if (*low, *high) != (0, 0) => {
            (usize::from(u16::from_le_bytes([*low, *high])), items)
        }
        _ => (0, b""),
    }
}

/// Where a packed element stands.
fn packed_place(items: &[u8], index: usize) -> usize {
    (0..index).fold(0, |at, _| at + item::len_at(items, at))
}

impl<'a> ListRef<'a> {
    /// A packed list.
    pub fn packed(bytes: &'a [u8]) -> ListRef<'a> {
        ListRef::Packed(bytes)
    }

    /// Number of elements.
    #[inline(always)]
    pub fn len(self) -> usize {
        match self {
            ListRef::Packed(bytes) => packed(bytes).0,
            ListRef::Sequence(list) => list.len(),
        }
    }

    /// Whether it has no element.
    #[inline(always)]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The index that a client means by a number, which counts from the end if it is negative.
    pub fn index(self, number: i64) -> Option<usize> {
        let len = self.len();
        let index = if number < 0 { number.checked_add_unsigned(len as u64)? } else { number };
        usize::try_from(index).ok().filter(|index| *index < len)
    }

    /// Which elements a client means by two numbers, of which the second is that of the last.
    pub fn range(self, first: i64, last: i64) -> Range<usize> {
        let len = self.len() as i64;
        let index = |number: i64| if number < 0 { number.saturating_add(len).max(0) } else { number };
        // A last one that is before the first of all.
        if last < 0 && last.saturating_add(len) < 0 {
            return 0..0;
        }
        let (first, last) = (index(first), index(last).min(len - 1));
        if first > last { 0..0 } else { first as usize..last as usize + 1 }
    }

    /// Shows an element, if there is one at this index.
    #[inline]
    pub fn show<T>(self, index: usize, show: impl FnOnce(Item<'_>) -> T) -> Option<T> {
        match self {
            ListRef::Packed(bytes) => {
                let (len, items) = packed(bytes);
                if index >= len {
                    return None;
                }
                Item::read(&items[packed_place(items, index)..]).map(|(item, _)| show(item))
            }
            ListRef::Sequence(list) => list.show(index, show),
        }
    }

    /// Shows elements of a range, all of which there must be, in order.
    #[inline]
    pub fn show_each(self, range: Range<usize>, mut show: impl FnMut(Item<'_>)) {
        match self {
            ListRef::Packed(bytes) => {
                let (_, items) = packed(bytes);
                let start = packed_place(items, range.start);
                show_each_in(&items[start..], range.len(), &mut show);
            }
            ListRef::Sequence(list) => list.show_each(range, &mut show),
        }
    }

    /// Shows elements of a range, all of which there must be, from the last to the first.
    pub fn show_each_back(self, range: Range<usize>, mut show: impl FnMut(Item<'_>)) {
        match self {
            ListRef::Packed(bytes) => {
                let (_, items) = packed(bytes);
                let mut at = packed_place(items, range.start);
                let mut places = Vec::with_capacity(range.len());
                for _ in range {
                    places.push(at);
                    at += item::len_at(items, at);
                }
                places
                    .iter()
                    .rev()
                    .filter_map(|at| Item::read(&items[*at..]))
                    .for_each(|(item, _)| show(item));
            }
            ListRef::Sequence(list) => list.show_each_back(range, &mut show),
        }
    }

    /// Tells where an element stands in a range, seen from an end, until it has heard enough.
    pub fn find(
        self,
        text: &[u8],
        range: Range<usize>,
        end: End,
        mut found: impl FnMut(usize) -> ControlFlow<()>,
    ) {
        let item = Encoded::of(text);
        // That it has heard enough is no news to who said so.
        let _ = match self {
            ListRef::Packed(bytes) => {
                let places = packed_matches(packed(bytes).1, &item);
                let mut indices = places.into_iter().map(|(index, _)| index).filter(|at| range.contains(at));
                match end {
                    End::Left => indices.try_for_each(&mut found),
                    End::Right => indices.rev().try_for_each(&mut found),
                }
            }
            ListRef::Sequence(list) => list.find(&Wanted::new(item), range, end, &mut found),
        };
    }
}

/// Index and place of each packed element that is the same as another.
fn packed_matches(items: &[u8], item: &Encoded<'_>) -> Vec<(usize, usize)> {
    let (mut matches, mut index, mut at) = (Vec::new(), 0, 0);
    while at < items.len() {
        if item.is_at(&items[at..]) {
            matches.push((index, at));
        }
        at += item::len_at(items, at);
        index += 1;
    }
    matches
}

impl Edit<'_, List> {
    /// Adds an element at an end.
    #[inline]
    pub fn push(&mut self, end: End, text: &[u8]) {
        let item = Encoded::of(text);
        let limits = self.limits().list;
        if let ListRef::Packed(bytes) = self.view() {
            let (len, items) = packed(bytes);
            if fits_packed(len + 1, items.len() + item.len(), &item, limits) {
                let at = match end {
                    End::Left => 0,
                    End::Right => items.len(),
                };
                return self.splice(at, 0, Some(&item), len + 1);
            }
            self.unpack();
        }
        if let Some(list) = self.sequence() {
            list.push(end, &item, limits);
        }
    }

    /// Removes the element at an end; there must be one.
    #[inline]
    pub fn pop(&mut self, end: End) {
        match self.view() {
            ListRef::Packed(bytes) => {
                let (len, items) = packed(bytes);
                let at = match end {
                    End::Left => 0,
                    End::Right => packed_place(items, len.saturating_sub(1)),
                };
                let removed = items.len().min(item::len_at(items, at));
                self.splice(at, removed, None, len - 1);
            }
            ListRef::Sequence(list) => {
                let len = list.len();
                if list.is_heavy(end) {
                    // Alone in its chunk, which goes as a whole.
                    return self.remove(if end == End::Left { 0..1 } else { len - 1..len });
                }
                let limits = self.limits().list;
                if let Some(list) = self.sequence() {
                    list.pop(end, limits);
                }
                self.repack();
            }
        }
    }

    /// Puts an element before the one at an index, or behind the last one for their number.
    pub fn insert(&mut self, index: usize, text: &[u8]) {
        let item = Encoded::of(text);
        let limits = self.limits().list;
        if let ListRef::Packed(bytes) = self.view() {
            let (len, items) = packed(bytes);
            if fits_packed(len + 1, items.len() + item.len(), &item, limits) {
                return self.splice(packed_place(items, index), 0, Some(&item), len + 1);
            }
            self.unpack();
        }
        if let Some(list) = self.sequence() {
            list.insert(index, &item, limits);
        }
    }

    /// Puts an element in the place of another.
    pub fn replace(&mut self, index: usize, text: &[u8]) {
        let item = Encoded::of(text);
        let limits = self.limits().list;
        if let ListRef::Packed(bytes) = self.view() {
            let (len, items) = packed(bytes);
            let at = packed_place(items, index);
            let before = item::len_at(items, at);
            if fits_packed(len, items.len() + item.len() - before, &item, limits) {
                return self.splice(at, before, Some(&item), len);
            }
            self.unpack();
        }
        if let Some(gone) = self.sequence().map(|list| list.replace(index, &item, limits)) {
            self.discard(gone);
        }
    }

    /// Lets go of what was cut off: on a worker if it takes long.
    fn discard(&mut self, gone: Gone) {
        let bytes = gone.memory();
        if Object::effort_of(gone.free_effort(), bytes) > Object::FREE_EFFORT_INLINE_MAX {
            self.discard_parts(gone, bytes);
        }
    }

    /// Removes the elements of a range, all of which there must be.
    pub fn remove(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        match self.view() {
            ListRef::Packed(bytes) => {
                let (len, items) = packed(bytes);
                let (start, end) = (packed_place(items, range.start), packed_place(items, range.end));
                self.splice(start, end - start, None, len - range.len());
            }
            ListRef::Sequence(_) => {
                let limits = self.limits().list;
                let Some(gone) = self.sequence().map(|list| list.remove(range, limits)) else { return };
                self.discard(gone);
                self.repack();
            }
        }
    }

    /// Removes at most `most` elements that are the same as another, beginning at an end. Says how many.
    pub fn remove_same(&mut self, text: &[u8], most: usize, end: End) -> usize {
        let item = Encoded::of(text);
        match self.view() {
            ListRef::Packed(bytes) => {
                let (len, items) = packed(bytes);
                let mut matches = packed_matches(items, &item);
                match end {
                    End::Left => matches.truncate(most),
                    End::Right => drop(matches.drain(..matches.len().saturating_sub(most))),
                }
                for (removed, &(_, at)) in matches.iter().rev().enumerate() {
                    self.splice(at, item.len(), None, len - removed - 1);
                }
                matches.len()
            }
            ListRef::Sequence(list) => {
                let wanted = Wanted::new(item);
                // Looked up first: what changes nothing is no edit.
                let any = list.find(&wanted, 0..list.len(), end, &mut |_| ControlFlow::Break(()));
                if any.is_continue() {
                    return 0;
                }
                let limits = self.limits().list;
                let removed = self.sequence().map_or(0, |list| list.remove_same(&wanted, most, end, limits));
                self.repack();
                removed
            }
        }
    }

    fn sequence(&mut self) -> Option<&mut Sequence> {
        match self.open().object_mut() {
            Some(Object::List(list)) => Some(list),
            _ => None,
        }
    }

    /// Replaces bytes among packed elements, of which there are `len` then.
    #[inline]
    fn splice(&mut self, at: usize, removed: usize, item: Option<&Encoded<'_>>, len: usize) {
        const SHORT_LEN_MAX: usize = 128;
        let entry = self.open();
        // It has at most 128 elements.
        let count = (len as u16).to_le_bytes();
        match entry.bytes_mut() {
            // The key is about to go: only the number is read from now on.
            Some([low, high, ..]) if len == 0 => return [*low, *high] = count,
            Some([low, high, ..]) if (*low, *high) != (0, 0) => [*low, *high] = count,
            Some(rest) => {
                let left = rest.len();
                entry.splice(0, left, &count);
            }
            None => return,
        }
        let at = COUNT_LEN + at;
        match item {
            None => entry.splice(at, removed, b""),
            Some(item) if item.len() <= SHORT_LEN_MAX => {
                let mut bytes = [0; SHORT_LEN_MAX];
                item.write(&mut bytes);
                entry.splice(at, removed, &bytes[..item.len()]);
            }
            Some(item) => {
                let mut bytes = Vec::with_capacity(item.len());
                item.push_to(&mut bytes);
                entry.splice(at, removed, &bytes);
            }
        }
    }

    #[cold]
    fn unpack(&mut self) {
        let ListRef::Packed(bytes) = self.view() else { return };
        let list = Sequence::from_bytes(packed(bytes).1);
        self.set_value(NewValue::Object(Box::new(Object::List(list))));
    }

    /// A list that has become small is packed again, when it is half as large as a packed one may be.
    #[inline(always)]
    fn repack(&mut self) {
        const SHARE: usize = 2;
        let ListRef::Sequence(list) = self.view() else { return };
        let Some(items) = list.only_chunk() else { return };
        let (len, size) = (list.len(), items.len());
        let limits = self.limits().list;
        let is_small = |limits: ChunkLimits| limits.fit(len * SHARE, size * SHARE);
        if len == 0 || !is_small(limits) || !is_small(PACKED_LIMITS) || size >= limits.alone_len as usize {
            return;
        }
        let bytes = pack(len, items);
        self.set_value(NewValue::Bytes(Kind::PackedList, &bytes));
    }
}

/// A packed list of elements that fit.
pub(super) fn pack(len: usize, items: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(COUNT_LEN + items.len());
    bytes.extend_from_slice(&(len as u16).to_le_bytes());
    bytes.extend_from_slice(items);
    bytes
}

/// Whether so many elements of so many bytes stay packed, and the one that comes with them.
#[inline(always)]
pub(super) fn fits_packed(len: usize, bytes: usize, item: &Encoded<'_>, limits: ChunkLimits) -> bool {
    limits.fit(len, bytes) && PACKED_LIMITS.fit(len, bytes) && limits.is_short(item)
}
