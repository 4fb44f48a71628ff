//! Replies of RESP2 and RESP3, and their decoder.
//!
//! This is the only file of the harness that knows the bytes of the protocol.

use std::io::{self, BufRead, Read};

/// One reply, in the words of the protocol that carried it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK`
    Simple(Vec<u8>),
    /// `-ERR …`, or RESP3's bulk error
    Error(Vec<u8>),
    /// `:1`
    Integer(i64),
    /// `$1`
    Bulk(Vec<u8>),
    /// `$-1`: RESP2's missing value
    NullBulk,
    /// `*-1`: RESP2's missing array
    NullArray,
    /// `_`: RESP3's null
    Null,
    /// `*`
    Array(Vec<Reply>),
    /// `%`
    Map(Vec<(Reply, Reply)>),
    /// `~`
    Set(Vec<Reply>),
    /// `>`
    Push(Vec<Reply>),
    /// `,` with the text of the number, as sent
    Double(Vec<u8>),
    /// `#`
    Boolean(bool),
    /// `(`
    BigNumber(Vec<u8>),
    /// `=` with its three-letter format
    Verbatim([u8; 3], Vec<u8>),
}

/// No reply of a test nests deeper; a broken stream shall not exhaust the stack.
const DEPTH_MAX: u32 = 32;

/// No reply of a test is larger; a broken length shall not exhaust memory.
const LENGTH_MAX: usize = 1 << 30;

impl Reply {
    /// Reads one reply.
    pub fn read(from: &mut impl BufRead) -> io::Result<Reply> {
        read_nested(from, DEPTH_MAX)
    }
}

fn read_nested(from: &mut impl BufRead, depth: u32) -> io::Result<Reply> {
    if depth == 0 {
        return Err(invalid("nested too deeply", b""));
    }
    let line = read_line(from)?;
    let (kind, rest) = line.split_first().ok_or_else(|| invalid("empty line", &line))?;
    let items = |from: &mut _, count: usize| -> io::Result<Vec<Reply>> {
        (0..count).map(|_| read_nested(from, depth - 1)).collect()
    };
    Ok(match kind {
        b'+' => Reply::Simple(rest.to_vec()),
        b'-' => Reply::Error(rest.to_vec()),
        b':' => Reply::Integer(parse(rest)?),
        b'$' if rest == b"-1" => Reply::NullBulk,
        b'$' => Reply::Bulk(read_payload(from, length(rest)?)?),
        b'!' => Reply::Error(read_payload(from, length(rest)?)?),
        b'=' => {
            let payload = read_payload(from, length(rest)?)?;
            match payload.split_first_chunk::<4>() {
                Some((&[a, b, c, b':'], text)) => Reply::Verbatim([a, b, c], text.to_vec()),
                _ => return Err(invalid("verbatim string without format", &payload)),
            }
        }
        b'*' if rest == b"-1" => Reply::NullArray,
        b'*' => Reply::Array(items(from, length(rest)?)?),
        b'~' => Reply::Set(items(from, length(rest)?)?),
        b'>' => Reply::Push(items(from, length(rest)?)?),
        b'%' => {
            let mut pairs = Vec::new();
            for _ in 0..length(rest)? {
                pairs.push((read_nested(from, depth - 1)?, read_nested(from, depth - 1)?));
            }
            Reply::Map(pairs)
        }
        b'|' => {
            // Attributes stand before the reply that they describe; no command of ours sends any yet.
            items(from, 2 * length(rest)?)?;
            read_nested(from, depth - 1)?
        }
        b'_' if rest.is_empty() => Reply::Null,
        b',' => Reply::Double(rest.to_vec()),
        b'(' => Reply::BigNumber(rest.to_vec()),
        b'#' if rest == b"t" => Reply::Boolean(true),
        b'#' if rest == b"f" => Reply::Boolean(false),
        _ => return Err(invalid("unknown kind of reply", &line)),
    })
}

fn read_line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(text) => Ok(text.to_vec()),
        None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(invalid("line without its end", &line)),
    }
}

fn read_payload(from: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    from.take(length as u64 + 2).read_to_end(&mut payload)?;
    match payload.strip_suffix(b"\r\n") {
        Some(text) if text.len() == length => Ok(text.to_vec()),
        _ => Err(invalid("payload without its end", &payload)),
    }
}

fn length(text: &[u8]) -> io::Result<usize> {
    match usize::try_from(parse(text)?) {
        Ok(length) if length <= LENGTH_MAX => Ok(length),
        _ => Err(invalid("bad length", text)),
    }
}

fn parse(text: &[u8]) -> io::Result<i64> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| invalid("not a number", text))
}

fn invalid(what: &str, bytes: &[u8]) -> io::Error {
    let excerpt = &bytes[..bytes.len().min(80)];
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: \"{}\"", excerpt.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::Reply::{self, *};

    fn read(bytes: &str) -> std::io::Result<Reply> {
        Reply::read(&mut bytes.as_bytes())
    }

    #[test]
    fn every_kind_is_read() {
        let bulk = |text: &str| Bulk(text.into());
        for (bytes, reply) in [
            ("+OK\r\n", Simple(b"OK".to_vec())),
            ("-ERR no\r\n", Error(b"ERR no".to_vec())),
            ("!6\r\nERR no\r\n", Error(b"ERR no".to_vec())),
            (":-7\r\n", Integer(-7)),
            ("$4\r\na\r\nb\r\n", bulk("a\r\nb")),
            ("$0\r\n\r\n", bulk("")),
            ("$-1\r\n", NullBulk),
            ("*-1\r\n", NullArray),
            ("_\r\n", Null),
            ("*2\r\n:1\r\n*0\r\n", Array(vec![Integer(1), Array(vec![])])),
            ("%1\r\n$1\r\nk\r\n,1.5\r\n", Map(vec![(bulk("k"), Double(b"1.5".to_vec()))])),
            ("~1\r\n#t\r\n", Set(vec![Boolean(true)])),
            (">1\r\n#f\r\n", Push(vec![Boolean(false)])),
            ("(123\r\n", BigNumber(b"123".to_vec())),
            ("=6\r\ntxt:ab\r\n", Verbatim(*b"txt", b"ab".to_vec())),
            ("|1\r\n+a\r\n+b\r\n:1\r\n", Integer(1)),
        ] {
            assert_eq!(read(bytes).unwrap(), reply, "{bytes:?}");
        }
    }

    #[test]
    fn broken_replies_are_refused() {
        for bytes in
            ["", "+OK", "?1\r\n", ":x\r\n", "$3\r\nab\r\n", "$2\r\nabc\r\n", "*1\r\n", "$-2\r\n", "#x\r\n"]
        {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        assert!(read(&"*1\r\n".repeat(100_000)).is_err());
        assert!(read("$99999999999999\r\n").is_err());
    }
}
