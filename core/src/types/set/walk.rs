//! Members that chance or a cursor picks: SRANDMEMBER, SPOP, SSCAN.

use std::collections::HashSet;

use mortise_sdk::args;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, DELETE, RO, RW, Spec, added, key};
use mortise_sdk::error::{self, Result};

use super::SET;
use super::value::{Member, Set, SetRef};
use crate::engine::call::{Call, Key};
use crate::engine::edit::Edit;
use crate::engine::random::Random;
use crate::features::Command;
use crate::resp::output::Output;
use crate::types::drawing::{Draws, draw_different, shuffle_front};
use crate::types::scan_options::{self, ScanOptions};

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[SRANDMEMBER, SPOP, SSCAN];

/// How many members a propagated SREM names at most.
const SREM_LEN_MAX: usize = 1024;

const SSCAN: Command = Spec {
    usage: "SSCAN key cursor:int [MATCH pattern:pattern] [COUNT count:int]",
    about: "Walks over the members of a set, some in each call.",
    since: "2.8.0",
    cost: "O(1) a call, O(N) for all N members",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output"],
    ..SET
}
.runs(sscan);

fn sscan(call: &mut Call<'_>) -> Result {
    let cursor = scan_options::parse_cursor(call.arg(2))?;
    let options = call.options(3);
    let (set, out) = call.read::<Set>(call.key(1))?;
    // Redis does not look at the options of a walk over nothing.
    let Some(set) = set else {
        scan_options::reply(out, |_| (0, 0));
        return Ok(());
    };
    let options = ScanOptions::parse(options)?;
    scan_options::reply(out, |out| {
        let mut len = 0;
        let next = set.scan(cursor, options.count, &mut |member| {
            if options.admits(&member.text()) {
                member.write(out);
                len += 1;
            }
        });
        (next, len)
    });
    Ok(())
}

const SRANDMEMBER: Command = Spec {
    usage: "SRANDMEMBER key [count:int]",
    about: "Returns members of a set that chance picks.",
    cost: "O(N), N being the members returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output"],
    history: &[("2.6.0", "Argument `count`.")],
    ages: &[added("count", "2.6.0")],
    ..SET
}
.runs(srandmember);

fn srandmember(call: &mut Call<'_>) -> Result {
    if call.argc() > 3 {
        return Err(error::SYNTAX);
    }
    let draws = if call.argc() == 3 { Some(Draws::of(call.integer(2)?)?) } else { None };
    let mut random = Random::new(call.random());
    let (set, out) = call.read::<Set>(call.key(1))?;
    match (set, draws) {
        (None, None) => out.null(),
        (Some(set), None) => match set.random(&mut || random.word()) {
            Some(member) => member.write(out),
            None => out.null(),
        },
        (None, Some(_)) => out.array(0),
        (Some(set), Some(draws)) => {
            draws.check()?;
            if draws.repeated {
                draw_repeatedly(set, draws.count, &mut random, out);
            } else {
                let picked = pick(set, draws.count.min(set.len()), &mut random);
                out.array(picked.len());
                picked.into_iter().for_each(|member| member.write(out));
            }
        }
    }
    Ok(())
}

fn draw_repeatedly(set: SetRef<'_>, count: usize, random: &mut Random, out: &mut Output) {
    out.array(count);
    if let SetRef::Packed(_) = set {
        // A walk for each would cost as much as all members together.
        let members: Vec<Member<'_>> = set.iter().collect();
        return (0..count).for_each(|_| members[random.below(members.len())].write(out));
    }
    for _ in 0..count {
        let Some(member) = set.random(&mut || random.word()) else { return };
        member.write(out);
    }
}

/// So many different members, of which there must be as many; each choice is as likely as any other.
fn pick<'a>(set: SetRef<'a>, count: usize, random: &mut Random) -> Vec<Member<'a>> {
    let draws = Draws { count, repeated: false };
    if let SetRef::Table(_) = set
        && draws.are_few_of(set.len())
        && let Some(picked) = draw_different(count, || set.random(&mut || random.word()), |member| member)
    {
        return picked;
    }
    let mut members: Vec<Member<'a>> = set.iter().collect();
    shuffle_front(&mut members, count, random);
    members.truncate(count);
    members
}

const SPOP: Command = Spec {
    usage: "SPOP key [count:int]",
    about: "Removes members that chance picks from a set, and returns them.",
    cost: "O(N), N being the members returned",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    tips: &["nondeterministic_output"],
    history: &[("3.2.0", "Argument `count`.")],
    ages: &[added("count", "3.2.0")],
    ..SET
}
.runs(spop);

fn spop(call: &mut Call<'_>) -> Result {
    match call.argc() {
        2 => pop_one(call),
        3 => {
            let count = args::parse_integer(call.arg(2)).and_then(|count| usize::try_from(count).ok());
            pop_many(call, count.ok_or(error::NOT_POSITIVE)?)
        }
        _ => Err(error::SYNTAX),
    }
}

fn pop_one(call: &mut Call<'_>) -> Result {
    let key = call.key(1);
    let mut random = Random::new(call.random());
    let mut member = None;
    if let Some(mut set) = call.edit::<Set>(key)?
        && let Some(popped) = set.view().random(&mut || random.word()).map(|member| member.text().to_vec())
    {
        set.remove(&popped);
        set.changed("spop");
        member = Some(popped);
    }
    if let Some(member) = &member
        && call.is_propagated()
    {
        call.propagates(&[b"SREM", key.bytes, member]);
    }
    call.out().bulk_or_null(member.as_deref());
    Ok(())
}

