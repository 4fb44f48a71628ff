//! Whether two replies to one request say the same.

use crate::Reply;

use super::Request;

/// Commands whose answers stand in no order, or hold lists that do.
const UNORDERED: [&str; 16] = [
    "HGETALL",
    "HKEYS",
    "HVALS",
    "SMEMBERS",
    "SINTER",
    "SUNION",
    "SDIFF",
    "KEYS",
    "SPOP",
    "SRANDMEMBER",
    "HRANDFIELD",
    "ZRANDMEMBER",
    "SCAN",
    "SSCAN",
    "HSCAN",
    "ZSCAN",
];

/// Fields of XINFO that depend on the clock or on how a stream is kept, or that only one has: the rows `xinfo-active` and
/// `xinfo-nodes` of differences.md.
const APART: [&[u8]; 5] = [b"idle", b"inactive", b"seen-time", b"active-time", b"radix-tree-nodes"];

/// How far apart times may be that are counted from when each server heard of them.
const SECONDS: i64 = 2;
const MILLISECONDS: i64 = 5000;

/// Whether replies to a request agree. `said_before` are the requests of the sequence so far.
pub(super) fn agree(request: &Request, one: &Reply, other: &Reply, said_before: &[Request]) -> bool {
    if one == other {
        return true;
    }
    let name =
        request.first().map(|word| String::from_utf8_lossy(word).to_ascii_uppercase()).unwrap_or_default();
    match name.as_str() {
        "TTL" | "EXPIRETIME" => near(one, other, SECONDS),
        "PTTL" | "PEXPIRETIME" => near(one, other, MILLISECONDS),
        "OBJECT" => is_setbit_unchanged(one, other, said_before) || is_sort_encoding(one, other, said_before),
        // What is in it shows when it is restored.
        "SORT" | "SORT_RO" => are_sorted_alike(request, one, other),
        "GEORADIUS" | "GEORADIUS_RO" | "GEORADIUSBYMEMBER" | "GEORADIUSBYMEMBER_RO" | "GEOSEARCH" => {
            are_as_far_away(request, one, other)
        }
        "DUMP" => matches!((one, other), (Reply::Bulk(_), Reply::Bulk(_))),
        "XPENDING" => without_idle(one) == without_idle(other),
        "XINFO" => {
            let (one, other) = (shared_fields(one), shared_fields(other));
            one == other || may_keep_empty_node(said_before) && without_keys(&one) == without_keys(&other)
        }
        name => in_order(one, name) == in_order(other, name),
    }
}

/// A reply in which what has no order stands in one.
fn in_order(reply: &Reply, name: &str) -> Vec<String> {
    let mut elements: Vec<String> = match reply {
        Reply::Array(elements) if UNORDERED.contains(&name) => {
            elements.iter().flat_map(|element| in_order(element, name)).collect()
        }
        Reply::Set(elements) => elements.iter().map(|element| format!("{element:?}")).collect(),
        Reply::Map(pairs) => pairs.iter().map(|pair| format!("{pair:?}")).collect(),
        other => return vec![format!("{other:?}")],
    };
    elements.sort();
    elements
}

/// Elements that nobody asked to be in an order, or whose texts are the same, stand in one that is not promised; so it is
/// not either which of them a limit leaves.
fn are_sorted_alike(request: &Request, one: &Reply, other: &Reply) -> bool {
    let is = |word: &[u8], token: &str| word.eq_ignore_ascii_case(token.as_bytes());
    let has = |token| request.iter().any(|word| is(word, token));
    let by = request.windows(2).rfind(|pair| is(&pair[0], "BY"));
    // The row `sort-nul` of differences.md.
    let is_cut = has("ALPHA") && (has_nul(one) || has_nul(other));
    if is_cut {
        return is_same_but_for_order(request, one, other);
    }
    let Some(by) = by else { return false };
    if by[1].contains(&b'*') && !has("ALPHA") {
        return false;
    }
    is_same_but_for_order(request, one, other)
}

fn is_same_but_for_order(request: &Request, one: &Reply, other: &Reply) -> bool {
    let has = |token: &[u8]| request.iter().any(|word| word.eq_ignore_ascii_case(token));
    match (one, other) {
        (Reply::Array(ours), Reply::Array(theirs)) if has(b"LIMIT") || has(b"GET") => {
            ours.len() == theirs.len()
        }
        _ => in_order(one, "KEYS") == in_order(other, "KEYS"),
    }
}

fn has_nul(reply: &Reply) -> bool {
    match reply {
        Reply::Bulk(text) => text.contains(&0),
        Reply::Array(elements) => elements.iter().any(has_nul),
        _ => false,
    }
}

