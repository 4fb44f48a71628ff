//! Scripts that run for long, and what others see of them meanwhile.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mortise_tests::differences::Differences;
use mortise_tests::runner::{Mode, Runner};
use mortise_tests::script::Script;
use mortise_tests::{Client, Reply, Server};

/// Scripts that never end, each in a way of its own.
const ENDLESS: &[(&str, &str)] = &[
    ("plain", "while true do end"),
    ("in pcall", "while true do pcall(function() while true do end end) end"),
    (
        "in a coroutine under pcall",
        "while true do pcall(function() coroutine.wrap(function() while true do end end)() end) end",
    ),
    ("in an xpcall handler", "xpcall(function() error('x') end, function() while true do end end)"),
    (
        "a pattern",
        "local s = string.rep('a', 100) while true do string.find(s, string.rep('a?', 100) .. 'b') end",
    ),
    ("string.rep", "while true do local s = string.rep('x', 1000000) end"),
    (
        "a sort's comparator",
        "while true do local t = {} for i = 1, 1000 do t[i] = i % 7 end table.sort(t, function(a, b) return a < b end) end",
    ),
    (
        "gsub's callback",
        "while true do string.gsub(string.rep('x', 1000), '.', function(c) return c end) end",
    ),
    ("tail recursion", "local function f() return f() end return f()"),
    (
        "a metamethod",
        "local t = setmetatable({}, {__index = function(t, k) while true do end end}) return t.x",
    ),
    ("concatenation", "while true do local s = '' for i = 1, 1000 do s = s .. 'x' end end"),
    (
        "deep recursion",
        "local function f(n) if n > 0 then return 1 + f(n - 1) end return 0 end while true do pcall(f, 5000) end",
    ),
    ("an error handler", "while true do xpcall(function() error({}) end, function(e) return e end) end"),
];

fn text(reply: Reply) -> String {
    match reply {
        Reply::Error(text) | Reply::Simple(text) | Reply::Bulk(text) => {
            String::from_utf8_lossy(&text).into_owned()
        }
        other => format!("{other:?}"),
    }
}

fn busy(client: &mut Client) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        if text(client.call(&["PING"]).unwrap()).starts_with("BUSY") {
            return true;
        }
    }
    false
}

#[test]
fn every_endless_script_is_ended_and_others_are_answered_meanwhile() {
    let server = Server::start(&["busy-reply-threshold 20"]);
    let connect = || Client::connect(server.address()).expect("the server accepts");
    let (mut slow, mut other) = (connect(), connect());
    for (name, script) in ENDLESS {
        slow.send(&["EVAL", script, "0"]).unwrap();
        assert!(busy(&mut other), "{name}: it is noticed");
        assert_eq!(text(other.call(&["SCRIPT", "KILL"]).unwrap()), "OK", "{name}");
        let reply = text(slow.receive().unwrap());
        assert!(reply.starts_with("ERR Script killed by user with SCRIPT KILL"), "{name}: {reply}");
        assert_eq!(text(other.call(&["PING"]).unwrap()), "PONG", "{name}");
        assert_eq!(slow.call(&["EVAL", "return 1", "0"]).unwrap(), Reply::Integer(1), "{name}");
    }
}

