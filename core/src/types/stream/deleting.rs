//! Deleting entries with a word about who still refers to them: XDELEX, XACKDEL.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{DELETE, RW, Spec, key};
use mortise_sdk::{Error, Result, args, error};

use super::STREAM;
use super::id::StreamId;
use super::references::{Deleted, References};
use super::value::Stream;
use crate::engine::call::{self, Call};
use crate::features::Command;
use crate::resp::output::Output;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[XDELEX, XACKDEL];

/// What both are told: `[KEEPREF | DELREF | ACKED] IDS numids id...`, the two parts in any order.
struct Options {
    references: References,
    ids: Vec<StreamId>,
}

impl Options {
    fn parse(call: &Call<'_>, from: usize) -> Result<Options> {
        let (mut references, mut ids) = (None, None);
        let mut options = call.options(from);
        while !options.is_empty() {
            if let Some(word) = options.peek().and_then(References::parse) {
                if references.replace(word).is_some() {
                    return Err(error::SYNTAX);
                }
                options.next();
            } else if let Some(count) = options.takes_value("IDS").filter(|_| ids.is_none()) {
                ids = Some(parse_ids(count, &mut options)?);
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(Options { references: references.unwrap_or_default(), ids: ids.ok_or(error::SYNTAX)? })
    }
}

/// Reads so many ids as are said to follow.
pub(super) fn parse_ids(count: &[u8], options: &mut call::Options<'_>) -> Result<Vec<StreamId>> {
    let count = args::parse_integer(count)
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| *count > 0)
        .ok_or(Error::new("ERR Number of IDs must be a positive integer"))?;
    if count > options.left() {
        return Err(Error::new("ERR The `numids` parameter must match the number of arguments"));
    }
    options.by_ref().take(count).map(|id| StreamId::parse(id, 0)).collect()
}

fn write_all(out: &mut Output, ends: &[Option<Deleted>]) {
    out.array(ends.len());
    for end in ends {
        out.integer(match end {
            None => -1,
            Some(Deleted::Gone) => 1,
            Some(Deleted::IsReferenced) => 2,
        });
    }
}

const XDELEX: Command = Spec {
    usage: "XDELEX key [condition=<KEEPREF | DELREF | ACKED>] ids=IDS <numids:int id...>",
    about: "Deletes entries of a stream, with what is pending of them or only if nothing is; tells what became of each.",
    since: "8.2.0",
    cost: "O(M*log(N)) for each consumer group, N being the entries and M those named",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, DELETE])],
    ..STREAM
}
.runs(xdelex);

fn xdelex(call: &mut Call<'_>) -> Result {
    let Options { references, ids } = Options::parse(call, 2)?;
    let mut ends = vec![None; ids.len()];
    if let Some(mut edit) = call.edit::<Stream>(call.key(1))? {
        for (id, end) in ids.into_iter().zip(&mut ends) {
            *end = edit.delete_if(id, references);
        }
        if ends.contains(&Some(Deleted::Gone)) {
            edit.changed("xdel");
        } else if edit.has_changed() {
            // References to what was not there.
            edit.changed_aside(None, false);
        }
    }
    write_all(call.out(), &ends);
    Ok(())
}

const XACKDEL: Command = Spec {
    usage: "XACKDEL key group [condition=<KEEPREF | DELREF | ACKED>] ids=IDS <numids:int id...>",
    about: "Acknowledges entries that were delivered to a consumer group, and deletes them; tells what became of each.",
    since: "8.2.0",
    cost: "O(M*log(N)) for each consumer group, N being the entries and M those named",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, DELETE])],
    ..STREAM
}
.runs(xackdel);

fn xackdel(call: &mut Call<'_>) -> Result {
    let name = call.arg(2);
    let Options { references, ids } = Options::parse(call, 3)?;
    let mut ends = vec![None; ids.len()];
    if let Some(mut edit) = call.edit::<Stream>(call.key(1))? {
        let mut deleted = false;
        for (id, end) in ids.into_iter().zip(&mut ends) {
            let is_pending = edit.view().group(name).is_some_and(|group| group.contains(&id));
            if !is_pending {
                continue;
            }
            edit.change_group(name, |group| group.acknowledge(id));
            let gone = edit.delete_if(id, references);
            deleted |= gone == Some(Deleted::Gone);
            // What was pending may have been deleted before.
            *end = gone.or(Some(Deleted::Gone));
        }
        if deleted {
            edit.changed("xdel");
        } else if edit.has_changed() {
            edit.changed_aside(None, false);
        }
    }
    write_all(call.out(), &ends);
    Ok(())
}
