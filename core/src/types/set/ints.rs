//! Integers packed into bytes: a byte that says how wide they are, then they, in ascending order.

use std::iter;

/// Integers as they stand in an entry. No bytes at all are no integers.
#[derive(Clone, Copy)]
pub struct Ints<'a> {
    width: usize,
    numbers: &'a [u8],
}

/// How many bytes an integer needs.
fn width_of(n: i64) -> usize {
    match n {
        _ if i8::try_from(n).is_ok() => 1,
        _ if i16::try_from(n).is_ok() => 2,
        _ if i32::try_from(n).is_ok() => 4,
        _ => 8,
    }
}

/// Packs integers that come in ascending order, each once.
pub(super) fn pack(ascending: &[i64]) -> Vec<u8> {
    // The widest stand at the ends.
    let ends = [ascending.first(), ascending.last()];
    let width = ends.into_iter().flatten().map(|n| width_of(*n)).max().unwrap_or(1);
    let mut bytes = Vec::with_capacity(1 + ascending.len() * width);
    bytes.push(width as u8);
    ascending.iter().for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()[..width]));
    bytes
}

/// What has to be done to the bytes to add an integer.
pub(super) enum Insertion {
    /// These bytes are put in at a place.
    Splice { at: usize, bytes: [u8; 8], len: usize },
    /// It is wider than the others: all bytes are replaced.
    Replace(Vec<u8>),
}

impl<'a> Ints<'a> {
    /// The integers in an entry's bytes.
    pub(super) fn new(bytes: &'a [u8]) -> Ints<'a> {
        match bytes.split_first() {
            Some((width, numbers)) => Ints { width: usize::from(*width).max(1), numbers },
            None => Ints { width: 1, numbers: &[] },
        }
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.numbers.len() / self.width
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.numbers.is_empty()
    }

    /// Bytes that they take.
    pub(super) fn size(self) -> usize {
        1 + self.numbers.len()
    }

    /// The integer of a rank, which is below the length.
    #[inline]
    pub fn at(self, rank: usize) -> i64 {
        let bytes = &self.numbers[rank * self.width..(rank + 1) * self.width];
        match *bytes {
            [one] => i64::from(one as i8),
            [one, two] => i64::from(i16::from_le_bytes([one, two])),
            [one, two, three, four] => i64::from(i32::from_le_bytes([one, two, three, four])),
            _ => bytes.try_into().map_or(0, i64::from_le_bytes),
        }
    }

    /// The rank of an integer, or else the one that it would have.
    pub(super) fn find(self, n: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.at(middle).cmp(&n) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// All of them, in ascending order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = i64> + use<'a> {
        (0..self.len()).map(move |rank| self.at(rank))
    }

    /// How an integer is added that is to have this rank.
    pub(super) fn insertion(self, rank: usize, n: i64) -> Insertion {
        let width = width_of(n);
        if self.is_empty() || width > self.width {
            let below = (0..rank).map(|rank| self.at(rank));
            let above = (rank..self.len()).map(|rank| self.at(rank));
            return Insertion::Replace(pack(&below.chain(iter::once(n)).chain(above).collect::<Vec<i64>>()));
        }
        Insertion::Splice { at: 1 + rank * self.width, bytes: n.to_le_bytes(), len: self.width }
    }

    /// Where the bytes of the integer of a rank stand, and how many they are.
    pub(super) fn place(self, rank: usize) -> (usize, usize) {
        (1 + rank * self.width, self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_keeps_its_numbers() {
        let edges = [i64::MIN, -1 << 31, -(1 << 31) - 1, -32769, -32768, -129, -128, -1, 0, 127, 128, 32767];
        let edges: Vec<i64> = edges.into_iter().chain([32768, 1 << 31, (1 << 31) - 1, i64::MAX]).collect();
        for one in &edges {
            for other in edges.iter().filter(|other| *other > one) {
                let bytes = pack(&[*one, *other]);
                let ints = Ints::new(&bytes);
                assert!(ints.iter().eq([*one, *other]), "{one} {other}");
                assert_eq!((ints.find(*one), ints.find(*other)), (Ok(0), Ok(1)));
                assert_eq!(ints.find(one + 1), if one + 1 == *other { Ok(1) } else { Err(1) });
            }
        }
        assert!(Ints::new(b"").is_empty() && Ints::new(&pack(&[])).is_empty());
    }
}
