//! Calls that need only their session: how a conversation begins and ends, and how a transaction does.
//!
//! They are obeyed while a run holds the engine, too. So their functions are given no engine; what such a call owes the
//! engine (subscriptions to end, keys to watch, what others see of the session) is kept on the session and made good by
//! [`Engine::catch_up`]: at once where the engine is at hand, and otherwise as soon as it is free, before anything else
//! that the client asks for. To everybody else the call then comes after the run.

use std::collections::BTreeMap;

use mortise_acl::Users;
use mortise_sdk::{Result, error};

use super::Engine;
use super::args::Args;
use super::client::Origin;
use super::session::Session;
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
    pub user: Option<String>,
    /// The name it has been given.
    pub name: Option<String>,
    /// It has given up watching.
    pub unwatch: bool,
    /// These keys.
    pub unwatched: Vec<Watched>,
    /// How many of the keys that it watches, counted from the last, the engine does not know of.
    pub to_watch: usize,
    /// It has sent a request of another protocol.
    pub crossing: bool,
    /// What was answered without the engine.
    pub tally: BTreeMap<(usize, Answered), u64>,
    /// Kinds of errors among the answers.
    pub errors: BTreeMap<String, u64>,
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
        let known = self.watched.len() - self.owes.to_watch;
        self.owes.unwatched.extend(self.watched.drain(..).take(known));
        self.owes.to_watch = 0;
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
        }
        if owes.unwatch {
            self.unwatch(session.id, session.space, &owes.unwatched);
        }
        for index in session.watched.len() - owes.to_watch..session.watched.len() {
            self.watch(session, index);
        }
        let Some(client) = self.clients.get_mut(session.id) else { return Ok(()) };
        if owes.reset {
            client.user = "default".to_owned();
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
        client.watching = session.watched.len();
        client.queued = session.transaction.as_ref().map(|transaction| transaction.queue.len());
        client.queued_len = session.transaction.as_ref().map_or(0, |transaction| transaction.memory());
        Ok(())
    }
}
