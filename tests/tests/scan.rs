//! What SCAN and its siblings promise: an element that is there from the beginning to the end is returned, however much
//! else comes and goes.

use std::collections::HashSet;

use mortise_tests::suite::Target;
use mortise_tests::{Client, Reply};

const STABLE: usize = 3000;
const PASSING: usize = 20_000;

fn bulk(reply: &Reply) -> Vec<u8> {
    match reply {
        Reply::Bulk(text) => text.clone(),
        other => panic!("no bulk string: {other:?}"),
    }
}

/// Walks once; `between` runs after every step.
fn walk(
    client: &mut Client,
    command: &[&str],
    step: usize,
    mut between: impl FnMut(&mut Client, usize),
) -> HashSet<Vec<u8>> {
    let mut found = HashSet::new();
    let mut cursor = b"0".to_vec();
    for steps in 0.. {
        let mut request: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
        request.extend([&cursor[..], b"COUNT", b"20"]);
        let Reply::Array(reply) = client.call(&request).unwrap() else { panic!("no array") };
        let [next, Reply::Array(elements)] = &reply[..] else { panic!("no cursor and elements: {reply:?}") };
        found.extend(elements.iter().step_by(step).map(bulk));
        cursor = bulk(next);
        if cursor == b"0" {
            break;
        }
        assert!(steps < 100_000, "it does not come to an end");
        between(client, steps);
    }
    found
}

/// Runs a command for each number, in pipelines.
fn for_each(
    client: &mut Client,
    numbers: impl Iterator<Item = usize>,
    request: impl Fn(usize) -> Vec<String>,
) {
    let numbers: Vec<usize> = numbers.collect();
    for chunk in numbers.chunks(200) {
        chunk.iter().for_each(|number| client.send(&request(*number)).unwrap());
        for _ in chunk {
            let reply = client.receive().unwrap();
            assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        }
    }
}

fn words(text: String) -> Vec<String> {
    text.split(' ').map(str::to_string).collect()
}

/// `add` and `remove` name an element of the collection that `command` walks through.
fn assert_complete(command: &[&str], step: usize, add: fn(&str) -> String, remove: fn(&str) -> String) {
    let target = Target::from_env();
    let server = target.start(&[]).unwrap_or_else(|error| panic!("the server does not start: {error}"));
    // A server that runs already may hold what is not ours.
    let Some(server) = server else { return };
    let client = &mut server.connect();
    let stable = |number: usize| format!("stable:{number}");
    let passing = |number: usize| format!("passing:{number}");
    let all: HashSet<Vec<u8>> = (0..STABLE).map(|number| stable(number).into_bytes()).collect();

    for_each(client, 0..STABLE, |number| words(add(&stable(number))));
    assert_eq!(walk(client, command, step, |_, _| {}), all, "nothing changes");

    let grown = walk(client, command, step, |client, steps| {
        let from = steps * 200;
        for_each(client, from..PASSING.min(from + 200).max(from), |number| words(add(&passing(number))));
    });
    assert!(all.is_subset(&grown), "{} of {STABLE} while it grows", all.intersection(&grown).count());

    for_each(client, 0..PASSING, |number| words(add(&passing(number))));
    let shrunk = walk(client, command, step, |client, steps| {
        let from = steps * 200;
        for_each(client, from..PASSING.min(from + 200).max(from), |number| words(remove(&passing(number))));
    });
    assert!(all.is_subset(&shrunk), "{} of {STABLE} while it shrinks", all.intersection(&shrunk).count());
}

#[test]
fn scan_misses_no_key() {
    assert_complete(&["SCAN"], 1, |key| format!("SET {key} v"), |key| format!("DEL {key}"));
}

#[test]
fn hscan_misses_no_field() {
    assert_complete(
        &["HSCAN", "h"],
        2,
        |field| format!("HSET h {field} v"),
        |field| format!("HDEL h {field}"),
    );
}

#[test]
fn zscan_misses_no_member() {
    assert_complete(
        &["ZSCAN", "z"],
        2,
        |member| format!("ZADD z 1 {member}"),
        |member| format!("ZREM z {member}"),
    );
}

#[test]
fn sscan_misses_no_member() {
    assert_complete(
        &["SSCAN", "s"],
        1,
        |member| format!("SADD s {member}"),
        |member| format!("SREM s {member}"),
    );
}
