//! What servers that follow each other keep, hand over and promise: journals, failovers, how data is taken over.

use mortise_tests::Reply;
use mortise_tests::following::{agree, call, follow, info, number, text, until};
use mortise_tests::server::Server;
use mortise_tests::tls::{self, Certificates};

const DIRECTIVES: [&str; 4] =
    ["enable-debug-command yes", "repl-diskless-sync-delay 0", "save \"\"", "repl-timeout 20"];

fn start(further: &[&str]) -> Server {
    Server::start(&[&DIRECTIVES[..], further].concat())
}

fn digest(server: &Server) -> String {
    text(&mut server.connect(), &["DEBUG", "DIGEST"])
}

/// Has the journal of a server been begun anew, so that it holds everything?
fn until_journal_is_whole(server: &Server) {
    let mut client = server.connect();
    until("the journal is begun anew", || {
        let fields = ["aof_enabled", "aof_rewrite_in_progress", "aof_rewrite_scheduled"];
        fields.map(|field| number(&mut client, field)) == [1, 0, 0]
    });
}

/// Writes of all kinds: alone, in transactions, in several databases, with deadlines.
fn write(server: &Server, round: u32) {
    let mut client = server.connect();
    let round = round.to_string();
    for words in [
        &["SET", "alone", &round][..],
        &["RPUSH", "list", "a", &round],
        &["MULTI"],
        &["HSET", "hash", &round, "x"],
        &["SELECT", "3"],
        &["SET", "there", &round],
        &["EXEC"],
        &["SET", "late", &round, "EX", "5000"],
        &["SELECT", "0"],
        &["SPOP", "set"],
        &["SADD", "set", "a", "b", &round],
    ] {
        assert!(call(&mut client, words) != Reply::NullBulk || words[0] == "SPOP", "{words:?}");
    }
}

#[test]
fn a_replica_keeps_a_journal() {
    let (primary, mut replica) = (start(&[]), start(&["appendonly yes", "appendfsync always"]));
    call(&mut replica.connect(), &["SET", "of old", "x"]);
    write(&primary, 1);
    follow(&replica, &primary);
    write(&primary, 2);
    agree(&primary, &replica);
    until_journal_is_whole(&replica);
    write(&primary, 3);
    agree(&primary, &replica);
    replica.kill();
    // It starts as nobody's replica, with what its journal holds.
    replica.restart();
    assert_eq!(digest(&replica), digest(&primary));
    assert_eq!(text(&mut replica.connect(), &["EXISTS", "of old"]), "0");
}

#[test]
fn a_replica_that_starts_with_a_journal_follows() {
    let primary = start(&["appendonly yes"]);
    let replicaof = format!("replicaof 127.0.0.1 {}", primary.address().port());
    let mut replica = start(&["appendonly yes", &replicaof]);
    for round in 0..2 {
        write(&primary, round);
        agree(&primary, &replica);
        until_journal_is_whole(&replica);
        replica.kill();
        write(&primary, round + 10);
        replica.restart();
    }
    agree(&primary, &replica);
    // One that is promoted goes on with its journal.
    call(&mut replica.connect(), &["REPLICAOF", "NO", "ONE"]);
    until_journal_is_whole(&replica);
    write(&replica, 100);
    let before = digest(&replica);
    call(&mut replica.connect(), &["CONFIG", "REWRITE"]);
    replica.restart_as_it_is();
    assert_eq!(digest(&replica), before);
}

