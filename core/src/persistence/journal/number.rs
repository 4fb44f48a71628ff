//! Numbers as the files of a journal spell them. Redis reads them with C's functions, which take what a text begins with.

/// The number that a text begins with, as C's `atoll` reads it: spaces, a sign, digits; what follows is passed over. A
/// text that begins otherwise is zero, and one beyond the limits is the limit.
pub(super) fn leading_integer(text: &[u8]) -> i64 {
    let spaces = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    let (is_negative, digits) = match &text[spaces..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let mut number: i64 = 0;
    for digit in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
        let digit = i64::from(digit - b'0');
        number = number.saturating_mul(10).saturating_add(if is_negative { -digit } else { digit });
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_text_begins_with() {
        for (text, expected) in [
            ("12", 12),
            (" \t-3x", -3),
            ("+4 5", 4),
            ("", 0),
            ("-", 0),
            ("x1", 0),
            ("+-1", 0),
            ("99999999999999999999", i64::MAX),
            ("-99999999999999999999", i64::MIN),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(leading_integer(text.as_bytes()), expected, "{text}");
        }
    }
}
