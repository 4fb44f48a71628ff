//! Requests that no script can write down: too long, too many, cut off, or garbage.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use mortise_tests::client::request;
use mortise_tests::suite::Target;
use mortise_tests::{Client, Reply, Server};

/// A server of one's own; `None` if the target cannot be given a configuration.
fn start(directives: &[&str]) -> Option<Server> {
    Target::from_env().start(directives).unwrap_or_else(|error| panic!("the server does not start: {error}"))
}

fn connect(address: SocketAddr) -> Client {
    Client::connect(address).expect("the server accepts")
}

/// Sends what is no request; returns the error, after which the connection must end.
fn refused(address: SocketAddr, bytes: &[u8]) -> String {
    let mut client = connect(address);
    // The server may end the connection before all of it is sent.
    let _ = client.send_raw(bytes);
    let Ok(Reply::Error(text)) = client.receive() else { panic!("no error for {}", excerpt(bytes)) };
    let end = client.receive().expect_err("the connection ends");
    assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof, "{}", excerpt(bytes));
    String::from_utf8_lossy(&text).into_owned()
}

fn excerpt(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(40)].escape_ascii().to_string()
}

fn assert_alive(address: SocketAddr) {
    assert_eq!(connect(address).call(&["PING"]).unwrap(), Reply::Simple(b"PONG".to_vec()));
}

#[test]
fn lines_without_an_end_are_refused() {
    let Some(server) = start(&[]) else { return };
    let long = |start: &str| [start.as_bytes(), &[b'1'; 70_000]].concat();
    for (bytes, error) in [
        (long("PING "), "ERR Protocol error: too big inline request"),
        (long("*"), "ERR Protocol error: too big mbulk count string"),
        (long("*1\r\n$"), "ERR Protocol error: too big bulk count string"),
    ] {
        assert_eq!(refused(server.address(), &bytes), error);
    }
    assert_alive(server.address());
}

#[test]
fn strangers_who_do_not_read_are_closed() {
    // Redis has this limit since 7.2.8.
    let server = Server::start(&["requirepass secret"]);
    let mut client = connect(server.address());
    let lines = "x\r\n".repeat(20_000);
    let closed = (0..2_000).any(|_| client.send_raw(lines.as_bytes()).is_err());
    assert!(closed, "120 MB were taken");
    let mut other = connect(server.address());
    assert_eq!(other.call(&["AUTH", "secret"]).unwrap(), Reply::Simple(b"OK".to_vec()));
}

#[test]
fn the_password_counts_for_what_is_sent_right_behind_it() {
    let Some(server) = start(&["requirepass secret"]) else { return };
    let mut client = connect(server.address());
    let long = "x".repeat(20_000);
    let words = ["MSET", "a", &long, "b", "1", "c", "1", "d", "1", "e", "1", "f", "1"];
    client
        .send_raw(&[request(&["AUTH", "secret"]), request(&words), request(&["STRLEN", "a"])].concat())
        .unwrap();
    assert_eq!(client.receive().unwrap(), Reply::Simple(b"OK".to_vec()));
    assert_eq!(client.receive().unwrap(), Reply::Simple(b"OK".to_vec()));
    assert_eq!(client.receive().unwrap(), Reply::Integer(20_000));
}

#[test]
fn strangers_may_say_little_before_the_password() {
    let Some(server) = start(&["requirepass secret"]) else { return };
    let address = server.address();
    for (bytes, error) in [
        (&b"*11\r\n"[..], "ERR Protocol error: unauthenticated multibulk length"),
        (b"*1\r\n$16385\r\n", "ERR Protocol error: unauthenticated bulk length"),
    ] {
        assert_eq!(refused(address, bytes), error);
    }
    let mut client = connect(address);
    assert!(matches!(client.call(&["GET", "k"]).unwrap(), Reply::Error(text) if text.starts_with(b"NOAUTH")));
    assert_eq!(client.call(&["AUTH", "secret"]).unwrap(), Reply::Simple(b"OK".to_vec()));
    let value = "x".repeat(100_000);
    assert_eq!(client.call(&["SET", "k", &value]).unwrap(), Reply::Simple(b"OK".to_vec()));
    assert_eq!(client.call(&["STRLEN", "k"]).unwrap(), Reply::Integer(100_000));
}

