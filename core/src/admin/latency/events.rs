//! What has taken longer than `latency-monitor-threshold`, by kind of event.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::Engine;

/// Samples that are kept of an event.
const SAMPLES_MAX: usize = 160;

/// A kind of event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Event {
    /// A command that is not one of the fast ones.
    Command,
    /// A command that is expected to be fast.
    FastCommand,
    /// A slice of active expiry.
    ExpireCycle,
    /// Eviction before a command.
    EvictionCycle,
}

impl Event {
    /// Every kind.
    const ALL: [Event; 4] = [Event::Command, Event::FastCommand, Event::ExpireCycle, Event::EvictionCycle];

    /// The name under which it is known.
    pub(super) fn name(self) -> &'static str {
        match self {
            Event::Command => "command",
            Event::FastCommand => "fast-command",
            Event::ExpireCycle => "expire-cycle",
            Event::EvictionCycle => "eviction-cycle",
        }
    }

    /// The event of a name.
    pub(super) fn named(name: &[u8]) -> Option<Event> {
        Event::ALL.into_iter().find(|event| event.name().as_bytes() == name)
    }
}

/// One that took too long. Of those in one second the longest is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sample {
    /// When: Unix seconds.
    pub(super) at_s: i64,
    /// How long: milliseconds.
    pub(super) ms: u64,
}

/// What has been seen of a kind of event.
#[derive(Default, Debug)]
pub(super) struct Seen {
    /// The latest, the oldest of them first.
    pub(super) samples: VecDeque<Sample>,
    /// The longest there ever was: milliseconds.
    pub(super) max_ms: u64,
}

impl Seen {
    fn add(&mut self, sample: Sample) {
        self.max_ms = self.max_ms.max(sample.ms);
        match self.samples.back_mut() {
            Some(last) if last.at_s == sample.at_s => last.ms = last.ms.max(sample.ms),
            _ => {
                if self.samples.len() == SAMPLES_MAX {
                    self.samples.pop_front();
                }
                self.samples.push_back(sample);
            }
        }
    }

    /// The mean, and by how much the samples differ from it on average.
    pub(super) fn mean_ms(&self) -> (f64, f64) {
        let count = self.samples.len().max(1) as f64;
        let mean = self.samples.iter().map(|sample| sample.ms as f64).sum::<f64>() / count;
        let off = self.samples.iter().map(|sample| (sample.ms as f64 - mean).abs()).sum::<f64>() / count;
        (mean, off)
    }
}

/// All events.
#[derive(Default, Debug)]
pub struct Latency {
    seen: BTreeMap<Event, Seen>,
}

impl Latency {
    /// What has been seen, by kind.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (Event, &Seen)> + Clone {
        self.seen.iter().map(|(event, seen)| (*event, seen))
    }

    /// What has been seen of a kind.
    pub(super) fn of(&self, event: Event) -> Option<&Seen> {
        self.seen.get(&event)
    }

    /// Forgets what has been seen of a kind; false if there was nothing.
    pub(super) fn forget(&mut self, event: Event) -> bool {
        self.seen.remove(&event).is_some()
    }

    /// Forgets everything; says how many kinds there were.
    pub(super) fn forget_all(&mut self) -> usize {
        std::mem::take(&mut self.seen).len()
    }
}

impl Engine {
    /// Something has taken so long: noted if that is too long.
    pub(crate) fn note_latency(&mut self, event: Event, ns: u64) {
        let threshold_ms = self.config.stats.latency_monitor_threshold;
        let ms = ns / 1_000_000;
        if threshold_ms > 0 && ms >= threshold_ms {
            let sample = Sample { at_s: self.now_ms / 1000, ms };
            self.latency.seen.entry(event).or_default().add(sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(samples: &[(i64, u64)]) -> Seen {
        let mut seen = Seen::default();
        samples.iter().for_each(|&(at_s, ms)| seen.add(Sample { at_s, ms }));
        seen
    }

    #[test]
    fn of_a_second_the_longest_is_kept() {
        let seen = seen(&[(1, 5), (1, 9), (1, 7), (2, 3)]);
        assert_eq!(seen.samples, [Sample { at_s: 1, ms: 9 }, Sample { at_s: 2, ms: 3 }]);
        assert_eq!((seen.max_ms, seen.mean_ms()), (9, (6.0, 3.0)));
    }

    #[test]
    fn the_oldest_go() {
        let samples: Vec<_> = (0..200).map(|n| (n, 1000 - n as u64)).collect();
        let seen = seen(&samples);
        assert_eq!((seen.samples.len(), seen.samples[0].at_s, seen.max_ms), (160, 40, 1000));
    }

    #[test]
    fn names_are_read_back() {
        for event in Event::ALL {
            assert_eq!(Event::named(event.name().as_bytes()), Some(event));
        }
        assert_eq!(Event::named(b"COMMAND"), None);
    }
}
