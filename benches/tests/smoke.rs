//! The generator against a responder of known behaviour, and the program against a real server if there is one.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use mortise_benches::load::{self, Length, Plan};
use mortise_benches::replies::Replies;
use mortise_benches::server::exists;
use serde_json::Value;

/// What a responder answers, after a first `+PONG` on each connection.
#[derive(Clone, Copy)]
enum Manner {
    /// The same bytes to each request.
    Same(&'static [u8]),
    /// `+OK`, but request number `at` waits for a while first.
    Stall { at: u64, pause: Duration },
    /// The connection is closed at the first request.
    Close,
}

/// A tiny server; returns its address and its count of requests, greetings not included.
fn responder(manner: Manner) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, counted) = (stream.unwrap(), counted.clone());
            thread::spawn(move || respond(stream, manner, &counted));
        }
    });
    (address, count)
}

fn respond(mut stream: TcpStream, manner: Manner, count: &AtomicU64) {
    stream.set_nodelay(true).unwrap();
    // A request is an array of bulk strings, so what counts replies counts requests too.
    let mut requests = Replies::default();
    let mut greeted = false;
    let mut buffer = [0; 65536];
    while let Ok(size @ 1..) = stream.read(&mut buffer) {
        let mut out = Vec::new();
        for _ in 0..requests.feed(&buffer[..size]).unwrap() {
            if !greeted {
                greeted = true;
                out.extend_from_slice(b"+PONG\r\n");
                continue;
            }
            let number = count.fetch_add(1, Ordering::Relaxed);
            match manner {
                Manner::Same(bytes) => out.extend_from_slice(bytes),
                Manner::Stall { at, pause } => {
                    if number == at {
                        thread::sleep(pause);
                    }
                    out.extend_from_slice(b"+OK\r\n");
                }
                Manner::Close => return,
            }
        }
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

fn plan(address: SocketAddr) -> Plan {
    Plan {
        address,
        server_pid: Some(std::process::id()),
        command: "SET key:__rand__ __x64__".into(),
        connections: 4,
        pipeline: 8,
        keys: 1000,
        first: 0,
        length: Length::Requests(1600),
        warmup: Duration::ZERO,
        rate: None,
    }
}

#[test]
fn a_closed_loop_counts_every_request_once() {
    let (address, count) = responder(Manner::Same(b"*2\r\n$3\r\nabc\r\n:1\r\n"));
    let outcome = load::run(&plan(address)).unwrap();
    assert_eq!(outcome.requests, 1600);
    assert_eq!(outcome.latency.len(), 1600);
    assert_eq!(count.load(Ordering::Relaxed), 1600);
    assert_eq!((outcome.errors, outcome.unanswered), (0, 0));
    assert!(outcome.server.unwrap().cpu > Duration::ZERO);
}

#[test]
fn large_batches_pass_through_small_sockets() {
    let (address, count) = responder(Manner::Same(b"+OK\r\n"));
    let command = "SET key:__rand__ __x20000__".into();
    let outcome =
        load::run(&Plan { command, pipeline: 200, length: Length::Requests(1600), ..plan(address) });
    assert_eq!(outcome.unwrap().requests, 1600);
    assert_eq!(count.load(Ordering::Relaxed), 1600);
}

#[test]
fn a_run_by_time_leaves_its_warm_up_out() {
    let (address, count) = responder(Manner::Same(b"+OK\r\n"));
    let warmup = Duration::from_millis(60);
    let length = Length::Time(Duration::from_millis(60));
    let outcome = load::run(&Plan { warmup, length, ..plan(address) }).unwrap();
    let (measured, all) = (outcome.requests, count.load(Ordering::Relaxed));
    assert!(0 < measured && measured < all, "{measured} of {all}");
    assert!(outcome.elapsed >= Duration::from_millis(50), "{:?}", outcome.elapsed);
}

#[test]
fn an_open_loop_charges_a_stall_to_all_who_were_due_in_it() {
    let pause = Duration::from_millis(100);
    let (address, count) = responder(Manner::Stall { at: 100, pause });
    let length = Length::Time(Duration::from_millis(400));
    let open = Plan { connections: 1, pipeline: 1, length, rate: Some(1000.0), ..plan(address) };
    let outcome = load::run(&open).unwrap();
    // One request met the pause, but a hundred were due in it: half of them waited for more than half of it.
    let late = outcome.latency.count_between(45_000_000, u64::MAX);
    assert!(late >= 45, "only {late} requests were late");
    assert!(outcome.latency.max() >= 95_000_000);
    assert_eq!(outcome.latency.len(), count.load(Ordering::Relaxed));
    assert!((300..=401).contains(&outcome.latency.len()), "{} requests", outcome.latency.len());
}

#[test]
fn errors_are_never_taken_for_answers() {
    let (address, _) = responder(Manner::Same(b"-ERR unknown command\r\n"));
    let outcome = load::run(&plan(address)).unwrap();
    assert_eq!(outcome.errors, 1600);
    assert_eq!(outcome.first_error.as_deref(), Some("ERR unknown command"));
}

#[test]
fn a_server_that_closes_or_talks_too_much_fails_the_run() {
    let (address, _) = responder(Manner::Close);
    assert!(load::run(&plan(address)).unwrap_err().to_string().contains("closed"));
    let (address, _) = responder(Manner::Same(b"+OK\r\n+OK\r\n"));
    assert!(load::run(&plan(address)).unwrap_err().to_string().contains("more replies"));
}

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mortise-bench")).args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = bench(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_program_prints_json() {
    let (address, _) = responder(Manner::Same(b"+OK\r\n"));
    let port = format!("--port={}", address.port());
    let load = json(&["load", &port, "--command", "PING", "--requests", "1000", "--json"]);
    assert_eq!(load["requests"], 1000);
    assert_eq!(load["errors"], 0);
    assert!(load["latency_us"]["p999"].as_f64().unwrap() > 0.0);
    assert!(load["server"].is_null() && load["late_us"].is_null());

    let open = json(&["load", &port, "--command=PING", "--rate=2000", "--seconds=0.1", "--json"]);
    assert!(open["requests"].as_u64().unwrap() > 50, "{open}");
    assert!(open["late_us"]["max"].as_f64().is_some());

    let quiet = json(&["control", "--seconds=0.02", "--json"]);
    assert!(quiet["looks"].as_u64().unwrap() > 1000);
}

#[test]
fn a_wrong_command_line_is_refused_in_words() {
    let refused = |arguments: &[&str], words: &str| {
        let output = bench(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(words), "{arguments:?}: {error}");
    };
    refused(&[], "is wanted");
    refused(&["load", "--command=PING"], "--port is missing");
    refused(&["load", "--port=1"], "--command is missing");
    refused(&["load", "--port=1", "--pipeline=0"], "above zero");
    refused(&["load", "--what"], "--what");
    refused(&["compare"], "--server NAME=COMMAND is missing");
    refused(&["compare", "--server", "a=sh {port}", "--only=nothing"], "no workload");
    refused(&["compare", "--server", "a=false {port}", "--only=ping_p1"], "cases that failed: 1");
}

#[test]
fn servers_are_compared() {
    if !exists("redis-server") {
        eprintln!("skipped: no redis-server on the path");
        return;
    }
    let file = std::env::temp_dir().join(format!("mortise-bench-smoke-{}.json", std::process::id()));
    let recipe = |name: &str, rest: &str| {
        format!("--server={name}=redis-server --port {{port}} --dir {{dir}} --save '' --appendonly no {rest}")
    };
    let output = bench(&[
        "compare",
        &recipe("one", ""),
        // Without INCR, and with a command of another name in the module's place.
        &recipe("two", "--rename-command INCR '' --rename-command TYPE HELLO.GREET"),
        "--only=ping_p16,incr_p1,open_get,publish100_p16,patterns10k_p1,module_p1,memory,growth",
        "--rounds=2",
        "--seconds=0.1",
        "--keys=2000",
        "--growth-keys=20000",
        "--server-cpus=none",
        "--client-cpus=none",
        "--json",
        &file.to_string_lossy(),
    ]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    fs::remove_file(&file).unwrap();

    let find = |workload: &str, server: &str| {
        let results = report["results"].as_array().unwrap();
        let found = results.iter().find(|row| row["workload"] == workload && row["server"] == server);
        found.unwrap_or_else(|| panic!("{workload} of {server} is missing in\n{text}")).clone()
    };
    for workload in ["ping_p16", "open_get_p1", "publish100_p16", "patterns10k_p1"] {
        let (one, two) = (find(workload, "one"), find(workload, "two"));
        assert_eq!(one["cpu_ratio"], 1.0, "{workload}");
        assert!(two["cpu_ratio"].as_f64().unwrap() > 0.0, "{workload}");
        assert_eq!(two["rounds"].as_array().unwrap().len(), 2);
    }
    assert!(find("incr_p1", "one")["median"]["p999_us"].as_f64().unwrap() > 0.0);
    assert!(find("incr_p1", "two")["not_there"].as_str().unwrap().starts_with("ERR unknown command"));
    assert!(find("module_p1", "one")["not_there"].as_str().is_some());
    assert_eq!(find("module_p1", "two core")["cpu_ratio"], 1.0);
    assert!(find("module_p1", "two module")["cpu_ratio"].as_f64().unwrap() > 0.0);
    let bytes = find("memory", "two")["bytes_per_key"][1].as_f64().unwrap();
    assert!((64.0..1000.0).contains(&bytes), "{bytes} bytes per key");
    let passes = find("growth", "two")["growth"]["passes"].clone();
    assert_eq!(passes[1]["keys"], 20000);
    assert!(passes[1]["probe_us"]["max"].as_f64().unwrap() > 0.0);
}
