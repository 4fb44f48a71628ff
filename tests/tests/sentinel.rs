//! Redis's Sentinel watches Mortise, alone and together with redis-server: primaries that are killed, stand still or are
//! cut off are replaced, and what the new primary acknowledges stays.
//!
//! `SENTINEL_ROUNDS` says how many faults the set-ups with Mortise suffer together; without it, four. With it redis-server
//! alone suffers as many as Mortise alone, to compare. All set-ups suffer at the same time, as they mostly wait.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use mortise_tests::reference::Reference;
use mortise_tests::sentinel::{Fault, Outcome, Watch};

const ROUNDS: usize = 4;
const FAULTS: [Fault; 3] = [Fault::Kill, Fault::Cut, Fault::Stop];
/// Which servers are Mortise's, the first primary first; and how many of all rounds are theirs, in percent.
const MORTISE_ALONE: [bool; 3] = [true; 3];
const SET_UPS: [([bool; 3], usize); 3] =
    [(MORTISE_ALONE, 50), ([true, true, false], 25), ([false, false, true], 25)];

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1])
}

fn report(name: &str, outcomes: &[Outcome]) {
    for fault in FAULTS {
        let of: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.fault == fault).collect();
        if of.is_empty() {
            continue;
        }
        let (writable, writable_max) = median(of.iter().map(|outcome| outcome.writable).collect());
        let (moved, moved_max) = median(of.iter().map(|outcome| outcome.moved).collect());
        let (healed, healed_max) = median(of.iter().map(|outcome| outcome.healed).collect());
        let sum = |what: fn(&Outcome) -> usize| of.iter().map(|outcome| what(outcome)).sum::<usize>();
        println!(
            "{name} {fault:?} {} times ({} failovers): writable after {writable:.2?} (median; {writable_max:.2?} at most), clients there \
             after {moved:.2?} ({moved_max:.2?}), healed after {healed:.2?} ({healed_max:.2?}); lost with min-replicas-to-write {} of {}, with WAIT 1 {} of {}",
            of.len(),
            sum(|outcome| outcome.failovers),
            sum(|outcome| outcome.lost[0]),
            sum(|outcome| outcome.acknowledged[0]),
            sum(|outcome| outcome.lost[1]),
            sum(|outcome| outcome.acknowledged[1]),
        );
    }
}

fn suffer(redis: PathBuf, are_mortise: [bool; 3], rounds: usize, first: usize) -> (String, Vec<Outcome>) {
    let mut watch = Watch::start(&redis, are_mortise).unwrap_or_else(|error| panic!("{error}"));
    let faults = FAULTS.into_iter().cycle().skip(first).take(rounds);
    let outcomes = faults.map(|fault| watch.suffer(fault)).collect();
    (watch.name(), outcomes)
}

#[test]
fn sentinels_replace_a_primary_that_is_gone() {
    let Some(Reference::Binary(redis)) = Reference::installed() else {
        println!("redis-server is not installed: no sentinels");
        return;
    };
    let wanted: Option<usize> = std::env::var("SENTINEL_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds = wanted.unwrap_or(ROUNDS);
    let mut set_ups: Vec<([bool; 3], usize)> = SET_UPS
        .iter()
        .map(|(are_mortise, percent)| (*are_mortise, (rounds * percent).div_ceil(100)))
        .collect();
    if wanted.is_some() {
        set_ups.push(([false; 3], set_ups[0].1));
    }
    let all: Vec<_> = set_ups
        .into_iter()
        .enumerate()
        .map(|(first, (are_mortise, rounds))| {
            let redis = redis.clone();
            thread::spawn(move || suffer(redis, are_mortise, rounds, first))
        })
        .collect();
    for (name, outcomes) in all.into_iter().map(|one| one.join().expect("it ends well")) {
        report(&name, &outcomes);
        for outcome in outcomes {
            // A client has one write on its way; the replica that is promoted may be the one that has not got it.
            assert!(outcome.lost[1] <= outcome.failovers, "{name}: {outcome:?}");
        }
    }
}
