//! HSET.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RO, RW, Spec, UPDATE, key};
use mortise_sdk::{Error, Result};

use super::value::Hash;
use crate::engine::call::Call;
use crate::features::Command;

const HASH: Spec = Spec::group("hash");

/// This file's commands.
pub const COMMANDS: &[Command] = &[HSET, HGETALL];

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
    if call.argc() % 2 == 1 {
        return Err(Error::text(format!(
            "ERR wrong number of arguments for '{}' command",
            call.command.name
        )));
    }
    let args = call.args();
    let mut hash = call.create::<Hash>(call.key(1))?;
    let mut added = 0;
    for index in (2..args.len()).step_by(2) {
        added += usize::from(hash.set(args.at(index), args.at(index + 1)));
    }
    hash.changed("hset");
    call.reply(added)
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
    let Some(hash) = hash else {
        out.map(0);
        return Ok(());
    };
    out.map(hash.len());
    for (field, value) in hash.iter() {
        out.bulk(field);
        out.bulk(value);
    }
    Ok(())
}
