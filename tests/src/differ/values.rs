//! What arguments are filled with: few keys and members, so that commands meet, and numbers at the edges.

use super::generate::{ID, is_by_name};
use super::grammar::{Argument, Command, Kind};
use super::{Chance, Request};

/// The groups of commands that work on values, with the first letter of their keys.
pub(super) const GROUPS: [(&str, &str); 9] = [
    ("string", "s"),
    ("bitmap", "b"),
    ("hash", "h"),
    ("list", "l"),
    ("set", "e"),
    ("sorted-set", "z"),
    ("geo", "g"),
    ("hyperloglog", "p"),
    ("stream", "x"),
];

/// Keys of a group.
const KEYS: usize = 4;

/// Out of so many values one is no value of its kind.
const WRONG: usize = 40;

const INTEGERS: [&str; 8] =
    ["9223372036854775807", "-9223372036854775808", "9223372036854775808", "100", "-100", "1000", "01", "+1"];
const NO_INTEGERS: [&str; 5] = ["x", "1.5", "", " 1", "1e2"];
const NO_TIMES: [&str; 6] = ["0", "-1", "-9223372036854775808", "9223372036854775808", "x", ""];
/// Without -0: the row `zero-sign` of differences.md.
const DOUBLES: [&str; 11] = ["0", "1", "-1", "2.5", "-0.5", "3", "1e3", "inf", "-inf", "1e-7", "10"];
const NO_DOUBLES: [&str; 4] = ["nan", "x", "", "1,5"];
const DISTANCES: [&str; 7] = ["0", "100", "3000", "1e6", "2.5e5", "4e6", "1e7"];
const NO_TIMEOUTS: [&str; 4] = ["-1", "nan", "x", ""];
const WORDS: [&str; 20] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "1", "2", "3", "10", "-5", "1.5", "", "aa", "ab", "A", "abc",
    "007",
];
const SCORE_BOUNDS: [&str; 12] =
    ["-inf", "+inf", "inf", "0", "1", "(1", "2.5", "(2.5", "-1", "(-inf", "x", "10"];
const LOW_SCORES: [&str; 5] = ["-inf", "-inf", "(-1", "0", "(0"];
const HIGH_SCORES: [&str; 5] = ["+inf", "+inf", "(10", "3", "100"];
const FIRST_PLACES: [&str; 5] = ["0", "0", "1", "-3", "-100"];
const LAST_PLACES: [&str; 5] = ["-1", "-1", "-2", "5", "100"];
const NAME_BOUNDS: [&str; 10] = ["-", "+", "[a", "(a", "[c", "(c", "[f", "(", "[", "x"];
pub(super) const PATTERNS: [&str; 10] =
    ["*", "a*", "?", "[a-c]*", "*b", "h:*->a", "s:*", "\\*", "h:*->*", "nosort"];
pub(super) const TYPES: [&str; 8] = ["string", "list", "hash", "set", "zset", "stream", "STREAM", "none"];
const STREAM_IDS: [&str; 12] = ["0", "-", "+", "1-1", "1-2", "2-1", "3-0", "5-1", "7", "9-9", "(2-1", "0-0"];
const OPERATIONS: [&str; 5] = ["AND", "OR", "XOR", "NOT", "NAND"];
const FIELD_TYPES: [&str; 8] = ["u8", "i8", "u1", "i16", "u63", "i64", "u64", "i5"];

/// How long something is to have been idle: ever, or longer than a sequence takes.
const IDLE_TIMES: [&str; 4] = ["0", "0", "1000000", "5000000"];

/// A key for a command: mostly one that holds what the command is for.
pub(super) fn key(command: &Command, chance: &mut Chance) -> Vec<u8> {
    if is_by_name(&command.name()) {
        return lex_key(chance);
    }
    let letter = match GROUPS.iter().find(|(group, _)| *group == command.group) {
        Some((_, letter)) if chance.percent(92) => letter,
        _ => chance.one_of(&GROUPS).1,
    };
    let letter = if command.words[0].starts_with("SORT") && chance.percent(85) {
        chance.one_of(&["l", "l", "e", "z", "g"])
    } else {
        letter
    };
    // Much has to come together in a stream until something can be claimed.
    let keys = if command.group == "stream" { 2 } else { KEYS };
    format!("{letter}:{}", chance.below(keys)).into_bytes()
}

/// A key of sorted sets whose members all have one score, as commands that compare names require.
pub(super) fn lex_key(chance: &mut Chance) -> Vec<u8> {
    format!("lex:{}", chance.below(2)).into_bytes()
}

/// A member, field, element or value.
pub(super) fn word(chance: &mut Chance) -> Vec<u8> {
    match chance.below(60) {
        0 => vec![b'x'; 70],
        1 => vec![b'y'; 200 + chance.below(3000)],
        // What Redis sorts as texts of C is the same behind a zero byte.
        2 => vec![255, chance.below(256) as u8, b'\r', b'\n', 0],
        3..8 => chance.below(1000).to_string().into_bytes(),
        8..30 => chance.one_of(&WORDS[..8]).as_bytes().to_vec(),
        _ => chance.one_of(&WORDS).as_bytes().to_vec(),
    }
}

fn small(chance: &mut Chance) -> String {
    (chance.below(16) as i64 - 4).to_string()
}

