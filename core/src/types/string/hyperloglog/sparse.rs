//! Runs of equal registers, each in a byte or two.
//!
//! | bits | a run of |
//! |---|---|
//! | `00llllll` | 1…64 zeroes |
//! | `01llllll llllllll` | 1…16384 zeroes |
//! | `1vvvvvll` | 1…4 registers of a value of 1…32 |
//!
//! Which runs stand for some registers is not fixed, and depends on the order in which they were set: what is done here
//! splits and merges runs as Redis does, so that the same commands make the same bytes.

use std::borrow::Cow;
use std::ops::Range;

use super::estimate::Counts;
use super::{CORRUPTED, HEADER_LEN, REGISTERS, STALE, STALE_AT};
use mortise_sdk::error::Result;

const SHORT_ZEROES_MAX: usize = 64;
const VALUES_MAX: usize = 4;
const VALUE_MAX: u8 = 32;

/// A run as it stands in the bytes.
#[derive(Clone, Copy)]
struct Run {
    value: u8,
    len: usize,
    /// Bytes that it takes.
    size: usize,
}

/// The run that begins at a place; `None` at the end, and if it is cut off.
fn run(bytes: &[u8], at: usize) -> Option<Run> {
    let first = *bytes.get(at)?;
    Some(match first >> 6 {
        0 => Run { value: 0, len: usize::from(first) + 1, size: 1 },
        1 => {
            let second = *bytes.get(at + 1)?;
            Run { value: 0, len: (usize::from(first & 0x3f) << 8 | usize::from(second)) + 1, size: 2 }
        }
        _ => Run { value: (first >> 2 & 0x1f) + 1, len: usize::from(first & 3) + 1, size: 1 },
    })
}

/// Appends a run of zeroes.
pub(super) fn push_zeroes(to: &mut Vec<u8>, len: usize) {
    let less = len - 1;
    if len > SHORT_ZEROES_MAX {
        to.push(0x40 | (less >> 8) as u8);
    }
    to.push(less as u8);
}

fn values(value: u8, len: usize) -> u8 {
    0x80 | (value - 1) << 2 | (len - 1) as u8
}

fn push(to: &mut Vec<u8>, value: u8, len: usize) {
    match (len, value) {
        (0, _) => {}
        (_, 0) => push_zeroes(to, len),
        _ => to.push(values(value, len)),
    }
}

/// Visits all runs with their values. They must cover all registers, and no more.
pub(super) fn visit(body: &[u8], mut visit: impl FnMut(Range<usize>, u8)) -> Result {
    let (mut at, mut first) = (0, 0);
    while let Some(run) = run(body, at) {
        let end = first + run.len;
        if end > REGISTERS {
            return Err(CORRUPTED);
        }
        visit(first..end, run.value);
        (at, first) = (at + run.size, end);
    }
    if at == body.len() && first == REGISTERS { Ok(()) } else { Err(CORRUPTED) }
}

/// How many registers have each value.
pub(super) fn counts(body: &[u8]) -> Result<Counts> {
    let mut counts = [0; 64];
    visit(body, |run, value| counts[usize::from(value)] += run.len() as u32)?;
    Ok(counts)
}

/// The runs in words, as PFDEBUG DECODE shows them.
pub(super) fn described(body: &[u8]) -> String {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(run) = run(body, at) {
        words.push(match (run.value, run.size) {
            (0, 1) => format!("z:{}", run.len),
            (0, _) => format!("Z:{}", run.len),
            (value, _) => format!("v:{value},{}", run.len),
        });
        at += run.size;
    }
    words.join(" ")
}

/// What became of a register that was to be raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// It is as high already.
    Unchanged,
    Changed,
    /// Neither that, as the value or the bytes would exceed what runs may be.
    TooLarge,
}

/// Raises a register of a HyperLogLog, whose bytes may become `size_max` at most.
pub(super) fn set(bytes: &mut Cow<'_, [u8]>, index: usize, value: u8, size_max: usize) -> Result<Set> {
    if value > VALUE_MAX {
        return Ok(Set::TooLarge);
    }
    let (mut at, mut first, mut before) = (HEADER_LEN, 0, HEADER_LEN);
    let found = loop {
        let run = run(bytes, at).ok_or(CORRUPTED)?;
        if index < first + run.len {
            break run;
        }
        before = at;
        (at, first) = (at + run.size, first + run.len);
    };
    if found.value >= value {
        return Ok(Set::Unchanged);
    }
    // The run becomes what is left of it on either side, and the register between.
    let (left, right) = (index - first, first + found.len - 1 - index);
    let mut runs = Vec::with_capacity(5);
    push(&mut runs, found.value, left);
    push(&mut runs, value, 1);
    push(&mut runs, found.value, right);
    if runs.len() > found.size && bytes.len() + runs.len() - found.size > size_max {
        return Ok(Set::TooLarge);
    }
    let bytes = bytes.to_mut();
    bytes.splice(at..at + found.size, runs);
    merge(bytes, before);
    bytes[STALE_AT] |= STALE;
    Ok(Set::Changed)
}

/// Unites neighbours of one value from a place on, as far as a change reaches.
fn merge(bytes: &mut Vec<u8>, mut at: usize) {
    const RUNS_SEEN: usize = 5;
    for _ in 0..RUNS_SEEN {
        let Some(one) = run(bytes, at) else { return };
        let next = run(bytes, at + one.size).filter(|next| one.value > 0 && next.value == one.value);
        match next {
            Some(next) if one.len + next.len <= VALUES_MAX => {
                bytes[at + 1] = values(one.value, one.len + next.len);
                bytes.remove(at);
            }
            _ => at += one.size,
        }
    }
}
