//! How long the engine is held at a time, at sizes at which a step that is not bounded shows: a million members, a million
//! keys. `make test-long` runs these in a release build.
//!
//! The bounds are generous, because the machine is others' as well: what takes time in proportion to the data takes at
//! least ten times as long.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mortise_core::config::Config;
use mortise_core::engine::session::Session;
use mortise_core::engine::{Engine, Job};
use mortise_core::features;
use mortise_core::keyspace::entry::{Kind, Payload};
use mortise_core::keyspace::hash::hash;
use mortise_core::keyspace::{NewValue, SpaceId};
use mortise_core::persistence::cut::Lender;
use mortise_core::server::clock::SystemClock;
use mortise_core::types::AnyRef;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MANY: u64 = 1_000_000;
const BOUND: Duration = Duration::from_millis(3);

struct Bench {
    engine: Engine,
    session: Option<Box<Session>>,
}

impl Bench {
    fn new() -> Bench {
        let registry = Arc::new(features::registry().expect("the declarations are right"));
        let mut engine = Engine::new(Config::default(), registry, Box::new(SystemClock::new()), 1);
        engine.directives = Arc::new(mortise_core::server::directives().expect("they are in order"));
        let session = engine.local_session();
        Bench { engine, session }
    }

    fn ask(&mut self, words: &[&[u8]]) {
        let session = self.session.take().expect("nothing waits here");
        let (session, reply) = self.engine.request(session, words);
        assert_ne!(reply.first(), Some(&b'-'), "{}", String::from_utf8_lossy(&reply));
        self.session = session;
    }

    /// A million keys of 64 bytes, with a deadline or without.
    fn fill(&mut self, deadline: Option<i64>) {
        let (db, door) = self.engine.keyspace.db(SpaceId::FIRST, 0);
        for n in 0..MANY {
            let key = format!("key:{n}").into_bytes();
            let mut edit = db.put(door, hash(&key), &key, NewValue::Bytes(Kind::Text, &[b'x'; 64])).0;
            edit.set_deadline(deadline);
        }
    }

    /// What others would do when the engine is let go.
    fn do_jobs(&mut self) {
        self.engine.jobs.clear();
        drop(self.engine.keyspace.take_spent());
    }

    fn len(&self) -> usize {
        self.engine.keyspace.iter().map(|(_, _, db)| db.dict().len()).sum()
    }

    fn members(&self, key: &[u8]) -> usize {
        let Some((_, _, db)) = self.engine.keyspace.iter().next() else { return 0 };
        db.dict().iter().find(|entry| entry.key() == key).map_or(0, |entry| match AnyRef::of(entry) {
            AnyRef::Hash(hash) => hash.len(),
            AnyRef::Set(set) => set.len(),
            AnyRef::Zset(zset) => zset.len(),
            AnyRef::List(list) => list.len(),
            AnyRef::Stream(stream) => stream.len(),
            _ => 0,
        })
    }
}

/// Does something again and again until it says that it is done; how long its longest steps took. Of many steps the longest
/// three are left out: on a machine that others use as well, one may take any time.
fn longest(name: &str, mut step: impl FnMut() -> bool) -> Duration {
    const LEFT_OUT: usize = 3;
    const MANY_STEPS: usize = 100;
    let mut took = Vec::new();
    loop {
        let begun = Instant::now();
        let done = step();
        took.push(begun.elapsed());
        if done {
            break;
        }
    }
    took.sort();
    let left_out = if took.len() < MANY_STEPS { 0 } else { LEFT_OUT };
    let longest = took[took.len() - 1 - left_out];
    println!(
        "{name:60} {:>8} steps, longest {:>10.1?}, but for {left_out} {longest:>10.1?}",
        took.len(),
        took[took.len() - 1]
    );
    longest
}

