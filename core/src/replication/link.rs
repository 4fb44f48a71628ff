//! The socket to the primary, on a thread of its own: connecting, talking, taking the data, reading the stream.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::backlog::StreamName;
use super::handshake::{Framing, Handshake, Next, Unframed};
use super::replica::{Applying, Attempt, Stage};
use crate::engine::Engine;
use crate::engine::client::Origin;
use crate::persistence::cut::Lender;
use crate::persistence::disk::{Disk, NewFile, Pending, Target};
use crate::persistence::start::{Ended, load_snapshot};
use crate::persistence::state::Persistence;
use crate::server::error_text;

/// How often a link that hears nothing looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// How soon after a failed attempt the next one begins, and how much later after many.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often the primary is told how far this server is.
const ACK: Duration = Duration::from_secs(1);
/// How much is read at a time.
const READ_LEN: usize = 64 << 10;
/// A line of the primary is not longer.
const LINE_LEN_MAX: usize = 1024;

/// Why an attempt has ended.
enum Halt {
    /// Another server is followed, or none; or this one stops.
    Unwanted,
    /// For a reason that the log is told.
    Failed(String),
    /// The connection is gone, which the log hears of elsewhere.
    Lost,
    /// What came could not be understood, or not be applied: the stream is not to be gone on with where it stands.
    Broken(String),
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Halt {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Halt::Lost,
            _ => Halt::Failed(format!("I/O error with the master: {}", error_text(&error))),
        }
    }
}

/// Follows the server of this number until another is to be followed.
pub fn run(lender: &dyn Lender, number: u64) {
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let mut link = Link { lender, number, was_up: false };
        let halt = catch_unwind(AssertUnwindSafe(|| link.attempt()))
            .unwrap_or_else(|_| Halt::Broken("Following the master has failed: it begins anew.".to_owned()));
        if let Halt::Failed(reason) | Halt::Broken(reason) = &halt {
            tracing::warn!("{reason}");
        }
        let is_broken = matches!(halt, Halt::Broken(_));
        let mut is_wanted = false;
        let runs = lender.lend(&mut |engine| is_wanted = engine.lose_primary(number, is_broken));
        if !runs || !is_wanted || matches!(halt, Halt::Unwanted) {
            return;
        }
        // A link that was up is tried again at once, unless it was up for no time.
        failures = if link.was_up && !is_broken { 0 } else { failures + 1 };
        let until = match failures {
            0 => began + LOOK,
            _ => Instant::now() + (RETRY * (failures / 10 + 1)).min(RETRY_MAX),
        };
        while Instant::now() < until {
            std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
            if !link.is_wanted() {
                return;
            }
        }
    }
}

struct Link<'a> {
    lender: &'a dyn Lender,
    number: u64,
    was_up: bool,
}

