//! The rim: sockets, threads, files, signals. tokio lives here.

mod check;
pub mod cli;
pub mod clock;
pub mod commit;
pub mod connection;
pub mod disk;
mod info;
pub mod io_thread;
pub mod listener;
pub mod logging;
mod oom_score;
pub mod process;
pub mod put_off;
mod replica;
pub mod rim;
pub mod run;
pub mod signals;
mod snapshot;
pub mod start;
pub mod stream;
pub mod supervisor;
pub mod ticker;
pub mod tls;
pub mod traffic;
pub mod turn;
pub mod worker;

use std::io::{self, Read as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use mortise_acl::Users;
use mortise_sdk::declare::config::Octal;
use mortise_sdk::{config, setting_enum};
use parking_lot::{ArcMutexGuard, Mutex, MutexGuard, RawMutex};
use tokio::sync::watch;

use crate::config::file::Fatal;
pub(crate) use crate::config::file::error_text;
use crate::config::values::{Addresses, Hertz, OomScores};
use crate::config::{Config, Directives};
use crate::engine::busy::Known;
use crate::engine::client_memory;
use crate::engine::clients::ClientIds;
use crate::engine::outbox::Outbox;
use crate::engine::{Engine, Job};
use crate::features::{self, Feature};
use crate::modules::Permission;
use crate::persistence::disk::Pending;
use crate::persistence::journal::append::Apart;
use commit::Commits;
use run::Running;
use signals::Signals;
use snapshot::Writing;
pub use start::{Server, Settings};
use supervisor::Supervisor;
use ticker::Ticker;
use tls::Tls;
use traffic::Traffic;
use worker::Worker;

/// The process and its listeners.
pub const FEATURE: Feature = Feature {
    name: "server",
    config: ServerConfig::directives(),
    info: &[info::SERVER, info::CPU],
    ..Feature::EMPTY
};

setting_enum! {
    /// Who started the server and waits for its word that it is ready.
    pub enum Supervision {
        /// Upstart: the process stops itself with SIGSTOP when it is ready.
        Upstart = "upstart",
        /// systemd: READY=1 is sent to NOTIFY_SOCKET.
        Systemd = "systemd",
        /// Whichever of them the environment names.
        Auto = "auto",
        /// Nobody.
        No = "no",
    }
}

setting_enum! {
    /// How the values of oom-score-adj-values are meant.
    pub enum OomScore {
        /// Not at all: the score that the server was started with stays.
        No = "no",
        /// As "relative".
        Yes = "yes",
        /// They are added to the score that the server was started with.
        Relative = "relative",
        /// They are the score.
        Absolute = "absolute",
    }
}

setting_enum! {
    /// How much is logged.
    pub enum LogLevel {
        /// Everything.
        Debug = "debug",
        /// Much.
        Verbose = "verbose",
        /// What an operator of a healthy server wants to see.
        Notice = "notice",
        /// What is wrong.
        Warning = "warning",
    }
}

config! {
    /// Listening, the process, and its log.
    pub struct ServerConfig {
        /// TCP port to listen on. Zero means none.
        live port: u16 = 6379, in 0..=65535 => listen;
        /// Addresses to listen on.
        live bind: Addresses = Addresses::everywhere() => listen;
        /// Path of a Unix socket to listen on.
        fixed unixsocket: Option<String> = None;
        /// Permissions of the Unix socket. Zero leaves them to the umask.
        fixed unixsocketperm: Octal = Octal(0), in 0..=0o777;
        /// How many connections may wait to be accepted.
        fixed tcp_backlog: u32 = 511, in 0..=i32::MAX;
        /// Threads that read requests and write replies.
        fixed io_threads: u32 = 1, in 1..=128;
        /// Without a password, accept connections from this machine only.
        live protected_mode: bool = true;
        /// Who may change protected directives, such as dir, by CONFIG SET.
        fixed enable_protected_configs: Permission = Permission::No;
        /// Run in the background.
        fixed daemonize: bool = false;
        /// File that holds the number of the process while it runs.
        fixed pidfile: Option<String> = None;
        /// Who is told that the server is ready.
        fixed supervised: Supervision = Supervision::No;
        /// How much is logged.
        live loglevel: LogLevel = LogLevel::Notice => loglevel;
        /// File to log to. The empty text means standard output.
        fixed logfile: String = String::new();
        /// Working directory, in which files are written.
        protected dir: String = String::from("./") => chdir;
        /// Whether to tell the kernel how soon to end the server when the machine runs out of memory.
        live oom_score_adj: OomScore = OomScore::No => oom_score;
        /// What to tell it, as a primary, as a replica and of a child: from -2000 to 2000.
        live oom_score_adj_values: OomScores = OomScores([0, 200, 800]) => oom_score;
        /// How often a second background work is done.
        live hz: Hertz = Hertz(10), in 0..=i32::MAX;
        /// Milliseconds after which other clients are answered BUSY while a script runs.
        live busy_reply_threshold | lua_time_limit: i64 = 5000, in 0..=i64::MAX;
    }
}

/// What the threads share.
pub struct Shared {
    /// The inside, one batch at a time.
    pub engine: Arc<Mutex<Engine>>,
    /// The run that holds the engine, if there is one.
    pub running: Arc<Running>,
    /// `busy-reply-threshold`, read without the lock.
    pub busy_threshold_ms: AtomicI64,
    /// What is known of the engine while a run holds it.
    known: Mutex<Arc<Known>>,
    /// Where connections get their numbers.
    pub ids: Arc<ClientIds>,
    /// What is to be done with the engine once it is free, and whether there is anything.
    later: Mutex<Vec<Later>>,
    is_later: AtomicBool,
    /// `proto-max-bulk-len`, read without the lock.
    pub bulk_len_max: AtomicI64,
    /// `client-query-buffer-limit`, read without the lock.
    pub query_len_max: AtomicU64,
    /// The smallest limit of `client-output-buffer-limit`, read without the lock.
    pub output_limit_min: AtomicU64,
    /// `maxmemory-clients`: there is a limit.
    pub limits_clients: AtomicBool,
    /// Becomes true when the server stops.
    pub stop: watch::Sender<bool>,
    /// `tcp-keepalive`, read without the lock.
    pub tcp_keepalive_s: AtomicU32,
    /// Bytes read and written, by thread.
    pub traffic: Box<[Traffic]>,
    /// Certificates in force, and limits of handshakes.
    pub tls: Tls,
    /// Who is told when a tick has to come early.
    pub ticker: Ticker,
    worker: Worker,
    /// Replies that wait until what they tell of is durable.
    pub commits: Arc<Commits>,
    /// Whether connections are taken.
    pub(super) is_open: watch::Sender<bool>,
    /// The snapshot that is being written.
    writing: Writing,
    /// Files that are being written.
    pending: Pending,
    /// Whether there are save points, read without the lock.
    saves_at_end: AtomicBool,
    this: Weak<Shared>,
}

/// Something to be done with the engine.
pub type Later = Box<dyn FnOnce(&mut Engine) + Send>;

impl Shared {
    /// What `threads` I/O threads share. Settings take effect with `apply_config`.
    pub fn new(engine: Engine, threads: usize, tls: Tls) -> io::Result<Arc<Shared>> {
        let worker = Worker::start()?;
        let stop = watch::Sender::new(false);
        let running = Arc::new(Running::new(stop.clone()));
        let commits = Commits::new(engine.syncs());
        commits.start()?;
        Ok(Arc::new_cyclic(|this| Shared {
            known: Mutex::default(),
            ids: engine.clients.ids.clone(),
            pending: engine.persistence.pending.clone(),
            engine: Arc::new(Mutex::new(engine)),
            running,
            busy_threshold_ms: AtomicI64::new(0),
            later: Mutex::default(),
            is_later: AtomicBool::new(false),
            bulk_len_max: AtomicI64::new(0),
            query_len_max: AtomicU64::new(0),
            output_limit_min: AtomicU64::new(0),
            limits_clients: AtomicBool::new(false),
            stop,
            tcp_keepalive_s: AtomicU32::new(0),
            traffic: (0..threads).map(|_| Traffic::default()).collect(),
            tls,
            ticker: Ticker::default(),
            worker,
            commits,
            is_open: watch::Sender::new(false),
            writing: Writing::default(),
            saves_at_end: AtomicBool::new(false),
            this: this.clone(),
        }))
    }

    /// Takes the engine for a batch; nothing if a run holds it.
    #[inline(always)]
    pub fn acquire(&self) -> Option<MutexGuard<'_, Engine>> {
        match self.engine.try_lock() {
            Some(engine) => Some(engine),
            None => self.acquire_contended(),
        }
    }

    /// Another thread has the engine, which takes microseconds, or a run has it, which may take for ever.
    #[cold]
    fn acquire_contended(&self) -> Option<MutexGuard<'_, Engine>> {
        const SPINS: usize = 200;
        const PATIENCE: Duration = Duration::from_millis(1);
        for _ in 0..SPINS {
            if let Some(engine) = self.engine.try_lock() {
                return Some(engine);
            }
            std::hint::spin_loop();
        }
        while self.running.since_ms().is_none() {
            if let Some(engine) = self.engine.try_lock_for(PATIENCE) {
                return Some(engine);
            }
        }
        None
    }

    /// Takes the engine for a run; nothing if another run holds it.
    pub(crate) fn acquire_for_run(&self) -> Option<ArcMutexGuard<RawMutex, Engine>> {
        const PATIENCE: Duration = Duration::from_millis(1);
        while self.running.since_ms().is_none() {
            if let Some(engine) = Mutex::try_lock_arc_for(&self.engine, PATIENCE) {
                return Some(engine);
            }
        }
        None
    }

    /// What is known of the engine while a run holds it.
    pub fn known(&self) -> Arc<Known> {
        self.known.lock().clone()
    }

    /// Does something with the engine: now, or when the run that holds it is over.
    pub fn with_engine(&self, what: impl FnOnce(&mut Engine) + Send + 'static) {
        match self.acquire() {
            Some(mut engine) => {
                what(&mut engine);
                self.release(engine);
            }
            None => {
                self.later.lock().push(Box::new(what));
                self.is_later.store(true, Ordering::Release);
                // The run may have ended without having seen it.
                if let Some(engine) = self.acquire() {
                    self.release(engine);
                }
            }
        }
    }

    #[cold]
    fn do_later(&self, engine: &mut Engine) {
        self.is_later.store(false, Ordering::Release);
        for what in std::mem::take(&mut *self.later.lock()) {
            what(engine);
        }
    }

    /// Ends a run's hold on the engine.
    pub(crate) fn release_arc(&self, mut engine: ArcMutexGuard<RawMutex, Engine>) {
        if self.is_later.load(Ordering::Acquire) {
            self.do_later(&mut engine);
        }
        let apart = self.append(&mut engine);
        engine.broadcast();
        engine.pass_on();
        let left = Left::take(&mut engine);
        drop(engine);
        if let Some(apart) = apart {
            self.write_apart(apart);
        }
        self.finish(left);
    }

    /// Releases the engine, then wakes whom it wants woken and starts the jobs that it left.
    #[inline(always)]
    pub fn release(&self, mut engine: MutexGuard<'_, Engine>) {
        if self.is_later.load(Ordering::Relaxed) {
            self.do_later(&mut engine);
        }
        let apart = self.append(&mut engine);
        engine.broadcast();
        engine.pass_on();
        if engine.is_evicting() {
            self.ticker.hurry(&engine);
        }
        if engine.wake.is_empty() && engine.jobs.is_empty() && !engine.shutdown && apart.is_none() {
            return;
        }
        let left = Left::take(&mut engine);
        drop(engine);
        if let Some(apart) = apart {
            self.write_apart(apart);
        }
        self.finish(left);
    }

    /// Before the engine is given back, what has been done with it is written to the journal: nobody has heard of it yet.
    /// With several threads what can wait for that is left until it is given back.
    #[inline(always)]
    fn append(&self, engine: &mut Engine) -> Option<Apart> {
        if engine.journal.is_due() || engine.journal.is_apart() || engine.journal.is_lost {
            self.append_some(engine)
        } else {
            None
        }
    }

    #[cold]
    fn append_some(&self, engine: &mut Engine) -> Option<Apart> {
        let apart = match self.traffic.len() {
            1 => {
                engine.flush_journal(false);
                None
            }
            _ => engine.flush_journal_apart(),
        };
        if engine.journal.is_lost {
            // What was done cannot be taken back, and must not be acknowledged.
            std::process::exit(1);
        }
        apart
    }

    /// Writes what was left, or waits for whoever does. If that takes long, what is behind it has to wait, and its clients
    /// have not: it is as if it were postponed because of a sync.
    #[cold]
    fn write_apart(&self, apart: Apart) {
        const PATIENCE: Duration = Duration::from_millis(1);
        match apart {
            Apart::Mine(writing) => writing.perform(),
            Apart::Anothers(writing) => {
                if writing.wait_for(PATIENCE)
                    && let Some(mut engine) = self.engine.try_lock_for(PATIENCE)
                    && let Some(Apart::Mine(writing)) = self.append(&mut engine)
                {
                    drop(engine);
                    writing.perform();
                }
            }
        }
    }

    fn finish(&self, left: Left) {
        left.wake.iter().for_each(|outbox| outbox.wake());
        left.jobs.into_iter().for_each(|job| self.start_job(job));
        if left.shutdown {
            self.stop.send_replace(true);
        }
    }

    /// Hands a job to a worker.
    pub(crate) fn start_job(&self, job: Job) {
        match job {
            Job::Free(free) => self.worker.free(free),
            Job::Snapshot(snapshot) => {
                if let Some(shared) = self.this.upgrade() {
                    self.writing.start(shared, snapshot);
                }
            }
            Job::Follow(number) => {
                if let Some(shared) = self.this.upgrade() {
                    replica::start(shared, number);
                }
            }
            Job::Call(call) => {
                if let Some(shared) = self.this.upgrade() {
                    self.worker.go_on(shared, call);
                }
            }
        }
    }

    /// Takes over settings that are read without the lock.
    pub fn apply_config(&self, config: &Config, users: &Users) {
        *self.known.lock() = Arc::new(Known {
            users: users.clone(),
            protected_mode: config.server.protected_mode,
            running: Some(self.running.clone()),
        });
        self.saves_at_end.store(!config.persistence.save.0.is_empty(), Ordering::Relaxed);
        self.busy_threshold_ms.store(config.server.busy_reply_threshold, Ordering::Relaxed);
        self.bulk_len_max.store(config.clients.proto_max_bulk_len.0 as i64, Ordering::Relaxed);
        self.query_len_max.store(config.clients.client_query_buffer_limit.0, Ordering::Relaxed);
        self.tcp_keepalive_s.store(config.clients.tcp_keepalive, Ordering::Relaxed);
        self.tls.apply_config(&config.tls);
        self.limits_clients.store(client_memory::limit(config).is_some(), Ordering::Relaxed);
        self.output_limit_min.store(config.clients.client_output_buffer_limit.smallest(), Ordering::Relaxed);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.commits.close();
    }
}

