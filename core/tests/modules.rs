//! Modules at run time: what is refused, what a module may do, and what its faults cannot.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use mortise_core::config::Config;
use mortise_core::config::file::{Source, parse};
use mortise_core::engine::Engine;
use mortise_core::engine::event::Clock;
use mortise_core::engine::replay::Replay;
use mortise_core::engine::session::Session;
use mortise_core::engine::settle::{StreamReader, StreamUnit};
use mortise_core::modules::{self, Permission};
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
struct Recorder(Arc<Mutex<Vec<StreamUnit>>>);

impl StreamReader for Recorder {
    fn unit(&mut self, unit: &StreamUnit) {
        self.0.lock().unwrap().push(StreamUnit { offset: unit.offset, commands: unit.commands.clone() });
    }
}

/// Servers of one process share a module's settings and counters, as they share the library: tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// An engine with one client.
struct Server {
    engine: Engine,
    session: Option<Box<Session>>,
    stream: Recorder,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Server {
    fn new() -> Server {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Server { _turn: Some(turn), ..Server::beside() }
    }

    /// Beside another one in the same test.
    fn beside() -> Server {
        let mut config = Config::default();
        config.modules.enable_module_command = Permission::Local;
        let mut engine = Engine::new(config, Arc::new(features::registry().unwrap()), Box::new(Still), 1);
        engine.directives = Arc::new(server::directives().unwrap());
        let stream = Recorder::default();
        engine.attach(Box::new(stream.clone()));
        let session = engine.local_session();
        Server { engine, session, stream, _turn: None }
    }

    fn with(module: &str) -> Server {
        let mut server = Server::new();
        assert_eq!(server.load(module), "+OK");
        server
    }

    fn say(&mut self, words: &[&str]) -> String {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
        let (session, reply) = self.engine.request(self.session.take().unwrap(), &words);
        self.session = session;
        String::from_utf8_lossy(&reply).trim_end().replace("\r\n", " ")
    }

    /// A line of words, parted by spaces.
    fn ask(&mut self, line: &str) -> String {
        self.say(&line.split(' ').collect::<Vec<_>>())
    }

    fn load(&mut self, module: &str) -> String {
        let path = library(module);
        self.say(&["MODULE", "LOAD", path.to_str().unwrap()])
    }

    /// What has been propagated since the last time.
    fn propagated(&mut self) -> Vec<String> {
        let units: Vec<_> = self.stream.0.lock().unwrap().drain(..).collect();
        let commands = units.iter().flat_map(|unit| &unit.commands);
        let text = |args: mortise_core::engine::args::Args<'_>| {
            args.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
        };
        commands.map(|said| text(said.args.view())).collect()
    }
}

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
    built(cargo(&["build", "--package=mortise-hello", "--lib"]));
    let mut fixtures = cargo(&["build", "--package=mortise-module-fixtures"]);
    for name in
        ["clashing_command", "clashing_type", "foreign_library", "other_version", "panicking", "wrong_usage"]
    {
        fixtures.args(["--example", name]);
    }
    built(fixtures);
    let mut aborting = cargo(&["rustc", "--package=mortise-module-fixtures", "--example=aborting"]);
    aborting.args(["--", "-Cpanic=abort"]); // behind the options of cargo
    built(aborting);
    target.join("debug")
});

fn library(module: &str) -> PathBuf {
    match module {
        "hello" => LIBRARIES.join("libmortise_hello.so"),
        _ => LIBRARIES.join(format!("examples/lib{module}.so")),
    }
}

#[test]
fn a_module_brings_all_four_tables() {
    let mut server = Server::with("hello");
    assert_eq!(server.ask("HELLO.GREET Ann"), "$11 Hello, Ann!");
    assert_eq!(server.ask("hello.greet"), "-ERR wrong number of arguments for 'hello.greet' command");
    assert_eq!(server.ask("HELLO.SIGN book Ann"), ":1");
    assert_eq!(server.ask("HELLO.SIGN book Bob"), ":2");
    assert_eq!(server.ask("HELLO.GUESTS book"), "*2 $3 Ann $3 Bob");
    assert_eq!(server.ask("HELLO.GUESTS nobody"), "*0");

    server.ask("SET text x");
    let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(server.ask("HELLO.SIGN text Ann"), wrong_type);
    assert_eq!(server.ask("HELLO.GUESTS text"), wrong_type);
    assert_eq!(server.ask("GET book"), wrong_type);

    let engine = &mut server.engine;
    let directives = engine.directives.clone();
    let shown = directives.get_matching(&engine.config, &[b"hello.*"]);
    assert_eq!(
        shown,
        [("hello.greeting".into(), "Hello".into()), ("hello.guests-max".into(), "1000000".into())]
    );
    assert!(directives.set_many(&mut engine.config, &[(b"hello.guests-max", b"0")], false).is_err());
    assert!(directives.set_many(&mut engine.config, &[(b"hello.greeting", b"Good day")], false).is_ok());
    assert_eq!(server.ask("HELLO.GREET Ann"), "$14 Good day, Ann!");

    for words in ["INFO hello", "INFO modules", "INFO everything"] {
        assert!(server.ask(words).contains("# hello hello_greetings:"), "{}", server.ask(words));
    }
    assert!(server.ask("INFO").contains("# Modules module:name=hello,ver=100,api=1,"));
    assert!(!server.ask("INFO").contains("hello_greetings"));
    let module = server.engine.modules.find("hello").unwrap();
    assert!(module.memory() > 0 && module.version == 100);
}

