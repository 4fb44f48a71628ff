//! Calls that are suspended half way: others are answered meanwhile, and the call goes on or is ended.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mortise_core::engine::call::{Call, Run};
use mortise_core::keyspace::SpaceId;
use mortise_core::server::{Server, Settings};
use mortise_core::types::hash::value::Hash;
use mortise_sdk::Result;
use mortise_sdk::declare::flags::{SUSPENDS, WRITE};
use mortise_sdk::declare::{RW, Spec, UPDATE, key};

/// Takes its time, and gives way as a script does.
fn dawdle(call: &mut Call<'_>) -> Result {
    let ms = call.integer(1)?;
    let end = Instant::now() + Duration::from_millis(ms as u64);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_micros(200));
        call.give_way();
    }
    call.ok()
}

/// Wants nobody told, is in another database, and does not come to its end, as a script may.
fn choosy(call: &mut Call<'_>) -> Result {
    call.session.home = Some(call.session.db);
    call.engine.select(call.session, 3);
    call.engine.unit.targets = mortise_core::engine::unit::Targets { journal: false, replicas: false };
    loop {
        std::thread::sleep(Duration::from_micros(200));
        call.give_way();
    }
}

/// Changes something, and does not come to its end.
fn stumble(call: &mut Call<'_>) -> Result {
    let mut hash = call.create::<Hash>(call.key(1))?;
    hash.set(b"field", b"value");
    panic!("the test wants it so");
}

