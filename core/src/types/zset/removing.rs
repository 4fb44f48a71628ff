//! ZREM, ZREMRANGEBYRANK, ZREMRANGEBYSCORE, ZREMRANGEBYLEX.

use mortise_sdk::Result;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{DELETE, RW, Spec, key};

use super::SORTED_SET;
use super::range::{By, Range};
use super::value::Zset;
use crate::engine::call::Call;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[ZREM, ZREMRANGEBYRANK, ZREMRANGEBYSCORE, ZREMRANGEBYLEX];

const ZREM: Command = Spec {
    usage: "ZREM key member...",
    about: "Removes members from a sorted set.",
    since: "1.2.0",
    cost: "O(M*log(N)), N being the members and M those named",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, DELETE])],
    history: &[("2.4.0", "Takes several members.")],
    ..SORTED_SET
}
.runs(zrem);

fn zrem(call: &mut Call<'_>) -> Result {
    let args = call.args();
    let Some(mut zset) = call.edit::<Zset>(call.key(1))? else { return call.reply(0_i64) };
    let removed = args.iter().skip(2).filter(|member| zset.remove(member).is_some()).count();
    if removed > 0 {
        zset.changed("zrem");
    } else {
        drop(zset);
    }
    call.reply(removed)
}

const ZREMRANGEBYRANK: Command = Spec {
    usage: "ZREMRANGEBYRANK key start:int stop:int",
    about: "Removes the members in a range of ranks.",
    since: "2.0.0",
    cost: "O(log(N)+M), N being the members and M those removed",
    flags: &[WRITE],
    keys: &[key("key", &[RW, DELETE])],
    ..SORTED_SET
}
.runs(zremrangebyrank);

fn zremrangebyrank(call: &mut Call<'_>) -> Result {
    remove_range(call, By::Rank, "zremrangebyrank")
}

const ZREMRANGEBYSCORE: Command = Spec {
    usage: "ZREMRANGEBYSCORE key min:double max:double",
    about: "Removes the members in a range of scores.",
    since: "1.2.0",
    cost: "O(log(N)+M), N being the members and M those removed",
    flags: &[WRITE],
    keys: &[key("key", &[RW, DELETE])],
    ..SORTED_SET
}
.runs(zremrangebyscore);

fn zremrangebyscore(call: &mut Call<'_>) -> Result {
    remove_range(call, By::Score, "zremrangebyscore")
}

const ZREMRANGEBYLEX: Command = Spec {
    usage: "ZREMRANGEBYLEX key min max",
    about: "Removes the members in a range of names, all scores being the same.",
    since: "2.8.9",
    cost: "O(log(N)+M), N being the members and M those removed",
    flags: &[WRITE],
    keys: &[key("key", &[RW, DELETE])],
    ..SORTED_SET
}
.runs(zremrangebylex);

fn zremrangebylex(call: &mut Call<'_>) -> Result {
    remove_range(call, By::Name, "zremrangebylex")
}

fn remove_range(call: &mut Call<'_>, by: By, event: &'static str) -> Result {
    let range = Range::parse(by, call.arg(2), call.arg(3))?;
    let Some(mut zset) = call.edit::<Zset>(call.key(1))? else { return call.reply(0_i64) };
    let ranks = range.ranks(zset.view(), false);
    let removed = ranks.len();
    if removed > 0 {
        zset.remove_ranks(ranks);
        zset.changed(event);
    } else {
        drop(zset);
    }
    call.reply(removed)
}
