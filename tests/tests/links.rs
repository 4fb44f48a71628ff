//! The link between a primary and its replica: how it ends, what is kept for it, what is counted and logged about it.

use std::net::TcpStream;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mortise_tests::following::{agree, call, follow, info, number, shown, text, until};
use mortise_tests::server::Server;
use mortise_tests::{Client, Reply};

const DIRECTIVES: [&str; 5] = [
    "enable-debug-command yes",
    "repl-diskless-sync-delay 0",
    "save \"\"",
    // No PING moves the stream's end or has it trimmed.
    "repl-ping-replica-period 3600",
    "repl-timeout 3600",
];

fn mortise(further: &[&str]) -> Server {
    Server::start(&[&DIRECTIVES[..], further].concat())
}

#[test]
fn a_link_that_is_killed_is_cut_at_once() {
    const ROUNDS: u32 = 5;
    const QUICK: Duration = Duration::from_millis(50);
    let (primary, replica) = (mortise(&[]), mortise(&[]));
    follow(&replica, &primary);
    let (mut of_primary, mut of_replica) = (primary.connect(), replica.connect());
    let mut quickest = Duration::MAX;
    for _ in 0..ROUNDS {
        // Attempts are a tenth of a second apart.
        sleep(Duration::from_millis(150));
        let before = number(&mut of_primary, "sync_partial_ok");
        // The primary counts it before the replica knows that it is up.
        let mut start = Instant::now();
        until("it is killed", || {
            start = Instant::now();
            call(&mut of_replica, &["CLIENT", "KILL", "TYPE", "master"]) == Reply::Integer(1)
        });
        while number(&mut of_primary, "sync_partial_ok") == before {
            assert!(start.elapsed() < Duration::from_secs(30), "it comes back");
        }
        quickest = quickest.min(start.elapsed());
    }
    assert!(quickest < QUICK, "{quickest:?}");
}

#[test]
fn what_was_kept_for_a_replica_goes_with_it() {
    const LEN: u64 = 2 << 20;
    let primary = mortise(&["repl-backlog-size 16kb"]);
    let mut client = primary.connect();
    // It never says that it has the data, so that the stream is kept for it from there on.
    let replica = silent_replica(&primary);
    call(&mut client, &["SET", "k", &"x".repeat(LEN as usize)]);
    let len = |client: &mut _| number(client, "repl_backlog_histlen");
    assert!(len(&mut client) > LEN);
    drop(replica);
    until("it is given up", || len(&mut client) < 64 << 10);
    assert_eq!(
        number(&mut client, "master_repl_offset"),
        number(&mut client, "repl_backlog_first_byte_offset") + len(&mut client) - 1
    );
}

#[test]
fn counters_begin_anew_when_they_are_told_to() {
    const LEN: usize = 100_000;
    let (primary, replica) = (mortise(&[]), mortise(&[]));
    follow(&replica, &primary);
    let (mut of_primary, mut of_replica) = (primary.connect(), replica.connect());
    call(&mut of_primary, &["SET", "k", &"x".repeat(LEN)]);
    agree(&primary, &replica);
    call(&mut of_replica, &["CLIENT", "KILL", "TYPE", "master"]);
    until("it comes back", || number(&mut of_primary, "sync_partial_ok") == 1);
    assert!(number(&mut of_primary, "total_net_repl_output_bytes") > LEN as u64);
    assert!(number(&mut of_replica, "total_net_repl_input_bytes") > LEN as u64);
    for client in [&mut of_primary, &mut of_replica] {
        call(client, &["CONFIG", "RESETSTAT"]);
        let fields = ["sync_full", "sync_partial_ok", "sync_partial_err", "unexpected_error_replies"];
        assert_eq!(fields.map(|field| number(client, field)), [0; 4]);
        let bytes = ["total_net_repl_input_bytes", "total_net_repl_output_bytes"];
        assert!(bytes.iter().all(|field| number(client, field) < LEN as u64));
    }
}

#[test]
fn an_error_to_the_primary_is_logged_or_ends_the_server() {
    for (behavior, ends) in [("ignore", false), ("panic", true), ("panic-on-replicas", true)] {
        let (primary, replica) = (mortise(&[]), mortise(&[]));
        follow(&replica, &primary);
        let mut client = replica.connect();
        call(&mut client, &["CONFIG", "SET", "propagation-error-behavior", behavior]);
        assert_eq!(text(&mut primary.connect(), &["DEBUG", "REPLICATE", "no-such-command", "x"]), "OK");
        if ends {
            until("the replica ends", || TcpStream::connect(replica.address()).is_err());
            assert!(replica.log().contains("panicked sending an error to its master"));
            continue;
        }
        until("the error is counted", || number(&mut client, "unexpected_error_replies") == 1);
        let log = replica.log();
        let errors: Vec<&str> = log.lines().filter(|line| line.contains("no-such-command")).collect();
        assert!(errors.len() == 1 && errors[0].contains("== CRITICAL =="), "{errors:?}");
        agree(&primary, &replica);
    }
}

