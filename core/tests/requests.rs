//! The request parser under random and broken input. `FUZZ_SECONDS` says for how long (one second if it does not), and
//! `FUZZ_SEED` where to begin.

#[path = "support/understood.rs"]
mod understood;

use std::time::{Duration, Instant};

use mortise_core::engine::random::Random;
use mortise_core::resp::request::RequestLimits;
use understood::understand;

const LIMITS: RequestLimits = RequestLimits { bulk_len_max: 4096, authenticated: true };

/// A stream of requests, some of them damaged.
fn stream(random: &mut Random) -> Vec<u8> {
    const PIECES: [&[u8]; 24] = [
        b"*1\r\n$4\r\nPING\r\n",
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nvalue\r\nvalue\r\n",
        b"PING\r\n",
        b"set k 'a b' \"c\\x41\\n\"\n",
        b"\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*",
        b"$",
        b"\r",
        b"\n",
        b"\"",
        b"'",
        b"\\",
        b"\0",
        b"-",
        b"0",
        b"4096",
        b"4097",
        b"99999999999999999999",
        b"2147483648",
        b" ",
        b"x",
    ];
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(12) {
        // Whole requests more often than debris.
        let piece = if random.below(4) > 0 { random.below(8) } else { random.below(PIECES.len()) };
        bytes.extend_from_slice(PIECES[piece]);
    }
    for _ in 0..random.below(3) {
        let at = random.below(bytes.len());
        match random.below(3) {
            0 => bytes[at] = random.word() as u8,
            1 => bytes.truncate(at + 1),
            _ => bytes.insert(at, random.word() as u8),
        }
    }
    bytes
}

#[test]
fn any_stream_means_the_same_however_it_arrives() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(1));
    let mut seed = number("FUZZ_SEED").unwrap_or(1);
    let (start, mut streams) = (Instant::now(), 0u64);
    while start.elapsed() < time {
        for _ in 0..1_000 {
            let mut random = Random::new(seed);
            let bytes = stream(&mut random);
            let limits = RequestLimits { authenticated: random.below(4) > 0, ..LIMITS };
            let whole = understand(&bytes, limits, || usize::MAX);
            let pieces = understand(&bytes, limits, || 1 + random.below(9));
            assert_eq!(whole, pieces, "FUZZ_SEED={seed}: {:?}", String::from_utf8_lossy(&bytes));
            seed += 1;
            streams += 1;
        }
    }
    println!("{streams} streams, the last of seed {}", seed - 1);
}
