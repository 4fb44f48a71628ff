//! Replies of commands to values.

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
    /// The script is to end before it is read; the error has been pushed.
    GivenUp,
}

/// A reply of so many bytes has many values, and whoever reads it should give way.
pub(crate) const LONG: usize = 64 * 1024;

/// Pushes the value of an encoded reply. Lua is given what Redis gives it: statuses and errors as tables with one
/// field, in RESP3 maps, sets, doubles and big numbers as well.
#[inline]
pub(crate) fn push_reply(frame: Frame<'_>, reply: &[u8]) -> Result<(), Unreadable> {
    let mut reader = Reader { input: reply, at: 0, depth: 0, may_have_nulls: None, gives_way: false };
    reader.value(frame)
}

/// The same for a long reply, which is the guest's own: others have their turn meanwhile, and the script may end.
#[cold]
pub(crate) fn push_long_reply(frame: Frame<'_>, reply: Vec<u8>) -> Result<(), Unreadable> {
    let mut reader = Reader { input: &reply, at: 0, depth: 0, may_have_nulls: None, gives_way: true };
    reader.value(frame)
}

/// Aggregates within aggregates at most. Commands nest a few.
const DEPTH_MAX: usize = 1000;

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    depth: usize,
    /// Whether there may be nulls in the reply, once somebody has looked.
    may_have_nulls: Option<bool>,
    /// Whether others have their turn between values.
    gives_way: bool,
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
        if self.depth == DEPTH_MAX || !frame.reserve(6) {
            return Err(Unreadable::TooDeep);
        }
        self.depth += 1;
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
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self, frame: Frame<'_>, line: &[u8]) -> Result<(), Unreadable> {
        let len = length(line)?;
        // Room as the table would have if it had grown element by element: the order of `pairs` hangs on it. Not more
        // than what has arrived can fill, and none where a null may leave a hole.
        let may_have_holes = *self.may_have_nulls.get_or_insert_with(|| self.input.contains(&b'_'));
        let room =
            if may_have_holes { 0 } else { len.min((self.input.len() - self.at) / 3).next_power_of_two() };
        frame.push_table(if len == 0 { 0 } else { i32::try_from(room).unwrap_or(0) }, 0);
        for index in 1..=len {
            self.value(frame)?;
            self.breathe(frame)?;
            frame.raw_set_index(-2, i32::try_from(index).map_err(|_| Unreadable::Malformed)?);
        }
        Ok(())
    }

    /// Gives way between values if it is time.
    #[inline(always)]
    fn breathe(&self, frame: Frame<'_>) -> Result<(), Unreadable> {
        if self.gives_way { frame.breathe().map_err(|Raise| Unreadable::GivenUp) } else { Ok(()) }
    }

    /// A table of pairs, or of keys that are true.
    fn members(&mut self, frame: Frame<'_>, line: &[u8], pairs: bool) -> Result<(), Unreadable> {
        frame.push_table(0, 0);
        for _ in 0..length(line)? {
            self.value(frame)?;
            self.breathe(frame)?;
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

/// What a script is told of a reply that cannot become a value.
pub(crate) fn unreadable<T>(frame: Frame<'_>, why: Unreadable) -> Result<T, Raise> {
    errors::raise(
        frame,
        match why {
            Unreadable::Malformed => "the reply of the command cannot be read",
            Unreadable::TooDeep => "the reply of the command is nested too deeply",
            Unreadable::GivenUp => return Err(Raise),
        },
    )
}
