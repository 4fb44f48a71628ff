//! What a primary does about its replicas, with the engine at hand.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::backlog::{Backlog, Feed};
use super::primary::Stage;
use super::sync::deliver;
use crate::engine::outbox::Outbox;
use crate::engine::testing::Bench;
use crate::persistence::disk::Opened;

#[test]
fn what_was_handed_over_goes_before_the_stream() {
    let outbox = Outbox::new();
    assert!(!outbox.is_fed() && outbox.feed().is_none());
    let feed = Arc::new(Feed::new(Arc::new(Mutex::new(Backlog::from(0))), 0));
    outbox.feed_from(feed.clone());
    assert!(outbox.is_fed() && outbox.feed().is_none(), "it has not begun");
    outbox.push(&Bytes::from_static(b"the end of the file"));
    feed.start();
    assert!(outbox.feed().is_none(), "something is to be fetched first");
    outbox.take(&mut Vec::new());
    assert!(outbox.feed().is_some());
}

#[test]
fn nothing_is_said_inside_of_a_file_and_nobody_joins_who_would_not_get_it() {
    let mut bench = Bench::new();
    bench.engine.config.replication.repl_diskless_sync = false;
    let (first, second) = (bench.connect(), bench.connect());
    assert!(bench.ask(first, &["PSYNC ? -1"]).starts_with("+FULLRESYNC "));
    bench.advance(1000);
    assert_eq!(bench.received(first), "\n", "it hears that the server is there");
    let file = || Opened { len: 3, data: Box::new(&b"abc"[..]) };
    assert_eq!(bench.engine.count_receivers(1), 1);
    let parcels = bench.engine.hand_out(1, &mut vec![file()]);
    assert_eq!(bench.ask(second, &["PSYNC ? -1"]), "", "it comes too late for this file");
    bench.advance(2000);
    deliver(parcels, |_, is_ok| is_ok);
    assert_eq!(bench.received(first), "$3\r\nabc");
    assert_eq!(bench.received(second), "\n\n");
    let stages: Vec<Stage> =
        bench.engine.replication.replicas.values().map(|replica| replica.stage).collect();
    assert_eq!(stages, [Stage::Sending(1), Stage::Waiting]);
}

#[test]
fn a_file_is_for_those_for_whom_it_was_opened() {
    let mut bench = Bench::new();
    bench.engine.config.replication.repl_diskless_sync = false;
    for client in 0..2 {
        bench.connect();
        assert!(bench.ask(client, &["PSYNC ? -1"]).starts_with("+FULLRESYNC "), "the second one joins");
    }
    let file = || Opened { len: 3, data: Box::new(&b"abc"[..]) };
    assert_eq!(bench.engine.hand_out(1, &mut vec![file()]).len(), 1);
    assert_eq!(bench.engine.count_receivers(1), 1, "one is still to be opened");
    assert_eq!(bench.engine.hand_out(1, &mut vec![file(), file()]).len(), 1);
    assert_eq!(bench.engine.count_receivers(1), 0);
}

#[test]
fn nothing_but_the_stream_is_said_to_a_replica() {
    let refused = "-ERR SYNC and PSYNC are invalid with pending output\r\n";
    for (before, answer, is_replica) in [
        (vec!["PING", "PSYNC ? -1"], format!("+PONG\r\n{refused}"), false),
        (vec!["MONITOR"], "+OK\r\n".to_owned(), false),
        (vec!["HELLO 3"], String::new(), true),
        (vec!["CLIENT TRACKING on"], "+OK\r\n".to_owned(), true),
        (vec!["SET k v"], "+OK\r\n".to_owned(), true),
    ] {
        let mut bench = Bench::new();
        let client = bench.connect();
        let said = bench.ask(client, &before);
        assert!(said.ends_with(&answer), "{before:?}: {said}");
        if before.len() == 1 {
            bench.ask(client, &["PSYNC ? -1"]);
        }
        let id = bench.id(client);
        assert_eq!(bench.engine.replication.replicas.contains_key(&id), is_replica, "{before:?}");
    }
}

#[test]
fn a_subscriber_that_becomes_a_replica_hears_no_messages() {
    let mut bench = Bench::new();
    let (replica, other) = (bench.connect(), bench.connect());
    bench.ask(replica, &["HELLO 3", "SUBSCRIBE a", "CLIENT TRACKING on BCAST"]);
    bench.ask(replica, &["PSYNC ? -1"]);
    assert_eq!(bench.ask(other, &["PUBLISH a message"]), ":0\r\n");
    bench.ask(other, &["SET k v"]);
    assert!(!bench.received(replica).contains("invalidate"));
}

#[test]
fn a_replica_that_causes_an_answer_is_disconnected_without_it() {
    for said in ["PING", "SUBSCRIBE a", "MULTI", "GET k", "NOSUCH"] {
        let mut bench = Bench::new();
        let replica = bench.connect();
        bench.ask(replica, &["PSYNC ? -1"]);
        assert_eq!(bench.ask(replica, &["REPLCONF ACK 0"]), "");
        assert!(!bench.is_closed(replica));
        assert_eq!(bench.ask(replica, &[said]), "", "{said}");
        assert!(bench.is_closed(replica), "{said}");
    }
}

#[test]
fn what_is_trimmed_just_now_cannot_be_gone_on_from() {
    let mut bench = Bench::new();
    bench.engine.config.replication.repl_backlog_size.0 = 16 << 10;
    let (first, second) = (bench.connect(), bench.connect());
    bench.ask(first, &["PSYNC ? -1"]);
    let id = bench.id(first);
    bench.engine.disconnect(id);
    let value = vec![b'x'; 12 << 10];
    (0..4).for_each(|_| {
        bench.engine.replication.tell(&[b"SET", b"k", &value]);
        bench.engine.pass_on();
    });
    let start = bench.engine.replication.backlog.as_ref().unwrap().lock().start();
    let name = bench.engine.replication.name;
    (0..4).for_each(|_| bench.engine.replication.tell(&[b"SET", b"k", &value]));
    let answer = bench.ask(second, &[&format!("PSYNC {name} {}", start + 1)]);
    assert!(!answer.contains("CONTINUE"), "{answer}");
    let end = bench.engine.replication.offset;
    let third = bench.connect();
    let answer = bench.ask(third, &[&format!("PSYNC {name} {}", end + 1)]);
    assert_eq!(answer, "+CONTINUE\r\n");
}

#[test]
fn what_was_kept_for_a_replica_is_not_counted_when_it_is_gone() {
    let mut bench = Bench::new();
    bench.engine.config.replication.repl_backlog_size.0 = 16 << 10;
    let replica = bench.connect();
    bench.ask(replica, &["PSYNC ? -1"]);
    let value = vec![b'x'; 200 << 10];
    bench.engine.replication.tell(&[b"SET", b"k", &value]);
    bench.engine.pass_on();
    let limit = 100 << 10;
    assert!(bench.engine.behind_memory() > limit);
    let id = bench.id(replica);
    bench.engine.disconnect(id);
    bench.engine.pass_on();
    assert!(bench.engine.behind_memory() < limit + bench.engine.replication.pending_memory());
    let (own, whole) = bench.engine.backlog_memory();
    assert!(whole < limit && own <= whole, "{own} {whole}");
}
