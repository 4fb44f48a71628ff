//! What a script costs: `cargo run --release -p mortise-scripting --example cost [coroutine] [name…]`.
//!
//! A host that only answers, so that the figures are those of the sandbox: finding a script by its digest, setting KEYS
//! and ARGV, running, calling back, writing the reply. With `coroutine` each run is a switch to a stack and back.

use std::hint::black_box;
use std::time::Instant;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use mortise_scripting::{Digest, Host, Replication, Sandbox, Settings, Verdict};
use mortise_sdk::host::Level;
use mortise_sdk::resp::encode::Version;

/// Answers every command with a number.
struct Stub {
    reply: &'static [u8],
}

impl Host for Stub {
    fn call(&mut self, words: &[&[u8]], _: Version) -> &[u8] {
        black_box(words);
        self.reply
    }
    fn permits(&mut self, _: &[&[u8]]) -> Option<bool> {
        Some(true)
    }
    fn log(&mut self, _: Level, _: &[u8]) {}
    fn set_replication(&mut self, _: Replication) {}
    fn pause(&mut self) -> Verdict {
        Verdict::GoOn
    }
}

const TWENTY: &str = "local call = redis.call for i = 1, 20 do call('INCR', KEYS[1]) end return 1";
const LIMITER: &str = "local n = redis.call('INCR', KEYS[1]) if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end return n";
const JSON: &str = "return #cjson.encode(cjson.decode(ARGV[1]))";
const DOCUMENT: &str = r#"{"id":12345,"name":"Jane Doe","email":"jane@example.com","tags":["a","b","c","redis"],"opts":{"attempts":3,"delay":1500,"backoff":{"type":"exponential","delay":1000},"removeOnComplete":true},"ratio":0.7512,"nul":null,"text":"line1\nline2 \"quoted\""}"#;

/// What a script is, its text, its keys and arguments.
type Script = (&'static str, &'static str, &'static [&'static [u8]], &'static [&'static [u8]]);

const SCRIPTS: &[Script] = &[
    ("nothing, no keys", "return 1", &[], &[]),
    ("nothing", "return 1", &[b"key"], &[]),
    ("one redis.call", "return redis.call('INCR', KEYS[1])", &[b"key"], &[]),
    ("20 redis.call", TWENTY, &[b"key"], &[]),
    ("rate limiter", LIMITER, &[b"key"], &[b"60"]),
    ("1000 steps", "local s = 0 for i = 1, 1000 do s = s + i % 7 end return s", &[b"key"], &[]),
    ("cjson decode + encode", JSON, &[], &[DOCUMENT.as_bytes()]),
];

struct Bench {
    sandbox: Sandbox,
    out: Vec<u8>,
}

impl Bench {
    /// One EVALSHA, from the digits of the digest to the reply.
    #[inline(never)]
    fn run(&mut self, digest: &[u8], keys: &[&[u8]], arguments: &[&[u8]]) {
        self.out.clear();
        let script = self.sandbox.find(digest).expect("it has been loaded");
        let mut host = Stub { reply: b":1\r\n" };
        let (keys, arguments) = (keys.iter().copied(), arguments.iter().copied());
        self.sandbox.run(script, keys, arguments, &mut host, Version::Resp2, &mut self.out);
        assert_eq!(self.out.first(), Some(&b':'), "{}", String::from_utf8_lossy(&self.out));
    }
}

/// The best of some rounds, in nanoseconds.
fn time(mut run: impl FnMut()) -> f64 {
    const ROUNDS: usize = 9;
    let mut rounds = 1000;
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        (0..rounds).for_each(|_| run());
        let took = start.elapsed().as_nanos() as f64;
        best = best.min(took / rounds as f64);
        rounds = (100_000_000.0 / best) as usize / 2 + 1;
    }
    best
}

fn main() {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    let on_coroutine = names.iter().any(|argument| argument == "coroutine");
    names.retain(|name| name != "coroutine");
    let mut bench = Box::new(Bench { sandbox: Sandbox::new(Settings::default()), out: Vec::new() });
    for (name, text, keys, arguments) in SCRIPTS {
        if !names.is_empty() && !names.iter().any(|part| name.contains(part)) {
            continue;
        }
        if let Err(error) = bench.sandbox.load(text.as_bytes()) {
            eprintln!("{name}: {error}");
            std::process::exit(1);
        }
        let digest = Digest::of(text.as_bytes()).hex();
        let ns = if on_coroutine {
            // One stack for all runs, as a pool would hand them out; the coroutine waits between runs.
            let (keys, arguments) = (keys.to_vec(), arguments.to_vec());
            let mut coroutine = Coroutine::with_stack(
                DefaultStack::new(8 << 20).expect("a stack"),
                move |yielder: &Yielder<Option<Box<Bench>>, Box<Bench>>, first: Option<Box<Bench>>| {
                    let mut next = first;
                    while let Some(mut bench) = next {
                        bench.run(&digest, &keys, &arguments);
                        next = yielder.suspend(bench);
                    }
                },
            );
            let mut own = Some(std::mem::replace(
                &mut bench,
                Box::new(Bench { sandbox: Sandbox::new(Settings::default()), out: Vec::new() }),
            ));
            let ns = time(|| {
                if let CoroutineResult::Yield(back) = coroutine.resume(own.take()) {
                    own = Some(back);
                }
            });
            coroutine.resume(None);
            bench = own.expect("it came back");
            ns
        } else {
            time(|| bench.run(&digest, keys, arguments))
        };
        println!("{name:24} {ns:8.1} ns");
    }
    println!("{:?}", bench.sandbox.usage());
}
