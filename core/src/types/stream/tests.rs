//! Against a model, with random edits: entries, ranges, trimming, and the nodes that Redis would have.

use std::collections::{BTreeMap, BTreeSet};

use super::bytes::Slab;
use super::chunk::Entry;
use super::id::StreamId;
use super::references::References;
use super::value::{Stream, Trim, TrimTo};
use crate::engine::edit::Limits;
use crate::engine::random::Random;

/// Fields and values in turn.
type Pairs = Vec<Vec<u8>>;

/// A node as Redis has it: its listpack, of which only the sizes of elements matter.
#[derive(Clone, Default)]
struct Node {
    first: StreamId,
    fields: Pairs,
    /// Live or not.
    entries: Vec<(StreamId, bool)>,
    bytes: usize,
}

impl Node {
    fn live(&self) -> usize {
        self.entries.iter().filter(|(_, live)| *live).count()
    }

    fn bytes(&self) -> usize {
        self.bytes + integer(self.live() as i64) + integer((self.entries.len() - self.live()) as i64)
    }
}

/// What an element takes in a listpack, worked out from its definition: one to five bytes in front, or the whole of an
/// integer; as many bytes behind as it takes to write down how long that is, seven bits in each.
fn element(text: &[u8]) -> usize {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    if let Some(number) = number.filter(|number| number.to_string().as_bytes() == text) {
        return integer(number);
    }
    let front = match text.len() {
        0..=63 => 1,
        64..=4095 => 2,
        _ => 5,
    };
    backed(front + text.len())
}

fn integer(n: i64) -> usize {
    backed(match n {
        0..=127 => 1,
        -4096..=4095 => 2,
        n if i16::try_from(n).is_ok() => 3,
        n if (-(1 << 23)..1 << 23).contains(&n) => 4,
        n if i32::try_from(n).is_ok() => 5,
        _ => 9,
    })
}

fn backed(len: usize) -> usize {
    len + match len {
        0..=127 => 1,
        128..=16_382 => 2,
        _ => 3,
    }
}

#[derive(Clone, Default)]
struct Model {
    entries: BTreeMap<StreamId, Pairs>,
    nodes: Vec<Node>,
}

impl Model {
    fn append(&mut self, id: StreamId, pairs: &Pairs, limits: Limits) {
        let len: usize = pairs.iter().map(Vec::len).sum();
        let fields: Pairs = pairs.iter().step_by(2).cloned().collect();
        let values = || pairs.iter().skip(1).step_by(2).map(|value| element(value)).sum::<usize>();
        let full = |node: &Node| {
            node.bytes() + len >= limits.stream_node_bytes || node.entries.len() >= limits.stream_node_entries
        };
        if self.nodes.last().is_none_or(full) {
            let of_fields = fields.iter().map(|field| element(field)).sum::<usize>();
            let bytes = 6 + integer(fields.len() as i64) + of_fields + integer(0) + 1;
            self.nodes.push(Node { first: id, fields: fields.clone(), entries: Vec::new(), bytes });
        }
        let node = self.nodes.last_mut().unwrap();
        let deltas = [id.ms - node.first.ms, id.seq.wrapping_sub(node.first.seq)].map(|n| integer(n as i64));
        node.bytes += integer(0) + deltas[0] + deltas[1] + values();
        if node.fields == fields {
            node.bytes += integer(fields.len() as i64 + 3);
        } else {
            let count = fields.len() as i64;
            node.bytes += integer(count) + integer(count * 2 + 4);
            node.bytes += fields.iter().map(|field| element(field)).sum::<usize>();
        }
        node.entries.push((id, true));
        self.entries.insert(id, pairs.clone());
    }

    fn delete(&mut self, id: StreamId) -> bool {
        if self.entries.remove(&id).is_none() {
            return false;
        }
        for node in &mut self.nodes {
            node.entries.iter_mut().filter(|(other, _)| *other == id).for_each(|entry| entry.1 = false);
        }
        self.nodes.retain(|node| node.live() > 0);
        true
    }

    fn trim(&mut self, trim: Trim) -> usize {
        let before = self.entries.len();
        let mut gone = 0;
        while let Some(node) = self.nodes.first() {
            let goes = match trim.to {
                TrimTo::Len(len) => {
                    (self.entries.len() as u64) > len && (self.entries.len() - node.live()) as u64 >= len
                }
                TrimTo::Id(id) => node.entries.last().unwrap().0 < id,
            };
            if !goes || (trim.limit > 0 && (gone + node.live()) as u64 > trim.limit) {
                break;
            }
            gone += node.live();
            for (id, _) in self.nodes.remove(0).entries {
                self.entries.remove(&id);
            }
        }
        while !trim.approximate
            && let Some((&id, _)) = self.entries.first_key_value()
        {
            match trim.to {
                TrimTo::Len(len) if self.entries.len() as u64 > len => self.delete(id),
                TrimTo::Id(lowest) if id < lowest => self.delete(id),
                _ => break,
            };
        }
        before - self.entries.len()
    }
}

