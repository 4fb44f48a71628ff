//! LATENCY: how long calls take, and what has taken too long.

mod commands;
pub(crate) mod events;
mod graph;
mod histogram;
mod report;

use crate::features::Command;

/// The commands.
pub(super) const COMMANDS: &[&[Command]] = &[commands::COMMANDS, histogram::COMMANDS];