/// A client that follows, and says nothing by itself.
fn silent_replica(primary: &Server) -> Client {
    let mut replica = primary.connect();
    call(&mut replica, &["REPLCONF", "capa", "eof", "capa", "psync2"]);
    replica.send(&["PSYNC", "?", "-1"]).unwrap();
    let mut client = primary.connect();
    until("it has the data", || {
        shown(&mut client, "slave0").is_some_and(|replica| replica.contains("state=online"))
    });
    replica
}

#[test]
fn the_servers_end_waits_for_replicas() {
    const PATIENCE: Duration = Duration::from_millis(200);
    let primary = mortise(&["shutdown-timeout 300"]);
    let mut replica = silent_replica(&primary);
    let [mut client, mut writer, mut ender] = [(); 3].map(|()| primary.connect());
    call(&mut client, &["SET", "k", "1"]);
    assert_eq!(shown(&mut client, "shutdown_in_milliseconds"), None);
    assert_eq!(text(&mut client, &["SHUTDOWN", "ABORT"]), "ERR No shutdown in progress.");
    ender.send(&["SHUTDOWN"]).unwrap();
    until("it waits", || shown(&mut client, "shutdown_in_milliseconds").is_some());
    assert_eq!(number(&mut client, "blocked_clients"), 1);
    writer.send(&["INCR", "k"]).unwrap();
    assert!(writer.is_silent(PATIENCE).unwrap(), "nothing may be written");
    assert_eq!(text(&mut client, &["GET", "k"]), "1");

    assert_eq!(text(&mut client, &["SHUTDOWN", "ABORT"]), "OK");
    let error = Reply::Error(b"ERR Errors trying to SHUTDOWN. Check logs.".to_vec());
    assert_eq!(ender.receive().unwrap(), error);
    assert_eq!(writer.receive().unwrap(), Reply::Integer(2));

    ender.send(&["SHUTDOWN"]).unwrap();
    until("it waits", || shown(&mut client, "shutdown_in_milliseconds").is_some());
    let end = info(&mut client, "master_repl_offset");
    replica.send(&["REPLCONF", "ACK", &end]).unwrap();
    until("it ends", || TcpStream::connect(primary.address()).is_err());
    let log = primary.log();
    assert!(log.contains("1 of 1 replicas are in sync when shutting down."), "{log}");
    assert!(!log.contains("Lagging replica"), "{log}");
}

#[test]
fn the_servers_end_does_not_wait_for_ever_or_where_it_is_not_to() {
    for (timeout, how) in [("1", "NOSAVE"), ("0", "NOSAVE"), ("300", "NOW")] {
        let primary = mortise(&[&format!("shutdown-timeout {timeout}")]);
        let _replica = silent_replica(&primary);
        let mut client = primary.connect();
        call(&mut client, &["SET", "k", "1"]);
        assert!(client.call(&["SHUTDOWN", how]).is_err());
        let log = primary.log();
        assert!(log.contains("Lagging replica 127.0.0.1:<unknown-replica-port> reported offset "), "{log}");
        assert!(log.contains("0 of 1 replicas are in sync when shutting down."), "{log}");
    }
}

#[test]
fn an_end_that_a_signal_asked_for_can_be_called_off() {
    let mut primary = mortise(&["shutdown-timeout 300"]);
    let replica = silent_replica(&primary);
    let mut client = primary.connect();
    call(&mut client, &["SET", "k", "1"]);
    for _ in 0..2 {
        let pid = primary.pid().expect("it runs").to_string();
        assert!(Command::new("kill").arg(&pid).status().expect("there is such a program").success());
        until("it waits", || shown(&mut client, "shutdown_in_milliseconds").is_some());
        assert_eq!(text(&mut client, &["SHUTDOWN", "ABORT"]), "OK");
    }
    assert_eq!(text(&mut client, &["INCR", "k"]), "2");
    drop(replica);
    until("it has no replica any more", || number(&mut client, "connected_slaves") == 0);
    assert!(primary.stop());
}

