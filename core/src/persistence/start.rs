//! What the server finds when it starts: the snapshot's file is loaded while clients are told to wait.
//!
//! The loading has a thread to itself. It reads and understands the file with the engine free, and takes it for short
//! moments to put in what it has read, so that whoever asks how far it is gets an answer. Whatever is wrong with the file
//! ends the start: a server that goes on with half of its data would save that half over the rest.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::cut::Lender;
use super::data::{Delay, InStream, Report, entry_of, is_due, note_beside};
use super::disk::Opened;
use super::journal::replay;
use super::snapshot::file::{CHECKED_SINCE, Item, Loading, SIGNATURE};
use super::snapshot::value::{Around, ForeignTypes};
use super::snapshot::{Broken, Reader};
use super::state::{Kept, Persistence, Progress};
use crate::config::file::Fatal;
use crate::engine::Engine;
use crate::engine::access::AccessClock;
use crate::engine::edit::Limits;
use crate::keyspace::dict::Dict;
use crate::keyspace::hash::hash;
use crate::keyspace::{Entry, SpaceId};
use crate::replication::backlog::{StreamName, parse_offset};
use crate::server::error_text;
use crate::types::foreign::ForeignType;
use crate::types::frozen::FrozenTypes;

/// So many keys, or so many bytes of them, are put in at a time at most.
const BATCH_LEN: usize = 256;
const BATCH_BYTES: usize = 1 << 20;

/// How loading ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The data is there, or there was none.
    Loaded,
    /// The server was stopped meanwhile.
    Stopped,
}

/// Why loading ended before the end of the file.
pub(super) enum Halt {
    Stopped,
    Broken(Broken),
    /// What an operator reads of it.
    Refused(String),
}

impl From<Broken> for Halt {
    fn from(broken: Broken) -> Halt {
        Halt::Broken(broken)
    }
}

/// The types of modules there are when loading begins.
struct Types(HashMap<String, Arc<dyn ForeignType>>);

impl ForeignTypes for Types {
    fn find(&self, name: &str) -> Option<Arc<dyn ForeignType>> {
        self.0.get(name).cloned()
    }
}

/// Loads the data: from the journal where there is to be one, and otherwise from the snapshot's file. Whoever lends the
/// engine says no when the server is stopped.
pub fn load_file(lender: &dyn Lender) -> Result<Ended, Fatal> {
    let mut has_journal = false;
    lender.lend(&mut |engine| has_journal = engine.config.journal.appendonly);
    if has_journal {
        return replay::load_at_start(lender);
    }
    load_snapshot(lender)
}

/// Loads the snapshot's file, if there is one.
fn load_snapshot(lender: &dyn Lender) -> Result<Ended, Fatal> {
    let mut found = None;
    lender.lend(&mut |engine| {
        let path = Persistence::target(&engine.config, engine.process.pid, None).path;
        found = Some((path, engine.persistence.disk.clone()));
    });
    let Some((path, disk)) = found else { return Ok(Ended::Stopped) };
    match disk.open(&path) {
        Ok(opened) => load_opened(lender, opened, For::Start).map(|(ended, _)| ended),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            lender.lend(&mut |engine| engine.set_loading(false));
            Ok(Ended::Loaded)
        }
        Err(error) => Err(fatal(&error_text(&error))),
    }
}

/// For whom a file is loaded.
#[derive(Clone, Copy)]
pub(crate) enum For {
    /// The server starts: where in the stream of changes the data is, the engine knows before the data is there.
    Start,
    /// The link of this number has been sent it: it replaces what is there, and half of it is worth nothing.
    Link(u64),
}

/// Loads a snapshot from an open file, and says where in the stream of changes its data is.
pub(crate) fn load_opened(
    lender: &dyn Lender,
    mut opened: Opened,
    whose: For,
) -> Result<(Ended, Option<InStream>), Fatal> {
    let began = Instant::now();
    let adopts = matches!(whose, For::Start);
    let mut loader = None;
    lender.lend(&mut |engine| {
        if let For::Link(number) = whose
            && !engine.make_way(number)
        {
            return;
        }
        engine.begin_loading(opened.len);
        loader = Some(Loader { adopts, ..Loader::new(engine) });
    });
    let Some(mut loader) = loader else { return Ok((Ended::Stopped, None)) };
    loader.total = opened.len;
    let ended = loader.load(Reader::from_medium(&mut *opened.data), lender);
    lender.lend(&mut |engine| {
        if ended.is_err() && !adopts {
            engine.drop_half();
        }
        engine.end_loading(loader.report, std::mem::take(&mut loader.kept));
    });
    match ended {
        Ok(_) => {
            loader.say_done();
            tracing::info!("DB loaded from disk: {:.3} seconds", began.elapsed().as_secs_f64());
            Ok((Ended::Loaded, loader.in_stream()))
        }
        Err(Halt::Stopped) => Ok((Ended::Stopped, None)),
        Err(Halt::Refused(reason)) => Err(Fatal::new(reason)),
        Err(Halt::Broken(reason)) => Err(broken(loader.position, &reason)),
    }
}

