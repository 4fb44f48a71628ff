//! Primaries that send rubbish, stop in the middle, stall or become another one; replicas that do not read, do not answer
//! or lie. The log says what it was, the data stays as long as there is no other, and clients notice nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mortise_tests::differ::Chance;
use mortise_tests::following::{call, info, number, shown, text, until};
use mortise_tests::{Client, Reply, Server};

const NAME: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "fedcba98765432100123456789abcdeffedcba98";
const PATIENCE: Duration = Duration::from_secs(10);

/// A snapshot with one key, whose checksum is not to be checked.
fn snapshot(key: &str) -> Vec<u8> {
    let key = key.as_bytes();
    [b"REDIS0010\xfe\x00\x00", &[key.len() as u8][..], key, b"\x01v\xff\0\0\0\0\0\0\0\0"].concat()
}

/// All data, and nothing behind it.
fn full(name: &str, offset: u64, key: &str) -> Vec<u8> {
    let data = snapshot(key);
    [format!("+FULLRESYNC {name} {offset}\r\n${}\r\n", data.len()).as_bytes(), &data].concat()
}

/// Somebody who says what a test wants to be said. A primary that nobody knows, or a replica.
struct Peer(BufReader<TcpStream>);

impl Peer {
    fn new(stream: TcpStream) -> Peer {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Peer(BufReader::new(stream))
    }

    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        // The other end may have gone already: the log tells.
        let _ = self.0.get_mut().write_all(bytes.as_ref());
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let len = self.0.read_line(&mut line).ok()?;
        (len > 0).then(|| line.trim_end().to_owned())
    }

    /// The next request, in words.
    fn request(&mut self) -> Option<Vec<String>> {
        let mut line = self.line()?;
        while line.is_empty() {
            line = self.line()?;
        }
        let words: usize = line.strip_prefix('*')?.parse().ok()?;
        let mut request = Vec::new();
        for _ in 0..words {
            let len: usize = self.line()?.strip_prefix('$')?.parse().ok()?;
            let mut word = vec![0; len + 2];
            self.0.read_exact(&mut word).ok()?;
            request.push(String::from_utf8_lossy(&word[..len]).into_owned());
        }
        Some(request)
    }

    /// Agrees to everything until this is said, and returns it.
    fn greet(&mut self, until: &str) -> Vec<String> {
        loop {
            let request = self.request().expect("it talks");
            if request[0] == until {
                return request;
            }
            self.say(if request[0] == "PING" { "+PONG\r\n" } else { "+OK\r\n" });
        }
    }

    /// Waits until the other end has gone; false if it stays.
    fn is_left(&mut self) -> bool {
        let mut bytes = vec![0; 64 << 10];
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.0.read(&mut bytes) {
                Ok(0) => return true,
                // What a replica says all the time is no reason to wait for ever.
                Ok(_) if Instant::now() > deadline => return false,
                Ok(_) => {}
                Err(error) => {
                    return !matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    );
                }
            }
        }
    }
}

struct Primary(TcpListener);

impl Primary {
    fn new() -> Primary {
        Primary(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }

    fn port(&self) -> String {
        self.0.local_addr().unwrap().port().to_string()
    }

    /// The next attempt of a replica.
    fn meet(&self) -> Peer {
        self.0.set_nonblocking(true).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.0.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    return Peer::new(stream);
                }
                Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(5)),
                Err(error) => panic!("nobody comes: {error}"),
            }
        }
    }
}

/// A server with a key, which follows a primary of the test's.
fn replica(primary: &Primary, further: &[&str]) -> (Server, Client) {
    let server = Server::start(&[&["enable-debug-command yes"][..], further].concat());
    let mut client = server.connect();
    call(&mut client, &["SET", "of old", "v"]);
    call(&mut client, &["REPLICAOF", "127.0.0.1", &primary.port()]);
    (server, client)
}

