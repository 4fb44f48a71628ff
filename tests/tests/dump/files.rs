//! Files: what redis-server has saved is loaded, and what Mortise has saved is loaded by redis-server, with equal digests.

use std::fs;
use std::io::Read;
use std::sync::Arc;

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::random::Random;
use mortise_core::features;
use mortise_core::keyspace::SpaceId;
use mortise_core::persistence::snapshot::Reader;
use mortise_core::server::clock::SystemClock;
use mortise_tests::{Client, Reply, Server};

use super::values::{Command, MAKERS, words};
use super::{call, redis, run};

fn engine() -> Engine {
    let registry = Arc::new(features::registry().expect("the declarations are right"));
    let mut engine = Engine::new(Config::default(), registry, Box::new(SystemClock::new()), 1);
    engine.directives = Arc::new(mortise_core::server::directives().expect("they are in order"));
    engine
}

/// Values of all types in two databases, some with a deadline, as the commands that make them.
pub(crate) fn commands(seed: u64) -> Vec<Command> {
    let mut random = Random::new(seed);
    let mut commands = Vec::new();
    for db in [&b"0"[..], b"9"] {
        commands.push(words(&[b"SELECT", db]));
        for maker in MAKERS {
            for n in 0..6 {
                let key = format!("{}:{n}", maker.name);
                commands.extend((maker.make)(&mut random, &key));
                if n % 3 == 0 {
                    commands.push(words(&[b"PEXPIREAT", key.as_bytes(), b"33000000000000"]));
                }
            }
        }
    }
    commands
}

pub(crate) fn digest(redis: &mut Client) -> String {
    match call(redis, &[b"DEBUG", b"DIGEST"]) {
        Reply::Simple(digest) => String::from_utf8(digest).expect("digits"),
        other => panic!("{other:?}"),
    }
}

pub(crate) const OK: fn() -> Reply = || Reply::Simple(b"OK".to_vec());

#[test]
fn files_of_redis() {
    let Some(server) = redis() else { return };
    let mut redis = server.connect();
    for (seed, policy) in [(1, "noeviction"), (2, "allkeys-lru"), (3, "allkeys-lfu")] {
        call(&mut redis, &[b"FLUSHALL"]);
        call(&mut redis, &[b"CONFIG", b"SET", b"maxmemory-policy", policy.as_bytes()]);
        run(&mut redis, &commands(seed));
        let library = b"#!lua name=mine\nredis.register_function('f', function() return 1 end)";
        call(&mut redis, &[b"FUNCTION", b"LOAD", b"REPLACE", library]);
        call(&mut redis, &[b"SET", b"brief", b"v", b"PX", b"1"]);
        assert_eq!(call(&mut redis, &[b"SAVE"]), OK());
        call(&mut redis, &[b"DEL", b"brief"]);
        let Reply::Integer(selected) = call(&mut redis, &[b"DBSIZE"]) else { panic!("it is a number") };
        let mut file = fs::File::open(server.dir().join("dump.rdb")).expect("it was saved");
        let mut engine = engine();
        // By then it has expired.
        std::thread::sleep(std::time::Duration::from_millis(5));
        engine.refresh_clock();
        let report = engine.load(SpaceId::FIRST, Reader::from_medium(&mut file)).expect("it is whole");
        assert_eq!(engine.digest(), digest(&mut redis), "{policy}");
        assert_eq!((report.keys, report.functions), (selected as u64 * 2, 1), "{report:?}");
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).expect("it is read");
        assert!(rest.is_empty(), "to its end");
    }
}

#[test]
fn libraries_of_functions_are_kept_as_they_are() {
    let Some(mut redis) = redis() else { return };
    let library = b"#!lua name=mine\nredis.register_function('f', function() return 1 end)";
    let list: &[&[u8]] = &[b"FUNCTION", b"LIST", b"WITHCODE"];
    let mut client = redis.connect();
    call(&mut client, &[b"FUNCTION", b"LOAD", library]);
    call(&mut client, &[b"SET", b"key", b"value"]);
    assert_eq!(call(&mut client, &[b"SAVE"]), OK());
    let (expected, file) = (call(&mut client, list), redis.dir().join("dump.rdb"));
    assert!(matches!(&expected, Reply::Array(libraries) if libraries.len() == 1), "{expected:?}");

    let mut mortise = Server::start(&["save ''", "enable-debug-command yes"]);
    let own = mortise.dir().join("dump.rdb");
    mortise.kill();
    fs::copy(&file, &own).expect("it is copied");
    mortise.restart();
    assert!(mortise.log().contains("is kept, but cannot be called"), "{}", mortise.log());
    // Neither what empties the data nor what loads it again is to take them away.
    let words: [&[&[u8]]; 4] =
        [&[b"FLUSHALL"], &[b"SET", b"other", b"value"], &[b"DEBUG", b"RELOAD"], &[b"SAVE"]];
    words.iter().for_each(|words| assert_eq!(call(&mut mortise.connect(), words), OK(), "{words:?}"));
    redis.kill();
    fs::copy(&own, &file).expect("it is copied");
    redis.restart();
    assert_eq!(call(&mut redis.connect(), list), expected);

    // Nor a journal that begins with them.
    call(&mut mortise.connect(), &[b"CONFIG", b"SET", b"appendonly", b"yes"]);
    let log = || mortise.log();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !log().contains("Background AOF rewrite finished successfully") {
        assert!(std::time::Instant::now() < deadline, "{}", log());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let base = mortise.dir().join("appendonlydir/appendonly.aof.1.base.rdb");
    redis.kill();
    fs::copy(&base, &file).expect("it is copied");
    redis.restart();
    assert_eq!(call(&mut redis.connect(), list), expected);
}

#[test]
fn files_of_mortise() {
    let Some(mut server) = redis() else { return };
    for (seed, compresses) in [(4, true), (5, false)] {
        let mut engine = engine();
        engine.config.persistence.rdbcompression = compresses;
        let mut session = engine.local_session();
        for command in commands(seed) {
            let command: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            let (given, reply) = engine.request(session.take().expect("no call waits"), &command);
            assert_ne!(reply.first(), Some(&b'-'), "{}", reply.escape_ascii());
            session = given;
        }
        server.kill();
        let mut file = Vec::new();
        engine.save(SpaceId::FIRST, &mut file).expect("memory takes it");
        fs::write(server.dir().join("dump.rdb"), file).expect("it is written");
        server.restart();
        assert_eq!(digest(&mut server.connect()), engine.digest(), "{}", server.log());
    }
}