#[test]
fn requests_may_arrive_byte_by_byte() {
    let Some(server) = start(&[]) else { return };
    let mut client = connect(server.address());
    let request = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\nGET k\r\nPING \"a b\"\r\n";
    for byte in request {
        client.send_raw(&[*byte]).unwrap();
    }
    assert_eq!(client.receive().unwrap(), Reply::Simple(b"OK".to_vec()));
    assert_eq!(client.receive().unwrap(), Reply::Bulk(b"a\r\nb".to_vec()));
    assert_eq!(client.receive().unwrap(), Reply::Bulk(b"a b".to_vec()));
}

#[test]
fn a_long_pipeline_is_answered_in_order() {
    let Some(server) = start(&[]) else { return };
    let mut reader = TcpStream::connect(server.address()).unwrap();
    let mut writer = reader.try_clone().unwrap();
    let value = |number: usize| format!("{number}:{}", "x".repeat(number % 300));
    let count = 20_000;
    // Another thread writes: the server need not read on while nobody takes its replies.
    let sender = thread::spawn(move || {
        for number in 0..count {
            let value = value(number);
            write!(writer, "*2\r\n$4\r\nECHO\r\n${}\r\n{value}\r\n", value.len()).unwrap();
        }
    });
    let mut replies = BufReader::new(&mut reader);
    for number in 0..count {
        assert_eq!(Reply::read(&mut replies).unwrap(), Reply::Bulk(value(number).into_bytes()));
    }
    sender.join().unwrap();
}

#[test]
fn large_values_go_in_and_come_out() {
    let Some(server) = start(&[]) else { return };
    let mut client = connect(server.address());
    let value: Vec<u8> =
        (0..20_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_eq!(client.call(&[&b"SET"[..], b"k", &value]).unwrap(), Reply::Simple(b"OK".to_vec()));
    assert!(client.call(&["GET", "k"]).unwrap() == Reply::Bulk(value));
}

#[test]
fn garbage_harms_nobody_else() {
    let Some(server) = start(&[]) else { return };
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move || {
        // xorshift64: the same garbage in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let pieces: [&[u8]; 12] = [
        b"*",
        b"$",
        b"\r\n",
        b"1",
        b"-1",
        b"99999999999",
        b"GET",
        b" ",
        b"\"",
        b"\0",
        b"\xff",
        b"*2\r\n$3\r\nGET\r\n",
    ];
    for _ in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..random() % 20 {
            bytes.extend_from_slice(pieces[random() as usize % pieces.len()]);
        }
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        // Refused half way is fine.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
    }
    assert_alive(server.address());
}

#[test]
fn time_goes_on_within_a_pipeline() {
    let Some(server) = start(&["enable-debug-command yes"]) else { return };
    let mut client = connect(server.address());
    let requests = [
        request(&["SET", "k", "v", "PX", "50"]),
        request(&["DEBUG", "SLEEP", "0.1"]),
        request(&["GET", "k"]),
        request(&["SET", "k", "v", "PX", "1000"]),
        request(&["PTTL", "k"]),
    ];
    client.send_raw(&requests.concat()).unwrap();
    (0..2).for_each(|_| assert_eq!(client.receive().unwrap(), Reply::Simple(b"OK".to_vec())));
    assert_eq!(client.receive().unwrap(), Reply::NullBulk);
    assert_eq!(client.receive().unwrap(), Reply::Simple(b"OK".to_vec()));
    let Reply::Integer(left_ms) = client.receive().unwrap() else { panic!("no integer") };
    assert!((950..=1000).contains(&left_ms), "{left_ms}");
}

