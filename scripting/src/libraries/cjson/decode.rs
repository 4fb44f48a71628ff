//! JSON to values.

use super::{Config, config};
use crate::number;
use crate::raw::{Frame, Raise, Returns};

pub(super) fn decode(frame: Frame<'_>) -> Returns {
    if frame.top() != 1 {
        return frame.wrong_argument(1, "expected 1 argument");
    }
    let config = config(frame)?;
    let input = frame.check_text(1)?;
    if input.len() >= 2 && (input[0] == 0 || input[1] == 0) {
        return frame.fail("JSON parser does not support UTF-16 or UTF-32");
    }
    let mut reader =
        Reader { frame, config: &config, input, at: 0, depth: 0, text: frame.shared().borrow_buffer() };
    let read = reader.document();
    frame.shared().return_buffer(reader.text);
    read.map(|()| 1)
}

/// What stands next in the input.
enum Token<'a> {
    /// `{`, `}`, `[`, `]`, `,`, `:`
    Mark(u8),
    /// A string as it stands in the input.
    String(&'a [u8]),
    /// A string that had escapes: it is in the reader's buffer.
    Escaped,
    Number(f64),
    Boolean(bool),
    Null,
    End,
    Error(&'static str),
}

impl Token<'_> {
    /// As messages call it.
    fn name(&self) -> &'static str {
        match self {
            Token::Mark(b'{') => "T_OBJ_BEGIN",
            Token::Mark(b'}') => "T_OBJ_END",
            Token::Mark(b'[') => "T_ARR_BEGIN",
            Token::Mark(b']') => "T_ARR_END",
            Token::Mark(b':') => "T_COLON",
            Token::Mark(_) => "T_COMMA",
            Token::String(_) | Token::Escaped => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::End => "T_END",
            Token::Error(what) => what,
        }
    }
}

