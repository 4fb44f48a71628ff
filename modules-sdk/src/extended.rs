//! Numbers of 80 bits, as INCRBYFLOAT and HINCRBYFLOAT compute with them.
//!
//! Redis adds in C's `long double`, which on x86 has a mantissa of 64 bits, and shows 17 decimals: 0.1 + 0.2 is 0.3,
//! where doubles would give 0.30000000000000004. Clients see the difference, so it is computed here in integers:
//! reading, adding and showing are each rounded once, ties to even, as the processor and C's library do.

use std::cmp::Ordering;

use crate::args::parse_integer;

/// A number of 80 bits; never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extended {
    negative: bool,
    magnitude: Magnitude,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Magnitude {
    /// `mantissa * 2^exponent`; the mantissa's highest bit is set, unless the exponent is the least there is.
    Finite {
        mantissa: u64,
        exponent: i32,
    },
    Infinite,
}

/// The exponent of the last bit of the smallest numbers.
const MIN_EXPONENT: i32 = -16445;
/// The exponent of the last bit of the largest numbers.
const MAX_EXPONENT: i32 = 16320;
/// Longer text is no number, as Redis has it.
const MAX_LENGTH: usize = 5119;
const DECIMALS: u32 = 17;
const TEN_TO_17: u128 = 100_000_000_000_000_000;

impl Extended {
    /// Zero.
    pub const ZERO: Extended =
        Extended { negative: false, magnitude: Magnitude::Finite { mantissa: 0, exponent: MIN_EXPONENT } };

    /// A number as Redis takes it: all that C's `strtold` accepts, but neither empty text nor spaces nor trailing
    /// bytes, no NaN, and nothing that overflows or vanishes.
    pub fn parse(text: &[u8]) -> Option<Extended> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let (negative, body) = match text {
            [b'-', body @ ..] => (true, body),
            [b'+', body @ ..] => (false, body),
            body => (false, body),
        };
        if body.eq_ignore_ascii_case(b"inf") || body.eq_ignore_ascii_case(b"infinity") {
            return Some(Extended { negative, magnitude: Magnitude::Infinite });
        }
        let magnitude = match body {
            [b'0', b'x' | b'X', digits @ ..] => parse_hex(digits)?,
            digits => parse_decimal(digits)?,
        };
        matches!(magnitude, Magnitude::Finite { .. }).then_some(Extended { negative, magnitude })
    }

    /// Whether it is not infinite.
    pub fn is_finite(&self) -> bool {
        self.magnitude != Magnitude::Infinite
    }

    /// The same with the other sign.
    pub fn negated(self) -> Extended {
        Extended { negative: !self.negative, ..self }
    }

    /// Which of two is less. The sign of a zero does not count.
    pub fn compare(self, other: Extended) -> Ordering {
        let signed = |number: Extended| match number.magnitude {
            Magnitude::Infinite => (i32::MAX, 0),
            Magnitude::Finite { mantissa, exponent } => (exponent, mantissa),
        };
        let (zero, other_zero) = (self.is_zero(), other.is_zero());
        match (self.negative && !zero, other.negative && !other_zero) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            // Mantissas are as large as they can be, so the exponent decides first.
            (false, false) => signed(self).cmp(&signed(other)),
            (true, true) => signed(other).cmp(&signed(self)),
        }
    }

    fn is_zero(&self) -> bool {
        matches!(self.magnitude, Magnitude::Finite { mantissa: 0, .. })
    }

    /// The sum, which may be infinite; `None` where it would be no number.
    pub fn plus(self, other: Extended) -> Option<Extended> {
        let (a, b) = match (self.magnitude, other.magnitude) {
            (Magnitude::Infinite, Magnitude::Infinite) => {
                return (self.negative == other.negative).then_some(self);
            }
            (Magnitude::Infinite, _) => return Some(self),
            (_, Magnitude::Infinite) => return Some(other),
            (
                Magnitude::Finite { mantissa: m, exponent: e },
                Magnitude::Finite { mantissa: n, exponent: f },
            ) => ((m, e, self.negative), (n, f, other.negative)),
        };
        let (large, small) = if (a.1, a.0) >= (b.1, b.0) { (a, b) } else { (b, a) };
        // 62 bits below the larger one's last; what is cut off further down only decides ties.
        let gap = (large.1 - small.1) as u32;
        let high = u128::from(large.0) << 62;
        let low = match u128::from(small.0) << 62 {
            shifted if gap < 126 => (shifted >> gap) | u128::from(shifted & ((1 << gap) - 1) != 0),
            shifted => u128::from(shifted != 0),
        };
        let sum = if large.2 == small.2 { high + low } else { high - low };
        if sum == 0 {
            return Some(Extended { negative: large.2 && small.2, ..Extended::ZERO });
        }
        Some(Extended { negative: large.2, magnitude: round(sum, large.1 - 62, false) })
    }

    /// The text that Redis shows: no exponent, at most 17 decimals, no trailing zeros.
    pub fn format(&self) -> String {
        let mut text = String::new();
        let (mantissa, exponent) = match self.magnitude {
            Magnitude::Infinite => return if self.negative { "-inf" } else { "inf" }.to_owned(),
            Magnitude::Finite { mantissa, exponent } => (mantissa, exponent),
        };
        if exponent >= 0 {
            let mut whole = Big::from(u128::from(mantissa));
            whole.shift_left(exponent as u32);
            text = whole.to_decimal();
        } else {
            let scale = exponent.unsigned_abs();
            let (mut whole, fraction) = match scale {
                64.. => (0, mantissa),
                _ => (mantissa >> scale, mantissa & ((1 << scale) - 1)),
            };
            // Under 2^64 * 10^17, which is under 2^121.
            let scaled = u128::from(fraction) * TEN_TO_17;
            let mut decimals = match scale {
                128.. => 0,
                _ => {
                    let (kept, rest, half) = (scaled >> scale, scaled & ((1 << scale) - 1), 1 << (scale - 1));
                    kept + u128::from(rest > half || (rest == half && kept & 1 == 1))
                }
            };
            if decimals == TEN_TO_17 {
                (whole, decimals) = (whole + 1, 0);
            }
            text.push_str(&whole.to_string());
            if decimals > 0 {
                let digits = format!("{decimals:0width$}", width = DECIMALS as usize);
                text.push('.');
                text.push_str(digits.trim_end_matches('0'));
            }
        }
        if self.negative && text != "0" { format!("-{text}") } else { text }
    }
}

