//! Reading replies: RESP2 and RESP3, incrementally, from a buffer that may end anywhere.
//!
//! What comes from the wire is not believed: lengths and depth have limits, and nothing is allocated for elements
//! that have not arrived.

use crate::args::parse_integer;

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK`
    Simple(Vec<u8>),
    /// `-ERR …`, or a blob error `!`; without its mark.
    Error(Vec<u8>),
    /// `:1`
    Integer(i64),
    /// A bulk string.
    Bulk(Vec<u8>),
    /// The absence of a value, in any of its three forms.
    Null,
    /// `*`
    Array(Vec<Reply>),
    /// `%`
    Map(Vec<(Reply, Reply)>),
    /// `~`
    Set(Vec<Reply>),
    /// `>`
    Push(Vec<Reply>),
    /// `,1.5`
    Double(f64),
    /// `#t`
    Boolean(bool),
    /// `(123`, as its digits.
    BigNumber(Vec<u8>),
    /// `=7\r\ntxt:…`
    Verbatim {
        /// Three letters.
        format: [u8; 3],
        /// The text after the colon.
        text: Vec<u8>,
    },
    /// `|`: attributes, and the reply that they belong to.
    Attributed {
        /// The attributes.
        attributes: Vec<(Reply, Reply)>,
        /// The reply itself.
        reply: Box<Reply>,
    },
}

impl Reply {
    /// The bytes of a string of any kind.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Simple(bytes) | Reply::Bulk(bytes) | Reply::BigNumber(bytes) => Some(bytes),
            Reply::Verbatim { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The elements of an array, a set or a push.
    pub fn as_elements(&self) -> Option<&[Reply]> {
        match self {
            Reply::Array(elements) | Reply::Set(elements) | Reply::Push(elements) => Some(elements),
            _ => None,
        }
    }
}

/// Why bytes are no reply. Nothing can be read from the connection after one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The first byte of an element names no type.
    UnknownType(u8),
    /// A line is not what its type wants.
    Malformed,
    /// A string, line or number of elements is over the limit.
    TooLong,
    /// Elements are nested too deeply.
    TooDeep,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::UnknownType(byte) => write!(f, "no reply begins with '{}'", byte.escape_ascii()),
            DecodeError::Malformed => f.write_str("malformed reply"),
            DecodeError::TooLong => f.write_str("reply too long"),
            DecodeError::TooDeep => f.write_str("reply nested too deeply"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// What a reply may measure at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Nested aggregates.
    pub depth: usize,
    /// Bytes of one string or line.
    pub string: usize,
    /// Elements of one aggregate (a map's pairs count as two).
    pub elements: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { depth: 64, string: 512 << 20, elements: 1 << 31 }
    }
}

/// Reads one reply from the beginning of `input`, and says how many bytes it took; `None` if its end is still to come.
pub fn decode(input: &[u8]) -> Result<Option<(Reply, usize)>, DecodeError> {
    decode_within(input, &Limits::default())
}

/// [`decode`] with limits of one's own.
pub fn decode_within(input: &[u8], limits: &Limits) -> Result<Option<(Reply, usize)>, DecodeError> {
    let mut reader = Reader { input, at: 0, limits };
    match reader.reply(limits.depth) {
        Ok(reply) => Ok(Some((reply, reader.at))),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Wrong(error)) => Err(error),
    }
}

/// Why reading stopped before the end of a reply.
enum Stop {
    Incomplete,
    Wrong(DecodeError),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Stop {
        Stop::Wrong(error)
    }
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    limits: &'a Limits,
}

