//! Small collections are packed, but not beyond 64 KB, whatever their limits allow; and nobody can tell from outside.

use std::sync::Arc;

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::session::Session;
use mortise_core::features;
use mortise_core::keyspace::{Payload, SpaceId};
use mortise_core::server::clock::SystemClock;

struct Bench {
    engine: Engine,
    session: Option<Box<Session>>,
}

impl Bench {
    fn new() -> Bench {
        let registry = features::registry().expect("the declarations are right");
        let mut engine = Engine::new(Config::default(), Arc::new(registry), Box::new(SystemClock::new()), 1);
        engine.directives = Arc::new(mortise_core::server::directives().expect("they are in order"));
        let session = engine.local_session();
        let mut bench = Bench { engine, session };
        for of in ["hash", "zset"] {
            bench.ask(&format!("CONFIG SET {of}-max-listpack-value 1000000"));
            bench.ask(&format!("CONFIG SET {of}-max-listpack-entries 10"));
        }
        bench
    }

    fn ask(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let (session, reply) = self.engine.request(self.session.take().expect("nothing waits"), &words);
        self.session = session;
        String::from_utf8_lossy(&reply).trim_end().replace("\r\n", " ")
    }

    /// Whether a key's value stands inside its entry, and what OBJECT ENCODING says.
    fn state(&mut self, key: &str) -> (bool, String) {
        let encoding = self.ask(&format!("OBJECT ENCODING {key}"));
        let (_, _, db) = self.engine.keyspace.iter().next().expect("it is in use");
        let entry = db.dict().iter().find(|entry| entry.key() == key.as_bytes()).expect("it is there");
        let inside = matches!(entry.payload(), Payload::Bytes(_));
        (inside, encoding.split(' ').next_back().unwrap_or_default().to_owned())
    }
}

fn long(byte: char, len: usize) -> String {
    byte.to_string().repeat(len)
}

#[test]
fn what_is_packed_is_never_large() {
    let mut bench = Bench::new();
    for (key, add, large) in [("hash", "HSET hash", "hashtable"), ("zset", "ZADD zset", "skiplist")] {
        // Field and value, score and member: in this order a number can be either.
        let item = |n: usize, len: usize| format!("{add} {n} {n}{}", long('x', len));
        bench.ask(&item(1, 30_000));
        assert_eq!(bench.state(key), (true, "listpack".to_owned()));
        bench.ask(&item(2, 40_000));
        assert_eq!(
            bench.state(key),
            (false, "listpack".to_owned()),
            "too large to be packed, but small by its limits"
        );
        bench.ask(&format!("COPY {key} {key}:copy"));
        for n in 3..=10 {
            bench.ask(&item(n, 20));
        }
        assert_eq!(bench.state(key), (false, "listpack".to_owned()), "as many as its limits allow");
        bench.ask(&item(11, 20));
        assert_eq!(bench.state(key), (false, large.to_owned()), "one more");
        bench.ask(if key == "hash" { "HDEL hash 11" } else { "ZPOPMAX zset" });
        assert_eq!(bench.state(key), (false, large.to_owned()), "never again");

        let copy = format!("{key}:copy");
        assert_eq!(bench.state(&copy), (false, "listpack".to_owned()));
        let add = add.replace(key, &copy);
        bench.ask(&format!("{add} 3 {}", long('y', 1_000_001)));
        assert_eq!(bench.state(&copy), (false, large.to_owned()), "an item beyond the limit");
    }
}

#[test]
fn a_stored_result_is_packed_by_the_same_rule() {
    let mut bench = Bench::new();
    for n in 1..=9 {
        bench.ask(&format!("ZADD zset {n} {n}{}", long('x', 10_000)));
    }
    bench.ask("ZADD zset 0 nought");
    assert_eq!(bench.state("zset"), (false, "listpack".to_owned()));
    for (command, packed, encoding) in [
        ("ZUNIONSTORE to 1 zset", false, "listpack"),
        ("ZRANGESTORE to zset 0 3", true, "listpack"),
        ("ZUNIONSTORE to 2 zset one", false, "skiplist"),
    ] {
        bench.ask("ZADD one 1 a");
        bench.ask(command);
        assert_eq!(bench.state("to"), (packed, encoding.to_owned()), "{command}");
    }
    // What stays of a set by ranks.
    bench.ask("ZREMRANGEBYRANK zset 0 7");
    assert_eq!(bench.state("zset"), (false, "listpack".to_owned()));
}

#[test]
fn a_small_set_forgets_the_sign_of_zero_wherever_it_stands() {
    let mut bench = Bench::new();
    bench.ask(&format!("ZADD zset 1 {}", long('x', 70_000)));
    bench.ask("ZADD zset -0.0 a");
    assert_eq!(bench.state("zset"), (false, "listpack".to_owned()));
    assert_eq!(bench.ask("ZSCORE zset a"), "$1 0");
    let digest = bench.engine.digest();
    bench.ask("ZADD zset 1 a");
    bench.ask("ZADD zset 0 a");
    assert_eq!(bench.engine.digest(), digest);
    bench.ask(&format!("ZADD zset 1 {}", long('x', 1_000_001)));
    bench.ask("ZADD zset -0.0 b");
    assert_eq!(bench.ask("ZSCORE zset b"), "$2 -0", "and a large one keeps it");
    assert_eq!(bench.engine.keyspace.existing(SpaceId::FIRST, 0).map(|db| db.dict().len()), Some(1));
}
