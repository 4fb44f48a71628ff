//! The journal is played when the server starts: its base, then each increment.
//!
//! The file that was being written when its server was stopped may end in the middle of a unit. What there is of the unit
//! is taken back: it was never acknowledged as durable. Whatever else is wrong ends the start, and no file is touched.

use std::cell::RefCell;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use mortise_sdk::{Error, Result};

use super::super::cut::Lender;
use super::super::data::Delay;
use super::super::disk::{Disk, Pending};
use super::super::snapshot::Reader;
use super::super::start::{Ended, Halt, Loader, broken, too_many_databases};
use super::manifest::{Manifest, Names, Part};
use super::placing;
use super::reading::{Next, Requests};
use crate::config::file::Fatal;
use crate::engine::Engine;
use crate::engine::batch::{BATCH_LEN_MAX, Batch};
use crate::engine::registry::Registry;
use crate::engine::replay::{Replay, Unplayable};
use crate::server::error_text;

/// With what a snapshot begins.
const SNAPSHOT_BEGIN: &[u8] = b"REDIS";

/// A command that stands in journals of Redis.
const FUNCTION: &[u8] = b"FUNCTION";

/// A journal that was played: its writer goes on from here.
#[derive(Debug)]
pub struct Found {
    /// What its files are called.
    pub names: Names,
    /// Which there are. There may be none at all.
    pub manifest: Manifest,
    /// Bytes of what was played.
    pub size: u64,
    /// Bytes of the base among them.
    pub base_size: u64,
}

/// How playing ended before its end.
enum End {
    /// The server is stopped.
    Stopped,
    /// What an operator reads of it.
    Failed(String),
}

impl From<String> for End {
    fn from(reason: String) -> End {
        End::Failed(reason)
    }
}

/// Plays the journal and tells the server that its data is there.
pub(in crate::persistence) fn load_at_start(lender: &dyn Lender) -> std::result::Result<Ended, Fatal> {
    let began = Instant::now();
    match load(lender) {
        Err(End::Stopped) => Ok(Ended::Stopped),
        Err(End::Failed(reason)) => Err(Fatal::new(reason)),
        Ok(found) => {
            if !found.manifest.is_empty() {
                let seconds = began.elapsed().as_secs_f64();
                tracing::info!("DB loaded from append only file: {seconds:.3} seconds");
            }
            let mut opened = Ok(());
            let mut found = Some(found);
            lender.lend(&mut |engine| {
                if let Some(Found { manifest, size, base_size, .. }) = found.take() {
                    opened = engine.open_journal(manifest, (size, base_size));
                }
                if opened.is_ok() {
                    engine.set_loading(false);
                }
            });
            opened.map(|()| Ended::Loaded)
        }
    }
}

/// Lends the engine that is at hand.
struct AtHand<'e>(RefCell<&'e mut Engine>);

impl Lender for AtHand<'_> {
    fn lend(&self, what: &mut dyn FnMut(&mut Engine)) -> bool {
        what(&mut self.0.borrow_mut());
        true
    }
}

impl Engine {
    /// Puts what the journal holds in the place of all data. Whoever reads the stream is not told: to everybody else the
    /// data is what it was. If the journal cannot be played, what of it could be is there.
    pub fn reload_journal(&mut self) -> Result<Found> {
        let (streaming, dirty) = (self.unit.streaming, self.unit.dirty);
        self.unit.streaming = false;
        self.empty(self.saved_space());
        let ended = load(&AtHand(RefCell::new(self)));
        (self.unit.streaming, self.unit.dirty) = (streaming, dirty);
        self.set_loading(false);
        ended.map_err(|end| {
            if let End::Failed(reason) = end {
                tracing::warn!("DEBUG LOADAOF: {reason}");
            }
            Error::new("ERR Error trying to load the append only file")
        })
    }

    fn begin_playing(&mut self) -> (Names, Arc<dyn Disk>, Pending, bool) {
        let state = &self.persistence;
        let mends = self.config.journal.aof_load_truncated;
        (self.journal_names(), state.disk.clone(), state.pending.clone(), mends)
    }
}

