//! Arguments of a command: numbers by Redis's rules, and a cursor.

use crate::error::{self, Error};

/// An integer as Redis takes it: decimal digits with an optional minus; no plus, no spaces, no leading zeros, no "-0".
#[inline]
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        b"0" => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // 19 digits hold every i64, and fit a u64 whatever they are.
    if !matches!(digits.first(), Some(b'1'..=b'9')) || digits.len() > 19 {
        return None;
    }
    let mut value: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    if negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

/// A double as Redis takes it: all that C's `strtod` accepts (decimal, hexadecimal, "inf", "infinity" in any case, a
/// plus), but neither empty text nor spaces nor trailing bytes, no NaN, and nothing that overflows or vanishes.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let number = scan_float(text)?;
    (number.used == text.len() && !number.value.is_nan() && number.range == Range::Fits)
        .then_some(number.value)
}

/// What C's `strtod` finds at the beginning of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scanned {
    /// The value, correctly rounded.
    pub value: f64,
    /// How many bytes it took.
    pub used: usize,
    /// Whether the value could be represented.
    pub range: Range,
}

/// Whether a number could be represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Yes, up to rounding.
    Fits,
    /// Finite digits gave an infinite value.
    Overflow,
    /// Non-zero digits gave zero.
    Vanished,
}

/// The number that `text` begins with, as C's `strtod` reads it but for leading spaces; `None` if there is none.
pub fn scan_float(text: &[u8]) -> Option<Scanned> {
    let (negative, sign) = match text.first() {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    };
    let body = &text[sign..];
    let begins = |word: &[u8]| body.len() >= word.len() && body[..word.len()].eq_ignore_ascii_case(word);
    let (value, used, range) = if begins(b"infinity") {
        (f64::INFINITY, 8, Range::Fits)
    } else if begins(b"inf") {
        (f64::INFINITY, 3, Range::Fits)
    } else if begins(b"nan") {
        (f64::NAN, nan_length(body), Range::Fits)
    } else if begins(b"0x") && hex_digits_follow(&body[2..]) {
        let (value, used, nonzero) = scan_hex(&body[2..]);
        (value, used + 2, range_of(value, nonzero))
    } else {
        let (value, used, nonzero) = scan_decimal(body)?;
        (value, used, range_of(value, nonzero))
    };
    Some(Scanned { value: if negative { -value } else { value }, used: sign + used, range })
}

fn range_of(value: f64, nonzero: bool) -> Range {
    if value.is_infinite() {
        Range::Overflow
    } else if value == 0.0 && nonzero {
        Range::Vanished
    } else {
        Range::Fits
    }
}

/// `nan`, or `nan(letters)`.
fn nan_length(body: &[u8]) -> usize {
    if body.get(3) == Some(&b'(')
        && let Some(end) = body[4..].iter().position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'))
        && body[4 + end] == b')'
    {
        return 4 + end + 1;
    }
    3
}

fn count_digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Value, length, and whether any digit is not zero.
fn scan_decimal(body: &[u8]) -> Option<(f64, usize, bool)> {
    let whole = count_digits(body);
    let mut used = whole;
    let mut digits = whole;
    if body.get(used) == Some(&b'.') {
        let fraction = count_digits(&body[used + 1..]);
        digits += fraction;
        used += 1 + fraction;
    }
    if digits == 0 {
        return None;
    }
    let nonzero = body[..used].iter().any(|byte| matches!(byte, b'1'..=b'9'));
    if matches!(body.get(used), Some(b'e' | b'E')) {
        used += exponent_length(&body[used..]);
    }
    let text = std::str::from_utf8(&body[..used]).ok()?;
    Some((text.parse().ok()?, used, nonzero))
}

/// The length of `e+12`, or 0 if no digits follow.
fn exponent_length(text: &[u8]) -> usize {
    let sign = usize::from(matches!(text.get(1), Some(b'+' | b'-')));
    match count_digits(text.get(1 + sign..).unwrap_or(&[])) {
        0 => 0,
        digits => 1 + sign + digits,
    }
}

