//! Setting, getting and deleting fields.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, DELETE, Deprecation, INSERT, RO, RW, Spec, UPDATE, key};
use mortise_sdk::{Error, Result};

use super::value::{Hash, HashRef};
use super::{HASH, deadlines};
use crate::engine::call::Call;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] =
    &[HDEL, HEXISTS, HGET, HGETALL, HKEYS, HLEN, HMGET, HMSET, HSET, HSETNX, HSTRLEN, HVALS];

// ---- setting and deleting

const HSET: Command = Spec {
    usage: "HSET key <field value>...",
    about: "Sets fields of a hash, which is created if need be; returns how many are new.",
    since: "2.0.0",
    cost: "O(N), N being the fields named",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    history: &[("4.0.0", "Takes several fields.")],
    ..HASH
}
.runs(hset);

fn hset(call: &mut Call<'_>) -> Result {
    let added = set_fields(call)?;
    call.reply(added)
}

const HMSET: Command = Spec {
    usage: "HMSET key <field value>...",
    about: "Sets fields of a hash.",
    since: "2.0.0",
    cost: "O(N), N being the fields named",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    deprecated: Some(Deprecation { since: "4.0.0", replaced_by: "`HSET` with multiple field-value pairs" }),
    ..HASH
}
.runs(hmset);

fn hmset(call: &mut Call<'_>) -> Result {
    set_fields(call)?;
    call.ok()
}

/// Sets the fields that the call names; returns how many are new.
#[inline(always)]
fn set_fields(call: &mut Call<'_>) -> Result<usize> {
    if call.argc() % 2 == 1 {
        return Err(Error::wrong_arity(&call.command.name));
    }
    let args = call.args();
    let mut hash = call.create::<Hash>(call.key(1))?;
    let mut added = 0;
    for index in (2..args.len()).step_by(2) {
        added += usize::from(hash.set(args.at(index), args.at(index + 1)));
    }
    hash.changed("hset");
    Ok(added)
}

const HSETNX: Command = Spec {
    usage: "HSETNX key field value",
    about: "Sets a field of a hash unless it exists.",
    since: "2.0.0",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, INSERT])],
    ..HASH
}
.runs(hsetnx);

fn hsetnx(call: &mut Call<'_>) -> Result {
    let (field, value) = (call.arg(2), call.arg(3));
    let mut hash = call.create::<Hash>(call.key(1))?;
    let exists = hash.view().get(field).is_some();
    if exists {
        drop(hash);
    } else {
        hash.set(field, value);
        hash.changed("hset");
    }
    call.reply(!exists)
}

const HDEL: Command = Spec {
    usage: "HDEL key field...",
    about: "Deletes fields of a hash, and the hash with its last one.",
    since: "2.0.0",
    cost: "O(N), N being the fields named",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, DELETE])],
    history: &[("2.4.0", "Takes several fields.")],
    ..HASH
}
.runs(hdel);

fn hdel(call: &mut Call<'_>) -> Result {
    let args = call.args();
    let mut removed = 0usize;
    // What has expired is not deleted, but waits to be removed: whoever follows must not delete it either.
    let mut exact: Option<Vec<&[u8]>> = None;
    if let Some(mut hash) = call.edit::<Hash>(call.key(1))? {
        if hash.view().hides_some() {
            exact = Some(Vec::new());
        }
        for field in args.iter().skip(2) {
            if hash.remove(field) {
                removed += 1;
                exact.iter_mut().for_each(|exact| exact.push(field));
            }
        }
        if removed > 0 {
            hash.changed("hdel");
        }
    }
    if let Some(exact) = exact.filter(|exact| !exact.is_empty()) {
        deadlines::propagate(call, &[b"HDEL"], &exact);
    }
    call.reply(removed)
}

// ---- getting

const HGET: Command = Spec {
    usage: "HGET key field",
    about: "Returns the value of a hash's field.",
    since: "2.0.0",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..HASH
}
.runs(hget);

