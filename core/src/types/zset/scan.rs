//! ZSCAN and ZRANDMEMBER: members in no order that anyone asked for.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RO, Spec, key};
use mortise_sdk::resp::{format_double, format_integer};
use mortise_sdk::{Result, args, error};

use super::SORTED_SET;
use super::results::answer;
use super::value::{Zset, ZsetRef};
use crate::engine::call::Call;
use crate::engine::random::Random;
use crate::features::Command;
use crate::resp::output::Output;
use crate::types::drawing::{Draws, different_ranks};
use crate::types::scan_options::{self, ScanOptions};

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
    let cursor = scan_options::parse_cursor(call.arg(2))?;
    let options = call.options(3);
    let (zset, out) = call.read::<Zset>(call.key(1))?;
    // Redis does not look at the options of a walk over nothing.
    let Some(zset) = zset else {
        scan_options::reply(out, |_| (0, 0));
        return Ok(());
    };
    let options = ScanOptions::parse(options)?;
    scan_options::reply(out, |out| {
        let mut len = 0;
        let next = zset.scan(cursor, options.count, &mut |member, score| {
            if options.admits(member) {
                out.bulk(member);
                // A bulk string in RESP3, too.
                match kept_integer(zset, score) {
                    Some(score) => out.bulk(format_integer(score).as_bytes()),
                    None => out.bulk(format_double(score).as_bytes()),
                }
                len += 2;
            }
        });
        (next, len)
    });
    Ok(())
}

/// The score as an integer if Redis keeps it as one, and says it as it keeps it: in small sets, up to 2^62.
fn kept_integer(zset: ZsetRef<'_>, score: f64) -> Option<i64> {
    const MAX: f64 = (1u64 << 62) as f64;
    let is_kept = matches!(zset, ZsetRef::Packed(_)) && score.abs() <= MAX && score.trunc() == score;
    is_kept.then_some(score as i64)
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
        let mut random = Random::new(call.random());
        let (zset, out) = call.read::<Zset>(call.key(1))?;
        let member = zset.and_then(|zset| zset.random(&mut || random.word()));
        out.bulk_or_null(member.map(|(_, member)| member));
        return Ok(());
    };
    let count = args::parse_integer(count).ok_or(error::NOT_INTEGER)?;
    let draws = Draws::of(count)?;
    let mut options = call.options(3);
    let with_scores = options.takes("WITHSCORES");
    if !options.is_empty() {
        return Err(error::SYNTAX);
    }
    if with_scores {
        draws.check_pairs()?;
    }
    let mut random = Random::new(call.random());
    let (zset, out) = call.read::<Zset>(call.key(1))?;
    let Some(zset) = zset.filter(|_| draws.count != 0) else {
        out.array(0);
        return Ok(());
    };
    draws.check()?;
    let wanted = draws.count;
    if draws.repeated {
        draw_repeatedly(out, zset, wanted, with_scores, &mut random);
    } else if wanted >= zset.len() {
        // All of them, in the order in which Redis has them.
        answer(out, zset.len(), zset.slice(0..zset.len(), true), with_scores);
    } else {
        let ranks = different_ranks(zset.len(), wanted, &mut random);
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

fn draw_repeatedly(
    out: &mut Output,
    zset: ZsetRef<'_>,
    count: usize,
    with_scores: bool,
    random: &mut Random,
) {
    match zset {
        ZsetRef::Packed(_) => {
            let members: Vec<(f64, &[u8])> = zset.iter().collect();
            let draws = (0..count).map(|_| members[random.below(members.len())]);
            answer(out, count, draws, with_scores);
        }
        ZsetRef::Table(_) => {
            let len = zset.len();
            answer(out, count, (0..count).filter_map(|_| zset.at(random.below(len))), with_scores);
        }
    }
}
