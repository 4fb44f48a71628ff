//! What replicas are told: the same as Redis tells them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use mortise_tests::following::{number, until};
use mortise_tests::reference::Reference;
use mortise_tests::server::Server;
use mortise_tests::{Client, Reply};

const DIRECTIVES: [&str; 3] = ["enable-debug-command yes", "repl-diskless-sync-delay 0", "save \"\""];

/// What is said, line by line, in database 9: `&` by a client that is not waited for, and `…` takes 50 ms.
const SAID: &[(&str, &[&str])] = &[
    ("a transaction", &["MULTI", "SET a 1", "GET a", "SET b 2", "EXEC"]),
    ("of one write", &["MULTI", "SET a 1", "GET a", "EXEC", "SET b 1"]),
    (
        "through several databases",
        &["MULTI", "SELECT 1", "SET a 1", "SELECT 2", "SET b 2", "SELECT 3", "SET c 3", "EXEC"],
    ),
    ("that does nothing", &["MULTI", "DEL nothing", "GET nothing", "EXEC", "INCR n"]),
    ("keys that SCAN finds expired", &["SET a 1 PX 1", "SET b 1 PX 1", "…", "SCAN 0"]),
    ("keys that RANDOMKEY finds expired", &["SET a 1 PX 1", "SET b 1 PX 1", "…", "RANDOMKEY"]),
    (
        "keys that a transaction finds expired",
        &["SET a 1 PX 1", "SET b 1 PX 1", "…", "MULTI", "SCAN 0", "EXEC"],
    ),
    ("keys that MGET finds expired", &["SET a 1 PX 1", "SET b 1 PX 1", "…", "MGET a b"]),
    (
        "SWAPDB, and a call that waits for a key that has expired",
        &["SELECT 1", "RPUSH k v", "PEXPIRE k 1", "…", "& SELECT 9", "& BRPOP k 0", "…", "SWAPDB 1 9"],
    ),
    (
        "EXEC, and a call that waits for a key that has expired",
        &["& SELECT 9", "& BRPOP k 0", "…", "MULTI", "RPUSH k v", "PEXPIRE k 1", "DEBUG SLEEP 0.05", "EXEC"],
    ),
    ("DEBUG REPLICATE", &["DEBUG REPLICATE some words", "SET a 1"]),
    ("what empties", &["SET a 1", "FLUSHDB", "FLUSHDB", "FLUSHALL", "FLUSHALL"]),
];

/// A server's stream as a replica reads it.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn of(server: &Server) -> Stream {
        let mut socket = TcpStream::connect(server.address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.write_all(b"SYNC\r\n").unwrap();
        let mut stream = Stream(BufReader::new(socket));
        let len = loop {
            // An empty line says that the data is still being made.
            if let Some(len) = stream.line().strip_prefix('$') {
                break len.parse().unwrap();
            }
        };
        std::io::copy(&mut stream.0.by_ref().take(len), &mut std::io::sink()).unwrap();
        stream
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next command, in small letters. What names a moment is left out.
    fn command(&mut self) -> String {
        const MOMENT_LEN: usize = 13;
        let count: usize = self.line()[1..].parse().unwrap();
        let words = (0..count).map(|_| {
            self.line();
            let word = self.line().to_lowercase();
            let is_moment = word.len() == MOMENT_LEN && word.bytes().all(|byte| byte.is_ascii_digit());
            if is_moment { "moment".to_owned() } else { word }
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// What a replica is told of what is said to a server.
fn told(server: &Server, said: &[&str]) -> Vec<String> {
    let (mut client, mut other) = (server.connect(), server.connect());
    let say = |client: &mut Client, line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        client.send(&words).unwrap();
    };
    for line in ["SELECT 9", "FLUSHALL", "DEBUG SET-ACTIVE-EXPIRE 0"] {
        say(&mut client, line);
        assert_eq!(client.receive().unwrap(), Reply::Simple(b"OK".to_vec()));
    }
    let mut stream = Stream::of(server);
    until("it follows", || number(&mut client, "connected_slaves") == 1);
    for line in said {
        match line.strip_prefix("& ") {
            _ if *line == "…" => sleep(Duration::from_millis(50)),
            Some(line) => say(&mut other, line),
            None => {
                say(&mut client, line);
                let reply = client.receive().unwrap();
                assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
            }
        }
    }
    for line in ["SELECT 9", "SET the-end 1"] {
        say(&mut client, line);
        client.receive().unwrap();
    }
    let mut told = Vec::new();
    while told.last().is_none_or(|command| command != "set the-end 1") {
        told.push(stream.command());
        // That comes with the time.
        told.pop_if(|command| *command == "ping");
    }
    drop((stream, other));
    until("it is gone", || number(&mut client, "connected_slaves") == 0);
    told
}

/// The names of keys that were found by chance do not count.
fn steady(told: Vec<String>) -> Vec<String> {
    told.into_iter().map(|command| if command == "del b" { "del a".to_owned() } else { command }).collect()
}

#[test]
fn replicas_are_told_what_redis_tells_them() {
    let Some(reference @ Reference::Binary(_)) = Reference::installed() else {
        println!("redis-server is not installed: left out");
        return;
    };
    let mortise = Server::start(&DIRECTIVES);
    let redis = reference.start(&DIRECTIVES).unwrap().expect("it was started");
    for (what, said) in SAID {
        let [ours, theirs] = [&mortise, &redis].map(|server| steady(told(server, said)));
        assert_eq!(ours, theirs, "{what}");
    }
}
