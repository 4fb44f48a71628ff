//! `bit`: operations on the low 32 bits of numbers.

use crate::raw::{Frame, Kind, Raise, Returns};

/// Pushes the table.
pub(super) fn push_table(frame: Frame<'_>) {
    frame.push_table(0, 12);
    frame.push_function(|frame| returns(frame, bits(frame, 1)?));
    frame.raw_set_field(-2, b"tobit");
    frame.push_function(|frame| returns(frame, !bits(frame, 1)?));
    frame.raw_set_field(-2, b"bnot");
    frame.push_function(|frame| joined(frame, |a, b| a & b));
    frame.raw_set_field(-2, b"band");
    frame.push_function(|frame| joined(frame, |a, b| a | b));
    frame.raw_set_field(-2, b"bor");
    frame.push_function(|frame| joined(frame, |a, b| a ^ b));
    frame.raw_set_field(-2, b"bxor");
    frame.push_function(|frame| shifted(frame, |bits, by| bits << by));
    frame.raw_set_field(-2, b"lshift");
    frame.push_function(|frame| shifted(frame, |bits, by| bits >> by));
    frame.raw_set_field(-2, b"rshift");
    frame.push_function(|frame| shifted(frame, |bits, by| (bits as i32 >> by) as u32));
    frame.raw_set_field(-2, b"arshift");
    frame.push_function(|frame| shifted(frame, u32::rotate_left));
    frame.raw_set_field(-2, b"rol");
    frame.push_function(|frame| shifted(frame, u32::rotate_right));
    frame.raw_set_field(-2, b"ror");
    frame.push_function(|frame| returns(frame, bits(frame, 1)?.swap_bytes()));
    frame.raw_set_field(-2, b"bswap");
    frame.push_function(tohex);
    frame.raw_set_field(-2, b"tohex");
}

/// The low bits of an argument: rounded to an integer, modulo 2^32.
fn bits(frame: Frame<'_>, argument: i32) -> Result<u32, Raise> {
    /// Added to a number it puts the number's low bits at the end of the mantissa.
    const ALIGNED: f64 = 6_755_399_441_055_744.0;
    let bits = (frame.number(argument) + ALIGNED).to_bits() as u32;
    if bits == 0 && !frame.is_number(argument) {
        return frame.wrong_type(argument, "number");
    }
    Ok(bits)
}

fn returns(frame: Frame<'_>, bits: u32) -> Returns {
    frame.push_number(f64::from(bits as i32));
    Ok(1)
}

fn joined(frame: Frame<'_>, join: fn(u32, u32) -> u32) -> Returns {
    let mut result = bits(frame, 1)?;
    for argument in (2..=frame.top()).rev() {
        result = join(result, bits(frame, argument)?);
    }
    returns(frame, result)
}

fn shifted(frame: Frame<'_>, shift: fn(u32, u32) -> u32) -> Returns {
    let value = bits(frame, 1)?;
    returns(frame, shift(value, bits(frame, 2)? & 31))
}

/// The last digits of a number; in capitals if their number is given as negative.
fn tohex(frame: Frame<'_>) -> Returns {
    let mut value = bits(frame, 1)?;
    let count = if frame.kind(2) == Kind::None { 8 } else { bits(frame, 2)? as i32 };
    let digits = if count < 0 { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let mut text = [0; 8];
    let text = &mut text[..count.unsigned_abs().min(8) as usize];
    for digit in text.iter_mut().rev() {
        *digit = digits[(value & 15) as usize];
        value >>= 4;
    }
    frame.push_bytes(text);
    Ok(1)
}
