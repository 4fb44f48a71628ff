//! All registers, six bits each, from the lowest bit of the first byte on.

use super::{REGISTERS, estimate::Counts};

const BITS: usize = 6;
const MASK: u16 = (1 << BITS) - 1;

/// Bytes of all registers.
pub(super) const LEN: usize = REGISTERS * BITS / 8;

/// A register.
pub(super) fn get(registers: &[u8], index: usize) -> u8 {
    let (byte, shift) = (index * BITS / 8, index * BITS % 8);
    (pair(registers, byte) >> shift & MASK) as u8
}

/// Gives a register a value below 64.
pub(super) fn set(registers: &mut [u8], index: usize, value: u8) {
    let (byte, shift) = (index * BITS / 8, index * BITS % 8);
    let pair = pair(registers, byte) & !(MASK << shift) | (u16::from(value) & MASK) << shift;
    let [low, high] = pair.to_le_bytes();
    registers[byte] = low;
    if let Some(next) = registers.get_mut(byte + 1) {
        *next = high;
    }
}

/// A byte and the one after it. The last register ends with the last byte.
fn pair(registers: &[u8], byte: usize) -> u16 {
    u16::from_le_bytes([registers[byte], registers.get(byte + 1).copied().unwrap_or(0)])
}

/// How many registers have each value.
pub(super) fn counts(registers: &[u8]) -> Counts {
    let mut counts = [0; 64];
    // Four registers are three bytes.
    for bytes in registers.as_chunks::<3>().0 {
        let four = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
        (0..4).for_each(|i| counts[(four >> (i * BITS)) as usize & MASK as usize] += 1);
    }
    counts
}