impl Link<'_> {
    /// Does something with the engine, which says whether the link is still wanted.
    fn ask(&self, mut what: impl FnMut(&mut Engine) -> bool) -> Result<(), Halt> {
        let mut is_wanted = false;
        let runs = self.lender.lend(&mut |engine| is_wanted = what(engine));
        if runs && is_wanted { Ok(()) } else { Err(Halt::Unwanted) }
    }

    /// Gets something of the engine, if the link is still wanted.
    fn get<T>(&self, mut what: impl FnMut(&mut Engine) -> Option<T>) -> Result<T, Halt> {
        let mut got = None;
        let runs = self.lender.lend(&mut |engine| got = what(engine));
        got.filter(|_| runs).ok_or(Halt::Unwanted)
    }

    fn is_wanted(&self) -> bool {
        let number = self.number;
        self.ask(|engine| engine.follows(number)).is_ok()
    }

    /// Connects and stays connected for as long as that goes well; says why it does no longer.
    fn attempt(&mut self) -> Halt {
        match self.try_attempt() {
            Ok(()) => Halt::Lost,
            Err(halt) => halt,
        }
    }

    fn try_attempt(&mut self) -> Result<(), Halt> {
        let number = self.number;
        let attempt = self.get(|engine| engine.begin_attempt(number))?;
        let mut wire = Wire::connect(&attempt).map_err(|error| {
            Halt::Failed(format!("Error condition on socket for SYNC: {}", error_text(&error)))
        })?;
        tracing::info!("Non blocking connect for SYNC fired the event.");
        self.ask(|engine| engine.enter_stage(number, Stage::Talking))?;
        let (mut handshake, first) = Handshake::begin(attempt.introduction.clone());
        wire.send(&first)?;
        let next = loop {
            let line =
                self.line(&mut wire, || Halt::Failed("Timeout connecting to the MASTER...".to_owned()))?;
            match handshake.hear(&line) {
                Next::Send(bytes) => wire.send(&bytes)?,
                Next::Listen => {}
                next => break next,
            }
        };
        let mut applying = match next {
            Next::GoOn(name) => {
                let origin = wire.origin.clone();
                self.get(|engine| engine.resume_stream(number, name, origin.clone()))?
            }
            Next::Full(name, offset) => self.take_data(&mut wire, name, offset)?,
            Next::Later(reason) => return Err(Halt::Failed(reason)),
            Next::Send(_) | Next::Listen => return Err(Halt::Lost),
        };
        self.was_up = true;
        self.follow(&mut wire, &mut applying)
    }

    /// The next line, while the link is wanted.
    fn line(&self, wire: &mut Wire, late: impl Fn() -> Halt) -> Result<Vec<u8>, Halt> {
        loop {
            if let Some(line) = wire.take_line()? {
                return Ok(line);
            }
            if !wire.fill(READ_LEN)? {
                if !self.is_wanted() {
                    return Err(Halt::Unwanted);
                }
                if wire.is_silent() {
                    return Err(late());
                }
            }
        }
    }

    /// Takes all data to a file, and loads it.
    fn take_data(&self, wire: &mut Wire, name: StreamName, offset: u64) -> Result<Applying, Halt> {
        let number = self.number;
        self.ask(|engine| engine.begin_transfer(number))?;
        let late = || {
            Halt::Failed(
                "Timeout receiving bulk data from MASTER... If the problem persists try to set the 'repl-timeout' parameter \
                 in redis.conf to a larger value."
                    .to_owned(),
            )
        };
        let framing = loop {
            let line = self.line(wire, late)?;
            if line.first() == Some(&b'-') {
                let said = String::from_utf8_lossy(&line).into_owned();
                return Err(Halt::Failed(format!("MASTER aborted replication with an error: {said}")));
            }
            if line.is_empty() {
                // It is still at it.
                self.ask(|engine| engine.note_transfer(number, None, 0))?;
                continue;
            }
            break Framing::parse(&line).ok_or_else(|| {
                Halt::Failed(format!(
                    "Bad protocol from MASTER, the first byte is not '$' (we received '{}'), are you sure the host and port \
                     are right?",
                    line.escape_ascii()
                ))
            })?;
        };
        let total = match framing {
            Framing::Len(len) => {
                tracing::info!("MASTER <-> REPLICA sync: receiving {len} bytes from master to disk");
                Some(len)
            }
            Framing::Mark(_) => {
                tracing::info!(
                    "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to disk"
                );
                None
            }
        };
        let (disk, target, pending) = self.get(|engine| Some(place(engine)))?;
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
                let came = wire.fill(unframed.room(READ_LEN))?;
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
        file.flush().map_err(failed)?;
        file.place().map_err(|(step, error)| {
            Halt::Failed(format!(
                "Failed trying to put the MASTER synchronization DB in its place ({step}): {}",
                error_text(&error)
            ))
        })?;
        self.ask(|engine| engine.make_way(number))?;
        let alive = Alive { lender: self.lender, wire: Mutex::new((wire.twin()?, Instant::now())) };
        let about = match load_snapshot(&alive, false) {
            Ok((Ended::Loaded, about)) => about,
            Ok((Ended::Stopped, _)) => return Err(Halt::Unwanted),
            Err(fatal) => {
                return Err(Halt::Failed(format!(
                    "Failed trying to load the MASTER synchronization DB from disk, check server logs. {}",
                    fatal.reason
                )));
            }
        };
        let db = about.map_or(0, |about| about.db);
        let origin = wire.origin.clone();
        self.get(|engine| engine.begin_stream(number, (name, offset, db), origin.clone()))
    }

    /// Reads the stream, applies it, and says how far it is.
    fn follow(&self, wire: &mut Wire, applying: &mut Applying) -> Result<(), Halt> {
        let number = self.number;
        let mut acked: Option<Instant> = None;
        loop {
            if applying.is_closing() {
                return Err(Halt::Lost);
            }
            if !wire.has_nothing() {
                applying.hear(wire.take(usize::MAX));
                let applied = applying.apply(number, |what| self.lender.lend(what));
                match applied {
                    Ok(true) => {}
                    Ok(false) if applying.is_closing() => return Err(Halt::Lost),
                    Ok(false) => return Err(Halt::Unwanted),
                    Err(rubbish) => {
                        return Err(Halt::Broken(format!(
                            "Protocol error from master: {}",
                            rubbish.0.escape_debug()
                        )));
                    }
                }
            }
            let ahead = applying.ahead();
            let mut due = acked.is_none_or(|at| at.elapsed() >= ACK);
            let heard = wire.was_heard;
            let mut told = None;
            let runs = self.lender.lend(&mut |engine| {
                if heard && !engine.hear_primary(number, ahead) {
                    return;
                }
                told = engine.acknowledgement(number);
            });
            wire.was_heard = false;
            let Some((offset, wanted)) = told.filter(|_| runs) else { return Err(Halt::Unwanted) };
            due |= wanted;
            if due {
                acked = Some(Instant::now());
                let offset = offset.to_string();
                let words = [&b"REPLCONF"[..], b"ACK", offset.as_bytes()];
                wire.send(&mortise_sdk::resp::encode::request(words.into_iter()))?;
            }
            if !wire.fill(READ_LEN)? && wire.is_silent() {
                return Err(Halt::Failed("MASTER timeout: no data nor PING received...".to_owned()));
            }
        }
    }
}

