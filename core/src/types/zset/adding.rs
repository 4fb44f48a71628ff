//! ZADD, ZINCRBY.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RW, Spec, UPDATE, added, key};
use mortise_sdk::{Error, Result, error};

use super::SORTED_SET;
use super::value::Zset;
use crate::engine::call::Call;
use crate::engine::edit::Edit;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[ZADD, ZINCRBY];

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

const ZINCRBY: Command = Spec {
    usage: "ZINCRBY key increment:int member",
    about: "Adds to the score of a member, which is 0 if there is none.",
    since: "1.2.0",
    cost: "O(log(N)), N being the members",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    ..SORTED_SET
}
.runs(zincrby);

/// What ZADD is told beside scores and members.
#[derive(Clone, Copy, Default)]
struct Conditions {
    /// NX: only new members.
    absent: bool,
    /// XX: only members that are there.
    present: bool,
    /// GT: scores only grow.
    greater: bool,
    /// LT: scores only fall.
    less: bool,
    /// INCR: the score is added to the one there is.
    increment: bool,
}

impl Conditions {
    /// The score that a member is to have, if any is to be set.
    fn decide(self, old: Option<f64>, score: f64) -> Option<f64> {
        let Some(old) = old else { return (!self.present).then_some(score) };
        let score = if self.increment { old + score } else { score };
        let refused = self.absent || self.greater && score <= old || self.less && score >= old;
        (!refused).then_some(score)
    }
}

fn zadd(call: &mut Call<'_>) -> Result {
    let mut options = call.options(2);
    let (mut conditions, mut counts_changes) = (Conditions::default(), false);
    loop {
        if options.takes("NX") {
            conditions.absent = true;
        } else if options.takes("XX") {
            conditions.present = true;
        } else if options.takes("CH") {
            counts_changes = true;
        } else if options.takes("INCR") {
            conditions.increment = true;
        } else if options.takes("GT") {
            conditions.greater = true;
        } else if options.takes("LT") {
            conditions.less = true;
        } else {
            break;
        }
    }
    let Conditions { absent, present, greater, less, increment } = conditions;
    if options.is_empty() || options.left() % 2 == 1 {
        return Err(error::SYNTAX);
    }
    if absent && present {
        return Err(Error::new("ERR XX and NX options at the same time are not compatible"));
    }
    if absent && (greater || less) || greater && less {
        return Err(Error::new("ERR GT, LT, and/or NX options at the same time are not compatible"));
    }
    if increment && options.left() > 2 {
        return Err(Error::new("ERR INCR option supports a single increment-element pair"));
    }
    let first = options.position();
    let score = call.float(first)?;
    if increment {
        return add_to_score(call, conditions, score, first + 1);
    }
    // All scores are valid before the first is set. The first needs no room of its own, and mostly is the only one.
    let others = (first + 2..call.argc()).step_by(2).map(|index| call.float(index));
    let others = others.collect::<Result<Vec<f64>>>()?;
    let args = call.args();
    let (mut added, mut updated) = (0_usize, 0_usize);
    if let Some(mut zset) = open(call, conditions)? {
        for (score, index) in std::iter::once(score).chain(others).zip((first + 1..).step_by(2)) {
            zset.update(args.at(index), |old| {
                let new = conditions.decide(old, score)?;
                match old {
                    None => added += 1,
                    Some(old) => updated += usize::from(old != new),
                }
                Some(new)
            });
        }
        if added + updated > 0 {
            zset.changed("zadd");
        }
    }
    call.reply(if counts_changes { added + updated } else { added })
}

fn zincrby(call: &mut Call<'_>) -> Result {
    let increment = call.float(2)?;
    add_to_score(call, Conditions { increment: true, ..Conditions::default() }, increment, 3)
}

/// Adds to the score of one member and answers with it, or with nothing if the conditions do not hold.
fn add_to_score(call: &mut Call<'_>, conditions: Conditions, increment: f64, member: usize) -> Result {
    let member = call.arg(member);
    let (mut result, mut changes) = (None, false);
    if let Some(mut zset) = open(call, conditions)? {
        zset.update(member, |old| {
            result = conditions.decide(old, increment);
            changes = result != old;
            result.filter(|score| !score.is_nan())
        });
        if result.is_some_and(f64::is_nan) {
            return Err(Error::new("ERR resulting score is not a number (NaN)"));
        }
        if result.is_some() && changes {
            zset.changed("zincr");
        }
    }
    match result {
        Some(score) => call.out().double(score),
        None => call.out().null(),
    }
    Ok(())
}

/// The sorted set to be changed, which comes into being unless only members are meant that are there.
fn open<'a>(call: &'a mut Call<'_>, conditions: Conditions) -> Result<Option<Edit<'a, Zset>>> {
    let key = call.key(1);
    if conditions.present { call.edit(key) } else { call.create(key).map(Some) }
}
