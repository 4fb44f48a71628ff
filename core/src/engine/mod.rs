//! The inside: all shared state, one call at a time. Opens no socket and no file, and reads time only from the clock it
//! is handed.

pub mod access;
pub mod alone;
pub mod args;
pub mod batch;
pub mod blocked;
pub mod busy;
pub mod call;
pub mod client;
pub mod client_memory;
pub mod clients;
mod crossing;
pub mod deferred;
pub mod dispatch;
pub mod edit;
pub mod event;
pub mod gates;
pub mod latencies;
mod leaving;
mod memory;
pub mod outbox;
pub mod random;
pub mod registry;
pub mod replay;
pub mod rim;
pub mod session;
pub mod settle;
pub mod stats;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod tick;
pub mod trial;
pub mod unit;
pub(crate) mod unknown;

use std::sync::Arc;

use self::access::AccessClock;
use self::blocked::Blocked;
use self::call::Key;
use self::clients::Clients;
use self::edit::{Edit, Limits};
use self::event::{Clock, EventClass};
use self::outbox::Outbox;
use self::random::Random;
use self::registry::Registry;
use self::rim::{NoRim, Rim};
use self::session::ClientId;
use self::settle::StreamReader;
use self::stats::Stats;
use self::unit::{Unit, removal};
use crate::config::{Config, Directives};
use crate::keyspace::{Keyspace, SpaceId};
use crate::persistence::cut::Snapshot;
use crate::persistence::journal::state::Journal;
use crate::persistence::state::Persistence;
use crate::pubsub::PubSubs;
use crate::replication::Replication;
use crate::replication::backlog::StreamName;
use crate::types::hash::value::Hash;
use crate::types::list::ChunkLimits;
use crate::types::stream::idempotence::Memory;
use crate::types::string::value::Input;

/// For whom a call runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// A client.
    Client,
    /// A client whose call has waited and is tried again.
    Retry,
    /// EXEC.
    Transaction,
    /// A script.
    Script,
    /// A module's call.
    Module,
    /// A stream that is replayed.
    Journal,
    /// The primary's stream.
    Primary,
}

impl Caller {
    /// Whether what is executed has happened elsewhere, or once before: it says itself what has expired, and is obeyed.
    #[inline(always)]
    pub fn is_stream(self) -> bool {
        matches!(self, Caller::Journal | Caller::Primary)
    }
}

/// Work for a worker thread.
pub enum Job {
    /// Something large is freed.
    Free(Box<dyn FnOnce() + Send>),
    /// A call goes on.
    Call(deferred::Deferred),
    /// A snapshot is written.
    Snapshot(Box<Snapshot>),
    /// The primary of this number is followed.
    Follow(u64),
}

