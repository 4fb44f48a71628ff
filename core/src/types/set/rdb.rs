//! A set as it is saved: integers in ascending order if it is one of few integers, else its members one after another.

use super::value::{Built, Member, SetRef};
use crate::engine::edit::Limits;
use crate::persistence::snapshot::format::kind;
use crate::persistence::snapshot::value::Loaded;
use crate::persistence::snapshot::{Reader, Result, Writer, set};
use crate::types::packed::{self, Distinct, Items};

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
pub(crate) fn save(set: SetRef<'_>, out: &mut Writer) {
    if kind_of(set) == kind::SET_INTSET {
        let mut integers: Vec<i64> = set.iter().filter_map(Member::integer).collect();
        integers.sort_unstable();
        set::save_integers(integers.into_iter(), out);
    } else {
        out.len(set.len());
        set.iter().for_each(|member| out.bytes(&member.text()));
    }
}

/// Reads a set.
pub(crate) fn load(of: u8, from: &mut Reader<'_>, limits: Limits) -> Result<Loaded> {
    let (mut texts, mut distinct) = (Vec::new(), Distinct::default());
    set::load(of, from, &mut |member| {
        member.with(|text| {
            distinct.note(text);
            packed::push(&mut texts, text);
        });
        Ok(())
    })?;
    if !distinct.are_distinct(|| Items::new(&texts)) {
        return Err(set::DUPLICATE);
    }
    let members: Vec<Member<'_>> = Items::new(&texts).map(Member::Text).collect();
    Ok(Built::new(limits, &members).give(|value| value.into()))
}
