//! Starting the server, and what becomes of it: usable from within a process, as tests do, and by `main`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::clock::SystemClock;
use super::disk::SystemDisk;
use super::listener::{self, Listeners, Ports};
use super::process::{self, OpenFiles, Pidfile};
use super::rim::ProcessRim;
use super::signals::{Heard, Signals};
use super::supervisor::Supervisor;
use super::tls::Tls;
use super::{Shared, cli, directives, error_text, io_thread, ticker};
use crate::acl;
use crate::config::file::{self, Fatal, Line, Source};
use crate::config::load::Loaded;
use crate::config::{Config, Directives};
use crate::engine::registry::Registry;
use crate::engine::rim::Rim as _;
use crate::engine::settle::StreamReader;
use crate::engine::{Engine, Process};
use crate::features;
use crate::modules;
use crate::persistence::cut::Lender;
use crate::persistence::shutdown::Outcome;
use crate::persistence::start::{Ended, load_file};

/// How often to look whether an end that waits for replicas has come, or was called off.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a server is started with: lines of configuration, understood and found right.
pub struct Settings {
    /// The settings.
    pub config: Config,
    pub(super) directives: Directives<Config>,
    pub(super) loaded: Loaded,
    registry: Registry,
    config_file: Option<PathBuf>,
    lines: Vec<Line>,
    any_port: bool,
    /// Who is told that the server is ready.
    pub(super) supervisor: Supervisor,
    /// Whether it runs in the background.
    pub(super) background: bool,
}

impl Settings {
    /// Understands what the command line and its files say.
    pub fn load(startup: cli::Startup) -> Result<Settings, Fatal> {
        let directives = directives().map_err(Fatal::new)?;
        let mut config = Config::default();
        let loaded = directives.load(&mut config, &startup.lines)?;
        let mut registry = features::registry().map_err(Fatal::new)?;
        for line in &loaded.renames {
            let [from, to] = &line.words[..] else { continue };
            let (from, to) = (String::from_utf8_lossy(from), String::from_utf8_lossy(to));
            registry.rename(&from, &to).map_err(|reason| Fatal::at(line, reason))?;
        }
        acl::check_lines(&loaded.users, &registry)?;
        let cli::Startup { config_file, lines } = startup;
        Ok(Settings {
            config,
            directives,
            loaded,
            registry,
            config_file,
            lines,
            any_port: false,
            supervisor: Supervisor::Nobody,
            background: false,
        })
    }

    /// Understands the text of a redis.conf.
    pub fn parse(text: &str) -> Result<Settings, Fatal> {
        let mut lines = Vec::new();
        file::parse(text.as_bytes(), Source::CommandLine, &mut lines)?;
        Settings::load(cli::Startup { config_file: None, lines })
    }

    /// Listens on some free port, whatever `port` says. (`port 0` means that there is no TCP listener.)
    pub fn on_any_port(mut self) -> Settings {
        self.any_port = true;
        self
    }

    /// What is wrong with the value of a directive: in the line that gave it, if one did.
    pub(super) fn fatal(&self, directive: &str, reason: String) -> Fatal {
        match self.lines.iter().rfind(|line| line.name == directive) {
            Some(line) => Fatal::at(line, reason),
            None => Fatal::new(format!("{directive}: {reason}")),
        }
    }
}

/// A server that takes connections, on threads of its own. It is stopped when it is dropped.
pub struct Server {
    shared: Arc<Shared>,
    listeners: Arc<Mutex<Listeners>>,
    threads: Vec<JoinHandle<()>>,
    /// Closed when the last of the threads has ended.
    ended: mpsc::Receiver<()>,
    pidfile: Option<Pidfile>,
    supervisor: Supervisor,
    unixsocket: Option<String>,
    maxmemory: u64,
}