#[test]
fn an_emptied_value_goes_and_an_unchanged_one_is_not_propagated() {
    let mut server = Server::with("hello");
    for line in
        ["HELLO.SIGN b Ann", "HELLO.ERASE b Bob", "HELLO.GUESTS b", "HELLO.ERASE b Ann", "HELLO.ERASE b Ann"]
    {
        server.ask(line);
    }
    assert_eq!(server.propagated(), ["HELLO.SIGN b Ann", "HELLO.ERASE b Ann"]);
    assert_eq!(server.engine.modules.data_type("guestbook").unwrap().name(), "guestbook");
    assert_eq!(server.ask("MODULE UNLOAD hello"), "+OK");
}

#[test]
fn what_is_propagated_makes_the_same_values() {
    let mut server = Server::with("hello");
    let mut shadow = Server::beside();
    shadow.engine.set_registry((*server.engine.registry).clone());
    for line in
        ["HELLO.SIGN b Ann", "HELLO.SIGN b Bob", "MULTI", "HELLO.ERASE b Ann", "HELLO.SIGN b Eve", "EXEC"]
    {
        assert!(!server.ask(line).starts_with('-'), "{line}");
    }
    let units: Vec<_> = server.stream.0.lock().unwrap().drain(..).collect();
    let mut replay = Replay::new();
    for unit in &units {
        replay.unit(&mut shadow.engine, unit).unwrap();
    }
    assert_eq!(shadow.ask("HELLO.GUESTS b"), "*2 $3 Bob $3 Eve");
    assert_eq!(server.ask("HELLO.GUESTS b"), "*2 $3 Bob $3 Eve");
}

#[test]
fn values_take_part_in_undo() {
    let mut server = Server::with("hello");
    server.ask("HELLO.SIGN b Ann");
    server.engine.keyspace.begin_undo();
    server.ask("HELLO.SIGN b Bob");
    server.ask("HELLO.SIGN new Bob");
    server.ask("HELLO.ERASE b Ann");
    assert_eq!(server.ask("HELLO.GUESTS b"), "*1 $3 Bob");
    server.engine.keyspace.abort();
    assert_eq!(server.ask("HELLO.GUESTS b"), "*1 $3 Ann");
    assert_eq!(server.ask("HELLO.GUESTS new"), "*0");
}

#[test]
fn unsuitable_files_are_refused_in_a_sentence() {
    let mut server = Server::new();
    let commands = server.engine.registry.len();
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let refusal = |path: &str, reason: &str| {
        format!("-ERR Error loading the extension. {}.", reason.replace('@', &format!("'{path}'")))
    };
    let module = |name: &str| library(name).to_str().unwrap().to_owned();
    for (path, reason) in [
        ("/nowhere/x.so".to_owned(), "There is no file @"),
        (text.to_owned(), "@ is no shared library"),
        (module("foreign_library"), "@ is a library, but no module of Mortise"),
        (
            module("other_version"),
            "@ was built for version 7.3 of the border between server and modules, which here is 0.1",
        ),
        (module("aborting"), "@ was built with panic=abort, so that a panic in it would end the server"),
        (
            module("clashing_command"),
            "Module 'clashing' brings a wrong command: command 'get' already exists",
        ),
    ] {
        assert_eq!(server.say(&["MODULE", "LOAD", &path]), refusal(&path, reason));
    }
    let wrong = server.load("wrong_usage");
    assert!(
        wrong.starts_with("-ERR Error loading the extension. Module 'wrong' brings a wrong command: "),
        "{wrong}"
    );
    assert_eq!(server.engine.registry.len(), commands);
    assert_eq!(server.ask("MODULE LIST"), "*0");
}