impl<'a> Reader<'a> {
    fn reply(&mut self, depth: usize) -> Result<Reply, Stop> {
        let kind = *self.input.get(self.at).ok_or(Stop::Incomplete)?;
        if !b"+-:$*_%~>,#(=!|".contains(&kind) {
            return Err(DecodeError::UnknownType(kind).into());
        }
        self.at += 1;
        let line = self.line()?;
        Ok(match kind {
            b'+' => Reply::Simple(line.to_vec()),
            b'-' => Reply::Error(line.to_vec()),
            b':' => Reply::Integer(integer(line)?),
            b'_' if line.is_empty() => Reply::Null,
            b'#' if line == b"t" => Reply::Boolean(true),
            b'#' if line == b"f" => Reply::Boolean(false),
            b',' => Reply::Double(double(line)?),
            b'(' if is_number(line) => Reply::BigNumber(line.to_vec()),
            b'$' | b'*' if line == b"-1" => Reply::Null,
            b'$' => Reply::Bulk(self.string(line)?.to_vec()),
            b'!' => Reply::Error(self.string(line)?.to_vec()),
            b'=' => match self.string(line)? {
                [a, b, c, b':', text @ ..] => Reply::Verbatim { format: [*a, *b, *c], text: text.to_vec() },
                _ => return Err(DecodeError::Malformed.into()),
            },
            b'*' => Reply::Array(self.elements(line, depth)?),
            b'~' => Reply::Set(self.elements(line, depth)?),
            b'>' => Reply::Push(self.elements(line, depth)?),
            b'%' => Reply::Map(self.pairs(line, depth)?),
            b'|' => {
                let attributes = self.pairs(line, depth)?;
                Reply::Attributed { attributes, reply: Box::new(self.reply(depth - 1)?) }
            }
            _ => return Err(DecodeError::Malformed.into()),
        })
    }

    /// Up to the next line end, which is consumed.
    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.input[self.at..];
        // Only what the limit allows is searched.
        let window = &rest[..rest.len().min(self.limits.string.saturating_add(1))];
        match window.iter().position(|&byte| byte == b'\r') {
            Some(end) => match rest.get(end + 1) {
                Some(b'\n') => {
                    self.at += end + 2;
                    Ok(&rest[..end])
                }
                Some(_) => Err(DecodeError::Malformed.into()),
                None => Err(Stop::Incomplete),
            },
            None if window.len() > self.limits.string => Err(DecodeError::TooLong.into()),
            None => Err(Stop::Incomplete),
        }
    }

    /// As many bytes as `header` says, and a line end.
    fn string(&mut self, header: &[u8]) -> Result<&'a [u8], Stop> {
        let len = length(header, self.limits.string)?;
        let rest = &self.input[self.at..];
        let bytes = rest.get(..len).ok_or(Stop::Incomplete)?;
        match &rest[len..] {
            [b'\r', b'\n', ..] => {
                self.at += len + 2;
                Ok(bytes)
            }
            [] | [b'\r'] => Err(Stop::Incomplete),
            _ => Err(DecodeError::Malformed.into()),
        }
    }

    fn elements(&mut self, header: &[u8], depth: usize) -> Result<Vec<Reply>, Stop> {
        let len = length(header, self.limits.elements)?;
        let inner = depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
        let mut elements = Vec::with_capacity(self.plausible(len, 1));
        for _ in 0..len {
            elements.push(self.reply(inner)?);
        }
        Ok(elements)
    }

    fn pairs(&mut self, header: &[u8], depth: usize) -> Result<Vec<(Reply, Reply)>, Stop> {
        let len = length(header, self.limits.elements / 2)?;
        let inner = depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
        let mut pairs = Vec::with_capacity(self.plausible(len, 2));
        for _ in 0..len {
            let key = self.reply(inner)?;
            pairs.push((key, self.reply(inner)?));
        }
        Ok(pairs)
    }

    /// How many elements to make room for: no more than the bytes at hand can hold (an element has three at least),
    /// and no more than a page at first, as nested headers may each claim the same bytes.
    fn plausible(&self, len: usize, each: usize) -> usize {
        len.min((self.input.len() - self.at) / (3 * each)).min(64)
    }
}

fn integer(line: &[u8]) -> Result<i64, DecodeError> {
    // A plus is allowed here, as the protocol's description has it.
    let digits = line.strip_prefix(b"+").filter(|rest| !rest.starts_with(b"-")).unwrap_or(line);
    parse_integer(digits).ok_or(DecodeError::Malformed)
}

fn length(line: &[u8], limit: usize) -> Result<usize, DecodeError> {
    let len = parse_integer(line).ok_or(DecodeError::Malformed)?;
    let len = usize::try_from(len).map_err(|_| DecodeError::Malformed)?;
    if len > limit { Err(DecodeError::TooLong) } else { Ok(len) }
}

fn double(line: &[u8]) -> Result<f64, DecodeError> {
    match line {
        b"inf" | b"+inf" => Ok(f64::INFINITY),
        b"-inf" => Ok(f64::NEG_INFINITY),
        b"nan" | b"-nan" => Ok(f64::NAN),
        _ if line.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) => {
            let text = std::str::from_utf8(line).map_err(|_| DecodeError::Malformed)?;
            text.parse().map_err(|_| DecodeError::Malformed)
        }
        _ => Err(DecodeError::Malformed),
    }
}

