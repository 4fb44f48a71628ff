//! Consumer groups: how far each has come, and what was delivered to whom and not acknowledged yet.
//!
//! What is pending stands with the group by id, and once more with whom it was delivered to. A consumer that is removed
//! leaves with its part at once, however much that is; the group forgets its entries little by little, and until then
//! goes by what its consumers have.

use std::borrow::Borrow;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::iter::Peekable;
use std::ops::{AddAssign, SubAssign};

use triomphe::{Arc, ThinArc};

use super::id::StreamId;
use super::owed::Owed;
use crate::types::ordered::{Iter, Ordered, Total, Value};

/// The name of a group or consumer. Cloning shares it.
#[derive(Clone)]
pub struct Name(ThinArc<(), u8>);

impl Name {
    /// A name.
    pub fn new(name: &[u8]) -> Name {
        Name(ThinArc::from_header_and_slice((), name))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    /// Whether both are the name of the same one, and not only alike: a consumer may be removed, and come again.
    fn is_of_same(&self, other: &Name) -> bool {
        std::ptr::eq(self.bytes(), other.bytes())
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self.bytes()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        self.bytes().cmp(other.bytes())
    }
}

/// An entry that was delivered and not acknowledged.
#[derive(Clone)]
pub struct Pending {
    /// To whom it was delivered last; none if it was released since.
    pub consumer: Option<Name>,
    /// When: Unix milliseconds; of what was released, its place among that.
    pub delivered_ms: i64,
    /// How often.
    pub deliveries: u64,
}

impl Pending {
    /// The name of whom it was delivered to last, or none.
    pub fn consumer_name(&self) -> &[u8] {
        self.consumer.as_ref().map_or(b"", Name::bytes)
    }

    /// When it was delivered last, in Unix milliseconds: at no time if it was released.
    pub fn shown_ms(&self) -> i64 {
        self.consumer.as_ref().map_or(0, |_| self.delivered_ms)
    }

    /// For how long it has been pending to its consumer, in milliseconds; -1 if it was released.
    pub fn idle_ms(&self, now_ms: i64) -> i64 {
        self.consumer.as_ref().map_or(-1, |_| now_ms.saturating_sub(self.delivered_ms).max(0))
    }

    /// Whether it has been pending to its consumer for so long. What was released is waited for no longer.
    pub fn is_idle_for(&self, min_ms: i64, now_ms: i64) -> bool {
        self.consumer.is_none() || now_ms.saturating_sub(self.delivered_ms) >= min_ms
    }
}

impl Value for Pending {
    type Total = usize;

    fn total(&self) -> usize {
        1
    }
}

/// A consumer of a group.
#[derive(Clone)]
pub struct Consumer {
    /// When it was last heard of: Unix milliseconds.
    pub seen_ms: i64,
    /// When it last read or claimed something: Unix milliseconds.
    pub active_ms: Option<i64>,
    /// What was delivered to it and not acknowledged; the group knows the rest.
    pub pending: Owed,
}

/// What consumers add up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Owing {
    /// How many they are.
    pub consumers: usize,
    /// What is pending to them.
    pub pending: usize,
}

impl AddAssign for Owing {
    fn add_assign(&mut self, other: Owing) {
        self.consumers += other.consumers;
        self.pending += other.pending;
    }
}

impl SubAssign for Owing {
    fn sub_assign(&mut self, other: Owing) {
        self.consumers -= other.consumers;
        self.pending -= other.pending;
    }
}

impl Total for Owing {
    fn items(self) -> usize {
        self.consumers
    }
}

impl Value for Arc<Consumer> {
    type Total = Owing;

    fn total(&self) -> Owing {
        Owing { consumers: 1, pending: self.pending.len() }
    }
}

/// A group of consumers.
#[derive(Clone)]
pub struct Group {
    /// The last entry that was delivered.
    pub last_id: StreamId,
    /// How many entries of the stream it has come past, if that is known.
    pub entries_read: Option<u64>,
    /// What was delivered and not acknowledged; with it, what still stands here of consumers that are gone.
    pending: Ordered<StreamId, Pending>,
    /// Consumers by name.
    pub consumers: Ordered<Name, Arc<Consumer>>,
    /// When the oldest was delivered of what is pending to each consumer.
    oldest: Ordered<(i64, Name), ()>,
    /// What was released: it is pending to nobody.
    released: Owed,
    /// The place of what is released next.
    release: i64,
    /// Consumers that are gone, with what is still to be forgotten.
    gone: Vec<Gone>,
}

