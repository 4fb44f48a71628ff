//! The estimate: Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", 2017, algorithm 6.

use super::{RANK_BITS, REGISTERS, Registers};

/// How many registers have each value.
pub(super) type Counts = [u32; 64];

/// 1 / (2 ln 2)
const ALPHA: f64 = 0.721_347_520_444_481_7;

/// About how many different elements there are.
pub(super) fn cardinality(counts: &Counts) -> u64 {
    let m = REGISTERS as f64;
    let highest = RANK_BITS as usize + 1;
    let mut z = m * tau((m - f64::from(counts[highest])) / m);
    for count in counts[1..highest].iter().rev() {
        z = (z + f64::from(*count)) * 0.5;
    }
    z += m * sigma(f64::from(counts[0]) / m);
    (ALPHA * m * m / z).round() as u64
}

/// About how many different elements there are, by registers of a byte each.
pub(super) fn cardinality_of(registers: &Registers) -> u64 {
    let mut counts = [0; 64];
    registers.iter().for_each(|register| counts[usize::from(*register)] += 1);
    cardinality(&counts)
}

/// What registers without any element add.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

/// What registers add that cannot grow any more.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}
