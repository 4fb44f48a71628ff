//! How a test writes down the reply it expects: parsed, compared, and printed.
//!
//! One expectation holds for both protocols where their replies differ only by kind: a map is a flat array on RESP2, a
//! double is a bulk string, and so on. `README.md` has the table.

use std::fmt::{self, Display};

use crate::client::Protocol;
use crate::reply::Reply;
use crate::words;

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

/// Why a text is no expectation.
#[derive(Debug, PartialEq)]
pub enum ParseError {
    /// A bracket or quote is still open: the next line belongs to it.
    Unfinished,
    /// It cannot be continued to anything valid.
    Invalid(String),
}

impl Expected {
    /// Reads an expectation.
    pub fn parse(text: &str) -> Result<Expected, ParseError> {
        let text = text.trim();
        // A status or error at the top is the rest of its line, as the protocol writes it.
        if let Some((first, line)) = text.split_at_checked(1)
            && matches!(first, "+" | "-")
            && !line.starts_with(['"', '~'])
        {
            let text = Text::exactly(line.as_bytes());
            return Ok(if first == "+" { Expected::Simple(text) } else { Expected::Error(text) });
        }
        let mut parser = Parser { rest: text };
        let bare = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let expected = parser.item()?;
        parser.skip_space();
        match expected {
            Expected::Tuple(_) => Err(invalid("a tuple stands inside an array", text)),
            Expected::Bulk(_) if bare => Err(invalid("a string needs its quotes here", text)),
            _ if !parser.rest.is_empty() => Err(invalid("more than one reply", text)),
            _ => Ok(expected),
        }
    }

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

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn item(&mut self) -> Result<Expected, ParseError> {
        self.skip_space();
        let start = self.rest;
        let Some(first) = start.chars().next() else { return Err(ParseError::Unfinished) };
        match first {
            '[' => self.array(),
            '(' => {
                self.rest = &start[1..];
                Ok(Expected::Tuple(self.items(')')?.0))
            }
            '{' => self.map(),
            '"' => Ok(Expected::Bulk(self.text()?)),
            '~' if start.starts_with("~[") => {
                self.rest = &start[2..];
                Ok(Expected::Set(self.items(']')?.0))
            }
            '~' => Ok(Expected::Bulk(self.text()?)),
            '>' if start.starts_with(">[") => {
                self.rest = &start[2..];
                Ok(Expected::Push(self.items(']')?.0))
            }
            '=' | '+' | '-' if start[1..].starts_with(['"', '~']) => {
                self.rest = &start[1..];
                let text = self.text()?;
                Ok(match first {
                    '=' => Expected::Verbatim(text),
                    '+' => Expected::Simple(text),
                    _ => Expected::Error(text),
                })
            }
            ',' => {
                self.rest = &start[1..];
                Ok(Expected::Double(self.word().to_string()))
            }
            _ => self.bare(),
        }
    }

    fn bare(&mut self) -> Result<Expected, ParseError> {
        let start = self.rest;
        let word = self.word();
        let integer = |text: &str| text.parse::<i64>().map_err(|_| invalid("not an integer", word));
        Ok(match word {
            "" => return Err(invalid("not a reply", start)),
            "any" => Expected::Any,
            "nil" => Expected::NullBulk,
            "nil*" => Expected::NullArray,
            "_" => Expected::Null,
            "#t" => Expected::Boolean(true),
            "#f" => Expected::Boolean(false),
            _ => match word.split_at(1) {
                (":", range) => match range.split_once("..") {
                    Some((low, high)) => Expected::Integer(integer(low)?, integer(high)?),
                    None => Expected::Integer(integer(range)?, integer(range)?),
                },
                ("+", status) => Expected::Simple(Text::exactly(status.as_bytes())),
                ("-", _) if word[1..].starts_with(|c: char| c.is_ascii_uppercase()) => {
                    return Err(invalid("an error inside brackets needs quotes, -\"ERR …\"", word));
                }
                _ => Expected::Bulk(Text::exactly(word.as_bytes())),
            },
        })
    }

    fn array(&mut self) -> Result<Expected, ParseError> {
        self.rest = &self.rest[1..];
        if let Some(rest) = self.rest.strip_prefix('*').filter(|rest| rest.starts_with(char::is_whitespace)) {
            self.rest = rest;
            return Ok(Expected::Unordered(self.items(']')?.0));
        }
        let (items, open) = self.items(']')?;
        Ok(Expected::Array { items, open })
    }

    fn items(&mut self, close: char) -> Result<(Vec<Expected>, bool), ParseError> {
        let mut items = Vec::new();
        let mut open = false;
        loop {
            self.skip_space();
            if let Some(rest) = self.rest.strip_prefix(close) {
                self.rest = rest;
                return Ok((items, open));
            }
            if open {
                return Err(invalid("nothing follows the three dots", self.rest));
            }
            match self.rest.strip_prefix("...") {
                Some(rest) => (self.rest, open) = (rest, true),
                None => items.push(self.item()?),
            }
        }
    }

    fn map(&mut self) -> Result<Expected, ParseError> {
        self.rest = &self.rest[1..];
        let mut pairs = Vec::new();
        let mut open = false;
        loop {
            self.skip_space();
            if let Some(rest) = self.rest.strip_prefix('}') {
                self.rest = rest;
                return Ok(Expected::Map { pairs, open });
            }
            if self.rest.is_empty() {
                return Err(ParseError::Unfinished);
            }
            if let Some(rest) = self.rest.strip_prefix("...") {
                (self.rest, open) = (rest, true);
                continue;
            }
            let key = self.key()?;
            let value = self.item()?;
            pairs.push((key, value));
            self.skip_space();
            self.rest = self.rest.strip_prefix(',').unwrap_or(self.rest);
        }
    }

