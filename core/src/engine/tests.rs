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
