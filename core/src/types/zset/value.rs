//! What a sorted set is, and what may be done to it: packed in its entry while it is small; when it is large, a [`Table`]
//! from member to score beside a [`Ranked`] order.

use std::ops::Range;

use crate::engine::edit::{Edit, Limits};
use crate::engine::event::{self, EventClass};
use crate::keyspace::entry::{Entry, Kind, NewValue, Payload};
use crate::types::packed::{self, Items};
use crate::types::ranked::{self, Ranked};
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
        self.score_hashed(Table::hash(member), member)
    }

    fn score_hashed(&self, hash: u64, member: &[u8]) -> Option<f64> {
        self.scores.get_hashed(hash, member).and_then(score_of)
    }

    /// A sorted set without members, which may be small for all but its bytes.
    fn new(small: bool) -> ZsetTable {
        let mut zset = ZsetTable::default();
        zset.scores.keep_small(small);
        zset
    }

    /// Whether it is small for all but its bytes.
    fn is_kept_small(&self) -> bool {
        self.scores.is_kept_small()
    }

    /// Sets the score of a member whose hash and score so far are known.
    fn set(&mut self, hash: u64, member: &[u8], old: Option<f64>, score: f64) {
        let score = if self.is_kept_small() { without_sign(score) } else { score };
        self.scores.set_hashed(hash, member, &score.to_le_bytes());
        match old {
            Some(old) => self.order.change(old, score, member),
            None => self.order.insert(score, member),
        }
    }

    /// Adds a member that is not there.
    fn add(&mut self, member: &[u8], score: f64) {
        self.set(Table::hash(member), member, None, score);
    }

    fn remove(&mut self, hash: u64, member: &[u8], score: f64) {
        self.scores.remove_hashed(hash, member);
        self.order.remove(score, member);
    }

    fn remove_ranks(&mut self, ranks: Range<usize>) {
        /// Members whose look-ups wait for memory together.
        const BATCH: usize = 16;
        let mut members =
            self.order.iter_from(ranks.start, false).take(ranks.len()).map(|(_, member)| member);
        let mut batch = [(0, &b""[..]); BATCH];
        loop {
            let mut len = 0;
            for (place, member) in batch.iter_mut().zip(&mut members) {
                *place = (Table::hash(member), member);
                len += 1;
            }
            if len == 0 {
                break;
            }
            self.scores.fetch(batch.map(|(hash, _)| hash));
            for (hash, member) in &batch[..len] {
                self.scores.remove_hashed(*hash, member);
            }
        }
        self.order.remove_ranks(ranks);
    }
}

/// Packed, Redis keeps whole numbers as integers, which makes 0 of -0.
fn without_sign(score: f64) -> f64 {
    score + 0.0
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

/// Members and scores in order. See [`ZsetRef::from_rank`].
pub struct Ranks<'a>(Walk<'a>);

