//! Scripts without an end give way while they run, and end soon when they are told to.

mod common;

use std::time::{Duration, Instant};

use common::{Keyspace, Run, run, text};
use mortise_scripting::{Outcome, Sandbox, Settings};
use mortise_sdk::resp::encode::Version;

/// What the scripts are, and the scripts.
const ENDLESS: &[(&str, &str)] = &[
    ("plain", "while true do end"),
    ("in pcall", "while true do pcall(function() while true do end end) end"),
    (
        "in a coroutine under pcall",
        "while true do pcall(function() coroutine.wrap(function() while true do end end)() end) end",
    ),
    ("in a handler of xpcall", "xpcall(function() error('x') end, function() while true do end end)"),
    (
        "in a function and a handler of xpcall",
        "xpcall(function() while true do end end, function() while true do end end)",
    ),
    ("a pattern that tries everything", "return ('a'):rep(30):find(('a?'):rep(30) .. ('a'):rep(30))"),
    ("a pattern with many ends", "return ('a'):rep(5000):find('.-.-.-.-b')"),
    ("a pattern on a long text", "return ('a'):rep(1000000):find('.-b')"),
    ("a class as long as the text", "return ('a'):rep(100000):find('[' .. ('b'):rep(100000) .. ']')"),
    ("balanced brackets that never close", "return ('('):rep(1000000):find('%b()')"),
    ("a capture that comes again", "return ('a'):rep(500000):match('(.-)%1b')"),
    ("a plain search", "return ('a'):rep(4000000):find(('a'):rep(2000000) .. 'b', 1, true)"),
    ("string.rep", "while true do local s = ('x'):rep(1000000) end"),
    ("string.rep of nothing", "while true do local s = (''):rep(2147483647) end"),
    ("string.rep of much", "while true do local s = ('x'):rep(100000000) end"),
    ("upper and lower", "local s = ('x'):rep(50000000) while true do s:upper() s:lower() s:reverse() end"),
    ("a comparator of sort", "table.sort({3, 2, 1}, function(a, b) while true do end end)"),
    (
        "sort",
        "while true do local t = {} for i = 1, 20000 do t[i] = (i * 7919) % 20011 end
         table.sort(t, function(a, b) return a < b end) end",
    ),
    (
        "sort without a comparator",
        "local t = {} for i = 1, 300000 do t[i] = (i * 7919) % 300007 end
         while true do table.sort(t) t[1], t[150000], t[300000] = 7, 3, 1 end",
    ),
    (
        "sort of long strings",
        "local s, t = ('x'):rep(1000000), {} for i = 1, 30 do t[i] = s .. i end while true do table.sort(t) end",
    ),
    ("a function of gsub", "return ('aaaa'):gsub('a', function() while true do end end)"),
    (
        "gsub in pcall in a coroutine in sort",
        "table.sort({3, 2, 1}, function(a, b)
           coroutine.wrap(function() pcall(string.gsub, 'aa', 'a', function() while true do end end) end)()
           return a < b
         end) while true do end",
    ),
    ("tail calls", "local function f() return f() end return f()"),
    ("tail calls with ever more arguments", "local function f(...) return f(1, ...) end return f()"),
    ("a metamethod", "return setmetatable({}, {__index = function(t, k) while true do end end}).x"),
    (
        "metamethods of an operator",
        "local m = {} m.__add = function(a, b) while true do end end
         return setmetatable({}, m) + 1",
    ),
    ("concatenation", "while true do local s = '' for i = 1, 2000 do s = s .. ('x'):rep(1000) end end"),
    ("concatenation of much", "local s = ('x'):rep(30000000) while true do local t = s .. #s end"),
    (
        "table.concat",
        "local t = {} for i = 1, 1000 do t[i] = ('y'):rep(10000) end while true do table.concat(t) end",
    ),
    ("deep recursion", "local function f() return 1 + f() end while true do pcall(f) end"),
    ("recursion through pcall", "local function f() pcall(f) f() end f()"),
    ("errors in a handler", "while true do xpcall(error, function() error() end) end"),
    ("errors", "while true do pcall(error, {}) pcall(error) pcall(nil) end"),
    (
        "coroutines that are made anew",
        "while true do local co = coroutine.create(function() while true do end end) coroutine.resume(co) end",
    ),
    (
        "coroutines within coroutines",
        "local function f() local co = coroutine.wrap(function() while true do pcall(f) end end) co() end
         while true do pcall(f) end",
    ),
    (
        "coroutines that take turns",
        "local a = coroutine.wrap(function() while true do coroutine.yield() end end) while true do a() end",
    ),
    ("calls", "while true do redis.call('PING') end"),
    ("calls in pcall", "while true do redis.pcall('nosuch') pcall(redis.call, 'nosuch') end"),
    ("loading", "while true do loadstring('return ' .. ('('):rep(100) .. '1' .. (')'):rep(100))() end"),
    ("inserting before everything", "table.insert({}, -2147483647, 1)"),
    (
        "inserting at the front",
        "local t = {} for i = 1, 1000000 do t[i] = i end
         while true do table.insert(t, 1, 0) table.remove(t, 1) end",
    ),
    ("counting", "local t = {} for i = 1, 1000000 do t[i] = i end while true do table.maxn(t) end"),
    (
        "JSON of a table many times over",
        "local t = {'leaf'} for i = 1, 30 do t = {t, t} end return #cjson.encode(t)",
    ),
    (
        "JSON again and again",
        "local t = {} for i = 1, 200000 do t[i] = i end while true do cjson.decode(cjson.encode(t)) end",
    ),
    (
        "MessagePack of a table many times over",
        "local t = 1 for i = 1, 15 do t = {t, t, t, t, t, t, t, t} end return #cmsgpack.pack(t)",
    ),
    ("collecting", "local t = {} for i = 1, 100000 do t[i] = {} end while true do collectgarbage() end"),
    ("garbage", "local t = {} while true do t[#t % 1000 + 1] = ('x'):rep(100) .. #t end"),
];

