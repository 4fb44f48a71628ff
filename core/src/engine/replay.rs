//! Requests that come from no connection: a stream that is replayed, a shadow, a test.

use std::sync::Arc;

use mortise_sdk::declare::flags;

use super::args::{Args, OwnedArgs};
use super::batch::Batch;
use super::client::Origin;
use super::dispatch::Asked;
use super::outbox::Outbox;
use super::registry::{CommandRef, Lookup, Registry};
use super::session::{Queued, Session};
use super::settle::StreamUnit;
use super::{Caller, Engine};
use crate::resp::output::Output;

/// Replays streams into an engine.
pub struct Replay {
    session: Session,
    out: Output,
    /// What stands between MULTI and the EXEC that has not come yet, each with its database.
    transaction: Option<Vec<(u32, Queued)>>,
    /// Up to which byte of its file everything that was read has been executed.
    settled: u64,
}

/// Why a stream cannot be replayed any further.
#[derive(Debug, PartialEq, Eq)]
pub enum Unplayable {
    /// There is no command of this name.
    Unknown(Vec<u8>),
    /// The command takes another number of arguments.
    Arity(String),
    /// There is no such database.
    Database,
}

impl Default for Replay {
    fn default() -> Replay {
        Replay::new()
    }
}

impl Replay {
    /// A replay that begins.
    pub fn new() -> Replay {
        let session = Session::new(0, Arc::new(Outbox::new()), &mortise_acl::Users::default());
        Replay { session, out: Output::default(), transaction: None, settled: 0 }
    }

    /// Executes a unit of a stream. An error names the command that failed; a stream that was written by an engine has
    /// none.
    pub fn unit(&mut self, engine: &mut Engine, unit: &StreamUnit) -> Result<(), String> {
        engine.refresh_clock();
        for said in unit.iter() {
            self.session.space = said.space;
            self.session.db = said.db;
            self.command(engine, &said.args())?;
        }
        engine.settle();
        Ok(())
    }

    fn command(&mut self, engine: &mut Engine, args: &OwnedArgs) -> Result<(), String> {
        let registry = engine.registry.clone();
        let mut out = Output::default();
        let failed = match registry.find(args.view()) {
            Lookup::Found(command) => {
                engine.execute(
                    &mut self.session,
                    &registry,
                    Asked::new(&command, args.view()),
                    &mut out,
                    Caller::Journal,
                );
                out.bytes().first() == Some(&b'-')
            }
            _ => true,
        };
        if failed {
            let words: Vec<_> = args.view().iter().map(String::from_utf8_lossy).collect();
            return Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(out.bytes()).trim_end()));
        }
        Ok(())
    }
}

/// What a file holds: requests as clients sent them, with MULTI and EXEC around what is one unit.
impl Replay {
    /// A file begins at this byte: in database 0, outside of transactions.
    pub fn begin_file(&mut self, at: u64) {
        self.session.db = 0;
        self.transaction = None;
        self.settled = at;
    }

    /// For whom requests are looked up.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Up to which byte of the file everything has been executed: what follows is the beginning of a unit.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Whether EXEC is still to come.
    pub fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Executes the requests of a batch, whose buffer begins at a byte of the file. What fails is said in the log: to
    /// whoever wrote the file it did not fail, or what it left undone is what the file is to say.
    pub fn play(
        &mut self,
        engine: &mut Engine,
        registry: &Arc<Registry>,
        batch: &Batch,
        buffer: &[u8],
        at: u64,
    ) -> Result<(), Unplayable> {
        engine.refresh_clock();
        engine.prefetch(batch, buffer);
        for index in 0..batch.len() {
            let (lookup, args) = batch.request(buffer, index);
            let original;
            let command = match lookup {
                Lookup::Found(command) => command,
                Lookup::Unknown => {
                    original = registry.by_original_name(args.at(0)).cloned();
                    original.as_ref().ok_or_else(|| Unplayable::Unknown(args.at(0).to_vec()))?
                }
                Lookup::UnknownSubcommand(_) => return Err(Unplayable::Unknown(args.at(0).to_vec())),
            };
            if !command.facts.accepts(args.len()) {
                return Err(Unplayable::Arity(command.name.clone()));
            }
            if command.flags.any(flags::WRITE | flags::MAY_REPLICATE) {
                match &mut self.transaction {
                    Some(queue) => {
                        let queued = Queued { command: command.clone(), args: args.to_owned() };
                        queue.push((self.session.db, queued));
                    }
                    None => {
                        self.execute(engine, registry, batch.asked(buffer, index, command));
                        settle(engine);
                    }
                }
            } else {
                self.play_aside(engine, registry, command, args)?;
            }
            if self.transaction.is_none() {
                self.settled = at + batch.end_of(index) as u64;
            }
        }
        Ok(())
    }

