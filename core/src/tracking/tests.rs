//! Client-side caching, driven in process: what scripts over sockets cannot see or cannot time.

use crate::engine::testing::Bench;
use crate::keys::EvictionPolicy;
use crate::keyspace::SpaceId;

/// What a client on RESP3 is told of keys.
fn invalid(keys: &[&str]) -> String {
    let keys: String = keys.iter().map(|key| format!("${}\r\n{key}\r\n", key.len())).collect();
    format!(">2\r\n$10\r\ninvalidate\r\n*{}\r\n{keys}", keys.matches('$').count())
}

const ALL_INVALID: &str = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// A client on RESP3 that tracks, and another.
fn tracking(options: &str) -> (Bench, usize, usize) {
    let mut bench = Bench::new();
    let (reader, writer) = (bench.connect(), bench.connect());
    bench.ask(reader, &["HELLO 3"]);
    assert_eq!(bench.ask(reader, &[format!("CLIENT TRACKING ON{options}").as_str()]), "+OK\r\n");
    (bench, reader, writer)
}

fn is_listened(bench: &mut Bench, key: &[u8]) -> bool {
    let db = bench.engine.keyspace.db(SpaceId::FIRST, 0).0;
    db.find(crate::keyspace::hash::hash(key), key).is_some_and(|entry| entry.is_listened())
}

#[test]
fn only_what_somebody_has_read_is_listened_to() {
    let mut bench = Bench::new();
    let (reader, writer) = (bench.connect(), bench.connect());
    bench.ask(writer, &["MSET a 1 b 1", "GET a"]);
    bench.ask(reader, &["HELLO 3", "CLIENT TRACKING ON", "GET a"]);
    assert!(is_listened(&mut bench, b"a") && !is_listened(&mut bench, b"b"));
    // Somebody may have looked for it before it was there.
    bench.ask(writer, &["SET c 1"]);
    assert!(is_listened(&mut bench, b"c"));
    bench.ask(reader, &["CLIENT TRACKING OFF"]);
    assert_eq!((bench.engine.tracking.keys(), bench.engine.tracking.clients()), (0, 0));
    bench.ask(writer, &["SET d 1"]);
    assert!(!is_listened(&mut bench, b"d"));
}

#[test]
fn what_is_read_between_the_changes_of_a_unit_is_told_only_what_follows() {
    let (mut bench, reader, writer) = tracking("");
    bench.ask(reader, &["GET other"]);
    let told = bench.ask(reader, &["MULTI", "SET other 1", "SET k 1", "GET k", "EXEC"]);
    assert!(told.ends_with(&format!("*3\r\n+OK\r\n+OK\r\n$1\r\n1\r\n{}", invalid(&["other"]))), "{told}");
    bench.ask(writer, &["SET k 2"]);
    assert_eq!(bench.received(reader), invalid(&["k"]));
}

#[test]
fn nobody_is_told_what_is_taken_back() {
    let (mut bench, reader, writer) = tracking("");
    bench.ask(writer, &["SET k 1"]);
    bench.ask(reader, &["GET k"]);
    bench.engine.begin_trial();
    bench.engine.remove_key(
        SpaceId::FIRST,
        0,
        crate::engine::call::Key::new(b"k"),
        "del",
        crate::engine::event::GENERIC,
    );
    bench.engine.abort_trial();
    assert_eq!(bench.ask(writer, &["GET k"]), "$1\r\n1\r\n");
    assert_eq!(bench.received(reader), "");
    bench.ask(writer, &["SET k 2"]);
    assert_eq!(bench.received(reader), invalid(&["k"]));
}

#[test]
fn a_call_that_waits_is_told_of_what_ends_its_wait() {
    let (mut bench, reader, writer) = tracking("");
    assert_eq!(bench.ask(reader, &["ZCARD z"]), ":0\r\n");
    assert_eq!(bench.ask(reader, &["BZPOPMIN z 0"]), "");
    bench.ask(writer, &["ZADD z 1 a"]);
    let received = bench.received(reader);
    let (told, reply) = (invalid(&["z"]), "*3\r\n$1\r\nz\r\n$1\r\na\r\n,1\r\n");
    assert_eq!(received, format!("{told}{reply}"));
    // What it takes out itself has changed for nobody: it has not read the key since.
    assert_eq!(bench.engine.tracking.keys(), 0);
}

