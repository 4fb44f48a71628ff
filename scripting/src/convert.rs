//! Replies to values, and values to replies.

use mortise_sdk::resp::encode::{self, Version};
use mortise_sdk::resp::{format_double, format_integer};

use crate::errors;
use crate::number;
use crate::raw::{Frame, Kind, Raise};

/// Why a reply cannot become a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is not a reply.
    Malformed,
    /// It is nested more deeply than Lua's stack is.
    TooDeep,
}

/// Pushes the value of an encoded reply. Lua is given what Redis gives it: statuses and errors as tables with one
/// field, in RESP3 maps, sets, doubles and big numbers as well.
#[inline]
pub(crate) fn push_reply(frame: Frame<'_>, reply: &[u8]) -> Result<(), Unreadable> {
    let mut reader = Reader { input: reply, at: 0 };
    reader.value(frame)
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    fn value(&mut self, frame: Frame<'_>) -> Result<(), Unreadable> {
        let kind = *self.input.get(self.at).ok_or(Unreadable::Malformed)?;
        self.at += 1;
        let line = self.line()?;
        match kind {
            b':' => frame.push_number(integer(line)? as f64),
            b'$' | b'*' if line == b"-1" => frame.push_boolean(false),
            b'$' => {
                let bytes = self.string(line)?;
                frame.push_bytes(bytes);
            }
            _ => return self.rarely(frame, kind, line),
        }
        Ok(())
    }

    fn rarely(&mut self, frame: Frame<'_>, kind: u8, line: &'a [u8]) -> Result<(), Unreadable> {
        if !frame.reserve(6) {
            return Err(Unreadable::TooDeep);
        }
        match kind {
            b'+' => push_field(frame, b"ok", |frame| frame.push_bytes(line)),
            b'-' => {
                let mut text = Vec::with_capacity(line.len() + 1);
                text.push(b'-');
                text.extend_from_slice(line);
                errors::push(frame, &text);
                errors::mark_counted(frame);
            }
            b'*' | b'>' => self.array(frame, line)?,
            b'_' => frame.push_nil(),
            b'#' => frame.push_boolean(line == b"t"),
            b',' => {
                let (value, _) = number::read(line).ok_or(Unreadable::Malformed)?;
                push_field(frame, b"double", |frame| frame.push_number(value));
            }
            b'(' => push_field(frame, b"big_number", |frame| frame.push_bytes(line)),
            b'=' => {
                let bytes = self.string(line)?;
                let (format, text) = bytes.split_at_checked(4).ok_or(Unreadable::Malformed)?;
                push_field(frame, b"verbatim_string", |frame| {
                    frame.push_table(0, 2);
                    frame.push_bytes(text);
                    frame.raw_set_field(-2, b"string");
                    frame.push_bytes(&format[..3]);
                    frame.raw_set_field(-2, b"format");
                });
            }
            b'%' => {
                frame.push_table(0, 1);
                self.members(frame, line, true)?;
                frame.raw_set_field(-2, b"map");
            }
            b'~' => {
                frame.push_table(0, 1);
                self.members(frame, line, false)?;
                frame.raw_set_field(-2, b"set");
            }
            b'|' => {
                // Attributes are not shown to scripts.
                for _ in 0..length(line)?.saturating_mul(2) {
                    self.value(frame)?;
                    frame.pop(1);
                }
                self.value(frame)?;
            }
            b'!' => {
                let bytes = self.string(line)?;
                errors::push(frame, &[b"-", bytes].concat());
                errors::mark_counted(frame);
            }
            _ => return Err(Unreadable::Malformed),
        }
        Ok(())
    }

    fn array(&mut self, frame: Frame<'_>, line: &[u8]) -> Result<(), Unreadable> {
        let len = length(line)?;
        // Room as the table would have if it had grown element by element: the order of `pairs` hangs on it. Not more
        // than what has arrived can fill, and none where a null may leave a hole.
        let has_holes = self.input[self.at..].contains(&b'_');
        let room = if has_holes { 0 } else { len.min((self.input.len() - self.at) / 3).next_power_of_two() };
        frame.push_table(if len == 0 { 0 } else { i32::try_from(room).unwrap_or(0) }, 0);
        for index in 1..=len {
            self.value(frame)?;
            frame.raw_set_index(-2, i32::try_from(index).map_err(|_| Unreadable::Malformed)?);
        }
        Ok(())
    }

    /// A table of pairs, or of keys that are true.
    fn members(&mut self, frame: Frame<'_>, line: &[u8], pairs: bool) -> Result<(), Unreadable> {
        frame.push_table(0, 0);
        for _ in 0..length(line)? {
            self.value(frame)?;
            if pairs {
                self.value(frame)?;
            } else {
                frame.push_boolean(true);
            }
            if frame.kind(-2) == Kind::Nil {
                // Null can be no key.
                frame.pop(2);
            } else {
                frame.raw_set(-3);
            }
        }
        Ok(())
    }

    #[inline]
    fn line(&mut self) -> Result<&'a [u8], Unreadable> {
        let rest = &self.input[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\r').ok_or(Unreadable::Malformed)?;
        self.at += end + 2;
        if self.at > self.input.len() { Err(Unreadable::Malformed) } else { Ok(&rest[..end]) }
    }

    #[inline]
    fn string(&mut self, line: &[u8]) -> Result<&'a [u8], Unreadable> {
        let len = length(line)?;
        let bytes = self.input.get(self.at..self.at.saturating_add(len)).ok_or(Unreadable::Malformed)?;
        self.at += len + 2;
        if self.at > self.input.len() { Err(Unreadable::Malformed) } else { Ok(bytes) }
    }
}

