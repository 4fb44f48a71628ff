//! LATENCY HISTORY, LATEST, RESET, GRAPH, DOCTOR.

use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;
use mortise_sdk::error::{Error, Result};

use super::events::Event;
use super::{graph, report};
use crate::engine::call::Call;
use crate::features::{Command, container};

const SERVER: Spec = Spec::group("server");

/// This file's commands.
pub(in crate::admin) const COMMANDS: &[Command] = &[
    LATENCY_CONTAINER,
    LATENCY_HISTORY,
    LATENCY_LATEST,
    LATENCY_RESET,
    LATENCY_GRAPH,
    LATENCY_DOCTOR,
    LATENCY_HELP,
];

const LATENCY_CONTAINER: Command = Spec {
    usage: "LATENCY",
    about: "Commands about slow events.",
    since: "2.8.13",
    cost: "depends on the subcommand",
    flags: &[CONTAINER],
    ..SERVER
}
.runs(container);

/// What the commands about events have in common.
const EVENTS: Spec = Spec {
    since: "2.8.13",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
    ..SERVER
};

const LATENCY_HISTORY: Command = Spec {
    usage: "LATENCY HISTORY event",
    about: "Returns when events of a kind took too long, and how long.",
    ..EVENTS
}
.runs(latency_history);

fn latency_history(call: &mut Call<'_>) -> Result {
    let event = Event::named(call.arg(2));
    let (engine, out) = call.engine_and_out();
    let samples = event.and_then(|event| engine.latency.of(event)).map(|seen| &seen.samples);
    out.array(samples.map_or(0, |samples| samples.len()));
    for sample in samples.into_iter().flatten() {
        out.array(2);
        out.integer(sample.at_s);
        out.integer(sample.ms as i64);
    }
    Ok(())
}

const LATENCY_LATEST: Command = Spec {
    usage: "LATENCY LATEST",
    about: "Returns the latest event of each kind that took too long, and the longest there was.",
    ..EVENTS
}
.runs(latency_latest);

fn latency_latest(call: &mut Call<'_>) -> Result {
    let (engine, out) = call.engine_and_out();
    let latest = engine.latency.iter().filter_map(|(event, seen)| Some((event, seen, seen.samples.back()?)));
    out.array(latest.clone().count());
    for (event, seen, sample) in latest {
        out.array(4);
        out.bulk(event.name().as_bytes());
        out.integer(sample.at_s);
        out.integer(sample.ms as i64);
        out.integer(seen.max_ms as i64);
    }
    Ok(())
}

const LATENCY_RESET: Command = Spec {
    usage: "LATENCY RESET [event...]",
    about: "Forgets the events of these kinds, or all; returns of how many kinds there were any.",
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    ..EVENTS
}
.runs(latency_reset);

fn latency_reset(call: &mut Call<'_>) -> Result {
    let args = call.args();
    let latency = &mut call.engine.latency;
    if args.len() == 2 {
        let count = latency.forget_all();
        return call.reply(count);
    }
    let named = args.iter().skip(2).filter_map(Event::named);
    let count = named.filter(|event| latency.forget(*event)).count();
    call.reply(count)
}

const LATENCY_GRAPH: Command = Spec {
    usage: "LATENCY GRAPH event",
    about: "Draws how long the latest events of a kind took.",
    ..EVENTS
}
.runs(latency_graph);

fn latency_graph(call: &mut Call<'_>) -> Result {
    let name = call.arg(2);
    let now_s = call.now_ms() / 1000;
    let seen = Event::named(name).and_then(|event| Some((event, call.engine.latency.of(event)?)));
    let Some((event, seen)) = seen else {
        return Err(Error::quoting("ERR No samples available for event '{}'", &[name]));
    };
    let graph = graph::draw(event, seen, now_s);
    call.out().verbatim(&graph);
    Ok(())
}

const LATENCY_DOCTOR: Command =
    Spec { usage: "LATENCY DOCTOR", about: "Says what has taken too long, and what may help.", ..EVENTS }
        .runs(latency_doctor);

fn latency_doctor(call: &mut Call<'_>) -> Result {
    let report = report::report(call.engine);
    call.out().verbatim(&report);
    Ok(())
}

const LATENCY_HELP: Command = Spec {
    usage: "LATENCY HELP",
    about: "Lists the subcommands of LATENCY.",
    since: "2.8.13",
    flags: &[LOADING, STALE],
    ..SERVER
}
.runs(latency_help);

fn latency_help(call: &mut Call<'_>) -> Result {
    call.help(&[
        ("DOCTOR", "Return a human readable latency analysis report."),
        ("GRAPH <event>", "Return an ASCII latency graph for the <event> class."),
        ("HISTORY <event>", "Return time-latency samples for the <event> class."),
        ("LATEST", "Return the latest latency samples for all events."),
        (
            "RESET [<event> ...]",
            "Reset latency data of one or more <event> classes.\n(default: reset all data for all event classes)",
        ),
        (
            "HISTOGRAM [COMMAND ...]",
            "Return a cumulative distribution of latencies in the format of a histogram for the specified command \
             names.\nIf no commands are specified then all histograms are replied.",
        ),
    ])
}