    fn key(&mut self) -> Result<Expected, ParseError> {
        // The colon ends a bare word, which may contain others.
        if self.rest.starts_with(|c: char| c.is_ascii_alphanumeric() || ":+,#".contains(c)) {
            let word = self.word();
            let key = word.strip_suffix(':').ok_or_else(|| invalid("a key ends with a colon", word))?;
            return match key.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                true => Ok(Expected::Bulk(Text::exactly(key.as_bytes()))),
                false => Parser { rest: key }.item(),
            };
        }
        let key = self.item()?;
        self.rest =
            self.rest.strip_prefix(':').ok_or_else(|| invalid("a key ends with a colon", self.rest))?;
        Ok(key)
    }

    /// `"exactly this"` or `~"pattern"`; after `+`, `-` and `=` too.
    fn text(&mut self) -> Result<Text, ParseError> {
        let glob = self.rest.starts_with('~');
        let quoted = self.rest.strip_prefix('~').unwrap_or(self.rest);
        let inner = quoted.strip_prefix('"').ok_or_else(|| invalid("a pattern needs quotes", self.rest))?;
        let (bytes, rest) = words::quoted(inner).map_err(|_| ParseError::Unfinished)?;
        self.rest = rest;
        Ok(Text { bytes, glob })
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| c.is_whitespace() || "[](){},".contains(c));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

fn invalid(what: &str, text: &str) -> ParseError {
    ParseError::Invalid(format!("{what}: {text}"))
}

/// Expectations wider than this are printed one member a line.
const WIDTH_MAX: usize = 110;

impl Display for Expected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, text) = match self {
            Expected::Simple(text) => ("+", text),
            Expected::Error(text) => ("-", text),
            other => return out.write_str(&broken_into_lines(other)),
        };
        match std::str::from_utf8(&text.bytes) {
            Ok(plain) if !text.glob && plain.trim() == plain && !plain.contains(char::is_control) => {
                write!(out, "{sign}{plain}")
            }
            _ => out.write_str(&inline(self)),
        }
    }
}

fn broken_into_lines(expected: &Expected) -> String {
    let line = inline(expected);
    if line.chars().count() <= WIDTH_MAX {
        return line;
    }
    let (open, members, close) = match expected {
        Expected::Array { items, open: false } => ("[", items.iter().map(member).collect::<Vec<_>>(), "]"),
        Expected::Unordered(items) => ("[*", items.iter().map(member).collect(), "]"),
        Expected::Set(items) => ("~[", items.iter().map(member).collect(), "]"),
        Expected::Map { pairs, open: false } => ("{", pairs.iter().map(inline_pair).collect(), "}"),
        _ => return line,
    };
    let separator = if close == "}" { ",\n    " } else { "\n    " };
    format!("{open}\n    {}\n{close}", members.join(separator))
}

fn inline(expected: &Expected) -> String {
    match expected {
        Expected::Any => "any".to_string(),
        Expected::Simple(text) if bare(text) => format!("+{}", String::from_utf8_lossy(&text.bytes)),
        Expected::Simple(text) => format!("+{}", print_text(text)),
        Expected::Error(text) => format!("-{}", print_text(text)),
        Expected::Bulk(text) => print_text(text),
        Expected::Verbatim(text) => format!("={}", print_text(text)),
        Expected::Integer(low, high) if low == high => format!(":{low}"),
        Expected::Integer(low, high) => format!(":{low}..{high}"),
        Expected::NullBulk => "nil".to_string(),
        Expected::NullArray => "nil*".to_string(),
        Expected::Null => "_".to_string(),
        Expected::Array { items, open } => format!("[{}]", members(items, *open)),
        Expected::Unordered(items) => format!("[* {}]", members(items, false)),
        Expected::Tuple(items) => format!("({})", members(items, false)),
        Expected::Set(items) => format!("~[{}]", members(items, false)),
        Expected::Push(items) => format!(">[{}]", members(items, false)),
        Expected::Map { pairs, open } => {
            let mut words: Vec<String> = pairs.iter().map(inline_pair).collect();
            words.extend(open.then(|| "...".to_string()));
            format!("{{{}}}", words.join(", "))
        }
        Expected::Double(text) => format!(",{text}"),
        Expected::Boolean(true) => "#t".to_string(),
        Expected::Boolean(false) => "#f".to_string(),
    }
}

fn inline_pair((key, value): &(Expected, Expected)) -> String {
    format!("{}: {}", member(key), member(value))
}

fn members(items: &[Expected], open: bool) -> String {
    let mut words: Vec<String> = items.iter().map(member).collect();
    words.extend(open.then(|| "...".to_string()));
    words.join(" ")
}

/// A member of something bracketed: there a simple string needs no quotes.
fn member(expected: &Expected) -> String {
    match expected {
        Expected::Bulk(text) if bare(text) => String::from_utf8_lossy(&text.bytes).into_owned(),
        other => inline(other),
    }
}

fn bare(text: &Text) -> bool {
    let word = &text.bytes[..];
    !text.glob
        && word.first().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && !word.ends_with(b":")
        && !matches!(word, b"any" | b"nil")
        && word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:/".contains(byte))
}

fn print_text(text: &Text) -> String {
    format!("{}{}", if text.glob { "~" } else { "" }, words::quote(&text.bytes))
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
    fn globs() {
        assert!(glob(b"a*c?", b"abbcd") && glob(b"*", b"") && !glob(b"a?", b"a") && !glob(b"a*c", b"ab"));
    }
}
