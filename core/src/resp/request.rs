//! An incremental parser of client requests: multibulk and inline, with limits on every length.
//!
//! Arguments are spans of the read buffer; nothing is copied. A request that is not complete yet leaves its progress in a
//! [`Partial`], so that a large one is not parsed again with every read. Error texts are Redis's.

use mortise_sdk::resp::encode;

use crate::engine::args::Span;

/// The longest line (inline request, or a count) that is waited for.
pub const INLINE_LEN_MAX: usize = 64 * 1024;
const MULTIBULK_LEN_MAX: i64 = i32::MAX as i64;
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_LEN_MAX: i64 = 16_384;

/// What a connection accepts.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// `proto-max-bulk-len`.
    pub bulk_len_max: i64,
    /// Before authentication, requests have to be small.
    pub authenticated: bool,
}

/// How far an incomplete request has been parsed. Positions count from the request's first byte.
#[derive(Default, Debug)]
pub struct Partial {
    spans: Vec<Span>,
    args_left: usize,
    at: usize,
    /// How many bytes of the request must be there before going on makes sense.
    needed: usize,
}

impl Partial {
    /// How many bytes, counted from the request's first one, are known to be needed.
    pub fn needed(&self) -> usize {
        self.needed
    }
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A request whose spans were appended; it ends here. No span at all: an empty line, to be passed over.
    Request(usize),
    /// More bytes are needed; the request begins where it did.
    Incomplete,
    /// An inline request with quotes or escapes, which ends here: it is to be replaced by this one.
    Quoted(usize, Vec<u8>),
    /// The connection is to be closed after this error.
    Broken(String),
}

/// Parses the request that begins at `start` and appends its arguments' spans, which count from the buffer's beginning.
#[inline]
pub fn parse(
    buffer: &[u8],
    start: usize,
    partial: &mut Partial,
    spans: &mut Vec<Span>,
    limits: RequestLimits,
) -> Parsed {
    if partial.needed > buffer.len() - start {
        return Parsed::Incomplete;
    }
    let first_span = spans.len();
    let (mut at, mut args_left);
    if partial.args_left > 0 {
        // What was found before counts from the request's first byte; the buffer may have moved since.
        let base = start as u32;
        spans.extend(partial.spans.drain(..).map(|(from, to)| (from + base, to + base)));
        at = start + partial.at;
        args_left = partial.args_left;
    } else {
        match buffer.get(start) {
            None => return Parsed::Incomplete,
            Some(b'*') => {}
            Some(_) => return inline(buffer, start, spans),
        }
        match header(buffer, start + 1, "too big mbulk count string") {
            Ok(Some((count, next))) => {
                match multibulk_len(count, limits) {
                    Ok(0) => return Parsed::Request(next),
                    Ok(args) => args_left = args,
                    Err(text) => return Parsed::Broken(text),
                }
                at = next;
            }
            Ok(None) => return Parsed::Incomplete,
            Err(text) => return Parsed::Broken(text),
        }
    }
    let mut needed = 0;
    let found = loop {
        if args_left == 0 {
            break true;
        }
        match buffer.get(at) {
            None => break false,
            Some(b'$') => {}
            Some(other) => {
                let text = format!("Protocol error: expected '$', got '{}'", printable(*other));
                return Parsed::Broken(text);
            }
        }
        let (len, next) = match header(buffer, at + 1, "too big bulk count string") {
            Ok(Some(found)) => found,
            Ok(None) => break false,
            Err(text) => return Parsed::Broken(text),
        };
        let Some(len) = len.filter(|len| (0..=limits.bulk_len_max).contains(len)) else {
            return Parsed::Broken("Protocol error: invalid bulk length".to_owned());
        };
        if !limits.authenticated && len > UNAUTHENTICATED_BULK_LEN_MAX {
            return Parsed::Broken("Protocol error: unauthenticated bulk length".to_owned());
        }
        let end = next + len as usize;
        if end + 2 > buffer.len() {
            needed = end + 2 - start;
            break false;
        }
        spans.push((next as u32, end as u32));
        at = end + 2;
        args_left -= 1;
    };
    if found {
        partial.args_left = 0;
        partial.needed = 0;
        return Parsed::Request(at);
    }
    partial
        .spans
        .extend(spans.drain(first_span..).map(|(from, to)| (from - start as u32, to - start as u32)));
    partial.args_left = args_left;
    partial.at = at - start;
    partial.needed = needed;
    Parsed::Incomplete
}

