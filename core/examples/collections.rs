//! What large collections cost: ns an operation, bytes an item, the longest single operation.
//!
//! `cargo run --release --example collections [millions…]`; without arguments 0.001, 1 and 10.
//!
//! Times are the thread's own; they are to be read beside the time of a dependent read, printed first. The system's
//! allocator now and then gives back much memory at once: the longest operation when shrinking is then its own.

use std::hint::black_box;
use std::time::Instant;

use mortise_core::keyspace::hash::hash;
use mortise_core::types::ranked::Ranked;
use mortise_core::types::table::{Approach, ApproachLeaf, Table};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Live bytes on the heap, each request rounded to the allocator's size class.
fn live() -> usize {
    tikv_jemalloc_ctl::epoch::advance().expect("the allocator counts");
    tikv_jemalloc_ctl::stats::allocated::read().expect("the allocator counts")
}

fn main() {
    let mut sizes: Vec<usize> =
        std::env::args().skip(1).filter_map(|n| n.parse::<f64>().ok()).map(|n| (n * 1e6) as usize).collect();
    if sizes.is_empty() {
        sizes = vec![1000, 1_000_000, 10_000_000];
    }
    baseline();
    for n in sizes {
        // The largest takes minutes with one length.
        let value_lens: &[usize] = if n > 1_000_000 { &[8] } else { &[16, 0, 8] };
        for &value_len in value_lens {
            table(n, value_len);
        }
        ranked(n);
    }
}

fn table(n: usize, value_len: usize) {
    println!("\nTable of {n}, keys of 12 bytes, values of {value_len}");
    let value = &[b'v'; 16][..value_len];
    let order = Shuffled::new(n);
    let before = live();
    let mut table = Table::new();
    per_op("set, new", n, |i| black_box(table.set(&key(i), value)));
    let live = live() - before;
    println!("  bytes/item {:.1} (by its own books {:.1})", each(live, n), each(table.memory(), n));
    per_op("get", n, |i| black_box(table.get(&key(order.at(i))).is_some()));
    per_op("get, absent", n, |i| black_box(table.get(&key(order.at(i) + n)).is_some()));
    let batch = 16;
    let mut hashes = vec![0; batch];
    per_op("get, 16 warmed", n, |i| {
        if i % batch == 0 {
            hashes.iter_mut().enumerate().for_each(|(j, h)| *h = hash(&key(order.at(i + j))));
            let nodes: Vec<_> = hashes.iter().map(|&hash| table.approach(hash)).collect();
            let leaves: Vec<_> = nodes.into_iter().map(Approach::leaf).collect();
            leaves.into_iter().for_each(ApproachLeaf::item);
        }
        black_box(table.get_hashed(hashes[i % batch], &key(order.at(i))).is_some())
    });
    per_op("set, present", n, |i| black_box(table.set(&key(order.at(i)), value)));
    let mut random = 0;
    let mut next = || {
        random += 1;
        hash(&u64::to_le_bytes(random))
    };
    per_op("random", n.min(1_000_000), |_| black_box(table.random(&mut next).is_some()));
    let mut visited = 0;
    let mut cursor = 0;
    let clock = Clock::start();
    loop {
        cursor = table.scan(cursor, 10, &mut |_, _| visited += 1);
        if cursor == 0 {
            break;
        }
    }
    println!("  {:<16} {:8.1} ns an item", "scan by 10", clock.ns() / visited as f64);
    clones(&table, |table, i| table.set(&key(order.at(i)), value));

    longest("growing", n, || {
        let mut table = Table::new();
        move |i| table.set(&key(i), value)
    });
    longest("after a clone", n.min(1_000_000), || {
        let mut copy = table.clone();
        let order = &order;
        move |i| copy.set(&key(order.at(i)), b"other")
    });
    longest("shrinking", n, || {
        let mut copy = table.clone();
        let order = &order;
        move |i| copy.remove(&key(order.at(i)))
    });
    let kept = (n / 10).min(1000);
    per_op("remove", n - kept, |i| black_box(table.remove(&key(order.at(i)))));
    println!("  left of it: {} items, {} bytes", table.len(), table.memory());
}

