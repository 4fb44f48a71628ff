//! HyperLogLogs: strings that estimate how many different elements were added to them.
//!
//! The bytes are Redis's, so that what GET returns can be SET on either: a header, then registers, either all of them
//! (`dense`) or as runs (`sparse`). This folder owns them; to the keyspace they are strings.

mod commands;
mod dense;
mod estimate;
mod sparse;

use std::borrow::Cow;
use std::ops::ControlFlow;

use mortise_sdk::config;
use mortise_sdk::declare::config::Bytes;
use mortise_sdk::error::{self, Error, Result};

pub(super) use commands::COMMANDS;

use super::value::Str;
use crate::keyspace::Entry;
use crate::types::Type;

config! {
    /// HyperLogLogs.
    pub struct HyperLogLogConfig {
        /// Bytes that a HyperLogLog takes at most before it is no longer kept as runs of equal registers.
        live hll_sparse_max_bytes: Bytes = Bytes(3000), in 0..=i64::MAX;
    }
}

/// Bits of an element's hash that choose its register.
const INDEX_BITS: u32 = 14;
/// How many registers there are.
const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of the hash in which the first one is looked for.
const RANK_BITS: u32 = 64 - INDEX_BITS;

/// `HYLL`, the encoding, three spare bytes, the estimate as it was last worked out.
const HEADER_LEN: usize = 16;
const MAGIC: &[u8] = b"HYLL";
const ENCODING_AT: usize = 4;
const CARDINALITY_AT: usize = 8;
/// In the last byte of the estimate: it does not hold any more.
const STALE_AT: usize = 15;
const STALE: u8 = 0x80;

const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// A dense one's length.
const DENSE_LEN: usize = HEADER_LEN + dense::LEN;

const NOT_ONE: Error = Error::new("WRONGTYPE Key is not a valid HyperLogLog string value.");
const CORRUPTED: Error = Error::new("INVALIDOBJ Corrupted HLL object detected");

/// All registers, a byte each.
type Registers = [u8; REGISTERS];

/// A HyperLogLog as it is read.
struct Sketch<'a> {
    bytes: Cow<'a, [u8]>,
}

