//! Calls that a worker goes on with, as they take longer than others should have to wait: hashing passwords, files.
//!
//! The connection's session goes along with the work, and comes back with the reply. Meanwhile the connection executes
//! nothing, and nobody else waits.

use std::sync::Arc;

use mortise_sdk::Result;
use mortise_sdk::declare::flags::NO_AUTH;

use super::Engine;
use super::alone::Answered;
use super::outbox::Outbox;
use super::registry::CommandRef;
use super::session::{Replies, Session};
use crate::resp::output::Output;

/// What a worker does, knowing nothing of the engine.
pub type Work = Box<dyn FnOnce() -> Finish + Send>;

/// How the call ends when the work is done. An error is the reply.
pub enum Finish {
    /// With the session alone, also while a run holds the engine.
    Alone(EndAlone),
    /// With the engine; the work may have to be done once more.
    Engine(EndWithEngine),
}

/// Ends a call with its session alone.
pub type EndAlone = Box<dyn FnOnce(&mut Session, &mut Output) -> Result + Send>;

/// Ends a call with the engine, or says what has to be done before it can end.
pub type EndWithEngine =
    Box<dyn FnOnce(&mut Engine, &mut Session, &mut Output) -> Result<Option<Work>> + Send>;

/// A call that a worker goes on with.
pub struct Deferred {
    session: Box<Session>,
    command: CommandRef,
    /// What CLIENT REPLY had chosen before the call.
    replies: Replies,
    work: Work,
}

/// Does something with the engine as soon as it is free.
pub type WithEngine<'a> = &'a dyn Fn(Box<dyn FnOnce(&mut Engine) + Send>);

impl Deferred {
    /// A call whose rest is `work`.
    pub fn new(session: Box<Session>, command: CommandRef, work: Work) -> Deferred {
        Deferred { replies: session.replies, session, command, work }
    }

    /// The way to the connection.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.session.outbox
    }

    /// Whether it is a password that is to be verified, which whoever has connected may ask for.
    pub fn is_login(&self) -> bool {
        self.command.flags.has(NO_AUTH)
    }

    /// From which address it comes, without the port.
    pub fn peer(&self) -> &str {
        &self.session.peer
    }

    /// Does the work and ends the call. For a worker's thread.
    pub fn run(self, with_engine: WithEngine<'_>) {
        let Deferred { mut session, command, replies, work } = self;
        match work() {
            Finish::Alone(finish) => {
                let mut out = Output::new(session.version);
                let result = finish(&mut session, &mut out);
                session.owes.anything = true;
                let answered = if result.is_err() { Answered::Failed } else { Answered::Done };
                *session.owes.tally.entry((command.index, answered)).or_default() += 1;
                if let Err(error) = &result {
                    out.rollback(0);
                    out.error(error);
                    *session.owes.errors.entry(error.code().into_owned()).or_default() += 1;
                }
                super::dispatch::suppress(&mut session, replies, &mut out, 0);
                let outbox = session.outbox.clone();
                outbox.resume(out.take(), session);
                outbox.wake();
            }
            Finish::Engine(finish) => with_engine(Box::new(move |engine| {
                engine.refresh_clock();
                let mut out = Output::new(session.version);
                let result = finish(engine, &mut session, &mut out);
                if let Ok(Some(work)) = result {
                    engine.jobs.push(super::Job::Call(Deferred { session, command, replies, work }));
                    return;
                }
                if let Err(error) = &result {
                    out.rollback(0);
                    out.error(error);
                    engine.stats.error(error);
                }
                engine.stats.executed(command.index, 0, result.is_err());
                engine.settle();
                engine.hand_back(session, replies, out, Vec::new());
            })),
        }
    }
}
