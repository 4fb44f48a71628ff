//! All scripts: found, run against a server, and rewritten when asked to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::differences::Differences;
use crate::notation::Expected;
use crate::reference::Reference;
use crate::runner::{Mode, Observed, Outcome, Runner};
use crate::script::{Action, Awaited, Expectation, Script, Step};
use crate::server::{self, Server};
use crate::shadow::Shadowed;
use crate::source;
use crate::tls::{self, Certificates};

/// Whom the scripts are run against.
#[derive(Debug)]
pub enum Target {
    /// The server of this workspace.
    Mortise,
    /// Another one.
    Reference(Reference),
    /// Mortise, by a road that cannot lead to a second server.
    Elsewhere,
}

impl Target {
    /// What `REFERENCE` names, or else Mortise.
    pub fn from_env() -> Target {
        Reference::from_env().map_or(Target::Mortise, Target::Reference)
    }

    /// Where it listens, if it was running before.
    pub fn running(&self) -> Option<SocketAddr> {
        match self {
            Target::Reference(Reference::Running(address)) => Some(*address),
            _ => None,
        }
    }

    /// Starts a server; `None` if it runs already and cannot be given a configuration.
    pub fn start(&self, directives: &[&str]) -> Result<Option<Server>, String> {
        match self {
            Target::Mortise => server::mortise_binary()
                .and_then(|binary| Server::start_binary(&binary, directives))
                .map(Some),
            Target::Reference(reference) => reference.start(directives),
            Target::Elsewhere => Ok(None),
        }
    }
}

/// The server that most scripts share.
enum Shared {
    /// Mortise in this process, with a shadow that follows its stream.
    Shadowed(Shadowed),
    /// A process of its own.
    Child(Server),
    /// It was running before.
    Running(SocketAddr),
}

impl Shared {
    /// A binary that `MORTISE_SERVER` names is run as a process, and so is a reference.
    fn start(target: &Target) -> Result<Shared, String> {
        if matches!(target, Target::Mortise) && env::var_os("MORTISE_SERVER").is_none() {
            return Shadowed::start("bind 127.0.0.1\nsave \"\"\n").map(Shared::Shadowed);
        }
        match target.start(&[])? {
            Some(server) => Ok(Shared::Child(server)),
            None => target.running().map(Shared::Running).ok_or_else(|| "no server".to_owned()),
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Shared::Shadowed(server) => server.address(),
            Shared::Child(server) => server.address(),
            Shared::Running(address) => *address,
        }
    }

    /// Mortise in this process.
    fn watched(&self) -> Option<&Shadowed> {
        match self {
            Shared::Shadowed(server) => Some(server),
            _ => None,
        }
    }

    /// How the stream of changes and the data disagree.
    fn difference(&self) -> Option<String> {
        match self {
            Shared::Shadowed(server) => server.difference(),
            _ => None,
        }
    }
}

/// Where the scripts of a package lie.
pub fn scripts_folder() -> PathBuf {
    source::workspace_root().join("tests/scripts")
}

/// Runs every script of a folder, or those that `SCRIPT` names parts of (`zadd,hash/`); panics with all that differs.
///
/// With `UPDATE=1` the files are rewritten to what the target answers, and nothing fails but what cannot be run.
pub fn run(folder: &Path, target: &Target) {
    let shared = Shared::start(target).unwrap_or_else(|error| panic!("the server does not start: {error}"));
    run_on(folder, target, &shared, shared.address());
}

/// Runs every script of a folder against Mortise over TLS. Those that want a server of their own are left to `run`.
pub fn run_over_tls(folder: &Path) {
    let (certificates, port) = (Certificates::create(), tls::free_port());
    let directives = certificates.directives(port, "yes").join("\n");
    let started =
        Shadowed::start(&format!("bind 127.0.0.1\nsave \"\"\n{directives}\n")).map(Shared::Shadowed);
    let shared = started.unwrap_or_else(|error| panic!("the server does not start: {error}"));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let address = tls::tunnel(address, certificates.client(Some("client"))).expect("a tunnel");
    run_on(folder, &Target::Elsewhere, &shared, address);
}

fn run_on(folder: &Path, target: &Target, shared: &Shared, address: SocketAddr) {
    let differences = Differences::load(&source::workspace_root().join("tests/differences.md"))
        .unwrap_or_else(|error| panic!("{error}"));
    let update = env::var_os("UPDATE").is_some_and(|value| value == "1");
    let filter = env::var("SCRIPT").unwrap_or_default();
    let mut paths = source::files(folder, "test");
    paths.retain(|path| filter.split(',').any(|part| path.to_string_lossy().contains(part)));
    assert!(!paths.is_empty(), "no script in {} has {filter:?} in its name", folder.display());

    let mut problems = Vec::new();
    let mut runs = 0;
    for path in &paths {
        match run_file(path, target, shared, address, &differences, update) {
            Ok((count, failures)) => {
                runs += count;
                problems.extend(failures);
            }
            Err(error) => problems.push(format!("{}: {error}", path.display())),
        }
        problems.extend(shared.difference().map(|difference| format!("{}: {difference}", path.display())));
    }
    assert!(
        problems.is_empty(),
        "\n{}\n\n{} problems in {} files ({runs} runs)",
        problems.join("\n\n"),
        problems.len(),
        paths.len(),
    );
    println!("{} files, {runs} runs", paths.len());
}

