//! A sorted set as it is saved: a listpack while it is small, else its members one after another.

use std::borrow::Cow;

use super::value::{Built, ZsetRef};
use crate::engine::edit::Limits;
use crate::keyspace::entry::Kind;
use crate::persistence::snapshot::blob::Item;
use crate::persistence::snapshot::blob::listpack::{Builder, Listpack};
use crate::persistence::snapshot::blob::ziplist::Ziplist;
use crate::persistence::snapshot::format::kind;
use crate::persistence::snapshot::value::Loaded;
use crate::persistence::snapshot::{Broken, DUPLICATE, Out, Reader, Result};
use crate::types::packed::Distinct;

/// The kinds that are sorted sets.
pub(crate) const KINDS: &[u8] = &[kind::ZSET, kind::ZSET_2, kind::ZSET_ZIPLIST, kind::ZSET_LISTPACK];

const NOT_A_SCORE: Broken = Broken::Malformed("Zset with NAN score detected");

/// The kind that a sorted set is written as.
pub(crate) fn kind_of(zset: ZsetRef<'_>) -> u8 {
    match zset {
        ZsetRef::Table(table) if !table.scores().is_kept_small() => kind::ZSET_2,
        ZsetRef::Table(_) | ZsetRef::Packed(_) => kind::ZSET_LISTPACK,
    }
}

/// Writes a sorted set.
pub(crate) fn save(zset: ZsetRef<'_>, out: &mut Out<'_>) -> Result<()> {
    if kind_of(zset) == kind::ZSET_2 {
        let len = zset.len();
        out.small().len(len);
        // Whoever inserts what it reads finds the place of each at once if the last comes first.
        for (score, member) in zset.from_rank(len.saturating_sub(1), true) {
            out.bytes(member)?;
            out.small().double(score);
        }
        Ok(())
    } else {
        let mut pack = Builder::default();
        for (score, member) in zset.iter() {
            pack.push(member);
            pack.push(mortise_sdk::resp::format_double(score).as_bytes());
        }
        out.bytes(&pack.finish())
    }
}

/// Reads a sorted set.
pub(crate) fn load(of: u8, from: &mut Reader<'_>, limits: Limits) -> Result<Loaded> {
    match of {
        kind::ZSET | kind::ZSET_2 => load_plain(of, from, limits),
        kind::ZSET_ZIPLIST => {
            let bytes = from.bytes()?;
            let list = Ziplist::parse(&bytes)?;
            load_blob(list.pairs()?, list.len() / 2, limits)
        }
        _ => {
            let bytes = from.bytes()?;
            let pack = Listpack::parse(&bytes)?;
            load_blob(pack.pairs()?, pack.len() / 2, limits)
        }
    }
}

/// A sorted set of the pairs of a blob. Whether it stays small is for their number to say, as it is in Redis: whoever
/// made the blob has looked at their lengths.
fn load_blob<'a>(
    pairs: impl Iterator<Item = (Item<'a>, Item<'a>)>,
    len: usize,
    limits: Limits,
) -> Result<Loaded> {
    let mut members = Vec::new();
    for (member, score) in pairs {
        let member = match member {
            Item::Bytes(bytes) => Cow::Borrowed(bytes),
            Item::Integer(_) => Cow::Owned(member.to_vec()),
        };
        members.push((score.double().ok_or(NOT_A_SCORE)?, member));
    }
    let small = len <= limits.zset_entries;
    build(members, Limits { zset_value_len: if small { usize::MAX } else { 0 }, ..limits })
}

fn load_plain(of: u8, from: &mut Reader<'_>, limits: Limits) -> Result<Loaded> {
    let mut members = Vec::new();
    for _ in 0..from.count()? {
        let member = from.bytes()?.into_owned();
        let score = if of == kind::ZSET_2 { from.double()? } else { from.double_text()? };
        if score.is_nan() {
            return Err(NOT_A_SCORE);
        }
        members.push((score, Cow::Owned(member)));
    }
    build(members, limits)
}

/// A sorted set of members in any order.
fn build(mut members: Vec<(f64, Cow<'_, [u8]>)>, limits: Limits) -> Result<Loaded> {
    if members.is_empty() {
        return Err(Broken::Empty);
    }
    let mut distinct = Distinct::default();
    members.iter().for_each(|(_, member)| distinct.note(member));
    if !distinct.are_distinct(|| members.iter().map(|(_, member)| &**member)) {
        return Err(DUPLICATE);
    }
    // Two zeroes are one score, whatever their sign.
    let in_order = |one: &(f64, Cow<'_, [u8]>), other: &(f64, Cow<'_, [u8]>)| {
        (one.0 + 0.0).total_cmp(&(other.0 + 0.0)).then_with(|| one.1.cmp(&other.1))
    };
    if members.is_sorted_by(|one, next| in_order(next, one).is_lt()) {
        members.reverse();
    }
    if !members.is_sorted_by(|one, next| in_order(one, next).is_lt()) {
        members.sort_unstable_by(in_order);
    }
    let pairs = || members.iter().map(|(score, member)| (*score, &**member));
    let built = Built::from_ordered(limits, members.len(), pairs);
    Ok(match built.object {
        Some(object) => Loaded::Object(object),
        None => Loaded::Bytes(Kind::PackedZset, built.packed),
    })
}
