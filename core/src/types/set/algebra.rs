//! SINTER, SUNION, SDIFF, and what stores them.

use std::collections::HashSet;

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, OW, RO, RW, Spec, UPDATE, key};
use mortise_sdk::{Result, error};

use super::SET;
use super::value::{Built, Member, Set, SetRef};
use crate::engine::call::{Call, Key};
use crate::features::Command;
use crate::resp::output::Output;
use crate::types::Type;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[SINTER, SUNION, SDIFF, SINTERSTORE, SUNIONSTORE, SDIFFSTORE];

#[derive(Clone, Copy)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

impl Operation {
    fn of<'a>(self, sets: &[Option<SetRef<'a>>]) -> Vec<Member<'a>> {
        match self {
            Operation::Union => union(sets),
            Operation::Intersection => shared(&by_size(sets).unwrap_or_default()).collect(),
            Operation::Difference => subtract(sets),
        }
    }
}

/// Members without repetitions.
pub(super) type Seen<'a> = HashSet<Member<'a>, foldhash::quality::RandomState>;

fn union<'a>(sets: &[Option<SetRef<'a>>]) -> Vec<Member<'a>> {
    let mut sets = sets.iter().copied().flatten();
    let Some(first) = sets.next() else { return Vec::new() };
    let mut members: Vec<Member<'a>> = first.iter().collect();
    let mut seen = None;
    for set in sets {
        let seen = seen.get_or_insert_with(|| members.iter().copied().collect::<Seen<'a>>());
        members.extend(set.iter().filter(|member| seen.insert(*member)));
    }
    members
}

/// The sets, the smallest first; `None` if one has no key, and so no member.
pub(super) fn by_size<'a>(sets: &[Option<SetRef<'a>>]) -> Option<Vec<SetRef<'a>>> {
    let mut sets = sets.iter().copied().collect::<Option<Vec<SetRef<'a>>>>()?;
    sets.sort_by_key(|set| set.len());
    Some(sets)
}

/// Members that all sets have, of which the first should be the smallest.
pub(super) fn shared<'a, 's>(sets: &'s [SetRef<'a>]) -> impl Iterator<Item = Member<'a>> + 's {
    let (first, others) = sets.split_first().map_or((None, sets), |(first, others)| (Some(*first), others));
    let members = first.into_iter().flat_map(SetRef::iter);
    members.filter(|member| others.iter().all(|set| set.has(*member)))
}

/// Members of the first set that no other has.
fn subtract<'a>(sets: &[Option<SetRef<'a>>]) -> Vec<Member<'a>> {
    let Some((Some(first), others)) = sets.split_first() else { return Vec::new() };
    let mut others: Vec<SetRef<'a>> = others.iter().copied().flatten().collect();
    let others_len: usize = others.iter().map(|set| set.len()).sum();
    // Either the first set's members are looked up in the others, or in what of the others' members it has; the former
    // stops early, so it counts half. The order is the first set's either way: what is stored is the same wherever the
    // call is repeated.
    if first.len().saturating_mul(others.len()) / 2 <= first.len() + others_len {
        others.sort_by_key(|set| std::cmp::Reverse(set.len()));
        return first.iter().filter(|member| others.iter().all(|set| !set.has(*member))).collect();
    }
    let theirs = others.into_iter().flat_map(SetRef::iter);
    let shared: Seen<'a> = theirs.filter(|member| first.has(*member)).collect();
    first.iter().filter(|member| !shared.contains(member)).collect()
}

/// Looks sets up; one that is of another type fails the call, wherever it stands.
pub(super) fn with_sets<T>(
    call: &mut Call<'_>,
    keys: &[Key<'_>],
    run: impl FnOnce(Vec<Option<SetRef<'_>>>, &mut Output) -> T,
) -> Result<T> {
    let (entries, out) = call.look_all(keys);
    let view = |entry| Set::view(entry).ok_or(error::WRONGTYPE);
    let sets = entries.into_iter().map(|entry| entry.map(view).transpose());
    let sets = sets.collect::<Result<Vec<Option<SetRef<'_>>>>>()?;
    Ok(run(sets, out))
}

fn answer(call: &mut Call<'_>, operation: Operation) -> Result {
    let keys: Vec<Key<'_>> = (1..call.argc()).map(|index| call.key(index)).collect();
    with_sets(call, &keys, |sets, out| {
        let members = operation.of(&sets);
        out.set(members.len());
        members.into_iter().for_each(|member| member.write(out));
    })
}

/// Stores what comes of the sets behind the first key; nothing removes the key.
fn store(call: &mut Call<'_>, operation: Operation, event: &'static str) -> Result {
    let keys: Vec<Key<'_>> = (2..call.argc()).map(|index| call.key(index)).collect();
    let limits = call.limits();
    let built = with_sets(call, &keys, |sets, _| Built::new(limits, &operation.of(&sets)))?;
    let (target, len) = (call.key(1), built.len);
    if len == 0 {
        call.remove(target, "del");
    } else {
        built.give(|value| call.put::<Set>(target, value, false).changed(event));
    }
    call.reply(len)
}

const SINTER: Command = Spec {
    usage: "SINTER key...",
    about: "Returns the members that all sets share.",
    cost: "O(N*M), N being the members of the smallest of M sets",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output_order"],
    ..SET
}
.runs(|call| answer(call, Operation::Intersection));

const SUNION: Command = Spec {
    usage: "SUNION key...",
    about: "Returns the members of any of several sets.",
    cost: "O(N), N being the members of all sets",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output_order"],
    ..SET
}
.runs(|call| answer(call, Operation::Union));

const SDIFF: Command = Spec {
    usage: "SDIFF key...",
    about: "Returns the members of the first set that are in none of the others.",
    cost: "O(N), N being the members of all sets",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output_order"],
    ..SET
}
.runs(|call| answer(call, Operation::Difference));

const SINTERSTORE: Command = Spec {
    usage: "SINTERSTORE destination key...",
    about: "Stores the members that all sets share.",
    cost: "O(N*M), N being the members of the smallest of M sets",
    flags: &[WRITE, DENYOOM],
    keys: &[key("destination", &[RW, UPDATE]), key("key", &[RO, ACCESS])],
    ..SET
}
.runs(|call| store(call, Operation::Intersection, "sinterstore"));

const SUNIONSTORE: Command = Spec {
    usage: "SUNIONSTORE destination key...",
    about: "Stores the members of any of several sets.",
    cost: "O(N), N being the members of all sets",
    flags: &[WRITE, DENYOOM],
    keys: &[key("destination", &[OW, UPDATE]), key("key", &[RO, ACCESS])],
    ..SET
}
.runs(|call| store(call, Operation::Union, "sunionstore"));

const SDIFFSTORE: Command = Spec {
    usage: "SDIFFSTORE destination key...",
    about: "Stores the members of the first set that are in none of the others.",
    cost: "O(N), N being the members of all sets",
    flags: &[WRITE, DENYOOM],
    keys: &[key("destination", &[OW, UPDATE]), key("key", &[RO, ACCESS])],
    ..SET
}
.runs(|call| store(call, Operation::Difference, "sdiffstore"));