enum Walk<'a> {
    Forward(Items<'a>),
    /// Packed bytes, and where the pairs begin that are to come, the next one last.
    Backward(&'a [u8], Vec<u32>),
    Table(ranked::Iter<'a>),
}

impl<'a> Iterator for Ranks<'a> {
    type Item = (f64, &'a [u8]);

    fn next(&mut self) -> Option<(f64, &'a [u8])> {
        match &mut self.0 {
            Walk::Forward(items) => next_pair(items),
            Walk::Backward(bytes, starts) => next_pair(&mut Items::new(&bytes[starts.pop()? as usize..])),
            Walk::Table(iter) => iter.next(),
        }
    }
}

fn next_pair<'a>(items: &mut Items<'a>) -> Option<(f64, &'a [u8])> {
    let score = f64::from_le_bytes(items.bare()?);
    Some((score, items.next()?))
}

/// A member of a packed sorted set.
struct Pair<'a> {
    start: usize,
    end: usize,
    score: f64,
    member: &'a [u8],
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    let mut items = Items::new(bytes);
    std::iter::from_fn(move || {
        let start = items.position();
        let (score, member) = next_pair(&mut items)?;
        Some(Pair { start, end: items.position(), score, member })
    })
}

fn push_pair(to: &mut Vec<u8>, score: f64, member: &[u8]) {
    to.extend_from_slice(&without_sign(score).to_le_bytes());
    packed::push(to, member);
}

/// A sorted set that is not yet a key's value.
pub struct Built {
    /// How many members it has.
    pub len: usize,
    /// Score and member in turn, unless there is an object.
    pub packed: Vec<u8>,
    /// Table and order.
    pub object: Option<Box<Object>>,
}

impl Built {
    /// A sorted set of `len` members that come in order, packed if the limits allow it.
    pub fn from_ordered<'a, I>(limits: Limits, len: usize, members: impl Fn() -> I) -> Built
    where
        I: Iterator<Item = (f64, &'a [u8])>,
    {
        let small =
            len <= limits.zset_entries && members().all(|(_, member)| member.len() <= limits.zset_value_len);
        if small {
            let mut packed = Vec::new();
            let has_room = members().all(|(score, member)| {
                push_pair(&mut packed, score, member);
                packed.len() < packed::SIZE_MAX
            });
            if has_room {
                return Built { len, packed, object: None };
            }
        }
        let mut zset = ZsetTable::new(small);
        members().for_each(|(score, member)| zset.add(member, score));
        Built { len, packed: Vec::new(), object: Some(Box::new(Object::Zset(zset))) }
    }
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
            ZsetRef::Packed(bytes) => pairs(bytes).find(|pair| pair.member == member).map(|pair| pair.score),
            ZsetRef::Table(zset) => zset.score(member),
        }
    }

    /// How many members stand before a member, and its score.
    pub fn rank(self, member: &[u8]) -> Option<(usize, f64)> {
        match self {
            ZsetRef::Packed(bytes) => {
                let (rank, pair) = pairs(bytes).enumerate().find(|(_, pair)| pair.member == member)?;
                Some((rank, pair.score))
            }
            ZsetRef::Table(zset) => {
                let score = zset.score(member)?;
                Some((zset.order.rank(score, member)?, score))
            }
        }
    }

    /// How many members stand at the beginning for which something holds that holds for no later one.
    pub fn partition(self, holds: impl Fn(f64, &[u8]) -> bool) -> usize {
        match self {
            ZsetRef::Packed(bytes) => pairs(bytes).take_while(|pair| holds(pair.score, pair.member)).count(),
            ZsetRef::Table(zset) => zset.order.rank_of_bound(holds),
        }
    }

    /// Members from a rank on, upwards, or downwards if `reverse`.
    pub fn from_rank(self, rank: usize, reverse: bool) -> Ranks<'a> {
        Ranks(match (self, reverse) {
            (ZsetRef::Packed(bytes), false) => {
                let mut items = Items::new(bytes);
                (0..rank).take_while(|_| next_pair(&mut items).is_some()).for_each(drop);
                Walk::Forward(items)
            }
            (ZsetRef::Packed(bytes), true) => {
                // A length is below 2^32.
                let starts =
                    pairs(bytes).take(rank.saturating_add(1)).map(|pair| pair.start as u32).collect();
                Walk::Backward(bytes, starts)
            }
            (ZsetRef::Table(zset), _) => Walk::Table(zset.order.iter_from(rank, reverse)),
        })
    }

    /// The members of some ranks, upwards, or downwards if `reverse`.
    pub fn slice(self, ranks: Range<usize>, reverse: bool) -> std::iter::Take<Ranks<'a>> {
        let from = if reverse { ranks.end.saturating_sub(1) } else { ranks.start };
        self.from_rank(from, reverse).take(ranks.len())
    }

    /// The member of a rank.
    pub fn at(self, rank: usize) -> Option<(f64, &'a [u8])> {
        self.from_rank(rank, false).next()
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
        self.at((next() % len) as usize)
    }
}