fn pairs_of(entry: Entry<'_>) -> Pairs {
    let items = entry.pairs().flat_map(|(field, value)| [field, value]);
    items.map(|item| item.with_bytes(<[u8]>::to_vec)).collect()
}

fn assert_same(stream: &Stream, model: &Model) {
    assert_eq!(stream.len(), model.entries.len());
    let nodes = model.nodes.iter();
    let nodes: Vec<_> =
        nodes.map(|node| (node.live() as u64, node.entries.len() as u64, node.bytes as u64)).collect();
    assert_eq!(stream.nodes(), nodes);
    assert_eq!(stream.weight().nodes, nodes.len());
    let all: Vec<_> = stream.iter().map(|entry| (entry.id(), pairs_of(entry))).collect();
    assert!(all.iter().map(|(id, pairs)| (id, pairs)).eq(&model.entries));
    let down = stream.range(StreamId::MIN, StreamId::MAX, true).map(|entry| entry.id());
    assert!(down.eq(model.entries.keys().rev().copied()));
    assert_eq!(stream.first_id(), model.entries.keys().next().copied().unwrap_or_default());
    assert_eq!(stream.last_entry_id(), model.entries.keys().next_back().copied());
    let bytes = stream.weight().bytes;
    assert_eq!(bytes > 0, !all.is_empty());
}

/// Makes up entries.
struct Source {
    random: Random,
    last: StreamId,
    /// How far the next id is from the last, at most.
    step: u64,
}

impl Source {
    fn entry(&mut self) -> (StreamId, Pairs) {
        let random = &mut self.random;
        let text = |random: &mut Random| match random.below(12) {
            0 => vec![b'x'; random.below(300)],
            1 => vec![b'y'; 4090 + random.below(20)],
            2..6 => (random.word() as i64 >> random.below(64)).to_string().into_bytes(),
            _ => b"value".to_vec(),
        };
        let pairs = match random.below(10) {
            0 => (0..2 * (1 + random.below(4))).map(|_| text(random)).collect(),
            1 => vec![b"other".to_vec(), text(random)],
            _ => vec![b"field".to_vec(), text(random), b"77".to_vec(), b"9".to_vec()],
        };
        let ms = self.last.ms + random.word() % self.step;
        let seq = random.word() % 1000;
        self.last = match ms == self.last.ms {
            true => StreamId::new(ms, self.last.seq + 1 + seq),
            false => StreamId::new(ms, seq),
        };
        (self.last, pairs)
    }

    /// An id, near those that there are, or one of them.
    fn id(&mut self, model: &Model) -> StreamId {
        if model.entries.is_empty() {
            return StreamId::new(self.random.word() % 9, 0);
        }
        let at = self.random.below(model.entries.len().min(500));
        let id = match self.random.below(3) {
            0 => model.entries.keys().nth_back(at),
            _ => model.entries.keys().nth(at),
        };
        let id = id.copied().unwrap_or_default();
        match self.random.below(4) {
            0 => id.next().unwrap_or_default(),
            1 => id.before().unwrap_or_default(),
            _ => id,
        }
    }
}

#[test]
fn as_a_model_does() {
    for (seed, (entries, bytes, step)) in [
        (100, 4096, 2),
        (3, 4096, 1),
        (5_000, 1 << 20, 2),
        (300, 20_000, 3),
        (10, 300, 1 << 40),
        (2_000, 3_000, u64::MAX >> 20),
    ]
    .into_iter()
    .enumerate()
    {
        let limits = Limits { stream_node_bytes: bytes, stream_node_entries: entries, ..Limits::default() };
        let mut source = Source { random: Random::new(seed as u64), last: StreamId::default(), step };
        let (mut stream, mut model) = (Stream::default(), Model::default());
        let mut kept = (stream.clone(), model.clone());
        for edit in 0..6_000 {
            match source.random.below(100) {
                0..70 => {
                    let (id, pairs) = source.entry();
                    stream.append(id, pairs.as_slice(), limits);
                    model.append(id, &pairs, limits);
                }
                70..96 => {
                    let id = source.id(&model);
                    assert_eq!(stream.get(id).map(pairs_of).as_ref(), model.entries.get(&id));
                    assert_eq!(stream.delete(id), model.delete(id));
                }
                96 => {
                    let trim = Trim {
                        to: match source.random.below(2) {
                            0 => TrimTo::Id(source.id(&model)),
                            _ => {
                                let less = source.random.below(model.entries.len() / 4 + 1);
                                TrimTo::Len((model.entries.len() - less) as u64)
                            }
                        },
                        approximate: source.random.below(3) > 0,
                        limit: [0, 0, 150][source.random.below(3)],
                        references: References::Stay,
                    };
                    let trim = Trim { limit: if trim.approximate { trim.limit } else { 0 }, ..trim };
                    let is_trimmed = stream.is_trimmed_by(trim);
                    let count = model.trim(trim);
                    assert_eq!(is_trimmed, count > 0, "{trim:?}");
                    assert_eq!(stream.trim(trim).0, count, "{trim:?}");
                }
                _ => {
                    let (one, other) = (source.id(&model), source.id(&model));
                    let (from, to) = (one.min(other), one.max(other));
                    let ids: Vec<_> = model.entries.range(from..=to).map(|(id, _)| *id).collect();
                    let found = |reverse| stream.range(from, to, reverse).map(|entry| entry.id());
                    assert!(found(false).eq(ids.iter().copied()));
                    assert!(found(true).eq(ids.iter().rev().copied()));
                    assert_eq!(stream.count(from, to), ids.len());
                    if from < to {
                        assert_eq!(stream.count(to, from), 0, "nothing is between a higher and a lower id");
                    }
                }
            }
            if edit % 20 == 0 {
                assert_same(&stream, &model);
                assert_same(&kept.0, &kept.1);
                kept = (stream.clone(), model.clone());
            }
        }
        assert_same(&stream, &model);
        let all: Vec<_> = model.entries.keys().copied().collect();
        all.into_iter().for_each(|id| assert!(stream.delete(id)));
        assert!(stream.is_empty() && stream.weight() == Default::default());
    }
}

