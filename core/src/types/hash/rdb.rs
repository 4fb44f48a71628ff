//! A hash as it is saved: a listpack while it is small, else its fields one after another. If some of them have deadlines,
//! all have, in the form of Valkey 9.0; Redis 7 does not know such hashes.

use super::expiring::ExpiringHash;
use super::packed::with_deadlines;
use super::value::HashRef;
use crate::engine::edit::Limits;
use crate::keyspace::entry::Kind;
use crate::persistence::snapshot::blob::Item;
use crate::persistence::snapshot::blob::listpack::{Builder, Listpack};
use crate::persistence::snapshot::blob::ziplist::Ziplist;
use crate::persistence::snapshot::blob::zipmap::Zipmap;
use crate::persistence::snapshot::format::kind;
use crate::persistence::snapshot::value::Loaded;
use crate::persistence::snapshot::{Broken, DUPLICATE, Out, Reader, Result};
use crate::types::Object;
use crate::types::packed::{self, Distinct};
use crate::types::table::Table;

/// The kinds that are hashes.
pub(crate) const KINDS: &[u8] =
    &[kind::HASH, kind::HASH_ZIPMAP, kind::HASH_ZIPLIST, kind::HASH_LISTPACK, kind::HASH_2];

/// The deadline of a field that has none.
const NO_DEADLINE: i64 = -1;

/// The kind that a hash is written as.
pub(crate) fn kind_of(hash: HashRef<'_>) -> u8 {
    match hash {
        HashRef::Table(table) if !table.is_kept_small() => kind::HASH,
        HashRef::Table(_) | HashRef::Packed(_) => kind::HASH_LISTPACK,
        HashRef::PackedExpiring(..) | HashRef::Expiring(..) => kind::HASH_2,
    }
}

/// Writes a hash.
pub(crate) fn save(hash: HashRef<'_>, out: &mut Out<'_>) -> Result<()> {
    match kind_of(hash) {
        kind::HASH => {
            out.small().len(hash.len());
            for (field, value) in hash.iter() {
                out.bytes(field)?;
                out.bytes(value)?;
            }
            Ok(())
        }
        kind::HASH_2 => {
            out.small().len(hash.len_live());
            for (field, value) in hash.iter() {
                out.bytes(field)?;
                out.bytes(value)?;
                let deadline = hash.get_with_deadline(field).and_then(|(_, deadline)| deadline);
                out.small().moment(deadline.unwrap_or(NO_DEADLINE));
            }
            Ok(())
        }
        _ => {
            let mut pack = Builder::default();
            for (field, value) in hash.iter() {
                pack.push(field);
                pack.push(value);
            }
            out.bytes(&pack.finish())
        }
    }
}

/// Reads a hash.
pub(crate) fn load(of: u8, from: &mut Reader<'_>, limits: Limits) -> Result<Loaded> {
    if of == kind::HASH || of == kind::HASH_2 {
        return load_plain(of, from, limits);
    }
    let bytes = from.bytes()?;
    match of {
        kind::HASH_ZIPMAP => {
            let map = Zipmap::parse(&bytes)?;
            let small = map.len() <= limits.hash_entries
                && map.iter().all(|(field, value)| field.len().max(value.len()) <= limits.hash_value_len);
            let pairs = map.iter().map(|(field, value)| (Item::Bytes(field), Item::Bytes(value)));
            load_blob(pairs, map.len(), small)
        }
        kind::HASH_ZIPLIST => {
            let list = Ziplist::parse(&bytes)?;
            load_blob(list.pairs()?, list.len() / 2, list.len() / 2 <= limits.hash_entries)
        }
        _ => {
            let pack = Listpack::parse(&bytes)?;
            load_blob(pack.pairs()?, pack.len() / 2, pack.len() / 2 <= limits.hash_entries)
        }
    }
}