impl Value for Arc<Group> {
    type Total = usize;

    fn total(&self) -> usize {
        1
    }
}

/// What is left of a consumer that was removed: a worker is to free it if it is much.
pub(super) struct Removed {
    /// How much was pending to it.
    pub(super) pending: usize,
    /// Whether it takes long to free it.
    pub(super) is_much: bool,
    /// Kept to be freed.
    _parts: (Arc<Consumer>, Ordered<StreamId, Pending>, Vec<Gone>),
}

/// A consumer that is gone, and what is still to be forgotten of it.
type Gone = (Name, Ordered<StreamId, ()>);

impl Group {
    /// A group that goes on behind an id.
    pub fn new(last_id: StreamId, entries_read: Option<u64>) -> Group {
        Group {
            last_id,
            entries_read,
            pending: Ordered::default(),
            consumers: Ordered::default(),
            oldest: Ordered::default(),
            released: Owed::default(),
            release: i64::MIN,
            gone: Vec::new(),
        }
    }

    /// How many entries are pending.
    pub fn len(&self) -> usize {
        self.consumers.total().pending + self.released.len()
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was released, and is pending to nobody, in the order in which it was.
    pub fn released(&self) -> impl Iterator<Item = StreamId> {
        self.released.by_age(&self.pending).map(|(_, id)| id)
    }

    /// How much was released and is pending to nobody.
    pub fn released_len(&self) -> usize {
        self.released.len()
    }

    /// How many steps it takes to free it, about.
    pub fn free_effort(&self) -> usize {
        self.pending.len() + self.consumers.len()
    }

    /// What is known of an entry that is pending.
    pub fn get(&self, id: &StreamId) -> Option<&Pending> {
        self.pending.get(id).filter(|pending| self.is_there(pending))
    }

    /// Whether an entry is pending.
    pub fn contains(&self, id: &StreamId) -> bool {
        self.get(id).is_some()
    }

    /// The lowest and the highest id that are pending.
    pub fn ends(&self) -> Option<(StreamId, StreamId)> {
        if self.gone.is_empty() {
            return Some((*self.pending.first()?.0, *self.pending.last()?.0));
        }
        let all = self.consumers.iter().map(|(_, consumer)| &consumer.pending);
        let ends = all.chain([&self.released]).filter_map(Owed::ends);
        ends.reduce(|(first, last), (low, high)| (first.min(low), last.max(high)))
    }

    /// What is pending, by id.
    pub fn iter(&self) -> ById<'_> {
        self.up_from(&StreamId::MIN)
    }