/// Data that was loaded as it came.
pub(crate) struct Arrived {
    /// Where in the stream of changes it is.
    pub(crate) stream: Option<InStream>,
    /// What was read beyond its end.
    pub(crate) beyond: Vec<u8>,
    /// What was loaded.
    pub(crate) report: Report,
    /// What stood beside its keys.
    pub(crate) kept: Kept,
}

/// Loads data as it comes into an empty space, while other data is served if it `serves`. Nothing: the server is stopped.
/// An error says what is wrong with the data. Either way the engine goes on loading until it is told otherwise.
pub(crate) fn load_arriving(
    lender: &dyn Lender,
    medium: &mut dyn io::Read,
    into: SpaceId,
    (total, serves): (u64, bool),
) -> Result<Option<Arrived>, String> {
    let began = Instant::now();
    let mut loader = None;
    lender.lend(&mut |engine| {
        engine.empty(into);
        engine.begin_loading(total);
        engine.serves_meanwhile = serves;
        loader = Some(Loader { space: into, total, ..Loader::new(engine) });
    });
    let Some(mut loader) = loader else { return Ok(None) };
    match loader.load(Reader::from_medium(medium), lender) {
        Ok(beyond) => {
            loader.say_done();
            tracing::info!("DB loaded from its master: {:.3} seconds", began.elapsed().as_secs_f64());
            let stream = loader.in_stream();
            Ok(Some(Arrived { stream, beyond, report: loader.report, kept: loader.kept }))
        }
        Err(Halt::Stopped) => Ok(None),
        Err(Halt::Refused(reason)) => Err(reason),
        Err(Halt::Broken(reason)) => {
            tracing::warn!("Internal error in RDB reading offset {} -> {reason}", loader.position);
            Err(reason.to_string())
        }
    }
}

/// A number of databases that a file needs and the server does not have.
pub(super) fn too_many_databases(databases: u32) -> String {
    format!(
        "FATAL: Data file was created with a server configured to handle more than {databases} databases. Exiting"
    )
}

fn fatal(reason: &str) -> Fatal {
    Fatal::new(format!("Fatal error loading the DB: {reason}. Exiting."))
}

/// What the log says of a file that is broken, and what ends the start.
pub(super) fn broken(position: u64, reason: &Broken) -> Fatal {
    let what = match reason {
        Broken::Version(_) => {
            tracing::warn!("{reason}");
            return fatal("Invalid argument");
        }
        Broken::Malformed(SIGNATURE) => {
            tracing::warn!("{SIGNATURE}");
            return fatal("Invalid argument");
        }
        Broken::Checksum { .. } => {
            tracing::warn!("{reason}. Aborting now.");
            "RDB CRC error".to_owned()
        }
        Broken::CutShort | Broken::Io(_) => {
            tracing::warn!("Short read or OOM loading DB. Unrecoverable error, aborting now.");
            match reason {
                Broken::Io(error) => error_text(error),
                _ => "Unexpected EOF reading RDB file".to_owned(),
            }
        }
        other => other.to_string(),
    };
    tracing::warn!("Internal error in RDB reading offset {position} -> {what}");
    Fatal::new("Terminating server after rdb file reading failure.")
}

fn done(report: Report) -> String {
    let Report { keys, expired, empty, .. } = report;
    match empty {
        0 => format!("Done loading RDB, keys loaded: {keys}, keys expired: {expired}."),
        _ => format!(
            "Done loading RDB, keys loaded: {keys}, keys expired: {expired}, empty keys skipped: {empty}."
        ),
    }
}

/// Reads the file, and puts in what it holds.
pub(super) struct Loader {
    types: Types,
    /// Where its keys go.
    space: SpaceId,
    around: (Limits, Arc<FrozenTypes>),
    clock: AccessClock,
    databases: u32,
    delay: Delay,
    now_s: i64,
    used_memory: u64,
    pub(super) report: Report,
    pub(super) kept: Kept,
    pub(super) position: u64,
    /// Bytes of files that were loaded before.
    pub(super) before: u64,
    /// Bytes of all of them.
    pub(super) total: u64,
    /// Whether keys that have expired are put in all the same, as what comes later may concern them.
    takes_expired: bool,
    /// What the file says of the stream: name, offset, database.
    stream: (Option<StreamName>, Option<u64>, u32),
    /// Whether the engine is still to be told so.
    adopts: bool,
    batch: Vec<Placed>,
    batch_bytes: usize,
    batch_bytes_max: usize,
}

