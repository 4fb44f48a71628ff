//! A snapshot in the background: the data as it was at one moment, written while everything goes on.
//!
//! The moment is the beginning of a cut ([`Keyspace::begin_cut`](crate::keyspace::Keyspace::begin_cut)). From then on the
//! snapshot's own thread takes the engine again and again for a slice of the walk, which hands over shares of the entries
//! that it comes to, together with those that were about to change meanwhile; what takes time — writing them down,
//! compressing, the disk — is done with the engine free. So a file holds the databases mixed, and says before each key that
//! is not of the last one's database which one it is of.

use std::io::{self, ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::data::{Delay, Head, Usages};
use super::disk::{Disk, NewFile, Pending, Target};
use super::journal::commands::Commands;
use super::journal::manifest::Form;
use super::journal::rewrite_steps::{Begin, Placing};
use super::save::failed;
use super::snapshot::file::Saving;
use super::snapshot::{Broken, Result};
use super::state::Persistence;
use crate::engine::{Engine, Job};
use crate::keyspace::SpaceId;
use crate::keyspace::door::Saved;
use crate::replication::primary::Without;
use crate::replication::sync::{Parcel, Shipment, deliver};
use crate::server::error_text;

/// How long a slice holds the engine, about: a step of the walk takes some tens of microseconds.
const SLICE_NS: u64 = 100_000;

/// So many bytes of a file are made durable at once where that is done bit by bit.
const SYNC_LEN: u64 = 4 << 20;

/// Replicas to which little is to be sent get it after so long at most: they take silence for the end.
const SEND_PERIOD: Duration = Duration::from_secs(1);

/// What a file of all data is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// It is the snapshot's file.
    Snapshot,
    /// It is to be a base of the journal.
    Base(Form),
    /// It goes to replicas, and to no file.
    Replicas,
}

/// A snapshot that is being written, as the engine knows it.
pub struct Drawing {
    number: u64,
    /// What it is for.
    pub purpose: Purpose,
    /// When it began: Unix milliseconds.
    pub began_ms: i64,
    /// Keys that it is to hold.
    pub keys: u64,
    /// Keys that have been written.
    pub written: Arc<AtomicU64>,
    /// The number of changes that it holds.
    dirty: u64,
    fate: Arc<Fate>,
    /// It is about to take its place, as a base of the journal.
    placing: Option<Arc<Placing>>,
}

impl Drawing {
    /// Which one it is.
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// What becomes of a snapshot: it is called off, or takes its place, and never both.
#[derive(Default)]
pub struct Fate {
    is_cancelled: AtomicBool,
    /// Held while the file takes its place.
    is_placed: Mutex<bool>,
}

impl Fate {
    /// Calls the snapshot off; false if it is there already.
    pub fn cancel(&self) -> bool {
        let is_placed = self.is_placed.lock();
        self.is_cancelled.store(true, Ordering::Release);
        !*is_placed
    }

    /// Whether it was called off.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// Lets the file take its place, unless it was called off.
    fn place(&self, file: &mut NewFile) -> std::result::Result<(), Ending> {
        let mut is_placed = self.is_placed.lock();
        if self.is_cancelled() {
            return Err(Ending::Cancelled);
        }
        file.rename().map_err(|error| Ending::Failed(failed("rename", &error.into())))?;
        *is_placed = true;
        Ok(())
    }
}

/// Whoever lends the engine to the snapshot's thread.
pub trait Lender {
    /// Does something with the engine as soon as it is free; false if that will never be again.
    fn lend(&self, what: &mut dyn FnMut(&mut Engine)) -> bool;
}

/// How a snapshot ends that does not end well.
enum Ending {
    Cancelled,
    Failed(String),
}

impl From<Broken> for Ending {
    fn from(broken: Broken) -> Ending {
        Ending::Failed(failed("rdbSaveRio", &broken))
    }
}

/// A snapshot that is to be written, by whoever has a thread for it.
pub struct Snapshot {
    number: u64,
    space: SpaceId,
    head: Head,
    /// The databases that it is to hold: their numbers, keys, and how many of these expire.
    databases: Vec<(u32, usize, usize)>,
    target: Target,
    dir: String,
    disk: Arc<dyn Disk>,
    pending: Pending,
    purpose: Purpose,
    /// Where it goes if it goes to no file.
    shipment: Option<Box<Shipment>>,
    is_synced_bit_by_bit: bool,
    /// When it began, if a base of commands is to say so: Unix seconds.
    stamped_s: Option<i64>,
    delay_us: i32,
    written: Arc<AtomicU64>,
    fate: Arc<Fate>,
    /// What comes first, if it is a base of a journal.
    begin: Option<Arc<Begin>>,
}

/// What a slice brings.
enum Slice {
    Entries(Vec<Saved>),
    Last(Vec<Saved>),
}

impl Engine {
    /// Begins a snapshot in the background: it is as of now. False if there is one already. If it cannot begin yet, it is
    /// scheduled.
    pub(crate) fn begin_background_save(&mut self) -> bool {
        if self.persistence.drawing.is_some() {
            return false;
        }
        self.note_try();
        if self.begin_drawing(None).is_none() {
            self.persistence.is_scheduled = true;
        }
        true
    }