/// Asks for `count` commands, which `words` makes; none may take long.
fn ask_all(bench: &mut Bench, name: &str, count: u64, words: &dyn Fn(u64) -> String) {
    let mut done = 0;
    let took = longest(name, || {
        let line = words(done);
        bench.ask(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        done += 1;
        done == count
    });
    bench.do_jobs();
    assert!(took < BOUND, "{name}: {took:?}");
}

/// As [`longest`], of what is done only once: the shortest of three.
fn once(
    name: &str,
    bench: &mut Bench,
    mut prepare: impl FnMut(&mut Bench),
    mut step: impl FnMut(&mut Bench),
) -> Duration {
    let times = (0..3).map(|_| {
        prepare(bench);
        let begun = Instant::now();
        step(bench);
        let took = begun.elapsed();
        bench.do_jobs();
        took
    });
    let shortest = times.min().unwrap_or_default();
    println!("{name:60} shortest of three {shortest:>10.1?}");
    shortest
}

#[test]
#[ignore = "takes long, and means something in a release build only"]
fn edits_undo_and_cuts_of_a_million_members() {
    for kind in ["hash", "set", "zset", "list"] {
        let mut bench = Bench::new();
        let edit = |bench: &mut Bench| {
            let n = bench.engine.random();
            let member = format!("member:{:08}", n % (2 * MANY)).into_bytes();
            let number = (n >> 32).to_string().into_bytes();
            match (kind, n >> 60) {
                ("hash", 0..6) => bench.ask(&[b"HDEL", b"hash", &member]),
                ("hash", _) => bench.ask(&[b"HSET", b"hash", &member, &number]),
                ("set", 0..6) => bench.ask(&[b"SREM", b"set", &member]),
                ("set", _) => bench.ask(&[b"SADD", b"set", &member]),
                ("list", 0..2) => bench.ask(&[b"LPOP", b"list"]),
                ("list", 2..4) => bench.ask(&[b"RPOP", b"list"]),
                // At no place, as long as the list is short.
                ("list", 4) if bench.members(b"list") > 0 => bench.ask(&[b"LSET", b"list", b"-1", &member]),
                ("list", 5..11) => bench.ask(&[b"LPUSH", b"list", &member]),
                ("list", _) => bench.ask(&[b"RPUSH", b"list", &member]),
                ("zset", 0..6) => bench.ask(&[b"ZREM", b"zset", &member]),
                _ => bench.ask(&[b"ZADD", b"zset", &number, &member]),
            }
        };
        let mut left = 8 * MANY;
        let growing = longest(&format!("{kind}: edits while it grows"), || {
            edit(&mut bench);
            left -= 1;
            left == 0
        });
        let members = bench.members(kind.as_bytes());
        assert!(members as u64 > MANY, "{members}");
        assert!(growing < BOUND);

        let edits = |bench: &mut Bench, name: &str, advance: &dyn Fn(&mut Bench)| {
            let mut left = 100_000;
            longest(&format!("{kind}: {name}"), || {
                edit(bench);
                advance(bench);
                left -= 1;
                left == 0
            })
        };
        bench.engine.keyspace.begin_undo();
        assert!(edits(&mut bench, "edits in a trial", &|_| {}) < BOUND);
        let begun = Instant::now();
        bench.engine.keyspace.abort();
        assert!(begun.elapsed() < BOUND, "abort: {:?}", begun.elapsed());
        assert_eq!(bench.members(kind.as_bytes()), members);
        assert!(bench.engine.keyspace.begin_cut());
        let walk = |bench: &mut Bench| {
            bench.engine.keyspace.advance_cut();
        };
        assert!(edits(&mut bench, "edits in a cut", &walk) < BOUND);
        assert_eq!(bench.engine.keyspace.end_cut().len(), 1);

        let copy = once(
            &format!("{kind}: COPY"),
            &mut bench,
            |_| {},
            |bench| {
                bench.ask(&[b"COPY", kind.as_bytes(), b"copy", b"REPLACE"]);
            },
        );
        let del = once(
            &format!("{kind}: DEL"),
            &mut bench,
            |bench| {
                bench.ask(&[b"COPY", kind.as_bytes(), b"copy", b"REPLACE"]);
                bench.ask(&[b"HSET", b"other", b"a", b"b"]);
            },
            |bench| bench.ask(&[b"DEL", b"copy"]),
        );
        assert!(copy < BOUND && del < BOUND);
    }
}

#[test]
#[ignore = "takes long, and means something in a release build only"]
fn a_stream_of_a_million_entries() {
    let mut bench = Bench::new();
    let mut steps = |name: &str, count: u64, words: &dyn Fn(u64) -> String| {
        ask_all(&mut bench, &format!("stream: {name}"), count, words);
    };
    steps("XADD", MANY, &|n| format!("XADD s {} field value-{n}", n + 1));
    steps("XADD MAXLEN", MANY / 10, &|n| format!("XADD s MAXLEN {MANY} {} field value-{n}", MANY + n + 1));
    steps("XDEL here and there", MANY / 10, &|n| {
        format!("XDEL s {}", MANY / 10 + n.wrapping_mul(7_919) % MANY)
    });
    steps("XRANGE of the middle", 1_000, &|n| format!("XRANGE s {} + COUNT 100", MANY / 2 + n));
    steps("XREVRANGE of the middle", 1_000, &|n| format!("XREVRANGE s {} - COUNT 100", MANY / 2 + n));
    steps("XGROUP CREATE", 1, &|_| "XGROUP CREATE s g 0".to_owned());
    steps("XREADGROUP", MANY / 100, &|_| "XREADGROUP GROUP g c COUNT 100 STREAMS s >".to_owned());
    steps("XACK here and there", MANY / 10, &|n| format!("XACK s g {}", n.wrapping_mul(7_919) % MANY));
    steps("XAUTOCLAIM", 1_000, &|n| format!("XAUTOCLAIM s g d 0 {}", MANY / 2 + n * 100));
    steps("XPENDING, XINFO", 3, &|n| {
        ["XPENDING s g", "XINFO STREAM s", "XINFO STREAM s FULL"][n as usize].to_owned()
    });
    steps("COPY", 10, &|n| format!("COPY s copy:{n}"));
    steps("XADD to what is shared", 10, &|n| format!("XADD copy:{n} * field value"));
    steps("XTRIM of nearly all", 5, &|n| format!("XTRIM copy:{n} MAXLEN 10"));
    steps("XTRIM by id", 5, &|n| format!("XTRIM copy:{} MINID {}", n + 5, MANY));
    steps("XGROUP DESTROY", 5, &|n| format!("XGROUP DESTROY copy:{n} g"));
    steps("DEL", 10, &|n| format!("DEL copy:{n}"));
    bench.engine.keyspace.begin_undo();
    for line in ["XADD s * field value", "XTRIM s MAXLEN 0", "XGROUP DESTROY s g"] {
        bench.ask(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    }
    let begun = Instant::now();
    bench.engine.keyspace.abort();
    assert!(begun.elapsed() < BOUND, "abort: {:?}", begun.elapsed());
    assert!(bench.members(b"s") as u64 > MANY / 2);
}

#[test]
#[ignore = "takes long, and means something in a release build only"]
fn expiry_of_a_million_keys() {
    let mut bench = Bench::new();
    bench.fill(Some(i64::MAX / 2));
    let mut ticks = 100;
    let idle = longest("ticks while nothing is due of a million keys", || {
        bench.engine.tick(100);
        ticks -= 1;
        ticks == 0
    });
    assert!(idle < BOUND / 10);
    bench.fill(Some(1));
    let begun = Instant::now();
    let busy = longest("slices while a million keys expire", || {
        bench.engine.tick(100);
        bench.len() == 0
    });
    println!("all gone after {:.1?} of work", begun.elapsed());
    assert!(busy < BOUND);
}

#[test]
#[ignore = "takes long, and means something in a release build only"]
fn emptying_a_million_keys() {
    let mut bench = Bench::new();
    let fill = |bench: &mut Bench| bench.fill(None);
    let mut assert_short =
        |name: &str, prepare: &mut dyn FnMut(&mut Bench), step: &mut dyn FnMut(&mut Bench)| {
            assert!(once(name, &mut bench, prepare, step) < BOUND, "{name}");
        };
    for line in ["FLUSHALL", "FLUSHALL SYNC", "FLUSHDB ASYNC"] {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        assert_short(line, &mut |bench| fill(bench), &mut |bench| bench.ask(&words));
    }
    let flush = |bench: &mut Bench| bench.ask(&[b"FLUSHALL"]);
    let tried = |bench: &mut Bench| {
        fill(bench);
        bench.engine.keyspace.begin_undo();
        flush(bench);
    };
    assert_short("the good end of a trial that has flushed", &mut |bench| tried(bench), &mut |bench| {
        bench.engine.keyspace.commit_undo();
    });
    assert_short("the bad end of a trial that has flushed", &mut |bench| tried(bench), &mut |bench| {
        bench.engine.keyspace.abort();
    });
    let cut = |bench: &mut Bench| {
        bench.ask(&[b"FLUSHALL"]);
        fill(bench);
        while bench.engine.keyspace.is_stamping() {
            bench.engine.keyspace.advance_cut();
        }
        assert!(bench.engine.keyspace.begin_cut());
        flush(bench);
    };
    let mut saved = Vec::new();
    assert_short("the early end of a cut after a flush", &mut |bench| cut(bench), &mut |bench| {
        saved = bench.engine.keyspace.end_cut();
    });
    let mut bench = Bench::new();
    cut(&mut bench);
    let walked = longest("a cut's walk through what was flushed", || bench.engine.keyspace.advance_cut());
    assert!(walked < BOUND);
    assert_eq!(bench.engine.keyspace.end_cut().len() as u64, MANY);
}

#[test]
#[ignore = "takes long, and means something in a release build only"]
fn expiry_of_a_million_fields() {
    let mut bench = Bench::new();
    let field = |n: u64| format!("field:{n:08}").into_bytes();
    for n in 0..MANY {
        bench.ask(&[b"HSET", b"hash", &field(n), b"12345678"]);
    }
    let memory = |bench: &mut Bench| {
        let (db, _) = bench.engine.keyspace.db(SpaceId::FIRST, 0);
        let object = db.dict().iter().next().map(|entry| match entry.payload() {
            Payload::Object(object) => object.memory(),
            _ => 0,
        });
        object.unwrap_or_default()
    };
    let without = memory(&mut bench);
    bench.engine.refresh_clock();
    let deadline = bench.engine.now_ms + 10_000;
    let said = deadline.to_string().into_bytes();
    let mut n = 0;
    let setting = longest("HPEXPIREAT while a million fields get deadlines", || {
        bench.ask(&[b"HPEXPIREAT", b"hash", &said, b"FIELDS", b"1", &field(n)]);
        n += 1;
        n == MANY
    });
    assert!(setting < BOUND);
    let cost = (memory(&mut bench) - without) as f64 / MANY as f64;
    println!("a field of 14 bytes pays {cost:.1} bytes for its deadline");
    let mut ticks = 100;
    let idle = longest("ticks while none of a million fields is due", || {
        bench.engine.tick(100);
        ticks -= 1;
        ticks == 0
    });
    assert!(idle < BOUND / 10 && bench.members(b"hash") as u64 == MANY);

    std::thread::sleep(Duration::from_millis(
        u64::try_from(deadline - bench.engine.now_ms).unwrap_or(0) + 100,
    ));
    let begun = Instant::now();
    let busy = longest("slices while a million fields expire", || {
        bench.engine.tick(100);
        bench.len() == 0
    });
    println!("all gone after {:.1?} of work", begun.elapsed());
    assert!(busy < BOUND);
}

/// A group of which a consumer with a million pending entries is removed, with others or without.
#[test]
#[ignore = "takes long, and means something in a release build only"]
fn a_million_pending_entries() {
    let mut bench = Bench::new();
    let mut steps = |name: &str, count: u64, words: &dyn Fn(u64) -> String| {
        ask_all(&mut bench, &format!("pending: {name}"), count, words);
    };
    steps("XADD", MANY, &|n| format!("XADD s {} f v", n + 1));
    steps("XGROUP CREATE", 1, &|_| "XGROUP CREATE s g 0".to_owned());
    steps("XREADGROUP of two in turn", MANY / 10, &|n| {
        format!("XREADGROUP GROUP g {} COUNT 10 STREAMS s >", ["ann", "bob"][n as usize % 2])
    });
    steps("COPY", 8, &|n| format!("COPY s copy:{n}"));
    steps("XNACK here and there", MANY / 10, &|n| {
        format!("XNACK s g FAIL IDS 1 {}", 1 + n.wrapping_mul(7_919) % MANY)
    });
    steps("XREADGROUP CLAIM", 1_000, &|_| "XREADGROUP GROUP g cat COUNT 50 CLAIM 0 STREAMS s >".to_owned());
    steps("XREADGROUP CLAIM of nothing", 1_000, &|_| {
        "XREADGROUP GROUP g cat COUNT 50 CLAIM 100000000 MAXCOUNT 50 STREAMS s >".to_owned()
    });
    steps("XGROUP DELCONSUMER of one of two", 8, &|n| format!("XGROUP DELCONSUMER copy:{n} g ann"));
    steps("XPENDING of the other behind it", 8, &|n| format!("XPENDING copy:{n} g - + 10"));
    steps("XPENDING and XINFO behind it", 12, &|n| match n % 4 {
        0 => format!("XPENDING copy:{} g", n % 3),
        1 => format!("XINFO STREAM copy:{} FULL", n % 3),
        2 => format!("XAUTOCLAIM copy:{} g bob 0 0", n % 3),
        _ => format!("XREADGROUP GROUP g bob COUNT 10 CLAIM 0 STREAMS copy:{} >", n % 3),
    });
    steps("XACK behind it", MANY / 10, &|n| format!("XACK copy:0 g {}", 1 + n.wrapping_mul(7_919) % MANY));
    steps("XGROUP DELCONSUMER of the last", 8, &|n| format!("XGROUP DELCONSUMER copy:{n} g bob"));
    steps("XGROUP DESTROY", 4, &|n| format!("XGROUP DESTROY copy:{n} g"));
    steps("DEL", 8, &|n| format!("DEL copy:{n}"));
}

/// Lends the engine between edits, and notes how long each held it.
struct Timed<'a> {
    bench: RefCell<&'a mut Bench>,
    slices: RefCell<Vec<Duration>>,
    edits: RefCell<Vec<Duration>>,
    /// Members of the sorted set, about.
    members: u64,
}

impl Lender for Timed<'_> {
    fn lend(&self, what: &mut dyn FnMut(&mut Engine)) -> bool {
        let mut bench = self.bench.borrow_mut();
        for _ in 0..20 {
            let n = bench.engine.random();
            let key = format!("key:{}", n % MANY);
            let member = format!("member:{}", (n >> 8) % self.members);
            let begun = Instant::now();
            match n >> 62 {
                _ if self.members > MANY => bench.ask(&[b"ZADD", b"zset", b"5", member.as_bytes()]),
                0 => bench.ask(&[b"ZADD", b"zset", b"5", member.as_bytes()]),
                1 => bench.ask(&[b"DEL", key.as_bytes()]),
                _ => bench.ask(&[b"SET", key.as_bytes(), b"other"]),
            }
            self.edits.borrow_mut().push(begun.elapsed());
        }
        let begun = Instant::now();
        what(&mut bench.engine);
        self.slices.borrow_mut().push(begun.elapsed());
        // Whoever frees what is no longer needed does so elsewhere.
        bench.do_jobs();
        true
    }
}

