//! What streams look like: entries in nodes, what the stream remembers, groups with their consumers and what these have
//! still to acknowledge.
//!
//! ```text
//! nodes (id of 16 bytes · listpack)…
//! entries · last id · from Redis 7.0 on: first id, largest deleted id, entries ever added
//! groups: name · last id · from 7.0 on: entries read
//!         pending: id of 16 bytes · when delivered · how often
//!         consumers: name · when seen · from 7.2 on: when active · ids that it has still to acknowledge
//! ```
//!
//! A stream is handed over part by part to a [`Taker`], and written part by part, in this order.

mod node;

pub use node::{Fields, Names, NodeBuilder};

use super::format::kind;
use super::{Broken, Out, Reader, Result, Writer};

/// The kinds that are streams.
pub const KINDS: &[u8] = &[kind::STREAM_LISTPACKS, kind::STREAM_LISTPACKS_2, kind::STREAM_LISTPACKS_3];

/// The kind that is written.
pub const SAVED: u8 = kind::STREAM_LISTPACKS_2;

/// The name of an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Id {
    /// Unix milliseconds, mostly.
    pub ms: u64,
    /// What tells those of one millisecond apart.
    pub seq: u64,
}

/// What a stream remembers beside its entries.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Facts {
    /// Entries there are.
    pub len: u64,
    /// The id that was given last.
    pub last: Id,
    /// The first entry's; [`Id::default`] if there is none. Old files do not say it.
    pub first: Option<Id>,
    /// The largest that was deleted. Old files do not say it.
    pub deleted_max: Option<Id>,
    /// Entries that were ever added. Old files do not say it.
    pub added: Option<u64>,
}

