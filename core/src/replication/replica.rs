//! Following a primary: what the engine knows of the link, and the stream applied to the data.
//!
//! The link (`link.rs`) has a thread to itself. It is told by a number which server it is to follow; when that has changed,
//! whatever it brings is not wanted any more.

use std::sync::Arc;
use std::time::Duration;

use mortise_sdk::declare::flags;

use super::OnError;
use super::backlog::StreamName;
use super::durable::Marks;
use super::handshake::Introduction;
use crate::engine::Engine;
use crate::engine::args::{Args, Span};
use crate::engine::client::Origin;
use crate::engine::dispatch::Asked;
use crate::engine::outbox::Outbox;
use crate::engine::registry::Lookup;
use crate::engine::session::{ClientId, Session};
use crate::keyspace::SpaceId;
use crate::resp::output::Output;
use crate::resp::request::{self, Parsed, Partial, RequestLimits};

/// How far the link is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It waits for the next attempt.
    Waiting,
    /// It connects.
    Connecting,
    /// It talks.
    Talking,
    /// It is sent all data.
    Syncing,
    /// The stream flows.
    Up,
}

impl Stage {
    /// What ROLE calls it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Waiting => "connect",
            Stage::Connecting => "connecting",
            Stage::Talking => "handshake",
            Stage::Syncing => "sync",
            Stage::Up => "connected",
        }
    }
}

/// How far the data of a full synchronisation has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transfer {
    /// Its length, if that was said.
    pub total: Option<u64>,
    /// Bytes that have come.
    pub read: u64,
    /// When something came last: Unix milliseconds.
    pub heard_ms: i64,
}

/// A server that this one follows.
pub struct Following {
    /// Where it is.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Which of all that were followed it is.
    pub number: u64,
    /// Its link has a thread.
    pub(super) has_link: bool,
    /// How far the link is.
    pub stage: Stage,
    /// When it was last heard of: Unix milliseconds.
    pub heard_ms: i64,
    /// Since when it is not heard of: Unix milliseconds; `None` if it never was.
    pub down_since_ms: Option<i64>,
    /// How far the data has come that it sends.
    pub transfer: Option<Transfer>,
    /// The link, as a client.
    pub client: Option<ClientId>,
    /// The data is the stream's up to its offset, so that it may go on there.
    pub resumes: bool,
    /// The database that the stream is in.
    pub db: u32,
    /// Bytes of the stream that have come and are not applied.
    pub ahead: u64,
    /// It wants to know how far this server is.
    pub wants_ack: bool,
    /// How much of the stream is durable here.
    pub(super) marks: Marks,
}

impl Following {
    /// A server that is to be followed.
    pub(super) fn new(host: String, port: u16, number: u64, resumes: bool, db: u32) -> Following {
        Following {
            host,
            port,
            number,
            has_link: false,
            stage: Stage::Waiting,
            heard_ms: 0,
            down_since_ms: None,
            transfer: None,
            client: None,
            resumes,
            db,
            ahead: 0,
            wants_ack: false,
            marks: Marks::default(),
        }
    }

    /// Whether the stream flows.
    pub fn is_up(&self) -> bool {
        self.stage == Stage::Up
    }

    /// How much of the stream is applied, as INFO shows it.
    pub fn shown_offset(&self, engine: &Engine) -> u64 {
        if self.resumes { engine.replication.offset } else { 1 }
    }

    /// How much of it has been read.
    pub fn read_offset(&self, engine: &Engine) -> u64 {
        self.shown_offset(engine) + self.ahead
    }
}

/// What a link needs for an attempt to reach the primary.
pub struct Attempt {
    /// Where it is.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// From which address it is reached; if there is none, the system chooses.
    pub source: Option<String>,
    /// How long it may say nothing.
    pub timeout: Duration,
    /// Whether it is reached by TLS, and with what.
    pub is_encrypted: bool,
    /// What TLS begins with.
    pub connector: Option<mortise_tls::Connector>,
    /// What it is told.
    pub introduction: Introduction,
}

/// The link's side of the stream: what has come and how it is to be executed.
pub struct Applying {
    session: Box<Session>,
    /// What has come and is not executed.
    input: Vec<u8>,
    partial: Partial,
    /// What has been executed of a transaction that is not complete.
    held: Vec<u8>,
    spans: Vec<Span>,
    out: Output,
}

/// A request of the stream: its words among the spans, and where it ends.
struct Said {
    first: usize,
    last: usize,
    end: usize,
}

/// So many requests are executed while the engine is held.
const BATCH_LEN_MAX: usize = 128;

/// The stream cannot be read: it is no protocol.
#[derive(Debug)]
pub struct Rubbish(pub String);

