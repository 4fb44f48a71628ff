//! What a waiting call may count on, and what becomes of a client that is gone.

use super::testing::Bench;
use crate::keyspace::SpaceId;

#[test]
fn a_call_may_wait_for_the_end_of_a_key() {
    let mut bench = Bench::new();
    let (one, two) = (bench.connect(), bench.connect());
    for end in ["DEL k", "RENAME k other", "FLUSHALL", "SWAPDB 0 5", "PEXPIRE k -1"] {
        bench.ask(two, &["FLUSHALL", "SET k v"]);
        assert_eq!(bench.ask(one, &["AWAIT.END k 0"]), "", "{end}");
        bench.ask(two, &["APPEND k w"]);
        assert_eq!(bench.received(one), "", "{end}: it is still there");
        bench.ask(two, &[end]);
        assert_eq!(bench.received(one), "$1\r\nk\r\n", "{end}");
    }
    bench.ask(two, &["SET k v PX 250"]);
    assert_eq!(bench.ask(one, &["AWAIT.END k 0"]), "");
    bench.advance(200);
    assert_eq!(bench.received(one), "");
    bench.advance(300);
    assert_eq!(bench.received(one), "$1\r\nk\r\n", "it has expired");
}

#[test]
fn who_waits_for_a_key_is_not_tried_when_it_is_gone() {
    let mut bench = Bench::new();
    let (one, two, other) = (bench.connect(), bench.connect(), bench.connect());
    assert_eq!(bench.ask(one, &["AWAIT k 0"]), "");
    bench.ask(other, &["SET gone v"]);
    assert_eq!(bench.ask(two, &["AWAIT.END gone 0"]), "");
    bench.ask(other, &["MULTI", "SET k v", "DEL k", "DEL gone", "EXEC"]);
    assert_eq!(bench.received(one), "");
    assert_eq!(bench.received(two), "$4\r\ngone\r\n");
    bench.ask(other, &["SET k v"]);
    assert_eq!(bench.received(one), "$1\r\nk\r\n");
}

#[test]
fn a_call_may_name_a_time_at_which_it_is_tried_again() {
    let mut bench = Bench::new();
    let client = bench.connect();
    let time_ms = bench.engine.now_ms + 1000;
    assert_eq!(bench.ask(client, &[&format!("AWAIT.TIME k {time_ms} 0")]), "");
    bench.advance(900);
    assert_eq!(bench.received(client), "");
    assert!(bench.engine.next_due_ms().is_some_and(|due| due <= time_ms));
    bench.advance(100);
    assert_eq!(bench.received(client), "$1\r\nk\r\n");
    assert_eq!(bench.engine.next_due_ms(), None);
    assert_eq!(bench.ask(client, &[&format!("AWAIT.TIME k {} 0.5", time_ms + 9000)]), "");
    bench.advance(600);
    assert_eq!(bench.received(client), "*-1\r\n", "its time is over before");
    assert_eq!(bench.engine.next_due_ms(), None);
}

#[test]
fn who_is_gone_watches_nothing_though_its_session_is_still_on_the_way() {
    let mut bench = Bench::new();
    let (one, two) = (bench.connect(), bench.connect());
    bench.ask(one, &["WATCH w"]);
    assert_eq!(bench.ask(one, &["AWAIT k 0"]), "");
    let id = bench.id(one);
    // The session lies in the outbox when its client is killed.
    bench.ask(two, &["SET k v", &format!("CLIENT KILL ID {id}")]);
    let (db, _) = bench.engine.keyspace.db(SpaceId::FIRST, 0);
    assert!(db.interest.is_empty());
}

#[test]
fn time_is_known_below_the_millisecond() {
    let mut bench = Bench::new();
    let client = bench.connect();
    let begin_ms = bench.engine.now_ms;
    let begin_ns = begin_ms * 1_000_000;
    bench.ask(client, &["PING"]);
    assert_eq!(bench.engine.now_ns(), begin_ns);
    for (us, passed_us) in [(1, 1), (998, 999), (1, 1000), (234, 1234), (5_000_000, 5_001_234)] {
        bench.advance_us(us);
        bench.ask(client, &["PING", "PING"]);
        assert_eq!(bench.engine.now_ns(), begin_ns + passed_us * 1000, "after {us} more");
        assert_eq!(bench.engine.now_ms, begin_ms + passed_us / 1000);
    }
}

#[test]
fn a_batch_ends_early_when_its_requests_take_long() {
    let mut bench = Bench::new();
    let client = bench.connect();
    let pings = ["PING"; 20];
    assert_eq!(bench.ask(client, &pings).matches("+PONG").count(), 20);
    bench.slow_down(300);
    let executed = bench.ask(client, &pings).matches("+PONG").count();
    assert!((2..6).contains(&executed), "{executed} requests of 300 us each in a millisecond");
    bench.slow_down(5000);
    assert_eq!(bench.ask(client, &pings), "+PONG\r\n", "one is executed in any case");
}

#[test]
fn messages_to_oneself_leave_no_room_behind() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.ask(client, &["HELLO 3", "SUBSCRIBE news"]);
    bench.ask(client, &[&format!("PUBLISH news {}", "x".repeat(1 << 20))]);
    assert!(bench.engine.pushes.capacity() <= 1 << 16);
}

#[test]
fn a_large_part_of_a_value_is_freed_elsewhere() {
    let large = "x".repeat(8 << 20);
    // What there is, and the command that takes the large part away.
    let cases = [
        (vec!["RPUSH k a {large}"], "RPOP k"),
        (vec!["RPUSH k {large} a"], "LPOP k"),
        (vec!["RPUSH k a {large}"], "LSET k 1 b"),
        (vec!["HSET k a 1 b {large}"], "HDEL k b"),
        (vec!["HSET k a 1 b {large}", "HEXPIRE k 1000 FIELDS 1 a"], "HDEL k b"),
        (vec!["SADD k {large} a"], "SREM k {large}"),
        (vec!["ZADD k 1 a 2 {large}"], "ZPOPMAX k"),
        (vec!["ZADD k 1 a 2 {large}"], "ZREM k {large}"),
        (vec!["XADD k 1-1 f a", "XADD k 1-2 f {large}"], "XDEL k 1-2"),
        (vec!["SET k {large}"], "GETDEL k"),
    ];
    for (before, command) in cases {
        let mut bench = Bench::new();
        let client = bench.connect();
        let fill = |line: &str| line.replace("{large}", &large);
        for line in before {
            bench.ask(client, &[&fill(line)]);
        }
        bench.engine.jobs.clear();
        bench.ask(client, &[&fill(command)]);
        assert_eq!(bench.engine.jobs.len(), 1, "{command}");
        assert!(bench.engine.memory.leaving.bytes() >= 8 << 20, "{command}");
        bench.engine.jobs.clear();
        assert_eq!(bench.engine.memory.leaving.bytes(), 0, "{command}");
    }
}