/// All shared state.
pub struct Engine {
    /// The data.
    pub keyspace: Keyspace,
    /// The clients.
    pub clients: Clients,
    /// Waiting calls.
    pub blocked: Blocked,
    /// Channels and who listens.
    pub pubsub: PubSubs,
    /// Who is shown what is executed.
    pub monitors: Vec<crate::admin::monitor::Monitor>,
    /// Who may have copies of which keys.
    pub tracking: crate::tracking::Tracking,
    /// Users and passwords.
    pub users: mortise_acl::Users,
    /// What was refused lately.
    pub acl_log: mortise_acl::log::Log,
    /// Settings.
    pub config: Config,
    /// Their names, for CONFIG.
    pub directives: Arc<Directives<Config>>,
    /// What lies around the engine.
    pub rim: Box<dyn Rim>,
    /// Commands, as a snapshot that is replaced as a whole.
    pub registry: Arc<Registry>,
    /// Scripts.
    pub scripting: crate::scripting::Scripting,
    /// Snapshots.
    pub persistence: Persistence,
    /// The append-only file.
    pub journal: Journal,
    /// Who follows this server, and whom it follows.
    pub replication: Replication,
    /// Loaded modules.
    pub modules: crate::modules::Modules,
    /// Counters.
    pub stats: Stats,
    /// What has taken too long.
    pub latency: crate::admin::latency::events::Latency,
    /// Calls with large requests or replies.
    pub large: crate::admin::commandlog::LargeCalls,
    /// Slow calls.
    pub slowlog: crate::admin::slowlog::Slowlog,
    /// Where the requests stand that are executed, if values may take their bytes over: they are long.
    pub input: Option<Input>,
    /// What the current unit has done.
    pub unit: Unit,
    /// Up to which size collections stay packed.
    pub limits: Limits,
    /// Unix milliseconds, the same for all of a unit.
    pub now_ms: i64,
    /// The clock that entries carry.
    pub clock24: AccessClock,
    /// Whether a file is being loaded.
    pub loading: bool,
    /// Whether clients are answered from the data that is there while other data is being loaded.
    pub(crate) serves_meanwhile: bool,
    /// Whether some commands are refused whoever calls them: while a file is being loaded, or as nothing can be saved.
    pub(crate) hindered: bool,
    /// Whether clients may not write, as this server follows another one.
    read_only: bool,
    /// More memory is used than `maxmemory` allows, and nothing can be evicted.
    pub(crate) out_of_memory: bool,
    /// DEBUG PAUSE-CRON: what is done from time to time is not done.
    pub cron_paused: bool,
    /// DEBUG SET-ACTIVE-EXPIRE.
    pub active_expire: bool,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION.
    pub skips_checksums: bool,
    /// What the rim adds to it: facts about the process that INFO shows.
    pub process: Process,
    /// What the process uses, as last sampled.
    pub usage: rim::Usage,
    /// What the allocator says, as last sampled.
    pub memory: crate::keyspace::memory::Memory,
    /// Connections to be woken when the lock is released.
    pub wake: Vec<Arc<Outbox>>,
    /// Jobs to be started when the lock is released.
    pub jobs: Vec<Job>,
    /// SHUTDOWN was called.
    pub shutdown: bool,
    pub(crate) readers: Vec<Box<dyn StreamReader>>,
    pub(crate) output_limits_min: u64,
    stream_offset: u64,
    /// The client whose batch runs.
    current: Option<ClientId>,
    /// Messages to that client itself, which find their place beside the reply when the command is over.
    pushes: Vec<u8>,
    /// The same for those that come behind the reply.
    pushes_behind: Vec<u8>,
    /// A client whose waiting call is tried again meanwhile, and the messages to it.
    retried: Option<ClientId>,
    retried_pushes: Vec<u8>,
    /// When the log last said that a request of another protocol has come.
    crossing_logged_ms: i64,
    /// CLIENT UNPAUSE was called: what waits for the end of the pause is due.
    unpaused: bool,
    slices: tick::Slices,
    leaving: leaving::Leaving,
    eviction: memory::Eviction,
    trial: Option<unit::Mark>,
    /// From where on the slow log notes a call, and from where on anybody does.
    pub(crate) slowlog_ns: u64,
    slow_ns: u64,
    lap_ns: u64,
    /// When `now_ms` is over, by the clock of laps.
    next_ms_ns: u64,
    /// Until when, by the same clock, the time of day is known without asking for it.
    asked_until_ns: u64,
    /// When the unit began, by the same clock.
    unit_ns: u64,
    clock: Box<dyn Clock>,
    random: Random,
}

/// Facts about the process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// 40 hexadecimal digits that no other run has.
    pub run_id: String,
    /// When it started: Unix milliseconds.
    pub started_ms: i64,
    /// The port it listens on.
    pub port: u16,
    /// System, release and machine, as uname says them.
    pub os: String,
    /// The executable.
    pub executable: String,
    /// The configuration file, as an absolute path; empty if there is none.
    pub config_file: String,
}