/// Rounds `value * 2^exponent`, of which `sticky` says that more non-zero bits follow, to 64 bits of mantissa.
fn round(value: u128, exponent: i32, sticky: bool) -> Magnitude {
    if value == 0 {
        return Magnitude::Finite { mantissa: 0, exponent: MIN_EXPONENT };
    }
    let surplus = 64 - value.leading_zeros() as i32;
    // Small numbers keep fewer bits, as their last bit cannot lie deeper.
    let drop = surplus.max(MIN_EXPONENT.saturating_sub(exponent));
    let mut rounded = match drop {
        ..=0 => value << -drop,
        129.. => 0,
        _ => {
            let (kept, rest) = match drop {
                128 => (0, value),
                _ => (value >> drop, value & ((1 << drop) - 1)),
            };
            let half = 1u128 << (drop - 1);
            kept + u128::from(rest > half || (rest == half && (sticky || kept & 1 == 1)))
        }
    };
    let mut exponent = exponent + drop;
    if rounded >> 64 != 0 {
        rounded >>= 1;
        exponent += 1;
    }
    match exponent {
        _ if rounded == 0 => Magnitude::Finite { mantissa: 0, exponent: MIN_EXPONENT },
        ..=MAX_EXPONENT => Magnitude::Finite { mantissa: rounded as u64, exponent },
        _ => Magnitude::Infinite,
    }
}

/// The digits of a number without its point, where the point is, and its exponent.
struct Digits {
    /// Values of the digits, without zeros at the front.
    digits: Vec<u8>,
    /// How many of them stand after the point.
    after_point: i64,
    exponent: i64,
}

/// Takes a number of the form digits, point, digits, exponent apart; it must be the whole text.
fn take_apart(text: &[u8], base: u32, mark: u8) -> Option<Digits> {
    let mut digits = Vec::with_capacity(text.len());
    let (mut any, mut point, mut after_point, mut end) = (false, false, 0, 0);
    for &byte in text {
        if byte == b'.' && !point {
            point = true;
        } else if let Some(digit) = (byte as char).to_digit(base) {
            any = true;
            after_point += i64::from(point);
            if digit > 0 || !digits.is_empty() {
                digits.push(digit as u8);
            }
        } else {
            break;
        }
        end += 1;
    }
    let exponent = match &text[end..] {
        [] => 0,
        [sign, exponent @ ..] if sign.eq_ignore_ascii_case(&mark) => parse_exponent(exponent)?,
        _ => return None,
    };
    any.then_some(Digits { digits, after_point, exponent })
}

/// An exponent, cut to a size that over- or underflows anyway.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    let value = match &digits[zeros..] {
        [] => 0,
        digits => parse_integer(digits).unwrap_or(i64::MAX).min(1_000_000),
    };
    Some(if negative { -value } else { value })
}

