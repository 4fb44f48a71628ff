//! The command line of `mortise-bench`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;
use serde_json::Value;

use crate::load::Length;
use crate::server::{Recipe, exists};
use crate::{compare, control, fanout, growth, load, report, workload};

const HELP: &str = "\
mortise-bench compare --server NAME=COMMAND [--server …]   servers side by side
    {port} and {dir} in a command are filled in; ratios are to the first server
    --only NAMES       workloads, or their beginnings, with commas between
    --rounds N         runs of each server [3]        --seconds S   length of a run [1.2]
    --quick            1 round of 0.4 s               --json FILE   write all figures to a file
    --connections N    of the load [50]               --keys N      keys servers hold [1000000]
    --growth-keys N    for growth, memory [10000000]  --rate R      of open loops, instead of half of capacity
    --server-cpus L    [0]  --client-cpus L  [1]      'none' leaves them unpinned
    --nice N           priority of servers and clients; below 0 where other work runs
mortise-bench load --command COMMAND [--host H] --port P    one load, printed
    __rand__, __seq__ and __x64__ in the command stand for a random number, the next number, 64 letters
    --connections N [50]   --pipeline N [1]   --requests N | --seconds S [1]   --warmup S [0]
    --rate R  requests per second of an open loop    --keys N  range of __rand__   --first N  of __seq__
    --server-pid PID  also read the server's CPU time     --json
mortise-bench fanout [--host H] --port P [--subscribers N] [--patterns N] [--pipeline N] [--requests N]
    [--server-pid PID] [--json]
mortise-bench growth [--host H] --port P --server-pid PID [--keys N] [--passes N] [--json]
mortise-bench control [--seconds S] [--json]                how long the machine holds up a thread that only runs
mortise-bench list                                          the cases of compare
";

/// Reads the arguments, without the program's name, and does what they say.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    let mut arguments = arguments.into_iter();
    let subcommand = arguments.next().unwrap_or_default();
    let options = Options::parse(arguments).map_err(|error| error.to_string())?;
    match subcommand.to_str() {
        Some("load") => run_load(&options).map_err(|error| error.to_string()),
        Some("fanout") => run_fanout(&options).map_err(|error| error.to_string()),
        Some("growth") => run_growth(&options).map_err(|error| error.to_string()),
        Some("control") => run_control(&options).map_err(|error| error.to_string()),
        Some("compare") => run_compare(options),
        Some("list") => {
            let names: Vec<String> =
                workload::cases(&options.only).into_iter().map(|case| case.name).collect();
            print(&format!("{}\n", names.join("\n"))).map_err(|error| error.to_string())
        }
        Some("help" | "--help" | "-h") => print(HELP).map_err(|error| error.to_string()),
        _ => Err(format!("compare, load, fanout, growth, control or list is wanted\n\n{HELP}")),
    }
}

/// Every option; each subcommand takes what it knows.
#[derive(Debug, Default)]
struct Options {
    servers: Vec<Recipe>,
    only: Vec<String>,
    rounds: Option<usize>,
    seconds: Option<f64>,
    quick: bool,
    /// `--json`, and the file for `--json=FILE` or `--json FILE`.
    json: bool,
    json_file: Option<OsString>,
    connections: Option<usize>,
    keys: Option<u64>,
    growth_keys: Option<u64>,
    rate: Option<f64>,
    server_cpus: Option<String>,
    client_cpus: Option<String>,
    nice: i32,
    command: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    pipeline: Option<usize>,
    requests: Option<u64>,
    warmup: f64,
    first: u64,
    server_pid: Option<u32>,
    subscribers: Option<usize>,
    patterns: Option<usize>,
    passes: Option<usize>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Options, lexopt::Error> {
        let mut options = Options::default();
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("server") => options.servers.push(Recipe::parse(&parser.value()?.string()?)?),
                Long("only") => {
                    options.only = parser.value()?.string()?.split(',').map(str::to_owned).collect()
                }
                Long("rounds") => options.rounds = Some(positive(&mut parser)?),
                Long("seconds") => options.seconds = Some(duration(&mut parser)?),
                Long("quick") => options.quick = true,
                Long("json") => {
                    options.json = true;
                    options.json_file = parser.optional_value();
                }
                Long("connections") => options.connections = Some(positive(&mut parser)?),
                Long("keys") => options.keys = Some(positive(&mut parser)?),
                Long("growth-keys") => options.growth_keys = Some(positive(&mut parser)?),
                Long("rate") => options.rate = Some(positive(&mut parser)?),
                Long("server-cpus") => options.server_cpus = Some(parser.value()?.string()?),
                Long("client-cpus") => options.client_cpus = Some(parser.value()?.string()?),
                Long("nice") => options.nice = parser.value()?.parse()?,
                Long("command") => options.command = Some(parser.value()?.string()?),
                Long("host") => options.host = Some(parser.value()?.string()?),
                Long("port") => options.port = Some(parser.value()?.parse()?),
                Long("pipeline") => options.pipeline = Some(positive(&mut parser)?),
                Long("requests") => options.requests = Some(positive(&mut parser)?),
                Long("warmup") => options.warmup = duration(&mut parser)?,
                Long("first") => options.first = parser.value()?.parse()?,
                Long("server-pid") => options.server_pid = Some(parser.value()?.parse()?),
                Long("subscribers") => options.subscribers = Some(positive(&mut parser)?),
                Long("patterns") => options.patterns = Some(parser.value()?.parse()?),
                Long("passes") => options.passes = Some(positive(&mut parser)?),
                // `--json FILE`: the value of an option that may stand without one.
                Value(file) if options.json && options.json_file.is_none() => options.json_file = Some(file),
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }

    fn address(&self) -> io::Result<SocketAddr> {
        let host = self.host.as_deref().unwrap_or("127.0.0.1");
        let port = self.port.ok_or_else(|| io::Error::other("--port is missing"))?;
        let mut found = (host, port).to_socket_addrs()?;
        found.next().ok_or_else(|| io::Error::other(format!("{host} has no address")))
    }
}

/// A number above zero.
fn positive<T>(parser: &mut lexopt::Parser) -> Result<T, lexopt::Error>
where
    T: FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>> + PartialOrd + Default,
{
    let number: T = parser.value()?.parse()?;
    if number > T::default() { Ok(number) } else { Err("a number above zero is wanted".into()) }
}

/// Seconds that a clock can count.
fn duration(parser: &mut lexopt::Parser) -> Result<f64, lexopt::Error> {
    let seconds: f64 = parser.value()?.parse()?;
    if (0.0..1e6).contains(&seconds) { Ok(seconds) } else { Err("a number of seconds is wanted".into()) }
}

fn run_load(options: &Options) -> io::Result<()> {
    let seconds = Duration::from_secs_f64(options.seconds.unwrap_or(1.0));
    let plan = load::Plan {
        address: options.address()?,
        server_pid: options.server_pid,
        command: options.command.clone().ok_or_else(|| io::Error::other("--command is missing"))?,
        connections: options.connections.unwrap_or(50),
        pipeline: options.pipeline.unwrap_or(1),
        keys: options.keys.unwrap_or(1_000_000),
        first: options.first,
        length: options.requests.map_or(Length::Time(seconds), Length::Requests),
        warmup: Duration::from_secs_f64(options.warmup),
        rate: options.rate,
    };
    let outcome = load::run(&plan)?;
    show(options, || report::load_json(&outcome), || report::load_text(&outcome))
}

fn run_fanout(options: &Options) -> io::Result<()> {
    let plan = fanout::Plan {
        address: options.address()?,
        server_pid: options.server_pid,
        subscribers: options.subscribers.unwrap_or(100),
        patterns: options.patterns.unwrap_or(0),
        pipeline: options.pipeline.unwrap_or(1),
        requests: options.requests.unwrap_or(10_000),
    };
    let outcome = fanout::run(&plan)?;
    show(options, || report::load_json(&outcome), || report::load_text(&outcome))
}

fn run_growth(options: &Options) -> io::Result<()> {
    let plan = growth::Plan {
        address: options.address()?,
        server_pid: options.server_pid.ok_or_else(|| io::Error::other("--server-pid is missing"))?,
        keys: options.keys.unwrap_or(10_000_000),
        passes: options.passes.unwrap_or(1),
    };
    let outcome = report::growth_json(&growth::run(&plan)?);
    show(options, || outcome.clone(), || report::growth_text(&outcome))
}

fn run_control(options: &Options) -> io::Result<()> {
    let gaps = control::watch_clock(Duration::from_secs_f64(options.seconds.unwrap_or(1.0)));
    let json = report::gaps_json(&gaps);
    show(options, || json.clone(), || format!("{json:#}\n"))
}

fn run_compare(options: Options) -> Result<(), String> {
    if options.servers.is_empty() {
        return Err(format!("--server NAME=COMMAND is missing\n\n{HELP}"));
    }
    if workload::cases(&options.only).is_empty() {
        return Err(format!("no workload is named {}; see mortise-bench list", options.only.join(",")));
    }
    let cpus = |given: Option<String>, default: &str| {
        let cpus = given.unwrap_or_else(|| default.to_owned());
        (cpus != "none" && !cpus.is_empty()).then_some(cpus)
    };
    let several = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    let pinning = several && exists("taskset");
    if !pinning {
        eprintln!("no taskset, or a single CPU: server and client are not kept apart, expect noise");
    }
    let (rounds, seconds) = if options.quick { (1, 0.4) } else { (3, 1.2) };
    let plan = compare::Plan {
        servers: options.servers,
        only: options.only,
        rounds: options.rounds.unwrap_or(rounds),
        seconds: options.seconds.unwrap_or(seconds),
        connections: options.connections.unwrap_or(50),
        keys: options.keys.unwrap_or(1_000_000),
        growth_keys: options.growth_keys.unwrap_or(10_000_000),
        rate: options.rate,
        server_cpus: cpus(options.server_cpus, "0").filter(|_| pinning),
        client_cpus: cpus(options.client_cpus, "1").filter(|_| pinning),
        nice: options.nice,
    };
    let mut out = io::stdout();
    let json = compare::run(&plan, &mut out).map_err(|error| error.to_string())?;
    if let Some(file) = options.json_file {
        let text = format!("{json:#}\n");
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.to_string_lossy()))?;
    }
    let failed =
        json["results"].as_array().into_iter().flatten().filter(|row| row.get("failed").is_some()).count();
    if failed > 0 {
        return Err(format!("cases that failed: {failed}"));
    }
    Ok(())
}

/// Prints JSON or text, or writes the JSON to a file and prints the text.
fn show(options: &Options, json: impl Fn() -> Value, text: impl Fn() -> String) -> io::Result<()> {
    match &options.json_file {
        Some(file) => {
            fs::write(file, format!("{:#}\n", json()))?;
            print(&text())
        }
        None if options.json => print(&format!("{}\n", json())),
        None => print(&text()),
    }
}

fn print(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}