impl Edit<'_, Zset> {
    /// Sets the score of a member; returns the one it had.
    pub fn set(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let mut before = None;
        self.update(member, |old| {
            before = old;
            Some(score)
        });
        before
    }

    /// Gives a member the score that `decide` makes of the one it has; leaves things as they are if that is none.
    #[inline]
    pub fn update(&mut self, member: &[u8], decide: impl FnOnce(Option<f64>) -> Option<f64>) {
        match self.view() {
            ZsetRef::Packed(bytes) => {
                let (mut len, mut found) = (0, None);
                for pair in pairs(bytes) {
                    if pair.member == member {
                        found = Some((pair.start..pair.end, pair.score));
                        break;
                    }
                    len += 1;
                }
                let old = found.as_ref().map(|found| found.1);
                let Some(score) = decide(old) else { return };
                match found {
                    _ if old == Some(score) => {}
                    Some((place, _)) => self.move_packed(place, score, member),
                    None => self.add_small(len, member, score),
                }
            }
            ZsetRef::Table(zset) => {
                let hash = Table::hash(member);
                let old = zset.score_hashed(hash, member);
                let Some(score) = decide(old) else { return };
                if old == Some(score) {
                    return;
                }
                let limits = self.limits();
                if let Some(zset) = self.table() {
                    let fits = |zset: &ZsetTable| {
                        member.len() <= limits.zset_value_len
                            && zset.len() + usize::from(old.is_none()) <= limits.zset_entries
                    };
                    if zset.is_kept_small() && !fits(zset) {
                        zset.scores.keep_small(false);
                    }
                    zset.set(hash, member, old, score);
                }
            }
        }
    }

    /// Removes a member; returns the score it had.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match self.view() {
            ZsetRef::Packed(bytes) => {
                let Pair { start, end, score, .. } = pairs(bytes).find(|pair| pair.member == member)?;
                self.open().splice(start, end - start, b"");
                Some(score)
            }
            ZsetRef::Table(zset) => {
                let hash = Table::hash(member);
                let score = zset.score_hashed(hash, member)?;
                // It stands in the table and in the order.
                self.part_with(2 * member.len());
                self.table()?.remove(hash, member, score);
                Some(score)
            }
        }
    }

    /// Removes the members of some ranks, all of which there must be.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) {
        if ranks.is_empty() {
            return;
        }
        match self.view() {
            ZsetRef::Packed(bytes) => {
                let mut places = pairs(bytes).skip(ranks.start).take(ranks.len());
                let Some(first) = places.next() else { return };
                let (start, end) = (first.start, places.last().map_or(first.end, |last| last.end));
                self.open().splice(start, end - start, b"");
            }
            ZsetRef::Table(zset) => {
                let left = zset.len() - ranks.len();
                if left == 0 {
                    self.set_value(Zset::empty());
                } else if left < ranks.len() {
                    // What stays is less than what goes, which is freed elsewhere.
                    let mut rest = ZsetTable::new(zset.is_kept_small());
                    let before = zset.order.iter_from(0, false).take(ranks.start);
                    let behind = zset.order.iter_from(ranks.end, false);
                    before.chain(behind).for_each(|(score, member)| rest.add(member, score));
                    self.set_value(NewValue::Object(Box::new(Object::Zset(rest))));
                } else {
                    let members = zset.order.iter_from(ranks.start, false).take(ranks.len());
                    // It is the large ones that take long.
                    let bytes = members.map(|(_, member)| member.len()).max().unwrap_or_default();
                    self.part_with(2 * bytes);
                    if let Some(zset) = self.table() {
                        zset.remove_ranks(ranks);
                    }
                }
            }
        }
    }

    /// Gives the member at `place` another score; the pair keeps its length.
    fn move_packed(&mut self, place: Range<usize>, score: f64, member: &[u8]) {
        let ZsetRef::Packed(bytes) = self.view() else { return };
        let at = Self::place_of(bytes, member, score);
        let len = place.len();
        let Some(bytes) = self.open().bytes_mut() else { return };
        bytes[place.start..place.start + size_of::<f64>()]
            .copy_from_slice(&without_sign(score).to_le_bytes());
        if at > place.end {
            bytes[place.start..at].rotate_left(len);
        } else if at < place.start {
            bytes[at..place.end].rotate_right(len);
        }
    }

    /// Adds a member to what are `len` packed ones, which it may be too many or too long for.
    fn add_small(&mut self, len: usize, member: &[u8], score: f64) {
        let limits = self.limits();
        let ZsetRef::Packed(bytes) = self.view() else { return };
        let small = len < limits.zset_entries && member.len() <= limits.zset_value_len;
        if small && bytes.len() + member.len() < packed::SIZE_MAX {
            let at = Self::place_of(bytes, member, score);
            let mut pair = Vec::with_capacity(member.len() + 13);
            push_pair(&mut pair, score, member);
            self.open().splice(at, 0, &pair);
            return;
        }
        let mut zset = ZsetTable::new(small);
        self.view().iter().for_each(|(score, member)| zset.add(member, score));
        zset.add(member, score);
        self.set_value(NewValue::Object(Box::new(Object::Zset(zset))));
    }

    /// Where a member with this score belongs; its own pair does not count.
    fn place_of(bytes: &[u8], member: &[u8], score: f64) -> usize {
        pairs(bytes)
            .find(|pair| pair.member != member && (pair.score, pair.member) > (score, member))
            .map_or(bytes.len(), |pair| pair.start)
    }

    fn table(&mut self) -> Option<&mut ZsetTable> {
        match self.open().object_mut() {
            Some(Object::Zset(zset)) => Some(zset),
            _ => None,
        }
    }
}
