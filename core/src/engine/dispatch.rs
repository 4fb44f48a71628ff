//! The life of a request, top to bottom.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mortise_sdk::declare::flags::NOT_QUEUED;
use mortise_sdk::error::{self, Error};

use super::args::Args;
use super::batch::Batch;
use super::blocked::{OnTimeout, Wait};
use super::call::{Call, Run};
use super::crossing;
use super::event::Suspend;
use super::gates::{Admission, is_exec};
use super::registry::{CommandRef, Lookup, Registry};
use super::session::{Queued, Replies, Session, queued_memory};
use super::unit::Targets;
use super::unknown::unknown;
use super::{Caller, Engine};
use crate::keyspace::shrink::empty;
use crate::resp::output::Output;

/// Room that is kept for messages to the client whose command runs.
const PUSHES_KEEP_MAX: usize = 1 << 16;

/// For how long requests of one client run without others getting their turn, if they are more than one.
const TURN_NS: u64 = 1_000_000;

/// What is asked of the engine: a command with its arguments.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The command.
    pub command: &'a CommandRef,
    /// Its arguments.
    pub args: Args<'a>,
    pub(super) hash: u64,
    pub(super) hashed: usize,
    /// The way out half way, where there is one.
    pub suspend: Option<&'a dyn Suspend>,
}

impl<'a> Asked<'a> {
    /// A command whose key has not been hashed.
    pub fn new(command: &'a CommandRef, args: Args<'a>) -> Asked<'a> {
        Asked { command, args, hash: 0, hashed: usize::MAX, suspend: None }
    }
}

/// A request, whatever it names.
struct Said<'a> {
    args: Args<'a>,
    hash: u64,
    hashed: usize,
    suspend: Option<&'a dyn Suspend>,
}

/// Why a batch ended.
pub enum Stop {
    /// Every request was executed.
    Done,
    /// The last one executed is not over; the session goes to the engine with it.
    Waits(Box<Wait>),
    /// The connection is to be closed.
    Closes,
    /// The commands have changed: the rest has to be looked up again.
    Stale,
    /// The requests so far have taken long: others get their turn before the rest.
    Enough,
}

impl Engine {
    /// Runs those requests of a batch that are the session's, one after another; says how many were executed, and why no
    /// more.
    pub fn run(
        &mut self,
        session: &mut Session,
        registry: &Arc<Registry>,
        (batch, range): (&Batch, Range<usize>),
        buffer: &[u8],
        out: &mut Output,
        suspend: Option<&dyn Suspend>,
    ) -> (usize, Stop) {
        if let Some(stop) = self.enter(session, registry, out) {
            // What looks stale is looked up again; of the rest nothing is left to do.
            let over = if matches!(stop, Stop::Stale) { 0 } else { range.len() };
            return (over, stop);
        }
        let start = out.mark() - session.unsent;
        session.replies_start = start;
        let (mut executed, mut stop) = (0, Stop::Done);
        let (begin_ns, count) = (self.lap_ns, range.len());
        for request in &batch.requests[range] {
            if let Some(suspend) = suspend {
                suspend.begins(executed, out.mark(), self.now_ms);
            }
            executed += 1;
            let lookup = &batch.lookups[request.lookup];
            let args = Args::new(buffer, &batch.spans[request.first_span..request.last_span]);
            if matches!(lookup, Lookup::Unknown) && crossing::closes(session, args) {
                self.log_crossing();
                // Nothing is answered, not even what was asked just before.
                out.rollback(start);
                stop = Stop::Closes;
                break;
            }
            let said = Said { args, hash: request.hash, hashed: request.hashed, suspend };
            if let Some(wait) = self.answer(session, registry, lookup, said, out) {
                stop = Stop::Waits(wait);
                break;
            }
            if session.closing {
                stop = Stop::Closes;
                break;
            }
            let unsent = (out.mark() - start) as u64;
            if unsent > self.output_limits_min && self.is_flooded(session, unsent) {
                // Nobody would read it: not even its beginning is sent.
                out.rollback(start);
                stop = Stop::Closes;
                break;
            }
            if !Arc::ptr_eq(registry, &self.registry) {
                stop = Stop::Stale;
                break;
            }
            if self.lap_ns.saturating_sub(begin_ns) > TURN_NS && executed < count {
                stop = Stop::Enough;
                break;
            }
        }
        if self.limit_clients(session.id) {
            // It is gone for everybody else already.
            session.closing = true;
            stop = Stop::Closes;
        }
        self.current = None;
        if self.unpaused {
            self.resume_paused();
        }
        self.serve_acks();
        (executed, stop)
    }