impl Server {
    /// Starts a server, which has loaded its data then. What concerns the process as a whole (`dir`, `logfile`,
    /// `daemonize`, signals) is left to the caller.
    pub fn start(settings: Settings) -> Result<Server, Fatal> {
        let server = Server::launch(settings)?;
        load(&server.shared)?;
        server.announce();
        Ok(server)
    }

    /// Starts a server, which has its data still to load, and tells its clients so.
    pub(super) fn launch(settings: Settings) -> Result<Server, Fatal> {
        let Settings { mut config, directives, loaded, registry, config_file, any_port, .. } = settings;
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        config.clients.maxclients = fit_clients(config.clients.maxclients)?;
        let tls = Tls::default();
        tls.load(&config).map_err(|problem| Fatal::new(format!("Failed to configure TLS: {problem}")))?;
        let (listeners, additions) = listen(&mut config, any_port)?;
        let pidfile = Pidfile::write(config.server.pidfile.as_deref(), settings.background);
        tracing::info!("Running mode=standalone, port={}.", config.any_port());
        tracing::info!(" PID: {}", std::process::id());
        warn_of_backlog(config.server.tcp_backlog);

        let mut engine =
            Engine::new(config.clone(), Arc::new(registry), Box::new(SystemClock::new()), entropy(0));
        engine.directives = Arc::new(directives);
        engine.persistence.disk = Arc::new(SystemDisk);
        engine.set_loading(true);
        engine.adopt_primary();
        engine.process = Process {
            pid: std::process::id(),
            run_id: (1..6).map(|part| format!("{:08x}", entropy(part) as u32)).collect(),
            started_ms: engine.now_ms,
            port: config.server.port,
            os: process::os(),
            executable: executable(),
            config_file: config_file.map_or_else(String::new, |path| path.to_string_lossy().into_owned()),
        };
        tracing::warn!("Server initialized");
        modules::load_at_start(&mut engine, &loaded)?;
        acl::load_at_start(&mut engine, &loaded.users)?;

        let fatal =
            |error: std::io::Error| Fatal::new(format!("Can't start a thread: {}", error_text(&error)));
        let count = config.server.io_threads as usize;
        let users = engine.users.clone();
        let shared = Shared::new(engine, count, tls).map_err(fatal)?;
        shared.apply_config(&config, &users);
        let listeners = Arc::new(Mutex::new(listeners));
        let mut rim = ProcessRim::new(&shared, listeners.clone(), Ports::of(&config));
        // The log says if it cannot be; that is no reason not to start.
        let _ = rim.oom_score(&config);
        shared.engine.lock().rim = Box::new(rim);
        let (alive, ended) = mpsc::channel(1);
        let mut server = Server {
            shared,
            listeners,
            threads: Vec::new(),
            ended,
            pidfile,
            supervisor: settings.supervisor,
            unixsocket: config.server.unixsocket.clone(),
            maxmemory: config.keyspace.maxmemory.0,
        };
        server.start_threads(count, additions, alive).map_err(fatal)?;
        Ok(server)
    }

    /// Starts the threads. The first one also accepts connections and keeps the time.
    fn start_threads(
        &mut self,
        count: usize,
        additions: mpsc::UnboundedReceiver<listener::Listener>,
        alive: mpsc::Sender<()>,
    ) -> std::io::Result<()> {
        let (threads, queues) = io_thread::queues(count);
        let mut additions = Some(additions);
        for (index, arrivals) in queues.into_iter().enumerate() {
            let runtime = io_thread::runtime()?;
            let (shared, threads, alive) = (self.shared.clone(), threads.clone(), alive.clone());
            let additions = additions.take();
            let serve = move || {
                let beside = async {
                    match additions {
                        Some(additions) => {
                            let accept = listener::accept(additions, threads, shared.clone());
                            tokio::join!(accept, ticker::run(shared.clone()));
                        }
                        None => std::future::pending().await,
                    }
                };
                io_thread::serve(&runtime, &shared, index, arrivals, beside);
                drop(alive);
            };
            let name = format!("mortise-io-{index}");
            self.threads.push(std::thread::Builder::new().name(name).spawn(serve)?);
        }
        Ok(())
    }

