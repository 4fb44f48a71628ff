//! Strings that modules read and set: they take the road of SET, in all that others see of it.

#[path = "support/modules.rs"]
mod support;

use mortise_core::engine::replay::Replay;
use support::Server;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
/// Of the clock, which stands still.
const NOW_MS: i64 = 1_700_000_000_000;

/// What STRINGS.READ answers: whether it crossed as an integer, the string, its deadline.
fn reads(is_integer: bool, text: &str, deadline: i64) -> String {
    format!("*3 :{} ${} {text} :{deadline}", i64::from(is_integer), text.len())
}

#[test]
fn strings_cross_as_they_are_kept() {
    let mut server = Server::with("strings");
    assert_eq!(server.ask("STRINGS.READ nothing"), "$-1");
    server.ask("HSET hash f v");
    assert_eq!(server.ask("STRINGS.READ hash"), WRONG_TYPE);
    assert_eq!(server.ask("STRINGS.COUNT hash"), WRONG_TYPE);
    server.ask("SET text abc");
    assert_eq!(server.ask("STRINGS.READ text"), reads(false, "abc", -1));
    assert_eq!(server.ask("STRINGS.COUNT text"), "-ERR value is not an integer or out of range");
    server.ask(&format!("SET number 12 PXAT {}", NOW_MS + 5));
    assert_eq!(server.ask("STRINGS.READ number"), reads(true, "12", NOW_MS + 5));
    // One that spells an integer but was edited is kept as text, and still counts.
    server.ask("SET edited 1");
    server.ask("APPEND edited 2");
    assert_eq!(server.ask("STRINGS.READ edited"), reads(false, "12", -1));
    assert_eq!(server.ask("STRINGS.COUNT edited"), ":13");
    assert_eq!(server.ask("STRINGS.READ edited"), reads(true, "13", -1));
    // One that does not stand in one piece.
    let long = "0123456789".repeat(50_000);
    server.say(&["SET", "long", &long]);
    assert_eq!(server.ask("STRINGS.READ long"), reads(false, &long, -1));
    assert_eq!(server.say(&["STRINGS.SET", "copy", &long]), "+OK");
    assert_eq!(server.ask("GET copy"), server.ask("GET long"));
}

#[test]
fn reading_counts_as_get_does_and_editing_as_incr_does() {
    let mut server = Server::with("strings");
    server.ask("SET k 1");
    let counted = |server: &mut Server, line: &str| {
        let before = (server.engine.stats.keyspace_hits, server.engine.stats.keyspace_misses);
        server.ask(line);
        let stats = &server.engine.stats;
        (stats.keyspace_hits - before.0, stats.keyspace_misses - before.1)
    };
    for (line, expected) in [
        ("STRINGS.READ k", (1, 0)),
        ("STRINGS.READ none", (0, 1)),
        ("STRINGS.COUNT k", (0, 0)),
        ("STRINGS.COUNT n", (0, 0)),
    ] {
        assert_eq!(counted(&mut server, line), expected, "{line}");
    }
}

#[test]
fn what_a_module_sets_is_propagated_as_set() {
    let mut server = Server::with("strings");
    let mut shadow = Server::beside();
    let late = NOW_MS + 1000;
    for (line, propagated) in [
        ("STRINGS.SET a x".to_owned(), vec!["SET a x".to_owned()]),
        (format!("STRINGS.SET a y {late}"), vec![format!("SET a y PXAT {late}")]),
        ("STRINGS.COUNT n".to_owned(), vec!["SET n 1".to_owned()]),
        (format!("STRINGS.SET n 7 {late}"), vec![format!("SET n 7 PXAT {late}")]),
        ("STRINGS.COUNT n".to_owned(), vec![format!("SET n 8 PXAT {late}")]),
        ("STRINGS.SET n z".to_owned(), vec!["SET n z".to_owned()]),
        ("STRINGS.COUNT n".to_owned(), vec![]),
        ("STRINGS.READ n".to_owned(), vec![]),
        (
            "STRINGS.TWICE b c".to_owned(),
            ["SET b 1", &format!("SET c 2 PXAT {}", i64::MAX)].map(str::to_owned).to_vec(),
        ),
        ("HSET h f v".to_owned(), vec!["HSET h f v".to_owned()]),
        ("STRINGS.SET h v".to_owned(), vec!["SET h v".to_owned()]),
        // What has expired goes first, and says so.
        ("STRINGS.SET gone 1 1".to_owned(), vec!["SET gone 1 PXAT 1".to_owned()]),
        ("STRINGS.COUNT gone".to_owned(), ["DEL gone", "SET gone 1"].map(str::to_owned).to_vec()),
        ("STRINGS.SET gone 1 1".to_owned(), vec!["SET gone 1 PXAT 1".to_owned()]),
        ("STRINGS.SET gone x".to_owned(), ["DEL gone", "SET gone x"].map(str::to_owned).to_vec()),
    ] {
        server.ask(&line);
        let units: Vec<_> = server.stream.0.lock().unwrap().drain(..).collect();
        let mut replay = Replay::new();
        units.iter().for_each(|unit| replay.unit(&mut shadow.engine, unit).unwrap());
        let words = |args: mortise_core::engine::args::OwnedArgs| {
            args.view().iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
        };
        let said: Vec<String> =
            units.iter().flat_map(|unit| unit.iter()).map(|said| words(said.args())).collect();
        assert_eq!(said, propagated, "{line}");
    }
    for line in [
        "GET a",
        "PEXPIRETIME a",
        "GET n",
        "PEXPIRETIME n",
        "GET c",
        "PEXPIRETIME c",
        "GET gone",
        "TYPE h",
        "DBSIZE",
    ] {
        assert_eq!(server.ask(line), shadow.ask(line), "{line}");
    }
}

