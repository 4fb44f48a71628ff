//! Servers that follow each other: Mortise and Mortise, redis-server and Mortise, either way. Random commands of all types
//! lead to the same data, also through connections that are cut again and again.

use mortise_tests::differ::{Generator, SETTINGS, commands};
use mortise_tests::following::{agree, call, follow, info, number, text, until};
use mortise_tests::reference::Reference;
use mortise_tests::server::Server;
use mortise_tests::{Client, Reply};

/// Commands in a sequence.
const LEN: usize = 400;
/// How many commands are on their way at once.
const PIPELINE: usize = 50;

const DIRECTIVES: [&str; 4] =
    ["enable-debug-command yes", "repl-diskless-sync-delay 0", "save \"\"", "repl-timeout 20"];

fn mortise(further: &[&str]) -> Server {
    Server::start(&[&DIRECTIVES[..], further].concat())
}

fn redis(further: &[&str]) -> Option<Server> {
    let Some(reference @ Reference::Binary(_)) = Reference::installed() else {
        println!("redis-server is not installed: left out");
        return None;
    };
    let directives = [&DIRECTIVES[1..], further].concat();
    Some(reference.start(&directives).unwrap().expect("it was started"))
}

/// Random commands to the primary, whose replica's connection is cut now and then.
fn live_through(primary: &Server, replica: &Server, seed: u64, cuts: u64) {
    let known = (commands(&mut primary.connect()).unwrap(), commands(&mut replica.connect()).unwrap());
    let mut generator = Generator::new(&known.0, &known.1, SETTINGS.to_vec(), Vec::new(), seed);
    let before = generator.sequence(LEN);
    let mut client = primary.connect();
    let say = |client: &mut Client, requests: &[Vec<Vec<u8>>]| {
        for some in requests.chunks(PIPELINE) {
            some.iter().for_each(|request| client.send(request).unwrap());
            for request in some {
                let reply = client.receive();
                assert!(reply.is_ok(), "{}: {reply:?}", request.join(&b' ').escape_ascii());
            }
        }
    };
    say(&mut client, &before);
    follow(replica, primary);
    let mut other = primary.connect();
    let full = number(&mut other, "sync_full");
    for cut in 0..cuts {
        let partial = number(&mut other, "sync_partial_ok");
        let requests = generator.sequence(LEN);
        let (first, second) = requests.split_at(requests.len() / 2);
        say(&mut client, first);
        call(&mut other, &["CLIENT", "KILL", "TYPE", "replica"]);
        say(&mut client, second);
        until(&format!("it goes on after cut {cut}"), || number(&mut other, "sync_partial_ok") > partial);
    }
    assert_eq!(number(&mut other, "sync_full"), full, "nothing is sent twice");
    agree(primary, replica);
}

#[test]
fn mortise_follows_mortise() {
    let (primary, replica) = (mortise(&[]), mortise(&[]));
    live_through(&primary, &replica, 1, 8);
    let mut client = replica.connect();
    assert!(text(&mut client, &["SET", "k", "v"]).starts_with("READONLY "));
    assert_eq!(info(&mut client, "role"), "slave");
}

#[test]
fn redis_follows_mortise() {
    let Some(replica) = redis(&[]) else { return };
    for (seed, how) in [(2, "repl-diskless-sync yes"), (3, "repl-diskless-sync no")] {
        live_through(&mortise(&[how]), &replica, seed, 4);
    }
}

#[test]
fn mortise_follows_redis() {
    let replica = mortise(&[]);
    for (seed, how) in [(4, "repl-diskless-sync yes"), (5, "repl-diskless-sync no")] {
        let Some(primary) = redis(&[how]) else { return };
        live_through(&primary, &replica, seed, 4);
    }
}

#[test]
fn a_replica_that_is_promoted_keeps_its_replicas() {
    let (primary, middle, last) = (mortise(&[]), mortise(&[]), mortise(&[]));
    follow(&middle, &primary);
    follow(&last, &middle);
    call(&mut primary.connect(), &["SET", "k", "1"]);
    agree(&primary, &last);
    call(&mut middle.connect(), &["REPLICAOF", "NO", "ONE"]);
    call(&mut middle.connect(), &["INCR", "k"]);
    agree(&middle, &last);
    // The old primary has nothing that the new one has not.
    follow(&primary, &middle);
    agree(&middle, &primary);
    let mut client = middle.connect();
    assert_eq!((number(&mut client, "sync_full"), text(&mut client, &["GET", "k"])), (1, "2".to_owned()));
}

#[test]
fn a_primary_that_starts_anew_goes_on_with_its_replicas() {
    let primary_directives = ["enable-debug-command yes", "repl-diskless-sync-delay 0", "save 3600 1"];
    let (mut primary, replica) = (Server::start(&primary_directives), mortise(&[]));
    follow(&replica, &primary);
    call(&mut primary.connect(), &["SET", "k", "1"]);
    agree(&primary, &replica);
    primary.stop();
    primary.restart();
    let mut client = primary.connect();
    until("the replica comes back", || number(&mut client, "connected_slaves") == 1);
    call(&mut client, &["INCR", "k"]);
    agree(&primary, &replica);
    assert_eq!((number(&mut client, "sync_full"), number(&mut client, "sync_partial_ok")), (0, 1));
}

#[test]
fn writes_wait_for_replicas() {
    let (primary, replica) = (mortise(&["min-replicas-to-write 1", "min-replicas-max-lag 5"]), mortise(&[]));
    let mut client = primary.connect();
    assert_eq!(text(&mut client, &["SET", "k", "1"]), "NOREPLICAS Not enough good replicas to write.");
    follow(&replica, &primary);
    until("the replica counts", || text(&mut client, &["SET", "k", "1"]) == "OK");
    assert_eq!(call(&mut client, &["WAIT", "1", "5000"]), Reply::Integer(1));
    assert_eq!(call(&mut client, &["WAIT", "2", "50"]), Reply::Integer(1));
    assert_eq!(text(&mut replica.connect(), &["GET", "k"]), "1");
}

#[test]
fn stale_data_is_not_shown_where_that_is_not_wanted() {
    let (mut primary, replica) = (mortise(&[]), mortise(&["replica-serve-stale-data no"]));
    follow(&replica, &primary);
    let mut client = replica.connect();
    assert_eq!(call(&mut client, &["GET", "k"]), Reply::NullBulk);
    primary.kill();
    until("the link is down", || info(&mut client, "master_link_status") == "down");
    assert!(text(&mut client, &["GET", "k"]).starts_with("MASTERDOWN "));
    assert_eq!(
        text(&mut client, &["PING"]),
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
    );
    call(&mut client, &["REPLICAOF", "NO", "ONE"]);
    assert_eq!(text(&mut client, &["SET", "k", "1"]), "OK");
}
