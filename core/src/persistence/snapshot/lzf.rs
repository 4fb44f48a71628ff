//! The compression of strings: LZF, which trades size for speed.
//!
//! Compressed text is a row of steps. A first byte below 32 means so many and one bytes as they are. Else its upper three
//! bits are a length (7: one more byte is to be added) and its lower five with the byte behind that a distance: what is
//! repeated begins so far and one back, and is two bytes longer than the length says.

use super::{Broken, Result};

const LITERAL_MAX: usize = 32;
const REPEAT_MIN: usize = 3;
const REPEAT_MAX: usize = 264;
const DISTANCE_MAX: usize = 1 << 13;

/// The longest text that compressed bytes of a length can stand for.
pub fn expanded_len_max(len: usize) -> usize {
    // Three bytes repeat 264 at most.
    (len / 3 + 1).saturating_mul(REPEAT_MAX)
}

const BROKEN: Broken = Broken::Malformed("Invalid LZF compressed string");

/// The text that compressed bytes stand for, whose length is known.
pub fn expand(compressed: &[u8], len: usize) -> Result<Vec<u8>> {
    if len > expanded_len_max(compressed.len()) {
        return Err(BROKEN);
    }
    let mut text = Vec::with_capacity(len);
    let mut rest = compressed;
    while let [first, behind @ ..] = rest {
        let first = usize::from(*first);
        if first < LITERAL_MAX {
            let (literal, behind) = behind.split_at_checked(first + 1).ok_or(BROKEN)?;
            text.extend_from_slice(literal);
            rest = behind;
        } else {
            let (more, behind) = match first >> 5 {
                7 => behind.split_first().map(|(more, behind)| (usize::from(*more), behind)).ok_or(BROKEN)?,
                _ => (0, behind),
            };
            let (low, behind) = behind.split_first().ok_or(BROKEN)?;
            let repeated = (first >> 5) + more + 2;
            let distance = ((first & 0x1f) << 8 | usize::from(*low)) + 1;
            let mut from = text.len().checked_sub(distance).ok_or(BROKEN)?;
            // What is repeated may reach into what it makes: as often as it fits.
            let mut left = repeated;
            while left > 0 {
                let part = left.min(text.len() - from);
                text.extend_from_within(from..from + part);
                from += part;
                left -= part;
            }
            rest = behind;
        }
        if text.len() > len {
            return Err(BROKEN);
        }
    }
    if text.len() == len { Ok(text) } else { Err(BROKEN) }
}

/// Compresses texts, one after another. It remembers where three bytes last stood, in a table that needs no clearing
/// between two texts: places count on.
#[derive(Default)]
pub struct Compressor {
    places: Vec<u32>,
    /// Where the next text begins. Places before it belong to others.
    base: u32,
}

impl Compressor {
    const TABLE_BITS: u32 = 13;

    /// Appends a text in compressed form if that is shorter by more than `gain` bytes; else nothing, and false.
    pub fn compress(&mut self, text: &[u8], gain: usize, out: &mut Vec<u8>) -> bool {
        let Some(len_max) = text.len().checked_sub(gain + 1) else { return false };
        self.compress_to(text, len_max, out)
    }

    /// Appends a text in compressed form if that is no longer than `len_max`; else nothing, and false. Pieces of a text
    /// that are appended one after another are the text in compressed form.
    pub fn compress_to(&mut self, text: &[u8], len_max: usize, out: &mut Vec<u8>) -> bool {
        // Longer ones than any server keeps would not fit into the table.
        let Some(len) = u32::try_from(text.len()).ok().filter(|len| *len < u32::MAX) else { return false };
        let start = out.len();
        let base = self.begin(len);
        let (mut literal_from, mut at) = (0, 0);
        while at + REPEAT_MIN <= text.len() {
            let place = &mut self.places[Self::slot(&text[at..])];
            let before = std::mem::replace(place, base + at as u32).checked_sub(base).map(|at| at as usize);
            let repeats = |from: usize| at - from <= DISTANCE_MAX && text[from..from + 3] == text[at..at + 3];
            let Some(from) = before.filter(|from| *from < at && repeats(*from)) else {
                at += 1;
                continue;
            };
            let limit = REPEAT_MAX.min(text.len() - at);
            let same = text[from..].iter().zip(&text[at..at + limit]).take_while(|(a, b)| a == b).count();
            push_literal(out, &text[literal_from..at]);
            push_repeat(out, same, at - from);
            // Of what was passed over, the end may well be met again.
            for passed in [at + 1, at + same - 1] {
                if passed + REPEAT_MIN <= text.len() {
                    self.places[Self::slot(&text[passed..])] = base + passed as u32;
                }
            }
            at += same;
            literal_from = at;
            if out.len() - start > len_max {
                break;
            }
        }
        push_literal(out, &text[literal_from..]);
        let is_shorter = out.len() - start <= len_max;
        if !is_shorter {
            out.truncate(start);
        }
        is_shorter
    }