#[test]
fn a_set_within_another_modules_command_is_that_commands() {
    let mut server = Server::with("strings");
    assert_eq!(server.load("panicking"), "+OK");
    server.ask("PANICKING.INVOKE STRINGS.SET k v");
    assert_eq!(server.propagated(), ["PANICKING.INVOKE STRINGS.SET k v"]);
    assert_eq!(server.ask("GET k"), "$1 v");
}

#[test]
fn what_a_module_sets_takes_part_in_undo() {
    let mut server = Server::with("strings");
    server.ask(&format!("STRINGS.SET k 5 {}", NOW_MS + 1000));
    server.ask("STRINGS.SET text x");
    server.engine.keyspace.begin_undo();
    server.ask("STRINGS.COUNT k");
    server.ask("STRINGS.SET k text");
    server.ask("STRINGS.SET text y 1700000001000");
    server.ask("STRINGS.SET new y");
    server.engine.keyspace.abort();
    assert_eq!(server.ask("STRINGS.READ k"), reads(true, "5", NOW_MS + 1000));
    assert_eq!(server.ask("STRINGS.READ text"), reads(false, "x", -1));
    assert_eq!(server.ask("EXISTS new"), ":0");
}

#[test]
fn no_key_comes_into_being_where_no_memory_is_left() {
    let mut server = Server::with("strings");
    server.ask("SET there 1");
    server.engine.config.keyspace.maxmemory.0 = 1;
    assert_eq!(server.ask("STRINGS.COUNT there"), ":2");
    let out_of_memory = "-OOM command not allowed when used memory > 'maxmemory'.";
    assert_eq!(server.ask("STRINGS.COUNT new"), out_of_memory);
    assert_eq!(server.ask("STRINGS.SET new x 1800000000000"), out_of_memory);
    server.engine.config.keyspace.maxmemory.0 = 0;
    assert_eq!(server.ask("EXISTS new"), ":0");
    assert_eq!(server.ask("STRINGS.COUNT new"), ":1");
}

#[test]
fn a_rate_limit_is_propagated_as_its_effect_and_outlives_its_module() {
    let mut server = Server::with("ratelimit");
    assert_eq!(server.ask("CL.THROTTLE user 1 1 10"), "*5 :0 :2 :1 :-1 :10");
    assert_eq!(server.propagated(), ["SET user 1700000010000000000 PXAT 1700000010000"]);
    assert_eq!(server.ask("CL.THROTTLE user 1 1 10 2"), "*5 :1 :2 :1 :10 :10");
    assert_eq!(
        server.ask("CL.THROTTLE user 1 0 10"),
        "-Cell error: Store error: Zero rates are not supported"
    );
    assert_eq!(server.propagated(), [""; 0]);
    for line in ["MULTI", "CL.THROTTLE user 1 1 10", "CL.THROTTLE user 1 1 10", "EXEC"] {
        server.ask(line);
    }
    assert_eq!(server.propagated(), ["SET user 1700000020000000000 PXAT 1700000020000"]);
    let script = "return redis.call('RL.THROTTLE', KEYS[1], 3, 1, 10)";
    assert_eq!(server.say(&["EVAL", script, "1", "user"]), "*5 :0 :4 :1 :-1 :30");
    assert_eq!(server.propagated(), ["SET user 1700000030000000000 PXAT 1700000030000"]);

    assert_eq!(server.ask("MODULE UNLOAD ratelimit"), "+OK");
    assert_eq!(server.ask("GET user"), "$19 1700000030000000000");
    assert!(server.ask("CL.THROTTLE user 3 1 10").starts_with("-ERR unknown command 'CL.THROTTLE'"));
    assert_eq!(server.load("ratelimit"), "+OK");
    assert_eq!(server.ask("CL.THROTTLE user 3 1 10"), "*5 :0 :4 :0 :-1 :40");
}

/// Every number a client can say, in each place.
#[test]
fn hostile_numbers_are_answered() {
    const NUMBERS: &[&str] = &[
        "-9223372036854775808",
        "-1",
        "0",
        "1",
        "1000000000",
        "9223372036",
        "9223372036854775806",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "",
        "x",
        "1e3",
        "0x10",
        " 1",
        "1 ",
        "+",
        "-",
        "++1",
        "99999999999999999999999",
    ];
    let mut server = Server::with("ratelimit");
    let (mut answered, mut refused) = (0, 0);
    for burst in NUMBERS {
        for count in NUMBERS {
            for period in NUMBERS {
                for quantity in NUMBERS {
                    let words = ["CL.THROTTLE", "key", burst, count, period, quantity];
                    let reply = server.say(&words);
                    if reply.starts_with("*5 :") {
                        answered += 1;
                        server.ask("DEL key");
                    } else {
                        assert!(
                            reply.starts_with("-ERR ") || reply.starts_with("-Cell error: "),
                            "{words:?}: {reply}"
                        );
                        assert!(!reply.contains("panicked"), "{words:?}: {reply}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(answered > 300 && refused > 100_000, "{answered} answered, {refused} refused");
    assert_eq!(server.ask("EXISTS key"), ":0");
}
