//! All data of a space written as a file, and read again. What a file is called and where it lies is not known here.

use std::io::Write;

use super::snapshot::file::{Item, Key, Loading, Saving, Usage};
use super::snapshot::value::Around;
use super::snapshot::{Reader, Result};
use crate::engine::Engine;
use crate::engine::access::AccessClock;
use crate::keyspace::hash::hash;
use crate::keyspace::{Db, Door, Entry, SpaceId};

/// What a file turned out to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Keys that were loaded.
    pub keys: u64,
    /// Keys that had expired.
    pub expired: u64,
    /// Keys whose value was an empty collection.
    pub empty: u64,
    /// Libraries of functions, which were passed over.
    pub functions: u64,
}

impl Engine {
    /// Writes all data of a space as a file holds it.
    pub fn save(&self, space: SpaceId, to: impl Write) -> Result<()> {
        let policy = self.config.keyspace.maxmemory_policy;
        let mut file = Saving::begin(to, self.config.persistence.rdbcompression, true)?;
        file.about("redis-ver", REDIS_VERSION.as_bytes())?;
        file.about("redis-bits", usize::BITS.to_string().as_bytes())?;
        file.about("ctime", (self.now_ms / 1000).to_string().as_bytes())?;
        file.about("mortise-ver", env!("CARGO_PKG_VERSION").as_bytes())?;
        for (_, index, db) in self.keyspace.iter().filter(|(of, _, db)| *of == space && !db.dict().is_empty())
        {
            file.database(index, db.dict().len(), db.dict().expiring())?;
            for entry in db.dict().iter() {
                let clock = entry.clock();
                let usage = match policy {
                    policy if policy.is_lfu() => Usage::Frequency(self.clock24.frequency(clock) as u8),
                    policy if policy.is_lru() => Usage::IdleSeconds(self.clock24.idle_seconds(clock).into()),
                    _ => Usage::Unknown,
                };
                file.entry(entry, usage)?;
            }
        }
        file.finish()?;
        Ok(())
    }

    /// Puts into a space what a file holds, in place of what its keys held. What comes before the place where a file is
    /// broken is there by then.
    pub fn load(&mut self, space: SpaceId, from: Reader<'_>) -> Result<Report> {
        let Engine { keyspace, unit, modules, limits, clock24, now_ms, .. } = self;
        let around = Around { limits: *limits, types: &*modules };
        let mut report = Report::default();
        read(from, around, *clock24, &mut report, |index, entry| {
            let (db, door) = keyspace.db(space, index);
            if is_due(&entry, *now_ms) {
                return false;
            }
            unit.discard(put(db, door, entry).and_then(Entry::into_object));
            true
        })?;
        Ok(report)
    }

    /// Saves all data of a space, empties it if `flushes`, and puts in what was loaded from what was saved. Nothing
    /// changes if that cannot be loaded. Nobody is told: to everybody else the data is what it was.
    pub(crate) fn reload(&mut self, space: SpaceId, flushes: bool) -> Result<()> {
        let mut file = Vec::new();
        self.save(space, &mut file)?;
        let mut loaded = Vec::new();
        let around = Around { limits: self.limits, types: &self.modules };
        read(Reader::new(&file), around, self.clock24, &mut Report::default(), |index, entry| {
            loaded.push((index, entry));
            true
        })?;
        drop(file);
        for (_, index) in self.keyspace.places().into_iter().filter(|(of, _)| flushes && *of == space) {
            let (db, door) = self.keyspace.db(space, index);
            if let Some(contents) = db.flush(door) {
                self.unit.discard_later(Box::new(contents));
            }
        }
        for (index, entry) in loaded {
            let (db, door) = self.keyspace.db(space, index);
            if is_due(&entry, self.now_ms) {
                db.remove(door, hash(entry.key()), entry.key());
                self.unit.say_expired(space, index, &[b"DEL", entry.key()]);
            } else {
                self.unit.discard(put(db, door, entry).and_then(Entry::into_object));
            }
        }
        Ok(())
    }
}

/// What other servers take the file for: they only read what they know.
const REDIS_VERSION: &str = "7.0.15";

fn is_due(entry: &Entry, now_ms: i64) -> bool {
    entry.deadline().is_some_and(|deadline| deadline <= now_ms)
}

/// Puts an entry in its key's place; hands over what stood there.
fn put(db: &mut Db, door: &mut Door, entry: Entry) -> Option<Entry> {
    let place = hash(entry.key());
    let replaced = db.remove(door, place, entry.key());
    db.admit(door, place, entry);
    replaced
}

/// Reads a file and hands over each entry with its database; false says that it is not wanted, as it has expired.
fn read(
    from: Reader<'_>,
    around: Around<'_>,
    clock: AccessClock,
    report: &mut Report,
    mut wants: impl FnMut(u32, Entry) -> bool,
) -> Result<()> {
    let mut db = 0;
    let mut file = Loading::begin(from, true)?;
    while let Some(item) = file.next(around)? {
        match item {
            Item::Database(index) => db = index,
            Item::Key(Key { key, value, deadline, usage }) => {
                let mut entry = value.into_entry(&key);
                entry.set_deadline(deadline);
                entry.set_clock(clock.restored(usage));
                match wants(db, entry) {
                    true => report.keys += 1,
                    false => report.expired += 1,
                }
            }
            Item::Empty(key) => {
                tracing::info!("skipping empty key: {}", key.escape_ascii());
                report.empty += 1;
            }
            Item::Function(code) => {
                tracing::warn!(
                    "The library of functions that begins with '{}' is not loaded: Mortise has no functions yet",
                    code.split(|byte| *byte == b'\n').next().unwrap_or_default().escape_ascii()
                );
                report.functions += 1;
            }
            Item::Module(name) => {
                tracing::warn!("What the module '{name}' keeps beside its values is not loaded");
            }
            Item::About(..) | Item::Sizes { .. } => {}
        }
    }
    Ok(())
}
