//! The stream of changes: what journals and replicas are told. A time to live is told as the moment at which it ends, and
//! what has expired as a removal, so that it does not matter when the stream is read.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::event::Clock;
use mortise_core::engine::session::Session;
use mortise_core::engine::settle::{StreamReader, StreamUnit};
use mortise_core::features;

/// When it is, until it is later: Unix milliseconds.
const NOW_MS: i64 = 1_700_000_000_000;

/// A clock that stands still until it is turned.
struct Still(Arc<AtomicI64>);

impl Clock for Still {
    fn monotonic_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed) as u64 * 1_000_000
    }

    fn unix_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed) * 1000
    }
}

/// Writes down the commands of the stream.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl StreamReader for Recorder {
    fn unit(&mut self, unit: &StreamUnit) {
        let words = |args: mortise_core::engine::args::Args<'_>| {
            args.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
        };
        let commands = unit.iter().map(|said| format!("{}: {}", said.db, words(said.args().view())));
        self.0.lock().unwrap().extend(commands);
    }
}

struct Bench {
    engine: Engine,
    now_ms: Arc<AtomicI64>,
    recorder: Recorder,
    session: Option<Box<Session>>,
}

impl Bench {
    fn new() -> Bench {
        let now_ms = Arc::new(AtomicI64::new(NOW_MS));
        let registry = features::registry().expect("the declarations are right");
        let clock = Box::new(Still(now_ms.clone()));
        let mut engine = Engine::new(Config::default(), Arc::new(registry), clock, 1);
        let recorder = Recorder::default();
        engine.attach(Box::new(recorder.clone()));
        let session = engine.local_session();
        Bench { engine, now_ms, recorder, session }
    }

    /// What the stream says of a line of commands, `;` between them.
    fn said_of(&mut self, line: &str) -> Vec<String> {
        for command in line.split("; ") {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            match words[..] {
                // Not a command: time passes.
                [b"LATER", ms] => {
                    let ms: i64 = std::str::from_utf8(ms).unwrap().parse().unwrap();
                    self.now_ms.fetch_add(ms, Ordering::Relaxed);
                }
                [b"TICK"] => drop(self.engine.tick(100)),
                _ => {
                    let (session, reply) = self.engine.request(self.session.take().unwrap(), &words);
                    assert_ne!(reply.first(), Some(&b'-'), "{command}: {}", String::from_utf8_lossy(&reply));
                    self.session = session;
                }
            }
        }
        std::mem::take(&mut *self.recorder.0.lock().unwrap())
    }
}

#[test]
fn a_time_to_live_is_told_as_a_moment_and_an_end_as_a_removal() {
    for (before, line, said) in [
        ("SET k v", "EXPIRE k 10", &["0: PEXPIREAT k 1700000010000"][..]),
        ("SET k v", "PEXPIRE k 10", &["0: PEXPIREAT k 1700000000010"]),
        ("SET k v", "EXPIREAT k 1800000000", &["0: PEXPIREAT k 1800000000000"]),
        ("SET k v", "PEXPIREAT k 1800000000001", &["0: PEXPIREAT k 1800000000001"]),
        ("SET k v", "EXPIRE k 10 XX", &[]),
        ("SET k v", "EXPIRE k -1", &["0: DEL k"]),
        ("SET k v", "EXPIREAT k 1", &["0: DEL k"]),
        ("PING", "EXPIRE k 10", &[]),
        ("PING", "SETEX k 10 v", &["0: SET k v PXAT 1700000010000"]),
        ("PING", "PSETEX k 10 v", &["0: SET k v PXAT 1700000000010"]),
        ("PING", "SET k v EX 10", &["0: SET k v PXAT 1700000010000"]),
        ("PING", "SET k v PX 10 NX", &["0: SET k v PXAT 1700000000010"]),
        ("PING", "SET k v EXAT 1800000000", &["0: SET k v PXAT 1800000000000"]),
        ("PING", "SET k v PXAT 1800000000001", &["0: SET k v PXAT 1800000000001"]),
        ("SET k v PX 10", "SET k w KEEPTTL", &["0: SET k w KEEPTTL"]),
        ("SET k v", "GETEX k EX 10", &["0: PEXPIREAT k 1700000010000"]),
        ("SET k v", "GETEX k PX 10", &["0: PEXPIREAT k 1700000000010"]),
        ("SET k v", "GETEX k EXAT 1800000000", &["0: PEXPIREAT k 1800000000000"]),
        ("SET k v", "GETEX k PXAT 1800000000001", &["0: PEXPIREAT k 1800000000001"]),
        ("SET k v", "GETEX k PXAT 1", &["0: DEL k"]),
        ("SET k v EX 10", "GETEX k PERSIST", &["0: PERSIST k"]),
        ("SET k v", "GETEX k", &[]),
        // Met when it has expired: by a read, by a write, by what only asks, by nobody.
        ("SET k v PX 10; LATER 11", "GET k", &["0: DEL k"]),
        ("SET k v PX 10; LATER 11", "EXISTS k", &["0: DEL k"]),
        ("SET k v PX 10; LATER 11", "APPEND k w", &["0: DEL k", "0: APPEND k w"]),
        ("SET k v PX 10; LATER 11", "SET k w", &["0: DEL k", "0: SET k w"]),
        ("SET k v PX 10; LATER 11", "DEL k", &["0: DEL k"]),
        ("SET k v PX 10; LATER 11", "TICK", &["0: DEL k"]),
        ("SELECT 3; SET k v PX 10; SELECT 0; LATER 11", "TICK", &["3: DEL k"]),
        ("SET k v PX 10; LATER 9", "TICK", &[]),
        // Relative to the moment at which it is executed, and not to the one at which it was queued.
        ("SET k v; MULTI; EXPIRE k 10; LATER 5", "EXEC", &["0: PEXPIREAT k 1700000010005"]),
    ] {
        let mut bench = Bench::new();
        bench.said_of(before);
        assert_eq!(bench.said_of(line), said, "{before}, then {line}");
    }
}
