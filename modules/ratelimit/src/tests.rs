//! The commands, on the SDK's server in memory, whose clock the tests turn.

use mortise_sdk::testing::Host;

use super::*;

fn ask(host: &mut Host, line: &str) -> Result<Vec<i64>> {
    let words: Vec<&str> = line.split(' ').collect();
    let reply = host.run(&MODULE, &words)?;
    let integer = |reply: &Reply| match reply {
        Reply::Integer(n) => *n,
        other => panic!("{line}: {other:?}"),
    };
    Ok(reply.as_elements().unwrap_or_else(|| panic!("{line}: {reply:?}")).iter().map(integer).collect())
}

#[test]
fn a_burst_and_then_one_each_second() {
    // Milliseconds since the beginning, quantity: limited, limit, remaining, retry, reset.
    let steps: &[(i64, i64, [i64; 5])] = &[
        (0, 6, [1, 5, 5, -1, 0]),
        (0, 1, [0, 5, 4, -1, 1]),
        (0, 1, [0, 5, 3, -1, 2]),
        (0, 1, [0, 5, 2, -1, 3]),
        (0, 1, [0, 5, 1, -1, 4]),
        (0, 1, [0, 5, 0, -1, 5]),
        (0, 1, [1, 5, 0, 1, 5]),
        (3000, 1, [0, 5, 2, -1, 3]),
        (3100, 1, [0, 5, 1, -1, 4]),
        (4000, 1, [0, 5, 1, -1, 4]),
        (8000, 1, [0, 5, 4, -1, 1]),
        (9500, 1, [0, 5, 4, -1, 1]),
        (9500, 0, [0, 5, 4, -1, 1]),
        (9500, 2, [0, 5, 2, -1, 3]),
    ];
    for name in ["CL.THROTTLE", "rl.throttle"] {
        let mut host = Host::new();
        let begin = host.now_ms;
        for (at, quantity, expected) in steps {
            host.now_ms = begin + at;
            let line = format!("{name} key 4 1 1 {quantity}");
            assert_eq!(ask(&mut host, &line).unwrap(), expected, "{line} at {at} ms");
        }
    }
}

#[test]
fn the_state_is_a_string_that_goes_when_the_bucket_is_full() {
    let mut host = Host::new();
    host.now_ns_beyond = 1;
    assert_eq!(ask(&mut host, "CL.THROTTLE key 0 1 1").unwrap(), [0, 1, 0, -1, 1]);
    assert_eq!(host.held_string("key"), Some(("1001000000001".into(), Some(1_001_001))));
    let set: Vec<&[u8]> = vec![b"SET", b"key", b"1001000000001", b"PXAT", b"1001001"];
    assert_eq!(host.propagated().unwrap(), [set]);
    let events: Vec<_> = host.events().iter().map(|(_, event)| *event).collect();
    assert_eq!(events, ["set", "expire"]);
    // What is limited changes nothing.
    assert_eq!(ask(&mut host, "CL.THROTTLE key 0 1 1").unwrap(), [1, 1, 0, 1, 1]);
    assert_eq!((host.propagated(), host.events().len()), (None, 2));
    host.now_ms += 1000;
    assert!(host.held_string("key").is_some());
    host.now_ms += 1;
    assert_eq!(host.held_string("key"), None);
}

#[test]
fn more_than_a_thousand_a_second_are_limited_too() {
    let mut host = Host::new();
    for taken in 1..=10 {
        assert_eq!(ask(&mut host, "CL.THROTTLE key 9 6000 1").unwrap()[..3], [0, 10, 10 - taken]);
    }
    // They come back in less than two milliseconds, which the reply does not call a second.
    assert_eq!(ask(&mut host, "CL.THROTTLE key 9 6000 1").unwrap(), [1, 10, 0, 0, 1]);
    host.now_ns_beyond = 166_666;
    assert_eq!(ask(&mut host, "CL.THROTTLE key 9 6000 1").unwrap()[0], 0);
    assert_eq!(ask(&mut host, "CL.THROTTLE key 9 6000 1").unwrap()[0], 1);
    assert_eq!(host.held_string("key").unwrap().1, Some(host.now_ms + 2));
}

#[test]
fn a_peek_takes_nothing() {
    let mut host = Host::new();
    assert_eq!(ask(&mut host, "CL.THROTTLE key 4 1 1 0").unwrap(), [0, 5, 5, -1, 0]);
    assert_eq!(host.held_string("key"), Some(("1000000000000".into(), Some(host.now_ms + 1))));
    ask(&mut host, "CL.THROTTLE key 4 1 1 3").unwrap();
    let held = host.held_string("key");
    assert_eq!(ask(&mut host, "CL.THROTTLE key 4 1 1 0").unwrap(), [0, 5, 2, -1, 3]);
    assert_eq!(host.held_string("key"), held);
}

#[test]
fn a_limit_may_change_from_call_to_call() {
    let mut host = Host::new();
    assert_eq!(ask(&mut host, "CL.THROTTLE key 9 1 1 10").unwrap(), [0, 10, 0, -1, 10]);
    // The bucket is now a smaller one, and is full again as late as before.
    assert_eq!(ask(&mut host, "CL.THROTTLE key 1 1 1 0").unwrap(), [1, 2, 0, 8, 10]);
    assert_eq!(ask(&mut host, "CL.THROTTLE key 19 1 1 10").unwrap(), [0, 20, 0, -1, 20]);
}

