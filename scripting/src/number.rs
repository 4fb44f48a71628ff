//! Numbers as C reads and writes them: `%g`, `strtod`, casts to integers.

use std::io::Write;

use mortise_sdk::resp::{format_double, format_integer};

/// A double cast to an integer as x86 does it: towards zero, and the smallest integer for what does not fit.
#[inline(always)]
pub(crate) fn truncate(value: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&value) { value as i64 } else { i64::MIN }
}

/// The same to an `int`, by way of the larger type: its low half.
pub(crate) fn truncate_int(value: f64) -> i32 {
    truncate(value) as i32
}

/// A double cast to an `int` at once: the smallest for what does not fit.
pub(crate) fn cast_int(value: f64) -> i32 {
    if value > -2_147_483_649.0 && value < 2_147_483_648.0 { value as i32 } else { i32::MIN }
}

/// A double cast to an unsigned integer as compilers do it on x86; a negative one wraps.
pub(crate) fn truncate_unsigned(value: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    if value >= HALF { truncate(value - HALF) as u64 ^ 1 << 63 } else { truncate(value) as u64 }
}

/// `%.17g`, as commands are given numbers.
#[inline]
pub(crate) fn write_exact(out: &mut Vec<u8>, value: f64) {
    if let 0..100_000 = value as i32
        && f64::from(value as i32).to_bits() == value.to_bits()
    {
        out.extend_from_slice(format_integer(i64::from(value as i32)).as_bytes());
        return;
    }
    if value.is_nan() && value.is_sign_negative() {
        out.push(b'-');
    }
    out.extend_from_slice(format_double(value).as_bytes());
}

/// `%.Ng`: so many significant digits, without trailing zeros.
pub(crate) fn write_general(out: &mut Vec<u8>, value: f64, precision: usize) {
    if !value.is_finite() {
        if value.is_sign_negative() {
            out.push(b'-');
        }
        out.extend_from_slice(if value.is_nan() { b"nan" } else { b"inf" });
        return;
    }
    const POWERS: [f64; 16] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let is_short = precision < POWERS.len() && value.abs() < POWERS[precision];
    if is_short && value.trunc() == value && (value != 0.0 || value.is_sign_positive()) {
        out.extend_from_slice(format_integer(value as i64).as_bytes());
        return;
    }
    // `d.dddde±x`, rounded to as many digits as are wanted.
    let mut text = [0; 64];
    let mut rest = &mut text[..];
    let digits_max = precision.clamp(1, 32);
    let written = write!(rest, "{:.*e}", digits_max - 1, value.abs());
    debug_assert!(written.is_ok());
    let left = rest.len();
    let text = &text[..text.len() - left];
    let at = text.iter().position(|&byte| byte == b'e').unwrap_or(text.len());
    let exponent: i32 = std::str::from_utf8(text.get(at + 1..).unwrap_or_default())
        .ok()
        .and_then(|e| e.parse().ok())
        .unwrap_or(0);
    let mut digits = [b'0'; 32];
    let mut len = 0;
    for &digit in text[..at].iter().filter(|byte| byte.is_ascii_digit()) {
        digits[len] = digit;
        len += 1;
    }
    let significant = digits[..len].iter().rposition(|&digit| digit != b'0').map_or(1, |last| last + 1);
    let digits = &digits[..significant];
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if exponent < -4 || exponent >= digits_max as i32 {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.abs() < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(format_integer(i64::from(exponent.abs())).as_bytes());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend_from_slice(&b"000"[..(-exponent - 1) as usize]);
        out.extend_from_slice(digits);
    } else {
        let whole = exponent as usize + 1;
        let (before, after) = digits.split_at(digits.len().min(whole));
        out.extend_from_slice(before);
        out.resize(out.len() + whole - before.len(), b'0');
        if !after.is_empty() {
            out.push(b'.');
            out.extend_from_slice(after);
        }
    }
}

/// Reads the number at the beginning of a text as C's `strtod` does, and says how long it is; nothing if there is none.
/// That is decimal and hexadecimal, with a sign, and infinity and nan in any case.
pub(crate) fn read(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let rest = &text[sign..];
    let (value, len) = if is_word(rest, b"infinity") {
        (f64::INFINITY, 8)
    } else if is_word(rest, b"inf") {
        (f64::INFINITY, 3)
    } else if is_word(rest, b"nan") {
        (f64::NAN, 3 + payload(&rest[3..]))
    } else if let Some(found) = hexadecimal(rest) {
        found
    } else {
        decimal(rest)?
    };
    Some((if text[0] == b'-' { -value } else { value }, sign + len))
}

fn is_word(text: &[u8], word: &[u8]) -> bool {
    text.len() >= word.len() && text[..word.len()].eq_ignore_ascii_case(word)
}

/// The length of `(letters)` after nan.
fn payload(text: &[u8]) -> usize {
    let letters =
        |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    match text {
        [b'(', inner @ ..] => match letters(inner) {
            len if inner.get(len) == Some(&b')') => len + 2,
            _ => 0,
        },
        _ => 0,
    }
}