#[test]
fn until_a_journal_is_begun_anew_the_old_one_is_there() {
    let primary = start(&[]);
    let mut replica = start(&["appendonly yes", "appendfsync always", "rdb-key-save-delay 2000"]);
    call(&mut replica.connect(), &["SET", "of old", "x"]);
    let old = digest(&replica);
    call(&mut primary.connect(), &["DEBUG", "POPULATE", "5000"]);
    follow(&replica, &primary);
    write(&primary, 1);
    agree(&primary, &replica);
    assert_eq!(number(&mut replica.connect(), "aof_rewrite_in_progress"), 1, "it takes ten seconds");
    replica.kill();
    replica.restart();
    assert_eq!(digest(&replica), old);
    // A transaction that promotes it holds writes of its own: they are in the journal once.
    let mut client = replica.connect();
    call(&mut client, &["CONFIG", "SET", "rdb-key-save-delay", "0"]);
    follow(&replica, &primary);
    until_journal_is_whole(&replica);
    call(&mut client, &["CONFIG", "SET", "replica-read-only", "no"]);
    for words in [
        &["MULTI"][..],
        &["RPUSH", "once", "a"],
        &["REPLICAOF", "NO", "ONE"],
        &["EXEC"],
        &["RPUSH", "once", "b"],
    ] {
        call(&mut client, words);
    }
    assert_eq!(text(&mut client, &["LLEN", "once"]), "2");
    let now = digest(&replica);
    replica.kill();
    replica.restart();
    assert_eq!((digest(&replica), info(&mut replica.connect(), "role")), (now, "master".to_owned()));
}

#[test]
fn a_replica_takes_over() {
    let (first, second, third) = (start(&[]), start(&[]), start(&[]));
    follow(&second, &first);
    follow(&third, &first);
    write(&first, 1);
    let port = |server: &Server| server.address().port().to_string();
    let mut client = first.connect();
    assert_eq!(info(&mut client, "master_failover_state"), "no-failover");
    assert_eq!(text(&mut client, &["FAILOVER", "TO", "127.0.0.1", &port(&second), "TIMEOUT", "20000"]), "OK");
    until("the roles are exchanged", || info(&mut client, "master_failover_state") == "no-failover");
    assert!(text(&mut client, &["SET", "k", "1"]).starts_with("READONLY "));
    assert_eq!(info(&mut second.connect(), "role"), "master");
    follow(&third, &second);
    write(&second, 2);
    agree(&second, &first);
    agree(&second, &third);
    assert_eq!(number(&mut second.connect(), "sync_full"), 0);
    // Whichever has everything first.
    let mut client = second.connect();
    assert_eq!(text(&mut client, &["FAILOVER"]), "OK");
    until("the roles are exchanged", || info(&mut client, "master_failover_state") == "no-failover");
    assert_eq!(info(&mut client, "role"), "slave");
}

#[test]
fn writes_wait_for_the_end_of_a_failover() {
    let (first, second) = (start(&[]), start(&[]));
    follow(&second, &first);
    agree(&first, &second);
    let mut client = first.connect();
    // A replica that does not say how far it is.
    let mut silent = second.connect();
    call(&mut silent, &["CONFIG", "SET", "busy-reply-threshold", "60000"]);
    silent.send(&["DEBUG", "SLEEP", "3"]).unwrap();
    // It must not answer before it sleeps.
    std::thread::sleep(std::time::Duration::from_millis(300));
    call(&mut client, &["SET", "k", "1"]);
    let port = second.address().port().to_string();
    let to =
        |further: &'static [&'static str]| [&["FAILOVER", "TO", "127.0.0.1", &*port][..], further].concat();
    assert_eq!(text(&mut client, &to(&["TIMEOUT", "60000"])), "OK");
    assert_eq!(info(&mut client, "master_failover_state"), "waiting-for-sync");
    assert!(text(&mut client, &["FAILOVER"]).contains("already in progress"));
    assert!(text(&mut client, &["REPLICAOF", "127.0.0.1", &port]).contains("not allowed while failing over"));
    let mut writer = first.connect();
    writer.send(&["SET", "k", "2"]).unwrap();
    assert_eq!(text(&mut client, &["GET", "k"]), "1", "it waits");
    assert_eq!(text(&mut client, &["FAILOVER", "ABORT"]), "OK");
    assert_eq!(writer.receive().unwrap(), Reply::Simple(b"OK".to_vec()));
    assert_eq!(text(&mut client, &to(&["TIMEOUT", "100"])), "OK");
    until("it gives up", || info(&mut client, "master_failover_state") == "no-failover");
    assert_eq!(info(&mut client, "role"), "master");
    silent.receive().unwrap();
    // What waits when the roles are exchanged is refused.
    silent.send(&["DEBUG", "SLEEP", "1"]).unwrap();
    call(&mut client, &["SET", "k", "3"]);
    assert_eq!(text(&mut client, &to(&[])), "OK");
    writer.send(&["SET", "k", "4"]).unwrap();
    assert!(matches!(writer.receive().unwrap(), Reply::Error(error) if error.starts_with(b"READONLY ")));
    assert_eq!(text(&mut second.connect(), &["GET", "k"]), "3");
}

