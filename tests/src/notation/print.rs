//! Prints an expectation, as it would be written by hand.

use std::fmt::{self, Display};

use super::{Expected, Text};
use crate::words;

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