fn server(threads: usize, threshold_ms: u64) -> Server {
    let text = format!("bind 127.0.0.1\nio-threads {threads}\nbusy-reply-threshold {threshold_ms}\n");
    let settings = Settings::parse(&text).expect("the settings are right").on_any_port();
    let server = Server::start(settings).expect("it starts");
    let spec = Spec {
        usage: "DAWDLE milliseconds:int",
        about: "Takes its time.",
        flags: &[WRITE, SUSPENDS],
        ..Spec::group("generic")
    };
    let stumbles = Spec {
        usage: "STUMBLE key",
        about: "Panics.",
        flags: &[WRITE],
        keys: const { &[key("key", &[RW, UPDATE])] },
        ..Spec::group("generic")
    };
    let choosy_row = Spec { usage: "CHOOSY", ..spec };
    let suspended = Spec { usage: "STUMBLE.SUSPENDED key", flags: &[WRITE, SUSPENDS], ..stumbles };
    server.shared().with_engine(move |engine| {
        let mut registry = (*engine.registry).clone();
        let rows = [
            (choosy_row, Run::Core(choosy)),
            (spec, Run::Core(dawdle)),
            (stumbles, Run::Core(stumble)),
            (suspended, Run::Core(stumble)),
        ];
        registry.install(rows.into_iter(), None).expect("the names are free");
        engine.set_registry(registry);
    });
    server
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn new(server: &Server) -> Client {
        let stream = TcpStream::connect(server.address().expect("it listens")).expect("it accepts");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a valid time");
        let mut client = Client(BufReader::new(stream));
        // The first batch of a thread may be looked up in commands as they were before the test's was added.
        assert_eq!(client.ask("PING"), "+PONG");
        client
    }

    /// A client whose first request is answered with what begins so, within a second.
    fn greeted_by(server: &Server, line: &str, expected: &str) -> Client {
        let stream = TcpStream::connect(server.address().expect("it listens")).expect("it accepts");
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a valid time");
        let mut client = Client(BufReader::new(stream));
        let reply = client.ask(line);
        assert!(reply.starts_with(expected), "{reply}");
        client
    }

    fn id(&mut self) -> u64 {
        self.ask("CLIENT ID")[1..].parse().expect("a number")
    }

    fn send(&mut self, lines: &str) {
        self.0.get_mut().write_all(format!("{lines}\r\n").as_bytes()).expect("the server reads");
    }

    fn receive(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the server answers in time");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.receive()
    }

    /// Asks until the server is free again, and returns how often it was busy.
    fn ask_until_free(&mut self, line: &str) -> (usize, String) {
        let mut busy = 0;
        loop {
            let reply = self.ask(line);
            if !reply.starts_with("-BUSY") {
                return (busy, reply);
            }
            busy += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn others_are_answered_while_a_call_is_suspended() {
    // On the same thread and on another one.
    for threads in [1, 2] {
        let server = server(threads, 30);
        let (mut slow, mut one, mut other) =
            (Client::new(&server), Client::new(&server), Client::new(&server));
        assert_eq!(one.ask("SET key value"), "+OK");
        slow.send("SET before 1\r\nDAWDLE 400\r\nSET after 2");
        assert_eq!(slow.receive(), "+OK");
        let start = Instant::now();
        for client in [&mut one, &mut other] {
            assert!(client.ask("STRLEN key").starts_with("-BUSY"), "with {threads} threads");
            assert!(start.elapsed() < Duration::from_millis(350), "it did not wait for the end");
        }
        // What needs only the session is obeyed; names and arity are checked as always.
        assert_eq!(one.ask("MULTI"), "+OK");
        assert!(one.ask("NOSUCH").starts_with("-ERR unknown command"));
        assert_eq!(one.ask("DISCARD extra"), "-ERR wrong number of arguments for 'discard' command");
        assert_eq!(slow.receive(), "+OK");
        assert_eq!(slow.receive(), "+OK", "the rest of the pipeline follows");
        assert_eq!(one.ask("EXEC"), "-EXECABORT Transaction discarded because of previous errors.");
        assert_eq!(other.ask_until_free("STRLEN after").1, ":1");
    }
}

#[test]
fn what_a_script_has_chosen_is_forgotten_when_it_is_unwound() {
    use mortise_core::engine::unit::Targets;
    let server = server(1, 20);
    let (mut slow, mut other) = (Client::new(&server), Client::new(&server));
    slow.send("CHOOSY");
    std::thread::sleep(Duration::from_millis(60));
    assert!(other.ask("PING").starts_with("-BUSY"));
    assert!(server.shared().running.end(), "there is something to end");
    assert!(slow.receive().starts_with("-ERR"));
    let (answer, told) = std::sync::mpsc::channel();
    server.shared().with_engine(move |engine| answer.send(engine.unit.targets).expect("it is waited for"));
    assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(Targets::default()));
    // Nor is its client left in the database that it had chosen.
    assert_eq!(other.ask("SET first 1"), "+OK");
    assert_eq!(slow.ask("EXISTS first"), ":1");
}

#[test]
fn a_transaction_that_cannot_run_is_given_up() {
    let server = server(1, 20);
    let (mut slow, mut other) = (Client::new(&server), Client::new(&server));
    for line in ["WATCH n", "MULTI", "INCR n"] {
        assert!(other.ask(line).starts_with('+'));
    }
    slow.send("DAWDLE 300");
    std::thread::sleep(Duration::from_millis(60));
    let reply = other.ask("EXEC");
    assert!(reply.starts_with("-EXECABORT Transaction discarded because of: BUSY "), "{reply}");
    assert_eq!(slow.receive(), "+OK");
    assert_eq!(other.ask_until_free("INCR n").1, ":1", "it is in no transaction any more");
}

#[test]
fn below_the_threshold_others_wait() {
    let server = server(1, 5_000);
    let (mut slow, mut other) = (Client::new(&server), Client::new(&server));
    slow.send("DAWDLE 60");
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(other.ask("INCR n"), ":1");
    assert_eq!(slow.receive(), "+OK");
}

#[test]
fn a_call_is_ended_half_way() {
    let server = server(1, 20);
    let (mut slow, mut other) = (Client::new(&server), Client::new(&server));
    for round in 1..=3 {
        slow.send("DAWDLE 1000000\r\nINCR rounds");
        std::thread::sleep(Duration::from_millis(40));
        assert!(other.ask("INCR n").starts_with("-BUSY"));
        assert!(server.shared().running.end(), "there is something to end");
        assert!(slow.receive().starts_with("-ERR"));
        assert_eq!(slow.receive(), format!(":{round}"), "its connection goes on");
        assert_eq!(other.ask_until_free("INCR n").1, format!(":{round}"));
    }
    assert!(!server.shared().running.end(), "there is nothing to end");
}

#[test]
fn a_transaction_is_suspended_as_a_whole() {
    let server = server(1, 20);
    let (mut slow, mut other) = (Client::new(&server), Client::new(&server));
    slow.send("MULTI\r\nSET a 1\r\nDAWDLE 200\r\nSET b 2\r\nEXEC");
    for expected in ["+OK", "+QUEUED", "+QUEUED", "+QUEUED"] {
        assert_eq!(slow.receive(), expected);
    }
    std::thread::sleep(Duration::from_millis(30));
    let (busy, reply) = other.ask_until_free("EXISTS a b");
    assert!(busy > 0 && reply == ":2", "all of it or nothing: busy {busy} times, then {reply}");
    for expected in ["*3", "+OK", "+OK", "+OK"] {
        assert_eq!(slow.receive(), expected);
    }
}

#[test]
fn a_client_that_leaves_does_not_take_the_run_along() {
    let server = server(1, 20);
    let mut other = Client::new(&server);
    {
        let mut slow = Client::new(&server);
        slow.send("DAWDLE 150\r\nSET left behind");
        std::thread::sleep(Duration::from_millis(40));
    }
    assert!(other.ask("INCR n").starts_with("-BUSY"));
    assert_eq!(other.ask_until_free("INCR n").1, ":1");
    // The connection is noticed to be gone, and counts no longer.
    let start = Instant::now();
    while connected(&server) > 1 {
        assert!(start.elapsed() < Duration::from_secs(5), "the client that left is still counted");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn connected(server: &Server) -> usize {
    server.shared().acquire().map_or(usize::MAX, |engine| engine.clients.connected())
}

#[test]
fn connections_are_taken_while_a_call_is_suspended() {
    let server = server(1, 30);
    let mut slow = Client::new(&server);
    slow.send("DAWDLE 300");
    std::thread::sleep(Duration::from_millis(5));
    let mut late = Client::greeted_by(&server, "GET key", "-BUSY");
    assert_eq!(late.ask("CLIENT SETNAME x").split(' ').next(), Some("-BUSY"));
    late.send("HELLO 3 SETNAME late");
    // The map that HELLO answers with ends with the modules.
    while late.receive() != "*0" {}
    Client::greeted_by(&server, "PING", "-BUSY");
    assert_eq!(slow.receive(), "+OK");
    assert!(late.ask_until_free("PING").1 == "+PONG");
    assert_eq!(late.ask("CLIENT GETNAME"), "$4");
    assert_eq!(late.receive(), "late");
    let ids = (slow.id(), late.id());
    assert!(ids.0 < ids.1, "numbers rise: {ids:?}");
    let start = Instant::now();
    while connected(&server) != 2 {
        assert!(start.elapsed() < Duration::from_secs(5), "{} clients are counted", connected(&server));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_was_obeyed_while_a_call_was_suspended_holds_afterwards() {
    let server = server(1, 20);
    let (mut slow, mut one, mut other) = (Client::new(&server), Client::new(&server), Client::new(&server));
    for line in ["SUBSCRIBE news", "*3", "$9", "subscribe", "$4", "news", ":1"].iter().enumerate() {
        match line {
            (0, request) => one.send(request),
            (_, reply) => assert_eq!(one.receive(), **reply),
        }
    }
    slow.send("DAWDLE 200");
    std::thread::sleep(Duration::from_millis(40));
    assert!(other.ask("GET watched").starts_with("-BUSY"));
    assert_eq!(one.ask("RESET"), "+RESET");
    assert_eq!(other.ask("AUTH secret").split(' ').nth(1), Some("AUTH"), "no password is configured");
    assert_eq!(other.ask("WATCH watched"), "+OK");
    assert_eq!(other.ask("MULTI"), "+OK");
    assert_eq!(other.ask("WATCH more"), "-ERR WATCH inside MULTI is not allowed");
    assert_eq!(slow.receive(), "+OK");
    // RESET has ended the subscription, and WATCH is in force.
    assert_eq!(one.ask_until_free("PUBLISH news none").1, ":0");
    assert_eq!(one.ask("SET watched 1"), "+OK");
    assert_eq!(other.ask_until_free("EXEC").1, "*-1");
    // All of it is counted as calls.
    one.send("INFO commandstats");
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|line: &String| line.is_empty() && seen.len() > 2) {
        seen.push(one.receive());
    }
    let line = |name: &str| seen.iter().find(|line| line.starts_with(name)).cloned().unwrap_or_default();
    assert!(line("cmdstat_reset:").contains("calls=1,"), "{seen:?}");
    assert!(line("cmdstat_watch:").contains("calls=2,"), "{seen:?}");
    assert!(line("cmdstat_watch:").contains("failed_calls=1"), "{seen:?}");
    assert!(line("cmdstat_get:").contains("rejected_calls=1"), "{seen:?}");
}

#[test]
fn a_password_is_asked_for_while_a_call_is_suspended() {
    let server = server(1, 20);
    let mut slow = Client::new(&server);
    assert_eq!(slow.ask("CONFIG SET requirepass secret"), "+OK");
    slow.send("DAWDLE 200");
    std::thread::sleep(Duration::from_millis(40));
    let mut late = Client::greeted_by(&server, "GET key", "-NOAUTH");
    assert!(late.ask("AUTH wrong").starts_with("-WRONGPASS"));
    assert!(late.ask("HELLO 2 AUTH default wrong").starts_with("-WRONGPASS"));
    assert_eq!(late.ask("AUTH default secret"), "+OK");
    assert!(late.ask("GET key").starts_with("-BUSY"));
    assert_eq!(late.ask("QUIT"), "+OK");
    assert_eq!(slow.receive(), "+OK");
    let mut wrong = Client::greeted_by(&server, "GET key", "-NOAUTH");
    assert_eq!(wrong.ask("AUTH secret"), "+OK");
    assert_eq!(wrong.ask("GET key"), "$-1");
}

#[test]
fn users_may_do_what_they_may_while_a_call_is_suspended() {
    let server = server(1, 20);
    let (mut slow, mut bob) = (Client::new(&server), Client::new(&server));
    for line in [
        "ACL SETUSER bob on nopass ~b* +get +acl|log",
        "CONFIG SET acl-password-hash argon2id",
        "ACL SETUSER ann on >secret ~* +@all",
    ] {
        assert_eq!(slow.ask(line), "+OK");
    }
    assert_eq!(bob.ask("AUTH bob any"), "+OK");
    slow.send("DAWDLE 1500");
    std::thread::sleep(Duration::from_millis(40));
    assert!(bob.ask("GET b").starts_with("-BUSY"));
    assert!(bob.ask("GET a").starts_with("-NOPERM this user has no permissions to access one of the keys"));
    assert!(
        bob.ask("WATCH b").starts_with("-NOPERM this user has no permissions to run the 'watch' command")
    );
    // A password that takes long is verified meanwhile, by a worker; what was sent behind it waits for that.
    let mut ann = Client::greeted_by(&server, "PING", "-BUSY");
    ann.0.get_ref().set_read_timeout(Some(Duration::from_secs(10))).expect("a valid time");
    ann.send("WATCH a\r\nAUTH ann wrong\r\nAUTH ann secret\r\nMULTI\r\nDISCARD\r\nGET a");
    assert_eq!(ann.receive(), "+OK");
    assert!(ann.receive().starts_with("-WRONGPASS"));
    assert_eq!([(); 3].map(|()| ann.receive()), ["+OK", "+OK", "+OK"]);
    assert!(ann.receive().starts_with("-BUSY"), "the call is still suspended");
    assert!(bob.ask("HELLO 2 AUTH ann wrong").starts_with("-WRONGPASS"));
    assert_eq!(slow.receive(), "+OK");
    assert_eq!(ann.ask_until_free("ACL WHOAMI").1, "$3");
    assert_eq!(ann.receive(), "ann");
    // What was refused meanwhile is noted.
    assert_eq!(bob.ask_until_free("GET b").1, "$-1");
    let mut noted = Vec::new();
    slow.send("ACL LOG\r\nPING");
    while noted.last().is_none_or(|line| line != "+PONG") {
        noted.push(slow.receive());
    }
    let objects: Vec<&String> = noted
        .iter()
        .zip(&noted[2..])
        .filter(|(name, _)| *name == "object")
        .map(|(_, object)| object)
        .collect();
    assert_eq!(objects.len(), 4, "{noted:?}");
    for object in ["a", "watch", "AUTH", "HELLO"] {
        assert!(objects.iter().any(|noted| *noted == object), "{object}: {objects:?}");
    }
}

#[test]
fn what_a_client_watched_is_forgotten_if_it_leaves_while_its_password_is_verified() {
    let server = server(1, 1000);
    let mut other = Client::new(&server);
    assert_eq!(other.ask("CONFIG SET acl-password-hash argon2id"), "+OK");
    assert_eq!(other.ask("ACL SETUSER ann on >secret"), "+OK");
    for _ in 0..4 {
        Client::new(&server).send("WATCH key\r\nAUTH ann secret");
    }
    let watched = || {
        let mut engine = server.shared().acquire().expect("no run holds it");
        let (db, _) = engine.keyspace.db(SpaceId::FIRST, 0);
        db.interest.of(b"key").is_some()
    };
    let start = Instant::now();
    while connected(&server) > 1 || watched() {
        assert!(start.elapsed() < Duration::from_secs(10), "somebody who is gone watches a key");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn there_is_no_more_room_for_those_who_come_while_a_call_is_suspended() {
    let server = server(1, 20);
    let mut slow = Client::new(&server);
    assert_eq!(slow.ask("CONFIG SET maxclients 2"), "+OK");
    slow.send("DAWDLE 150");
    std::thread::sleep(Duration::from_millis(30));
    let mut first = Client::greeted_by(&server, "GET key", "-BUSY");
    let mut second = Client::greeted_by(&server, "GET key", "-BUSY");
    assert_eq!(slow.receive(), "+OK");
    let mut last = String::new();
    for client in [&mut first, &mut second] {
        last = format!("{last} {}", client.ask_until_free("PING").1);
    }
    assert!(last.contains("+PONG") && last.contains("-ERR max number of clients reached"), "{last}");
}

#[test]
fn a_panic_costs_a_connection_and_not_the_server() {
    let server = server(1, 20);
    for (round, request) in ["STUMBLE key", "STUMBLE.SUSPENDED key"].into_iter().enumerate() {
        let (mut one, mut other) = (Client::new(&server), Client::new(&server));
        one.send(request);
        let mut line = String::new();
        let read = one.0.read_line(&mut line);
        assert!(matches!(read, Ok(0) | Err(_)), "{line}");
        assert_eq!(other.ask(&format!("SET n{round} 1")), "+OK");
        assert_eq!(other.ask("HLEN key"), ":1", "what was done by then stays");
        assert_eq!(other.ask("DEL key"), ":1");
        drop((one, other));
    }
    let start = Instant::now();
    while connected(&server) > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "a client that is gone is still counted");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Each line is one client, which says it over and over; all of them must be answered every time.
fn hammer(server: &Server, lines: &[&str], times: usize) {
    std::thread::scope(|scope| {
        for line in lines {
            scope.spawn(move || {
                let mut client = Client::new(server);
                for time in 0..times {
                    let reply = client.ask(line);
                    assert!(!reply.starts_with('-'), "{line}, time {time}: {reply}");
                }
            });
        }
    });
}

#[test]
fn everybody_is_answered_while_short_runs_take_turns() {
    let server = server(2, 5000);
    hammer(&server, &["DAWDLE 0", "INCR n", "DAWDLE 0", "INCR n"], 2000);
}

#[test]
fn everybody_is_answered_while_suspended_runs_take_turns() {
    let server = server(2, 5000);
    hammer(&server, &["DAWDLE 1", "INCR n", "DAWDLE 1", "INCR n"], 300);
}
