//! What a sorted set is, and what may be done to it: packed in its entry while it is small; when it is large, a [`Table`]
//! from member to score beside a [`Ranked`] order.

use crate::engine::edit::Edit;
use crate::engine::event::{self, EventClass};
use crate::keyspace::entry::{Entry, Kind, NewValue, Payload};
use crate::types::packed::{self, Items};
use crate::types::ranked::Ranked;
use crate::types::table::Table;
use crate::types::{Object, Type};

/// The type of sorted sets.
pub struct Zset;

/// A large sorted set.
#[derive(Clone, Default)]
pub struct ZsetTable {
    scores: Table,
    order: Ranked,
}

impl ZsetTable {
    /// Number of members.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// Bytes on the heap.
    pub fn memory(&self) -> usize {
        self.scores.memory() + self.order.memory()
    }

    /// Members by name.
    pub fn scores(&self) -> &Table {
        &self.scores
    }

    /// Members in order.
    pub fn order(&self) -> &Ranked {
        &self.order
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.get(member).and_then(score_of)
    }

    fn set(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let old = self.score(member);
        if let Some(old) = old {
            if old == score {
                return Some(old);
            }
            self.order.remove(old, member);
        }
        self.scores.set(member, &score.to_le_bytes());
        self.order.insert(score, member);
        old
    }

    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let score = self.score(member)?;
        self.scores.remove(member);
        self.order.remove(score, member);
        Some(score)
    }
}

/// A score as the table keeps it.
pub fn score_of(bytes: &[u8]) -> Option<f64> {
    bytes.try_into().ok().map(f64::from_le_bytes)
}

/// A sorted set as it is read.
#[derive(Clone, Copy)]
pub enum ZsetRef<'a> {
    /// Score (eight bare bytes) and member in turn, in order.
    Packed(&'a [u8]),
    /// Table and order.
    Table(&'a ZsetTable),
}

impl Type for Zset {
    type View<'a> = ZsetRef<'a>;
    const CLASS: EventClass = event::ZSET;

    fn view(entry: &Entry) -> Option<ZsetRef<'_>> {
        match entry.payload() {
            Payload::Bytes(bytes) if entry.kind() == Kind::PackedZset => Some(ZsetRef::Packed(bytes)),
            Payload::Object(Object::Zset(zset)) => Some(ZsetRef::Table(zset)),
            _ => None,
        }
    }

    fn empty() -> NewValue<'static> {
        NewValue::Bytes(Kind::PackedZset, b"")
    }

    fn is_gone(view: ZsetRef<'_>) -> bool {
        view.is_empty()
    }
}

/// Members and scores in order.
pub type Ranks<'a> = Box<dyn Iterator<Item = (f64, &'a [u8])> + 'a>;

fn pairs(bytes: &[u8]) -> impl Iterator<Item = (usize, f64, &[u8], usize)> {
    let mut items = Items::new(bytes);
    std::iter::from_fn(move || {
        let start = items.position();
        let score = f64::from_le_bytes(items.bare()?);
        let member = items.next()?;
        Some((start, score, member, items.position()))
    })
}