#[test]
fn a_replica_that_refuses_stays_one() {
    let (first, second) = (start(&[]), start(&[]));
    follow(&second, &first);
    call(&mut second.connect(), &["ACL", "SETUSER", "default", "-psync"]);
    let mut client = first.connect();
    assert_eq!(text(&mut client, &["FAILOVER"]), "OK");
    until("it gives up", || info(&mut client, "master_failover_state") == "no-failover");
    assert!(first.log().contains("Failover target rejected psync request"));
    write(&first, 1);
    agree(&first, &second);
    assert_eq!(number(&mut client, "sync_full"), 1);
    for request in
        [&["PSYNC", "x", "1", "FAILOVER"][..], &["FAILOVER", "FORCE"], &["FAILOVER", "TO", "h", "1"]]
    {
        assert!(text(&mut first.connect(), request).starts_with("ERR "), "{request:?}");
    }
    call(&mut second.connect(), &["ACL", "SETUSER", "default", "+psync"]);
    for request in [&["FAILOVER"][..], &["PSYNC", "x", "1", "FAILOVER"]] {
        assert!(text(&mut second.connect(), request).starts_with("ERR "), "{request:?}");
    }
}

#[test]
fn data_is_taken_over_as_it_comes() {
    for (how, diskless) in [
        ("on-empty-db", "yes"),
        ("on-empty-db", "no"),
        ("swapdb", "yes"),
        ("swapdb", "no"),
        ("disabled", "yes"),
    ] {
        let primary = start(&[&*format!("repl-diskless-sync {diskless}")]);
        let replica = start(&[&*format!("repl-diskless-load {how}"), "appendonly yes"]);
        write(&primary, 1);
        call(&mut primary.connect(), &["DEBUG", "POPULATE", "20000", "key", "100"]);
        follow(&replica, &primary);
        agree(&primary, &replica);
        let place = if how == "disabled" { "to disk" } else { "to parser" };
        assert!(replica.log().contains(place), "{how}");
        // Once more, over what is there.
        call(&mut replica.connect(), &["REPLICAOF", "NO", "ONE"]);
        write(&replica, 2);
        follow(&replica, &primary);
        write(&primary, 3);
        agree(&primary, &replica);
        assert_eq!(number(&mut primary.connect(), "sync_full"), 2, "{how}");
    }
}

#[test]
fn old_data_is_served_while_new_data_is_loaded() {
    let primary = start(&["repl-backlog-size 1", "rdb-key-save-delay 500"]);
    let mut replica = start(&["repl-diskless-load swapdb", "appendonly yes"]);
    write(&primary, 1);
    follow(&replica, &primary);
    agree(&primary, &replica);
    let (old, mut client, mut other) = (digest(&replica), replica.connect(), primary.connect());
    // So much is written while the link is down that it cannot go on.
    call(&mut other, &["CONFIG", "SET", "rdb-key-save-delay", "500"]);
    let lose = |other: &mut mortise_tests::Client| {
        for words in [
            &["MULTI"][..],
            &["CLIENT", "KILL", "TYPE", "replica"],
            &["SET", "large", &"x".repeat(100_000)],
            &["EXEC"],
        ] {
            call(other, words);
        }
        call(other, &["DEBUG", "POPULATE", "4000"]);
    };
    lose(&mut other);
    until("new data is loaded", || number(&mut client, "async_loading") == 1);
    assert_eq!(number(&mut client, "loading"), 0);
    assert_eq!(text(&mut client, &["GET", "alone"]), "1");
    assert_eq!(text(&mut client, &["DEBUG", "DIGEST"]), old);
    assert!(text(&mut client, &["REPLICAOF", "NO", "ONE"]).starts_with("LOADING "));
    assert!(text(&mut client, &["SET", "k", "v"]).starts_with("READONLY "));
    // It does not come to its end: what is there stays.
    call(&mut other, &["CLIENT", "KILL", "TYPE", "replica"]);
    until("the load has failed", || replica.log().contains("Discarding temporary DB"));
    assert_eq!(text(&mut client, &["DEBUG", "DIGEST"]), old);
    call(&mut other, &["CONFIG", "SET", "rdb-key-save-delay", "0"]);
    agree(&primary, &replica);
    assert_ne!(digest(&replica), old);
    until_journal_is_whole(&replica);
    let new = digest(&replica);
    replica.kill();
    replica.restart();
    assert_eq!(digest(&replica), new);
}

