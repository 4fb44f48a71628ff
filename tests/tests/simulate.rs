//! The power is cut at each operation of the disk: what was promised is there afterwards.
//!
//! `SIMULATE_POINTS` says how many starts on wrecks there are to be at least, `SIMULATE_SEED` the first seed; without them
//! it is some seconds from a fixed one. What fails names its seed; `SIMULATE_SEED=… SIMULATE_POINTS=1` shows it again.

use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use mortise_tests::simulate::{Extent, Lie, Seen, Tried, run};

const SEED: u64 = 1;
const POINTS: usize = 12_000;
const EXTENT: Extent = Extent { lives: 4, happenings: 120, outcomes: 3, journal: false, lie: None };

const LIES: [(Lie, bool); 6] = [
    (Lie::Sync, false),
    (Lie::SyncDir, false),
    (Lie::Write, false),
    (Lie::Sync, true),
    (Lie::SyncDir, true),
    (Lie::Write, true),
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_was_saved_is_found_whenever_the_power_goes() {
    let seen = cut_the_power(EXTENT);
    // Without journals.
    seen.into_iter().for_each(|seen| check_that_all_happened(&seen.counts()[..8], seen));
}

#[test]
fn whatever_the_journal_has_acknowledged_is_found_whenever_the_power_goes() {
    let seen = cut_the_power(Extent { journal: true, ..EXTENT });
    seen.into_iter().for_each(|seen| check_that_all_happened(&seen.counts(), seen));
}

fn check_that_all_happened(counts: &[usize], seen: Seen) {
    assert!(counts.iter().all(|count| *count > 0), "something never happens: {seen:?}");
}

/// Runs until there have been enough starts; says what happened, if that was not too little.
fn cut_the_power(extent: Extent) -> Option<Seen> {
    let points = number("SIMULATE_POINTS").map_or(POINTS, |points| points as usize);
    let next = AtomicU64::new(number("SIMULATE_SEED").unwrap_or(SEED));
    let all = Mutex::new(Tried::default());
    let threads = thread::available_parallelism().map_or(1, usize::from).min(points.div_ceil(POINTS));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while all.lock().unwrap().starts < points {
                    let tried = run(next.fetch_add(1, Ordering::Relaxed), extent);
                    all.lock().unwrap().add(&tried);
                }
            });
        }
    });
    let tried = all.into_inner().unwrap();
    println!("{tried:#?}");
    (points >= POINTS).then_some(tried.seen)
}

#[test]
fn a_disk_that_lies_is_found_out() {
    for (lie, journal) in LIES {
        let lied = Extent { lie: Some(lie), journal, ..EXTENT };
        let found = (SEED..SEED + 20).any(|seed| catch_unwind(|| run(seed, lied)).is_err());
        assert!(found, "{lie:?}, journal: {journal}");
    }
}