impl Applying {
    /// What others have for the connection to the primary.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.session.outbox
    }

    /// The connection to the primary is to be closed.
    pub fn is_closing(&self) -> bool {
        self.session.outbox.is_closing()
    }

    /// Bytes that have come and are not executed.
    pub fn ahead(&self) -> u64 {
        self.input.len() as u64
    }

    /// Bytes of the stream have come.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.session.outbox.bytes_in.fetch_add(bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
    }

    /// Takes the requests that are complete, up to a batch.
    fn take(&mut self) -> Result<Vec<Said>, Rubbish> {
        const LIMITS: RequestLimits = RequestLimits { bulk_len_max: i64::MAX, authenticated: true };
        let (mut batch, mut end) = (Vec::new(), 0);
        self.spans.clear();
        while batch.len() < BATCH_LEN_MAX {
            let first = self.spans.len();
            match request::parse(&self.input, end, &mut self.partial, &mut self.spans, LIMITS) {
                Parsed::Request(at) => {
                    batch.push(Said { first, last: self.spans.len(), end: at });
                    end = at;
                }
                Parsed::Incomplete => break,
                // What comes before is a whole.
                Parsed::Quoted(..) | Parsed::Broken(_) if end > 0 => break,
                Parsed::Quoted(..) => return Err(Rubbish("a request in quotes".to_owned())),
                Parsed::Broken(error) => return Err(Rubbish(error.to_string())),
            }
        }
        if end > 0 {
            // What is not complete is parsed anew when the rest of it is there.
            self.partial = Partial::default();
        }
        Ok(batch)
    }

    /// Executes what is complete, with the engine lent by `lend` for each batch. False: it is not wanted any more.
    pub fn apply(
        &mut self,
        number: u64,
        mut lend: impl FnMut(&mut dyn FnMut(&mut Engine)) -> bool,
    ) -> Result<bool, Rubbish> {
        loop {
            if self.input.is_empty() || self.input.len() < self.partial.needed() {
                return Ok(true);
            }
            let batch = self.take()?;
            let Some(end) = batch.last().map(|said| said.end) else {
                return Ok(true);
            };
            let mut is_wanted = false;
            let runs = lend(&mut |engine| is_wanted = engine.apply(number, self, &batch));
            if !runs || !is_wanted {
                return Ok(false);
            }
            self.input.drain(..end);
        }
    }
}

impl Engine {
    /// The server of this number, if it is still followed.
    pub(super) fn followed(&mut self, number: u64) -> Option<&mut Following> {
        self.replication.following.as_mut().filter(|following| following.number == number)
    }

    /// Whether the server of this number is still followed.
    pub fn follows(&mut self, number: u64) -> bool {
        self.followed(number).is_some()
    }

    /// An attempt to reach the primary begins. `None`: it is not wanted any more.
    pub fn begin_attempt(&mut self, number: u64) -> Option<Attempt> {
        self.refresh_clock();
        let settings = self.config.replication.clone();
        let is_encrypted = self.config.tls.tls_replication;
        let own_port = match (settings.replica_announce_port, self.config.tls.tls_port) {
            (0, tls_port) if is_encrypted && tls_port > 0 => tls_port,
            (0, _) => self.config.any_port(),
            (port, _) => port,
        };
        let connector = if is_encrypted { self.rim.connector() } else { None };
        let known = (self.replication.name, self.replication.offset);
        let failover = self.replication.failover.as_ref();
        let fails_over = failover.is_some_and(|failover| failover.is_in_progress());
        let following = self.followed(number)?;
        following.stage = Stage::Connecting;
        let (host, port) = (following.host.clone(), following.port);
        tracing::info!("Connecting to MASTER {host}:{port}");
        tracing::info!("MASTER <-> REPLICA sync started");
        let password = settings.masterauth.filter(|password| !password.is_empty());
        Some(Attempt {
            host,
            port,
            source: settings.bind_source_addr.filter(|source| !source.is_empty()),
            timeout: Duration::from_secs(settings.repl_timeout.into()),
            is_encrypted,
            connector,
            introduction: Introduction {
                login: password
                    .map(|password| (settings.masteruser.filter(|user| !user.is_empty()), password)),
                port: own_port,
                ip: settings.replica_announce_ip.filter(|ip| !ip.is_empty()),
                known: following.resumes.then_some(known),
                fails_over,
            },
        })
    }

    /// The link has come to another stage.
    pub fn enter_stage(&mut self, number: u64, stage: Stage) -> bool {
        let Some(following) = self.followed(number) else { return false };
        following.stage = stage;
        true
    }

