//! What a string is, and what may be done to it.

use std::borrow::Cow;
use std::ops::ControlFlow;

use mortise_sdk::extended::Extended;
use mortise_sdk::resp::format_integer;
use xxhash_rust::xxh3::Xxh3Default;

use super::long::{CHUNK_LEN, LongText};
use crate::engine::edit::Edit;
use crate::engine::event::{self, EventClass};
use crate::keyspace::entry::{Entry, Kind, NewValue, Payload};
use crate::types::{Object, Type};

/// The type of strings.
pub struct Str;

/// A string as it is read.
#[derive(Clone, Copy)]
pub enum StrRef<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// The integer that it spells.
    Integer(i64),
    /// Chunks.
    Long(&'a LongText),
}

impl Type for Str {
    type View<'a> = StrRef<'a>;
    const CLASS: EventClass = event::STRING;

    #[inline(always)]
    fn view(entry: &Entry) -> Option<StrRef<'_>> {
        match entry.payload() {
            Payload::Bytes(bytes) if matches!(entry.kind(), Kind::Text | Kind::RawText) => {
                Some(StrRef::Bytes(bytes))
            }
            Payload::Integer(n) => Some(StrRef::Integer(n)),
            Payload::Object(Object::LongText(text)) => Some(StrRef::Long(text)),
            _ => None,
        }
    }

    fn empty() -> NewValue<'static> {
        NewValue::Bytes(Kind::RawText, b"")
    }

    fn is_gone(_: StrRef<'_>) -> bool {
        false
    }
}

impl<'a> StrRef<'a> {
    /// Length in bytes.
    pub fn len(self) -> usize {
        match self {
            StrRef::Bytes(bytes) => bytes.len(),
            StrRef::Integer(n) => format_integer(n).as_bytes().len(),
            StrRef::Long(text) => text.len(),
        }
    }

    /// Whether it is empty.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// All bytes in one piece; copied if they are not.
    pub fn bytes(self) -> Cow<'a, [u8]> {
        match self {
            StrRef::Bytes(bytes) => Cow::Borrowed(bytes),
            StrRef::Integer(n) => Cow::Owned(n.to_string().into_bytes()),
            StrRef::Long(text) => Cow::Owned(text.to_vec()),
        }
    }

    /// Whether it consists of these bytes.
    pub fn is_bytes(self, bytes: &[u8]) -> bool {
        if self.len() != bytes.len() {
            return false;
        }
        let mut left = bytes;
        let compared = self.visit(0, bytes.len(), |part| match left.split_at_checked(part.len()) {
            Some((first, rest)) if first == part => {
                left = rest;
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        });
        compared.is_continue()
    }

    /// XXH3 of its bytes, in 64 bits.
    pub fn digest(self) -> u64 {
        let mut digest = Xxh3Default::new();
        let _ = self.visit(0, self.len(), |part| -> ControlFlow<()> {
            digest.update(part);
            ControlFlow::Continue(())
        });
        digest.digest()
    }

    /// A byte.
    pub fn byte(self, at: usize) -> Option<u8> {
        match self {
            StrRef::Bytes(bytes) => bytes.get(at).copied(),
            StrRef::Integer(n) => format_integer(n).as_bytes().get(at).copied(),
            StrRef::Long(text) => text.byte(at),
        }
    }

    /// Visits what it has of the bytes `start..end`, part by part in order, until a visit breaks.
    pub fn visit<B>(
        self,
        start: usize,
        end: usize,
        mut visit: impl FnMut(&[u8]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut visit_some = |bytes: &[u8]| {
            let end = end.min(bytes.len());
            visit(&bytes[start.min(end)..end])
        };
        match self {
            StrRef::Bytes(bytes) => visit_some(bytes),
            StrRef::Integer(n) => visit_some(format_integer(n).as_bytes()),
            StrRef::Long(text) => text.range(start, end).try_for_each(visit),
        }
    }

    /// The floating-point number that it spells.
    pub fn extended(self) -> Option<Extended> {
        match self {
            StrRef::Bytes(bytes) => Extended::parse(bytes),
            StrRef::Integer(n) => Extended::parse(format_integer(n).as_bytes()),
            // Longer than any number.
            StrRef::Long(_) => None,
        }
    }

    /// The integer that it spells in canonical form.
    pub fn integer(self) -> Option<i64> {
        match self {
            StrRef::Integer(n) => Some(n),
            StrRef::Bytes(bytes) => mortise_sdk::args::parse_integer(bytes),
            StrRef::Long(_) => None,
        }
    }
}

/// A string as it is stored when it is set as a whole: integers as such, long ones in chunks.
#[inline]
pub fn stored(bytes: &[u8]) -> NewValue<'_> {
    const INTEGER_LEN_MAX: usize = 20;
    if bytes.len() <= INTEGER_LEN_MAX
        && let Some(n) = mortise_sdk::args::parse_integer(bytes)
    {
        return NewValue::Integer(n);
    }
    if bytes.len() > CHUNK_LEN {
        return NewValue::Object(Box::new(Object::LongText(LongText::new(bytes))));
    }
    NewValue::Bytes(Kind::Text, bytes)
}

