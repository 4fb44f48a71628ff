//! A set as it is saved: integers in ascending order if it is one of few integers, else its members one after another.

use super::value::{Built, Member, SetRef};
use crate::engine::edit::Limits;
use crate::persistence::snapshot::format::kind;
use crate::persistence::snapshot::value::Loaded;
use crate::persistence::snapshot::{Out, Reader, Result, set};
use crate::types::Object;
use crate::types::packed::{self, Distinct, Items};
use crate::types::table::Table;

pub(crate) use set::KINDS;

/// The kind that a set is written as.
pub(crate) fn kind_of(set: SetRef<'_>) -> u8 {
    match set {
        SetRef::Ints(_) => kind::SET_INTSET,
        SetRef::Table(table) if table.is_kept_small() => kind::SET_INTSET,
        SetRef::Packed(_) | SetRef::Table(_) => kind::SET,
    }
}

/// Writes a set.
pub(crate) fn save(set: SetRef<'_>, out: &mut Out<'_>) -> Result<()> {
    if kind_of(set) == kind::SET_INTSET {
        let mut integers: Vec<i64> = set.iter().filter_map(Member::integer).collect();
        integers.sort_unstable();
        set::save_integers(integers.into_iter(), out.small());
        out.pass_on()
    } else {
        set::save_members(set.len(), set.iter().map(Member::text), out)
    }
}

/// Reads a set.
pub(crate) fn load(of: u8, from: &mut Reader<'_>, limits: Limits) -> Result<Loaded> {
    let packed_max = limits.set_ints.max(limits.set_entries);
    let (mut texts, mut len, mut distinct, mut large) = (Vec::new(), 0, Distinct::default(), None::<Table>);
    set::load(of, from, &mut |member| {
        member.with(|text| {
            len += 1;
            if large.is_none() && len <= packed_max {
                distinct.note(text);
                packed::push(&mut texts, text);
                return Ok(());
            }
            // It is too large to be packed, whatever it holds.
            let table = match &mut large {
                Some(table) => table,
                None => large.insert(unpacked(&std::mem::take(&mut texts))?),
            };
            if table.set(text, b"") { Ok(()) } else { Err(set::DUPLICATE) }
        })
    })?;
    if let Some(table) = large {
        return Ok(Loaded::Object(Box::new(Object::Set(table))));
    }
    if !distinct.are_distinct(|| Items::new(&texts)) {
        return Err(set::DUPLICATE);
    }
    let members: Vec<Member<'_>> = Items::new(&texts).map(Member::Text).collect();
    Ok(Built::new(limits, &members).give(|value| value.into()))
}

/// The members of packed bytes in a table; fails if one comes twice.
fn unpacked(texts: &[u8]) -> Result<Table> {
    let mut table = Table::new();
    match Items::new(texts).all(|text| table.set(text, b"")) {
        true => Ok(table),
        false => Err(set::DUPLICATE),
    }
}
