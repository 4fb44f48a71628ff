//! What a primary does about its replicas, seen from a connection that behaves as one: slowly, silently, or badly.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mortise_tests::client::request;
use mortise_tests::following::{call, number, shown, until};
use mortise_tests::server::Server;
use mortise_tests::{Client, Reply};

const PATIENCE: Duration = Duration::from_secs(30);
const DIRECTIVES: [&str; 3] = ["enable-debug-command yes", "repl-diskless-sync-delay 0", "save \"\""];

fn start(further: &[&str]) -> Server {
    Server::start(&[&DIRECTIVES[..], further].concat())
}

/// A connection that behaves as a replica.
struct Replica {
    stream: BufReader<TcpStream>,
}

impl Replica {
    /// Connects, and says what replicas say first.
    fn connect(server: &Server) -> Replica {
        let stream = TcpStream::connect(server.address()).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut replica = Replica { stream: BufReader::new(stream) };
        replica.say(&["REPLCONF", "capa", "eof", "capa", "psync2"]);
        assert_eq!(replica.line(), "+OK");
        replica
    }

    /// Connects, and takes all data.
    fn follow(server: &Server) -> Replica {
        let mut replica = Replica::connect(server);
        replica.say(&["PSYNC", "?", "-1"]);
        let answer = replica.line();
        assert!(answer.starts_with("+FULLRESYNC "), "{answer}");
        replica.take_data();
        replica
    }

    fn say(&mut self, words: &[&str]) {
        self.write(&request(words));
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the server reads");
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("the server says something");
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }

    /// Takes the data of a full synchronisation, in front of which newlines may stand, and says that it is there.
    fn take_data(&mut self) -> Vec<u8> {
        let mut head = self.line();
        while head.is_empty() {
            head = self.line();
        }
        let mut data = Vec::new();
        if let Some(mark) = head.strip_prefix("$EOF:") {
            while !data.ends_with(mark.as_bytes()) {
                let mut byte = [0];
                self.stream.read_exact(&mut byte).expect("the data goes on");
                data.push(byte[0]);
            }
            data.truncate(data.len() - mark.len());
        } else {
            let len = head.strip_prefix('$').and_then(|len| len.parse().ok());
            data.resize(len.unwrap_or_else(|| panic!("no length: {head}")), 0);
            self.stream.read_exact(&mut data).expect("the data goes on");
        }
        assert!(data.starts_with(b"REDIS"), "{}", data[..data.len().min(20)].escape_ascii());
        self.say(&["REPLCONF", "ACK", "0"]);
        data
    }

    /// What comes within a while; nothing once the server has closed the connection.
    fn hear(&mut self, patience: Duration) -> Option<Vec<u8>> {
        self.stream.get_ref().set_read_timeout(Some(patience)).unwrap();
        let heard = match self.stream.fill_buf() {
            Ok([]) => None,
            Ok(bytes) => Some(bytes.to_vec()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Some(Vec::new())
            }
            Err(_) => None,
        };
        self.stream.consume(heard.as_ref().map_or(0, Vec::len));
        self.stream.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        heard
    }
}

#[test]
fn what_is_kept_for_a_slow_replica_evicts_nothing() {
    const KEYS: usize = 5_000;
    let server = start(&["maxmemory-policy allkeys-lru", "client-output-buffer-limit replica 0 0 0"]);
    let mut client = server.connect();
    let mut overwrite = |byte: &str| {
        let value = byte.repeat(500);
        (0..KEYS).for_each(|key| client.send(&["SET", &key.to_string(), &value]).unwrap());
        (0..KEYS).for_each(|_| assert_eq!(client.receive().unwrap(), Reply::Simple(b"OK".to_vec())));
    };
    overwrite("x");
    let replica = Replica::follow(&server);
    let mut other = server.connect();
    let limit = (number(&mut other, "used_memory") + (8 << 20)).to_string();
    call(&mut other, &["CONFIG", "SET", "maxmemory", &limit]);
    (0..16).for_each(|_| overwrite("y"));
    assert_eq!(call(&mut other, &["DBSIZE"]), Reply::Integer(KEYS as i64));
    let kept = number(&mut other, "mem_not_counted_for_evict");
    assert!(kept > 16 << 20, "what is kept beyond repl-backlog-size is not counted: {kept}");
    drop(replica);
    until("nothing is kept for it any more", || {
        call(&mut other, &["SET", "k", "v"]);
        number(&mut other, "mem_not_counted_for_evict") < 1 << 20
    });
}

