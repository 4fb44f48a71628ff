//! Calls that need only their session: how a conversation begins and ends, and how a transaction does.
//!
//! They are obeyed while a run holds the engine, too. So their functions are given no engine; what such a call owes the
//! engine (subscriptions to end, keys to watch, what others see of the session) is kept on the session and made good by
//! [`Engine::catch_up`]: at once where the engine is at hand, and otherwise as soon as it is free, before anything else
//! that the client asks for. To everybody else the call then comes after the run.

use std::collections::{BTreeMap, HashSet};

use mortise_acl::Users;
use mortise_sdk::{Result, error};

use super::Engine;
use super::args::{Args, OwnedArgs};
use super::client::Origin;
use super::deferred::{Finish, Work};
use super::event::RunInSight;
use super::session::Session;
use crate::acl::Refused;
use crate::persistence::settings::Shutdown;
use crate::persistence::shutdown::{FAILED, Outcome};
use crate::replication::primary::Acknowledged;
use crate::resp::output::Output;
use crate::transactions::watch::Watched;

/// One execution of a command that needs only its session.
pub struct Alone<'c> {
    /// For whom it runs.
    pub session: &'c mut Session,
    /// Who may log in.
    pub users: &'c Users,
    /// The arguments, the command's name first.
    pub args: Args<'c>,
    /// Where the reply goes.
    pub out: &'c mut Output,
    /// The run that holds the engine, if one does.
    pub running: Option<&'c dyn RunInSight>,
    /// What to do about a password that takes long to verify.
    pub slow: Slow,
    /// Whether it runs in an EXEC.
    pub in_transaction: bool,
    /// It is to be left to a worker, and nothing is answered yet.
    pub left: bool,
}

/// What to do about a password that takes long to verify.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// It is verified: in a transaction, where everybody waits, and by a worker.
    Verify,
    /// The call is left to a worker.
    Leave,
}

/// What a worker does with a call that was left to it: the whole call, for whom nobody waits there. One call may name
/// several users and passwords, and each of them is verified.
pub fn work(run: Run, users: Users, args: OwnedArgs) -> Work {
    Box::new(move || {
        Finish::Alone(Box::new(move |session, out| {
            run(&mut Alone {
                session,
                users: &users,
                args: args.view(),
                out,
                running: None,
                slow: Slow::Verify,
                in_transaction: false,
                left: false,
            })
        }))
    })
}

/// The function of such a command.
pub type Run = fn(&mut Alone<'_>) -> Result;

/// What a session owes the engine.
#[derive(Default)]
pub struct Owes {
    /// Whether it owes anything.
    pub anything: bool,
    /// The engine does not know the connection yet, which comes from here.
    pub arrival: Option<Box<Origin>>,
    /// RESET: subscriptions end, and what others see becomes as it was at first.
    pub reset: bool,
    /// The user it has logged in as.
    pub user: Option<Box<[u8]>>,
    /// The name it has been given.
    pub name: Option<String>,
    /// It has given up watching.
    pub unwatch: bool,
    /// What it watched then.
    pub unwatched: Vec<HashSet<Watched>>,
    /// How far it is in the stream of changes, as a replica has said.
    pub acked: Option<Acknowledged>,
    /// Keys that it watches since.
    pub to_watch: Vec<Watched>,
    /// It has sent a request of another protocol.
    pub crossing: bool,
    /// What was answered without the engine.
    pub tally: BTreeMap<(usize, Answered), u64>,
    /// The server's end.
    pub shutdown: Option<Shutdown>,
    /// That it is called off.
    pub calls_shutdown_off: bool,
    /// Kinds of errors among the answers.
    pub errors: BTreeMap<String, u64>,
    /// What was refused.
    refused: Vec<Refused>,
}

/// So much of what was refused is kept while the engine is held.
const REFUSED_MAX: usize = 128;

impl Owes {
    /// Something was refused, and is to be noted in the log.
    pub fn refused(&mut self, refused: Refused) {
        self.anything = true;
        if self.refused.len() < REFUSED_MAX {
            self.refused.push(refused);
        }
    }
}

/// How a request was answered without the engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Answered {
    /// It was obeyed.
    Done,
    /// It was obeyed, and its answer is an error.
    Failed,
    /// It was refused.
    Refused,
}

impl Session {
    /// Gives up watching.
    pub fn unwatch(&mut self) {
        if !self.watched.is_empty() {
            self.owes.unwatched.push(std::mem::take(&mut self.watched));
        }
        self.owes.to_watch.clear();
        self.owes.unwatch = true;
    }
}

impl Engine {
    /// Makes good what a session owes. Fails for a connection that arrived while the engine was held if there is no
    /// room for it; it is closed then.
    pub fn catch_up(&mut self, session: &mut Session) -> Result {
        let owes = std::mem::take(&mut session.owes);
        if let Some(origin) = owes.arrival
            && !self.admit_client(session, *origin)
        {
            session.closing = true;
            return Err(error::MAX_CLIENTS);
        }
        if owes.crossing {
            self.log_crossing();
        }
        for ((command, answered), count) in owes.tally {
            self.stats.answered(command, answered, count);
        }
        for (kind, count) in owes.errors {
            self.stats.errors(&kind, count);
        }
        if owes.reset {
            self.unsubscribe_all(session.id);
            self.end_tracking(session.id);
            self.end_monitor(session.id);
        }
        if let Some(said) = owes.acked {
            self.acknowledge(session.id, said);
        }
        if owes.unwatch {
            self.unwatch(session.id);
            owes.unwatched.into_iter().for_each(|watched| self.drop_watched(watched));
        }
        for watched in owes.to_watch {
            self.watch(session, watched);
        }
        for refused in owes.refused {
            self.note_refused(session.id, refused, Args::new(&[], &[]));
        }
        if owes.calls_shutdown_off {
            self.call_shutdown_off()?;
        }
        if let Some(how) = owes.shutdown {
            match self.shut_down(how) {
                Outcome::Ends => session.closing = true,
                Outcome::Waits => {}
                Outcome::GoesOn => return Err(FAILED),
            }
        }
        let Some(client) = self.clients.get_mut(session.id) else { return Ok(()) };
        if owes.reset {
            client.user = mortise_acl::DEFAULT.into();
            client.name.clear();
            client.no_evict = false;
        }
        client.no_touch = session.no_touch;
        if let Some(user) = owes.user {
            client.user = user;
        }
        if let Some(name) = owes.name {
            client.name = name;
        }
        client.db = session.db;
        client.queued = session.transaction.as_ref().map(|transaction| transaction.queue.len());
        client.queued_len = session.transaction.as_ref().map_or(0, |transaction| transaction.memory());
        Ok(())
    }
}