impl Loader {
    pub(super) fn new(engine: &Engine) -> Loader {
        Loader {
            types: Types(engine.modules.data_types()),
            space: engine.saved_space(),
            around: (engine.limits, engine.persistence.frozen.clone()),
            clock: engine.clock24,
            databases: engine.config.keyspace.databases,
            delay: Delay::new(engine.config.persistence.key_load_delay),
            now_s: engine.now_ms / 1000,
            used_memory: 0,
            report: Report::default(),
            kept: Kept::default(),
            stream: (None, None, 0),
            adopts: false,
            position: 0,
            before: 0,
            total: 0,
            takes_expired: false,
            batch: Vec::with_capacity(BATCH_LEN),
            batch_bytes: 0,
            batch_bytes_max: BATCH_BYTES
                .min(engine.config.persistence.loading_process_events_interval_bytes as usize),
        }
    }

    /// For a snapshot with which a journal begins.
    pub(super) fn for_journal(self) -> Loader {
        Loader { takes_expired: true, ..self }
    }

    /// What the log says when everything has been put in.
    pub(super) fn say_done(&self) {
        tracing::info!("{}", done(self.report));
    }

    /// Loads a file; returns what was read beyond its end.
    pub(super) fn load(&mut self, from: Reader<'_>, lender: &dyn Lender) -> Result<Vec<u8>, Halt> {
        let mut file = Loading::begin(from, true)?;
        let ended = self.read(&mut file, lender);
        self.position = file.position();
        ended?;
        if !file.has_checksum() && file.version() >= CHECKED_SINCE {
            tracing::info!("RDB file was saved with checksum disabled: no check performed.");
        }
        self.put_in(lender)?;
        Ok(file.beyond().to_vec())
    }

    fn read(&mut self, file: &mut Loading<'_>, lender: &dyn Lender) -> Result<(), Halt> {
        let (limits, frozen) = (self.around.0, self.around.1.clone());
        let mut db = 0;
        loop {
            let around = Around { limits, types: &self.types, frozen: Some(&frozen) };
            match file.next(around)? {
                None => return Ok(()),
                Some(Item::Database(index)) if index >= self.databases => {
                    return Err(Halt::Refused(too_many_databases(self.databases)));
                }
                Some(Item::Database(index)) => db = index,
                Some(Item::Key(key)) => {
                    let entry = entry_of(key, self.clock);
                    self.batch_bytes += entry.memory();
                    self.batch.push((db, hash(entry.key()), entry));
                    self.delay.wait(None);
                }
                Some(Item::About(name, text)) => self.note_about(&name, &text),
                Some(Item::Sizes { keys, .. }) => self.make_room(db, keys, file.position(), lender),
                Some(other) => note_beside(other, &mut self.report, &mut self.kept),
            }
            if self.batch.len() >= BATCH_LEN || self.batch_bytes >= self.batch_bytes_max {
                self.position = file.position();
                self.put_in(lender)?;
            }
        }
    }

    /// Where in the stream of changes the data is, if the file says so.
    fn in_stream(&self) -> Option<InStream> {
        let (name, offset, db) = self.stream;
        Some(InStream { name: name?, offset: offset?, db })
    }

    /// The file says how many keys a database has: its table is as large at once. If that is not true, it is no larger
    /// than that of as many keys as the rest of the file has room for.
    fn make_room(&self, db: u32, keys: u64, position: u64, lender: &dyn Lender) {
        /// What each key takes: its type, its length and its value's.
        const KEY_LEN_MIN: u64 = 3;
        let left = self.total.saturating_sub(self.before + position) / KEY_LEN_MIN;
        let mut table = usize::try_from(keys.min(left)).ok().map(Dict::for_entries);
        let space = self.space;
        lender.lend(&mut |engine| {
            if let Some(table) = table.take() {
                engine.keyspace.db(space, db).0.begin_with(table);
            }
        });
    }

