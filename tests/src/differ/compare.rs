//! Whether two replies to one request say the same.

use crate::Reply;

use super::Request;

/// Commands whose answers stand in no order.
const UNORDERED: [&str; 8] = ["HGETALL", "HKEYS", "HVALS", "SMEMBERS", "SINTER", "SUNION", "SDIFF", "KEYS"];

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
        "OBJECT" => is_setbit_unchanged(one, other, said_before),
        name => in_order(one, name) == in_order(other, name),
    }
}

/// A reply in which what has no order stands in one.
fn in_order(reply: &Reply, name: &str) -> Vec<String> {
    let mut elements: Vec<String> = match reply {
        Reply::Array(elements) if UNORDERED.contains(&name) => {
            elements.iter().map(|e| format!("{e:?}")).collect()
        }
        Reply::Set(elements) => elements.iter().map(|element| format!("{element:?}")).collect(),
        Reply::Map(pairs) => pairs.iter().map(|pair| format!("{pair:?}")).collect(),
        other => return vec![format!("{other:?}")],
    };
    elements.sort();
    elements
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
