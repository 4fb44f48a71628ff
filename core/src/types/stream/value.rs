//! What a stream is: chunks of entries in order of their ids, what it knows about them, and its consumer groups.

use mortise_sdk::args::Arguments;
use triomphe::Arc;

use super::bytes::{Bytes, SLAB_LEN_MAX, SLAB_PARTS_MAX, Slab};
use super::chunk::{Chunk, Entry, Node, Weight};
use super::group::{Group, Name};
use super::id::{NewId, StreamId};
use super::idempotence::{Idempotence, Memory};
use super::references::References;
use crate::engine::edit::Limits;
use crate::engine::event::{self, EventClass};
use crate::keyspace::entry::{Entry as KeyEntry, NewValue, Payload};
use crate::types::ordered::{Iter, Ordered, Value};
use crate::types::{Object, Type};

/// A stream. `Clone` shares what is large.
#[derive(Clone, Default)]
pub struct Stream {
    pub(super) chunks: Ordered<StreamId, Arc<Chunk>>,
    last_id: StreamId,
    first_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    /// The last node, if it is known and of several chunks.
    spread: Option<Node>,
    /// Bytes of full chunks that do not share their place with others yet.
    loose: usize,
    pub(super) groups: Ordered<Name, Arc<Group>>,
    /// If something was set of it, or an entry ever came with a name.
    idempotence: Option<Box<Idempotence>>,
}

impl Type for Stream {
    type View<'a> = &'a Stream;
    const CLASS: EventClass = event::STREAM;

    fn view(entry: &KeyEntry) -> Option<&Stream> {
        match entry.payload() {
            Payload::Object(Object::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    fn empty() -> NewValue<'static> {
        NewValue::Object(Box::new(Object::Stream(Box::default())))
    }

    /// A stream stays without entries, too.
    fn is_gone(_: &Stream) -> bool {
        false
    }
}

/// Up to where a stream is trimmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrimTo {
    /// So many entries stay.
    Len(u64),
    /// Entries with a lower id go.
    Id(StreamId),
}

/// How a stream is trimmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trim {
    /// Up to where.
    pub to: TrimTo,
    /// Only what can be removed as whole nodes.
    pub approximate: bool,
    /// Not more entries than this, unless 0.
    pub limit: u64,
    /// What becomes of references to what goes.
    pub references: References,
}

/// Entries in order or against it. See [`Stream::range`].
pub struct Range<'a> {
    chunks: Iter<'a, StreamId, Arc<Chunk>>,
    here: Here<'a>,
    from: StreamId,
    to: StreamId,
}

enum Here<'a> {
    Up(Option<super::chunk::Entries<'a>>),
    /// What is left of a chunk, the next entry last.
    Down(Vec<Entry<'a>>),
}

impl<'a> Iterator for Range<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (from, to) = (self.from, self.to);
        match &mut self.here {
            Here::Up(entries) => loop {
                if let Some(entry) = entries.as_mut().and_then(|entries| entries.find(|e| e.id() >= from)) {
                    return (entry.id() <= to).then_some(entry);
                }
                let (first, chunk) = self.chunks.next()?;
                if *first > to {
                    return None;
                }
                *entries = Some(chunk.entries());
            },
            Here::Down(entries) => loop {
                if let Some(entry) = entries.pop() {
                    return (entry.id() >= from).then_some(entry);
                }
                let (_, chunk) = self.chunks.next()?;
                if chunk.last_ever() < from {
                    return None;
                }
                entries.extend(chunk.entries().take_while(|entry| entry.id() <= to));
            },
        }
    }
}

impl Stream {
    /// The most bytes of fields and values that an entry may have.
    pub const ENTRY_LEN_MAX: usize = 1 << 30;