fn until_logged(server: &Server, line: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !server.log().contains(line) {
        assert!(Instant::now() < deadline, "the log does not say {line:?}:\n{}", server.log());
        sleep(Duration::from_millis(10));
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// What a primary answers to which request before it hangs up, and what the log says of it.
fn wrong_answers() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    const LOST: &str = "I/O error trying to sync with MASTER: connection lost";
    let begun = format!("+FULLRESYNC {NAME} 42\r\n");
    let psync = |answer: &str| answer.as_bytes().to_vec();
    let data = |rest: &[u8]| [begun.as_bytes(), rest].concat();
    let endless = vec![b'x'; 5000];
    vec![
        ("PING", psync("-ERR no\r\n"), "Error reply to PING from master: '-ERR no'"),
        ("PING", psync("rubbish\r\n"), "Error reply to PING from master: 'rubbish'"),
        ("PING", psync(""), "Master did not respond to command during SYNC handshake"),
        ("PING", endless, "Bad protocol from MASTER: a line without an end"),
        ("PSYNC", psync(""), "Master did not reply to PSYNC, will try later"),
        ("PSYNC", psync("hello\r\n"), "Unexpected reply to PSYNC from master: hello"),
        (
            "PSYNC",
            psync("-ERR what\r\n"),
            "Master does not support PSYNC or is in error state (reply: -ERR what)",
        ),
        (
            "PSYNC",
            psync("-NOMASTERLINK x\r\n"),
            "Master is currently unable to PSYNC but should be in the future: -NOMASTERLINK x",
        ),
        ("PSYNC", psync("+FULLRESYNC nonsense\r\n"), "Master replied with wrong +FULLRESYNC syntax."),
        (
            "PSYNC",
            format!("+FULLRESYNC {NAME} 18446744073709551615\r\n$0\r\n").into_bytes(),
            "Master replied with wrong +FULLRESYNC syntax.",
        ),
        ("PSYNC", data(b""), "I/O error reading bulk count from MASTER: connection lost"),
        ("PSYNC", data(b"-ERR no data\r\n"), "MASTER aborted replication with an error: ERR no data"),
        (
            "PSYNC",
            data(b"hello\r\n"),
            "Bad protocol from MASTER, the first byte is not '$' (we received 'hello'), are you sure the host and port are \
             right?",
        ),
        ("PSYNC", data(b"$-5\r\n"), "(we received '$-5')"),
        ("PSYNC", data(b"$99999999999999999999\r\n"), "(we received '$99999999999999999999')"),
        ("PSYNC", data(b"$EOF:short\r\n"), "(we received '$EOF:short')"),
        ("PSYNC", data(b"$200\r\nREDIS0010"), LOST),
        ("PSYNC", data(b"$9223372036854775807\r\nREDIS0010"), LOST),
        ("PSYNC", data(format!("$EOF:{NAME}\r\nREDIS0010").as_bytes()), LOST),
    ]
}

#[test]
fn what_a_primary_says_wrong_is_logged_and_tried_again() {
    /// So many replicas hear it at the same time: each waits for a while before it tries again.
    const REPLICAS: usize = 4;
    let answers = wrong_answers();
    std::thread::scope(|scope| {
        for some in answers.chunks(answers.len().div_ceil(REPLICAS)) {
            scope.spawn(|| hear_wrong_answers(some));
        }
    });
}

fn hear_wrong_answers(answers: &[(&str, Vec<u8>, &str)]) {
    let primary = Primary::new();
    let (server, mut client) = replica(&primary, &[]);
    for (until_asked, answer, logged) in answers {
        let times = || server.log().matches(logged).count();
        let before = times();
        let mut peer = primary.meet();
        peer.greet(until_asked);
        peer.say(answer);
        drop(peer);
        until(logged, || times() > before);
        assert_eq!(text(&mut client, &["GET", "of old"]), "v", "{logged}");
        assert_eq!(info(&mut client, "master_link_status"), "down");
    }
    let left = std::fs::read_dir(server.dir()).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("temp-")).collect();
    assert!(left.is_empty(), "{left:?}");
    // And a primary that has learnt to talk is followed.
    let mut peer = primary.meet();
    peer.greet("PSYNC");
    peer.say(full(NAME, 42, "new"));
    until("the data is there", || text(&mut client, &["GET", "new"]) == "v");
    assert_eq!(call(&mut client, &["EXISTS", "of old"]), Reply::Integer(0));
    assert_eq!(info(&mut client, "master_repl_offset"), "42");
}