    /// What is pending, by id, from one on.
    pub fn up_from(&self, from: &StreamId) -> ById<'_> {
        if self.gone.is_empty() {
            return ById::Whole(self.pending.up_from(from));
        }
        // What the group has itself may be mostly of consumers that are gone: what there is, the others know.
        let all = self.consumers.iter().map(|(_, consumer)| &consumer.pending);
        let (mut parts, mut heads) = (Vec::new(), BinaryHeap::new());
        for owed in all.chain([&self.released]) {
            let mut part: Box<dyn Iterator<Item = StreamId>> = Box::new(owed.up_from(*from));
            heads.extend(part.next().map(|id| Reverse((id, parts.len()))));
            parts.push(part);
        }
        ById::Merged { group: self, parts, heads }
    }

    /// What is pending: first what was released, in that order, then what was delivered longest ago.
    pub fn by_age(&self) -> ByAge<'_> {
        ByAge {
            group: self,
            released: Box::new(self.released.by_age(&self.pending)),
            oldest: self.oldest.iter().peekable(),
            parts: Vec::new(),
            heads: BinaryHeap::new(),
        }
    }

    /// Bytes on the heap, about: nobody is asked one by one.
    pub fn memory(&self) -> usize {
        /// A name, with what counts its references.
        const OF_A_NAME: usize = 48;
        const OF_A_CONSUMER: usize = size_of::<Consumer>() + size_of::<usize>() + OF_A_NAME;
        // What is pending in the group stands once more with the consumers.
        let with_consumers = self.consumers.total().pending * size_of::<StreamId>() * 5 / 4;
        size_of::<Group>()
            + self.pending.memory()
            + with_consumers
            + self.released.memory()
            + self.consumers.memory()
            + self.oldest.memory()
            + self.consumers.len() * OF_A_CONSUMER
            + self.gone.iter().map(|(_, ids)| ids.memory()).sum::<usize>()
    }

    /// The consumer of this name, who is heard of now and comes into being if there is none. True: it did.
    pub(super) fn hear_of(&mut self, consumer: &[u8], now_ms: i64) -> (Name, bool) {
        const FORGOTTEN: usize = 256;
        self.forget(FORGOTTEN);
        if let Some(name) = self.name_of(consumer).cloned() {
            self.consumers.change(consumer, |consumer| Arc::make_mut(consumer).seen_ms = now_ms);
            return (name, false);
        }
        let name = Name::new(consumer);
        let consumer = Consumer { seen_ms: now_ms, active_ms: None, pending: Owed::default() };
        self.consumers.insert(name.clone(), Arc::new(consumer));
        (name, true)
    }

    /// A consumer reads or claims something now.
    pub(super) fn note_active(&mut self, consumer: &Name, now_ms: i64) {
        let note = |consumer: &mut Arc<Consumer>| Arc::make_mut(consumer).active_ms = Some(now_ms);
        self.consumers.change(consumer.bytes(), note);
    }

    /// Removes a consumer with all that is pending to it.
    pub(super) fn remove_consumer(&mut self, consumer: &[u8]) -> Option<Removed> {
        /// So many are forgotten at once.
        const FEW: usize = 64;
        let name = self.name_of(consumer)?.clone();
        let consumer = self.consumers.remove(name.bytes())?;
        if let Some(ms) = consumer.pending.oldest_ms() {
            self.oldest.remove(&(ms, name.clone()));
        }
        let pending = consumer.pending.len();
        let (mut all, mut gone) = (Ordered::default(), Vec::new());
        if pending <= FEW {
            consumer.pending.iter().for_each(|id| _ = self.pending.remove(&id));
        } else if self.is_empty() {
            (all, gone) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.gone));
        } else {
            self.gone.push((name, consumer.pending.clone().into_ids()));
        }
        Some(Removed { pending, is_much: pending > FEW, _parts: (consumer, all, gone) })
    }

    /// Makes an entry pending, to whom it says, whosever it was before.
    pub(super) fn give(&mut self, id: StreamId, pending: Pending) {
        self.forget(FORGOTTEN_WITH_EACH);
        let (consumer, ms) = (pending.consumer.clone(), pending.delivered_ms);
        let before = self.pending.insert(id, pending);
        match before.filter(|before| self.is_there(before)) {
            Some(before) if before.consumer == consumer && before.delivered_ms == ms => return,
            Some(before) => {
                let remove = |owed: &mut Owed| owed.remove(id, before.delivered_ms);
                self.change_owed(before.consumer.as_ref(), remove);
            }
            None => {}
        }
        self.change_owed(consumer.as_ref(), |owed| owed.insert(id, ms));
    }

    /// Makes an entry pending to nobody, behind all that are so already.
    pub(super) fn release(&mut self, id: StreamId, deliveries: u64) {
        let delivered_ms = self.release;
        self.release += 1;
        self.give(id, Pending { consumer: None, delivered_ms, deliveries });
    }

    /// Makes an entry pending no longer; false if it was not.
    pub(super) fn acknowledge(&mut self, id: StreamId) -> bool {
        self.forget(FORGOTTEN_WITH_EACH);
        if !self.contains(&id) {
            return false;
        }
        let Some(pending) = self.pending.remove(&id) else { return false };
        self.change_owed(pending.consumer.as_ref(), |owed| owed.remove(id, pending.delivered_ms));
        true
    }

    /// The name of a consumer as it has it itself.
    fn name_of(&self, consumer: &[u8]) -> Option<&Name> {
        self.consumers.floor(consumer).map(|(name, _)| name).filter(|name| name.bytes() == consumer)
    }

    /// Whether an entry is pending to somebody who is there, or to nobody.
    fn is_there(&self, pending: &Pending) -> bool {
        let Some(consumer) = pending.consumer.as_ref().filter(|_| !self.gone.is_empty()) else {
            return true;
        };
        self.name_of(consumer.bytes()).is_some_and(|name| name.is_of_same(consumer))
    }

    /// Changes what is pending to a consumer, or to nobody.
    fn change_owed(&mut self, consumer: Option<&Name>, change: impl FnOnce(&mut Owed)) {
        let Some(consumer) = consumer else { return change(&mut self.released) };
        let oldest = self.consumers.change(consumer.bytes(), |consumer| {
            let owed = &mut Arc::make_mut(consumer).pending;
            let before = owed.oldest_ms();
            change(owed);
            (before, owed.oldest_ms())
        });
        let Some((before, after)) = oldest.filter(|(before, after)| before != after) else { return };
        if let Some(ms) = before {
            self.oldest.remove(&(ms, consumer.clone()));
        }
        if let Some(ms) = after {
            self.oldest.insert((ms, consumer.clone()), ());
        }
    }

    /// Whether it still knows of something that was pending to a consumer that is gone.
    pub(super) fn remembers_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Forgets some of what was pending to consumers that are gone.
    pub(super) fn forget(&mut self, mut most: usize) {
        while most > 0
            && let Some((name, ids)) = self.gone.last_mut()
        {
            let some: Vec<StreamId> = ids.iter().take(most).map(|(id, ())| *id).collect();
            for id in &some {
                let is_theirs =
                    |pending: &Pending| pending.consumer.as_ref().is_some_and(|of| of.is_of_same(name));
                if self.pending.get(id).is_some_and(is_theirs) {
                    self.pending.remove(id);
                }
            }
            most -= some.len();
            match some.last().and_then(|last| last.next()) {
                Some(next) if some.len() < ids.len() => ids.cut_front(&next),
                _ => _ = self.gone.pop(),
            }
        }
    }
}

