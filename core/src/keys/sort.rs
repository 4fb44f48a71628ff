//! SORT, SORT_RO: the elements of a list, set or sorted set in another order, or what other keys say of them; answered,
//! or stored as a list.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use mortise_sdk::args::{self as numbers, Range as Fit};
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, Begin, Find, KeyUse, OW, RO, Spec, UPDATE, category, key};
use mortise_sdk::error::{self, Error, Result};

use crate::acl;
use crate::engine::Caller;
use crate::engine::call::{Call, Key};
use crate::features::Command;
use crate::types::list::value::List;
use crate::types::list::{End, Item};
use crate::types::{AnyRef, Type};

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[SORT, SORT_RO];

/// Whatever keys the patterns of BY and GET lead to.
const PATTERNS: KeyUse =
    key("pattern", &[RO, ACCESS]).at(Begin::Unknown, Find::Unknown).located(|_, _| None).notes(
        "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the \
         key we sort",
    );

const SORT: Command = Spec {
    usage: "SORT key [BY pattern:pattern] [LIMIT offset:int count:int] [GET pattern:pattern]... \
            [order=<ASC | DESC>] [sorting=ALPHA] [STORE destination]",
    about: "Returns the elements of a list, set or sorted set in an order, or stores them as a list.",
    cost: "O(N+M*log(M)), N being the elements and M those returned",
    flags: &[WRITE, DENYOOM],
    categories: &[category::SET, category::SORTEDSET, category::LIST, category::DANGEROUS],
    keys: &[
        key("key", &[RO, ACCESS]),
        PATTERNS,
        key("destination", &[OW, UPDATE]).at(Begin::Unknown, Find::Unknown).located(target).notes(
            "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the \
             argument array",
        ),
    ],
    ..Spec::group("generic")
}
.runs(|call| sort(call, true));

/// The key that the last STORE names.
fn target<'a>(argc: usize, arg: &dyn Fn(usize) -> &'a [u8]) -> Option<usize> {
    let (mut index, mut found) = (2, None);
    while index < argc {
        let is = |word: &str| arg(index).eq_ignore_ascii_case(word.as_bytes());
        let values = match () {
            () if is("LIMIT") => 2,
            () if is("BY") || is("GET") => 1,
            () if is("STORE") && index + 1 < argc => {
                found = Some(index + 1);
                1
            }
            () => 0,
        };
        index += 1 + values;
    }
    found
}

const SORT_RO: Command = Spec {
    usage: "SORT_RO key [BY pattern:pattern] [LIMIT offset:int count:int] [GET pattern:pattern]... \
            [order=<ASC | DESC>] [sorting=ALPHA]",
    about: "Returns the elements of a list, set or sorted set in an order.",
    since: "7.0.0",
    cost: "O(N+M*log(M)), N being the elements and M those returned",
    flags: &[READONLY],
    categories: &[category::SET, category::SORTEDSET, category::LIST, category::DANGEROUS],
    keys: &[key("key", &[RO, ACCESS]), PATTERNS],
    ..Spec::group("generic")
}
.runs(|call| sort(call, false));

/// How elements are to be sorted, and what is answered.
#[derive(Default)]
struct Query<'c> {
    /// What is compared in the elements' place.
    by: Option<&'c [u8]>,
    /// The order of the value itself is kept.
    keeps_order: bool,
    /// The value has an order, which is kept among texts that are the same.
    is_list: bool,
    descending: bool,
    alpha: bool,
    offset: i64,
    /// At most so many; negative for all.
    count: i64,
    /// What is answered in the elements' place.
    gets: Vec<&'c [u8]>,
    /// The argument that names the key under which the result is stored.
    store_at: Option<usize>,
}

