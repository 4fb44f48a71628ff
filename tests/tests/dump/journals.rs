//! Journals: what redis-server has appended is played here, and what Mortise has appended there, with equal digests.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mortise_tests::Server;
use mortise_tests::server::mortise_binary;
use mortise_tests::tempdir::TempDir;

use super::files::{OK, commands, digest};
use super::values::{Command, words};
use super::{call, redis, run};

const DIRECTIVES: &[&str] = &["appendonly yes", "enable-debug-command yes", "auto-aof-rewrite-percentage 0"];

/// What is written down otherwise than it was said.
fn changes() -> Vec<Command> {
    let script = b"for i = 1, 50 do redis.call('SADD', KEYS[1], i) end redis.call('SPOP', KEYS[1], 10) \
        redis.call('SELECT', 3) redis.call('SET', KEYS[2], ARGV[1], 'EX', 1000) return redis.call('SPOP', KEYS[1])";
    vec![
        words(&[b"SELECT", b"0"]),
        words(&[b"EVAL", script, b"2", b"drawn", b"aside", b"text"]),
        words(&[b"MULTI"]),
        words(&[b"SET", b"in a unit", b"1", b"PX", b"900000"]),
        words(&[b"SELECT", b"9"]),
        words(&[b"INCRBYFLOAT", b"sum", b"10.25"]),
        words(&[b"EXEC"]),
        words(&[b"SELECT", b"0"]),
        words(&[b"XADD", b"log", b"*", b"field", b"value"]),
        words(&[b"XGROUP", b"CREATE", b"log", b"readers", b"0"]),
        words(&[b"XREADGROUP", b"GROUP", b"readers", b"ann", b"COUNT", b"1", b"STREAMS", b"log", b">"]),
        words(&[b"SET", b"brief", b"1", b"PX", b"1"]),
        words(&[b"EXPIRE", b"drawn", b"5000"]),
        words(&[b"GETEX", b"in a unit", b"PERSIST"]),
        words(&[b"COPY", b"drawn", b"copied", b"DB", b"5"]),
        words(&[b"SWAPDB", b"5", b"6"]),
        words(&[b"SET", b"binary\r\n*1\r\n", b"\0\r\n$5\r\n"]),
        words(&[b"SORT", b"copied", b"STORE", b"sorted"]),
    ]
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it is made");
    for file in fs::read_dir(from).expect("it is there") {
        let file = file.expect("it is read");
        fs::copy(file.path(), to.join(file.file_name())).expect("it is copied");
    }
}

/// Starts a server anew on the journal of another.
fn start_on(server: &mut Server, journal: &Path) {
    server.kill();
    let own = server.dir().join("appendonlydir");
    if own.exists() {
        fs::remove_dir_all(&own).expect("it is removed");
    }
    copy(journal, &own);
    server.restart();
}

fn until_rewritten(server: &Server) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !server.log().contains("Background AOF rewrite finished successfully") {
        assert!(Instant::now() < deadline, "{}", server.log());
        sleep(Duration::from_millis(10));
    }
}

/// What a server reads of its own commands: the row `zero-sign` of differences.md, which is no matter of journals.
fn digest_again(server: &mut Server) -> String {
    server.restart();
    digest(&mut server.connect())
}

#[test]
fn journals_of_redis() {
    let Some(reference) = redis() else { return };
    drop(reference);
    let mut mortise = Server::start(DIRECTIVES);
    for (seed, preamble, is_rewritten, timestamps) in
        [(6, "yes", false, "no"), (7, "yes", true, "yes"), (8, "no", false, "yes"), (9, "no", true, "no")]
    {
        let (preamble, timestamps) =
            (format!("aof-use-rdb-preamble {preamble}"), format!("aof-timestamp-enabled {timestamps}"));
        let directives = [DIRECTIVES, &[&*preamble, &*timestamps]].concat();
        let mut server =
            Server::start_binary(Path::new("redis-server"), &directives).expect("redis-server starts");
        let mut redis = server.connect();
        run(&mut redis, &commands(seed));
        if is_rewritten {
            call(&mut redis, &[b"BGREWRITEAOF"]);
            until_rewritten(&server);
        }
        run(&mut redis, &changes());
        sleep(Duration::from_millis(5));
        // It is met when it has expired.
        call(&mut redis, &[b"GET", b"brief"]);
        let mut expected = digest(&mut redis);
        if preamble.ends_with("no") && is_rewritten {
            expected = digest_again(&mut server);
        }
        assert!(server.stop());
        start_on(&mut mortise, &server.dir().join("appendonlydir"));
        assert_eq!(digest(&mut mortise.connect()), expected, "{preamble}: {}", mortise.log());
        assert_eq!(call(&mut mortise.connect(), &[b"PING"]), mortise_tests::Reply::Simple(b"PONG".to_vec()));
    }
}

