//! Numbers as the files of a journal spell them. Redis reads them with C's functions, which take what a text begins with.

/// The number with which a text begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeadingInteger {
    /// The number; zero if there is none, and the limit if it is beyond it.
    pub number: i64,
    /// How much of the text it takes.
    pub len: usize,
    /// It is beyond a limit.
    pub is_beyond: bool,
}

/// The number with which a text begins, as C's `strtoll` reads it: spaces, a sign, digits; what follows is passed over.
pub(super) fn leading(text: &[u8]) -> LeadingInteger {
    let spaces = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    let sign = text.get(spaces).copied().filter(|byte| matches!(byte, b'-' | b'+'));
    let begin = spaces + usize::from(sign.is_some());
    let digits = text[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return LeadingInteger { number: 0, len: 0, is_beyond: false };
    }
    let (mut number, mut is_beyond) = (0_i64, false);
    for digit in &text[begin..begin + digits] {
        let digit = i64::from(digit - b'0');
        let digit = if sign == Some(b'-') { -digit } else { digit };
        let longer = number.checked_mul(10).and_then(|tens| tens.checked_add(digit));
        is_beyond |= longer.is_none();
        number = longer.unwrap_or(if sign == Some(b'-') { i64::MIN } else { i64::MAX });
    }
    LeadingInteger { number, len: begin + digits, is_beyond }
}

/// The same, if nothing but the number is wanted.
pub(super) fn leading_integer(text: &[u8]) -> i64 {
    leading(text).number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_text_begins_with() {
        for (text, number, len) in [
            ("12", 12, 2),
            (" \t-3x", -3, 4),
            ("+4 5", 4, 2),
            ("", 0, 0),
            ("-", 0, 0),
            ("x1", 0, 0),
            ("+-1", 0, 0),
            ("-9223372036854775808\r\n", i64::MIN, 20),
            ("9223372036854775807", i64::MAX, 19),
        ] {
            assert_eq!(leading(text.as_bytes()), LeadingInteger { number, len, is_beyond: false }, "{text}");
        }
        for (text, number) in [("99999999999999999999", i64::MAX), ("-99999999999999999999", i64::MIN)] {
            assert_eq!(leading(text.as_bytes()), LeadingInteger { number, len: text.len(), is_beyond: true });
        }
    }
}
