//! Calls that wait: for a key, for the end of a pause. They are tried again, on the same road as the first time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mortise_sdk::resp::encode;
use mortise_sdk::{Error, Result};

use super::args::OwnedArgs;
use super::deferred::{Deferred, Work};
use super::registry::{CommandRef, Registry};
use super::session::{ClientId, Replies, Session};
use super::{Engine, Job};
use crate::keyspace::SpaceId;
use crate::keyspace::shrink::Shrink;
use crate::replication::wait::InStreams;
use crate::resp::output::Output;

/// A waiting call's number; later calls have larger ones.
pub type WaitId = u64;

/// What a call answers when its time is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnTimeout {
    /// No value.
    Null,
    /// No array.
    NullArray,
    /// How many replicas have the stream up to this offset.
    Acks(u64),
    /// A number.
    Count(i64),
    /// The server's end, for which it waits: that it goes on instead.
    NotEnded,
    /// Whether a write is durable here, and on how many replicas.
    Durable(InStreams),
    /// Two numbers.
    Counts(i64, i64),
}

impl OnTimeout {
    /// Writes the answer.
    pub fn reply(self, out: &mut Output) {
        match self {
            OnTimeout::Null => out.null(),
            OnTimeout::NullArray => out.null_array(),
            OnTimeout::Acks(_) => out.integer(0),
            OnTimeout::Durable(_) => OnTimeout::Counts(0, 0).reply(out),
            OnTimeout::Count(count) => out.integer(count),
            OnTimeout::NotEnded => out.error(&crate::persistence::shutdown::FAILED),
            OnTimeout::Counts(one, other) => {
                out.array(2);
                out.integer(one);
                out.integer(other);
            }
        }
    }
}

/// A call that is not over. It owns its arguments and, once the connection has handed it over, the session.
pub struct Wait {
    /// Whose call it is.
    pub client: ClientId,
    /// In which space.
    pub space: SpaceId,
    /// In which database.
    pub db: u32,
    /// The keys it waits for.
    pub keys: Vec<Box<[u8]>>,
    /// Its arguments.
    pub args: OwnedArgs,
    /// The command, and the snapshot it was found in.
    pub command: Option<(CommandRef, Arc<Registry>)>,
    /// When it gives up: Unix milliseconds.
    pub deadline_ms: Option<i64>,
    /// When it is to be tried again, whatever happens to its keys: Unix milliseconds.
    pub retry_ms: Option<i64>,
    /// Whether it is to be tried again when a key is gone, too.
    pub when_gone: bool,
    /// What it answers when its time is over.
    pub then: OnTimeout,
    /// The connection's session.
    pub session: Option<Box<Session>>,
    /// It waits for the end of CLIENT PAUSE, and for no key.
    pub paused: bool,
    /// It waits for replicas, and for no key.
    pub for_acks: bool,
    /// It waits for nothing but a worker, which goes on with it.
    pub work: Option<Work>,
}

impl Wait {
    /// A call of a session with these arguments, for which nothing is said yet of what it waits for.
    pub fn new(session: &Session, args: OwnedArgs, then: OnTimeout) -> Wait {
        Wait {
            client: session.id,
            space: session.space,
            db: session.db,
            keys: Vec::new(),
            args,
            command: None,
            deadline_ms: None,
            retry_ms: None,
            when_gone: false,
            then,
            session: None,
            paused: false,
            for_acks: false,
            work: None,
        }
    }
}

/// All waiting calls.
#[derive(Default)]
pub struct Blocked {
    waits: BTreeMap<WaitId, Wait>,
    deadlines: BTreeSet<(i64, WaitId)>,
    retries: BTreeSet<(i64, WaitId)>,
    /// Those that wait for replicas: with each word of one they are tried again, and there may be many others.
    for_acks: BTreeSet<WaitId>,
    /// How many are to be tried again when a key is gone.
    when_gone: usize,
    next_id: WaitId,
    /// Keys that changed and for which calls wait.
    pub(super) ready: VecDeque<(SpaceId, u32, Box<[u8]>)>,
}

impl Blocked {
    /// How many calls wait, for keys or for the end of a pause.
    pub fn len(&self) -> usize {
        self.waits.len()
    }

