//! Who refers to an entry: groups that have it pending, or have not read it yet. What that means for deleting it.

use super::group::{Group, Name};
use super::id::StreamId;
use super::value::{Stream, Trim, TrimTo};

/// What becomes of references to an entry that is deleted: of what is pending of it, and of groups that have not read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum References {
    /// They stay.
    #[default]
    Stay,
    /// They go as well.
    Go,
    /// The entry is only deleted if there is none.
    Prevent,
}

impl References {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            References::Stay => "KEEPREF",
            References::Go => "DELREF",
            References::Prevent => "ACKED",
        }
    }

    /// What a word stands for.
    pub fn parse(word: &[u8]) -> Option<References> {
        let all = [References::Stay, References::Go, References::Prevent];
        all.into_iter().find(|references| word.eq_ignore_ascii_case(references.word().as_bytes()))
    }
}

/// What became of an entry that was to be deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deleted {
    /// It is gone.
    Gone,
    /// It is still referred to.
    IsReferenced,
}

impl Stream {
    /// Whether a group has an entry pending, or has not read it yet.
    pub fn is_referenced(&self, id: StreamId) -> bool {
        self.groups.iter().any(|(_, group)| group.last_id < id || group.contains(&id))
    }

    /// Whether an entry is pending in any group.
    pub(super) fn is_pending(&self, id: StreamId) -> bool {
        self.groups.iter().any(|(_, group)| group.contains(&id))
    }

    /// What is pending in any group of some ids: group by group.
    pub(super) fn pending_between(&self, from: StreamId, to: StreamId) -> Vec<(Name, Vec<StreamId>)> {
        let of_group = |group: &Group| {
            let range = group.up_from(&from).take_while(|(id, _)| *id <= to);
            range.map(|(id, _)| id).collect::<Vec<_>>()
        };
        let all = self.groups.iter().map(|(name, group)| (name.clone(), of_group(group)));
        all.filter(|(_, ids)| !ids.is_empty()).collect()
    }

    /// The entries that trimming takes where it spares what is referred to.
    pub(super) fn unreferenced_front(&self, trim: Trim) -> Vec<StreamId> {
        /// Where trimming is approximate, so many entries are looked at: those at the front may all be pending.
        const LOOKED_AT_MAX: usize = 10_000;
        let most = if trim.limit == 0 { usize::MAX } else { trim.limit as usize };
        let (end, most) = match trim.to {
            TrimTo::Len(len) => {
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                (StreamId::MAX, most.min(self.len().saturating_sub(len)))
            }
            TrimTo::Id(id) => match id.before() {
                Some(end) => (end, most),
                None => return Vec::new(),
            },
        };
        // What a group has not read yet is referred to, all of it.
        let read = self.groups.iter().map(|(_, group)| group.last_id).min().unwrap_or(StreamId::MAX);
        let looked_at = if trim.approximate && trim.limit > 0 { LOOKED_AT_MAX } else { usize::MAX };
        let range = self.range(StreamId::MIN, end.min(read), false).take(looked_at).map(|entry| entry.id());
        range.filter(|id| !self.is_pending(*id)).take(most).collect()
    }
}
