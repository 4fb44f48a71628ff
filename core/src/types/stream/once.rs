//! What a stream remembers of entries that are added only once: XCFGSET, XIDMPRECORD.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{RW, Spec, UPDATE, key};
use mortise_sdk::{Error, Result, args, error};

use super::STREAM;
use super::id::StreamId;
use super::value::Stream;
use crate::engine::call::Call;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[XCFGSET, XIDMPRECORD];

/// The longest time for which an entry can be remembered, in seconds.
pub(super) const DURATION_S_MAX: u32 = 86_400;
/// The most entries of a producer that can be remembered.
pub(super) const LEN_MAX: u32 = 10_000;

const XCFGSET: Command = Spec {
    usage: "XCFGSET key [IDMP-DURATION idmp-duration:int] [IDMP-MAXSIZE idmp-maxsize:int]",
    about: "Sets how long a stream remembers entries that are added only once, in seconds, and how many of each \
            producer. What it remembers is forgotten.",
    since: "8.6.0",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    ..STREAM
}
.runs(xcfgset);

fn xcfgset(call: &mut Call<'_>) -> Result {
    let number = |text: &[u8], most: u32, what: &'static str| {
        let number = args::parse_integer(text).and_then(|n| u32::try_from(n).ok());
        number.filter(|n| (1..=most).contains(n)).ok_or(Error::new(what))
    };
    let (mut duration, mut len) = (None, None);
    let mut options = call.options(2);
    while !options.is_empty() {
        if let Some(text) = options.takes_value("IDMP-DURATION") {
            duration = Some(number(text, DURATION_S_MAX, "ERR invalid duration")?);
        } else if let Some(text) = options.takes_value("IDMP-MAXSIZE") {
            len = Some(number(text, LEN_MAX, "ERR invalid maxsize")?);
        } else {
            return Err(error::SYNTAX);
        }
    }
    if duration.is_none() && len.is_none() {
        return Err(error::SYNTAX);
    }
    let mut edit = call.edit::<Stream>(call.key(1))?.ok_or(error::NO_SUCH_KEY)?;
    let otherwise = edit.limits().stream_memory;
    let mut memory = edit.view().idempotence().map_or(otherwise, |known| known.memory_or(otherwise));
    memory.duration_s = duration.unwrap_or(memory.duration_s);
    memory.len = len.unwrap_or(memory.len);
    edit.set_memory(memory);
    edit.changed_aside(None, false);
    drop(edit);
    call.ok()
}

const XIDMPRECORD: Command = Spec {
    usage: "XIDMPRECORD key pid iid stream-id",
    about: "Makes a stream remember that an entry was added under this name. It serves replication.",
    since: "8.8.0",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    ..STREAM
}
.runs(xidmprecord);

fn xidmprecord(call: &mut Call<'_>) -> Result {
    let (producer, name, now_ms) = (call.arg(2), call.arg(3), call.now_ms());
    let id = StreamId::parse(call.arg(4), 0)?;
    if producer.is_empty() || name.is_empty() {
        return Err(EMPTY);
    }
    let mut edit = call.edit::<Stream>(call.key(1))?.ok_or(error::NO_SUCH_KEY)?;
    if edit.view().get(id).is_none() {
        return Err(Error::new("ERR The stream has no entry of that ID"));
    }
    let otherwise = edit.limits().stream_memory;
    match edit.view().idempotence().and_then(|known| known.find(producer, name, otherwise, now_ms)) {
        Some(known) if known != id => {
            return Err(Error::new("ERR The idempotent ID belongs to another entry of the stream"));
        }
        Some(_) => {}
        None => {
            edit.remember(producer, name, id, now_ms);
            edit.changed_aside(None, false);
        }
    }
    drop(edit);
    call.ok()
}

/// The error of a producer or an entry without a name.
pub(super) const EMPTY: Error = Error::new("ERR producer ID and idempotent ID must not be empty");
