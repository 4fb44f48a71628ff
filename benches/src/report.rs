//! What was measured, as JSON and as lines of a table.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::growth::{self, Cause};
use crate::load::Outcome;
use crate::process::Usage;

/// The outcome of a load as JSON.
pub fn load_json(outcome: &Outcome) -> Value {
    let seconds = outcome.elapsed.as_secs_f64();
    json!({
        "requests": outcome.requests,
        "seconds": seconds,
        "requests_per_second": outcome.requests as f64 / seconds.max(1e-9),
        "errors": outcome.errors,
        "first_error": outcome.first_error,
        "unanswered": outcome.unanswered,
        "latency_us": percentiles(&outcome.latency),
        "late_us": (!outcome.lateness.is_empty()).then(|| percentiles(&outcome.lateness)),
        "client": usage_json(&outcome.client),
        "server": outcome.server.as_ref().map(usage_json),
    })
}

/// The outcome of a load as text.
pub fn load_text(outcome: &Outcome) -> String {
    let seconds = outcome.elapsed.as_secs_f64();
    let mut text = format!(
        "{} requests in {seconds:.2} s: {:.0} requests/s, client CPU {:.0} %\nlatency µs: {}\n",
        outcome.requests,
        outcome.requests as f64 / seconds.max(1e-9),
        outcome.client.cpu.as_secs_f64() / seconds.max(1e-9) * 100.0,
        percentiles_text(&outcome.latency),
    );
    if !outcome.lateness.is_empty() {
        text += &format!("sent late by µs: {}\n", percentiles_text(&outcome.lateness));
    }
    if let Some(server) = outcome.server {
        let cpu_us = server.cpu.as_secs_f64() * 1e6 / (outcome.requests as f64).max(1.0);
        text += &format!(
            "server CPU {cpu_us:.3} µs/request, {:.0} % of it user; page faults {} minor, {} major\n",
            server.user_percent(),
            server.minor_faults,
            server.major_faults,
        );
    }
    if outcome.errors > 0 {
        text += &format!(
            "{} ERRORS, the first: {}\n",
            outcome.errors,
            outcome.first_error.as_deref().unwrap_or("")
        );
    }
    if outcome.unanswered > 0 {
        text += &format!("{} requests were NOT ANSWERED\n", outcome.unanswered);
    }
    text
}

/// The outcome of a growth as JSON.
pub fn growth_json(outcome: &growth::Outcome) -> Value {
    let cost = |cost: &crate::control::PageCost| {
        json!({
            "bytes": cost.bytes,
            "faults": cost.faults,
            "fault_us": us(cost.fault_ns),
            "touch_us_max": us(cost.touch_ns_max),
        })
    };
    let passes = outcome.passes.iter().map(|pass| {
        let stalls = pass.stalls.iter().map(|stall| {
            json!({
                "us": stall.length.as_secs_f64() * 1e6,
                "keys": stall.keys,
                "cause": cause_name(stall.cause),
                "client_gap_us": stall.client_gap.as_secs_f64() * 1e6,
                "server_waited_us": stall.server.waited.as_secs_f64() * 1e6,
                "server_cpu_us": stall.server.cpu.as_secs_f64() * 1e6,
                "minor_faults": stall.server.minor_faults,
                "major_faults": stall.server.major_faults,
            })
        });
        let longest = |cause| pass.longest(cause).as_secs_f64() * 1e6;
        let [machine, faults, own] = pass.counts;
        json!({
            "keys": pass.keys,
            "seconds": pass.elapsed.as_secs_f64(),
            "server": usage_json(&pass.server),
            "resident_before": pass.resident.0,
            "resident_after": pass.resident.1,
            "probe_us": percentiles(&pass.probes),
            "longest_us": { "own": longest(Cause::Own), "faults": longest(Cause::Faults),
                            "machine": longest(Cause::Machine) },
            "stalls_over_200us": { "own": own, "faults": faults, "machine": machine },
            "stalls": stalls.collect::<Vec<_>>(),
        })
    });
    json!({
        "page_cost_first": cost(&outcome.page_cost.0),
        "page_cost_again": cost(&outcome.page_cost.1),
        "passes": passes.collect::<Vec<_>>(),
    })
}