#[test]
fn journals_of_mortise() {
    if redis().is_none() {
        return;
    }
    for (seed, preamble, is_rewritten) in [(11, "yes", false), (12, "yes", true), (13, "no", true)] {
        let preamble = format!("aof-use-rdb-preamble {preamble}");
        let directives = [DIRECTIVES, &[&*preamble, "aof-timestamp-enabled yes"]].concat();
        let mut server = Server::start(&directives);
        let mut client = server.connect();
        run(&mut client, &commands(seed));
        if is_rewritten {
            call(&mut client, &[b"BGREWRITEAOF"]);
            until_rewritten(&server);
        }
        run(&mut client, &changes());
        sleep(Duration::from_millis(5));
        call(&mut client, &[b"GET", b"brief"]);
        let mut expected = digest(&mut client);
        if preamble.ends_with("no") && is_rewritten {
            expected = digest_again(&mut server);
        }
        assert!(server.stop());
        let mut reference =
            Server::start_binary(Path::new("redis-server"), &directives).expect("redis-server starts");
        start_on(&mut reference, &server.dir().join("appendonlydir"));
        assert_eq!(digest(&mut reference.connect()), expected, "{preamble}: {}", reference.log());
        server.restart();
        assert_eq!(digest(&mut server.connect()), expected, "{preamble}: {}", server.log());
    }
}

#[test]
fn an_old_style_journal_of_redis() {
    let Some(mut server) = redis() else { return };
    let mut redis = server.connect();
    let mut mortise = Server::start(DIRECTIVES);
    run(&mut redis, &commands(10));
    assert_eq!(call(&mut redis, &[b"SAVE"]), OK());
    let expected = digest(&mut redis);
    assert!(server.stop());
    mortise.kill();
    let journal = mortise.dir().join("appendonlydir");
    if journal.exists() {
        fs::remove_dir_all(&journal).expect("it is removed");
    }
    let mut file = fs::read(server.dir().join("dump.rdb")).expect("it was saved");
    file.extend_from_slice(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
    fs::write(mortise.dir().join("appendonly.aof"), file).expect("it is written");
    mortise.restart();
    assert_eq!(digest(&mut mortise.connect()), expected, "{}", mortise.log());
    assert!(journal.join("appendonly.aof").exists() && !mortise.dir().join("appendonly.aof").exists());
}

/// What a program says of a file, given an answer, and what is left of the file.
fn looked_at(program: &Path, options: &[&str], file: &[u8]) -> (Vec<u8>, Option<i32>, Vec<u8>) {
    let dir = TempDir::create().expect("it is made");
    fs::write(dir.path().join("file.aof"), file).expect("it is written");
    let mut child = std::process::Command::new(program)
        .args(options)
        .arg("file.aof")
        .current_dir(dir.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("there is such a program");
    // It may have ended without asking.
    let _ = child.stdin.take().expect("it has one").write_all(b"y\n");
    let output = child.wait_with_output().expect("it ends");
    let left = fs::read(dir.path().join("file.aof")).expect("it is there");
    (output.stdout, output.status.code(), left)
}

#[test]
fn files_are_looked_at_as_redis_does() {
    let Some(server) = redis() else { return };
    let ours = server.dir().join("redis-check-aof");
    symlink(mortise_binary().expect("it is built"), &ours).expect("it is linked");
    let mut good =
        b"#TS:100\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n".to_vec();
    good.extend_from_slice(b"*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n*1\r\n$4\r\nEXEC\r\n");
    good.extend_from_slice(b"#TS:105\r\n*1\r\n$8\r\nFLUSHALL\r\n");
    let mut files =
        vec![good.clone(), [&good[..], b"!\r\n"].concat(), [b"*1\r\n$4\r\nEXEC\r\n", &good[..]].concat()];
    // A line cut short is filled up with what happens to stand in Redis's memory.
    let is_cut_in_line = |end: &[u8]| {
        end.iter()
            .rposition(|byte| *byte == b'\n')
            .is_some_and(|at| end.get(at + 1).is_some_and(|byte| b"*$".contains(byte)))
    };
    files.extend(
        (1..good.len()).step_by(3).map(|len| good[..len].to_vec()).filter(|file| !is_cut_in_line(file)),
    );
    for file in files {
        for options in [&[][..], &["--fix"], &["--truncate-to-timestamp", "102"]] {
            let (ours, theirs) =
                (looked_at(&ours, options, &file), looked_at(Path::new("redis-check-aof"), options, &file));
            assert_eq!(ours.0.escape_ascii().to_string(), theirs.0.escape_ascii().to_string(), "{options:?}");
            assert_eq!((ours.1, ours.2), (theirs.1, theirs.2), "{options:?} {}", file.escape_ascii());
        }
    }
}