fn is_number(line: &[u8]) -> bool {
    let digits = line.strip_prefix(b"-").or(line.strip_prefix(b"+")).unwrap_or(line);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.as_bytes().to_vec())
    }

    #[test]
    fn every_type() {
        let cases: [(&str, Reply); 21] = [
            ("+OK\r\n", Reply::Simple(b"OK".to_vec())),
            ("-ERR no\r\n", Reply::Error(b"ERR no".to_vec())),
            ("!6\r\nERR no\r\n", Reply::Error(b"ERR no".to_vec())),
            (":-12\r\n", Reply::Integer(-12)),
            (":+12\r\n", Reply::Integer(12)),
            ("$3\r\na\r\n\r\n", bulk("a\r\n")),
            ("$0\r\n\r\n", bulk("")),
            ("$-1\r\n", Reply::Null),
            ("*-1\r\n", Reply::Null),
            ("_\r\n", Reply::Null),
            ("*2\r\n:1\r\n$1\r\nx\r\n", Reply::Array(vec![Reply::Integer(1), bulk("x")])),
            ("*0\r\n", Reply::Array(vec![])),
            ("%1\r\n+a\r\n:1\r\n", Reply::Map(vec![(Reply::Simple(b"a".to_vec()), Reply::Integer(1))])),
            ("~1\r\n:1\r\n", Reply::Set(vec![Reply::Integer(1)])),
            (">1\r\n:1\r\n", Reply::Push(vec![Reply::Integer(1)])),
            (",1.5\r\n", Reply::Double(1.5)),
            (",-inf\r\n", Reply::Double(f64::NEG_INFINITY)),
            ("#t\r\n", Reply::Boolean(true)),
            ("(-123\r\n", Reply::BigNumber(b"-123".to_vec())),
            ("=6\r\ntxt:hi\r\n", Reply::Verbatim { format: *b"txt", text: b"hi".to_vec() }),
            (
                "|1\r\n+a\r\n:1\r\n:2\r\n",
                Reply::Attributed {
                    attributes: vec![(Reply::Simple(b"a".to_vec()), Reply::Integer(1))],
                    reply: Box::new(Reply::Integer(2)),
                },
            ),
        ];
        for (input, reply) in cases {
            let mut longer = input.as_bytes().to_vec();
            longer.extend_from_slice(b"+next");
            assert_eq!(decode(&longer), Ok(Some((reply, input.len()))), "{input:?}");
            for end in 0..input.len() {
                assert_eq!(decode(&input.as_bytes()[..end]), Ok(None), "{input:?} cut at {end}");
            }
        }
    }

    #[test]
    fn refusals() {
        use DecodeError::*;
        for (input, error) in [
            ("?\r\n", UnknownType(b'?')),
            (":1x\r\n", Malformed),
            (":+-1\r\n", Malformed),
            ("+a\rb\r\n", Malformed),
            ("$-2\r\n", Malformed),
            ("$1\r\nab\r\n", Malformed),
            ("$99999999999\r\n", TooLong),
            ("*99999999999\r\n", TooLong),
            ("#x\r\n", Malformed),
            ("=2\r\nab\r\n", Malformed),
            ("(\r\n", Malformed),
            (",1.5x\r\n", Malformed),
        ] {
            assert_eq!(decode(input.as_bytes()), Err(error), "{input:?}");
        }
    }

    #[test]
    fn depth_is_limited() {
        let deep = |levels| [b"*1\r\n".repeat(levels), b":1\r\n".to_vec()].concat();
        assert!(matches!(decode(&deep(64)), Ok(Some(_))));
        assert_eq!(decode(&deep(65)), Err(DecodeError::TooDeep));
        assert_eq!(decode(&b"|0\r\n".repeat(100_000)), Err(DecodeError::TooDeep));
    }

    #[test]
    fn lengths_are_not_believed() {
        // Claims 2^31 elements; nothing near that is allocated, as nothing has arrived.
        assert_eq!(decode(b"*2147483648\r\n"), Ok(None));
        let limits = Limits { string: 4, ..Limits::default() };
        assert_eq!(decode_within(b"+12345", &limits), Err(DecodeError::TooLong));
        assert_eq!(decode_within(b"$5\r\n", &limits), Err(DecodeError::TooLong));
        assert!(matches!(decode_within(b"+1234\r\n", &limits), Ok(Some(_))));
    }
}
