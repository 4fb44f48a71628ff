//! Values as bytes: DUMP, RESTORE.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, OW, RO, Spec, UPDATE, added, key};
use mortise_sdk::{Error, Result, args, error};

use super::naming::put_entry;
use crate::engine::call::{Call, Key};
use crate::engine::event;
use crate::features::Command;
use crate::keyspace::Entry;
use crate::persistence::snapshot::file::Usage;
use crate::persistence::snapshot::value::{self, Around};
use crate::persistence::snapshot::{Out, Writer, payload};
use crate::types::AnyRef;

const GENERIC: Spec = Spec::group("generic");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[DUMP, RESTORE];

const DUMP: Command = Spec {
    usage: "DUMP key",
    about: "Returns a value as bytes, which RESTORE makes a value again.",
    since: "2.6.0",
    cost: "O(N), N being the bytes of the value",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output"],
    ..GENERIC
}
.runs(dump);

fn dump(call: &mut Call<'_>) -> Result {
    let mut payload = Writer::new(call.engine.config.persistence.rdbcompression);
    let (entry, out) = call.look(call.key(1));
    let Some(entry) = entry else {
        out.null();
        return Ok(());
    };
    let value = AnyRef::of(entry);
    payload.byte(value::kind_of(value));
    value::save(value, &mut Out::whole(&mut payload))
        .map_err(|reason| Error::text(format!("ERR the value cannot be saved: {reason}")))?;
    payload::seal(&mut payload);
    out.bulk(payload.as_bytes());
    Ok(())
}

const RESTORE: Command = Spec {
    usage: "RESTORE key ttl:int serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds:int] [FREQ frequency:int]",
    about: "Makes a value of what DUMP returned.",
    since: "2.6.0",
    cost: "O(N), N being the bytes of the value; O(N*log(N)) for a sorted set of N members in no order",
    flags: &[WRITE, DENYOOM],
    categories: &[mortise_sdk::declare::category::DANGEROUS],
    keys: &[key("key", &[OW, UPDATE])],
    history: &[
        ("3.0.0", "Option `REPLACE`."),
        ("5.0.0", "Option `ABSTTL`."),
        ("5.0.0", "Options `IDLETIME` and `FREQ`."),
    ],
    ages: &[added("REPLACE", "3.0.0"), added("ABSTTL", "5.0.0"), added("IDLETIME", "5.0.0"), added("FREQ", "5.0.0")],
    ..GENERIC
}
.runs(restore);

fn restore(call: &mut Call<'_>) -> Result {
    let key = call.key(1);
    let options = Options::parse(call)?;
    if !options.replaces && call.exists(key) {
        return Err(error::BUSYKEY);
    }
    let ttl = call.integer(2)?;
    if ttl < 0 {
        return Err(Error::new("ERR Invalid TTL value, must be >= 0"));
    }
    let mut entry = load(call, key)?;
    let deadline = match ttl {
        0 => None,
        _ if options.is_absolute => Some(ttl),
        _ => Some(call.now_ms().saturating_add(ttl)),
    };
    // A stream that is replayed says itself what goes.
    if deadline.is_some_and(|deadline| deadline <= call.now_ms()) && !call.caller().is_stream() {
        if call.remove(key, "del") {
            call.propagates(&[b"DEL", key.bytes]);
        }
        return call.ok();
    }
    entry.set_deadline(deadline);
    entry.set_clock(call.engine.clock24.restored(options.usage));
    // An expired value in the way goes first, and is told as such.
    call.exists(key);
    let (space, db) = (call.session.space, call.session.db);
    let listened = put_entry(call.engine, space, db, key, entry);
    call.engine.unit.changed(space, db, key.bytes, listened, "restore", event::GENERIC);
    if let Some(deadline) = deadline
        && !options.is_absolute
        && call.is_propagated()
    {
        propagate(call, deadline);
    }
    call.ok()
}

/// What is propagated does not depend on when it arrives.
fn propagate(call: &mut Call<'_>, deadline: i64) {
    const TTL: usize = 2;
    let deadline = deadline.to_string();
    let args = call.args();
    let mut words: Vec<&[u8]> = args.iter().collect();
    words[TTL] = deadline.as_bytes();
    words.push(b"ABSTTL");
    call.propagates(&words);
}

/// The value of the payload, under the key.
fn load(call: &Call<'_>, key: Key<'_>) -> Result<Entry> {
    let payload = call.arg(3);
    let engine = &*call.engine;
    let Some(mut from) = payload::open(payload, !engine.skips_checksums) else {
        return Err(Error::new("ERR DUMP payload version or checksum are wrong"));
    };
    let around = Around { limits: engine.limits, types: &engine.modules, frozen: None };
    match from.byte().and_then(|kind| value::load(kind, &mut from, around)) {
        Ok(value) => Ok(value.into_entry(key.bytes)),
        Err(reason) => {
            let name = String::from_utf8_lossy(key.bytes);
            tracing::warn!("RESTORE of '{}' is refused: {reason}", name.escape_debug());
            Err(Error::new("ERR Bad data format"))
        }
    }
}

/// What stands behind the payload.
#[derive(Default)]
struct Options {
    replaces: bool,
    is_absolute: bool,
    usage: Usage,
}

impl Options {
    fn parse(call: &Call<'_>) -> Result<Options> {
        let mut options = Options::default();
        let mut words = call.options(4);
        while !words.is_empty() {
            if words.takes("REPLACE") {
                options.replaces = true;
            } else if words.takes("ABSTTL") {
                options.is_absolute = true;
            } else if !matches!(options.usage, Usage::Frequency(_))
                && let Some(seconds) = words.takes_value("IDLETIME")
            {
                let seconds = args::parse_integer(seconds).ok_or(error::NOT_INTEGER)?;
                let seconds = u64::try_from(seconds)
                    .map_err(|_| Error::new("ERR Invalid IDLETIME value, must be >= 0"))?;
                options.usage = Usage::IdleSeconds(seconds);
            } else if !matches!(options.usage, Usage::IdleSeconds(_))
                && let Some(frequency) = words.takes_value("FREQ")
            {
                let frequency = args::parse_integer(frequency).ok_or(error::NOT_INTEGER)?;
                let frequency = u8::try_from(frequency)
                    .map_err(|_| Error::new("ERR Invalid FREQ value, must be >= 0 and <= 255"))?;
                options.usage = Usage::Frequency(frequency);
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(options)
    }
}