fn hget(call: &mut Call<'_>) -> Result {
    let field = call.arg(2);
    let (hash, out) = call.read::<Hash>(call.key(1))?;
    out.bulk_or_null(hash.and_then(|hash| hash.get(field)));
    Ok(())
}

const HMGET: Command = Spec {
    usage: "HMGET key field...",
    about: "Returns the values of several fields of a hash.",
    since: "2.0.0",
    cost: "O(N), N being the fields named",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..HASH
}
.runs(hmget);

fn hmget(call: &mut Call<'_>) -> Result {
    let args = call.args();
    let (hash, out) = call.read::<Hash>(call.key(1))?;
    out.array(args.len() - 2);
    for field in args.iter().skip(2) {
        out.bulk_or_null(hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

const HEXISTS: Command = Spec {
    usage: "HEXISTS key field",
    about: "Tells whether a hash has a field.",
    since: "2.0.0",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO])],
    ..HASH
}
.runs(hexists);

fn hexists(call: &mut Call<'_>) -> Result {
    let field = call.arg(2);
    let (hash, out) = call.read::<Hash>(call.key(1))?;
    out.integer(i64::from(hash.is_some_and(|hash| hash.get(field).is_some())));
    Ok(())
}

const HSTRLEN: Command = Spec {
    usage: "HSTRLEN key field",
    about: "Returns the length of the value of a hash's field.",
    since: "3.2.0",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO])],
    ..HASH
}
.runs(hstrlen);

fn hstrlen(call: &mut Call<'_>) -> Result {
    let field = call.arg(2);
    let (hash, out) = call.read::<Hash>(call.key(1))?;
    out.count(hash.and_then(|hash| hash.get(field)).map_or(0, <[u8]>::len));
    Ok(())
}

const HLEN: Command = Spec {
    usage: "HLEN key",
    about: "Counts the fields of a hash.",
    since: "2.0.0",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO])],
    ..HASH
}
.runs(hlen);

fn hlen(call: &mut Call<'_>) -> Result {
    let (hash, out) = call.read::<Hash>(call.key(1))?;
    out.count(hash.map_or(0, HashRef::len));
    Ok(())
}

const HGETALL: Command = Spec {
    usage: "HGETALL key",
    about: "Returns all fields of a hash and their values.",
    since: "2.0.0",
    cost: "O(N), N being the fields of the hash",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output_order"],
    ..HASH
}
.runs(hgetall);

fn hgetall(call: &mut Call<'_>) -> Result {
    let (hash, out) = call.read::<Hash>(call.key(1))?;
    out.map(hash.map_or(0, HashRef::len_live));
    for (field, value) in hash.iter().flat_map(|hash| hash.iter()) {
        out.bulk(field);
        out.bulk(value);
    }
    Ok(())
}

const HKEYS: Command = Spec {
    usage: "HKEYS key",
    about: "Returns all fields of a hash.",
    since: "2.0.0",
    cost: "O(N), N being the fields of the hash",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output_order"],
    ..HASH
}
.runs(hkeys);

fn hkeys(call: &mut Call<'_>) -> Result {
    let (hash, out) = call.read::<Hash>(call.key(1))?;
    out.array(hash.map_or(0, HashRef::len_live));
    hash.iter().flat_map(|hash| hash.iter()).for_each(|(field, _)| out.bulk(field));
    Ok(())
}

const HVALS: Command = Spec {
    usage: "HVALS key",
    about: "Returns all values of a hash.",
    since: "2.0.0",
    cost: "O(N), N being the fields of the hash",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output_order"],
    ..HASH
}
.runs(hvals);

fn hvals(call: &mut Call<'_>) -> Result {
    let (hash, out) = call.read::<Hash>(call.key(1))?;
    out.array(hash.map_or(0, HashRef::len_live));
    hash.iter().flat_map(|hash| hash.iter()).for_each(|(_, value)| out.bulk(value));
    Ok(())
}
