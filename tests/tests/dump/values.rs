//! Random values of all types and encodings, as the commands that make them. The same seed gives the same values.

use mortise_core::engine::random::Random;

/// A command with its arguments.
pub(crate) type Command = Vec<Vec<u8>>;

/// A type: its name, and how a value is made.
pub(crate) struct Maker {
    pub(crate) name: &'static str,
    pub(crate) make: fn(&mut Random, &str) -> Vec<Command>,
}

pub(crate) const MAKERS: &[Maker] = &[
    Maker { name: "string", make: string },
    Maker { name: "hash", make: hash },
    Maker { name: "zset", make: zset },
    Maker { name: "list", make: list },
    Maker { name: "set", make: set },
    Maker { name: "stream", make: stream },
];

/// A command of words.
pub(crate) fn words(words: &[&[u8]]) -> Command {
    words.iter().map(|word| word.to_vec()).collect()
}

/// Lengths about which encodings differ: of small strings, of listpack items and what stands behind them, of chunks.
const EDGES: &[usize] =
    &[0, 1, 11, 12, 20, 21, 63, 64, 65, 125, 126, 127, 128, 253, 254, 300, 4094, 4095, 4096];

/// Longer ones, of which a value has few.
const LONG_EDGES: &[usize] =
    &[16_376, 16_377, 16_378, 16_379, 16_383, 16_384, 65_535, 65_536, 65_537, 200_000];

/// A text: an integer, one that compresses well or not at all, or bytes.
pub(crate) fn text(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => (random.below(300) as i64 - 150).to_string().into_bytes(),
        1 => integer(random).to_string().into_bytes(),
        2 => [&b"0"[..], b"-0", b"00", b"+1", b" 1", b"1.0", b"\r\n", b"\0"][random.below(8)].to_vec(),
        3 | 4 => of_len(random, EDGES),
        _ => {
            let len = random.below(24);
            (0..len).map(|_| b'a' + random.below(26) as u8).collect()
        }
    }
}

/// An integer about the edges of widths.
fn integer(random: &mut Random) -> i64 {
    let bits = [6, 7, 12, 13, 15, 16, 23, 24, 31, 32, 62, 63][random.below(12)];
    let edge = i64::MAX >> (63 - bits);
    let near = edge.wrapping_add(random.below(3) as i64).wrapping_sub(1);
    if random.below(2) == 0 { near } else { near.wrapping_neg() }
}

fn of_len(random: &mut Random, edges: &[usize]) -> Vec<u8> {
    let len = edges[random.below(edges.len())];
    match random.below(3) {
        0 => vec![b'a' + random.below(26) as u8; len],
        1 => (0..len).map(|_| random.word() as u8).collect(),
        _ => (0..len).map(|at| b"abracadabra"[(at * 7 / 5) % 11]).collect(),
    }
}

/// How many items a collection gets: few, about the limits of what is small, or many.
fn count(random: &mut Random) -> usize {
    match random.below(6) {
        0 => 1,
        1 => 127 + random.below(4),
        2 => 510 + random.below(5),
        3 => 1000 + random.below(500),
        _ => 1 + random.below(30),
    }
}

/// Adds items to a key, some hundreds with each command.
fn adding(command: &str, key: &str, items: &[Command]) -> Vec<Command> {
    let head = [command.as_bytes().to_vec(), key.as_bytes().to_vec()];
    items.chunks(200).map(|part| [head.to_vec(), part.concat()].concat()).collect()
}

fn string(random: &mut Random, key: &str) -> Vec<Command> {
    let key = key.as_bytes();
    let value = match random.below(4) {
        0 => of_len(random, LONG_EDGES),
        _ => text(random),
    };
    let mut commands = vec![words(&[b"SET", key, &value])];
    match random.below(4) {
        0 => commands.push(words(&[b"APPEND", key, &text(random)])),
        1 => commands.push(words(&[b"SETRANGE", key, random.below(100).to_string().as_bytes(), b"x"])),
        _ => {}
    }
    commands
}

fn hash(random: &mut Random, key: &str) -> Vec<Command> {
    let mut items: Vec<Command> = (0..count(random)).map(|_| vec![text(random), text(random)]).collect();
    if random.below(6) == 0 {
        items.push(vec![b"long".to_vec(), of_len(random, LONG_EDGES)]);
    }
    adding("HSET", key, &items)
}

fn score(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => [&b"inf"[..], b"-inf", b"-0", b"0", b"1e300", b"-1e-300", b"5e-324", b"1e17"][random.below(8)]
            .to_vec(),
        1 => integer(random).to_string().into_bytes(),
        2 => format!("{}", (random.word() as i64) as f64 / 1e6).into_bytes(),
        _ => random.below(50).to_string().into_bytes(),
    }
}

fn zset(random: &mut Random, key: &str) -> Vec<Command> {
    let items: Vec<Command> = (0..count(random)).map(|_| vec![score(random), text(random)]).collect();
    adding("ZADD", key, &items)
}

fn list(random: &mut Random, key: &str) -> Vec<Command> {
    let mut items: Vec<Command> = (0..count(random)).map(|_| vec![text(random)]).collect();
    if random.below(3) == 0 {
        items.push(vec![of_len(random, LONG_EDGES)]);
    }
    adding("RPUSH", key, &items)
}

fn set(random: &mut Random, key: &str) -> Vec<Command> {
    let wide = random.below(2) == 0;
    let number = |random: &mut Random| match wide {
        true => integer(random),
        false => random.below(5000) as i64,
    };
    let is_of_integers = random.below(2) == 0;
    let member = |random: &mut Random| match is_of_integers {
        true => vec![number(random).to_string().into_bytes()],
        false => vec![text(random)],
    };
    let items: Vec<Command> = (0..count(random)).map(|_| member(random)).collect();
    adding("SADD", key, &items)
}

fn stream(random: &mut Random, key: &str) -> Vec<Command> {
    let key = key.as_bytes();
    let (mut ms, mut seq) = (random.below(1 << 40), 0);
    let (mut commands, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..count(random).min(300) {
        match random.below(4) {
            0 => (ms, seq) = (ms + 1 + random.below(100_000), 0),
            _ => seq += 1 + random.below(3),
        }
        let id = format!("{ms}-{seq}").into_bytes();
        let mut command = words(&[b"XADD", key, &id]);
        for field in 0..1 + random.below(3) {
            command.push(if random.below(5) == 0 { text(random) } else { vec![b'f' + field as u8] });
            command.push(text(random));
        }
        commands.push(command);
        ids.push(id);
    }
    for id in &ids {
        if random.below(8) == 0 {
            commands.push(words(&[b"XDEL", key, id]));
        }
    }
    for group in 0..random.below(3) {
        let group = format!("group{group}").into_bytes();
        commands.push(words(&[b"XGROUP", b"CREATE", key, &group, &ids[random.below(ids.len())]]));
        for consumer in [&b"ann"[..], b"bob"] {
            let count = random.below(20).to_string();
            commands.push(words(&[
                b"XREADGROUP",
                b"GROUP",
                &group,
                consumer,
                b"COUNT",
                count.as_bytes(),
                b"STREAMS",
                key,
                b">",
            ]));
        }
        for id in &ids {
            if random.below(6) == 0 {
                commands.push(words(&[b"XACK", key, &group, id]));
            }
        }
        commands.push(words(&[b"XGROUP", b"CREATECONSUMER", key, &group, b"idle"]));
    }
    commands
}