    /// The data is there.
    fn announce(&self) {
        let listeners = self.listeners.lock();
        if listeners.has_tcp() {
            tracing::info!("Ready to accept connections");
        }
        if let (Some(_), Some(path)) = (listeners.unix(), &self.unixsocket) {
            tracing::info!("The server is now ready to accept connections at {path}");
        }
        self.supervisor.ready();
        self.shared.with_engine(Engine::begin_replication);
        warn_of_small_memory(self.maxmemory);
    }

    /// Where it listens for TCP: the first address, with the real port.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listeners.lock().address(false)
    }

    /// Where it listens for TLS: the first address, with the real port.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.listeners.lock().address(true)
    }

    /// The path of the Unix socket.
    pub fn unix_socket(&self) -> Option<PathBuf> {
        self.listeners.lock().unix().map(Path::to_owned)
    }

    /// What its threads share: for whoever runs a server in its own process.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Attaches a reader of the stream of changes.
    pub fn attach(&self, reader: Box<dyn StreamReader>) {
        self.shared.engine.lock().attach(reader);
    }

    /// Waits until the server is stopped by a command.
    pub fn run(mut self) {
        // Nothing is ever sent.
        let _ = self.ended.blocking_recv();
    }

    /// Loads the data, and waits until the server is stopped by a signal or a command. False if it was not given the time
    /// to end well.
    pub(super) fn run_until(mut self, signals: &mut Signals) -> Result<bool, Fatal> {
        let mut stop = self.shared.stop.subscribe();
        let mut loading = Some(self.load_beside()?);
        // How many signals are being obeyed: whoever has called the server's end off may ask for it again at once.
        let ending = Arc::new(AtomicUsize::new(0));
        loop {
            let heard = signals.next(async {
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => Happened::Stopped,
                    ended = loaded(&mut loading) => Happened::Loaded(ended),
                }
            });
            let name = match heard {
                Heard::Other(Happened::Stopped) => break,
                Heard::Other(Happened::Loaded(ended)) => {
                    loading = None;
                    if ended? == Ended::Loaded {
                        self.announce();
                    }
                    continue;
                }
                Heard::Int if ending.load(Ordering::Acquire) > 0 => {
                    self.hurry();
                    return Ok(false);
                }
                Heard::Int => "SIGINT",
                Heard::Term => "SIGTERM",
            };
            tracing::warn!("Received {name} scheduling shutdown...");
            if loading.is_some() {
                tracing::warn!("Received shutdown signal during loading, exiting now.");
                self.shared.stop.send_replace(true);
            } else {
                self.shut_down_beside(name, ending.clone())?;
            }
        }
        self.supervisor.stopping();
        // Whoever is loading sees that it is of no use any more.
        let ended = &mut self.ended;
        loop {
            let heard = signals.next(async {
                let _ = ended.recv().await;
            });
            match heard {
                Heard::Term => {}
                Heard::Other(()) => break,
                Heard::Int => {
                    self.hurry();
                    return Ok(false);
                }
            }
        }
        let shared = self.shared.clone();
        drop(self);
        tracing::warn!("Mortise is now ready to exit, bye bye...");
        // The data is not freed: `shared` is kept, and the system takes the memory back faster.
        std::mem::forget(shared);
        Ok(true)
    }

    /// Whoever started the server does not want to wait: nothing half done is to be left.
    fn hurry(&self) {
        tracing::warn!("You insist... exiting now.");
        self.shared.pending.remove_all(&SystemDisk);
    }

    /// Loads the data on a thread of its own.
    fn load_beside(&self) -> Result<oneshot::Receiver<Result<Ended, Fatal>>, Fatal> {
        let (sender, receiver) = oneshot::channel();
        let shared = self.shared.clone();
        // If nobody waits for it any more, the server is stopping.
        let load = move || drop(sender.send(load(&shared)));
        std::thread::Builder::new()
            .name("mortise-load".to_owned())
            .spawn(load)
            .map_err(|error| Fatal::new(format!("Can't start a thread: {}", error_text(&error))))?;
        Ok(receiver)
    }

    /// Shuts the server down because of a signal: on a thread of its own, as it may take long to save the data.
    fn shut_down_beside(&self, name: &'static str, ending: Arc<AtomicUsize>) -> Result<(), Fatal> {
        let shared = self.shared.clone();
        if !shared.saves_at_end.load(Ordering::Relaxed) && shared.running.since_ms().is_some() {
            // A script may hold the engine for ever, and there is nothing to be saved.
            tracing::warn!("User requested shutdown...");
            shared.stop.send_replace(true);
            return Ok(());
        }
        ending.fetch_add(1, Ordering::AcqRel);
        let shut_down = move || {
            let mut outcome = Outcome::Ends;
            let mut is_news = false;
            let mut runs = shared.lend(&mut |engine| is_news = engine.ask_for_end());
            let mut may_begin = is_news.then_some(false);
            while runs && may_begin == Some(false) {
                std::thread::sleep(LOOK_AGAIN);
                runs = shared.lend(&mut |engine| may_begin = engine.take_asked_end());
            }
            if may_begin.is_none() {
                ending.fetch_sub(1, Ordering::AcqRel);
                return;
            }
            shared.lend(&mut |engine| {
                let settings = &engine.config.persistence;
                let how =
                    if name == "SIGINT" { settings.shutdown_on_sigint } else { settings.shutdown_on_sigterm };
                outcome = engine.shut_down(how);
            });
            if outcome == Outcome::GoesOn {
                tracing::warn!(
                    "{name} received but errors trying to shut down the server, check the logs for more information"
                );
            }
            while outcome == Outcome::Waits {
                std::thread::sleep(LOOK_AGAIN);
                // That it goes on has been logged.
                let mut waits = false;
                let runs = shared.lend(&mut |engine| waits = engine.is_shutting_down());
                if !(runs && waits) {
                    outcome = Outcome::GoesOn;
                }
            }
            if outcome == Outcome::GoesOn {
                ending.fetch_sub(1, Ordering::AcqRel);
            }
        };
        std::thread::Builder::new()
            .name("mortise-end".to_owned())
            .spawn(shut_down)
            .map(drop)
            .map_err(|error| Fatal::new(format!("Can't start a thread: {}", error_text(&error))))
    }

    /// Stops the server, and waits until it has ended.
    pub fn stop(self) {}
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            // A thread that has panicked has said so on standard error.
            let _ = thread.join();
        }
        self.shared.writing.end();
        self.pidfile.take();
        self.listeners.lock().close();
    }
}

