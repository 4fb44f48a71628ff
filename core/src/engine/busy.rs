//! While a run holds the engine: what is answered from the session alone.
//!
//! The same look-up and the same order of gates as always, but only with what the session itself knows. A command that
//! Redis allows then and that needs no more than the session is obeyed; everything else is refused with BUSY.

use mortise_sdk::declare::flags;
use mortise_sdk::error::{self, Error};

use super::args::Args;
use super::gates;
use super::registry::{Command, Lookup};
use super::session::{Queued, Session, Transaction};
use crate::resp::output::Output;

/// Answers one request without the engine.
pub fn answer(session: &mut Session, lookup: &Lookup, args: Args<'_>, out: &mut Output) {
    out.set_version(session.version);
    let (mark, replies) = (out.mark(), session.replies);
    reply(session, lookup, args, out);
    super::dispatch::suppress(session, replies, out, mark);
}

fn reply(session: &mut Session, lookup: &Lookup, args: Args<'_>, out: &mut Output) {
    let refusal = match lookup {
        Lookup::Found(command) => match gates::without_engine(session, command, args) {
            None if session.transaction.is_some() && !command.flags.has(flags::NOT_QUEUED) => {
                return queue(session, lookup, args, out);
            }
            None => match obey(session, command, args, out) {
                true => return,
                false => error::BUSY_SCRIPT,
            },
            Some(error) => error,
        },
        Lookup::Unknown | Lookup::UnknownSubcommand(_) => super::dispatch::unknown(lookup, args),
    };
    refuse(session, &refusal, out);
}

fn refuse(session: &mut Session, error: &Error, out: &mut Output) {
    if let Some(transaction) = &mut session.transaction {
        transaction.broken = true;
    }
    out.error(error.as_str());
}

/// Redis queues what it may not run, too, and refuses it at once if it is not allowed while busy.
fn queue(session: &mut Session, lookup: &Lookup, args: Args<'_>, out: &mut Output) {
    let Lookup::Found(command) = lookup else { return };
    if !command.flags.has(flags::ALLOW_BUSY) {
        return refuse(session, &error::BUSY_SCRIPT, out);
    }
    if let Some(transaction) = &mut session.transaction {
        transaction.queue.push(Queued { command: command.clone(), args: args.to_owned() });
        out.simple("QUEUED");
    }
}

/// Obeys what needs only the session; false for everything else.
fn obey(session: &mut Session, command: &Command, args: Args<'_>, out: &mut Output) -> bool {
    match &*command.name {
        "multi" if session.transaction.is_some() => out.error(error::MULTI_NESTED.as_str()),
        "multi" => {
            session.transaction = Some(Transaction::default());
            out.ok();
        }
        "discard" if session.transaction.is_none() => out.error(error::DISCARD_WITHOUT_MULTI.as_str()),
        "quit" => {
            session.closing = true;
            out.ok();
        }
        "echo" if args.len() == 2 && command.flags.has(flags::ALLOW_BUSY) => out.bulk(args.at(1)),
        _ => return false,
    }
    true
}
