//! What values of each type cost: ns a command, bytes an item, the longest single command.
//!
//! `cargo run --release --example costs [type…] [length…]`; without arguments all types, of 1000, 1000000 and 10000000 items.
//!
//! Commands travel the engine's road without a socket; PING is printed beside them, for what the road itself costs.
//!
//! Everything is done in several rounds, which are the same to the last command, and of what a command took in each the
//! shortest counts: what comes once, and not again at the same place, is the machine's.

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

/// How often all is done.
const ROUNDS: usize = 3;

/// What a line of commands has taken so far, each of them the shortest time of all rounds.
#[derive(Default)]
struct Took(Vec<u32>);

impl Bench {
    fn ask(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let session = self.session.take().expect("nothing waits here");
        let (session, reply) = self.engine.request(session, words);
        assert_ne!(reply.first(), Some(&b'-'), "{}", String::from_utf8_lossy(&reply));
        self.session = session;
        reply
    }

    /// The command of a number again and again, `{n}` being that number, `{r}` one that comes at random and `{s}` one of
    /// `len` items that are there.
    fn time(&mut self, len: usize, &(count, line): &(Count, &str), took: &mut Took) {
        const MANY: usize = 100_000;
        const FEW: usize = 100;
        let count = match count {
            Count::All => len,
            Count::Many => MANY,
            Count::Few => FEW,
            Count::Once => 1,
        };
        took.0.resize(count, u32::MAX);
        for (n, shortest_ns) in took.0.iter_mut().enumerate() {
            let line = filled(line, n, len);
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let begun = Instant::now();
            self.ask(&words);
            let ns = u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX);
            *shortest_ns = ns.min(*shortest_ns);
            // What others would do when the engine is let go.
            self.engine.jobs.clear();
        }
    }
}

impl Took {
    fn show(&self, line: &str) {
        let mean = self.0.iter().map(|ns| u64::from(*ns)).sum::<u64>() / self.0.len() as u64;
        let longest = self.0.iter().max().copied().unwrap_or_default();
        println!("  {line:<48} {mean:>9} ns, longest {:>9.1} µs", f64::from(longest) / 1e3);
    }
}

/// A command in which numbers stand for `{n}`, `{r}` and `{s}`.
fn filled(line: &str, n: usize, len: usize) -> String {
    let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    line.replace("{n}", &format!("{n:08}"))
        .replace("{r}", &format!("{:08}", random % 100_000_000))
        .replace("{s}", &format!("{:08}", random % len))
        .replace("{i}", &(random % len).to_string())
        .replace("{middle}", &(len / 2).to_string())
}

/// How often a command is asked.
#[derive(Clone, Copy)]
enum Count {
    /// As often as there are items.
    All,
    Many,
    Few,
    Once,
}

/// A type: how it is filled, one command for each item, and what is asked then.
struct Type {
    name: &'static str,
    fill: &'static str,
    asked: &'static [(Count, &'static str)],
}

use Count::{All, Few, Many, Once};

