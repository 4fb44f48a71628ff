//! A chunk of entries, packed: what the leaves of a stream are.
//!
//! ```text
//! the fields of the first entry, as items
//! entries, each: its length, a varint
//!                milliseconds since the entry before, doubled, and 1 added if its fields are those above: a varint
//!                its number, less that of the entry before if that is of the same millisecond: a varint
//!                unless its fields are those above: how many there are, and each with its value; else its values
//! ```
//!
//! Chunks are small, and so cheap to copy when they are shared: an entry that is larger stands alone. Where a *node* of
//! Redis would end is counted beside: it decides what approximate trimming removes. With the usual limits a node is a
//! chunk; with larger ones it is several, of which the first *opens* it.

use mortise_sdk::args::Arguments;
use triomphe::Arc;

use super::bytes::{Bytes, Slab};
use super::id::StreamId;
use super::item::{self, Item};
use crate::persistence::snapshot::blob::listpack;
use crate::types::ordered::{Total, Value};
use crate::types::table::size_class;

/// A chunk takes no further entry that would make it longer …
const LEN_MAX: usize = 4096;
/// … and not more entries than this.
const ENTRIES_MAX: u32 = 256;

/// Some entries of a stream.
#[derive(Clone)]
pub struct Chunk {
    bytes: Bytes,
    /// What the first entry counts from.
    base: StreamId,
    /// The last entry that is there: what the next one counts from.
    last: StreamId,
    /// The last that ever was.
    last_ever: StreamId,
    fields: u32,
    fields_end: u32,
    /// Where the entries begin.
    start: u32,
    count: u32,
    /// How many entries there were, deleted ones included.
    ever: u32,
    /// Bytes that Redis would need for them, but for its two counters of entries.
    size: u32,
    opens: bool,
}

/// What chunks add up to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Weight {
    /// Entries.
    pub entries: usize,
    /// Chunks.
    pub chunks: usize,
    /// Nodes that Redis would have.
    pub nodes: usize,
    /// Bytes on the heap.
    pub bytes: usize,
}

impl std::ops::AddAssign for Weight {
    fn add_assign(&mut self, other: Weight) {
        self.entries += other.entries;
        self.chunks += other.chunks;
        self.nodes += other.nodes;
        self.bytes += other.bytes;
    }
}

impl std::ops::SubAssign for Weight {
    fn sub_assign(&mut self, other: Weight) {
        self.entries -= other.entries;
        self.chunks -= other.chunks;
        self.nodes -= other.nodes;
        self.bytes -= other.bytes;
    }
}

impl Total for Weight {
    fn items(self) -> usize {
        self.chunks
    }
}

impl Value for Arc<Chunk> {
    type Total = Weight;

    #[inline]
    fn total(&self) -> Weight {
        Weight {
            entries: self.count as usize,
            chunks: 1,
            nodes: usize::from(self.opens),
            bytes: size_class(size_of::<usize>() + size_of::<Chunk>()) + self.bytes.memory(),
        }
    }
}

/// A node of Redis, as far as it matters for what comes into it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Node {
    /// The id that its entries count from.
    pub(super) first: StreamId,
    /// Its entries.
    pub(super) live: u64,
    /// The same, deleted ones included.
    pub(super) ever: u64,
    /// Bytes, but for the two counters of entries.
    pub(super) size: u64,
}

impl Node {
    /// Adds a chunk.
    pub(super) fn add(&mut self, chunk: &Chunk) {
        self.live += u64::from(chunk.count);
        self.ever += u64::from(chunk.ever);
        self.size += u64::from(chunk.size);
    }

    /// With another entry.
    pub(super) fn with(self, size: usize) -> Node {
        Node { live: self.live + 1, ever: self.ever + 1, size: self.size + size as u64, ..self }
    }

    /// Whether an entry of so many bytes opens a new one.
    pub(super) fn is_full(&self, len: usize, bytes_max: usize, entries_max: usize) -> bool {
        const BYTES_MAX: usize = 1 << 30;
        let bytes_max = match bytes_max {
            0 => BYTES_MAX,
            bytes => bytes.min(BYTES_MAX),
        };
        let counters = [self.live, self.ever - self.live].map(|n| listpack::integer_len(n as i64));
        self.size as usize + counters[0] + counters[1] + len >= bytes_max
            || (entries_max > 0 && self.ever >= entries_max as u64)
    }
}

