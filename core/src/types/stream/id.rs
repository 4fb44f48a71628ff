//! Ids of entries: what is parsed, compared and shown.

use std::fmt;

use mortise_sdk::resp::format_integer;
use mortise_sdk::{Error, Result, args};

const INVALID: Error = Error::new("ERR Invalid stream ID specified as stream command argument");

/// An id: milliseconds, and a number within one of them. Entries of a stream have ascending ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StreamId {
    /// Milliseconds, in general of Unix time.
    pub ms: u64,
    /// Which of that millisecond.
    pub seq: u64,
}

/// An id as XADD takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewId {
    /// `*`: the next one.
    Next,
    /// `ms-*`: the next one of that millisecond.
    NextOf(u64),
    /// This one.
    Exactly(StreamId),
}

impl StreamId {
    /// The lowest; no entry has it.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// The highest.
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    /// An id.
    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// The id that follows.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => Some(StreamId { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }

    /// The id before.
    pub fn before(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => Some(StreamId { ms: self.ms.checked_sub(1)?, seq: u64::MAX }),
        }
    }

    /// `ms-seq`, or `ms` alone, which stands for `ms-missing_seq`.
    pub fn parse(text: &[u8], missing_seq: u64) -> Result<StreamId> {
        match parse(text, missing_seq)? {
            NewId::Exactly(id) => Ok(id),
            NewId::Next | NewId::NextOf(_) => Err(INVALID),
        }
    }

    /// The same, or `-` for the lowest and `+` for the highest.
    pub fn parse_bound(text: &[u8], missing_seq: u64) -> Result<StreamId> {
        match as_c_string(text) {
            b"-" => Ok(StreamId::MIN),
            b"+" => Ok(StreamId::MAX),
            text => StreamId::parse(text, missing_seq),
        }
    }

    /// The lowest id of a range: a bound, or one that is excluded by a `(` in front.
    pub fn parse_start(text: &[u8]) -> Result<StreamId> {
        const NONE: Error = Error::new("ERR invalid start ID for the interval");
        match text {
            [b'(', excluded @ ..] if !excluded.is_empty() => StreamId::parse(excluded, 0)?.next().ok_or(NONE),
            _ => StreamId::parse_bound(text, 0),
        }
    }

    /// The highest id of a range.
    pub fn parse_end(text: &[u8]) -> Result<StreamId> {
        const NONE: Error = Error::new("ERR invalid end ID for the interval");
        match text {
            [b'(', excluded @ ..] if !excluded.is_empty() => {
                StreamId::parse(excluded, u64::MAX)?.before().ok_or(NONE)
            }
            _ => StreamId::parse_bound(text, u64::MAX),
        }
    }

    /// The id as it is shown.
    pub fn text(self) -> IdText {
        let mut text = IdText { bytes: [0; IdText::LEN_MAX], len: 0 };
        text.push(self.ms);
        text.bytes[text.len] = b'-';
        text.len += 1;
        text.push(self.seq);
        text
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl NewId {
    /// Reads what XADD is given.
    pub fn parse(text: &[u8]) -> Result<NewId> {
        match as_c_string(text) {
            b"*" => Ok(NewId::Next),
            text => parse(text, 0),
        }
    }
}

/// An id as text.
pub struct IdText {
    bytes: [u8; IdText::LEN_MAX],
    len: usize,
}

impl IdText {
    /// Twice the digits of the largest number, and a hyphen.
    const LEN_MAX: usize = 41;

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, number: u64) {
        match i64::try_from(number) {
            Ok(number) => self.push_bytes(format_integer(number).as_bytes()),
            Err(_) => self.push_bytes(number.to_string().as_bytes()),
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// What C sees of a text: it ends at the first NUL. Ids are read so, and longer texts than this are none.
fn as_c_string(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn parse(text: &[u8], missing_seq: u64) -> Result<NewId> {
    const LEN_MAX: usize = 127;
    if text.len() > LEN_MAX {
        return Err(INVALID);
    }
    let text = as_c_string(text);
    let (ms, seq) = match text.iter().position(|byte| *byte == b'-') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let ms = parse_number(ms).ok_or(INVALID)?;
    match seq {
        None => Ok(NewId::Exactly(StreamId { ms, seq: missing_seq })),
        Some(b"*") => Ok(NewId::NextOf(ms)),
        Some(seq) => Ok(NewId::Exactly(StreamId { ms, seq: parse_number(seq).ok_or(INVALID)? })),
    }
}

/// A number as Redis reads it here: its own integers, and else what C's `strtoull` takes as a whole, with spaces and a sign
/// in front. (No minus gets here: it would have been taken for the hyphen.)
fn parse_number(text: &[u8]) -> Option<u64> {
    if let Some(number) = args::parse_integer(text) {
        return u64::try_from(number).ok();
    }
    let text = text.trim_ascii_start();
    // The one space of C that Rust does not count as such.
    let text = &text[text.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0b).count()..];
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_does() {
        let exactly = |ms, seq| Some(NewId::Exactly(StreamId { ms, seq }));
        for (text, id) in [
            ("5", exactly(5, 0)),
            ("5-7", exactly(5, 7)),
            ("*", Some(NewId::Next)),
            ("5-*", Some(NewId::NextOf(5))),
            ("18446744073709551615-18446744073709551615", exactly(u64::MAX, u64::MAX)),
            ("18446744073709551616", None),
            ("007", exactly(7, 0)),
            (" 7-\x0b+8", exactly(7, 8)),
            ("7\0anything", exactly(7, 0)),
            ("7-8-9", None),
            ("-", None),
            ("+", None),
            ("", None),
            ("-1", None),
            ("1-", None),
            ("1-**", None),
            ("1x", None),
            (" ", None),
        ] {
            assert_eq!(NewId::parse(text.as_bytes()).ok(), id, "{text:?}");
        }
        assert!(NewId::parse(&[b'0'; 127]).is_ok());
        assert!(NewId::parse(&[b'0'; 128]).is_err());
    }

    #[test]
    fn bounds_may_be_open_or_excluded() {
        let id = StreamId::new;
        assert_eq!(StreamId::parse_start(b"5").ok(), Some(id(5, 0)));
        assert_eq!(StreamId::parse_end(b"5").ok(), Some(id(5, u64::MAX)));
        assert_eq!(StreamId::parse_start(b"(5").ok(), Some(id(5, 1)));
        assert_eq!(StreamId::parse_end(b"(5-0").ok(), Some(id(4, u64::MAX)));
        assert_eq!(StreamId::parse_start(b"-").ok(), Some(StreamId::MIN));
        assert_eq!(StreamId::parse_end(b"+").ok(), Some(StreamId::MAX));
        assert!(StreamId::parse_start(b"(-").is_err() && StreamId::parse_start(b"(").is_err());
        assert!(StreamId::parse_end(b"(0-0").is_err());
        assert!(StreamId::parse_start(format!("({}", StreamId::MAX).as_bytes()).is_err());
    }

    #[test]
    fn ids_are_shown_as_they_are_read() {
        for id in [StreamId::MIN, StreamId::MAX, StreamId::new(1_700_000_000_000, 12)] {
            assert_eq!(id.text().as_bytes(), id.to_string().as_bytes());
            assert_eq!(StreamId::parse(id.text().as_bytes(), 0).ok(), Some(id));
        }
    }
}
