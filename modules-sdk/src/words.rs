//! Words of a line, quoted as in redis.conf, in inline requests and in ACL selectors.

/// Splits a line into words: `plain`, `"double\n\x00"` with escapes, `'single'` where only `\'` is one.
/// `None` if a quote is not closed, or closed in the middle of a word.
pub fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        rest = split_word(rest, &mut word)?;
        words.push(word);
    }
}

/// Takes one word off the start of `rest`, and returns what is left.
fn split_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return Some(rest),
            [space, ..] if space.is_ascii_whitespace() => return Some(rest),
            // A quote may open in the middle of a word; where it closes, the word ends.
            [quote @ (b'"' | b'\''), quoted @ ..] => {
                let rest = unquote(quoted, *quote, word)?;
                return rest.first().is_none_or(u8::is_ascii_whitespace).then_some(rest);
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

    fn split(line: &str) -> Option<Vec<String>> {
        let words = split_words(line.as_bytes())?;
        Some(words.into_iter().map(|word| String::from_utf8_lossy(&word).into_owned()).collect())
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
            ("", &[]),
        ] {
            assert_eq!(
                split(line).as_deref(),
                Some(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>()[..]),
                "{line}"
            );
        }
        for line in [r#"x "abc"#, "x 'abc", r#"x "a"b"#, "x 'a'b", r#"x "a\"#] {
            assert_eq!(split(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_quoted_is_split_back() {
        let every_byte: Vec<u8> = (0..=255).collect();
        assert_eq!(split_words(quote(&every_byte).as_bytes()), Some(vec![every_byte]));
    }
}
