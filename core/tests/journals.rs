//! Journals whose files hold anything: refused or played, and never the end of the server. `FUZZ_SECONDS` says for how
//! long (two seconds if it does not), and `FUZZ_SEED` where to begin.

#[path = "support/journals.rs"]
mod journals;

use std::time::{Duration, Instant};

use journals::{play, understand};
use mortise_core::engine::random::Random;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Requests, one a line, and lines that begin with `#`.
const JOURNALS: &[&str] = &[
    "SELECT 0\nSET k 1\nINCRBY k 5\nAPPEND k more\nDEL none\nRENAME k l",
    "#TS:1700000000\nSELECT 3\nRPUSH list a b c\nLSET list 0 x\nLPOP list 2\nLTRIM list 0 0\n#TS:1700000005\nSWAPDB 3 0",
    "SELECT 0\nMULTI\nHSET h f v g 2\nHINCRBY h g 3\nSELECT 1\nSADD s 1 2 three\nEXEC\nSELECT 0\nSINTERSTORE t s s\nHDEL h f",
    "SELECT 0\nZADD z 1 a 2.5 b\nZINCRBY z 1 a\nZADD z NX 7 c\nZUNIONSTORE y 1 z\nZREMRANGEBYRANK y 0 0",
    "SELECT 0\nXADD log 1-1 f v g w\nXADD log 2-0 f v\nXGROUP CREATE log readers 0\nXCLAIM log readers ann 0 1-1 TIME 0 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1\nXDEL log 2-0",
    "SELECT 0\nSET k v PXAT 33000000000000\nPEXPIREAT k 1000\nHSET h f v\nHPEXPIREAT h 33000000000000 FIELDS 1 f\nPERSIST k",
    "SELECT 0\nSETBIT b 100 1\nBITFIELD b SET u8 0 255\nPFADD hll a b c\nPFMERGE all hll\nGEOADD g 13.361389 38.115556 Palermo",
    "SELECT 0\nSET a 1\nCOPY a b DB 2\nMOVE a 1\nFLUSHDB\nFLUSHALL ASYNC\nPUBLISH ch m\nPING\nGET a",
    "SELECT 0\nEVAL return{redis.call('SET',KEYS[1],ARGV[1])} 1 k v\nSCRIPT LOAD return\nSORT l STORE m\nUNLINK k",
];

const MANIFESTS: &[&str] = &[
    "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n",
    "# note\nfile \"a b\\x00\" seq 7 type h\nfile 'its' seq 3 type i new thing\n",
    "file appendonly.aof seq 1 type b\r\nfile x seq -5 type h\nfile y seq 2 type i\nfile z seq 9 type i\n",
];

fn encoded(lines: &str) -> Vec<u8> {
    let mut file = Vec::new();
    for line in lines.lines() {
        if line.starts_with('#') {
            file.extend([line.as_bytes(), b"\r\n"].concat());
            continue;
        }
        let words: Vec<_> = line.split(' ').collect();
        file.extend(format!("*{}\r\n", words.len()).bytes());
        words.iter().for_each(|word| file.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
    }
    file
}

/// A good text with a few things wrong, now and then none.
fn damaged(random: &mut Random, good: &[Vec<u8>]) -> Vec<u8> {
    const BYTES: &[u8] = b"\x00\r\n\"\\'#*$-019bhi \xff";
    let mut text = good[random.below(good.len())].clone();
    for _ in 0..random.below(4) {
        let at = random.below(text.len().max(1));
        match random.below(6) {
            0 => text.truncate(at),
            1 => text.insert(at.min(text.len()), BYTES[random.below(BYTES.len())]),
            2 if at < text.len() => text[at] = BYTES[random.below(BYTES.len())],
            3 if at < text.len() => drop(text.remove(at)),
            4 if at < text.len() => {
                let len = random.below(text.len() - at + 1).min(64);
                let copy = text[at..at + len].to_vec();
                text.splice(at..at, copy);
            }
            _ => {
                let other = &good[random.below(good.len())];
                let from = random.below(other.len());
                text.splice(at.min(text.len()).., other[from..].iter().copied());
            }
        }
    }
    text
}

/// What of damaged texts was taken, and what was refused: for a while, and on a busy machine until some of both were met.
fn outcomes(good: &[Vec<u8>], takes: fn(&[u8]) -> bool) -> [u64; 2] {
    let (seconds, seed) = (number("FUZZ_SECONDS", 2), number("FUZZ_SEED", 1));
    let (mut random, start, mut counts) = (Random::new(seed), Instant::now(), [0; 2]);
    let is_enough =
        |counts: &[u64; 2]| counts.iter().all(|&count| count > 50) || counts.iter().sum::<u64>() > 10_000;
    while start.elapsed() < Duration::from_secs(seconds) || !is_enough(&counts) {
        counts[usize::from(takes(&damaged(&mut random, good)))] += 1;
    }
    println!("{} were refused, {} taken", counts[0], counts[1]);
    counts
}

#[test]
fn good_ones_are_taken() {
    assert!(JOURNALS.iter().all(|lines| play(&encoded(lines))));
    assert!(MANIFESTS.iter().all(|text| understand(text.as_bytes())));
}

#[test]
fn damaged_journals_do_no_harm() {
    let good: Vec<_> = JOURNALS.iter().map(|lines| encoded(lines)).collect();
    let [refused, taken] = outcomes(&good, play);
    assert!(refused > 50 && taken > 50, "{refused} {taken}");
}

#[test]
fn damaged_manifests_do_no_harm() {
    let good: Vec<_> = MANIFESTS.iter().map(|text| text.as_bytes().to_vec()).collect();
    let [refused, taken] = outcomes(&good, understand);
    assert!(refused > 50 && taken > 50, "{refused} {taken}");
}
