//! A stream as it is saved: its entries in nodes, what it remembers, its groups with what is pending.

use mortise_sdk::args::Arguments;
use triomphe::Arc;

use super::chunk::Chunk;
use super::group::{Consumer, Group, Name, Pending};
use super::id::StreamId;
use super::owed::Owed;
use super::value::Stream;
use crate::persistence::snapshot::stream::{
    self, DUPLICATE_CONSUMER, DUPLICATE_GROUP, Facts, Fields, Id, Names, NodeBuilder, Taker,
};
use crate::persistence::snapshot::value::Loaded;
use crate::persistence::snapshot::{Out, Reader, Result};
use crate::types::Object;

pub(crate) use stream::{KINDS, SAVED};

impl From<StreamId> for Id {
    fn from(id: StreamId) -> Id {
        Id { ms: id.ms, seq: id.seq }
    }
}

impl From<Id> for StreamId {
    fn from(id: Id) -> StreamId {
        StreamId { ms: id.ms, seq: id.seq }
    }
}

/// Texts one after another, which is cheaper than a piece of memory for each.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }
}

impl Arguments for Texts {
    fn count(&self) -> usize {
        self.ends.len()
    }

    fn at(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }
}

/// Writes a stream. When its consumers were last active is not said: Redis knows that from 7.2 on. Nor is it what the stream
/// remembers of entries that are added only once (from 8.6 on): after a restart one that comes again is added again.
pub(crate) fn save(stream: &Stream, out: &mut Out<'_>) -> Result<()> {
    let (mut nodes, mut is_counted) = (0, false);
    for (_, chunk) in stream.chunks.iter() {
        is_counted &= !chunk.opens();
        if !is_counted && chunk.len() > 0 {
            (nodes, is_counted) = (nodes + 1, true);
        }
    }
    stream::save_nodes(nodes, out.small());
    let (mut open, mut texts) = (None, Texts::default());
    for (first, chunk) in stream.chunks.iter() {
        if chunk.opens() {
            close_node(open.take(), out)?;
        }
        let (_, node, names) = open.get_or_insert_with(|| {
            let node = node_of(*first, chunk, &mut texts);
            ((*first).into(), node, chunk)
        });
        // Long names are not to be written, read and compared for each of many entries.
        let has_names = chunk.fields().eq(names.fields());
        for entry in chunk.entries() {
            texts.clear();
            if has_names && entry.has_fields_of_chunk() {
                entry.pairs().for_each(|(_, value)| value.with_bytes(|text| texts.push(text)));
                node.push_same(entry.id().into(), (0..texts.count()).map(|value| texts.at(value)));
                continue;
            }
            for item in entry.pairs().flat_map(|(field, value)| [field, value]) {
                item.with_bytes(|text| texts.push(text));
            }
            let fields = 0..entry.len();
            node.push(entry.id().into(), fields.map(|field| (texts.at(field * 2), texts.at(field * 2 + 1))));
        }
    }
    close_node(open, out)?;
    let facts = Facts {
        len: stream.len() as u64,
        last: stream.last_id().into(),
        first: Some(stream.first_id().into()),
        deleted_max: Some(stream.max_deleted_id().into()),
        added: Some(stream.entries_added()),
    };
    stream::save_facts(&facts, stream.groups.len(), out.small());
    stream.groups.iter().try_for_each(|(name, group)| save_group(name, group, out))
}

/// A node as yet without entries, which have the fields of its first chunk.
fn node_of(first: StreamId, chunk: &Chunk, names: &mut Texts) -> NodeBuilder {
    names.clear();
    chunk.fields().for_each(|name| name.with_bytes(|name| names.push(name)));
    NodeBuilder::new(first.into(), (0..names.count()).map(|name| names.at(name)))
}

fn close_node(node: Option<(Id, NodeBuilder, &Arc<Chunk>)>, out: &mut Out<'_>) -> Result<()> {
    match node.filter(|(_, node, _)| !node.is_empty()) {
        Some((base, node, _)) => stream::save_node(base, &node.finish(), out),
        None => Ok(()),
    }
}

/// What was released is pending to nobody, for which Redis's format has no place: it is shown as pending to a consumer
/// without a name since 1970. There Redis finds it when it claims what is idle, and we tell it from what a consumer of
/// that name has by the time.
const NOBODY: &[u8] = b"";

fn save_group(name: &Name, group: &Group, out: &mut Out<'_>) -> Result<()> {
    /// How Redis says that it does not know.
    const UNKNOWN: i64 = -1;
    let read = group.entries_read.map_or(UNKNOWN, |read| read as i64);
    stream::save_group(name.bytes(), group.last_id.into(), read, group.len(), out.small());
    for (id, pending) in group.iter() {
        stream::save_pending(id.into(), pending.shown_ms(), pending.deliveries, out.small());
        out.pass_on()?;
    }
    let nameless = group.consumers.get(NOBODY);
    let released = group.released_len();
    let consumers = group.consumers.len() + usize::from(released > 0 && nameless.is_none());
    stream::save_consumers(consumers, out.small());
    if released > 0 {
        let owed = nameless.map(|consumer| &consumer.pending);
        let ids = group.released().chain(owed.into_iter().flat_map(Owed::iter)).map(Id::from);
        let len = released + owed.map_or(0, Owed::len);
        stream::save_consumer(NOBODY, nameless.map_or(0, |consumer| consumer.seen_ms), len, ids, out)?;
    }
    for (name, consumer) in group.consumers.iter() {
        if released > 0 && name.bytes() == NOBODY {
            continue;
        }
        let ids = consumer.pending.iter().map(Id::from);
        stream::save_consumer(name.bytes(), consumer.seen_ms, consumer.pending.len(), ids, out)?;
    }
    Ok(())
}

