//! A connection's own state: user, database, protocol, transaction. It belongs to the connection and is lent to the
//! engine with each batch.

use std::collections::HashSet;
use std::sync::Arc;

use mortise_acl::{User, Users};
use mortise_sdk::resp::encode::Version;

use super::alone::Owes;
use super::args::{Args, OwnedArgs, Span};
use super::client::Origin;
use super::clients::ClientIds;
use super::outbox::Outbox;
use super::registry::CommandRef;
use crate::keyspace::SpaceId;
use crate::tracking::Reads;
use crate::transactions::watch::Watched;

/// A client's number, never used twice.
pub type ClientId = u64;

/// The state of a connection.
pub struct Session {
    /// Its number.
    pub id: ClientId,
    /// Which tenant's data it sees.
    pub space: SpaceId,
    /// The database that SELECT has chosen.
    pub db: u32,
    /// The database that it is in again when its script ends, while one runs.
    pub home: Option<u32>,
    /// The protocol that HELLO has chosen.
    pub version: Version,
    /// Who it is, as rules had made the user when it was last looked up.
    pub user: Arc<User>,
    /// The version of the users in which it was looked up.
    pub users_version: u64,
    /// Whether AUTH is done or not needed.
    pub authenticated: bool,
    /// The transaction that MULTI has begun.
    pub transaction: Option<Transaction>,
    /// Databases and keys that WATCH has named.
    pub watched: HashSet<Watched>,
    /// It is shown what is executed, and may touch no key meanwhile.
    pub is_monitor: bool,
    /// It follows this server's stream of changes, and may touch no key.
    pub is_replica: bool,
    /// How long the stream was when its last command had been executed.
    pub stream_offset: u64,
    /// How much of the journal its last command is the end of.
    pub journal_place: u64,
    /// What is remembered of the keys that it reads.
    pub reads: Reads,
    /// How many channels and patterns it listens to.
    pub subscriptions: usize,
    /// Whether replies are wanted.
    pub replies: Replies,
    /// Whether its accesses count for eviction.
    pub no_touch: bool,
    /// Whether it may use protected commands, as a local connection.
    pub is_local: bool,
    /// The address that it comes from, without the port.
    pub peer: Box<str>,
    /// Whether it is to be closed once its replies are written.
    pub closing: bool,
    /// Requests that were read and were not executed when the session was lent; they come before all others.
    pub rest: Vec<u8>,
    /// Bytes in front of the replies of the batch that is executed: replies to requests before it that are not sent yet.
    pub unsent: usize,
    /// Where in the output the replies begin that are not sent yet.
    pub replies_start: usize,
    /// What the engine is still to be told.
    pub owes: Owes,
    /// The way to the connection.
    pub outbox: Arc<Outbox>,
}

/// What CLIENT REPLY has chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replies {
    /// Every reply.
    On,
    /// None.
    Off,
    /// None for the command after this one.
    SkipNext,
    /// None for this command.
    Skip,
    /// None: the stream of changes goes this way, and a command that is answered ends the connection.
    Replica,
}

/// Commands between MULTI and EXEC.
#[derive(Default)]
pub struct Transaction {
    /// The commands.
    pub queue: Vec<Queued>,
    /// A command was refused, so EXEC will be.
    pub broken: bool,
}

impl Transaction {
    /// Bytes of the arguments of its commands.
    pub fn memory(&self) -> usize {
        self.queue.iter().map(|queued| queued_memory(queued.args.view())).sum()
    }
}

/// Bytes that the arguments of a queued command take.
pub fn queued_memory(args: Args<'_>) -> usize {
    args.iter().map(|arg| arg.len() + size_of::<Span>()).sum()
}

/// A command that waits for EXEC.
pub struct Queued {
    /// The command.
    pub command: CommandRef,
    /// Its arguments.
    pub args: OwnedArgs,
}

impl Session {
    /// The session of a connection that has just been made.
    pub fn new(id: ClientId, outbox: Arc<Outbox>, users: &Users) -> Session {
        Session {
            id,
            space: SpaceId::FIRST,
            db: 0,
            home: None,
            version: Version::Resp2,
            user: users.default_user().clone(),
            users_version: users.version(),
            authenticated: users.default_needs_no_password(),
            transaction: None,
            watched: HashSet::new(),
            is_monitor: false,
            is_replica: false,
            stream_offset: 0,
            journal_place: 0,
            reads: Reads::default(),
            subscriptions: 0,
            unsent: 0,
            replies_start: 0,
            replies: Replies::On,
            no_touch: false,
            is_local: true,
            peer: Box::default(),
            closing: false,
            rest: Vec::new(),
            owes: Owes::default(),
            outbox,
        }
    }

    /// The session of a connection that arrives from `origin`.
    pub fn arriving(ids: &ClientIds, outbox: Arc<Outbox>, origin: &Origin, users: &Users) -> Box<Session> {
        let mut session = Box::new(Session::new(ids.next(), outbox, users));
        session.is_local = origin.is_local;
        session.peer = origin.address.rsplit_once(':').map_or("", |(address, _)| address).into();
        session
    }

    /// It is somebody else from now on.
    pub fn log_in(&mut self, user: Arc<User>, users: &Users) {
        self.owes.user = Some(user.name().into());
        (self.user, self.users_version) = (user, users.version());
        self.authenticated = true;
    }

    /// It is what it was when the connection was made.
    pub fn log_out(&mut self, users: &Users) {
        (self.user, self.users_version) = (users.default_user().clone(), users.version());
        self.authenticated = users.default_needs_no_password();
    }

    /// Looks the user up again where users have changed since. False if there is no such user any more: then nothing
    /// more may be done for the connection.
    #[inline(always)]
    pub fn follow(&mut self, users: &Users) -> bool {
        self.users_version == users.version() || self.look_up_user(users)
    }

    #[cold]
    fn look_up_user(&mut self, users: &Users) -> bool {
        self.users_version = users.version();
        let Some(user) = users.find(self.user.name()) else { return false };
        self.user = user.clone();
        true
    }

    /// Switches the protocol, for replies and for messages.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
        self.outbox.set_version(version);
    }

    /// Whether it is in RESP2's subscriber mode, where few commands are allowed.
    #[inline(always)]
    pub fn is_subscriber(&self) -> bool {
        self.subscriptions > 0 && self.version == Version::Resp2
    }
}