fn multibulk_len(count: Option<i64>, limits: RequestLimits) -> Result<usize, String> {
    match count {
        Some(count) if count <= 0 => Ok(0),
        Some(count) if count > MULTIBULK_LEN_MAX => {
            Err("Protocol error: invalid multibulk length".to_owned())
        }
        Some(count) if !limits.authenticated && count > UNAUTHENTICATED_ARGS_MAX => {
            Err("Protocol error: unauthenticated multibulk length".to_owned())
        }
        Some(count) => Ok(count as usize),
        None => Err("Protocol error: invalid multibulk length".to_owned()),
    }
}

/// Reads a number and the line end behind it: the number (none if it is no number) and where the next line begins;
/// nothing if the line is not complete.
#[inline(always)]
fn header(buffer: &[u8], from: usize, too_long: &str) -> Result<Option<(Option<i64>, usize)>, String> {
    let mut value: i64 = 0;
    let mut at = from;
    // The usual case: a few digits. Anything else is looked at with care.
    while let Some(digit) = buffer.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        value = value * 10 + i64::from(digit);
        at += 1;
        if at - from > 9 {
            break;
        }
    }
    let leading_zero = at - from > 1 && buffer[from] == b'0';
    if at > from && !leading_zero && buffer.get(at) == Some(&b'\r') && at + 1 < buffer.len() {
        return Ok(Some((Some(value), at + 2)));
    }
    slow_header(buffer, from, too_long)
}

#[cold]
fn slow_header(buffer: &[u8], from: usize, too_long: &str) -> Result<Option<(Option<i64>, usize)>, String> {
    let line = &buffer[from.min(buffer.len())..];
    let Some(end) = line.iter().take(INLINE_LEN_MAX + 1).position(|byte| *byte == b'\r') else {
        if line.len() > INLINE_LEN_MAX {
            return Err(format!("Protocol error: {too_long}"));
        }
        return Ok(None);
    };
    if end + 1 >= line.len() {
        return Ok(None);
    }
    Ok(Some((mortise_sdk::args::parse_integer(&line[..end]), from + end + 2)))
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { byte as char } else { '?' }
}

/// An inline request: words in a line, quoted as in a shell.
#[cold]
fn inline(buffer: &[u8], start: usize, spans: &mut Vec<Span>) -> Parsed {
    let line = &buffer[start..];
    let Some(len) = line.iter().take(INLINE_LEN_MAX + 1).position(|byte| *byte == b'\n') else {
        if line.len() > INLINE_LEN_MAX {
            return Parsed::Broken("Protocol error: too big inline request".to_owned());
        }
        return Parsed::Incomplete;
    };
    let next = start + len + 1;
    let end = if len > 0 && buffer[start + len - 1] == b'\r' { start + len - 1 } else { start + len };
    if buffer[start..end].iter().any(|byte| matches!(byte, b'"' | b'\'')) {
        return match quoted_words(&buffer[start..end]) {
            Some(words) => Parsed::Quoted(next, encode::request(words.iter().map(Vec::as_slice))),
            None => Parsed::Broken("Protocol error: unbalanced quotes in request".to_owned()),
        };
    }
    let mut at = start;
    while at < end {
        let word = buffer[at..end].iter().position(|byte| is_space(*byte)).map_or(end, |len| at + len);
        if word > at {
            spans.push((at as u32, word as u32));
        }
        at = word + 1;
    }
    Parsed::Request(next)
}

/// The words of a line with quotes; nothing if a quote is not closed, or closed within a word.
fn quoted_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut words, mut at) = (Vec::new(), 0);
    loop {
        while at < line.len() && is_space(line[at]) {
            at += 1;
        }
        if at >= line.len() {
            return Some(words);
        }
        let mut word = Vec::new();
        while at < line.len() && !is_space(line[at]) {
            match line[at] {
                quote @ (b'"' | b'\'') => {
                    at = quoted(line, at + 1, quote, &mut word)?;
                    if at < line.len() && !is_space(line[at]) {
                        return None;
                    }
                }
                byte => {
                    word.push(byte);
                    at += 1;
                }
            }
        }
        words.push(word);
    }
}

/// Reads up to the closing quote; where the line goes on behind it.
fn quoted(line: &[u8], mut at: usize, quote: u8, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        let byte = *line.get(at)?;
        if byte == quote {
            return Some(at + 1);
        }
        let (value, len) = if byte != b'\\' {
            (byte, 1)
        } else if quote == b'"' {
            escape(&line[at..])
        } else if line.get(at + 1) == Some(&b'\'') {
            (b'\'', 2)
        } else {
            (b'\\', 1)
        };
        word.push(value);
        at += len;
    }
}

