//! An engine with one client, in which modules are loaded; and the libraries, built when they are asked for.

// Each of the tests uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::event::Clock;
use mortise_core::engine::session::Session;
use mortise_core::engine::settle::{StreamReader, StreamUnit};
use mortise_core::modules::Permission;
use mortise_core::{features, server};

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn monotonic_ns(&self) -> u64 {
        0
    }

    fn unix_us(&self) -> i64 {
        1_700_000_000_000_000
    }
}

/// Keeps the stream.
#[derive(Clone, Default)]
pub(crate) struct Recorder(pub(crate) Arc<Mutex<Vec<StreamUnit>>>);

impl StreamReader for Recorder {
    fn unit(&mut self, unit: &StreamUnit) {
        self.0.lock().unwrap().push(StreamUnit {
            offset: unit.offset,
            commands: unit.commands.clone(),
            is_whole: unit.is_whole,
        });
    }
}

/// Servers of one process share a module's settings and counters, as they share the library: tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// An engine with one client.
pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) session: Option<Box<Session>>,
    pub(crate) stream: Recorder,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Server {
    pub(crate) fn new() -> Server {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Server { _turn: Some(turn), ..Server::beside() }
    }

    /// Beside another one in the same test.
    pub(crate) fn beside() -> Server {
        let mut config = Config::default();
        config.modules.enable_module_command = Permission::Local;
        let mut engine = Engine::new(config, Arc::new(features::registry().unwrap()), Box::new(Still), 1);
        engine.directives = Arc::new(server::directives().unwrap());
        let stream = Recorder::default();
        engine.attach(Box::new(stream.clone()));
        let session = engine.local_session();
        Server { engine, session, stream, _turn: None }
    }

    pub(crate) fn with(module: &str) -> Server {
        let mut server = Server::new();
        assert_eq!(server.load(module), "+OK");
        server
    }

    pub(crate) fn say(&mut self, words: &[&str]) -> String {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
        let (session, reply) = self.engine.request(self.session.take().unwrap(), &words);
        self.session = session;
        String::from_utf8_lossy(&reply).trim_end().replace("\r\n", " ")
    }

    /// A line of words, parted by spaces.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.say(&line.split(' ').collect::<Vec<_>>())
    }

    pub(crate) fn load(&mut self, module: &str) -> String {
        let path = library(module);
        self.say(&["MODULE", "LOAD", path.to_str().unwrap()])
    }

    /// What has been propagated since the last time.
    pub(crate) fn propagated(&mut self) -> Vec<String> {
        let units: Vec<_> = self.stream.0.lock().unwrap().drain(..).collect();
        let commands = units.iter().flat_map(|unit| unit.iter());
        let text = |args: mortise_core::engine::args::Args<'_>| {
            args.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
        };
        commands.map(|said| text(said.args().view())).collect()
    }
}

/// Ill-behaved modules and others that tests need; one more is built with options of its own.
const FIXTURES: &[&str] = &[
    "clashing_command",
    "clashing_container",
    "clashing_subcommand",
    "clashing_type",
    "early_memory",
    "foreign_library",
    "other_version",
    "panicking",
    "replying",
    "rich",
    "strings",
    "wrong_arity",
    "wrong_usage",
];

/// The modules, built where this test was.
static LIBRARIES: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap().to_path_buf();
    let cargo = |args: &[&str]| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root).args(args).arg("--target-dir").arg(&target);
        // As the profile of tests, so that what both need is built once.
        cargo.arg("--config=profile.dev.opt-level=1");
        cargo.arg("--quiet").env_remove("RUSTFLAGS");
        cargo
    };
    let built = |mut cargo: Command| assert!(cargo.status().unwrap().success(), "the modules are not built");
    built(cargo(&["build", "--package=mortise-hello", "--package=mortise-ratelimit", "--lib"]));
    let mut fixtures = cargo(&["build", "--package=mortise-module-fixtures"]);
    for name in FIXTURES {
        fixtures.args(["--example", name]);
    }
    built(fixtures);
    let mut aborting = cargo(&["rustc", "--package=mortise-module-fixtures", "--example=aborting"]);
    aborting.args(["--", "-Cpanic=abort"]); // behind the options of cargo
    built(aborting);
    target.join("debug")
});

pub(crate) fn library(module: &str) -> PathBuf {
    match module {
        "hello" | "ratelimit" => LIBRARIES.join(format!("libmortise_{module}.so")),
        _ => LIBRARIES.join(format!("examples/lib{module}.so")),
    }
}
