//! An incremental parser of client requests: multibulk and inline, with limits on every length.
//!
//! Arguments are spans of the read buffer; nothing is copied. A request that is not complete yet leaves its progress in a
//! [`Partial`], so that a large one is not parsed again with every read. Error texts are Redis's.

use mortise_sdk::resp::encode;
use mortise_sdk::{Error, words};

use crate::engine::args::Span;

/// The longest line (inline request, or a count) that is waited for.
pub const INLINE_LEN_MAX: usize = 64 * 1024;
const MULTIBULK_LEN_INVALID: i64 = i32::MAX as i64 + 1;
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
    /// Where the argument begins that is not complete; 0 if that is not known.
    body: usize,
}

/// For how many arguments of a request that comes in pieces room is kept.
const SPANS_KEPT: usize = 64;

/// An argument from which on Redis holds no more than the argument itself.
const LARGE_LEN_MIN: usize = 32 * 1024;

impl Partial {
    /// How many bytes, counted from the request's first one, are known to be needed.
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// How many bytes a request will have that has a large argument, as far as it has said; nothing for other requests.
    pub fn announced(&self) -> usize {
        if self.needed - self.body >= LARGE_LEN_MIN { self.needed } else { 0 }
    }

    /// Whether the argument that is not complete is the request's last one.
    pub fn is_last(&self) -> bool {
        self.args_left == 1
    }

    /// How many of the bytes that are there do not count as waiting to be read: those before the first argument that is
    /// large.
    pub fn head_len(&self) -> usize {
        const HEAD_LEN_MAX: usize = 1024;
        let is_large = self.needed - self.body >= LARGE_LEN_MIN && self.body < HEAD_LEN_MAX;
        if is_large { self.body } else { 0 }
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
    Broken(Error),
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
    let mut ahead = if partial.args_left > 0 {
        partial.resume(start, spans)
    } else {
        match buffer.get(start) {
            None => return Parsed::Incomplete,
            Some(b'*') => {}
            Some(_) => return inline(buffer, start, spans),
        }
        match header(buffer, start + 1, "ERR Protocol error: too big mbulk count string") {
            Ok(Some((count, at))) => match multibulk_len(count, limits) {
                Ok(args_left) => Ahead { at, args_left },
                Err(error) => return Parsed::Broken(error),
            },
            Ok(None) => return Parsed::Incomplete,
            Err(error) => return Parsed::Broken(error),
        }
    };
    match arguments(buffer, &mut ahead, spans, limits) {
        Ok(Found::All) => {
            partial.args_left = 0;
            partial.spans.shrink_to(SPANS_KEPT);
            (partial.needed, partial.body) = (0, 0);
            Parsed::Request(ahead.at)
        }
        Ok(Found::UpTo(needed, body)) => {
            partial.keep(start, &ahead, spans.drain(first_span..));
            partial.needed = needed.saturating_sub(start);
            partial.body = body.saturating_sub(start);
            Parsed::Incomplete
        }
        Err(error) => Parsed::Broken(error),
    }
}

/// What is still to be read of a request.
struct Ahead {
    at: usize,
    args_left: usize,
}

impl Partial {
    /// Goes on: what was found before counts from the request's first byte, and the buffer may have moved since.
    fn resume(&mut self, start: usize, spans: &mut Vec<Span>) -> Ahead {
        let base = start as u32;
        spans.extend(self.spans.drain(..).map(|(from, to)| (from + base, to + base)));
        Ahead { at: start + self.at, args_left: self.args_left }
    }