/// Loads the data. Connections are taken when that has begun, or when there is nothing to load: nobody is told to wait for
/// what is not there.
fn load(shared: &Shared) -> Result<Ended, Fatal> {
    let ended = load_file(&Opening(shared))?;
    shared.is_open.send_replace(true);
    Ok(ended)
}

/// Lends the engine to the loading, and takes connections as soon as there is something to load.
struct Opening<'s>(&'s Shared);

impl Lender for Opening<'_> {
    fn lend(&self, what: &mut dyn FnMut(&mut Engine)) -> bool {
        let mut has_begun = false;
        let is_lent = self.0.lend(&mut |engine| {
            what(engine);
            has_begun = engine.persistence.loading.is_some();
        });
        if has_begun {
            self.0.is_open.send_if_modified(|is_open| !std::mem::replace(is_open, true));
        }
        is_lent
    }
}

/// What a server that runs hears of beside signals.
enum Happened {
    Stopped,
    Loaded(Result<Ended, Fatal>),
}

/// How loading has ended; never, if it had before.
async fn loaded(loading: &mut Option<oneshot::Receiver<Result<Ended, Fatal>>>) -> Result<Ended, Fatal> {
    match loading {
        Some(loading) => loading.await.unwrap_or_else(|_| Err(Fatal::new("Loading the data has panicked."))),
        None => std::future::pending().await,
    }
}

