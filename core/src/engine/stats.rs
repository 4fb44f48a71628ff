//! Counters: of the server, and of each command with its latencies.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Latencies are kept from 1 µs … to a second, to two digits; longer ones count as a second.
const LATENCY_NS_MIN: u64 = 1;
const LATENCY_NS_MAX: u64 = 1_000_000_000;

/// What is known of a command's calls.
#[derive(Default)]
pub struct CommandStats {
    /// Calls executed.
    pub calls: u64,
    /// Nanoseconds spent in them.
    pub ns: u64,
    /// Calls refused before execution.
    pub rejected: u64,
    /// Calls that answered an error.
    pub failed: u64,
    /// Latencies in nanoseconds, from the first call on.
    pub latency: Option<Box<Histogram<u64>>>,
}

/// The server's counters.
#[derive(Default)]
pub struct Stats {
    /// By the command's index.
    pub commands: Vec<CommandStats>,
    /// Whether latencies are kept.
    pub tracks_latency: bool,
    /// Error replies by their first word.
    pub errors: BTreeMap<String, u64>,
    /// Error replies.
    pub error_replies: u64,
    /// Connections taken.
    pub connections: u64,
    /// Connections refused by `maxclients`.
    pub rejected_connections: u64,
    /// Commands executed.
    pub commands_processed: u64,
    /// Keys that expired.
    pub expired_keys: u64,
    /// Keys that were evicted.
    pub evicted_keys: u64,
    /// Look-ups that found a key.
    pub keyspace_hits: u64,
    /// Look-ups that found none.
    pub keyspace_misses: u64,
    /// Clients closed because their output grew beyond the limit.
    pub output_limit_disconnections: u64,
    /// Clients closed because their input grew beyond the limit.
    pub query_limit_disconnections: u64,
    /// The most clients at a time, since the start.
    pub max_clients: u64,
    /// Expiry cycles that ran out of their time.
    pub expire_cycles_cut: u64,
    /// Share of keys that had expired without being removed yet, as last estimated.
    pub stale_percent: f64,
}

/// Error kinds beyond this many are counted together: their words are the client's to choose.
const ERROR_KINDS_MAX: usize = 128;

impl Stats {
    /// A call was executed.
    #[inline(always)]
    pub fn executed(&mut self, index: usize, ns: u64, failed: bool) {
        self.commands_processed += 1;
        if index >= self.commands.len() {
            self.commands.resize_with(index + 1, CommandStats::default);
        }
        let stats = &mut self.commands[index];
        stats.calls += 1;
        stats.ns += ns;
        stats.failed += u64::from(failed);
        if self.tracks_latency {
            let latency = stats.latency.get_or_insert_with(new_histogram);
            latency.saturating_record(ns);
        }
    }

    /// A call was refused.
    pub fn refused(&mut self, index: usize) {
        if index >= self.commands.len() {
            self.commands.resize_with(index + 1, CommandStats::default);
        }
        self.commands[index].rejected += 1;
    }

    /// An error reply was sent.
    pub fn error(&mut self, text: &str) {
        self.error_replies += 1;
        let word = text.split(' ').next().unwrap_or_default();
        if let Some(count) = self.errors.get_mut(word) {
            *count += 1;
        } else if self.errors.len() < ERROR_KINDS_MAX {
            self.errors.insert(word.to_owned(), 1);
        } else {
            *self.errors.entry("ERRORSTATS_OVERFLOW".to_owned()).or_default() += 1;
        }
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&mut self) {
        let tracks_latency = self.tracks_latency;
        *self = Stats { tracks_latency, ..Stats::default() };
    }
}

#[cold]
fn new_histogram() -> Box<Histogram<u64>> {
    let histogram = Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, 2);
    Box::new(histogram.expect("the bounds are constants that hdrhistogram accepts"))
}