    /// Number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.chunks.total().entries
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of the last entry that ever was, or the one that was set.
    #[inline]
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// The id of the first entry.
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// The highest id that was deleted.
    pub fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }

    /// How many entries there ever were.
    pub fn entries_added(&self) -> u64 {
        self.entries_added
    }

    /// Consumer groups by name.
    pub fn groups(&self) -> &Ordered<Name, Arc<Group>> {
        &self.groups
    }

    /// A consumer group.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name).map(|group| &**group)
    }

    /// What it remembers of entries that are added only once, if there ever were such.
    pub fn idempotence(&self) -> Option<&Idempotence> {
        self.idempotence.as_deref()
    }

    /// The same, to be changed.
    pub(super) fn idempotence_mut(&mut self) -> &mut Idempotence {
        self.idempotence.get_or_insert_default()
    }

    /// Sets how long and how much it remembers. Returns what it remembered, which is forgotten.
    pub(super) fn set_memory(&mut self, memory: Memory) -> Option<Box<Idempotence>> {
        let before = self.idempotence.take();
        *self.idempotence_mut() = Idempotence::new(memory, before.as_deref());
        before
    }

    /// A group forgets some of what was pending to consumers that are gone; false if nothing is left of that. Nobody can
    /// tell.
    pub fn forget_pending(&mut self, group: &[u8], most: usize) -> bool {
        if !self.group(group).is_some_and(Group::remembers_gone) {
            return false;
        }
        let forget = |group: &mut Arc<Group>| {
            let group = Arc::make_mut(group);
            group.forget(most);
            group.remembers_gone()
        };
        self.groups.change(group, forget).unwrap_or_default()
    }

    /// What its chunks add up to.
    pub fn weight(&self) -> Weight {
        self.chunks.total()
    }

    /// Bytes on the heap, about: of many groups only some are asked.
    pub fn memory(&self) -> usize {
        const ASKED: usize = 32;
        let asked = self.groups.iter().take(ASKED);
        let groups: usize = asked.map(|(name, group)| name.bytes().len() + 32 + group.memory()).sum();
        size_of::<Stream>()
            + self.chunks.total().bytes
            + self.chunks.memory()
            + self.groups.memory()
            + self.idempotence().map_or(0, Idempotence::bytes)
            + groups * self.groups.len() / self.groups.len().clamp(1, ASKED)
    }

    /// All that there is to see of it but for the times at which consumers were heard of: what comparisons go by.
    pub fn picture(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!(
            "last {} first {} deleted {} added {}\n",
            self.last_id, self.first_id, self.max_deleted_id, self.entries_added
        );
        // Writing to a string cannot fail.
        for entry in self.iter() {
            let _ = writeln!(text, "{} {:?}", entry.id(), entry.pairs().collect::<Vec<_>>());
        }
        for (name, group) in self.groups.iter() {
            let read = group.entries_read;
            let _ = writeln!(text, "group {:?} behind {} read {read:?}", name.bytes(), group.last_id);
            for (name, consumer) in group.consumers.iter() {
                let _ = writeln!(text, "{:?} {}", name.bytes(), consumer.pending.len());
            }
            for (id, pending) in group.iter() {
                let (name, ms) = (pending.consumer_name(), pending.shown_ms());
                let _ = writeln!(text, "{id} {name:?} {ms} {}", pending.deliveries);
            }
        }
        text
    }

    /// The nodes that Redis would have: entries, the same with deleted ones, and bytes.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> Vec<(u64, u64, u64)> {
        let mut nodes: Vec<Node> = Vec::new();
        for (_, chunk) in self.chunks.iter() {
            if chunk.opens() {
                nodes.push(Node::default());
            }
            nodes.last_mut().expect("the first chunk opens a node").add(chunk);
        }
        nodes.iter().map(|node| (node.live, node.ever, node.size)).collect()
    }

    /// How many steps it takes to free it, about.
    pub fn free_effort(&self) -> usize {
        /// A group may be large, which nobody looks at here.
        const OF_A_GROUP: usize = 64;
        let remembered = self.idempotence().map_or(0, |known| known.tracked().entries);
        self.chunks.len() + self.groups.len() * OF_A_GROUP + remembered
    }

    /// Entries of ids between two, both included, upwards or downwards.
    pub fn range(&self, from: StreamId, to: StreamId, reverse: bool) -> Range<'_> {
        if reverse {
            let chunks = self.chunks.down_from(&to);
            return Range { chunks, here: Here::Down(Vec::new()), from, to };
        }
        let begin = self.chunks.floor(&from).map_or(from, |(first, _)| *first);
        Range { chunks: self.chunks.up_from(&begin), here: Here::Up(None), from, to }
    }

    /// All entries.
    pub fn iter(&self) -> Range<'_> {
        self.range(StreamId::MIN, StreamId::MAX, false)
    }

    /// An entry.
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.chunks.floor(&id)?.1.find(id)
    }

    /// How many bytes are freed if an entry goes, about; none if there is no such entry.
    pub(super) fn bytes_of(&self, id: StreamId) -> Option<usize> {
        let (_, chunk) = self.chunks.floor(&id)?;
        chunk.find(id)?;
        // Among others nothing is freed.
        Some(if chunk.len() == 1 { Value::total(chunk).bytes } else { 0 })
    }

    /// The id of the last entry that is there.
    #[inline]
    pub fn last_entry_id(&self) -> Option<StreamId> {
        self.chunks.last().map(|(_, chunk)| chunk.last())
    }

    /// Whether there is an entry behind an id.
    pub fn has_after(&self, id: StreamId) -> bool {
        self.last_entry_id().is_some_and(|last| last > id)
    }

    /// How many entries are between two ids, both included.
    pub fn count(&self, from: StreamId, to: StreamId) -> usize {
        let to = to.next().map_or(self.len(), |next| self.count_below(next));
        to.saturating_sub(self.count_below(from))
    }

    fn count_below(&self, id: StreamId) -> usize {
        let Some((first, chunk)) = self.chunks.floor(&id) else { return 0 };
        let within = chunk.entries().take_while(|entry| entry.id() < id).count();
        self.chunks.total_below(first).entries + within
    }

    /// Whether an entry was deleted that is not before this one.
    fn has_holes_from(&self, id: StreamId) -> bool {
        let deleted = self.max_deleted_id;
        !self.is_empty() && deleted != StreamId::MIN && self.first_id <= deleted && id <= deleted
    }

    /// How many entries there ever were up to an id, if that can be told.
    pub fn entries_up_to(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if (self.is_empty() && id <= self.last_id) || id == self.last_id {
            return Some(self.entries_added);
        }
        if id > self.last_id {
            return None;
        }
        if self.max_deleted_id == StreamId::MIN || self.max_deleted_id < self.first_id {
            let before = self.entries_added.saturating_sub(self.len() as u64);
            if id < self.first_id {
                return Some(before);
            }
            if id == self.first_id {
                return Some(before + 1);
            }
        }
        None
    }

    /// How many entries a group has still to read, if that can be told.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        let read = match group.entries_read {
            _ if self.entries_added == 0 => return Some(0),
            Some(read) if !self.has_holes_from(group.last_id) => Some(read),
            _ => self.entries_up_to(group.last_id),
        };
        Some((self.entries_added as i64).wrapping_sub(read? as i64))
    }

    /// What a group's count of entries becomes when it comes past one.
    pub(super) fn entries_read_past(&self, id: StreamId, read: Option<u64>) -> Option<u64> {
        match read {
            Some(read) if !self.has_holes_from(id) => Some(read.saturating_add(1)),
            _ if self.entries_added > 0 => self.entries_up_to(id),
            read => read,
        }
    }

    /// The id that an entry gets; `None` if it would not be above all before.
    pub fn id_of(&self, asked: NewId, now_ms: i64) -> Option<StreamId> {
        let id = match asked {
            NewId::Exactly(id) => id,
            NewId::NextOf(ms) if ms == self.last_id.ms => {
                StreamId { ms, seq: self.last_id.seq.checked_add(1)? }
            }
            NewId::NextOf(ms) => StreamId { ms, seq: 0 },
            NewId::Next => match u64::try_from(now_ms) {
                Ok(ms) if ms > self.last_id.ms => StreamId { ms, seq: 0 },
                _ => self.last_id.next()?,
            },
        };
        (id > self.last_id).then_some(id)
    }

    /// Adds an entry, whose fields and values stand in turn and whose id is above all others.
    pub(super) fn append(&mut self, id: StreamId, pairs: &(impl Arguments + ?Sized), limits: Limits) {
        let len: usize = (0..pairs.count()).map(|index| pairs.at(index).len()).sum();
        let node = self.last_node();
        let node =
            node.filter(|node| !node.is_full(len, limits.stream_node_bytes, limits.stream_node_entries));
        let size = self.place(id, pairs, len + pairs.count(), node);
        // A node that is a chunk keeps count of itself.
        self.spread = match node {
            Some(node) if self.chunks.last().is_some_and(|(_, last)| !last.opens()) => Some(node.with(size)),
            _ => None,
        };
        self.entries_added += 1;
        self.last_id = id;
        if self.len() == 1 {
            self.first_id = id;
        }
    }

    /// Puts an entry into the last chunk, or into a new one; returns the bytes that Redis would need for it.
    fn place(
        &mut self,
        id: StreamId,
        pairs: &(impl Arguments + ?Sized),
        len: usize,
        node: Option<Node>,
    ) -> usize {
        let mut first = id;
        // Whether the entry has its node's fields, where the node is more than a chunk.
        let mut same = None;
        if let Some(node) = node
            && let Some((_, last)) = self.chunks.last()
        {
            first = node.first;
            let has_room = last.has_room(len);
            if !last.opens() || !has_room {
                same = self.chunks.get(&first).map(|opening| opening.has_fields(pairs));
            }
            if has_room {
                let append = |chunk: &mut Arc<Chunk>| Arc::make_mut(chunk).append(id, pairs, first, same);
                return self.chunks.change_last(append).unwrap_or_default();
            }
        }
        self.seal_last();
        let mut chunk = Chunk::new(id, pairs);
        if node.is_none() {
            chunk = chunk.opening();
        }
        let size = chunk.append(id, pairs, first, same);
        self.chunks.insert(id, Arc::new(chunk));
        size
    }

    /// Nothing more comes into the last chunk.
    pub(super) fn seal_last(&mut self) {
        let Some((_, last)) = self.chunks.last() else { return };
        let len = last.loose().map_or(0, <[u8]>::len);
        if self.loose + len > SLAB_LEN_MAX {
            self.put_together();
        }
        self.loose += len;
        // What is full needs no room to grow.
        self.chunks.change_last(|chunk| Arc::make_mut(chunk).seal());
    }

    /// Puts the bytes of chunks in front of the last together that are loose.
    fn put_together(&mut self) {
        let mut left = std::mem::take(&mut self.loose).min(SLAB_LEN_MAX);
        let loose = self.chunks.iter_down().skip(1).take(SLAB_PARTS_MAX).map_while(|(first, chunk)| {
            let bytes = chunk.loose()?;
            left = left.checked_sub(bytes.len())?;
            Some((*first, bytes))
        });
        let mut chunks: Vec<_> = loose.collect();
        chunks.reverse();
        if chunks.len() < 2 {
            return;
        }
        let parts = Bytes::together(chunks.iter().map(|(_, bytes)| *bytes));
        let chunks: Vec<_> = chunks.iter().map(|(first, _)| *first).zip(parts).collect();
        for (first, bytes) in chunks {
            self.chunks.change(&first, |chunk| Arc::make_mut(chunk).settle(bytes));
        }
    }

    /// The node that the next entry comes into, unless that is full.
    #[inline]
    fn last_node(&self) -> Option<Node> {
        let (first, last) = self.chunks.last()?;
        let mut node = Node { first: *first, ..Node::default() };
        if last.opens() {
            node.add(last);
            return Some(node);
        }
        if let Some(spread) = self.spread {
            return Some(spread);
        }
        for (first, chunk) in self.chunks.iter_down() {
            node.first = *first;
            node.add(chunk);
            if chunk.opens() {
                break;
            }
        }
        Some(node)
    }

    /// Deletes an entry; false if there is none.
    pub(super) fn delete(&mut self, id: StreamId) -> bool {
        let Some((first, chunk)) = self.chunks.floor(&id) else { return false };
        let (first, count, slab) = (*first, chunk.len(), chunk.slab());
        if chunk.find(id).is_none() {
            return false;
        }
        self.spread = None;
        if count > 1 {
            self.chunks.change(&first, |chunk| Arc::make_mut(chunk).delete(id));
        } else {
            self.remove_chunk(first);
        }
        if let Some(slab) = slab
            && self.chunks.get(&first).and_then(|chunk| chunk.slab()) != Some(slab)
        {
            self.leave_slab(first, slab);
        }
        self.max_deleted_id = self.max_deleted_id.max(id);
        if id == self.first_id || self.is_empty() {
            self.find_first();
        }
        true
    }

    /// Removes a chunk whose entries are all deleted. The first of a node stays as long as others of it do, as it knows what
    /// the node counts from; what another was of its node goes on in the one before.
    fn remove_chunk(&mut self, first: StreamId) {
        let mut behind = self.chunks.up_from(&first).map(|(_, chunk)| chunk.opens());
        let (opens, goes_on) = (behind.next() == Some(true), behind.next() == Some(false));
        if opens && goes_on {
            self.chunks.change(&first, |chunk| Arc::make_mut(chunk).clear());
            return;
        }
        let Some(gone) = self.chunks.remove(&first).filter(|_| !opens) else { return };
        let Some(before) = self.chunks.floor(&first).map(|(before, _)| *before) else { return };
        let len = self.chunks.change(&before, |chunk| {
            Arc::make_mut(chunk).follow(&gone);
            chunk.len()
        });
        if len == Some(0) && !goes_on {
            self.chunks.remove(&before);
        }
    }

    pub(super) fn find_first(&mut self) {
        self.first_id = self.iter().next().map_or(StreamId::MIN, |entry| entry.id());
    }

    /// Whether anything goes by trimming.
    pub fn is_trimmed_by(&self, trim: Trim) -> bool {
        let exactly = || match trim.to {
            TrimTo::Len(len) => self.len() as u64 > len,
            TrimTo::Id(id) => self.first_id < id,
        };
        let by_nodes = || self.stays(trim) != self.chunks.first().map(|(first, _)| *first);
        !self.is_empty() && if trim.approximate { by_nodes() } else { exactly() }
    }

    /// The first chunk that stays when whole nodes go; none if none does.
    fn stays(&self, trim: Trim) -> Option<StreamId> {
        let most = if trim.limit == 0 { usize::MAX } else { trim.limit as usize };
        let most = match trim.to {
            TrimTo::Len(len) => {
                most.min(self.len().saturating_sub(usize::try_from(len).unwrap_or(usize::MAX)))
            }
            TrimTo::Id(_) => most,
        };
        let mut stays = self.chunks.first_beyond(|total| total.entries <= most);
        if let TrimTo::Id(id) = trim.to {
            let reached = self.chunks.floor(&id).map(|(first, _)| *first).unwrap_or_default();
            let by_id = self.chunks.up_from(&reached).find(|(_, chunk)| chunk.last_ever() >= id);
            stays = match (stays, by_id) {
                (Some(one), Some(other)) => Some(if one.0 < other.0 { one } else { other }),
                (one, other) => one.or(other),
            };
        }
        // The node of a chunk that stays does so as a whole.
        let (first, _) = stays?;
        self.chunks.down_from(first).find(|(_, chunk)| chunk.opens()).map(|(first, _)| *first)
    }

    /// Trims the stream. Says how many entries went; and, if whole nodes did, what there was before: as long as that is
    /// kept, nothing is freed by cutting.
    pub(super) fn trim(&mut self, trim: Trim) -> (usize, Option<Ordered<StreamId, Arc<Chunk>>>) {
        let before = self.len();
        let (stays, mut all) = (self.stays(trim), None);
        if stays != self.chunks.first().map(|(first, _)| *first) {
            all = Some(self.chunks.clone());
            match stays {
                Some(first) => self.chunks.cut_front(&first),
                None => self.chunks = Ordered::default(),
            }
        }
        if !trim.approximate {
            self.trim_entries(trim.to);
        }
        // The first chunk that stays may have left its slab by what went of it.
        let mut front = self.chunks.iter().take(2);
        if let Some((first, slab)) = front.find_map(|(first, chunk)| Some((*first, chunk.slab()?))) {
            self.leave_slab(first, slab);
        }
        self.spread = None;
        self.find_first();
        (before - self.len(), all)
    }

    /// Something of a slab has gone, and the rest stands near a chunk: it leaves the slab once it is less than half, lest
    /// all of that stays for it.
    fn leave_slab(&mut self, near: StreamId, slab: Slab) {
        // Between chunks of a slab there may be some that have left it.
        fn is_near(slab: Slab, chunk: &Chunk) -> bool {
            chunk.slab().is_none_or(|own| own == slab)
        }
        let below = self.chunks.down_from(&near).skip_while(|(first, _)| **first == near);
        let below = below.take(SLAB_PARTS_MAX).take_while(|(_, chunk)| is_near(slab, chunk));
        let above = self.chunks.up_from(&near).take(SLAB_PARTS_MAX);
        let above = above.take_while(|(_, chunk)| is_near(slab, chunk));
        let (mut firsts, mut left) = (Vec::new(), 0);
        for (first, chunk) in below.chain(above).filter(|(_, chunk)| chunk.slab().is_some()) {
            left += chunk.bytes_len();
            if left * 2 >= slab.len {
                return;
            }
            firsts.push(*first);
        }
        for first in firsts {
            self.chunks.change(&first, |chunk| Arc::make_mut(chunk).leave_slab());
        }
    }

    /// Removes what is left to remove from a node that stays.
    fn trim_entries(&mut self, to: TrimTo) {
        loop {
            let Some((first, chunk)) = self.chunks.first_beyond(|total| total.entries == 0) else { return };
            let (first, count) = (*first, chunk.len());
            let rest = match to {
                TrimTo::Len(len) => self.len().saturating_sub(usize::try_from(len).unwrap_or(usize::MAX)),
                TrimTo::Id(id) => chunk.entries().take_while(|entry| entry.id() < id).count(),
            };
            if rest == 0 {
                return;
            }
            if rest < count {
                self.chunks.change(&first, |chunk| Arc::make_mut(chunk).delete_front(rest));
                return;
            }
            self.remove_chunk(first);
        }
    }

    /// Sets what XSETID sets.
    pub(super) fn set_last_id(
        &mut self,
        last_id: StreamId,
        entries_added: Option<u64>,
        max_deleted_id: Option<StreamId>,
    ) {
        self.last_id = last_id;
        self.entries_added = entries_added.unwrap_or(self.entries_added);
        self.max_deleted_id = max_deleted_id.unwrap_or(self.max_deleted_id);
    }
}
