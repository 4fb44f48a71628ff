//! RANDOMKEY: a key that chance picks, each as likely as any other.

use mortise_sdk::Result;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;

use crate::engine::call::{Call, Key};
use crate::engine::random::Random;
use crate::features::Command;
use crate::keyspace::dict::Dict;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[RANDOMKEY];

/// How often a key is drawn, before the next one is looked for that has not expired: of those that have, nobody is to
/// wait until all are drawn and removed.
const DRAWS_MAX: usize = 100;

const RANDOMKEY: Command = Spec {
    usage: "RANDOMKEY",
    about: "Returns a key that chance picks.",
    flags: &[READONLY],
    tips: &["request_policy:all_shards", "nondeterministic_output"],
    ..Spec::group("generic")
}
.runs(randomkey);

fn randomkey(call: &mut Call<'_>) -> Result {
    let mut random = Random::new(call.random());
    let mut drawn_last = None;
    for _ in 0..DRAWS_MAX {
        let drawn = call.db().0.dict().sample_evenly(|| random.word()).map(|entry| entry.key().to_vec());
        let Some(drawn) = drawn else {
            call.says_apart();
            call.out().null();
            return Ok(());
        };
        // Looking at it lets it go if it has expired.
        let key = Key::new(&drawn);
        if call.exists(key) {
            call.says_apart();
            call.out().bulk(&drawn);
            return Ok(());
        }
        drawn_last = call.db().0.find(key.hash, key.bytes).is_some().then_some(drawn);
    }
    call.says_apart();
    let now_ms = call.now_ms();
    let next = next_live(call.db().0.dict(), random.word(), now_ms);
    // Where what has expired may not be removed, it is returned all the same, as Redis does.
    call.out().bulk_or_null(next.or(drawn_last).as_deref());
    Ok(())
}

/// The next key in the order of the table that has not expired, from a place on and around.
fn next_live(dict: &Dict, from: u64, now_ms: i64) -> Option<Vec<u8>> {
    const STEP: usize = 16;
    let (mut cursor, mut found, mut is_around) = (from, None, false);
    loop {
        cursor = dict.scan(cursor, STEP, |entry| {
            let has_expired = entry.deadline().is_some_and(|deadline| deadline <= now_ms);
            if found.is_none() && !has_expired {
                found = Some(entry.key().to_vec());
            }
        });
        if found.is_some() || (cursor == 0 && is_around) {
            return found;
        }
        is_around |= cursor == 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::engine::testing::Bench;

    #[test]
    fn every_key_is_as_likely_as_any_other() {
        // About as many as there are when some segments of the table have been split and others have not.
        for keys in [1, 7, 600] {
            let mut bench = Bench::new();
            let client = bench.connect();
            (0..keys).for_each(|n| drop(bench.ask(client, &[&format!("SET key:{n} v")])));
            let mut counts: HashMap<String, f64> = HashMap::new();
            let draws = keys * 200;
            for _ in 0..draws {
                *counts.entry(bench.ask(client, &["RANDOMKEY"])).or_default() += 1.0;
            }
            assert_eq!(counts.len(), keys);
            let expected = draws as f64 / keys as f64;
            let deviation: f64 = counts.values().map(|n| (n - expected).powi(2) / expected).sum();
            // Chi-square: beyond this once in 100,000 times.
            let freedom = (keys - 1) as f64;
            assert!(deviation <= freedom + 4.3 * (2.0 * freedom).sqrt() + 12.0, "{keys}: {deviation}");
        }
    }

    #[test]
    fn what_has_expired_is_not_returned() {
        let mut bench = Bench::new();
        let client = bench.connect();
        assert_eq!(bench.ask(client, &["RANDOMKEY"]), "$-1\r\n");
        bench.engine.active_expire = false;
        (0..100).for_each(|n| drop(bench.ask(client, &[&format!("SET gone:{n} v PX 10")])));
        bench.ask(client, &["SET here v"]);
        bench.advance(20);
        assert_eq!(bench.ask(client, &["RANDOMKEY"]), "$4\r\nhere\r\n");
        bench.ask(client, &["DEL here"]);
        assert_eq!(bench.ask(client, &["RANDOMKEY"]), "$-1\r\n");
        assert_eq!(bench.ask(client, &["DBSIZE"]), ":0\r\n");
    }

    #[test]
    fn not_all_that_has_expired_is_removed_at_once() {
        let mut bench = Bench::new();
        let client = bench.connect();
        bench.engine.active_expire = false;
        (0..2000).for_each(|n| drop(bench.ask(client, &[&format!("SET gone:{n} v PX 10")])));
        bench.ask(client, &["SET here v"]);
        bench.advance(20);
        assert_eq!(bench.ask(client, &["RANDOMKEY"]), "$4\r\nhere\r\n");
        let left = bench.engine.keyspace.iter().map(|(_, _, db)| db.dict().len()).sum::<usize>();
        assert!(left >= 1900, "{left}");
        bench.ask(client, &["DEL here"]);
        assert_eq!(bench.ask(client, &["RANDOMKEY"]), "$-1\r\n");
    }
}