fn hex_digits_follow(text: &[u8]) -> bool {
    match text {
        [b'.', digit, ..] => digit.is_ascii_hexdigit(),
        [digit, ..] => digit.is_ascii_hexdigit(),
        [] => false,
    }
}

/// The number after `0x`: value, length, and whether any digit is not zero.
fn scan_hex(text: &[u8]) -> (f64, usize, bool) {
    // 60 bits of digits are kept; what comes after only decides ties.
    let (mut mantissa, mut sticky, mut exponent) = (0u64, false, 0i64);
    let (mut used, mut point) = (0, false);
    for &byte in text {
        if byte == b'.' && !point {
            point = true;
        } else if let Some(digit) = (byte as char).to_digit(16) {
            if mantissa >> 56 == 0 {
                mantissa = mantissa << 4 | u64::from(digit);
                exponent -= if point { 4 } else { 0 };
            } else {
                sticky |= digit != 0;
                exponent += if point { 0 } else { 4 };
            }
        } else {
            break;
        }
        used += 1;
    }
    if matches!(text.get(used), Some(b'p' | b'P')) {
        let length = exponent_length(&text[used..]);
        let mut power: i64 = 0;
        for digit in text[used..used + length].iter().filter(|byte| byte.is_ascii_digit()) {
            power = power.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(1 << 40);
        }
        let negative = length > 0 && text[used + 1] == b'-';
        exponent = exponent.saturating_add(if negative { -power } else { power });
        used += length;
    }
    (scale(mantissa, sticky, exponent), used, mantissa != 0)
}

/// `mantissa * 2^exponent`, rounded once, ties to even; `sticky` says that non-zero digits were cut off below.
fn scale(mantissa: u64, sticky: bool, exponent: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    let shift = i64::from(mantissa.leading_zeros());
    let mantissa = mantissa << shift | u64::from(sticky);
    // The value is mantissa / 2^63 * 2^top, with mantissa's highest bit set.
    let top = exponent.saturating_sub(shift).saturating_add(63);
    if top > 1023 {
        return f64::INFINITY;
    }
    // A normal number keeps 53 bits, a subnormal one what is left above 2^-1074.
    let kept = if top >= -1022 { 53 } else { 53 - (-1022 - top) };
    if kept < 0 {
        return 0.0;
    }
    let dropped = 64 - kept as u32;
    let (bits, rest) = match dropped {
        64 => (0, mantissa),
        _ => (mantissa >> dropped, mantissa & ((1 << dropped) - 1)),
    };
    let half = 1u64 << (dropped - 1);
    let rounded = bits + u64::from(rest > half || (rest == half && bits & 1 == 1));
    // A carry out of the mantissa raises the exponent by itself, up to infinity.
    let biased = if top >= -1022 { (top + 1022) as u64 } else { 0 };
    f64::from_bits((biased << 52) + rounded)
}

/// What a cursor walks over.
pub trait Arguments {
    /// How many there are.
    fn count(&self) -> usize;
    /// The one at `index`, which is below the count.
    fn at(&self, index: usize) -> &[u8];
}

impl<T: AsRef<[u8]>> Arguments for [T] {
    fn count(&self) -> usize {
        self.len()
    }

    fn at(&self, index: usize) -> &[u8] {
        self[index].as_ref()
    }
}

/// A walk over arguments, from left to right.
#[derive(Debug)]
pub struct Args<'a, A: Arguments + ?Sized> {
    arguments: &'a A,
    next: usize,
}

impl<A: Arguments + ?Sized> Clone for Args<'_, A> {
    fn clone(&self) -> Self {
        Args { ..*self }
    }
}

impl<'a, A: Arguments + ?Sized> Args<'a, A> {
    /// A cursor that stands before the argument at `next`.
    pub fn new(arguments: &'a A, next: usize) -> Self {
        Args { arguments, next }
    }

    /// The index of the argument that comes next.
    pub fn position(&self) -> usize {
        self.next
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.arguments.count().saturating_sub(self.next)
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.left() == 0
    }