/// A number that came out of digits; `None` if they are not all zero and it is.
fn unless_vanished(magnitude: Magnitude) -> Option<Magnitude> {
    match magnitude {
        Magnitude::Finite { mantissa: 0, .. } => None,
        magnitude => Some(magnitude),
    }
}

fn parse_hex(text: &[u8]) -> Option<Magnitude> {
    let number = take_apart(text, 16, b'p')?;
    if number.digits.is_empty() {
        return Some(round(0, 0, false));
    }
    let (kept, cut) = number.digits.split_at(number.digits.len().min(31));
    let value = kept.iter().fold(0, |value, &digit| value << 4 | u128::from(digit));
    let exponent = number.exponent + 4 * (cut.len() as i64 - number.after_point);
    unless_vanished(round(value, exponent as i32, cut.iter().any(|&digit| digit != 0)))
}

fn parse_decimal(text: &[u8]) -> Option<Magnitude> {
    let number = take_apart(text, 10, b'e')?;
    let count = number.digits.len() as i64;
    if count == 0 {
        return Some(round(0, 0, false));
    }
    // The value is the digits as an integer, times 10 to this.
    let power = number.exponent - number.after_point;
    if count + power > 4940 {
        return Some(Magnitude::Infinite);
    }
    if count + power < -4960 {
        return None;
    }
    if count <= 19 && (-18..=18).contains(&power) {
        let value = number.digits.iter().fold(0u128, |value, &digit| value * 10 + u128::from(digit));
        let ten = 10u128.pow(power.unsigned_abs() as u32);
        if power >= 0 {
            return unless_vanished(round(value * ten, 0, false));
        }
        // 68 bits of quotient at least, as the divisor has 60 at most.
        let shift = value.leading_zeros();
        let value = value << shift;
        return unless_vanished(round(value / ten, -(shift as i32), value % ten != 0));
    }

    let mut value = Big::from(0);
    for chunk in number.digits.chunks(9) {
        let digits = chunk.iter().fold(0, |value, &digit| value * 10 + u32::from(digit));
        value.multiply_add(10u32.pow(chunk.len() as u32), digits);
    }
    if power >= 0 {
        value.multiply_by_power_of_ten(power as u32);
        let (top, exponent, sticky) = value.top();
        return unless_vanished(round(top, exponent, sticky));
    }
    let mut divisor = Big::from(1);
    divisor.multiply_by_power_of_ten(power.unsigned_abs() as u32);
    let (quotient, exponent, sticky) = value.divide(divisor);
    unless_vanished(round(quotient, exponent, sticky))
}

/// A natural number of any size: 32 bits a limb, the lowest first, no zeros on top.
#[derive(Clone, Debug)]
struct Big(Vec<u32>);

impl From<u128> for Big {
    fn from(mut value: u128) -> Big {
        let mut limbs = Vec::new();
        while value != 0 {
            limbs.push(value as u32);
            value >>= 32;
        }
        Big(limbs)
    }
}

impl Big {
    fn bits(&self) -> u32 {
        match self.0.last() {
            Some(top) => self.0.len() as u32 * 32 - top.leading_zeros(),
            None => 0,
        }
    }

