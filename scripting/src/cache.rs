//! The scripts that are known, by the SHA1 of their text.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use mortise_sdk::error::Error;
use sha1::{Digest as _, Sha1};

use crate::flags::{self, Flags};
use crate::raw::Reference;

/// The SHA1 of a script's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest([u8; 20]);

impl std::hash::Hash for Digest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl Digest {
    /// The digest of a text.
    pub fn of(text: &[u8]) -> Digest {
        Digest(Sha1::digest(text).into())
    }

    /// Reads its forty digits, in any case.
    #[inline]
    pub fn parse(text: &[u8]) -> Option<Digest> {
        let text: &[u8; 40] = text.try_into().ok()?;
        let mut digest = [0; 20];
        let mut wrong = 0;
        for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
            let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
            wrong |= high | low;
            *byte = high << 4 | low & 15;
        }
        (wrong < 16).then_some(Digest(digest))
    }

    /// Its forty digits.
    pub fn hex(&self) -> [u8; 40] {
        let mut text = [0; 40];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        text
    }
}

/// Computes a digest part by part.
#[derive(Default)]
pub(crate) struct Hasher(Sha1);

impl Hasher {
    pub(crate) fn add(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    pub(crate) fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// The value of each hexadecimal digit; 16 for what is none.
const DIGITS: [u8; 256] = {
    let mut digits = [16; 256];
    let mut digit = 0;
    while digit < 16 {
        digits[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digits[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    digits
};

/// A script that is known. It stays valid until the scripts are forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Script {
    index: u32,
    epoch: u32,
    flags: Flags,
}

impl Script {
    /// What the script says of itself.
    pub fn flags(&self) -> Flags {
        self.flags
    }
}

/// A script and what belongs to it.
pub(crate) struct Entry {
    /// Its name.
    pub(crate) digest: Digest,
    /// Its text, as it was given.
    pub(crate) body: Box<[u8]>,
    /// Where its Lua begins.
    pub(crate) start: usize,
    /// The function, and the state it was compiled for.
    pub(crate) function: Option<(u64, Reference)>,
}

/// All scripts.
#[derive(Default)]
pub(crate) struct Cache {
    found: HashMap<Digest, Script, Seeded>,
    /// The last that was asked for by its digits, as they were said: who runs a script runs it often.
    last: Option<([u8; 40], Script)>,
    entries: Vec<Entry>,
    epoch: u32,
    bytes: usize,
}

impl Cache {
    /// The script of a digest.
    #[inline]
    pub(crate) fn find(&self, digest: &Digest) -> Option<Script> {
        self.found.get(digest).copied()
    }

    /// The script of forty digits.
    #[inline(always)]
    pub(crate) fn find_digits(&mut self, digits: &[u8]) -> Option<Script> {
        let digits: &[u8; 40] = digits.try_into().ok()?;
        match &self.last {
            Some((said, script)) if said == digits => Some(*script),
            _ => {
                let script = self.find(&Digest::parse(digits)?)?;
                self.last = Some((*digits, script));
                Some(script)
            }
        }
    }

    /// Reads what a text says of itself, and where its Lua begins.
    pub(crate) fn read(body: &[u8]) -> Result<(Flags, usize), Error> {
        flags::read(body)
    }

    /// Adds a script that is not known.
    pub(crate) fn add(&mut self, entry: Entry, flags: Flags) -> Script {
        // More scripts than that do not fit into memory.
        let index = u32::try_from(self.entries.len()).expect("fewer than four thousand million scripts");
        let script = Script { index, epoch: self.epoch, flags };
        self.bytes += entry.body.len() + size_of::<Entry>() + size_of::<(Digest, Script)>();
        self.found.insert(entry.digest, script);
        self.entries.push(entry);
        script
    }

    /// What belongs to a script; nothing if it has been forgotten.
    #[inline]
    pub(crate) fn entry(&self, script: Script) -> Option<&Entry> {
        self.entries.get(script.index as usize).filter(|_| script.epoch == self.epoch)
    }

    /// The same, to be changed.
    pub(crate) fn entry_mut(&mut self, script: Script) -> Option<&mut Entry> {
        self.entries.get_mut(script.index as usize).filter(|_| script.epoch == self.epoch)
    }

    /// Forgets all scripts, and gives them to be dropped.
    pub(crate) fn clear(&mut self) -> Cache {
        let epoch = self.epoch.wrapping_add(1);
        std::mem::replace(self, Cache { epoch, ..Cache::default() })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that they take, beside what Lua has made of them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Hashes a digest, which is as good as random, by a part of it; seeded, as who sends scripts can choose among digests.
pub(crate) struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Seeded {
        Seeded(RandomState::new().hash_one(0u8) | 1)
    }
}

impl BuildHasher for Seeded {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded { seed: self.0, hash: 0 }
    }
}

/// See [`Seeded`].
pub(crate) struct Folded {
    seed: u64,
    hash: u64,
}

impl std::hash::Hasher for Folded {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8).take(2) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let product = u128::from(u64::from_le_bytes(word) ^ self.hash) * u128::from(self.seed);
            self.hash = product as u64 ^ (product >> 64) as u64;
        }
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests() {
        let digest = Digest::of(b"return 1");
        assert_eq!(&digest.hex(), b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(Digest::parse(b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"), Some(digest));
        for wrong in [
            &b"e0e1f9fabfc9d4800c877a703b823ac0578ff8d"[..],
            b"e0e1f9fabfc9d4800c877a703b823ac0578ff8dx",
            b"",
        ] {
            assert_eq!(Digest::parse(wrong), None);
        }
    }

    #[test]
    fn scripts_come_and_go() {
        let mut cache = Cache::default();
        let digest = Digest::of(b"return 1");
        assert_eq!(cache.find(&digest), None);
        let entry = Entry { digest, body: (*b"return 1").into(), start: 0, function: None };
        let script = cache.add(entry, Flags::default());
        assert_eq!((cache.find(&digest), cache.len()), (Some(script), 1));
        assert!(cache.bytes() > 8 && cache.entry(script).is_some());
        drop(cache.clear());
        assert_eq!((cache.find(&digest), cache.len(), cache.bytes()), (None, 0, 0));
        assert!(cache.entry(script).is_none());
    }
}
