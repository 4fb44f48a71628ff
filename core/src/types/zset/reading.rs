//! ZCARD, ZSCORE, ZMSCORE, ZRANK, ZREVRANK, ZCOUNT, ZLEXCOUNT.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RO, Spec, added, key};
use mortise_sdk::{Result, error};

use super::SORTED_SET;
use super::range::{By, Range};
use super::value::{Zset, ZsetRef};
use crate::engine::call::Call;
use crate::features::Command;
use crate::resp::output::Output;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[ZCARD, ZSCORE, ZMSCORE, ZRANK, ZREVRANK, ZCOUNT, ZLEXCOUNT];

const ZCARD: Command = Spec {
    usage: "ZCARD key",
    about: "Counts the members of a sorted set.",
    since: "1.2.0",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO])],
    ..SORTED_SET
}
.runs(zcard);

fn zcard(call: &mut Call<'_>) -> Result {
    let (zset, out) = call.read::<Zset>(call.key(1))?;
    out.count(zset.map_or(0, ZsetRef::len));
    Ok(())
}

const ZSCORE: Command = Spec {
    usage: "ZSCORE key member",
    about: "Returns the score of a member.",
    since: "1.2.0",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..SORTED_SET
}
.runs(zscore);

fn zscore(call: &mut Call<'_>) -> Result {
    let member = call.arg(2);
    let (zset, out) = call.read::<Zset>(call.key(1))?;
    score_or_null(out, zset.and_then(|zset| zset.score(member)));
    Ok(())
}

const ZMSCORE: Command = Spec {
    usage: "ZMSCORE key member...",
    about: "Returns the scores of several members.",
    since: "6.2.0",
    cost: "O(N), N being the members named",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..SORTED_SET
}
.runs(zmscore);

fn zmscore(call: &mut Call<'_>) -> Result {
    let args = call.args();
    let (zset, out) = call.read::<Zset>(call.key(1))?;
    out.array(args.len() - 2);
    for member in args.iter().skip(2) {
        score_or_null(out, zset.and_then(|zset| zset.score(member)));
    }
    Ok(())
}

fn score_or_null(out: &mut Output, score: Option<f64>) {
    match score {
        Some(score) => out.double(score),
        None => out.null(),
    }
}

const ZRANK: Command = Spec {
    usage: "ZRANK key member [WITHSCORE]",
    about: "Returns the place of a member, counted from the lowest score.",
    since: "2.0.0",
    cost: "O(log(N))",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    history: &[("7.2.0", "Option `WITHSCORE`.")],
    ages: &[added("WITHSCORE", "7.2.0")],
    ..SORTED_SET
}
.runs(zrank);

fn zrank(call: &mut Call<'_>) -> Result {
    rank(call, false)
}

const ZREVRANK: Command = Spec {
    usage: "ZREVRANK key member [WITHSCORE]",
    about: "Returns the place of a member, counted from the highest score.",
    since: "2.0.0",
    cost: "O(log(N))",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    history: &[("7.2.0", "Option `WITHSCORE`.")],
    ages: &[added("WITHSCORE", "7.2.0")],
    ..SORTED_SET
}
.runs(zrevrank);

fn zrevrank(call: &mut Call<'_>) -> Result {
    rank(call, true)
}

fn rank(call: &mut Call<'_>, reverse: bool) -> Result {
    let mut options = call.options(3);
    let with_score = options.takes("WITHSCORE");
    if !options.is_empty() {
        return Err(error::SYNTAX);
    }
    let member = call.arg(2);
    let (zset, out) = call.read::<Zset>(call.key(1))?;
    let found = zset.and_then(|zset| {
        let (rank, score) = zset.rank(member)?;
        Some((if reverse { zset.len() - 1 - rank } else { rank }, score))
    });
    match found {
        None if with_score => out.null_array(),
        None => out.null(),
        Some((rank, score)) => {
            if with_score {
                out.array(2);
            }
            out.count(rank);
            if with_score {
                out.double(score);
            }
        }
    }
    Ok(())
}

const ZCOUNT: Command = Spec {
    usage: "ZCOUNT key min:double max:double",
    about: "Counts the members whose scores lie in a range.",
    since: "2.0.0",
    cost: "O(log(N)), N being the members",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..SORTED_SET
}
.runs(zcount);

fn zcount(call: &mut Call<'_>) -> Result {
    count(call, By::Score)
}

const ZLEXCOUNT: Command = Spec {
    usage: "ZLEXCOUNT key min max",
    about: "Counts the members in a range of names, all scores being the same.",
    since: "2.8.9",
    cost: "O(log(N)), N being the members",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..SORTED_SET
}
.runs(zlexcount);

fn zlexcount(call: &mut Call<'_>) -> Result {
    count(call, By::Name)
}

fn count(call: &mut Call<'_>, by: By) -> Result {
    let range = Range::parse(by, call.arg(2), call.arg(3))?;
    let (zset, out) = call.read::<Zset>(call.key(1))?;
    out.count(zset.map_or(0, |zset| range.ranks(zset, false).len()));
    Ok(())
}