/// Plays the journal. The server goes on loading: before that ends, its writer has to be there.
fn load(lender: &dyn Lender) -> std::result::Result<Found, End> {
    let mut begun = None;
    lender.lend(&mut |engine| begun = Some(engine.begin_playing()));
    let (names, disk, pending, mends) = begun.ok_or(End::Stopped)?;
    let mut manifest = read_manifest(&names, &*disk)?;
    if is_old_style(&names, &manifest, &*disk) {
        manifest = upgrade(&names, &disk, &pending)?;
    }
    let mut sizes = Vec::new();
    for part in manifest.parts() {
        let size = disk.len(&names.path(part));
        sizes.push(size.map_err(|error| {
            format!("Unable to obtain the AOF file {part} length. stat: {}", error_text(&error))
        })?);
    }
    let mut found = Found { names, manifest, size: sizes.iter().sum(), base_size: 0 };
    if found.size == 0 {
        return Ok(found);
    }
    if found.manifest.base.is_some() {
        found.base_size = sizes[0];
    }

    let mut player = None;
    let total = found.size;
    lender.lend(&mut |engine| {
        engine.begin_loading(total);
        player = Some(Player::new(engine));
    });
    let mut player = player.ok_or(End::Stopped)?;
    player.total = total;
    // What is empty goes on from nothing: the manifest may name an increment to which nothing was written yet.
    let last = sizes.iter().rposition(|size| *size > 0).unwrap_or(0);
    for (index, part) in found.manifest.parts().enumerate() {
        let began = Instant::now();
        let mending = match (mends, index >= last) {
            (true, true) => Mending::Cut,
            (true, false) => Mending::NotLast,
            (false, _) => Mending::NotWanted,
        };
        let played = player.part(part, &found.names, &*disk, mending, lender)?;
        player.before += sizes[index];
        let Played::Upto(end) = played else { continue };
        found.size -= sizes[index] - end;
        let kind = if index == 0 && found.manifest.base.is_some() { "base" } else { "incr" };
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!("DB loaded from {kind} file {part}: {seconds:.3} seconds");
    }
    if found.manifest.base.is_some() && sizes.len() == 1 {
        found.base_size = found.size;
    }
    let Loader { report, kept, .. } = &mut player.loader;
    lender.lend(&mut |engine| engine.note_loaded(*report, std::mem::take(kept)));
    Ok(found)
}

fn read_manifest(names: &Names, disk: &dyn Disk) -> std::result::Result<Manifest, String> {
    let path = names.manifest().path;
    let mut text = Vec::new();
    let read = disk.open(&path).and_then(|mut opened| opened.data.read_to_end(&mut text));
    match read {
        Ok(_) => Manifest::parse(&text).map_err(|wrong| wrong.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Manifest::default()),
        Err(error) => {
            let (name, reason) = (placing::name(&path), error_text(&error));
            Err(format!("Fatal error: can't open the AOF manifest file {name} for reading: {reason}"))
        }
    }
}

/// Whether a journal that a server before Redis 7 wrote is to become the base, or half has become it.
fn is_old_style(names: &Names, manifest: &Manifest, disk: &dyn Disk) -> bool {
    let old = names.old_style();
    if old == names.dir || disk.len(&old).is_err() {
        return false;
    }
    match &manifest.base {
        None => manifest.increments.is_empty(),
        Some(base) => {
            manifest.increments.is_empty()
                && base.name == names.stem.as_bytes()
                && disk.len(&names.path(base)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        }
    }
}

/// Moves it. If this is interrupted, the manifest names a file that is not there yet, and the next start goes on.
fn upgrade(names: &Names, disk: &Arc<dyn Disk>, pending: &Pending) -> std::result::Result<Manifest, String> {
    placing::make_dir(names, &**disk)?;
    placing::keep_dir(names, &**disk)?;
    let manifest = Manifest::of_old_style(names);
    placing::write_manifest(&manifest, names, disk, pending)?;
    let (stem, dir) = (&names.stem, placing::name(&names.dir));
    disk.rename(&names.old_style(), &names.dir.join(stem))
        .and_then(|()| disk.sync_dir(&names.dir))
        .and_then(|()| disk.sync_dir(&names.above))
        .map_err(|error| {
            format!("Error trying to move the old AOF file {stem} into dir {dir}: {}", error_text(&error))
        })?;
    tracing::info!("Successfully migrated an old-style AOF file ({stem}) into the AOF directory ({dir}).");
    Ok(manifest)
}

/// How far a part was played.
enum Played {
    /// There is nothing in it.
    Empty,
    /// Up to this byte, with which it ends now.
    Upto(u64),
}

/// What to do about a part whose end is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mending {
    /// It is cut off behind the last unit that is whole.
    Cut,
    /// Nothing: others follow it, which went on from what is missing.
    NotLast,
    /// Nothing: that is left to an operator.
    NotWanted,
}