impl<'a> ZsetRef<'a> {
    /// A packed sorted set.
    pub fn packed(bytes: &'a [u8]) -> ZsetRef<'a> {
        ZsetRef::Packed(bytes)
    }

    /// Number of members.
    pub fn len(self) -> usize {
        match self {
            ZsetRef::Packed(bytes) => pairs(bytes).count(),
            ZsetRef::Table(zset) => zset.len(),
        }
    }

    /// Whether it has no member.
    pub fn is_empty(self) -> bool {
        match self {
            ZsetRef::Packed(bytes) => bytes.is_empty(),
            ZsetRef::Table(zset) => zset.is_empty(),
        }
    }

    /// The score of a member.
    pub fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            ZsetRef::Packed(bytes) => pairs(bytes).find(|pair| pair.2 == member).map(|pair| pair.1),
            ZsetRef::Table(zset) => zset.score(member),
        }
    }

    /// How many members stand before a member.
    pub fn rank(self, member: &[u8]) -> Option<usize> {
        match self {
            ZsetRef::Packed(bytes) => pairs(bytes).position(|pair| pair.2 == member),
            ZsetRef::Table(zset) => zset.order.rank(zset.score(member)?, member),
        }
    }

    /// How many members stand at the beginning for which something holds that holds for no later one.
    pub fn partition(self, holds: impl Fn(f64, &[u8]) -> bool) -> usize {
        match self {
            ZsetRef::Packed(bytes) => pairs(bytes).take_while(|pair| holds(pair.1, pair.2)).count(),
            ZsetRef::Table(zset) => zset.order.rank_of_bound(holds),
        }
    }

    /// Members from a rank on, upwards, or downwards if `reverse`.
    pub fn from_rank(self, rank: usize, reverse: bool) -> Ranks<'a> {
        match (self, reverse) {
            (ZsetRef::Packed(bytes), false) => Box::new(pairs(bytes).skip(rank).map(|pair| (pair.1, pair.2))),
            (ZsetRef::Packed(bytes), true) => {
                let mut all: Vec<(f64, &[u8])> = pairs(bytes).map(|pair| (pair.1, pair.2)).collect();
                all.truncate(rank.saturating_add(1));
                Box::new(all.into_iter().rev())
            }
            (ZsetRef::Table(zset), _) => Box::new(zset.order.iter_from(rank, reverse)),
        }
    }

    /// Every member in order.
    pub fn iter(self) -> Ranks<'a> {
        self.from_rank(0, false)
    }

    /// Visits members from a cursor on, as ZSCAN does; returns the next cursor, 0 at the end.
    pub fn scan(self, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8], f64)) -> u64 {
        match self {
            ZsetRef::Packed(_) => {
                self.iter().for_each(|(score, member)| visit(member, score));
                0
            }
            ZsetRef::Table(zset) => zset.scores.scan(cursor, count, &mut |member, score| {
                visit(member, score_of(score).unwrap_or_default());
            }),
        }
    }

    /// A member chosen uniformly by random numbers.
    pub fn random(self, next: &mut dyn FnMut() -> u64) -> Option<(f64, &'a [u8])> {
        let len = self.len() as u64;
        if len == 0 {
            return None;
        }
        self.from_rank((next() % len) as usize, false).next()
    }
}

impl Edit<'_, Zset> {
    /// Sets the score of a member; returns the one it had.
    pub fn set(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let limits = self.limits();
        if let ZsetRef::Packed(bytes) = self.view() {
            let found = pairs(bytes).find(|pair| pair.2 == member).map(|pair| (pair.0, pair.1, pair.3));
            let fits = member.len() <= limits.zset_value_len
                && (found.is_some() || self.view().len() < limits.zset_entries);
            if fits {
                if let Some((start, old, end)) = found {
                    if old == score {
                        return Some(old);
                    }
                    self.open().splice(start, end - start, b"");
                }
                self.insert_packed(member, score);
                return found.map(|found| found.1);
            }
            self.unpack();
        }
        if self.view().score(member) == Some(score) {
            return Some(score);
        }
        self.table()?.set(member, score)
    }

    /// Removes a member; returns the score it had.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        if let ZsetRef::Packed(bytes) = self.view() {
            let (start, score, _, end) = pairs(bytes).find(|pair| pair.2 == member)?;
            self.open().splice(start, end - start, b"");
            return Some(score);
        }
        self.view().score(member)?;
        self.table()?.remove(member)
    }

    fn insert_packed(&mut self, member: &[u8], score: f64) {
        let ZsetRef::Packed(bytes) = self.view() else { return };
        let at =
            pairs(bytes).find(|pair| (pair.1, pair.2) > (score, member)).map_or(bytes.len(), |pair| pair.0);
        let mut item = Vec::with_capacity(member.len() + 13);
        item.extend_from_slice(&score.to_le_bytes());
        packed::push(&mut item, member);
        self.open().splice(at, 0, &item);
    }

    fn table(&mut self) -> Option<&mut ZsetTable> {
        match self.open().object_mut() {
            Some(Object::Zset(zset)) => Some(zset),
            _ => None,
        }
    }

    fn unpack(&mut self) {
        let mut zset = ZsetTable::default();
        for (score, member) in self.view().iter() {
            zset.set(member, score);
        }
        self.set_value(NewValue::Object(Box::new(Object::Zset(zset))));
    }
}
