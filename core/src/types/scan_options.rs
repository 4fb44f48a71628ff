//! What SCAN, HSCAN, SSCAN and ZSCAN share: cursor, options, the shape of the reply.

use mortise_sdk::error::{self, Error, Result};
use mortise_sdk::{args, glob};

use crate::engine::call::Options;
use crate::resp::output::Output;

/// Elements to visit when COUNT does not say.
const COUNT_DEFAULT: usize = 10;

const INVALID_CURSOR: Error = Error::new("ERR invalid cursor");

/// A cursor as C's `strtoul` takes it, up to a zero byte: an empty one is 0, a sign may stand in front, and a negative one
/// wraps. Leading spaces are refused.
pub fn parse_cursor(text: &[u8]) -> Result<u64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let (negative, digits) = match text {
        b"" => return Ok(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(INVALID_CURSOR);
    }
    let mut cursor = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(INVALID_CURSOR);
        }
        let next = cursor.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(digit - b'0')));
        cursor = next.ok_or(INVALID_CURSOR)?;
    }
    Ok(if negative { cursor.wrapping_neg() } else { cursor })
}

/// COUNT and MATCH.
#[derive(Clone, Copy, Debug)]
pub struct ScanOptions<'a> {
    /// How many elements to visit, about.
    pub count: usize,
    pattern: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    /// Reads all options that are left.
    pub fn parse(options: Options<'a>) -> Result<ScanOptions<'a>> {
        ScanOptions::parse_among(options, |_| false)
    }

    /// The same where there are others as well, of which `takes_other` takes one.
    pub fn parse_among(
        mut options: Options<'a>,
        mut takes_other: impl FnMut(&mut Options<'a>) -> bool,
    ) -> Result<ScanOptions<'a>> {
        let mut parsed = ScanOptions { count: COUNT_DEFAULT, pattern: None };
        while !options.is_empty() {
            if let Some(count) = options.takes_value("COUNT") {
                let count = args::parse_integer(count).ok_or(error::NOT_INTEGER)?;
                parsed.count = usize::try_from(count).ok().filter(|&count| count > 0).ok_or(error::SYNTAX)?;
            } else if let Some(pattern) = options.takes_value("MATCH") {
                parsed.pattern = Some(pattern);
            } else if !takes_other(&mut options) {
                return Err(error::SYNTAX);
            }
        }
        Ok(parsed)
    }

    /// Whether an element of this name is asked for.
    pub fn admits(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| matches(pattern, name))
    }
}

/// As the glob does, but `*` matches the empty name as well.
#[inline]
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    pattern == b"*" || glob::matches(pattern, name)
}

/// Answers with the elements that `scan` writes, whose number and next cursor it returns and which stand behind that
/// cursor.
pub fn reply(out: &mut Output, scan: impl FnOnce(&mut Output) -> (u64, usize)) {
    let mut elements = Output::new(out.version());
    let (cursor, len) = scan(&mut elements);
    out.array(2);
    out.bulk(cursor.to_string().as_bytes());
    out.array(len);
    out.raw(elements.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_the_empty_name() {
        let admits = |pattern, name| ScanOptions { count: 1, pattern: Some(pattern) }.admits(name);
        assert!(admits(b"*", b"") && !admits(b"**", b"") && admits(b"k*", b"key"));
    }

    #[test]
    fn cursors_are_read_as_strtoul_does() {
        for (text, cursor) in [
            ("", Some(0)),
            ("17", Some(17)),
            ("+17", Some(17)),
            ("007", Some(7)),
            ("-1", Some(u64::MAX)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-", None),
            ("1x", None),
            ("1 ", None),
            ("1.5", None),
            ("7\0x", Some(7)),
            ("\x007", Some(0)),
            (" 1", None),
        ] {
            assert_eq!(parse_cursor(text.as_bytes()).ok(), cursor, "{text:?}");
        }
    }
}