/// Where the requests stand that are executed, if a value may take their bytes over.
pub type Input = triomphe::Arc<Vec<u8>>;

/// Values that are longer take over the request that they come in: to copy them would hold everybody up.
pub const TAKEN_LEN_MIN: usize = 1 << 20;

/// The same of a request's argument, which is not copied if it is long and may be taken over: as most of its request stays
/// for as long as it does, it has to be most of it.
#[inline]
pub fn stored_from<'a>(bytes: &'a [u8], input: Option<&Input>) -> NewValue<'a> {
    if bytes.len() >= TAKEN_LEN_MIN
        && let Some(input) = input
        && bytes.len() >= input.len() / 2
        && let Some(start) = bytes.as_ptr().addr().checked_sub(input.as_ptr().addr())
        && input.get(start..start + bytes.len()).is_some_and(|part| part.as_ptr() == bytes.as_ptr())
    {
        let text = LongText::within(input, start, bytes.len());
        return NewValue::Object(Box::new(Object::LongText(text)));
    }
    stored(bytes)
}

impl Edit<'_, Str> {
    /// Replaces the value as SET does.
    pub fn set(&mut self, bytes: &[u8]) {
        self.set_value(stored(bytes));
    }

    /// Replaces the value by an integer.
    pub fn set_integer(&mut self, n: i64) {
        self.set_value(NewValue::Integer(n));
    }

    /// Replaces the value by text, which is stored as such even if it spells an integer.
    pub fn set_text(&mut self, text: &[u8]) {
        match text.len() {
            0..=CHUNK_LEN => self.set_value(NewValue::Bytes(Kind::Text, text)),
            _ => self.set_value(stored(text)),
        }
    }

    /// Replaces the value by text that Redis calls `raw` however short it is.
    pub fn set_raw(&mut self, text: &[u8]) {
        match text.len() {
            0..=CHUNK_LEN => self.set_value(NewValue::Bytes(Kind::RawText, text)),
            _ => self.set_value(stored(text)),
        }
    }

    /// Appends bytes; returns the new length. From then on the string is `raw`.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let len = self.view().len();
        self.write_at(len, bytes);
        len + bytes.len()
    }

    /// Overwrites bytes from an offset on; a gap becomes zeroes. From then on the string is `raw`.
    pub fn write_at(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        // A long one gets its length at once: if it grew by the last bytes, it would take room to grow further.
        self.extend_to(if end > CHUNK_LEN { end } else { at });
        let entry = self.open();
        if let Some(Object::LongText(text)) = entry.object_mut() {
            text.write_at(at, bytes);
        } else {
            let old = entry.bytes_mut().unwrap_or_default();
            if end <= old.len() {
                old[at..end].copy_from_slice(bytes);
            } else if end <= CHUNK_LEN {
                let overwritten = old.len() - at;
                entry.splice(at, overwritten, bytes);
            } else {
                let mut text = LongText::new(entry.bytes_mut().unwrap_or_default());
                text.write_at(at, bytes);
                self.set_value(NewValue::Object(Box::new(Object::LongText(text))));
            }
        }
    }

    /// Makes it `raw` and at least `len` bytes long; what is new is zero.
    pub fn extend_to(&mut self, len: usize) {
        if let StrRef::Integer(n) = self.view() {
            self.set_value(NewValue::Bytes(Kind::RawText, format_integer(n).as_bytes()));
        }
        let entry = self.open();
        entry.mark_raw();
        if let Some(Object::LongText(text)) = entry.object_mut() {
            return text.extend_to(len);
        }
        let old = entry.bytes_mut().unwrap_or_default();
        let missing = len.saturating_sub(old.len());
        if missing == 0 {
            return;
        }
        if len <= CHUNK_LEN {
            let at = old.len();
            entry.splice(at, 0, &vec![0; missing]);
        } else {
            let mut text = LongText::new(old);
            text.extend_to(len);
            self.set_value(NewValue::Object(Box::new(Object::LongText(text))));
        }
    }
}
