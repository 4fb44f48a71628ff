//! What subscribers see while others publish from other threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mortise_tests::client::request;
use mortise_tests::suite::Target;
use mortise_tests::{Client, Reply};

/// The kind of a message or confirmation.
fn kind(client: &mut Client) -> String {
    let Reply::Array(parts) = client.receive().expect("a message") else { panic!("no message") };
    let Some(Reply::Bulk(kind)) = parts.first() else { panic!("no kind") };
    String::from_utf8_lossy(kind).into_owned()
}

#[test]
fn no_message_comes_after_the_channel_was_left() {
    let server = Target::from_env().start(&["io-threads 4"]).expect("the server starts");
    let Some(server) = server else { return };
    let connect = || Client::connect(server.address()).expect("the server accepts");
    let over = AtomicBool::new(false);
    let publish = || {
        let mut client = connect();
        let batch = request(&["PUBLISH", "news", "x"]).repeat(50);
        while !over.load(Ordering::Relaxed) {
            client.send_raw(&batch).unwrap();
            (0..50).for_each(|_| assert!(matches!(client.receive().unwrap(), Reply::Integer(_))));
        }
    };
    thread::scope(|scope| {
        (0..4).for_each(|_| drop(scope.spawn(publish)));
        let mut clients: Vec<_> = (0..4).map(|_| connect()).collect();
        let leaving = [request(&["UNSUBSCRIBE", "news"]), request(&["UNSUBSCRIBE", "nothing"])].concat();
        let late = (0..1000).filter(|round| {
            let client = &mut clients[round % 4];
            client.send(&["SUBSCRIBE", "news"]).unwrap();
            // Nothing that was published before it left comes in front of the next confirmation.
            let mut late = kind(client) != "subscribe";
            client.send_raw(&leaving).unwrap();
            while kind(client) != "unsubscribe" {}
            late |= kind(client) != "unsubscribe";
            late
        });
        let late = late.count();
        over.store(true, Ordering::Relaxed);
        assert_eq!(late, 0, "of 1000 times");
    });
}

/// What a message tells has happened when it was sent: whatever the receiver has done before that is answered before.
#[test]
fn no_message_comes_before_a_reply_that_is_older() {
    const PIPELINE: usize = 500;
    let server = Target::from_env().start(&["io-threads 4"]).expect("the server starts");
    let Some(server) = server else { return };
    let connect = || Client::connect(server.address()).expect("the server accepts");
    let over = AtomicBool::new(false);
    let publish = || {
        let mut client = connect();
        while !over.load(Ordering::Relaxed) {
            let Reply::Bulk(count) = client.call(&["GET", "n"]).unwrap() else { panic!("no count") };
            client.call(&[&b"PUBLISH"[..], b"news", &count]).unwrap();
        }
    };
    let mut client = connect();
    client.call(&["HELLO", "3"]).unwrap();
    client.call(&["SUBSCRIBE", "news"]).unwrap();
    client.call(&["SET", "n", "0"]).unwrap();
    thread::scope(|scope| {
        (0..3).for_each(|_| drop(scope.spawn(publish)));
        let batch = request(&["INCR", "n"]).repeat(PIPELINE);
        let (mut counted, mut early) = (0, 0);
        for round in 1..=200 {
            client.send_raw(&batch).unwrap();
            while counted < (round * PIPELINE) as i64 {
                match client.receive().unwrap() {
                    Reply::Integer(count) => counted = count,
                    Reply::Push(parts) => {
                        let Some(Reply::Bulk(text)) = parts.last() else { panic!("no message") };
                        let told: i64 = String::from_utf8_lossy(text).parse().unwrap();
                        early += usize::from(told > counted);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!(early, 0, "messages came too early");
    });
}

/// What is sent to many is written to some of them at a time; whoever publishes goes on meanwhile.
#[test]
fn each_of_many_gets_every_message_in_order() {
    const ROUNDS: usize = 20;
    const PIPELINE: usize = 50;
    let server = Target::from_env().start(&["io-threads 2"]).expect("the server starts");
    let Some(server) = server else { return };
    let connect = || Client::connect(server.address()).expect("the server accepts");
    let mut subscribers: Vec<_> = (0..100).map(|_| connect()).collect();
    for (index, subscriber) in subscribers.iter_mut().enumerate() {
        if index % 3 == 0 {
            subscriber.call(&["HELLO", "3"]).unwrap();
        }
        subscriber.call(&["SUBSCRIBE", "news"]).unwrap();
    }
    // Most messages are small, and some so large that they are shared instead of being copied.
    let message =
        |n: usize| format!("{n}:{}", "x".repeat(if n.is_multiple_of(10) { 20_000 } else { n % 64 }));
    thread::scope(|scope| {
        let readers: Vec<_> = subscribers
            .iter_mut()
            .map(|subscriber| {
                scope.spawn(move || {
                    for n in 0..ROUNDS * PIPELINE {
                        let (Reply::Array(parts) | Reply::Push(parts)) = subscriber.receive().unwrap() else {
                            panic!("no message")
                        };
                        assert_eq!(parts.last(), Some(&Reply::Bulk(message(n).into_bytes())), "{n}");
                    }
                })
            })
            .collect();
        let mut publisher = connect();
        for round in 0..ROUNDS {
            let numbers = round * PIPELINE..(round + 1) * PIPELINE;
            let batch: Vec<u8> = numbers.flat_map(|n| request(&["PUBLISH", "news", &message(n)])).collect();
            publisher.send_raw(&batch).unwrap();
            (0..PIPELINE).for_each(|_| assert_eq!(publisher.receive().unwrap(), Reply::Integer(100)));
        }
        readers.into_iter().for_each(|reader| reader.join().expect("every message came"));
    });
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_at_its_limit() {
    // The system takes some megabytes on its own account before anything waits in the server.
    const MESSAGES_MAX: usize = 5000;
    for (limit, is_soft) in [("pubsub 300kb 0 0", false), ("pubsub 0 300kb 1", true)] {
        let server = Target::from_env().start(&[]).expect("the server starts");
        let Some(server) = server else { return };
        let connect = || Client::connect(server.address()).expect("the server accepts");
        let (mut deaf, mut reader, mut publisher) = (connect(), connect(), connect());
        publisher.call(&["CONFIG", "SET", "client-output-buffer-limit", limit]).unwrap();
        deaf.call(&["SUBSCRIBE", "news"]).unwrap();
        reader.call(&["PSUBSCRIBE", "new*"]).unwrap();
        let text = "x".repeat(16_000);
        let mut tell = || {
            thread::sleep(Duration::from_millis(1));
            let reached = publisher.call(&["PUBLISH", "news", &text]).unwrap();
            assert_eq!(kind(&mut reader), "pmessage");
            reached
        };
        let start = Instant::now();
        let told = (0..MESSAGES_MAX).take_while(|_| tell() == Reply::Integer(2)).count();
        assert!((300_000 / 16_000..MESSAGES_MAX).contains(&told), "{limit}: after {told} messages");
        // The soft limit is one of time.
        assert!(!is_soft || start.elapsed() >= Duration::from_secs(1), "{limit}: too early");
        while deaf.receive().is_ok() {}
    }
}
