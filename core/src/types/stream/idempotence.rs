//! Entries that are added only once, however often their producer sends them: what a stream remembers of each, and for
//! how long.

use mortise_sdk::args::Arguments;
use sha1::{Digest as _, Sha1};
use triomphe::Arc;

use super::group::Name;
use super::id::StreamId;
use crate::types::ordered::{Ordered, Total, Value};

/// How long, and how much, a stream remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// An entry for so many seconds.
    pub duration_s: u32,
    /// So many entries of each producer.
    pub len: u32,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { duration_s: 100, len: 100 }
    }
}

/// Which entry of which producer is added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent<'a> {
    /// The producer.
    pub producer: &'a [u8],
    /// What it calls the entry; it may leave that to the entry's contents.
    pub name: Option<&'a [u8]>,
}

/// The name of an entry of which its producer says none: the same for the same fields and values.
pub(super) fn name_of(pairs: &(impl Arguments + ?Sized)) -> [u8; 20] {
    let mut hash = Sha1::new();
    for index in 0..pairs.count() {
        let item = pairs.at(index);
        hash.update((item.len() as u64).to_le_bytes());
        hash.update(item);
    }
    hash.finalize().into()
}

/// What a stream remembers of entries that are added only once. `Clone` shares.
#[derive(Clone, Default)]
pub struct Idempotence {
    /// What was set for this stream; it goes by the server's directives otherwise.
    memory: Option<Memory>,
    producers: Ordered<Name, Arc<Producer>>,
    /// In the order in which they came.
    all: Ordered<u64, Remembered>,
    /// The number of the next.
    next: u64,
    /// Entries that ever came with a name.
    pub added: u64,
    /// Entries that ever came again.
    pub duplicates: u64,
}

#[derive(Clone, Default)]
struct Producer {
    /// Its entries by their names.
    entries: Ordered<Name, Added>,
    /// Their names in the order in which they came.
    names: Ordered<u64, Name>,
}

#[derive(Clone, Copy)]
struct Added {
    id: StreamId,
    number: u64,
}

#[derive(Clone)]
struct Remembered {
    since_ms: i64,
    producer: Name,
}

/// What is remembered in all.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tracked {
    /// Producers.
    pub producers: usize,
    /// Entries of theirs.
    pub entries: usize,
}

impl std::ops::AddAssign for Tracked {
    fn add_assign(&mut self, other: Tracked) {
        self.producers += other.producers;
        self.entries += other.entries;
    }
}

impl std::ops::SubAssign for Tracked {
    fn sub_assign(&mut self, other: Tracked) {
        self.producers -= other.producers;
        self.entries -= other.entries;
    }
}

impl Total for Tracked {
    fn items(self) -> usize {
        self.producers
    }
}

impl Value for Arc<Producer> {
    type Total = Tracked;

    fn total(&self) -> Tracked {
        Tracked { producers: 1, entries: self.entries.len() }
    }
}

impl Value for Added {
    type Total = usize;

    fn total(&self) -> usize {
        1
    }
}

impl Value for Remembered {
    type Total = usize;

    fn total(&self) -> usize {
        1
    }
}

impl Value for Name {
    type Total = usize;

    fn total(&self) -> usize {
        1
    }
}

impl Idempotence {
    /// Remembers nothing yet, but the counts of one before.
    pub(super) fn new(memory: Memory, before: Option<&Idempotence>) -> Idempotence {
        let (added, duplicates) = before.map_or((0, 0), |before| (before.added, before.duplicates));
        Idempotence { memory: Some(memory), added, duplicates, ..Idempotence::default() }
    }

    /// How long and how much is remembered, `otherwise` if nothing was set for this stream.
    pub fn memory_or(&self, otherwise: Memory) -> Memory {
        self.memory.unwrap_or(otherwise)
    }

    /// What is remembered in all; with it, what may have been forgotten and stands there until another entry comes.
    pub fn tracked(&self) -> Tracked {
        self.producers.total()
    }

    /// The entry that was added under a name, as far as that is remembered.
    pub fn find(&self, producer: &[u8], name: &[u8], otherwise: Memory, now_ms: i64) -> Option<StreamId> {
        let added = self.producers.get(producer)?.entries.get(name)?;
        let since_ms = self.all.get(&added.number)?.since_ms;
        (!is_over(since_ms, self.memory_or(otherwise), now_ms)).then_some(added.id)
    }

    /// Remembers an entry, in place of another of the name if that is so old as to be forgotten.
    pub(super) fn remember(
        &mut self,
        producer: &[u8],
        name: &[u8],
        id: StreamId,
        otherwise: Memory,
        now_ms: i64,
    ) {
        let memory = self.memory_or(otherwise);
        self.forget(memory, now_ms);
        self.forget_entry(producer, name);
        let number = self.next;
        self.next += 1;
        self.added += 1;
        let name = Name::new(name);
        if !self.producers.contains(producer) {
            self.producers.insert(Name::new(producer), Arc::default());
        }
        let Some(known) = self.producers.floor(producer).map(|(known, _)| known.clone()) else { return };
        let too_many = self.producers.change(producer, |producer| {
            let producer = Arc::make_mut(producer);
            producer.entries.insert(name.clone(), Added { id, number });
            producer.names.insert(number, name);
            let over = producer.names.len().saturating_sub(memory.len as usize);
            producer.names.iter().take(over.min(FORGOTTEN_AT_ONCE)).map(|(_, name)| name.clone()).collect()
        });
        self.all.insert(number, Remembered { since_ms: now_ms, producer: known });
        let too_many: Vec<Name> = too_many.unwrap_or_default();
        too_many.iter().for_each(|name| self.forget_entry(producer, name.bytes()));
    }

