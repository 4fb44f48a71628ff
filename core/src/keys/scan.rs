//! Walks over all keys: KEYS, SCAN.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Spec, added, category};
use mortise_sdk::resp::encode;
use mortise_sdk::{Error, Result, args, error, glob};

use crate::engine::call::{Call, Key};
use crate::features::Command;
use crate::types::AnyRef;

const GENERIC: Spec = Spec::group("generic");

/// How many entries a SCAN visits unless it says otherwise.
const COUNT_DEFAULT: i64 = 10;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[KEYS, SCAN];

const KEYS: Command = Spec {
    usage: "KEYS pattern:pattern",
    about: "Returns all keys that match a pattern.",
    cost: "O(N), N being the keys of the database",
    flags: &[READONLY],
    categories: &[category::DANGEROUS],
    tips: &["request_policy:all_shards", "nondeterministic_output_order"],
    ..GENERIC
}
.runs(keys);

fn keys(call: &mut Call<'_>) -> Result {
    let (pattern, now_ms) = (call.arg(1), call.now_ms());
    let (mut found, mut bulks) = (0, Vec::new());
    for entry in call.db().0.dict().iter() {
        let expired = entry.deadline().is_some_and(|deadline| deadline <= now_ms);
        if !expired && matches(pattern, entry.key()) {
            encode::bulk(&mut bulks, entry.key());
            found += 1;
        }
    }
    call.out().array(found);
    call.out().raw(&bulks);
    Ok(())
}

/// As the glob does, but `*` matches the empty key as well.
fn matches(pattern: &[u8], key: &[u8]) -> bool {
    pattern == b"*" || glob::matches(pattern, key)
}

const SCAN: Command = Spec {
    usage: "SCAN cursor:int [MATCH pattern:pattern] [COUNT count:int] [TYPE type]",
    about: "Walks over the keys of the database, some in each call.",
    since: "2.8.0",
    cost: "O(1) a call, O(N) for all N keys",
    flags: &[READONLY],
    tips: &["nondeterministic_output", "request_policy:special"],
    history: &[("6.0.0", "Option `TYPE`.")],
    ages: &[added("TYPE", "6.0.0")],
    ..GENERIC
}
.runs(scan);

fn scan(call: &mut Call<'_>) -> Result {
    let cursor = parse_cursor(call.arg(1)).ok_or(Error::new("ERR invalid cursor"))?;
    let (mut count, mut pattern, mut type_name) = (COUNT_DEFAULT, None, None);
    let mut options = call.options(2);
    while !options.is_empty() {
        if let Some(text) = options.takes_value("COUNT") {
            count = args::parse_integer(text).ok_or(error::NOT_INTEGER)?;
            if count < 1 {
                return Err(error::SYNTAX);
            }
        } else if let Some(text) = options.takes_value("MATCH") {
            pattern = Some(text);
        } else {
            type_name = Some(options.takes_value("TYPE").ok_or(error::SYNTAX)?);
        }
    }
    let now_ms = call.now_ms();
    let (mut found, mut bulks, mut expired) = (0, Vec::new(), Vec::<Box<[u8]>>::new());
    let next = call.db().0.dict().scan(cursor, count as usize, |entry| {
        let key = entry.key();
        if !pattern.is_none_or(|pattern| matches(pattern, key)) {
            return;
        }
        if entry.deadline().is_some_and(|deadline| deadline <= now_ms) {
            expired.push(key.into());
            return;
        }
        let name = || AnyRef::of(entry).type_name().as_bytes();
        if type_name.is_none_or(|wanted| wanted.eq_ignore_ascii_case(name())) {
            encode::bulk(&mut bulks, key);
            found += 1;
        }
    });
    // Looking at them lets them go.
    for key in &expired {
        call.exists(Key::new(key));
    }
    let out = call.out();
    out.array(2);
    out.bulk(next.to_string().as_bytes());
    out.array(found);
    out.raw(&bulks);
    Ok(())
}

/// A cursor as C's `strtoul` reads it, all of it: nothing is 0, a minus counts from the end of the range. Leading spaces
/// are refused.
pub(crate) fn parse_cursor(text: &[u8]) -> Option<u64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let (negative, digits) = match text {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    Some(if negative { value.wrapping_neg() } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors() {
        for (text, cursor) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-1", Some(u64::MAX)),
            ("+7", Some(7)),
            ("007", Some(7)),
            ("", Some(0)),
            ("-", None),
            (" 1", None),
            ("1 ", None),
            ("1.5", None),
        ] {
            assert_eq!(parse_cursor(text.as_bytes()), cursor, "{text:?}");
        }
    }

    #[test]
    fn a_star_matches_the_empty_key() {
        assert!(matches(b"*", b"") && !matches(b"**", b"") && matches(b"k*", b"key"));
    }
}
