//! How a test writes down the reply it expects: parsed, compared, and printed.
//!
//! One expectation holds for both protocols where their replies differ only by kind: a map is a flat array on RESP2, a
//! double is a bulk string, and so on. `README.md` has the table.

mod parse;
mod print;

use crate::client::Protocol;
use crate::reply::Reply;

pub use parse::ParseError;

/// A reply as a test expects it.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// `any`: whatever is answered.
    Any,
    /// `+OK`
    Simple(Text),
    /// `-ERR …`
    Error(Text),
    /// `"text"`, or a bare word inside brackets
    Bulk(Text),
    /// `="text"`: a verbatim string, on RESP2 a bulk string
    Verbatim(Text),
    /// `:1`, or `:1..9` for a range, both ends included
    Integer(i64, i64),
    /// `nil`: a missing value
    NullBulk,
    /// `nil*`: a missing array
    NullArray,
    /// `_`: any kind of null
    Null,
    /// `[a b]`, or `[a b ...]` if more may follow
    Array {
        /// Its members, in order.
        items: Vec<Expected>,
        /// Whether more may follow.
        open: bool,
    },
    /// `[* a b]`: in any order
    Unordered(Vec<Expected>),
    /// `(a b)` inside an array: an array of its own on RESP3, its members in place on RESP2
    Tuple(Vec<Expected>),
    /// `{a: b, c: d}` in any order, or `{a: b, ...}` if there may be others; on RESP2 a flat array
    Map {
        /// Keys and values.
        pairs: Vec<(Expected, Expected)>,
        /// Whether there may be others.
        open: bool,
    },
    /// `~[a b]`: a set, on RESP2 an array; in any order
    Set(Vec<Expected>),
    /// `>[a b]`: a push, on RESP2 an array
    Push(Vec<Expected>),
    /// `,1.5`: a double, on RESP2 a bulk string
    Double(String),
    /// `#t` or `#f`: a boolean, on RESP2 1 or 0
    Boolean(bool),
}

/// Bytes to compare with: as they are, or as a pattern of `*` and `?`.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    bytes: Vec<u8>,
    glob: bool,
}

impl Text {
    fn exactly(bytes: &[u8]) -> Text {
        Text { bytes: bytes.to_vec(), glob: false }
    }

    fn matches(&self, text: &[u8]) -> bool {
        if self.glob { glob(&self.bytes, text) } else { self.bytes == text }
    }
}

/// Whether `text` matches a pattern in which `*` stands for anything and `?` for one byte.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skipped| glob(rest, &text[skipped..])),
        Some((b'?', rest)) => !text.is_empty() && glob(rest, &text[1..]),
        Some((byte, rest)) => text.first() == Some(byte) && glob(rest, &text[1..]),
    }
}

impl Expected {
    /// Whether `reply` is what was expected.
    pub fn matches(&self, reply: &Reply, protocol: Protocol) -> bool {
        let resp2 = protocol == Protocol::Resp2;
        match (self, reply) {
            (Expected::Any, _) => true,
            (Expected::Simple(text), Reply::Simple(got))
            | (Expected::Error(text), Reply::Error(got))
            | (Expected::Bulk(text), Reply::Bulk(got)) => text.matches(got),
            (Expected::Verbatim(text), Reply::Verbatim(_, got)) => text.matches(got),
            (Expected::Verbatim(text), Reply::Bulk(got)) => resp2 && text.matches(got),
            (Expected::Integer(low, high), Reply::Integer(got)) => (low..=high).contains(&got),
            (Expected::NullBulk, Reply::NullBulk) | (Expected::NullArray, Reply::NullArray) => resp2,
            (Expected::Null, Reply::NullBulk | Reply::NullArray) => resp2,
            (Expected::NullBulk | Expected::NullArray | Expected::Null, Reply::Null) => true,
            (Expected::Double(text), Reply::Double(got)) => text.as_bytes() == got,
            (Expected::Double(text), Reply::Bulk(got)) => resp2 && text.as_bytes() == got,
            (Expected::Boolean(yes), Reply::Boolean(got)) => yes == got,
            (Expected::Boolean(yes), Reply::Integer(got)) => resp2 && i64::from(*yes) == *got,
            (Expected::Array { items, open }, Reply::Array(got)) => {
                let items = spliced(items, resp2);
                (if *open { items.len() <= got.len() } else { items.len() == got.len() })
                    && items.iter().zip(got).all(|(item, got)| item.matches(got, protocol))
            }
            (Expected::Tuple(items), Reply::Array(got)) => in_order(items, got, protocol),
            (Expected::Push(items), Reply::Push(got)) => in_order(items, got, protocol),
            (Expected::Push(items), Reply::Array(got)) => resp2 && in_order(items, got, protocol),
            (Expected::Set(items), Reply::Set(got)) => in_any_order(items, got, protocol),
            (Expected::Set(items), Reply::Array(got)) => resp2 && in_any_order(items, got, protocol),
            (Expected::Unordered(items), Reply::Array(got)) => in_any_order(items, got, protocol),
            (Expected::Map { pairs, open }, Reply::Map(got)) => {
                let got: Vec<_> = got.iter().map(|(key, value)| [key, value]).collect();
                let got: Vec<_> = got.iter().map(|row| &row[..]).collect();
                rows_in_any_order(&rows_of_pairs(pairs), &got, *open, protocol)
            }
            (Expected::Map { pairs, open }, Reply::Array(got)) if resp2 => {
                let got: Vec<_> = got.iter().collect();
                let got: Vec<_> = got.chunks(2).collect();
                rows_in_any_order(&rows_of_pairs(pairs), &got, *open, protocol)
            }
            _ => false,
        }
    }

