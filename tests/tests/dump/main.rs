//! What DUMP shows is Redis's own: a real redis-server restores what Mortise shows, and Mortise what redis-server shows.
//!
//! `FUZZ_SECONDS` says for how long (a few values of each type if it does not), and `FUZZ_SEED` where to begin.

mod files;
mod forms;
mod journals;
mod values;

use std::time::{Duration, Instant};

use mortise_core::engine::random::Random;
use mortise_tests::reference::Reference;
use mortise_tests::{Client, Reply, Server};
use values::{Command, MAKERS, words};

const DIRECTIVES: &[&str] = &["enable-debug-command yes"];

/// A redis-server; `None` if it is not installed, which CI does not let pass.
fn redis() -> Option<Server> {
    let Some(reference @ Reference::Binary(_)) = Reference::installed() else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "redis-server is not installed");
        println!("redis-server is not installed: not compared");
        return None;
    };
    reference.start(DIRECTIVES).unwrap_or_else(|error| panic!("redis-server does not start: {error}"))
}

fn call(client: &mut Client, command: &[&[u8]]) -> Reply {
    client.call(command).unwrap_or_else(|error| panic!("{}: {error}", command[0].escape_ascii()))
}

fn run(client: &mut Client, commands: &[Command]) {
    for command in commands {
        let reply = client.call(command).expect("the server answers");
        assert!(!matches!(reply, Reply::Error(_)), "{}: {reply:?}", command[0].escape_ascii());
    }
}

fn dump(client: &mut Client, key: &str) -> Vec<u8> {
    match call(client, &[b"DUMP", key.as_bytes()]) {
        Reply::Bulk(payload) => payload,
        other => panic!("DUMP {key}: {other:?}"),
    }
}

/// What must be the same of a value on both sides.
fn picture(client: &mut Client, key: &str, kind: &str) -> Vec<Reply> {
    let key = key.as_bytes();
    let mut asked = vec![words(&[b"DEBUG", b"DIGEST-VALUE", key])];
    // A string that was edited is `raw`, and no longer so when it has been restored.
    if kind != "string" {
        asked.push(words(&[b"OBJECT", b"ENCODING", key]));
    }
    if kind == "stream" {
        let groups = words(&[b"XINFO", b"GROUPS", key]);
        if let Reply::Array(there) = call(client, &[b"XINFO", b"GROUPS", key]) {
            // Groups go by their names: group0, group1 and so on.
            let names = (0..there.len()).map(|group| format!("group{group}").into_bytes());
            asked.extend(names.map(|name| words(&[b"XPENDING", key, &name, b"-", b"+", b"1000"])));
        }
        asked.push(groups);
    }
    let replies = asked.iter().map(|command| client.call(command).expect("the server answers"));
    replies.map(without_idle_times).collect()
}

/// What XPENDING says, but for how long ago each entry was delivered, which is the third of four items.
fn without_idle_times(reply: Reply) -> Reply {
    let Reply::Array(mut entries) = reply else { return reply };
    for entry in &mut entries {
        if let Reply::Array(items) = entry
            && items.len() == 4
        {
            items.remove(2);
        }
    }
    Reply::Array(entries)
}

/// A value goes from one server to the other and back, and is the same all the way.
fn travel(from: &mut Client, to: &mut Client, key: &str, kind: &str, what: &str) {
    let origin = picture(from, key, kind);
    let payload = dump(from, key);
    let restored = call(to, &[b"RESTORE", key.as_bytes(), b"0", &payload, b"REPLACE"]);
    assert_eq!(restored, Reply::Simple(b"OK".to_vec()), "{what}: {}", payload.escape_ascii());
    assert_eq!(picture(to, key, kind), origin, "{what}: {}", payload.escape_ascii());
    let encoding = |client: &mut Client, key: &str| call(client, &[b"OBJECT", b"ENCODING", key.as_bytes()]);
    let restored_as = encoding(to, key);
    let back = dump(to, key);
    let copy = format!("{key}:back");
    let restored = call(from, &[b"RESTORE", copy.as_bytes(), b"0", &back, b"REPLACE"]);
    assert_eq!(restored, Reply::Simple(b"OK".to_vec()), "{what}, on its way back: {}", back.escape_ascii());
    assert_eq!(picture(from, &copy, kind), origin, "{what}, on its way back: {}", back.escape_ascii());
    assert_eq!(encoding(from, &copy), restored_as, "{what}, on its way back: {}", back.escape_ascii());
}

#[test]
fn values_travel_between_redis_and_mortise() {
    let Some(redis) = redis() else { return };
    let mortise = Server::start(DIRECTIVES);
    let (mut redis, mut mortise) = (redis.connect(), mortise.connect());
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(0));
    let first = number("FUZZ_SEED").unwrap_or(1);
    const ROUNDS_MIN: u64 = 30;
    let start = Instant::now();
    for seed in first.. {
        if seed >= first + ROUNDS_MIN && start.elapsed() >= time {
            break;
        }
        let mut random = Random::new(seed);
        // Compressed or not, of small or of large collections.
        for server in [&mut redis, &mut mortise] {
            let compression: &[u8] = if seed % 2 == 0 { b"yes" } else { b"no" };
            call(server, &[b"FLUSHALL"]);
            call(server, &[b"CONFIG", b"SET", b"rdbcompression", compression]);
            let entries: &[u8] = if seed % 3 == 0 { b"512" } else { b"128" };
            call(server, &[b"CONFIG", b"SET", b"hash-max-listpack-entries", entries]);
            call(server, &[b"CONFIG", b"SET", b"zset-max-listpack-entries", entries]);
        }
        for maker in MAKERS {
            let commands = (maker.make)(&mut random, maker.name);
            let what = format!("FUZZ_SEED={seed}, a {}", maker.name);
            run(&mut redis, &commands);
            travel(&mut redis, &mut mortise, maker.name, maker.name, &format!("{what} of Redis"));
            call(&mut mortise, &[b"DEL", maker.name.as_bytes()]);
            run(&mut mortise, &commands);
            travel(&mut mortise, &mut redis, maker.name, maker.name, &format!("{what} of Mortise"));
            // Where nothing is left to choose, the payloads are the same to the last byte.
            let small = commands.len() == 1 && commands[0].len() < 40 && maker.name != "zset";
            if seed % 2 == 1 && (maker.name == "string" || small) {
                call(&mut redis, &[b"DEL", maker.name.as_bytes()]);
                run(&mut redis, &commands);
                let (ours, theirs) = (dump(&mut mortise, maker.name), dump(&mut redis, maker.name));
                let is_listed = picture(&mut redis, maker.name, "")[1] == Reply::Bulk(b"hashtable".to_vec());
                assert!(is_listed || ours == theirs, "{what}: {}", ours.escape_ascii());
            }
        }
        // All of it, with deadlines, saved and loaded.
        for maker in MAKERS {
            let deadline = [b"PEXPIREAT", maker.name.as_bytes(), b"33000000000000"];
            assert_eq!(call(&mut mortise, &deadline), Reply::Integer(1));
        }
        let before = call(&mut mortise, &[b"DEBUG", b"DIGEST"]);
        assert_eq!(call(&mut mortise, &[b"DEBUG", b"RELOAD"]), Reply::Simple(b"OK".to_vec()));
        assert_eq!(call(&mut mortise, &[b"DEBUG", b"DIGEST"]), before, "FUZZ_SEED={seed}");
    }
}
