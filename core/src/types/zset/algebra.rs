//! ZUNION, ZINTER, ZDIFF, what stores them, and ZINTERCARD.

use std::collections::HashMap;

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, OW, RO, Spec, UPDATE, key};
use mortise_sdk::resp::format_integer;
use mortise_sdk::{Error, Result, args, error};

use super::SORTED_SET;
use super::results::{answer, store};
use super::value::{Built, ZsetRef};
use crate::engine::call::{Call, Key};
use crate::features::Command;
use crate::keyspace::entry::Entry;
use crate::resp::output::Output;
use crate::types::packed::{self, Items};
use crate::types::set::value::{Member, Set, SetRef};
use crate::types::{AnyRef, Type};

/// This file's commands.
pub(super) const COMMANDS: &[Command] =
    &[ZUNION, ZINTER, ZDIFF, ZUNIONSTORE, ZINTERSTORE, ZDIFFSTORE, ZINTERCARD];

/// A value that members with scores are taken from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// There is no key.
    Empty,
    Zset(ZsetRef<'a>),
    /// A set, whose members all have the score 1; and, packed, the texts of its members if it has none of them itself.
    Set(SetRef<'a>, Option<&'a [u8]>),
}

impl<'a> Source<'a> {
    fn of(entry: Option<&'a Entry>, texts: Option<&'a [u8]>) -> Result<Source<'a>> {
        match entry.map(AnyRef::of) {
            None => Ok(Source::Empty),
            Some(AnyRef::Zset(zset)) => Ok(Source::Zset(zset)),
            Some(AnyRef::Set(set)) => Ok(Source::Set(set, texts)),
            Some(_) => Err(error::WRONGTYPE),
        }
    }

    fn len(self) -> usize {
        match self {
            Source::Empty => 0,
            Source::Zset(zset) => zset.len(),
            Source::Set(set, _) => set.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Empty => None,
            Source::Zset(zset) => zset.score(member),
            Source::Set(set, _) => set.contains(member).then_some(1.0),
        }
    }

    fn iter(self) -> impl Iterator<Item = (f64, &'a [u8])> {
        let (zset, texts, set) = match self {
            Source::Empty => (None, None, None),
            Source::Zset(zset) => (Some(zset), None, None),
            Source::Set(_, Some(texts)) => (None, Some(texts), None),
            Source::Set(set, None) => (None, None, Some(set)),
        };
        let texts = texts.into_iter().flat_map(Items::new);
        let members = set.into_iter().flat_map(SetRef::iter).filter_map(|member| match member {
            Member::Text(text) => Some(text),
            Member::Integer(_) => None,
        });
        zset.into_iter().flat_map(ZsetRef::iter).chain(texts.chain(members).map(|member| (1.0, member)))
    }
}

/// The texts of a set's members, packed, if they are integers and have none in the set.
fn texts_of(entry: Option<&Entry>) -> Option<Vec<u8>> {
    let SetRef::Ints(ints) = Set::view(entry?)? else { return None };
    let mut texts = Vec::new();
    ints.iter().for_each(|n| packed::push(&mut texts, format_integer(n).as_bytes()));
    Some(texts)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What becomes of the scores of a member that several sources have.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
    /// How many sources have the member, or the sum of their weights.
    Count,
}

impl Aggregate {
    /// What a score counts with the weight of its source.
    fn weigh(self, score: f64, weight: f64) -> f64 {
        match self {
            Aggregate::Count => weight,
            Aggregate::Sum | Aggregate::Min | Aggregate::Max => score * weight,
        }
    }

    fn of(self, left: f64, right: f64) -> f64 {
        match self {
            // Opposite infinities make nothing.
            Aggregate::Sum | Aggregate::Count => not_nan(left + right),
            Aggregate::Min => {
                if right < left {
                    right
                } else {
                    left
                }
            }
            Aggregate::Max => {
                if right > left {
                    right
                } else {
                    left
                }
            }
        }
    }
}

fn not_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// What is done with the result: it decides which options there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Answer,
    Store,
    Count,
}

/// A call's keys.
struct Inputs<'c> {
    keys: Vec<Key<'c>>,
    /// The index behind the last key.
    end: usize,
}

