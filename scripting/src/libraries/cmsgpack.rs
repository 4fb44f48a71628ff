//! `cmsgpack`: values as MessagePack.

use crate::number;
use crate::raw::{Frame, Kind, Raise, Returns};

/// Pushes the table.
pub(super) fn push_table(frame: Frame<'_>) {
    frame.push_table(0, 8);
    frame.push_function(pack);
    frame.raw_set_field(-2, b"pack");
    frame.push_function(unpack);
    frame.raw_set_field(-2, b"unpack");
    frame.push_function(unpack_one);
    frame.raw_set_field(-2, b"unpack_one");
    frame.push_function(unpack_limit);
    frame.raw_set_field(-2, b"unpack_limit");
    for (name, text) in [
        ("_NAME", "cmsgpack"),
        ("_VERSION", "lua-cmsgpack 0.4.0"),
        ("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
        ("_DESCRIPTION", "MessagePack C implementation for Lua"),
    ] {
        frame.push_bytes(text.as_bytes());
        frame.raw_set_field(-2, name.as_bytes());
    }
}

/// Tables that are nested more deeply become nil.
const NESTING_MAX: usize = 16;

fn pack(frame: Frame<'_>) -> Returns {
    let count = frame.top();
    if count == 0 {
        return frame.wrong_argument(0, "MessagePack pack needs input.");
    }
    if !frame.reserve(count) {
        return frame.wrong_argument(0, "Too many arguments for MessagePack pack.");
    }
    let mut out = frame.shared().borrow_buffer();
    let mut packed = Ok(());
    for argument in 1..=count {
        frame.push_value(argument);
        packed = pack_value(frame, &mut out, 0);
        if packed.is_err() {
            break;
        }
    }
    if packed.is_ok() {
        frame.push_bytes(&out);
    }
    frame.shared().return_buffer(out);
    packed.map(|()| 1)
}

/// Packs the value on top of the stack, and drops it.
fn pack_value(frame: Frame<'_>, out: &mut Vec<u8>, level: usize) -> Result<(), Raise> {
    frame.breathe()?;
    frame.check_room(out.len())?;
    match frame.kind(-1) {
        Kind::String => pack_bytes(frame, out, frame.bytes(-1).unwrap_or_default())?,
        Kind::Boolean => out.push(if frame.boolean(-1) { 0xC3 } else { 0xC2 }),
        Kind::Number => pack_number(out, frame.number(-1)),
        Kind::Table if level < NESTING_MAX => match array_len(frame)? {
            Some(len) => pack_array(frame, out, level, len)?,
            None => pack_map(frame, out, level)?,
        },
        _ => out.push(0xC0),
    }
    frame.pop(1);
    Ok(())
}

fn pack_bytes(frame: Frame<'_>, out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Raise> {
    match bytes.len() {
        len @ 0..32 => out.push(0xA0 | len as u8),
        len @ 32..0x100 => out.extend_from_slice(&[0xD9, len as u8]),
        len @ 0x100..0x1_0000 => header(out, 0xDA, &(len as u16).to_be_bytes()),
        len => header(out, 0xDB, &(len as u32).to_be_bytes()),
    }
    frame.check_room(out.len() + bytes.len())?;
    out.extend_from_slice(bytes);
    Ok(())
}

fn pack_number(out: &mut Vec<u8>, value: f64) {
    let integer = number::truncate(value);
    if integer as f64 != value || value == 9_223_372_036_854_775_808.0 {
        let short = value as f32;
        return if f64::from(short) == value {
            header(out, 0xCA, &short.to_be_bytes());
        } else {
            header(out, 0xCB, &value.to_be_bytes());
        };
    }
    match integer {
        0..=0x7F => out.push(integer as u8),
        0x80..=0xFF => out.extend_from_slice(&[0xCC, integer as u8]),
        0x100..=0xFFFF => header(out, 0xCD, &(integer as u16).to_be_bytes()),
        0x1_0000..=0xFFFF_FFFF => header(out, 0xCE, &(integer as u32).to_be_bytes()),
        0x1_0000_0000.. => header(out, 0xCF, &integer.to_be_bytes()),
        -32..=-1 => out.push(integer as u8),
        -0x80..-32 => out.extend_from_slice(&[0xD0, integer as u8]),
        -0x8000..-0x80 => header(out, 0xD1, &(integer as i16).to_be_bytes()),
        -0x8000_0000..-0x8000 => header(out, 0xD2, &(integer as i32).to_be_bytes()),
        ..-0x8000_0000 => header(out, 0xD3, &integer.to_be_bytes()),
    }
}

fn header(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    out.extend_from_slice(bytes);
}

/// The length of the table on top of the stack, if its keys are the numbers from 1 to it and nothing else.
fn array_len(frame: Frame<'_>) -> Result<Option<usize>, Raise> {
    let (mut count, mut max) = (0, 0.0);
    frame.check_stack(2, "in function table_is_an_array")?;
    frame.push_nil();
    while frame.next(-2) {
        frame.breathe()?;
        frame.pop(1);
        let key = if frame.kind(-1) == Kind::Number { frame.number(-1) } else { 0.0 };
        if key <= 0.0 || f64::from(number::cast_int(key)) != key {
            frame.pop(1);
            return Ok(None);
        }
        max = key.max(max);
        count += 1;
    }
    Ok((max == f64::from(count)).then_some(count as usize))
}

fn pack_array(frame: Frame<'_>, out: &mut Vec<u8>, level: usize, len: usize) -> Result<(), Raise> {
    pack_len(out, len, 0x90, 0xDC);
    frame.check_stack(1, "in function mp_encode_lua_table_as_array")?;
    for index in 1..=len {
        frame.raw_get_index(-1, index as i32);
        pack_value(frame, out, level + 1)?;
    }
    Ok(())
}

fn pack_map(frame: Frame<'_>, out: &mut Vec<u8>, level: usize) -> Result<(), Raise> {
    let mut len = 0;
    frame.check_stack(3, "in function mp_encode_lua_table_as_map")?;
    frame.push_nil();
    while frame.next(-2) {
        frame.breathe()?;
        frame.pop(1);
        len += 1;
    }
    pack_len(out, len, 0x80, 0xDE);
    frame.push_nil();
    while frame.next(-2) {
        frame.push_value(-2);
        pack_value(frame, out, level + 1)?;
        pack_value(frame, out, level + 1)?;
    }
    Ok(())
}

/// The header of an array or a map: short, or with a length of two or four bytes.
fn pack_len(out: &mut Vec<u8>, len: usize, short: u8, long: u8) {
    match len {
        0..=15 => out.push(short | len as u8),
        16..=0xFFFF => header(out, long, &(len as u16).to_be_bytes()),
        _ => header(out, long + 1, &(len as u32).to_be_bytes()),
    }
}

/// Why a value cannot be unpacked.
enum Wrong {
    Missing,
    Format,
    Raised,
}

impl From<Raise> for Wrong {
    fn from(Raise: Raise) -> Wrong {
        Wrong::Raised
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Wrong> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Wrong::Missing)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        self.take(N)?.try_into().map_err(|_| Wrong::Missing)
    }

    /// An unsigned number of so many bytes.
    fn unsigned(&mut self, len: usize) -> Result<u64, Wrong> {
        Ok(self.take(len)?.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// Pushes one value.
    fn value(&mut self, frame: Frame<'_>) -> Result<(), Wrong> {
        if self.rest.is_empty() {
            return Err(Wrong::Missing);
        }
        frame.breathe()?;
        frame.check_stack(1, "too many return values at once; use unpack_one or unpack_limit instead.")?;
        match self.array::<1>()?[0] {
            fixed @ 0..=0x7F => frame.push_number(f64::from(fixed)),
            fixed @ 0xE0..=0xFF => frame.push_number(f64::from(fixed as i8)),
            0xCC => frame.push_number(self.unsigned(1)? as f64),
            0xCD => frame.push_number(self.unsigned(2)? as f64),
            0xCE => frame.push_number(self.unsigned(4)? as f64),
            // What is too large for a signed number wraps.
            0xCF => frame.push_number(self.unsigned(8)? as i64 as f64),
            0xD0 => frame.push_number(f64::from(i8::from_be_bytes(self.array()?))),
            0xD1 => frame.push_number(f64::from(i16::from_be_bytes(self.array()?))),
            0xD2 => frame.push_number(f64::from(i32::from_be_bytes(self.array()?))),
            0xD3 => frame.push_number(i64::from_be_bytes(self.array()?) as f64),
            0xC0 => frame.push_nil(),
            0xC2 => frame.push_boolean(false),
            0xC3 => frame.push_boolean(true),
            0xCA => frame.push_number(f64::from(f32::from_be_bytes(self.array()?))),
            0xCB => frame.push_number(f64::from_be_bytes(self.array()?)),
            short @ 0xA0..=0xBF => frame.push_bytes(self.take(usize::from(short & 0x1F))?),
            long @ 0xD9..=0xDB => {
                let len = self.unsigned(1 << (long - 0xD9))?;
                frame.push_bytes(self.take(len as usize)?);
            }
            short @ 0x90..=0x9F => self.elements(frame, u64::from(short & 15))?,
            long @ (0xDC | 0xDD) => {
                let len = self.unsigned(2 << (long - 0xDC))?;
                self.elements(frame, len)?;
            }
            short @ 0x80..=0x8F => self.pairs(frame, u64::from(short & 15))?,
            long @ (0xDE | 0xDF) => {
                let len = self.unsigned(2 << (long - 0xDE))?;
                self.pairs(frame, len)?;
            }
            _ => return Err(Wrong::Format),
        }
        Ok(())
    }

    fn elements(&mut self, frame: Frame<'_>, len: u64) -> Result<(), Wrong> {
        frame.push_table(0, 0);
        frame.check_stack(1, "in function mp_decode_to_lua_array")?;
        for index in 1..=len {
            frame.push_number(index as f64);
            self.value(frame)?;
            frame.raw_set(-3);
        }
        Ok(())
    }

    fn pairs(&mut self, frame: Frame<'_>, len: u64) -> Result<(), Wrong> {
        frame.push_table(0, 0);
        for _ in 0..len {
            self.value(frame)?;
            self.value(frame)?;
            match frame.kind(-2) {
                Kind::Nil => frame.raise_text(b"table index is nil")?,
                Kind::Number if frame.number(-2).is_nan() => frame.raise_text(b"table index is NaN")?,
                _ => frame.raw_set(-3),
            }
        }
        Ok(())
    }
}

fn unpack(frame: Frame<'_>) -> Returns {
    unpack_some(frame, 0, 0)
}

fn unpack_one(frame: Frame<'_>) -> Returns {
    let offset = frame.optional_integer(2, 0)?;
    frame.set_top(frame.top().min(1));
    unpack_some(frame, 1, offset)
}

fn unpack_limit(frame: Frame<'_>) -> Returns {
    let limit = frame.check_integer(2)?;
    let offset = frame.optional_integer(3, 0)?;
    frame.set_top(1);
    unpack_some(frame, limit, offset)
}

/// Unpacks some values from an offset on, and says in front of them where the next begins; all of them if there is
/// neither limit nor offset.
fn unpack_some(frame: Frame<'_>, limit: i64, offset: i64) -> Returns {
    let is_all = limit == 0 && offset == 0;
    let input = frame.check_text(1)?;
    let len = input.len() as i32;
    if offset < 0 || limit < 0 {
        let offset = offset as i32;
        return frame.fail(format!("Invalid request to unpack with offset of {offset} and limit of {len}."));
    }
    let Some(rest) = usize::try_from(offset).ok().and_then(|offset| input.get(offset..)) else {
        let offset = offset as i32;
        return frame.fail(format!("Start offset {offset} greater than input length {len}."));
    };
    let limit = if is_all { i64::from(i32::MAX) } else { limit };
    let mut reader = Reader { rest };
    let mut count = 0;
    while !reader.rest.is_empty() && count < limit {
        match reader.value(frame) {
            Ok(()) => count += 1,
            Err(Wrong::Missing) => return frame.fail("Missing bytes in input."),
            Err(Wrong::Format) => return frame.fail("Bad data format in input."),
            Err(Wrong::Raised) => return Err(Raise),
        }
    }
    if !is_all {
        frame.check_stack(1, "in function mp_unpack_full")?;
        let next = input.len() - reader.rest.len();
        frame.push_number(if reader.rest.is_empty() { -1.0 } else { next as f64 });
        frame.insert(2);
        count += 1;
    }
    Ok(count as i32)
}
