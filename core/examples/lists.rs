//! What lists cost: ns a command, bytes an element, the longest single command.
//!
//! `cargo run --release --example lists [length…]`; without arguments 1000 and 1000000.
//!
//! Commands travel the engine's road without a socket; PING is printed beside them, for what the road itself costs.

use std::sync::Arc;
use std::time::Instant;

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::session::Session;
use mortise_core::features;
use mortise_core::server::clock::SystemClock;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

struct Bench {
    engine: Engine,
    session: Option<Box<Session>>,
}

impl Bench {
    fn ask(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let session = self.session.take().expect("nothing waits here");
        let (session, reply) = self.engine.request(session, words);
        assert_ne!(reply.first(), Some(&b'-'), "{}", String::from_utf8_lossy(&reply));
        self.session = session;
        reply
    }

    /// Asks again and again; prints what a command took, and the longest but for three, which are the machine's.
    fn time(&mut self, name: &str, count: usize, mut words: impl FnMut(usize) -> Vec<Vec<u8>>) {
        const LEFT_OUT: usize = 3;
        let mut took_ns = Vec::with_capacity(count);
        for n in 0..count {
            let words = words(n);
            let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
            let begun = Instant::now();
            self.ask(&words);
            took_ns.push(begun.elapsed().as_nanos() as u64);
            // What others would do when the engine is let go.
            self.engine.jobs.clear();
        }
        took_ns.sort_unstable();
        let longest = took_ns[count - 1 - LEFT_OUT.min(count - 1)];
        let mean = took_ns.iter().sum::<u64>() / count as u64;
        println!("  {name:<34} {mean:>9} ns, longest {:>9.1} µs", longest as f64 / 1e3);
    }
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Live bytes on the heap, each request rounded to the allocator's size class.
fn live() -> usize {
    tikv_jemalloc_ctl::epoch::advance().expect("the allocator counts");
    tikv_jemalloc_ctl::stats::allocated::read().expect("the allocator counts")
}

fn main() {
    let mut lengths: Vec<usize> = std::env::args().skip(1).filter_map(|n| n.parse().ok()).collect();
    if lengths.is_empty() {
        lengths = vec![1_000, 1_000_000];
    }
    for len in lengths {
        for (what, element) in [("of 16 bytes", "element:"), ("that are integers", "1")] {
            list(len, what, element);
        }
    }
}

fn list(len: usize, what: &str, prefix: &str) {
    let registry = Arc::new(features::registry().expect("the declarations are right"));
    let mut engine = Engine::new(Config::default(), registry, Box::new(SystemClock::new()), 1);
    let session = engine.local_session();
    let mut bench = Bench { engine, session };
    let element = |n: usize| format!("{prefix}{n:08}");
    let random = |n: usize| n.wrapping_mul(0x9e37_79b9) % len;
    let middle = len / 2;

    println!("\n{len} elements {what}");
    let before = live();
    for n in 0..len {
        bench.ask(&[b"RPUSH", b"list", element(n).as_bytes()]);
    }
    println!("  {:.2} bytes an element", (live() - before) as f64 / len as f64);
    bench.time("PING", 100_000, |_| words("PING"));
    bench.time("LINDEX middle", 100_000, |_| words(&format!("LINDEX list {middle}")));
    bench.time("LINDEX anywhere", 100_000, |n| words(&format!("LINDEX list {}", random(n))));
    bench.time("LRANGE of 100 in the middle", 10_000, |_| {
        words(&format!("LRANGE list {middle} {}", middle + 99))
    });
    bench.time("LSET anywhere, as long", 100_000, |n| {
        words(&format!("LSET list {} {}", random(n), element(random(n))))
    });
    bench.time("LINSERT in the middle", 100, |_| {
        words(&format!("LINSERT list BEFORE {} new", element(middle)))
    });
    bench.time("LPOS of what is not there", 100, |_| words("LPOS list nowhere"));
    bench.time("LREM of one in the middle", 100, |_| words("LREM list 1 new"));
    bench.time("COPY", 100, |_| words("COPY list copy REPLACE"));
    bench.time("RPOPLPUSH to itself", len.max(10_000), |_| words("RPOPLPUSH list list"));
    bench.time("LTRIM of all but ten of a copy", 1, |_| words("LTRIM copy 5 14"));
    bench.time("LPUSH", len, |n| words(&format!("LPUSH list {}", element(n))));
    bench.time("LPOP", 2 * len, |_| words("LPOP list"));
}
