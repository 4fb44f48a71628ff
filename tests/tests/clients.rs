//! A round with the client libraries that most applications use, installed from their registries.

use std::path::PathBuf;
use std::process::Command;
use std::{env, net::SocketAddr};

use mortise_tests::source;
use mortise_tests::suite::Target;
use mortise_tests::tls::{self, Certificates};

fn folder() -> PathBuf {
    source::workspace_root().join("tests/clients")
}

/// Where the virtual environment lies: beside the build, so that `cargo clean` removes it.
fn venv() -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    let target = test.ancestors().nth(3).expect("a test lies in <target>/<profile>/deps");
    target.join("clients-venv")
}

fn install() {
    run(Command::new("sh").arg(folder().join("install.sh")).arg(venv()), "clients/install.sh");
}

fn run(command: &mut Command, name: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{name}: {error}"));
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} ended with {}\n{text}", output.status);
    print!("{text}");
}

/// The user of the rounds over TLS.
const USER: [&str; 2] = ["round", "s3cret"];

/// A round of each library; over TLS and as a user of its own if there are certificates.
fn rounds(address: SocketAddr, certificates: Option<&Certificates>) {
    for (program, script) in
        [(venv().join("bin/python"), "redis_py.py"), (PathBuf::from("node"), "ioredis.mjs")]
    {
        let mut command = Command::new(program);
        command.arg(folder().join(script)).arg(address.ip().to_string()).arg(address.port().to_string());
        if let Some(certificates) = certificates {
            command.arg(certificates.dir()).args(USER);
        }
        run(&mut command, script);
    }
}

/// One test, so that what is installed is installed once; the rounds flush the server.
#[test]
fn client_libraries_find_what_they_expect() {
    install();
    let target = Target::from_env();
    let server = target.start(&[]).unwrap_or_else(|error| panic!("the server does not start: {error}"));
    let address = match &server {
        Some(server) => server.address(),
        None => target.running().expect("a server that was not started runs already"),
    };
    rounds(address, None);
    drop(server);
    let (certificates, port) = (Certificates::create(), tls::free_port());
    let mut directives = certificates.directives(port, "yes");
    let [user, password] = USER;
    directives.push(format!("user {user} on >{password} allkeys allchannels allcommands"));
    // Whoever is nobody may do nothing here.
    directives.push("user default off".into());
    let directives: Vec<_> = directives.iter().map(String::as_str).collect();
    let server =
        target.start(&directives).unwrap_or_else(|error| panic!("the server does not start: {error}"));
    // One that was running before has no certificates of ours.
    if server.is_some() {
        rounds(SocketAddr::from(([127, 0, 0, 1], port)), Some(&certificates));
    }
}
