//! An operator's commands, a file each.

mod absent;
mod command;
pub mod commandlog;
mod config;
mod debug;
pub(crate) mod digest;
pub mod docs;
mod flush;
pub(crate) mod info;
pub(crate) mod latency;
mod lolwut;
mod memory;
pub(crate) mod monitor;
mod role;
pub mod slowlog;
mod stats;
mod time;

use mortise_sdk::config;

use crate::config::values::Percentiles;

use crate::features::Feature;
use crate::modules::Permission;

/// Looking after the server.
pub const FEATURE: Feature = Feature {
    name: "admin",
    commands: &[
        command::COMMANDS,
        commandlog::COMMANDS,
        config::COMMANDS,
        flush::COMMANDS,
        info::COMMANDS,
        latency::commands::COMMANDS,
        latency::histogram::COMMANDS,
        lolwut::COMMANDS,
        memory::COMMANDS,
        memory::stats::COMMANDS,
        monitor::COMMANDS,
        role::COMMANDS,
        slowlog::COMMANDS,
        time::COMMANDS,
    ],
    config: StatsConfig::directives(),
    info: &[stats::STATS, stats::COMMANDSTATS, stats::ERRORSTATS, stats::LATENCYSTATS, absent::CLUSTER],
    ..Feature::EMPTY
};

/// DEBUG.
pub const DEBUG: Feature = Feature {
    name: "debug",
    commands: &[debug::COMMANDS],
    config: DebugConfig::directives(),
    ..Feature::EMPTY
};

config! {
    /// The slow log and latency statistics.
    pub struct StatsConfig {
        /// Microseconds from which a command is noted in the slow log. Zero notes all, a negative number none.
        live slowlog_log_slower_than | commandlog_execution_slower_than: i64 = 10000, in -1..=i64::MAX;
        /// How many commands the slow log keeps.
        live slowlog_max_len | commandlog_slow_execution_max_len: usize = 128, in 0..=i64::MAX;
        /// Bytes of a request from which its command is noted by COMMANDLOG. A negative number notes none.
        live commandlog_request_larger_than: i64 = 1048576, in -1..=i64::MAX;
        /// How many commands with large requests are kept.
        live commandlog_large_request_max_len: usize = 128, in 0..=i64::MAX;
        /// Bytes of a reply from which its command is noted by COMMANDLOG. A negative number notes none.
        live commandlog_reply_larger_than: i64 = 1048576, in -1..=i64::MAX;
        /// How many commands with large replies are kept.
        live commandlog_large_reply_max_len: usize = 128, in 0..=i64::MAX;
        /// Milliseconds from which events are noted for LATENCY. Zero notes none.
        live latency_monitor_threshold: u64 = 0, in 0..=i64::MAX;
        /// Keep a histogram of latency for each command.
        live latency_tracking: bool = true;
        /// Which percentiles of latency INFO shows.
        live latency_tracking_info_percentiles: Percentiles = Percentiles(vec![50.0, 99.0, 99.9]);
    }
}

config! {
    /// Commands for tests and experts.
    pub struct DebugConfig {
        /// Who may call DEBUG.
        fixed enable_debug_command: Permission = Permission::No;
    }
}