struct Reader<'a> {
    frame: Frame<'a>,
    config: &'a Config,
    input: &'a [u8],
    at: usize,
    depth: i32,
    text: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<(), Raise> {
        let (token, start) = self.token();
        self.value(token, start)?;
        match self.token() {
            (Token::End, _) => Ok(()),
            (token, start) => self.expected("the end", &token, start),
        }
    }

    fn expected<T>(&self, what: &str, token: &Token<'_>, start: usize) -> Result<T, Raise> {
        let start = if matches!(token, Token::Error(_)) { self.at } else { start };
        self.frame.fail(format!("Expected {what} but found {} at character {}", token.name(), start + 1))
    }

    /// A character; zero at the end, as C has it, and a zero in the input is an end, too.
    #[inline(always)]
    fn peek(&self, offset: usize) -> u8 {
        self.input.get(self.at + offset).copied().unwrap_or(0)
    }

    /// Reads the next token, and says where it begins.
    #[inline]
    fn token(&mut self) -> (Token<'a>, usize) {
        while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let start = self.at;
        let token = match self.peek(0) {
            mark @ (b'{' | b'}' | b'[' | b']' | b',' | b':') => {
                self.at += 1;
                Token::Mark(mark)
            }
            0 => Token::End,
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => {
                if self.config.decode_invalid_numbers == 0 && self.is_invalid_number() {
                    Token::Error("invalid number")
                } else {
                    self.number()
                }
            }
            b't' if self.input[start..].starts_with(b"true") => {
                self.at += 4;
                Token::Boolean(true)
            }
            b'f' if self.input[start..].starts_with(b"false") => {
                self.at += 5;
                Token::Boolean(false)
            }
            b'n' if self.input[start..].starts_with(b"null") => {
                self.at += 4;
                Token::Null
            }
            b'f' | b'i' | b'I' | b'n' | b'N' | b't' | b'+'
                if self.config.decode_invalid_numbers != 0 && self.is_invalid_number() =>
            {
                self.number()
            }
            _ => Token::Error("invalid token"),
        };
        (token, start)
    }

    /// Whether this is a number that C reads and JSON does not have: with a plus, hexadecimal, with leading zeros,
    /// infinite, or none.
    fn is_invalid_number(&self) -> bool {
        let rest = &self.input[self.at..];
        let unsigned = rest.strip_prefix(b"-").unwrap_or(rest);
        let is_word = |word: &[u8]| unsigned.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(word));
        match (rest.first(), unsigned) {
            (Some(b'+'), _) => true,
            (_, [b'0', next, ..]) => next.is_ascii_digit() || matches!(next, b'x' | b'X'),
            _ => is_word(b"inf") || is_word(b"nan"),
        }
    }

    fn number(&mut self) -> Token<'a> {
        let rest = &self.input[self.at..];
        // Short integers are most of what comes.
        let digits = rest.iter().take(16).take_while(|byte| byte.is_ascii_digit()).count();
        if (1..16).contains(&digits) && !matches!(rest.get(digits), Some(b'.' | b'e' | b'E' | b'x' | b'X')) {
            let value = rest[..digits].iter().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
            self.at += digits;
            return Token::Number(value as f64);
        }
        match number::read(rest) {
            Some((value, len)) => {
                self.at += len;
                Token::Number(value)
            }
            None => Token::Error("invalid number"),
        }
    }

    fn string(&mut self) -> Token<'a> {
        self.at += 1;
        let start = self.at;
        let rest = &self.input[start..];
        match rest.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0)) {
            Some(len) if rest[len] == b'"' => {
                self.at += len + 1;
                return Token::String(&rest[..len]);
            }
            Some(len) => self.at += len,
            None => self.at = self.input.len(),
        }
        self.text.clear();
        self.text.extend_from_slice(&self.input[start..self.at]);
        loop {
            match self.peek(0) {
                b'"' => {
                    self.at += 1;
                    return Token::Escaped;
                }
                0 => return Token::Error("unexpected end of string"),
                b'\\' => {
                    let byte = match self.peek(1) {
                        byte @ (b'"' | b'\\' | b'/') => byte,
                        b'b' => 0x08,
                        b't' => b'\t',
                        b'n' => b'\n',
                        b'f' => 0x0C,
                        b'r' => b'\r',
                        b'u' => match self.unicode() {
                            Some(()) => continue,
                            None => return Token::Error("invalid unicode escape code"),
                        },
                        _ => return Token::Error("invalid escape code"),
                    };
                    self.text.push(byte);
                    self.at += 2;
                }
                byte => {
                    self.text.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    /// Reads `\uXXXX`, and the second half of a pair of surrogates.
    fn unicode(&mut self) -> Option<()> {
        let mut code = self.hex(2)?;
        let mut len = 6;
        if code & 0xF800 == 0xD800 {
            if code & 0x400 != 0 || self.peek(6) != b'\\' || self.peek(7) != b'u' {
                return None;
            }
            let low = self.hex(8)?;
            if low & 0xFC00 != 0xDC00 {
                return None;
            }
            code = (((code & 0x3FF) << 10) | (low & 0x3FF)) + 0x1_0000;
            len = 12;
        }
        let mut bytes = [0; 4];
        self.text.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut bytes).as_bytes());
        self.at += len;
        Some(())
    }

    fn hex(&self, offset: usize) -> Option<u32> {
        (offset..offset + 4)
            .try_fold(0, |code, offset| Some(code << 4 | (self.peek(offset) as char).to_digit(16)?))
    }

    /// Pushes the value that a token begins.
    fn value(&mut self, token: Token<'a>, start: usize) -> Result<(), Raise> {
        let frame = self.frame;
        frame.breathe()?;
        match token {
            Token::String(text) => frame.push_bytes(text),
            Token::Escaped => frame.push_bytes(&self.text),
            Token::Number(value) => frame.push_number(value),
            Token::Boolean(value) => frame.push_boolean(value),
            Token::Null => frame.push_null(),
            Token::Mark(b'{') => return self.object(),
            Token::Mark(b'[') => return self.array(),
            token => return self.expected("value", &token, start),
        }
        Ok(())
    }

    fn descend(&mut self, slots: i32) -> Result<(), Raise> {
        self.depth += 1;
        if self.depth <= self.config.decode_depth_max && self.frame.reserve(slots) {
            return Ok(());
        }
        let (depth, at) = (self.depth, self.at);
        self.frame.fail(format!("Found too many nested data structures ({depth}) at character {at}"))
    }

    fn object(&mut self) -> Result<(), Raise> {
        self.descend(3)?;
        let frame = self.frame;
        frame.push_table(0, 0);
        let (mut token, mut start) = self.token();
        if matches!(token, Token::Mark(b'}')) {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            match token {
                Token::String(text) => frame.push_bytes(text),
                Token::Escaped => frame.push_bytes(&self.text),
                token => return self.expected("object key string", &token, start),
            }
            (token, start) = self.token();
            if !matches!(token, Token::Mark(b':')) {
                return self.expected("colon", &token, start);
            }
            (token, start) = self.token();
            self.value(token, start)?;
            frame.raw_set(-3);
            (token, start) = self.token();
            match token {
                Token::Mark(b'}') => break,
                Token::Mark(b',') => (token, start) = self.token(),
                token => return self.expected("comma or object end", &token, start),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), Raise> {
        self.descend(2)?;
        let frame = self.frame;
        frame.push_table(0, 0);
        let (mut token, mut start) = self.token();
        if matches!(token, Token::Mark(b']')) {
            self.depth -= 1;
            return Ok(());
        }
        let mut index = 0;
        loop {
            self.value(token, start)?;
            index += 1;
            frame.raw_set_index(-2, index);
            (token, start) = self.token();
            match token {
                Token::Mark(b']') => break,
                Token::Mark(b',') => (token, start) = self.token(),
                token => return self.expected("comma or array end", &token, start),
            }
        }
        self.depth -= 1;
        Ok(())
    }
}
