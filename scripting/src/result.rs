//! A script's result to a reply.

use std::time::{Duration, Instant};

use mortise_sdk::resp::encode::{self, Version};
use mortise_sdk::resp::{format_double, format_integer};

use crate::errors;
use crate::host::{Host, Verdict};
use crate::number;
use crate::raw::{Frame, Kind};

/// Where a script's result is written.
pub(crate) struct Writer<'w> {
    /// The reply.
    pub(crate) out: &'w mut Vec<u8>,
    /// The client's version of the protocol.
    pub(crate) version: Version,
    /// The version that the script has chosen; booleans hang on it.
    pub(crate) script_version: Version,
    /// Is told of errors that have not been counted, and asked whether to go on.
    pub(crate) host: &'w mut dyn Host,
    /// Where the reply ends at the latest.
    pub(crate) end_max: usize,
    /// What has been written since the clock was last looked at, and when that was.
    pub(crate) pace: Pace,
}

/// Why a result is not written to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// It is too large.
    TooLarge,
    /// The host has had the script ended.
    Ended,
}

/// How a large result goes on.
#[derive(Default)]
pub(crate) struct Pace {
    values: u32,
    looked: Option<Instant>,
}

/// A result of more values than this is looked at on the way.
const LOOK_EVERY: u32 = 1024;
/// How often others get their turn.
const SLICE: Duration = Duration::from_millis(1);

