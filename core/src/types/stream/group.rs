//! Consumer groups: how far each has come, and what was delivered to whom and not acknowledged yet.

use std::borrow::Borrow;
use std::cmp::Ordering;

use triomphe::{Arc, ThinArc};

use super::id::StreamId;
use crate::types::ordered::{Ordered, Value};

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
    /// To whom it was delivered last.
    pub consumer: Name,
    /// When: Unix milliseconds.
    pub delivered_ms: i64,
    /// How often.
    pub deliveries: u64,
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
    pub pending: Ordered<StreamId, ()>,
}

impl Value for Arc<Consumer> {
    type Total = usize;

    fn total(&self) -> usize {
        1
    }
}

/// A group of consumers.
#[derive(Clone)]
pub struct Group {
    /// The last entry that was delivered.
    pub last_id: StreamId,
    /// How many entries of the stream it has come past, if that is known.
    pub entries_read: Option<u64>,
    /// What was delivered and not acknowledged.
    pub pending: Ordered<StreamId, Pending>,
    /// Consumers by name.
    pub consumers: Ordered<Name, Arc<Consumer>>,
}

impl Value for Arc<Group> {
    type Total = usize;

    fn total(&self) -> usize {
        1
    }
}

impl Group {
    /// A group that goes on behind an id.
    pub fn new(last_id: StreamId, entries_read: Option<u64>) -> Group {
        Group { last_id, entries_read, pending: Ordered::default(), consumers: Ordered::default() }
    }

    /// Bytes on the heap, about: nobody is asked one by one.
    pub fn memory(&self) -> usize {
        /// A name, with what counts its references.
        const OF_A_NAME: usize = 48;
        const OF_A_CONSUMER: usize = size_of::<Consumer>() + size_of::<usize>() + OF_A_NAME;
        // What is pending in the group stands once more with the consumers.
        let with_consumers = self.pending.len() * size_of::<StreamId>() * 5 / 4;
        size_of::<Group>()
            + self.pending.memory()
            + with_consumers
            + self.consumers.memory()
            + self.consumers.len() * OF_A_CONSUMER
    }

    /// The consumer of this name, who is heard of now and comes into being if there is none. True: it did.
    pub(super) fn hear_of(&mut self, consumer: &[u8], now_ms: i64) -> (Name, bool) {
        if let Some((name, _)) = self.consumers.floor(consumer).filter(|(name, _)| name.bytes() == consumer) {
            let name = name.clone();
            self.consumers.change(consumer, |consumer| Arc::make_mut(consumer).seen_ms = now_ms);
            return (name, false);
        }
        let name = Name::new(consumer);
        let consumer = Consumer { seen_ms: now_ms, active_ms: None, pending: Ordered::default() };
        self.consumers.insert(name.clone(), Arc::new(consumer));
        (name, true)
    }

    /// A consumer reads or claims something now.
    pub(super) fn note_active(&mut self, consumer: &Name, now_ms: i64) {
        let note = |consumer: &mut Arc<Consumer>| Arc::make_mut(consumer).active_ms = Some(now_ms);
        self.consumers.change(consumer.bytes(), note);
    }

    /// Removes a consumer with all that is pending to it; says how much that was.
    pub(super) fn remove_consumer(&mut self, consumer: &[u8]) -> Option<usize> {
        let consumer = self.consumers.remove(consumer)?;
        consumer.pending.iter().for_each(|(id, ())| {
            self.pending.remove(id);
        });
        Some(consumer.pending.len())
    }

    /// Makes an entry pending to a consumer, whosever it was before.
    pub(super) fn give(&mut self, id: StreamId, pending: Pending) {
        let consumer = pending.consumer.clone();
        if let Some(before) = self.pending.insert(id, pending) {
            if before.consumer == consumer {
                return;
            }
            self.take_from(&before.consumer, id);
        }
        self.consumers.change(consumer.bytes(), |consumer| Arc::make_mut(consumer).pending.insert(id, ()));
    }

    /// Makes an entry pending no longer; false if it was not.
    pub(super) fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(&id) else { return false };
        self.take_from(&pending.consumer, id);
        true
    }

    fn take_from(&mut self, consumer: &Name, id: StreamId) {
        self.consumers.change(consumer.bytes(), |consumer| Arc::make_mut(consumer).pending.remove(&id));
    }
}
