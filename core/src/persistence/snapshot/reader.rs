//! Reading: lengths, strings, numbers, from bytes at hand or from a medium.

use std::borrow::Cow;
use std::io::Read;

use mortise_sdk::resp::format_integer;

use super::crc64::crc64;
use super::format::string;
use super::{Broken, Result, lzf};

/// Reads what a [`Writer`](super::Writer) or Redis wrote.
///
/// Bytes that come from a medium pass through a buffer that grows with what has really come, and not with what a length
/// promises.
pub struct Reader<'a> {
    buffer: Cow<'a, [u8]>,
    /// How much of the buffer has been taken.
    at: usize,
    medium: Option<&'a mut dyn Read>,
    /// How many bytes stood before the buffer.
    passed: u64,
    /// The checksum of what stood before the buffer.
    crc: u64,
}

/// A length, or that something else follows which has none.
enum Length {
    Plain(u64),
    Special(u8),
}

/// A string as it was written.
#[derive(Debug, PartialEq)]
pub enum Text<'r> {
    /// Its bytes.
    Bytes(&'r [u8]),
    /// Its bytes, which had to be put together.
    Expanded(Vec<u8>),
    /// The integer that it spells.
    Integer(i64),
}

impl<'r> Text<'r> {
    /// All bytes.
    pub fn into_bytes(self) -> Cow<'r, [u8]> {
        match self {
            Text::Bytes(bytes) => Cow::Borrowed(bytes),
            Text::Expanded(bytes) => Cow::Owned(bytes),
            Text::Integer(n) => Cow::Owned(format_integer(n).as_bytes().to_vec()),
        }
    }
}

const TOO_LONG: Broken = Broken::Malformed("a length is beyond what a machine can hold");
const NO_LENGTH: Broken = Broken::Malformed("an encoding stands where a length must be");
const UNKNOWN_STRING: Broken = Broken::Malformed("Unknown RDB string encoding type");
const NOT_A_NUMBER: Broken = Broken::Malformed("a text stands where a number must be");