fn ranked(n: usize) {
    println!("\nRanked of {n}, members of 12 bytes, random scores");
    let order = Shuffled::new(n);
    let score = |i: usize| (hash(&i.to_le_bytes()) >> 11) as f64;
    let before = live();
    let mut ranked = Ranked::new();
    per_op("insert", n, |i| ranked.insert(score(i), &key(i)));
    let live = live() - before;
    println!("  bytes/item {:.1} (by its own books {:.1})", each(live, n), each(ranked.memory(), n));
    per_op("rank", n, |i| black_box(ranked.rank(score(order.at(i)), &key(order.at(i)))));
    per_op("at", n, |i| black_box(ranked.at(order.at(i)).is_some()));
    per_op("rank_of_bound", n, |i| black_box(ranked.rank_of_bound(|other, _| other < score(order.at(i)))));
    let clock = Clock::start();
    black_box(
        ranked.iter_from(0, true).count() + ranked.iter_from(0, false).map(|(_, m)| m.len()).sum::<usize>(),
    );
    println!("  {:<16} {:8.1} ns an item", "iter_from", clock.ns() / n as f64);
    clones(&ranked, |ranked, i| ranked.remove(score(i), &key(i)));
    longest("growing", n, || {
        let mut ranked = Ranked::new();
        move |i| {
            ranked.insert(score(i), &key(i));
            true
        }
    });
    longest("shrinking", n, || {
        let mut copy = ranked.clone();
        let order = &order;
        move |i| copy.remove(score(order.at(i)), &key(order.at(i)))
    });
    let kept = (n / 10).min(1000);
    per_op("remove", n - kept, |i| black_box(ranked.remove(score(order.at(i)), &key(order.at(i)))));
    println!("  left of it: {} members, {} bytes", ranked.len(), ranked.memory());
    let mut ascending = Ranked::new();
    per_op("insert ascending", n, |i| ascending.insert(i as f64, &key(i)));
    println!("  bytes/item ascending {:.1}", each(ascending.memory(), n));
}

/// The time of a clone and of the first write after it, which copies the path.
fn clones<T: Clone>(original: &T, write: impl Fn(&mut T, usize) -> bool) {
    let (mut clone_us, mut write_us) = (f64::MAX, f64::MAX);
    for i in 0..20 {
        let start = Instant::now();
        let mut copy = black_box(original.clone());
        clone_us = clone_us.min(start.elapsed().as_nanos() as f64 / 1e3);
        let start = Instant::now();
        black_box(write(&mut copy, i));
        write_us = write_us.min(start.elapsed().as_nanos() as f64 / 1e3);
    }
    println!("  clone {clone_us:.2} µs, first write after it {write_us:.1} µs");
}

fn per_op<T>(name: &str, n: usize, mut operation: impl FnMut(usize) -> T) {
    let clock = Clock::start();
    for i in 0..n {
        operation(i);
    }
    println!("  {name:<16} {:8.1} ns", clock.ns() / n.max(1) as f64);
}

/// The time this thread has run: others may use the machine meanwhile.
struct Clock {
    wall: Instant,
    cpu_ns: f64,
}

impl Clock {
    fn start() -> Clock {
        Clock { wall: Instant::now(), cpu_ns: cpu_ns() }
    }

    /// Linux counts by its tick, some milliseconds, so short times are taken from the wall's clock.
    fn ns(&self) -> f64 {
        let (wall_ns, cpu_ns) = (self.wall.elapsed().as_nanos() as f64, cpu_ns() - self.cpu_ns);
        if cpu_ns < 50e6 { wall_ns } else { cpu_ns.min(wall_ns) }
    }
}

fn cpu_ns() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0.0)
}

/// What it costs to follow a pointer: the measure of all that does not fit the caches.
fn baseline() {
    for megabytes in [1, 32, 256] {
        let mut order: Vec<u32> = Shuffled::new(megabytes << 14).0;
        let mut chain = vec![0u32; megabytes << 18];
        order.push(order[0]);
        for pair in order.windows(2) {
            chain[pair[0] as usize * 16] = pair[1] * 16;
        }
        let mut at = 0;
        print!("{megabytes} MB:");
        per_op("dependent read", 1_000_000, |_| at = chain[at as usize]);
        black_box(at);
    }
}

/// The longest of `n` operations. Each series runs three times and an operation counts by its shortest time, so
/// that what the machine does in between is left out.
fn longest<F: FnMut(usize) -> bool>(name: &str, n: usize, prepare: impl Fn() -> F) {
    let mut times_ns = vec![u32::MAX; n];
    for _ in 0..3 {
        let mut operation = prepare();
        for (i, time_ns) in times_ns.iter_mut().enumerate() {
            let start = Instant::now();
            black_box(operation(i));
            *time_ns = (*time_ns).min(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
    }
    let longest = times_ns.iter().max().copied().unwrap_or(0);
    println!("  longest, {name:<14} {:6.1} µs", f64::from(longest) / 1e3);
}

/// `key:` and eight digits.
fn key(mut i: usize) -> [u8; 12] {
    let mut key = *b"key:00000000";
    for digit in key[4..].iter_mut().rev() {
        *digit += (i % 10) as u8;
        i /= 10;
    }
    key
}

fn each(bytes: usize, n: usize) -> f64 {
    bytes as f64 / n as f64
}

/// The numbers below `n` in an order that no cache foresees.
struct Shuffled(Vec<u32>);

impl Shuffled {
    fn new(n: usize) -> Shuffled {
        let mut numbers: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            numbers.swap(i, (hash(&i.to_le_bytes()) % (i as u64 + 1)) as usize);
        }
        Shuffled(numbers)
    }

    fn at(&self, i: usize) -> usize {
        self.0[i % self.0.len()] as usize
    }
}