impl<'c> Inputs<'c> {
    fn parse(call: &Call<'c>, numkeys: usize) -> Result<Inputs<'c>> {
        let count = call.integer(numkeys)?;
        if count < 1 {
            let name = &call.command.name;
            return Err(Error::text(format!("ERR at least 1 input key is needed for '{name}' command")));
        }
        let first = numkeys + 1;
        let count = usize::try_from(count).ok().filter(|count| *count <= call.argc() - first);
        let end = first + count.ok_or(error::SYNTAX)?;
        Ok(Inputs { keys: (first..end).map(|index| call.key(index)).collect(), end })
    }
}

/// What may stand behind the keys.
struct Choices {
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    /// At how many members counting stops.
    limit: usize,
}

impl Choices {
    fn parse(call: &Call<'_>, inputs: &Inputs<'_>, operation: Operation, purpose: Use) -> Result<Choices> {
        let count = inputs.keys.len();
        let mut choices = Choices {
            weights: vec![1.0; count],
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: usize::MAX,
        };
        let weighted = operation != Operation::Difference && purpose != Use::Count;
        let mut options = call.options(inputs.end);
        while !options.is_empty() {
            if weighted && options.left() > count && options.takes("WEIGHTS") {
                for weight in &mut choices.weights {
                    let text = options.required()?;
                    *weight = args::parse_float(text).ok_or(Error::new("ERR weight value is not a float"))?;
                }
            } else if let Some(name) = weighted.then(|| options.takes_value("AGGREGATE")).flatten() {
                choices.aggregate = match name.to_ascii_lowercase().as_slice() {
                    b"sum" => Aggregate::Sum,
                    b"min" => Aggregate::Min,
                    b"max" => Aggregate::Max,
                    b"count" => Aggregate::Count,
                    _ => return Err(error::SYNTAX),
                };
            } else if purpose == Use::Answer && options.takes("WITHSCORES") {
                choices.with_scores = true;
            } else if let Some(text) = (purpose == Use::Count).then(|| options.takes_value("LIMIT")).flatten()
            {
                let limit = args::parse_integer(text).and_then(|limit| usize::try_from(limit).ok());
                let limit = limit.ok_or(Error::new("ERR LIMIT can't be negative"))?;
                choices.limit = if limit == 0 { usize::MAX } else { limit };
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(choices)
    }
}

/// A source with its weight.
type Weighted<'a> = (Source<'a>, f64);

/// Looks the keys up, reads the options, and hands the sources over; in this order, as errors show it.
fn with_sources<T>(
    call: &mut Call<'_>,
    numkeys: usize,
    operation: Operation,
    purpose: Use,
    run: impl FnOnce(Vec<Weighted<'_>>, &Choices, &mut Output) -> T,
) -> Result<T> {
    let inputs = Inputs::parse(call, numkeys)?;
    // Valid or not, the options are known before the look-up, whose errors come first all the same.
    let choices = Choices::parse(call, &inputs, operation, purpose);
    let (entries, out) = call.look_all(&inputs.keys);
    let texts: Vec<Option<Vec<u8>>> = entries.iter().map(|entry| texts_of(*entry)).collect();
    let sources = entries.into_iter().zip(&texts).map(|(entry, texts)| Source::of(entry, texts.as_deref()));
    let sources = sources.collect::<Result<Vec<Source<'_>>>>()?;
    let choices = choices?;
    let mut sources: Vec<Weighted<'_>> = sources.into_iter().zip(choices.weights.iter().copied()).collect();
    if operation != Operation::Difference {
        // The smallest first. Sums of floating-point numbers depend on the order, so it is that of Redis.
        sources.sort_by_key(|(source, _)| source.len());
    }
    Ok(run(sources, &choices, out))
}

/// The members of the result with their scores, in order.
fn compute<'a>(operation: Operation, sources: &[Weighted<'a>], aggregate: Aggregate) -> Vec<(f64, &'a [u8])> {
    let mut members = match operation {
        Operation::Union => union(sources, aggregate),
        Operation::Intersection => intersection(sources, aggregate).collect(),
        Operation::Difference => difference(sources).collect(),
    };
    if operation == Operation::Difference && matches!(sources.first(), Some((Source::Zset(_), _))) {
        // It has the order of the first source.
        return members;
    }
    // No score is NaN.
    members.sort_unstable_by(|left, right| left.partial_cmp(right).unwrap_or(std::cmp::Ordering::Equal));
    members
}

fn union<'a>(sources: &[Weighted<'a>], aggregate: Aggregate) -> Vec<(f64, &'a [u8])> {
    let largest = sources.last().map_or(0, |(source, _)| source.len());
    let mut scores: HashMap<&[u8], f64, foldhash::quality::RandomState> = HashMap::default();
    scores.reserve(largest);
    for (source, weight) in sources {
        for (score, member) in source.iter() {
            let score = not_nan(aggregate.weigh(score, *weight));
            scores.entry(member).and_modify(|so_far| *so_far = aggregate.of(*so_far, score)).or_insert(score);
        }
    }
    scores.into_iter().map(|(member, score)| (score, member)).collect()
}