/// Plays one part after another.
struct Player {
    registry: Arc<Registry>,
    replay: Replay,
    batch: Batch,
    /// With a delay the requests are executed one by one.
    batch_len: usize,
    delay: Delay,
    databases: u32,
    /// Reads the snapshot with which a part may begin.
    loader: Loader,
    /// Bytes of the parts before.
    before: u64,
    /// Bytes of all of them.
    total: u64,
}

impl Player {
    fn new(engine: &Engine) -> Player {
        let delay_us = engine.config.persistence.key_load_delay;
        Player {
            registry: engine.registry.clone(),
            replay: Replay::new(),
            batch: Batch::default(),
            batch_len: if delay_us == 0 { BATCH_LEN_MAX } else { 1 },
            delay: Delay::new(delay_us),
            databases: engine.config.keyspace.databases,
            loader: Loader::new(engine).for_journal(),
            before: 0,
            total: 0,
        }
    }

    fn part(
        &mut self,
        part: &Part,
        names: &Names,
        disk: &dyn Disk,
        mending: Mending,
        lender: &dyn Lender,
    ) -> std::result::Result<Played, End> {
        let path = names.path(part);
        let mut opened = disk.open(&path).map_err(|error| {
            let reason = error_text(&error);
            format!("Fatal error: can't open the append log file {part} for reading: {reason}")
        })?;
        let mut medium = &mut *opened.data;
        let mut read = Vec::new();
        Read::by_ref(&mut medium)
            .take(SNAPSHOT_BEGIN.len() as u64)
            .read_to_end(&mut read)
            .map_err(|error| unreadable(part, &error))?;
        if read.is_empty() {
            return Ok(Played::Empty);
        }
        let mut begin = 0;
        if read == SNAPSHOT_BEGIN {
            (read, begin) = self.snapshot(part, &mut read.chain(&mut *medium), lender)?;
        }
        self.replay.begin_file(begin);
        let mut requests = Requests::new(medium, read, begin);
        match self.requests(&mut requests, part, lender)? {
            Next::Over if !self.replay.is_in_transaction() => return Ok(Played::Upto(requests.position())),
            Next::Over => tracing::warn!("Revert incomplete MULTI/EXEC transaction in AOF file {part}"),
            Next::CutShort => {}
            _ => {
                return Err(End::Failed(format!(
                    "Bad file format reading the append only file {part}: make a backup of your AOF file, then use \
                     ./redis-check-aof --fix <filename.manifest>"
                )));
            }
        }
        let end = self.replay.settled();
        match mending {
            Mending::NotWanted => Err(End::Failed(format!(
                "Unexpected end of file reading the append only file {part}. You can: 1) Make a backup of your AOF file, \
                 then use ./redis-check-aof --fix <filename.manifest>. 2) Alternatively you can set the \
                 'aof-load-truncated' configuration option to yes and restart the server."
            ))),
            Mending::NotLast => {
                tracing::warn!("!!! Warning: short read while loading the AOF file {part}!!!");
                Err(End::Failed("Fatal error: the truncated file is not the last file".to_owned()))
            }
            Mending::Cut => {
                tracing::warn!("!!! Warning: short read while loading the AOF file {part}!!!");
                tracing::warn!("!!! Truncating the AOF {part} at offset {end} !!!");
                let file = disk.append(&path);
                file.and_then(|file| file.truncate(end).and_then(|()| file.sync())).map_err(|error| {
                    format!("Error truncating the AOF file {part}: {}", error_text(&error))
                })?;
                tracing::warn!("AOF {part} loaded anyway because aof-load-truncated is enabled");
                Ok(Played::Upto(end))
            }
        }
    }