    fn multiply_add(&mut self, factor: u32, summand: u32) {
        let mut carry = u64::from(summand);
        for limb in &mut self.0 {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry != 0 {
            self.0.push(carry as u32);
        }
    }

    fn multiply_by_power_of_ten(&mut self, power: u32) {
        for _ in 0..power / 9 {
            self.multiply_add(1_000_000_000, 0);
        }
        self.multiply_add(10u32.pow(power % 9), 0);
    }

    fn shift_left(&mut self, shift: u32) {
        if self.0.is_empty() {
            return;
        }
        if !shift.is_multiple_of(32) {
            self.multiply_add(1 << (shift % 32), 0);
        }
        self.0.splice(..0, std::iter::repeat_n(0, shift as usize / 32));
    }

    fn compare(&self, other: &Big) -> Ordering {
        let lengths = self.0.len().cmp(&other.0.len());
        lengths.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Takes away what is not larger.
    fn subtract(&mut self, other: &Big) {
        let mut borrow = false;
        for (i, limb) in self.0.iter_mut().enumerate() {
            let (less, first) = limb.overflowing_sub(other.0.get(i).copied().unwrap_or(0));
            let (less, second) = less.overflowing_sub(u32::from(borrow));
            (*limb, borrow) = (less, first || second);
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// The highest bits, 97 at least if there are that many; the exponent of the lowest of them; and whether any bit
    /// further down is set.
    fn top(&self) -> (u128, i32, bool) {
        let cut = self.0.len().saturating_sub(4);
        let top = self.0[cut..].iter().rev().fold(0, |top, &limb| top << 32 | u128::from(limb));
        (top, cut as i32 * 32, self.0[..cut].iter().any(|&limb| limb != 0))
    }

    /// The quotient's highest 66 or 67 bits, the exponent of the lowest, and whether anything remains.
    fn divide(mut self, mut divisor: Big) -> (u128, i32, bool) {
        let shift = 66 + divisor.bits() as i32 - self.bits() as i32;
        match shift {
            0.. => self.shift_left(shift as u32),
            _ => divisor.shift_left(shift.unsigned_abs()),
        }
        // The quotient has 67 bits at most. It is found bit by bit, from the top.
        divisor.shift_left(66);
        let mut quotient = 0;
        for _ in 0..67 {
            quotient <<= 1;
            if self.compare(&divisor) != Ordering::Less {
                self.subtract(&divisor);
                quotient |= 1;
            }
            self.multiply_add(2, 0);
        }
        (quotient, -shift, !self.0.is_empty())
    }

    fn to_decimal(&self) -> String {
        if self.0.is_empty() {
            return "0".to_owned();
        }
        let mut rest = self.clone();
        let mut chunks = Vec::new();
        while !rest.0.is_empty() {
            let mut remainder = 0u64;
            for limb in rest.0.iter_mut().rev() {
                let value = remainder << 32 | u64::from(*limb);
                *limb = (value / 1_000_000_000) as u32;
                remainder = value % 1_000_000_000;
            }
            while rest.0.last() == Some(&0) {
                rest.0.pop();
            }
            chunks.push(remainder);
        }
        let mut text = String::new();
        for (i, chunk) in chunks.iter().rev().enumerate() {
            text.push_str(&if i == 0 { chunk.to_string() } else { format!("{chunk:09}") });
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Extended {
        Extended::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} refused"))
    }

    fn sum(a: &str, b: &str) -> String {
        number(a).plus(number(b)).unwrap().format()
    }

    #[test]
    fn numbers_are_in_order() {
        let texts =
            ["-inf", "-1e20", "-3", "-2.5", "-1e-30", "0", "1e-4940", "1e-30", "2.5", "3", "1e20", "inf"];
        for (i, one) in texts.iter().enumerate() {
            for (j, other) in texts.iter().enumerate() {
                assert_eq!(number(one).compare(number(other)), i.cmp(&j), "{one} and {other}");
            }
        }
        assert_eq!(number("0").negated().compare(number("0")), Ordering::Equal);
        assert_eq!(number("2.5").negated(), number("-2.5"));
    }

    #[test]
    fn decimal_fractions_add_up() {
        assert_eq!(sum("0.1", "0.2"), "0.3");
        assert_eq!(sum("10.50", "0.1"), "10.6");
        assert_eq!(sum("5.0e3", "2.0e2"), "5200");
        assert_eq!(sum("1.23", "-1.23"), "0");
        assert_eq!(sum("17179869184", "1.5"), "17179869185.5");
        assert_eq!(sum("3", "-1.1"), "1.9");
        assert_eq!(sum("-0", "0"), "0");
        assert_eq!(sum("1e18", "1e-17"), "1000000000000000000");
        assert_eq!(sum("0x10", "0x.8"), "16.5");
        assert_eq!(sum("1e4000", "-1e4000"), "0");
    }

    #[test]
    fn shown_without_exponent() {
        for (text, shown) in [
            ("3.0", "3"),
            ("-0", "0"),
            ("1e-17", "0.00000000000000001"),
            ("1e-18", "0"),
            ("-1e-18", "0"),
            ("0.99999999999999999999", "1"),
            ("1e22", "10000000000000000000000"),
            ("123456789012345678901234567890", "123456789012345678899921813504"),
            ("inf", "inf"),
            ("-Infinity", "-inf"),
        ] {
            assert_eq!(number(text).format(), shown, "{text}");
        }
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            " 1",
            "1 ",
            "nan",
            "1e",
            "1e5x",
            ".",
            "-",
            "0x",
            "1e5000",
            "1e-5000",
            "--1",
            "1\0",
            "0x1p99999",
        ] {
            assert_eq!(Extended::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Extended::parse(&[b'1'; MAX_LENGTH + 1]), None);
        assert!(number("inf").plus(number("-inf")).is_none());
        let most = number("1.1e4932");
        assert!(!most.plus(most).unwrap().is_finite());
    }

    #[test]
    fn both_ways_of_reading_agree() {
        // Zeros in front of the point's digits force the long way.
        for text in ["0.1", "123.456", "9999999999999999999", "1.5", "7e-5", "0.3333333333333333333"] {
            let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
            let point = if mantissa.contains('.') { "" } else { "." };
            let long = format!("{mantissa}{point}{}e{exponent}", "0".repeat(40));
            assert_eq!(number(text), number(&long), "{text}");
        }
    }
}
