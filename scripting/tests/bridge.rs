//! What passes between a script and its host.

mod common;

use common::{Keyspace, run, shown, text};
use mortise_scripting::{Flags, Outcome, Replication, Sandbox, Settings};
use mortise_sdk::host::Level;
use mortise_sdk::resp::encode::Version;

fn sandbox() -> Sandbox {
    Sandbox::new(Settings::default())
}

#[test]
fn commands_are_given_words() {
    let mut host = Keyspace { scripted: vec![b"+OK\r\n".to_vec(); 3], ..Keyspace::default() };
    let script = "redis.call('set', 'k', 1, 0.1, 2^53, 1e100, 1/0, '\\0', '')
        redis.pcall('x', unpack((function() local t = {} for i = 1, 30 do t[i] = i % 3 == 0 and i or 'w' .. i end return t end)()))
        return redis.call('get', 'k')";
    run(&mut sandbox(), &mut host, Version::Resp2, script);
    let words = |call: &[Vec<u8>]| call.iter().map(|word| shown(word)).collect::<Vec<_>>().join(" ");
    assert_eq!(words(&host.calls[0]), "set k 1 0.10000000000000001 9007199254740992 1e+100 inf \\x00 ");
    assert_eq!(host.calls[1].len(), 31);
    assert!(
        words(&host.calls[1]).starts_with("x w1 w2 3 w4 w5 6 ") && words(&host.calls[1]).ends_with(" w29 30")
    );
    assert_eq!(words(&host.calls[2]), "get k");
}

#[test]
fn a_list_finds_nothing_of_the_one_before() {
    let mut sandbox = sandbox();
    let mut host = Keyspace::default();
    let mut given = |text: &str, words: &[&[u8]]| {
        let script = sandbox.load(text.as_bytes()).unwrap();
        let mut out = Vec::new();
        let (keys, arguments) = (words.iter().copied(), [].into_iter());
        sandbox.run(script, keys, arguments, &mut host, Version::Resp2, &mut out);
        String::from_utf8(out).unwrap()
    };
    let show = "local all = {} for k, v in pairs(KEYS) do all[#all + 1] = k .. '=' .. tostring(v) end
        return table.concat(all, ' ') .. ', ' .. #KEYS .. ', ' .. tostring(KEYS.x) .. ', ' .. tostring(KEYS[9])";
    for spoils in [
        "return 1",
        "KEYS.x = 'old'",
        "KEYS[9] = 'old'",
        "KEYS[3], KEYS[4] = 'old', 'old'",
        "KEYS[1] = nil",
        "for i = 1, 100 do KEYS[i] = 'old' end",
        "setmetatable(KEYS, {__index = function() return 'old' end, __len = function() return 9 end})",
        "KEYS.x = 'old' KEYS.x = nil",
        "table.remove(KEYS) table.insert(KEYS, 1, 'old')",
    ] {
        for words in [&[&b"a"[..], b"b", b"c"][..], &[b"a"], &[]] {
            for before in [&[&b"1"[..], b"2", b"3"][..], &[b"1"], &[]] {
                given(spoils, before);
                let listed = words.iter().enumerate();
                let listed = listed.map(|(i, word)| format!("{}={}", i + 1, shown(word))).collect::<Vec<_>>();
                let expected = format!("{}, {}, nil, nil", listed.join(" "), words.len());
                let expected = format!("${}\r\n{expected}\r\n", expected.len());
                assert_eq!(given(show, words), expected, "after {spoils} with {}", before.len());
            }
        }
    }
}

#[test]
fn a_reply_that_nobody_wants_is_not_made() {
    let large = [b"*100000\r\n".to_vec(), b":1\r\n".repeat(100_000)].concat();
    let counted = |text: &str| {
        let mut host = Keyspace { scripted: vec![large.clone()], ..Keyspace::default() };
        let text =
            format!("local before = collectgarbage('count') {text} return collectgarbage('count') - before");
        let (_, kilobytes) = run(&mut sandbox(), &mut host, Version::Resp2, &text);
        let kilobytes = String::from_utf8(kilobytes).unwrap();
        kilobytes[1..].trim_end().parse::<i64>().unwrap()
    };
    for dropped in ["redis.call('x')", "redis.pcall('x')", "do local f = redis.call f('x') end"] {
        assert!(counted(dropped) < 10, "{dropped}");
    }
    for wanted in ["local kept = redis.call('x')", "local kept = #redis.pcall('x')", "pcall(redis.call, 'x')"]
    {
        assert!(counted(wanted) > 1000, "{wanted}");
    }
    // An error is raised all the same, and only a protected one is not.
    let failing = |text: &str| {
        let mut host = Keyspace { scripted: vec![b"-ERR no\r\n".to_vec()], ..Keyspace::default() };
        String::from_utf8(run(&mut sandbox(), &mut host, Version::Resp2, text).1).unwrap()
    };
    assert_eq!(failing("redis.pcall('x') return 1"), ":1\r\n");
    assert!(failing("redis.call('x') return 1").starts_with("-ERR no script: "));
}

