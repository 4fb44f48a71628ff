//! Taking all data of a primary over: by a file, or as it comes.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::DisklessLoad;
use super::backlog::{NAME_LEN, StreamName};
use super::handshake::{Framing, Unframed};
use super::link::{ACK, Halt, Link};
use super::primary::Stage;
use super::replica::Applying;
use super::wire::{LOOK, READ_LEN, Wire};
use crate::engine::Engine;
use crate::keyspace::SpaceId;
use crate::persistence::cut::Lender;
use crate::persistence::disk::{Disk, NewFile, Pending, Target};
use crate::persistence::start::{Arrived, Ended, For, load_arriving, load_opened};
use crate::persistence::state::Persistence;
use crate::server::error_text;

/// How data is taken over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// By a file.
    File,
    /// As it comes, where nothing is.
    Directly,
    /// As it comes, beside the data that is there, which is answered from meanwhile if it `serves`.
    Beside { space: SpaceId, serves: bool },
}

/// What the link says when nothing has come for too long.
fn late() -> Halt {
    Halt::Failed(
        "Timeout receiving bulk data from MASTER... If the problem persists try to set the 'repl-timeout' parameter in \
         redis.conf to a larger value."
            .to_owned(),
    )
}

/// The connection is gone before all data has come.
fn lost(error: io::Error) -> Halt {
    Halt::from(error).or_lost("I/O error trying to sync with MASTER: connection lost")
}

impl Engine {
    /// How the data of a stream of this name is to be taken over.
    fn how_to_take(&mut self, name: StreamName) -> How {
        let is_empty = || self.keyspace.iter().all(|(_, _, db)| db.dict().is_empty());
        match self.config.replication.repl_diskless_load {
            DisklessLoad::OnEmptyDb if is_empty() => How::Directly,
            DisklessLoad::Disabled | DisklessLoad::OnEmptyDb => How::File,
            DisklessLoad::Swapdb => {
                let keyspace = &mut self.keyspace;
                let space = *self.replication.beside.get_or_insert_with(|| keyspace.add_space());
                // What is there is older, but it is of the same stream: it may still be shown.
                How::Beside { space, serves: self.replication.name == name }
            }
        }
    }

    /// Whether nothing is saved here, and files are to be removed that were written only for a full synchronisation.
    pub(super) fn removes_sync_files(&self) -> bool {
        let config = &self.config;
        let saves = !config.persistence.save.0.is_empty() || config.journal.appendonly;
        config.replication.rdb_del_sync_files && !saves
    }

    /// Removes the snapshot's file, if there is one.
    pub(super) fn remove_sync_file(&mut self) {
        let path = Persistence::target(&self.config, self.process.pid, None).path;
        if let Err(error) = self.persistence.disk.remove(&path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!("Can't remove {}: {}", path.display(), error_text(&error));
        }
    }

    /// Removes the file that was written only for replicas, when all that wanted it have it.
    pub(super) fn remove_file_for_replicas(&mut self) {
        if !self.replication.only_for_replicas {
            return;
        }
        self.replication.only_for_replicas &= self.removes_sync_files();
        let is_wanted = |stage| matches!(stage, Stage::Waiting | Stage::Drawing(_) | Stage::Sending(_));
        let wanted = self.replication.replicas.values().any(|replica| is_wanted(replica.stage));
        if self.replication.only_for_replicas && !wanted {
            self.replication.only_for_replicas = false;
            tracing::info!("Removing the RDB file used to feed replicas in a persistence-less instance");
            self.remove_sync_file();
        }
    }
}