    /// Bytes on the heap, about.
    pub(super) fn bytes(&self) -> usize {
        const OF_A_NAME: usize = 48;
        let Tracked { producers, entries } = self.tracked();
        let of_an_entry = OF_A_NAME + size_of::<(Name, Added)>() + size_of::<(u64, Name)>();
        self.producers.memory()
            + self.all.memory()
            + producers * (OF_A_NAME + size_of::<Producer>())
            + entries * of_an_entry
    }

    /// Forgets what is over.
    fn forget(&mut self, memory: Memory, now_ms: i64) {
        let over = self.all.iter().take(FORGOTTEN_AT_ONCE);
        let over = over.take_while(|(_, one)| is_over(one.since_ms, memory, now_ms));
        let over: Vec<_> = over.map(|(number, one)| (*number, one.producer.clone())).collect();
        for (number, producer) in over {
            let name = self.producers.get(producer.bytes()).and_then(|of| of.names.get(&number)).cloned();
            match name {
                Some(name) => self.forget_entry(producer.bytes(), name.bytes()),
                None => _ = self.all.remove(&number),
            }
        }
    }

    fn forget_entry(&mut self, producer: &[u8], name: &[u8]) {
        let Some(known) = self.producers.get(producer).filter(|of| of.entries.contains(name)) else { return };
        let is_last = known.entries.len() == 1;
        let gone = self.producers.change(producer, |producer| {
            let producer = Arc::make_mut(producer);
            let gone = producer.entries.remove(name)?;
            producer.names.remove(&gone.number);
            Some(gone.number)
        });
        if let Some(number) = gone.flatten() {
            self.all.remove(&number);
        }
        if is_last {
            self.producers.remove(producer);
        }
    }
}

/// How much is forgotten with each entry that is remembered: more than one, so that what is over goes.
const FORGOTTEN_AT_ONCE: usize = 16;

fn is_over(since_ms: i64, memory: Memory, now_ms: i64) -> bool {
    now_ms.saturating_sub(since_ms) >= i64::from(memory.duration_s) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Memory = Memory { duration_s: 10, len: 3 };

    fn id(n: u64) -> StreamId {
        StreamId::new(n, 0)
    }

    #[test]
    fn entries_are_remembered_for_a_time() {
        let mut known = Idempotence::default();
        known.remember(b"p", b"a", id(1), MEMORY, 1_000);
        known.remember(b"q", b"a", id(2), MEMORY, 2_000);
        for (producer, name, now_ms, found) in [
            (b"p", b"a", 10_999, Some(id(1))),
            (b"p", b"a", 11_000, None),
            (b"q", b"a", 11_000, Some(id(2))),
            (b"q", b"b", 2_000, None),
            (b"r", b"a", 2_000, None),
        ] {
            assert_eq!(known.find(producer, name, MEMORY, now_ms), found, "{producer:?} {name:?} {now_ms}");
        }
        known.remember(b"r", b"a", id(3), MEMORY, 20_000);
        assert_eq!(known.tracked(), Tracked { producers: 1, entries: 1 }, "what was over has been forgotten");
        assert_eq!(known.added, 3);
    }

    #[test]
    fn so_many_are_remembered_of_each_producer() {
        let mut known = Idempotence::default();
        for n in 0..100u64 {
            for producer in [b"p", b"q"] {
                known.remember(producer, &n.to_le_bytes(), id(n + 1), MEMORY, 1_000);
            }
        }
        assert_eq!(known.tracked(), Tracked { producers: 2, entries: 6 });
        assert_eq!(known.find(b"p", &97u64.to_le_bytes(), MEMORY, 1_000), Some(id(98)));
        assert_eq!(known.find(b"p", &96u64.to_le_bytes(), MEMORY, 1_000), None);
        assert_eq!(known.all.len(), 6);
        known.remember(b"p", &98u64.to_le_bytes(), id(200), MEMORY, 1_000);
        assert_eq!(known.find(b"p", &98u64.to_le_bytes(), MEMORY, 1_000), Some(id(200)));
        assert_eq!(known.tracked().entries, 6, "the name it had already");
    }

    #[test]
    fn contents_make_a_name() {
        let name = |items: &[&[u8]]| name_of(items);
        assert_eq!(name(&[b"a", b"b"]), name(&[b"a", b"b"]));
        assert_ne!(name(&[b"a", b"bc"]), name(&[b"ab", b"c"]));
        assert_ne!(name(&[b"a", b"b"]), name(&[b"b", b"a"]));
    }
}