impl Writer<'_> {
    /// Writes the value on top of the stack, and drops it.
    pub(crate) fn value(&mut self, frame: Frame<'_>) -> Result<(), Cut> {
        if !frame.reserve(4) {
            self.error(b"ERR reached lua stack limit");
            frame.pop(1);
            return Ok(());
        }
        self.step()?;
        match frame.kind(-1) {
            Kind::String => encode::bulk(self.out, frame.bytes(-1).unwrap_or_default()),
            Kind::Number => encode::integer(self.out, number::truncate(frame.number(-1))),
            Kind::Boolean => match (self.script_version, frame.boolean(-1)) {
                (Version::Resp3, value) => encode::boolean(self.out, self.version, value),
                (Version::Resp2, true) => encode::integer(self.out, 1),
                (Version::Resp2, false) => encode::null(self.out, self.version),
            },
            Kind::Table => self.table(frame)?,
            _ => encode::null(self.out, self.version),
        }
        frame.pop(1);
        if self.out.len() > self.end_max { Err(Cut::TooLarge) } else { Ok(()) }
    }

    /// A value is written or counted.
    #[inline(always)]
    fn step(&mut self) -> Result<(), Cut> {
        self.pace.values += 1;
        if self.pace.values >= LOOK_EVERY { self.look() } else { Ok(()) }
    }

    /// Gives way if it is time. A table can stand in itself many times over, so that its reply has no end.
    #[cold]
    fn look(&mut self) -> Result<(), Cut> {
        self.pace.values = 0;
        let now = Instant::now();
        if *self.pace.looked.get_or_insert(now) + SLICE <= now {
            if self.host.pause() == Verdict::End {
                return Err(Cut::Ended);
            }
            self.pace.looked = Some(Instant::now());
        }
        Ok(())
    }

    fn error(&mut self, text: &[u8]) {
        errors::write(self.out, text);
        self.host.count_error(text);
    }

    /// Writes the table on top of the stack, and leaves it there.
    fn table(&mut self, frame: Frame<'_>) -> Result<(), Cut> {
        for name in NAMES {
            frame.raw_get_field(-1, name);
            // Most tables have none of the names.
            let written = frame.kind(-1) != Kind::Nil && self.named(name, frame)?;
            frame.pop(1);
            if written {
                return Ok(());
            }
        }
        self.array(frame)
    }

    /// Writes a table for the value of a name in it, which is on top of the stack; false if it is not of the right type.
    fn named(&mut self, name: &[u8], frame: Frame<'_>) -> Result<bool, Cut> {
        match name {
            b"err" => self.err(frame),
            b"ok" => self.ok(frame),
            b"double" => self.double(frame),
            b"big_number" => self.big_number(frame),
            b"verbatim_string" => self.verbatim(frame),
            b"map" => self.map(frame),
            _ => self.set(frame),
        }
    }

    fn err(&mut self, frame: Frame<'_>) -> Result<bool, Cut> {
        if frame.kind(-1) != Kind::String {
            return Ok(false);
        }
        frame.push_value(-2);
        let description = errors::describe(frame);
        frame.pop(1);
        errors::write(self.out, &description.message);
        if !description.counted {
            self.host.count_error(&description.message);
        }
        Ok(true)
    }

    fn ok(&mut self, frame: Frame<'_>) -> Result<bool, Cut> {
        let Some(text) = frame.bytes(-1) else { return Ok(false) };
        self.line(b'+', errors::until_zero(text));
        Ok(true)
    }

    fn double(&mut self, frame: Frame<'_>) -> Result<bool, Cut> {
        if frame.kind(-1) != Kind::Number {
            return Ok(false);
        }
        let value = frame.number(-1);
        if value.is_nan() && value.is_sign_negative() {
            encode::double_text(self.out, self.version, b"-nan");
        } else {
            encode::double_text(self.out, self.version, format_double(value).as_bytes());
        }
        Ok(true)
    }

    fn big_number(&mut self, frame: Frame<'_>) -> Result<bool, Cut> {
        let Some(digits) = frame.bytes(-1) else { return Ok(false) };
        match self.version {
            Version::Resp3 => self.line(b'(', digits),
            Version::Resp2 => {
                let at = self.out.len();
                encode::bulk(self.out, digits);
                // The text keeps its length, so that only its own line ends are looked for.
                let start = at + format_integer(digits.len() as i64).as_bytes().len() + 3;
                blank_line_ends(&mut self.out[start..start + digits.len()]);
            }
        }
        Ok(true)
    }

    fn verbatim(&mut self, frame: Frame<'_>) -> Result<bool, Cut> {
        if frame.kind(-1) != Kind::Table {
            return Ok(false);
        }
        frame.raw_get_field(-1, b"format");
        frame.raw_get_field(-2, b"string");
        let found = frame.bytes(-2).zip(frame.bytes(-1));
        if let Some((format, text)) = found {
            let mut letters = *b"   ";
            let format = errors::until_zero(format);
            let len = format.len().min(3);
            letters[..len].copy_from_slice(&format[..len]);
            encode::verbatim(self.out, self.version, &letters, text);
        }
        frame.pop(2);
        Ok(found.is_some())
    }

    fn map(&mut self, frame: Frame<'_>) -> Result<bool, Cut> {
        if frame.kind(-1) != Kind::Table {
            return Ok(false);
        }
        let len = self.count(frame)?;
        encode::map(self.out, self.version, len);
        frame.push_nil();
        while frame.next(-2) {
            frame.push_value(-2);
            self.value(frame)?;
            self.value(frame)?;
        }
        Ok(true)
    }

    fn set(&mut self, frame: Frame<'_>) -> Result<bool, Cut> {
        if frame.kind(-1) != Kind::Table {
            return Ok(false);
        }
        let len = self.count(frame)?;
        encode::set(self.out, self.version, len);
        frame.push_nil();
        while frame.next(-2) {
            frame.pop(1);
            frame.push_value(-1);
            self.value(frame)?;
        }
        Ok(true)
    }

    /// The elements up to the first that is nil.
    fn array(&mut self, frame: Frame<'_>) -> Result<(), Cut> {
        let mut len = 0;
        while len < i32::MAX {
            frame.raw_get_index(-1, len + 1);
            let is_end = frame.kind(-1) == Kind::Nil;
            frame.pop(1);
            if is_end {
                break;
            }
            len += 1;
            self.step()?;
        }
        encode::array(self.out, len as usize);
        for index in 1..=len {
            frame.raw_get_index(-1, index);
            self.value(frame)?;
        }
        Ok(())
    }

    /// How many pairs the table on top of the stack holds.
    fn count(&mut self, frame: Frame<'_>) -> Result<usize, Cut> {
        let mut len = 0;
        frame.push_nil();
        while frame.next(-2) {
            frame.pop(1);
            len += 1;
            self.step()?;
        }
        Ok(len)
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        let at = self.out.len();
        self.out.extend_from_slice(text);
        blank_line_ends(&mut self.out[at..]);
        self.out.extend_from_slice(b"\r\n");
    }
}

/// The names that say what a table is, in the order in which they are looked for.
const NAMES: [&[u8]; 7] = [b"err", b"ok", b"double", b"big_number", b"verbatim_string", b"map", b"set"];

fn blank_line_ends(text: &mut [u8]) {
    text.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
}