impl Link<'_> {
    /// Takes all data over; the stream follows.
    pub(super) fn take_data(&self, wire: &mut Wire, name: StreamName, offset: u64) -> Result<Applying, Halt> {
        let number = self.number;
        self.ask(|engine| engine.begin_transfer(number))?;
        let framing = self.framing(wire)?;
        let how = self.get(|engine| Some(engine.how_to_take(name)))?;
        let target = if how == How::File { "disk" } else { "parser" };
        match framing {
            Framing::Len(len) => {
                tracing::info!("MASTER <-> REPLICA sync: receiving {len} bytes from master to {target}");
            }
            Framing::Mark(_) => tracing::info!(
                "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to {target}"
            ),
        }
        match how {
            How::File => self.take_by_file(wire, framing, (name, offset)),
            How::Directly | How::Beside { .. } => self.take_directly(wire, framing, how, (name, offset)),
        }
    }

    /// How the data is framed.
    fn framing(&self, wire: &mut Wire) -> Result<Framing, Halt> {
        let number = self.number;
        loop {
            let gone = "I/O error reading bulk count from MASTER: connection lost";
            let line = self.line(wire, late).map_err(|halt| halt.or_lost(gone))?;
            if line.first() == Some(&b'-') {
                let said = line[1..].escape_ascii();
                return Err(Halt::Failed(format!("MASTER aborted replication with an error: {said}")));
            }
            if line.is_empty() {
                // It is still at it.
                self.ask(|engine| engine.note_transfer(number, None, 0))?;
                continue;
            }
            return Framing::parse(&line).ok_or_else(|| {
                Halt::Failed(format!(
                    "Bad protocol from MASTER, the first byte is not '$' (we received '{}'), are you sure the host and port \
                     are right?",
                    line.escape_ascii()
                ))
            });
        }
    }

    /// Takes all data to a file, and loads it.
    fn take_by_file(
        &self,
        wire: &mut Wire,
        framing: Framing,
        (name, offset): (StreamName, u64),
    ) -> Result<Applying, Halt> {
        let number = self.number;
        let total = framing.total();
        let (disk, target, pending) = self.get(|engine| Some(place(engine, number)))?;
        let failed = |error: io::Error| {
            Halt::Failed(format!(
                "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: {}",
                error_text(&error)
            ))
        };
        let mut file = NewFile::create(disk, target, &pending).map_err(|error| {
            Halt::Failed(format!(
                "Opening the temp file needed for MASTER <-> REPLICA synchronization: {}",
                error_text(&error)
            ))
        })?;
        let mut unframed = Unframed::new(framing);
        let mut noted = Instant::now();
        while !unframed.is_over() {
            if wire.has_nothing() {
                let came = wire.fill(unframed.room(READ_LEN)).map_err(lost)?;
                if noted.elapsed() >= LOOK {
                    noted = Instant::now();
                    let read = unframed.read();
                    match came {
                        true => self.ask(|engine| engine.note_transfer(number, total, read))?,
                        false => self.ask(|engine| engine.follows(number))?,
                    }
                }
                if !came {
                    if wire.is_silent() {
                        return Err(late());
                    }
                    continue;
                }
            }
            let room = unframed.room(READ_LEN);
            unframed.take(wire.take(room), |bytes| file.write_all(bytes)).map_err(failed)?;
        }
        let read = unframed.read();
        self.ask(|engine| engine.note_transfer(number, total, read))?;
        wire.came = wire.untaken();
        file.flush().map_err(failed)?;
        // What is loaded is what has come, whoever else writes a file of the name meanwhile.
        let opened = file.open().map_err(failed)?;
        file.place().map_err(|(step, error)| {
            Halt::Failed(format!(
                "Failed trying to put the MASTER synchronization DB in its place ({step}): {}",
                error_text(&error)
            ))
        })?;
        let origin = wire.origin.clone();
        let alive = Alive { lender: self.lender, wire: Mutex::new((&mut *wire, Instant::now())) };
        let about = match load_opened(&alive, opened, For::Link(number)) {
            Ok((Ended::Loaded, about)) => about,
            Ok((Ended::Stopped, _)) => return Err(Halt::Unwanted),
            Err(fatal) => {
                return Err(Halt::Failed(format!(
                    "Failed trying to load the MASTER synchronization DB from disk, check server logs. {}",
                    fatal.reason
                )));
            }
        };
        // While it was loaded nobody listened.
        wire.hear();
        let db = about.map_or(0, |about| about.db);
        self.get(|engine| {
            if engine.removes_sync_files() {
                tracing::info!(
                    "Removing the RDB file obtained from the master. This replica has persistence disabled"
                );
                engine.remove_sync_file();
            }
            engine.begin_stream(number, (name, offset, db), origin.clone())
        })
    }

    /// Loads the data as it comes.
    fn take_directly(
        &self,
        wire: &mut Wire,
        framing: Framing,
        how: How,
        (name, offset): (StreamName, u64),
    ) -> Result<Applying, Halt> {
        let number = self.number;
        let (space, serves) = match how {
            How::Beside { space, serves } => {
                tracing::info!("MASTER <-> REPLICA sync: Loading DB in memory");
                (space, serves)
            }
            How::File | How::Directly => {
                self.ask(|engine| engine.make_way(number))?;
                (SpaceId::FIRST, false)
            }
        };
        let total = framing.total();
        let origin = wire.origin.clone();
        let mut incoming = Incoming::new(self, wire, total);
        let loaded = load_arriving(self.lender, &mut incoming, space, (total.unwrap_or(0), serves));
        let halt = incoming.halt.take();
        let loaded = match loaded {
            Ok(Some(arrived)) => incoming.end(framing, &arrived.beyond).map(|()| arrived),
            Ok(None) => Err(Halt::Unwanted),
            Err(reason) => Err(halt.unwrap_or_else(|| {
                Halt::Failed(format!(
                    "Failed trying to load the MASTER synchronization DB from socket, check server logs. {reason}"
                ))
            })),
        };
        let arrived = match loaded {
            Ok(arrived) => arrived,
            Err(halt) => {
                if space != SpaceId::FIRST {
                    tracing::info!("MASTER <-> REPLICA sync: Discarding temporary DB in background");
                }
                self.lender.lend(&mut |engine| engine.give_up_arriving(space));
                return Err(halt);
            }
        };
        let mut arrived = Some(arrived);
        self.get(|engine| {
            let Arrived { stream, report, kept, .. } = arrived.take()?;
            engine.refresh_clock();
            if space != SpaceId::FIRST {
                engine.swap_in(number, space)?;
            }
            engine.end_loading(report, kept);
            engine.note_arrival();
            let db = stream.map_or(0, |stream| stream.db);
            engine.begin_stream(number, (name, offset, db), origin.clone())
        })
    }
}