    /// Begins a batch; says why not if it cannot.
    #[inline(always)]
    fn enter(&mut self, session: &mut Session, registry: &Arc<Registry>, out: &mut Output) -> Option<Stop> {
        if session.outbox.is_closing() {
            // It was killed while it waited for its turn.
            return Some(Stop::Closes);
        }
        if !Arc::ptr_eq(registry, &self.registry) {
            // Looked up before the commands changed.
            return Some(Stop::Stale);
        }
        if self.current.is_some() {
            // The batch before this one did not come to its end: a command has panicked.
            self.abandon();
        }
        self.refresh_clock();
        session.outbox.active_ms.store(self.now_ms as u64, Relaxed);
        self.current = Some(session.id);
        out.set_version(session.version);
        if session.owes.anything
            && let Err(error) = self.catch_up(session)
        {
            out.error(&error);
            return Some(Stop::Closes);
        }
        None
    }

    /// Obeys one request or refuses it, and lets everybody hear of what it changed.
    #[inline(always)]
    fn answer(
        &mut self,
        session: &mut Session,
        registry: &Arc<Registry>,
        lookup: &Lookup,
        said: Said<'_>,
        out: &mut Output,
    ) -> Option<Box<Wait>> {
        let (mark, replies) = (out.mark(), session.replies);
        let waits = match lookup {
            Lookup::Found(command) => {
                session.outbox.last_command.store(command.index as u32 + 1, Relaxed);
                let Said { args, hash, hashed, suspend } = said;
                self.obey(session, registry, Asked { command, args, hash, hashed, suspend }, out)
            }
            lookup => {
                session.outbox.last_command.store(0, Relaxed);
                self.refuse(session, &unknown(lookup, said.args), out)
            }
        };
        self.settle();
        self.advance_time();
        session.stream_offset = self.replication.offset;
        session.journal_place = self.journal.place();
        if (replies, session.replies) != (Replies::On, Replies::On) && waits.is_none() {
            self.suppress(session, replies, (lookup, out, mark));
        }
        if !self.pushes.is_empty() || !self.pushes_behind.is_empty() {
            self.place_pushes(session, lookup, out, mark);
        }
        waits
    }

    /// CLIENT REPLY, and what a replica must not cause.
    #[cold]
    fn suppress(
        &mut self,
        session: &mut Session,
        before: Replies,
        (lookup, out, mark): (&Lookup, &mut Output, usize),
    ) {
        if before == Replies::Replica && out.mark() > mark {
            let command = match lookup {
                Lookup::Found(command) => &*command.name,
                _ => "?",
            };
            let (line, said) = (
                crate::session::line_of(self, session.id, Args::new(&[], &[])),
                String::from_utf8_lossy(&out.bytes()[mark..]).trim_end().to_owned(),
            );
            if let Some(error) = said.strip_prefix('-') {
                tracing::warn!(
                    "== CRITICAL == This master is sending an error to its replica: '{error}' after processing the command \
                     '{command}'"
                );
                self.replication.counts.errors += 1;
            }
            tracing::warn!("Replica generated a reply to command '{command}', disconnecting it: {line}");
        }
        suppress(session, before, out, mark);
    }

    /// Messages to the client itself stand in front of the reply of the command that caused them. Those of a transaction
    /// stand behind it: its reply has begun before, and may hold the confirmation of the subscription that they follow.
    #[cold]
    fn place_pushes(&mut self, session: &mut Session, lookup: &Lookup, out: &mut Output, mark: usize) {
        if session.replies == Replies::Replica {
            // They would stand in the stream.
            disconnect_replica(session);
            empty(&mut self.pushes, PUSHES_KEEP_MAX);
            empty(&mut self.pushes_behind, PUSHES_KEEP_MAX);
            return;
        }
        match lookup {
            Lookup::Found(command) if is_exec(command) => out.raw(&self.pushes),
            _ => out.insert(mark, &self.pushes),
        }
        empty(&mut self.pushes, PUSHES_KEEP_MAX);
        out.raw(&self.pushes_behind);
        empty(&mut self.pushes_behind, PUSHES_KEEP_MAX);
    }