/// The outcome of a growth, from its JSON, as lines: the way it is printed alone and in a comparison.
pub fn growth_text(outcome: &Value) -> String {
    let number = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let mut text = format!(
        "  a page fault costs {:.2} µs on this machine now ({:.2} µs before the host provided the memory)\n",
        number(outcome, "/page_cost_again/fault_us"),
        number(outcome, "/page_cost_first/fault_us"),
    );
    for (index, pass) in outcome["passes"].as_array().into_iter().flatten().enumerate() {
        let at = |path: &str| number(pass, path);
        text += &format!(
            "  pass {}: {} keys in {:.1} s, server {:.2} µs/key, {} minor and {} major faults\n    \
             round trip µs: p50 {:.0}  p99 {:.0}  p99.9 {:.0}\n    \
             longest stall µs: own {:.0}  page faults {:.0}  machine {:.0}   (over 200 µs: {} own, {} faults, {} machine)\n",
            index + 1,
            pass["keys"],
            at("/seconds"),
            at("/server/cpu_s") * 1e6 / at("/keys"),
            pass["server"]["minor_faults"],
            pass["server"]["major_faults"],
            at("/probe_us/p50"),
            at("/probe_us/p99"),
            at("/probe_us/p999"),
            at("/longest_us/own"),
            at("/longest_us/faults"),
            at("/longest_us/machine"),
            pass["stalls_over_200us"]["own"],
            pass["stalls_over_200us"]["faults"],
            pass["stalls_over_200us"]["machine"],
        );
        let own = pass["stalls"].as_array().into_iter().flatten().filter(|stall| stall["cause"] == "own");
        for stall in own.take(3) {
            text += &format!(
                "      {:.0} µs at {} keys: client gap {:.0} µs, server {:.0} µs on its CPU and {:.0} µs kept off it, {} faults\n",
                number(stall, "/us"),
                stall["keys"],
                number(stall, "/client_gap_us"),
                number(stall, "/server_cpu_us"),
                number(stall, "/server_waited_us"),
                stall["minor_faults"],
            );
        }
    }
    text
}

/// Gaps that a thread saw between two looks at the clock.
pub fn gaps_json(gaps: &Histogram<u64>) -> Value {
    json!({ "looks": gaps.len(), "gap_us": percentiles(gaps), "over_100us": gaps.count_between(100_000, u64::MAX) })
}

fn percentiles(histogram: &Histogram<u64>) -> Value {
    json!({
        "mean": histogram.mean() / 1e3,
        "p50": us(histogram.value_at_quantile(0.5)),
        "p99": us(histogram.value_at_quantile(0.99)),
        "p999": us(histogram.value_at_quantile(0.999)),
        "max": us(histogram.max()),
    })
}

fn percentiles_text(histogram: &Histogram<u64>) -> String {
    let at = |quantile| us(histogram.value_at_quantile(quantile));
    format!("p50 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}", at(0.5), at(0.99), at(0.999), us(histogram.max()))
}

fn usage_json(usage: &Usage) -> Value {
    json!({
        "cpu_s": usage.cpu.as_secs_f64(),
        "user_percent": usage.user_percent(),
        "waited_s": usage.waited.as_secs_f64(),
        "minor_faults": usage.minor_faults,
        "major_faults": usage.major_faults,
    })
}

fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Machine => "machine",
        Cause::Faults => "faults",
        Cause::Own => "own",
    }
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// One run of one server, as a row of figures that medians can be taken of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample([f64; FIGURES.len()]);

/// The figures of a sample, as they are called in JSON.
const FIGURES: [&str; 10] = [
    "requests_per_second",
    "server_cpu_us",
    "server_user_percent",
    "p50_us",
    "p99_us",
    "p999_us",
    "max_us",
    "server_percent",
    "client_percent",
    "late_p999_us",
];

impl Sample {
    /// From the JSON of a load; `None` if something is missing.
    pub fn of_load(load: &Value) -> Option<Sample> {
        let number = |path: &str| load.pointer(path).and_then(Value::as_f64);
        let (seconds, requests) = (number("/seconds")?, number("/requests")?);
        let cpu = number("/server/cpu_s")?;
        Some(Sample([
            number("/requests_per_second")?,
            cpu * 1e6 / requests.max(1.0),
            number("/server/user_percent")?,
            number("/latency_us/p50")?,
            number("/latency_us/p99")?,
            number("/latency_us/p999")?,
            number("/latency_us/max")?,
            cpu / seconds * 100.0,
            number("/client/cpu_s")? / seconds * 100.0,
            number("/late_us/p999").unwrap_or(0.0),
        ]))
    }

    /// The median of each figure.
    pub fn median(samples: &[Sample]) -> Sample {
        Sample(std::array::from_fn(|figure| {
            let mut values: Vec<f64> = samples.iter().map(|sample| sample.0[figure]).collect();
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            match values.len() {
                0 => f64::NAN,
                odd if odd % 2 == 1 => values[middle],
                _ => (values[middle - 1] + values[middle]) / 2.0,
            }
        }))
    }

    /// The medians of the rounds' ratios: what slowed a whole round down is in both of its halves.
    pub fn ratios(rounds: &[Sample], first: &[Sample]) -> Sample {
        let ratio = |(one, other): (&Sample, &Sample)| Sample(std::array::from_fn(|i| one.0[i] / other.0[i]));
        Sample::median(&rounds.iter().zip(first).map(ratio).collect::<Vec<_>>())
    }

