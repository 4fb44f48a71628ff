//! Numbers as text, without allocation.

use std::fmt::Write;

/// The digits of an integer.
#[derive(Clone, Copy)]
pub struct IntegerText {
    text: [u8; 20],
    start: u8,
}

impl IntegerText {
    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[usize::from(self.start)..]
    }
}

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
                            2021222324252627282930313233343536373839\
                            4041424344454647484950515253545556575859\
                            6061626364656667686970717273747576777879\
                            8081828384858687888990919293949596979899";

/// An integer in decimal.
#[inline]
pub fn format_integer(value: i64) -> IntegerText {
    format(value.unsigned_abs(), value < 0)
}

#[inline]
fn format(rest: u64, negative: bool) -> IntegerText {
    let mut out = IntegerText { text: [0; 20], start: 0 };
    let mut start = write_digits(&mut out.text, rest);
    if negative {
        start -= 1;
        out.text[start] = b'-';
    }
    out.start = start as u8;
    out
}

/// Writes digits that end where the room does; returns where they begin.
#[inline(always)]
fn write_digits(room: &mut [u8], mut rest: u64) -> usize {
    let mut start = room.len();
    while rest >= 100 {
        let pair = (rest % 100) as usize * 2;
        rest /= 100;
        start -= 2;
        room[start..start + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if rest >= 10 {
        let pair = rest as usize * 2;
        start -= 2;
        room[start..start + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        start -= 1;
        room[start] = b'0' + rest as u8;
    }
    start
}

/// Appends a line of a letter and an integer. Its digits are written where they stay: to copy bytes that have only just
/// been written, a few at once, costs the processor more than to make them.
#[inline]
pub(super) fn append_line(out: &mut Vec<u8>, kind: u8, value: i64) {
    if let 0..=9 = value {
        return out.extend_from_slice(&[kind, b'0' + value as u8, b'\r', b'\n']);
    }
    append_long_line(out, kind, value);
}

fn append_long_line(out: &mut Vec<u8>, kind: u8, value: i64) {
    const ROOM: usize = "k-9223372036854775808\r\n".len();
    let (begin, rest) = (out.len(), value.unsigned_abs());
    let first = if value < 0 { 2 } else { 1 };
    let end = first + rest.checked_ilog10().unwrap_or(0) as usize + 1;
    out.extend_from_slice(&[b'-'; ROOM]);
    let room = &mut out[begin..begin + ROOM];
    room[0] = kind;
    write_digits(&mut room[..end], rest);
    room[end..end + 2].copy_from_slice(b"\r\n");
    out.truncate(begin + end + 2);
}

/// The text of a double.
#[derive(Clone, Copy)]
pub struct DoubleText {
    text: [u8; 32],
    len: u8,
}

impl DoubleText {
    fn push(&mut self, bytes: &[u8]) {
        let len = usize::from(self.len);
        self.text[len..len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.len)]
    }
}

impl Write for DoubleText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// A double as Redis shows scores: `3`, `1.5`, `0.10000000000000001`, `1e+30`, `inf`, `-inf`, `nan`, `-0`.
/// That is C's `%.17g`: 17 significant digits, trailing zeros dropped, an exponent from 1e17 on and below 1e-4.
pub fn format_double(value: f64) -> DoubleText {
    let mut out = DoubleText { text: [0; 32], len: 0 };
    if value.is_nan() {
        out.push(b"nan");
        return out;
    }
    if value.is_infinite() {
        out.push(if value > 0.0 { b"inf" } else { b"-inf" });
        return out;
    }
    // Up to 2^53 integers are exact, and have fewer than 17 digits.
    if value.abs() <= 9_007_199_254_740_992.0
        && value.trunc() == value
        && (value != 0.0 || value.is_sign_positive())
    {
        out.push(format_integer(value as i64).as_bytes());
        return out;
    }

    // `d.dddddddddddddddde±x`, correctly rounded to 17 digits.
    let mut scientific = DoubleText { text: [0; 32], len: 0 };
    let written = write!(scientific, "{:.16e}", value.abs());
    debug_assert!(written.is_ok());
    let text = scientific.as_bytes();
    let e = text.iter().position(|&b| b == b'e').unwrap_or(text.len());
    let mut digits = [0; 17];
    digits[0] = text[0];
    digits[1..].copy_from_slice(&text[2..e]);
    let mut exponent: i32 = 0;
    let (sign, magnitude) = match &text[e + 1..] {
        [b'-', rest @ ..] => (-1, rest),
        rest => (1, rest),
    };
    for digit in magnitude {
        exponent = exponent * 10 + i32::from(digit - b'0');
    }
    exponent *= sign;
    let significant = digits.iter().rposition(|&digit| digit != b'0').map_or(1, |last| last + 1);
    let digits = &digits[..significant];

    if value.is_sign_negative() {
        out.push(b"-");
    }
    if !(-4..17).contains(&exponent) {
        out.push(&digits[..1]);
        if digits.len() > 1 {
            out.push(b".");
            out.push(&digits[1..]);
        }
        out.push(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.abs() < 10 {
            out.push(b"0");
        }
        out.push(format_integer(i64::from(exponent.abs())).as_bytes());
    } else if exponent < 0 {
        out.push(b"0.");
        out.push(&b"000"[..(-exponent - 1) as usize]);
        out.push(digits);
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            out.push(digits);
            out.push(&b"0000000000000000"[..whole - digits.len()]);
        } else {
            out.push(&digits[..whole]);
            out.push(b".");
            out.push(&digits[whole..]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(value: f64) -> String {
        String::from_utf8(format_double(value).as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn integers() {
        for value in [0, 7, 10, 99, 100, 12345, -1, -10, -100, i64::MAX, i64::MIN, u32::MAX.into()] {
            assert_eq!(format_integer(value).as_bytes(), value.to_string().as_bytes());
        }
    }

    #[test]
    fn doubles() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-3.0, "-3"),
            (1.5, "1.5"),
            (0.1, "0.10000000000000001"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (99_999_999_999_999_984.0, "99999999999999984"),
            (1e300, "1.0000000000000001e+300"),
            (1e-4, "0.0001"),
            (1e-5, "1.0000000000000001e-05"),
            (-2.5e-7, "-2.4999999999999999e-07"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            // A tie at the 17th digit is rounded to even.
            (1_125_899_906_842_624.0 + 0.25, "1125899906842624.2"),
            (1_125_899_906_842_624.0 + 0.75, "1125899906842624.8"),
        ] {
            assert_eq!(double(value), text);
        }
    }

    #[test]
    fn doubles_read_back_as_themselves() {
        let mut state = 1u64;
        for _ in 0..100_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let value = f64::from_bits(state ^ (state >> 33));
            if value.is_finite() {
                let text = double(value);
                assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
            }
        }
    }
}
