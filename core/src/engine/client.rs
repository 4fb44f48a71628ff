//! What others may see of a session, and do to it. Updated when the session changes, not with every command.

use std::collections::HashSet;
use std::sync::Arc;

use super::blocked::WaitId;
use super::outbox::Outbox;
use super::session::{ClientId, Session};
use crate::keyspace::SpaceId;

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
    /// 2 or 3.
    pub protocol: u8,
    /// Its user's name.
    pub user: String,
    /// Commands in its transaction; `None` outside.
    pub queued: Option<usize>,
    /// How many keys it watches.
    pub watching: usize,
    /// A watched key has changed.
    pub spoilt: bool,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// Channels it listens to.
    pub channels: HashSet<Box<[u8]>>,
    /// Patterns it listens to.
    pub patterns: HashSet<Box<[u8]>>,
    /// The call that it waits in.
    pub waits: Option<WaitId>,
    /// Since when its backlog has been beyond the soft limit: Unix milliseconds.
    pub over_soft_limit_ms: Option<i64>,
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
            protocol: 2,
            user: "default".to_owned(),
            queued: None,
            watching: 0,
            spoilt: false,
            no_evict: false,
            no_touch: false,
            channels: HashSet::new(),
            patterns: HashSet::new(),
            waits: None,
            over_soft_limit_ms: None,
            outbox: session.outbox.clone(),
        }
    }

    /// Channels and patterns that it listens to.
    pub fn subscriptions(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }
}
