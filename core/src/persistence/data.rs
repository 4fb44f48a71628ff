//! All data of a space written as a file, and read again. What a file is called and where it lies is not known here.

use std::cell::Cell;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use super::cut::Fate;
use super::snapshot::file::{Item, Key, Loading, Saving, Usage};
use super::snapshot::value::Around;
use super::snapshot::{Reader, Result};
use super::state::Kept;
use crate::engine::Engine;
use crate::engine::access::AccessClock;
use crate::keys::EvictionPolicy;
use crate::keyspace::hash::hash;
use crate::keyspace::{Db, Door, Entry, SpaceId};
use crate::replication::backlog::StreamName;
use crate::replication::primary::Without;

/// What a file turned out to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Keys that were loaded.
    pub keys: u64,
    /// Keys that had expired.
    pub expired: u64,
    /// Keys whose value was an empty collection.
    pub empty: u64,
    /// Libraries of functions, which are kept but cannot be called.
    pub functions: u64,
}

/// What stands in a file before its keys, and what there is to know to write them.
pub(super) struct Head {
    /// Whether the file is a base of the journal.
    is_base: bool,
    compress: bool,
    is_checked: bool,
    ctime_s: i64,
    used_memory: u64,
    kept: Kept,
    usages: Usages,
    /// The stream that the data is a part of, if it is one.
    stream: Option<InStream>,
    without_keys: bool,
}

/// Where in the stream of changes data is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InStream {
    /// The stream's name.
    pub name: StreamName,
    /// How much of it the data holds.
    pub offset: u64,
    /// In which database the stream is there.
    pub db: u32,
}

/// How entries say that they are used, by the policy of eviction.
#[derive(Clone, Copy)]
pub(super) struct Usages {
    policy: EvictionPolicy,
    clock: AccessClock,
}

impl Usages {
    pub(super) fn of(self, entry: &Entry) -> Usage {
        let clock = entry.clock();
        match self.policy {
            policy if policy.is_lfu() => Usage::Frequency(self.clock.frequency(clock) as u8),
            policy if policy.is_lru() => Usage::IdleSeconds(self.clock.idle_seconds(clock).into()),
            _ => Usage::Unknown,
        }
    }
}

impl Head {
    /// Whether no keys are to follow.
    pub(super) fn is_without_keys(&self) -> bool {
        self.without_keys
    }

    /// Begins a file with it.
    pub(super) fn begin<W: Write>(self, to: W) -> Result<(Saving<W>, Usages)> {
        let mut file = Saving::begin(to, self.compress, self.is_checked)?;
        file.about("redis-ver", REDIS_VERSION.as_bytes())?;
        file.about("redis-bits", usize::BITS.to_string().as_bytes())?;
        file.about("ctime", self.ctime_s.to_string().as_bytes())?;
        file.about("used-mem", self.used_memory.to_string().as_bytes())?;
        if let Some(stream) = self.stream {
            file.about("repl-stream-db", stream.db.to_string().as_bytes())?;
            file.about("repl-id", stream.name.as_str().as_bytes())?;
            file.about("repl-offset", stream.offset.to_string().as_bytes())?;
        }
        file.about("aof-base", if self.is_base { b"1" } else { b"0" })?;
        file.about("mortise-ver", env!("CARGO_PKG_VERSION").as_bytes())?;
        for kept in &self.kept.of_modules {
            file.of_module(kept)?;
        }
        for code in &self.kept.functions {
            file.function(code)?;
        }
        Ok((file, self.usages))
    }
}

impl Engine {
    pub(super) fn head(&self, is_base: bool, without: Without) -> Head {
        let mut kept = self.persistence.kept.clone();
        if without.functions {
            kept.functions.clear();
        }
        if without.keys {
            kept.of_modules.clear();
        }
        Head {
            is_base,
            stream: self.in_stream().filter(|_| !is_base),
            without_keys: without.keys,
            compress: self.config.persistence.rdbcompression,
            is_checked: self.config.persistence.rdbchecksum,
            ctime_s: self.now_ms / 1000,
            used_memory: self.memory.allocated,
            kept,
            usages: Usages { policy: self.config.keyspace.maxmemory_policy, clock: self.clock24 },
        }
    }

    /// Writes all data of a space as a file holds it.
    pub fn save(&self, space: SpaceId, to: impl Write) -> Result<()> {
        self.save_under(self.head(false, Without::default()), space, to)
    }

    /// Writes all data as a base of the journal.
    pub(super) fn save_base(&self, to: impl Write) -> Result<()> {
        self.save_under(self.head(true, Without::default()), self.saved_space(), to)
    }

    fn save_under(&self, head: Head, space: SpaceId, to: impl Write) -> Result<()> {
        let (mut file, usages) = head.begin(to)?;
        let delay = Delay::new(self.config.persistence.rdb_key_save_delay);
        for (_, index, db) in self.keyspace.iter().filter(|(of, _, db)| *of == space && !db.dict().is_empty())
        {
            file.database(index, db.dict().len(), db.dict().expiring())?;
            let (mut from, mut written) = (Some(0), Ok(()));
            while let (Some(hash), Ok(())) = (from, &written) {
                from = db.dict().visit_segment(hash, |entry| {
                    if written.is_ok() {
                        written = file.entry(entry, usages.of(entry));
                        delay.wait(None);
                    }
                });
            }
            written?;
        }
        file.finish()?;
        Ok(())
    }

