//! INFO's counters: of the server, of each command, of each kind of error.

use mortise_sdk::declare::info::Shown;

use super::info::{field, never, safe};
use crate::engine::Engine;
use crate::engine::registry::Command;
use crate::engine::stats::CommandStats;
use crate::features::Section;

/// What has been counted since the start, or since CONFIG RESETSTAT.
pub(super) const STATS: Section = Section {
    name: "stats",
    fields: &[
        field("total_connections_received", "Connections taken.", |e| e.stats.connections.into()),
        field("total_commands_processed", "Commands executed.", |e| e.stats.commands_processed.into()),
        field("instantaneous_ops_per_sec", "Commands executed in a second, at present.", |e| {
            e.stats.commands_rate.per_second().into()
        }),
        field("total_net_input_bytes", "Bytes read from sockets.", |e| {
            e.usage.bytes_in.saturating_sub(e.stats.bytes_in_before).into()
        }),
        field("total_net_output_bytes", "Bytes written to sockets.", |e| {
            e.usage.bytes_out.saturating_sub(e.stats.bytes_out_before).into()
        }),
        field("total_net_repl_input_bytes", "Bytes read for replication.", |e| {
            e.replication.counts.bytes_in.into()
        }),
        field("total_net_repl_output_bytes", "Bytes written for replication.", |e| {
            e.replication.bytes_out().into()
        }),
        field("instantaneous_input_kbps", "Kilobytes read in a second, at present.", |e| {
            Shown::Ratio(e.stats.input_rate.per_second() as f64 / 1024.0)
        }),
        field("instantaneous_output_kbps", "Kilobytes written in a second, at present.", |e| {
            Shown::Ratio(e.stats.output_rate.per_second() as f64 / 1024.0)
        }),
        field("instantaneous_input_repl_kbps", "The same, read for replication.", |e| {
            Shown::Ratio(e.stats.replication_rates.0.per_second() as f64 / 1024.0)
        }),
        field("instantaneous_output_repl_kbps", "The same, written for replication.", |e| {
            Shown::Ratio(e.stats.replication_rates.1.per_second() as f64 / 1024.0)
        }),
        field("rejected_connections", "Connections refused by maxclients.", |e| {
            e.stats.rejected_connections.into()
        }),
        field("sync_full", "Full resynchronisations with replicas.", |e| e.replication.counts.full.into()),
        field("sync_partial_ok", "Partial resynchronisations granted.", |e| {
            e.replication.counts.partial.into()
        }),
        field("sync_partial_err", "Partial resynchronisations denied.", |e| {
            e.replication.counts.partial_refused.into()
        }),
        field("expired_keys", "Keys that expired.", |e| e.stats.expired_keys.into()),
        field("expired_fields", "Fields of hashes that expired.", |e| e.unit.expired_parts.into()),
        field(
            "expired_stale_perc",
            "Estimated percentage of keys that have expired and are still there.",
            |e| Shown::Ratio(e.stats.stale_percent),
        ),
        field("expired_time_cap_reached_count", "Expiry cycles that ran out of their time.", |e| {
            e.stats.expire_cycles_cut.into()
        }),
        field("expire_cycle_cpu_milliseconds", "Time spent in expiry cycles.", |e| {
            (e.stats.expire_cycles_ns / 1_000_000).into()
        }),
        field("evicted_keys", "Keys that were evicted.", |e| e.stats.evicted_keys.into()),
        field("evicted_clients", "Clients closed because clients took too much memory.", |e| {
            e.stats.evicted_clients.into()
        }),
        field("total_eviction_exceeded_time", "Milliseconds over maxmemory.", |e| {
            ((e.stats.over_limit_ns + e.over_limit_ns()) / 1_000_000).into()
        }),
        field("current_eviction_exceeded_time", "Milliseconds over maxmemory this time.", |e| {
            (e.over_limit_ns() / 1_000_000).into()
        }),
        field("keyspace_hits", "Look-ups that found a key.", |e| e.stats.keyspace_hits.into()),
        field("keyspace_misses", "Look-ups that found none.", |e| e.stats.keyspace_misses.into()),
        field("pubsub_channels", "Channels that someone listens to.", |e| {
            e.pubsub.iter().map(|space| space.channels.len()).sum::<usize>().into()
        }),
        field("pubsub_patterns", "Patterns that someone listens to.", |e| {
            e.pubsub.iter().map(|space| space.patterns.len()).sum::<usize>().into()
        }),
        field("pubsubshard_channels", "Sharded channels that someone listens to.", |e| {
            e.pubsub.iter().map(|space| space.shards.len()).sum::<usize>().into()
        }),
        field("latest_fork_usec", "How long the last fork took; there are none.", never),
        field("total_forks", "Forks; there are none.", never),
        field("migrate_cached_sockets", "Sockets kept open for MIGRATE.", never),
        field("slave_expires_tracked_keys", "Keys with a TTL written on a replica.", |e| {
            e.replication.own_keys.len().into()
        }),
        field("active_defrag_hits", "Values moved by defragmentation; there is none.", never),
        field("active_defrag_misses", "Values that defragmentation left in place.", never),
        field("active_defrag_key_hits", "Keys moved by defragmentation.", never),
        field("active_defrag_key_misses", "Keys that defragmentation left in place.", never),
        field("total_active_defrag_time", "Milliseconds of defragmentation.", never),
        field("current_active_defrag_time", "Milliseconds of the present defragmentation.", never),
        field("tracking_total_keys", "Keys tracked for clients.", |e| e.tracking.keys().into()),
        field("tracking_total_items", "Pairs of a tracked key and a client.", |e| e.tracking.items().into()),
        field("tracking_total_prefixes", "Prefixes tracked for clients.", |e| e.tracking.prefixes().into()),
        field("unexpected_error_replies", "Errors sent over replication links.", |e| {
            e.replication.counts.errors.into()
        }),
        field("total_error_replies", "Error replies.", |e| e.stats.error_replies.into()),
        field("dump_payload_sanitizations", "Serialised values checked in depth.", never),
        field("total_reads_processed", "Reads from sockets.", |e| e.usage.reads.into()),
        field("total_writes_processed", "Writes to sockets.", |e| e.usage.writes.into()),
        field("io_threaded_reads_processed", "Reads by threads other than the main one.", |e| {
            e.usage.threaded_reads.into()
        }),
        field("io_threaded_writes_processed", "Writes by threads other than the main one.", |e| {
            e.usage.threaded_writes.into()
        }),
        field("reply_buffer_shrinks", "Reply buffers made smaller; they are not resized.", never),
        field("reply_buffer_expands", "Reply buffers made larger; they are not resized.", never),
    ],
};

