//! Requests as they stand in a file: multibulk ones, and between them lines that begin with `#`.
//!
//! A file may end anywhere, as its writer may have been stopped anywhere. What is not all there is told apart from what is
//! something else altogether: the one is the usual end after a crash, the other a damaged file.

use std::io::{self, Read};

use super::number::leading_integer;
use crate::engine::args::Span;

/// A line that is longer is taken in pieces, as Redis takes it.
const LINE_MAX: usize = 127;
/// So much is read at a time.
const STEP: usize = 256 << 10;

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A request.
    Request,
    /// More of the file has to be read first.
    Unread,
    /// Nothing: here the file ends.
    Over,
    /// The beginning of something whose rest is missing.
    CutShort,
    /// Something that is no request.
    Malformed,
}

/// Reads requests.
pub struct Requests<'m> {
    medium: &'m mut dyn Read,
    buffer: Vec<u8>,
    at: usize,
    /// The byte of the file with which the buffer begins.
    passed: u64,
    is_over: bool,
}

/// A line, as far as it is there.
enum Line<'l> {
    /// All of it, or as much as is taken at once; and where the next one begins.
    Whole(&'l [u8], usize),
    /// What the file ends with.
    Last(&'l [u8]),
    /// Its end has not been read.
    Unread,
}

impl<'m> Requests<'m> {
    /// Reads from a medium of which some bytes have been read already, up to which others had been taken.
    pub fn new(medium: &'m mut dyn Read, read: Vec<u8>, taken: u64) -> Requests<'m> {
        Requests { medium, buffer: read, at: 0, passed: taken, is_over: false }
    }

    /// The bytes in which the arguments of requests stand, until more is read.
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Up to which byte of the buffer requests have been taken.
    pub fn taken(&self) -> usize {
        self.at
    }

    /// The byte of the file with which the buffer begins.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Up to which byte of the file requests have been taken.
    pub fn position(&self) -> u64 {
        self.passed + self.at as u64
    }

    /// Reads more of the file. What has been taken goes.
    pub fn read(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.at);
        self.passed += self.at as u64;
        self.at = 0;
        let before = self.buffer.len();
        // As much again as has come, so that a long request is not looked at over and over.
        self.buffer.resize(before + STEP.max(before), 0);
        let came = loop {
            match self.medium.read(&mut self.buffer[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                came => break came,
            }
        };
        self.buffer.truncate(before + came.as_ref().map_or(0, |came| *came));
        self.is_over = came? == 0;
        Ok(())
    }

    /// Takes the next request, whose arguments are added to the spans.
    #[inline]
    pub fn next(&mut self, spans: &mut Vec<Span>) -> Next {
        let first = spans.len();
        let next = self.request(spans);
        if next != Next::Request {
            spans.truncate(first);
        }
        next
    }

    fn line(&self, at: usize) -> Line<'_> {
        let rest = &self.buffer[at..];
        let window = &rest[..rest.len().min(LINE_MAX)];
        match window.iter().position(|byte| *byte == b'\n') {
            Some(end) => Line::Whole(&window[..=end], at + end + 1),
            None if window.len() == LINE_MAX => Line::Whole(window, at + LINE_MAX),
            None if self.is_over => Line::Last(window),
            None => Line::Unread,
        }
    }

    fn request(&mut self, spans: &mut Vec<Span>) -> Next {
        let (count, mut at) = loop {
            match self.line(self.at) {
                Line::Unread => return Next::Unread,
                Line::Last([]) => return Next::Over,
                // What is written next would become a part of it.
                Line::Last([b'#', ..] | b"*") => return Next::CutShort,
                Line::Whole([b'#', ..], next) => self.at = next,
                Line::Whole([b'*', count @ ..], next) => break (leading_integer(count), next),
                Line::Last([b'*', count @ ..]) if leading_integer(count) > 0 => return Next::CutShort,
                Line::Whole(..) | Line::Last(_) => return Next::Malformed,
            }
        };
        let Ok(count @ 1..) = i32::try_from(count) else { return Next::Malformed };
        for _ in 0..count {
            let len;
            (len, at) = match self.line(at) {
                Line::Unread => return Next::Unread,
                Line::Last([] | [b'$', ..]) => return Next::CutShort,
                Line::Whole([b'$', len @ ..], next) => (leading_integer(len), next),
                Line::Whole(..) | Line::Last(_) => return Next::Malformed,
            };
            // What is longer than a request may be was written by no server.
            let end = u32::try_from(len).ok().and_then(|len| u32::try_from(at).ok()?.checked_add(len));
            let (Ok(start), Some(end)) = (u32::try_from(at), end) else { return Next::Malformed };
            match self.buffer.get(end as usize..end as usize + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Next::Malformed,
                None if self.is_over => return Next::CutShort,
                None => return Next::Unread,
            }
            spans.push((start, end));
            at = end as usize + 2;
        }
        self.at = at;
        Next::Request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::args::Args;

    /// Hands over so many bytes at a time.
    struct Drops<'b>(&'b [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let len = self.1.min(to.len()).min(self.0.len());
            to[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    /// The requests of a file, how it ends, and at which byte.
    fn requests(file: &[u8], at_a_time: usize) -> (Vec<String>, Next, u64) {
        let mut medium = Drops(file, at_a_time);
        let mut requests = Requests::new(&mut medium, Vec::new(), 0);
        let mut found = Vec::new();
        loop {
            let mut spans = Vec::new();
            match requests.next(&mut spans) {
                Next::Request => {
                    let args = Args::new(requests.buffer(), &spans);
                    let words: Vec<_> = args.iter().map(|arg| arg.escape_ascii().to_string()).collect();
                    found.push(words.join(" "));
                }
                Next::Unread => requests.read().unwrap(),
                end => return (found, end, requests.position()),
            }
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_end() {
        let one = "*2\r\n$3\r\nDEL\r\n$1\r\na\r\n";
        let long = format!("*1\r\n$300\r\n{}\r\n", "x".repeat(300));
        for (file, expected, end) in [
            ("", 0, Next::Over),
            (one, 1, Next::Over),
            ("#TS:16\r\n#\r\n", 0, Next::Over),
            (&["#TS:16\r\n", one, &long, one].concat(), 3, Next::Over),
            ("*1\r\n$0\r\n\r\n", 1, Next::Over),
            ("*1x\n$ +1,\nx\r\n", 1, Next::Over),
            ("#TS:16", 0, Next::CutShort),
            ("*", 0, Next::CutShort),
            ("*12", 0, Next::CutShort),
            ("*1\r\n", 0, Next::CutShort),
            ("*1\r\n$", 0, Next::CutShort),
            ("*1\r\n$4000000000\r\nx", 0, Next::CutShort),
            ("*2000000000\r\n$1\r\nx\r\n", 0, Next::CutShort),
            ("*0\r\n", 0, Next::Malformed),
            ("*-1\r\n", 0, Next::Malformed),
            ("*x", 0, Next::Malformed),
            ("*3000000000\r\n", 0, Next::Malformed),
            ("\r\n", 0, Next::Malformed),
            ("\0\0", 0, Next::Malformed),
            ("PING\r\n", 0, Next::Malformed),
            ("*1\r\n:1\r\n", 0, Next::Malformed),
            ("*1\r\n$-1\r\n", 0, Next::Malformed),
            ("*1\r\n$5000000000\r\n", 0, Next::Malformed),
            ("*1\r\n$1\r\nxy\r\n", 0, Next::Malformed),
        ] {
            for at_a_time in [1, 7, 1 << 20] {
                let (found, how, _) = requests(file.as_bytes(), at_a_time);
                assert_eq!((found.len(), &how), (expected, &end), "{file:?} by {at_a_time}");
            }
        }
    }

    #[test]
    fn what_is_cut_anywhere_is_whole_up_to_the_request_before() {
        let file =
            b"#TS:1\r\n*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$2\r\n\r\n\r\n#TS:2\r\n*1\r\n$1\r\nx\r\n";
        let ends = [7, 21, 43, 50, 61];
        for len in 0..=file.len() {
            let (found, end, at) = requests(&file[..len], 5);
            let whole = ends.iter().rev().find(|end| **end <= len).copied().unwrap_or(0);
            assert_eq!(at, whole as u64, "{len}: {found:?}");
            assert_eq!(end == Next::Over, whole == len, "{len}");
        }
    }

    #[test]
    fn a_long_line_is_taken_in_pieces() {
        let file = ["#", &"x".repeat(126), "*1\r\n$1\r\ny\r\n"].concat();
        assert_eq!(requests(file.as_bytes(), 9).0, ["y"]);
    }
}