    /// The plainest expectation that `reply` fulfils on its own protocol.
    pub fn of(reply: &Reply) -> Expected {
        let all = |items: &[Reply]| items.iter().map(Expected::of).collect();
        match reply {
            Reply::Simple(text) => Expected::Simple(Text::exactly(text)),
            Reply::Error(text) => Expected::Error(Text::exactly(text)),
            Reply::Integer(number) => Expected::Integer(*number, *number),
            Reply::Bulk(text) | Reply::BigNumber(text) => Expected::Bulk(Text::exactly(text)),
            Reply::NullBulk | Reply::Null => Expected::NullBulk,
            Reply::NullArray => Expected::NullArray,
            Reply::Array(items) => Expected::Array { items: all(items), open: false },
            Reply::Set(items) => Expected::Set(all(items)),
            Reply::Push(items) => Expected::Push(all(items)),
            Reply::Map(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| (Expected::of(key), Expected::of(value)));
                Expected::Map { pairs: pairs.collect(), open: false }
            }
            Reply::Double(text) => Expected::Double(String::from_utf8_lossy(text).into_owned()),
            Reply::Boolean(yes) => Expected::Boolean(*yes),
            Reply::Verbatim(_, text) => Expected::Verbatim(Text::exactly(text)),
        }
    }

    /// One expectation for two replies that came on two protocols, if there is one.
    pub fn of_both(one: (&Reply, Protocol), other: (&Reply, Protocol)) -> Option<Expected> {
        let (of2, of3) = (Expected::of(one.0), Expected::of(other.0));
        let loose = of3.clone().with_any_null();
        let tuples = of3.clone().with_tuples();
        [of2, of3, loose, tuples]
            .into_iter()
            .find(|expected| expected.matches(one.0, one.1) && expected.matches(other.0, other.1))
    }

    /// What a client gets on RESP2 to whom a script returns such a reply: Lua knows one null, and its numbers are doubles.
    pub fn by_lua(self) -> Expected {
        /// Beyond it a double has not all integers; what comes instead, near the limits, is the machine's.
        const EXACT_MAX: u64 = 1 << 53;
        let all = |items: Vec<Expected>| items.into_iter().map(Expected::by_lua).collect();
        match self {
            Expected::NullArray => Expected::NullBulk,
            Expected::Integer(low, _) if low.unsigned_abs() > EXACT_MAX => {
                Expected::Integer(i64::MIN, i64::MAX)
            }
            Expected::Array { items, open } => Expected::Array { items: all(items), open },
            Expected::Unordered(items) => Expected::Unordered(all(items)),
            Expected::Tuple(items) => Expected::Tuple(all(items)),
            Expected::Set(items) => Expected::Set(all(items)),
            Expected::Map { pairs, open } => {
                let pairs = pairs.into_iter().map(|(key, value)| (key.by_lua(), value.by_lua()));
                Expected::Map { pairs: pairs.collect(), open }
            }
            other => other,
        }
    }

    /// The same members without their order, if it is an array.
    pub fn without_order(self) -> Expected {
        match self {
            Expected::Array { mut items, .. } => {
                items.sort_by_key(Expected::to_string);
                Expected::Unordered(items)
            }
            other => other,
        }
    }

    fn with_any_null(self) -> Expected {
        let all = |items: Vec<Expected>| items.into_iter().map(Expected::with_any_null).collect();
        match self {
            Expected::NullBulk | Expected::NullArray => Expected::Null,
            Expected::Array { items, open } => Expected::Array { items: all(items), open },
            Expected::Map { pairs, open } => {
                let pairs = pairs.into_iter().map(|(key, value)| (key, value.with_any_null()));
                Expected::Map { pairs: pairs.collect(), open }
            }
            other => other,
        }
    }

    fn with_tuples(self) -> Expected {
        let tuple = |item| match item {
            Expected::Array { items, open: false } => Expected::Tuple(items),
            other => other.with_tuples(),
        };
        match self {
            Expected::Array { items, open }
                if items.iter().all(|item| matches!(item, Expected::Array { .. })) =>
            {
                Expected::Array { items: items.into_iter().map(tuple).collect(), open }
            }
            Expected::Array { items, open } => {
                Expected::Array { items: items.into_iter().map(Expected::with_tuples).collect(), open }
            }
            other => other,
        }
    }
}