impl<'a> Reader<'a> {
    /// Reads bytes at hand.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { buffer: Cow::Borrowed(bytes), at: 0, medium: None, passed: 0, crc: 0 }
    }

    /// Reads from a medium, and possibly beyond what is asked for.
    pub fn from_medium(medium: &'a mut dyn Read) -> Reader<'a> {
        Reader { buffer: Cow::Owned(Vec::new()), at: 0, medium: Some(medium), passed: 0, crc: 0 }
    }

    /// How many bytes have been taken.
    pub fn position(&self) -> u64 {
        self.passed + self.at as u64
    }

    /// Bytes that have come from the medium and have not been taken.
    pub fn untaken(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// The checksum of the bytes that have been taken.
    pub fn checksum(&self) -> u64 {
        crc64(self.crc, &self.buffer[..self.at])
    }

    /// The next bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&[u8]> {
        if self.buffer.len() - self.at < len {
            self.fill(len)?;
        }
        self.at += len;
        Ok(&self.buffer[self.at - len..self.at])
    }

    /// Lets so many bytes come that have not been taken.
    #[cold]
    fn fill(&mut self, len: usize) -> Result<()> {
        const STEP: usize = 256 * 1024;
        let Some(medium) = &mut self.medium else { return Err(Broken::CutShort) };
        let buffer = self.buffer.to_mut();
        self.crc = crc64(self.crc, &buffer[..self.at]);
        self.passed += self.at as u64;
        buffer.drain(..self.at);
        self.at = 0;
        while buffer.len() < len {
            let before = buffer.len();
            // Twice as much as has come, so that a long string is not copied over and over.
            let wanted = STEP.max(before).min((len - before).max(STEP));
            buffer.resize(before + wanted, 0);
            let came = loop {
                match medium.read(&mut buffer[before..]) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    came => break came,
                }
            };
            buffer.truncate(before + came.as_ref().map_or(0, |came| *came));
            if came? == 0 {
                return Err(Broken::CutShort);
            }
        }
        Ok(())
    }

    /// A byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    /// So many bytes as the array has.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A 64-bit integer in eight bytes, as moments are written.
    pub fn moment(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// A floating-point number in eight bytes.
    pub fn double(&mut self) -> Result<f64> {
        self.array().map(f64::from_le_bytes)
    }

    /// A floating-point number in four bytes.
    pub fn float(&mut self) -> Result<f32> {
        self.array().map(f32::from_le_bytes)
    }

    /// A floating-point number as a text, as old sorted sets have it.
    pub fn double_text(&mut self) -> Result<f64> {
        match self.byte()? {
            255 => Ok(f64::NEG_INFINITY),
            254 => Ok(f64::INFINITY),
            253 => Ok(f64::NAN),
            len => mortise_sdk::args::parse_float(self.take(usize::from(len))?).ok_or(NOT_A_NUMBER),
        }
    }

    #[inline]
    fn any_length(&mut self) -> Result<Length> {
        let first = self.byte()?;
        Ok(match (first >> 6, first) {
            (0, _) => Length::Plain(u64::from(first)),
            (1, _) => Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            (_, 0x80) => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            (_, 0x81) => Length::Plain(u64::from_be_bytes(self.array()?)),
            (3, _) => Length::Special(first & 0x3f),
            _ => return Err(Broken::Malformed("Unknown length encoding in rdbLoadLen()")),
        })
    }

    /// A number, written as lengths are.
    #[inline]
    pub fn number(&mut self) -> Result<u64> {
        match self.any_length()? {
            Length::Plain(n) => Ok(n),
            Length::Special(_) => Err(NO_LENGTH),
        }
    }

    /// A length. It is not yet compared with anything.
    #[inline]
    pub fn length(&mut self) -> Result<usize> {
        usize::try_from(self.number()?).map_err(|_| TOO_LONG)
    }

    /// How many items a collection has, which may not be none.
    pub fn count(&mut self) -> Result<usize> {
        match self.length()? {
            0 => Err(Broken::Empty),
            count => Ok(count),
        }
    }

    /// A string.
    #[inline]
    pub fn text(&mut self) -> Result<Text<'_>> {
        match self.any_length()? {
            Length::Plain(len) => {
                let len = usize::try_from(len).map_err(|_| TOO_LONG)?;
                self.take(len).map(Text::Bytes)
            }
            Length::Special(string::LZF) => self.compressed().map(Text::Expanded),
            Length::Special(encoding) => self.integer(encoding).map(Text::Integer),
        }
    }

    /// A string's bytes.
    pub fn bytes(&mut self) -> Result<Cow<'_, [u8]>> {
        self.text().map(Text::into_bytes)
    }

    /// A string's bytes, in a buffer that is used again and again.
    pub fn bytes_into(&mut self, to: &mut Vec<u8>) -> Result<()> {
        to.clear();
        match self.text()? {
            Text::Bytes(bytes) => to.extend_from_slice(bytes),
            Text::Expanded(bytes) => *to = bytes,
            Text::Integer(n) => to.extend_from_slice(format_integer(n).as_bytes()),
        }
        Ok(())
    }

    #[cold]
    fn compressed(&mut self) -> Result<Vec<u8>> {
        let (compressed_len, len) = (self.length()?, self.length()?);
        if len > lzf::expanded_len_max(compressed_len) {
            return Err(Broken::Malformed("Invalid LZF compressed string"));
        }
        lzf::expand(self.take(compressed_len)?, len)
    }

    fn integer(&mut self, encoding: u8) -> Result<i64> {
        match encoding {
            string::INT8 => self.array().map(|bytes| i64::from(i8::from_le_bytes(bytes))),
            string::INT16 => self.array().map(|bytes| i64::from(i16::from_le_bytes(bytes))),
            string::INT32 => self.array().map(|bytes| i64::from(i32::from_le_bytes(bytes))),
            _ => Err(UNKNOWN_STRING),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::Writer;
    use super::*;

    /// Gives a few bytes at a time.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let len = to.len().min(self.0.len()).min(7);
            to[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    const NUMBERS: [u64; 9] = [0, 1, 63, 64, 0x3fff, 0x4000, u32::MAX as u64, 1 << 32, u64::MAX];

    fn texts() -> Vec<Vec<u8>> {
        let integers = [0i64, -1, 127, 128, -128, -129, 32767, 32768, 1 << 31, (1 << 31) - 1, -(1 << 31)];
        let mut texts: Vec<Vec<u8>> = integers.iter().map(|n| n.to_string().into_bytes()).collect();
        texts.extend(
            [&b""[..], b"abc", b"007", b"+1", b"-0", &[b'z'; 20], &[b'z'; 21], &[b'z'; 70_000]]
                .map(<[u8]>::to_vec),
        );
        texts.push((0..60_000u32).map(|n| ((n * n) >> 5) as u8).collect());
        texts
    }

    fn written(compress: bool) -> Vec<u8> {
        let mut out = Writer::new(compress);
        NUMBERS.iter().for_each(|n| out.number(*n));
        texts().iter().for_each(|text| out.bytes(text));
        out.double(-0.5);
        out.moment(-3);
        out.into_bytes()
    }

    #[test]
    fn what_is_written_is_read_from_bytes_and_from_a_medium() {
        for compress in [false, true] {
            let bytes = written(compress);
            let mut trickle = Trickle(&bytes);
            for mut from in [Reader::new(&bytes), Reader::from_medium(&mut trickle)] {
                NUMBERS.iter().for_each(|n| assert_eq!(from.number().unwrap(), *n));
                texts().iter().for_each(|text| assert_eq!(*from.bytes().unwrap(), *text));
                assert_eq!((from.double().unwrap(), from.moment().unwrap()), (-0.5, -3));
                assert_eq!(from.position(), bytes.len() as u64);
                assert_eq!(from.checksum(), crc64(0, &bytes));
                assert!(matches!(from.byte(), Err(Broken::CutShort)));
            }
        }
        assert!(written(true).len() < written(false).len() - 70_000);
    }

    #[test]
    fn nothing_is_reserved_for_a_length_that_is_only_promised() {
        let promises: [&[u8]; 6] = [
            b"\x80\xff\xff\xff\xff",
            b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff",
            b"\x81\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xc3\x02\x81\x7f\xff\xff\xff\xff\xff\xff\xff\x00a",
            b"\xc3\x81\x7f\xff\xff\xff\xff\xff\xff\xff\x02\x00a",
            b"\x05abcd",
        ];
        for promise in promises {
            assert!(Reader::new(promise).text().is_err(), "{promise:?}");
            assert!(Reader::from_medium(&mut Trickle(promise)).text().is_err(), "{promise:?}");
        }
        for unknown in [b"\xc4aaaaaaaa", b"\xffaaaaaaaa", b"\x82aaaaaaaa", b"\xbfaaaaaaaa"] {
            assert!(Reader::new(unknown).text().is_err());
            assert!(Reader::new(unknown).length().is_err());
        }
    }

    #[test]
    fn numbers_as_texts() {
        for (bytes, expected) in
            [(&b"\x033.5"[..], 3.5), (b"\xff", f64::NEG_INFINITY), (b"\xfe", f64::INFINITY)]
        {
            assert_eq!(Reader::new(bytes).double_text().unwrap(), expected);
        }
        assert!(Reader::new(b"\xfd").double_text().unwrap().is_nan());
        assert!(Reader::new(b"\x03abc").double_text().is_err());
    }
}