/// Reads a stream.
pub(crate) fn load(of: u8, from: &mut Reader<'_>) -> Result<Loaded> {
    let mut building = Building::default();
    stream::load(of, from, &mut building)?;
    building.close_group();
    Ok(Loaded::Object(Box::new(Object::Stream(Box::new(building.stream)))))
}

/// A stream that is being read.
#[derive(Default)]
struct Building {
    stream: Stream,
    /// What fields the entries of this node have unless they bring their own.
    names: Texts,
    /// The first entry of this node, once there is one.
    first: Option<StreamId>,
    texts: Texts,
    group: Option<(Name, Group)>,
    consumer: Option<Name>,
}

impl Building {
    fn close_group(&mut self) {
        if let Some((name, mut group)) = self.group.take() {
            let stands_for_nobody = |of: &Arc<Consumer>| of.seen_ms == 0 && of.pending.is_empty();
            if group.released_len() > 0 && group.consumers.get(NOBODY).is_some_and(stands_for_nobody) {
                group.remove_consumer(NOBODY);
            }
            self.stream.groups.insert(name, Arc::new(group));
        }
        self.consumer = None;
    }
}

impl Taker for Building {
    fn node(&mut self, names: Names<'_>) -> Result<()> {
        self.first = None;
        self.names.clear();
        names.for_each(|name| name.with(|name| self.names.push(name)));
        Ok(())
    }

    fn entry(&mut self, id: Id, fields: Fields<'_>) -> Result<()> {
        let (id, same) = (id.into(), fields.are_of_node());
        self.texts.clear();
        for (name, value) in fields {
            // Names of the node are in front of its chunks, and are not asked for.
            if same {
                self.texts.push(b"");
            } else {
                name.with(|name| self.texts.push(name));
            }
            value.with(|value| self.texts.push(value));
        }
        let (texts, first) = (&self.texts, *self.first.get_or_insert(id));
        let len = texts.bytes.len() + texts.count();
        if first != id
            && let Some((_, last)) = self.stream.chunks.last()
            // Fields that are long are not to be written once for every few entries: what is read would swell.
            && (last.has_room(len) || !last.outweighs_its_fields())
        {
            self.stream
                .chunks
                .change_last(|chunk| Arc::make_mut(chunk).append_as(id, texts, same, first, same));
            return Ok(());
        }
        self.stream.seal_last();
        let names = (0..self.names.count()).map(|name| self.names.at(name));
        let mut chunk = Chunk::with_fields(id, names, self.names.bytes.len() + len);
        if first == id {
            chunk = chunk.opening();
        }
        chunk.append_as(id, texts, same, first, same);
        self.stream.chunks.insert(id, Arc::new(chunk));
        Ok(())
    }

    fn facts(&mut self, facts: &Facts) -> Result<()> {
        let added = facts.added.unwrap_or(facts.len);
        self.stream.set_last_id(facts.last.into(), Some(added), facts.deleted_max.map(StreamId::from));
        self.stream.find_first();
        Ok(())
    }

    fn group(&mut self, name: &[u8], last: Id, read: Option<i64>) -> Result<()> {
        self.close_group();
        if self.stream.group(name).is_some() {
            return Err(DUPLICATE_GROUP);
        }
        let read = match read {
            Some(read) => u64::try_from(read).ok(),
            None => self.stream.entries_up_to(last.into()),
        };
        self.group = Some((Name::new(name), Group::new(last.into(), read)));
        Ok(())
    }

    fn consumer(&mut self, name: &[u8], seen_ms: i64, active_ms: Option<i64>) -> Result<()> {
        let Some((_, group)) = &mut self.group else { return Ok(()) };
        let name = Name::new(name);
        if group.consumers.contains(name.bytes()) {
            return Err(DUPLICATE_CONSUMER);
        }
        let consumer = Consumer { seen_ms, active_ms, pending: Owed::default() };
        group.consumers.insert(name.clone(), Arc::new(consumer));
        self.consumer = Some(name);
        Ok(())
    }

    fn pending(&mut self, id: Id, delivered_ms: i64, deliveries: u64) -> Result<()> {
        if let (Some((_, group)), Some(consumer)) = (&mut self.group, &self.consumer) {
            match consumer.bytes() == NOBODY && delivered_ms == 0 {
                true => group.release(id.into(), deliveries),
                false => {
                    let consumer = Some(consumer.clone());
                    group.give(id.into(), Pending { consumer, delivered_ms, deliveries });
                }
            }
        }
        Ok(())
    }
}