impl Engine {
    /// An engine without data. `seed` drives everything that is left to chance.
    pub fn new(config: Config, registry: Arc<Registry>, clock: Box<dyn Clock>, seed: u64) -> Engine {
        let mut random = Random::new(seed);
        let stream_name = StreamName::random(|| random.word());
        let mut engine = Engine {
            keyspace: Keyspace::default(),
            clients: Clients::default(),
            blocked: Blocked::default(),
            pubsub: PubSubs::default(),
            monitors: Vec::new(),
            tracking: Default::default(),
            users: mortise_acl::Users::default(),
            acl_log: Default::default(),
            config,
            directives: Arc::default(),
            rim: Box::new(NoRim),
            registry,
            scripting: Default::default(),
            persistence: Persistence::default(),
            journal: Journal::new(),
            replication: Replication::new(stream_name),
            modules: Default::default(),
            stats: Stats::default(),
            latency: Default::default(),
            large: Default::default(),
            slowlog: Default::default(),
            input: None,
            unit: Unit::default(),
            limits: Limits::default(),
            now_ms: 0,
            clock24: AccessClock::default(),
            loading: false,
            serves_meanwhile: false,
            hindered: false,
            read_only: false,
            out_of_memory: false,
            cron_paused: false,
            active_expire: true,
            skips_checksums: false,
            process: Process::default(),
            usage: Default::default(),
            memory: Default::default(),
            wake: Vec::new(),
            jobs: Vec::new(),
            shutdown: false,
            readers: Vec::new(),
            output_limits_min: u64::MAX,
            stream_offset: 0,
            current: None,
            pushes: Vec::new(),
            pushes_behind: Vec::new(),
            retried: None,
            retried_pushes: Vec::new(),
            crossing_logged_ms: 0,
            unpaused: false,
            slices: Default::default(),
            leaving: Default::default(),
            eviction: Default::default(),
            trial: None,
            slowlog_ns: u64::MAX,
            slow_ns: u64::MAX,
            lap_ns: 0,
            next_ms_ns: 0,
            asked_until_ns: 0,
            unit_ns: 0,
            clock,
            random,
        };
        engine.follow_registry();
        engine.apply_config();
        engine.apply_password();
        engine.refresh_clock();
        engine.memory.sample();
        engine.unit.leaving = engine.memory.leaving.clone();
        engine.keyspace.door.frozen = engine.persistence.frozen.clone();
        engine.persistence.last_save_s = engine.now_ms / 1000;
        engine
    }

    /// Takes over what the settings say, wherever the engine keeps it in another form.
    pub fn apply_config(&mut self) {
        let config = &self.config;
        self.limits = Limits {
            hash_entries: config.hash.hash_max_listpack_entries,
            hash_value_len: config.hash.hash_max_listpack_value.0 as usize,
            set_ints: config.set.set_max_intset_entries,
            set_entries: config.set.set_max_listpack_entries,
            set_value_len: config.set.set_max_listpack_value,
            zset_entries: config.zset.zset_max_listpack_entries,
            zset_value_len: config.zset.zset_max_listpack_value.0 as usize,
            list: ChunkLimits {
                alone_len: self.limits.list.alone_len,
                depth: config.list.list_compress_depth,
                ..ChunkLimits::from_directive(config.list.list_max_listpack_size)
            },
            stream_node_bytes: config.stream.stream_node_max_bytes.0 as usize,
            stream_node_entries: config.stream.stream_node_max_entries,
            stream_memory: Memory {
                duration_s: config.stream.stream_idmp_duration,
                len: config.stream.stream_idmp_maxsize,
            },
        };
        self.stats.tracks_latency = config.stats.latency_tracking;
        let slower_than = config.stats.slowlog_log_slower_than;
        self.slowlog_ns = u64::try_from(slower_than).map_or(u64::MAX, |us| us.saturating_mul(1000));
        let latency_ms = config.stats.latency_monitor_threshold;
        let latency_ns = if latency_ms == 0 { u64::MAX } else { latency_ms.saturating_mul(1_000_000) };
        self.slow_ns = self.slowlog_ns.min(latency_ns);
        self.slowlog.set_len_max(config.stats.slowlog_max_len);
        self.large.follow(config);
        self.output_limits_min = config.clients.client_output_buffer_limit.smallest();
        self.follow_tracking();
        self.follow_client_limit();
        self.follow_acl_settings();
        self.follow_hindrances();
    }

    /// Takes over `requirepass` as the default user's password.
    pub fn apply_password(&mut self) {
        let password = self.config.clients.requirepass.as_deref().filter(|password| !password.is_empty());
        self.users.set_default_password(password.map(str::as_bytes));
    }

    /// Reads the clocks: once per batch. The time of day is asked for once a millisecond, and goes on with the laps meanwhile.
    #[inline(always)]
    pub fn refresh_clock(&mut self) {
        self.lap_ns = self.clock.monotonic_ns();
        if self.lap_ns < self.asked_until_ns {
            self.advance_time();
        } else {
            self.asked_until_ns = self.lap_ns + 1_000_000;
            let unix_us = self.clock.unix_us();
            self.now_ms = unix_us / 1000;
            self.next_ms_ns = self.lap_ns + (1000 - unix_us.rem_euclid(1000) as u64) * 1000;
        }
        self.unit_ns = self.lap_ns;
        // Chance of its own: the engine's sequence must not depend on how requests come in batches.
        let random = self.lap_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.clock24 = AccessClock::new(self.now_ms, &self.config.keyspace, || random);
    }