/// What the engine leaves to the rim when it is released.
struct Left {
    wake: Vec<Arc<Outbox>>,
    jobs: Vec<Job>,
    shutdown: bool,
}

impl Left {
    fn take(engine: &mut Engine) -> Left {
        Left {
            wake: std::mem::take(&mut engine.wake),
            jobs: std::mem::take(&mut engine.jobs),
            shutdown: engine.shutdown,
        }
    }
}

/// Every directive there is.
pub fn directives() -> Result<Directives<Config>, String> {
    let mut directives = Directives::default();
    for feature in features::FEATURES {
        directives.install(feature.config)?;
    }
    Ok(directives)
}

/// Runs the server; returns when it has stopped.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<_> = arguments.collect();
    if let Some(done) = check::named(&name, &arguments) {
        return done;
    }
    let mut stdin = Vec::new();
    let request = cli::read(&arguments, || {
        io::stdin().read_to_end(&mut stdin)?;
        Ok(stdin.clone())
    });
    let startup = match request {
        Ok(cli::Request::Start(startup)) => startup,
        Ok(cli::Request::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(fatal) => {
            eprint!("{fatal}");
            return ExitCode::FAILURE;
        }
    };
    let settings = match Settings::load(startup).and_then(|settings| prepare(settings, &stdin)) {
        Ok(Some(settings)) => settings,
        Ok(None) => return ExitCode::SUCCESS,
        Err(fatal) => {
            eprint!("{fatal}");
            return ExitCode::FAILURE;
        }
    };
    match serve(settings, arguments.is_empty()) {
        Ok(true) => std::process::exit(0),
        Ok(false) => std::process::exit(1),
        Err(fatal) => {
            tracing::warn!("{}", fatal.reason);
            if fatal.has_line() {
                // Whoever started the server sees where it stands, wherever the log goes.
                eprint!("{fatal}");
            }
            ExitCode::FAILURE
        }
    }
}

