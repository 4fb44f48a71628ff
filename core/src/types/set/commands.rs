//! Adding, removing and asking for members.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, DELETE, INSERT, RO, RW, Spec, key};
use mortise_sdk::{Result, error};

use super::SET;
use super::value::{Set, SetRef};
use crate::engine::call::Call;
use crate::features::Command;
use crate::types::Type;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[SADD, SREM, SMOVE, SISMEMBER, SMISMEMBER, SCARD, SMEMBERS];

const SADD: Command = Spec {
    usage: "SADD key member...",
    about: "Adds members to a set, which is created if need be; returns how many are new.",
    cost: "O(N), N being the members named",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, INSERT])],
    history: &[("2.4.0", "Takes several members.")],
    ..SET
}
.runs(sadd);

fn sadd(call: &mut Call<'_>) -> Result {
    let args = call.args();
    let mut set = call.create::<Set>(call.key(1))?;
    let mut added = 0;
    for index in 2..args.len() {
        added += usize::from(set.add(args.at(index)));
    }
    if added > 0 {
        set.changed("sadd");
    } else {
        drop(set);
    }
    call.reply(added)
}

const SREM: Command = Spec {
    usage: "SREM key member...",
    about: "Removes members from a set, and the set with its last one.",
    cost: "O(N), N being the members named",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, DELETE])],
    history: &[("2.4.0", "Takes several members.")],
    ..SET
}
.runs(srem);

fn srem(call: &mut Call<'_>) -> Result {
    let args = call.args();
    let Some(mut set) = call.edit::<Set>(call.key(1))? else { return call.reply(0_i64) };
    let removed = args.iter().skip(2).filter(|member| set.remove(member)).count();
    if removed > 0 {
        set.changed("srem");
    } else {
        drop(set);
    }
    call.reply(removed)
}

const SMOVE: Command = Spec {
    usage: "SMOVE source destination member",
    about: "Moves a member from one set to another; tells whether there was one.",
    flags: &[WRITE, FAST],
    keys: &[key("source", &[RW, ACCESS, DELETE]), key("destination", &[RW, INSERT])],
    ..SET
}
.runs(smove);

fn smove(call: &mut Call<'_>) -> Result {
    let (source, target, member) = (call.key(1), call.key(2), call.arg(3));
    let Some(set) = call.edit::<Set>(source)? else { return call.reply(false) };
    let contains = set.view().contains(member);
    drop(set);
    // Both are looked at before anything moves.
    if call.peek(target).is_some_and(|entry| Set::view(entry).is_none()) {
        return Err(error::WRONGTYPE);
    }
    if !contains || source.bytes == target.bytes {
        return call.reply(contains);
    }
    if let Some(mut set) = call.edit::<Set>(source)? {
        set.remove(member);
        set.changed("srem");
    }
    let mut set = call.create::<Set>(target)?;
    if set.add(member) {
        set.changed("sadd");
    } else {
        drop(set);
    }
    call.reply(true)
}

const SISMEMBER: Command = Spec {
    usage: "SISMEMBER key member",
    about: "Tells whether a set has a member.",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO])],
    ..SET
}
.runs(sismember);

fn sismember(call: &mut Call<'_>) -> Result {
    let member = call.arg(2);
    let (set, out) = call.read::<Set>(call.key(1))?;
    out.integer(i64::from(set.is_some_and(|set| set.contains(member))));
    Ok(())
}

const SMISMEMBER: Command = Spec {
    usage: "SMISMEMBER key member...",
    about: "Tells of several members whether a set has them.",
    since: "6.2.0",
    cost: "O(N), N being the members named",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..SET
}
.runs(smismember);

fn smismember(call: &mut Call<'_>) -> Result {
    let args = call.args();
    let (set, out) = call.read::<Set>(call.key(1))?;
    out.array(args.len() - 2);
    for member in args.iter().skip(2) {
        out.integer(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(())
}

const SCARD: Command = Spec {
    usage: "SCARD key",
    about: "Counts the members of a set.",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO])],
    ..SET
}
.runs(scard);

fn scard(call: &mut Call<'_>) -> Result {
    let (set, out) = call.read::<Set>(call.key(1))?;
    out.count(set.map_or(0, SetRef::len));
    Ok(())
}

const SMEMBERS: Command = Spec {
    usage: "SMEMBERS key",
    about: "Returns all members of a set.",
    cost: "O(N), N being the members",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output_order"],
    ..SET
}
.runs(smembers);

fn smembers(call: &mut Call<'_>) -> Result {
    let (set, out) = call.read::<Set>(call.key(1))?;
    out.set(set.map_or(0, SetRef::len));
    set.into_iter().flat_map(SetRef::iter).for_each(|member| member.write(out));
    Ok(())
}