/// A result that takes long to be written.
const LONG_RESULT: &str = "local t = {'leaf'} for i = 1, 26 do t = {t, t} end return t";

/// How long a script runs before it is told to end.
const TIME: Duration = Duration::from_millis(30);
/// In which time it is over then. A machine that does other things as well takes its share, so that several tries count.
const END_MAX: Duration = Duration::from_millis(50);
const TRIES: usize = 5;

#[test]
fn endless_scripts_are_ended() {
    let mut problems = Vec::new();
    for (name, script) in ENDLESS {
        let mut best = Duration::MAX;
        let mut longest = Duration::MAX;
        for _ in 0..TRIES {
            let run_one = Run::begin(Sandbox::new(Settings::default()), script);
            let (ended, slice) = end(name, run_one);
            best = best.min(ended);
            longest = longest.min(slice);
            if best < END_MAX && longest < END_MAX {
                break;
            }
        }
        println!("{name:45} ended in {best:9.2?}, longest slice {longest:9.2?}");
        if best >= END_MAX || longest >= END_MAX {
            problems.push(format!("{name}: ended in {best:?}, longest slice {longest:?}"));
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Lets a script run for a while, ends it, and says how long that took, and how long the script did not give way.
fn end(name: &str, mut run_one: Run) -> (Duration, Duration) {
    let (over, longest) = run_one.resume_for(TIME);
    if let Some((_, outcome, reply)) = over {
        panic!("{name}: was over by itself ({outcome:?}): {}", text(&reply));
    }
    run_one.end();
    let start = Instant::now();
    let (over, _) = run_one.resume_for(Duration::from_secs(10));
    let took = start.elapsed();
    let Some((mut sandbox, outcome, reply)) = over else { panic!("{name}: does not end") };
    let reply = text(&reply);
    assert_eq!(outcome, Outcome::Ended, "{name}: {reply}");
    assert!(reply.starts_with("-ERR Script killed by user with SCRIPT KILL... script: "), "{name}: {reply}");
    assert!(reply.contains(", on @user_script:"), "{name}: {reply}");
    // The next script finds everything as it should be.
    let host = &mut Keyspace::default();
    let script = "local t = {} for i = 1, 50 do t[i] = tostring(i) end table.sort(t) return #t .. t[2]";
    assert_eq!(run(&mut sandbox, host, Version::Resp2, script).1, b"$4\r\n5010\r\n", "{name}");
    (took, longest)
}

#[test]
fn a_result_that_takes_long_gives_way_too() {
    let run_one = Run::begin(Sandbox::new(Settings::default()), LONG_RESULT);
    let mut run_one = run_one;
    let start = Instant::now();
    let mut pauses = 0;
    let (mut sandbox, outcome, reply) = loop {
        match run_one.resume() {
            Some(result) => break result,
            None => pauses += 1,
        }
        if start.elapsed() > TIME {
            run_one.end();
        }
    };
    assert!(pauses > 5, "{pauses} pauses");
    assert_eq!(outcome, Outcome::Ended);
    assert!(text(&reply).starts_with("-ERR Script killed by user"), "{}", text(&reply));
    assert_eq!(run(&mut sandbox, &mut Keyspace::default(), Version::Resp2, "return 1").1, b":1\r\n");
}

#[test]
fn a_long_reply_gives_way_while_it_becomes_a_value() {
    const ENTRIES: usize = 100_000;
    let entry = "*2\r\n$3\r\n1-1\r\n*2\r\n$5\r\nfield\r\n$5\r\nvalue\r\n";
    let long = format!("*{ENTRIES}\r\n{}", entry.repeat(ENTRIES));
    let script = "local t = redis.call('PING') return {#t, t[1], t[#t]}";
    for (ends, outcome, begin) in [
        (false, Outcome::Returned, "*3\r\n:100000\r\n*2\r\n$3\r\n1-1\r\n"),
        (true, Outcome::Ended, "-ERR Script killed by user"),
    ] {
        let mut sandbox = Sandbox::new(Settings::default());
        let mut host = Keyspace { scripted: vec![long.clone().into()], ends, ..Keyspace::default() };
        let (found, reply) = run(&mut sandbox, &mut host, Version::Resp2, script);
        assert_eq!(found, outcome, "{}", text(&reply));
        assert!(text(&reply).starts_with(begin), "{}", text(&reply));
        assert!(host.pauses > if ends { 0 } else { 5 }, "{} pauses", host.pauses);
        assert_eq!(run(&mut sandbox, &mut Keyspace::default(), Version::Resp2, "return 1").1, b":1\r\n");
    }
}

#[test]
fn a_script_that_is_dropped_leaves_nothing_behind() {
    // The driver gives up: the coroutine is unwound, through Lua's frames and whatever stands between them.
    for (name, script) in ENDLESS {
        let mut run_one = Run::begin(Sandbox::new(Settings::default()), script);
        let (over, _) = run_one.resume_for(Duration::from_millis(3));
        assert!(over.is_none(), "{name}");
        drop(run_one);
    }
}

#[test]
fn a_sandbox_survives_runs_that_are_unwound() {
    // Here the host panics in its turn, which is the same to the sandbox: the run is unwound from a pause.
    struct Panics(Keyspace);
    impl mortise_scripting::Host for Panics {
        fn call(&mut self, words: &[&[u8]], version: Version) -> &[u8] {
            self.0.call(words, version)
        }
        fn permits(&mut self, words: &[&[u8]]) -> Option<bool> {
            self.0.permits(words)
        }
        fn log(&mut self, level: mortise_sdk::host::Level, line: &[u8]) {
            self.0.log(level, line);
        }
        fn set_replication(&mut self, replication: mortise_scripting::Replication) {
            self.0.set_replication(replication);
        }
        fn pause(&mut self) -> mortise_scripting::Verdict {
            std::panic::resume_unwind(Box::new("enough"));
        }
    }
    let mut sandbox = Sandbox::new(Settings::default());
    let mut host = Keyspace::default();
    let known = sandbox.load(b"return 'known'").unwrap();
    for (name, script) in ENDLESS {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(&mut sandbox, &mut Panics(Keyspace::default()), Version::Resp2, script)
        }));
        let payload = caught.err().unwrap_or_else(|| panic!("{name}: is over"));
        assert_eq!(payload.downcast_ref(), Some(&"enough"), "{name}");
        let mut out = Vec::new();
        sandbox.run(known, [].into_iter(), [].into_iter(), &mut host, Version::Resp2, &mut out);
        assert_eq!(out, b"$5\r\nknown\r\n", "{name}");
    }
}

