//! Counts the replies in a stream of bytes, without building them.
//!
//! RESP2 and RESP3. A reply may arrive in any number of pieces; nothing is allocated for one that arrives
//! whole. Errors are counted, and the first is kept, so that an error is never mistaken for an answer.

use std::io;

/// No status line or length is longer than this.
const LINE_MAX: usize = 64 * 1024;

/// The state between two reads of one connection.
#[derive(Debug, Default)]
pub struct Replies {
    /// Bytes of a bulk string, its line end included, that are still to come.
    skip: u64,
    /// Elements of the current reply that are not complete; zero between replies.
    open: u64,
    /// A line that is not complete.
    partial: Vec<u8>,
    errors: u64,
    first_error: Option<String>,
}

impl Replies {
    /// Reads on; returns how many replies became complete.
    pub fn feed(&mut self, data: &[u8]) -> io::Result<u64> {
        let mut rest = data;
        let mut complete = 0;
        loop {
            if self.skip > 0 {
                let step = self.skip.min(rest.len() as u64);
                self.skip -= step;
                rest = &rest[step as usize..];
                if self.skip > 0 {
                    return Ok(complete);
                }
                complete += self.close_element();
            }
            if rest.is_empty() {
                return Ok(complete);
            }
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                self.partial.extend_from_slice(rest);
                if self.partial.len() > LINE_MAX {
                    return Err(malformed(&self.partial[..32]));
                }
                return Ok(complete);
            };
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            complete += if self.partial.is_empty() {
                self.line(line)?
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.line(&whole)?
            };
        }
    }

    /// How many errors came, nested ones included.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// The first error that came.
    pub fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// Handles a line without its `\n`; returns 1 if it completes a reply.
    fn line(&mut self, line: &[u8]) -> io::Result<u64> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some((&kind, text)) = line.split_first() else { return Err(malformed(line)) };
        if self.open == 0 {
            self.open = 1;
        }
        match kind {
            b'+' | b':' | b'_' | b'#' | b',' | b'(' => {}
            b'-' => self.note_error(text),
            b'$' | b'=' | b'!' => {
                if kind == b'!' {
                    self.note_error(b"an error as a bulk string");
                }
                if let Some(length) = length(text)? {
                    self.skip = length + 2;
                    return Ok(0);
                }
            }
            b'*' | b'~' | b'>' => self.open += length(text)?.unwrap_or(0),
            b'%' => self.open += 2 * length(text)?.unwrap_or(0),
            b'|' => {
                // An attribute stands before the element it describes: it opens pairs and closes nothing.
                self.open += 2 * length(text)?.unwrap_or(0);
                return Ok(0);
            }
            _ => return Err(malformed(line)),
        }
        Ok(self.close_element())
    }

    fn close_element(&mut self) -> u64 {
        self.open -= 1;
        u64::from(self.open == 0)
    }

    fn note_error(&mut self, text: &[u8]) {
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some(String::from_utf8_lossy(text).into_owned());
        }
    }
}

/// A length; `None` is the null of RESP2, -1.
fn length(text: &[u8]) -> io::Result<Option<u64>> {
    if text == b"-1" {
        return Ok(None);
    }
    let plain = !text.is_empty() && text.len() <= 10 && text.iter().all(u8::is_ascii_digit);
    if !plain {
        return Err(malformed(text));
    }
    Ok(Some(text.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'))))
}

fn malformed(bytes: &[u8]) -> io::Error {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
    io::Error::new(io::ErrorKind::InvalidData, format!("not a reply: {shown:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eleven replies of every kind, nested and empty.
    const STREAM: &[u8] =
        b"+OK\r\n:12\r\n$-1\r\n$5\r\na\r\nbc\r\n*0\r\n*-1\r\n*2\r\n*1\r\n$0\r\n\r\n-ERR inner\r\n\
        %1\r\n+k\r\n*2\r\n:1\r\n:2\r\n-ERR outer\r\n|1\r\n+ttl\r\n:3\r\n_\r\n>3\r\n+message\r\n+a\r\n#t\r\n";

    #[test]
    fn replies_are_counted_however_they_are_cut() {
        for step in 1..STREAM.len() {
            let mut replies = Replies::default();
            let count: u64 = STREAM.chunks(step).map(|piece| replies.feed(piece).unwrap()).sum();
            assert_eq!((count, replies.errors()), (11, 2), "in pieces of {step}");
            assert_eq!(replies.first_error(), Some("ERR inner"));
        }
    }

    #[test]
    fn an_incomplete_reply_is_not_counted() {
        let mut replies = Replies::default();
        assert_eq!(replies.feed(b"*2\r\n:1\r\n$3\r\nab").unwrap(), 0);
        assert_eq!(replies.feed(b"c\r").unwrap(), 0);
        assert_eq!(replies.feed(b"\n").unwrap(), 1);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for bytes in [&b"hello\r\n"[..], b"\r\n", b"$x\r\n", b"*-2\r\n", b"$99999999999\r\n"] {
            assert!(Replies::default().feed(bytes).is_err(), "{bytes:?}");
        }
        assert!(Replies::default().feed(&[b'+'; LINE_MAX + 1]).is_err());
    }
}