impl<'a> Sketch<'a> {
    /// The value of a key, which must be one.
    fn of(entry: &'a Entry) -> Result<Sketch<'a>> {
        let string = Str::view(entry).ok_or(error::WRONGTYPE)?;
        // A long string is not copied only to learn that it is none.
        let mut header = Vec::with_capacity(HEADER_LEN);
        let _ = string.visit(0, HEADER_LEN, |part| -> ControlFlow<()> {
            header.extend_from_slice(part);
            ControlFlow::Continue(())
        });
        Sketch::check(&header, string.len())?;
        Ok(Sketch { bytes: string.bytes() })
    }

    /// Whether a string of some length that begins like this is one.
    fn check(header: &[u8], len: usize) -> Result {
        let is_one = len >= HEADER_LEN
            && header.starts_with(MAGIC)
            && match header[ENCODING_AT] {
                DENSE => len == DENSE_LEN,
                SPARSE => true,
                _ => false,
            };
        if is_one { Ok(()) } else { Err(NOT_ONE) }
    }

    #[cfg(test)]
    fn from_bytes(bytes: Cow<'a, [u8]>) -> Result<Sketch<'a>> {
        Sketch::check(&bytes, bytes.len())?;
        Ok(Sketch { bytes })
    }

    /// One to which nothing has been added.
    fn empty() -> Sketch<'static> {
        let mut bytes = header(SPARSE).to_vec();
        sparse::push_zeroes(&mut bytes, REGISTERS);
        Sketch { bytes: Cow::Owned(bytes) }
    }

    fn is_dense(&self) -> bool {
        self.bytes[ENCODING_AT] == DENSE
    }

    fn body(&self) -> &[u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// The estimate that stands in the header, if it still holds.
    fn known(&self) -> Option<u64> {
        let bytes: [u8; 8] = self.bytes[CARDINALITY_AT..HEADER_LEN].try_into().ok()?;
        (bytes[7] & STALE == 0).then(|| u64::from_le_bytes(bytes))
    }

    /// Works the estimate out.
    fn estimate(&self) -> Result<u64> {
        let counts = if self.is_dense() { dense::counts(self.body()) } else { sparse::counts(self.body())? };
        Ok(estimate::cardinality(&counts))
    }

    /// Raises each register to what it is here.
    fn raise(&self, registers: &mut Registers) -> Result {
        if self.is_dense() {
            for (index, register) in registers.iter_mut().enumerate() {
                *register = (*register).max(dense::get(self.body(), index));
            }
            return Ok(());
        }
        sparse::visit(self.body(), |run, value| {
            registers[run].iter_mut().for_each(|register| *register = (*register).max(value));
        })
    }

    /// Raises one register; whether that changed it.
    fn set(&mut self, index: usize, value: u8, sparse_max: usize) -> Result<bool> {
        if !self.is_dense() {
            match sparse::set(&mut self.bytes, index, value, sparse_max)? {
                sparse::Set::Unchanged => return Ok(false),
                sparse::Set::Changed => return Ok(true),
                sparse::Set::TooLarge => self.make_dense()?,
            }
        }
        if dense::get(self.body(), index) >= value {
            return Ok(false);
        }
        dense::set(&mut self.bytes.to_mut()[HEADER_LEN..], index, value);
        Ok(true)
    }

    /// Takes the form of all registers, if it has not.
    fn make_dense(&mut self) -> Result {
        if self.is_dense() {
            return Ok(());
        }
        let mut registers = [0; REGISTERS];
        self.raise(&mut registers)?;
        let mut bytes = self.bytes[..HEADER_LEN].to_vec();
        bytes[ENCODING_AT] = DENSE;
        bytes.resize(DENSE_LEN, 0);
        for (index, register) in registers.into_iter().enumerate() {
            dense::set(&mut bytes[HEADER_LEN..], index, register);
        }
        self.bytes = Cow::Owned(bytes);
        Ok(())
    }

    /// The estimate in the header does not hold any more.
    fn spoil(&mut self) {
        self.bytes.to_mut()[STALE_AT] |= STALE;
    }
}

/// Estimates how many different elements it is shown, in the memory of a HyperLogLog.
pub(crate) struct Distinct {
    registers: Box<Registers>,
}

impl Default for Distinct {
    fn default() -> Distinct {
        Distinct { registers: Box::new([0; REGISTERS]) }
    }
}

impl Distinct {
    /// Shows it an element.
    pub(crate) fn add(&mut self, element: &[u8]) {
        let (index, value) = place(element);
        self.registers[index] = self.registers[index].max(value);
    }

    /// About how many there were.
    pub(crate) fn estimate(&self) -> usize {
        estimate::cardinality_of(&self.registers) as usize
    }
}

fn header(encoding: u8) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    header[ENCODING_AT] = encoding;
    header
}

/// The register of an element, and the value that it has at least from then on: the place of the first bit that is set
/// in the rest of the hash.
fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur(element);
    let rest = hash >> INDEX_BITS | 1 << RANK_BITS;
    ((hash as usize) & (REGISTERS - 1), rest.trailing_zeros() as u8 + 1)
}

