//! RESTORE of broken payloads of every kind: refused or harmless, and never for more memory than they are worth.
//! `FUZZ_SECONDS` says for how long (two seconds if it does not), and `FUZZ_SEED` where to begin.

#[path = "support/payloads.rs"]
mod payloads;

use std::time::{Duration, Instant};

use mortise_core::engine::random::Random;
use payloads::{Bench, read_forms};
use tikv_jemalloc_ctl::thread::allocatedp;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Values as redis-server 7.0.15 shows them (kind and body), those of older forms written by hand.
const GOOD: &[&[u8]] = &[
    b"\x00\x03bar",
    b"\x00\xc3\x0b@\xb4\x03abca\xe0\xa5\x02\x01bc",
    // Lists: elements, a ziplist, ziplists, listpacks.
    b"\x01\x02\x01a\xc0\x07",
    b"\x0a\x1e\x1e\x00\x00\x00\x1a\x00\x00\x00\x06\x00\x00\x03abc\x05\xfe\x80\x03\xc0\x01\x02\x04\xf3\x02\x00\x02\x01z\xff",
    b"\x0e\x02\x1e\x1e\x00\x00\x00\x1a\x00\x00\x00\x06\x00\x00\x03abc\x05\xfe\x80\x03\xc0\x01\x02\x04\xf3\x02\x00\x02\x01z\xff\
      \x13\x13\x00\x00\x00\x0f\x00\x00\x00\x02\x00\x00\x03abc\x05\xfe\x80\xff",
    b"\x12\x01\x02//\x00\x00\x00\x04\x00\x81a\x02\x0c\x01\xdf\xfd\x02\x9exxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\x1f\xff",
    // Sets: members, an intset, a listpack.
    b"\x02\x03\xc0\x07\x01b\x01a",
    b"\x0b\x0e\x02\x00\x00\x00\x03\x00\x00\x00\x01\x00\x02\x00,\x01",
    b"\x14\x0d\x0d\x00\x00\x00\x02\x00\x81a\x02\x07\x01\xff",
    // Sorted sets: texts, doubles, a ziplist, a listpack.
    b"\x03\x02\x01a\x032.5\x01b\xfe",
    b"\x05\x02\x01b\x00\x00\x00\x00\x00\x00\x04@\x01a\x00\x00\x00\x00\x00\x00\xf0?",
    b"\x0c\x18\x18\x00\x00\x00\x12\x00\x00\x00\x04\x00\x00\x01a\x03\xf2\x02\x01b\x03\x032.5\xff",
    b"\x11\x1d\x1d\x00\x00\x00\x06\x00\x81c\x02\x84-inf\x05\x81a\x02\x01\x01\x81b\x02\x832.5\x04\xff",
    // Hashes: fields, a zipmap, a ziplist, a listpack.
    b"\x04\x02\x01f\x01v\x01g\xc0\x05",
    b"\x09\x10\x02\x03foo\x03\x00bar\x01h\x01\x00x\xff",
    b"\x0d\x1e\x1e\x00\x00\x00\x1a\x00\x00\x00\x06\x00\x00\x03abc\x05\xfe\x80\x03\xc0\x01\x02\x04\xf3\x02\x00\x02\x01z\xff",
    b"\x10\x12\x12\x00\x00\x00\x04\x00\x81f\x02\x81v\x02\x81n\x02\x05\x01\xff",
    // A stream with a group, two consumers and what one of them owes.
    b"\x13\x01\x10\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01??\x00\x00\x00\x19\x00\x02\x01\x01\x01\
      \x02\x01\x81f\x02\x81g\x02\x00\x01\x02\x01\x00\x01\x00\x01\x01\x01\x81x\x02\x05\x01\x03\x01\x00\x01\x01\x01\x02\x01\
      \x81y\x02\x05\x01\x00\x01\x02\x01\xdf\xff\x02\x01\x01\x81h\x02\x03\x01\x06\x01\xff\x02\x07\x00\x05\x01\x05\x02\x03\
      \x01\x07readers\x05\x01\x81\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\
      \x00\x00\x01\xe8\x89&\x11\xa2\x01\x00\x00\x01\x02\x03ann\xe8\x89&\x11\xa2\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\
      \x00\x05\x00\x00\x00\x00\x00\x00\x00\x01\x03bob\xe8\x89&\x11\xa2\x01\x00\x00\x00",
    // A module's.
    b"\x07\x81\x4a\x01\x02\x03\x04\x05\x06\x07\x05\x04name\x02\x01\x05\x05value\x00",
];