#[test]
fn requests_of_another_protocol_are_logged_but_not_each() {
    let Some(server) = start(&[]) else { return };
    for _ in 0..3 {
        let mut client = connect(server.address());
        client.send_raw(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n").expect("the server reads");
        client.receive().expect_err("the connection ends without an answer");
    }
    assert_eq!(server.log().matches("Possible SECURITY ATTACK detected.").count(), 1);
}

#[test]
fn replies_to_a_long_pipeline_count_together() {
    let server = Target::from_env().start(&["client-output-buffer-limit normal 100000 0 0"]);
    let Some(server) = server.expect("the server starts") else { return };
    let mut client = Client::connect(server.address()).unwrap();
    client.call(&["SET", "k", &"x".repeat(10_000)]).unwrap();
    for (times, expected) in [(9, 9), (60, 0)] {
        let batch = [request(&["PING"]), request(&["GET", "k"]), request(&["PING"])].concat().repeat(times);
        client.send_raw(&batch).unwrap();
        let answered = (0..3 * times).take_while(|_| client.receive().is_ok()).count();
        assert_eq!(answered, 3 * expected, "{times} times");
    }
}

#[test]
fn long_values_are_taken_over_with_the_requests_around_them() {
    let Some(server) = start(&["appendonly yes"]) else { return };
    let long = |byte: u8, len: usize| -> Vec<u8> { (0..len).map(|n| byte ^ (n / 1000) as u8).collect() };
    let (one, two) = (long(1, 5 << 20), long(2, 3 << 20));
    let range = |from: usize, to: usize| one[from..=to].to_vec();
    // Requests as they are sent one behind the other, and the answers.
    let requests: Vec<(Vec<Vec<u8>>, Reply)> = vec![
        (vec![b"SET".into(), b"one".into(), one.clone()], Reply::Simple(b"OK".into())),
        (
            vec![b"MSET".into(), b"a".into(), two.clone(), b"b".into(), one.clone()],
            Reply::Simple(b"OK".into()),
        ),
        (vec![b"GET".into(), b"one".into()], Reply::Bulk(one.clone())),
        (vec![b"SETRANGE".into(), b"one".into(), b"2000000".into(), b"!".into()], Reply::Integer(5 << 20)),
        (
            vec![b"GETRANGE".into(), b"b".into(), b"1999990".into(), b"2000010".into()],
            Reply::Bulk(range(1_999_990, 2_000_010)),
        ),
        (vec![b"GET".into(), b"a".into()], Reply::Bulk(two.clone())),
        (
            vec![b"SET".into(), b"c".into(), two.clone(), b"EX".into(), b"1000".into()],
            Reply::Simple(b"OK".into()),
        ),
        (vec![b"APPEND".into(), b"c".into(), b"!".into()], Reply::Integer((3 << 20) + 1)),
        (vec![b"STRLEN".into(), b"c".into()], Reply::Integer((3 << 20) + 1)),
        (vec![b"SET".into(), b"a".into(), b"short".into()], Reply::Simple(b"OK".into())),
    ];
    let stream = TcpStream::connect(server.address()).expect("the server accepts");
    let bytes: Vec<u8> = requests.iter().flat_map(|(words, _)| request(words)).collect();
    // Sent from elsewhere, as neither side takes all that the other has to say.
    let mut writing = stream.try_clone().expect("the socket is there");
    let sender = thread::spawn(move || writing.write_all(&bytes));
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    let mut reading = BufReader::new(stream);
    for (words, expected) in &requests {
        let name = words[0].escape_ascii().to_string();
        let reply = Reply::read(&mut reading).expect("a reply comes");
        assert!(reply == *expected, "{name} {}", words[1].escape_ascii());
    }
    sender.join().expect("it ends").expect("all is sent");
    let mut changed = one.clone();
    changed[2_000_000] = b'!';
    let mut server = server;
    for restarted in [false, true] {
        if restarted {
            server.restart();
        }
        let mut client = connect(server.address());
        let call = |client: &mut Client, key: &str| client.call(&["GET", key]).unwrap();
        assert!(call(&mut client, "one") == Reply::Bulk(changed.clone()), "restarted: {restarted}");
        assert!(call(&mut client, "b") == Reply::Bulk(one.clone()), "restarted: {restarted}");
        assert_eq!(call(&mut client, "a"), Reply::Bulk(b"short".into()));
    }
}
