//! What the door of mutation costs: the longest single step of edits, undo and cuts on values of a million members.
//!
//! `cargo run --release -p mortise-core --example door`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::session::Session;
use mortise_core::features;
use mortise_core::keyspace::Entry;
use mortise_core::server::clock::SystemClock;
use mortise_core::types::AnyRef;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MEMBERS: u64 = 1_000_000;
const EDITS: u64 = 200_000;

struct Bench {
    engine: Engine,
    session: Option<Box<Session>>,
}

/// The longest steps seen, each with its name.
#[derive(Default)]
struct Longest(BTreeMap<&'static str, (Duration, Duration, u64)>);

impl Longest {
    fn time<T>(&mut self, name: &'static str, step: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = step();
        let took = start.elapsed();
        let (longest, sum, count) = self.0.entry(name).or_default();
        *longest = took.max(*longest);
        *sum += took;
        *count += 1;
        result
    }

    fn print(&self) {
        for (name, (longest, sum, count)) in &self.0 {
            println!("{name:44} longest {longest:>9.1?}   mean {:>9.2?}   of {count}", *sum / *count as u32);
        }
    }
}

impl Bench {
    fn ask(&mut self, words: &[&[u8]]) {
        let session = self.session.take().expect("nothing waits here");
        let (session, reply) = self.engine.request(session, words);
        assert_ne!(reply.first(), Some(&b'-'), "{}", String::from_utf8_lossy(&reply));
        self.session = session;
    }

    fn edit(&mut self, kind: &str) {
        let n = self.engine.random() % (MEMBERS + MEMBERS / 10);
        let member = format!("m:{n:010}").into_bytes();
        let number = (self.engine.random() % 1_000_000).to_string().into_bytes();
        match kind {
            "hash" => self.ask(&[b"HSET", b"hash", &member, &number]),
            _ => self.ask(&[b"ZADD", b"zset", &number, &member]),
        }
    }

    fn picture(&self, kind: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (_, _, db) = self.engine.keyspace.iter().next().expect("a database was used");
        let entry = db.dict().iter().find(|entry| entry.key() == kind.as_bytes());
        entry.map(picture).unwrap_or_default()
    }
}

fn picture(entry: &Entry) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all: Vec<(Vec<u8>, Vec<u8>)> = match AnyRef::of(entry) {
        AnyRef::Hash(hash) => hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect(),
        AnyRef::Zset(zset) => {
            zset.iter().map(|(score, member)| (member.to_vec(), score.to_le_bytes().to_vec())).collect()
        }
        _ => Vec::new(),
    };
    all.sort();
    all
}

fn main() {
    let registry = Arc::new(features::registry().expect("the declarations are right"));
    let mut engine = Engine::new(Config::default(), registry, Box::new(SystemClock::new()), 1);
    let session = engine.local_session();
    let mut bench = Bench { engine, session };
    for kind in ["hash", "zset"] {
        let mut longest = Longest::default();
        while bench.picture_len(kind) < MEMBERS as usize {
            for _ in 0..200_000 {
                longest.time("edit while it grows", || bench.edit(kind));
            }
        }
        let before = bench.picture(kind);
        println!("== a {kind} of {} members", before.len());

        longest.time("undo: begin", || bench.engine.keyspace.begin_undo());
        for _ in 0..EDITS {
            longest.time("undo: edit", || bench.edit(kind));
        }
        longest.time("undo: abort", || bench.engine.keyspace.abort());
        let spent = bench.engine.keyspace.take_spent();
        longest.time("(on a worker) free what undo replaced", || drop(spent));
        assert!(bench.picture(kind) == before, "undo gives the state before");

        longest.time("cut: begin", || bench.engine.keyspace.begin_cut());
        longest.time("cut: first edit", || bench.edit(kind));
        let mut over = false;
        for _ in 0..EDITS {
            longest.time("cut: edit", || bench.edit(kind));
            if !over {
                over = longest.time("cut: walk a segment", || bench.engine.keyspace.advance_cut());
            }
        }
        let saved = bench.engine.keyspace.end_cut();
        let entry =
            &saved.iter().find(|saved| saved.entry.key() == kind.as_bytes()).expect("it was saved").entry;
        assert!(picture(entry) == before, "a cut gives the state at its beginning");
        longest.time("(on a worker) free what the cut held", || drop(saved));
        longest.print();
    }
}

impl Bench {
    fn picture_len(&self, kind: &str) -> usize {
        let Some((_, _, db)) = self.engine.keyspace.iter().next() else { return 0 };
        db.dict().iter().find(|entry| entry.key() == kind.as_bytes()).map_or(0, |entry| {
            match AnyRef::of(entry) {
                AnyRef::Hash(hash) => hash.len(),
                AnyRef::Zset(zset) => zset.len(),
                _ => 0,
            }
        })
    }
}