fn decimal(text: &[u8]) -> Option<(f64, usize)> {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(0);
    let mut len = whole;
    let mut fraction = 0;
    if text.get(len) == Some(&b'.') {
        fraction = digits(len + 1);
        len += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    if let Some(b'e' | b'E') = text.get(len) {
        let sign = usize::from(matches!(text.get(len + 1), Some(b'+' | b'-')));
        let exponent = if text.len() > len + 1 + sign { digits(len + 1 + sign) } else { 0 };
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    let value = std::str::from_utf8(&text[..len]).ok()?.parse().ok()?;
    Some((value, len))
}

/// `0x1.8p3`; without digits, the zero alone is the number.
fn hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    if !is_word(text, b"0x") {
        return None;
    }
    let mut mantissa: u64 = 0;
    let mut exponent: i64 = 0;
    let mut inexact = false;
    let (mut at, mut any, mut point) = (2, false, false);
    while let Some(&byte) = text.get(at) {
        match (byte as char).to_digit(16) {
            Some(digit) => {
                any = true;
                if mantissa >> 59 == 0 {
                    mantissa = mantissa << 4 | u64::from(digit);
                    exponent -= if point { 4 } else { 0 };
                } else {
                    inexact |= digit != 0;
                    exponent += if point { 0 } else { 4 };
                }
            }
            None if byte == b'.' && !point => point = true,
            None => break,
        }
        at += 1;
    }
    if !any {
        return Some((0.0, 1));
    }
    if let Some(b'p' | b'P') = text.get(at) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let digits = text.get(at + 1 + sign..).unwrap_or_default();
        let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if len > 0 {
            let value = digits[..len].iter().fold(0i64, |value, digit| {
                value.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(1 << 40)
            });
            exponent += if text[at + 1] == b'-' { -value } else { value };
            at += 1 + sign + len;
        }
    }
    // What was cut off only matters for a tie, and a bit below all others decides that.
    Some((scale(mantissa << 1 | u64::from(inexact), exponent - 1), at))
}

/// `mantissa` times a power of two, rounded once.
fn scale(mantissa: u64, exponent: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    let bits = 64 - i64::from(mantissa.leading_zeros());
    let top = bits + exponent;
    if top > 1100 {
        return f64::INFINITY;
    }
    if top < -1100 {
        return 0.0;
    }
    // How many bits a double of that size has, fewer below the smallest normal one.
    let kept = (top + 1074).clamp(0, 53);
    let cut = bits - kept;
    let (value, exponent) = if cut <= 0 {
        (mantissa, exponent)
    } else if cut > 64 {
        return 0.0;
    } else {
        let wide = u128::from(mantissa);
        let (high, low, half) = (wide >> cut, wide & ((1 << cut) - 1), 1u128 << (cut - 1));
        let up = low > half || (low == half && high & 1 == 1);
        ((high + u128::from(up)) as u64, exponent + cut)
    };
    // Exact: in two steps, as a power of two beyond the range of normal numbers would not be.
    let power = |exponent: i64| 2f64.powi(exponent as i32);
    let half = exponent / 2;
    value as f64 * power(half) * power(exponent - half)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn general(value: f64, precision: usize) -> String {
        let mut out = Vec::new();
        write_general(&mut out, value, precision);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_by_printf() {
        let cases: [(f64, usize, &str); 18] = [
            (0.0, 14, "0"),
            (-0.0, 14, "-0"),
            (1.0, 14, "1"),
            (0.1, 14, "0.1"),
            (1.0 / 3.0, 14, "0.33333333333333"),
            (1e13, 14, "10000000000000"),
            (1e14, 14, "1e+14"),
            (123_456_789_012_345.0, 14, "1.2345678901234e+14"),
            (99_999_999_999_999.9, 14, "1e+14"),
            (1e-5, 14, "1e-05"),
            (0.0001, 14, "0.0001"),
            (1e300, 14, "1e+300"),
            (5e-324, 14, "4.9406564584125e-324"),
            (3.5, 1, "4"),
            (2.5, 1, "2"),
            (12.0, 1, "1e+01"),
            (f64::NEG_INFINITY, 14, "-inf"),
            (f64::NAN, 14, "nan"),
        ];
        for (value, precision, text) in cases {
            assert_eq!(general(value, precision), text);
        }
    }

    #[test]
    fn numbers_are_read_as_by_strtod() {
        let cases: [(&str, f64, usize); 19] = [
            ("1", 1.0, 1),
            ("-12.5e2x", -1250.0, 7),
            ("1e", 1.0, 1),
            ("1e+", 1.0, 1),
            ("1.", 1.0, 2),
            (".5", 0.5, 2),
            ("+3", 3.0, 2),
            ("007", 7.0, 3),
            ("0x", 0.0, 1),
            ("0x10", 16.0, 4),
            ("0x.8", 0.5, 4),
            ("0x1.8p1", 3.0, 7),
            ("0x1p", 1.0, 3),
            ("0x1p-1074", 5e-324, 9),
            ("0x1p-1075", 0.0, 9),
            ("0x20000000000001", 9_007_199_254_740_992.0, 16),
            ("0x1p1024", f64::INFINITY, 8),
            ("-Infinity", f64::NEG_INFINITY, 9),
            ("1e999", f64::INFINITY, 5),
        ];
        for (text, value, len) in cases {
            assert_eq!(read(text.as_bytes()), Some((value, len)), "{text}");
        }
        assert!(matches!(read(b"nan(1_x)y"), Some((value, 8)) if value.is_nan()));
        for none in ["", "-", ".", "x", "e5", "+-1"] {
            assert_eq!(read(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn casts_are_those_of_x86() {
        assert_eq!(truncate(3.99), 3);
        assert_eq!(truncate(-3.99), -3);
        assert_eq!(truncate(1e300), i64::MIN);
        assert_eq!(truncate(f64::NAN), i64::MIN);
        assert_eq!(truncate_int(4_294_967_297.0), 1);
    }
}
