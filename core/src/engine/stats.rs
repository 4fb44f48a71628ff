//! Counters: of the server, and of each command with its latencies.

use std::collections::BTreeMap;

use mortise_sdk::Error;

use super::alone::Answered;
use super::latencies::Latencies;
use super::rim::Usage;

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
    pub latency: Option<Box<Latencies>>,
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
    /// Since when more memory is used than `maxmemory` allows, by the clock of laps.
    pub over_limit_since_ns: Option<u64>,
    /// Nanoseconds for which that was so before.
    pub over_limit_ns: u64,
    /// Look-ups that found a key.
    pub keyspace_hits: u64,
    /// Look-ups that found none.
    pub keyspace_misses: u64,
    /// Clients closed because clients took too much memory.
    pub evicted_clients: u64,
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
    /// Nanoseconds spent in expiry cycles.
    pub expire_cycles_ns: u64,
    /// Commands executed, at present.
    pub commands_rate: Rate,
    /// Bytes read from sockets, at present.
    pub input_rate: Rate,
    /// Bytes written to sockets, at present.
    pub output_rate: Rate,
    /// Bytes read and written for replication.
    pub replication_rates: (Rate, Rate),
    /// Bytes read from sockets before the counters were reset.
    pub bytes_in_before: u64,
    /// Bytes written to sockets before the counters were reset.
    pub bytes_out_before: u64,
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
            stats.latency.get_or_insert_default().record(ns);
        }
    }

    /// The command at an index is no more.
    pub fn forget(&mut self, index: usize) {
        if let Some(stats) = self.commands.get_mut(index) {
            *stats = CommandStats::default();
        }
    }

    /// A call was refused.
    pub fn refused(&mut self, index: usize) {
        if index >= self.commands.len() {
            self.commands.resize_with(index + 1, CommandStats::default);
        }
        self.commands[index].rejected += 1;
    }

    /// Calls were answered while the engine was held by another; how long each took is not known.
    pub fn answered(&mut self, index: usize, answered: Answered, count: u64) {
        if index >= self.commands.len() {
            self.commands.resize_with(index + 1, CommandStats::default);
        }
        let stats = &mut self.commands[index];
        match answered {
            Answered::Refused => stats.rejected += count,
            Answered::Done | Answered::Failed => {
                self.commands_processed += count;
                stats.calls += count;
                stats.failed += if answered == Answered::Failed { count } else { 0 };
            }
        }
    }

    /// An error reply was sent.
    pub fn error(&mut self, error: &Error) {
        self.errors(&error.code(), 1);
    }

    /// Error replies of a kind were sent.
    pub fn errors(&mut self, kind: &str, count: u64) {
        self.error_replies += count;
        if let Some(known) = self.errors.get_mut(kind) {
            *known += count;
        } else if self.errors.len() < ERROR_KINDS_MAX {
            self.errors.insert(kind.to_owned(), count);
        } else {
            *self.errors.entry("ERRORSTATS_OVERFLOW".to_owned()).or_default() += count;
        }
    }

    /// Whether it is time to note how fast the counters grow.
    pub fn is_sample_due(&self, now_ms: i64) -> bool {
        self.commands_rate.is_due(now_ms)
    }

    /// Notes how fast the counters grow.
    pub fn sample(&mut self, now_ms: i64, usage: &Usage, replication: (u64, u64)) {
        self.commands_rate.sample(now_ms, self.commands_processed);
        self.input_rate.sample(now_ms, usage.bytes_in);
        self.output_rate.sample(now_ms, usage.bytes_out);
        self.replication_rates.0.sample(now_ms, replication.0);
        self.replication_rates.1.sample(now_ms, replication.1);
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&mut self, usage: &Usage) {
        *self = Stats {
            tracks_latency: self.tracks_latency,
            bytes_in_before: usage.bytes_in,
            bytes_out_before: usage.bytes_out,
            ..Stats::default()
        };
    }
}

/// Milliseconds between two samples of a rate.
const SAMPLE_PERIOD_MS: i64 = 100;

/// How fast a counter grows: the mean over the last samples.
#[derive(Default)]
pub struct Rate {
    samples: [u64; 16],
    next: usize,
    at_ms: i64,
    count: u64,
}

impl Rate {
    /// Whether the last sample is old enough for another.
    pub fn is_due(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.at_ms) >= SAMPLE_PERIOD_MS
    }

    /// Notes a counter's value, if the last sample is old enough.
    pub fn sample(&mut self, now_ms: i64, count: u64) {
        if !self.is_due(now_ms) {
            return;
        }
        let ms = now_ms.saturating_sub(self.at_ms);
        // There is no rate between two values of which one is not known, or that belong to different counts.
        let grown = if self.at_ms == 0 { 0 } else { count.saturating_sub(self.count) };
        self.samples[self.next] = grown * 1000 / ms as u64;
        self.next = (self.next + 1) % self.samples.len();
        (self.at_ms, self.count) = (now_ms, count);
    }

    /// What it grows by in a second.
    pub fn per_second(&self) -> u64 {
        self.samples.iter().sum::<u64>() / self.samples.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_mean_of_the_last_samples() {
        let mut rate = Rate::default();
        rate.sample(1_000, 500);
        assert_eq!(rate.per_second(), 0);
        for step in 1..=16 {
            rate.sample(1_000 + step * 100, 500 + step as u64 * 20);
            rate.sample(1_050 + step * 100, 1_000_000);
        }
        assert_eq!(rate.per_second(), 200);
        rate.sample(3_000, 0);
        assert_eq!(rate.per_second(), 187);
    }
}