#[test]
fn only_the_script_that_runs_is_ended() {
    const ENDED: &str = "ERR Script killed by user with SCRIPT KILL";
    let server = Server::start(&["busy-reply-threshold 20"]);
    let connect = || Client::connect(server.address()).expect("the server accepts");
    let (mut slow, mut other) = (connect(), connect());
    let mut kill = || {
        assert!(busy(&mut other));
        assert_eq!(text(other.call(&["SCRIPT", "KILL"]).unwrap()), "OK");
    };
    // Of a pipeline. The last one takes long enough to ask whether it is to end.
    let (endless, writes) =
        ("while true do end", "for i = 1, 10000000 do end return redis.call('INCR', 'k')");
    for script in [endless, writes] {
        slow.send(&["EVAL", script, "0"]).unwrap();
    }
    kill();
    let reply = text(slow.receive().unwrap());
    assert!(reply.starts_with(ENDED), "{reply}");
    assert_eq!(slow.receive().unwrap(), Reply::Integer(1));
    // Of a transaction, in which the one before has written.
    slow.call(&["MULTI"]).unwrap();
    for script in ["return redis.call('INCR', 'k')", endless, writes] {
        slow.call(&["EVAL", script, "0"]).unwrap();
    }
    slow.send(&["EXEC"]).unwrap();
    kill();
    let Reply::Array(replies) = slow.receive().unwrap() else { panic!("EXEC answers") };
    assert_eq!((&replies[0], &replies[2]), (&Reply::Integer(2), &Reply::Integer(3)));
    assert!(text(replies[1].clone()).starts_with(ENDED));
}

#[test]
fn a_script_that_a_pause_has_held_back_gives_way_like_every_other() {
    let server = Server::start(&["busy-reply-threshold 20"]);
    let connect = || Client::connect(server.address()).expect("the server accepts");
    let (mut slow, mut other) = (connect(), connect());
    for transaction in [false, true] {
        let endless = ["EVAL", "while true do end", "0"];
        if transaction {
            // Before the pause, which would hold back what is to be queued, too.
            assert_eq!(text(slow.call(&["MULTI"]).unwrap()), "OK");
            assert_eq!(text(slow.call(&endless).unwrap()), "QUEUED");
        }
        assert_eq!(text(other.call(&["CLIENT", "PAUSE", "100000", "WRITE"]).unwrap()), "OK");
        slow.send(if transaction { &["EXEC"] } else { &endless }).unwrap();
        slow.send(&["PING", "behind"]).unwrap();
        while !text(other.call(&["INFO", "clients"]).unwrap()).contains("blocked_clients:1") {}
        assert_eq!(text(other.call(&["CLIENT", "UNPAUSE"]).unwrap()), "OK");
        assert!(busy(&mut other));
        assert_eq!(text(other.call(&["SCRIPT", "KILL"]).unwrap()), "OK");
        let reply = match slow.receive().unwrap() {
            Reply::Array(replies) => replies[0].clone(),
            reply => reply,
        };
        assert!(text(reply).starts_with("ERR Script killed by user with SCRIPT KILL"));
        assert_eq!(text(slow.receive().unwrap()), "behind");
    }
}

#[test]
fn a_pause_of_writes_lets_scripts_run_that_have_said_that_they_do_not_write() {
    let server = Server::start(&["enable-debug-command yes"]);
    let connect = || Client::connect(server.address()).expect("the server accepts");
    let (mut client, mut other) = (connect(), connect());
    let reads = "#!lua flags=no-writes\nreturn 1";
    let digest = text(client.call(&["SCRIPT", "LOAD", reads]).unwrap());
    assert_eq!(text(other.call(&["CLIENT", "PAUSE", "100000", "WRITE"]).unwrap()), "OK");
    assert_eq!(client.call(&["EVAL", reads, "0"]).unwrap(), Reply::Integer(1));
    assert_eq!(client.call(&["EVALSHA", &digest, "0"]).unwrap(), Reply::Integer(1));
    client.call(&["MULTI"]).unwrap();
    client.call(&["EVALSHA", &digest, "0"]).unwrap();
    assert_eq!(client.call(&["EXEC"]).unwrap(), Reply::Array(vec![Reply::Integer(1)]));
    // Those that may write wait, and those that are wrong or not known.
    let unknown = "0".repeat(40);
    let held: [&[&str]; 4] = [
        &["EVAL", "return 1", "0"],
        &["EVAL", "#!lua\nreturn 1", "0"],
        &["EVAL", "#!lua flags=nonsense\nreturn 1", "0"],
        &["EVALSHA", &unknown, "0"],
    ];
    let mut waiting: Vec<Client> = held.iter().map(|_| connect()).collect();
    for (client, call) in waiting.iter_mut().zip(held) {
        client.send(call).unwrap();
    }
    while !text(other.call(&["INFO", "clients"]).unwrap()).contains("blocked_clients:4") {}
    assert_eq!(text(other.call(&["CLIENT", "UNPAUSE"]).unwrap()), "OK");
    let replies: Vec<String> = waiting.iter_mut().map(|client| text(client.receive().unwrap())).collect();
    assert_eq!(replies[..2], ["Integer(1)", "Integer(1)"]);
    assert!(replies[2].starts_with("ERR") && replies[3].starts_with("NOSCRIPT"), "{replies:?}");
}

