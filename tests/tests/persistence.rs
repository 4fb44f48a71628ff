//! What survives the server's end, and what its start makes of what it finds.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mortise_tests::following::{call, info, text, until};
use mortise_tests::server::{Server, mortise_binary};
use mortise_tests::{Client, Reply};

fn signal(server: &Server, name: &str) {
    let pid = server.pid().expect("it runs").to_string();
    assert!(Command::new("kill").args([name, &pid]).status().expect("there is such a program").success());
}

#[test]
fn what_was_saved_is_there_again() {
    let mut server = Server::start(&["enable-debug-command yes"]);
    let mut client = server.connect();
    call(&mut client, &["SET", "saved", "1"]);
    call(&mut client, &["SELECT", "3"]);
    call(&mut client, &["RPUSH", "list", "a", "b"]);
    let digest = text(&mut client, &["DEBUG", "DIGEST"]);
    assert_eq!(text(&mut client, &["SAVE"]), "OK");
    call(&mut client, &["SET", "lost", "1"]);
    server.kill();
    server.restart();
    let mut client = server.connect();
    assert_eq!(text(&mut client, &["DEBUG", "DIGEST"]), digest);
    assert_eq!(info(&mut client, "rdb_last_load_keys_loaded"), "2");
    assert_eq!(info(&mut client, "rdb_changes_since_last_save"), "0");
    let log = server.log();
    for line in [
        "Loading RDB produced by version 7.0.15",
        "RDB age ",
        "Done loading RDB, keys loaded: 2, keys expired: 0.",
        "DB loaded from disk: ",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    // Without save points nothing is saved at the end.
    call(&mut client, &["FLUSHALL"]);
    assert!(server.stop());
    server.restart();
    assert_eq!(text(&mut server.connect(), &["DEBUG", "DIGEST"]), digest);
}

#[test]
fn where_there_are_save_points_the_end_saves() {
    let mut server = Server::start(&["save 3600 1", "save 300 100"]);
    call(&mut server.connect(), &["SET", "n", "1"]);
    assert!(server.stop());
    assert!(server.log().contains("Saving the final RDB snapshot before exiting."), "{}", server.log());
    server.restart();
    let mut client = server.connect();
    assert_eq!(text(&mut client, &["GET", "n"]), "1");
    call(&mut client, &["SET", "n", "2"]);
    assert!(client.call(&["SHUTDOWN", "NOSAVE"]).is_err());
    server.restart();
    let mut client = server.connect();
    assert_eq!(text(&mut client, &["GET", "n"]), "1");
    call(&mut client, &["SET", "n", "3"]);
    assert!(client.call(&["SHUTDOWN"]).is_err());
    server.restart();
    assert_eq!(text(&mut server.connect(), &["GET", "n"]), "3");
}

#[test]
fn a_slow_write_of_the_journal_holds_no_other_thread() {
    const SLOW: Duration = Duration::from_millis(1500);
    let server = Server::start(&["io-threads 2", "appendonly yes", "enable-debug-command yes"]);
    let mut writer = server.connect();
    // One of them is on the writer's thread, the other is not.
    let others = [server.connect(), server.connect()];
    call(&mut writer, &["SET", "k", "1"]);
    call(&mut writer, &["DEBUG", "AOF-FLUSH-SLEEP", &SLOW.as_micros().to_string()]);
    writer.send(&["SET", "k", "2"]).expect("it is sent");
    sleep(Duration::from_millis(100));
    let waits = others.map(|mut other| {
        std::thread::spawn(move || {
            let begun = Instant::now();
            assert_eq!(text(&mut other, &["GET", "k"]), "2");
            begun.elapsed()
        })
    });
    let waited = waits.map(|wait| wait.join().expect("it is answered"));
    assert!(waited.iter().any(|waited| *waited < SLOW / 3), "{waited:?}");
    assert_eq!(writer.receive().expect("it is answered"), Reply::Simple(b"OK".to_vec()));
}

#[test]
fn what_a_signal_has_asked_for_may_be_called_off_until_the_clock_ticks() {
    let server = Server::start(&["enable-debug-command yes"]);
    let mut client = server.connect();
    assert_eq!(text(&mut client, &["SHUTDOWN", "ABORT"]), "ERR No shutdown in progress.");
    for name in ["-TERM", "-INT"] {
        assert_eq!(text(&mut client, &["DEBUG", "PAUSE-CRON", "1"]), "OK");
        let before = server.log().matches("scheduling shutdown").count();
        signal(&server, name);
        until("it is heard", || server.log().matches("scheduling shutdown").count() > before);
        until("it is called off", || text(&mut client, &["SHUTDOWN", "ABORT"]) == "OK");
        assert_eq!(text(&mut client, &["DEBUG", "PAUSE-CRON", "0"]), "OK");
        sleep(Duration::from_millis(250));
        assert_eq!(text(&mut client, &["PING"]), "PONG");
    }
    assert_eq!(server.log().matches("Shutdown manually aborted.").count(), 2);
    assert_eq!(text(&mut client, &["SHUTDOWN", "ABORT"]), "ERR No shutdown in progress.");
    signal(&server, "-TERM");
    until("it ends", || client.call(&["PING"]).is_err());
}

#[test]
fn the_server_goes_on_if_it_cannot_save() {
    let mut server = Server::start(&["save 3600 1"]);
    let file = server.dir().join("dump.rdb");
    let mut client = server.connect();
    call(&mut client, &["SET", "n", "1"]);
    // What has this name already is no file, and cannot be replaced by one.
    fs::create_dir(&file).expect("it is made");
    fs::write(file.join("in it"), "").expect("it is written");
    assert_eq!(text(&mut client, &["SHUTDOWN"]), "ERR Errors trying to SHUTDOWN. Check logs.");
    assert_eq!(text(&mut client, &["SAVE"]), "ERR");
    for name in ["-TERM", "-INT", "-INT"] {
        let before = server.log().matches("can't exit").count();
        signal(&server, name);
        until("it says so", || {
            server.log().matches("can't exit").count() > before
                && server.log().ends_with("check the logs for more information\n")
        });
    }
    assert_eq!(text(&mut client, &["BGSAVE"]), "Background saving started");
    until("it fails", || info(&mut client, "rdb_last_bgsave_status") == "err");
    assert!(text(&mut client, &["SET", "n", "2"]).starts_with("MISCONF "));
    assert!(
        text(&mut client, &["EVAL", "return redis.call('SET', KEYS[1], 1)", "1", "n"]).contains("MISCONF ")
    );
    assert_eq!(text(&mut client, &["EVAL", "return redis.call('GET', KEYS[1])", "1", "n"]), "1");
    assert_eq!(text(&mut client, &["GET", "n"]), "1");
    call(&mut client, &["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]);
    assert_eq!(text(&mut client, &["SET", "n", "2"]), "OK");
    let names = fs::read_dir(server.dir())
        .expect("it is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    assert!(!names.collect::<String>().contains("temp-"), "nothing is left lying about");
    assert!(client.call(&["SHUTDOWN", "FORCE"]).is_err());
    until("it ends", || server.log().contains("Exit anyway"));
    fs::remove_dir_all(&file).expect("it goes");
    server.kill();
    server.restart();
}

#[test]
fn who_insists_does_not_wait() {
    let mut server = Server::start(&["save 3600 1", "rdb-key-save-delay 100000"]);
    let mut client = server.connect();
    for n in 0..100 {
        call(&mut client, &["SET", &n.to_string(), "1"]);
    }
    signal(&server, "-INT");
    let temporary = || {
        let names = fs::read_dir(server.dir())
            .expect("it is there")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.starts_with("temp-")).count()
    };
    until("it begins to save", || temporary() == 1);
    signal(&server, "-INT");
    until("it ends", || server.log().contains("You insist") && temporary() == 0);
    // The same while a snapshot is written beside.
    server.kill();
    server.restart();
    let mut client = server.connect();
    for n in 0..100 {
        call(&mut client, &["SET", &n.to_string(), "1"]);
    }
    assert_eq!(text(&mut client, &["BGSAVE"]), "Background saving started");
    assert!(client.call(&["SHUTDOWN", "NOSAVE"]).is_err());
    until("it ends", || server.log().contains("bye bye"));
    let left = fs::read_dir(server.dir())
        .expect("it is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    assert!(!left.collect::<String>().contains(".rdb"));
}

#[test]
fn while_it_loads_it_says_so() {
    let mut server = Server::start(&["key-load-delay 1000", "enable-debug-command yes"]);
    let mut client = server.connect();
    call(&mut client, &["DEBUG", "POPULATE", "1500"]);
    assert_eq!(text(&mut client, &["SAVE"]), "OK");
    server.kill();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let address = server.address();
        scope.spawn(move || {
            let mut client = loop {
                if let Ok(client) = Client::connect(address) {
                    break client;
                }
                sleep(Duration::from_millis(5));
            };
            until("it is loading", || {
                info(&mut client, "loading") == "1" && info(&mut client, "loading_loaded_bytes") != "0"
            });
            assert_eq!(
                text(&mut client, &["GET", "key:1"]),
                "LOADING Redis is loading the dataset in memory"
            );
            assert_eq!(text(&mut client, &["SAVE"]), "LOADING Redis is loading the dataset in memory");
            until("it is done", || info(&mut client, "loading") == "0");
            assert_eq!(text(&mut client, &["GET", "key:1"]), "value:1");
        });
        server.restart();
    });
    assert!(begun.elapsed() > Duration::from_secs(1));
}

#[test]
fn a_broken_file_stops_the_start() {
    let mut server = Server::start(&["save 3600 1"]);
    let mut client = server.connect();
    call(&mut client, &["SET", "n", "1"]);
    assert!(server.stop());
    let file = server.dir().join("dump.rdb");
    let whole = fs::read(&file).expect("it was saved");
    let check = server.dir().join("redis-check-rdb");
    symlink(mortise_binary().expect("it was built"), &check).expect("a name for it");
    let checked = || {
        let output = Command::new(&check).arg(&file).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (is_ok, said) = checked();
    assert!(is_ok && said.contains("RDB looks OK!") && said.contains("[info] 1 keys read"), "{said}");
    let len = whole.len();
    let damaged = [&whole[..len - 8], b"foobar00"].concat();
    let later = [b"REDIS0099", &whole[9..]].concat();
    for (bytes, says) in [
        (&damaged[..], &["but got (30307261626f6f66). Aborting now.", "RDB CRC error"][..]),
        (&whole[..len - 12], &["Short read or OOM loading DB.", "Unexpected EOF reading RDB file"]),
        (b"", &["Short read or OOM loading DB."]),
        (b"REDIS....", &["Fatal error loading the DB: Invalid argument. Exiting."]),
        (
            &later,
            &["Can't handle RDB format version 99", "Fatal error loading the DB: Invalid argument. Exiting."],
        ),
    ] {
        fs::write(&file, bytes).expect("it is written");
        let output = Command::new(mortise_binary().expect("it was built"))
            .arg(server.config_file())
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{says:?}");
        let log = String::from_utf8_lossy(&output.stdout);
        says.iter().for_each(|line| assert!(log.contains(line), "{line}: {log}"));
        assert_eq!(fs::read(&file).expect("it is there"), bytes, "it is not touched");
        assert!(!checked().0);
    }
    fs::write(&file, whole).expect("it is written");
    server.restart();
    assert_eq!(text(&mut server.connect(), &["GET", "n"]), "1");
}
