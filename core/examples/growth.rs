//! How long the table holds up a single write while it grows to ten million keys.
//!
//! `cargo run --release -p mortise-core --example growth [keys]`
//!
//! Each SET is timed within the engine. What the kernel counted meanwhile tells whose the time was: a page fault, a turn
//! of another process, or the engine's own. Time that a hypervisor takes away cannot be told apart and counts as own: a
//! control, which reads the same key again and again for as long, shows how much of that there is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mortise_core::config::Config;
use mortise_core::engine::{Engine, Job};
use mortise_core::features;
use mortise_core::server::clock::SystemClock;
use nix::sys::resource::{UsageWho, getrusage};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The longest steps of a kind, and how many took longer than 20 µs.
#[derive(Default)]
struct Longest {
    longest: Vec<(Duration, u64)>,
    over: u64,
}

impl Longest {
    fn note(&mut self, took: Duration, keys: u64) {
        self.over += u64::from(took > Duration::from_micros(20));
        self.longest.push((took, keys));
        self.longest.sort_unstable_by(|a, b| b.cmp(a));
        self.longest.truncate(5);
    }
}

/// Page faults and turns of others so far, of this thread.
fn disturbances() -> (i64, i64) {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("Linux counts them");
    let turns = usage.involuntary_context_switches() + usage.voluntary_context_switches();
    (usage.minor_page_faults() + usage.major_page_faults(), turns)
}

fn main() {
    let keys: u64 =
        std::env::args().nth(1).map_or(10_000_000, |keys| keys.parse().expect("a number of keys"));
    let registry = Arc::new(features::registry().expect("the features are in order"));
    let mut engine = Engine::new(Config::default(), registry, Box::new(SystemClock::new()), 7);
    let mut session = engine.connect(Default::default(), Default::default());
    for (pass, grows) in [("control", false), ("growth", true), ("growth again", true), ("control", false)] {
        let (mut own, mut faults, mut others) = (Longest::default(), Longest::default(), Longest::default());
        let mut sum = Duration::ZERO;
        let mut before = disturbances();
        for n in 0..keys {
            let key = format!("key:{:012}", if grows { n } else { 0 }).into_bytes();
            let start = Instant::now();
            let (lent, reply) =
                engine.request(session.take().expect("nothing waits"), &[b"SET", &key, b"value"]);
            let took = start.elapsed();
            sum += took;
            assert_eq!(reply, b"+OK\r\n");
            session = lent;
            let after = disturbances();
            if after.1 != before.1 {
                others.note(took, n);
            } else if after.0 != before.0 {
                faults.note(took, n);
            } else {
                own.note(took, n);
            }
            before = after;
        }
        println!("{pass}: {keys} keys, {:.0?} each", sum / keys as u32);
        for (whose, found) in [("own", own), ("page faults", faults), ("others' turns", others)] {
            println!("  {whose:14} {:>6} over 20 µs; longest at which key: {:?}", found.over, found.longest);
        }
        let (lent, _) = engine.request(session.take().expect("nothing waits"), &[b"FLUSHALL"]);
        session = lent;
        for job in engine.jobs.drain(..) {
            if let Job::Free(free) = job {
                free();
            }
        }
    }
}