#[test]
fn a_replica_that_loads_is_heard() {
    let server = start(&["repl-timeout 2"]);
    let (mut client, mut loading, silent) =
        (server.connect(), Replica::follow(&server), Replica::follow(&server));
    assert_eq!(number(&mut client, "connected_slaves"), 2);
    for _ in 0..12 {
        loading.write(b"\n");
        sleep(Duration::from_millis(400));
    }
    assert_eq!(number(&mut client, "connected_slaves"), 1, "the silent one is given up");
    assert!(loading.hear(Duration::from_millis(100)).is_some(), "the other one is not");
    drop(silent);
}

#[test]
fn a_replica_is_heard_while_a_script_runs() {
    let server = start(&["busy-reply-threshold 100"]);
    let mut replica = Replica::follow(&server);
    let (mut client, mut other) = (server.connect(), server.connect());
    client.send(&["EVAL", "while true do end", "0"]).unwrap();
    until(
        "the script is slow",
        || matches!(call(&mut other, &["PING"]), Reply::Error(error) if error.starts_with(b"BUSY")),
    );
    (1..=2).for_each(|offset: u32| replica.say(&["REPLCONF", "ACK", &offset.to_string()]));
    // As one says it that has a journal.
    replica.say(&["REPLCONF", "ACK", "3", "FACK", "1"]);
    let heard = replica.hear(Duration::from_millis(300)).expect("it is still there");
    assert!(!heard.contains(&b'-'), "nothing is answered: {}", heard.escape_ascii());
    call(&mut other, &["SCRIPT", "KILL"]);
    client.receive().unwrap();
    until("what it has said is known", || {
        // It is when it says something again.
        replica.say(&["REPLCONF", "ACK", "2"]);
        shown(&mut other, "slave0").is_some_and(|line| line.contains("offset=3,"))
    });
}

#[test]
fn a_pause_is_not_for_replicas() {
    let server = start(&["repl-timeout 2"]);
    let (mut client, mut replica) = (server.connect(), Replica::follow(&server));
    call(&mut client, &["CLIENT", "PAUSE", "4000", "ALL"]);
    for offset in 1..=12 {
        replica.say(&["REPLCONF", "ACK", &offset.to_string()]);
        sleep(Duration::from_millis(300));
    }
    assert!(replica.hear(Duration::from_millis(100)).is_some(), "it is still there");
    until("what it has said is known", || {
        shown(&mut client, "slave0").is_some_and(|line| line.contains("offset=12,"))
    });
}

#[test]
fn who_waits_is_told_that_the_server_follows_another_one() {
    let server = start(&[]);
    let mut client = server.connect();
    let waiting: [&[&str]; 4] = [
        &["WAIT", "1", "0"],
        &["BLPOP", "k", "0"],
        &["XREAD", "BLOCK", "0", "STREAMS", "s", "$"],
        &["WAIT", "1", "20000"],
    ];
    let mut others: Vec<Client> = waiting.iter().map(|_| server.connect()).collect();
    others.iter_mut().zip(waiting).for_each(|(other, words)| other.send(words).unwrap());
    until("they wait", || shown(&mut client, "blocked_clients").as_deref() == Some("4"));
    call(&mut client, &["REPLICAOF", "127.0.0.1", "1"]);
    let told = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
    for (mut other, words) in others.into_iter().zip(waiting) {
        assert_eq!(other.receive().unwrap(), Reply::Error(told.into()), "{words:?}");
        assert!(other.receive().is_err(), "{words:?}: the connection ends");
    }
    call(&mut client, &["REPLICAOF", "NO", "ONE"]);
}

#[test]
fn a_replica_hears_of_data_that_comes_slowly() {
    let server = start(&["rdb-key-save-delay 200000"]);
    let mut client = server.connect();
    (0..40).for_each(|key| {
        assert_eq!(call(&mut client, &["SET", &key.to_string(), "v"]), Reply::Simple(b"OK".to_vec()))
    });
    let mut replica = Replica::connect(&server);
    replica.say(&["PSYNC", "?", "-1"]);
    assert!(replica.line().starts_with("+FULLRESYNC "));
    let start = Instant::now();
    assert!(replica.line().starts_with("$EOF:"));
    assert!(start.elapsed() < Duration::from_secs(3), "the head comes at once");
    for _ in 0..3 {
        let heard = replica.hear(Duration::from_millis(2500));
        assert!(heard.is_some_and(|bytes| !bytes.is_empty()), "and something each second");
    }
}