/// Of places that are equally far away it is not promised which are the first.
fn are_as_far_away(request: &Request, one: &Reply, other: &Reply) -> bool {
    let (Reply::Array(ours), Reply::Array(theirs)) = (one, other) else { return false };
    let limited = request.iter().any(|word| word.eq_ignore_ascii_case(b"COUNT"));
    let facts = |places: &[Reply]| {
        let mut facts: Vec<String> = places
            .iter()
            .map(|place| match place {
                Reply::Array(facts) if limited => format!("{:?}", &facts[1..]),
                _ if limited => String::new(),
                place => format!("{place:?}"),
            })
            .collect();
        facts.sort();
        facts
    };
    facts(ours) == facts(theirs)
}

/// The row `xinfo-empty-node` of differences.md: entries were deleted one by one, and others by trimming.
fn may_keep_empty_node(said_before: &[Request]) -> bool {
    let said = |words: &[&[u8]]| {
        said_before.iter().flatten().any(|word| words.iter().any(|known| word.eq_ignore_ascii_case(known)))
    };
    said(&[b"XDEL"]) && said(&[b"XTRIM", b"MINID", b"MAXLEN"])
}

/// The answer of XINFO, without the number of nodes.
fn without_keys(reply: &Reply) -> Reply {
    let is_keys = |name: &Reply| matches!(name, Reply::Bulk(name) if name == b"radix-tree-keys");
    match reply {
        Reply::Map(pairs) => Reply::Map(pairs.iter().filter(|(name, _)| !is_keys(name)).cloned().collect()),
        Reply::Array(elements) => {
            Reply::Array(elements.chunks(2).filter(|pair| !is_keys(&pair[0])).flatten().cloned().collect())
        }
        other => other.clone(),
    }
}

/// The answer of XPENDING, without how long ago entries were delivered.
fn without_idle(reply: &Reply) -> Reply {
    let Reply::Array(entries) = reply else { return reply.clone() };
    let without = |entry: &Reply| match entry {
        Reply::Array(fields) if fields.len() == 4 && matches!(fields[2], Reply::Integer(_)) => {
            Reply::Array([&fields[..2], &fields[3..]].concat())
        }
        other => other.clone(),
    };
    Reply::Array(entries.iter().map(without).collect())
}

/// The answer of XINFO, without what is not compared.
fn shared_fields(reply: &Reply) -> Reply {
    let is_apart = |name: &Reply| matches!(name, Reply::Bulk(name) if APART.contains(&&name[..]));
    match reply {
        Reply::Map(pairs) => {
            let shared = pairs.iter().filter(|(name, _)| !is_apart(name));
            Reply::Map(shared.map(|(name, value)| (name.clone(), shared_fields(value))).collect())
        }
        // A map as RESP2 has it; when an entry was delivered stands third in what is pending.
        Reply::Array(elements) => match &elements[..] {
            [id, consumer, Reply::Integer(_), count] => {
                Reply::Array(vec![id.clone(), consumer.clone(), count.clone()])
            }
            [id @ Reply::Bulk(_), Reply::Integer(_), count @ Reply::Integer(_)] => {
                Reply::Array(vec![id.clone(), count.clone()])
            }
            elements if elements.first().is_some_and(|first| matches!(first, Reply::Bulk(_))) => {
                let shared = elements.chunks(2).filter(|pair| !is_apart(&pair[0]));
                Reply::Array(shared.flatten().map(shared_fields).collect())
            }
            elements => Reply::Array(elements.iter().map(shared_fields).collect()),
        },
        other => other.clone(),
    }
}

fn near(one: &Reply, other: &Reply, by: i64) -> bool {
    match (one, other) {
        (Reply::Integer(one), Reply::Integer(other)) => *one > 0 && *other > 0 && (one - other).abs() <= by,
        _ => false,
    }
}

/// The row `setbit-unchanged` of differences.md: a SETBIT that changes nothing leaves the encoding.
fn is_setbit_unchanged(one: &Reply, other: &Reply, said_before: &[Request]) -> bool {
    let is_text = |reply: &Reply| matches!(reply, Reply::Bulk(text) if [&b"raw"[..], b"embstr", b"int"].contains(&&text[..]));
    is_text(one) && is_text(other) && said_before.iter().any(|request| request[0] == b"SETBIT")
}

/// The row `sort-encoding` of differences.md: Redis arranges a sorted set otherwise in order to read it.
fn is_sort_encoding(one: &Reply, other: &Reply, said_before: &[Request]) -> bool {
    let is_zset = |reply: &Reply| matches!(reply, Reply::Bulk(text) if [&b"listpack"[..], b"skiplist"].contains(&&text[..]));
    is_zset(one) && is_zset(other) && said_before.iter().any(|request| request[0].starts_with(b"SORT"))
}