/// Runs one file in all its modes; returns how many, and what differed.
fn run_file(
    path: &Path,
    target: &Target,
    shared: &Shared,
    address: SocketAddr,
    differences: &Differences,
    update: bool,
) -> Result<(usize, Vec<String>), String> {
    let script = Script::load(path)?;
    if let Some(unknown) = script.steps.iter().find_map(|step| {
        step.marks
            .differs
            .as_ref()
            .filter(|name| differences.get(name).is_none())
            .map(|name| (step.line, name))
    }) {
        return Err(format!("line {}: differences.md has no row {}", unknown.0, unknown.1));
    }
    if script.header.mortise_only && matches!(target, Target::Reference(_)) {
        return Ok((0, Vec::new()));
    }
    let directives =
        script.header.server.iter().map(|line| with_library(line)).collect::<Result<Vec<_>, _>>()?;
    let directives: Vec<&str> = directives.iter().map(String::as_str).collect();
    let own = if directives.is_empty() { None } else { target.start(&directives)? };
    if own.is_none() && !directives.is_empty() {
        return Ok((0, Vec::new()));
    }
    let address = own.as_ref().map_or(address, Server::address);
    let mut runner = Runner::connect(address, differences).map_err(|error| error.to_string())?;
    if own.is_none() {
        runner.watched = shared.watched();
    }
    if update {
        runner.failures_max = usize::MAX;
    }
    let mut outcomes: Vec<(Mode, Outcome)> = Vec::new();
    for mode in Mode::ALL {
        if runner.accepts(&script, mode) {
            outcomes.push((mode, runner.run(&script, mode).map_err(|error| format!("{mode:?}: {error}"))?));
        }
    }
    let mut count = outcomes.len();
    let also = &script.header.also;
    let mut failures = Vec::new();
    if !also.is_empty() && !update {
        let again = runner.with_config(also, |runner| {
            let modes =
                Mode::ALL.into_iter().filter(|mode| runner.accepts(&script, *mode)).collect::<Vec<_>>();
            modes.into_iter().map(|mode| runner.run(&script, mode)).collect::<io::Result<Vec<_>>>()
        });
        let again = again.map_err(|error| error.to_string())?;
        count += again.len();
        let found = again.iter().flat_map(|outcome| &outcome.failures);
        failures.extend(found.map(|failure| format!("{failure}\n      with: {also:?}")));
    }
    if update {
        let changes = changes(&script, &outcomes);
        if !changes.is_empty() {
            fs::write(path, script.rewritten(&changes)).map_err(|error| error.to_string())?;
        }
        outcomes.retain(|(_, outcome)| outcome.broken);
    }
    failures.extend(outcomes.iter().flat_map(|(_, outcome)| &outcome.failures).map(ToString::to_string));
    Ok((count, failures))
}

/// A directive in which `$name` after `loadmodule` is the library of that module.
fn with_library(directive: &str) -> Result<String, String> {
    match directive.strip_prefix("loadmodule $") {
        Some(name) => Ok(format!("loadmodule {}", server::module_library(name)?.display())),
        None => Ok(directive.to_owned()),
    }
}

/// The expectations to be rewritten, and their new text.
fn changes(script: &Script, outcomes: &[(Mode, Outcome)]) -> Vec<(std::ops::Range<usize>, String)> {
    let observed = |mode: Mode, index: usize| {
        let outcome = outcomes.iter().find(|(of, _)| *of == mode);
        outcome.and_then(|(_, outcome)| outcome.observed[index].as_ref())
    };
    let mut changes = Vec::new();
    for (index, step) in script.steps.iter().enumerate() {
        let (expectation, prefix) = match &step.action {
            Action::Call(_, Some(expectation)) | Action::Raw(_, expectation) => (expectation, String::new()),
            Action::Receives(expectation) => (expectation, format!("{}< ", step.connection)),
            _ => continue,
        };
        let seen = (observed(Mode::Resp2, index), observed(Mode::Resp3, index));
        if let Some(text) = rewritten(step, expectation, seen) {
            let lines: Vec<String> = text.lines().map(|line| line.to_string()).collect();
            changes.push((expectation.lines.clone(), format!("{prefix}{}", lines.join("\n"))));
        }
    }
    changes
}

fn rewritten(
    step: &Step,
    expectation: &Expectation,
    seen: (Option<&Observed>, Option<&Observed>),
) -> Option<String> {
    use crate::client::Protocol::{Resp2, Resp3};
    let fits = |protocol, seen: Option<&Observed>| match (expectation.on(protocol), seen) {
        (Some(Awaited::Reply(expected)), Some(Observed::Reply(reply, spoken))) => {
            expected.matches(reply, *spoken)
        }
        (Some(Awaited::Silence), Some(Observed::Silence)) => true,
        (Some(Awaited::Closed), Some(Observed::Closed)) => true,
        (_, seen) => seen.is_none(),
    };
    if step.marks.differs.is_some() || (fits(Resp2, seen.0) && fits(Resp3, seen.1)) {
        return None;
    }
    let unordered = [&expectation.resp2, &expectation.resp3]
        .iter()
        .any(|awaited| matches!(awaited, Some(Awaited::Reply(Expected::Unordered(_)))));
    let sort = |expected: Expected| if unordered { expected.without_order() } else { expected };
    Some(match seen {
        (Some(Observed::Reply(two, on2)), Some(Observed::Reply(three, on3))) => {
            match Expected::of_both((two, *on2), (three, *on3)) {
                Some(both) => sort(both).to_string(),
                None => format!("resp2: {}\nresp3: {}", sort(Expected::of(two)), sort(Expected::of(three))),
            }
        }
        (Some(Observed::Reply(one, _)), _) | (_, Some(Observed::Reply(one, _))) => {
            sort(Expected::of(one)).to_string()
        }
        (Some(other), _) | (None, Some(other)) => other.to_string(),
        (None, None) => return None,
    })
}