    /// What says where and when the others are executed. Reads are passed over: nobody hears the answer.
    fn play_aside(
        &mut self,
        engine: &mut Engine,
        registry: &Arc<Registry>,
        command: &CommandRef,
        args: Args<'_>,
    ) -> Result<(), Unplayable> {
        match command.facts.name.as_str() {
            "select" => {
                let index = mortise_sdk::args::parse_integer(args.at(1)).and_then(|n| u32::try_from(n).ok());
                let is_there = |index: &u32| *index < engine.config.keyspace.databases;
                self.session.db = index.filter(is_there).ok_or(Unplayable::Database)?;
            }
            "multi" if self.transaction.is_none() => self.transaction = Some(Vec::new()),
            "multi" => self.complain(command, b"-ERR MULTI calls can not be nested"),
            "exec" => match self.transaction.take() {
                None => self.complain(command, b"-ERR EXEC without MULTI"),
                Some(queue) => {
                    let chosen = self.session.db;
                    for (db, queued) in &queue {
                        self.session.db = *db;
                        self.execute(engine, registry, Asked::new(&queued.command, queued.args.view()));
                    }
                    self.session.db = chosen;
                    settle(engine);
                }
            },
            // Before Redis 5 scripts were written down instead of what they did.
            "script|load" | "script|flush" => self.execute(engine, registry, Asked::new(command, args)),
            _ => {}
        }
        Ok(())
    }

    #[inline]
    fn execute(&mut self, engine: &mut Engine, registry: &Arc<Registry>, asked: Asked<'_>) {
        // A call that would wait has nobody to wait for it.
        engine.execute(&mut self.session, registry, asked, &mut self.out, Caller::Journal);
        if self.out.bytes().first() == Some(&b'-') {
            self.complain(asked.command, self.out.bytes());
        }
        self.out.clear();
    }

    #[cold]
    fn complain(&self, command: &CommandRef, error: &[u8]) {
        let error = String::from_utf8_lossy(error.trim_ascii_end());
        let name = &command.name;
        tracing::warn!(
            "== CRITICAL == This server is sending an error to its AOF-loading-client: '{error}' after processing the command '{name}'"
        );
    }
}

/// A unit of a file is over. Calls that wait are not served before all of it has been played: what they would take is
/// still to be changed by what comes next.
#[inline]
fn settle(engine: &mut Engine) {
    if !engine.unit.is_quiet() {
        engine.settle_unit();
    }
}

impl Engine {
    /// A session for requests that come from no connection. It counts as a client.
    pub fn local_session(&mut self) -> Option<Box<Session>> {
        let origin = Origin { is_local: true, ..Origin::default() };
        self.connect(Arc::new(Outbox::new()), origin)
    }

    /// Executes one request on the road of every other, and returns the encoded reply; empty while the call waits.
    pub fn request(&mut self, mut session: Box<Session>, words: &[&[u8]]) -> (Option<Box<Session>>, Vec<u8>) {
        let (mut buffer, mut batch) = (Vec::new(), Batch::default());
        for word in words {
            let start = buffer.len() as u32;
            buffer.extend_from_slice(word);
            batch.spans.push((start, buffer.len() as u32));
        }
        let registry = self.registry.clone();
        batch.add(&registry, &session, &buffer, 0, buffer.len());
        let mut out = Output::new(session.version);
        match self.run(&mut session, &registry, (&batch, 0..1), &buffer, &mut out, None).1 {
            super::dispatch::Stop::Waits(wait) => {
                self.park(session, wait);
                (None, out.take())
            }
            _ => (Some(session), out.take()),
        }
    }
}
