//! Servers side by side: every workload runs on them in turn, A B, B A, A B …, each alone on its CPU with the load
//! client on another, and medians are compared with the first server's.
//!
//! The load runs in a process of its own, this program once more, so that it can be pinned and its CPU time is its
//! own. Two servers are up at a time; the one that is not asked sleeps.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::connection::{ask, try_command};
use crate::process;
use crate::report::{self, Sample};
use crate::server::{Recipe, Server, pinned};
use crate::workload::{self, Case, Data, FILL, Kind};

/// Shortest run from which a server's speed is judged.
const CALIBRATION_SECONDS: f64 = 0.15;
/// Requests of the first attempt at that.
const CALIBRATION_REQUESTS: u64 = 4000;
/// Time for a server to come to rest after it was filled, before its memory is read.
const REST: Duration = Duration::from_millis(500);

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The servers; ratios are to the first.
    pub servers: Vec<Recipe>,
    /// Workloads or cases; all if empty.
    pub only: Vec<String>,
    /// Runs of each server in each case.
    pub rounds: usize,
    /// What a run should take on the first server.
    pub seconds: f64,
    /// Connections of the load.
    pub connections: usize,
    /// Keys that servers are filled with, and that `__rand__` chooses from.
    pub keys: u64,
    /// Keys of the growth, and of the larger reading of memory per key.
    pub growth_keys: u64,
    /// Requests per second of the open loops, instead of half of the first server's capacity.
    pub rate: Option<f64>,
    /// CPUs of the servers; `None` leaves them unpinned.
    pub server_cpus: Option<String>,
    /// CPUs of the client.
    pub client_cpus: Option<String>,
    /// Priority of servers and clients: below zero where other work runs.
    pub nice: i32,
}

/// Runs a plan, prints a table as it goes, and returns everything as JSON.
pub fn run(plan: &Plan, out: &mut impl Write) -> io::Result<Value> {
    let stolen_before = process::stolen()?;
    if plan.nice != 0 {
        process::set_priority(plan.nice)?;
    }
    let mut comparison = Comparison { plan, out, live: Vec::new(), live_for: None, results: Vec::new() };
    writeln!(comparison.out, "{}", report::heading())?;
    for case in workload::cases(&plan.only) {
        if let Err(error) = comparison.case(&case) {
            writeln!(comparison.out, "{:15} FAILED: {error}", case.name)?;
            comparison.results.push(json!({ "workload": case.name, "failed": error.to_string() }));
            comparison.stop();
        }
        comparison.out.flush()?;
    }
    comparison.stop();
    let results = std::mem::take(&mut comparison.results);

    let stolen = process::stolen()?;
    let ticks = (stolen.1 - stolen_before.1).max(1);
    let stolen_percent = (stolen.0 - stolen_before.0) as f64 / ticks as f64 * 100.0;
    writeln!(
        out,
        "# {} rounds of {} s, {} connections; the hypervisor gave {stolen_percent:.1} % of CPU time to others",
        plan.rounds, plan.seconds, plan.connections
    )?;
    let servers = plan.servers.iter().map(|server| json!({ "name": server.name, "command": server.command }));
    Ok(json!({
        "servers": servers.collect::<Vec<_>>(),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "connections": plan.connections,
        "keys": plan.keys,
        "stolen_percent": stolen_percent,
        "results": results,
    }))
}

struct Comparison<'a, W> {
    plan: &'a Plan,
    out: &'a mut W,
    live: Vec<Server>,
    /// What the running servers hold, and the workload that made it if it changes what they hold.
    live_for: Option<(Data, &'static str)>,
    results: Vec<Value>,
}

/// A server with a command: what takes turns in a case.
struct Contestant {
    label: String,
    server: usize,
    load: Load,
    /// The contestant that ratios are to.
    base: usize,
}