/// The members that an array has on the wire: RESP2 has no tuples.
fn spliced(items: &[Expected], resp2: bool) -> Vec<&Expected> {
    let mut out = Vec::new();
    for item in items {
        match item {
            Expected::Tuple(members) if resp2 => out.extend(members),
            other => out.push(other),
        }
    }
    out
}

fn in_order(items: &[Expected], got: &[Reply], protocol: Protocol) -> bool {
    items.len() == got.len() && items.iter().zip(got).all(|(item, got)| item.matches(got, protocol))
}

fn in_any_order(items: &[Expected], got: &[Reply], protocol: Protocol) -> bool {
    // On RESP2 tuples of one width are rows of a flat array.
    let rows: Vec<Vec<&Expected>> = items
        .iter()
        .map(|item| match item {
            Expected::Tuple(members) if protocol == Protocol::Resp2 => members.iter().collect(),
            other => vec![other],
        })
        .collect();
    let width = rows.first().map_or(1, Vec::len);
    if width == 0 || rows.iter().any(|row| row.len() != width) {
        return false;
    }
    let got: Vec<&Reply> = got.iter().collect();
    rows_in_any_order(&rows, &got.chunks(width).collect::<Vec<_>>(), false, protocol)
}

fn rows_of_pairs(pairs: &[(Expected, Expected)]) -> Vec<Vec<&Expected>> {
    pairs.iter().map(|(key, value)| vec![key, value]).collect()
}

