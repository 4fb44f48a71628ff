//! A list as it is saved: its elements in nodes.

use super::End;
use super::item::Encoded;
use super::sequence::Sequence;
use super::value::{ListRef, fits_packed, pack};
use crate::engine::edit::Limits;
use crate::keyspace::entry::Kind;
use crate::persistence::snapshot::value::Loaded;
use crate::persistence::snapshot::{Out, Reader, Result, list};
use crate::types::Object;

pub(crate) use list::{KINDS, SAVED};

/// Writes a list.
pub(crate) fn save(list: ListRef<'_>, out: &mut Out<'_>) -> Result<()> {
    list::save(|element| list.show_each(0..list.len(), |item| item.with(&mut *element)), out)
}

/// Reads a list.
pub(crate) fn load(of: u8, from: &mut Reader<'_>, limits: Limits) -> Result<Loaded> {
    let limits = limits.list;
    let (mut items, mut len, mut large) = (Vec::new(), 0, None::<Sequence>);
    list::load(of, from, &mut |element| {
        let item = Encoded::of(element);
        if large.is_none() && !fits_packed(len + 1, items.len() + item.len(), &item, limits) {
            // The first of all may be too long to be packed.
            large = Some(Sequence::from_bytes(&items));
        }
        match &mut large {
            Some(list) => list.push(End::Right, &item, limits),
            None => {
                item.append_to(&mut items);
                len += 1;
            }
        }
        Ok(())
    })?;
    Ok(match large {
        Some(list) => Loaded::Object(Box::new(Object::List(list))),
        None => Loaded::Bytes(Kind::PackedList, pack(len, &items)),
    })
}