#[test]
fn a_call_that_panics_is_not_caught_by_lua() {
    let mut sandbox = Sandbox::new(Settings::default());
    let mut host = Keyspace { panics: true, ..Keyspace::default() };
    for script in [
        "redis.call('PING')",
        "pcall(redis.call, 'PING')",
        "coroutine.wrap(function() redis.pcall('PING') end)()",
    ] {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(&mut sandbox, &mut host, Version::Resp2, script)
        }));
        let payload = caught.expect_err("the panic of a command comes out");
        assert_eq!(payload.downcast_ref(), Some(&"as the test wants it"));
    }
    host.panics = false;
    assert_eq!(run(&mut sandbox, &mut host, Version::Resp2, "return redis.call('PING')").1, b"+PONG\r\n");
}

#[test]
fn short_scripts_do_not_pause() {
    let mut sandbox = Sandbox::new(Settings::default());
    let mut host = Keyspace::default();
    for _ in 0..100 {
        run(&mut sandbox, &mut host, Version::Resp2, "for i = 1, 10 do redis.call('PING') end return 1");
    }
    assert!(host.pauses < 10, "{} pauses", host.pauses);
    let start = Instant::now();
    run(
        &mut sandbox,
        &mut host,
        Version::Resp2,
        "local s = 0 for i = 1, 2000000 do s = s + i % 7 end return s",
    );
    let expected = start.elapsed().as_millis() as usize;
    assert!(host.pauses <= expected + 10, "{} pauses in {expected} ms", host.pauses);
}