/// MurmurHash2, 64 bits (Austin Appleby, in the public domain), with the seed that Redis gives it.
fn murmur(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0xadc8_3b19;
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = (hash ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    hash ^= hash >> R;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> R
}

/// What PFSELFTEST does: registers keep what they are given, estimates of both forms agree and are near the truth.
fn self_test() -> std::result::Result<(), String> {
    const ELEMENTS: u64 = 1_000_000;
    /// Runs are walked through for each element, so there are fewer.
    const SPARSE_ELEMENTS: u64 = 1000;
    let mut registers = vec![0; dense::LEN];
    for round in 0..64u64 {
        let value = |index: usize| (murmur(&(round << 32 | index as u64).to_le_bytes()) & 63) as u8;
        (0..REGISTERS).for_each(|index| dense::set(&mut registers, index, value(index)));
        if let Some(index) = (0..REGISTERS).find(|index| dense::get(&registers, *index) != value(*index)) {
            return Err(format!("TESTFAILED Register {index} should be {}", value(index)));
        }
    }
    let (mut sparse, mut dense) = (Sketch::empty(), Sketch::empty());
    let failed = |error: Error| error.to_string();
    dense.make_dense().map_err(failed)?;
    let mut checkpoint = 1;
    for element in 1..=ELEMENTS {
        let (index, value) = place(&element.to_le_bytes());
        if element <= SPARSE_ELEMENTS {
            sparse.set(index, value, usize::MAX).map_err(failed)?;
        }
        dense.set(index, value, 0).map_err(failed)?;
        if element == checkpoint {
            checkpoint *= 10;
            let estimate = dense.estimate().map_err(failed)?;
            if element <= SPARSE_ELEMENTS && estimate != sparse.estimate().map_err(failed)? {
                return Err("TESTFAILED dense/sparse disagree".to_owned());
            }
            // Four times the standard error; a few at the beginning must be exact.
            let error_max = if element <= 10 { 0.0 } else { 4.0 * 1.04 / (REGISTERS as f64).sqrt() };
            if (estimate as f64 - element as f64).abs() > (element as f64 * error_max).ceil() {
                return Err(format!("TESTFAILED Too big error. card:{element} estimate:{estimate}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Random;

    #[test]
    fn it_tests_itself() {
        assert_eq!(self_test(), Ok(()));
    }

    #[test]
    fn both_forms_hold_the_same_registers() {
        let mut random = Random::new(5);
        for sparse_max in [0, 100, 3000, usize::MAX] {
            let mut sketch = Sketch::empty();
            let mut model = [0u8; REGISTERS];
            for _ in 0..3000 {
                let (index, value) = place(&random.word().to_le_bytes());
                // Few registers, so that neighbours meet and merge.
                let index = index % 1000;
                assert_eq!(sketch.set(index, value, sparse_max).unwrap(), value > model[index]);
                model[index] = model[index].max(value);
            }
            let mut registers = [0; REGISTERS];
            sketch.raise(&mut registers).unwrap();
            assert!(registers == model, "at most {sparse_max} bytes");
            let estimate = sketch.estimate().unwrap();
            sketch.make_dense().unwrap();
            assert_eq!(sketch.estimate().unwrap(), estimate);
            let again = Sketch::from_bytes(sketch.bytes.clone()).unwrap();
            let mut registers = [0; REGISTERS];
            again.raise(&mut registers).unwrap();
            assert!(registers == model);
        }
    }

    #[test]
    fn what_is_broken_is_refused_and_harmless() {
        let mut random = Random::new(9);
        for round in 0..3000 {
            let mut bytes = header(SPARSE).to_vec();
            match round % 3 {
                0 => (0..random.below(40)).for_each(|_| bytes.push(random.word() as u8)),
                1 => {
                    let mut sketch = Sketch::empty();
                    (0..50).for_each(|_| {
                        let (index, value) = place(&random.word().to_le_bytes());
                        sketch.set(index, value, 3000).unwrap();
                    });
                    bytes = sketch.bytes.into_owned();
                    let at = HEADER_LEN + random.below(bytes.len() - HEADER_LEN);
                    bytes[at] = random.word() as u8;
                }
                _ => (0..16_500 + random.below(70_000)).for_each(|_| bytes.push(0x80)),
            }
            let mut sketch = Sketch::from_bytes(Cow::Owned(bytes)).unwrap();
            let _ = sketch.estimate();
            let _ = sketch.raise(&mut [0; REGISTERS]);
            for _ in 0..20 {
                let (index, value) = place(&random.word().to_le_bytes());
                let _ = sketch.set(index, value, random.below(5000));
            }
            let _ = sketch.make_dense();
        }
    }
}