    /// Calls that wait up to a point in time.
    pub fn limited(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether no call waits.
    pub fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// When the next call gives up, or is to be tried again.
    pub fn next_due_ms(&self) -> Option<i64> {
        let times = [self.deadlines.first(), self.retries.first()];
        times.into_iter().flatten().map(|(time, _)| *time).min()
    }

    /// Calls that wait for something that others do, and not for the end of a pause.
    pub(crate) fn waiting_for_others(&self) -> Vec<WaitId> {
        self.waits.iter().filter(|(_, wait)| !wait.paused).map(|(id, _)| *id).collect()
    }

    /// Calls that wait for the server's end.
    pub(crate) fn waiting_for_shutdown(&self) -> Vec<WaitId> {
        let waits = self.waits.iter().filter(|(_, wait)| wait.then == OnTimeout::NotEnded);
        waits.map(|(id, _)| *id).collect()
    }

    /// Whether some calls wait for the end of a key.
    pub fn some_wait_for_ends(&self) -> bool {
        self.when_gone > 0
    }

    /// A waiting call.
    pub fn get(&self, id: WaitId) -> Option<&Wait> {
        self.waits.get(&id)
    }
}

impl Engine {
    /// Takes over a call that is not over, with the session of its connection.
    pub fn park(&mut self, session: Box<Session>, mut wait: Box<Wait>) {
        if let (Some(work), Some((command, _))) = (wait.work.take(), &wait.command) {
            self.jobs.push(Job::Call(Deferred::new(session, command.clone(), work)));
            return;
        }
        let id = self.blocked.next_id;
        self.blocked.next_id += 1;
        wait.session = Some(session);
        if let Some(deadline) = wait.deadline_ms {
            self.blocked.deadlines.insert((deadline, id));
        }
        if let Some(retry) = wait.retry_ms {
            self.blocked.retries.insert((retry, id));
        }
        if wait.for_acks {
            self.blocked.for_acks.insert(id);
        }
        self.blocked.when_gone += usize::from(wait.when_gone);
        self.listen(id, &wait);
        if let Some(client) = self.clients.get_mut(wait.client) {
            client.waits = Some(id);
        }
        self.blocked.waits.insert(id, *wait);
    }

    fn listen(&mut self, id: WaitId, wait: &Wait) {
        let (db, _) = self.keyspace.db(wait.space, wait.db);
        for key in &wait.keys {
            db.interest.wait(key, id);
            db.listen(key);
        }
    }

    /// Takes a waiting call out; whoever calls ends it or puts it back.
    pub(super) fn unpark(&mut self, id: WaitId) -> Option<Wait> {
        let wait = self.blocked.waits.remove(&id)?;
        if let Some(deadline) = wait.deadline_ms {
            self.blocked.deadlines.remove(&(deadline, id));
        }
        if let Some(retry) = wait.retry_ms {
            self.blocked.retries.remove(&(retry, id));
        }
        if wait.for_acks {
            self.blocked.for_acks.remove(&id);
        }
        self.blocked.when_gone -= usize::from(wait.when_gone);
        let (db, _) = self.keyspace.db(wait.space, wait.db);
        for key in &wait.keys {
            db.interest.unwait(key, id);
        }
        if let Some(client) = self.clients.get_mut(wait.client) {
            client.waits = None;
        }
        Some(wait)
    }

    /// Ends a waiting call with a reply that `answer` writes, or with an error.
    pub fn end_wait(&mut self, id: WaitId, answer: impl FnOnce(&mut Output, OnTimeout) -> Result) -> bool {
        let Some(mut wait) = self.unpark(id) else { return false };
        let Some(session) = wait.session.take() else { return false };
        let mut out = Output::new(session.version);
        let then = match wait.then {
            OnTimeout::Acks(offset) => OnTimeout::Count(self.count_acks(offset)),
            OnTimeout::Durable(write) => {
                let (here, there) = self.count_durable(write);
                OnTimeout::Counts(here, there)
            }
            other => other,
        };
        let result = answer(&mut out, then);
        if let Err(error) = &result {
            out.error(error);
            self.stats.error(error);
        }
        if let Some((command, _)) = &wait.command {
            self.stats.executed(command.index, 0, result.is_err());
        }
        let replies = session.replies;
        self.hand_back(session, replies, out, Vec::new());
        true
    }

    /// Ends a waiting call with an error, and its connection when it has been told.
    pub(crate) fn end_wait_and_close(&mut self, id: WaitId, error: Error) {
        if let Some(session) = self.blocked.waits.get_mut(&id).and_then(|wait| wait.session.as_mut()) {
            session.closing = true;
        }
        self.end_wait(id, |_, _| Err(error));
    }

    /// Gives the session back to its connection, with the reply of the call that waited and the messages that follow it.
    /// `replies` is what CLIENT REPLY had chosen before the call.
    pub(super) fn hand_back(
        &mut self,
        mut session: Box<Session>,
        replies: Replies,
        mut out: Output,
        pushes: Vec<u8>,
    ) {
        if (replies, session.replies) != (Replies::On, Replies::On) {
            super::dispatch::suppress(&mut session, replies, &mut out, 0);
        }
        if session.replies != Replies::Replica {
            out.raw(&pushes);
        }
        let outbox = session.outbox.clone();
        outbox.resume(out.take(), session);
        self.wake.push(outbox);
    }

