//! What others may see of a session, and do to it. Updated when the session changes, not with every command.

use std::collections::HashSet;
use std::sync::Arc;

use super::blocked::WaitId;
use super::outbox::Outbox;
use super::session::{ClientId, Session};
use crate::keyspace::SpaceId;
use crate::keyspace::shrink::Shrink;
use crate::pubsub::Kind;
use crate::tracking::Tracker;
use crate::transactions::watch::Watched;

/// Where a connection comes from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The peer's address with port, or the socket's path.
    pub address: String,
    /// The address it connected to.
    pub local_address: String,
    /// The file descriptor, shown by CLIENT LIST.
    pub fd: i32,
    /// Whether it came over a Unix socket.
    pub is_unix: bool,
    /// Whether it came from this machine.
    pub is_local: bool,
    /// Which I/O thread serves it.
    pub io_thread: usize,
}

/// A client as others see it.
pub struct Client {
    /// Its number.
    pub id: ClientId,
    /// Where it comes from.
    pub origin: Origin,
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub lib_version: String,
    /// When it connected: Unix milliseconds.
    pub connected_ms: i64,
    /// Its space.
    pub space: SpaceId,
    /// Its database.
    pub db: u32,
    /// Its user's name.
    pub user: Box<[u8]>,
    /// Commands in its transaction; `None` outside.
    pub queued: Option<usize>,
    /// Bytes of the arguments of these commands.
    pub queued_len: usize,
    /// The keys that it watches.
    pub watched: Vec<Watched>,
    /// How often it has given up to watch many at once, of which some may still be known.
    pub watch_round: u32,
    /// A watched key has changed.
    pub spoilt: bool,
    /// It follows this server.
    pub is_replica: bool,
    /// This server follows it.
    pub is_primary: bool,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT CAPA redirect: it goes where an error sends it.
    pub follows_redirects: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// Channels it listens to.
    pub channels: HashSet<Box<[u8]>>,
    /// Patterns it listens to.
    pub patterns: HashSet<Box<[u8]>>,
    /// Sharded channels it listens to.
    pub shards: HashSet<Box<[u8]>>,
    /// How it is told when keys change that it may have copies of.
    pub tracking: Option<Box<Tracker>>,
    /// The call that it waits in.
    pub waits: Option<WaitId>,
    /// Since when its backlog has been beyond the soft limit: Unix milliseconds.
    pub over_soft_limit_ms: Option<i64>,
    /// Bytes of the names of what it listens to and watches.
    pub names_len: usize,
    /// Bytes that it took when it was last measured.
    pub measured: u64,
    /// Bytes written to it when it was last looked at on the clock.
    pub seen_bytes_out: u64,
    /// The way to its connection.
    pub outbox: Arc<Outbox>,
}

impl Client {
    /// The mirror of a new session.
    pub fn new(session: &Session, origin: Origin, now_ms: i64) -> Client {
        session.outbox.active_ms.store(now_ms as u64, std::sync::atomic::Ordering::Relaxed);
        Client {
            id: session.id,
            origin,
            name: String::new(),
            lib_name: String::new(),
            lib_version: String::new(),
            connected_ms: now_ms,
            space: session.space,
            db: session.db,
            user: session.user.name().into(),
            queued: None,
            queued_len: 0,
            watched: Vec::new(),
            watch_round: 0,
            spoilt: false,
            is_replica: false,
            is_primary: false,
            no_evict: false,
            follows_redirects: false,
            no_touch: false,
            channels: HashSet::new(),
            patterns: HashSet::new(),
            shards: HashSet::new(),
            tracking: None,
            waits: None,
            over_soft_limit_ms: None,
            names_len: 0,
            measured: 0,
            seen_bytes_out: 0,
            outbox: session.outbox.clone(),
        }
    }

    /// For how many seconds it has neither asked nor read anything.
    pub fn idle_s(&self, now_ms: i64) -> i64 {
        now_ms / 1000 - self.outbox.active_ms.load(std::sync::atomic::Ordering::Relaxed) as i64 / 1000
    }

    /// Channels of all kinds and patterns that it listens to.
    pub fn subscriptions(&self) -> usize {
        self.channels.len() + self.patterns.len() + self.shards.len()
    }

    /// How many subscriptions a confirmation counts: sharded channels are counted on their own.
    pub fn subscriptions_beside(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel | Kind::Pattern => self.channels.len() + self.patterns.len(),
            Kind::Shard => self.shards.len(),
        }
    }

    /// It begins to listen.
    pub fn listen(&mut self, kind: Kind, name: &[u8]) {
        if self.names(kind).insert(name.into()) {
            self.names_len += name.len();
        }
    }

    /// It listens no longer.
    pub fn unlisten(&mut self, kind: Kind, name: &[u8]) {
        let names = self.names(kind);
        if names.remove(name) {
            names.shrink();
            self.names_len -= name.len();
        }
    }

    /// It listens to nothing of a kind any more; says to what it has. What these names take is counted until they are
    /// forgotten.
    pub fn take_heard(&mut self, kind: Kind) -> HashSet<Box<[u8]>> {
        std::mem::take(self.names(kind))
    }

    /// It begins to watch a key.
    pub fn watch(&mut self, watched: Watched) {
        self.names_len += watched.key.len();
        self.watched.push(watched);
    }

    /// It watches nothing any more; says what it has, which is counted until it is forgotten.
    pub fn take_watched(&mut self) -> Vec<Watched> {
        std::mem::take(&mut self.watched)
    }

    /// A name of so many bytes is forgotten.
    pub fn forgets(&mut self, len: usize) {
        self.names_len = self.names_len.saturating_sub(len);
    }

    /// What it listens to of a kind.
    pub fn heard(&self, kind: Kind) -> &HashSet<Box<[u8]>> {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shards,
        }
    }

    fn names(&mut self, kind: Kind) -> &mut HashSet<Box<[u8]>> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }
}