#[test]
fn a_primary_is_followed_over_tls() {
    let certificates = Certificates::create();
    let path = |name: &str| certificates.path(name).display().to_string();
    let start_secure = |port: u16, further: &[&str]| {
        let directives = certificates.directives(port, "yes");
        let directives: Vec<&str> = directives.iter().map(String::as_str).collect();
        start(&[&directives[..], further].concat())
    };
    let ports = [(); 2].map(|()| tls::free_port());
    let primary = start_secure(ports[0], &["user repl on >secret +psync +replconf +ping"]);
    let expired =
        [format!("tls-cert-file {}", path("expired.crt")), format!("tls-key-file {}", path("expired.key"))];
    let untrusted = start_secure(ports[1], &[&*expired[0], &expired[1]]);
    let replica = start_secure(0, &["tls-replication yes", "masteruser repl", "masterauth secret"]);
    write(&primary, 1);
    let mut client = replica.connect();
    let mut follow_port = |port: u16| {
        call(&mut client, &["REPLICAOF", "127.0.0.1", &port.to_string()]);
        replica.connect()
    };
    let mut client = follow_port(ports[0]);
    until("the link comes up", || info(&mut client, "master_link_status") == "up");
    write(&primary, 2);
    agree(&primary, &replica);
    // A primary that nobody has certified is not followed.
    follow_port(ports[1]);
    until("it is refused", || {
        replica.log().contains("Error condition on socket for SYNC: invalid peer certificate")
    });
    assert_eq!(info(&mut client, "master_link_status"), "down");
    assert_eq!(number(&mut untrusted.connect(), "connected_slaves"), 0);
    // Nor does it take a replica that nobody has.
    let keys = ["tls-client-cert-file", &path("stranger.crt"), "tls-client-key-file", &path("stranger.key")];
    assert_eq!(text(&mut client, &[&["CONFIG", "SET"][..], &keys].concat()), "OK");
    follow_port(ports[0]);
    let attempts = || replica.log().matches(&format!("Connecting to MASTER 127.0.0.1:{}", ports[0])).count();
    let before = attempts();
    until("it is refused again and again", || attempts() > before + 2);
    assert_eq!(info(&mut client, "master_link_status"), "down");
    assert_eq!(number(&mut primary.connect(), "connected_slaves"), 0);
    let keys = ["tls-client-cert-file", &path("client.crt"), "tls-client-key-file", &path("client.key")];
    assert_eq!(text(&mut client, &[&["CONFIG", "SET"][..], &keys].concat()), "OK");
    until("the link comes up", || info(&mut client, "master_link_status") == "up");
    // Without TLS it goes on by the other port.
    assert_eq!(text(&mut client, &["CONFIG", "SET", "tls-replication", "no"]), "OK");
    follow(&replica, &primary);
    agree(&primary, &replica);
}

