//! Passwords: never kept, only digests of them.
//!
//! SHA-256, as Redis has it, is compared at once; it protects long random passwords and no others. argon2id takes
//! memory and some hundredths of a second on purpose, so it is computed where nobody else has to wait for it.

use std::fmt;

use argon2::password_hash::rand_core::{OsRng, RngCore};
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest as _, Sha256};

/// How passwords are kept that are given in the clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// As Redis keeps them.
    #[default]
    Sha256,
    /// As a string of the PHC's format: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
    Argon2id,
}

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Digest {
    Sha256([u8; 32]),
    /// A valid string of the PHC's format, within the limits.
    Argon2id(Box<str>),
}

/// Longer strings are no digests of ours.
const PHC_LEN_MAX: usize = 256;
/// Whoever may set passwords must not be able to fill the server's memory by it: in KiB.
const ARGON_MEMORY_MAX: u32 = 256 << 10;
const ARGON_PASSES_MAX: u32 = 64;
const ARGON_LANES_MAX: u32 = 16;

impl Digest {
    /// The digest of a password. By argon2id it takes long.
    pub(crate) fn of(password: &[u8], scheme: Scheme) -> Digest {
        if scheme == Scheme::Argon2id {
            let salt = SaltString::generate(&mut OsRng);
            if let Ok(hash) = Argon2::default().hash_password(password, &salt) {
                return Digest::Argon2id(hash.to_string().into());
            }
            // Only a password of 4 GB cannot be hashed.
        }
        Digest::Sha256(sha256(password))
    }

    /// A digest as it is printed: 64 hexadecimal digits, or a string of the PHC's format.
    pub(crate) fn parse(text: &[u8]) -> Option<Digest> {
        if text.starts_with(b"$") {
            let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= PHC_LEN_MAX)?;
            let hash = PasswordHash::new(text).ok()?;
            let params = Params::try_from(&hash).ok()?;
            let is_argon2id = Algorithm::try_from(hash.algorithm) == Ok(Algorithm::Argon2id);
            let is_current = hash.version == Some(Version::V0x13.into());
            let is_within = params.m_cost() <= ARGON_MEMORY_MAX
                && params.t_cost() <= ARGON_PASSES_MAX
                && params.p_cost() <= ARGON_LANES_MAX;
            let is_whole = hash.salt.is_some() && hash.hash.is_some() && hash.to_string() == text;
            return (is_argon2id && is_current && is_within && is_whole)
                .then(|| Digest::Argon2id(text.into()));
        }
        let mut digest = [0; 32];
        if text.len() != 64 {
            return None;
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        for (byte, pair) in digest.iter_mut().zip(text.chunks(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(Digest::Sha256(digest))
    }

    /// Whether it takes long to verify.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self, Digest::Argon2id(_))
    }

    /// Whether a password has this digest. By argon2id it takes long.
    pub(crate) fn verifies(&self, password: &[u8]) -> bool {
        match self {
            Digest::Sha256(digest) => same(&sha256(password), digest),
            Digest::Argon2id(text) => PasswordHash::new(text)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
        }
    }

    /// Whether it is the digest whose SHA-256 is given.
    pub(crate) fn is_sha256(&self, given: &[u8; 32]) -> bool {
        matches!(self, Digest::Sha256(digest) if same(given, digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Digest::Sha256(digest) => digest.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Digest::Argon2id(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_slow() { "argon2id" } else { "sha256" })
    }
}

/// The SHA-256 of a password.
pub(crate) fn sha256(password: &[u8]) -> [u8; 32] {
    Sha256::digest(password).into()
}

/// Compares in a time that does not depend on where the two differ.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// A password that nobody guesses: so many bits of the operating system's randomness, rounded up to whole hexadecimal
/// digits.
pub fn generate(bits: usize) -> String {
    let digits = bits.div_ceil(4);
    let mut bytes = vec![0; digits.div_ceil(2)];
    OsRng.fill_bytes(&mut bytes);
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_printed_and_parsed() {
        let digest = Digest::of(b"passwd4", Scheme::Sha256);
        let text = "34344e4d60c2b6d639b7bd22e18f2b0b91bc34bf0ac5f9952744435093cfb4e6";
        assert_eq!(digest.to_string(), text);
        assert_eq!(Digest::parse(text.as_bytes()), Some(digest));
        for bad in [&text[1..], &text.to_ascii_uppercase(), &text.replace('6', "g"), ""] {
            assert_eq!(Digest::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn argon2id() {
        let digest = Digest::of(b"secret", Scheme::Argon2id);
        let text = digest.to_string();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        assert_eq!(Digest::parse(text.as_bytes()), Some(digest.clone()));
        assert!(digest.verifies(b"secret") && !digest.verifies(b"Secret") && digest.is_slow());
        assert_ne!(Digest::of(b"secret", Scheme::Argon2id), digest, "each has its own salt");
    }

    #[test]
    fn strings_that_are_no_argon2id_or_ask_for_too_much() {
        let good = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$cnVGtZjPzWAaFlNZ4c3cCg";
        assert!(Digest::parse(good.as_bytes()).is_some());
        for bad in [
            good.replace("argon2id", "argon2i"),
            good.replace("v=19", "v=16"),
            good.replace("m=8", "m=4194304"),
            good.replace("t=1", "t=100000"),
            good.replace("p=1", "p=200"),
            good.replace("$cnVGtZjPzWAaFlNZ4c3cCg", ""),
            format!("{good} x"),
            "$".to_owned(),
        ] {
            assert_eq!(Digest::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn generated_passwords() {
        for (bits, digits) in [(1, 1), (4, 1), (5, 2), (256, 64), (4096, 1024)] {
            assert_eq!(generate(bits).len(), digits);
        }
        assert_ne!(generate(256), generate(256));
    }
}
