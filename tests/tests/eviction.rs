//! Eviction seen from outside: how many keys go, and which. Runs against a real Redis as well (`REFERENCE=redis-server`).

use mortise_tests::suite::Target;
use mortise_tests::{Client, Reply, Server};

/// A server of one's own; `None` if the target cannot be given a configuration.
fn start() -> Option<Server> {
    Target::from_env().start(&[]).unwrap_or_else(|error| panic!("the server does not start: {error}"))
}

fn number(client: &mut Client, command: &[&str]) -> i64 {
    match client.call(command).expect("the server answers") {
        Reply::Integer(number) => number,
        other => panic!("{command:?}: {other:?}"),
    }
}

fn ok(client: &mut Client, command: &[&str]) {
    let reply = client.call(command).expect("the server answers");
    assert_eq!(reply, Reply::Simple(b"OK".to_vec()), "{command:?}");
}

fn used_memory(client: &mut Client) -> i64 {
    // The figure is a sample; a tick is a tenth of a second at most.
    std::thread::sleep(std::time::Duration::from_millis(250));
    let Reply::Bulk(text) = client.call(&["INFO", "memory"]).expect("the server answers") else {
        panic!("INFO is a text")
    };
    let text = String::from_utf8(text).expect("INFO is UTF-8");
    let line = text.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("it is there");
    line.parse().expect("a number")
}

/// Limits memory to what is used now and `more` bytes.
fn limit(client: &mut Client, policy: &str, more: i64) {
    let limit = used_memory(client) + more;
    ok(client, &["CONFIG", "SET", "maxmemory-policy", policy, "maxmemory", &limit.to_string()]);
}

/// Lets eviction, of which each command does a little, come to its end: until few enough keys are left, or ten seconds.
fn settle(client: &mut Client, keys_max: i64) -> i64 {
    let start = std::time::Instant::now();
    loop {
        let keys = number(client, &["DBSIZE"]);
        if keys < keys_max || start.elapsed().as_secs() >= 10 {
            return keys;
        }
    }
}

#[test]
fn about_as_much_goes_as_has_to() {
    let Some(server) = start() else { return };
    let mut client = server.connect();
    limit(&mut client, "allkeys-lru", 30 << 20);
    // Short values are freed at once, long ones by another thread: 300 MB pass through 30 either way.
    for (len, count) in [(1_000, 100_000), (100_000, 3_000), (1_000_000, 300)] {
        ok(&mut client, &["FLUSHALL"]);
        let value = "x".repeat(len);
        for n in 0..count / 2 {
            ok(&mut client, &["SET", &format!("key:{n}"), &value]);
        }
        let kept = number(&mut client, &["DBSIZE"]) * len as i64;
        // What tables and buffers take is no value.
        assert!((12 << 20..=31 << 20).contains(&kept), "{kept} bytes are kept of values of {len}");
    }
}

#[test]
fn large_collections_do_not_take_others_along() {
    let Some(server) = start() else { return };
    let mut client = server.connect();
    limit(&mut client, "allkeys-lru", 30 << 20);
    for n in 0..40 {
        let key = format!("hash:{n}");
        for chunk in 0..20 {
            let fields: Vec<String> =
                (0..1000).flat_map(|field| [format!("f:{chunk}:{field}"), "v".repeat(100)]).collect();
            let command: Vec<&str> =
                ["HSET", &key].into_iter().chain(fields.iter().map(String::as_str)).collect();
            number(&mut client, &command);
        }
    }
    // A hash takes 2.5 to 3.5 MB.
    let kept = number(&mut client, &["DBSIZE"]);
    assert!((6..=13).contains(&kept), "{kept} hashes are kept");
}

#[test]
fn random_eviction_takes_from_each_database_its_share() {
    let Some(server) = start() else { return };
    let mut client = server.connect();
    let value = "x".repeat(1_000);
    for (db, count) in [("0", 2_000), ("5", 6_000)] {
        ok(&mut client, &["SELECT", db]);
        for n in 0..count {
            ok(&mut client, &["SET", &format!("key:{n}"), &value]);
        }
    }
    // Room for half of it.
    limit(&mut client, "allkeys-random", -4_000_000);
    settle(&mut client, 4_500);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let many = number(&mut client, &["DBSIZE"]);
    ok(&mut client, &["SELECT", "0"]);
    let few = number(&mut client, &["DBSIZE"]);
    assert!((2_000..4_500).contains(&many) && few < 1_700, "{few} and {many} keys are left");
}

#[test]
fn what_is_used_often_stays() {
    let Some(server) = start() else { return };
    let mut client = server.connect();
    ok(&mut client, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    let value = "x".repeat(1_000);
    for n in 0..200 {
        ok(&mut client, &["SET", &format!("often:{n}"), &value]);
        for _ in 0..20 {
            client.call(&["GET", &format!("often:{n}")]).expect("the server answers");
        }
    }
    limit(&mut client, "allkeys-lfu", 3 << 20);
    for n in 0..10_000 {
        ok(&mut client, &["SET", &format!("once:{n}"), &value]);
    }
    let names: Vec<String> = (0..200).map(|n| format!("often:{n}")).collect();
    let command: Vec<&str> = ["EXISTS"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let kept = number(&mut client, &command);
    assert!(kept >= 150, "{kept} of 200 are left");
}

#[test]
fn nothing_goes_during_a_pause() {
    let Some(server) = start() else { return };
    let mut client = server.connect();
    let value = "x".repeat(1_000);
    for n in 0..2_000 {
        ok(&mut client, &["SET", &format!("key:{n}"), &value]);
    }
    ok(&mut client, &["CLIENT", "PAUSE", "600", "WRITE"]);
    limit(&mut client, "allkeys-lru", -1_000_000);
    assert_eq!(number(&mut client, &["DBSIZE"]), 2_000);
    ok(&mut client, &["CLIENT", "UNPAUSE"]);
    assert!(settle(&mut client, 1_900) < 1_900);
}
