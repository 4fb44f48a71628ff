//! Every reason to refuse a command, in order. One function a reason; `admit` is the order.

use mortise_acl::{Refusal, Users};
use mortise_sdk::declare::flags;
use mortise_sdk::error::{self, Error};

use super::Engine;
use super::args::Args;
use super::registry::Command;
use super::session::Session;
use crate::acl;

/// What the gates say.
pub enum Admission {
    /// It may run.
    Run,
    /// It is kept for EXEC.
    Queue,
    /// It waits for the end of a pause.
    Pause,
    /// It is refused.
    Refuse(Error),
    /// It is not allowed to the user.
    Forbid(Refusal),
}

impl Engine {
    /// Asks every gate.
    #[inline(always)]
    pub(super) fn admit(&self, session: &Session, command: &Command, args: Args<'_>) -> Admission {
        let refusal = arity(command, args)
            .or_else(|| self.protected(session, command))
            .or_else(|| self.authenticated(session, command))
            .or_else(|| in_transaction(session, command));
        if let Some(error) = refusal {
            return Admission::Refuse(error);
        }
        if let Err(refusal) = acl::check(&session.user, command, args) {
            return Admission::Forbid(refusal);
        }
        let refusal = self
            .memory(session, command)
            .or_else(|| self.hindrance(session, command))
            .or_else(|| subscriber_mode(session, command))
            .or_else(|| monitor(session, command));
        if let Some(error) = refusal {
            return Admission::Refuse(error);
        }
        if self.pauses(command, args, session) {
            return Admission::Pause;
        }
        if session.transaction.is_some() && !command.flags.has(flags::NOT_QUEUED) {
            return Admission::Queue;
        }
        Admission::Run
    }

    #[inline(always)]
    fn protected(&self, session: &Session, command: &Command) -> Option<Error> {
        if !command.flags.any(flags::NEEDS_DEBUG | flags::NEEDS_MODULE) {
            return None;
        }
        self.protected_command(session, command)
    }

    #[cold]
    fn protected_command(&self, session: &Session, command: &Command) -> Option<Error> {
        let (directive, allowed) = if command.flags.has(flags::NEEDS_MODULE) {
            ("enable-module-command", self.config.modules.enable_module_command)
        } else {
            ("enable-debug-command", self.config.debug.enable_debug_command)
        };
        if allowed.allows(session.is_local) {
            return None;
        }
        let name = command.facts.words[0].to_ascii_uppercase();
        Some(Error::text(format!(
            "ERR {name} command not allowed. If the {directive} option is set to \"local\", you can run it from a local \
             connection, otherwise you need to set this option in the configuration file, and then restart the server."
        )))
    }

    /// Whoever is not logged in may go on once the password is taken away.
    #[inline(always)]
    fn authenticated(&self, session: &Session, command: &Command) -> Option<Error> {
        authenticated(session, command).filter(|_| !self.users.default_needs_no_password())
    }

    #[inline(always)]
    fn memory(&self, session: &Session, command: &Command) -> Option<Error> {
        self.lacks_memory(session, command).then_some(error::OOM)
    }

    /// What holds for everybody, now and then.
    #[inline(always)]
    fn hindrance(&self, session: &Session, command: &Command) -> Option<Error> {
        // A replica that is read reads as fast as others do.
        let concerned =
            self.hindered || self.read_only && command.flags.any(flags::WRITE | flags::RUNS_QUEUE);
        if concerned { self.hindered_by(session, command) } else { None }
    }

    #[cold]
    fn hindered_by(&self, session: &Session, command: &Command) -> Option<Error> {
        let lacks =
            |flag| !command.flags.has(flag) || queues(session, command, |queued| !queued.flags.has(flag));
        let loads = || {
            let may_not = match self.serves_meanwhile {
                true => {
                    command.flags.has(flags::NO_ASYNC_LOADING)
                        || queues(session, command, |queued| queued.flags.has(flags::NO_ASYNC_LOADING))
                }
                false => lacks(flags::LOADING),
            };
            (self.loading && may_not).then_some(error::LOADING)
        };
        let writes = command.flags.has(flags::WRITE)
            || queues(session, command, |queued| queued.flags.has(flags::WRITE));
        // Whoever asks whether the server is well is told.
        let asks = command.name.eq_ignore_ascii_case("ping");
        let is_replica = self.replication.is_replica();
        let unsaved = if (writes || asks) && !is_replica { self.refuses_writes() } else { None };
        let stale = || (self.is_stale() && lacks(flags::STALE)).then_some(error::MASTERDOWN);
        unsaved
            .or_else(|| if writes { self.refuses_writers() } else { None })
            .or_else(|| subscriber_mode(session, command))
            .or_else(stale)
            .or_else(loads)
    }