    fn note_about(&mut self, name: &[u8], text: &[u8]) {
        let words = String::from_utf8_lossy(text);
        match name {
            b"redis-ver" => tracing::info!("Loading RDB produced by version {}", words.escape_debug()),
            b"ctime" => {
                let age_s = words.parse().map_or(0, |at: i64| self.now_s.saturating_sub(at).max(0));
                tracing::info!("RDB age {age_s} seconds");
            }
            b"repl-id" => self.stream.0 = StreamName::parse(text),
            b"repl-offset" => self.stream.1 = parse_offset(text),
            b"repl-stream-db" => {
                self.stream.2 = words.parse().ok().filter(|db| *db < self.databases).unwrap_or(0);
            }
            b"used-mem" => {
                self.used_memory = words.parse().unwrap_or(0);
                let megabytes = self.used_memory as f64 / f64::from(1 << 20);
                tracing::info!("RDB memory usage when created {megabytes:.2} Mb");
            }
            _ => tracing::debug!("RDB '{}': {}", name.escape_ascii(), words.escape_debug()),
        }
    }

    /// Puts in what has been read.
    fn put_in(&mut self, lender: &dyn Lender) -> Result<(), Halt> {
        let (batch, progress) = (&mut self.batch, (self.before + self.position, self.used_memory));
        let (takes_expired, space) = (self.takes_expired, self.space);
        let (name, offset, db) = self.stream;
        let adopted = name.zip(offset).filter(|_| std::mem::take(&mut self.adopts));
        let (mut twice, mut counts) = (None, (0, 0));
        let is_lent = lender.lend(&mut |engine| {
            engine.refresh_clock();
            if let Some((name, offset)) = adopted {
                engine.adopt_stream(name, offset, db);
            }
            (counts, twice) = engine.put_loaded(batch, progress, (takes_expired, space));
        });
        self.report.keys += counts.0;
        self.report.expired += counts.1;
        self.batch_bytes = 0;
        if !is_lent {
            return Err(Halt::Stopped);
        }
        match twice {
            Some((db, key)) => {
                let key = key.escape_ascii();
                tracing::warn!("RDB has duplicated key '{key}' in DB {db}");
                Err(Halt::Broken(Broken::Malformed("Duplicated key found in RDB file")))
            }
            None => Ok(()),
        }
    }
}

/// An entry with its database and its key's hash.
type Placed = (u32, u64, Entry);

/// How many keys were put in, and how many had expired.
type Counts = (u64, u64);

impl Engine {
    /// From now on clients are told to wait.
    pub(super) fn begin_loading(&mut self, total: u64) {
        self.refresh_clock();
        let began_s = self.now_ms / 1000;
        self.persistence.loading = Some(Progress { began_s, total, ..Progress::default() });
        self.set_loading(true);
    }

    /// From now on they are not.
    pub(crate) fn end_loading(&mut self, report: Report, kept: Kept) {
        self.note_loaded(report, kept);
        self.set_loading(false);
    }

    /// From now on they are not, though nothing has been loaded.
    pub(crate) fn abandon_loading(&mut self) {
        self.persistence.loading = None;
        self.set_loading(false);
    }

    /// A file has been loaded.
    pub(super) fn note_loaded(&mut self, report: Report, kept: Kept) {
        self.persistence.loading = None;
        self.persistence.loaded = report;
        self.persistence.kept = kept;
    }

    pub(crate) fn set_loading(&mut self, loading: bool) {
        self.loading = loading;
        self.serves_meanwhile &= loading;
        self.follow_hindrances();
    }

    /// Puts in entries of a file, and says how many, and which key was there already.
    fn put_loaded(
        &mut self,
        batch: &mut Vec<Placed>,
        (loaded, used_memory): (u64, u64),
        (takes_expired, space): (bool, SpaceId),
    ) -> (Counts, Option<(u32, Vec<u8>)>) {
        let (mut counts, mut twice) = ((0, 0), None);
        // A replica is told by its primary what has expired.
        let keeps_due = self.replication.is_replica();
        let is_one = batch.iter().all(|(index, ..)| Some(index) == batch.first().map(|(first, ..)| first));
        if let Some((index, ..)) = batch.first().filter(|_| is_one) {
            // So many lines of the table do not have to be waited for one by one.
            let dict = self.keyspace.db(space, *index).0.dict();
            batch.iter().for_each(|(_, place, _)| dict.prefetch_bucket(*place));
        }
        for (index, place, entry) in batch.drain(..) {
            if !takes_expired && !keeps_due && is_due(&entry, self.now_ms) {
                counts.1 += 1;
                // Replicas of the server that this one was may still have it.
                self.unit.say_expired(space, index, &[b"DEL", entry.key()]);
                continue;
            }
            let (db, door) = self.keyspace.db(space, index);
            if db.find(place, entry.key()).is_some() {
                twice = twice.or_else(|| Some((index, entry.key().to_vec())));
                continue;
            }
            db.admit(door, place, entry);
            counts.0 += 1;
        }
        if let Some(progress) = &mut self.persistence.loading {
            (progress.loaded, progress.used_memory) = (loaded, used_memory);
        }
        self.settle();
        (counts, twice)
    }
}
