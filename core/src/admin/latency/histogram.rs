//! LATENCY HISTOGRAM: how long calls take.

use hdrhistogram::Histogram;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::{ADMIN, LOADING, NOSCRIPT, STALE};
use mortise_sdk::error::Result;

use crate::engine::call::Call;
use crate::engine::latencies::Latencies;
use crate::engine::registry;
use crate::engine::stats::Stats;
use crate::features::Command;
use crate::resp::output::Output;

const SERVER: Spec = Spec::group("server");

const LATENCY_HISTOGRAM: Command = Spec {
    usage: "LATENCY HISTOGRAM [command...]",
    about: "Returns how long calls of commands took, as histograms.",
    since: "7.0.0",
    cost: "O(N), N being the commands with calls",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
    ..SERVER
}
.runs(latency_histogram);

/// This file's commands.
pub(in crate::admin) const COMMANDS: &[Command] = &[LATENCY_HISTOGRAM];

/// Where the first class of a histogram ends, in nanoseconds; each further one is twice as wide.
const FIRST_CLASS_NS: u64 = 1024;
/// Where the last one ends: just beyond the longest latency that is kept.
const LAST_CLASS_NS: u64 = (1 << 30) - 1;

fn latency_histogram(call: &mut Call<'_>) -> Result {
    let registry = call.registry;
    let mut commands: Vec<&registry::Command> = Vec::new();
    if call.argc() == 2 {
        commands.extend(registry.iter().flat_map(|(_, command)| family(command)));
        commands.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    } else {
        let named = call.options(2).filter_map(|name| registry.by_full_name(name));
        commands.extend(named.flat_map(|command| family(command)));
    }
    let (engine, out) = call.engine_and_out();
    let latencies =
        commands.iter().filter_map(|command| Some((command, latency_of(&engine.stats, command)?)));
    out.map(latencies.clone().count());
    for (command, latency) in latencies {
        out.bulk(command.name.as_bytes());
        histogram(&latency.histogram(), out);
    }
    Ok(())
}

/// A command and its subcommands.
fn family(command: &registry::Command) -> impl Iterator<Item = &registry::Command> {
    let mut subcommands: Vec<_> = command.subcommands.values().map(|command| &**command).collect();
    subcommands.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    std::iter::once(command).chain(subcommands)
}

fn latency_of<'a>(stats: &'a Stats, command: &registry::Command) -> Option<&'a Latencies> {
    stats.commands.get(command.index)?.latency.as_deref()
}

fn histogram(latency: &Histogram<u64>, out: &mut Output) {
    let classes = classes(latency);
    out.map(2);
    out.bulk(b"calls");
    out.integer(latency.len() as i64);
    out.bulk(b"histogram_usec");
    out.map(classes.len());
    for (us, calls) in classes {
        out.integer(us as i64);
        out.integer(calls as i64);
    }
}

/// The end of each class, in microseconds, and how many calls took no longer; classes without calls are left out.
fn classes(latency: &Histogram<u64>) -> Vec<(u64, u64)> {
    let mut classes = Vec::new();
    let mut class = FIRST_CLASS_NS;
    let (mut calls, mut counted) = (0, 0);
    let mut end = |class: &mut u64, calls: u64| {
        if calls > counted {
            classes.push((latency.highest_equivalent(*class).min(LAST_CLASS_NS) / 1000, calls));
            counted = calls;
        }
        *class *= 2;
    };
    for bucket in latency.iter_recorded() {
        let lowest = latency.lowest_equivalent(bucket.value_iterated_to());
        while latency.lowest_equivalent(class) < lowest {
            end(&mut class, calls);
        }
        calls += bucket.count_at_value();
    }
    end(&mut class, calls);
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_double_and_cumulate() {
        let mut latency = Histogram::new_with_bounds(1, 1_000_000_000, 2).unwrap();
        assert_eq!(classes(&latency), []);
        for ns in [1, 900, 1024, 1031, 1032, 5_000, 33_000, 33_200] {
            latency.record(ns).unwrap();
        }
        assert_eq!(classes(&latency), [(1, 4), (2, 5), (8, 6), (33, 7), (66, 8)]);
        latency.saturating_record(u64::MAX);
        assert_eq!(classes(&latency).last(), Some(&(1_073_741, 9)));
    }
}
