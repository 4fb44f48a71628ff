//! SINTERCARD, SUNIONCARD, SDIFFCARD: how many members come of several sets.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RO, Spec, key};
use mortise_sdk::{Error, Result, args, error};

use super::SET;
use super::algebra::{Seen, by_size, shared, with_sets};
use super::value::SetRef;
use crate::engine::call::{Call, Key};
use crate::features::Command;
use crate::types::string::hyperloglog::Distinct;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[SINTERCARD, SUNIONCARD, SDIFFCARD];

/// What is asked for.
struct Query<'c> {
    keys: Vec<Key<'c>>,
    /// At how many members counting stops.
    limit: usize,
    /// An estimate will do.
    approximate: bool,
}

impl<'c> Query<'c> {
    fn parse(call: &Call<'c>, may_approximate: bool) -> Result<Query<'c>> {
        let count = args::parse_integer(call.arg(1)).and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|count| *count > 0);
        let count = count.ok_or(Error::new("ERR numkeys should be greater than 0"))?;
        if count > call.argc() - 2 {
            return Err(Error::new("ERR Number of keys can't be greater than number of args"));
        }
        let (mut limit, mut approximate) = (usize::MAX, false);
        let mut options = call.options(2 + count);
        while !options.is_empty() {
            if may_approximate && options.takes("APPROX") {
                approximate = true;
                continue;
            }
            let text = options.takes_value("LIMIT").ok_or(error::SYNTAX)?;
            let asked = args::parse_integer(text).and_then(|asked| usize::try_from(asked).ok());
            let asked = asked.ok_or(Error::new("ERR LIMIT can't be negative"))?;
            limit = if asked == 0 { usize::MAX } else { asked };
        }
        Ok(Query { keys: (2..2 + count).map(|index| call.key(index)).collect(), limit, approximate })
    }
}

fn count(
    call: &mut Call<'_>,
    query: &Query<'_>,
    count: impl FnOnce(&[Option<SetRef<'_>>]) -> usize,
) -> Result {
    with_sets(call, &query.keys, |sets, out| out.count(count(&sets)))
}

const SINTERCARD: Command = Spec {
    usage: "SINTERCARD numkeys:int key... [LIMIT limit:int]",
    about: "Counts the members that all sets share.",
    since: "7.0.0",
    cost: "O(N*M), N being the members of the smallest of M sets",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..SET
}
.runs(sintercard);

fn sintercard(call: &mut Call<'_>) -> Result {
    let query = Query::parse(call, false)?;
    count(call, &query, |sets| shared(&by_size(sets).unwrap_or_default()).take(query.limit).count())
}

const SUNIONCARD: Command = Spec {
    usage: "SUNIONCARD numkeys:int key... [APPROX] [LIMIT limit:int]",
    about: "Counts the members of any of several sets. An estimate takes little memory, whatever they hold.",
    since: "8.10.0",
    cost: "O(N), N being the members of all sets",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..SET
}
.runs(sunioncard);

fn sunioncard(call: &mut Call<'_>) -> Result {
    let query = Query::parse(call, true)?;
    count(call, &query, |sets| {
        let sets: Vec<SetRef<'_>> = sets.iter().copied().flatten().collect();
        let largest = sets.iter().map(|set| set.len()).max().unwrap_or_default();
        if sets.len() < 2 || largest >= query.limit {
            return largest.min(query.limit);
        }
        if query.approximate {
            let mut distinct = Distinct::default();
            sets.iter().flat_map(|set| set.iter()).for_each(|member| distinct.add(&member.text()));
            return distinct.estimate().clamp(largest, query.limit);
        }
        let mut seen = Seen::default();
        for member in sets.iter().flat_map(|set| set.iter()) {
            if seen.insert(member) && seen.len() == query.limit {
                break;
            }
        }
        seen.len()
    })
}

const SDIFFCARD: Command = Spec {
    usage: "SDIFFCARD numkeys:int key... [LIMIT limit:int]",
    about: "Counts the members of the first set that are in none of the others.",
    since: "8.10.0",
    cost: "O(N*M), N being the members of the first of M sets",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..SET
}
.runs(sdiffcard);

fn sdiffcard(call: &mut Call<'_>) -> Result {
    let query = Query::parse(call, false)?;
    count(call, &query, |sets| {
        let Some((Some(first), others)) = sets.split_first() else { return 0 };
        let mut others: Vec<SetRef<'_>> = others.iter().copied().flatten().collect();
        // What is in another is most likely in the largest.
        others.sort_by_key(|set| std::cmp::Reverse(set.len()));
        let left = first.iter().filter(|member| others.iter().all(|set| !set.has(*member)));
        left.take(query.limit).count()
    })
}
