//! Values to JSON.

use super::{Config, config};
use crate::number;
use crate::raw::{Frame, Kind, Raise, Returns};

pub(super) fn encode(frame: Frame<'_>) -> Returns {
    if frame.top() != 1 {
        return frame.wrong_argument(1, "expected 1 argument");
    }
    let config = config(frame)?;
    let mut writer = Writer { frame, config: &config, out: frame.shared().borrow_buffer() };
    let written = writer.value(0);
    if written.is_ok() {
        frame.push_bytes(&writer.out);
    }
    frame.shared().return_buffer(writer.out);
    written.map(|()| 1)
}

/// What a character is written as: nothing for itself, `u` for its number.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 32 {
        escapes[control] = b'u';
        control += 1;
    }
    escapes[0x08] = b'b';
    escapes[b'\t' as usize] = b't';
    escapes[b'\n' as usize] = b'n';
    escapes[0x0C] = b'f';
    escapes[b'\r' as usize] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'/' as usize] = b'/';
    escapes[b'\\' as usize] = b'\\';
    escapes[0x7F] = b'u';
    escapes
};

struct Writer<'a> {
    frame: Frame<'a>,
    config: &'a Config,
    out: Vec<u8>,
}

impl Writer<'_> {
    /// Writes the value on top of the stack.
    fn value(&mut self, depth: i32) -> Result<(), Raise> {
        let frame = self.frame;
        frame.breathe()?;
        match frame.kind(-1) {
            Kind::String => self.string(-1),
            Kind::Number => self.number(-1),
            Kind::Boolean => {
                self.out.extend_from_slice(if frame.boolean(-1) { b"true" } else { b"false" });
                Ok(())
            }
            Kind::Table => self.table(depth + 1),
            Kind::Nil => {
                self.out.extend_from_slice(b"null");
                Ok(())
            }
            Kind::LightUserdata if frame.is_null(-1) => {
                self.out.extend_from_slice(b"null");
                Ok(())
            }
            _ => self.refuse(-1, "type not supported"),
        }
    }

    fn refuse<T>(&self, index: i32, why: &str) -> Result<T, Raise> {
        let kind = self.frame.kind(index).name();
        self.frame.fail(format!("Cannot serialise {kind}: {why}"))
    }

    fn string(&mut self, index: i32) -> Result<(), Raise> {
        let text = self.frame.bytes(index).unwrap_or_default();
        // Everything may become six characters.
        self.frame.check_room(self.out.len() + text.len().saturating_mul(6))?;
        let out = &mut self.out;
        out.reserve(text.len() + 2);
        out.push(b'"');
        let mut start = 0;
        for (at, &byte) in text.iter().enumerate() {
            let escape = ESCAPES[usize::from(byte)];
            if escape == 0 {
                continue;
            }
            out.extend_from_slice(&text[start..at]);
            start = at + 1;
            out.extend_from_slice(&[b'\\', escape]);
            if escape == b'u' {
                let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
                out.extend_from_slice(&[b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
        }
        out.extend_from_slice(&text[start..]);
        out.push(b'"');
        Ok(())
    }

    fn number(&mut self, index: i32) -> Result<(), Raise> {
        let value = self.frame.number(index);
        if !value.is_finite() {
            match self.config.encode_invalid_numbers {
                0 => return self.refuse(index, "must not be NaN or Inf"),
                1 if value.is_nan() => self.out.extend_from_slice(b"nan"),
                1 => number::write_general(&mut self.out, value, 14),
                _ => self.out.extend_from_slice(b"null"),
            }
            return Ok(());
        }
        number::write_general(&mut self.out, value, self.config.encode_precision as usize);
        Ok(())
    }

    fn table(&mut self, depth: i32) -> Result<(), Raise> {
        if depth > self.config.encode_depth_max || !self.frame.reserve(6) {
            return self.frame.fail(format!("Cannot serialise, excessive nesting ({depth})"));
        }
        match self.array_len()? {
            len if len > 0 => self.array(depth, len),
            _ => self.object(depth),
        }
    }

    /// How long the table on top of the stack is as an array; not above zero if it is an object.
    fn array_len(&mut self) -> Result<i32, Raise> {
        let frame = self.frame;
        let (mut max, mut items): (i32, i32) = (0, 0);
        frame.push_nil();
        while frame.next(-2) {
            frame.breathe()?;
            frame.pop(1);
            let key = if frame.kind(-1) == Kind::Number { frame.number(-1) } else { 0.0 };
            if key < 1.0 || key.floor() != key {
                frame.pop(1);
                return Ok(-1);
            }
            if key > f64::from(max) {
                max = number::cast_int(key);
            }
            items = items.wrapping_add(1);
        }
        let ratio = self.config.sparse_ratio;
        if ratio > 0 && max > items.wrapping_mul(ratio) && max > self.config.sparse_safe {
            if self.config.sparse_convert == 0 {
                return self.refuse(-1, "excessively sparse array");
            }
            return Ok(-1);
        }
        Ok(max)
    }

    fn array(&mut self, depth: i32, len: i32) -> Result<(), Raise> {
        self.out.push(b'[');
        for index in 1..=len {
            if index > 1 {
                self.out.push(b',');
            }
            self.frame.raw_get_index(-1, index);
            self.value(depth)?;
            self.frame.pop(1);
            self.frame.check_room(self.out.len())?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, depth: i32) -> Result<(), Raise> {
        let frame = self.frame;
        self.out.push(b'{');
        let mut is_first = true;
        frame.push_nil();
        while frame.next(-2) {
            if !is_first {
                self.out.push(b',');
            }
            is_first = false;
            match frame.kind(-2) {
                Kind::String => self.string(-2)?,
                Kind::Number => {
                    self.out.push(b'"');
                    self.number(-2)?;
                    self.out.push(b'"');
                }
                _ => return self.refuse(-2, "table key must be a number or string"),
            }
            self.out.push(b':');
            self.value(depth)?;
            frame.pop(1);
            frame.check_room(self.out.len())?;
        }
        self.out.push(b'}');
        Ok(())
    }
}
