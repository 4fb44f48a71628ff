//! The words of a command line, quoted as redis-cli does.

/// Splits a line into arguments: `"with \x00 escapes"`, `'verbatim'`, and bare words.
pub(crate) fn split(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' => quoted(&rest[1..])?,
            '\'' => single_quoted(&rest[1..])?,
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (rest.as_bytes()[..end].to_vec(), &rest[end..])
            }
        };
        if !(after.is_empty() || after.starts_with(char::is_whitespace)) {
            return Err(format!("a closing quote must be followed by a space: {line}"));
        }
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// Reads what follows an opening `"`; returns it unescaped, and the rest after the closing quote.
pub(crate) fn quoted(text: &str) -> Result<(Vec<u8>, &str), String> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => return Ok((out, &text[at..])),
            b'\\' => {
                let escape = *bytes.get(at).ok_or("a backslash at the end")?;
                at += 1;
                out.push(match escape {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    b'x' => {
                        let digits = text.get(at..at + 2).ok_or("\\x needs two digits")?;
                        at += 2;
                        u8::from_str_radix(digits, 16).map_err(|_| format!("bad escape \\x{digits}"))?
                    }
                    other => other,
                });
            }
            _ => out.push(byte),
        }
    }
    Err(format!("a quote is not closed: \"{text}"))
}

fn single_quoted(text: &str) -> Result<(Vec<u8>, &str), String> {
    let end = text.find('\'').ok_or_else(|| format!("a quote is not closed: '{text}"))?;
    Ok((text.as_bytes()[..end].to_vec(), &text[end + 1..]))
}

/// The inverse of [`quoted`], with both quotes. Text stays readable; bytes that are not UTF-8 are escaped.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c.is_control() => escape(c.to_string().as_bytes(), &mut out),
                c => out.push(c),
            }
        }
        escape(chunk.invalid(), &mut out);
    }
    out.push('"');
    out
}

fn escape(bytes: &[u8], out: &mut String) {
    bytes.iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
}

#[cfg(test)]
mod tests {
    use super::{quote, quoted, split};

    #[test]
    fn words_are_split_as_redis_cli_does() {
        assert_eq!(split("SET  k v").unwrap(), [b"SET".to_vec(), b"k".to_vec(), b"v".to_vec()]);
        assert_eq!(
            split(r#"SET "a b\x00\n\"" ''"#).unwrap(),
            [b"SET".to_vec(), b"a b\0\n\"".to_vec(), b"".to_vec()]
        );
        assert_eq!(split(r"'a\b'").unwrap(), [br"a\b".to_vec()]);
        for broken in ["\"a", "'a", "\"a\"b", r#""\x0""#, r#""\"#] {
            assert!(split(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn quoting_is_undone_by_reading() {
        for bytes in [&b"plain"[..], b"", b"a\r\n\t\0\x1f\"\\", "é\u{80}".as_bytes(), b"\xff\xc3a\x80"] {
            let text = quote(bytes);
            assert_eq!(quoted(&text[1..]).unwrap(), (bytes.to_vec(), ""), "{text}");
            assert!(!text.contains(char::is_control), "{text}");
        }
    }
}
