//! A round with the client libraries that most applications use, installed from their registries.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, net::SocketAddr};

use mortise_tests::source;
use mortise_tests::suite::Target;
use mortise_tests::tls::{self, Certificates};

#[path = "../clients/redis_rs.rs"]
mod redis_rs;

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

/// What runs a round.
enum Runtime {
    Python,
    Node,
    /// It is part of this test.
    Here,
}

/// A round, and what its user over TLS may do, who bears its name.
struct Round {
    name: &'static str,
    runtime: Runtime,
    rules: &'static str,
}

/// A library's own round tries everything that an application does, a few things of an operator among them.
const ANY_KEY: &str =
    "allkeys allchannels +@all -@admin -@dangerous +flushall +info +client +slowlog +config|get +config|set";

const ROUNDS: &[Round] = &[
    Round { name: "redis_py", runtime: Runtime::Python, rules: ANY_KEY },
    Round { name: "ioredis", runtime: Runtime::Node, rules: ANY_KEY },
    Round { name: "redis_rs", runtime: Runtime::Here, rules: redis_rs::RULES },
    Round {
        name: "django_cache",
        runtime: Runtime::Python,
        rules: "~django:* +@read +@write +@connection +@transaction -@dangerous +flushdb",
    },
    Round { name: "bullmq", runtime: Runtime::Node, rules: "~bull:* +@all -@admin -@dangerous +info" },
];

/// The password of everybody.
const PASSWORD: &str = "s3cret";

impl Round {
    /// Goes round; over TLS and as its user if there are certificates.
    fn go(&self, address: SocketAddr, certificates: Option<&Path>) {
        let (program, ending) = match self.runtime {
            Runtime::Python => (venv().join("bin/python"), "py"),
            Runtime::Node => (PathBuf::from("node"), "mjs"),
            Runtime::Here => {
                let guest =
                    |certificates| redis_rs::Guest { certificates, name: self.name, password: PASSWORD };
                return redis_rs::round(address, certificates.map(guest).as_ref());
            }
        };
        let script = format!("{}.{ending}", self.name);
        let mut command = Command::new(program);
        command.arg(folder().join(&script)).arg(address.ip().to_string()).arg(address.port().to_string());
        if let Some(certificates) = certificates {
            command.arg(certificates).args([self.name, PASSWORD]);
        }
        run(&mut command, &script);
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
    ROUNDS.iter().for_each(|round| round.go(address, None));
    drop(server);
    let (certificates, port) = (Certificates::create(), tls::free_port());
    let mut directives = certificates.directives(port, "yes");
    directives
        .extend(ROUNDS.iter().map(|Round { name, rules, .. }| format!("user {name} on >{PASSWORD} {rules}")));
    // Whoever is nobody may do nothing here.
    directives.push("user default off".into());
    let directives: Vec<_> = directives.iter().map(String::as_str).collect();
    let server =
        target.start(&directives).unwrap_or_else(|error| panic!("the server does not start: {error}"));
    // One that was running before has no certificates of ours.
    if server.is_some() {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        ROUNDS.iter().for_each(|round| round.go(address, Some(certificates.dir())));
    }
}