    /// Asks the gates, then executes, queues, or lets wait.
    #[inline(always)]
    fn obey(
        &mut self,
        session: &mut Session,
        registry: &Arc<Registry>,
        asked: Asked<'_>,
        out: &mut Output,
    ) -> Option<Box<Wait>> {
        if self.config.keyspace.maxmemory.0 > 0 {
            self.make_room();
        } else {
            self.out_of_memory = false;
        }
        if self.tracking.is_over() {
            self.forget_some_tracked();
        }
        if !session.follow(&self.users) {
            session.closing = true;
            return None;
        }
        match self.admit(session, asked.command, asked.args) {
            Admission::Run => self.execute(session, registry, asked, out, Caller::Client),
            Admission::Queue => {
                self.queue(session, asked, out);
                None
            }
            Admission::Pause => Some(self.pause(session, registry, asked)),
            Admission::Refuse(error) => self.turn_away(session, asked, error, out),
            Admission::Forbid(refusal) => {
                let error = self.forbid(session, refusal, asked.command, asked.args);
                self.turn_away(session, asked, error, out)
            }
        }
    }

    /// Obeys a request of the primary's stream: no gate is asked, and nobody waits.
    pub(crate) fn obey_as_primary(
        &mut self,
        session: &mut Session,
        registry: &Arc<Registry>,
        asked: Asked<'_>,
        out: &mut Output,
    ) {
        let command = asked.command;
        if !command.facts.accepts(asked.args.len()) {
            out.error(&Error::wrong_arity(&command.name));
        } else if session.transaction.is_some() && !command.flags.has(NOT_QUEUED) {
            self.queue(session, asked, out);
        } else {
            // Nobody waits, as for a stream.
            let _ = self.execute(session, registry, asked, out, Caller::Primary);
        }
        // A primary is answered nothing, and hears no messages: whoever asks next is not to be told what was for it.
        empty(&mut self.pushes, PUSHES_KEEP_MAX);
        empty(&mut self.pushes_behind, PUSHES_KEEP_MAX);
    }

    #[cold]
    fn turn_away(
        &mut self,
        session: &mut Session,
        asked: Asked<'_>,
        error: Error,
        out: &mut Output,
    ) -> Option<Box<Wait>> {
        self.stats.refused(asked.command.index);
        let error = if is_exec(asked.command) { self.abort_transaction(session, &error) } else { error };
        self.refuse(session, &error, out)
    }

    #[cold]
    fn refuse(&mut self, session: &mut Session, error: &Error, out: &mut Output) -> Option<Box<Wait>> {
        if let Some(transaction) = &mut session.transaction {
            transaction.broken = true;
        }
        self.stats.error(error);
        out.error(error);
        if session.transaction.is_none() {
            session.reads.excepted = false;
        }
        None
    }

    /// EXEC itself was refused: the transaction is given up.
    #[cold]
    fn abort_transaction(&mut self, session: &mut Session, reason: &Error) -> Error {
        let error = abort_transaction(session, reason);
        // The session is known to the engine, so there is room for it.
        let _ = self.catch_up(session);
        error
    }

    fn queue(&mut self, session: &mut Session, asked: Asked<'_>, out: &mut Output) {
        let Some(transaction) = &mut session.transaction else { return };
        transaction.queue.push(Queued { command: asked.command.clone(), args: asked.args.to_owned() });
        let queued = transaction.queue.len();
        if let Some(client) = self.clients.get_mut(session.id) {
            client.queued = Some(queued);
            client.queued_len += queued_memory(asked.args);
        }
        out.simple("QUEUED");
    }

    #[cold]
    fn pause(&mut self, session: &Session, registry: &Arc<Registry>, asked: Asked<'_>) -> Box<Wait> {
        let command = Some((asked.command.clone(), registry.clone()));
        let wait = Wait::new(session, asked.args.to_owned(), OnTimeout::Null);
        Box::new(Wait { command, paused: true, ..wait })
    }