#[test]
fn data_that_is_broken_is_not_served() {
    let primary = Primary::new();
    let (server, mut client) = replica(&primary, &[]);
    let good = snapshot("half");
    let of_len = |data: &[u8]| {
        let head = format!("+FULLRESYNC {NAME} 42\r\n${}\r\n", data.len());
        [head.as_bytes(), data].concat()
    };
    let mut bad_sum = good.clone();
    *bad_sum.last_mut().unwrap() = 1;
    let broken = [
        (&b"not a snapshot at all"[..], "Wrong signature trying to load DB from file"),
        (&good[..good.len() - 3], "Short read or OOM loading DB. Unrecoverable error"),
        (&bad_sum[..], "Wrong RDB checksum"),
    ];
    for (data, logged) in broken {
        let mut peer = primary.meet();
        peer.greet("PSYNC");
        peer.say(of_len(data));
        until_logged(&server, logged);
        assert!(peer.is_left(), "{logged}");
        until("nothing is left of it", || text(&mut client, &["DBSIZE"]) == "0");
    }
    let mut peer = primary.meet();
    let asked = peer.greet("PSYNC");
    assert_eq!(asked, ["PSYNC", "?", "-1"], "half of the data is nothing to go on from");
    peer.say(full(NAME, 42, "new"));
    until("the data is there", || text(&mut client, &["GET", "new"]) == "v");
}

#[test]
fn a_primary_that_stalls_is_given_up() {
    let primary = Primary::new();
    let (server, mut client) = replica(&primary, &["repl-timeout 1"]);
    let stalls = [
        ("PING", Vec::new(), "Timeout connecting to the MASTER..."),
        (
            "PSYNC",
            format!("+FULLRESYNC {NAME} 42\r\n$200\r\nREDIS").into_bytes(),
            "Timeout receiving bulk data from MASTER...",
        ),
        ("PSYNC", full(NAME, 42, "new"), "MASTER timeout: no data nor PING received..."),
    ];
    for (until, said, logged) in stalls {
        let mut peer = primary.meet();
        peer.greet(until);
        peer.say(said);
        assert!(peer.is_left(), "{logged}");
        until_logged(&server, logged);
    }
    // What was taken over stays, and is gone on from.
    assert_eq!(text(&mut client, &["GET", "new"]), "v");
    assert_eq!(primary.meet().greet("PSYNC"), ["PSYNC", NAME, "43"]);
}

#[test]
fn a_primary_may_have_become_another_one() {
    let primary = Primary::new();
    let (_server, mut client) = replica(&primary, &[]);
    let mut peer = primary.meet();
    peer.greet("PSYNC");
    peer.say(full(NAME, 42, "new"));
    peer.say("*1\r\n$4\r\nPING\r\n");
    until("it is heard", || number(&mut client, "master_repl_offset") == 56);
    drop(peer);
    // The same stream under another name.
    let mut peer = primary.meet();
    assert_eq!(peer.greet("PSYNC"), ["PSYNC", NAME, "57"]);
    peer.say(format!("+CONTINUE {OTHER}\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n"));
    until("it goes on", || text(&mut client, &["GET", "k"]) == "1");
    let ids = ["master_replid", "master_replid2", "second_repl_offset"];
    assert_eq!(ids.map(|field| info(&mut client, field)), [OTHER, NAME, "57"]);
    assert_eq!(text(&mut client, &["GET", "new"]), "v");
    drop(peer);
    // Another stream: what was there is not its.
    let mut peer = primary.meet();
    assert_eq!(peer.greet("PSYNC"), ["PSYNC", OTHER, "84"]);
    peer.say(full(NAME, 7, "another"));
    until("it begins anew", || text(&mut client, &["GET", "another"]) == "v");
    assert_eq!(text(&mut client, &["DBSIZE"]), "1");
    assert_eq!(ids.map(|field| info(&mut client, field)), [NAME, &"0".repeat(40), "-1"]);
}