    /// The link is down; it will be tried again. If it `is_broken`, nobody knows where in the stream the data is.
    pub fn lose_primary(&mut self, number: u64, is_broken: bool) -> bool {
        if is_broken {
            // A command may have ended half way.
            self.abandon();
        }
        self.refresh_clock();
        let now_ms = self.now_ms;
        let Some(following) = self.followed(number) else { return false };
        if following.is_up() {
            tracing::warn!("Connection with master lost.");
            if !is_broken {
                tracing::info!("Caching the disconnected master state.");
            }
            tracing::info!("Reconnecting to MASTER {}:{}", following.host, following.port);
            following.down_since_ms = Some(now_ms);
        }
        following.resumes &= !is_broken;
        (following.stage, following.transfer, following.ahead) = (Stage::Waiting, None, 0);
        if let Some(client) = following.client.take() {
            self.disconnect(client);
        }
        self.follow_hindrances();
        true
    }

    /// All data is coming.
    pub fn begin_transfer(&mut self, number: u64) -> bool {
        self.refresh_clock();
        let now_ms = self.now_ms;
        let Some(following) = self.followed(number) else { return false };
        following.stage = Stage::Syncing;
        following.transfer = Some(Transfer { heard_ms: now_ms, ..Transfer::default() });
        true
    }

    /// So much of the data has come.
    pub fn note_transfer(&mut self, number: u64, total: Option<u64>, read: u64) -> bool {
        self.refresh_clock();
        let now_ms = self.now_ms;
        let Some(following) = self.followed(number) else { return false };
        let before = following.transfer.map_or(0, |transfer| transfer.read);
        following.transfer = Some(Transfer { total, read, heard_ms: now_ms });
        self.replication.counts.bytes_in += read.saturating_sub(before);
        true
    }

    /// The data that is there makes room for the primary's.
    pub fn make_way(&mut self, number: u64) -> bool {
        self.refresh_clock();
        if !self.follows(number) {
            return false;
        }
        tracing::info!("MASTER <-> REPLICA sync: Flushing old data");
        self.cancel_background_save();
        self.let_go_of_data();
        self.empty_space(SpaceId::FIRST);
        self.settle();
        tracing::info!("MASTER <-> REPLICA sync: Loading DB in memory");
        true
    }

    /// The data that is there is going to be another's: who follows this server has to begin anew, and so has the journal.
    fn let_go_of_data(&mut self) {
        self.disconnect_replicas();
        self.end_backlog();
        if let Some(following) = &mut self.replication.following {
            (following.resumes, following.marks) = (false, Marks::default());
        }
        self.suspend_journal();
        self.replication.own_keys.clear();
    }

    /// What has been loaded beside the data in use takes its place.
    pub(super) fn swap_in(&mut self, number: u64, space: SpaceId) -> Option<()> {
        self.followed(number)?;
        self.let_go_of_data();
        tracing::info!("MASTER <-> REPLICA sync: Swapping active DB with loaded DB");
        self.take_over(SpaceId::FIRST, space);
        tracing::info!("MASTER <-> REPLICA sync: Discarding old DB in background");
        self.settle();
        Some(())
    }

    /// Data has come that no file holds.
    pub(super) fn note_arrival(&mut self) {
        self.unit.dirty += 1;
    }

    /// Data does not come to its end: what of it is there is of no use.
    pub(super) fn give_up_arriving(&mut self, space: SpaceId) {
        self.refresh_clock();
        self.abandon_loading();
        self.empty_space(space);
        self.settle();
    }

    /// The primary's data is there: the stream follows.
    pub fn begin_stream(
        &mut self,
        number: u64,
        (name, offset, db): (StreamName, u64, u32),
        origin: Origin,
    ) -> Option<Applying> {
        self.refresh_clock();
        let following = self.followed(number)?;
        (following.resumes, following.db) = (true, db);
        let state = &mut self.replication;
        (state.name, state.offset) = (name, offset);
        (state.former, state.former_end) = (StreamName::NONE, -1);
        state.backlog = None;
        tracing::info!("MASTER <-> REPLICA sync: Finished with success");
        self.begin_journal_anew();
        self.begin_link(number, origin)
    }

    /// The primary's data could not be loaded: half of it is no use to anybody.
    pub fn drop_half(&mut self) {
        self.refresh_clock();
        self.empty_space(SpaceId::FIRST);
        self.settle();
    }

    /// The stream goes on where it was left, maybe under another name.
    pub fn resume_stream(
        &mut self,
        number: u64,
        name: Option<StreamName>,
        origin: Origin,
    ) -> Option<Applying> {
        self.refresh_clock();
        self.followed(number)?;
        let state = &mut self.replication;
        if let Some(name) = name.filter(|name| *name != state.name) {
            (state.former, state.former_end) = (state.name, state.offset as i64 + 1);
            state.name = name;
            tracing::warn!("Master replication ID changed to {name}");
            // They come back at once, and learn the new name.
            self.disconnect_replicas();
        }
        tracing::info!("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.");
        self.begin_link(number, origin)
    }

