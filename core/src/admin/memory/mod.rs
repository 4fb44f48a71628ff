//! MEMORY: what values take, and everything else.

pub(super) mod stats;

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{RO, Spec, key};
use mortise_sdk::{Result, args, error};

use crate::engine::call::Call;
use crate::features::{Command, container};
use crate::keyspace::dict::Dict;
use crate::keyspace::{Entry, Payload};

const SERVER: Spec = Spec::group("server");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[MEMORY_CONTAINER, MEMORY_USAGE, MEMORY_HELP];

const MEMORY_CONTAINER: Command = Spec {
    usage: "MEMORY",
    about: "Commands about memory.",
    since: "4.0.0",
    cost: "depends on the subcommand",
    flags: &[CONTAINER],
    ..SERVER
}
.runs(container);

const MEMORY_USAGE: Command = Spec {
    usage: "MEMORY USAGE key [SAMPLES count:int]",
    about: "Estimates the bytes that a key and its value take.",
    since: "4.0.0",
    cost: "O(N), N being the elements sampled",
    flags: &[READONLY],
    keys: &[key("key", &[RO])],
    ..SERVER
}
.runs(memory_usage);

// Collections keep count of their bytes, so nothing has to be sampled.
fn memory_usage(call: &mut Call<'_>) -> Result {
    let mut options = call.options(3);
    while !options.is_empty() {
        let samples = options.takes_value("SAMPLES").ok_or(error::SYNTAX)?;
        if args::parse_integer(samples).ok_or(error::NOT_INTEGER)? < 0 {
            return Err(error::SYNTAX);
        }
    }
    let key = call.key(2);
    let usage = call.db().0.find(key.hash, key.bytes).map(usage);
    call.reply(usage)
}

/// Bytes that a key takes with its value and its place in the table.
fn usage(entry: &Entry) -> usize {
    let object = match entry.payload() {
        Payload::Object(object) => object.memory(),
        Payload::Bytes(_) | Payload::Integer(_) => 0,
    };
    Dict::SLOT_MEMORY + allocated(entry.memory()) + object
}

/// Bytes that the allocator takes for so many: jemalloc's size classes, of which there are four in each doubling.
fn allocated(size: usize) -> usize {
    const QUANTUM: usize = 16;
    if size <= 8 {
        return 8;
    }
    let step = (size.next_power_of_two() / 8).max(QUANTUM);
    size.next_multiple_of(step)
}

const MEMORY_HELP: Command = Spec {
    usage: "MEMORY HELP",
    about: "Lists the subcommands of MEMORY.",
    since: "4.0.0",
    flags: &[LOADING, STALE],
    ..SERVER
}
.runs(memory_help);

fn memory_help(call: &mut Call<'_>) -> Result {
    call.help(&[
        ("DOCTOR", "Return memory problems reports."),
        ("MALLOC-STATS", "Return internal statistics report from the memory allocator."),
        ("PURGE", "Attempt to purge dirty pages for reclamation by the allocator."),
        ("STATS", "Return information about the memory usage of the server."),
        (
        "USAGE <key> [SAMPLES <count>]",
        "Return the bytes that a key and its value take. Values keep count of their\nbytes, so that SAMPLES changes \
         nothing.",
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::allocated;

    #[test]
    fn size_classes() {
        for (size, class) in [
            (1, 8),
            (9, 16),
            (48, 48),
            (100, 112),
            (128, 128),
            (129, 160),
            (257, 320),
            (33_000, 40_960),
            (40_961, 49_152),
        ] {
            assert_eq!(allocated(size), class, "{size}");
        }
    }
}
