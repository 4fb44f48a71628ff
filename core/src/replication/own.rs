//! Keys with a deadline that clients have written on a replica: nobody else lets them expire.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::args::Args;
use crate::engine::call::Key;
use crate::engine::registry::Command;
use crate::engine::session::Session;
use crate::engine::tick::SLICE_NS;
use crate::keyspace::SpaceId;
use crate::keyspace::hash::hash;

/// A database, and a key in it.
type Place = (u32, Arc<[u8]>);

/// Such keys, each with the deadline that it had when it was last looked at.
#[derive(Default)]
pub struct OwnKeys {
    deadlines: HashMap<Place, i64, foldhash::fast::FixedState>,
    /// The same, the earliest first.
    order: BTreeSet<(i64, Place)>,
}

impl OwnKeys {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }

    /// A key is to be looked at when its deadline has come.
    fn insert(&mut self, place: Place, deadline: i64) {
        if let Some(before) = self.deadlines.insert(place.clone(), deadline) {
            self.order.remove(&(before, place.clone()));
        }
        self.order.insert((deadline, place));
    }

    /// Takes out the first one that is to be looked at by now.
    fn take_due(&mut self, now_ms: i64) -> Option<Place> {
        let (deadline, _) = self.order.first()?;
        if *deadline > now_ms {
            return None;
        }
        let (_, place) = self.order.pop_first()?;
        self.deadlines.remove(&place);
        Some(place)
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        *self = OwnKeys::default();
    }
}

impl Engine {
    /// A client has written on a replica: what it has given a deadline is not the primary's to remove.
    #[cold]
    pub(crate) fn remember_own_keys(&mut self, session: &Session, command: &Command, args: Args<'_>) {
        let keys = command.facts.keys_of(args.len(), &|index| args.at(index)).unwrap_or_default();
        for key in keys {
            let key = args.at(key.index);
            let (db, _) = self.keyspace.db(session.space, session.db);
            let deadline = db.find(hash(key), key).and_then(|entry| entry.deadline());
            if let Some(deadline) = deadline {
                self.replication.own_keys.insert((session.db, key.into()), deadline);
            }
        }
    }

    /// Removes what clients have written on this replica and has expired, for a slice's time at most. The ticks ask.
    pub(crate) fn expire_own_keys(&mut self) {
        if self.replication.own_keys.is_empty() || self.loading {
            return;
        }
        let start_ns = self.lap();
        while let Some((index, bytes)) = self.replication.own_keys.take_due(self.now_ms) {
            let key = Key::new(&bytes);
            let entry = self.keyspace.db(SpaceId::FIRST, index).0.find(key.hash, key.bytes);
            match entry.and_then(|entry| entry.deadline()) {
                Some(deadline) if deadline <= self.now_ms => self.expire_key(SpaceId::FIRST, index, key),
                // It was given another one meanwhile, whoever has done that.
                Some(deadline) => self.replication.own_keys.insert((index, bytes), deadline),
                None => {}
            }
            if self.lap().saturating_sub(start_ns) > SLICE_NS {
                break;
            }
        }
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(index: u32, key: &str) -> Place {
        (index, key.as_bytes().into())
    }

    #[test]
    fn keys_come_when_they_are_due() {
        let mut keys = OwnKeys::default();
        for (index, key, deadline) in [(0, "a", 30), (1, "a", 10), (0, "b", 20), (0, "a", 5), (0, "b", 40)] {
            keys.insert(place(index, key), deadline);
        }
        assert_eq!((keys.len(), keys.order.len()), (3, 3));
        assert_eq!(keys.take_due(4), None);
        assert_eq!(keys.take_due(10), Some(place(0, "a")));
        assert_eq!(keys.take_due(10), Some(place(1, "a")));
        assert_eq!(keys.take_due(39), None);
        assert_eq!(keys.take_due(40), Some(place(0, "b")));
        assert!(keys.is_empty() && keys.order.is_empty());
    }
}