/// Opens every listener that the settings name; `config.server.port` is the real port then.
fn listen(
    config: &mut Config,
    any_port: bool,
) -> Result<(Listeners, mpsc::UnboundedReceiver<listener::Listener>), Fatal> {
    let tls_port = config.tls.tls_port;
    let server = &mut config.server;
    let (mut listeners, additions) = Listeners::new();
    let listening = if any_port {
        listeners.listen_anywhere(&server.bind.0, server.tcp_backlog).map(|port| server.port = port)
    } else {
        listeners.listen_tcp(&server.bind.0, Ports { tcp: server.port, tls: 0 }, server.tcp_backlog)
    };
    listening
        .map_err(|_| Fatal::new(format!("Failed listening on port {} (TCP), aborting.", server.port)))?;
    if tls_port != 0 {
        let ports = Ports { tcp: server.port, tls: tls_port };
        listeners
            .listen_tcp(&server.bind.0, ports, server.tcp_backlog)
            .map_err(|_| Fatal::new(format!("Failed listening on port {tls_port} (TLS), aborting.")))?;
    }
    if let Some(path) = server.unixsocket.as_deref().filter(|path| !path.is_empty()) {
        listeners.listen_unix(path, server.unixsocketperm.0, server.tcp_backlog).map_err(|error| {
            Fatal::new(format!("Failed opening Unix socket: bind: {}", error_text(&error)))
        })?;
    }
    if !listeners.has_tcp() && listeners.unix().is_none() {
        return Err(Fatal::new("Configured to not listen anywhere, exiting."));
    }
    Ok((listeners, additions))
}

/// As many clients as the operating system allows files for.
fn fit_clients(wanted: u32) -> Result<u32, Fatal> {
    match process::raise_open_files(wanted) {
        OpenFiles::Enough => Ok(wanted),
        OpenFiles::For(0) => {
            Err(Fatal::new("Your current 'ulimit -n' is not enough for the server to start. Exiting."))
        }
        OpenFiles::For(room) => {
            tracing::warn!("maxclients has been reduced to {room} to compensate for low ulimit.");
            Ok(room)
        }
    }
}

/// Says so if the system accepts fewer waiting connections than the settings ask for.
fn warn_of_backlog(backlog: u32) {
    const FILE: &str = "/proc/sys/net/core/somaxconn";
    let most = std::fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<u32>().ok());
    if let Some(most) = most.filter(|most| *most < backlog) {
        tracing::warn!(
            "WARNING: The TCP backlog setting of {backlog} cannot be enforced because {FILE} is set to the lower value \
             of {most}."
        );
    }
}

/// Says so if the limit of memory is one that nobody means.
fn warn_of_small_memory(limit: u64) {
    if limit > 0 && limit < 1024 * 1024 {
        tracing::warn!(
            "WARNING: You specified a maxmemory value that is less than 1MB (current value is {limit} bytes). Are you sure \
             this is what you really want?"
        );
    }
}

fn executable() -> String {
    std::env::current_exe().map_or_else(|_| String::new(), |path| path.to_string_lossy().into_owned())
}