/// Calls of each command.
pub(super) const COMMANDSTATS: Section = Section {
    name: "commandstats",
    fields: &[field(
        "cmdstat_*",
        "Calls of a command, microseconds spent in them, refused and failed ones.",
        |e| {
            let lines =
                called(e).into_iter().filter(|(_, stats)| stats.calls + stats.failed + stats.rejected > 0);
            Shown::Lines(
                lines
                    .map(|(command, stats)| (format!("cmdstat_{}", safe(&command.name)), calls(stats)))
                    .collect(),
            )
        },
    )],
};

/// Error replies by their first words.
pub(super) const ERRORSTATS: Section = Section {
    name: "errorstats",
    fields: &[field("errorstat_*", "Error replies that began with this word.", |e| {
        let line =
            |(word, count): (&String, &u64)| (format!("errorstat_{}", safe(word)), format!("count={count}"));
        Shown::Lines(e.stats.errors.iter().map(line).collect())
    })],
};

/// Latencies of each command.
pub(super) const LATENCYSTATS: Section = Section {
    name: "latencystats",
    fields: &[field(
        "latency_percentiles_usec_*",
        "Percentiles of a command's latency in microseconds.",
        |e| {
            if !e.stats.tracks_latency {
                return Shown::Hidden;
            }
            let lines = called(e).into_iter().filter_map(|(command, stats)| {
                Some((format!("latency_percentiles_usec_{}", safe(&command.name)), percentiles(e, stats)?))
            });
            Shown::Lines(lines.collect())
        },
    )],
};

/// Commands and subcommands that were called or refused, in the order of their names.
fn called(engine: &Engine) -> Vec<(&Command, &CommandStats)> {
    let all = engine.registry.iter().flat_map(|(_, command)| {
        std::iter::once(&**command).chain(command.subcommands.values().map(|command| &**command))
    });
    let mut called: Vec<_> =
        all.filter_map(|command| Some((command, engine.stats.commands.get(command.index)?))).collect();
    called.sort_unstable_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    called
}

fn calls(stats: &CommandStats) -> String {
    let us = stats.ns / 1000;
    let us_per_call = if stats.calls == 0 { 0.0 } else { us as f64 / stats.calls as f64 };
    format!(
        "calls={},usec={us},usec_per_call={us_per_call:.2},rejected_calls={},failed_calls={}",
        stats.calls, stats.rejected, stats.failed
    )
}

fn percentiles(engine: &Engine, stats: &CommandStats) -> Option<String> {
    let latency = stats.latency.as_deref()?.histogram();
    let wanted = &engine.config.stats.latency_tracking_info_percentiles.0;
    let shown = wanted.iter().map(|percentile| {
        let number = format!("{percentile:.6}");
        let number = number.trim_end_matches('0').trim_end_matches('.');
        format!("p{number}={:.3}", latency.value_at_percentile(*percentile) as f64 / 1000.0)
    });
    Some(shown.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_shown_as_redis_shows_them() {
        let stats = CommandStats { calls: 3, ns: 4_999, rejected: 1, failed: 2, latency: None };
        assert_eq!(calls(&stats), "calls=3,usec=4,usec_per_call=1.33,rejected_calls=1,failed_calls=2");
        let refused = CommandStats { rejected: 1, ..CommandStats::default() };
        assert_eq!(calls(&refused), "calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0");
    }
}
