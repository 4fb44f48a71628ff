//! Chunks in less space: what `list-compress-depth` asks for.
//!
//! Squeezed bytes are a row of steps: how many bytes follow as they are (one byte, then these), how many are repeated
//! (one byte), and how far back (two). Repeats are looked for by four bytes, whose last place is remembered.

/// Repeats that are shorter save nothing.
const REPEAT_MIN: usize = 4;
/// Chunks are at most so large, so that places and distances fit into two bytes.
const LEN_MAX: usize = u16::MAX as usize;
/// What squeezing must save.
const GAIN_MIN: usize = 8;
const TABLE_BITS: u32 = 12;

/// Bytes in less space, unless that does not save enough.
pub(super) fn squeeze(bytes: &[u8]) -> Option<Vec<u8>> {
    const LEN_MIN: usize = 48;
    if !(LEN_MIN..=LEN_MAX).contains(&bytes.len()) {
        return None;
    }
    let mut places = [0u16; 1 << TABLE_BITS];
    let mut out = Vec::with_capacity(bytes.len());
    let (mut plain_from, mut at) = (0, 0);
    while let Some(word) = bytes.get(at..at + REPEAT_MIN) {
        let hash = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(0x9e37_79b1);
        let place = &mut places[(hash >> (u32::BITS - TABLE_BITS)) as usize];
        let before = usize::from(std::mem::replace(place, at as u16));
        if before >= at || bytes[before..before + REPEAT_MIN] != *word {
            at += 1;
            continue;
        }
        let same = bytes[at..].iter().zip(&bytes[before..]).take_while(|(one, other)| one == other).count();
        let repeat = same.min(usize::from(u8::MAX));
        push_step(&mut out, &bytes[plain_from..at], repeat, at - before);
        at += repeat;
        plain_from = at;
    }
    push_step(&mut out, &bytes[plain_from..], 0, 0);
    out.shrink_to_fit();
    (out.len() + GAIN_MIN <= bytes.len()).then_some(out)
}

fn push_step(out: &mut Vec<u8>, mut plain: &[u8], repeat: usize, distance: usize) {
    while plain.len() > usize::from(u8::MAX) {
        let (part, rest) = plain.split_at(usize::from(u8::MAX));
        push_step(out, part, 0, 0);
        plain = rest;
    }
    out.push(plain.len() as u8);
    out.extend_from_slice(plain);
    out.push(repeat as u8);
    if repeat > 0 {
        out.extend_from_slice(&(distance as u16).to_le_bytes());
    }
}

/// The bytes that were squeezed, of which there were `len`.
pub(super) fn expand(squeezed: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    let mut rest = squeezed;
    while let [plain, behind @ ..] = rest {
        let (plain, behind) = behind.split_at(usize::from(*plain));
        bytes.extend_from_slice(plain);
        let (repeat, behind) = behind.split_first().expect("a step says how many are repeated");
        rest = behind;
        if *repeat == 0 {
            continue;
        }
        let (distance, behind) = rest.split_at(2);
        rest = behind;
        let mut from = bytes.len() - usize::from(u16::from_le_bytes([distance[0], distance[1]]));
        // A repeat may reach into itself: then what is there goes on.
        let end = bytes.len() + usize::from(*repeat);
        while bytes.len() < end {
            let part = (end - bytes.len()).min(bytes.len() - from);
            bytes.extend_from_within(from..from + part);
            from += part;
        }
    }
    debug_assert_eq!(bytes.len(), len, "what was squeezed comes back");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_squeezed_comes_back() {
        let mut random = crate::engine::random::Random::new(1);
        let mut squeezed_ones = 0;
        for round in 0..2_000u64 {
            let len = (random.word() % 3_000) as usize;
            // From one letter to all bytes, and runs of various lengths.
            let letters = 1 + random.word() % (1 << (round % 9));
            let mut bytes = Vec::new();
            while bytes.len() < len {
                let run = 1 + (random.word() % (1 << (round % 10))) as usize;
                bytes.extend(std::iter::repeat_n((random.word() % letters) as u8, run));
            }
            if let Some(squeezed) = squeeze(&bytes) {
                assert!(squeezed.len() < bytes.len());
                assert_eq!(expand(&squeezed, bytes.len()), bytes, "round {round}");
                squeezed_ones += 1;
            }
        }
        assert!(squeezed_ones > 1_000, "{squeezed_ones}");
    }

    #[test]
    fn what_repeats_takes_little_and_what_does_not_is_left() {
        assert!(squeeze(&[7; 8_000]).expect("it repeats").len() < 200);
        assert_eq!(squeeze(&[7; 47]), None, "too short");
        assert_eq!(squeeze(&vec![7; LEN_MAX + 1]), None, "too long");
        let mut random = crate::engine::random::Random::new(2);
        let noise: Vec<u8> = (0..8_000).map(|_| random.word() as u8).collect();
        assert_eq!(squeeze(&noise), None);
    }
}