/// Larger values of what there is, as the server itself saves them.
fn made(bench: &mut Bench) -> Vec<Vec<u8>> {
    let text = |n: usize| format!("{:1$}", n * 7919 % 1000, n % 40).into_bytes();
    for (small, large) in [(&b"small"[..], false), (b"large", true)] {
        for n in 0..if large { 600 } else { 40 } {
            let (name, value) = (n.to_string().into_bytes(), text(n));
            bench.ask(&[b"HSET", &[small, b" hash"].concat(), &name, &value]);
            bench.ask(&[b"ZADD", &[small, b" zset"].concat(), &name, &value]);
        }
    }
    bench.ask(&[b"SETRANGE", b"long", b"70000", b"end"]);
    for n in 0..300 {
        let (id, name) = ((1 + n / 3).to_string() + "-*", (n / 100).to_string());
        bench.ask(&[b"XADD", b"stream", id.as_bytes(), b"field", &text(n), name.as_bytes(), b"x"]);
    }
    bench.ask(&[b"XGROUP", b"CREATE", b"stream", b"readers", b"0"]);
    bench.ask(&[b"XGROUP", b"CREATE", b"stream", b"others", b"7"]);
    for consumer in [&b"ann"[..], b"bob", b""] {
        let read = [
            &b"XREADGROUP"[..],
            b"GROUP",
            b"readers",
            consumer,
            b"COUNT",
            b"20",
            b"STREAMS",
            b"stream",
            b">",
        ];
        bench.ask(&read);
    }
    bench.ask(&[b"XNACK", b"stream", b"readers", b"FATAL", b"IDS", b"2", b"4-1", b"2-0"]);
    bench.ask(&[b"XDEL", b"stream", b"1-1", b"3-0", b"90-2"]);
    let keys: [&[u8]; 6] = [b"small hash", b"large hash", b"small zset", b"large zset", b"long", b"stream"];
    let shown = keys.iter().map(|key| bench.shown(key)).collect();
    bench.ask(&[b"FLUSHALL"]);
    shown
}

/// A good value with a few things wrong, now and then none.
fn damaged(random: &mut Random, good: &[Vec<u8>]) -> Vec<u8> {
    const BYTES: [u8; 12] = [0x00, 0x01, 0x7f, 0x80, 0x81, 0xbf, 0xc0, 0xc3, 0xf0, 0xf4, 0xfe, 0xff];
    let mut value = good[random.below(good.len())].clone();
    for _ in 0..random.below(4) {
        let at = random.below(value.len().max(1)).min(value.len().saturating_sub(1));
        // Mostly near the beginning, where lengths and counts are.
        let at = if random.below(2) == 0 { at } else { at.min(random.below(40)) };
        if value.is_empty() {
            break;
        }
        match random.below(7) {
            0 => value[at] = random.word() as u8,
            1 => value[at] = BYTES[random.below(BYTES.len())],
            2 => value[at] ^= 1 << random.below(8),
            3 => value.truncate(at),
            4 => value.insert(at, BYTES[random.below(BYTES.len())]),
            5 => {
                let len = random.below(value.len() - at + 1).min(64);
                let copy = value[at..at + len].to_vec();
                value.splice(at..at, copy);
            }
            _ => {
                let other = &good[random.below(good.len())];
                let from = random.below(other.len());
                value.splice(at.., other[from..].iter().copied());
            }
        }
    }
    value
}

#[test]
fn good_payloads_of_what_there_is_are_taken() {
    let mut bench = Bench::new();
    let taken = GOOD.iter().filter(|value| bench.restore(value)).count();
    // Two strings, four hashes and four sorted sets at least.
    assert!(taken >= 10, "{taken}");
    assert!(made(&mut bench).iter().all(|value| bench.restore(value)));
}

/// A node of entries that have the fields of the first: one, whose name is long.
fn node_with_a_long_name(name_len: usize, entries: u32) -> Vec<u8> {
    let mut pack = vec![0; 4];
    pack.extend(u16::MAX.to_le_bytes());
    let number = |pack: &mut Vec<u8>, n: u32| {
        pack.push(0xf3);
        pack.extend(n.to_le_bytes());
        pack.push(5);
    };
    [entries, 0, 1].iter().for_each(|n| number(&mut pack, *n));
    pack.push(0xf0);
    pack.extend((name_len as u32).to_le_bytes());
    pack.resize(pack.len() + name_len, b'n');
    let len = name_len + 5;
    pack.extend([(len >> 14) as u8, (len >> 7 & 0x7f) as u8 | 0x80, (len & 0x7f) as u8 | 0x80]);
    pack.extend([0, 1]);
    for n in 0..entries {
        // Flags, milliseconds, number, value, and how many these are.
        pack.extend([2, 1, 0, 1]);
        number(&mut pack, n);
        pack.extend([0x81, b'v', 2, 4, 1]);
    }
    pack.push(0xff);
    let len = (pack.len() as u32).to_le_bytes();
    pack[..4].copy_from_slice(&len);
    pack
}