/// The byte that an escape in double quotes means, and the escape's length.
fn escape(text: &[u8]) -> (u8, usize) {
    let hex = |byte: &u8| (*byte as char).to_digit(16);
    match text {
        [_, b'x', high, low, ..] if hex(high).is_some() && hex(low).is_some() => {
            ((hex(high).unwrap_or(0) * 16 + hex(low).unwrap_or(0)) as u8, 4)
        }
        [_, b'n', ..] => (b'\n', 2),
        [_, b'r', ..] => (b'\r', 2),
        [_, b't', ..] => (b'\t', 2),
        [_, b'b', ..] => (8, 2),
        [_, b'a', ..] => (7, 2),
        [_, other, ..] => (*other, 2),
        _ => (b'\\', 1),
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RequestLimits = RequestLimits { bulk_len_max: 512 << 20, authenticated: true };

    fn all(bytes: &[u8], limits: RequestLimits) -> (Vec<Vec<Vec<u8>>>, Parsed) {
        let mut buffer = bytes.to_vec();
        let (mut requests, mut at) = (Vec::new(), 0);
        loop {
            let mut spans = Vec::new();
            match parse(&buffer, at, &mut Partial::default(), &mut spans, limits) {
                Parsed::Request(next) => {
                    at = next;
                    if !spans.is_empty() {
                        requests.push(
                            spans.iter().map(|s| buffer[s.0 as usize..s.1 as usize].to_vec()).collect(),
                        );
                    }
                }
                Parsed::Quoted(next, request) => {
                    buffer.splice(at..next, request);
                }
                other => return (requests, other),
            }
        }
    }

    fn broken(bytes: &[u8], limits: RequestLimits) -> String {
        match all(bytes, limits).1 {
            Parsed::Broken(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_in_both_forms() {
        let (requests, rest) = all(
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\r\nset 'a b' \"\\x41\\n\\\"\" c\n*0\r\n*-1\r\n*1\r\n$0\r\n\r\n*1\r\n$4\r\nPI",
            LIMITS,
        );
        let word = |text: &str| text.as_bytes().to_vec();
        let expected = [
            vec![word("GET"), word("k")],
            vec![word("set"), word("a b"), word("A\n\""), word("c")],
            vec![word("")],
        ];
        assert_eq!(requests, expected);
        assert_eq!(rest, Parsed::Incomplete);
    }

    #[test]
    fn any_split_gives_the_same() {
        let whole = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$10\r\n0123456789\r\n";
        for cut in 0..whole.len() {
            let mut partial = Partial::default();
            let mut spans = Vec::new();
            let head = &whole[..cut];
            assert_eq!(parse(head, 0, &mut partial, &mut spans, LIMITS), Parsed::Incomplete, "at {cut}");
            assert!(spans.is_empty());
            // What was found counts from the request's beginning, wherever that moves.
            let moved = [b"xyz", &whole[..]].concat();
            assert_eq!(parse(&moved, 3, &mut partial, &mut spans, LIMITS), Parsed::Request(moved.len()));
            assert_eq!(spans.len(), 3);
            assert_eq!(&moved[spans[2].0 as usize..spans[2].1 as usize], b"0123456789");
        }
    }

    #[test]
    fn errors_are_worded_as_redis_does() {
        let unknown = RequestLimits { authenticated: false, ..LIMITS };
        assert_eq!(broken(b"*3\r\nfooz\r\n", LIMITS), "Protocol error: expected '$', got 'f'");
        assert_eq!(broken(b"*20000000000\r\n", LIMITS), "Protocol error: invalid multibulk length");
        assert_eq!(broken(b"*1x\r\n", LIMITS), "Protocol error: invalid multibulk length");
        assert_eq!(
            broken(b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n", LIMITS),
            "Protocol error: invalid bulk length"
        );
        assert_eq!(broken(b"*1\r\n$-5\r\n", LIMITS), "Protocol error: invalid bulk length");
        assert_eq!(broken(b"*1\r\n$blabla\r\n", LIMITS), "Protocol error: invalid bulk length");
        assert_eq!(broken(b"*11\r\n", unknown), "Protocol error: unauthenticated multibulk length");
        assert_eq!(broken(b"*1\r\n$16385\r\n", unknown), "Protocol error: unauthenticated bulk length");
        assert_eq!(broken(b"set \"\"\"a\n", LIMITS), "Protocol error: unbalanced quotes in request");
        assert_eq!(broken(&[b'x'; INLINE_LEN_MAX + 1], LIMITS), "Protocol error: too big inline request");
        let endless = [b"*1\r\n$".to_vec(), vec![b'1'; INLINE_LEN_MAX + 1]].concat();
        assert_eq!(broken(&endless, LIMITS), "Protocol error: too big bulk count string");
    }

    #[test]
    fn a_long_argument_says_what_it_needs() {
        let mut partial = Partial::default();
        let head = b"*1\r\n$1000000\r\nabc".to_vec();
        parse(&head, 0, &mut partial, &mut Vec::new(), LIMITS);
        assert_eq!(partial.needed(), head.len() - 3 + 1_000_000 + 2);
    }
}