#[test]
fn writes_wait_for_disks() {
    let (primary, replica) = (start(&["appendonly yes"]), start(&["appendonly yes"]));
    let mut client = primary.connect();
    call(&mut client, &["SET", "k", "1"]);
    let counts = |here: i64, there: i64| Reply::Array(vec![Reply::Integer(here), Reply::Integer(there)]);
    assert_eq!(call(&mut client, &["WAITAOF", "1", "0", "0"]), counts(1, 0));
    follow(&replica, &primary);
    until_journal_is_whole(&replica);
    for round in 0..3 {
        write(&primary, round);
        call(&mut client, &["INCR", "k"]);
        assert_eq!(call(&mut client, &["WAITAOF", "1", "1", "20000"]), counts(1, 1));
        assert_eq!(text(&mut replica.connect(), &["GET", "k"]), (round + 2).to_string());
    }
    // A replica without a journal has nothing durable.
    call(&mut replica.connect(), &["CONFIG", "SET", "appendonly", "no"]);
    call(&mut client, &["INCR", "k"]);
    assert_eq!(call(&mut client, &["WAITAOF", "1", "1", "1500"]), counts(1, 0));
    let mut waiting = primary.connect();
    call(&mut waiting, &["INCR", "k"]);
    waiting.send(&["WAITAOF", "1", "1", "0"]).unwrap();
    call(&mut client, &["CONFIG", "SET", "appendonly", "no"]);
    assert!(
        matches!(waiting.receive().unwrap(), Reply::Error(error) if error.ends_with(b"appendonly is disabled."))
    );
    assert!(text(&mut replica.connect(), &["WAITAOF", "0", "1", "1"]).contains("replica instances"));
}

#[test]
fn replicas_are_told_what_tests_want() {
    let (primary, replica) = (start(&["repl-disable-tcp-nodelay yes"]), start(&[]));
    follow(&replica, &primary);
    let mut client = primary.connect();
    assert_eq!(text(&mut client, &["DEBUG", "REPLICATE", "SET", "only", "there"]), "OK");
    call(&mut client, &["SET", "k", "v"]);
    assert_eq!(call(&mut client, &["WAIT", "1", "20000"]), Reply::Integer(1));
    assert_eq!(call(&mut client, &["EXISTS", "only"]), Reply::Integer(0));
    assert_eq!(text(&mut replica.connect(), &["GET", "only"]), "there");
    // With another name nobody goes on where he was.
    let name = info(&mut client, "master_replid");
    assert_eq!(text(&mut client, &["DEBUG", "CHANGE-REPL-ID"]), "OK");
    assert_ne!(info(&mut client, "master_replid"), name);
    call(&mut client, &["CLIENT", "KILL", "TYPE", "replica"]);
    until("it is sent everything", || number(&mut client, "sync_full") == 2);
}

#[test]
fn files_that_only_replicas_need_are_removed() {
    for (saves, stays) in [("save \"\"", false), ("save 3600 1", true)] {
        let further = ["repl-diskless-sync no", "rdb-del-sync-files yes", saves];
        let (primary, replica) = (start(&further), start(&further));
        write(&primary, 1);
        follow(&replica, &primary);
        agree(&primary, &replica);
        for server in [&primary, &replica] {
            let file = server.dir().join("dump.rdb");
            let is_there = || file.exists();
            match stays {
                true => assert!(is_there()),
                false => until("the file is removed", || !is_there()),
            }
        }
    }
}

#[test]
fn a_replica_whose_disk_fails_ends_unless_it_is_to_go_on() {
    let primary = start(&[]);
    write(&primary, 1);
    for (goes_on, how) in [(true, "yes"), (false, "no")] {
        let ignores = format!("replica-ignore-disk-write-errors {how}");
        let replica = start(&[&*ignores, "save 3600 1", "dbfilename sub.rdb"]);
        follow(&replica, &primary);
        // There is a folder where its file would stand.
        let mut client = replica.connect();
        let _ = std::fs::remove_file(replica.dir().join("sub.rdb"));
        std::fs::create_dir_all(replica.dir().join("sub.rdb/x")).unwrap();
        call(&mut client, &["BGSAVE"]);
        until("it fails", || info(&mut client, "rdb_last_bgsave_status") == "err");
        write(&primary, 2);
        match goes_on {
            true => agree(&primary, &replica),
            false => until("it ends", || client.call(&["PING"]).is_err()),
        }
        let said =
            if goes_on { "even though it is unable to write" } else { "was unable to write command to disk" };
        assert!(replica.log().contains(said));
    }
}
