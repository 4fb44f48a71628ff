//! Intsets: integers in ascending order, all as wide as the widest needs.
//!
//! ```text
//! bytes of each u32 (2, 4 or 8)   how many u32   integer…
//! ```

use super::super::{Broken, Result};

const HEADER_LEN: usize = 8;

/// An intset that has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Intset<'a> {
    width: usize,
    integers: &'a [u8],
}

const BROKEN: Broken = Broken::Malformed("Intset integrity check failed.");

impl<'a> Intset<'a> {
    /// Checks all of an intset: its integers ascend, so that each is there once.
    pub fn parse(bytes: &'a [u8]) -> Result<Intset<'a>> {
        let (header, integers) = bytes.split_at_checked(HEADER_LEN).ok_or(BROKEN)?;
        let width = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if !matches!(width, 2 | 4 | 8) || len.checked_mul(width) != Some(integers.len()) {
            return Err(BROKEN);
        }
        let set = Intset { width, integers };
        if !set.iter().is_sorted_by(|one, next| one < next) {
            return Err(BROKEN);
        }
        Ok(set)
    }

    /// How many integers there are.
    pub fn len(&self) -> usize {
        self.integers.len() / self.width
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.integers.is_empty()
    }

    /// The integers in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = i64> + Clone + use<'a> {
        let width = self.width;
        self.integers.chunks_exact(width).map(move |bytes| {
            let mut all = [0; 8];
            all[8 - width..].copy_from_slice(bytes);
            i64::from_le_bytes(all) >> (64 - 8 * width)
        })
    }
}

/// The intset of integers in ascending order, of which there are fewer than 2^32.
pub fn build(integers: impl ExactSizeIterator<Item = i64> + Clone) -> Vec<u8> {
    let fits = |n: i64| match n {
        -0x8000..0x8000 => 2,
        -0x8000_0000..0x8000_0000 => 4,
        _ => 8,
    };
    let width = integers.clone().map(fits).max().unwrap_or(2);
    let mut bytes = Vec::with_capacity(HEADER_LEN + integers.len() * width);
    bytes.extend_from_slice(&(width as u32).to_le_bytes());
    bytes.extend_from_slice(&(integers.len() as u32).to_le_bytes());
    integers.for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()[..width]));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_back() {
        for integers in [
            &[][..],
            &[-32768, 0, 32767],
            &[-32769, 5],
            &[5, 1 << 31],
            &[i64::MIN, -1, 0, 1, i64::MAX],
            &[-(1 << 31), 7],
        ] {
            let bytes = build(integers.iter().copied());
            let set = Intset::parse(&bytes).unwrap();
            assert!(set.iter().eq(integers.iter().copied()), "{integers:?}");
            assert_eq!((set.len(), set.is_empty()), (integers.len(), integers.is_empty()));
        }
        assert_eq!(build([1i64, 300].into_iter()), b"\x02\0\0\0\x02\0\0\0\x01\0\x2c\x01");
    }

    #[test]
    fn what_does_not_ascend_or_fit_is_refused() {
        for broken in [
            &b"\x02\0\0\0\x02\0\0\0\x02\0\x01\0"[..],
            b"\x02\0\0\0\x02\0\0\0\x01\0\x01\0",
            b"\x02\0\0\0\x02\0\0\0\x01\0",
            b"\x02\0\0\0\xff\xff\xff\xff\x01\0",
            b"\x00\0\0\0\x00\0\0\0",
            b"\x03\0\0\0\x00\0\0\0",
            b"\x08\0\0\0\0\0\0\x80",
            b"\x02\0\0\0",
        ] {
            assert!(Intset::parse(broken).is_err(), "{broken:?}");
        }
    }
}
