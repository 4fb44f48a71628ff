//! What the README tells a newcomer to do, done.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mortise_tests::server::module_library;
use mortise_tests::tempdir::TempDir;
use mortise_tests::{Reply, Server, source};

/// The block in the README that begins with this mark and follows this text.
fn block(behind: &str, kind: &str) -> String {
    let text = fs::read_to_string(source::workspace_root().join("README.md")).expect("the README is there");
    let mark = format!("```{kind}\n");
    let rest = text.split_once(behind).unwrap_or_else(|| panic!("the README does not say: {behind}")).1;
    let rest = rest.split_once(&mark).unwrap_or_else(|| panic!("no block of {kind} follows: {behind}")).1;
    rest.split_once("```").expect("the block ends").0.to_owned()
}

#[test]
fn the_first_five_minutes_go_as_they_are_told() {
    let load = |module| {
        let library =
            module_library(module).unwrap_or_else(|error| panic!("{module} does not build: {error}"));
        format!("loadmodule {}", library.display())
    };
    let server = Server::start(&[&load("hello"), &load("ratelimit")]);
    let mut cli = Command::new("redis-cli")
        .args(["--no-raw", "-p", &server.address().port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-cli is installed");
    let said = block("## The first five minutes", "redis-cli");
    cli.stdin.take().expect("it is piped").write_all(said.as_bytes()).expect("redis-cli reads");
    let output = cli.wait_with_output().expect("redis-cli ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), block("## The first five minutes", "text"));
}

/// Runs cargo in a folder, where nothing may be fetched; what both workspaces need is built once.
fn build(folder: &Path, package: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let target = test.ancestors().nth(3).expect("the test lies in a target directory").join("readme");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder).args(["build", "--offline", "--quiet", "--package", package]);
    cargo.arg("--target-dir").arg(&target).env_remove("RUSTFLAGS");
    assert!(cargo.status().expect("cargo runs").success(), "{package} is not built");
    target.join("debug")
}

fn greets(library: &Path) {
    let server = Server::start(&[&format!("loadmodule {}", library.display())]);
    let greeting = server.connect().call(&["GREETER.GREET", "Ann"]).expect("the server answers");
    assert_eq!(greeting, Reply::Bulk(b"Hello, Ann!".to_vec()));
}

fn copy_of_lock(folder: &Path) {
    fs::copy(source::workspace_root().join("Cargo.lock"), folder.join("Cargo.lock"))
        .expect("it can be copied");
}

/// Says what the README says, in a folder; the last line starts the server, which the test does itself.
fn follow(folder: &Path) {
    let steps = block("In this workspace:", "sh");
    let steps = steps.trim_end().strip_suffix("make run").expect("it ends with make run");
    let shell = Command::new("sh").args(["-e", "-c", steps]).current_dir(folder).status();
    assert!(shell.expect("the shell runs").success(), "{steps}");
}

#[test]
fn a_module_is_copied_within_the_workspace() {
    let root = source::workspace_root();
    let dir = TempDir::create().expect("a temporary directory");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the workspace has a manifest");
    let members = "members = [\"modules-sdk\", \"modules-sdk/abi\", \"modules/*\"]";
    let line = manifest.lines().find(|line| line.starts_with("members = ")).expect("it names its members");
    fs::write(dir.path().join("Cargo.toml"), manifest.replace(line, members)).expect("it can be written");
    copy_of_lock(dir.path());
    std::os::unix::fs::symlink(root.join("modules-sdk"), dir.path().join("modules-sdk"))
        .expect("it can be linked");
    let copied = Command::new("cp").arg("-r").arg(root.join("modules")).arg(dir.path()).status();
    assert!(copied.expect("cp runs").success());
    follow(dir.path());
    greets(&build(dir.path(), "mortise-greeter").join("libmortise_greeter.so"));
}

#[test]
fn a_module_stands_on_its_own() {
    let root = source::workspace_root();
    let dir = TempDir::create().expect("a temporary directory");
    let hello = dir.path().join("modules/hello");
    fs::create_dir_all(hello.join("src")).expect("the folder can be made");
    for file in ["Cargo.toml", "src/lib.rs", "README.md"] {
        fs::copy(root.join("modules/hello").join(file), hello.join(file)).expect("it can be copied");
    }
    follow(dir.path());
    let greeter = dir.path().join("modules/greeter");
    let manifest = block("Anywhere else:", "toml");
    let sdk = root.join("modules-sdk").display().to_string();
    assert!(manifest.contains("/path/to/mortise/modules-sdk"), "{manifest}");
    let manifest = manifest.replace("/path/to/mortise/modules-sdk", &sdk);
    fs::write(greeter.join("Cargo.toml"), manifest).expect("it can be written");
    copy_of_lock(&greeter);
    greets(&build(&greeter, "greeter").join("libgreeter.so"));
}