/// Where the data of a full synchronisation goes.
fn place(engine: &Engine) -> (Arc<dyn Disk>, Target, Pending) {
    let mut target = Persistence::target(&engine.config, engine.process.pid, None);
    let name = format!("temp-{}.{}.rdb", engine.now_ms / 1000, engine.process.pid);
    target.temporary = target.path.with_file_name(name);
    (engine.persistence.disk.clone(), target, engine.persistence.pending.clone())
}

/// Lends the engine while data is loaded, and tells the primary now and then that this server is still there.
struct Alive<'a> {
    lender: &'a dyn Lender,
    wire: Mutex<(TcpStream, Instant)>,
}

impl Lender for Alive<'_> {
    fn lend(&self, what: &mut dyn FnMut(&mut Engine)) -> bool {
        let mut wire = self.wire.lock();
        if wire.1.elapsed() >= ACK {
            wire.1 = Instant::now();
            // If it is gone, that will be seen when the data is there.
            let _ = wire.0.write_all(b"\n");
        }
        drop(wire);
        self.lender.lend(what)
    }
}

/// A connection that is read with patience.
struct Wire {
    socket: TcpStream,
    input: Vec<u8>,
    /// How much of the input has been taken.
    at: usize,
    timeout: Duration,
    heard: Instant,
    /// Whether anything has come since that was last asked.
    was_heard: bool,
    origin: Origin,
}

impl Wire {
    fn connect(attempt: &Attempt) -> io::Result<Wire> {
        let mut failed = io::Error::new(ErrorKind::NotFound, "Name or service not known");
        for address in (&*attempt.host, attempt.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, attempt.timeout) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    socket.set_read_timeout(Some(LOOK))?;
                    socket.set_write_timeout(Some(attempt.timeout))?;
                    let origin = Origin {
                        address: address.to_string(),
                        local_address: socket.local_addr()?.to_string(),
                        fd: socket.as_raw_fd(),
                        is_local: true,
                        ..Origin::default()
                    };
                    return Ok(Wire {
                        socket,
                        input: Vec::new(),
                        at: 0,
                        timeout: attempt.timeout,
                        heard: Instant::now(),
                        was_heard: false,
                        origin,
                    });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn twin(&self) -> io::Result<TcpStream> {
        self.socket.try_clone()
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Whether the primary has said nothing for too long.
    fn is_silent(&self) -> bool {
        self.heard.elapsed() > self.timeout
    }

    /// Whether everything that was read has been taken.
    fn has_nothing(&self) -> bool {
        self.at == self.input.len()
    }

    /// Waits a moment for more; false if nothing has come.
    fn fill(&mut self, len_max: usize) -> io::Result<bool> {
        if self.has_nothing() {
            self.input.clear();
            self.at = 0;
        }
        let start = self.input.len();
        self.input.resize(start + len_max.clamp(1, READ_LEN), 0);
        let read = self.socket.read(&mut self.input[start..]);
        self.input.truncate(start + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                (self.heard, self.was_heard) = (Instant::now(), true);
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes what was read, up to so many bytes.
    fn take(&mut self, len_max: usize) -> &[u8] {
        let start = self.at;
        self.at += len_max.min(self.input.len() - start);
        &self.input[start..self.at]
    }

    /// Takes a line, without its end, if one is complete.
    fn take_line(&mut self) -> Result<Option<Vec<u8>>, Halt> {
        let rest = &self.input[self.at..];
        let Some(len) = memchr::memchr(b'\n', rest) else {
            return match rest.len() > LINE_LEN_MAX {
                true => Err(Halt::Failed("Bad protocol from MASTER: a line without an end".to_owned())),
                false => Ok(None),
            };
        };
        let line = &rest[..len];
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        self.at += len + 1;
        Ok(Some(line))
    }
}
