//! Replication: the stream of changes leaves the house, and that of another server comes in.
//!
//! | file | owns |
//! |---|---|
//! | `backlog.rs` | the stream's names, offsets, and the part of it that is kept |
//! | `stream.rs` | units become the stream |
//! | `primary.rs` | who follows this server: PSYNC, SYNC, REPLCONF, and what is done about them on the clock |
//! | `sync.rs` | full synchronisation: a snapshot that goes to replicas, and what they need of the stream meanwhile |
//! | `failover.rs` | FAILOVER: this server and a replica exchange their roles |
//! | `wait.rs` | WAIT, and writes that need replicas |
//! | `role.rs` | REPLICAOF and ROLE: whom this server follows |
//! | `handshake.rs` | what a replica and its primary say to each other before the stream flows |
//! | `replica.rs` | the primary's stream applied, and the state of the link as others see it |
//! | `own.rs` | what clients write on a replica, and expires there |
//! | `durable.rs` | how much of the primary's stream is durable here |
//! | `link.rs` `wire.rs` | the link to the primary: what it does, and its bytes, plain or encrypted |
//! | `taking.rs` | all data of a primary taken over, by a file or as it comes |
//! | `info.rs` | INFO's section |
//!
//! Everything but `link.rs`, `taking.rs` and `wire.rs` is a function of bytes and of the engine's time. A replica's
//! connection is a client like any other (`server/connection`), which beside its replies is fed from the backlog.

pub mod backlog;
pub mod durable;
pub mod failover;
pub mod handshake;
mod info;
pub mod link;
pub mod own;
pub mod primary;
pub mod replica;
mod role;
mod settings;
mod stream;
pub mod sync;
mod taking;
#[cfg(test)]
mod tests;
pub mod wait;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mortise_sdk::declare::config::Bytes;
use mortise_sdk::{config, setting_enum};
use parking_lot::Mutex;

use crate::engine::Engine;
use crate::engine::session::ClientId;
use crate::features::Feature;
use crate::keyspace::SpaceId;
use backlog::{Backlog, StreamName};
use primary::{Greeting, Replica};
use replica::Following;
pub use settings::PrimaryAddress;

/// Replicas and primaries.
pub const FEATURE: Feature = Feature {
    name: "replication",
    commands: &[primary::COMMANDS, role::COMMANDS, failover::COMMANDS, wait::COMMANDS],
    config: ReplicationConfig::directives(),
    info: &[info::REPLICATION],
    ..Feature::EMPTY
};

setting_enum! {
    /// How a replica takes the data of a full synchronisation over.
    pub enum DisklessLoad {
        /// By a file.
        Disabled = "disabled",
        /// As it comes if there is no data, and otherwise by a file.
        OnEmptyDb = "on-empty-db",
        /// As it comes, beside the data that there is, which is kept until everything has come.
        Swapdb = "swapdb",
    }
}

setting_enum! {
    /// What is done about a command that should have had no error, as it had none where it comes from.
    pub enum OnError {
        /// It is logged.
        Ignore = "ignore",
        /// The server ends.
        Panic = "panic",
        /// The server ends if it is a replica, and logs what its own file holds.
        PanicOnReplicas = "panic-on-replicas",
    }
}