#[test]
fn nothing_of_a_refused_module_stays() {
    let mut server = Server::with("hello");
    assert_eq!(
        server.load("clashing_type"),
        "-ERR Error loading the extension. Module 'clashing' brings the data type 'guestbook', which exists already."
    );
    assert!(server.ask("CLASHING.FINE").starts_with("-ERR unknown command"));
    assert!(!server.engine.directives.contains("clashing.number"));
    assert!(server.load("hello").contains("A module with the name 'hello' is loaded already"));

    // Alone it is fine.
    assert_eq!(server.ask("MODULE UNLOAD hello"), "+OK");
    assert_eq!(server.load("clashing_type"), "+OK");
    assert_eq!(server.ask("CLASHING.FINE"), "+OK");
}

#[test]
fn modules_are_loaded_with_settings_and_unloaded() {
    let mut server = Server::new();
    let path = library("hello").to_str().unwrap().to_owned();
    let mut loadex = |words: &[&str]| server.say(&[&["MODULE", "LOADEX", &path], words].concat());
    assert!(loadex(&["CONFIG", "hello.greeting"]).contains("CONFIG stands without a name and a value"));
    assert!(loadex(&["CONFIG", "hello.nothing", "1"]).contains("has no directive 'hello.nothing'"));
    assert!(
        loadex(&["CONFIG", "hello.guests-max", "many"]).contains("refuses 'many' for 'hello.guests-max'")
    );
    assert!(loadex(&["WHAT"]).contains("Syntax error around 'WHAT'"));
    assert_eq!(loadex(&["CONFIG", "hello.greeting", "Hi", "ARGS", "a", "b"]), "+OK");
    assert_eq!(server.ask("HELLO.GREET Ann"), "$8 Hi, Ann!");
    let list =
        format!("*1 *8 $4 name $5 hello $3 ver :100 $4 path ${} {path} $4 args *2 $1 a $1 b", path.len());
    assert_eq!(server.ask("MODULE LIST"), list);

    server.ask("HELLO.SIGN book Ann");
    let in_use =
        "-ERR Error unloading module: the module exports one or more module-side data types, can't unload";
    assert_eq!(server.ask("MODULE UNLOAD hello"), in_use);
    assert_eq!(server.ask("MODULE UNLOAD x"), "-ERR Error unloading module: no such module with that name");
    server.ask("HELLO.ERASE book Ann");

    // A queued command outlives the module, and says so.
    let mut other = server.engine.local_session().unwrap();
    for words in [&[&b"MULTI"[..]][..], &[b"HELLO.GREET", b"Ann"]] {
        other = server.engine.request(other, words).0.unwrap();
    }
    assert_eq!(server.ask("MODULE UNLOAD hello"), "+OK");
    let (_, reply) = server.engine.request(other, &[b"EXEC"]);
    assert_eq!(String::from_utf8_lossy(&reply), "*1\r\n-ERR module 'hello' has been unloaded\r\n");
    assert!(server.ask("HELLO.GREET Ann").starts_with("-ERR unknown command 'HELLO.GREET'"));
    assert!(!server.engine.directives.contains("hello.greeting"));

    // Loaded again, it begins anew.
    assert_eq!(server.load("hello"), "+OK");
    assert_eq!(server.ask("HELLO.GREET Ann"), "$11 Hello, Ann!");
}

#[test]
fn modules_are_loaded_at_start() {
    let start = |text: &str| {
        let mut server = Server::new();
        let mut lines = Vec::new();
        parse(text.as_bytes(), Source::Stdin, &mut lines).unwrap();
        let loaded = server.engine.directives.clone().load(&mut server.engine.config, &lines).unwrap();
        modules::load_at_start(&mut server.engine, &loaded)
            .map(|()| server)
            .map_err(|fatal| fatal.to_string())
    };
    let load = format!("loadmodule {} one\n", library("hello").display());
    let mut server = start(&format!("hello.greeting \"Good day\"\n{load}")).ok().unwrap();
    assert_eq!(server.ask("HELLO.GREET Ann"), "$14 Good day, Ann!");
    drop(server); // the next one's turn
    let refused = |text: &str| start(text).err().unwrap_or_default();
    assert!(refused("loadmodule /nowhere/x.so").contains("There is no file '/nowhere/x.so'"));
    assert!(refused("hello.greeting x").contains("no such module is loaded"));
    assert!(refused(&format!("{load}hello.nothing x")).contains("has no directive 'hello.nothing'"));
}

