//! Requests: split into words, encoded once, and sent many times with fresh numbers in them.
//!
//! A word may hold placeholders: `__rand__` stands for twelve digits of a random number below the key range,
//! `__seq__` for twelve digits of a number that each request raises by one, `__x64__` for 64 letters.
//! Only the digits change between two sends; the buffer around them is encoded once.

use std::ops::Range;

/// Digits that stand for `__rand__` and `__seq__`.
const WIDTH: usize = 12;

/// Splits a command line as a shell would: blanks separate, single and double quotes keep together.
pub fn split_words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default(); // "" is a word too
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("a quote is not closed in: {line}"));
    }
    words.extend(word);
    Ok(words)
}

/// Encodes one request as the protocol wants it.
pub fn encode<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// `pipeline` requests in one buffer, whose numbers are renewed before each send.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

/// Where twelve digits stand in a batch, and what goes there.
#[derive(Clone, Copy, Debug)]
struct Slot {
    at: usize,
    number: Number,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Random,
    /// The next number of the sequence: the first `__seq__` of a request.
    NextInSequence,
    /// The same number once more: every other `__seq__` of that request.
    SameInSequence,
}

impl Batch {
    /// A batch of `pipeline` equal requests.
    pub fn new(command: &str, pipeline: usize) -> Result<Batch, String> {
        let words: Vec<String> = split_words(command)?.iter().map(|word| expand_letters(word)).collect();
        if words.is_empty() {
            return Err("a command needs at least a name".into());
        }
        let (request, slots) = encode_with_slots(&words);
        let mut batch = Batch { bytes: Vec::with_capacity(request.len() * pipeline), slots: Vec::new() };
        for _ in 0..pipeline {
            let start = batch.bytes.len();
            batch.slots.extend(slots.iter().map(|slot| Slot { at: start + slot.at, ..*slot }));
            batch.bytes.extend_from_slice(&request);
        }
        Ok(batch)
    }

    /// Puts new numbers into the buffer.
    pub fn renew(&mut self, numbers: &mut Numbers) {
        for slot in &self.slots {
            let number = match slot.number {
                Number::Random => numbers.random(),
                Number::NextInSequence => numbers.advance(),
                Number::SameInSequence => numbers.current,
            };
            write_digits(&mut self.bytes[slot.at..slot.at + WIDTH], number);
        }
    }

    /// What goes over the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Turns `__x64__` into 64 letters.
fn expand_letters(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once("__x") {
        out.push_str(before);
        match after.split_once("__").and_then(|(n, tail)| Some((n.parse::<usize>().ok()?, tail))) {
            Some((count, tail)) if count <= 1 << 28 => {
                out.extend(std::iter::repeat_n('x', count));
                rest = tail;
            }
            _ => {
                out.push_str("__x");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn encode_with_slots(words: &[String]) -> (Vec<u8>, Vec<Slot>) {
    let mut filled = Vec::new();
    let mut places: Vec<(usize, Range<usize>, Number)> = Vec::new(); // word, digits within it
    let mut sequence_seen = false;
    for (index, word) in words.iter().enumerate() {
        let mut out = String::new();
        let mut rest = word.as_str();
        while let Some((before, after, random)) = next_placeholder(rest) {
            out.push_str(before);
            let number = match (random, sequence_seen) {
                (true, _) => Number::Random,
                (false, false) => Number::NextInSequence,
                (false, true) => Number::SameInSequence,
            };
            sequence_seen |= !random;
            places.push((index, out.len()..out.len() + WIDTH, number));
            out.push_str("000000000000");
            rest = after;
        }
        out.push_str(rest);
        filled.push(out);
    }

    // The words' places within the encoded request: each is preceded by its own header.
    let request = encode(&filled);
    let mut starts = Vec::with_capacity(filled.len());
    let mut at = format!("*{}\r\n", filled.len()).len();
    for word in &filled {
        at += format!("${}\r\n", word.len()).len();
        starts.push(at);
        at += word.len() + 2;
    }
    let slots = places
        .into_iter()
        .map(|(word, digits, number)| Slot { at: starts[word] + digits.start, number })
        .collect();
    (request, slots)
}

/// The text before and after the first placeholder, and whether it is `__rand__`.
fn next_placeholder(text: &str) -> Option<(&str, &str, bool)> {
    let random = text.split_once("__rand__").map(|(before, after)| (before, after, true));
    let sequence = text.split_once("__seq__").map(|(before, after)| (before, after, false));
    [random, sequence].into_iter().flatten().min_by_key(|(before, ..)| before.len())
}

/// Where the numbers in requests come from. The same seed gives every server the same keys.
#[derive(Debug)]
pub struct Numbers {
    state: u64,
    range: u64,
    current: u64,
}

impl Numbers {
    /// Random numbers below `range`; a sequence that begins at `first`.
    pub fn new(range: u64, first: u64) -> Numbers {
        Numbers { state: 0x9E37_79B9_7F4A_7C15, range: range.max(1), current: first.wrapping_sub(1) }
    }

    fn advance(&mut self) -> u64 {
        self.current = self.current.wrapping_add(1);
        self.current
    }

    fn random(&mut self) -> u64 {
        // xorshift64*, brought into the range by multiplication instead of a division.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let bits = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D);
        ((u128::from(bits) * u128::from(self.range)) >> 64) as u64
    }
}

/// "000" to "999": a number is written in four steps instead of twelve.
const THREE_DIGITS: [[u8; 3]; 1000] = {
    let mut table = [[0; 3]; 1000];
    let mut n = 0;
    while n < 1000 {
        table[n] = [b'0' + (n / 100) as u8, b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    table
};

fn write_digits(digits: &mut [u8], mut number: u64) {
    for group in digits.rchunks_exact_mut(3) {
        group.copy_from_slice(&THREE_DIGITS[(number % 1000) as usize]);
        number /= 1000;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let words = split_words(r#"redis-server --save "" --dir '/tmp/a b' x"y"z"#).unwrap();
        assert_eq!(words, ["redis-server", "--save", "", "--dir", "/tmp/a b", "xyz"]);
        assert!(split_words("SET 'a").is_err());
    }

    #[test]
    fn a_sequence_counts_requests_and_not_placeholders() {
        let mut batch = Batch::new("SET key:__seq__ v__seq__", 2).unwrap();
        batch.renew(&mut Numbers::new(10, 999));
        let one = |n: &str| format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:{n}\r\n$13\r\nv{n}\r\n");
        let expected = one("000000000999") + &one("000000001000");
        assert_eq!(String::from_utf8_lossy(batch.bytes()), expected);
    }

    #[test]
    fn random_numbers_fill_their_range() {
        let mut batch = Batch::new("GET __rand__", 1).unwrap();
        let mut numbers = Numbers::new(10, 0);
        let mut seen = [0; 10];
        for _ in 0..1000 {
            batch.renew(&mut numbers);
            let text = std::str::from_utf8(batch.bytes()).unwrap();
            let digits = text.rsplit("$12\r\n").next().unwrap().trim_end();
            seen[digits.parse::<usize>().unwrap()] += 1;
        }
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
    }

    #[test]
    fn letters_are_expanded() {
        assert_eq!(expand_letters("a__x3__b__x2__"), "axxxbxx");
        assert_eq!(expand_letters("__xy__"), "__xy__");
    }
}