#[test]
fn what_is_no_limit_is_refused() {
    let mut host = Host::new();
    let max = i64::MAX.to_string();
    let min = i64::MIN.to_string();
    for (line, expected) in [
        ("0 0 1", "Cell error: Store error: Zero rates are not supported"),
        ("0 1 0", "Cell error: Store error: Zero rates are not supported"),
        ("0 1000000001 1", "Cell error: Store error: Zero rates are not supported"),
        ("x 1 1", "Cell error: Store error: Couldn't parse as integer: x"),
        ("1 1 1.5", "Cell error: Store error: Couldn't parse as integer: 1.5"),
        ("1 1 1 ", "Cell error: Store error: Couldn't parse as integer: "),
        (
            "1 9223372036854775808 1",
            "Cell error: Store error: Couldn't parse as integer: 9223372036854775808",
        ),
        ("-1 1 1", "ERR max_burst must not be negative"),
        ("1 -1 1", "ERR count must not be negative"),
        ("1 1 -1", "ERR period must not be negative"),
        ("1 -1 -1", "ERR count must not be negative"),
        ("1 1 1 -1", "ERR quantity must not be negative"),
        ("MAX 1 1", "ERR max_burst is too large"),
        ("MIN MIN MIN MIN", "ERR max_burst must not be negative"),
        ("1 1 1 MIN", "ERR quantity must not be negative"),
        ("0 1 MAX", "ERR the limit would take too long to reset"),
        ("9000000000000000000 1 1 9000000000000000000", "ERR the limit would take too long to reset"),
        (
            "1 1 1 1 1",
            "Cell error: Store error: Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]",
        ),
        ("1 1", "ERR wrong number of arguments for 'cl.throttle' command"),
    ] {
        let line = format!("CL.THROTTLE key {}", line.replace("MAX", &max).replace("MIN", &min));
        assert_eq!(ask(&mut host, &line), Err(Error::text(expected)), "{line}");
    }
    assert_eq!(host.held_string("key"), None);
    assert!(host.events().is_empty());
    // As redis-cell takes numbers.
    assert_eq!(ask(&mut host, "CL.THROTTLE key +4 01 001 -0").unwrap(), [0, 5, 5, -1, 0]);
}

#[test]
fn large_numbers_have_their_answers() {
    let mut host = Host::new();
    for (line, expected) in [
        ("9223372036854775806 1000000000 1 1", [0, i64::MAX, i64::MAX - 1, -1, 0]),
        ("9223372036854775806 MAX MAX 0", [0, i64::MAX, i64::MAX, -1, 0]),
        ("0 1 MAX 0", [0, 1, 1, -1, 0]),
        ("0 1 MAX MAX", [1, 1, 1, -1, 0]),
        ("0 MAX MAX MAX", [1, 1, 1, -1, 0]),
        ("0 1 1 MAX", [1, 1, 1, -1, 0]),
    ] {
        let line = format!("CL.THROTTLE key {}", line.replace("MAX", &i64::MAX.to_string()));
        assert_eq!(ask(&mut host, &line).unwrap(), expected, "{line}");
        host.now_ms += 10_000;
    }
    host.hold_string("far", &i64::MAX.to_string());
    let seconds = (i64::MAX - host.now_ms * 1_000_000) / 1_000_000_000 + 1;
    assert_eq!(ask(&mut host, "CL.THROTTLE far 0 1 1").unwrap(), [1, 1, 0, seconds, seconds]);
    assert_eq!(
        ask(&mut host, "CL.THROTTLE far 9223372036854775806 1 1 1"),
        Err(Error::text("ERR the limit would take too long to reset"))
    );
}

#[test]
fn what_else_a_key_may_hold() {
    let mut host = Host::new();
    let no_state = Err(Error::text("ERR the key holds a string that is not the state of a rate limit"));
    for text in ["", "x", "-1", "1.5", "+1", "01", "9223372036854775808", "-9223372036854775808"] {
        host.hold_string("text", text);
        assert_eq!(ask(&mut host, "CL.THROTTLE text 1 1 1"), no_state, "{text:?}");
        assert_eq!(host.held_string("text").unwrap().0, text);
    }
    host.hold_other("hash");
    assert_eq!(ask(&mut host, "CL.THROTTLE hash 1 1 1"), Err(mortise_sdk::error::WRONGTYPE));
    // A state that has lost its deadline is one that lies in the past.
    host.hold_string("old", "1");
    assert_eq!(ask(&mut host, "CL.THROTTLE old 1 1 1 3").unwrap(), [1, 2, 2, -1, 0]);
    assert_eq!(ask(&mut host, "CL.THROTTLE old 1 1 1").unwrap(), [0, 2, 1, -1, 1]);
}

#[test]
fn without_memory_only_limits_that_are_there_go_on() {
    let mut host = Host::new();
    ask(&mut host, "CL.THROTTLE there 1 1 1").unwrap();
    host.out_of_memory = true;
    assert_eq!(ask(&mut host, "CL.THROTTLE there 1 1 1").unwrap(), [0, 2, 0, -1, 2]);
    assert_eq!(ask(&mut host, "CL.THROTTLE new 1 1 1"), Err(mortise_sdk::error::OOM));
    assert_eq!(ask(&mut host, "CL.THROTTLE new 1 1 1 3").unwrap(), [1, 2, 2, -1, 0]);
}