    /// The next one, without moving.
    pub fn peek(&self) -> Option<&'a [u8]> {
        (self.left() > 0).then(|| self.arguments.at(self.next))
    }

    /// The next one, or a syntax error.
    pub fn required(&mut self) -> Result<&'a [u8], Error> {
        self.next().ok_or(error::SYNTAX)
    }

    /// The next one as an integer.
    pub fn next_integer(&mut self) -> Result<i64, Error> {
        parse_integer(self.required()?).ok_or(error::NOT_INTEGER)
    }

    /// The next one as a double.
    pub fn next_float(&mut self) -> Result<f64, Error> {
        parse_float(self.required()?).ok_or(error::NOT_FLOAT)
    }

    /// Whether the next one is this word, in any case; if so it is passed.
    pub fn is_token(&mut self, token: &str) -> bool {
        let found = self.peek().is_some_and(|word| word.eq_ignore_ascii_case(token.as_bytes()));
        self.next += usize::from(found);
        found
    }

    /// The rest, to the end.
    pub fn rest(self) -> impl Iterator<Item = &'a [u8]> {
        (self.next..self.arguments.count()).map(|index| self.arguments.at(index))
    }
}

impl<'a, A: Arguments + ?Sized> Iterator for Args<'a, A> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let argument = self.peek()?;
        self.next += 1;
        Some(argument)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (text, value) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("1 ", None),
            ("1.0", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), value, "{text:?}");
        }
    }

    #[test]
    fn floats() {
        let accepted: [(&str, f64); 24] = [
            ("0", 0.0),
            ("-0", -0.0),
            ("1.5", 1.5),
            ("+1.5", 1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E-3", 0.001),
            ("007", 7.0),
            ("inf", f64::INFINITY),
            ("+Inf", f64::INFINITY),
            ("-INFINITY", f64::NEG_INFINITY),
            ("5e-324", 5e-324),
            ("0e99999", 0.0),
            ("0x10", 16.0),
            ("-0X1.8p1", -3.0),
            ("0x.8", 0.5),
            ("0x1p-1074", 5e-324),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0x1.00000000000008", 1.0),
            ("0x1.000000000000080000001", 1.0000000000000002),
            ("0x1.00000000000018", 1.0000000000000004),
            ("0x0.0000000000001p-1022", 5e-324),
            ("0x1.8p-1074", 1e-323),
        ];
        for (text, value) in accepted {
            let parsed = parse_float(text.as_bytes()).unwrap_or_else(|| panic!("{text:?} refused"));
            assert_eq!(parsed.to_bits(), value.to_bits(), "{text:?}");
        }
        let refused = [
            "",
            " 1",
            "1 ",
            "1x",
            "nan",
            "-nan",
            "nan(1)",
            "1e400",
            "-1e400",
            "1e-400",
            "0x",
            "0xg",
            "0x1p1024",
            "e1",
            ".",
            "+",
            "--1",
            "1e",
            "1e+",
            "infx",
            "1\0",
            "0x1p-1076",
            "0x1.fffffffffffff8p1023",
        ];
        for text in refused {
            assert_eq!(parse_float(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn scanning_stops_where_strtod_does() {
        for (text, used) in
            [("1.5abc", 3), ("0xz", 1), ("1e+", 1), ("nan(x)y", 6), ("infinit", 3), ("0x1p", 3)]
        {
            assert_eq!(scan_float(text.as_bytes()).unwrap().used, used, "{text:?}");
        }
        assert_eq!(scan_float(b"1e999").unwrap().range, Range::Overflow);
    }

    #[test]
    fn cursor() {
        let words = ["SET", "key", "nx", "EX", "10", "x"];
        let mut args = Args::new(&words[..], 1);
        assert_eq!(args.next(), Some(&b"key"[..]));
        assert!(!args.is_token("XX"));
        assert!(args.is_token("NX"));
        assert!(args.is_token("EX"));
        assert_eq!(args.next_integer(), Ok(10));
        assert_eq!(args.clone().next_integer(), Err(error::NOT_INTEGER));
        assert_eq!((args.position(), args.left()), (5, 1));
        assert_eq!(args.clone().rest().count(), 1);
        args.next();
        assert_eq!(args.next_float(), Err(error::SYNTAX));
        assert!(args.is_empty());
    }
}