    /// Looks anew whether there are hindrances.
    pub(crate) fn follow_hindrances(&mut self) {
        self.journal.refuses = self.journal_refuses_writes();
        let refuses = self.persistence.refuses_writes(&self.config) || self.journal.refuses;
        self.hindered = self.loading || refuses || self.is_stale() || self.lacks_replicas();
        self.read_only = self.is_read_only();
    }

    #[inline(always)]
    fn pauses(&self, command: &Command, args: Args<'_>, session: &Session) -> bool {
        let pause = self.clients.pause;
        // A replica would be taken for dead, and how far it is is what a failover waits for.
        if !pause.stops_writes(self.now_ms) || session.is_replica {
            return false;
        }
        let queued_write = || {
            is_exec(command)
                && session.transaction.as_ref().is_some_and(|tx| {
                    tx.queue.iter().any(|queued| self.may_write(&queued.command, queued.args.view(), session))
                })
        };
        pause.stops_all(self.now_ms) || self.may_write(command, args, session) || queued_write()
    }

    /// Whether a call may change something that others hear of. A script is asked, if it says so of itself.
    #[cold]
    fn may_write(&self, command: &Command, args: Args<'_>, session: &Session) -> bool {
        command.flags.any(flags::WRITE | flags::MAY_REPLICATE)
            && !(command.flags.has(flags::SUSPENDS)
                && self.scripting.only_reads(session.space, command, args))
    }
}

/// The gates that need only the session, for when a run holds the engine.
pub(super) fn without_engine(
    session: &mut Session,
    command: &Command,
    args: Args<'_>,
    users: &Users,
) -> Option<Error> {
    arity(command, args)
        .or_else(|| authenticated(session, command).filter(|_| !users.default_needs_no_password()))
        .or_else(|| in_transaction(session, command))
        .or_else(|| allowed(session, command, args))
        .or_else(|| subscriber_mode(session, command))
        .or_else(|| monitor(session, command))
}

/// What is refused is noted in the log when the engine is free.
fn allowed(session: &mut Session, command: &Command, args: Args<'_>) -> Option<Error> {
    let refusal = acl::check(&session.user, command, args).err()?;
    let refused = acl::Refused::call(session, refusal, command, args);
    session.owes.refused(refused);
    Some(acl::error(refusal, command))
}

/// Whether a command is the EXEC of a transaction that holds one of a kind.
fn queues(session: &Session, command: &Command, is: impl Fn(&Command) -> bool) -> bool {
    is_exec(command)
        && session.transaction.as_ref().is_some_and(|tx| tx.queue.iter().any(|queued| is(&queued.command)))
}

pub(super) fn is_exec(command: &Command) -> bool {
    command.flags.has(flags::RUNS_QUEUE)
}

#[inline(always)]
fn arity(command: &Command, args: Args<'_>) -> Option<Error> {
    (!command.facts.accepts(args.len())).then(|| Error::wrong_arity(&command.name))
}

#[inline(always)]
fn authenticated(session: &Session, command: &Command) -> Option<Error> {
    (!session.authenticated && !command.flags.has(flags::NO_AUTH)).then_some(error::NOAUTH)
}

#[inline(always)]
fn in_transaction(session: &Session, command: &Command) -> Option<Error> {
    const REFUSED: Error = Error::new("ERR Command not allowed inside a transaction");
    (session.transaction.is_some() && command.flags.has(flags::NO_MULTI)).then_some(REFUSED)
}

/// To Redis whoever is shown what is executed is a replica.
#[inline(always)]
fn monitor(session: &Session, command: &Command) -> Option<Error> {
    const REFUSED: Error = Error::new("ERR Replica can't interact with the keyspace");
    let touches = flags::WRITE | flags::READONLY | flags::MAY_REPLICATE;
    ((session.is_monitor || session.is_replica) && command.flags.any(touches)).then_some(REFUSED)
}

#[inline(always)]
fn subscriber_mode(session: &Session, command: &Command) -> Option<Error> {
    (session.is_subscriber() && !command.flags.has(flags::SUBSCRIBER)).then(|| only_subscriptions(command))
}

#[cold]
fn only_subscriptions(command: &Command) -> Error {
    Error::text(format!(
        "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
        command.name
    ))
}