impl<'c> Query<'c> {
    fn parse(call: &Call<'c>, may_store: bool) -> Result<Query<'c>> {
        let mut query = Query { count: -1, ..Query::default() };
        let reads_every_key = || acl::reads_every_key(&call.session.user, call.command, call.args());
        let mut options = call.options(2);
        while !options.is_empty() {
            let value = options.position() + 1;
            if options.takes("ASC") {
                query.descending = false;
            } else if options.takes("DESC") {
                query.descending = true;
            } else if options.takes("ALPHA") {
                query.alpha = true;
            } else if options.left() > 2 && options.takes("LIMIT") {
                query.offset = call.integer(value)?;
                query.count = call.integer(value + 1)?;
                options.nth(1);
            } else if may_store && options.takes_value("STORE").is_some() {
                query.store_at = Some(value);
            } else if let Some(pattern) = options.takes_value("BY") {
                if !pattern.contains(&b'*') {
                    query.keeps_order = true;
                } else if !reads_every_key() {
                    return Err(Error::new(
                        "ERR BY option of SORT denied due to insufficient ACL permissions.",
                    ));
                }
                query.by = Some(pattern);
            } else if let Some(pattern) = options.takes_value("GET") {
                if !reads_every_key() {
                    return Err(Error::new(
                        "ERR GET option of SORT denied due to insufficient ACL permissions.",
                    ));
                }
                query.gets.push(pattern);
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(query)
    }

    /// Whether it may look at fields of hashes.
    fn sees_fields(&self) -> bool {
        let names_field = |pattern: &&[u8]| pattern.windows(2).any(|pair| pair == b"->");
        self.by.iter().chain(&self.gets).any(names_field)
    }

    /// Which of so many elements are wanted.
    fn range(&self, len: usize) -> Range<usize> {
        let start = usize::try_from(self.offset.max(0)).unwrap_or(usize::MAX).min(len);
        let end = match usize::try_from(self.count) {
            Ok(count) => start.saturating_add(count).min(len),
            Err(_) => len,
        };
        start..end
    }
}

/// An element with what it is sorted by.
struct Weighed {
    element: Vec<u8>,
    weight: Weight,
}

/// What an element is sorted by: a number, or a text where there is one other than its own.
#[derive(Clone, Default)]
struct Weight {
    score: f64,
    text: Option<Rc<[u8]>>,
}

fn sort(call: &mut Call<'_>, may_store: bool) -> Result {
    let mut query = Query::parse(call, may_store)?;
    let in_script = call.caller() == Caller::Script;
    let entry = call.look_any(call.key(1)).0;
    query.is_list = matches!(entry, Some(AnyRef::List(_)));
    // An order that nobody asked for must be the same for whoever repeats the call.
    if let Some(AnyRef::Set(_)) = entry
        && query.keeps_order
        && (query.store_at.is_some() || in_script)
    {
        (query.keeps_order, query.alpha, query.by) = (false, true, None);
    }
    let elements = match entry {
        None => Vec::new(),
        Some(value) => elements(value, &query)?,
    };
    let elements = if query.keeps_order { elements } else { sorted(call, elements, &query)? };
    match query.store_at {
        Some(target) => store(call, call.key(target), elements, &query),
        None => answer(call, elements, &query),
    }
}

/// The elements of a value: all, or those that are wanted if they keep their order.
fn elements(value: AnyRef<'_>, query: &Query<'_>) -> Result<Vec<Vec<u8>>> {
    let in_order = |len: usize| if query.keeps_order { query.range(len) } else { 0..len };
    let reverse = query.keeps_order && query.descending;
    match value {
        AnyRef::Set(set) => {
            let wanted = in_order(set.len());
            let members = set.iter().skip(wanted.start).take(wanted.len());
            Ok(members.map(|member| member.text().to_vec()).collect())
        }
        AnyRef::List(list) => {
            let len = list.len();
            let wanted = in_order(len);
            let mut elements = Vec::with_capacity(wanted.len());
            let show = |item: Item<'_>| elements.push(item.text().into_owned());
            match reverse {
                true => list.show_each_back(len - wanted.end..len - wanted.start, show),
                false => list.show_each(wanted, show),
            }
            Ok(elements)
        }
        AnyRef::Zset(zset) => {
            let len = zset.len();
            let wanted = in_order(len);
            let ranks = if reverse { len - wanted.end..len - wanted.start } else { wanted };
            Ok(zset.slice(ranks, reverse).map(|(_, member)| member.to_vec()).collect())
        }
        _ => Err(error::WRONGTYPE),
    }
}

/// Those elements that are wanted, in order.
fn sorted(call: &mut Call<'_>, elements: Vec<Vec<u8>>, query: &Query<'_>) -> Result<Vec<Vec<u8>>> {
    let wanted = query.range(elements.len());
    let mut all_numbers = true;
    let mut items: Vec<Weighed> = Vec::with_capacity(elements.len());
    // Only a list holds an element twice. What it weighs may be long, and is read and held once.
    let mut known: HashMap<Vec<u8>, Option<Weight>> = HashMap::new();
    for element in elements {
        let weight = match query.by {
            Some(_) if query.is_list => match known.get(&element) {
                Some(weight) => weight.clone(),
                None => {
                    let weight = weigh(call, query, &element);
                    known.insert(element.clone(), weight.clone());
                    weight
                }
            },
            _ => weigh(call, query, &element),
        };
        all_numbers &= weight.is_some();
        items.push(Weighed { element, weight: weight.unwrap_or_default() });
    }
    if !all_numbers {
        return Err(Error::new("ERR One or more scores can't be converted into double"));
    }
    items.sort_by(|one, other| {
        let by_weight = match query.alpha {
            true => match (&one.weight.text, &other.weight.text) {
                (Some(one), Some(other)) if Rc::ptr_eq(one, other) => Ordering::Equal,
                (one, other) => one.cmp(other),
            },
            false => one.weight.score.partial_cmp(&other.weight.score).unwrap_or(Ordering::Equal),
        };
        let in_place = query.is_list && query.alpha && query.by.is_some();
        let order =
            if in_place { by_weight } else { by_weight.then_with(|| one.element.cmp(&other.element)) };
        if query.descending { order.reverse() } else { order }
    });
    Ok(items.drain(wanted).map(|item| item.element).collect())
}

/// What an element is sorted by; nothing if that should be a number and is none.
fn weigh(call: &mut Call<'_>, query: &Query<'_>, element: &[u8]) -> Option<Weight> {
    let found = query.by.map(|pattern| look_up(call, pattern, element));
    match found {
        // What has no weight weighs nothing.
        Some(None) => Some(Weight::default()),
        Some(Some(text)) if query.alpha => Some(Weight { text: Some(text.into()), ..Weight::default() }),
        None if query.alpha => Some(Weight::default()),
        Some(Some(text)) => score(&text).map(|score| Weight { score, text: None }),
        None => score(element).map(|score| Weight { score, text: None }),
    }
}

/// A number as C's `strtod` reads it, up to the first zero byte; nothing at all is 0.
fn score(text: &[u8]) -> Option<f64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let start = text.iter().position(|byte| !is_space(byte))?;
    let scanned = numbers::scan_float(&text[start..])?;
    let is_whole = scanned.used == text.len() - start;
    (is_whole && scanned.range == Fit::Fits && !scanned.value.is_nan()).then_some(scanned.value)
}

/// What a pattern means for an element: the element itself (`#`), the string under a key, or a field of a hash.
fn look_up(call: &mut Call<'_>, pattern: &[u8], element: &[u8]) -> Option<Vec<u8>> {
    if pattern == b"#" {
        return Some(element.to_vec());
    }
    let star = pattern.iter().position(|byte| *byte == b'*')?;
    let (before, after) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = after.windows(2).position(|pair| pair == b"->").filter(|arrow| arrow + 2 < after.len());
    let (after, field) = match arrow {
        Some(arrow) => (&after[..arrow], Some(&after[arrow + 2..])),
        None => (after, None),
    };
    let name = [before, element, after].concat();
    match (call.look_any(Key::new(&name)).0?, field) {
        (AnyRef::Hash(hash), Some(field)) => hash.get(field).map(<[u8]>::to_vec),
        (AnyRef::Str(text), None) => Some(text.bytes().into_owned()),
        _ => None,
    }
}

/// Answers with the elements, or with what was asked for in their place.
fn answer(call: &mut Call<'_>, elements: Vec<Vec<u8>>, query: &Query<'_>) -> Result {
    if query.gets.is_empty() {
        let out = call.out();
        out.array(elements.len());
        elements.iter().for_each(|element| out.bulk(element));
        return Ok(());
    }
    call.out().array(elements.len() * query.gets.len());
    for element in &elements {
        for pattern in &query.gets {
            let found = look_up(call, pattern, element);
            call.out().bulk_or_null(found.as_deref());
        }
    }
    Ok(())
}

/// Stores the elements as a list, or what was asked for in their place: nothing is an empty element there.
fn store(call: &mut Call<'_>, target: Key<'_>, elements: Vec<Vec<u8>>, query: &Query<'_>) -> Result {
    let mut found = elements;
    if !query.gets.is_empty() {
        let elements = std::mem::take(&mut found);
        for element in &elements {
            found.extend(query.gets.iter().map(|get| look_up(call, get, element).unwrap_or_default()));
        }
    }
    // Whoever repeats the call sees fields longer than this call did.
    let says_what_came = query.sees_fields() && call.is_propagated();
    if found.is_empty() {
        if call.remove(target, "del") && says_what_came {
            call.propagates(&[b"DEL", target.bytes]);
        }
    } else {
        if says_what_came {
            call.propagates(&[b"DEL", target.bytes]);
            let words = [&b"RPUSH"[..], target.bytes].into_iter().chain(found.iter().map(Vec::as_slice));
            call.propagates(&words.collect::<Vec<_>>());
        }
        let mut list = call.put::<List>(target, List::empty(), false);
        found.iter().for_each(|element| list.push(End::Right, element));
        list.changed("sortstore");
    }
    call.reply(found.len())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::score;
    use crate::engine::settle::{StreamReader, StreamUnit};
    use crate::engine::testing::Bench;

    struct Lines(Arc<Mutex<Vec<String>>>);

    impl StreamReader for Lines {
        fn unit(&mut self, unit: &StreamUnit) {
            let mut lines = self.0.lock().expect("no test panics while it holds this");
            lines.extend(unit.iter().map(|command| {
                let args = command.args();
                let words: Vec<_> = args.view().iter().map(String::from_utf8_lossy).collect();
                words.join(" ")
            }));
        }
    }

    #[test]
    fn what_is_stored_by_fields_is_propagated_as_what_came_of_it_if_anything_did() {
        for (before, from, expected) in [
            (None, "empty", &[][..]),
            (Some("SET to x"), "empty", &["DEL to"]),
            (None, "list", &["DEL to", "RPUSH to a b"]),
            (Some("SET to x"), "list", &["DEL to", "RPUSH to a b"]),
        ] {
            let (mut bench, lines) = (Bench::new(), Arc::new(Mutex::new(Vec::new())));
            let client = bench.connect();
            bench.ask(client, &["RPUSH list 2 1", "HSET h:1 f a", "HSET h:2 f b"]);
            bench.ask(client, before.as_slice());
            bench.engine.attach(Box::new(Lines(lines.clone())));
            bench.ask(client, &[&format!("SORT {from} GET h:*->f STORE to")]);
            let mut lines = lines.lock().expect("no test panics while it holds this").clone();
            lines.retain(|line| !["MULTI", "EXEC"].contains(&&**line) && !line.starts_with("SELECT"));
            assert_eq!(lines, expected, "{before:?} {from}");
        }
    }

    #[test]
    fn scores_are_read_as_strtod_does() {
        for (text, expected) in [
            ("", Some(0.0)),
            ("12", Some(12.0)),
            (" \t\x0b12", Some(12.0)),
            ("1e3", Some(1000.0)),
            ("0x10", Some(16.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("1\0x", Some(1.0)),
            ("12 ", None),
            (" ", None),
            ("nan", None),
            ("1e400", None),
            ("x", None),
        ] {
            assert_eq!(score(text.as_bytes()), expected, "{text:?}");
        }
    }
}