/// Where an entry stands in its chunk.
#[derive(Clone, Copy)]
struct Record {
    id: StreamId,
    at: usize,
    /// Where its items begin.
    items: usize,
    end: usize,
    /// Its fields are those of the chunk.
    same: bool,
    fields: usize,
}

/// An entry.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    chunk: &'a Chunk,
    record: Record,
}

impl<'a> Entry<'a> {
    /// Its id.
    #[inline]
    pub fn id(&self) -> StreamId {
        self.record.id
    }

    /// How many fields it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.record.fields
    }

    /// Whether its fields are those that stand in front of its chunk.
    pub(super) fn has_fields_of_chunk(&self) -> bool {
        self.record.same
    }

    /// Whether it has no field: only entries that somebody made up have none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its fields with their values.
    #[inline]
    pub fn pairs(&self) -> Pairs<'a> {
        let Entry { chunk, record } = self;
        let fields = record.same.then_some(0);
        Pairs { bytes: &chunk.bytes, field: fields, at: record.items, left: record.fields }
    }
}

/// Fields and values of an entry.
pub struct Pairs<'a> {
    bytes: &'a [u8],
    /// Where the next field stands, unless fields stand before their values.
    field: Option<usize>,
    at: usize,
    left: usize,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<(Item<'a>, Item<'a>)> {
        self.left = self.left.checked_sub(1)?;
        let field = match &mut self.field {
            Some(at) => {
                let (field, end) = item::read(self.bytes, *at)?;
                *at = end;
                field
            }
            None => {
                let (field, end) = item::read(self.bytes, self.at)?;
                self.at = end;
                field
            }
        };
        let (value, end) = item::read(self.bytes, self.at)?;
        self.at = end;
        Some((field, value))
    }
}

/// Entries of a chunk, upwards.
#[derive(Clone)]
pub(super) struct Entries<'a> {
    chunk: &'a Chunk,
    at: usize,
    before: StreamId,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        let record = self.chunk.record(self.at, self.before)?;
        (self.at, self.before) = (record.end, record.id);
        Some(Entry { chunk: self.chunk, record })
    }
}

impl Chunk {
    /// A chunk for an entry whose fields and values stand in turn.
    pub(super) fn new(id: StreamId, pairs: &(impl Arguments + ?Sized)) -> Chunk {
        let len: usize = (0..pairs.count()).map(|index| pairs.at(index).len() + 1).sum();
        let names = (0..pairs.count() / 2).map(|field| pairs.at(field * 2));
        Chunk::with_fields(id, names, len + 16)
    }

