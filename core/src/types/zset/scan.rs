//! ZSCAN and ZRANDMEMBER: members in no order that anyone asked for.

use std::collections::HashSet;

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RO, Spec, key};
use mortise_sdk::resp::format_double;
use mortise_sdk::{Error, Result, error, glob};

use super::SORTED_SET;
use super::results::answer;
use super::value::{Zset, ZsetRef};
use crate::engine::call::Call;
use crate::features::Command;
use crate::resp::output::Output;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[ZSCAN, ZRANDMEMBER];

const ZSCAN: Command = Spec {
    usage: "ZSCAN key cursor:int [MATCH pattern:pattern] [COUNT count:int]",
    about: "Walks over the members of a sorted set, some in each call.",
    since: "2.8.0",
    cost: "O(1) a call, O(N) for all N members",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output"],
    ..SORTED_SET
}
.runs(zscan);

fn zscan(call: &mut Call<'_>) -> Result {
    let cursor = parse_cursor(call.arg(2)).ok_or(Error::new("ERR invalid cursor"))?;
    let mut options = call.options(3);
    let (zset, out) = call.read::<Zset>(call.key(1))?;
    // Redis does not look at the options of a walk over nothing.
    let Some(zset) = zset else {
        out.array(2);
        out.bulk(b"0");
        out.array(0);
        return Ok(());
    };
    let (mut pattern, mut count) = (None, 10);
    while !options.is_empty() {
        if let Some(text) = options.takes_value("COUNT") {
            count = mortise_sdk::args::parse_integer(text).ok_or(error::NOT_INTEGER)?;
            if count < 1 {
                return Err(error::SYNTAX);
            }
        } else if let Some(text) = options.takes_value("MATCH") {
            pattern = Some(text).filter(|text| *text != b"*");
        } else {
            return Err(error::SYNTAX);
        }
    }
    let (mut members, mut visited) = (Output::new(out.version()), 0);
    let next = zset.scan(cursor, usize::try_from(count).unwrap_or(usize::MAX), &mut |member, score| {
        if pattern.is_none_or(|pattern| glob::matches(pattern, member)) {
            members.bulk(member);
            members.bulk(format_double(score).as_bytes());
            visited += 1;
        }
    });
    out.array(2);
    out.bulk(next.to_string().as_bytes());
    out.array(visited * 2);
    out.raw(members.bytes());
    Ok(())
}

/// A cursor as C's `strtoul` reads it, all of it.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let (negative, digits) = match text {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let cursor: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if negative { cursor.wrapping_neg() } else { cursor })
}

const ZRANDMEMBER: Command = Spec {
    usage: "ZRANDMEMBER key [options=<count:int [WITHSCORES]>]",
    about: "Returns members of a sorted set that chance picks.",
    since: "6.2.0",
    cost: "O(N), N being the members returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output"],
    ..SORTED_SET
}
.runs(zrandmember);

fn zrandmember(call: &mut Call<'_>) -> Result {
    let Some(count) = call.args().get(2) else {
        let mut seed = call.random();
        let (zset, out) = call.read::<Zset>(call.key(1))?;
        let member = zset.and_then(|zset| zset.random(&mut || next_random(&mut seed)));
        out.bulk_or_null(member.map(|(_, member)| member));
        return Ok(());
    };
    let count = mortise_sdk::args::parse_integer(count).ok_or(error::NOT_INTEGER)?;
    if count == i64::MIN {
        let (min, max) = (-i64::MAX, i64::MAX);
        return Err(Error::text(format!("ERR value is out of range, value must between {min} and {max}")));
    }
    let mut options = call.options(3);
    let with_scores = options.takes("WITHSCORES");
    if !options.is_empty() {
        return Err(error::SYNTAX);
    }
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(error::OUT_OF_RANGE);
    }
    let mut seed = call.random();
    let (zset, out) = call.read::<Zset>(call.key(1))?;
    let Some(zset) = zset.filter(|_| count != 0) else {
        out.array(0);
        return Ok(());
    };
    let mut next = || next_random(&mut seed);
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        if wanted > REPEATED_MAX {
            return Err(error::OUT_OF_RANGE);
        }
        draw_repeatedly(out, zset, wanted, with_scores, &mut next);
    } else if wanted >= zset.len() {
        // All of them, in the order in which Redis has them.
        answer(out, zset.len(), zset.slice(0..zset.len(), true), with_scores);
    } else {
        let ranks = distinct_ranks(zset.len(), wanted, &mut next);
        let mut members = zset.iter();
        match zset {
            ZsetRef::Packed(_) => {
                let mut passed = 0;
                let members = ranks.iter().filter_map(|rank| {
                    let skip = rank - passed;
                    passed = rank + 1;
                    members.nth(skip)
                });
                answer(out, wanted, members, with_scores);
            }
            ZsetRef::Table(_) => {
                answer(out, wanted, ranks.iter().filter_map(|rank| zset.at(*rank)), with_scores);
            }
        }
    }
    Ok(())
}

/// How many members with repetitions are answered at most: what is asked for has no other bound, and stands in memory.
const REPEATED_MAX: usize = 1 << 27;

fn draw_repeatedly(
    out: &mut Output,
    zset: ZsetRef<'_>,
    count: usize,
    with_scores: bool,
    next: &mut dyn FnMut() -> u64,
) {
    match zset {
        ZsetRef::Packed(_) => {
            let members: Vec<(f64, &[u8])> = zset.iter().collect();
            let draws = (0..count).map(|_| members[below(next, members.len())]);
            answer(out, count, draws, with_scores);
        }
        ZsetRef::Table(_) => {
            let len = zset.len();
            answer(out, count, (0..count).filter_map(|_| zset.at(below(next, len))), with_scores);
        }
    }
}

/// So many of `len` ranks, each set of them as likely as any other, in order (Floyd's algorithm).
fn distinct_ranks(len: usize, count: usize, next: &mut dyn FnMut() -> u64) -> Vec<usize> {
    let mut chosen = HashSet::with_capacity(count);
    for last in len - count..len {
        let rank = below(next, last + 1);
        if !chosen.insert(rank) {
            chosen.insert(last);
        }
    }
    let mut ranks: Vec<usize> = chosen.into_iter().collect();
    ranks.sort_unstable();
    ranks
}

/// A number below a bound, evenly but for 2^-64 times the bound.
fn below(next: &mut dyn FnMut() -> u64, bound: usize) -> usize {
    ((u128::from(next()) * bound as u128) >> 64) as usize
}

/// More random numbers from one (SplitMix64).
fn next_random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_c_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("", Some(0)),
            ("+7", Some(7)),
            ("-1", Some(u64::MAX)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            (" 1", None),
            ("1x", None),
            ("-", None),
        ] {
            assert_eq!(parse_cursor(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn distinct_ranks_are_distinct_and_evenly_drawn() {
        let mut seed = 1;
        let mut drawn = [0_u32; 10];
        for _ in 0..4000 {
            let ranks = distinct_ranks(10, 4, &mut || next_random(&mut seed));
            assert_eq!(ranks.len(), 4);
            assert!(ranks.is_sorted_by(|left, right| left < right));
            ranks.iter().for_each(|rank| drawn[*rank] += 1);
        }
        // Expected 1600 each with a deviation of 31.
        assert!(drawn.iter().all(|count| (1440..1760).contains(count)), "{drawn:?}");
    }
}