    /// Runs a command's function, answers its error, propagates what it changed, and counts it. Does not settle: who
    /// began the unit does.
    #[inline(always)]
    pub(crate) fn execute(
        &mut self,
        session: &mut Session,
        registry: &Arc<Registry>,
        asked: Asked<'_>,
        out: &mut Output,
        caller: Caller,
    ) -> Option<Box<Wait>> {
        let Asked { command, args, hash, hashed, suspend } = asked;
        let (space, db) = (session.space, session.db);
        let begin_ns = self.lap_ns;
        let dirty = self.unit.dirty;
        let mark = out.mark();
        let mut call = Call {
            engine: self,
            session,
            registry,
            command,
            args,
            out,
            caller,
            hash,
            hashed,
            suspend,
            rewritten: false,
            failed: false,
            wait: None,
        };
        let result = if call.engine.keyspace.may_abort() && call.changes_irrevocably() {
            Err(error::IRREVOCABLE)
        } else {
            match &command.run {
                Run::Core(run) => run(&mut call),
                Run::Alone(run) => call.alone(*run),
                Run::Module(run) => run(&mut call),
            }
        };
        let (rewritten, failed, wait) = (call.rewritten, call.failed, call.wait.take());
        if let Err(error) = &result {
            out.rollback(mark);
            out.error(error);
            self.stats.error(error);
        }
        if self.unit.streaming && self.unit.dirty != dirty && !rewritten {
            self.unit.say(space, db, args);
        }
        if self.unit.dirty != dirty && self.replication.is_replica() && !caller.is_stream() {
            self.remember_own_keys(session, command, args);
        }
        if !self.monitors.is_empty() {
            self.show(session, command, args, caller);
        }
        if session.reads.tracked {
            self.note_reads(session, command, args, caller);
        }
        // From its own beginning: the commands that it has executed have had laps of their own.
        let ns = self.lap().saturating_sub(begin_ns);
        if let Some(mut wait) = wait {
            // Counted when it is over.
            wait.command = Some((command.clone(), registry.clone()));
            return Some(wait);
        }
        if caller == Caller::Journal && self.loading {
            // It was counted, and was slow, when it was said for the first time.
            return None;
        }
        self.stats.executed(command.index, ns, failed || result.is_err());
        let reply_len = out.mark() - mark;
        if ns >= self.slow_ns || self.large.may_note(args, reply_len) {
            self.note_call(session, command, args, (ns, reply_len));
        }
        None
    }
}

/// EXEC itself was refused: the session gives its transaction up. Says what EXEC answers.
#[cold]
pub(super) fn abort_transaction(session: &mut Session, reason: &Error) -> Error {
    session.transaction = None;
    session.unwatch();
    let reason = reason.as_bytes();
    let reason = reason.strip_prefix(b"ERR ").unwrap_or(reason);
    Error::quoting("EXECABORT Transaction discarded because of: {}", &[reason])
}

/// A replica has caused something to be said to it that is not the stream: not even a message of others is sent from here on.
fn disconnect_replica(session: &mut Session) {
    session.closing = true;
    session.outbox.close();
}

/// CLIENT REPLY: takes back what was written if no reply was wanted before the command nor is after it, and passes on to
/// the next state.
#[cold]
pub(super) fn suppress(session: &mut Session, before: Replies, out: &mut Output, mark: usize) {
    if before == Replies::Replica {
        if out.mark() > mark {
            disconnect_replica(session);
        }
        out.rollback(mark);
        session.replies = Replies::Replica;
        return;
    }
    if matches!(before, Replies::Off | Replies::Skip) && session.replies != Replies::On {
        out.rollback(mark);
    }
    session.replies = match session.replies {
        Replies::SkipNext => Replies::Skip,
        Replies::Skip => Replies::On,
        other => other,
    };
}

impl Engine {
    /// After a call was ended half way, or has panicked: what it had done by then is settled, and the engine is free for
    /// the next batch.
    #[cold]
    pub(crate) fn abandon(&mut self) {
        if let Some(client) = self.current.take().and_then(|id| self.clients.get_mut(id)) {
            // If it was an EXEC, it has given its transaction up.
            (client.queued, client.queued_len) = (None, 0);
        }
        self.retried = None;
        empty(&mut self.pushes, PUSHES_KEEP_MAX);
        empty(&mut self.pushes_behind, PUSHES_KEEP_MAX);
        empty(&mut self.retried_pushes, PUSHES_KEEP_MAX);
        self.unit.invoked = 0;
        // What a script had chosen with `redis.set_repl` ends with it, also if it is unwound.
        self.unit.targets = Targets::default();
        self.settle();
    }
}