#[test]
fn replies_of_every_kind_are_read() {
    let show = "local function show(v)
          if type(v) ~= 'table' then return type(v) .. ' ' .. tostring(v) end
          local keys = {}
          for k in pairs(v) do keys[#keys + 1] = k end
          table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
          for i, k in ipairs(keys) do keys[i] = tostring(k) .. '=' .. show(v[k]) end
          return '{' .. table.concat(keys, ', ') .. '}'
        end
        return show(redis.pcall('x'))";
    for (reply, expected) in [
        ("+OK\r\n", "{ok=string OK}"),
        ("-ERR text\r\n", "{err=string ERR text, ignore_error_stats_update=boolean true}"),
        ("-CODE\r\n", "{err=string ERR CODE, ignore_error_stats_update=boolean true}"),
        (":-12\r\n", "number -12"),
        (":9007199254740993\r\n", "number 9.007199254741e+15"),
        ("$-1\r\n", "boolean false"),
        ("*-1\r\n", "boolean false"),
        ("_\r\n", "nil nil"),
        ("$3\r\na\r\n\r\n", "string a\r\n"),
        ("*0\r\n", "{}"),
        ("*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", "{1=number 1, 2={1=string x}}"),
        ("*2\r\n_\r\n:2\r\n", "{2=number 2}"),
        (">2\r\n+a\r\n+b\r\n", "{1={ok=string a}, 2={ok=string b}}"),
        ("%1\r\n+k\r\n:1\r\n", "{map={table=number 1}}"),
        ("%2\r\n$1\r\nk\r\n:1\r\n_\r\n:2\r\n", "{map={k=number 1}}"),
        ("~2\r\n:1\r\n$1\r\nm\r\n", "{set={1=boolean true, m=boolean true}}"),
        ("~1\r\n_\r\n", "{set={}}"),
        (",1.5\r\n", "{double=number 1.5}"),
        (",-inf\r\n", "{double=number -inf}"),
        ("#t\r\n", "boolean true"),
        ("(123456789012345678901\r\n", "{big_number=string 123456789012345678901}"),
        ("=8\r\nmkd:text\r\n", "{verbatim_string={format=string mkd, string=string text}}"),
        ("!8\r\nERR blob\r\n", "{err=string ERR blob, ignore_error_stats_update=boolean true}"),
        ("|1\r\n+a\r\n:1\r\n:7\r\n", "number 7"),
        // What no server sends.
        ("", "{err=string ERR the reply of the command cannot be read}"),
        ("?\r\n", "{err=string ERR the reply of the command cannot be read}"),
        ("$5\r\nab\r\n", "{err=string ERR the reply of the command cannot be read}"),
        ("*3\r\n:1\r\n", "{err=string ERR the reply of the command cannot be read}"),
        ("$99999999999999999999\r\n", "{err=string ERR the reply of the command cannot be read}"),
        ("*9223372036854775807\r\n", "{err=string ERR the reply of the command cannot be read}"),
        (":\r\n", "{err=string ERR the reply of the command cannot be read}"),
        (":1", "{err=string ERR the reply of the command cannot be read}"),
        ("=2\r\nab\r\n", "{err=string ERR the reply of the command cannot be read}"),
    ] {
        let shown_map = expected.contains("map={table=");
        let mut host = Keyspace { scripted: vec![reply.into()], ..Keyspace::default() };
        let (_, found) = run(&mut sandbox(), &mut host, Version::Resp2, show);
        let found = String::from_utf8(found).unwrap();
        let found = found.split_once("\r\n").unwrap().1.strip_suffix("\r\n").unwrap();
        if shown_map {
            // A status is a table, and as a key it has no name.
            assert!(found.starts_with("{map={table: 0x"), "{reply:?}: {found}");
        } else {
            assert_eq!(found, expected, "{reply:?}");
        }
    }
    let deep = format!("{}:1\r\n", "*1\r\n".repeat(5000));
    let mut host = Keyspace { scripted: vec![deep.into()], ..Keyspace::default() };
    let (_, found) = run(&mut sandbox(), &mut host, Version::Resp2, "return redis.pcall('x').err");
    assert!(text(&found).ends_with("the reply of the command is nested too deeply"), "{}", text(&found));
}

#[test]
fn the_version_is_the_scripts_own() {
    let mut sandbox = sandbox();
    let mut host = Keyspace::default();
    run(&mut sandbox, &mut host, Version::Resp3, "redis.call('HSET', 'h', 'f', 'v')");
    let script = "return type(redis.call('HGETALL', 'h').map)";
    assert_eq!(run(&mut sandbox, &mut host, Version::Resp3, script).1, b"$3\r\nnil\r\n");
    let script = "redis.setresp(3) return type(redis.call('HGETALL', 'h').map)";
    assert_eq!(run(&mut sandbox, &mut host, Version::Resp2, script).1, b"$5\r\ntable\r\n");
    // It begins anew with each script.
    let script = "return type(redis.call('HGETALL', 'h').map) .. ''";
    assert_eq!(run(&mut sandbox, &mut host, Version::Resp2, script).1, b"$3\r\nnil\r\n");
}

#[test]
fn the_host_is_told() {
    let mut sandbox = sandbox();
    let mut host = Keyspace::default();
    let script = "redis.log(redis.LOG_WARNING, 'a', 1, {}, 'b')
        redis.log('0', '\\255')
        redis.set_repl(redis.REPL_NONE) redis.set_repl(redis.REPL_AOF) redis.set_repl(redis.REPL_REPLICA) redis.set_repl(redis.REPL_ALL)
        return {redis.acl_check_cmd('SET', 'k', 1), redis.acl_check_cmd('get', 'k')}";
    let (outcome, reply) = run(&mut sandbox, &mut host, Version::Resp2, script);
    assert_eq!((outcome, &*reply), (Outcome::Returned, &b"*2\r\n:1\r\n$-1\r\n"[..]));
    assert_eq!(host.logged, [(Level::Warning, b"a 1 b".to_vec()), (Level::Debug, b"\xff".to_vec())]);
    let to = |journal, replicas| Replication { journal, replicas };
    assert_eq!(host.replication, [to(false, false), to(true, false), to(false, true), Replication::ALL]);
}

#[test]
fn errors_are_counted_once() {
    for (script, counted) in [
        ("return redis.call('nosuch')", &[][..]),
        ("return redis.pcall('nosuch')", &[]),
        (
            "return {redis.pcall('nosuch'), redis.error_reply('MINE one'), {err = 'TWO x'}}",
            &["MINE one", "TWO x"],
        ),
        ("error({err = 'MINE x'})", &["MINE x script: "]),
        ("error('text')", &["ERR user_script:1: text script: "]),
        ("redis.call()", &["ERR Please specify at least one argument for this redis lib call script: "]),
        ("pcall(error, 'text')", &[]),
        (
            "local e = redis.pcall('nosuch') e.ignore_error_stats_update = nil return e",
            &["ERR Unknown Redis command called from script"],
        ),
    ] {
        let mut host = Keyspace::default();
        run(&mut sandbox(), &mut host, Version::Resp2, script);
        let found: Vec<String> = host.errors.iter().map(|error| text(error)).collect();
        assert_eq!(found.len(), counted.len(), "{script}: {found:?}");
        for (found, expected) in found.iter().zip(counted) {
            assert!(found.starts_with(expected), "{script}: {found}");
        }
    }
}

#[test]
fn scripts_say_what_they_are() {
    let mut sandbox = sandbox();
    let script = sandbox.load(b"#!lua flags=no-writes\nreturn 1").unwrap();
    assert_eq!(script.flags(), Flags { declared: true, no_writes: true, ..Flags::default() });
    assert_eq!(sandbox.load(b"return 1").unwrap().flags(), Flags::default());
    let refused = sandbox.load(b"#!lua flags=x\nreturn 1").map_err(|error| error.to_string());
    assert_eq!(refused, Err("ERR Unexpected flag in script shebang: x".to_owned()));
    assert_eq!(sandbox.usage().scripts, 2);
}

#[test]
fn what_is_no_lua_is_refused() {
    let mut sandbox = sandbox();
    let refused = sandbox.load(b"return = 1").map_err(|error| error.to_string());
    let expected = "ERR Error compiling script (new function): user_script:1: unexpected symbol near '='";
    assert_eq!(refused, Err(expected.to_owned()));
    let lines = sandbox.load(b"x 'a\r\nb'").map_err(|error| error.to_string());
    assert!(lines.is_err_and(|error| !error.contains(['\r', '\n'])));
}
