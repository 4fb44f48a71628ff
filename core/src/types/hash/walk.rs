//! Fields that chance or a cursor picks: HRANDFIELD, HSCAN.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RO, Spec, key};
use mortise_sdk::error::{self, Result};

use super::HASH;
use super::value::{Hash, HashRef};
use crate::engine::call::Call;
use crate::engine::random::Random;
use crate::features::Command;
use crate::resp::output::Output;
use crate::types::drawing::{Draws, draw_different, shuffle_front};
use crate::types::scan_options::{self, ScanOptions};

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[HRANDFIELD, HSCAN];

const HSCAN: Command = Spec {
    usage: "HSCAN key cursor:int [MATCH pattern:pattern] [COUNT count:int]",
    about: "Walks over the fields of a hash, some in each call.",
    since: "2.8.0",
    cost: "O(1) a call, O(N) for all N fields",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output"],
    ..HASH
}
.runs(hscan);

fn hscan(call: &mut Call<'_>) -> Result {
    let cursor = scan_options::parse_cursor(call.arg(2))?;
    let options = call.options(3);
    let (hash, out) = call.read::<Hash>(call.key(1))?;
    let Some(hash) = hash else {
        scan_options::reply(out, |_| (0, 0));
        return Ok(());
    };
    let options = ScanOptions::parse(options)?;
    scan_options::reply(out, |out| {
        let mut len = 0;
        let next = hash.scan(cursor, options.count, &mut |field, value| {
            if options.admits(field) {
                out.bulk(field);
                out.bulk(value);
                len += 2;
            }
        });
        (next, len)
    });
    Ok(())
}

const HRANDFIELD: Command = Spec {
    usage: "HRANDFIELD key [options=<count:int [WITHVALUES]>]",
    about: "Returns fields of a hash that chance picks.",
    since: "6.2.0",
    cost: "O(N), N being the fields returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output"],
    ..HASH
}
.runs(hrandfield);

fn hrandfield(call: &mut Call<'_>) -> Result {
    let picks = Picks::parse(call)?;
    let mut random = Random::new(call.random());
    let (hash, out) = call.read::<Hash>(call.key(1))?;
    let Some(picks) = picks else {
        let picked = hash.and_then(|hash| hash.random(&mut || random.word()));
        out.bulk_or_null(picked.map(|(field, _)| field));
        return Ok(());
    };
    match hash {
        Some(hash) => {
            picks.draws.check()?;
            picks.write(hash, &mut random, out);
        }
        None => out.array(0),
    }
    Ok(())
}

/// What HRANDFIELD is to pick.
struct Picks {
    draws: Draws,
    with_values: bool,
}

impl Picks {
    /// Reads count and WITHVALUES; `None` if a single field is wanted.
    fn parse(call: &Call<'_>) -> Result<Option<Picks>> {
        if call.argc() < 3 {
            return Ok(None);
        }
        let draws = Draws::of(call.integer(2)?)?;
        let with_values = match call.argc() {
            3 => false,
            4 if call.arg(3).eq_ignore_ascii_case(b"withvalues") => true,
            _ => return Err(error::SYNTAX),
        };
        if with_values {
            draws.check_pairs()?;
        }
        Ok(Some(Picks { draws, with_values }))
    }

    /// Answers with fields of a hash.
    fn write(&self, hash: HashRef<'_>, random: &mut Random, out: &mut Output) {
        let Draws { count, repeated } = self.draws;
        let is_quick = hash.is_mostly_live(&mut || random.word());
        if is_quick && repeated {
            self.begin(count, out);
            for _ in 0..count {
                let Some(pair) = hash.random(&mut || random.word()) else { return };
                self.write_pair(pair, out);
            }
            return;
        }
        if is_quick
            && self.draws.are_few_of(hash.len())
            && let Some(pairs) = draw_different(count, || hash.random(&mut || random.word()), |pair| pair.0)
        {
            self.begin(count, out);
            return pairs.into_iter().for_each(|pair| self.write_pair(pair, out));
        }
        let mut pairs: Vec<_> = hash.iter().collect();
        let len = pairs.len();
        if repeated && len > 0 {
            self.begin(count, out);
            return (0..count).for_each(|_| self.write_pair(pairs[random.below(len)], out));
        }
        // Of a hash whose fields have all expired, nothing can be repeated either.
        let count = count.min(len);
        self.begin(count, out);
        shuffle_front(&mut pairs, count, random);
        pairs[..count].iter().for_each(|pair| self.write_pair(*pair, out));
    }

    fn begin(&self, count: usize, out: &mut Output) {
        // RESP3 nests the pairs.
        out.array(if self.with_values && !out.is_resp3() { count * 2 } else { count });
    }

    fn write_pair(&self, (field, value): (&[u8], &[u8]), out: &mut Output) {
        if self.with_values && out.is_resp3() {
            out.array(2);
        }
        out.bulk(field);
        if self.with_values {
            out.bulk(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::types::hash::expiring::ExpiringHash;
    use crate::types::packed;
    use crate::types::table::Table;

    fn picked(picks: &Picks, hash: HashRef<'_>, random: &mut Random) -> Vec<usize> {
        let mut out = Output::default();
        picks.write(hash, random, &mut out);
        let text = String::from_utf8(out.take()).expect("fields are digits");
        text.split("\r\n").skip(2).step_by(2).map(|field| field.parse().expect("fields are digits")).collect()
    }

    #[test]
    fn every_field_is_picked_equally_often() {
        const FIELDS: usize = 40;
        let (mut table, mut bytes) = (Table::new(), Vec::new());
        for field in (0..FIELDS).map(|field| field.to_string()) {
            table.set(field.as_bytes(), b"v");
            packed::push(&mut bytes, field.as_bytes());
            packed::push(&mut bytes, b"v");
        }
        let expiring = |expired: usize| {
            let mut table = table.clone();
            let names: Vec<String> = (0..expired).map(|n| format!("expired:{n}")).collect();
            names.iter().for_each(|name| _ = table.set(name.as_bytes(), b"v"));
            let mut hash = ExpiringHash::new(table);
            names.iter().for_each(|name| hash.set_deadline(name.as_bytes(), Some(5)));
            hash
        };
        let [one, most] = [1, 200].map(expiring);
        let mut random = Random::new(3);
        for hash in [
            HashRef::Table(&table),
            HashRef::packed(&bytes),
            HashRef::Expiring(&one, 9),
            HashRef::Expiring(&most, 9),
        ] {
            for (count, repeated) in [(5, false), (30, false), (40, false), (100, false), (50, true)] {
                let picks = Picks { draws: Draws { count, repeated }, with_values: false };
                let mut counts = [0f64; FIELDS];
                let returned = if repeated { count } else { count.min(FIELDS) };
                for _ in 0..1000 {
                    let picked = picked(&picks, hash, &mut random);
                    assert_eq!(picked.len(), returned);
                    let different: HashSet<_> = picked.iter().collect();
                    assert!(repeated || different.len() == returned);
                    picked.iter().for_each(|&field| counts[field] += 1.0);
                }
                let expected = (returned * 1000) as f64 / FIELDS as f64;
                let deviation = counts.iter().map(|n| (n - expected).powi(2) / expected).sum::<f64>();
                // Chi-square with 39 degrees of freedom: 90 is exceeded once in 100,000 times.
                assert!(deviation < 90.0, "{count} {repeated}: {deviation}");
            }
        }
    }
}
