//! A line of words as people type it: an inline request, a line of redis.conf. `plain`, `"double\n\x00"` with escapes,
//! `'single'` where only `\'` is one.
//!
//! Redis reads such a line as a C text: a NUL ends it, and what counts as space between words (`isspace`) is more than
//! what ends a word without quotes.

/// Whether it stands between words.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Whether it ends a word that has no quotes.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The next word of a line without quotes or NULs, from a position on: where it begins and where it ends.
pub fn plain_word(line: &[u8], from: usize) -> Option<(usize, usize)> {
    let start = from + line[from..].iter().position(|byte| !is_space(*byte))?;
    let len = line[start..].iter().position(|byte| ends_word(*byte));
    Some((start, len.map_or(line.len(), |len| start + len)))
}

/// Splits a line into words. `None` if a quote is not closed, or closed in the middle of a word.
pub fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.split(|byte| *byte == 0).next().unwrap_or_default();
    while let Some(start) = rest.iter().position(|byte| !is_space(*byte)) {
        let mut word = Vec::new();
        rest = split_word(&rest[start..], &mut word)?;
        words.push(word);
    }
    Some(words)
}

/// Takes one word off the start of `rest`, and returns what is left.
fn split_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return Some(rest),
            [byte, ..] if ends_word(*byte) => return Some(rest),
            // A quote may open in the middle of a word; where it closes, the word ends.
            [quote @ (b'"' | b'\''), quoted @ ..] => {
                let rest = unquote(quoted, *quote, word)?;
                return rest.first().is_none_or(|byte| is_space(*byte)).then_some(rest);
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

/// Takes what stands before the closing `quote`, and returns what is left behind it.
fn unquote<'a>(mut rest: &'a [u8], quote: u8, word: &mut Vec<u8>) -> Option<&'a [u8]> {
    let hex = |digit: u8| char::from(digit).to_digit(16).map(|n| n as u8);
    loop {
        rest = match rest {
            [] => return None,
            [byte, tail @ ..] if *byte == quote => return Some(tail),
            [b'\\', b'\'', tail @ ..] if quote == b'\'' => {
                word.push(b'\'');
                tail
            }
            [b'\\', b'x', high, low, tail @ ..]
                if quote == b'"' && hex(*high).is_some() && hex(*low).is_some() =>
            {
                word.push(hex(*high)? << 4 | hex(*low)?);
                tail
            }
            [b'\\', escaped, tail @ ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                tail
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declare::config::quote;

    fn words_of(line: &str) -> Option<Vec<String>> {
        Some(
            split_words(line.as_bytes())?
                .into_iter()
                .map(|word| String::from_utf8_lossy(&word).into_owned())
                .collect(),
        )
    }

    #[test]
    fn words_are_split_and_unquoted() {
        for (line, words) in [
            ("a  b\tc", &["a", "b", "c"][..]),
            (r#"save """#, &["save", ""]),
            (r#"x 'it\'s' "two words""#, &["x", "it's", "two words"]),
            (r#"x "\x41\n\"\q" '\n'"#, &["x", "A\n\"q", "\\n"]),
            (r#"x pre"fix ed" y"#, &["x", "prefix ed", "y"]),
            (r#"x "\xg1""#, &["x", "xg1"]),
            ("a\u{b}b\u{c} \u{b}\u{c} \"c\"\u{b}d", &["a\u{b}b\u{c}", "c", "d"]),
            ("a b\0c \"d", &["a", "b"]),
            (" \u{b}", &[]),
        ] {
            assert_eq!(
                words_of(line).as_deref(),
                Some(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>()[..]),
                "{line}"
            );
        }
        for line in [r#"x "abc"#, "x 'abc", r#"x "a"b"#, "x 'a'b", r#"x "a\"#] {
            assert_eq!(words_of(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_quoted_is_split_back() {
        let every_byte: Vec<u8> = (0..=255).collect();
        assert_eq!(split_words(quote(&every_byte).as_bytes()), Some(vec![every_byte]));
    }

    #[test]
    fn plain_words_are_the_same_words() {
        for line in ["a\u{b}b\u{c} \u{b}\u{c} c\u{b}d\t", "", "  ", "one", "\u{c}a\rb\nc "] {
            let (mut found, mut at) = (Vec::new(), 0);
            while let Some((start, end)) = plain_word(line.as_bytes(), at) {
                found.push(line[start..end].to_owned());
                at = end;
            }
            assert_eq!(Some(found), words_of(line), "{line:?}");
        }
    }
}
