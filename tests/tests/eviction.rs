//! Eviction seen from outside: how many keys go, and which. Runs against a real Redis as well (`REFERENCE=redis-server`).

use mortise_tests::reference::Reference;
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

/// A field of INFO.
fn info(client: &mut Client, section: &str, field: &str) -> i64 {
    let Reply::Bulk(text) = client.call(&["INFO", section]).expect("the server answers") else {
        panic!("INFO is a text")
    };
    let text = String::from_utf8(text).expect("INFO is UTF-8");
    let field = format!("{field}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&field)).expect("it is there");
    line.parse().expect("a number")
}

#[test]
fn what_has_to_go_goes_without_another_command() {
    let Some(server) = start() else { return };
    let mut client = server.connect();
    let value = "x".repeat(100);
    for n in 0..50_000 {
        client.send(&["SET", &format!("key:{n}"), &value]).expect("the server listens");
    }
    (0..50_000).for_each(|_| drop(client.receive().expect("the server answers")));
    // Some twenty thousand keys, which takes more than the time of one command.
    limit(&mut client, "allkeys-random", -4_000_000);
    std::thread::sleep(std::time::Duration::from_millis(2000));
    let evicted = info(&mut client, "stats", "evicted_keys");
    assert!(evicted > 2_000, "{evicted} were evicted");
    let left = settle(&mut client, 40_000);
    assert!((20_000..40_000).contains(&left), "{left} are left");
    ok(&mut client, &["CONFIG", "SET", "maxmemory", "1gb"]);
    let over_ms = info(&mut client, "stats", "total_eviction_exceeded_time");
    assert!((1..20_000).contains(&over_ms), "{over_ms} ms");
    assert_eq!(info(&mut client, "stats", "current_eviction_exceeded_time"), 0);
    ok(&mut client, &["CONFIG", "RESETSTAT"]);
    assert_eq!(info(&mut client, "stats", "total_eviction_exceeded_time"), 0);
}

#[test]
fn the_time_over_the_limit_is_counted_while_nothing_can_go() {
    let Some(server) = start() else { return };
    let mut client = server.connect();
    ok(&mut client, &["SET", "key", "value"]);
    ok(&mut client, &["CONFIG", "SET", "maxmemory-policy", "volatile-ttl", "maxmemory", "1"]);
    assert!(matches!(client.call(&["SET", "k", "v"]), Ok(Reply::Error(_))));
    std::thread::sleep(std::time::Duration::from_millis(50));
    let (current, total) = ("current_eviction_exceeded_time", "total_eviction_exceeded_time");
    let over_ms = info(&mut client, "stats", current);
    assert!((40..5000).contains(&over_ms), "{over_ms} ms");
    assert!(info(&mut client, "stats", total) >= over_ms);
    ok(&mut client, &["CONFIG", "SET", "maxmemory", "1gb"]);
    ok(&mut client, &["SET", "k", "v"]);
    assert_eq!(info(&mut client, "stats", current), 0);
    assert!(info(&mut client, "stats", total) >= over_ms);
}

#[test]
fn what_a_worker_frees_is_counted() {
    let Some(server) = start() else { return };
    let mut client = server.connect();
    let members: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    for key in ["one", "two", "three"] {
        let add: Vec<&str> = ["SADD", key].into_iter().chain(members.iter().map(String::as_str)).collect();
        number(&mut client, &add);
        ok(&mut client, &["SET", &format!("small:{key}"), "x"]);
    }
    number(&mut client, &["UNLINK", "one", "small:one"]);
    let settled = |client: &mut Client| {
        let start = std::time::Instant::now();
        while info(client, "memory", "lazyfree_pending_objects") > 0 {
            assert!(start.elapsed().as_secs() < 10, "they are never freed");
        }
        info(client, "memory", "lazyfreed_objects")
    };
    assert_eq!(settled(&mut client), 1, "what is small is freed at once");
    ok(&mut client, &["FLUSHALL", "ASYNC"]);
    assert_eq!(settled(&mut client), 5, "of a database each key counts");
    ok(&mut client, &["CONFIG", "RESETSTAT"]);
    assert_eq!(settled(&mut client), 0);
}

/// A stream of numbers that are alike each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

/// How often a cache of 5000 keys has what is asked for, of 50,000 keys by Zipf's law. What it does not have is put in.
fn hit_ratio(server: &Server, policy: &str) -> f64 {
    const KEYS: usize = 50_000;
    const ROOM: usize = 5_000;
    const ASKED: usize = 120_000;
    const TOGETHER: usize = 100;
    let mut client = server.connect();
    let fill = |keys: &[usize], client: &mut Client| {
        keys.iter().for_each(|key| client.send(&["GET", &format!("key:{key}")]).expect("the server listens"));
        let had: Vec<bool> = keys.iter().map(|_| matches!(client.receive(), Ok(Reply::Bulk(_)))).collect();
        let value = "x".repeat(300);
        let missing: Vec<usize> =
            keys.iter().zip(&had).filter(|(_, had)| !**had).map(|(key, _)| *key).collect();
        for key in &missing {
            client.send(&["SET", &format!("key:{key}"), &value]).expect("the server listens");
        }
        missing.iter().for_each(|_| drop(client.receive().expect("the server answers")));
        had.iter().filter(|had| **had).count()
    };
    // The same number of keys fits into both servers.
    let empty = used_memory(&mut client);
    (KEYS..KEYS + ROOM).collect::<Vec<_>>().chunks(TOGETHER).for_each(|keys| {
        fill(keys, &mut client);
    });
    let room = used_memory(&mut client) - empty;
    ok(&mut client, &["FLUSHALL"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    limit(&mut client, policy, room);
    let mut sum = 0.0;
    let shares: Vec<f64> = (1..=KEYS)
        .map(|rank| {
            sum += 1.0 / (rank as f64).powf(0.99);
            sum
        })
        .collect();
    let (mut numbers, mut hits, mut counted) = (Numbers(3), 0, 0);
    let start = std::time::Instant::now();
    for round in 0..ASKED / TOGETHER {
        let keys: Vec<usize> = (0..TOGETHER)
            .map(|_| {
                let share = numbers.next() as f64 / (1u64 << 31) as f64 * sum;
                // Ranks are spread over the keys.
                shares.partition_point(|known| *known < share).min(KEYS - 1) * 7_919 % KEYS
            })
            .collect();
        let had = fill(&keys, &mut client);
        if round > ASKED / TOGETHER / 3 {
            (hits, counted) = (hits + had, counted + TOGETHER);
        }
        // Ten seconds in all: the clocks of keys tell seconds apart.
        let due = std::time::Duration::from_micros((round * TOGETHER) as u64 * 10_000_000 / ASKED as u64);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    hits as f64 / counted as f64
}

#[test]
fn the_cache_hits_as_often_as_that_of_redis() {
    for policy in ["allkeys-lru", "allkeys-lfu"] {
        let ratios = std::thread::scope(|scope| {
            let reference = Reference::installed().expect("redis-server is installed");
            let theirs = reference.start(&[]).expect("it starts").expect("it is a process of its own");
            let runs =
                [Server::start(&[]), theirs].map(|server| scope.spawn(move || hit_ratio(&server, policy)));
            runs.map(|run| run.join().expect("the workload runs"))
        });
        let [ours, theirs] = ratios;
        eprintln!("{policy}: {ours:.4}, redis-server {theirs:.4}");
        assert!(ours > theirs - 0.01, "{policy}: {ours:.4}, redis-server {theirs:.4}");
    }
}
