//! How long the calls of one command took: a histogram that takes room only where there is something to count.
//!
//! Latencies are told apart as hdrhistogram does with two digits, and whoever wants to know percentiles is given one. By
//! itself that takes 24 KB for each command, from its first call on. A command whose calls take between one microsecond
//! and sixteen has its counts in a few pieces of 256 bytes.

use hdrhistogram::Histogram;

/// hdrhistogram is to tell latencies apart up to a second …
const TRACKED_NS_MAX: u64 = 1_000_000_000;
/// … and does so up to here; longer ones count as a second.
const NS_MAX: u64 = TRACKED_NS_MAX.next_power_of_two() - 1;
/// Bits of a latency that count. hdrhistogram needs them for two digits.
const BITS: u32 = 8;
const HALF: u64 = 1 << (BITS - 1);
/// Counts that come together.
const PIECE: usize = 32;
/// Pieces of all latencies.
const PIECES: usize = place(NS_MAX) / PIECE + 1;
/// There is no such piece.
const NONE: u8 = u8::MAX;

/// Where a latency is counted.
#[inline(always)]
const fn place(ns: u64) -> usize {
    let shift = u64::BITS - BITS - (ns | (2 * HALF - 1)).leading_zeros();
    (shift as u64 * HALF + (ns >> shift)) as usize
}

/// The shortest latency that is counted there.
const fn shortest(place: usize) -> u64 {
    let place = place as u64;
    match place / HALF {
        0 => place,
        shift => (place - (shift - 1) * HALF) << (shift - 1),
    }
}

/// Counts of latencies.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// Which of the pieces holds the counts of some places.
    index: [u8; PIECES],
    pieces: Vec<[u64; PIECE]>,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { index: [NONE; PIECES], pieces: Vec::new() }
    }
}

impl Latencies {
    /// Counts a latency.
    #[inline(always)]
    pub fn record(&mut self, ns: u64) {
        let place = place(if ns <= NS_MAX { ns } else { TRACKED_NS_MAX });
        let piece = match self.index[place / PIECE] {
            NONE => self.add_piece(place / PIECE),
            piece => piece,
        };
        self.pieces[piece as usize][place % PIECE] += 1;
    }

    #[cold]
    fn add_piece(&mut self, at: usize) -> u8 {
        let piece = self.pieces.len() as u8;
        // Few are needed, and each once: they grow by no more than that.
        self.pieces.reserve_exact(1);
        self.pieces.push([0; PIECE]);
        self.index[at] = piece;
        piece
    }

    /// The same counts as a histogram that knows percentiles.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, TRACKED_NS_MAX, 2)
            .expect("the bounds are constants that hdrhistogram accepts");
        for (at, piece) in self.index.iter().enumerate().filter(|(_, piece)| **piece != NONE) {
            for (count, i) in self.pieces[*piece as usize].iter().zip(0..).filter(|(count, _)| **count > 0) {
                histogram.saturating_record_n(shortest(at * PIECE + i), *count);
            }
        }
        histogram
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        size_of::<Latencies>() + self.pieces.capacity() * size_of::<[u64; PIECE]>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_hdrhistogram_says() {
        let mut expected = Histogram::<u64>::new_with_bounds(1, TRACKED_NS_MAX, 2).unwrap();
        let mut latencies = Latencies::default();
        let around =
            (0..40).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1, (1 << bit) / 3 * 4]);
        let mut ns = 7u64;
        let some = (0..20_000).map(|i| {
            ns = ns.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (ns >> 34) >> (i % 30)
        });
        for ns in around.chain(some).chain([NS_MAX, NS_MAX + 1, u64::MAX]) {
            expected.saturating_record(ns);
            latencies.record(ns);
        }
        let histogram = latencies.histogram();
        for (ours, theirs) in histogram.iter_recorded().zip(expected.iter_recorded()) {
            assert_eq!(ours, theirs);
        }
        assert_eq!((histogram.len(), histogram.max()), (expected.len(), expected.max()));
        for percentile in [0.0, 50.0, 99.0, 99.9, 100.0] {
            assert_eq!(histogram.value_at_percentile(percentile), expected.value_at_percentile(percentile));
        }
    }

    #[test]
    fn a_command_that_takes_microseconds_takes_little_room() {
        let mut latencies = Latencies::default();
        latencies.record(1_700);
        assert!(latencies.memory() < 512, "{}", latencies.memory());
        (800..15_000).for_each(|ns| latencies.record(ns));
        assert!(latencies.memory() < 5_000, "{}", latencies.memory());
        (0..2 * NS_MAX).step_by(100_003).for_each(|ns| latencies.record(ns));
        assert!(latencies.memory() < 26_000, "{}", latencies.memory());
    }
}