    /// Begins a snapshot, of the file or for replicas, and says which number it has; nothing if it cannot begin now.
    pub(crate) fn begin_drawing(&mut self, shipment: Option<Shipment>) -> Option<u64> {
        if self.persistence.drawing.is_some() || !self.keyspace.begin_cut() {
            return None;
        }
        let number = self.persistence.drawn + 1;
        let target = Persistence::target(&self.config, self.process.pid, Some(number));
        let (purpose, what) = match shipment {
            Some(_) => (Purpose::Replicas, "RDB transfer"),
            None => (Purpose::Snapshot, "saving"),
        };
        self.draw(purpose, target, shipment);
        tracing::info!("Background {what} started by pid {}", self.process.pid);
        Some(number)
    }

    /// Has written what the cut holds that has just begun, by a thread of its own.
    pub(super) fn draw(&mut self, purpose: Purpose, target: Target, mut shipment: Option<Shipment>) {
        let space = self.saved_space();
        let databases = self.keyspace.iter().filter(|(of, _, db)| *of == space && !db.dict().is_empty());
        let databases: Vec<_> =
            databases.map(|(_, index, db)| (index, db.dict().len(), db.dict().expiring())).collect();
        let without = shipment.as_ref().map_or(Without::default(), Shipment::without);
        let databases = if without.keys { Vec::new() } else { databases };
        let head = self.head(matches!(purpose, Purpose::Base(_)), without);
        let begin = if matches!(purpose, Purpose::Base(_)) { self.begin_step() } else { None };
        let state = &mut self.persistence;
        state.drawn += 1;
        let drawing = Drawing {
            number: state.drawn,
            purpose,
            began_ms: self.now_ms,
            keys: databases.iter().map(|(_, keys, _)| *keys as u64).sum(),
            written: Arc::default(),
            dirty: self.unit.dirty,
            fate: Arc::default(),
            placing: None,
        };
        if let Some(shipment) = &mut shipment {
            shipment.follow(drawing.fate.clone());
        }
        let snapshot = Snapshot {
            number: drawing.number,
            space,
            head,
            databases,
            target,
            dir: self.config.server.dir.clone(),
            disk: state.disk.clone(),
            pending: state.pending.clone(),
            purpose,
            stamped_s: self.config.journal.aof_timestamp_enabled.then_some(self.now_ms / 1000),
            shipment: shipment.map(Box::new),
            is_synced_bit_by_bit: match purpose {
                Purpose::Replicas => false,
                Purpose::Snapshot => self.config.persistence.rdb_save_incremental_fsync,
                Purpose::Base(_) => self.config.journal.aof_rewrite_incremental_fsync,
            },
            delay_us: self.config.persistence.rdb_key_save_delay,
            written: drawing.written.clone(),
            fate: drawing.fate.clone(),
            begin,
        };
        state.drawing = Some(drawing);
        self.jobs.push(Job::Snapshot(Box::new(snapshot)));
    }

    /// Calls off the snapshot that is being written in the background, if there is one.
    pub(crate) fn cancel_background_save(&mut self) {
        if self.persistence.is_saving() && self.cancel_drawing() {
            tracing::warn!("Background saving was called off");
        }
    }

    /// Calls off what is being written in the background; false if it has taken its place just now, and its thread is
    /// about to say so.
    pub(super) fn cancel_drawing(&mut self) -> bool {
        let Some(drawing) = &self.persistence.drawing else { return false };
        if !drawing.fate.cancel() {
            return false;
        }
        let (number, purpose) = (drawing.number, drawing.purpose);
        self.persistence.drawing = None;
        self.end_cut();
        self.note_drawn(number, false, purpose == Purpose::Replicas);
        true
    }

