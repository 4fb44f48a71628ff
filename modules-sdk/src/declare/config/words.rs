//! How words stand in a line of redis.conf: in quotes, where they need them.

use std::fmt::Write;

pub use crate::words::split_words;

/// Puts `text` in double quotes, with escapes that the parser of redis.conf takes back.
pub fn quote(text: &[u8]) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => quoted.extend(['\\', char::from(byte)]),
            b'\n' => quoted.push_str("\\n"),
            b'\r' => quoted.push_str("\\r"),
            b'\t' => quoted.push_str("\\t"),
            0x07 => quoted.push_str("\\a"),
            0x08 => quoted.push_str("\\b"),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => write!(quoted, "\\x{byte:02x}").expect("writing to a string cannot fail"),
        }
    }
    quoted.push('"');
    quoted
}

/// A word as it can stand in a line: in quotes only if it has to.
pub fn word(text: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"'\\".contains(byte);
    match std::str::from_utf8(text) {
        Ok(text) if !text.is_empty() && text.bytes().all(|byte| plain(&byte)) => text.to_owned(),
        _ => quote(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_escapes_what_the_parser_unescapes() {
        assert_eq!(quote(b"a \"b\" \\ \n\r\t\x07\x08\x00\xff"), r#""a \"b\" \\ \n\r\t\a\b\x00\xff""#);
    }
}
