//! Scripts that want more memory than there is fail, and leave it to the next.

mod common;

use common::{Keyspace, run, run_with, text};
use mortise_scripting::{Outcome, Sandbox, Settings};
use mortise_sdk::resp::encode::Version;

const MEMORY_MAX: usize = 16 << 20;

fn sandbox() -> Sandbox {
    Sandbox::new(Settings { memory_max: MEMORY_MAX, ..Settings::default() })
}

#[test]
fn bombs_end_as_errors() {
    for script in [
        "local t = {} while true do t[#t + 1] = {} end",
        "local t = {} while true do t[#t + 1] = #t end",
        "local t = {} local i = 0 while true do i = i + 1 t['k' .. i] = i end",
        "local s = 'x' while true do s = s .. s end",
        "local s = 'x' while true do s = s:rep(2) end",
        "return ('x'):rep(1000000000)",
        "return ('xxxxxxxxxx'):rep(200000000)",
        "local t = {} for i = 1, 100 do t[i] = ('x'):rep(1000000) .. i end return table.concat(t)",
        "return ('x'):rep(10000000):gsub('x', 'yyyyyyyyyy')",
        "return ('%s'):rep(100):format(unpack((function() local t = {} for i = 1, 100 do t[i] = ('x'):rep(5000000) end return t end)()))",
        "local s, t = ('\\1'):rep(1000000), {} for i = 1, 20 do t[i] = s end return cjson.encode(t)",
        "local t = {'leaf'} for i = 1, 40 do t = {t, t} end return cjson.encode(t)",
        "return cjson.decode('[' .. ('[],'):rep(3000000) .. '[]]')",
        "return cmsgpack.unpack('\\221\\0\\16\\0\\0' .. ('\\144'):rep(1048576))",
        "local s = ('x'):rep(10000000) return cmsgpack.pack({s, s, s, s, s, s, s, s, s})",
        "local s = ('x'):rep(10000000) return struct.pack('sssssssss', s, s, s, s, s, s, s, s, s)",
        "local co = {} while true do co[#co + 1] = coroutine.create(function() end) end",
    ] {
        let mut sandbox = sandbox();
        let host = &mut Keyspace::default();
        let (outcome, reply) = run(&mut sandbox, host, Version::Resp2, script);
        let reply = text(&reply);
        assert_eq!(outcome, Outcome::Failed, "{script}: {}", &reply[..reply.len().min(200)]);
        assert!(reply.len() < 500, "{script}: {}", reply.len());
        assert!(reply.contains("not enough memory"), "{script}: {reply}");
        assert_eq!(host.errors.len(), 1, "{script}");
        // What it took is garbage by now.
        assert!(sandbox.usage().lua_bytes < MEMORY_MAX / 2, "{script}: {:?}", sandbox.usage());
        assert_eq!(
            run(&mut sandbox, host, Version::Resp2, "return #('x'):rep(1000000)").1,
            b":1000000\r\n",
            "{script}"
        );
        assert_eq!(
            run(&mut sandbox, host, Version::Resp2, "return collectgarbage()").1,
            b":0\r\n",
            "{script}"
        );
        assert!(sandbox.usage().lua_bytes < MEMORY_MAX / 16, "{script}: {:?}", sandbox.usage());
    }
}

#[test]
fn a_script_that_does_not_fit_in_when_it_is_compiled_is_not_kept() {
    let mut sandbox = sandbox();
    let literal = |len: usize| format!("return '{}'", "x".repeat(len));
    for _ in 0..2 {
        let error = sandbox.load(literal(MEMORY_MAX).as_bytes()).expect_err("there is no room for it");
        assert_eq!(error.to_string(), "ERR not enough memory for Lua");
        assert_eq!(sandbox.usage().scripts, 0);
        assert!(sandbox.usage().lua_bytes < MEMORY_MAX / 16, "{:?}", sandbox.usage());
    }
    let (_, reply) = run(&mut sandbox, &mut Keyspace::default(), Version::Resp2, "return 1");
    assert_eq!(reply, b":1\r\n");
    // What fits in stays, and is no reason to look for garbage after each script that makes little.
    sandbox.load(literal(MEMORY_MAX * 5 / 8).as_bytes()).expect("there is room for it");
    let script = "local t = {} for i = 1, 100 do t[i] = {} end return #t";
    let mut held = || {
        let (_, reply) = run(&mut sandbox, &mut Keyspace::default(), Version::Resp2, script);
        assert_eq!(reply, b":100\r\n");
        sandbox.usage().lua_bytes
    };
    let (_, before) = (held(), held());
    assert!((0..10).any(|_| held() > before), "there is never garbage left");
}

#[test]
fn an_error_of_memory_can_be_caught() {
    let mut sandbox = sandbox();
    let script = "local results = {}
        for i = 1, 5 do
          local ok, e = pcall(function() local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end end)
          results[i] = tostring(ok) .. e
          collectgarbage()
        end
        return results";
    let (outcome, reply) = run(&mut sandbox, &mut Keyspace::default(), Version::Resp2, script);
    assert_eq!(outcome, Outcome::Returned, "{}", text(&reply));
    assert_eq!(text(&reply).matches("falsenot enough memory").count(), 5, "{}", text(&reply));
}

#[test]
fn results_that_are_too_large_are_not_sent() {
    let mut sandbox = sandbox();
    let host = &mut Keyspace::default();
    let script = "local t = {('x'):rep(1000)} for i = 1, 40 do t = {t, t} end return t";
    let (outcome, reply) = run(&mut sandbox, host, Version::Resp2, script);
    assert_eq!(outcome, Outcome::Failed);
    assert!(
        text(&reply).starts_with("-ERR Error running script ")
            && text(&reply).ends_with(", the result is too large")
    );
    assert_eq!(run(&mut sandbox, host, Version::Resp2, "return 1").1, b":1\r\n");
}

#[test]
fn arguments_are_taken_as_they_come() {
    // The client's buffer holds them anyway; a script that cannot keep them fails by itself.
    let mut sandbox = sandbox();
    let host = &mut Keyspace::default();
    let large = vec![b'x'; MEMORY_MAX + 1];
    let (outcome, reply) = run_with(&mut sandbox, host, Version::Resp2, b"return #ARGV[1]", &[], &[&large]);
    assert_eq!((outcome, reply), (Outcome::Returned, format!(":{}\r\n", large.len()).into_bytes()));
    let (outcome, reply) =
        run_with(&mut sandbox, host, Version::Resp2, b"return ARGV[1] .. 'x'", &[], &[&large]);
    assert_eq!(outcome, Outcome::Failed);
    assert!(text(&reply).ends_with("not enough memory"), "{}", text(&reply));
    assert_eq!(run(&mut sandbox, host, Version::Resp2, "return ('x'):rep(1000000):len()").1, b":1000000\r\n");
}

#[test]
fn replies_of_commands_count() {
    let mut sandbox = sandbox();
    let mut host = Keyspace::default();
    let large = |byte| [b"$12000000\r\n".to_vec(), vec![byte; 12_000_000], b"\r\n".to_vec()].concat();
    host.scripted = vec![large(b'a'), large(b'b')];
    let script = "local a = redis.call('GET', 'a') local b = redis.call('GET', 'b') return #a + #b";
    let (outcome, reply) = run(&mut sandbox, &mut host, Version::Resp2, script);
    assert_eq!(outcome, Outcome::Failed, "{}", text(&reply));
    assert!(text(&reply).ends_with("not enough memory"), "{}", text(&reply));
}