    /// Unix nanoseconds, the same for all of a unit: `now_ms` and what of the millisecond had passed when the unit began.
    #[inline(always)]
    pub fn now_ns(&self) -> i64 {
        let left_ns = self.next_ms_ns.saturating_sub(self.unit_ns).clamp(1, 1_000_000) as i64;
        self.now_ms.saturating_mul(1_000_000).saturating_add(1_000_000 - left_ns)
    }

    /// Microseconds since 1970, now.
    pub fn unix_us(&self) -> i64 {
        self.clock.unix_us()
    }

    /// Reads the clock of commands, once per command: the end of one is the start of the next.
    #[inline(always)]
    pub(crate) fn lap(&mut self) -> u64 {
        self.lap_ns = self.clock.monotonic_ns();
        self.lap_ns
    }

    /// Seconds by the clock that only measures: it goes on evenly when the time of day is set.
    pub(crate) fn measured_s(&self) -> i64 {
        (self.lap_ns / 1_000_000_000) as i64
    }

    /// Between two units of a batch, the time of day goes on with the laps.
    #[inline(always)]
    fn advance_time(&mut self) {
        self.unit_ns = self.lap_ns;
        if self.lap_ns >= self.next_ms_ns {
            let passed_ms = (self.lap_ns - self.next_ms_ns) / 1_000_000 + 1;
            self.now_ms += passed_ms as i64;
            self.next_ms_ns += passed_ms * 1_000_000;
        }
    }

    /// A random number; the sequence follows from the engine's seed.
    pub fn random(&mut self) -> u64 {
        self.random.word()
    }

    /// Removes a key and names the event; false if there was none.
    pub(crate) fn remove_key(
        &mut self,
        space: SpaceId,
        db: u32,
        key: Key<'_>,
        event: &'static str,
        class: EventClass,
    ) -> bool {
        let Engine { keyspace, unit, .. } = self;
        let (database, door) = keyspace.db(space, db);
        let Some(entry) = database.remove(door, key.hash, key.bytes) else { return false };
        unit.changed(space, db, key.bytes, entry.is_listened(), event, class);
        unit.discard(entry.into_object());
        true
    }

    /// Removes a key that has expired, counts it and propagates its removal.
    pub(crate) fn expire_key(&mut self, space: SpaceId, db: u32, key: Key<'_>) {
        let dirty = self.unit.dirty;
        if self.remove_key(space, db, key, "expired", event::EXPIRED) {
            self.stats.expired_keys += 1;
            let word = removal(self.config.keyspace.lazyfree_lazy_expire);
            self.unit.say_expired(space, db, &[word, key.bytes]);
            // Said above; the command that met the key has not changed anything by that.
            self.unit.dirty = dirty;
        }
    }

    /// Removes up to `limit` parts of a value that have expired, which are counted and propagated; whether there may be
    /// more of them.
    pub(crate) fn expire_parts(&mut self, space: SpaceId, db: u32, key: Key<'_>, limit: usize) -> bool {
        let Engine { keyspace, unit, limits, now_ms, .. } = self;
        let (database, door) = keyspace.db(space, db);
        let Some(entry) = database.edit(door, key.hash, key.bytes) else { return false };
        if !entry.entry().kind().has_field_deadlines() {
            return false;
        }
        let mut hash = Edit::<Hash>::new(entry, unit, *limits, (space, db), *now_ms, false);
        let expired = hash.remove_expired(limit);
        let leaves_some = crate::types::field_due(hash.entry()).is_some_and(|due| due <= *now_ms);
        if !expired.is_empty() {
            let fields: Vec<&[u8]> = expired.iter().map(|field| &**field).collect();
            hash.tell_expired(&fields);
            hash.ended();
        }
        leaves_some
    }

    /// Attaches a reader of the stream.
    pub fn attach(&mut self, reader: Box<dyn StreamReader>) {
        self.readers.push(reader);
        self.follow_readers();
    }

    /// Whether anybody reads the stream, told to the unit.
    pub(crate) fn follow_readers(&mut self) {
        self.unit.streaming = !self.readers.is_empty() || self.journal.feeds || self.replication.is_fed();
    }

    /// Replaces the commands.
    pub fn set_registry(&mut self, registry: Registry) {
        self.registry = Arc::new(registry);
        self.scripting.forget_commands();
        self.follow_registry();
    }
}