#[test]
fn a_snapshot_for_replicas_that_are_gone_is_called_off() {
    const SLOW: [&str; 2] = ["repl-diskless-sync no", "rdb-key-save-delay 10000000"];
    for (save, goes_on) in [("", "0"), ("3600 100", "1")] {
        let primary = mortise(&SLOW);
        let mut client = primary.connect();
        call(&mut client, &["CONFIG", "SET", "save", save]);
        call(&mut client, &["SET", "k", "1"]);
        let mut replicas = [(); 2].map(|()| primary.connect());
        for replica in &mut replicas {
            replica.send(&["PSYNC", "?", "-1"]).unwrap();
        }
        until("both wait for it", || {
            let waits = |field: &str, client: &mut Client| {
                shown(client, field).is_some_and(|replica| replica.contains("state=wait_bgsave"))
            };
            waits("slave0", &mut client) && waits("slave1", &mut client)
        });
        let [first, second] = replicas;
        drop(first);
        until("one is gone", || number(&mut client, "connected_slaves") == 1);
        assert_eq!(info(&mut client, "rdb_bgsave_in_progress"), "1");
        drop(second);
        until("both are gone", || number(&mut client, "connected_slaves") == 0);
        assert_eq!(info(&mut client, "rdb_bgsave_in_progress"), goes_on);
        assert!(client.call(&["SHUTDOWN", "NOSAVE"]).is_err());
    }
}

#[test]
fn a_wrong_offset_is_logged() {
    let primary = mortise(&[]);
    let mut client = primary.connect();
    let said = text(&mut client, &["PSYNC", "name", "offset"]);
    assert_eq!(said, "ERR value is not an integer or out of range");
    assert!(primary.log().contains("asks for synchronization but with a wrong offset"));
}

#[cfg(target_os = "linux")]
#[test]
fn the_kernel_may_end_a_replica_sooner() {
    let server = mortise(&["oom-score-adj absolute", "oom-score-adj-values 610 620 630"]);
    let path = format!("/proc/{}/oom_score_adj", server.pid().expect("it runs"));
    let score = || std::fs::read_to_string(&path).unwrap().trim().to_owned();
    let mut client = server.connect();
    for (host, port, expected) in [("127.0.0.1", "1", "620"), ("no", "one", "610"), ("127.0.0.1", "1", "620")]
    {
        call(&mut client, &["REPLICAOF", host, port]);
        assert_eq!(score(), expected);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_primary_is_connected_to_from_the_address_that_is_said() {
    let (primary, replica) = (mortise(&[]), mortise(&["bind-source-addr 127.0.0.2"]));
    follow(&replica, &primary);
    assert!(info(&mut primary.connect(), "slave0").contains("ip=127.0.0.2,"));
    call(&mut replica.connect(), &["CONFIG", "SET", "bind-source-addr", "203.0.113.1"]);
    call(&mut replica.connect(), &["CLIENT", "KILL", "TYPE", "master"]);
    until("it is told why not", || replica.log().contains("Cannot assign requested address"));
}

#[test]
fn the_log_says_that_data_is_loaded() {
    let primary = mortise(&[]);
    for how in ["disabled", "on-empty-db", "swapdb"] {
        let replica = mortise(&[&format!("repl-diskless-load {how}")]);
        follow(&replica, &primary);
        assert!(replica.log().contains("MASTER <-> REPLICA sync: Loading DB in memory"), "{how}");
    }
}

#[test]
fn a_replica_begins_a_journal_when_it_is_told_to() {
    let (primary, replica) = (mortise(&[]), mortise(&[]));
    follow(&replica, &primary);
    assert_eq!(text(&mut replica.connect(), &["CONFIG", "SET", "appendonly", "yes"]), "OK");
    call(&mut primary.connect(), &["SET", "k", "what-the-primary-says"]);
    let said = |entry: std::io::Result<std::fs::DirEntry>| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains("what-the-primary-says")
    };
    until("it is appended", || {
        let folder = replica.dir().join("appendonlydir");
        std::fs::read_dir(folder).is_ok_and(|mut folder| folder.any(said))
    });
    agree(&primary, &replica);
}

#[test]
fn a_replica_that_goes_holds_nobody_up_who_is_sent_the_same_snapshot() {
    const KEYS: &str = "2000";
    const VALUE_LEN: &str = "10000";
    let primary =
        mortise(&["repl-diskless-sync-delay 1000", "repl-diskless-sync-max-replicas 2", "rdbcompression no"]);
    call(&mut primary.connect(), &["DEBUG", "POPULATE", KEYS, "key", VALUE_LEN]);
    // It takes nothing, so that the snapshot waits for it, and leaves.
    let mut stuck = primary.connect();
    call(&mut stuck, &["REPLCONF", "capa", "eof", "capa", "psync2"]);
    stuck.send(&["PSYNC", "?", "-1"]).unwrap();
    let replica = mortise(&[]);
    let port = primary.address().port().to_string();
    call(&mut replica.connect(), &["REPLICAOF", "127.0.0.1", &port]);
    let mut client = primary.connect();
    until("a snapshot is on its way", || number(&mut client, "rdb_bgsave_in_progress") == 1);
    sleep(Duration::from_millis(200));
    assert_eq!(number(&mut client, "rdb_bgsave_in_progress"), 1, "it waits");
    drop(stuck);
    until("the other one has it", || info(&mut replica.connect(), "master_link_status") == "up");
    agree(&primary, &replica);
}