    /// Bytes of entries that the snapshot in the background has saved as they were about to change.
    pub fn preserved(&self) -> u64 {
        self.keyspace.door.preserved()
    }

    pub(super) fn end_cut(&mut self) {
        let preserved = self.preserved();
        self.persistence.last_preserved = preserved;
        self.persistence.peak_preserved = self.persistence.peak_preserved.max(preserved);
        let left = self.keyspace.end_cut();
        if !left.is_empty() {
            self.unit.discard_later(Box::new(left));
        }
        self.free_spent();
    }

    /// A slice of the walk.
    fn draw_slice(&mut self, number: u64) -> std::result::Result<Slice, Ending> {
        if self.persistence.drawing.as_ref().is_none_or(|drawing| drawing.number != number) {
            return Err(Ending::Cancelled);
        }
        self.refresh_clock();
        let (start_ns, mut is_over) = (self.lap(), false);
        while !is_over && self.lap().saturating_sub(start_ns) < SLICE_NS {
            is_over = self.keyspace.advance_cut();
        }
        let saved = self.keyspace.take_saved().map_err(Ending::Failed)?;
        if is_over {
            self.end_cut();
        }
        // Databases that were flushed, and have been walked through.
        self.free_spent();
        self.settle();
        Ok(if is_over { Slice::Last(saved) } else { Slice::Entries(saved) })
    }

    /// There is no thread that could write a snapshot.
    pub(crate) fn fail_background_save(&mut self, number: u64) {
        self.end_drawing(number, Err(Ending::Failed(String::new())));
    }

    /// A snapshot has come to its end. A base of the journal has yet to take its place, which is left to its thread.
    fn end_drawing(
        &mut self,
        number: u64,
        ending: std::result::Result<Option<NewFile>, Ending>,
    ) -> Option<Arc<Placing>> {
        self.refresh_clock();
        let drawing = self.persistence.drawing.take_if(|drawing| drawing.number == number)?;
        if let Purpose::Base(form) = drawing.purpose {
            let placing = match ending {
                Ok(Some(file)) => {
                    let placing = self.begin_placing(file, form);
                    let placed = Some(placing.clone());
                    self.persistence.drawing = Some(Drawing { placing: placed, ..drawing });
                    Some(placing)
                }
                Err(Ending::Failed(reason)) => {
                    self.end_cut();
                    tracing::warn!("Write error writing append only file on disk: {reason}");
                    let reason = "Background AOF rewrite terminated with error".to_owned();
                    self.end_rewrite(Err(reason), drawing.began_ms);
                    None
                }
                Ok(None) | Err(Ending::Cancelled) => None,
            };
            if placing.is_none() {
                self.begin_waiting_snapshots();
            }
            self.settle();
            return placing;
        }
        let is_ok = ending.is_ok();
        let is_shipped = drawing.purpose == Purpose::Replicas;
        self.persistence.last_took_s = Some((self.now_ms - drawing.began_ms) / 1000);
        match ending {
            Ok(_) if is_shipped => tracing::info!("Background RDB transfer terminated with success"),
            Err(_) if is_shipped => {
                self.end_cut();
                tracing::warn!("Background transfer error");
            }
            Ok(_) => {
                tracing::info!("Background saving terminated with success");
                self.note_saved(drawing.dirty);
                self.persistence.saves += 1;
                self.note_outcome(true);
            }
            Err(_) => {
                self.end_cut();
                tracing::warn!("Background saving error");
                self.note_outcome(false);
            }
        }
        self.note_drawn(number, is_ok, is_shipped);
        self.begin_waiting_snapshots();
        self.settle();
        None
    }

    /// A base of the journal has its place, or is waited for until it has. False if none is about to take it, or not the
    /// one with this number.
    pub(super) fn end_placing(&mut self, number: Option<u64>) -> bool {
        let is_it = |drawing: &mut Drawing| {
            drawing.placing.is_some() && number.is_none_or(|number| number == drawing.number)
        };
        let Some(drawing) = self.persistence.drawing.take_if(is_it) else { return false };
        let Some(placing) = drawing.placing else { return false };
        let placed = placing.take().unwrap_or_else(|| Err("A panic while the AOF was placed".to_owned()));
        self.refresh_clock();
        self.end_rewrite(placed, drawing.began_ms);
        true
    }
}

impl Snapshot {
    /// By which it can be called off.
    pub fn fate(&self) -> Arc<Fate> {
        self.fate.clone()
    }

