//! The server is killed under load, again and again: what was acknowledged is there after the next start, and nothing that
//! belongs together is there in part.
//!
//! A process that is killed leaves what it has written to the system, so this holds whatever `appendfsync` says.
//! `KILL_ROUNDS` says how often; without it, five times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use mortise_tests::{Client, Reply, Server};

const ROUNDS: u64 = 5;
const CLIENTS: usize = 6;
/// The base is written anew in each third round, while clients write.
const REWRITE_EACH: u64 = 3;

/// How far a client has come: its rounds that were sent and that were acknowledged.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    acknowledged: AtomicU64,
}

const SCRIPT: &str = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('SADD', KEYS[2], ARGV[1])";

/// What a client says in one round: each request is a whole, and they come in this order.
fn requests(client: usize, n: u64) -> Vec<Vec<String>> {
    let lines = [
        format!("INCR count:{client}"),
        format!("RPUSH list:{client} {n}"),
        "MULTI".to_owned(),
        format!("SET one:{client} {n}"),
        format!("HSET two:{client} field {n}"),
        "EXEC".to_owned(),
    ];
    let mut requests: Vec<Vec<String>> =
        lines.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
    let script = ["EVAL", SCRIPT, "2", &format!("three:{client}"), &format!("four:{client}"), &n.to_string()];
    requests.push(script.map(str::to_owned).into());
    requests
}

/// Writes until the server is gone.
fn write(mut client: Client, number: usize, progress: &Progress) {
    loop {
        let n = progress.sent.fetch_add(1, Ordering::SeqCst) + 1;
        let requests = requests(number, n);
        let sent: Vec<u8> = requests.iter().flat_map(|words| mortise_tests::client::request(words)).collect();
        if client.send_raw(&sent).is_err() {
            return;
        }
        for request in &requests {
            match client.receive() {
                Ok(Reply::Error(error)) => panic!("{request:?}: {error:?}"),
                Ok(_) => {}
                Err(_) => return,
            }
        }
        progress.acknowledged.store(n, Ordering::SeqCst);
    }
}

fn number(client: &mut Client, words: &[&str]) -> u64 {
    match client.call(words).expect("it answers") {
        Reply::Integer(n) => n as u64,
        Reply::Bulk(text) => String::from_utf8_lossy(&text).parse().expect("a number"),
        Reply::NullBulk => 0,
        other => panic!("{words:?}: {other:?}"),
    }
}

/// Looks at what a client has written; returns how far it came.
fn look(server: &Server, client: usize, progress: &Progress) -> u64 {
    let mut connection = server.connect();
    let key = |name: &str| format!("{name}:{client}");
    let mut ask = |words: &[&str]| number(&mut connection, words);
    let (acknowledged, sent) =
        (progress.acknowledged.load(Ordering::SeqCst), progress.sent.load(Ordering::SeqCst));
    let counted = ask(&["GET", &key("count")]);
    let listed = ask(&["LLEN", &key("list")]);
    let (one, two) = (ask(&["GET", &key("one")]), ask(&["HGET", &key("two"), "field"]));
    let (three, four) = (ask(&["GET", &key("three")]), ask(&["SCARD", &key("four")]));
    let all = format!("{acknowledged} of {sent}: {counted} {listed} {one} {two} {three} {four}");
    assert_eq!(one, two, "half of a transaction: {all}");
    assert_eq!(three, four, "half of a script: {all}");
    // In the order in which they were said.
    assert!(acknowledged <= three && three <= one && one <= listed && listed <= counted, "{all}");
    assert!(counted <= sent && three + 1 >= counted, "{all}");
    if listed > 0 {
        assert_eq!(ask(&["LINDEX", &key("list"), "-1"]), listed, "{all}");
    }
    // The next life goes on from a whole round.
    for (n, request) in requests(client, counted).iter().enumerate() {
        let is_there = match n {
            0 => true,
            1 => listed == counted,
            2..=5 => one == counted,
            _ => three == counted,
        };
        if counted > 0 && !is_there {
            connection.call(request).expect("it answers");
        }
    }
    counted
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let rounds = std::env::var("KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    for (directive, rounds) in [("always", rounds.div_ceil(2)), ("everysec", rounds / 2)] {
        let sync = format!("appendfsync {directive}");
        let mut server = Server::start(&["appendonly yes", &sync]);
        let progress: Arc<Vec<Progress>> = Arc::new((0..CLIENTS).map(|_| Progress::default()).collect());
        let (begun, mut written) = (Instant::now(), 0);
        for round in 0..rounds {
            let start = Arc::new(Barrier::new(CLIENTS + 1));
            let writers: Vec<_> = (0..CLIENTS)
                .map(|n| {
                    let (client, progress, start) = (server.connect(), progress.clone(), start.clone());
                    thread::spawn(move || {
                        start.wait();
                        write(client, n, &progress[n]);
                    })
                })
                .collect();
            start.wait();
            thread::sleep(Duration::from_millis(5 + round * 7 % 40));
            if round % REWRITE_EACH == 0 {
                server.connect().call(&["BGREWRITEAOF"]).expect("it answers");
                // At another place of the rewrite each time.
                thread::sleep(Duration::from_micros(round * 131 % 4000));
            }
            server.kill();
            writers.into_iter().for_each(|writer| writer.join().expect("it was not refused"));
            server.restart();
            for (n, progress) in progress.iter().enumerate() {
                let there = look(&server, n, progress);
                progress.sent.store(there, Ordering::SeqCst);
                progress.acknowledged.store(there, Ordering::SeqCst);
                written = written.max(there);
            }
        }
        println!("{directive}: killed {rounds} times in {:?}, {written} rounds of a client", begun.elapsed());
    }
}