/// What is done once for the process. `None` if another process serves in the background.
fn prepare(mut settings: Settings, stdin: &[u8]) -> Result<Option<Settings>, Fatal> {
    let at_home = std::env::current_dir();
    let server = &settings.config.server;
    let dir = rim::change_dir(&server.dir);
    settings.config.server.dir =
        dir.map_err(|reason| settings.fatal("dir", format!("Can't chdir to '{}': {reason}", server.dir)))?;
    let server = &settings.config.server;
    logging::start(&server.logfile, server.loglevel).map_err(|error| {
        settings.fatal("logfile", format!("Can't open the log file: {}", error_text(&error)))
    })?;
    settings.supervisor = Supervisor::find(server.supervised);
    settings.background = server.daemonize && settings.supervisor == Supervisor::Nobody;
    if settings.background {
        if !process::is_in_background() {
            return at_home
                .and_then(|dir| process::go_to_background(&dir, stdin))
                .map(|()| None)
                .map_err(|error| Fatal::new(format!("Can't go to the background: {}", error_text(&error))));
        }
        process::detach();
    }
    settings.supervisor.starting();
    Ok(Some(settings))
}

/// Lets a panic be seen in the log, with where it happened. The client that met it is disconnected, and the server goes on.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!("=== MORTISE BUG REPORT START: please report it ===\n{panic}\n{backtrace}");
        tracing::error!("=== MORTISE BUG REPORT END ===");
    }));
}

/// Starts, serves and stops. False if the end was not an orderly one.
fn serve(settings: Settings, without_arguments: bool) -> Result<bool, Fatal> {
    tracing::warn!("oO0OoO0OoO0Oo Mortise is starting oO0OoO0OoO0Oo");
    tracing::warn!(
        "Mortise version={}, bits={}, pid={}, just started",
        env!("CARGO_PKG_VERSION"),
        usize::BITS,
        std::process::id()
    );
    if without_arguments {
        tracing::warn!(
            "Warning: no config file specified, using the default config. In order to specify a config file use \
             mortise-server /path/to/redis.conf"
        );
    } else {
        tracing::warn!("Configuration loaded");
    }
    log_panics();
    let mut signals = Signals::take()
        .map_err(|error| Fatal::new(format!("Can't wait for signals: {}", error_text(&error))))?;
    Server::launch(settings)?.run_until(&mut signals)
}