const TYPES: &[Type] = &[
    Type {
        name: "string",
        fill: "APPEND k {n}",
        asked: &[
            (Many, "GETRANGE k {i} 100"),
            (Many, "SETRANGE k {i} some-bytes"),
            (Many, "SETBIT k {i} 1"),
            (Many, "BITFIELD k INCRBY u32 #{i} 1"),
            (Few, "BITCOUNT k {i} {middle}"),
            (Few, "COPY k copy REPLACE"),
            (Once, "SETRANGE copy {middle} x"),
            (Once, "DEL copy"),
        ],
    },
    Type {
        name: "list",
        fill: "RPUSH k element:{n}",
        asked: &[
            (Many, "LINDEX k {i}"),
            (Many, "LRANGE k {middle} {middle}"),
            (Many, "LSET k {i} element:{s}"),
            (Few, "LINSERT k BEFORE element:00000500 new"),
            (Few, "LREM k 1 new"),
            (Many, "RPOPLPUSH k k"),
            (Few, "COPY k copy REPLACE"),
            (Once, "LTRIM copy 5 14"),
            (Once, "DEL copy"),
            (All, "LPUSH k element:{n}"),
            (All, "LPOP k"),
        ],
    },
    Type {
        name: "set",
        fill: "SADD k member:{n}",
        asked: &[
            (Many, "SISMEMBER k member:{s}"),
            (Many, "SRANDMEMBER k"),
            (Many, "SSCAN k 0 COUNT 100"),
            (Many, "SADD k other:{n}"),
            (Many, "SREM k other:{n}"),
            (Few, "COPY k copy REPLACE"),
            (Many, "SADD copy other:{n}"),
            (Once, "DEL copy"),
            (All, "SPOP k"),
        ],
    },
    Type {
        name: "set of integers",
        fill: "SADD k {r}",
        asked: &[(Many, "SISMEMBER k {r}"), (Many, "SADD k {n}"), (All, "SPOP k")],
    },
    Type {
        name: "hash",
        fill: "HSET k field:{n} value:{n}",
        asked: &[
            (Many, "HGET k field:{s}"),
            (Many, "HSET k field:{s} other:{n}"),
            (Many, "HRANDFIELD k 1 WITHVALUES"),
            (Many, "HSCAN k 0 COUNT 100"),
            (Many, "HEXPIRE k 10000 FIELDS 1 field:{s}"),
            (Many, "HGET k field:{s}"),
            (Few, "COPY k copy REPLACE"),
            (Many, "HSET copy field:{s} other:{n}"),
            (Once, "DEL copy"),
            (All, "HDEL k field:{n}"),
        ],
    },
    Type {
        name: "sorted set",
        fill: "ZADD k {r} member:{n}",
        asked: &[
            (Many, "ZSCORE k member:{s}"),
            (Many, "ZRANK k member:{s}"),
            (Many, "ZRANGE k {i} {i}"),
            (Many, "ZRANGEBYSCORE k {r} +inf LIMIT 0 10"),
            (Many, "ZADD k {r} member:{s}"),
            (Many, "ZSCAN k 0 COUNT 100"),
            (Few, "COPY k copy REPLACE"),
            (Many, "ZADD copy {r} member:{s}"),
            (Once, "DEL copy"),
            (All, "ZPOPMIN k"),
        ],
    },
    Type {
        name: "stream",
        fill: "XADD k 1-{n} field value:{n}",
        asked: &[
            (Many, "XRANGE k 1-{s} + COUNT 10"),
            (Many, "XREVRANGE k 1-{s} - COUNT 10"),
            (Many, "XADD k * field value:{n}"),
            (Once, "XGROUP CREATE k g 0"),
            (Many, "XREADGROUP GROUP g c COUNT 10 STREAMS k >"),
            (Many, "XACK k g 1-{s}"),
            (Many, "XDEL k 1-{s}"),
            (Few, "COPY k copy REPLACE"),
            (Once, "XTRIM copy MAXLEN 10"),
            (Once, "DEL copy"),
        ],
    },
];

/// Live bytes on the heap, each request rounded to the allocator's size class.
fn live() -> usize {
    tikv_jemalloc_ctl::epoch::advance().expect("the allocator counts");
    tikv_jemalloc_ctl::stats::allocated::read().expect("the allocator counts")
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut lens: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    if lens.is_empty() {
        lens = vec![1_000, 1_000_000, 10_000_000];
    }
    let names: Vec<&String> = args.iter().filter(|arg| arg.parse::<usize>().is_err()).collect();
    for of in TYPES.iter().filter(|of| names.is_empty() || names.iter().any(|name| **name == of.name)) {
        lens.iter().for_each(|&len| costs(of, len));
    }
}

fn costs(of: &Type, len: usize) {
    let lines = [&[(All, of.fill), (Many, "PING")], of.asked].concat();
    let mut took: Vec<Took> = lines.iter().map(|_| Took::default()).collect();
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        let registry = Arc::new(features::registry().expect("the declarations are right"));
        let mut engine = Engine::new(Config::default(), registry, Box::new(SystemClock::new()), 1);
        let session = engine.local_session();
        let mut bench = Bench { engine, session };
        let before = live();
        for (index, (line, took)) in lines.iter().zip(&mut took).enumerate() {
            bench.time(len, line, took);
            if index == 0 {
                // The last round counts, before which the times have their place.
                bytes = live().saturating_sub(before);
            }
        }
    }
    println!("\n{} of {len}: {:.2} bytes an item", of.name, bytes as f64 / len as f64);
    lines.iter().zip(&took).for_each(|((_, line), took)| took.show(line));
}