    fn slot(bytes: &[u8]) -> usize {
        let three = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
        (three.wrapping_mul(0x9e37_79b1) >> (u32::BITS - Self::TABLE_BITS)) as usize
    }

    /// Makes room for the places of a text; returns what they begin with.
    fn begin(&mut self, len: u32) -> u32 {
        if self.places.is_empty() || self.base.checked_add(len).is_none() {
            self.places.clear();
            self.places.resize(1 << Self::TABLE_BITS, 0);
            // A place of 0 is none: it stands before every text.
            self.base = 1;
        }
        let base = self.base;
        self.base += len;
        base
    }
}

fn push_literal(out: &mut Vec<u8>, literal: &[u8]) {
    for part in literal.chunks(LITERAL_MAX) {
        out.push(part.len() as u8 - 1);
        out.extend_from_slice(part);
    }
}

fn push_repeat(out: &mut Vec<u8>, len: usize, distance: usize) {
    let (len, distance) = (len - 2, distance - 1);
    let high = (distance >> 8) as u8;
    if len < 7 {
        out.push((len as u8) << 5 | high);
    } else {
        out.push(7 << 5 | high);
        out.push((len - 7) as u8);
    }
    out.push(distance as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Random;

    #[test]
    fn texts_come_back() {
        let mut random = Random::new(5);
        let mut compressor = Compressor::default();
        for round in 0..600 {
            let letters = 1 + random.below(if round % 2 == 0 { 4 } else { 256 });
            let len = random.below([10, 300, 30_000][round % 3]);
            let mut text: Vec<u8> = (0..len).map(|_| random.below(letters) as u8).collect();
            if round % 5 == 0 {
                text.extend_from_within(..len / 2);
            }
            let mut out = b"before".to_vec();
            if compressor.compress(&text, 4, &mut out) {
                assert!(out.len() - 6 < text.len() - 4);
                assert_eq!(expand(&out[6..], text.len()).unwrap(), text);
                assert!(
                    expand(&out[6..], text.len() - 1).is_err() && expand(&out[6..], text.len() + 1).is_err()
                );
            } else {
                assert_eq!(out, b"before");
            }
        }
        let mut out = Vec::new();
        assert!(compressor.compress(&[b'x'; 10_000], 4, &mut out) && out.len() < 130, "{}", out.len());
        assert!(10_000 <= expanded_len_max(out.len()));
    }

    #[test]
    fn pieces_one_after_another_are_the_whole() {
        let mut random = Random::new(6);
        let text: Vec<u8> = (0..100_000).map(|_| random.below(5) as u8).collect();
        let (mut compressor, mut out) = (Compressor::default(), Vec::new());
        for piece in text.chunks(30_000) {
            assert!(compressor.compress_to(piece, usize::MAX, &mut out));
        }
        assert_eq!(expand(&out, text.len()).unwrap(), text);
    }

    #[test]
    fn places_of_other_texts_do_not_count_however_many_there_were() {
        let mut compressor = Compressor { base: u32::MAX - 70, places: vec![u32::MAX - 71; 1 << 13] };
        for _ in 0..3 {
            let mut out = Vec::new();
            assert!(compressor.compress(&[b'y'; 50], 4, &mut out));
            assert_eq!(expand(&out, 50).unwrap(), [b'y'; 50]);
        }
    }

    #[test]
    fn what_is_no_compressed_text_is_refused() {
        assert_eq!(expand(b"\x01ab\x20\x01\x00c", 6).unwrap(), b"ababac");
        for broken in [&b"\x05abc"[..], b"\x00a\x20\x01", b"\xe0", b"\xe0\x01", b"\x20", b"\x00a\x40"] {
            for len in 0..10 {
                assert!(expand(broken, len).is_err(), "{broken:?}");
            }
        }
        assert!(
            expand(b"\x00a\x20\x00", usize::MAX).is_err(),
            "nothing is reserved for a length that cannot be"
        );
    }
}