    /// Puts in the snapshot with which a part begins; says what was read beyond its end, and where that is.
    fn snapshot(
        &mut self,
        part: &Part,
        medium: &mut dyn Read,
        lender: &dyn Lender,
    ) -> std::result::Result<(Vec<u8>, u64), End> {
        let (doing, what) = match part.is_snapshot() {
            true => ("Reading RDB base file on AOF loading...", "base file"),
            false => ("Reading RDB preamble from AOF file...", "preamble of the AOF file"),
        };
        tracing::info!("{doing}");
        (self.loader.before, self.loader.total) = (self.before, self.total);
        let ended = self.loader.load(Reader::from_medium(medium), lender);
        let beyond = ended.map_err(|halt| match halt {
            Halt::Stopped => End::Stopped,
            Halt::Refused(reason) => End::Failed(reason),
            Halt::Broken(reason) => {
                let fatal = broken(self.loader.position, &reason);
                tracing::warn!("Error reading the RDB {what} {part}, AOF loading aborted");
                End::Failed(fatal.reason)
            }
        })?;
        self.loader.say_done();
        if !part.is_snapshot() {
            tracing::info!("Reading the remaining AOF tail...");
        }
        Ok((beyond, self.loader.position))
    }

    /// Plays requests up to something else.
    fn requests(
        &mut self,
        requests: &mut Requests<'_>,
        part: &Part,
        lender: &dyn Lender,
    ) -> std::result::Result<Next, End> {
        loop {
            self.batch.clear();
            let next = loop {
                if self.batch.len() >= self.batch_len {
                    break Next::Request;
                }
                let first = self.batch.spans.len();
                match requests.next(&mut self.batch.spans) {
                    Next::Request => {
                        let (session, end) = (self.replay.session(), requests.taken());
                        self.batch.add(&self.registry, session, requests.buffer(), first, end);
                    }
                    other => break other,
                }
            };
            if !self.batch.is_empty() {
                self.play(requests, part, lender)?;
            }
            match next {
                Next::Request => {}
                Next::Unread => requests.read().map_err(|error| unreadable(part, &error))?,
                end => return Ok(end),
            }
        }
    }

    /// Plays what has been read.
    fn play(
        &mut self,
        requests: &Requests<'_>,
        part: &Part,
        lender: &dyn Lender,
    ) -> std::result::Result<(), End> {
        let Player { registry, replay, batch, before, .. } = self;
        let mut played = Ok(());
        let is_lent = lender.lend(&mut |engine| {
            played = replay.play(engine, registry, batch, requests.buffer(), requests.passed());
            if let Some(progress) = &mut engine.persistence.loading {
                progress.loaded = *before + requests.position();
            }
        });
        played.map_err(|unplayable| {
            End::Failed(match unplayable {
                Unplayable::Unknown(name) if name.eq_ignore_ascii_case(FUNCTION) => format!(
                    "Unknown command 'FUNCTION' reading the append only file {part}: it loads functions, which Mortise does \
                     not have yet, and which would be lost. Rewrite it where it comes from (BGREWRITEAOF, with \
                     aof-use-rdb-preamble yes): libraries of functions in a base are kept as they are"
                ),
                Unplayable::Unknown(name) => {
                    let name = name.escape_ascii();
                    format!("Unknown command '{name}' reading the append only file {part}")
                }
                Unplayable::Arity(name) => {
                    format!("Wrong number of arguments for '{name}' reading the append only file {part}")
                }
                Unplayable::Database => too_many_databases(self.databases),
            })
        })?;
        if !is_lent {
            return Err(End::Stopped);
        }
        self.delay.wait(None);
        Ok(())
    }
}

fn unreadable(part: &Part, error: &io::Error) -> End {
    End::Failed(format!("Unrecoverable error reading the append only file {part}: {}", error_text(error)))
}

#[cfg(test)]
mod tests;