fn push_field<'a>(frame: Frame<'a>, name: &[u8], push: impl FnOnce(Frame<'a>)) {
    frame.push_table(0, 1);
    push(frame);
    frame.raw_set_field(-2, name);
}

#[inline]
fn integer(line: &[u8]) -> Result<i64, Unreadable> {
    if let [digit @ b'0'..=b'9'] = line {
        return Ok(i64::from(digit - b'0'));
    }
    mortise_sdk::args::parse_integer(line).ok_or(Unreadable::Malformed)
}

#[inline]
fn length(line: &[u8]) -> Result<usize, Unreadable> {
    usize::try_from(integer(line)?).map_err(|_| Unreadable::Malformed)
}

/// Where a script's result is written.
pub(crate) struct Writer<'w> {
    /// The reply.
    pub(crate) out: &'w mut Vec<u8>,
    /// The client's version of the protocol.
    pub(crate) version: Version,
    /// The version that the script has chosen; booleans hang on it.
    pub(crate) script_version: Version,
    /// Is told of errors that have not been counted.
    pub(crate) count_error: &'w mut dyn FnMut(&[u8]),
}

impl Writer<'_> {
    /// Writes the value on top of the stack, and drops it.
    pub(crate) fn value(&mut self, frame: Frame<'_>) {
        if !frame.reserve(5) {
            self.error(b"ERR reached lua stack limit");
            frame.pop(1);
            return;
        }
        match frame.kind(-1) {
            Kind::String => encode::bulk(self.out, frame.bytes(-1).unwrap_or_default()),
            Kind::Number => encode::integer(self.out, number::truncate(frame.number(-1))),
            Kind::Boolean => match (self.script_version, frame.boolean(-1)) {
                (Version::Resp3, value) => encode::boolean(self.out, self.version, value),
                (Version::Resp2, true) => encode::integer(self.out, 1),
                (Version::Resp2, false) => encode::null(self.out, self.version),
            },
            Kind::Table => self.table(frame),
            _ => encode::null(self.out, self.version),
        }
        frame.pop(1);
    }

    fn error(&mut self, text: &[u8]) {
        errors::write(self.out, text);
        (self.count_error)(text);
    }

    /// Writes the table on top of the stack, and leaves it there.
    fn table(&mut self, frame: Frame<'_>) {
        // A table that has only an array part has none of the names, and looking for them is most of the work.
        let named: [Named<'_>; 7] = [
            (b"err", Self::err),
            (b"ok", Self::ok),
            (b"double", Self::double),
            (b"big_number", Self::big_number),
            (b"verbatim_string", Self::verbatim),
            (b"map", Self::map),
            (b"set", Self::set),
        ];
        for (name, write) in named {
            frame.raw_get_field(-1, name);
            let written = write(self, frame);
            frame.pop(1);
            if written {
                return;
            }
        }
        self.array(frame);
    }

    fn err(&mut self, frame: Frame<'_>) -> bool {
        if frame.kind(-1) != Kind::String {
            return false;
        }
        frame.push_value(-2);
        let description = errors::describe(frame);
        frame.pop(1);
        errors::write(self.out, &description.message);
        if !description.counted {
            (self.count_error)(&description.message);
        }
        true
    }

    fn ok(&mut self, frame: Frame<'_>) -> bool {
        let Some(text) = frame.bytes(-1) else { return false };
        self.line(b'+', errors::until_zero(text));
        true
    }

    fn double(&mut self, frame: Frame<'_>) -> bool {
        if frame.kind(-1) != Kind::Number {
            return false;
        }
        let value = frame.number(-1);
        if value.is_nan() && value.is_sign_negative() {
            encode::double_text(self.out, self.version, b"-nan");
        } else {
            encode::double_text(self.out, self.version, format_double(value).as_bytes());
        }
        true
    }

    fn big_number(&mut self, frame: Frame<'_>) -> bool {
        let Some(digits) = frame.bytes(-1) else { return false };
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
        true
    }

    fn verbatim(&mut self, frame: Frame<'_>) -> bool {
        if frame.kind(-1) != Kind::Table {
            return false;
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
        found.is_some()
    }

    fn map(&mut self, frame: Frame<'_>) -> bool {
        if frame.kind(-1) != Kind::Table {
            return false;
        }
        encode::map(self.out, self.version, count(frame));
        frame.push_nil();
        while frame.next(-2) {
            frame.push_value(-2);
            self.value(frame);
            self.value(frame);
        }
        true
    }

    fn set(&mut self, frame: Frame<'_>) -> bool {
        if frame.kind(-1) != Kind::Table {
            return false;
        }
        encode::set(self.out, self.version, count(frame));
        frame.push_nil();
        while frame.next(-2) {
            frame.pop(1);
            frame.push_value(-1);
            self.value(frame);
        }
        true
    }

    /// The elements up to the first that is nil.
    fn array(&mut self, frame: Frame<'_>) {
        let mut len = 0;
        while len < i32::MAX {
            frame.raw_get_index(-1, len + 1);
            let is_end = frame.kind(-1) == Kind::Nil;
            frame.pop(1);
            if is_end {
                break;
            }
            len += 1;
        }
        encode::array(self.out, len as usize);
        for index in 1..=len {
            frame.raw_get_index(-1, index);
            self.value(frame);
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        let at = self.out.len();
        self.out.extend_from_slice(text);
        blank_line_ends(&mut self.out[at..]);
        self.out.extend_from_slice(b"\r\n");
    }
}

/// A name that says what a table is, and who writes such a table; false if it is none after all.
type Named<'a> = (&'static [u8], fn(&mut Writer<'a>, Frame<'_>) -> bool);

fn count(frame: Frame<'_>) -> usize {
    let mut len = 0;
    frame.push_nil();
    while frame.next(-2) {
        frame.pop(1);
        len += 1;
    }
    len
}

fn blank_line_ends(text: &mut [u8]) {
    text.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
}

/// What a script is told of a reply that cannot become a value.
pub(crate) fn unreadable<T>(frame: Frame<'_>, why: Unreadable) -> Result<T, Raise> {
    errors::raise(
        frame,
        match why {
            Unreadable::Malformed => "the reply of the command cannot be read",
            Unreadable::TooDeep => "the reply of the command is nested too deeply",
        },
    )
}
