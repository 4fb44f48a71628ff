//! `struct`: values packed into strings as C lays them out.

use crate::errors;
use crate::number;
use crate::raw::{Frame, Raise, Returns};

/// Pushes the table.
pub(super) fn push_table(frame: Frame<'_>) {
    frame.push_table(0, 3);
    frame.push_function(pack);
    frame.raw_set_field(-2, b"pack");
    frame.push_function(unpack);
    frame.raw_set_field(-2, b"unpack");
    frame.push_function(size);
    frame.raw_set_field(-2, b"size");
}

/// Bytes of an integer at most.
const INTEGER_MAX: usize = 32;

/// The alignment that `!` alone stands for: that of a double.
const ALIGN_MAX: i32 = 8;

/// Reads a format, element by element.
struct Format<'a> {
    frame: Frame<'a>,
    rest: &'a [u8],
    big_endian: bool,
    align: usize,
}

/// One element of a format.
struct Element {
    option: u8,
    /// Bytes it takes; nothing for strings of their own length and for what controls the format.
    size: usize,
}

impl<'a> Format<'a> {
    fn new(frame: Frame<'a>) -> Result<Format<'a>, Raise> {
        let rest = errors::until_zero(frame.check_text(1)?);
        Ok(Format { frame, rest, big_endian: cfg!(target_endian = "big"), align: 1 })
    }

    fn next(&mut self) -> Result<Option<Element>, Raise> {
        let Some((&option, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let size = match option {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)? as usize,
            b'i' | b'I' => {
                let size = self.number(4)? as usize;
                if size > INTEGER_MAX {
                    let text = format!("integral size {size} is larger than limit of {INTEGER_MAX}");
                    return self.frame.fail(text);
                }
                size
            }
            _ => 0,
        };
        Ok(Some(Element { option, size }))
    }

    fn number(&mut self, default: i32) -> Result<i32, Raise> {
        if !self.rest.first().is_some_and(u8::is_ascii_digit) {
            return Ok(default);
        }
        let mut number: i32 = 0;
        while let Some((digit @ b'0'..=b'9', rest)) = self.rest.split_first() {
            self.rest = rest;
            match number.checked_mul(10).and_then(|number| number.checked_add(i32::from(digit - b'0'))) {
                Some(next) => number = next,
                None => return self.frame.fail("integral size overflow"),
            }
        }
        Ok(number)
    }

    /// How many bytes are left out before an element at a position.
    fn padding(&self, position: usize, element: &Element) -> usize {
        if element.size == 0 || element.option == b'c' {
            return 0;
        }
        let size = element.size.min(self.align);
        size.wrapping_sub(position & (size - 1)) & (size - 1)
    }

    /// What is no value: the order of bytes, alignment, blanks.
    fn control(&mut self, option: u8) -> Result<(), Raise> {
        match option {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let align = self.number(ALIGN_MAX)?;
                if align <= 0 || align & (align - 1) != 0 {
                    return self.frame.fail(format!("alignment {align} is not a power of 2"));
                }
                self.align = align as usize;
            }
            _ => {
                return self
                    .frame
                    .wrong_argument(1, [b"invalid format option '", &[option][..], b"'"].concat());
            }
        }
        Ok(())
    }
}

fn pack(frame: Frame<'_>) -> Returns {
    let mut out = frame.shared().borrow_buffer();
    let packed = pack_into(frame, &mut out);
    if packed.is_ok() {
        frame.push_bytes(&out);
    }
    frame.shared().return_buffer(out);
    packed.map(|()| 1)
}

fn pack_into(frame: Frame<'_>, out: &mut Vec<u8>) -> Result<(), Raise> {
    let mut format = Format::new(frame)?;
    // What is missing is nil, by which messages call it.
    frame.push_nil();
    let mut argument = 1;
    while let Some(element) = format.next()? {
        frame.breathe()?;
        out.resize(out.len() + format.padding(out.len(), &element), 0);
        frame.check_room(out.len())?;
        match element.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                argument += 1;
                let value = number::truncate_unsigned(frame.check_number(argument)?);
                let mut bytes = [0; INTEGER_MAX];
                bytes[..8].copy_from_slice(&value.to_le_bytes());
                let bytes = &mut bytes[..element.size];
                if format.big_endian {
                    bytes.reverse();
                }
                out.extend_from_slice(bytes);
            }
            b'x' => out.push(0),
            b'f' => {
                argument += 1;
                let bytes = (frame.check_number(argument)? as f32).to_le_bytes();
                out.extend_from_slice(&ordered(bytes, format.big_endian));
            }
            b'd' => {
                argument += 1;
                let bytes = frame.check_number(argument)?.to_le_bytes();
                out.extend_from_slice(&ordered(bytes, format.big_endian));
            }
            b'c' | b's' => {
                argument += 1;
                let text = frame.check_text(argument)?;
                let len = if element.size == 0 { text.len() } else { element.size };
                let Some(text) = text.get(..len) else {
                    return frame.wrong_argument(argument + 1, "string too short");
                };
                frame.check_room(out.len() + len)?;
                out.extend_from_slice(text);
                if element.option == b's' {
                    out.push(0);
                }
            }
            option => format.control(option)?,
        }
    }
    Ok(())
}

