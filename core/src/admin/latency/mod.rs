//! LATENCY: how long calls take, and what has taken too long.

pub(super) mod commands;
pub(crate) mod events;
mod graph;
pub(super) mod histogram;
mod report;
