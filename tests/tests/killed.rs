//! The server is killed under load, again and again: what was acknowledged is there after the next start, and nothing that
//! belongs together is there in part.
//!
//! A process that is killed leaves what it has written to the system. With `appendfsync always` everything that was
//! acknowledged has been; otherwise what waits for the disk has not: a second's at most, and what was postponed while the
//! disk was busy, two seconds' at most.
//!
//! `KILL_ROUNDS` says how often in all, half of them with each; without it, six times. Several servers live and die side
//! by side, as most of a round is waiting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mortise_tests::{Client, Reply, Server};

const ROUNDS: u64 = 6;
const SERVERS: u64 = 4;
const CLIENTS: usize = 6;
/// The base is written anew in each third round, while clients write.
const REWRITE_EACH: u64 = 3;

/// What was acknowledged so long before a kill has to be there with `everysec`.
const LOSS_MAX: Duration = Duration::from_secs(3);
/// One life in so many of those is longer than that.
const LONG_EACH: u64 = 10;
const LONG: Duration = Duration::from_millis(3500);

/// How far a client has come: its rounds that were sent and that were acknowledged, and when.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    moments: Mutex<Vec<(Instant, u64)>>,
}

impl Progress {
    /// The next life begins here.
    fn begin(&self, there: u64) {
        self.sent.store(there, Ordering::SeqCst);
        self.acknowledged.store(there, Ordering::SeqCst);
        self.moments.lock().expect("nobody panics").clear();
    }

    /// What has to be there of a life that began with so many rounds and was ended at a moment.
    fn required(&self, loss_max: Duration, ended: Instant, began_with: u64) -> u64 {
        let moments = self.moments.lock().expect("nobody panics");
        let is_old = |(when, _): &&(Instant, u64)| ended.saturating_duration_since(*when) >= loss_max;
        moments.iter().rev().find(is_old).map_or(began_with, |(_, n)| *n)
    }

    /// How long before the end that was acknowledged first which is not there.
    fn lost(&self, there: u64, ended: Instant) -> Duration {
        let moments = self.moments.lock().expect("nobody panics");
        let first = moments.iter().find(|(_, n)| *n > there);
        first.map_or(Duration::ZERO, |(when, _)| ended.saturating_duration_since(*when))
    }
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
        progress.moments.lock().expect("nobody panics").push((Instant::now(), n));
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

/// Looks at what a client has written, of which so much has to be there; returns how much is, and what the next life goes
/// on from.
fn look(server: &Server, client: usize, progress: &Progress, required: u64) -> (u64, u64) {
    let mut connection = server.connect();
    let key = |name: &str| format!("{name}:{client}");
    let mut ask = |words: &[&str]| number(&mut connection, words);
    let (acknowledged, sent) =
        (progress.acknowledged.load(Ordering::SeqCst), progress.sent.load(Ordering::SeqCst));
    let counted = ask(&["GET", &key("count")]);
    let listed = ask(&["LLEN", &key("list")]);
    let (one, two) = (ask(&["GET", &key("one")]), ask(&["HGET", &key("two"), "field"]));
    let (three, four) = (ask(&["GET", &key("three")]), ask(&["SCARD", &key("four")]));
    let all =
        format!("{required} of {acknowledged} of {sent}: {counted} {listed} {one} {two} {three} {four}");
    assert_eq!(one, two, "half of a transaction: {all}");
    assert_eq!(three, four, "half of a script: {all}");
    // In the order in which they were said.
    assert!(required <= three && three <= one && one <= listed && listed <= counted, "{all}");
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
    (three, counted)
}

/// What came of the lives of a server.
#[derive(Default)]
struct Outcome {
    kills: u64,
    /// Lives that have lost something.
    losses: u64,
    lost_longest: Duration,
    /// Rounds of all clients.
    written: u64,
}

/// A server's lives: these rounds of all.
fn live(directive: &str, rounds: impl Iterator<Item = u64>) -> Outcome {
    let (sync, loss_max) = (format!("appendfsync {directive}"), loss_max(directive));
    let mut server = Server::start(&["appendonly yes", &sync]);
    let progress: Arc<Vec<Progress>> = Arc::new((0..CLIENTS).map(|_| Progress::default()).collect());
    let mut outcome = Outcome::default();
    for round in rounds {
        let began_with: Vec<u64> =
            progress.iter().map(|progress| progress.acknowledged.load(Ordering::SeqCst)).collect();
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
        if round % LONG_EACH == 1 && !loss_max.is_zero() {
            thread::sleep(LONG);
        }
        if round % REWRITE_EACH == 0 {
            server.connect().call(&["BGREWRITEAOF"]).expect("it answers");
            // At another place of the rewrite each time.
            thread::sleep(Duration::from_micros(round * 131 % 4000));
        }
        let ended = Instant::now();
        server.kill();
        writers.into_iter().for_each(|writer| writer.join().expect("it was not refused"));
        server.restart();
        outcome.kills += 1;
        let mut lost = Duration::ZERO;
        for (n, progress) in progress.iter().enumerate() {
            let required = match loss_max.is_zero() {
                true => progress.acknowledged.load(Ordering::SeqCst),
                false => progress.required(loss_max, ended, began_with[n]),
            };
            let (there, goes_on) = look(&server, n, progress, required);
            lost = lost.max(progress.lost(there, ended));
            outcome.written += goes_on - began_with[n];
            progress.begin(goes_on);
        }
        outcome.losses += u64::from(!lost.is_zero());
        outcome.lost_longest = outcome.lost_longest.max(lost);
    }
    outcome
}

fn loss_max(directive: &str) -> Duration {
    if directive == "always" { Duration::ZERO } else { LOSS_MAX }
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let rounds = std::env::var("KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    for (directive, rounds) in [("always", rounds.div_ceil(2)), ("everysec", rounds / 2)] {
        let begun = Instant::now();
        let outcomes: Vec<Outcome> = thread::scope(|scope| {
            let lives = (0..SERVERS.min(rounds))
                .map(|first| scope.spawn(move || live(directive, (first..rounds).step_by(SERVERS as usize))));
            let lives: Vec<_> = lives.collect();
            lives.into_iter().map(|lives| lives.join().expect("what it found is right")).collect()
        });
        let total = |count: fn(&Outcome) -> u64| outcomes.iter().map(count).sum::<u64>();
        let longest = outcomes.iter().map(|outcome| outcome.lost_longest).max();
        println!(
            "{directive}: killed {} times in {:?}, {} rounds of clients; {} lives lost something, {:?} at most",
            total(|outcome| outcome.kills),
            begun.elapsed(),
            total(|outcome| outcome.written),
            total(|outcome| outcome.losses),
            longest.unwrap_or_default(),
        );
        assert_eq!(total(|outcome| outcome.kills), rounds);
    }
}