#[test]
fn a_stream_of_rubbish_is_not_gone_on_with() {
    let primary = Primary::new();
    let (server, mut client) = replica(&primary, &[]);
    let rubbish = [
        &b"*1\r\n$-7\r\n"[..],
        b"*3\r\n:1\r\n",
        b"*99999999999\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"\"a quote\r\n",
        &[b'x'; 200_000],
    ];
    for (number, bytes) in rubbish.into_iter().enumerate() {
        let mut peer = primary.meet();
        let asked = peer.greet("PSYNC");
        // The first time it may have been this primary's before.
        assert!(
            number == 0 || asked == ["PSYNC", "?", "-1"],
            "before {}: {asked:?}",
            bytes[..8].escape_ascii()
        );
        peer.say(full(NAME, 42, "new"));
        peer.say("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n");
        peer.say(bytes);
        assert!(peer.is_left(), "{}", bytes[..8].escape_ascii());
        until_logged(&server, "Protocol error from master: ");
        assert_eq!(text(&mut client, &["GET", "k"]), "1", "what came before is there");
    }
}

/// Attempts of a replica within some time, each of which ends at once.
fn attempts(primary: &Primary, time: Duration, mut end: impl FnMut(&mut Peer)) -> usize {
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < time {
        end(&mut primary.meet());
        count += 1;
    }
    count
}

#[test]
fn attempts_keep_a_distance() {
    const TIME: Duration = Duration::from_secs(3);
    let primary = Primary::new();
    let (_server, mut client) = replica(&primary, &[]);
    let count = attempts(&primary, TIME, |_| {});
    assert!((2..=5).contains(&count), "{count} attempts that end at once");
    let mut peer = primary.meet();
    peer.greet("PSYNC");
    peer.say(full(NAME, 42, "new"));
    until("it is up", || info(&mut client, "master_link_status") == "up");
    drop(peer);
    let count = attempts(&primary, TIME, |peer| {
        peer.greet("PSYNC");
        peer.say("+CONTINUE\r\n");
    });
    assert!((2..=40).contains(&count), "{count} attempts that go well and end at once");
}

