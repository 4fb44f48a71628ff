//! What was delivered to one consumer and not acknowledged: by id, and by when it was delivered.
//!
//! What is delivered together has one time, and mostly ids that follow upon each other. So by time stand runs of ids
//! rather than ids: a hundred entries that were read at once take one, and what is oldest is still found at once.

use super::group::Pending;
use super::id::StreamId;
use crate::types::ordered::{Ordered, Value};

/// Ids that a consumer has still to acknowledge. What else is known of them, the group knows.
#[derive(Clone, Default)]
pub struct Owed {
    ids: Ordered<StreamId, ()>,
    /// By time and first id. Runs of one time do not overlap.
    runs: Ordered<(i64, StreamId), Run>,
}

/// Ids that were delivered at one time. Others may stand between them by now, but did not when the run grew.
#[derive(Clone, Copy)]
struct Run {
    last: StreamId,
    len: u32,
}

impl Run {
    /// However few are left of a run, not many more than this are looked at to find them.
    const LEN_MAX: u32 = 128;
}

impl Value for Run {
    type Total = usize;

    fn total(&self) -> usize {
        1
    }
}

impl Owed {
    /// How many they are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = StreamId> {
        self.ids.iter().map(|(id, ())| *id)
    }

    /// By id, from one on.
    pub fn up_from(&self, from: StreamId) -> impl Iterator<Item = StreamId> {
        self.ids.up_from(&from).map(|(id, ())| *id)
    }

    /// The lowest and the highest.
    pub fn ends(&self) -> Option<(StreamId, StreamId)> {
        Some((*self.ids.first()?.0, *self.ids.last()?.0))
    }

    /// When the oldest was delivered.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.runs.first().map(|((ms, _), _)| *ms)
    }

    /// All of them by time, and by id where that is the same. `pending` is what the group knows of them.
    pub(super) fn by_age<'a>(
        &'a self,
        pending: &'a Ordered<StreamId, Pending>,
    ) -> impl Iterator<Item = (i64, StreamId)> + 'a {
        self.runs.iter().flat_map(move |((ms, first), run)| {
            let ids = self.up_from(*first).take_while(|id| *id <= run.last);
            ids.filter(|id| pending.get(id).is_some_and(|pending| pending.delivered_ms == *ms))
                .map(|id| (*ms, id))
        })
    }

    /// The ids alone, when it is no longer asked what is oldest.
    pub(super) fn into_ids(self) -> Ordered<StreamId, ()> {
        self.ids
    }

    /// Adds one that was not among them.
    pub(super) fn insert(&mut self, id: StreamId, ms: i64) {
        let before = self.ids.down_from(&id).next().map(|(before, ())| *before);
        self.ids.insert(id, ());
        let run = self.runs.floor(&(ms, id)).filter(|((of, _), _)| *of == ms);
        let joins = run
            .is_some_and(|(_, run)| id <= run.last || (Some(run.last) == before && run.len < Run::LEN_MAX));
        match run.map(|(key, _)| *key) {
            Some(key) if joins => {
                self.runs.change(&key, |run| *run = Run { last: run.last.max(id), len: run.len + 1 });
            }
            _ => {
                self.runs.insert((ms, id), Run { last: id, len: 1 });
            }
        }
    }

    /// Removes one that was delivered at this time.
    pub(super) fn remove(&mut self, id: StreamId, ms: i64) {
        self.ids.remove(&id);
        let Some((key, _)) = self.runs.floor(&(ms, id)) else { return };
        let key = *key;
        debug_assert_eq!(key.0, ms, "it stands in a run of its time");
        let left = self.runs.change(&key, |run| {
            run.len -= 1;
            run.len
        });
        if left == Some(0) {
            self.runs.remove(&key);
        }
    }

    /// Bytes on the heap, about.
    pub(super) fn memory(&self) -> usize {
        self.ids.memory() + self.runs.memory()
    }
}