fn integer(chance: &mut Chance) -> String {
    match chance.below(WRONG) {
        0 => (*chance.one_of(&NO_INTEGERS)).to_owned(),
        1..4 => (*chance.one_of(&INTEGERS)).to_owned(),
        _ => small(chance),
    }
}

/// A value of an argument that is neither a word nor made of parts.
pub(super) fn value(command: &Command, argument: &Argument, chance: &mut Chance) -> Vec<u8> {
    let name = argument.name.as_str();
    let text = match &argument.kind {
        Kind::Key => return key(command, chance),
        Kind::Pattern => (*chance.one_of(&PATTERNS)).to_owned(),
        // Nothing expires while a sequence runs, unless it does at once.
        Kind::UnixTime if chance.below(WRONG) == 0 => (*chance.one_of(&NO_TIMES)).to_owned(),
        Kind::UnixTime if name.contains("milli") => (4_000_000_000_000 + chance.below(1000)).to_string(),
        Kind::UnixTime => (4_000_000_000 + chance.below(1000)).to_string(),
        Kind::Integer => match name {
            "milliseconds" if command.flags.contains("blocking") => (1 + chance.below(5)).to_string(),
            "seconds" | "milliseconds" if chance.below(WRONG) == 0 => (*chance.one_of(&NO_TIMES)).to_owned(),
            // So far apart that it is no matter of when each server heard of them which is the later one.
            "seconds" => (1000 + 10 * chance.below(100)).to_string(),
            "milliseconds" => (1_000_000 + 10_000 * chance.below(100)).to_string(),
            // What is written that far away is allocated.
            "offset" => match chance.below(WRONG) {
                0 => integer(chance),
                1 => (60_000 + chance.below(20_000)).to_string(),
                _ => chance.below(60).to_string(),
            },
            "value" | "bit" if command.group == "bitmap" && chance.percent(95) => chance.below(2).to_string(),
            "min-idle-time" | "ms" if chance.percent(95) => (*chance.one_of(&IDLE_TIMES)).to_owned(),
            // Without the smallest: the row `lpos-rank-min` of differences.md.
            "rank" => small(chance),
            "destination-db" | "db" => chance.below(3).to_string(),
            _ => integer(chance),
        },
        Kind::Double => match name {
            "longitude" => format!("{}.{}", chance.below(40) as i64 - 20, chance.below(1000)),
            "latitude" => format!("{}.{}", chance.below(40) as i64 - 20, chance.below(1000)),
            // A call that is made outside a transaction, perhaps since a sequence is made short, does wait.
            "radius" | "width" | "height" if chance.percent(90) => (*chance.one_of(&DISTANCES)).to_owned(),
            "timeout" if chance.below(WRONG) == 0 => (*chance.one_of(&NO_TIMEOUTS)).to_owned(),
            "timeout" => "0.005".to_owned(),
            _ if chance.below(WRONG) == 0 => (*chance.one_of(&NO_DOUBLES)).to_owned(),
            _ => (*chance.one_of(&DOUBLES)).to_owned(),
        },
        _ => match (name, command.group.as_str()) {
            ("min" | "max", _) if is_by_name(&command.name()) => (*chance.one_of(&NAME_BOUNDS)).to_owned(),
            ("min" | "max" | "start" | "stop", "sorted-set") => match chance.percent(70) {
                true if command.words[0] == "ZRANGE" || command.words[0] == "ZRANGESTORE" => {
                    let places = if ["min", "start"].contains(&name) { &FIRST_PLACES } else { &LAST_PLACES };
                    (*chance.one_of(places)).to_owned()
                }
                true if name == "min" => (*chance.one_of(&LOW_SCORES)).to_owned(),
                true if name == "max" => (*chance.one_of(&HIGH_SCORES)).to_owned(),
                _ => (*chance.one_of(&SCORE_BOUNDS)).to_owned(),
            },
            ("operation", "bitmap") => (*chance.one_of(&OPERATIONS)).to_owned(),
            ("encoding", "bitmap") => (*chance.one_of(&FIELD_TYPES)).to_owned(),
            ("offset", "bitmap") => {
                let hash = if chance.percent(30) { "#" } else { "" };
                format!("{hash}{}", chance.below(40))
            }
            ("value", "bitmap") => integer(chance),
            ("id" | "start" | "end" | "lastid" | "last-id" | "threshold", "stream") => match name {
                "threshold" if chance.percent(60) => chance.below(6).to_string(),
                "id" if command.words[0] == "XREADGROUP" && chance.percent(60) => ">".to_owned(),
                "start" if chance.percent(50) => "-".to_owned(),
                "end" if chance.percent(50) => "+".to_owned(),
                _ if chance.percent(80) => return ID.to_vec(),
                _ => (*chance.one_of(&STREAM_IDS)).to_owned(),
            },
            ("min-idle-time", "stream") if chance.percent(95) => (*chance.one_of(&IDLE_TIMES)).to_owned(),
            ("group" | "groupname", "stream") => format!("group{}", chance.below(2)),
            ("consumer" | "consumername", "stream") => format!("consumer{}", chance.below(2)),
            _ => return word(chance),
        },
    };
    text.into_bytes()
}

/// What sets a sorted set whose members have one score.
pub(super) fn lex_write(chance: &mut Chance) -> Request {
    let mut request = vec![b"ZADD".to_vec(), lex_key(chance)];
    for _ in 0..=chance.below(4) {
        request.push(b"0".to_vec());
        request.push(word(chance));
    }
    request
}