#[test]
fn no_command_of_a_primary_is_the_end_of_a_replica() {
    const WORDS: [&str; 16] = [
        "",
        "0",
        "-1",
        "1",
        "k",
        "h:1",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551616",
        "*",
        "?",
        "NO",
        "ONE",
        "nan",
        "\0\r\n",
        "GET",
    ];
    /// Those that a primary may well order: to end, to wait or to follow somebody else. And what says what it does with the
    /// process itself.
    const UNSAID: [&str; 5] = ["shutdown", "debug", "replicaof", "slaveof", "failover"];
    let primary = Primary::new();
    let (server, mut client) = replica(&primary, &[]);
    let Reply::Array(names) = call(&mut client, &["COMMAND", "LIST"]) else { panic!("no list of commands") };
    let names: Vec<Vec<u8>> = names
        .into_iter()
        .filter_map(|name| match name {
            Reply::Bulk(name) if !UNSAID.contains(&&*String::from_utf8_lossy(&name)) => Some(name),
            _ => None,
        })
        .collect();
    assert!(names.len() > 200, "{} commands", names.len());
    let mut chance = Chance::new(3);
    let mut peer = primary.meet();
    peer.greet("PSYNC");
    peer.say(full(NAME, 42, "new"));
    for round in 0..12 {
        for name in &names {
            let mut request: Vec<&[u8]> = vec![name];
            (0..chance.below(6)).for_each(|_| request.push(chance.one_of(&WORDS).as_bytes()));
            peer.say(mortise_tests::client::request(&request));
        }
        // Whatever has become of the link: the server answers, and comes back to its primary.
        // While it loads it says so.
        until(&format!("it answers in round {round}"), || text(&mut server.connect(), &["PING"]) == "PONG");
        drop(peer);
        peer = primary.meet();
        peer.greet("PSYNC");
        peer.say(full(NAME, 42, "new"));
    }
    until("it follows", || info(&mut server.connect(), "master_link_status") == "up");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn a_primary_is_left_before_it_is_met_again() {
    let primary = Primary::new();
    let (_server, mut client) = replica(&primary, &[]);
    let mut before = primary.meet();
    before.greet("PSYNC");
    before.say(full(NAME, 42, "new"));
    until("it is up", || info(&mut client, "master_link_status") == "up");
    let port = primary.port();
    for order in [&["REPLICAOF", "localhost", &port][..], &["CLIENT", "KILL", "TYPE", "master"]] {
        call(&mut client, order);
        let mut peer = primary.meet();
        // It counts as two replicas for whoever asks in between: a Sentinel would never forget the other one.
        before.0.get_ref().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert!(before.is_left(), "after {order:?}");
        peer.greet("PSYNC");
        peer.say("+CONTINUE\r\n");
        until("it is up again", || info(&mut client, "master_link_status") == "up");
        before = peer;
    }
}

#[test]
fn nobody_hears_what_a_primary_is_answered() {
    let primary = Primary::new();
    let (server, mut client) = replica(&primary, &[]);
    let mut peer = primary.meet();
    peer.greet("PSYNC");
    peer.say(full(NAME, 42, "new"));
    until("the data is loaded", || info(&mut client, "master_link_status") == "up");
    for order in [
        "SUBSCRIBE a b",
        "PUBLISH a x",
        "UNSUBSCRIBE",
        "PSUBSCRIBE *",
        "PUNSUBSCRIBE",
        "HELLO 3",
        "SUBSCRIBE a",
    ] {
        peer.say(format!("{order}\r\n"));
        for _ in 0..20 {
            assert_eq!(text(&mut server.connect(), &["PING"]), "PONG", "after {order}");
        }
    }
}

/// Comes as a replica, and asks for all data.
fn guest(server: &Server) -> Peer {
    let mut peer = Peer::new(TcpStream::connect(server.address()).unwrap());
    peer.say("REPLCONF listening-port 1 capa eof capa psync2\r\n");
    assert_eq!(peer.line().as_deref(), Some("+OK"));
    peer.say("PSYNC ? -1\r\n");
    peer
}

/// Takes the data.
fn be_sated(peer: &mut Peer) -> u64 {
    let begun = peer.line().expect("it is sent the data");
    let offset = begun.rsplit(' ').next().and_then(|offset| offset.parse().ok());
    let mut head = peer.line().expect("it is sent the data");
    while head.is_empty() {
        head = peer.line().expect("it is sent the data");
    }
    let mark = head.strip_prefix("$EOF:").expect("it ends with a mark").as_bytes().to_vec();
    let mut data = Vec::new();
    while !data.ends_with(&mark) {
        let mut byte = [0];
        peer.0.read_exact(&mut byte).unwrap();
        data.push(byte[0]);
    }
    let offset = offset.expect("an offset");
    peer.say(format!("REPLCONF ACK {offset}\r\n"));
    offset
}

const PRIMARY: [&str; 4] = [
    "repl-diskless-sync-delay 0",
    "repl-backlog-size 16kb",
    "repl-ping-replica-period 1",
    // What is large stays so.
    "rdbcompression no",
];
const BIG: usize = 100_000;

/// Writes so much that a replica which does not read is too far behind; no write takes long.
fn write(server: &Server, count: usize) {
    let mut client = server.connect();
    let value = "v".repeat(BIG);
    for number in 0..count {
        let begun = Instant::now();
        assert_eq!(text(&mut client, &["SET", &format!("k{}", number % 10), &value]), "OK");
        assert!(begun.elapsed() < Duration::from_secs(2), "a write waits for a replica");
    }
}

const TOO_SLOW: &str = "scheduled to be closed ASAP for overcoming of output buffer limits.";

#[test]
fn a_replica_that_does_not_read_is_cut_off() {
    let cases = [
        ("client-output-buffer-limit replica 5mb 0 0", true, 400),
        ("client-output-buffer-limit replica 0 1mb 1", true, 400),
        // While it is still sent the data.
        ("client-output-buffer-limit replica 5mb 0 0", false, 400),
    ];
    for (limit, is_sated, writes) in cases {
        let server = Server::start(&[&PRIMARY[..], &[limit]].concat());
        let mut client = server.connect();
        write(&server, 10);
        if !is_sated {
            for number in 0..200 {
                call(&mut client, &["SET", &format!("large{number}"), &"x".repeat(BIG)]);
            }
        }
        let mut peer = guest(&server);
        if is_sated {
            be_sated(&mut peer);
            until("it is online", || {
                shown(&mut client, "slave0").is_some_and(|text| text.contains("state=online"))
            });
        } else {
            until("it is there", || number(&mut client, "connected_slaves") == 1);
        }
        let before = number(&mut client, "used_memory");
        write(&server, writes);
        until("it is cut off", || {
            call(&mut client, &["SET", "k", "v"]);
            number(&mut client, "connected_slaves") == 0
        });
        until_logged(&server, TOO_SLOW);
        let limit_max = before + 20 * BIG as u64;
        until(&format!("memory is given back: {limit}, {is_sated}, {before}"), || {
            number(&mut client, "used_memory") < limit_max
        });
    }
}

#[test]
fn a_replica_that_says_nothing_is_given_up() {
    let server = Server::start(&[&PRIMARY[..], &["repl-timeout 2"]].concat());
    let mut peer = guest(&server);
    be_sated(&mut peer);
    until_logged(&server, "Disconnecting timedout replica (streaming sync): 127.0.0.1:1");
    assert!(peer.is_left());
    // And one that takes nothing of the data.
    let mut client = server.connect();
    for number in 0..300 {
        call(&mut client, &["SET", &format!("large{number}"), &"x".repeat(BIG)]);
    }
    let mut peer = guest(&server);
    until_logged(&server, "Disconnecting timedout replica (full sync): 127.0.0.1:1");
    assert!(peer.is_left());
    until("it is gone", || number(&mut client, "connected_slaves") == 0);
    // The snapshot that was drawn for it is called off, and another one serves.
    let mut peer = guest(&server);
    be_sated(&mut peer);
    until("it is online", || shown(&mut client, "slave0").is_some_and(|text| text.contains("state=online")));
}

#[test]
fn a_replica_that_lies_harms_nobody() {
    let server = Server::start(&PRIMARY);
    let mut client = server.connect();
    for lie in [
        "REPLCONF ACK 9223372036854775807\r\n",
        "REPLCONF ACK -1\r\n",
        "REPLCONF ACK rubbish\r\n",
        "REPLCONF listening-port 99999999\r\n",
        "PSYNC ? 5\r\n",
        "SET k v\r\n",
        "MULTI\r\n",
        "SUBSCRIBE a\r\n",
        "REPLICAOF NO ONE\r\n",
        "*1\r\n$-7\r\n",
    ] {
        let mut peer = guest(&server);
        be_sated(&mut peer);
        peer.say(lie);
        call(&mut client, &["SET", "k", "1"]);
        assert_eq!(call(&mut client, &["INCR", "k"]), Reply::Integer(2), "{lie}");
    }
    let name = info(&mut client, "master_replid");
    for offset in ["0", "-1", "9223372036854775807", "-9223372036854775808"] {
        // The one before is gone, and the snapshot that was drawn for it.
        until("nobody follows", || {
            ["connected_slaves", "rdb_bgsave_in_progress"].iter().all(|field| number(&mut client, field) == 0)
        });
        let mut peer = Peer::new(TcpStream::connect(server.address()).unwrap());
        peer.say(format!("PSYNC {name} {offset}\r\n"));
        let mut answer = peer.line().expect("it is answered");
        while answer.is_empty() {
            // It hears that this server is still there.
            answer = peer.line().expect("it is answered");
        }
        assert!(answer.starts_with("+FULLRESYNC "), "{offset}: {answer}");
    }
    assert_eq!(text(&mut client, &["PING"]), "PONG");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