config! {
    /// Following and being followed.
    pub struct ReplicationConfig {
        /// Host and port of the primary that this server follows.
        fixed replicaof | slaveof: PrimaryAddress = PrimaryAddress(None);
        /// User as whom a replica logs in to its primary.
        secret masteruser: Option<String> = None;
        /// Password with which a replica logs in to its primary.
        secret masterauth: Option<String> = None;
        /// Answer from old data while the link to the primary is down.
        live replica_serve_stale_data | slave_serve_stale_data: bool = true => hindrances;
        /// Refuse writes while following a primary.
        live replica_read_only | slave_read_only: bool = true => hindrances;
        /// Which replica is promoted first: the one with the lowest number. Zero means never. Sentinel reads it.
        live replica_priority | slave_priority: u32 = 100, in 0..=i32::MAX;
        /// Evict nothing while following a primary, which does it itself.
        live replica_ignore_maxmemory | slave_ignore_maxmemory: bool = true;
        /// The address from which a primary is connected to. If there is none, the system chooses.
        live bind_source_addr: Option<String> = None;
        /// Where a replica says that it can be reached. The empty text leaves it to the primary to see.
        live replica_announce_ip | slave_announce_ip: Option<String> = None;
        /// On which port a replica says that it can be reached. Zero means the one that it listens on.
        live replica_announce_port | slave_announce_port: u16 = 0;
        /// Whether Sentinel is to know of this replica.
        live replica_announced: bool = true;
        /// Refuse writes unless so many replicas are connected and not too far behind.
        live min_replicas_to_write | min_slaves_to_write: u32 = 0, in 0..=i32::MAX => hindrances;
        /// How many seconds ago a replica may have been heard of last to count for min-replicas-to-write.
        live min_replicas_max_lag | min_slaves_max_lag: u32 = 10, in 0..=i32::MAX => hindrances;
        /// Send the data of a full synchronisation to replicas without a file.
        live repl_diskless_sync: bool = true;
        /// Seconds to wait for further replicas before that begins.
        live repl_diskless_sync_delay: u32 = 5, in 0..=i32::MAX;
        /// How many waiting replicas make it begin at once. Zero means that it always waits.
        live repl_diskless_sync_max_replicas: u32 = 0, in 0..=i32::MAX;
        /// How a replica takes the data over: disabled writes it to a file first, on-empty-db does so unless there is no
        /// data, and swapdb loads it as it comes beside what there is. That takes memory for both, but what there is
        /// stays if the load fails, and is answered from meanwhile if it is older data of the same primary.
        live repl_diskless_load: DisklessLoad = DisklessLoad::Disabled;
        /// Let the system collect what is sent to replicas for a moment: fewer packets, and replicas are further behind.
        live repl_disable_tcp_nodelay: bool = false;
        /// Free the data that a full synchronisation replaces in the background. It is freed there in any case.
        live replica_lazy_flush | slave_lazy_flush: bool = false;
        /// Go on following a primary when what it says cannot be saved or appended to the journal. Otherwise the server
        /// ends then.
        live replica_ignore_disk_write_errors: bool = false;
        /// Remove files that were written only for a full synchronisation, on servers that save nothing.
        live rdb_del_sync_files: bool = false;
        /// Seconds between two PINGs to replicas.
        live repl_ping_replica_period | repl_ping_slave_period: u32 = 10, in 1..=i32::MAX;
        /// Seconds after which a primary or a replica that says nothing is given up.
        live repl_timeout: u32 = 60, in 1..=i32::MAX;
        /// How much of the stream of changes is kept for replicas that come back.
        live repl_backlog_size: Bytes = Bytes(1 << 20), in 1..=i64::MAX;
        /// Seconds without replicas after which nothing is kept. Zero means never.
        live repl_backlog_ttl: u32 = 3600, in 0..=i32::MAX;
        /// What is done if a command of the primary, or of the append-only file, ends with an error: the data may not be
        /// what it was there.
        live propagation_error_behavior: OnError = OnError::Ignore;
    }
}