/// Takes a stream, part by part: nodes with their entries, then facts, then groups, each with its consumers, each with
/// what it has to acknowledge.
pub trait Taker {
    /// A node begins, with the names of the fields that its entries have unless they bring their own: these stand in the
    /// payload once, and are not to be stored once for each entry.
    fn node(&mut self, names: Names<'_>) -> Result<()>;
    /// An entry; ids ascend.
    fn entry(&mut self, id: Id, fields: Fields<'_>) -> Result<()>;
    /// All entries have come, and this is what the stream remembers.
    fn facts(&mut self, facts: &Facts) -> Result<()>;
    /// A group. How many entries it has read is `None` in old files, and -1 if it was not known. Names are to differ:
    /// [`DUPLICATE_GROUP`] is the answer if they do not.
    fn group(&mut self, name: &[u8], last: Id, read: Option<i64>) -> Result<()>;
    /// A consumer of that group. When it was last active, old files do not say. Names are to differ:
    /// [`DUPLICATE_CONSUMER`] is the answer if they do not.
    fn consumer(&mut self, name: &[u8], seen_ms: i64, active_ms: Option<i64>) -> Result<()>;
    /// What that consumer has still to acknowledge. Each id comes once in a group.
    fn pending(&mut self, id: Id, delivered_ms: i64, deliveries: u64) -> Result<()>;
}

/// What is said of a group that comes twice.
pub const DUPLICATE_GROUP: Broken = Broken::Malformed("Duplicated consumer group name detected");
/// What is said of a consumer that comes twice.
pub const DUPLICATE_CONSUMER: Broken = Broken::Malformed("Duplicate stream consumer detected");

const INCONSISTENT: Broken = Broken::Malformed("Stream length inconsistent with its entries");

/// Reads a stream.
pub fn load(of: u8, from: &mut Reader<'_>, to: &mut dyn Taker) -> Result<()> {
    let says_more = of >= kind::STREAM_LISTPACKS_2;
    let (mut entries, mut last) = (0, None);
    for _ in 0..from.length()? {
        let base = {
            let name = from.bytes()?;
            let name: [u8; ID_LEN] = (*name)
                .try_into()
                .map_err(|_| Broken::Malformed("Stream node key entry is not the size of a stream ID"))?;
            id(name)
        };
        entries += node::load(base, &from.bytes()?, &mut last, to)?;
    }
    let mut facts = Facts { len: from.number()?, last: short_id(from)?, ..Facts::default() };
    if says_more {
        facts.first = Some(short_id(from)?);
        facts.deleted_max = Some(short_id(from)?);
        facts.added = Some(from.number()?);
    }
    if facts.len != entries || last.is_some_and(|last| last > facts.last) {
        return Err(INCONSISTENT);
    }
    to.facts(&facts)?;
    for _ in 0..from.length()? {
        load_group(of, from, to)?;
    }
    Ok(())
}

/// An id that is still to be acknowledged.
struct Pending {
    id: Id,
    delivered_ms: i64,
    deliveries: u64,
    is_owned: bool,
}

fn load_group(of: u8, from: &mut Reader<'_>, to: &mut dyn Taker) -> Result<()> {
    let name = from.bytes()?.into_owned();
    let last = short_id(from)?;
    // A number that is not known is written as one below nothing.
    let read = if of >= kind::STREAM_LISTPACKS_2 { Some(from.number()? as i64) } else { None };
    to.group(&name, last, read)?;
    let mut pending: Vec<Pending> = Vec::new();
    for _ in 0..from.length()? {
        let id = id(from.array()?);
        if pending.last().is_some_and(|before| before.id >= id) {
            return Err(Broken::Malformed("Duplicated global PEL entry loading stream consumer group"));
        }
        pending.push(Pending {
            id,
            delivered_ms: from.moment()?,
            deliveries: from.number()?,
            is_owned: false,
        });
    }
    for _ in 0..from.length()? {
        let name = from.bytes()?.into_owned();
        let seen_ms = from.moment()?;
        let active_ms = if of >= kind::STREAM_LISTPACKS_3 { Some(from.moment()?) } else { None };
        to.consumer(&name, seen_ms, active_ms)?;
        for _ in 0..from.length()? {
            let id = id(from.array()?);
            let owned = pending.binary_search_by_key(&id, |entry| entry.id).ok().map(|at| &mut pending[at]);
            let Some(entry) = owned.filter(|entry| !entry.is_owned) else {
                return Err(Broken::Malformed(
                    "Consumer entry not found in group global PEL, or found twice",
                ));
            };
            entry.is_owned = true;
            to.pending(id, entry.delivered_ms, entry.deliveries)?;
        }
    }
    match pending.iter().all(|entry| entry.is_owned) {
        true => Ok(()),
        false => Err(Broken::Malformed("NACK entry without consumer")),
    }
}

const ID_LEN: usize = 16;

/// An id as names of nodes and pending entries have it.
fn id(bytes: [u8; ID_LEN]) -> Id {
    let both = u128::from_be_bytes(bytes);
    Id { ms: (both >> 64) as u64, seq: both as u64 }
}

/// An id in two numbers.
fn short_id(from: &mut Reader<'_>) -> Result<Id> {
    Ok(Id { ms: from.number()?, seq: from.number()? })
}

/// Writes how many nodes follow.
pub fn save_nodes(nodes: usize, out: &mut Writer) {
    out.len(nodes);
}

/// Writes a node, whose listpack a [`NodeBuilder`] has made for the same id.
pub fn save_node(base: Id, pack: &[u8], out: &mut Out<'_>) -> Result<()> {
    out.small().len(ID_LEN);
    save_id(base, out.small());
    out.bytes(pack)
}

/// Writes what the stream remembers, and how many groups follow.
pub fn save_facts(facts: &Facts, groups: usize, out: &mut Writer) {
    out.number(facts.len);
    let ids = [facts.last, facts.first.unwrap_or_default(), facts.deleted_max.unwrap_or_default()];
    for id in ids {
        save_short_id(id, out);
    }
    out.number(facts.added.unwrap_or(facts.len));
    out.len(groups);
}

/// Writes a group, and how many entries are still to be acknowledged, which follow in ascending order.
pub fn save_group(name: &[u8], last: Id, read: i64, pending: usize, out: &mut Writer) {
    out.bytes(name);
    save_short_id(last, out);
    out.number(read as u64);
    out.len(pending);
}

/// Writes what is still to be acknowledged in a group.
pub fn save_pending(id: Id, delivered_ms: i64, deliveries: u64, out: &mut Writer) {
    save_id(id, out);
    out.moment(delivered_ms);
    out.number(deliveries);
}

/// Writes how many consumers follow.
pub fn save_consumers(consumers: usize, out: &mut Writer) {
    out.len(consumers);
}

/// Writes a consumer with the ids that it has still to acknowledge, of which there are `len`, in ascending order.
pub fn save_consumer(
    name: &[u8],
    seen_ms: i64,
    len: usize,
    mut ids: impl Iterator<Item = Id>,
    out: &mut Out<'_>,
) -> Result<()> {
    out.bytes(name)?;
    out.small().moment(seen_ms);
    out.small().len(len);
    ids.try_for_each(|id| {
        save_id(id, out.small());
        out.pass_on()
    })
}

fn save_id(id: Id, out: &mut Writer) {
    out.raw(&id.ms.to_be_bytes());
    out.raw(&id.seq.to_be_bytes());
}

fn save_short_id(id: Id, out: &mut Writer) {
    out.number(id.ms);
    out.number(id.seq);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes down what it is told.
    #[derive(Default)]
    struct Told(String);

    impl Taker for Told {
        fn node(&mut self, names: Names<'_>) -> Result<()> {
            self.0 += &format!("node of {}; ", names.count());
            Ok(())
        }

        fn entry(&mut self, id: Id, fields: Fields<'_>) -> Result<()> {
            let text = |bytes: Vec<u8>| bytes.escape_ascii().to_string();
            let fields: Vec<_> =
                fields.map(|(f, v)| format!(" {}={}", text(f.to_vec()), text(v.to_vec()))).collect();
            self.0 += &format!("{}-{}{}; ", id.ms, id.seq, fields.concat());
            Ok(())
        }

        fn facts(&mut self, facts: &Facts) -> Result<()> {
            self.0 +=
                &format!("{} to {}-{}, {:?} added; ", facts.len, facts.last.ms, facts.last.seq, facts.added);
            Ok(())
        }

        fn group(&mut self, name: &[u8], last: Id, read: Option<i64>) -> Result<()> {
            self.0 += &format!("group {} to {}-{} {read:?}; ", name.escape_ascii(), last.ms, last.seq);
            Ok(())
        }

        fn consumer(&mut self, name: &[u8], seen_ms: i64, active_ms: Option<i64>) -> Result<()> {
            self.0 += &format!("consumer {} {seen_ms} {active_ms:?}; ", name.escape_ascii());
            Ok(())
        }

        fn pending(&mut self, id: Id, delivered_ms: i64, deliveries: u64) -> Result<()> {
            self.0 += &format!("owes {}-{} {delivered_ms} {deliveries}; ", id.ms, id.seq);
            Ok(())
        }
    }

    fn told(of: u8, bytes: &[u8]) -> Result<String> {
        let mut told = Told::default();
        load(of, &mut Reader::new(bytes), &mut told)?;
        Ok(told.0)
    }

    const BASE: Id = Id { ms: 5, seq: 1 };

    fn saved() -> Vec<u8> {
        let mut node = NodeBuilder::new(BASE, [&b"f"[..], b"g"].into_iter());
        node.push(BASE, [(&b"f"[..], &b"1"[..]), (b"g", b"x")].into_iter());
        node.push(Id { ms: 5, seq: 2 }, [(&b"f"[..], &b"2"[..]), (b"g", b"")].into_iter());
        node.push(Id { ms: 7, seq: 0 }, [(&b"h"[..], &b"3"[..])].into_iter());
        let mut out = Writer::new(false);
        save_nodes(1, &mut out);
        save_node(BASE, &node.finish(), &mut Out::whole(&mut out)).unwrap();
        let facts = Facts { len: 3, last: Id { ms: 9, seq: 0 }, added: Some(4), ..Facts::default() };
        save_facts(&facts, 1, &mut out);
        save_group(b"readers", BASE, -1, 1, &mut out);
        save_pending(BASE, 1000, 2, &mut out);
        save_consumers(2, &mut out);
        for (name, seen_ms, owed) in [(&b"ann"[..], 77, &[BASE][..]), (b"bob", 78, &[])] {
            let ids = owed.iter().copied();
            save_consumer(name, seen_ms, owed.len(), ids, &mut Out::whole(&mut out)).unwrap();
        }
        out.into_bytes()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let expected = "node of 2; 5-1 f=1 g=x; 5-2 f=2 g=; 7-0 h=3; 3 to 9-0, Some(4) added; \
                        group readers to 5-1 Some(-1); consumer ann 77 None; owes 5-1 1000 2; consumer bob 78 None; ";
        assert_eq!(told(SAVED, &saved()).unwrap(), expected);
    }

    #[test]
    fn one_wrong_byte_is_found_or_harmless() {
        let bytes = saved();
        for at in 0..bytes.len() {
            assert!(told(SAVED, &bytes[..at]).is_err(), "cut at {at}");
            for value in 0..=255 {
                let mut broken = bytes.clone();
                broken[at] = value;
                for of in KINDS {
                    let _ = told(*of, &broken);
                }
            }
        }
    }

    #[test]
    fn what_is_owed_has_one_who_owes_it() {
        let group = |pending: &[Id], owners: &[&[Id]]| {
            let mut out = Writer::new(false);
            save_nodes(0, &mut out);
            save_facts(&Facts::default(), 1, &mut out);
            save_group(b"g", BASE, 0, pending.len(), &mut out);
            pending.iter().for_each(|id| save_pending(*id, 1, 1, &mut out));
            save_consumers(owners.len(), &mut out);
            for ids in owners {
                save_consumer(b"c", 1, ids.len(), ids.iter().copied(), &mut Out::whole(&mut out)).unwrap();
            }
            told(SAVED, out.as_bytes()).is_ok()
        };
        let other = Id { ms: 6, seq: 0 };
        assert!(group(&[BASE, other], &[&[other], &[BASE]]));
        assert!(!group(&[BASE, other], &[&[other]]), "nobody owes one");
        assert!(!group(&[BASE], &[&[BASE], &[BASE]]), "two owe it");
        assert!(!group(&[BASE], &[&[BASE, BASE]]), "one owes it twice");
        assert!(!group(&[BASE], &[&[BASE, other]]), "what is owed is not pending");
        assert!(!group(&[other, BASE], &[&[other, BASE]]), "ids do not ascend");
    }

    #[test]
    fn entries_that_do_not_add_up_are_refused() {
        let bytes = |len, last| {
            let mut node = NodeBuilder::new(BASE, [&b"f"[..]].into_iter());
            node.push(BASE, [(&b"f"[..], &b"1"[..])].into_iter());
            let mut out = Writer::new(false);
            save_nodes(1, &mut out);
            save_node(BASE, &node.finish(), &mut Out::whole(&mut out)).unwrap();
            save_facts(&Facts { len, last, ..Facts::default() }, 0, &mut out);
            out.into_bytes()
        };
        assert!(told(SAVED, &bytes(1, BASE)).is_ok());
        assert!(told(SAVED, &bytes(2, BASE)).is_err());
        assert!(told(SAVED, &bytes(1, Id { ms: 5, seq: 0 })).is_err());
    }
}
