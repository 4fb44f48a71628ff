//! Patterns of keys and channels, prepared so that most of those that do not fit cost a comparison of one word.

use std::collections::HashMap;
use std::sync::Arc;

use mortise_sdk::glob;

/// What may be done to a key, or is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Uses(u8);

impl Uses {
    pub(crate) const NONE: Uses = Uses(0);
    pub(crate) const READ: Uses = Uses(1);
    pub(crate) const WRITE: Uses = Uses(2);
    pub(crate) const ALL: Uses = Uses(3);

    pub(crate) fn and(self, other: Uses) -> Uses {
        Uses(self.0 | other.0)
    }

    #[inline(always)]
    pub(crate) fn has(self, other: Uses) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Patterns in the order in which they were added, no two the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patterns {
    /// The beginnings, side by side: what is looked at first.
    heads: Vec<Head>,
    patterns: Vec<Pattern>,
    /// Where each of them stands, once there are many: they are not to be compared with each other.
    places: HashMap<Arc<[u8]>, usize>,
}

/// Up to so many are looked through.
const FEW: usize = 32;

/// The first eight bytes of what a pattern fits, as far as they are certain.
#[derive(Clone, Copy, Debug)]
struct Head {
    bytes: u64,
    mask: u64,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: Arc<[u8]>,
    uses: Uses,
    /// How many bytes it begins with that mean themselves.
    literal_len: usize,
    rest: Rest,
}

/// What follows the literal beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    /// A `*`, and then nothing that does not mean itself.
    Star,
    Glob,
}

impl Patterns {
    pub(crate) fn clear(&mut self) {
        *self = Patterns::default();
    }

    /// Adds a pattern, or uses to one that is there.
    pub(crate) fn add(&mut self, text: &[u8], uses: Uses) {
        if let Some(place) = self.place(text) {
            let known = &mut self.patterns[place];
            known.uses = known.uses.and(uses);
            return;
        }
        let special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
        let literal_len = text.iter().position(special).unwrap_or(text.len());
        let rest = match &text[literal_len..] {
            [] => Rest::Nothing,
            [b'*', tail @ ..] if !tail.iter().any(special) => Rest::Star,
            _ => Rest::Glob,
        };
        let literal = &text[..literal_len.min(8)];
        let mask = if literal.len() == 8 { u64::MAX } else { (1 << (8 * literal.len())) - 1 };
        self.heads.push(Head { bytes: word(literal), mask });
        self.patterns.push(Pattern { text: text.into(), uses, literal_len, rest });
        if self.patterns.len() > FEW {
            let known = self.places.len();
            let texts = self.patterns[known..].iter().map(|pattern| pattern.text.clone());
            self.places.extend(texts.zip(known..));
        }
    }

    fn place(&self, text: &[u8]) -> Option<usize> {
        match self.patterns.len() {
            0..=FEW => self.patterns.iter().position(|known| *known.text == *text),
            _ => self.places.get(text).copied(),
        }
    }

    /// Whether some pattern that allows these uses fits.
    #[inline]
    pub(crate) fn allow(&self, name: &[u8], uses: Uses) -> bool {
        let first = word(name);
        for (index, head) in self.heads.iter().enumerate() {
            if (head.bytes ^ first) & head.mask == 0 && self.fits(index, name, uses) {
                return true;
            }
        }
        false
    }

    #[inline(never)]
    fn fits(&self, index: usize, name: &[u8], uses: Uses) -> bool {
        let pattern = &self.patterns[index];
        pattern.uses.has(uses) && pattern.fits(name)
    }

    /// Whether there is this very pattern.
    pub(crate) fn contains(&self, text: &[u8]) -> bool {
        self.place(text).is_some()
    }

    /// Whether a pattern allows these uses of everything.
    pub(crate) fn allow_all(&self, uses: Uses) -> bool {
        self.patterns.iter().any(|pattern| *pattern.text == *b"*" && pattern.uses.has(uses))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Uses)> {
        self.patterns.iter().map(|pattern| (&*pattern.text, pattern.uses))
    }
}

impl Pattern {
    #[inline]
    fn fits(&self, name: &[u8]) -> bool {
        match self.rest {
            Rest::Nothing => *self.text == *name,
            Rest::Star => {
                let (head, tail) = (&self.text[..self.literal_len], &self.text[self.literal_len + 1..]);
                // Not even `*` fits the empty name.
                name.len() >= (head.len() + tail.len()).max(1)
                    && name.starts_with(head)
                    && name.ends_with(tail)
            }
            Rest::Glob => glob::matches(&self.text, name),
        }
    }
}

/// The first eight bytes; what is missing is zero, which no pattern holds.
#[inline(always)]
fn word(name: &[u8]) -> u64 {
    if let Some(first) = name.first_chunk::<8>() {
        return u64::from_le_bytes(*first);
    }
    let mut padded = [0; 8];
    padded[..name.len()].copy_from_slice(name);
    u64::from_le_bytes(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepared_patterns_fit_what_the_glob_fits() {
        let texts = ["", "a", "ab", "aba", "abcdefgh", "abcdefghi", "abcdefg", "a*", "x", "abcdefghabc"];
        let patterns = [
            "",
            "*",
            "a",
            "a*",
            "a**",
            "abcdefgh",
            "abcdefgh*",
            "abcdefghi*",
            "ab[c]*",
            "?",
            "a\\*",
            "abcdefghij*",
            "*a",
            "a*a",
            "a*]",
            "ab*abc",
            "ab*abcd*",
        ];
        for pattern in patterns {
            let mut prepared = Patterns::default();
            prepared.add(pattern.as_bytes(), Uses::ALL);
            for text in texts {
                assert_eq!(
                    prepared.allow(text.as_bytes(), Uses::READ),
                    glob::matches(pattern.as_bytes(), text.as_bytes()),
                    "{pattern} {text}"
                );
            }
        }
    }

    #[test]
    fn many_are_not_compared_with_each_other() {
        // Fifty thousand by comparing each with each would take minutes.
        let mut patterns = Patterns::default();
        for round in 0..2 {
            for n in 0..50_000 {
                patterns.add(format!("{n}:*").as_bytes(), if round == 0 { Uses::READ } else { Uses::WRITE });
            }
        }
        assert_eq!(patterns.iter().count(), 50_000);
        assert!(patterns.contains(b"0:*") && patterns.contains(b"49999:*") && !patterns.contains(b"50000:*"));
        assert!(patterns.allow(b"31:x", Uses::ALL) && patterns.allow(b"4999:x", Uses::ALL));
        patterns.clear();
        assert!(!patterns.contains(b"0:*") && !patterns.allow(b"0:x", Uses::READ));
    }

    #[test]
    fn uses_add_up() {
        let mut patterns = Patterns::default();
        patterns.add(b"k*", Uses::READ);
        assert!(patterns.allow(b"key", Uses::READ) && !patterns.allow(b"key", Uses::WRITE));
        assert!(patterns.allow(b"key", Uses::NONE) && !patterns.allow(b"x", Uses::NONE));
        patterns.add(b"k*", Uses::WRITE);
        assert!(patterns.allow(b"key", Uses::ALL));
        assert_eq!(patterns.iter().count(), 1);
    }
}