    fn keep(&mut self, start: usize, ahead: &Ahead, found: impl Iterator<Item = Span>) {
        let base = start as u32;
        self.spans.extend(found.map(|(from, to)| (from - base, to - base)));
        self.args_left = ahead.args_left;
        self.at = ahead.at - start;
    }
}

/// How many arguments are there.
enum Found {
    All,
    /// Not all; and the buffer must reach that far before going on makes sense. Where the argument begins that is not
    /// complete.
    UpTo(usize, usize),
}

/// Appends the spans of arguments until none is left or the buffer ends.
#[inline(always)]
fn arguments(
    buffer: &[u8],
    ahead: &mut Ahead,
    spans: &mut Vec<Span>,
    limits: RequestLimits,
) -> Result<Found, Error> {
    while ahead.args_left > 0 {
        if let Some((next, end)) = short_argument(buffer, ahead.at)
            && (end - next) as i64 <= limits.bulk_len_max
        {
            spans.push((next as u32, end as u32));
            *ahead = Ahead { at: end + 2, args_left: ahead.args_left - 1 };
            continue;
        }
        match buffer.get(ahead.at) {
            Some(b'$') => {}
            Some(_) => return no_bulk(&buffer[ahead.at..]),
            None => return Ok(Found::UpTo(0, 0)),
        }
        let too_long = "ERR Protocol error: too big bulk count string";
        let Some((len, next)) = header(buffer, ahead.at + 1, too_long)? else { return Ok(Found::UpTo(0, 0)) };
        let Some(len) = len.filter(|len| (0..=limits.bulk_len_max).contains(len)) else {
            return Err(Error::new("ERR Protocol error: invalid bulk length"));
        };
        if !limits.authenticated && len > UNAUTHENTICATED_BULK_LEN_MAX {
            return Err(Error::new("ERR Protocol error: unauthenticated bulk length"));
        }
        let end = next + len as usize;
        if end + 2 > buffer.len() {
            return Ok(Found::UpTo(end + 2, next));
        }
        spans.push((next as u32, end as u32));
        *ahead = Ahead { at: end + 2, args_left: ahead.args_left - 1 };
    }
    Ok(Found::All)
}

/// The usual case, of an argument of less than a hundred bytes that is there: where its bytes begin and end.
#[inline(always)]
fn short_argument(buffer: &[u8], at: usize) -> Option<(usize, usize)> {
    let digit = |byte: u8| usize::from(byte.wrapping_sub(b'0'));
    let &[b'$', first, second, third, ..] = buffer.get(at..)?.first_chunk::<6>()? else { return None };
    let (len, next) = match (digit(first), second) {
        (len @ 0..=9, b'\r') => (len, at + 4),
        (tens @ 1..=9, _) if digit(second) < 10 && third == b'\r' => (tens * 10 + digit(second), at + 5),
        _ => return None,
    };
    (next + len + 2 <= buffer.len()).then_some((next, next + len))
}

/// Where an argument should begin, something else does: the error, as soon as its line is complete.
#[cold]
fn no_bulk(line: &[u8]) -> Result<Found, Error> {
    match line_len(line, b'\r', "ERR Protocol error: too big bulk count string")? {
        Some(_) => Err(Error::text([b"ERR Protocol error: expected '$', got '", &line[..1], b"'"].concat())),
        None => Ok(Found::UpTo(0, 0)),
    }
}

/// How long a line is up to the byte that ends it, if that is there. A NUL hides what follows, as Redis looks for the end
/// of a C text.
#[cold]
fn line_len(line: &[u8], end: u8, too_long: &'static str) -> Result<Option<usize>, Error> {
    let seen = &line[..line.len().min(INLINE_LEN_MAX + 1)];
    match seen.iter().position(|byte| *byte == end || *byte == 0) {
        Some(len) if line[len] == end => Ok(Some(len)),
        _ if line.len() > INLINE_LEN_MAX => Err(Error::new(too_long)),
        _ => Ok(None),
    }
}

/// How many arguments are announced. A number below zero announces none.
fn multibulk_len(count: Option<i64>, limits: RequestLimits) -> Result<usize, Error> {
    match count {
        Some(count) if count <= 0 => Ok(0),
        None | Some(MULTIBULK_LEN_INVALID..) => {
            Err(Error::new("ERR Protocol error: invalid multibulk length"))
        }
        Some(count) if !limits.authenticated && count > UNAUTHENTICATED_ARGS_MAX => {
            Err(Error::new("ERR Protocol error: unauthenticated multibulk length"))
        }
        Some(count) => Ok(count as usize),
    }
}

/// Reads a number and the line end behind it: the number (none if it is no number) and where the next line begins;
/// nothing if the line is not complete.
#[inline(always)]
fn header(buffer: &[u8], from: usize, too_long: &'static str) -> Result<Option<(Option<i64>, usize)>, Error> {
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
fn slow_header(
    buffer: &[u8],
    from: usize,
    too_long: &'static str,
) -> Result<Option<(Option<i64>, usize)>, Error> {
    let line = &buffer[from.min(buffer.len())..];
    let Some(end) = line_len(line, b'\r', too_long)?.filter(|end| end + 1 < line.len()) else {
        return Ok(None);
    };
    Ok(Some((mortise_sdk::args::parse_integer(&line[..end]), from + end + 2)))
}

/// An inline request: words in a line, quoted as in a shell.
#[cold]
fn inline(buffer: &[u8], start: usize, spans: &mut Vec<Span>) -> Parsed {
    let line = &buffer[start..];
    let len = match line_len(line, b'\n', "ERR Protocol error: too big inline request") {
        Ok(Some(len)) => len,
        Ok(None) => return Parsed::Incomplete,
        Err(error) => return Parsed::Broken(error),
    };
    let next = start + len + 1;
    let line = line[..len].strip_suffix(b"\r").unwrap_or(&line[..len]);
    if line.iter().any(|byte| matches!(byte, b'"' | b'\'')) {
        return match words::split_words(line) {
            Some(words) => Parsed::Quoted(next, encode::request(words.iter().map(Vec::as_slice))),
            None => Parsed::Broken(Error::new("ERR Protocol error: unbalanced quotes in request")),
        };
    }
    let mut at = 0;
    while let Some((from, to)) = words::plain_word(line, at) {
        spans.push(((start + from) as u32, (start + to) as u32));
        at = to;
    }
    Parsed::Request(next)
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
            Parsed::Broken(error) => error.to_string(),
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
        assert_eq!(broken(b"*3\r\nfooz\r\n", LIMITS), "ERR Protocol error: expected '$', got 'f'");
        assert_eq!(broken(b"*1\r\n\r\n", LIMITS), "ERR Protocol error: expected '$', got ' '");
        let raw = Error::text(b"ERR Protocol error: expected '$', got '\x80'".to_vec());
        assert_eq!(all(b"*1\r\n\x80\r", LIMITS).1, Parsed::Broken(raw));
        assert_eq!(broken(b"*20000000000\r\n", LIMITS), "ERR Protocol error: invalid multibulk length");
        assert_eq!(broken(b"*1x\r\n", LIMITS), "ERR Protocol error: invalid multibulk length");
        assert_eq!(
            broken(b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n", LIMITS),
            "ERR Protocol error: invalid bulk length"
        );
        assert_eq!(broken(b"*1\r\n$-5\r\n", LIMITS), "ERR Protocol error: invalid bulk length");
        assert_eq!(broken(b"*1\r\n$blabla\r\n", LIMITS), "ERR Protocol error: invalid bulk length");
        assert_eq!(broken(b"*11\r\n", unknown), "ERR Protocol error: unauthenticated multibulk length");
        assert_eq!(broken(b"*1\r\n$16385\r\n", unknown), "ERR Protocol error: unauthenticated bulk length");
        assert_eq!(broken(b"set \"\"\"a\n", LIMITS), "ERR Protocol error: unbalanced quotes in request");
        assert_eq!(broken(&[b'x'; INLINE_LEN_MAX + 1], LIMITS), "ERR Protocol error: too big inline request");
        let endless = [b"*1\r\n$".to_vec(), vec![b'1'; INLINE_LEN_MAX + 1]].concat();
        assert_eq!(broken(&endless, LIMITS), "ERR Protocol error: too big bulk count string");
    }

    #[test]
    fn a_line_that_is_not_complete_is_waited_for() {
        for bytes in [&b"*1\r\nfoo"[..], b"*1\r\n\0\r\n", b"*1\r\n$\0\r\n", b"*\0\r\n", b"PING a\0b\r\n"] {
            assert_eq!(all(bytes, LIMITS), (vec![], Parsed::Incomplete), "{bytes:?}");
        }
    }

    #[test]
    fn a_long_argument_says_what_it_needs() {
        let mut partial = Partial::default();
        let head = b"*1\r\n$1000000\r\nabc".to_vec();
        parse(&head, 0, &mut partial, &mut Vec::new(), LIMITS);
        assert_eq!(partial.needed(), head.len() - 3 + 1_000_000 + 2);
        assert_eq!(partial.announced(), partial.needed());
    }
}