#[test]
fn a_script_that_has_written_is_not_ended() {
    let server = Server::start(&["busy-reply-threshold 20"]);
    let connect = || Client::connect(server.address()).expect("the server accepts");
    let (mut slow, mut other) = (connect(), connect());
    let script = "redis.call('SET', 'k', 1) for i = 1, 100000000 do end return redis.call('INCR', 'k')";
    slow.send(&["EVAL", script, "0"]).unwrap();
    assert!(busy(&mut other));
    assert!(text(other.call(&["SCRIPT", "KILL"]).unwrap()).starts_with("UNKILLABLE Sorry"));
    assert!(text(other.call(&["GET", "k"]).unwrap()).starts_with("BUSY"), "nobody sees it half done");
    assert_eq!(slow.receive().unwrap(), Reply::Integer(2));
    sleep(Duration::from_millis(20));
    assert_eq!(text(other.call(&["GET", "k"]).unwrap()), "2");
}

#[test]
fn a_client_that_leaves_does_not_take_its_script_along() {
    let server = Server::start(&["busy-reply-threshold 20"]);
    let connect = || Client::connect(server.address()).expect("the server accepts");
    let mut other = connect();
    let script = "for i = 1, 50000000 do end redis.call('SET', 'k', 'done')";
    let mut slow = connect();
    slow.send(&["EVAL", script, "0"]).unwrap();
    assert!(busy(&mut other));
    drop(slow);
    let start = Instant::now();
    while text(other.call(&["GET", "k"]).unwrap()) != "done" {
        assert!(start.elapsed() < Duration::from_secs(10), "the script has not come to its end");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_script_that_wants_too_much_memory_fails() {
    let server = Server::start(&["script-memory-limit 64mb"]);
    let mut client = Client::connect(server.address()).expect("the server accepts");
    for script in [
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "return string.rep('x', 1e9)",
        "local s = 'x' while true do s = s .. s end",
        "return unpack({}, 1, 1e8)",
        "local s = string.rep('x', 2e7) local t = {} for i = 1, 220 do t[i] = s end return redis.call('ECHO', unpack(t))",
    ] {
        let reply = text(client.call(&["EVAL", script, "0"]).unwrap());
        assert!(reply.starts_with("ERR "), "{script}: {reply}");
        assert_eq!(client.call(&["EVAL", "return 1", "0"]).unwrap(), Reply::Integer(1), "{script}");
    }
}

#[test]
fn the_runner_calls_commands_from_lua() {
    let server = Server::start(&[]);
    let text = "> SET k v\n+OK\n> GET k\n\"v\"\n> SELECT 0\n+OK\n@not-lua\n> GET k\n\"v\"\n";
    let script = Script::parse(Path::new("x.test"), text).expect("it is a script");
    let differences = Differences::default();
    let mut runner = Runner::connect(server.address(), &differences).expect("the server answers");
    let outcome = runner.run(&script, Mode::Lua).expect("the server answers");
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    let Reply::Bulk(stats) = server.connect().call(&["INFO", "commandstats"]).expect("the server answers")
    else {
        panic!("INFO is a text")
    };
    let stats = String::from_utf8_lossy(&stats);
    for calls in ["eval:calls=2", "get:calls=2", "set:calls=1", "select:calls=1"] {
        assert!(stats.contains(&format!("cmdstat_{calls},")), "{calls}: {stats}");
    }
}
