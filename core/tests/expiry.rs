//! Active expiry: what has expired goes without being asked for, a slice at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::event::Clock;
use mortise_core::engine::session::Session;
use mortise_core::features;

/// How much later it is each time that somebody asks.
const STEP_US: i64 = 20;
const BEGIN_US: i64 = 1_700_000_000_000_000;
const KEYS: usize = 20_000;

/// A clock that goes on whenever it is read.
struct Steps(Arc<AtomicI64>);

impl Clock for Steps {
    fn monotonic_ns(&self) -> u64 {
        self.0.fetch_add(STEP_US, Ordering::Relaxed) as u64 * 1000
    }

    fn unix_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Bench {
    engine: Engine,
    time_us: Arc<AtomicI64>,
    session: Option<Box<Session>>,
}

impl Bench {
    fn new() -> Bench {
        let time_us = Arc::new(AtomicI64::new(BEGIN_US));
        let registry = features::registry().expect("the declarations are right");
        let clock = Box::new(Steps(time_us.clone()));
        let mut engine = Engine::new(Config::default(), Arc::new(registry), clock, 1);
        let session = engine.local_session();
        Bench { engine, time_us, session }
    }

    fn ask(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let (session, reply) = self.engine.request(self.session.take().expect("nothing waits"), &words);
        self.session = session;
        String::from_utf8_lossy(&reply).trim_end().to_owned()
    }

    fn len(&self) -> usize {
        self.engine.keyspace.iter().map(|(_, _, db)| db.dict().len()).sum()
    }

    fn wait_until(&mut self, ms: i64) {
        self.time_us.fetch_max(ms * 1000, Ordering::Relaxed);
    }
}

#[test]
fn much_expires_in_slices_with_room_between_them() {
    let mut bench = Bench::new();
    for n in 0..KEYS {
        // In the last database as in the first: one that keeps the cycle busy does not keep it from the others.
        bench.ask(&format!("SELECT {}", if n % 2 == 0 { 0 } else { 9 }));
        bench.ask(&format!("SET key:{n} value PX 5000"));
    }
    bench.ask("SET stays value");
    bench.wait_until(BEGIN_US / 1000 + 3_600_000);
    assert!(bench.engine.tick(100).is_some(), "there is more to do");
    let mut slices = 0;
    while let Some(due) = bench.engine.next_due_ms() {
        let (now, len) = (bench.engine.now_ms, bench.len());
        assert!(due > now && due <= now + 5, "the rest is for others: {} ms", due - now);
        assert_eq!(bench.ask("PING"), "+PONG");
        bench.wait_until(due);
        let begun = bench.time_us.load(Ordering::Relaxed);
        bench.engine.end_due();
        let took_us = bench.time_us.load(Ordering::Relaxed) - begun;
        assert!(took_us <= 500 + 3 * STEP_US, "a slice took {took_us} us");
        assert!(bench.len() < len || bench.engine.next_due_ms().is_none(), "it gets on");
        slices += 1;
    }
    assert!(slices > 10, "{slices} slices");
    assert_eq!(bench.len(), 1);
    assert_eq!(bench.engine.stats.expired_keys as usize, KEYS);
}

#[test]
fn what_has_got_another_life_meanwhile_stays() {
    let mut bench = Bench::new();
    for n in 0..KEYS {
        bench.ask(&format!("SET key:{n} value PX 5000"));
    }
    bench.wait_until(BEGIN_US / 1000 + 3_600_000);
    bench.engine.tick(100);
    let left = bench.len();
    assert!(left > KEYS / 2, "{left} after one slice");
    for n in 0..KEYS {
        bench.ask(&format!("SET key:{n} other EX 100"));
    }
    bench.ask("SWAPDB 0 3");
    for _ in 0..KEYS {
        let Some(due) = bench.engine.next_due_ms() else { break };
        bench.wait_until(due);
        bench.engine.end_due();
    }
    assert_eq!((bench.len(), bench.engine.next_due_ms()), (KEYS, None));
    bench.wait_until(bench.engine.now_ms + 200_000);
    for _ in 0..10_000 {
        let due = bench.engine.next_due_ms().unwrap_or(bench.engine.now_ms + 100);
        bench.wait_until(due);
        bench.engine.tick(100);
    }
    assert_eq!(bench.len(), 0, "and goes when that is over, wherever it is by then");
}

#[test]
fn a_pause_and_debug_stop_it() {
    for (stop, go_on) in [
        ("CLIENT PAUSE 100000 WRITE", "CLIENT UNPAUSE"),
        ("DEBUG SET-ACTIVE-EXPIRE 0", "DEBUG SET-ACTIVE-EXPIRE 1"),
    ] {
        let mut bench = Bench::new();
        bench.engine.config.debug.enable_debug_command = mortise_core::modules::Permission::Yes;
        bench.ask("SET key value PX 1");
        assert_eq!(bench.ask(stop), "+OK");
        bench.wait_until(bench.engine.now_ms + 50);
        bench.engine.tick(100);
        assert_eq!(bench.len(), 1, "{stop}");
        assert_eq!(bench.ask(go_on), "+OK");
        bench.engine.tick(100);
        assert_eq!(bench.len(), 0, "{go_on}");
    }
}