    /// Requests per second.
    pub fn rate(&self) -> f64 {
        self.0[0]
    }

    /// The server's CPU time per request.
    pub fn cpu_us(&self) -> f64 {
        self.0[1]
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        FIGURES.iter().zip(self.0).map(|(name, value)| (name.to_string(), json!(value))).collect()
    }
}

/// The heading of the table.
pub fn heading() -> String {
    format!(
        "{:15} {:18} {:>10} {:>8} {:>4} {:>9} {:>9} {:>9} {:>4} {:>4} {:>6} {:>6} {:>6} {:>5} note",
        "workload",
        "server",
        "req/s",
        "cpu_us",
        "usr%",
        "p50_us",
        "p99_us",
        "p99.9_us",
        "srv%",
        "cli%",
        "thr_x",
        "cpu_x",
        "p999_x",
        "+-%"
    )
}

/// A line of the table: the medians of a server's rounds, and of their ratios to the first server's.
pub fn line(case: &str, server: &str, rounds: &[Sample], first: &[Sample], open_loop: bool) -> String {
    let ratios = Sample::ratios(rounds, first);
    let median = Sample::median(rounds);
    let [rate, cpu, user, p50, p99, p999, _, server_percent, client_percent, late] = median.0;
    format!(
        "{case:15} {server:18} {rate:10.0} {cpu:8.3} {user:4.0} {p50:9.1} {p99:9.1} {p999:9.1} {server_percent:4.0} \
         {client_percent:4.0} {:6.2} {:6.2} {:6.2} {:5.1} {}",
        ratios.rate(),
        ratios.cpu_us(),
        ratios.0[5],
        spread(rounds),
        note(open_loop, server_percent, client_percent, late, p999),
    )
    .trim_end()
    .to_owned()
}

/// How far the rounds' CPU times lie apart, in percent of their median.
pub fn spread(rounds: &[Sample]) -> f64 {
    let cpu = || rounds.iter().map(Sample::cpu_us);
    (cpu().fold(f64::MIN, f64::max) - cpu().fold(f64::MAX, f64::min)) / Sample::median(rounds).cpu_us()
        * 100.0
}

/// What to beware of: C the client was the bottleneck, CS both were; L the open loop itself was late.
fn note(open_loop: bool, server_percent: f64, client_percent: f64, late: f64, p999: f64) -> &'static str {
    match (open_loop, client_percent > 93.0, server_percent > 90.0) {
        (true, ..) if late > p999 / 2.0 => "L",
        (true, ..) => "",
        (false, true, false) => "C",
        (false, true, true) => "CS",
        (false, false, _) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rate: f64, cpu: f64) -> Sample {
        let mut figures = [1.0; FIGURES.len()];
        (figures[0], figures[1]) = (rate, cpu);
        Sample(figures)
    }

    #[test]
    fn medians_are_taken_figure_by_figure() {
        let rounds = [sample(3.0, 10.0), sample(1.0, 30.0), sample(2.0, 20.0)];
        assert_eq!(Sample::median(&rounds), sample(2.0, 20.0));
        assert_eq!(Sample::median(&rounds[..2]), sample(2.0, 20.0));
        assert_eq!(spread(&rounds), 100.0);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let first = [sample(1.0, 10.0), sample(2.0, 20.0), sample(3.0, 30.0)];
        let rounds = [sample(2.0, 5.0), sample(4.0, 10.0), sample(3.0, 300.0)];
        assert_eq!(Sample::ratios(&rounds, &first), sample(2.0, 0.5));
    }

    #[test]
    fn lines_stand_under_their_heading() {
        let first = [sample(100_000.0, 8.0)];
        let line = line("get_p1", "new", &[sample(200_000.0, 4.0)], &first, false);
        assert!(line.contains("  2.00   0.50   1.00   0.0"), "{line}");
        let ends = |text: &str, word: &str| text.find(word).unwrap() + word.len();
        assert_eq!(ends(&heading(), "thr_x"), ends(&line, "2.00"));
    }

    #[test]
    fn a_client_that_was_the_bottleneck_is_named() {
        assert_eq!(note(false, 50.0, 99.0, 0.0, 10.0), "C");
        assert_eq!(note(false, 99.0, 99.0, 0.0, 10.0), "CS");
        assert_eq!(note(false, 99.0, 50.0, 0.0, 10.0), "");
        assert_eq!(note(true, 50.0, 100.0, 1.0, 10.0), "");
        assert_eq!(note(true, 50.0, 100.0, 9.0, 10.0), "L");
    }
}
