//! Writing replies: each function appends one element to a buffer.
//!
//! Functions that take a [`Version`] write what that version of the protocol knows; the others are the same in both.
//! Who speaks RESP2 and uses an element of RESP3 gets its usual stand-in: a map is a flat array, a set and a push are
//! arrays, a boolean is an integer, doubles, big numbers and verbatim strings are bulk strings.

use super::number::{append_line, format_double, format_integer};

/// The version of the protocol that a connection has agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The version everyone begins with.
    #[default]
    Resp2,
    /// The version with types, agreed on by HELLO 3.
    Resp3,
}

/// A status: `+OK`. The text holds no line ends.
#[inline]
pub fn simple(out: &mut Vec<u8>, text: &str) {
    line(out, b'+', text.as_bytes());
}

/// An error: its code and message, without the `-`. Line ends within become spaces.
pub fn error(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    out.reserve(text.len() + 3);
    out.push(b'-');
    out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    out.extend_from_slice(b"\r\n");
}

/// An integer.
#[inline]
pub fn integer(out: &mut Vec<u8>, value: i64) {
    append_line(out, b':', value);
}

/// A bulk string.
#[inline]
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 16);
    header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// An integer as a bulk string.
#[inline]
pub fn bulk_integer(out: &mut Vec<u8>, value: i64) {
    bulk(out, format_integer(value).as_bytes());
}

/// The absence of a value.
#[inline]
pub fn null(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(match version {
        Version::Resp2 => b"$-1\r\n",
        Version::Resp3 => b"_\r\n",
    });
}

/// The absence of an array.
#[inline]
pub fn null_array(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(match version {
        Version::Resp2 => b"*-1\r\n",
        Version::Resp3 => b"_\r\n",
    });
}

/// An array; `len` elements follow.
#[inline]
pub fn array(out: &mut Vec<u8>, len: usize) {
    header(out, b'*', len);
}

/// A request: an array of bulk strings.
pub fn request<'a>(words: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    append_request(&mut out, words);
    out
}

/// The same behind what is there.
#[inline]
pub fn append_request<'a>(out: &mut Vec<u8>, words: impl ExactSizeIterator<Item = &'a [u8]>) {
    array(out, words.len());
    words.for_each(|word| bulk(out, word));
}

/// A map; `len` pairs follow.
#[inline]
pub fn map(out: &mut Vec<u8>, version: Version, len: usize) {
    match version {
        Version::Resp2 => header(out, b'*', len * 2),
        Version::Resp3 => header(out, b'%', len),
    }
}

/// A set; `len` elements follow.
#[inline]
pub fn set(out: &mut Vec<u8>, version: Version, len: usize) {
    aggregate(out, version, b'~', len);
}

/// A message that answers no request; `len` elements follow.
#[inline]
pub fn push(out: &mut Vec<u8>, version: Version, len: usize) {
    aggregate(out, version, b'>', len);
}

/// Attributes of the reply that comes next; `len` pairs follow. RESP3 only.
#[inline]
pub fn attributes(out: &mut Vec<u8>, len: usize) {
    header(out, b'|', len);
}

/// A boolean.
#[inline]
pub fn boolean(out: &mut Vec<u8>, version: Version, value: bool) {
    out.extend_from_slice(match (version, value) {
        (Version::Resp2, false) => b":0\r\n",
        (Version::Resp2, true) => b":1\r\n",
        (Version::Resp3, false) => b"#f\r\n",
        (Version::Resp3, true) => b"#t\r\n",
    });
}

/// A double, written as [`format_double`] does.
#[inline]
pub fn double(out: &mut Vec<u8>, version: Version, value: f64) {
    let text = format_double(value);
    match version {
        Version::Resp2 => bulk(out, text.as_bytes()),
        Version::Resp3 => line(out, b',', text.as_bytes()),
    }
}

/// A double whose text was made elsewhere (INCRBYFLOAT shows an [`Extended`](crate::extended::Extended)).
#[inline]
pub fn double_text(out: &mut Vec<u8>, version: Version, text: &[u8]) {
    match version {
        Version::Resp2 => bulk(out, text),
        Version::Resp3 => line(out, b',', text),
    }
}

/// A number of any size, given as its decimal digits.
#[inline]
pub fn big_number(out: &mut Vec<u8>, version: Version, digits: &[u8]) {
    match version {
        Version::Resp2 => bulk(out, digits),
        Version::Resp3 => line(out, b'(', digits),
    }
}

/// Text for people, in a format of three letters: `txt` or `mkd`.
pub fn verbatim(out: &mut Vec<u8>, version: Version, format: &[u8; 3], text: &[u8]) {
    match version {
        Version::Resp2 => bulk(out, text),
        Version::Resp3 => {
            out.reserve(text.len() + 20);
            header(out, b'=', text.len() + 4);
            out.extend_from_slice(format);
            out.push(b':');
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[inline]
fn aggregate(out: &mut Vec<u8>, version: Version, kind: u8, len: usize) {
    header(out, if version == Version::Resp3 { kind } else { b'*' }, len);
}

#[inline]
fn header(out: &mut Vec<u8>, kind: u8, len: usize) {
    // A length in memory always fits: no allocation is larger than isize::MAX.
    append_line(out, kind, len as i64);
}

#[inline]
fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.reserve(text.len() + 3);
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::Version::{Resp2, Resp3};
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn both_versions() {
        assert_eq!(written(|out| simple(out, "OK")), "+OK\r\n");
        assert_eq!(written(|out| error(out, "ERR a\r\nb")), "-ERR a  b\r\n");
        assert_eq!(written(|out| integer(out, -12)), ":-12\r\n");
        assert_eq!(written(|out| bulk(out, b"")), "$0\r\n\r\n");
        assert_eq!(written(|out| bulk_integer(out, 100)), "$3\r\n100\r\n");
        assert_eq!(written(|out| array(out, 3)), "*3\r\n");
        assert_eq!(written(|out| attributes(out, 1)), "|1\r\n");
    }

    #[test]
    fn integers_of_every_length() {
        let powers = (0..19).map(|power| 10i64.pow(power)).flat_map(|n| [n - 1, n, n + 1]);
        for n in powers.chain([i64::MAX, i64::MIN, i64::MIN + 1, 42]) {
            for n in [n, n.wrapping_neg()] {
                assert_eq!(written(|out| integer(out, n)), format!(":{n}\r\n"));
                assert_eq!(format_integer(n).as_bytes(), n.to_string().as_bytes());
            }
        }
    }

    #[test]
    fn versions_differ() {
        type Write = fn(&mut Vec<u8>, Version);
        let cases: [(Write, &str, &str); 11] = [
            (null, "$-1\r\n", "_\r\n"),
            (null_array, "*-1\r\n", "_\r\n"),
            (|out, version| map(out, version, 2), "*4\r\n", "%2\r\n"),
            (|out, version| set(out, version, 2), "*2\r\n", "~2\r\n"),
            (|out, version| push(out, version, 3), "*3\r\n", ">3\r\n"),
            (|out, version| boolean(out, version, true), ":1\r\n", "#t\r\n"),
            (|out, version| double(out, version, 1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (|out, version| double(out, version, f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (|out, version| double_text(out, version, b"3.0"), "$3\r\n3.0\r\n", ",3.0\r\n"),
            (|out, version| big_number(out, version, b"12"), "$2\r\n12\r\n", "(12\r\n"),
            (|out, version| verbatim(out, version, b"txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
        ];
        for (write, two, three) in cases {
            assert_eq!(written(|out| write(out, Resp2)), two);
            assert_eq!(written(|out| write(out, Resp3)), three);
        }
    }
}
