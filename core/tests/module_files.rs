//! Files of modules: what is refused, and what becomes of a file while its module is loaded.

#[path = "support/modules.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use mortise_core::config::file::{Source, parse};
use mortise_core::modules;
use support::{Server, library};

/// A directory for one test.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mortise-files-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    /// Writes what a file holds into another, which is then executable.
    fn copy(&self, from: impl AsRef<Path>, name: &str) -> PathBuf {
        self.write(&fs::read(from).unwrap(), name)
    }

    /// Writes into a file that may be there already: it stays the same one.
    fn write(&self, bytes: &[u8], name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn unsuitable_files_are_refused_in_a_sentence() {
    let mut server = Server::new();
    let commands = server.engine.registry.len();
    let dir = TempDir::new();
    let text = dir.copy(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "text.so");
    let refusal = |path: &str, reason: &str| {
        format!("-ERR Error loading the extension. {}.", reason.replace('@', &format!("'{path}'")))
    };
    let module = |name: &str| library(name).to_str().unwrap().to_owned();
    for (path, reason) in [
        ("/nowhere/x.so".to_owned(), "There is no file @"),
        (text.to_str().unwrap().to_owned(), "@ is no shared library"),
        (module("foreign_library"), "@ is a library, but no module of Mortise"),
        (
            module("other_version"),
            "@ was built for version 7.3 of the border between server and modules, which here is 0.3",
        ),
        (module("aborting"), "@ was built with panic=abort, so that a panic in it would end the server"),
        (
            module("clashing_command"),
            "Module 'clashing' brings a wrong command: command 'get' already exists",
        ),
        (
            module("clashing_subcommand"),
            "Module 'clashing' brings a wrong command: 'get|foo' is added to what is no container of the same owner",
        ),
        (
            module("clashing_container"),
            "Module 'clashing' brings a wrong command: 'config|evil' is added to what is no container of the same owner",
        ),
        // Its initialisers have run, so the memory is still there the second time.
        (module("early_memory"), "@ keeps memory that it has asked for before the server could count it"),
        (module("early_memory"), "@ keeps memory that it has asked for before the server could count it"),
    ] {
        assert_eq!(server.say(&["MODULE", "LOAD", &path]), refusal(&path, reason));
    }
    for fixture in ["wrong_usage", "wrong_arity"] {
        let wrong = server.load(fixture);
        assert!(
            wrong.starts_with("-ERR Error loading the extension. Module 'wrong' brings a wrong command: "),
            "{wrong}"
        );
    }
    assert_eq!(server.ask("GET foo"), "$-1");
    assert!(server.ask("CONFIG EVIL").starts_with("-ERR unknown subcommand 'EVIL'"));
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
    let load = format!("loadmodule {}\n", library("hello").display());
    let mut server = start(&format!("hello.greeting \"Good day\"\n{load}")).ok().unwrap();
    assert_eq!(server.ask("HELLO.GREET Ann"), "$14 Good day, Ann!");
    drop(server); // the next one's turn
    let refused = |text: &str| start(text).err().unwrap_or_default();
    assert!(refused("loadmodule /nowhere/x.so").contains("There is no file '/nowhere/x.so'"));
    assert!(refused("hello.greeting x").contains("no such module is loaded"));
    // The line at fault is named, not that of the module it belongs to.
    for (line, reason) in [
        ("hello.nothing x", "Module 'hello' has no directive 'hello.nothing'"),
        ("hello.guests-max many", "Module 'hello' refuses 'many' for 'hello.guests-max'"),
    ] {
        let refusal = refused(&format!("{load}{line}"));
        assert!(
            refusal.contains(&format!("at line 2 of standard input\n>>> '{line}'\n{reason}")),
            "{refusal}"
        );
    }
    let rich = format!("loadmodule {} \"a b\" c\n", library("rich").display());
    let mut server = start(&format!("{rich}rich.words one \"two three\"\n")).ok().unwrap();
    assert_eq!(server.ask("RICH.ARGS"), "*2 $3 a b $1 c");
    assert_eq!(server.ask("RICH.WORDS"), "*2 $3 one $9 two three");
}

#[test]
fn what_is_loaded_is_what_the_file_holds_then() {
    let mut server = Server::new();
    let dir = TempDir::new();
    let path = dir.copy(library("rich"), "module.so");
    let load = |server: &mut Server| server.say(&["MODULE", "LOAD", path.to_str().unwrap()]);
    assert_eq!(load(&mut server), "+OK");
    assert_eq!(server.ask("MODULE UNLOAD rich"), "+OK");
    dir.copy(library("hello"), "module.so");
    assert_eq!(load(&mut server), "+OK");
    assert_eq!(server.ask("HELLO.GREET Ann"), "$11 Hello, Ann!");
    assert!(server.ask("RICH.ARGS").starts_with("-ERR unknown command"));
}

#[test]
fn a_file_may_be_spoilt_while_its_module_is_loaded() {
    let mut server = Server::new();
    let dir = TempDir::new();
    let bytes = fs::read(library("hello")).unwrap();
    let path = dir.write(&bytes, "module.so");
    assert_eq!(server.say(&["MODULE", "LOAD", path.to_str().unwrap()]), "+OK");
    dir.write(&vec![0; bytes.len()], "module.so");
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(server.ask("HELLO.GREET Ann"), "$11 Hello, Ann!");
    assert_eq!(server.ask("HELLO.SIGN book Ann"), ":1");
    assert_eq!(server.ask("HELLO.GUESTS book"), "*1 $3 Ann");
    assert_eq!(server.ask("HELLO.ERASE book Ann"), ":1");
}

#[test]
fn half_a_library_is_refused() {
    let mut server = Server::new();
    let dir = TempDir::new();
    let bytes = fs::read(library("hello")).unwrap();
    for len in [100, 4096, bytes.len() / 64] {
        let path = dir.write(&bytes[..len], "half.so");
        let refusal = server.say(&["MODULE", "LOAD", path.to_str().unwrap()]);
        assert!(refusal.contains("is cut short: not all of the library is there"), "{len}: {refusal}");
    }
}