/// How many entries of consumers that are gone are forgotten with each that is given or acknowledged.
const FORGOTTEN_WITH_EACH: usize = 8;

/// What is pending in a group, by id. See [`Group::up_from`].
pub enum ById<'a> {
    /// As the group has it.
    Whole(Iter<'a, StreamId, Pending>),
    /// As its consumers have it.
    Merged {
        /// The group.
        group: &'a Group,
        /// What each has that has not been looked at.
        parts: Vec<Box<dyn Iterator<Item = StreamId> + 'a>>,
        /// The next of each.
        heads: BinaryHeap<Reverse<(StreamId, usize)>>,
    },
}

impl<'a> Iterator for ById<'a> {
    type Item = (StreamId, &'a Pending);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            ById::Whole(all) => all.next().map(|(id, pending)| (*id, pending)),
            ById::Merged { group, parts, heads } => {
                let Reverse((id, at)) = heads.pop()?;
                heads.extend(parts[at].next().map(|id| Reverse((id, at))));
                Some((id, group.pending.get(&id)?))
            }
        }
    }
}

/// What is pending in a group, the oldest first. See [`Group::by_age`].
pub struct ByAge<'a> {
    group: &'a Group,
    released: Aged<'a>,
    /// Consumers that have not been asked.
    oldest: Peekable<Iter<'a, (i64, Name), ()>>,
    parts: Vec<Aged<'a>>,
    /// The next of each that was asked.
    heads: BinaryHeap<Reverse<(i64, StreamId, usize)>>,
}

type Aged<'a> = Box<dyn Iterator<Item = (i64, StreamId)> + 'a>;

impl<'a> Iterator for ByAge<'a> {
    type Item = (StreamId, &'a Pending);

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.group;
        if let Some((_, id)) = self.released.next() {
            return Some((id, group.pending.get(&id)?));
        }
        let known = |heads: &BinaryHeap<Reverse<(i64, StreamId, usize)>>| {
            heads.peek().map_or(i64::MAX, |Reverse((ms, ..))| *ms)
        };
        while let Some(((_, name), ())) = self.oldest.next_if(|((ms, _), ())| *ms <= known(&self.heads)) {
            let Some(consumer) = group.consumers.get(name.bytes()) else { continue };
            let mut part: Aged<'a> = Box::new(consumer.pending.by_age(&group.pending));
            let at = self.parts.len();
            self.heads.extend(part.next().map(|(ms, id)| Reverse((ms, id, at))));
            self.parts.push(part);
        }
        let Reverse((_, id, at)) = self.heads.pop()?;
        self.heads.extend(self.parts[at].next().map(|(ms, id)| Reverse((ms, id, at))));
        Some((id, group.pending.get(&id)?))
    }
}
