//! Reads an expectation.

use super::{Expected, Text};
use crate::words;

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
