//! SET and GET.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, Access, OW, RO, RW, Spec, UPDATE, VARIABLE_FLAGS, added, key};
use mortise_sdk::{Result, error};

use super::value::{Str, StrRef, stored};
use crate::engine::call::Call;
use crate::features::Command;
use crate::resp::output::Output;

const STRING: Spec = Spec::group("string");

/// This file's commands.
pub const COMMANDS: &[Command] = &[GET, SET];

const GET: Command = Spec {
    usage: "GET key",
    about: "Returns the string at a key.",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..STRING
}
.runs(get);

fn get(call: &mut Call<'_>) -> Result {
    let (value, out) = call.read::<Str>(call.key(1))?;
    write(value, out);
    Ok(())
}

/// Answers with a string, or none.
#[inline(always)]
pub(super) fn write(value: Option<StrRef<'_>>, out: &mut Output) {
    match value {
        Some(StrRef::Bytes(bytes)) => out.bulk(bytes),
        Some(StrRef::Integer(n)) => out.bulk_integer(n),
        Some(StrRef::Long(text)) => out.bulk_parts(text.len(), text.chunks()),
        None => out.null(),
    }
}

fn set_access<'a>(argc: usize, arg: &dyn Fn(usize) -> &'a [u8]) -> Access {
    match (3..argc).any(|index| arg(index).eq_ignore_ascii_case(b"get")) {
        true => RW | ACCESS | UPDATE,
        false => OW | UPDATE,
    }
}

const SET: Command = Spec {
    usage: "SET key value [condition=<NX | XX>] [GET] [expiration=<EX seconds:int | \
            PX milliseconds:int | EXAT unix-time-seconds:time | \
            PXAT unix-time-milliseconds:time | KEEPTTL>]",
    about: "Sets a key to a string, whatever it held, and may give it a time to live or ask for conditions.",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[RW, ACCESS, UPDATE, VARIABLE_FLAGS])
        .notes("RW and access for GET; without it, OW")
        .refined(set_access)],
    history: &[
        ("2.6.12", "Options `EX`, `PX`, `NX` and `XX`."),
        ("6.0.0", "Option `KEEPTTL`."),
        ("6.2.0", "Options `GET`, `EXAT` and `PXAT`."),
        ("7.0.0", "`NX` and `GET` go together."),
    ],
    ages: &[
        added("condition", "2.6.12"),
        added("GET", "6.2.0"),
        added("EX", "2.6.12"),
        added("PX", "2.6.12"),
        added("EXAT", "6.2.0"),
        added("PXAT", "6.2.0"),
        added("KEEPTTL", "6.0.0"),
    ],
    ..STRING
}
.runs(set);

fn set(call: &mut Call<'_>) -> Result {
    if call.argc() > 3 {
        return Err(error::SYNTAX);
    }
    let (key, value) = (call.key(1), call.arg(2));
    call.put::<Str>(key, stored(value), false).changed("set");
    call.ok()
}