/// A hash of the pairs of a blob. Whether it stays small is for their number to say, as it is in Redis: whoever made the
/// blob has looked at their lengths.
fn load_blob<'a>(
    pairs: impl Iterator<Item = (Item<'a>, Item<'a>)>,
    len: usize,
    small: bool,
) -> Result<Loaded> {
    if len == 0 {
        return Err(Broken::Empty);
    }
    let mut hash = Building::new(small);
    let (mut field, mut value) = (Vec::new(), Vec::new());
    for pair in pairs {
        hash.add(pair.0.text_in(&mut field), pair.1.text_in(&mut value))?;
    }
    hash.finish()
}

fn load_plain(of: u8, from: &mut Reader<'_>, limits: Limits) -> Result<Loaded> {
    let len = from.count()?;
    let mut hash = Building::new(len <= limits.hash_entries);
    let (mut field, mut value) = (Vec::new(), Vec::new());
    for _ in 0..len {
        from.bytes_into(&mut field)?;
        from.bytes_into(&mut value)?;
        if field.len().max(value.len()) > limits.hash_value_len {
            hash.grow_up()?;
        }
        hash.add(&field, &value)?;
        if of == kind::HASH_2 {
            let deadline = from.moment()?;
            if deadline != NO_DEADLINE {
                hash.deadlines.push((field.as_slice().into(), deadline));
            }
        }
    }
    hash.finish()
}

/// A hash that is being read.
struct Building {
    packed: Vec<u8>,
    fields: Distinct,
    table: Option<Table>,
    /// Fields that have deadlines, in the order in which they came.
    deadlines: Vec<(Box<[u8]>, i64)>,
}

impl Building {
    fn new(small: bool) -> Building {
        let table = (!small).then(Table::new);
        Building { packed: Vec::new(), fields: Distinct::default(), table, deadlines: Vec::new() }
    }

    /// Small as it may be by number, it is not by the length of what it holds.
    fn grow_up(&mut self) -> Result<()> {
        match &mut self.table {
            Some(table) => table.keep_small(false),
            None => _ = self.unpack(false)?,
        }
        Ok(())
    }

    fn unpack(&mut self, small: bool) -> Result<&mut Table> {
        let mut table = Table::new();
        table.keep_small(small);
        if !HashRef::packed(&self.packed).iter().all(|(field, value)| table.set(field, value)) {
            return Err(DUPLICATE);
        }
        self.packed = Vec::new();
        Ok(self.table.insert(table))
    }

    fn add(&mut self, field: &[u8], value: &[u8]) -> Result<()> {
        let table = match &mut self.table {
            Some(table) => table,
            None if self.packed.len() + field.len() + value.len() < packed::SIZE_MAX => {
                self.fields.note(field);
                packed::push(&mut self.packed, field);
                packed::push(&mut self.packed, value);
                return Ok(());
            }
            None => self.unpack(true)?,
        };
        if table.set(field, value) { Ok(()) } else { Err(DUPLICATE) }
    }

    fn finish(mut self) -> Result<Loaded> {
        if self.table.is_none() {
            let hash = HashRef::packed(&self.packed);
            if !std::mem::take(&mut self.fields).are_distinct(|| hash.iter().map(|(field, _)| field)) {
                return Err(DUPLICATE);
            }
            if self.deadlines.is_empty() {
                return Ok(Loaded::Bytes(Kind::PackedHash, self.packed));
            }
            let mut deadlines = self.deadlines.iter().peekable();
            let expiring = with_deadlines(&self.packed, |field| {
                deadlines.next_if(|(of, _)| **of == *field).map(|(_, deadline)| *deadline)
            });
            if expiring.len() < packed::SIZE_MAX {
                return Ok(Loaded::Bytes(Kind::PackedExpiringHash, expiring));
            }
            self.unpack(true)?;
        }
        let table = self.table.unwrap_or_default();
        if self.deadlines.is_empty() {
            return Ok(Loaded::Object(Box::new(Object::Hash(table))));
        }
        let mut hash = ExpiringHash::new(table);
        self.deadlines.iter().for_each(|(field, deadline)| hash.set_deadline(field, Some(*deadline)));
        Ok(Loaded::Object(Box::new(Object::ExpiringHash(Box::new(hash)))))
    }
}
