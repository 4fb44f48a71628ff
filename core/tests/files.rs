//! Files of data that are damaged: refused or loaded, and never the end of the server. `FUZZ_SECONDS` says for how long (two
//! seconds if it does not), and `FUZZ_SEED` where to begin.

#[path = "support/files.rs"]
mod files;

use std::time::{Duration, Instant};

use files::{engine, load};
use mortise_core::engine::random::Random;
use mortise_core::keyspace::SpaceId;
use mortise_core::persistence::snapshot::Reader;

/// A library of functions, what a module keeps beside its values, and a value of a module.
const BESIDE: &[u8] = b"REDIS0010\xf5\x04code\xf7\x81\x41\x04\x10\x41\x04\x10\x41\x00\x02\x01\x05\x02hi\x00\
    \xfe\x00\x07\x07foreign\x81\x4a\x01\x02\x03\x04\x05\x06\x07\x05\x04name\x02\x01\x05\x05value\x00\
    \xff\0\0\0\0\0\0\0\0";

const COMMANDS: &str = "\
SET text some
SET number 77 PXAT 33000000000000
HSET hash f v g 1 h text
HPEXPIREAT hash 33000000000000 FIELDS 2 f g
RPUSH list a 1 b -70000 c
SADD numbers 1 2 300
SADD words a b c
ZADD board 1 a 2.5 b -inf c
XADD log 1-1 f v g w
XADD log 1-2 f x g y
XADD log 7-0 other 1
XGROUP CREATE log readers 0
XREADGROUP GROUP readers ann COUNT 2 STREAMS log >
XDEL log 1-2
SELECT 3
SETRANGE long 3000 end";

/// Files as the server itself saves them.
fn good() -> Vec<Vec<u8>> {
    let mut engine = engine();
    engine.load(SpaceId::FIRST, Reader::new(BESIDE)).expect("it is whole");
    let mut session = engine.local_session();
    let mut run = |engine: &mut mortise_core::engine::Engine, words: &[Vec<u8>]| {
        let words: Vec<_> = words.iter().map(Vec::as_slice).collect();
        let (given, reply) = engine.request(session.take().expect("no call waits"), &words);
        assert_ne!(reply.first(), Some(&b'-'), "{}", reply.escape_ascii());
        session = given;
    };
    for line in COMMANDS.lines() {
        let words: Vec<_> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        run(&mut engine, &words);
    }
    for n in 0..200 {
        let (name, text) = (n.to_string().into_bytes(), format!("{n:60}").into_bytes());
        run(&mut engine, &[b"HSET".to_vec(), b"large".to_vec(), name.clone(), text]);
        if n % 3 == 0 {
            let deadline = format!("{}", 33_000_000_000_000_u64 + n);
            let words = ["HPEXPIREAT", "large", &deadline, "FIELDS", "1"];
            let words: Vec<_> = words.iter().map(|word| word.as_bytes().to_vec()).chain([name]).collect();
            run(&mut engine, &words);
        }
    }
    let saved = [true, false].map(|compresses| {
        engine.config.persistence.rdbcompression = compresses;
        let mut file = Vec::new();
        engine.save(SpaceId::FIRST, &mut file).expect("memory takes it");
        file
    });
    [vec![BESIDE.to_vec()], saved.to_vec()].concat()
}

/// A good file with a few things wrong.
fn damaged(random: &mut Random, good: &[Vec<u8>]) -> Vec<u8> {
    const BYTES: [u8; 16] =
        [0, 1, 2, 7, 22, 0x40, 0x7f, 0x80, 0x81, 0xc0, 0xc3, 0xf5, 0xf7, 0xfc, 0xfe, 0xff];
    const HEAD_LEN: usize = 9;
    let mut file = good[random.below(good.len())].clone();
    for _ in 0..=random.below(3) {
        let at = HEAD_LEN + random.below(file.len() - HEAD_LEN);
        match random.below(6) {
            0 => file[at] = random.word() as u8,
            1 => file[at] = BYTES[random.below(BYTES.len())],
            2 => file[at] ^= 1 << random.below(8),
            3 => file.insert(at, BYTES[random.below(BYTES.len())]),
            4 => {
                let other = &good[random.below(good.len())];
                let from = HEAD_LEN + random.below(other.len() - HEAD_LEN);
                file.splice(at.., other[from..].iter().copied());
            }
            _ => drop(file.remove(at)),
        }
        if file.len() < 2 * HEAD_LEN {
            break;
        }
    }
    file
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn good_files_are_loaded() {
    let good = good();
    assert!(good.iter().all(|file| load(file)));
    let mut engine = engine();
    engine.load(SpaceId::FIRST, Reader::new(&good[1])).expect("it is whole");
    assert_eq!((engine.persistence.kept.functions.len(), engine.persistence.kept.of_modules.len()), (1, 1));
}

#[test]
fn damaged_files_do_no_harm() {
    let (good, seconds) = (good(), number("FUZZ_SECONDS", 2));
    let (mut random, start, mut counts) = (Random::new(number("FUZZ_SEED", 1)), Instant::now(), [0; 2]);
    while start.elapsed() < Duration::from_secs(seconds) {
        let file = damaged(&mut random, &good);
        let is_taken = std::panic::catch_unwind(|| load(&file));
        let is_taken = is_taken.unwrap_or_else(|_| panic!("{}", file.escape_ascii()));
        counts[usize::from(is_taken)] += 1;
    }
    println!("{} were refused, {} taken", counts[0], counts[1]);
    assert!(counts[0] > 50 && counts[1] > 50, "{counts:?}");
}
