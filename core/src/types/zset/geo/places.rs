//! GEOADD, GEOPOS, GEOHASH, GEODIST.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RO, RW, Spec, UPDATE, added, key};
use mortise_sdk::{Result, error};

use super::cell::Point;
use super::{GEO, point, unit, write_distance, write_point};
use crate::engine::call::Call;
use crate::engine::edit::Edit;
use crate::features::Command;
use crate::resp::output::Output;
use crate::types::zset::value::Zset;

/// This file's commands.
pub(in crate::types::zset) const COMMANDS: &[Command] = &[GEOADD, GEOPOS, GEOHASH, GEODIST];

const GEOADD: Command = Spec {
    usage: "GEOADD key [condition=<NX | XX>] [change=CH] <longitude:double latitude:double member>...",
    about: "Adds places to a sorted set, or moves them.",
    since: "3.2.0",
    cost: "O(log(N)) a place, N being the members",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[RW, UPDATE])],
    history: &[("6.2.0", "Options `CH`, `NX` and `XX`.")],
    ages: &[added("condition", "6.2.0"), added("CH", "6.2.0")],
    ..GEO
}
.runs(geoadd);

fn geoadd(call: &mut Call<'_>) -> Result {
    let (mut absent, mut present, mut counts_changes) = (false, false, false);
    let mut options = call.options(2);
    loop {
        if options.takes("NX") {
            absent = true;
        } else if options.takes("XX") {
            present = true;
        } else if options.takes("CH") {
            counts_changes = true;
        } else {
            break;
        }
    }
    let first = options.position();
    if !options.left().is_multiple_of(3) || absent && present {
        return Err(error::SYNTAX);
    }
    // All points are valid before the first is added.
    let scores = (first..call.argc()).step_by(3).map(|index| Ok(point(call.args(), index)?.score()));
    let scores = scores.collect::<Result<Vec<f64>>>()?;
    if scores.is_empty() {
        return Err(error::SYNTAX);
    }
    let args = call.args();
    let (mut added, mut updated) = (0_usize, 0_usize);
    if let Some(mut zset) = open(call, present)? {
        for (score, index) in scores.into_iter().zip((first + 2..).step_by(3)) {
            zset.update(args.at(index), |old| match old {
                None if present => None,
                None => {
                    added += 1;
                    Some(score)
                }
                Some(_) if absent => None,
                Some(old) => {
                    updated += usize::from(old != score);
                    Some(score)
                }
            });
        }
        if added + updated > 0 {
            zset.changed("zadd");
        }
    }
    call.reply(if counts_changes { added + updated } else { added })
}

/// The sorted set to be changed, which comes into being unless only members are meant that are there.
fn open<'a>(call: &'a mut Call<'_>, present: bool) -> Result<Option<Edit<'a, Zset>>> {
    let key = call.key(1);
    if present { call.edit(key) } else { call.create(key).map(Some) }
}

/// Answers for each member that the call names with its place, or with what stands for one that is not there.
fn answer_each(call: &mut Call<'_>, missing: fn(&mut Output), write: impl Fn(&mut Output, Point)) -> Result {
    let args = call.args();
    let (zset, out) = call.read::<Zset>(call.key(1))?;
    out.array(args.len() - 2);
    for member in args.iter().skip(2) {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => write(out, Point::of_score(score)),
            None => missing(out),
        }
    }
    Ok(())
}

const GEOPOS: Command = Spec {
    usage: "GEOPOS key [member]...",
    about: "Returns longitude and latitude of places.",
    since: "3.2.0",
    cost: "O(N), N being the members named",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..GEO
}
.runs(|call| answer_each(call, Output::null_array, write_point));

const GEOHASH: Command = Spec {
    usage: "GEOHASH key [member]...",
    about: "Returns the geohashes of places, as they are written elsewhere.",
    since: "3.2.0",
    cost: "O(log(N)) a place, N being the members",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..GEO
}
.runs(|call| answer_each(call, Output::null, |out, point| out.bulk(&point.geohash())));

const GEODIST: Command = Spec {
    usage: "GEODIST key member1 member2 [unit=<M | KM | FT | MI>]",
    about: "Returns the distance between two places, in metres or another unit.",
    since: "3.2.0",
    cost: "O(log(N)), N being the members",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..GEO
}
.runs(geodist);

fn geodist(call: &mut Call<'_>) -> Result {
    if call.argc() > 5 {
        return Err(error::SYNTAX);
    }
    let metres = call.args().get(4).map_or(Ok(1.0), unit)?;
    let members = [call.arg(2), call.arg(3)];
    let (zset, out) = call.read::<Zset>(call.key(1))?;
    match zset.map(|zset| members.map(|member| zset.score(member).map(Point::of_score))) {
        Some([Some(one), Some(other)]) => write_distance(out, one.distance(other) / metres),
        _ => out.null(),
    }
    Ok(())
}