    /// A chunk whose entries have these fields unless they have their own, with room for some bytes.
    pub(super) fn with_fields<'a>(id: StreamId, names: impl Iterator<Item = &'a [u8]>, room: usize) -> Chunk {
        let mut bytes = Vec::with_capacity(room);
        let mut fields = 0;
        for name in names {
            item::push(&mut bytes, name);
            fields += 1;
        }
        let end = bytes.len() as u32;
        Chunk {
            bytes: Bytes::Own(bytes),
            base: id,
            last: id,
            last_ever: id,
            fields,
            fields_end: end,
            start: end,
            count: 0,
            ever: 0,
            size: 0,
            opens: false,
        }
    }

    /// Makes it the first of a node.
    pub(super) fn opening(mut self) -> Chunk {
        const HEADER_AND_END: usize = 7;
        let mut size =
            HEADER_AND_END + listpack::integer_len(i64::from(self.fields)) + listpack::integer_len(0);
        size += self.fields().map(item::listpack_len).sum::<usize>();
        self.opens = true;
        self.size = size as u32;
        self
    }

    /// Whether it is the first of its node.
    pub(super) fn opens(&self) -> bool {
        self.opens
    }

    /// How many entries are in it.
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    /// The last entry that is in it.
    pub(super) fn last(&self) -> StreamId {
        self.last
    }

    /// The last entry that ever was in it.
    pub(super) fn last_ever(&self) -> StreamId {
        self.last_ever
    }

    /// The fields that its entries have unless they have their own.
    pub(super) fn fields(&self) -> impl Iterator<Item = Item<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (field, end) = item::read(&self.bytes[..self.fields_end as usize], at)?;
            at = end;
            Some(field)
        })
    }

    /// Whether its entries take as much as the fields that stand in front of them.
    pub(super) fn outweighs_its_fields(&self) -> bool {
        self.bytes.len() >= 2 * self.fields_end as usize
    }

    /// Whether an entry of so many bytes has room.
    #[inline]
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.bytes.len() + len <= LEN_MAX && self.count < ENTRIES_MAX
    }

    /// Whether an entry has the chunk's fields.
    #[inline]
    pub(super) fn has_fields(&self, pairs: &(impl Arguments + ?Sized)) -> bool {
        if self.fields as usize != pairs.count() / 2 {
            return false;
        }
        let mut at = 0;
        for field in 0..self.fields as usize {
            match item::read(&self.bytes, at) {
                Some((own, end)) if own.is(pairs.at(field * 2)) => at = end,
                _ => return false,
            }
        }
        true
    }

    /// Appends an entry. Its node's entries count from `node_first`, and its fields are its node's if `node_same` says so,
    /// or as they are the chunk's. Returns the bytes that Redis would need for it.
    #[inline]
    pub(super) fn append(
        &mut self,
        id: StreamId,
        pairs: &(impl Arguments + ?Sized),
        node_first: StreamId,
        node_same: Option<bool>,
    ) -> usize {
        let same = self.has_fields(pairs);
        self.append_as(id, pairs, same, node_first, node_same.unwrap_or(same))
    }

    /// Appends an entry of which it is known whether it has the chunk's fields, and whether it has its node's. If it has both,
    /// nobody asks for their names.
    #[inline]
    pub(super) fn append_as(
        &mut self,
        id: StreamId,
        pairs: &(impl Arguments + ?Sized),
        same: bool,
        node_first: StreamId,
        node_same: bool,
    ) -> usize {
        let fields = pairs.count() / 2;
        let bytes = self.bytes.own();
        let at = bytes.len();
        bytes.push(0);
        push_place(bytes, self.last, id, same);
        // Flags, place, and how many items to go back.
        let deltas = [id.ms.wrapping_sub(node_first.ms), id.seq.wrapping_sub(node_first.seq)];
        let back = if node_same { fields + 3 } else { fields * 2 + 4 };
        let mut size = listpack::integer_len(0)
            + listpack::integer_len(deltas[0] as i64)
            + listpack::integer_len(deltas[1] as i64)
            + listpack::integer_len(back as i64);
        if !node_same {
            size += listpack::integer_len(fields as i64);
        }
        if !same {
            item::push_varint(bytes, fields as u128);
        }
        for field in 0..fields {
            if !same {
                item::push(bytes, pairs.at(field * 2));
            }
            if !node_same {
                size += listpack::item_len(pairs.at(field * 2));
            }
            size += item::push(bytes, pairs.at(field * 2 + 1));
        }
        let len = bytes.len() - at - 1;
        match u8::try_from(len) {
            Ok(len) if len < 0x80 => bytes[at] = len,
            _ => {
                let mut front = Vec::new();
                item::push_varint(&mut front, len as u128);
                bytes.splice(at..=at, front);
            }
        }
        (self.last, self.last_ever) = (id, id);
        self.count += 1;
        self.ever += 1;
        self.size += size as u32;
        size
    }

    /// Nothing more will come into it.
    pub(super) fn seal(&mut self) {
        self.bytes.own().shrink_to_fit();
    }

    /// Its bytes, unless others share their place already.
    pub(super) fn loose(&self) -> Option<&[u8]> {
        self.bytes.are_own().then_some(&*self.bytes)
    }

    /// The slab that its bytes are a part of.
    pub(super) fn slab(&self) -> Option<Slab> {
        self.bytes.slab()
    }

    /// How many they are.
    pub(super) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Puts its bytes elsewhere.
    pub(super) fn settle(&mut self, bytes: Bytes) {
        debug_assert!(*bytes == *self.bytes, "they are the same");
        self.bytes = bytes;
    }

    /// Puts its bytes where nobody else has any.
    pub(super) fn leave_slab(&mut self) {
        self.bytes = Bytes::Own(self.bytes.to_vec());
    }

    /// Takes over what its node has had after it, in a chunk that goes.
    pub(super) fn follow(&mut self, gone: &Chunk) {
        self.ever += gone.ever;
        self.size += gone.size;
        self.last_ever = gone.last_ever;
    }

    /// Deletes all entries; what stays is what the node knows.
    pub(super) fn clear(&mut self) {
        let bytes = self.bytes.own();
        bytes.truncate(self.fields_end as usize);
        bytes.shrink_to_fit();
        (self.start, self.count) = (self.fields_end, 0);
    }

    /// Its entries.
    pub(super) fn entries(&self) -> Entries<'_> {
        Entries { chunk: self, at: self.start as usize, before: self.base }
    }

    /// An entry.
    pub(super) fn find(&self, id: StreamId) -> Option<Entry<'_>> {
        self.entries().find(|entry| entry.id() >= id).filter(|entry| entry.id() == id)
    }

    #[inline]
    fn record(&self, at: usize, before: StreamId) -> Option<Record> {
        let bytes = &self.bytes;
        let (len, begin) = item::varint(bytes, at)?;
        let (ms, next) = item::varint(bytes, begin)?;
        let (seq, next) = item::varint(bytes, next)?;
        let (same, ms, seq) = (ms & 1 == 1, (ms >> 1) as u64, seq as u64);
        let id = match ms {
            0 => StreamId { ms: before.ms, seq: before.seq.wrapping_add(seq) },
            ms => StreamId { ms: before.ms.wrapping_add(ms), seq },
        };
        let (fields, items) = match same {
            true => (self.fields as usize, next),
            false => {
                let (fields, next) = item::varint(bytes, next)?;
                (fields as usize, next)
            }
        };
        Some(Record { id, at, items, end: begin + len as usize, same, fields })
    }

    /// Deletes an entry that is there, and is not the only one.
    pub(super) fn delete(&mut self, id: StreamId) {
        let (mut before, mut found, mut next) = (self.base, None, None);
        for entry in self.entries() {
            match found {
                Some(_) => {
                    next = Some(entry.record);
                    break;
                }
                None if entry.id() == id => found = Some(entry.record),
                None => before = entry.id(),
            }
        }
        let Some(found) = found else { return };
        self.count -= 1;
        match next {
            _ if found.at == self.start as usize => {
                self.base = id;
                self.start = found.end as u32;
                self.compact();
            }
            None => {
                self.bytes.own().truncate(found.at);
                self.last = before;
            }
            Some(next) => {
                // It counts from another entry now.
                let mut place = Vec::new();
                push_place(&mut place, before, next.id, next.same);
                if !next.same {
                    item::push_varint(&mut place, next.fields as u128);
                }
                let mut front = Vec::new();
                item::push_varint(&mut front, (place.len() + next.end - next.items) as u128);
                front.extend(place);
                self.bytes.own().splice(found.at..next.items, front);
            }
        }
    }

    /// Deletes the first entries, which are not all.
    pub(super) fn delete_front(&mut self, count: usize) {
        let Some(last) = count.checked_sub(1).and_then(|last| self.entries().nth(last)) else { return };
        (self.start, self.base) = (last.record.end as u32, last.record.id);
        self.count -= count as u32;
        self.compact();
    }

    /// Gives back what deleted entries took at the beginning, if it is much.
    fn compact(&mut self) {
        let spare = self.start as usize - self.fields_end as usize;
        if spare * 2 > self.bytes.len() {
            let bytes = self.bytes.own();
            bytes.drain(self.fields_end as usize..self.start as usize);
            bytes.shrink_to(bytes.len() * 2);
            self.start = self.fields_end;
        }
    }
}

/// How an entry's id follows from the one before.
#[inline]
fn push_place(to: &mut Vec<u8>, before: StreamId, id: StreamId, same: bool) {
    let ms = id.ms - before.ms;
    item::push_varint(to, u128::from(ms) << 1 | u128::from(same));
    let seq = if ms == 0 { id.seq - before.seq } else { id.seq };
    item::push_varint(to, u128::from(seq));
}