/// Where the data of a full synchronisation goes. The link of this number is not the only one that may be at it.
fn place(engine: &Engine, number: u64) -> (Arc<dyn Disk>, Target, Pending) {
    let mut target = Persistence::target(&engine.config, engine.process.pid, None);
    let name = format!("temp-{}.{}.{number}.rdb", engine.now_ms / 1000, engine.process.pid);
    target.temporary = target.path.with_file_name(name);
    (engine.persistence.disk.clone(), target, engine.persistence.pending.clone())
}

/// Lends the engine while data is loaded, and tells the primary now and then that this server is still there.
struct Alive<'a> {
    lender: &'a dyn Lender,
    wire: Mutex<(&'a mut Wire, Instant)>,
}

impl Lender for Alive<'_> {
    fn lend(&self, what: &mut dyn FnMut(&mut Engine)) -> bool {
        let mut wire = self.wire.lock();
        if wire.1.elapsed() >= ACK {
            wire.1 = Instant::now();
            // If it is gone, that will be seen when the data is there.
            let _ = wire.0.send(b"\n");
        }
        drop(wire);
        self.lender.lend(what)
    }
}

/// Data as it comes, to be read by whoever understands it.
struct Incoming<'a> {
    link: &'a Link<'a>,
    wire: &'a mut Wire,
    /// How long it is, if that was said, and how much has been read.
    total: Option<u64>,
    read: u64,
    /// When the engine was told last how much has come, and the primary that this server is still there.
    noted: Instant,
    told: Instant,
    /// Why nothing more is to be read.
    halt: Option<Halt>,
}

impl<'a> Incoming<'a> {
    fn new(link: &'a Link<'a>, wire: &'a mut Wire, total: Option<u64>) -> Incoming<'a> {
        Incoming { link, wire, total, read: 0, noted: Instant::now(), told: Instant::now(), halt: None }
    }

    /// Waits for more.
    fn wait(&mut self) -> Result<(), Halt> {
        let number = self.link.number;
        while self.wire.has_nothing() {
            let left = self.total.map_or(u64::MAX, |total| total - self.read);
            let came = self.wire.fill(usize::try_from(left).unwrap_or(READ_LEN)).map_err(lost)?;
            if self.noted.elapsed() >= LOOK {
                self.noted = Instant::now();
                let (total, read) = (self.total, self.read);
                match came {
                    true => self.link.ask(|engine| engine.note_transfer(number, total, read))?,
                    false => self.link.ask(|engine| engine.follows(number))?,
                }
            }
            if self.told.elapsed() >= ACK {
                self.told = Instant::now();
                self.wire.send(b"\n")?;
            }
            if !came && self.wire.is_silent() {
                return Err(late());
            }
        }
        Ok(())
    }

    /// The data has been understood to its end; so much was read `beyond` it. Only what frames it may follow.
    fn end(&mut self, framing: Framing, beyond: &[u8]) -> Result<(), Halt> {
        let Framing::Mark(mark) = framing else {
            let is_over = beyond.is_empty() && self.total == Some(self.read);
            return is_over.then_some(()).ok_or_else(|| {
                Halt::Failed("The data of the master is shorter than it has said".to_owned())
            });
        };
        let mut found = beyond.to_vec();
        while found.len() < NAME_LEN {
            self.wait()?;
            found.extend_from_slice(self.wire.take(NAME_LEN - found.len()));
        }
        if mark.is(&found) {
            return Ok(());
        }
        Err(Halt::Failed("Replication stream EOF marker is broken".to_owned()))
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let left = self.total.map_or(u64::MAX, |total| total - self.read);
        if left == 0 || to.is_empty() {
            return Ok(0);
        }
        if self.halt.is_some() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if let Err(halt) = self.wait() {
            self.halt = Some(halt);
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let bytes = self.wire.take(to.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        to[..bytes.len()].copy_from_slice(bytes);
        self.read += bytes.len() as u64;
        Ok(bytes.len())
    }
}
