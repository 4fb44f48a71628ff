//! While a run holds the engine: what is answered from the session alone.
//!
//! The same look-up and the same order of gates as always, but only with what the session itself knows. A command that
//! Redis allows then is obeyed if it needs no more than the session ([`Alone`]); everything else is refused with BUSY.

use std::sync::Arc;

use mortise_acl::Users;
use mortise_sdk::declare::flags;
use mortise_sdk::error::{self, Error};

use super::alone::{self, Alone, Answered, Slow};
use super::args::Args;
use super::call::Run;
use super::crossing;
use super::deferred::Work;
use super::event::RunInSight;
use super::gates;
use super::registry::{Command, CommandRef, Lookup};
use super::session::{Queued, Session};
use crate::replication::primary;
use crate::resp::output::Output;

/// What is known of the engine while it is held.
#[derive(Default)]
pub struct Known {
    /// Who may log in.
    pub users: Users,
    /// `protected-mode`.
    pub protected_mode: bool,
    /// The run that holds it.
    pub running: Option<Arc<dyn RunInSight>>,
}

impl Known {
    /// Whether connections from elsewhere are turned away.
    pub fn admits_only_local(&self) -> bool {
        self.protected_mode && self.users.default_user().needs_no_password()
    }
}

/// Answers one request without the engine; or says what a worker has to do, who takes the session along.
pub fn answer(
    session: &mut Session,
    lookup: &Lookup,
    args: Args<'_>,
    known: &Known,
    out: &mut Output,
) -> Option<(CommandRef, Work)> {
    if !session.follow(&known.users) {
        session.closing = true;
        return None;
    }
    if let Some(command) = acknowledges(session, lookup, args) {
        session.owes.anything = true;
        note(session, command, Answered::Done);
        return None;
    }
    out.set_version(session.version);
    let (mark, replies) = (out.mark(), session.replies);
    session.owes.anything = true;
    let mut left = None;
    let error = match lookup {
        Lookup::Found(command) => reply(session, command, args, known, out, &mut left),
        Lookup::Unknown if crossing::closes(session, args) => {
            session.owes.crossing = true;
            None
        }
        Lookup::Unknown | Lookup::UnknownSubcommand(_) => {
            break_transaction(session);
            Some(super::unknown::unknown(lookup, args))
        }
    };
    if let Some(error) = error {
        out.rollback(mark);
        out.error(&error);
        *session.owes.errors.entry(error.code().into_owned()).or_default() += 1;
    }
    if left.is_none() {
        super::dispatch::suppress(session, replies, out, mark);
    }
    left
}

/// A replica says how far it is, which is not answered: that it is told otherwise would end its connection. Its offset is
/// kept until the engine is free.
fn acknowledges<'a>(session: &mut Session, lookup: &'a Lookup, args: Args<'_>) -> Option<&'a Command> {
    let Lookup::Found(command) = lookup else { return None };
    if !session.is_replica || !allowed(command) || !command.name.eq_ignore_ascii_case("replconf") {
        return None;
    }
    session.owes.acked = Some(primary::acknowledged(args, 1)?);
    Some(command)
}

fn reply(
    session: &mut Session,
    command: &CommandRef,
    args: Args<'_>,
    known: &Known,
    out: &mut Output,
    left: &mut Option<(CommandRef, Work)>,
) -> Option<Error> {
    let queues = session.transaction.is_some() && !command.flags.has(flags::NOT_QUEUED);
    let refusal = gates::without_engine(session, command, args, &known.users)
        // Redis queues what it may not run, too, unless it is not allowed while busy.
        .or_else(|| {
            (obeyed(command).is_none() && !(queues && allowed(command))).then_some(error::BUSY_SCRIPT)
        });
    if let Some(error) = refusal {
        note(session, command, Answered::Refused);
        if gates::is_exec(command) {
            return Some(super::dispatch::abort_transaction(session, &error));
        }
        break_transaction(session);
        return Some(error);
    }
    if queues && let Some(transaction) = &mut session.transaction {
        transaction.queue.push(Queued { command: command.clone(), args: args.to_owned() });
        out.simple("QUEUED");
        return None;
    }
    let run = obeyed(command)?;
    let mut alone = Alone {
        session,
        users: &known.users,
        args,
        out,
        running: known.running.as_deref(),
        slow: Slow::Leave,
        in_transaction: false,
        left: false,
    };
    let result = run(&mut alone);
    if alone.left {
        *left = Some((command.clone(), alone::work(run, known.users.clone(), args.to_owned())));
        return None;
    }
    note(session, command, if result.is_err() { Answered::Failed } else { Answered::Done });
    result.err()
}

fn allowed(command: &Command) -> bool {
    command.flags.has(flags::ALLOW_BUSY)
}

/// The function of a command that is obeyed.
fn obeyed(command: &Command) -> Option<alone::Run> {
    match command.run {
        Run::Alone(run) => Some(run).filter(|_| allowed(command)),
        _ => None,
    }
}

fn break_transaction(session: &mut Session) {
    if let Some(transaction) = &mut session.transaction {
        transaction.broken = true;
    }
}

fn note(session: &mut Session, command: &Command, answered: Answered) {
    *session.owes.tally.entry((command.index, answered)).or_default() += 1;
}