#[derive(Clone, Copy)]
enum Load {
    Command(&'static str),
    Fanout { subscribers: usize, patterns: usize },
}

impl<W: Write> Comparison<'_, W> {
    fn case(&mut self, case: &Case) -> io::Result<()> {
        match case.workload.kind {
            Kind::Closed(command) => self.throughput(case, |_| vec![("", Load::Command(command))], false),
            Kind::Open(command) => self.throughput(case, |_| vec![("", Load::Command(command))], true),
            Kind::Fanout { subscribers, patterns } => {
                self.throughput(case, |_| vec![("", Load::Fanout { subscribers, patterns })], false)
            }
            Kind::Module { command, equal } => {
                // The core's command runs only where there is a module's to compare with it.
                let pair = |address| match try_command(address, command) {
                    Ok(Ok(())) => vec![(" core", Load::Command(equal)), (" module", Load::Command(command))],
                    _ => vec![("", Load::Command(command))],
                };
                self.throughput(case, pair, false)
            }
            Kind::Memory => self.memory(case),
            Kind::Growth => self.growth(case),
        }
    }

    fn throughput(
        &mut self,
        case: &Case,
        loads: impl Fn(SocketAddr) -> Vec<(&'static str, Load)>,
        open: bool,
    ) -> io::Result<()> {
        self.provide(case)?;
        let mut contestants: Vec<Contestant> = Vec::new();
        for server in 0..self.plan.servers.len() {
            let name = &self.plan.servers[server].name;
            let loads = loads(self.live[server].address());
            let paired = loads.len() > 1;
            let own = contestants.len();
            for (suffix, load) in loads {
                if let Err(error) = self.present(server, load)? {
                    self.not_there(case, server, &error)?;
                    continue;
                }
                let base = if paired { own } else { 0 };
                contestants.push(Contestant { label: format!("{name}{suffix}"), server, load, base });
            }
        }
        if contestants.is_empty() {
            return Ok(());
        }

        let (requests, capacity) = self.calibrate(case, &contestants[0])?;
        let rate = open.then(|| self.plan.rate.unwrap_or(capacity / 2.0));
        for contestant in &contestants[1..] {
            self.sample(case, contestant, requests / 8 + 1, None)?;
        }
        let mut samples = vec![Vec::new(); contestants.len()];
        for round in 0..self.plan.rounds {
            let mut order: Vec<usize> = (0..contestants.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                samples[index].push(self.sample(case, &contestants[index], requests, rate)?);
            }
        }

        for (contestant, rounds) in contestants.iter().zip(&samples) {
            let base = &samples[contestant.base];
            let ratios = Sample::ratios(rounds, base);
            let line = report::line(&case.name, &contestant.label, rounds, base, open);
            writeln!(self.out, "{line}")?;
            self.results.push(json!({
                "workload": case.name,
                "server": contestant.label,
                "rate": rate,
                "median": Sample::median(rounds).json(),
                "throughput_ratio": ratios.rate(),
                "cpu_ratio": ratios.cpu_us(),
                "cpu_spread_percent": report::spread(rounds),
                "rounds": rounds.iter().map(Sample::json).collect::<Vec<_>>(),
            }));
        }
        Ok(())
    }

    /// Whether a server has a command: an error is its answer, not a failure of ours.
    fn present(&self, server: usize, load: Load) -> io::Result<Result<(), String>> {
        let address = self.live[server].address();
        match load {
            Load::Command(command) => try_command(address, command),
            Load::Fanout { .. } => match ask(address, &["SUBSCRIBE", "mortise-bench"])? {
                Ok(()) => ask(address, &["PUBLISH", "mortise-bench", "x"]),
                refused => Ok(refused),
            },
        }
    }

    fn not_there(&mut self, case: &Case, server: usize, error: &str) -> io::Result<()> {
        let name = &self.plan.servers[server].name;
        writeln!(self.out, "{:15} {name:18} not there: {error}", case.name)?;
        self.results.push(json!({ "workload": case.name, "server": name, "not_there": error }));
        Ok(())
    }

    /// How many requests make a run of the wanted length, and how many a second the server does.
    fn calibrate(&mut self, case: &Case, contestant: &Contestant) -> io::Result<(u64, f64)> {
        let mut requests = match contestant.load {
            Load::Command(_) => CALIBRATION_REQUESTS,
            Load::Fanout { subscribers, .. } => CALIBRATION_REQUESTS / subscribers as u64 + 1,
        };
        loop {
            let load = self.load(case, contestant, requests, None)?;
            let number = |name: &str| load[name].as_f64().unwrap_or_default();
            let seconds = number("seconds").max(1e-3);
            if seconds >= CALIBRATION_SECONDS.min(self.plan.seconds) {
                let wanted = requests as f64 / seconds * self.plan.seconds;
                return Ok((wanted as u64 + 1, number("requests_per_second")));
            }
            requests = (requests as f64 * (2.0 * CALIBRATION_SECONDS / seconds).clamp(1.5, 20.0)) as u64;
        }
    }

    fn sample(
        &mut self,
        case: &Case,
        contestant: &Contestant,
        requests: u64,
        rate: Option<f64>,
    ) -> io::Result<Sample> {
        let load = self.load(case, contestant, requests, rate)?;
        Sample::of_load(&load).ok_or_else(|| io::Error::other(format!("a figure is missing in {load}")))
    }

    /// One run in a process of its own; errors of the server are errors of the run.
    fn load(
        &mut self,
        case: &Case,
        contestant: &Contestant,
        requests: u64,
        rate: Option<f64>,
    ) -> io::Result<Value> {
        if case.workload.data == Data::Empty {
            self.empty(contestant.server)?;
        }
        let mut words = vec![format!("--pipeline={}", case.pipeline)];
        let subcommand = match contestant.load {
            Load::Command(command) => {
                words.push(format!("--connections={}", self.plan.connections));
                words.push(format!("--command={command}"));
                words.push(format!("--keys={}", self.plan.keys));
                "load"
            }
            Load::Fanout { subscribers, patterns } => {
                words.push(format!("--subscribers={subscribers}"));
                words.push(format!("--patterns={patterns}"));
                "fanout"
            }
        };
        match rate {
            // An open loop runs for a time; a fixed number of requests would end with the last reply.
            Some(rate) => {
                words.extend([format!("--rate={rate}"), format!("--seconds={}", self.plan.seconds)])
            }
            None => words.push(format!("--requests={requests}")),
        }
        let load = self.client(contestant.server, subcommand, &words)?;
        match load["errors"].as_u64() {
            Some(0) => Ok(load),
            _ => Err(io::Error::other(format!("{} answered: {}", contestant.label, load["first_error"]))),
        }
    }

    /// Runs this program as a client of a server; returns its JSON.
    fn client(&self, server: usize, subcommand: &str, words: &[String]) -> io::Result<Value> {
        let server = &self.live[server];
        let program = std::env::current_exe()?;
        let output = pinned(&program.to_string_lossy(), self.plan.client_cpus.as_deref(), true)
            .arg(subcommand)
            .arg(format!("--port={}", server.address().port()))
            .arg(format!("--server-pid={}", server.pid()))
            .arg("--json")
            .args(words)
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        serde_json::from_slice(&output.stdout).map_err(io::Error::other)
    }

    /// Makes the servers hold what a case needs; each workload that begins empty gets fresh servers.
    fn provide(&mut self, case: &Case) -> io::Result<()> {
        let data = case.workload.data;
        let owner = if data == Data::Empty { case.workload.name } else { "" };
        if self.live_for == Some((data, owner)) {
            return Ok(());
        }
        self.stop();
        for recipe in &self.plan.servers {
            self.live.push(Server::start(recipe, self.plan.server_cpus.as_deref())?);
        }
        if data == Data::Strings {
            for server in 0..self.live.len() {
                self.fill(server, 0, self.plan.keys)?;
            }
        }
        self.live_for = Some((data, owner));
        Ok(())
    }

    /// Takes everything from a server; one that has no FLUSHALL is started anew.
    fn empty(&mut self, server: usize) -> io::Result<()> {
        if ask(self.live[server].address(), &["FLUSHALL"])?.is_err() {
            self.live[server] = Server::start(&self.plan.servers[server], self.plan.server_cpus.as_deref())?;
        }
        Ok(())
    }

    fn fill(&self, server: usize, first: u64, keys: u64) -> io::Result<f64> {
        let words = [
            "--connections=4".to_owned(),
            "--pipeline=100".to_owned(),
            format!("--command={FILL}"),
            format!("--first={first}"),
            format!("--requests={keys}"),
        ];
        let load = self.client(server, "load", &words)?;
        match (load["errors"].as_u64(), load["seconds"].as_f64()) {
            (Some(0), Some(seconds)) => Ok(seconds),
            _ => Err(io::Error::other(format!("filling was answered: {}", load["first_error"]))),
        }
    }

    fn stop(&mut self) {
        self.live.clear();
        self.live_for = None;
    }

    /// Starts one server alone. For what needs the machine's memory, or a process that never held data.
    fn start_alone(&mut self, server: usize) -> io::Result<()> {
        self.stop();
        self.live.push(Server::start(&self.plan.servers[server], self.plan.server_cpus.as_deref())?);
        Ok(())
    }

    fn memory(&mut self, case: &Case) -> io::Result<()> {
        let mut first: Option<[f64; 2]> = None;
        for server in 0..self.plan.servers.len() {
            self.start_alone(server)?;
            if let Err(error) = try_command(self.live[0].address(), FILL)? {
                self.not_there(case, server, &error)?;
                continue;
            }
            let pid = self.live[0].pid();
            let empty = process::resident(pid)?;
            let (mut filled, mut seconds, mut per_key) = (0, 0.0, [0.0; 2]);
            let counts = [self.plan.keys, self.plan.growth_keys.max(self.plan.keys)];
            for (count, per_key) in counts.iter().zip(&mut per_key) {
                seconds += self.fill(0, filled, count - filled)?;
                filled = *count;
                std::thread::sleep(REST);
                *per_key = process::resident(pid)?.saturating_sub(empty) as f64 / *count as f64;
            }
            let base = *first.get_or_insert(per_key);
            let name = &self.plan.servers[server].name;
            writeln!(
                self.out,
                "{:15} {name:18} bytes per 64-byte string key: {:.1} (x{:.2}) at {} keys, {:.1} (x{:.2}) at {} keys; \
                 empty {:.1} MiB; filled in {seconds:.1} s",
                case.name,
                per_key[0],
                per_key[0] / base[0],
                counts[0],
                per_key[1],
                per_key[1] / base[1],
                counts[1],
                empty as f64 / 1048576.0,
            )?;
            self.results.push(json!({
                "workload": case.name,
                "server": name,
                "keys": counts,
                "bytes_per_key": per_key,
                "ratio": [per_key[0] / base[0], per_key[1] / base[1]],
                "empty_bytes": empty,
                "fill_seconds": seconds,
            }));
        }
        self.stop();
        Ok(())
    }

    fn growth(&mut self, case: &Case) -> io::Result<()> {
        for server in 0..self.plan.servers.len() {
            self.start_alone(server)?;
            if let Err(error) = try_command(self.live[0].address(), FILL)? {
                self.not_there(case, server, &error)?;
                continue;
            }
            self.start_alone(server)?; // the trial has left a key
            let quiet_before = self.watch_server_cpu()?;
            let words = [format!("--keys={}", self.plan.growth_keys), "--passes=2".to_owned()];
            let grown = self.client(0, "growth", &words)?;
            let quiet_after = self.watch_server_cpu()?;
            let name = &self.plan.servers[server].name;
            let gap =
                |quiet: &Value| quiet.pointer("/gap_us/max").and_then(Value::as_f64).unwrap_or(f64::NAN);
            writeln!(
                self.out,
                "{:15} {name}: a thread on the idle server's CPU was held up for {:.0} µs before and {:.0} µs after",
                case.name,
                gap(&quiet_before),
                gap(&quiet_after),
            )?;
            write!(self.out, "{}", report::growth_text(&grown))?;
            self.results.push(json!({
                "workload": case.name,
                "server": name,
                "idle_gaps_before": quiet_before,
                "idle_gaps_after": quiet_after,
                "growth": grown,
            }));
        }
        self.stop();
        Ok(())
    }

    /// Looks at the clock on the server's CPU while the server sleeps: the machine's own hiccups there.
    fn watch_server_cpu(&self) -> io::Result<Value> {
        let program = std::env::current_exe()?;
        let output = pinned(&program.to_string_lossy(), self.plan.server_cpus.as_deref(), true)
            .args(["control", "--json", &format!("--seconds={}", self.plan.seconds)])
            .stdin(Stdio::null())
            .output()?;
        serde_json::from_slice(&output.stdout).map_err(io::Error::other)
    }
}
