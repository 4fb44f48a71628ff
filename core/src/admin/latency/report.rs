//! LATENCY DOCTOR: what the events say, and what can be done about them.

use std::fmt::Write;

use super::events::{Event, Seen};
use crate::engine::Engine;

/// The report.
pub(super) fn report(engine: &Engine) -> String {
    let threshold_ms = engine.config.stats.latency_monitor_threshold;
    if engine.latency.iter().len() == 0 {
        return if threshold_ms == 0 {
            "Nothing is watched: latency monitoring is off. CONFIG SET latency-monitor-threshold <milliseconds> turns it \
             on.\n"
                .to_owned()
        } else {
            format!("All is well: nothing has taken {threshold_ms} ms or longer since it is watched for.\n")
        };
    }
    let mut text = "Some things have taken long here:\n\n".to_owned();
    for (number, (event, seen)) in engine.latency.iter().enumerate() {
        line(&mut text, number + 1, event, seen);
    }
    text.push_str("\nWhat may help:\n\n");
    for advice in advices(engine) {
        text.push_str("- ");
        text.push_str(&advice);
        text.push('\n');
    }
    text
}

fn line(text: &mut String, number: usize, event: Event, seen: &Seen) {
    let (mean, off) = seen.mean_ms();
    let count = seen.samples.len();
    let ends = seen.samples.front().zip(seen.samples.back());
    let period = ends.map_or(0, |(first, last)| last.at_s - first.at_s) as f64 / count.max(1) as f64;
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "{number}. {}: {count} latency spikes (average {mean:.0}ms, mean deviation {off:.0}ms, period {period:.2} sec). \
         Worst all time event {}ms.",
        event.name(),
        seen.max_ms,
    );
}

fn advices(engine: &Engine) -> Vec<String> {
    let mut advices = Vec::new();
    let has = |event| engine.latency.of(event).is_some();
    if has(Event::Command) {
        let threshold_ms = engine.config.stats.latency_monitor_threshold;
        let slower_than_us = engine.config.stats.slowlog_log_slower_than;
        if slower_than_us < 0 || slower_than_us as u64 / 1000 > threshold_ms {
            advices.push(format!(
                "The slow log misses these commands: CONFIG SET slowlog-log-slower-than {} lets it note them.",
                threshold_ms * 1000
            ));
        }
        advices.push("SLOWLOG GET shows the commands that take long, with their arguments.".to_owned());
        advices.push(
            "A command takes long if it visits many elements: prefer SCAN to KEYS, ranges with a limit to whole \
             collections, and several small collections to a large one."
                .to_owned(),
        );
    }
    if has(Event::FastCommand) {
        advices.push(
            "Commands that should be fast are not: the process does not get the processor when it needs it. Look for \
             other load on the machine, for a virtual machine with noisy neighbours, and at what redis-cli \
             --intrinsic-latency 100 finds."
                .to_owned(),
        );
    }
    if has(Event::ExpireCycle) {
        advices.push(
            "Many keys expire at the same time: spread their times to live, or lower active-expire-effort."
                .to_owned(),
        );
    }
    if has(Event::EvictionCycle) {
        advices.push(
            "Much had to be evicted at once: lower maxmemory in steps, and expect large values written when memory is \
             nearly full to push out many small ones."
                .to_owned(),
        );
    }
    advices
}