fn pop_many(call: &mut Call<'_>, count: usize) -> Result {
    let key = call.key(1);
    let propagates = call.is_propagated();
    let mut random = Random::new(call.random());
    let (set, out) = call.edit_replying::<Set>(key)?;
    let len = set.as_ref().map_or(0, |set| set.view().len());
    let count = count.min(len);
    out.set(count);
    let Some(mut set) = set.filter(|_| count > 0) else { return Ok(()) };
    if count == len {
        set.view().iter().for_each(|member| member.write(out));
        set.clear();
        set.changed("spop");
        if propagates {
            call.propagates_removal(key, call.engine.config.keyspace.lazyfree_lazy_server_del);
        }
        return Ok(());
    }
    let popped = take(&mut set, count, &mut random, out, propagates);
    set.changed("spop");
    propagate_removal(call, key, &popped);
    Ok(())
}

/// Takes so many members out, fewer than there are, and writes them; hands them over if they are wanted.
fn take(
    set: &mut Edit<'_, Set>,
    count: usize,
    random: &mut Random,
    out: &mut Output,
    wanted: bool,
) -> Vec<Vec<u8>> {
    let mut popped = Vec::new();
    let mut note = |member: &[u8]| {
        out.bulk(member);
        if wanted {
            popped.push(member.to_vec());
        }
    };
    let left = set.view().len() - count;
    match set.view() {
        // One after another while most stay.
        SetRef::Table(_) if count <= left => {
            for _ in 0..count {
                let member = set.view().random(&mut || random.word()).map(|member| member.text().to_vec());
                let Some(member) = member else { break };
                note(&member);
                set.remove(&member);
            }
        }
        // Otherwise those are picked that stay; the rest goes as a whole, and is freed elsewhere.
        SetRef::Table(table) => {
            let stay = pick(set.view(), left, random);
            let staying: HashSet<Member<'_>> = stay.iter().copied().collect();
            table.iter().map(|(member, _)| member).for_each(|member| {
                if !staying.contains(&Member::Text(member)) {
                    note(member);
                }
            });
            let rest = set.rest(&stay);
            set.replace(rest);
        }
        SetRef::Ints(_) | SetRef::Packed(_) => {
            let mut members: Vec<(usize, Member<'_>)> = set.view().iter().enumerate().collect();
            shuffle_front(&mut members, count, random);
            members[..count].iter().for_each(|(_, member)| note(&member.text()));
            // What stays keeps its order.
            let mut rest = members.split_off(count);
            rest.sort_unstable_by_key(|(place, _)| *place);
            let rest: Vec<Member<'_>> = rest.into_iter().map(|(_, member)| member).collect();
            let rest = set.rest(&rest);
            set.replace(rest);
        }
    }
    popped
}

/// Whoever follows removes the members that chance has picked here.
fn propagate_removal(call: &mut Call<'_>, key: Key<'_>, popped: &[Vec<u8>]) {
    for some in popped.chunks(SREM_LEN_MAX) {
        let words: Vec<&[u8]> =
            [&b"SREM"[..], key.bytes].into_iter().chain(some.iter().map(Vec::as_slice)).collect();
        call.propagates(&words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::packed;
    use crate::types::set::ints;
    use crate::types::table::Table;

    #[test]
    fn every_member_is_picked_equally_often() {
        const MEMBERS: usize = 40;
        let (mut table, mut bytes) = (Table::new(), Vec::new());
        for member in (0..MEMBERS).map(|member| member.to_string()) {
            table.set(member.as_bytes(), b"");
            packed::push(&mut bytes, member.as_bytes());
        }
        let numbers = ints::pack(&(0..MEMBERS as i64).collect::<Vec<i64>>());
        let mut random = Random::new(3);
        for set in [SetRef::Table(&table), SetRef::Packed(&bytes), SetRef::ints(&numbers)] {
            for (count, repeated) in [(1, true), (5, false), (30, false), (40, false), (50, true)] {
                let mut counts = [0f64; MEMBERS];
                for _ in 0..1000 {
                    let mut out = Output::default();
                    let picked: Vec<usize> = if repeated {
                        draw_repeatedly(set, count, &mut random, &mut out);
                        let text = String::from_utf8(out.take()).expect("members are digits");
                        text.split("\r\n").skip(2).step_by(2).map(|n| n.parse().unwrap()).collect()
                    } else {
                        let members = pick(set, count, &mut random);
                        members.iter().map(|member| member.integer().unwrap() as usize).collect()
                    };
                    assert_eq!(picked.len(), count);
                    let different: HashSet<_> = picked.iter().collect();
                    assert!(repeated || different.len() == count);
                    picked.iter().for_each(|&member| counts[member] += 1.0);
                }
                let expected = (count * 1000) as f64 / MEMBERS as f64;
                let deviation = counts.iter().map(|n| (n - expected).powi(2) / expected).sum::<f64>();
                // Chi-square with 39 degrees of freedom: 90 is exceeded once in 100,000 times.
                assert!(deviation < 90.0, "{count} {repeated}: {deviation}");
            }
        }
    }
}
