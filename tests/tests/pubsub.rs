//! What subscribers see while others publish from other threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

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