/// What this server is to others.
pub struct Replication {
    /// The stream's name.
    pub name: StreamName,
    /// The name it had before.
    pub former: StreamName,
    /// The first offset (counted from one) that is not the former stream's; -1 if there is none.
    pub former_end: i64,
    /// The part of the stream that is kept, once somebody has wanted it.
    pub backlog: Option<Arc<Mutex<Backlog>>>,
    /// How long that part is, and how much memory it takes, as of when it was last changed: many ask for it.
    kept: (u64, u64),
    /// Length of the stream: of what is kept and of what is about to be.
    pub offset: u64,
    /// The stream's end, which joins the backlog when the engine is released.
    pending: Vec<u8>,
    /// The database that readers of the stream are in.
    selected: Option<u32>,
    /// Who follows this server.
    pub replicas: BTreeMap<ClientId, Replica>,
    /// What clients have said of themselves that may become replicas.
    greetings: HashMap<ClientId, Greeting>,
    /// Whom this server follows.
    pub following: Option<Following>,
    /// The failover that goes on.
    pub failover: Option<failover::Failover>,
    /// Where data is loaded beside the data in use.
    beside: Option<SpaceId>,
    /// Counts those that it has followed, so that links know whether they are still wanted.
    followed: u64,
    /// Since when it has no replicas: Unix milliseconds.
    alone_since_ms: i64,
    /// When the clock's work was done last, and how often it was.
    looked_at_ms: i64,
    looks: u64,
    /// Replicas that are near enough.
    good: u32,
    /// A replica has said how far it is.
    acked: bool,
    /// Keys with deadlines that clients have written here while this server follows another.
    pub(crate) own_keys: own::OwnKeys,
    /// When the log was last told that nothing can be saved: Unix milliseconds.
    unsaved_logged_ms: i64,
    /// A file was written only for replicas, and is to be removed when they have it.
    only_for_replicas: bool,
    /// Counters of INFO.
    pub counts: Counts,
}

/// What INFO counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Full synchronisations.
    pub full: u64,
    /// Partial ones.
    pub partial: u64,
    /// Partial ones that were asked for and not possible.
    pub partial_refused: u64,
    /// Commands of a primary that this server has answered with an error.
    pub errors: u64,
    /// Bytes read for replication.
    pub bytes_in: u64,
    /// Bytes written for replication, to replicas that are gone.
    pub bytes_out: u64,
    /// Bytes that had been written when counting began.
    bytes_out_before: u64,
}

impl Replication {
    /// A server that nobody follows.
    pub fn new(name: StreamName) -> Replication {
        Replication {
            name,
            former: StreamName::NONE,
            former_end: -1,
            backlog: None,
            kept: (0, 0),
            offset: 0,
            pending: Vec::new(),
            selected: None,
            replicas: BTreeMap::new(),
            greetings: HashMap::new(),
            following: None,
            failover: None,
            beside: None,
            followed: 0,
            alone_since_ms: 0,
            looked_at_ms: 0,
            looks: 0,
            good: 0,
            acked: false,
            own_keys: Default::default(),
            unsaved_logged_ms: 0,
            only_for_replicas: false,
            counts: Counts::default(),
        }
    }

    /// Whether this server follows another one.
    #[inline(always)]
    pub fn is_replica(&self) -> bool {
        self.following.is_some()
    }

    /// Bytes of memory that the stream's end takes, which has not joined the backlog yet.
    pub(crate) fn pending_memory(&self) -> u64 {
        self.pending.capacity() as u64
    }

    /// Whether a command of the stream has to be told: what a replica does is what its primary has told.
    pub(crate) fn is_fed(&self) -> bool {
        self.backlog.is_some() && self.following.is_none()
    }
}

impl Engine {
    /// The stream has another name from now on.
    fn rename_stream(&mut self) {
        self.replication.name = StreamName::secret();
    }

    /// The stream has another name, and none it had before.
    pub(crate) fn forget_stream_names(&mut self) {
        self.rename_stream();
        (self.replication.former, self.replication.former_end) = (StreamName::NONE, -1);
    }

    /// From now on the stream is kept.
    fn begin_backlog(&mut self) {
        let backlog = Backlog::from(self.replication.offset);
        self.replication.backlog = Some(Arc::new(Mutex::new(backlog)));
        self.replication.kept = (0, 0);
        self.replication.pending.clear();
        self.replication.selected = None;
        self.follow_readers();
    }

    /// From now on it is not.
    fn end_backlog(&mut self) {
        self.pass_stream_on();
        self.replication.backlog = None;
        self.replication.kept = (0, 0);
        self.follow_readers();
    }
}
