//! What has been used against other sandboxes of this kind, and has no effect here.

mod common;

use common::{Keyspace, Run, run, run_with, text};
use mortise_scripting::{Outcome, Sandbox, Settings};
use mortise_sdk::resp::encode::Version;

/// What a script answers in a new sandbox.
fn answer(script: &str) -> String {
    answer_in(&mut Sandbox::new(Settings::default()), script)
}

fn answer_in(sandbox: &mut Sandbox, script: &str) -> String {
    let (_, reply) = run(sandbox, &mut Keyspace::default(), Version::Resp2, script);
    text(&reply)
}

/// An error without the place that follows it.
fn error(script: &str) -> String {
    let reply = answer(script);
    reply.split(" script: ").next().unwrap_or_default().to_owned()
}

#[test]
fn no_library_reaches_out() {
    for name in [
        "package", "require", "module", "io", "os", "debug", "dofile", "loadfile", "print", "newproxy",
        "getfenv", "setfenv", "ffi", "jit", "arg",
    ] {
        let expected =
            format!("-ERR user_script:1: Script attempted to access nonexistent global variable '{name}'");
        assert_eq!(error(&format!("return {name}")), expected);
    }
    // What the libraries leave in the registry is not to be had either.
    assert_eq!(
        answer("return _G._LOADED == nil"),
        error("return _G._LOADED == nil") + &place("return _G._LOADED == nil")
    );
    // Every table that can be reached is one that scripts are meant to have.
    let walk = "local seen, names = {}, {}
        local function walk(t, path)
          if type(t) ~= 'table' or seen[t] then return end
          seen[t] = true
          names[#names + 1] = path
          for k, v in pairs(t) do walk(v, path .. '.' .. tostring(k)) end
          walk(getmetatable(t), path .. '!')
        end
        walk(_G, 'G') walk(getmetatable(''), 'string!')
        table.sort(names) return table.concat(names, ' ')";
    let found = answer(walk);
    let found = found.lines().nth(1).unwrap_or_default();
    assert_eq!(
        found,
        "G G! G.ARGV G.KEYS G.bit G.cjson G.cmsgpack G.coroutine G.math G.redis G.string G.struct G.table string!"
    );
}

fn place(script: &str) -> String {
    let reply = answer(script);
    let at = reply.find(" script: ").unwrap_or(reply.len());
    reply[at..].to_owned()
}

#[test]
fn nothing_is_left_for_the_next_script() {
    const ATTEMPTS: &[&str] = &[
        "x = 1",
        "_G.x = 1",
        "rawset(_G, 'x', 1)",
        "rawset(string, 'x', 1)",
        "string.x = 1",
        "redis.call = function() return 'mine' end",
        "table.insert(redis, 1)",
        "table.insert(_G, 1)",
        "table.remove(redis)",
        "table.sort(redis)",
        "table.setn(redis, 1)",
        "setmetatable(_G, {__index = function() return 'mine' end})",
        "setmetatable(_G, nil)",
        "setmetatable(redis, {})",
        "setmetatable(getmetatable(''), {})",
        "getmetatable('').__index = function() return 'mine' end",
        "getmetatable('').__add = function() return 'mine' end",
        "rawset(getmetatable(''), '__call', function() return 'mine' end)",
        "getmetatable(_G).__index = function() return 'mine' end",
        "rawset(getmetatable(_G), '__newindex', function() end)",
        "setmetatable(getmetatable(_G), {})",
        "string.gsub = nil",
        "math.random = function() return 4 end",
        "cjson.null = 1",
        "cjson.decode = nil",
        "KEYS = {1}",
        "function redis.mine() end",
        "function mine() end",
        "__redis__err__handler = nil",
        "pcall(rawset, _G, 'x', 1)",
        "local ok, e = pcall(redis.call, 'nosuch') rawset(getmetatable(e) or {}, 'x', 1)",
        "error(string)",
        "error(redis)",
        "return _G",
        "return {map = string}",
        "redis.setresp(3)",
        "collectgarbage('stop') collectgarbage('setpause', 1000000)",
        "coroutine.wrap(function() x = 1 end)()",
        "loadstring('x = 1')()",
        "load(function() return nil end)()",
        "return __redis__err__handler(string)",
    ];
    const STATE: &str = "local out, seen = {}, {}
        local function walk(t, path)
          if type(t) ~= 'table' or seen[t] then return end
          seen[t] = true
          local names = {}
          for k, v in pairs(t) do names[#names + 1] = tostring(k) .. '=' .. type(v) end
          table.sort(names)
          out[#out + 1] = path .. ': ' .. table.concat(names, ' ')
          local keys = {}
          for k in pairs(t) do keys[#keys + 1] = tostring(k) end
          table.sort(keys)
          for _, k in ipairs(keys) do walk(t[k], path .. '.' .. k) end
          walk(getmetatable(t), path .. '!')
        end
        walk(_G, 'G') walk(getmetatable(''), 'string!')
        out[#out + 1] = tostring(redis.call('GET', 'none')) .. #KEYS .. #ARGV
        return table.concat(out, '; ')";
    let mut sandbox = Sandbox::new(Settings::default());
    let before = answer_in(&mut sandbox, STATE);
    assert!(before.contains("false00"), "{before}");
    for attempt in ATTEMPTS {
        run_with(
            &mut sandbox,
            &mut Keyspace::default(),
            Version::Resp2,
            attempt.as_bytes(),
            &[b"key"],
            &[b"argument"],
        );
        assert_eq!(answer_in(&mut sandbox, STATE), before, "{attempt}");
    }
}

#[test]
fn the_collector_goes_on() {
    let settings = Settings { memory_max: 64 << 20, ..Settings::default() };
    let mut sandbox = Sandbox::new(settings);
    answer_in(&mut sandbox, "collectgarbage('stop')");
    let script = "for i = 1, 1000000 do local t = {i} end return 1";
    assert_eq!(answer_in(&mut sandbox, script), ":1");
}

#[test]
fn bytecode_is_no_chunk() {
    let expected = "-ERR user_script:1: attempt to call a nil value";
    for script in [
        "return loadstring(string.dump(function() return 1 end))()",
        "local s = string.dump(function() return 1 end) local n = 0
         return load(function() n = n + 1 return n <= #s and s:sub(n, n) or nil end)()",
        "return loadstring('\\27Lua')()",
        "return loadstring('\\27LuaQ\\0\\1\\4\\8\\4\\8\\0')()",
        "return loadstring('\\27' .. ('x'):rep(1000))()",
    ] {
        let script = script.replace('\n', " ");
        assert_eq!(error(&script), expected, "{script}");
    }
    let mut sandbox = Sandbox::new(Settings::default());
    let refused = sandbox.load(b"\x1bLuaQ\x00\x01\x04\x08\x04\x08\x00").map_err(|error| error.to_string());
    assert!(
        refused.is_err_and(
            |error| error.starts_with("ERR Error compiling script (new function): user_script:1:")
        )
    );
}

#[test]
fn the_name_of_a_chunk_outlives_its_parsing() {
    // The name is garbage to all but the parser, which makes enough of it for the collector to run.
    let script = "
        for i = 1, 50 do
          local source = {}
          for j = 1, 500 do source[j] = 'local s' .. i .. '_' .. j % 150 .. ' = \"' .. ('x'):rep(100) .. i .. j .. '\"' end
          local text = 'do ' .. table.concat(source, ' end do ') .. ' end error(1)'
          collectgarbage()
          local f = loadstring(text, '@' .. ('n'):rep(40) .. i)
          local ok, e = pcall(f)
          if e ~= ('n'):rep(40) .. i .. ':1: 1' and tostring(e) ~= '1' then return e end
        end
        return 'fine'";
    assert_eq!(answer(script), "$4\r\nfine");
    // The reader of load runs between two pieces of the text.
    let script = "
        for i = 1, 20 do
          local n = 0
          local f, e = load(function()
            n = n + 1
            collectgarbage()
            local garbage = {} for j = 1, 100 do garbage[j] = ('y'):rep(j + 30) end
            if n > 200 then return nil end
            return 'local a' .. n % 150 .. ' = 1 do end '
          end, '=' .. ('m'):rep(30) .. i)
          if not f and not e:find(('m'):rep(30) .. i, 1, true) then return e end
        end
        return 'fine'";
    assert_eq!(answer(script), "$4\r\nfine");
}

#[test]
fn long_brackets_are_read_within_the_text() {
    for script in [
        "return loadstring('return [' .. ('='):rep(1000000))",
        "return loadstring('return [' .. ('='):rep(1000000) .. '[')",
        "return loadstring('return [' .. ('='):rep(1000000) .. '[x]' .. ('='):rep(1000000))",
        "return loadstring('--[' .. ('='):rep(1000000))",
        "return loadstring('return [==[' .. (']='):rep(100000))",
        "return loadstring('[')",
        "return loadstring('return [=')",
    ] {
        assert!(matches!(&*answer(script), "$-1" | "$4\r\nfine"), "{script}: {}", answer(script).len());
    }
    assert_eq!(
        answer("return #loadstring('return [' .. ('='):rep(100000) .. '[x]' .. ('='):rep(100000) .. ']')()"),
        ":1"
    );
}

#[test]
fn ranges_do_not_overflow() {
    for (script, expected) in [
        ("return unpack({}, 0, 2147483647)", "too many results to unpack"),
        ("return unpack({}, -2147483648, 2147483647)", "too many results to unpack"),
        ("return unpack({}, -2147483648, -1)", "too many results to unpack"),
        ("return unpack({}, 1, 8000)", "too many results to unpack"),
        ("return unpack({}, 2147483647, 2147483647)", ""),
        ("return unpack({}, 2147483646, 2147483647)", ""),
        ("return ('x'):rep(2147483647)", "not enough memory"),
        ("return ('xx'):rep(2147483647)", "not enough memory"),
        ("return ('x'):rep(-2147483648)", ""),
        ("return ('x'):sub(-2147483648, 2147483647)", ""),
        ("return ('x'):byte(-2147483648, 2147483647)", ""),
        (
            "return table.concat({}, '', 2147483647, 2147483647)",
            "invalid value (nil) at index 2147483647 in table for 'concat'",
        ),
        (
            "return table.concat({'x'}, '', -2147483648, 2147483647)",
            "invalid value (nil) at index -2147483648 in table for 'concat'",
        ),
        ("return select(-2147483648)", "bad argument #1 to 'select' (index out of range)"),
        ("return bit.tohex(65535, -2147483648)", ""),
        ("return cjson.encode({[2147483647] = 1})", "Cannot serialise table: excessively sparse array"),
        ("return cjson.encode({[2147483648] = 1, [1e300] = 1})", ""),
        ("return cmsgpack.unpack('\\219\\255\\255\\255\\255')", "Missing bytes in input."),
        ("return cmsgpack.unpack('\\223\\255\\255\\255\\255')", "Missing bytes in input."),
        ("return cmsgpack.unpack_limit('\\1', 2147483648, 1)", ""),
        ("return struct.unpack('c2147483647', 'x')", "bad argument #2 to 'unpack' (data string too short)"),
        (
            "return struct.unpack('i4', 'x', 9223372036854775807)",
            "bad argument #2 to 'unpack' (data string too short)",
        ),
        ("return struct.unpack('!8i4c0', 'xxxx', -3)", "bad argument #2 to 'unpack' (data string too short)"),
        ("return struct.pack('i2147483648', 1)", "integral size overflow"),
        ("return struct.size('c2147483647c2147483647c2147483647')", ""),
        ("local n = cjson.new() n.encode_sparse_array(true, 2147483647, 0) return #n.encode({[5] = 1})", ""),
        ("return ('%99.99f'):format(-1e308):len()", ""),
        ("return ('%100d'):format(1)", "invalid format (width or precision too long)"),
        ("return ('x'):rep(100):gsub('x', ('y'):rep(100)):len()", ""),
    ] {
        let found = error(script);
        if expected.is_empty() {
            assert!(!found.starts_with("-ERR"), "{script}: {found}");
        } else {
            assert_eq!(found, format!("-ERR user_script:1: {expected}"), "{script}");
        }
    }
}

#[test]
fn replies_keep_to_their_line() {
    for script in [
        "return redis.error_reply('A b\\r\\n+INJECTED')",
        "return {err = 'A b\\r\\n+INJECTED'}",
        "return {{err = 'A b\\n+INJECTED'}}",
        "error('A b\\r\\n+INJECTED')",
        "error({err = 'A b\\r\\n+INJECTED'})",
        "error({err = 'A b', source = 's\\r\\n+INJECTED', line = '1\\r\\n+INJECTED'})",
        "return redis.status_reply('A b\\r\\n+INJECTED')",
        "return {ok = 'A b\\r\\n+INJECTED'}",
        "return {ok = 'A b\\r+INJECTED'}",
        "redis.setresp(3) return {big_number = '1\\r\\n+INJECTED'}",
        "return loadstring('x', 'name\\r\\n+INJECTED')",
        "loadstring('x', 'name\\r\\n+INJECTED')()",
        "assert(loadstring('x x', '@name\\r\\n+INJECTED'))",
        "_G['a\\r\\n+INJECTED']()",
        "redis.call('nosuch\\r\\n+INJECTED')",
        "cjson.encode_invalid_numbers('x\\r\\n+INJECTED')",
        "return redis.call('ECHO', 'a') .. redis.error_reply('x\\r\\n+INJECTED')",
        "#!lua flags=a\\r\n",
        "x x '\r\n+INJECTED",
    ] {
        for version in [Version::Resp2, Version::Resp3] {
            let mut sandbox = Sandbox::new(Settings::default());
            let (_, reply) = run(&mut sandbox, &mut Keyspace::default(), version, script);
            let (_, len) = mortise_sdk::resp::decode(&reply)
                .map(|read| read.expect("a whole reply"))
                .unwrap_or((mortise_sdk::resp::Reply::Null, reply.len()));
            assert_eq!(len, reply.len(), "{script}: {}", text(&reply));
            let text = String::from_utf8_lossy(&reply);
            assert!(!text.contains("\n+INJECTED") && !text.contains("\r+INJECTED"), "{script}: {text:?}");
        }
    }
}

/// Runs on a coroutine with a server's stack.
fn on_stack(script: &str) -> (Outcome, String) {
    let mut run_one = Run::begin(Sandbox::new(Settings::default()), script);
    loop {
        if let Some((_, outcome, reply)) = run_one.resume() {
            return (outcome, text(&reply));
        }
    }
}

#[test]
fn depth_is_an_error() {
    for (script, expected) in [
        // The matcher calls itself for each of these.
        ("return ('a'):rep(20000):find(('a?'):rep(20000))", "pattern too complex"),
        ("return ('a'):rep(20000):find(('a-'):rep(20000) .. 'b')", "pattern too complex"),
        ("return (''):find(('x*'):rep(1000000))", "pattern too complex"),
        ("local function f() return 1 + f() end return f()", "stack overflow"),
        (
            "local function f(t) return setmetatable({}, {__index = function(_, k) return f(t)[k] end}) end return f({}).x",
            "C stack overflow",
        ),
        ("local function f() return (('a'):gsub('a', f)) end return f()", "C stack overflow"),
        ("local function f() table.sort({2, 1}, f) end return f()", "C stack overflow"),
        ("local function f() coroutine.wrap(f)() end return f()", "C stack overflow"),
        (
            "return loadstring('return ' .. ('('):rep(1000) .. '1' .. (')'):rep(1000))()",
            "attempt to call a nil value",
        ),
        ("return loadstring(('do '):rep(1000) .. ('end '):rep(1000))()", "attempt to call a nil value"),
        (
            "return loadstring('return ' .. ('{'):rep(1000) .. ('}'):rep(1000))()",
            "attempt to call a nil value",
        ),
    ] {
        let (outcome, found) = on_stack(script);
        assert_eq!(outcome, Outcome::Failed, "{script}: {found}");
        assert!(found.contains(expected), "{script}: {found}");
    }
    // A result that stands in itself ends where Lua's stack does.
    for (script, header, depth) in [
        ("local t = {} t[1] = t return t", "*1\r\n", 7995),
        ("local t = {} t.map = {t} return t", "*2\r\n", 2665),
        ("local t = {} t.set = {[t] = 1} return t", "*1\r\n", 2665),
    ] {
        let (outcome, found) = on_stack(script);
        assert_eq!(outcome, Outcome::Returned, "{script}");
        assert!(found.ends_with("-ERR reached lua stack limit"), "{script}");
        assert_eq!(found.matches(header).count(), depth, "{script}");
    }
    // As deep as it is allowed, also where other calls have taken their part of the stack.
    let (outcome, found) = on_stack("return {('a'):rep(15990):find(('a?'):rep(15990))}");
    assert_eq!((outcome, &*found), (Outcome::Returned, "*2\r\n:1\r\n:15990"));
    let nested = "local depth = 0
        local function f()
          depth = depth + 1
          if depth < 180 then return (('a'):gsub('a', f)) end
          return tostring(('a'):rep(15990):find(('a?'):rep(15990)))
        end
        return f()";
    assert_eq!(on_stack(nested), (Outcome::Returned, "$1\r\n1".to_owned()));
    let nested = "local depth, t = 0, {}
        for i = 1, 2000 do t = {t} end
        local function f()
          depth = depth + 1
          if depth < 180 then return (('a'):gsub('a', f)) end
          local n = cjson.new() n.encode_max_depth(100000) n.decode_max_depth(100000)
          return tostring(#n.encode(n.decode(n.encode(t))))
        end
        return f()";
    assert_eq!(on_stack(nested), (Outcome::Returned, "$4\r\n4002".to_owned()));
}

/// Numbers that look random and are always the same.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

#[test]
fn libraries_take_any_input() {
    // Each is given pieces that mean something to it, and bytes that mean nothing.
    const CASES: &[(&str, &[&str])] = &[
        (
            "return pcall(cjson.decode, ARGV[1])",
            &[
                "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\\u", "d83d", "\\ude00", "1", "-", "0x", "e",
                ".", "nan", "inf", "true", "null", " ", "\0",
            ],
        ),
        (
            "return pcall(cmsgpack.unpack, ARGV[1])",
            &[
                "\u{1}", "\u{81}", "\u{91}", "\u{a1}", "\u{c0}", "\u{c1}", "\u{c7}", "\u{ca}", "\u{cb}",
                "\u{cf}", "\u{d3}", "\u{d9}", "\u{da}", "\u{db}", "\u{dc}", "\u{dd}", "\u{de}", "\u{df}",
                "\u{e0}", "\0", "\u{ff}",
            ],
        ),
        (
            "return pcall(struct.unpack, ARGV[1], ('data'):rep(20), 3)",
            &[
                "b",
                "H",
                "i",
                "I",
                "l",
                "f",
                "d",
                "s",
                "c",
                "c0",
                "x",
                "!",
                "<",
                ">",
                "3",
                "8",
                "16",
                "33",
                " ",
                "99999999999",
            ],
        ),
        (
            "return pcall(struct.pack, ARGV[1], 1, 'text', 3, -4, 'x', 5)",
            &[
                "b", "H", "i", "I", "l", "f", "d", "s", "c", "c0", "x", "!", "<", ">", "3", "8", "16", "33",
                " ",
            ],
        ),
        (
            "return pcall(struct.size, ARGV[1])",
            &["b", "i", "c", "c0", "s", "!", "8", "9999999", "2147483647"],
        ),
        (
            "return pcall(string.gsub, 'some (text) of [several] words, 12 of them', ARGV[1], '%1')",
            &["%", "a", "(", ")", "[", "]", "^", "$", "*", "+", "-", "?", ".", "%b", "%f", "%w", "%1", "x-y"],
        ),
        (
            "return pcall(string.format, ARGV[1], 1, 'text', 3.5, 'x')",
            &["%", "d", "s", "q", "x", "5", ".", "-", "99", "i", "c", "g"],
        ),
        (
            "return pcall(loadstring, ARGV[1])",
            &[
                "local ",
                "x",
                "=",
                "1",
                "(",
                ")",
                "[[",
                "]]",
                "[=",
                "\"",
                "\\",
                "function ",
                "end ",
                "return ",
                "--",
                "\n",
                "{",
                "}",
                "...",
                "goto ",
            ],
        ),
        ("return pcall(bit.tohex, ARGV[1], ARGV[1])", &["1", "-", "0x", "f", "e", "9", "."]),
        (
            "return pcall(function() return cmsgpack.pack(cmsgpack.unpack(ARGV[1])) end)",
            &["\u{1}", "\u{81}", "\u{91}", "\u{a1}", "\u{c0}", "\u{cb}", "\u{dc}\0", "\u{de}\0", "\0"],
        ),
    ];
    let mut chance = Chance(7);
    let mut sandbox = Sandbox::new(Settings { memory_max: 32 << 20, ..Settings::default() });
    for (script, pieces) in CASES {
        for _ in 0..3000 {
            let mut input = Vec::new();
            for _ in 0..chance.below(12) {
                match chance.below(8) {
                    0 => input.push(chance.below(256) as u8),
                    // Characters up to 255 stand for bytes.
                    _ => input.extend(pieces[chance.below(pieces.len())].chars().map(|c| c as u8)),
                }
            }
            let host = &mut Keyspace::default();
            let (outcome, reply) =
                run_with(&mut sandbox, host, Version::Resp3, script.as_bytes(), &[], &[&input]);
            let shown = input.escape_ascii();
            assert_eq!(outcome, Outcome::Returned, "{script} {shown}: {}", text(&reply));
            let whole = mortise_sdk::resp::decode(&reply)
                .is_ok_and(|read| read.is_some_and(|(_, len)| len == reply.len()));
            assert!(whole, "{script} {shown}: {}", text(&reply));
        }
    }
}