/// A number that nobody can guess; another one for each `part`.
fn entropy(part: u64) -> u64 {
    use std::hash::BuildHasher as _;
    // Its keys come from the operating system.
    std::hash::RandomState::new().hash_one(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    fn start(text: &str) -> Server {
        Server::start(Settings::parse(text).unwrap().on_any_port()).unwrap()
    }

    fn ask(stream: &mut TcpStream, request: &str) -> String {
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = [0; 256];
        let len = stream.read(&mut reply).unwrap();
        String::from_utf8_lossy(&reply[..len]).into_owned()
    }

    #[test]
    fn a_server_runs_in_process_and_stops() {
        let server = start("bind 127.0.0.1\nio-threads 2\n");
        let address = server.address().unwrap();
        let mut streams = [(); 3].map(|()| TcpStream::connect(address).unwrap());
        for stream in &mut streams {
            assert_eq!(ask(stream, "PING\r\n"), "+PONG\r\n");
        }
        server.stop();
        let [mut stream, ..] = streams;
        assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn nobody_is_told_to_wait_for_what_is_not_there() {
        let server = Server::launch(Settings::parse("bind 127.0.0.1\n").unwrap().on_any_port()).unwrap();
        let mut stream = TcpStream::connect(server.address().unwrap()).unwrap();
        stream.write_all(b"PING\r\n").unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
        let mut reply = [0; 64];
        assert!(stream.read(&mut reply).is_err(), "nothing is said before it is known what there is");
        load(&server.shared).unwrap();
        stream.set_read_timeout(None).unwrap();
        let len = stream.read(&mut reply).unwrap();
        assert_eq!(String::from_utf8_lossy(&reply[..len]), "+PONG\r\n");
    }

    #[test]
    fn what_is_written_reaches_a_reader_of_the_stream() {
        struct Reader(std::sync::mpsc::Sender<usize>);
        impl StreamReader for Reader {
            fn unit(&mut self, unit: &crate::engine::settle::StreamUnit) {
                let _ = self.0.send(unit.commands.len());
            }
        }
        let server = start("bind 127.0.0.1\n");
        let (sender, receiver) = std::sync::mpsc::channel();
        server.attach(Box::new(Reader(sender)));
        let mut stream = TcpStream::connect(server.address().unwrap()).unwrap();
        assert_eq!(ask(&mut stream, "SET k v\r\n"), "+OK\r\n");
        assert_eq!(receiver.recv_timeout(std::time::Duration::from_secs(5)), Ok(1));
    }

    #[test]
    fn the_port_may_change_while_it_runs() {
        let server = start("bind 127.0.0.1\n");
        let first = server.address().unwrap();
        let mut stream = TcpStream::connect(first).unwrap();
        assert_eq!(ask(&mut stream, "PING\r\n"), "+PONG\r\n");

        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let listen = |port: u16, bind: &str| {
            let mut engine = server.shared.engine.lock();
            let mut config = engine.config.clone();
            config.server.port = port;
            config.server.bind.0 = vec![bind.to_owned()];
            engine.rim.listen(&config)
        };
        let refused = listen(port, "127.0.0.1");
        assert_eq!(refused, Err("Unable to listen on this port. Check server logs.".into()));
        let refused = listen(first.port(), "999.999.999.999");
        assert_eq!(refused, Err("Failed to bind to specified addresses.".into()));
        assert_eq!(server.address(), Some(first));

        drop(taken);
        assert_eq!(listen(port, "127.0.0.1"), Ok(()));
        assert!(TcpStream::connect(first).is_err());
        let mut second = TcpStream::connect(server.address().unwrap()).unwrap();
        assert_eq!(ask(&mut second, "PING\r\n"), "+PONG\r\n");
        // Connections stay, wherever they came in.
        assert_eq!(ask(&mut stream, "PING\r\n"), "+PONG\r\n");
    }

    #[test]
    fn settings_that_are_wrong_are_refused() {
        assert!(Settings::parse("port x\n").is_err());
        let reason = Settings::parse("rename-command nosuch x\n").map(|_| ()).unwrap_err().reason;
        assert_eq!(reason, "No such command in rename-command");
        let renamed = Settings::parse("rename-command GET \"\"\n").unwrap();
        assert!(renamed.registry.by_name(b"get").is_none());
    }
}
