//! A value with version and checksum, as DUMP shows it and RESTORE takes it.
//!
//! ```text
//! kind u8   value   version u16   checksum u64
//! ```

use super::crc64::crc64;
use super::format::{VERSION, VERSION_MAX};
use super::{Reader, Writer};

const VERSION_LEN: usize = 2;
const CHECKSUM_LEN: usize = 8;

/// Finishes a payload whose kind and value have been written.
pub fn seal(out: &mut Writer) {
    out.raw(&VERSION.to_le_bytes());
    let sum = crc64(0, out.as_bytes());
    out.raw(&sum.to_le_bytes());
}

/// What a payload holds, of which the kind comes first; nothing if its version is a later one or its checksum wrong.
/// The latter does not matter if it is not to be checked.
pub fn open(payload: &[u8], is_checked: bool) -> Option<Reader<'_>> {
    let (signed, sum) = payload.split_last_chunk::<CHECKSUM_LEN>()?;
    let (value, version) = signed.split_last_chunk::<VERSION_LEN>()?;
    if u16::from_le_bytes(*version) > VERSION_MAX {
        return None;
    }
    let is_right = !is_checked || crc64(0, signed) == u64::from_le_bytes(*sum);
    is_right.then(|| Reader::new(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What redis-server 7.0.15 says to `SET k 123` and `DUMP k`.
    const KNOWN: &[u8] = b"\0\xc0{\n\0H\xe2S\xe1\0zg\xb9";

    #[test]
    fn a_payload_is_redis_own() {
        let mut out = Writer::new(true);
        out.byte(0);
        out.bytes(b"123");
        seal(&mut out);
        assert_eq!(out.as_bytes(), KNOWN);
        assert_eq!(open(KNOWN, true).unwrap().take(3).unwrap(), b"\0\xc0{");
    }

    #[test]
    fn what_was_changed_or_is_too_new_is_refused() {
        for at in 0..KNOWN.len() {
            let mut changed = KNOWN.to_vec();
            changed[at] ^= 1;
            assert!(open(&changed, true).is_none(), "{at}");
        }
        assert!((0..10).all(|len| open(&KNOWN[..len], false).is_none()));
        for (version, opens) in [(0, true), (11, true), (12, false), (256, false)] {
            let mut payload = KNOWN[..3].to_vec();
            payload.extend_from_slice(&u16::to_le_bytes(version));
            payload.extend_from_slice(&crc64(0, &payload).to_le_bytes());
            assert_eq!(open(&payload, true).is_some(), opens, "{version}");
        }
    }
}
