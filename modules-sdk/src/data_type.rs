//! Data types of modules: what is declared of one, and its saved form.

use crate::error::{Error, Result};

/// A data type that a module brings.
///
/// Everything the server does with values (TYPE, OBJECT, MEMORY, COPY, DUMP, files, DEBUG DIGEST) is done through this.
/// Values may be freed on another thread than they were made on, hence `Send` and `Sync`.
#[allow(clippy::len_without_is_empty)] // An emptied value is gone: `is_gone` says so.
pub trait DataType: Clone + Send + Sync + 'static {
    /// What TYPE says: lower-case letters, digits, `-` and `_`.
    const NAME: &'static str;
    /// The version of the saved form.
    const VERSION: u32 = 1;

    /// Writes the value.
    fn save(&self, out: &mut Saver);
    /// Reads what `save` of a version wrote.
    fn load(from: &mut Loader<'_>, version: u32) -> Result<Self>;
    /// Bytes on the heap, about.
    fn memory(&self) -> usize;

    /// How many elements it has.
    fn len(&self) -> usize {
        1
    }
    /// Whether nothing is left of it, so that its key goes after an edit.
    fn is_gone(&self) -> bool {
        false
    }
    /// A copy, if there can be one: for COPY, and for what puts a value back or saves it while it changes.
    ///
    /// A value that cannot be copied is not changed by atomic calls, which are refused, and a snapshot that is under way
    /// when it changes goes on without it. A panic in the middle of a change leaves what was done by then, except in an
    /// atomic call, which puts the copy back.
    fn copy(&self) -> Option<Self> {
        Some(self.clone())
    }
    /// How many steps it takes to free it; what takes many is freed on a worker.
    fn free_effort(&self) -> usize {
        self.len()
    }
}

/// Takes a value's saved form.
#[derive(Debug, Default)]
pub struct Saver {
    bytes: Vec<u8>,
}

impl Saver {
    /// A number of things that follow.
    pub fn len(&mut self, len: usize) {
        self.unsigned(len as u64);
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// An integer.
    pub fn integer(&mut self, n: i64) {
        // Small numbers of either sign become small.
        self.unsigned(((n << 1) ^ (n >> 63)) as u64);
    }

    /// A floating-point number.
    pub fn float(&mut self, x: f64) {
        self.bytes.extend_from_slice(&x.to_le_bytes());
    }

    fn unsigned(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.bytes.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.bytes.push(n as u8);
    }

    /// The saved form.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads a value's saved form. Whatever it reads, it refuses what cannot be; it never allocates by a number it has not
/// compared with the bytes there are.
#[derive(Debug)]
pub struct Loader<'a> {
    left: &'a [u8],
}

const TRUNCATED: Error = Error::new("ERR the saved value is cut short");
const MALFORMED: Error = Error::new("ERR the saved value is malformed");

impl<'a> Loader<'a> {
    /// A saved form.
    pub fn new(bytes: &'a [u8]) -> Loader<'a> {
        Loader { left: bytes }
    }

    /// A number of things that follow, each of at least a byte.
    #[allow(clippy::len_without_is_empty)] // reads a length; is none
    pub fn len(&mut self) -> Result<usize> {
        let len = usize::try_from(self.unsigned()?).map_err(|_| MALFORMED)?;
        if len > self.left.len() {
            return Err(TRUNCATED);
        }
        Ok(len)
    }

    /// Bytes.
    pub fn bytes(&mut self) -> Result<Vec<u8>> {
        let len = self.len()?;
        self.take(len).map(<[u8]>::to_vec)
    }

    /// An integer.
    pub fn integer(&mut self) -> Result<i64> {
        let n = self.unsigned()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// A floating-point number.
    pub fn float(&mut self) -> Result<f64> {
        let bytes = self.take(8)?;
        bytes.try_into().map(f64::from_le_bytes).map_err(|_| TRUNCATED)
    }

    /// That nothing is left.
    pub fn end(&self) -> Result {
        if self.left.is_empty() { Ok(()) } else { Err(MALFORMED) }
    }

    fn unsigned(&mut self) -> Result<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            n |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(MALFORMED)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(len).ok_or(TRUNCATED)?;
        self.left = left;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let mut out = Saver::default();
        let integers = [0, 1, -1, 63, -64, 64, 1 << 40, i64::MAX, i64::MIN];
        integers.iter().for_each(|n| out.integer(*n));
        out.bytes(b"");
        out.bytes(&[7; 300]);
        out.float(-0.5);
        let bytes = out.into_bytes();
        let mut from = Loader::new(&bytes);
        assert_eq!(integers.map(|_| from.integer().unwrap()), integers);
        assert_eq!((from.bytes().unwrap(), from.bytes().unwrap()), (vec![], vec![7; 300]));
        assert_eq!(from.float().unwrap(), -0.5);
        from.end().unwrap();
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(Loader::new(&[]).integer(), Err(TRUNCATED));
        assert_eq!(Loader::new(&[5, 1, 2]).bytes(), Err(TRUNCATED));
        assert_eq!(Loader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).len(), Err(TRUNCATED));
        assert_eq!(Loader::new(&[0xff; 10]).integer(), Err(MALFORMED));
        assert_eq!(Loader::new(&[0xff; 11]).len(), Err(MALFORMED));
        assert_eq!(Loader::new(&[1, 2, 3]).float(), Err(TRUNCATED));
        assert_eq!(Loader::new(&[1]).end(), Err(MALFORMED));
    }
}
