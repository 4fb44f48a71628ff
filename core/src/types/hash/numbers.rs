//! Fields that hold numbers: HINCRBY, HINCRBYFLOAT.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RW, Spec, UPDATE, key};
use mortise_sdk::error::{self, Error};
use mortise_sdk::extended::Extended;
use mortise_sdk::resp::format_integer;
use mortise_sdk::{Result, args};

use super::HASH;
use super::value::Hash;
use crate::engine::call::Call;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[HINCRBY, HINCRBYFLOAT];

const HINCRBY: Command = Spec {
    usage: "HINCRBY key field increment:int",
    about: "Adds to the number in a hash's field, which is 0 if there is none.",
    since: "2.0.0",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    ..HASH
}
.runs(hincrby);

fn hincrby(call: &mut Call<'_>) -> Result {
    let (field, increment) = (call.arg(2), call.integer(3)?);
    let mut hash = call.create::<Hash>(call.key(1))?;
    let old = match hash.view().get(field) {
        Some(value) => args::parse_integer(value).ok_or(Error::new("ERR hash value is not an integer"))?,
        None => 0,
    };
    let sum = old.checked_add(increment).ok_or(error::OVERFLOW)?;
    hash.set_keeping_deadline(field, format_integer(sum).as_bytes());
    hash.changed("hincrby");
    call.reply(sum)
}

const HINCRBYFLOAT: Command = Spec {
    usage: "HINCRBYFLOAT key field increment:double",
    about: "Adds a decimal fraction to the number in a hash's field, which is 0 if there is none.",
    since: "2.6.0",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    ..HASH
}
.runs(hincrbyfloat);

fn hincrbyfloat(call: &mut Call<'_>) -> Result {
    let (key, field) = (call.key(1), call.arg(2));
    let increment = Extended::parse(call.arg(3)).ok_or(error::NOT_FLOAT)?;
    if !increment.is_finite() {
        return Err(Error::new("ERR value is NaN or Infinity"));
    }
    let mut hash = call.create::<Hash>(key)?;
    let found = hash.view().get_with_deadline(field);
    let expires = found.is_some_and(|(_, deadline)| deadline.is_some());
    let old = match found.map(|(value, _)| value) {
        Some(value) => Extended::parse(value).ok_or(Error::new("ERR hash value is not a float"))?,
        None => Extended::ZERO,
    };
    let sum = old.plus(increment).filter(Extended::is_finite).ok_or(error::NOT_FINITE)?.format();
    hash.set_keeping_deadline(field, sum.as_bytes());
    hash.changed("hincrbyfloat");
    // The sum, so that whoever follows need not add as we do.
    if expires {
        call.propagates(&[b"HSETEX", key.bytes, b"KEEPTTL", b"FIELDS", b"1", field, sum.as_bytes()]);
    } else {
        call.propagates(&[b"HSET", key.bytes, field, sum.as_bytes()]);
    }
    call.reply(sum)
}
