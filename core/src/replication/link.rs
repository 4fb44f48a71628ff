//! The link to the primary, on a thread of its own: connecting, talking, reading the stream.

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use mortise_sdk::resp::encode;

use super::durable::Acknowledgement;
use super::handshake::{Handshake, Next};
use super::replica::{Applying, Stage};
use super::wire::{LOOK, READ_LEN, Wire};
use crate::engine::Engine;
use crate::persistence::cut::Lender;
use crate::server::error_text;

/// How soon after a failed attempt the next one begins, and how much later after many.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_millis(1500);
/// How often the primary is told how far this server is.
pub(super) const ACK: Duration = Duration::from_secs(1);
/// How soon again if more of the stream is durable.
const NEWS: Duration = Duration::from_millis(10);

/// Why an attempt has ended.
pub(super) enum Halt {
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

impl Halt {
    /// Before the stream flows, a connection that is gone is something that the log is told.
    pub(super) fn or_lost(self, what: &str) -> Halt {
        match self {
            Halt::Lost => Halt::Failed(what.to_owned()),
            halt => halt,
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

fn acknowledgement(ack: Acknowledgement) -> Vec<u8> {
    let offset = ack.offset.to_string();
    let durable = ack.durable.map(|durable| durable.to_string());
    let mut words = vec![&b"REPLCONF"[..], b"ACK", offset.as_bytes()];
    if let Some(durable) = &durable {
        words.extend([&b"FACK"[..], durable.as_bytes()]);
    }
    encode::request(words.into_iter())
}

pub(super) struct Link<'a> {
    pub(super) lender: &'a dyn Lender,
    pub(super) number: u64,
    was_up: bool,
}

impl Link<'_> {
    /// Does something with the engine, which says whether the link is still wanted.
    pub(super) fn ask(&self, mut what: impl FnMut(&mut Engine) -> bool) -> Result<(), Halt> {
        let mut is_wanted = false;
        let runs = self.lender.lend(&mut |engine| is_wanted = what(engine));
        if runs && is_wanted { Ok(()) } else { Err(Halt::Unwanted) }
    }

    /// Gets something of the engine, if the link is still wanted.
    pub(super) fn get<T>(&self, mut what: impl FnMut(&mut Engine) -> Option<T>) -> Result<T, Halt> {
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
            let late = || Halt::Failed("Timeout connecting to the MASTER...".to_owned());
            let gone = match handshake.has_asked() {
                true => "Master did not reply to PSYNC, will try later",
                false => "Master did not respond to command during SYNC handshake",
            };
            let line = self.line(&mut wire, late).map_err(|halt| halt.or_lost(gone))?;
            match handshake.hear(&line) {
                Next::Send(bytes) => wire.send(&bytes).map_err(|error| Halt::from(error).or_lost(gone))?,
                Next::Listen => {}
                next => break next,
            }
        };
        if attempt.introduction.fails_over && handshake.has_asked() {
            let agrees = matches!(next, Next::GoOn(_) | Next::Full(..));
            self.ask(|engine| engine.note_failover(number, agrees))?;
        }
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
    pub(super) fn line(&self, wire: &mut Wire, late: impl Fn() -> Halt) -> Result<Vec<u8>, Halt> {
        loop {
            match wire.take_line() {
                Ok(Some(line)) => return Ok(line),
                Ok(None) => {}
                Err(_) => {
                    return Err(Halt::Failed("Bad protocol from MASTER: a line without an end".to_owned()));
                }
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

    /// Reads the stream, applies it, and says how far it is.
    fn follow(&self, wire: &mut Wire, applying: &mut Applying) -> Result<(), Halt> {
        let number = self.number;
        wire.end_with(applying.outbox())?;
        let mut acked: Option<Instant> = None;
        let mut said_durable = None;
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
            let came = std::mem::take(&mut wire.came);
            let mut told = None;
            let runs = self.lender.lend(&mut |engine| {
                if came > 0 && !engine.hear_primary(number, came, ahead) {
                    return;
                }
                told = engine.acknowledgement(number);
            });
            let Some(ack) = told.filter(|_| runs) else { return Err(Halt::Unwanted) };
            // Somebody may wait for what has become durable.
            let is_news = ack.durable > said_durable;
            due |= ack.is_wanted || is_news && acked.is_none_or(|at| at.elapsed() >= NEWS);
            if due {
                (acked, said_durable) = (Some(Instant::now()), ack.durable);
                wire.send(&acknowledgement(ack))?;
            }
            if !wire.fill(READ_LEN)? && wire.is_silent() {
                return Err(Halt::Failed("MASTER timeout: no data nor PING received...".to_owned()));
            }
        }
    }
}