    /// Ends the calls whose time is over.
    pub(super) fn end_expired_waits(&mut self) {
        while let Some((deadline, id)) = self.blocked.deadlines.first().copied() {
            if deadline > self.now_ms {
                break;
            }
            self.end_wait(id, |out, then| {
                then.reply(out);
                Ok(())
            });
        }
    }

    /// Tries the calls again that have named a time for it which has come.
    pub(super) fn retry_due(&mut self) {
        while let Some((time, id)) = self.blocked.retries.first().copied()
            && time <= self.now_ms
        {
            self.blocked.retries.pop_first();
            if let Some(wait) = self.blocked.waits.get_mut(&id) {
                wait.retry_ms = None;
            }
            self.retry(id);
        }
    }

    /// Tries the calls again that wait for keys that have changed, in the order of their arrival, until none is ready.
    pub(super) fn serve_waiting(&mut self) {
        if !self.blocked.ready.is_empty() {
            // They are units of their own: what expired while the one before them ran is not there for them.
            self.advance_time();
        }
        while let Some((space, db, key)) = self.blocked.ready.pop_front() {
            self.blocked.ready.shrink();
            let hash = crate::keyspace::hash::hash(&key);
            if let Some(of) = self.keyspace.db(space, db).0.interest.of_mut(&key) {
                of.is_ready = false;
            }
            let mut last = None;
            while let Some(id) =
                self.keyspace.db(space, db).0.interest.of(&key).and_then(|of| of.next_waiter(last))
            {
                last = Some(id);
                if self.keyspace.db(space, db).0.find(hash, &key).is_none() {
                    if !self.blocked.some_wait_for_ends() {
                        break;
                    }
                    if !self.blocked.get(id).is_some_and(|wait| wait.when_gone) {
                        continue;
                    }
                }
                self.retry(id);
            }
        }
    }

    fn retry(&mut self, id: WaitId) {
        let Some(wait) = self.blocked.waits.get_mut(&id) else { return };
        let (Some(mut session), Some((command, registry))) = (wait.session.take(), wait.command.clone())
        else {
            return;
        };
        let args = wait.args.clone();
        let replies = session.replies;
        let mut out = Output::new(session.version);
        let asked = super::dispatch::Asked::new(&command, args.view());
        self.retried = Some(session.id);
        let waits = self.execute(&mut session, &registry, asked, &mut out, super::Caller::Retry);
        if let Some(again) = waits {
            self.retried = None;
            if let Some(wait) = self.blocked.waits.get_mut(&id) {
                wait.session = Some(session);
                if let Some(retry) = again.retry_ms {
                    let before = wait.retry_ms.replace(retry);
                    self.blocked.retries.insert((retry, id));
                    before.filter(|time| *time != retry).map(|time| self.blocked.retries.remove(&(time, id)));
                }
            }
            return;
        }
        self.unpark(id);
        self.settle_unit();
        // WAIT, which the client may say next, is about what the call has done now.
        session.stream_offset = self.replication.offset;
        session.journal_place = self.journal.place();
        self.retried = None;
        let pushes = std::mem::take(&mut self.retried_pushes);
        self.hand_back(session, replies, out, pushes);
    }

    /// Replicas have said how far they are: the calls that wait for that are tried again.
    #[cold]
    pub(crate) fn retry_for_acks(&mut self) {
        let waiting: Vec<WaitId> = self.blocked.for_acks.iter().copied().collect();
        waiting.into_iter().for_each(|id| self.retry(id));
    }

    /// The pause is over: the connections whose calls waited for it are given them back, and make them anew, in front of
    /// all else that they were sent. They go the road of every request: a script's call needs a coroutine, and there may
    /// be more of them than one lock should see.
    pub(crate) fn resume_paused(&mut self) {
        self.unpaused = false;
        let paused: Vec<WaitId> =
            self.blocked.waits.iter().filter(|(_, wait)| wait.paused).map(|(id, _)| *id).collect();
        for id in paused {
            let Some(Wait { session: Some(mut session), args, .. }) = self.unpark(id) else { continue };
            let mut requests = encode::request(args.view().iter());
            requests.append(&mut session.rest);
            session.rest = requests;
            let outbox = session.outbox.clone();
            outbox.resume(Vec::new(), session);
            self.wake.push(outbox);
        }
    }
}
