//! ZADD.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{RW, Spec, UPDATE, added, key};
use mortise_sdk::{Result, args, error};

use super::value::Zset;
use crate::engine::call::Call;
use crate::features::Command;

const SORTED_SET: Spec = Spec::group("sorted-set");

/// This file's commands.
pub const COMMANDS: &[Command] = &[ZADD];

const ZADD: Command = Spec {
    usage: "ZADD key [condition=<NX | XX>] [comparison=<GT | LT>] [change=CH] \
            [increment=INCR] <score:double member>...",
    about: "Adds members to a sorted set or changes their scores.",
    since: "1.2.0",
    cost: "O(log(N)) a member, N being the members",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    history: &[
        ("2.4.0", "Takes several members."),
        ("3.0.2", "Options `XX`, `NX`, `CH` and `INCR`."),
        ("6.2.0", "Options `GT` and `LT`."),
    ],
    ages: &[
        added("condition", "3.0.2"),
        added("comparison", "6.2.0"),
        added("CH", "3.0.2"),
        added("INCR", "3.0.2"),
    ],
    ..SORTED_SET
}
.runs(zadd);

fn zadd(call: &mut Call<'_>) -> Result {
    let words = call.args();
    if words.len() % 2 == 1 {
        return Err(error::SYNTAX);
    }
    let mut scores = Vec::with_capacity(words.len() / 2 - 1);
    for index in (2..words.len()).step_by(2) {
        scores.push(args::parse_float(words.at(index)).ok_or(error::NOT_FLOAT)?);
    }
    let mut zset = call.create::<Zset>(call.key(1))?;
    let mut added = 0;
    for (score, index) in scores.into_iter().zip((3..).step_by(2)) {
        added += usize::from(zset.set(words.at(index), score).is_none());
    }
    zset.changed("zadd");
    call.reply(added)
}
