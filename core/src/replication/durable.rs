//! How much of the primary's stream is durable here, for whoever waits for that at the primary (WAITAOF).

use std::collections::VecDeque;

use crate::engine::Engine;
use crate::persistence::journal::state::State;

/// Places of the stream with those of the journal that hold the same, until these are durable.
#[derive(Default)]
pub(super) struct Marks {
    waiting: VecDeque<(u64, u64)>,
    durable: u64,
}

impl Marks {
    /// The journal holds the stream up to an offset before a place.
    pub(super) fn note(&mut self, offset: u64, place: u64) {
        const LEN_MAX: usize = 64;
        if self.waiting.back().map_or(self.durable, |(last, _)| *last) == offset {
            return;
        }
        if self.waiting.len() == LEN_MAX {
            self.waiting.pop_back();
        }
        self.waiting.push_back((offset, place));
    }

    /// The journal is durable up to a place: how much of the stream is.
    pub(super) fn advance(&mut self, durable: u64) -> u64 {
        while let Some((offset, place)) = self.waiting.front()
            && *place <= durable
        {
            self.durable = *offset;
            self.waiting.pop_front();
        }
        self.durable
    }
}

/// What a primary is told of this server.
#[derive(Clone, Copy)]
pub struct Acknowledgement {
    /// How much of the stream it has.
    pub offset: u64,
    /// How much of it is durable, if there is a journal.
    pub durable: Option<u64>,
    /// Whether it is to be told at once.
    pub is_wanted: bool,
}

impl Engine {
    /// How far this server is. `None`: the link is not wanted any more.
    pub fn acknowledgement(&mut self, number: u64) -> Option<Acknowledgement> {
        let offset = self.replication.offset;
        let (is_whole, place) = (self.journal.state == State::On, self.journal.place());
        let (is_on, durable) = (self.config.journal.appendonly, self.journal.syncs.durable());
        let following = self.followed(number)?;
        if is_whole {
            following.marks.note(offset, place);
        }
        let durable = following.marks.advance(durable);
        let is_wanted = std::mem::take(&mut following.wants_ack);
        Some(Acknowledgement { offset, durable: is_on.then_some(durable), is_wanted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_durable_follows_the_journal() {
        let mut marks = Marks::default();
        for (offset, place) in [(100, 10), (100, 10), (200, 20), (300, 30)] {
            marks.note(offset, place);
        }
        let durable: Vec<u64> = [9, 10, 25, 25, 1000].map(|place| marks.advance(place)).into();
        assert_eq!(durable, [0, 100, 200, 200, 300]);
        for n in 1..1000 {
            marks.note(300 + n, 30 + n);
        }
        assert!(marks.waiting.len() <= 64);
        assert_eq!(marks.advance(u64::MAX), 1299, "the last one is never left out");
    }
}
