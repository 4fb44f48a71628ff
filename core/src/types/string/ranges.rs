//! Parts of strings: GETRANGE, SETRANGE, APPEND, STRLEN.

use mortise_sdk::Result;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, Deprecation, INSERT, RO, RW, Spec, UPDATE, key};
use mortise_sdk::error;
use mortise_sdk::resp::format_integer;

use super::STRING;
use super::value::{Str, StrRef, stored};
use crate::engine::Caller;
use crate::engine::call::Call;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[APPEND, GETRANGE, SETRANGE, STRLEN, SUBSTR];

const STRLEN: Command = Spec {
    usage: "STRLEN key",
    about: "Returns the length of a string.",
    since: "2.2.0",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO])],
    ..STRING
}
.runs(strlen);

fn strlen(call: &mut Call<'_>) -> Result {
    let (value, out) = call.read::<Str>(call.key(1))?;
    out.count(value.map_or(0, StrRef::len));
    Ok(())
}

const GETRANGE: Command = Spec {
    usage: "GETRANGE key start:int end:int",
    about: "Returns a part of a string, given by its first and last byte.",
    since: "2.4.0",
    cost: "O(N), N being the bytes returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..STRING
}
.runs(getrange);

fn getrange(call: &mut Call<'_>) -> Result {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    let (value, out) = call.read::<Str>(call.key(1))?;
    let value = value.unwrap_or(StrRef::Bytes(b""));
    // Both before the beginning is nothing if they are crossed, though both would be drawn to the first byte.
    let crossed = start < 0 && end < 0 && start > end;
    let (first, past) = if crossed { (0, 0) } else { clamp(value.len(), start, end).unwrap_or((0, 0)) };
    match value {
        StrRef::Bytes(bytes) => out.bulk(&bytes[first..past]),
        StrRef::Integer(n) => out.bulk(&format_integer(n).as_bytes()[first..past]),
        StrRef::Long(text) => out.bulk_parts(past - first, text.range(first, past)),
    }
    Ok(())
}

const SUBSTR: Command = Spec {
    usage: "SUBSTR key start:int end:int",
    about: "Returns a part of a string; the old name of GETRANGE.",
    cost: "O(N), N being the bytes returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    deprecated: Some(Deprecation { since: "2.0.0", replaced_by: "`GETRANGE`" }),
    ..STRING
}
.runs(substr);

fn substr(call: &mut Call<'_>) -> Result {
    getrange(call)
}

/// The range `first..past` that two indices of something of a length mean, of which the second is included and negative
/// ones count from the end; `None` if it is empty.
pub(super) fn clamp(len: usize, start: i64, end: i64) -> Option<(usize, usize)> {
    let len = len as i64;
    let from_end = |index: i64| if index < 0 { (len + index).max(0) } else { index };
    let (first, last) = (from_end(start), from_end(end).min(len - 1));
    (first <= last).then(|| (first as usize, last as usize + 1))
}

const SETRANGE: Command = Spec {
    usage: "SETRANGE key offset:int value",
    about: "Overwrites a string from an offset on, padding it with zero bytes up to there.",
    since: "2.2.0",
    cost: "O(M), M being the bytes written",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[RW, UPDATE])],
    ..STRING
}
.runs(setrange);

fn setrange(call: &mut Call<'_>) -> Result {
    let offset = call.integer(2)?;
    let offset = usize::try_from(offset).map_err(|_| error::OFFSET_OUT_OF_RANGE)?;
    let (key, bytes) = (call.key(1), call.arg(3));
    let len_max = len_max(call);
    if bytes.is_empty() {
        // Nothing is written, nor a gap filled.
        let len = call.edit::<Str>(key)?.map_or(0, |string| string.view().len());
        return call.reply(len);
    }
    let mut string = call.create::<Str>(key)?;
    check_len(offset, bytes.len(), len_max)?;
    string.write_at(offset, bytes);
    let len = string.view().len();
    string.changed("setrange");
    call.reply(len)
}

const APPEND: Command = Spec {
    usage: "APPEND key value",
    about: "Appends to a string, which is created if need be; returns its length.",
    since: "2.0.0",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, INSERT])],
    ..STRING
}
.runs(append);

fn append(call: &mut Call<'_>) -> Result {
    let (key, bytes) = (call.key(1), call.arg(2));
    let len_max = len_max(call);
    let len = match call.edit::<Str>(key)? {
        Some(mut string) => {
            check_len(string.view().len(), bytes.len(), len_max)?;
            let len = string.append(bytes);
            string.changed("append");
            Some(len)
        }
        None => None,
    };
    if len.is_none() {
        call.put::<Str>(key, stored(bytes), false).changed("append");
    }
    call.reply(len.unwrap_or(bytes.len()))
}

/// How long a string may become. A stream that is replayed is obeyed, as it was checked when it came into being, perhaps
/// with another limit; but whatever a file says, a string becomes no longer than any stored one can be.
pub(super) fn len_max(call: &Call<'_>) -> u64 {
    let len_max = call.engine.config.clients.proto_max_bulk_len.0;
    match call.caller() {
        Caller::Journal | Caller::Primary => len_max.max(u64::from(u32::MAX)),
        _ => len_max,
    }
}

fn check_len(offset: usize, len: usize, len_max: u64) -> Result {
    let fits = offset.checked_add(len).is_some_and(|total| total as u64 <= len_max);
    if fits { Ok(()) } else { Err(error::STRING_TOO_LONG) }
}