    /// Puts into a space what a file holds, in place of what its keys held. What comes before the place where a file is
    /// broken is there by then.
    pub fn load(&mut self, space: SpaceId, from: Reader<'_>) -> Result<Report> {
        let Engine { keyspace, unit, modules, limits, clock24, now_ms, persistence, .. } = self;
        let around = Around { limits: *limits, types: &*modules, frozen: Some(&persistence.frozen) };
        let (mut report, mut kept) = (Report::default(), Kept::default());
        read(from, around, *clock24, (&mut report, &mut kept), |index, entry| {
            let (db, door) = keyspace.db(space, index);
            if is_due(&entry, *now_ms) {
                return false;
            }
            unit.discard(put(db, door, entry).and_then(Entry::into_object));
            true
        })?;
        persistence.kept = kept;
        Ok(report)
    }

    /// Empties a space. Nobody is told.
    pub(super) fn empty(&mut self, space: SpaceId) {
        for (_, index) in self.keyspace.places().into_iter().filter(|(of, _)| *of == space) {
            let (db, door) = self.keyspace.db(space, index);
            if let Some(contents) = db.flush(door) {
                self.unit.discard_later(Box::new(contents));
            }
        }
    }

    /// Takes from a reader what a space is to hold, then empties it if `flushes`, and puts that in. Nothing changes if it
    /// cannot be read. Nobody is told: to everybody else the data is what it was.
    pub(super) fn reload(&mut self, space: SpaceId, from: Reader<'_>, flushes: bool) -> Result<Report> {
        let (mut report, mut kept) = (Report::default(), Kept::default());
        let mut loaded = Vec::new();
        let around =
            Around { limits: self.limits, types: &self.modules, frozen: Some(&self.persistence.frozen) };
        read(from, around, self.clock24, (&mut report, &mut kept), |index, entry| {
            loaded.push((index, entry));
            true
        })?;
        self.persistence.kept = kept;
        if flushes {
            self.empty(space);
        }
        for (index, entry) in loaded {
            let (db, door) = self.keyspace.db(space, index);
            if is_due(&entry, self.now_ms) {
                db.remove(door, hash(entry.key()), entry.key());
                self.unit.say_expired(space, index, &[b"DEL", entry.key()]);
                (report.keys, report.expired) = (report.keys - 1, report.expired + 1);
            } else {
                self.unit.discard(put(db, door, entry).and_then(Entry::into_object));
            }
        }
        Ok(report)
    }
}

/// What other servers take the file for: they only read what they know.
const REDIS_VERSION: &str = "7.0.15";

/// A wait after each key, for tests: so many microseconds, or a microsecond after so many keys if negative.
pub(super) struct Delay {
    us: i32,
    keys: Cell<i32>,
}

impl Delay {
    pub(super) fn new(us: i32) -> Delay {
        Delay { us, keys: Cell::new(0) }
    }

    /// Waits, or until the snapshot is called off.
    #[inline(always)]
    pub(super) fn wait(&self, fate: Option<&Fate>) {
        if self.us != 0 {
            self.sleep(fate);
        }
    }

    #[cold]
    fn sleep(&self, fate: Option<&Fate>) {
        const STEP_US: u64 = 10_000;
        self.keys.set(self.keys.get().wrapping_add(1));
        let mut left_us = match u64::try_from(self.us) {
            Ok(us) => us,
            Err(_) => u64::from(self.keys.get().wrapping_rem(self.us) == 0),
        };
        while left_us > 0 && !fate.is_some_and(Fate::is_cancelled) {
            let step_us = left_us.min(STEP_US);
            std::thread::sleep(Duration::from_micros(step_us));
            left_us -= step_us;
        }
    }
}

pub(super) fn is_due(entry: &Entry, now_ms: i64) -> bool {
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
    (report, kept): (&mut Report, &mut Kept),
    mut wants: impl FnMut(u32, Entry) -> bool,
) -> Result<()> {
    let mut db = 0;
    let mut file = Loading::begin(from, true)?;
    while let Some(item) = file.next(around)? {
        match item {
            Item::Database(index) => db = index,
            Item::Key(key) => match wants(db, entry_of(key, clock)) {
                true => report.keys += 1,
                false => report.expired += 1,
            },
            other => note_beside(other, report, kept),
        }
    }
    Ok(())
}

/// The entry that a key of a file becomes.
pub(super) fn entry_of(key: Key, clock: AccessClock) -> Entry {
    let Key { key, value, deadline, usage } = key;
    let mut entry = value.into_entry(&key);
    entry.set_deadline(deadline);
    entry.set_clock(clock.restored(usage));
    entry
}

/// Takes note of what a file holds beside keys.
pub(super) fn note_beside(item: Item, report: &mut Report, kept: &mut Kept) {
    match item {
        Item::Empty(key) => {
            tracing::info!("skipping empty key: {}", key.escape_ascii());
            report.empty += 1;
        }
        Item::Function(code) => {
            tracing::warn!(
                "The library of functions that begins with '{}' is kept, but cannot be called: Mortise has no functions yet",
                code.split(|byte| *byte == b'\n').next().unwrap_or_default().escape_ascii()
            );
            report.functions += 1;
            kept.functions.push(Arc::from(code));
        }
        Item::Module(name, bytes) => {
            tracing::warn!("What the module '{name}' keeps beside its values is kept, but not understood");
            kept.of_modules.push(Arc::from(bytes));
        }
        Item::Database(_) | Item::Key(_) | Item::About(..) | Item::Sizes { .. } => {}
    }
}