    fn begin_link(&mut self, number: u64, origin: Origin) -> Option<Applying> {
        let now_ms = self.now_ms;
        let users = self.users.clone();
        let outbox = Arc::new(Outbox::new());
        let mut session = Session::arriving(&self.clients.ids, outbox, &origin, &users);
        self.admit_primary(&session, origin);
        let id = session.id;
        let following = self.followed(number)?;
        session.authenticated = true;
        session.db = following.db;
        (following.stage, following.transfer) = (Stage::Up, None);
        (following.heard_ms, following.client) = (now_ms, Some(id));
        following.down_since_ms = None;
        if self.replication.backlog.is_none() {
            self.begin_backlog();
        }
        self.follow_hindrances();
        Some(Applying {
            session,
            input: Vec::new(),
            partial: Partial::default(),
            held: Vec::new(),
            spans: Vec::new(),
            out: Output::default(),
        })
    }

    /// The primary was heard: so much has come, and so much of it all is not applied.
    pub fn hear_primary(&mut self, number: u64, came: u64, ahead: u64) -> bool {
        self.refresh_clock();
        let now_ms = self.now_ms;
        let Some(following) = self.followed(number) else { return false };
        (following.heard_ms, following.ahead) = (now_ms, ahead);
        self.replication.counts.bytes_in += came;
        true
    }

    /// Executes requests of the primary's stream, and hands them on. False: they are not wanted any more.
    fn apply(&mut self, number: u64, link: &mut Applying, batch: &[Said]) -> bool {
        self.refresh_clock();
        let now_ms = self.now_ms;
        let Some(following) = self.followed(number) else { return false };
        following.heard_ms = now_ms;
        if link.session.outbox.is_closing() {
            return false;
        }
        let mut start = 0;
        for said in batch {
            let bytes = start..said.end;
            start = said.end;
            if said.last > said.first && !self.obey_primary(link, said) {
                return false;
            }
            let db = link.session.db;
            let Applying { session, input, held, .. } = &mut *link;
            // A transaction counts when it is complete: until then the primary would have to begin it again.
            if session.transaction.is_some() {
                held.extend_from_slice(&input[bytes]);
            } else {
                self.replication.hand_on(held);
                held.clear();
                self.replication.hand_on(&input[bytes]);
            }
            let Some(following) = self.followed(number) else { return false };
            following.db = db;
        }
        true
    }

    /// Executes one request. False: the server ends.
    fn obey_primary(&mut self, link: &mut Applying, said: &Said) -> bool {
        let Applying { session, input, spans, out, .. } = link;
        let args = Args::new(input, &spans[said.first..said.last]);
        let registry = self.registry.clone();
        match registry.find(args) {
            Lookup::Found(command) => {
                if self.hindered && command.flags.has(flags::WRITE) && !self.may_follow_unsaved() {
                    return false;
                }
                self.obey_as_primary(session, &registry, Asked::new(&command, args), out);
            }
            lookup => out.error(&crate::engine::unknown::unknown(&lookup, args)),
        }
        self.settle();
        self.lap();
        if out.bytes().first() == Some(&b'-') {
            self.replication.counts.errors += 1;
            tracing::warn!(
                "== CRITICAL == This replica is sending an error to its master: '{}' after processing the command '{}'",
                String::from_utf8_lossy(&out.bytes()[1..]).trim_end(),
                args.at(0).escape_ascii().to_string().to_ascii_lowercase()
            );
            let settings = &self.config.replication;
            if settings.propagation_error_behavior != OnError::Ignore && settings.replica_read_only {
                tracing::error!(
                    "This replica panicked sending an error to its master after processing the command '{}'",
                    args.at(0).escape_ascii().to_string().to_ascii_lowercase()
                );
                self.shutdown = true;
            }
        }
        out.clear();
        true
    }

    /// Whether what the primary says is obeyed though it can neither be saved nor appended to the journal.
    #[cold]
    fn may_follow_unsaved(&mut self) -> bool {
        const LOG_EVERY_MS: i64 = 10_000;
        if self.refuses_writes().is_none() {
            return true;
        }
        if !self.config.replication.replica_ignore_disk_write_errors {
            tracing::error!("Replica was unable to write command to disk.");
            self.journal.is_lost = true;
            return false;
        }
        if self.now_ms - self.replication.unsaved_logged_ms >= LOG_EVERY_MS {
            self.replication.unsaved_logged_ms = self.now_ms;
            tracing::warn!("Replica is applying a command even though it is unable to write to disk.");
        }
        true
    }

    /// The primary wants to know how far this server is.
    pub(super) fn answer_getack(&mut self) {
        if let Some(following) = &mut self.replication.following {
            following.wants_ack = true;
        }
    }
}
