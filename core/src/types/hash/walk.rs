//! Fields that chance or a cursor picks: HRANDFIELD, HSCAN.

use std::collections::HashSet;

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RO, Spec, key};
use mortise_sdk::error::{self, Error, Result};

use super::HASH;
use super::value::{Hash, HashRef};
use crate::engine::call::Call;
use crate::engine::random::Random;
use crate::features::Command;
use crate::resp::output::Output;
use crate::types::scan_options::{self, ScanOptions};

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[HRANDFIELD, HSCAN];

/// A call may ask for so many fields with repetitions, lest one short request fills the memory with its reply.
const REPEATED_MAX: usize = 1 << 24;
/// Drawing one by one until enough are different pays if at most one in so many is wanted.
const DRAWN_SHARE: usize = 3;

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
        Some(_) if picks.repeated && picks.count > REPEATED_MAX => return Err(error::OUT_OF_RANGE),
        Some(hash) => picks.write(hash, &mut random, out),
        None => out.array(0),
    }
    Ok(())
}

/// What HRANDFIELD is to pick.
struct Picks {
    count: usize,
    repeated: bool,
    with_values: bool,
}

impl Picks {
    /// Reads count and WITHVALUES; `None` if a single field is wanted.
    fn parse(call: &Call<'_>) -> Result<Option<Picks>> {
        if call.argc() < 3 {
            return Ok(None);
        }
        let count = call.integer(2)?;
        if count == i64::MIN {
            return Err(Error::new(
                "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ));
        }
        let with_values = match call.argc() {
            3 => false,
            4 if call.arg(3).eq_ignore_ascii_case(b"withvalues") => true,
            _ => return Err(error::SYNTAX),
        };
        let repeated = count < 0;
        if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
            return Err(error::OUT_OF_RANGE);
        }
        Ok(Some(Picks { count: count.unsigned_abs() as usize, repeated, with_values }))
    }

    /// Answers with fields of a hash.
    fn write(&self, hash: HashRef<'_>, random: &mut Random, out: &mut Output) {
        let draws = hash.is_mostly_live(&mut || random.word());
        if draws && self.repeated {
            self.begin(self.count, out);
            for _ in 0..self.count {
                let Some(pair) = hash.random(&mut || random.word()) else { return };
                self.write_pair(pair, out);
            }
            return;
        }
        if draws
            && self.count.saturating_mul(DRAWN_SHARE) <= hash.len()
            && let Some(pairs) = self.draw(hash, random)
        {
            self.begin(self.count, out);
            return pairs.into_iter().for_each(|pair| self.write_pair(pair, out));
        }
        let mut pairs: Vec<_> = hash.iter().collect();
        let len = pairs.len();
        // Of a hash whose fields have all expired, nothing can be repeated either.
        let count = if self.repeated && len > 0 { self.count } else { self.count.min(len) };
        self.begin(count, out);
        for index in 0..count {
            if self.repeated {
                self.write_pair(pairs[random.below(len)], out);
            } else {
                // Fisher and Yates: each place gets one of those that are left.
                pairs.swap(index, index + random.below(len - index));
                self.write_pair(pairs[index], out);
            }
        }
    }

    /// Different fields, as many as are wanted; nothing if there turn out to be too few for that.
    fn draw<'a>(&self, hash: HashRef<'a>, random: &mut Random) -> Option<Vec<(&'a [u8], &'a [u8])>> {
        // Two of three draws find a new field where all fields are there.
        let draws_max = 64 + 8 * self.count;
        let (mut drawn, mut pairs) = (HashSet::with_capacity(self.count), Vec::with_capacity(self.count));
        for _ in 0..draws_max {
            if pairs.len() == self.count {
                return Some(pairs);
            }
            let pair = hash.random(&mut || random.word())?;
            if drawn.insert(pair.0) {
                pairs.push(pair);
            }
        }
        None
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
                let picks = Picks { count, repeated, with_values: false };
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
