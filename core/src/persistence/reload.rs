//! All data saved and loaded again, as DEBUG RELOAD does: what is kept is what comes back from a file.

use super::snapshot::file::{Item, Key, Loading, Saving, Usage};
use super::snapshot::value::Around;
use super::snapshot::{Broken, Reader, Result};
use crate::engine::Engine;
use crate::keyspace::hash::hash;
use crate::keyspace::{Entry, SpaceId};

/// A database with an entry of it.
type Placed = (u32, Entry);

impl Engine {
    /// Saves all data of a space, empties it if `flushes`, and puts in what was loaded from what was saved. Nothing
    /// changes if that cannot be loaded. Nobody is told: to everybody else the data is what it was.
    pub(crate) fn reload(&mut self, space: SpaceId, flushes: bool) -> Result<()> {
        let mut file = Vec::new();
        self.save_space(space, &mut file)?;
        let loaded = self.load_entries(&file)?;
        drop(file);
        for (_, index) in self.keyspace.places().into_iter().filter(|(of, _)| flushes && *of == space) {
            let (db, door) = self.keyspace.db(space, index);
            if let Some(contents) = db.flush(door) {
                self.unit.discard_later(Box::new(contents));
            }
        }
        for (index, entry) in loaded {
            let (db, door) = self.keyspace.db(space, index);
            let place = hash(entry.key());
            if let Some(replaced) = db.remove(door, place, entry.key()) {
                self.unit.discard(replaced.into_object());
            }
            let is_due = entry.deadline().is_some_and(|deadline| deadline <= self.now_ms);
            if is_due {
                self.unit.say_expired(space, index, &[b"DEL", entry.key()]);
            } else {
                db.admit(door, place, entry);
            }
        }
        Ok(())
    }

    /// Writes all data of a space as a file holds it.
    fn save_space(&self, space: SpaceId, to: &mut Vec<u8>) -> Result<()> {
        let policy = self.config.keyspace.maxmemory_policy;
        let mut file = Saving::begin(to, self.config.persistence.rdbcompression, true)?;
        for (_, index, db) in self.keyspace.iter().filter(|(of, _, db)| *of == space && !db.dict().is_empty())
        {
            file.database(index, db.dict().len(), db.dict().expiring())?;
            for entry in db.dict().iter() {
                let usage = match policy {
                    policy if policy.is_lfu() => {
                        Usage::Frequency(self.clock24.frequency(entry.clock()) as u8)
                    }
                    policy if policy.is_lru() => {
                        Usage::IdleSeconds(self.clock24.idle_seconds(entry.clock()).into())
                    }
                    _ => Usage::Unknown,
                };
                file.entry(entry, usage)?;
            }
        }
        file.finish()?;
        Ok(())
    }

    /// All entries of a file.
    fn load_entries(&self, file: &[u8]) -> Result<Vec<Placed>> {
        let around = Around { limits: self.limits, types: &self.modules };
        let (mut db, mut loaded) = (0, Vec::new());
        let mut file = Loading::begin(Reader::new(file), true)?;
        while let Some(item) = file.next(around)? {
            match item {
                Item::Database(index) => db = index,
                Item::Key(Key { key, value, deadline, usage }) => {
                    let mut entry = value.into_entry(&key);
                    entry.set_deadline(deadline);
                    entry.set_clock(self.clock24.restored(usage));
                    loaded.push((db, entry));
                }
                Item::Empty(_) | Item::Function(_) | Item::Module(_) => {
                    return Err(Broken::Malformed("what was saved is not what is loaded"));
                }
                Item::About(..) | Item::Sizes { .. } => {}
            }
        }
        Ok(loaded)
    }
}