fn intersection<'a, 's>(
    sources: &'s [Weighted<'a>],
    aggregate: Aggregate,
) -> impl Iterator<Item = (f64, &'a [u8])> + 's {
    let smallest = sources.first().map_or(Source::Empty, |(source, _)| *source);
    smallest.iter().filter_map(move |(score, member)| {
        let mut sources = sources.iter();
        let (_, weight) = sources.next()?;
        let mut total = not_nan(aggregate.weigh(score, *weight));
        for (source, weight) in sources {
            total = aggregate.of(total, aggregate.weigh(source.score(member)?, *weight));
        }
        Some((total, member))
    })
}

/// In the order of the first source.
fn difference<'a, 's>(sources: &'s [Weighted<'a>]) -> impl Iterator<Item = (f64, &'a [u8])> + 's {
    let first = sources.first().map_or(Source::Empty, |(source, _)| *source);
    let others = sources.get(1..).unwrap_or_default();
    first.iter().filter(|(_, member)| others.iter().all(|(other, _)| other.score(member).is_none()))
}

fn answer_with(call: &mut Call<'_>, operation: Operation) -> Result {
    with_sources(call, 1, operation, Use::Answer, |sources, choices, out| {
        let members = compute(operation, &sources, choices.aggregate);
        answer(out, members.len(), members.into_iter(), choices.with_scores);
    })
}

fn store_result(call: &mut Call<'_>, operation: Operation, event: &'static str) -> Result {
    let limits = call.limits();
    let built = with_sources(call, 2, operation, Use::Store, |sources, choices, _| {
        let members = compute(operation, &sources, choices.aggregate);
        Built::from_ordered(limits, members.len(), || members.iter().copied())
    })?;
    store(call, 1, Some(built), event)
}

const ZUNION: Command = Spec {
    usage: "ZUNION numkeys:int key... [WEIGHTS weight:int...] [AGGREGATE aggregate=<SUM | MIN | \
            MAX | COUNT>] [WITHSCORES]",
    about: "Returns the members of any of several sorted sets.",
    since: "6.2.0",
    cost: "O(N) + O(M*log(M)), N being the members of all sets and M those returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..SORTED_SET
}
.runs(zunion);

fn zunion(call: &mut Call<'_>) -> Result {
    answer_with(call, Operation::Union)
}

const ZINTER: Command = Spec {
    usage: "ZINTER numkeys:int key... [WEIGHTS weight:int...] [AGGREGATE aggregate=<SUM | MIN | \
            MAX | COUNT>] [WITHSCORES]",
    about: "Returns the members that all sorted sets share.",
    since: "6.2.0",
    cost: "O(N*K) + O(M*log(M)), N being the members of the smallest of K sets and M those returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..SORTED_SET
}
.runs(zinter);

fn zinter(call: &mut Call<'_>) -> Result {
    answer_with(call, Operation::Intersection)
}

const ZDIFF: Command = Spec {
    usage: "ZDIFF numkeys:int key... [WITHSCORES]",
    about: "Returns the members of the first sorted set that are in none of the others.",
    since: "6.2.0",
    cost: "O(L + (N-K)*log(N)), L being all members, N those of the first set and K those returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..SORTED_SET
}
.runs(zdiff);

fn zdiff(call: &mut Call<'_>) -> Result {
    answer_with(call, Operation::Difference)
}

const ZUNIONSTORE: Command = Spec {
    usage: "ZUNIONSTORE destination numkeys:int key... [WEIGHTS weight:int...] \
            [AGGREGATE aggregate=<SUM | MIN | MAX | COUNT>]",
    about: "Stores the members of any of several sorted sets.",
    since: "2.0.0",
    cost: "O(N) + O(M*log(M)), N being the members of all sets and M those stored",
    flags: &[WRITE, DENYOOM],
    keys: &[key("destination", &[OW, UPDATE]), key("key", &[RO, ACCESS])],
    ..SORTED_SET
}
.runs(zunionstore);

fn zunionstore(call: &mut Call<'_>) -> Result {
    store_result(call, Operation::Union, "zunionstore")
}

const ZINTERSTORE: Command = Spec {
    usage: "ZINTERSTORE destination numkeys:int key... [WEIGHTS weight:int...] \
            [AGGREGATE aggregate=<SUM | MIN | MAX | COUNT>]",
    about: "Stores the members that all sorted sets share.",
    since: "2.0.0",
    cost: "O(N*K) + O(M*log(M)), N being the members of the smallest of K sets and M those stored",
    flags: &[WRITE, DENYOOM],
    keys: &[key("destination", &[OW, UPDATE]), key("key", &[RO, ACCESS])],
    ..SORTED_SET
}
.runs(zinterstore);

fn zinterstore(call: &mut Call<'_>) -> Result {
    store_result(call, Operation::Intersection, "zinterstore")
}

const ZDIFFSTORE: Command = Spec {
    usage: "ZDIFFSTORE destination numkeys:int key...",
    about: "Stores the members of the first sorted set that are in none of the others.",
    since: "6.2.0",
    cost: "O(L + (N-K)*log(N)), L being all members, N those of the first set and K those stored",
    flags: &[WRITE, DENYOOM],
    keys: &[key("destination", &[OW, UPDATE]), key("key", &[RO, ACCESS])],
    ..SORTED_SET
}
.runs(zdiffstore);

fn zdiffstore(call: &mut Call<'_>) -> Result {
    store_result(call, Operation::Difference, "zdiffstore")
}

const ZINTERCARD: Command = Spec {
    usage: "ZINTERCARD numkeys:int key... [LIMIT limit:int]",
    about: "Counts the members that all sorted sets share.",
    since: "7.0.0",
    cost: "O(N*K), N being the members of the smallest of K sets",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    ..SORTED_SET
}
.runs(zintercard);

fn zintercard(call: &mut Call<'_>) -> Result {
    with_sources(call, 1, Operation::Intersection, Use::Count, |sources, choices, out| {
        out.count(intersection(&sources, Aggregate::Sum).take(choices.limit).count());
    })
}
