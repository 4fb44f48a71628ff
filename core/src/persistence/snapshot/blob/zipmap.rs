//! Zipmaps: what small hashes were before Redis 2.6. Only read.
//!
//! ```text
//! fields u8 (254 and more: nobody has counted)   (length · field · length · how many bytes are free · value · free)…   255
//! length: a byte below 254, or 254 and four bytes
//! ```

use super::super::{Broken, Result};

const END: u8 = 0xff;
const LONG: u8 = 0xfe;

/// A zipmap that has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Zipmap<'a> {
    pairs: &'a [u8],
    len: usize,
}

const BROKEN: Broken = Broken::Malformed("Zipmap integrity check failed");

impl<'a> Zipmap<'a> {
    /// Checks all of a zipmap.
    pub fn parse(bytes: &'a [u8]) -> Result<Zipmap<'a>> {
        let (counted, behind) = bytes.split_first().ok_or(BROKEN)?;
        let (end, pairs) = behind.split_last().ok_or(BROKEN)?;
        if *end != END {
            return Err(BROKEN);
        }
        let (mut rest, mut len) = (pairs, 0);
        while !rest.is_empty() {
            (_, rest) = pair(rest).ok_or(BROKEN)?;
            len += 1;
        }
        if *counted < LONG && usize::from(*counted) != len {
            return Err(BROKEN);
        }
        Ok(Zipmap { pairs, len })
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fields with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a> {
        let mut rest = self.pairs;
        std::iter::from_fn(move || {
            let (found, behind) = pair(rest)?;
            rest = behind;
            Some(found)
        })
    }
}

type Pair<'a> = (&'a [u8], &'a [u8]);

/// The pair at the beginning, and what follows it.
fn pair(bytes: &[u8]) -> Option<(Pair<'_>, &[u8])> {
    let (field_len, behind) = length(bytes)?;
    let (field, behind) = behind.split_at_checked(field_len)?;
    let (value_len, behind) = length(behind)?;
    let (free, behind) = behind.split_first()?;
    let (value, behind) = behind.split_at_checked(value_len)?;
    Some(((field, value), behind.get(usize::from(*free)..)?))
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, behind) = bytes.split_first()?;
    match *first {
        END => None,
        LONG => Some((u32::from_le_bytes(*behind.first_chunk()?) as usize, &behind[4..])),
        short => Some((usize::from(short), behind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read() {
        let map = Zipmap::parse(b"\x02\x03foo\x03\x00bar\x05hello\x01\x02xyz\xff").unwrap();
        assert_eq!(map.len(), 2);
        assert!(map.iter().eq([(&b"foo"[..], &b"bar"[..]), (b"hello", b"x")]));
        let long = [b"\xfe\xfe\xfe\x2c\x01\0\0", &[b'f'; 300][..], b"\x00\x00\xff"].concat();
        let map = Zipmap::parse(&long[1..]).unwrap();
        assert!(map.iter().eq([(&[b'f'; 300][..], &b""[..])]), "uncounted, with a long field");
    }

    #[test]
    fn what_is_cut_or_counted_wrongly_is_refused() {
        let whole = b"\x02\x03foo\x03\x00bar\x05hello\x01\x02xyz\xff";
        assert!((0..whole.len()).all(|len| Zipmap::parse(&whole[..len]).is_err()));
        assert!(Zipmap::parse(b"\x01\x03foo\x03\x00bar\x05hello\x01\x02xyz\xff").is_err());
        assert!(Zipmap::parse(b"\x00\xff").unwrap().is_empty());
    }
}