fn ordered<const N: usize>(mut bytes: [u8; N], big_endian: bool) -> [u8; N] {
    if big_endian {
        bytes.reverse();
    }
    bytes
}

fn unpack(frame: Frame<'_>) -> Returns {
    let mut format = Format::new(frame)?;
    let data = frame.check_text(2)?;
    let mut position = frame.optional_integer(3, 1)? as usize;
    if position == 0 {
        return frame.wrong_argument(3, "offset must be 1 or greater");
    }
    position -= 1;
    let mut count = 0;
    while let Some(element) = format.next()? {
        frame.breathe()?;
        position = position.wrapping_add(format.padding(position, &element));
        let mut size = element.size;
        let bytes = slice(frame, data, position, size)?;
        frame.check_stack(2, "too many results")?;
        match element.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let is_signed = element.option.is_ascii_lowercase();
                frame.push_number(integer(bytes, format.big_endian, is_signed));
                count += 1;
            }
            b'x' => {}
            b'f' => {
                let bytes = ordered(bytes.try_into().unwrap_or_default(), format.big_endian);
                frame.push_number(f64::from(f32::from_le_bytes(bytes)));
                count += 1;
            }
            b'd' => {
                let bytes = ordered(bytes.try_into().unwrap_or_default(), format.big_endian);
                frame.push_number(f64::from_le_bytes(bytes));
                count += 1;
            }
            b'c' if size == 0 => {
                // The number that was read last is the length.
                if count == 0 || !frame.is_number(-1) {
                    return frame.fail("format 'c0' needs a previous size");
                }
                size = number::truncate_unsigned(frame.number(-1)) as usize;
                frame.pop(1);
                let bytes = slice(frame, data, position, size)?;
                frame.push_bytes(bytes);
            }
            b'c' => {
                frame.push_bytes(bytes);
                count += 1;
            }
            b's' => {
                let rest = data.get(position..).unwrap_or_default();
                let Some(len) = rest.iter().position(|&byte| byte == 0) else {
                    return frame.fail("unfinished string in data");
                };
                frame.push_bytes(&rest[..len]);
                size = len + 1;
                count += 1;
            }
            option => format.control(option)?,
        }
        position = position.wrapping_add(size);
    }
    frame.check_stack(1, "too many results")?;
    frame.push_number(position.wrapping_add(1) as i64 as f64);
    Ok(count + 1)
}

fn slice<'a>(frame: Frame<'_>, data: &'a [u8], position: usize, size: usize) -> Result<&'a [u8], Raise> {
    match position.checked_add(size).and_then(|end| data.get(position..end)) {
        Some(bytes) => Ok(bytes),
        None => frame.wrong_argument(2, "data string too short"),
    }
}

fn integer(bytes: &[u8], big_endian: bool, is_signed: bool) -> f64 {
    let add = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
    let value = if big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) };
    if !is_signed {
        return value as f64;
    }
    let mask = u64::MAX.wrapping_shl((bytes.len() as u32 * 8).wrapping_sub(1));
    (if value & mask != 0 { value | mask } else { value }) as i64 as f64
}

fn size(frame: Frame<'_>) -> Returns {
    let mut format = Format::new(frame)?;
    let mut position: usize = 0;
    while let Some(element) = format.next()? {
        frame.breathe()?;
        position = position.wrapping_add(format.padding(position, &element));
        match element.option {
            b's' => return frame.wrong_argument(1, "option 's' has no fixed size"),
            b'c' if element.size == 0 => return frame.wrong_argument(1, "option 'c0' has no fixed size"),
            option if !option.is_ascii_alphanumeric() => format.control(option)?,
            _ => {}
        }
        position = position.wrapping_add(element.size);
    }
    frame.push_number(position as i64 as f64);
    Ok(1)
}