#[test]
fn a_long_name_that_many_entries_share_does_not_swell() {
    const NAME_LEN: usize = 1 << 20;
    const ENTRIES: u32 = 100_000;
    let pack = node_with_a_long_name(NAME_LEN, ENTRIES);
    let long = |n: usize| [&[0x80][..], &(n as u32).to_be_bytes()].concat();
    let mut value = vec![0x13, 1, 16];
    value.extend([0; 7]);
    value.push(1);
    value.extend([0; 8]);
    value.extend([long(pack.len()), pack].concat());
    // Entries, the last id, the first, none deleted, as many added, no group.
    value.extend(long(ENTRIES as usize));
    value.extend([vec![1], long(ENTRIES as usize - 1), vec![1, 0, 0, 0]].concat());
    value.extend([long(ENTRIES as usize), vec![0]].concat());
    let allocated = allocatedp::read().expect("the allocator is jemalloc");
    let mut bench = Bench::new();
    let payload = [&value[..], b"\x0a\x00", &[0; 8]].concat();
    let (start, before) = (Instant::now(), allocated.get());
    assert_eq!(bench.ask(&[b"RESTORE", b"k", b"0", &payload]), b"+OK\r\n");
    let (took, cost) = (start.elapsed(), allocated.get() - before);
    assert_eq!(bench.ask(&[b"XLEN", b"k"]), b":100000\r\n");
    println!("{} bytes: {took:?}, {cost} reserved", payload.len());
    assert!(cost < 20 * payload.len() as u64, "{cost} bytes reserved for {}", payload.len());
    let usage = bench.ask(&[b"MEMORY", b"USAGE", b"k"]);
    let usage: usize = String::from_utf8_lossy(&usage[1..]).trim().parse().expect("a number");
    assert!(usage < 3 * payload.len(), "{usage} bytes for {}", payload.len());
    assert!(took < Duration::from_secs(1), "{took:?}");
    let start = Instant::now();
    let again = bench.shown(b"k");
    println!("shown again: {:?}", start.elapsed());
    assert!(again.len() <= value.len() && start.elapsed() < Duration::from_secs(1));
    let again = [&again[..], b"\x0a\x00", &[0; 8]].concat();
    assert_eq!(bench.ask(&[b"RESTORE", b"other", b"0", &again]), b"+OK\r\n");
    let last = [&b"XREVRANGE"[..], b"k", b"+", b"-", b"COUNT", b"1"];
    let reply = bench.ask(&last);
    assert!(reply.starts_with(b"*1\r\n*2\r\n$7\r\n1-99999\r\n") && reply.ends_with(b"n\r\n$1\r\nv\r\n"));
    assert_eq!(bench.ask(&[&b"XREVRANGE"[..], b"other", b"+", b"-", b"COUNT", b"1"]), reply);
}

#[test]
fn no_payload_does_harm() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(2));
    let mut seed = number("FUZZ_SEED").unwrap_or(1);
    let allocated = allocatedp::read().expect("the allocator is jemalloc");
    let mut bench = Bench::new();
    let good: Vec<Vec<u8>> = GOOD.iter().map(|value| value.to_vec()).chain(made(&mut bench)).collect();
    // What each command needs once, such as its histogram, is no payload's.
    good.iter().for_each(|value| _ = bench.restore(value));
    let (start, first, mut taken) = (Instant::now(), seed, 0u64);
    while start.elapsed() < time {
        for _ in 0..200 {
            let value = damaged(&mut Random::new(seed), &good);
            let before = allocated.get();
            let is_taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                read_forms(&value);
                bench.restore(&value)
            }));
            let cost = allocated.get() - before;
            let is_taken = is_taken.unwrap_or_else(|_| panic!("FUZZ_SEED={seed}: {}", value.escape_ascii()));
            // All that is reserved one after another: what is compressed as well as can be is 88 times as long, and is
            // copied from hand to hand a dozen times until it has been restored, read, saved and restored again.
            let worth = 100_000 + 1_300 * value.len() as u64;
            assert!(cost < worth, "FUZZ_SEED={seed}: {cost} bytes for {}", value.escape_ascii());
            taken += u64::from(is_taken);
            seed += 1;
        }
    }
    println!("{taken} of {} were taken, the last of seed {}", seed - first, seed - 1);
    assert!(taken > 0 && taken < seed - first);
}