#[test]
fn a_pipeline_is_told_once_of_what_it_changes_under_a_prefix() {
    let (mut bench, reader, writer) = tracking(" BCAST PREFIX k");
    let replies = bench.ask(reader, &["SET k1 x", "SET k2 x", "SET other x", "SET k1 y"]);
    assert_eq!(replies, format!("{}{}", "+OK\r\n".repeat(4), invalid(&["k1", "k2"])));
    bench.ask(writer, &["SET k3 x", "DEL k1"]);
    assert_eq!(bench.received(reader), invalid(&["k1", "k3"]));
}

#[test]
fn the_table_is_kept_within_its_limit() {
    let (mut bench, reader, writer) = tracking("");
    let gets: Vec<String> = (0..350).map(|n| format!("GET k{n}")).collect();
    for get in &gets {
        bench.ask(reader, &[get]);
    }
    assert_eq!((bench.engine.tracking.keys(), bench.engine.tracking.items()), (350, 350));
    bench.engine.config.tracking.tracking_table_max_keys = 10;
    bench.engine.apply_config();
    // A hundred with the first command after it, then two hundred, then what is left.
    for left in [250, 50, 10, 10] {
        bench.ask(writer, &["PING"]);
        assert_eq!(bench.engine.tracking.keys(), left);
    }
    assert_eq!(bench.received(reader).matches("invalidate").count(), 340);
    // The reader itself is told before the reply.
    assert!(bench.ask(reader, &["GET one-more"]).starts_with("_\r\n"));
    let told = bench.ask(reader, &["PING"]);
    assert!(told.starts_with(">2\r\n") && told.ends_with("+PONG\r\n"), "{told}");
    // Nobody asks for anything: the clock does it.
    bench.ask(reader, &["GET another"]);
    bench.advance(100);
    assert_eq!(bench.engine.tracking.keys(), 10);
}

#[test]
fn what_is_evicted_before_a_command_is_told_before_its_reply() {
    let (mut bench, reader, writer) = tracking("");
    bench.ask(writer, &["SET k 1"]);
    bench.ask(reader, &["GET k"]);
    bench.engine.config.keyspace.maxmemory_policy = EvictionPolicy::AllKeysRandom;
    bench.engine.config.keyspace.maxmemory.0 = 1;
    assert_eq!(bench.ask(reader, &["PING"]), format!("{}+PONG\r\n", invalid(&["k"])));
}

#[test]
fn whoever_tracks_in_another_space_is_not_told() {
    let (mut bench, reader, _) = tracking("");
    let other = bench.engine.keyspace.add_space();
    bench.ask(reader, &["GET k"]);
    bench.engine.unit.changes_all(other);
    bench.advance(100);
    assert_eq!(bench.received(reader), "");
    bench.engine.unit.changes_all(SpaceId::FIRST);
    bench.advance(100);
    assert_eq!(bench.received(reader), ALL_INVALID);
}

#[test]
fn who_is_told_by_another_is_told_that_it_has_gone() {
    let mut bench = Bench::new();
    let (reader, target, writer) = (bench.connect(), bench.connect(), bench.connect());
    bench.ask(target, &["HELLO 3"]);
    let id = bench.id(target);
    bench.ask(reader, &["HELLO 3", &format!("CLIENT TRACKING ON REDIRECT {id}"), "GET k"]);
    bench.ask(writer, &["SET k 1"]);
    assert_eq!((bench.received(target), bench.received(reader)), (invalid(&["k"]), String::new()));
    bench.ask(reader, &["GET k"]);
    bench.engine.kill(id);
    bench.ask(writer, &["SET k 2"]);
    assert_eq!(bench.received(reader), format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{id}\r\n"));
}
