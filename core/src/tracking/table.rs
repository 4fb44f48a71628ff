//! Which clients may have a copy of which key.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::engine::session::ClientId;
use crate::keyspace::SpaceId;
use crate::keyspace::shrink::Shrink;

/// Who may have a copy of a key: most keys have one reader.
pub(super) enum Readers {
    /// One.
    One(ClientId),
    /// Several, by their numbers.
    Several(Vec<ClientId>),
}

impl Readers {
    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = ClientId> {
        let slice = match self {
            Readers::One(id) => std::slice::from_ref(id),
            Readers::Several(ids) => ids,
        };
        slice.iter().copied()
    }

    fn len(&self) -> usize {
        match self {
            Readers::One(_) => 1,
            Readers::Several(ids) => ids.len(),
        }
    }

    /// Adds one; false if it is known.
    fn add(&mut self, id: ClientId) -> bool {
        match self {
            Readers::One(known) if *known == id => false,
            Readers::One(known) => {
                *self = Readers::Several(vec![id.min(*known), id.max(*known)]);
                true
            }
            Readers::Several(ids) => match ids.binary_search(&id) {
                Ok(_) => false,
                Err(place) => {
                    ids.insert(place, id);
                    true
                }
            },
        }
    }
}

struct Tracked {
    key: Arc<[u8]>,
    readers: Readers,
}

/// The keys of one database. They stand in a row, so that any of them can be drawn.
#[derive(Default)]
struct Keys {
    places: HashMap<Arc<[u8]>, usize, foldhash::quality::RandomState>,
    row: Vec<Tracked>,
}

impl Keys {
    fn take(&mut self, key: &[u8]) -> Option<Readers> {
        let place = self.places.remove(key)?;
        let tracked = self.row.swap_remove(place);
        if let Some(moved) = self.row.get(place) {
            self.places.insert(moved.key.clone(), place);
        }
        self.places.shrink();
        self.row.shrink();
        Some(tracked.readers)
    }
}

/// All keys of which somebody may have a copy.
#[derive(Default)]
pub(super) struct Table {
    dbs: BTreeMap<(SpaceId, u32), Keys>,
    keys: usize,
    items: usize,
}

impl Table {
    /// How many keys there are.
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    /// How many readers they have together.
    pub(super) fn items(&self) -> usize {
        self.items
    }

    /// A client may have a copy of a key.
    pub(super) fn insert(&mut self, space: SpaceId, db: u32, key: &[u8], id: ClientId) {
        let keys = self.dbs.entry((space, db)).or_default();
        if let Some(&place) = keys.places.get(key) {
            self.items += usize::from(keys.row[place].readers.add(id));
            return;
        }
        let key: Arc<[u8]> = key.into();
        keys.places.insert(key.clone(), keys.row.len());
        keys.row.push(Tracked { key, readers: Readers::One(id) });
        self.keys += 1;
        self.items += 1;
    }

    /// Forgets a key, and says who may have had a copy of it.
    pub(super) fn take(&mut self, space: SpaceId, db: u32, key: &[u8]) -> Option<Readers> {
        let keys = self.dbs.get_mut(&(space, db))?;
        let readers = keys.take(key)?;
        if keys.row.is_empty() {
            self.dbs.remove(&(space, db));
        }
        self.keys -= 1;
        self.items -= readers.len();
        Some(readers)
    }

    /// A key that a number picks.
    pub(super) fn any(&self, number: u64) -> Option<(SpaceId, u32, Arc<[u8]>)> {
        let mut place = (number % self.keys.max(1) as u64) as usize;
        for ((space, db), keys) in &self.dbs {
            match keys.row.get(place) {
                Some(tracked) => return Some((*space, *db, tracked.key.clone())),
                None => place -= keys.row.len(),
            }
        }
        None
    }

    /// Forgets all keys of a space; what is left of them is handed over.
    pub(super) fn clear(&mut self, space: SpaceId) -> Table {
        let dbs: Vec<u32> = self.dbs.range((space, 0)..=(space, u32::MAX)).map(|((_, db), _)| *db).collect();
        let mut left = Table::default();
        for db in dbs {
            if let Some(keys) = self.dbs.remove(&(space, db)) {
                left.keys += keys.row.len();
                left.items += keys.row.iter().map(|tracked| tracked.readers.len()).sum::<usize>();
                left.dbs.insert((space, db), keys);
            }
        }
        self.keys -= left.keys;
        self.items -= left.items;
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_counted_once_and_keys_are_forgotten_whole() {
        let mut table = Table::default();
        let space = SpaceId::FIRST;
        for id in [7, 3, 7, 5] {
            table.insert(space, 0, b"key", id);
        }
        table.insert(space, 1, b"key", 3);
        table.insert(space, 0, b"other", 3);
        assert_eq!((table.keys(), table.items()), (3, 5));
        let readers = table.take(space, 0, b"key").unwrap();
        assert_eq!(readers.iter().collect::<Vec<_>>(), [3, 5, 7]);
        assert!(table.take(space, 0, b"key").is_none());
        assert_eq!((table.keys(), table.items()), (2, 2));
        assert_eq!(table.clear(SpaceId(1)).keys(), 0);
        assert_eq!(table.clear(space).keys(), 2);
        assert_eq!((table.keys(), table.items()), (0, 0));
        assert!(table.any(5).is_none());
    }

    #[test]
    fn keys_that_are_forgotten_leave_no_room_behind() {
        let mut table = Table::default();
        for n in 0..20_000u32 {
            table.insert(SpaceId::FIRST, 0, &n.to_be_bytes(), 1);
        }
        for n in 1..20_000u32 {
            table.take(SpaceId::FIRST, 0, &n.to_be_bytes()).unwrap();
        }
        let keys = &table.dbs[&(SpaceId::FIRST, 0)];
        assert!(keys.places.capacity() < 100 && keys.row.capacity() < 100);
    }

    #[test]
    fn any_key_can_be_drawn() {
        let mut table = Table::default();
        for n in 0..10u32 {
            table.insert(SpaceId::FIRST, n % 3, &n.to_be_bytes(), 1);
        }
        let mut drawn: Vec<_> = (0..10).map(|number| table.any(number).unwrap().2).collect();
        drawn.sort();
        drawn.dedup();
        assert_eq!(drawn.len(), 10);
        for number in 0..10 {
            let (space, db, key) = table.any(number * 7).unwrap();
            table.take(space, db, &key).unwrap();
        }
        assert_eq!(table.keys(), 0);
    }
}