#[test]
fn only_who_may_loads() {
    let mut server = Server::new();
    server.engine.config.modules.enable_module_command = Permission::No;
    assert!(server.load("hello").starts_with("-ERR MODULE command not allowed."));
}

#[test]
fn panics_are_errors() {
    let mut server = Server::with("panicking");
    let panicked = |command: &str| format!("-ERR module 'panicking' panicked in {command}");
    assert_eq!(server.ask("PANICKING.NOW"), panicked("PANICKING.NOW"));
    assert_eq!(server.ask("PANICKING.WELL"), "+OK");
    assert_eq!(server.ask("PANICKING.SILENT"), "-ERR module 'panicking' gave no reply");

    // Every function of this value panics: it cannot be copied, measured or freed, and nothing comes of it.
    assert_eq!(server.ask("PANICKING.ARM bomb"), "+OK");
    assert_eq!(server.ask("PANICKING.EDIT bomb"), panicked("PANICKING.EDIT"));
    server.engine.keyspace.begin_undo();
    let irrevocable = "-ERR a value of a module that cannot be copied cannot be changed in an atomic call";
    for command in ["PANICKING.EDIT bomb", "DEL bomb", "SET bomb x", "RENAME bomb b", "MSET a 1 bomb 2"] {
        assert_eq!(server.ask(command), irrevocable, "{command}");
    }
    // What came into being within the trial can go again.
    assert_eq!(server.ask("PANICKING.ARM another"), "+OK");
    assert_eq!(server.ask("PANICKING.EDIT another"), panicked("PANICKING.EDIT"));
    assert_eq!(server.ask("SET x 1"), "+OK");
    server.engine.keyspace.abort();
    assert_eq!(server.ask("TYPE bomb"), "+bomb");
    assert_eq!(server.ask("EXISTS x another a b"), ":0");
    assert_eq!(server.ask("PANICKING.ARM bomb"), "+OK");
    assert_eq!(server.ask("SET bomb x"), "+OK");
    assert_eq!(server.ask("PANICKING.WELL"), "+OK");
}

#[test]
fn whoever_keeps_panicking_is_disabled() {
    let mut server = Server::with("panicking");
    for _ in 0..100 {
        assert!(server.ask("PANICKING.NOW").contains("panicked in"));
    }
    let disabled = "-ERR module 'panicking' is disabled, as it has panicked 100 times";
    assert_eq!(server.ask("PANICKING.WELL"), disabled);
    assert_eq!(server.ask("MODULE UNLOAD panicking"), "+OK");
    assert_eq!(server.load("panicking"), "+OK");
    assert_eq!(server.ask("PANICKING.WELL"), "+OK");
}

#[test]
fn a_type_that_was_not_declared_is_not_taken_for_another() {
    let mut server = Server::with("panicking");
    server.ask("PANICKING.ARM bomb");
    let refusal = "-ERR the module uses a data type that it has not declared";
    assert_eq!(server.ask("PANICKING.UNDECLARED bomb"), refusal);
    assert_eq!(server.ask("PANICKING.UNDECLARED other"), refusal);
}

#[test]
fn modules_invoke_commands() {
    let mut server = Server::with("panicking");
    assert_eq!(server.ask("PANICKING.INVOKE SET k v"), simple_ok());
    assert_eq!(server.propagated(), ["PANICKING.INVOKE SET k v"]);
    assert_eq!(server.ask("GET k"), "$1 v");
    assert_eq!(server.ask("PANICKING.INVOKE GET k"), "$11 Bulk([118])");
    assert_eq!(server.ask("PANICKING.INVOKE GET"), "-ERR wrong number of arguments for 'get' command");
    assert_eq!(server.ask("PANICKING.INVOKE NOTHING"), "-ERR unknown command 'NOTHING'");
    assert_eq!(server.ask("PANICKING.INVOKE MULTI"), "-ERR a module cannot invoke 'multi'");
    let deep = format!("{}WELL", "PANICKING.INVOKE ".repeat(20));
    assert_eq!(server.ask(&deep), "-ERR commands of modules invoke each other too deeply");
    assert_eq!(server.propagated(), [""; 0]);

    assert_eq!(server.ask("PANICKING.REMEMBER then"), "+OK");
    assert_eq!(server.propagated(), ["SET then 1700000000000"]);
}

/// `Simple("OK")` as its bytes are shown, in a bulk string.
fn simple_ok() -> String {
    let text = format!("Simple({:?})", b"OK");
    format!("${} {text}", text.len())
}
