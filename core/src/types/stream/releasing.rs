//! Giving back what was delivered, so that others may have it at once: XNACK.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{RW, Spec, UPDATE, key};
use mortise_sdk::{Error, Result, args, error};

use super::STREAM;
use super::claims::edit_with_group;
use super::deleting::parse_ids;
use super::id::StreamId;
use crate::engine::call::{Call, Key};
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[XNACK];

const XNACK: Command = Spec {
    usage: "XNACK key group mode=<SILENT | FAIL | FATAL> ids=IDS <numids:int id...> [RETRYCOUNT count:int] [FORCE]",
    about: "Gives entries back that were delivered to consumers of a group: they are pending to nobody, and are claimed \
            before all others. Returns how many were pending.",
    since: "8.8.0",
    cost: "O(M*log(N)), N being the entries pending and M those named",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    ..STREAM
}
.runs(xnack);

/// Why an entry is given back, which says what becomes of the count of its deliveries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// It was as good as not delivered.
    Silent,
    /// The consumer could not cope with it, another may.
    Fail,
    /// Nobody can: it counts as delivered as often as can be.
    Fatal,
}

impl Mode {
    const ALL: [(&'static str, Mode); 3] =
        [("SILENT", Mode::Silent), ("FAIL", Mode::Fail), ("FATAL", Mode::Fatal)];

    fn parse(word: &[u8]) -> Option<Mode> {
        let known = Mode::ALL.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
        known.map(|(_, mode)| *mode)
    }

    /// How often an entry counts as delivered now. `before` is not known of one that was not pending.
    fn deliveries(self, before: Option<u64>) -> u64 {
        const MOST: u64 = i64::MAX as u64;
        match self {
            Mode::Silent => before.map_or(0, |before| before.saturating_sub(1)),
            Mode::Fail => before.unwrap_or(0),
            Mode::Fatal => MOST,
        }
    }
}

struct Options {
    mode: Mode,
    ids: Vec<StreamId>,
    deliveries: Option<u64>,
    /// Also what is not pending.
    force: bool,
}

impl Options {
    fn parse(call: &Call<'_>) -> Result<Options> {
        let mode = Mode::parse(call.arg(3)).ok_or(error::SYNTAX)?;
        let (mut ids, mut deliveries, mut force) = (None, None, false);
        let mut options = call.options(4);
        while !options.is_empty() {
            if let Some(count) = options.takes_value("IDS").filter(|_| ids.is_none()) {
                ids = Some(parse_ids(count, &mut options)?);
            } else if let Some(count) = options.takes_value("RETRYCOUNT") {
                let count = args::parse_integer(count).and_then(|count| u64::try_from(count).ok());
                deliveries = Some(count.ok_or(Error::new("ERR RETRYCOUNT must be a non-negative integer"))?);
            } else if options.takes("FORCE") {
                force = true;
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(Options { mode, ids: ids.ok_or(error::SYNTAX)?, deliveries, force })
    }
}

fn xnack(call: &mut Call<'_>) -> Result {
    let (key, name) = (call.key(1), call.arg(2));
    let Options { mode, ids, deliveries, force } = Options::parse(call)?;
    let (mut edit, out) = edit_with_group(call, key, name)?;
    let mut released: Vec<(StreamId, u64)> = Vec::with_capacity(ids.len());
    for id in ids {
        let stream = edit.view();
        let pending = stream.group(name).and_then(|group| group.get(&id));
        if pending.is_none() && !(force && stream.get(id).is_some()) {
            continue;
        }
        let count = deliveries.unwrap_or_else(|| mode.deliveries(pending.map(|pending| pending.deliveries)));
        // One by one, as an entry may be named twice.
        edit.release(name, id, count);
        released.push((id, count));
    }
    out.count(released.len());
    if !released.is_empty() {
        // Who waits for what has been pending for long has waited for this.
        edit.changed_aside(None, true);
    }
    drop(edit);
    call.propagates_nothing();
    if call.is_propagated() {
        say_released(call, key, name, &released);
    }
    Ok(())
}

/// Propagates what was released: together what counts as delivered equally often.
fn say_released(call: &mut Call<'_>, key: Key<'_>, group: &[u8], released: &[(StreamId, u64)]) {
    for same in released.chunk_by(|(_, one), (_, other)| one == other) {
        let (len, count) = (same.len().to_string(), same[0].1.to_string());
        let ids: Vec<_> = same.iter().map(|(id, _)| id.text()).collect();
        let mut words: Vec<&[u8]> = vec![b"XNACK", key.bytes, group, b"FAIL", b"IDS", len.as_bytes()];
        words.extend(ids.iter().map(|id| id.as_bytes()));
        words.extend([&b"RETRYCOUNT"[..], count.as_bytes(), b"FORCE"]);
        call.propagates(&words);
    }
}