#[test]
#[ignore = "takes long, and means something in a release build only"]
fn a_snapshot_beside_of_a_million_keys_and_members() {
    let mut bench = Bench::new();
    bench.fill(None);
    for n in 0..2_000 {
        bench.ask(&[b"SET", format!("large:{n}").as_bytes(), &[b'x'; 60_000]]);
    }
    snapshot_beside(bench, MANY, BOUND);
}

#[test]
#[ignore = "takes long, and means something in a release build only"]
fn a_snapshot_beside_of_ten_million_members() {
    const STALL_MAX: Duration = Duration::from_millis(1);
    snapshot_beside(Bench::new(), 10 * MANY, STALL_MAX);
}

/// Writes a snapshot while a sorted set of so many members changes; what takes longer than `bound` is the machine's.
fn snapshot_beside(mut bench: Bench, members: u64, bound: Duration) {
    for n in 0..members {
        let member = format!("member:{n}");
        bench.ask(&[b"ZADD", b"zset", n.to_string().as_bytes(), member.as_bytes()]);
    }
    let begun = Instant::now();
    bench.ask(&[b"BGSAVE"]);
    let cut = begun.elapsed();
    let snapshot = bench.engine.jobs.drain(..).find_map(|job| match job {
        Job::Snapshot(snapshot) => Some(snapshot),
        _ => None,
    });
    let (slices, edits) = (RefCell::default(), RefCell::default());
    let timed = Timed { bench: RefCell::new(&mut bench), slices, edits, members };
    snapshot.expect("one is to be written").run(&timed);
    let Timed { slices, edits, .. } = timed;
    for (name, mut took) in [("slices", slices.into_inner()), ("edits", edits.into_inner())] {
        took.sort();
        let at = |part: usize| took[(took.len() - 1) * part / 1000];
        println!(
            "a snapshot's {name}: {}, median {:?}, p99 {:?}, p99.9 {:?}, longest {:?}",
            took.len(),
            at(500),
            at(990),
            at(999),
            at(1000)
        );
        assert!(at(990) < bound && took[took.len() - 4] < bound);
    }
    println!("the cut begins in {cut:?}");
    assert!(cut < bound);
    assert!(bench.engine.persistence.last_is_ok && bench.engine.persistence.saves == 1);
}