    /// Writes it, and tells the engine how that ended.
    pub fn run(self, lender: &dyn Lender) {
        let (number, purpose) = (self.number, self.purpose);
        let ending = catch_unwind(AssertUnwindSafe(|| self.write(lender)));
        let ending = ending.unwrap_or_else(|_| Err(Ending::Failed("(rdbSave): a panic".to_owned())));
        let (ending, parcels) = match ending {
            Ok(written) => (Ok(written.base), written.parcels),
            Err(ending) => (Err(ending), Vec::new()),
        };
        match (&ending, purpose) {
            (Err(Ending::Cancelled), _) => return,
            (Ok(_), Purpose::Snapshot) => tracing::info!("DB saved on disk"),
            (Err(Ending::Failed(reason)), Purpose::Snapshot) => {
                tracing::warn!("Write error saving DB on disk{reason}");
            }
            (Err(Ending::Failed(reason)), Purpose::Replicas) => {
                tracing::warn!("Diskless transfer failed{reason}");
            }
            (_, Purpose::Base(_)) | (Ok(_), Purpose::Replicas) => {}
        }
        let (mut ending, mut placing) = (Some(ending), None);
        lender.lend(&mut |engine| {
            if let Some(ending) = ending.take() {
                placing = engine.end_drawing(number, ending);
            }
        });
        if let Some(placing) = placing {
            // If it panics, the engine finds nothing done.
            let _ = catch_unwind(AssertUnwindSafe(|| placing.perform()));
            lender.lend(&mut |engine| {
                engine.end_placing(Some(number));
                engine.begin_waiting_snapshots();
                engine.settle();
            });
        }
        deliver(parcels, |id, is_ok| lender.lend(&mut |engine| engine.note_received(id, is_ok)));
    }