/// Whether each row finds a partner of its own, and (unless `open`) none is left.
fn rows_in_any_order(rows: &[Vec<&Expected>], got: &[&[&Reply]], open: bool, protocol: Protocol) -> bool {
    let mut left: Vec<&[&Reply]> = got.to_vec();
    let found = rows.iter().all(|row| {
        let partner = left.iter().position(|got| {
            got.len() == row.len() && row.iter().zip(*got).all(|(item, got)| item.matches(got, protocol))
        });
        partner.map(|index| left.swap_remove(index)).is_some()
    });
    found && (open || left.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Expected, ParseError, glob};
    use crate::client::Protocol::{self, Resp2, Resp3};
    use crate::reply::Reply;

    fn reply(bytes: &str) -> Reply {
        Reply::read(&mut bytes.replace(' ', "\r\n").as_bytes()).unwrap()
    }

    fn matches(expected: &str, protocol: Protocol, bytes: &str) -> bool {
        Expected::parse(expected).unwrap().matches(&reply(bytes), protocol)
    }

    #[test]
    fn one_expectation_holds_for_both_protocols() {
        for (expected, resp2, resp3) in [
            ("+OK", "+OK ", "+OK "),
            ("-ERR", "-ERR ", "-ERR "),
            ("-~\"E*\"", "-ERR ", "-ERR "),
            ("nil", "$-1 ", "_ "),
            ("nil*", "*-1 ", "_ "),
            ("_", "*-1 ", "_ "),
            (",1.5", "$3 1.5 ", ",1.5 "),
            ("#t", ":1 ", "#t "),
            ("{a: :1, b: x}", "*4 $1 b $1 x $1 a :1 ", "%2 $1 b $1 x $1 a :1 "),
            ("{a: :1, ...}", "*4 $1 b $1 x $1 a :1 ", "%2 $1 b $1 x $1 a :1 "),
            ("~[a b]", "*2 $1 b $1 a ", "~2 $1 b $1 a "),
            (">[a :1]", "*2 $1 a :1 ", ">2 $1 a :1 "),
            ("[(a ,1) (b ,2)]", "*4 $1 a $1 1 $1 b $1 2 ", "*2 *2 $1 a ,1 *2 $1 b ,2 "),
            ("[* (b ,2) (a ,1)]", "*4 $1 a $1 1 $1 b $1 2 ", "*2 *2 $1 a ,1 *2 $1 b ,2 "),
            ("[* a b]", "*2 $1 b $1 a ", "*2 $1 b $1 a "),
            ("[a ...]", "*2 $1 a $1 b ", "*2 $1 a $1 b "),
            (":1..3", ":3 ", ":3 "),
            ("=~\"*b\"", "$2 ab ", "=6 txt:ab "),
            ("any", ":1 ", "_ "),
            ("[]", "*0 ", "*0 "),
        ] {
            assert!(matches(expected, Resp2, resp2), "{expected} on RESP2");
            assert!(matches(expected, Resp3, resp3), "{expected} on RESP3");
        }
    }

    #[test]
    fn other_kinds_and_values_do_not_match() {
        for (expected, protocol, bytes) in [
            ("nil", Resp2, "*-1 "),
            ("nil*", Resp2, "$-1 "),
            ("nil", Resp3, "$-1 "),
            (",1.5", Resp3, "$3 1.5 "),
            ("{a: b}", Resp3, "*2 $1 a $1 b "),
            ("{a: b}", Resp2, "*4 $1 a $1 b $1 c $1 d "),
            ("~[a]", Resp3, "*1 $1 a "),
            (">[a]", Resp3, "*1 $1 a "),
            ("[a b]", Resp2, "*2 $1 b $1 a "),
            ("[* a a]", Resp2, "*2 $1 b $1 a "),
            ("[(a ,1)]", Resp3, "*2 $1 a ,1 "),
            ("[]", Resp2, "*1 $1 a "),
            ("[a b ...]", Resp2, "*1 $1 a "),
            (":1..3", Resp2, ":4 "),
            ("\"1\"", Resp2, ":1 "),
            ("+OK", Resp2, "$2 OK "),
        ] {
            assert!(!matches(expected, protocol, bytes), "{expected}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for text in [
            "+OK",
            "-ERR it's \"wrong\", isn't it? ",
            "-~\"ERR *\"",
            "\"a b\\x00\"",
            "[a \"any\" \"nil\" \"\" \"b:\" \"-x\" :1 :2..3 ,1.5 nil nil* _ any +OK -\"ERR no\" ~\"x*\"]",
            "{a: {b: c, \"\": ~[d], :1: :2}, ...}",
            "[* (a ,1) (b ,inf)]",
            "[a ...]",
            ">[message ch \"x\\ny\"]",
            "#f",
        ] {
            let expected = Expected::parse(text).unwrap();
            assert_eq!(
                Expected::parse(&expected.to_string()).unwrap(),
                expected,
                "{text} printed as {expected}"
            );
        }
        let long = format!("[{}]", "abcdefghij ".repeat(20));
        let printed = Expected::parse(&long).unwrap().to_string();
        assert!(printed.lines().count() == 22 && Expected::parse(&printed) == Expected::parse(&long));
    }

    #[test]
    fn unfinished_and_invalid_texts_are_told_apart() {
        for text in ["[a", "{a: b,", "{a:", "(", "\"a", "[(a b)", ""] {
            assert_eq!(Expected::parse(text), Err(ParseError::Unfinished), "{text}");
        }
        for text in ["a", "(a)", "[a] [b]", ":x", "{a b}", "[-ERR]", "[a ... b]", "]"] {
            assert!(matches!(Expected::parse(text), Err(ParseError::Invalid(_))), "{text}");
        }
    }

    #[test]
    fn replies_of_both_protocols_become_one_expectation() {
        for (resp2, resp3, text) in [
            ("$1 x ", "$1 x ", Some("\"x\"")),
            ("*-1 ", "_ ", Some("nil*")),
            ("*2 $1 a $1 1 ", "%1 $1 a ,1 ", Some("{a: ,1}")),
            ("*2 $1 a $1 1 ", "*1 *2 $1 a ,1 ", Some("[(a ,1)]")),
            ("*2 *-1 $1 1 ", "*2 _ ,1 ", Some("[_ ,1]")),
            (":1 ", ":2 ", None),
        ] {
            let both = Expected::of_both((&reply(resp2), Resp2), (&reply(resp3), Resp3))
                .map(|both| both.to_string());
            assert_eq!(both.as_deref(), text);
        }
    }

    #[test]
    fn what_was_a_value_of_lua_is_what_lua_makes_of_it() {
        for (expected, returned) in [
            ("nil*", "nil"),
            ("[nil* {a: nil*} [* nil*]]", "[nil {a: nil} [* nil]]"),
            (":7", ":7"),
            (":1..9", ":1..9"),
            (":9007199254740993", ":-9223372036854775808..9223372036854775807"),
            ("-ERR no", "-ERR no"),
        ] {
            let parsed = |text| Expected::parse(text).unwrap();
            assert_eq!(parsed(expected).by_lua(), parsed(returned), "{expected}");
        }
    }

    #[test]
    fn globs() {
        assert!(glob(b"a*c?", b"abbcd") && glob(b"*", b"") && !glob(b"a?", b"a") && !glob(b"a*c", b"ab"));
    }
}
