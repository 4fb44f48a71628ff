//! Strings that spell numbers: INCR and its kin.

use mortise_sdk::Result;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RW, Spec, UPDATE, key};
use mortise_sdk::error::{self, Error};
use mortise_sdk::extended::Extended;

use super::STRING;
use super::value::Str;
use crate::engine::call::Call;
use crate::features::Command;
use crate::keyspace::entry::NewValue;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[DECR, DECRBY, INCR, INCRBY, INCRBYFLOAT];

const INCR: Command = Spec {
    usage: "INCR key",
    about: "Adds one to a number, which is 0 if there is none.",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    ..STRING
}
.runs(incr);

fn incr(call: &mut Call<'_>) -> Result {
    add(call, 1)
}

const DECR: Command = Spec {
    usage: "DECR key",
    about: "Subtracts one from a number, which is 0 if there is none.",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    ..STRING
}
.runs(decr);

fn decr(call: &mut Call<'_>) -> Result {
    add(call, -1)
}

const INCRBY: Command = Spec {
    usage: "INCRBY key increment:int",
    about: "Adds to a number, which is 0 if there is none.",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    ..STRING
}
.runs(incrby);

fn incrby(call: &mut Call<'_>) -> Result {
    let increment = call.integer(2)?;
    add(call, increment)
}

const DECRBY: Command = Spec {
    usage: "DECRBY key decrement:int",
    about: "Subtracts from a number, which is 0 if there is none.",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    ..STRING
}
.runs(decrby);

fn decrby(call: &mut Call<'_>) -> Result {
    let decrement = call.integer(2)?;
    add(call, decrement.checked_neg().ok_or(Error::new("ERR decrement would overflow"))?)
}

/// Adds to the number at the key, which is 0 if there is none.
#[inline(always)]
fn add(call: &mut Call<'_>, increment: i64) -> Result {
    let key = call.key(1);
    let sum = match call.edit::<Str>(key)? {
        Some(mut number) => {
            let old = number.view().integer().ok_or(error::NOT_INTEGER)?;
            let sum = old.checked_add(increment).ok_or(error::OVERFLOW)?;
            number.set_integer(sum);
            number.changed("incrby");
            Some(sum)
        }
        None => None,
    };
    if sum.is_none() {
        call.put::<Str>(key, NewValue::Integer(increment), false).changed("incrby");
    }
    call.reply(sum.unwrap_or(increment))
}

const INCRBYFLOAT: Command = Spec {
    usage: "INCRBYFLOAT key increment:double",
    about: "Adds a decimal fraction to a number, which is 0 if there is none.",
    since: "2.6.0",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    ..STRING
}
.runs(incrbyfloat);

fn incrbyfloat(call: &mut Call<'_>) -> Result {
    let (key, words) = (call.key(1), call.args());
    let mut number = call.create::<Str>(key)?;
    let old = if number.is_new() { Some(Extended::ZERO) } else { number.view().extended() };
    let old = old.ok_or(error::NOT_FLOAT)?;
    let increment = Extended::parse(words.at(2)).ok_or(error::NOT_FLOAT)?;
    let sum = old.plus(increment).filter(Extended::is_finite).ok_or(error::NOT_FINITE)?.format();
    number.set_text(sum.as_bytes());
    number.changed("incrbyfloat");
    // The sum, so that whoever follows need not add as we do.
    call.propagates(&[b"SET", key.bytes, sum.as_bytes(), b"KEEPTTL"]);
    call.reply(sum)
}