#[test]
fn a_large_entry_stands_alone() {
    let mut stream = Stream::default();
    let limits = Limits { stream_node_bytes: 0, stream_node_entries: 0, ..Limits::default() };
    let large = vec![b'x'; 1 << 20];
    for ms in 1..10 {
        let value: &[u8] = if ms == 5 { &large } else { b"small" };
        stream.append(StreamId::new(ms, 0), [b"field", value].as_slice(), limits);
    }
    let weight = stream.weight();
    assert_eq!((weight.nodes, weight.chunks, weight.entries), (1, 3, 9));
    assert!(weight.bytes < large.len() * 3 / 2, "{weight:?}");
}

/// A stream of some slabs.
fn of_slabs(entries: usize) -> Stream {
    let (limits, mut stream) = (Limits::default(), Stream::default());
    for ms in 1..=entries as u64 {
        let value = format!("{ms:0100}");
        stream.append(StreamId::new(ms, 0), [&b"field"[..], value.as_bytes()].as_slice(), limits);
    }
    assert!(stream.chunks.iter().filter(|(_, chunk)| chunk.slab().is_some()).count() > entries / 100);
    stream
}

/// Each slab of a stream, and the bytes that are used of it.
fn slabs(stream: &Stream) -> Vec<(Slab, usize)> {
    let mut slabs: Vec<(Slab, usize)> = Vec::new();
    for (_, chunk) in stream.chunks.iter() {
        let Some(slab) = chunk.slab() else { continue };
        match slabs.iter_mut().find(|(known, _)| *known == slab) {
            Some((_, used)) => *used += chunk.bytes_len(),
            None => slabs.push((slab, chunk.bytes_len())),
        }
    }
    slabs
}

#[test]
fn little_that_is_left_of_a_slab_does_not_keep_it() {
    const ENTRIES: usize = 3000;
    let mut stream = of_slabs(ENTRIES);
    for left in (10..ENTRIES).rev().step_by(37) {
        let to = TrimTo::Len(left as u64);
        stream.trim(Trim { to, approximate: left % 2 == 0, limit: 0, references: References::Stay });
        for (slab, used) in slabs(&stream).into_iter().take(1) {
            assert!(used * 2 >= slab.len, "{used} of {} bytes", slab.len);
        }
    }
    assert_eq!(slabs(&stream), []);
    let first = (ENTRIES - stream.len() + 1) as u64;
    let ids = stream.iter().map(|entry| entry.id());
    assert!(ids.eq((first..=ENTRIES as u64).map(|ms| StreamId::new(ms, 0))));
}

#[test]
fn little_that_is_left_of_a_slab_in_the_middle_does_not_keep_it_either() {
    const ENTRIES: u64 = 3000;
    // Which entries are deleted in which order: so that whole chunks go, and so that a few entries are left of each.
    let orders: [fn(u64) -> u64; 3] = [|n| n, |n| ENTRIES - 1 - n, |n| n * 7919 % ENTRIES];
    for (which, order) in orders.into_iter().enumerate() {
        let mut stream = of_slabs(ENTRIES as usize);
        let mut left: BTreeSet<u64> = (1..=ENTRIES).collect();
        for (count, ms) in (0..ENTRIES).map(|n| order(n) + 1).filter(|ms| ms % 100 != 0).enumerate() {
            assert!(stream.delete(StreamId::new(ms, 0)));
            left.remove(&ms);
            if count % 50 == 0 {
                let all = slabs(&stream);
                assert!(all.iter().all(|(slab, used)| used * 2 >= slab.len), "order {which}: {all:?}");
            }
        }
        let ids = stream.iter().map(|entry| entry.id().ms);
        assert!(ids.eq(left.iter().copied()), "order {which}");
        assert_eq!(slabs(&stream), [], "order {which}");
    }
}