    /// Which one it is.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Writes it to where it goes. A snapshot's file takes its place; that of the journal's base is handed over.
    fn write(mut self, lender: &dyn Lender) -> std::result::Result<Written, Ending> {
        if let Some(mut shipment) = self.shipment.take() {
            let gone = |error: io::Error| match error.kind() {
                ErrorKind::BrokenPipe => Ending::Cancelled,
                _ => Ending::Failed(failed("write", &error.into())),
            };
            shipment.begin().map_err(gone)?;
            let Snapshot { number, space, head, databases, delay_us, written, fate, .. } = self;
            let without_keys = head.is_without_keys();
            let (file, usages) = head.begin(*shipment)?;
            let mut pages = Pages { file, usages, space, databases, current: None };
            let drawn = Drawn { number, delay_us, written, fate };
            let mut sent = Instant::now();
            drawn.draw(lender, |saved| {
                if without_keys {
                    return Ok(false);
                }
                if sent.elapsed() >= SEND_PERIOD {
                    sent = Instant::now();
                    pages.file.send()?;
                }
                pages.write(saved)
            })?;
            pages.file.finish()?.end().map_err(gone)?;
            return Ok(Written::default());
        }
        if let Some(begin) = &self.begin {
            begin.perform();
            lender.lend(&mut |engine| engine.end_beginning());
        }
        let Snapshot {
            number,
            space,
            head,
            databases,
            target,
            dir,
            disk,
            pending,
            delay_us,
            written,
            fate,
            ..
        } = self;
        let (temporary, path) = (target.temporary.clone(), target.path.clone());
        let mut file = NewFile::create(disk.clone(), target, &pending).map_err(|error| {
            let name = temporary.file_name().unwrap_or_default().to_string_lossy();
            let reason = error_text(&error);
            Ending::Failed(format!("(fopen): {reason}: {name} in server root dir {dir}"))
        })?;
        if self.is_synced_bit_by_bit {
            file.sync_each(SYNC_LEN);
        }
        let mut pages = match self.purpose {
            Purpose::Base(Form::Commands) => Paper::Commands(Commands::begin(file, self.stamped_s), space),
            _ => {
                let (file, usages) = head.begin(file)?;
                Paper::Pages(Pages { file, usages, space, databases, current: None })
            }
        };
        let drawn = Drawn { number, delay_us, written, fate: fate.clone() };
        drawn.draw(lender, |saved| pages.write(saved))?;
        let mut file = pages.finish()?;
        file.flush().map_err(|error| Ending::Failed(failed("fflush", &error.into())))?;
        file.sync().map_err(|error| Ending::Failed(failed("fsync", &error.into())))?;
        if self.purpose != Purpose::Snapshot {
            return Ok(Written { base: Some(file), parcels: Vec::new() });
        }
        fate.place(&mut file)?;
        file.sync_dir().map_err(|error| Ending::Failed(failed("fsyncFileDir", &error.into())))?;
        // It is opened now, as the next snapshot may take its place as soon as this one is over.
        let mut parcels = Vec::new();
        loop {
            let mut awaiting = 0;
            lender.lend(&mut |engine| awaiting = engine.count_receivers(number));
            if awaiting == 0 {
                break;
            }
            let files = (0..awaiting).map(|_| disk.open(&path)).collect::<io::Result<Vec<_>>>();
            let mut files = files.inspect_err(|error| {
                tracing::warn!("SYNC failed. Can't open/stat DB after BGSAVE: {}", error_text(error));
            });
            lender.lend(&mut |engine| match &mut files {
                Ok(files) => parcels.extend(engine.hand_out(number, files)),
                Err(_) => engine.note_drawn(number, false, false),
            });
        }
        Ok(Written { base: None, parcels })
    }
}

/// What a snapshot that is written leaves to be done.
#[derive(Default)]
struct Written {
    /// The journal's new base.
    base: Option<NewFile>,
    /// To whom the file is to be sent.
    parcels: Vec<Parcel>,
}

/// A snapshot that is drawn from the engine.
struct Drawn {
    number: u64,
    delay_us: i32,
    written: Arc<AtomicU64>,
    fate: Arc<Fate>,
}

impl Drawn {
    /// Draws it to the end. `write` says of each entry whether it was one of those that are wanted.
    fn draw(
        self,
        lender: &dyn Lender,
        mut write: impl FnMut(&Saved) -> Result<bool>,
    ) -> std::result::Result<(), Ending> {
        let delay = Delay::new(self.delay_us);
        loop {
            let mut slice = None;
            lender.lend(&mut |engine| slice = Some(engine.draw_slice(self.number)));
            let Some(slice) = slice else { return Err(Ending::Cancelled) };
            let (entries, is_last) = match slice? {
                Slice::Entries(entries) => (entries, false),
                Slice::Last(entries) => (entries, true),
            };
            for saved in entries {
                if write(&saved)? {
                    self.written.fetch_add(1, Ordering::Relaxed);
                    delay.wait(Some(&self.fate));
                }
                if self.fate.is_cancelled() {
                    return Err(Ending::Cancelled);
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

/// Where entries are written down.
enum Paper {
    /// In a snapshot's format.
    Pages(Pages<NewFile>),
    /// As commands.
    Commands(Commands<NewFile>, SpaceId),
}

impl Paper {
    /// Writes an entry; false if it is of another space.
    fn write(&mut self, saved: &Saved) -> Result<bool> {
        match self {
            Paper::Pages(pages) => pages.write(saved),
            Paper::Commands(_, space) if saved.space != *space => Ok(false),
            Paper::Commands(commands, _) => commands.entry(saved.db, &saved.entry).map(|()| true),
        }
    }

    fn finish(self) -> Result<NewFile> {
        match self {
            Paper::Pages(pages) => pages.file.finish(),
            Paper::Commands(commands, _) => commands.finish(),
        }
    }
}

/// A file that takes entries in whatever order they come.
struct Pages<W> {
    file: Saving<W>,
    usages: Usages,
    space: SpaceId,
    /// The databases that have not begun.
    databases: Vec<(u32, usize, usize)>,
    current: Option<u32>,
}

impl<W: Write> Pages<W> {
    /// Writes an entry; false if it is of another space.
    fn write(&mut self, saved: &Saved) -> Result<bool> {
        if saved.space != self.space {
            return Ok(false);
        }
        if self.current != Some(saved.db) {
            self.current = Some(saved.db);
            match self.databases.iter().position(|(index, ..)| *index == saved.db) {
                Some(at) => {
                    let (index, keys, expiring) = self.databases.swap_remove(at);
                    self.file.database(index, keys, expiring)?;
                }
                None => self.file.select(saved.db),
            }
        }
        self.file.entry(&saved.entry, self.usages.of(&saved.entry))?;
        Ok(true)
    }
}
