//! What the engine may ask of the process around it.

use std::sync::{Arc, Weak};

use mortise_acl::Users;
use mortise_tls::Problem;
use parking_lot::Mutex;

use super::listener::{Listeners, Ports};
use super::oom_score::Score;
use super::process::{self, OpenFiles};
use super::traffic::Traffic;
use super::{LogLevel, Shared, error_text, logging, tls};
use crate::config::Config;
use crate::engine::rim::{Rim, Usage};

/// The rim of a server that runs.
pub struct ProcessRim {
    shared: Weak<Shared>,
    listeners: Arc<Mutex<Listeners>>,
    /// The ports that were last listened on, by which a change of a port is told from one of the addresses.
    ports: Ports,
    score: Score,
}

impl ProcessRim {
    /// The rim around `shared`, listening on `ports`.
    pub fn new(shared: &Arc<Shared>, listeners: Arc<Mutex<Listeners>>, ports: Ports) -> ProcessRim {
        ProcessRim { shared: Arc::downgrade(shared), listeners, ports, score: Score::default() }
    }
}

impl Rim for ProcessRim {
    fn listen(&mut self, config: &Config) -> Result<(), String> {
        let (server, ports) = (&config.server, Ports::of(config));
        if let Some(shared) = self.shared.upgrade() {
            shared.tls.ensure_loaded(config).map_err(cannot_update)?;
        }
        match self.listeners.lock().listen_tcp(&server.bind.0, ports, server.tcp_backlog) {
            Ok(()) => {
                self.ports = ports;
                Ok(())
            }
            Err(_) if ports != self.ports => Err("Unable to listen on this port. Check server logs.".into()),
            Err(_) => Err("Failed to bind to specified addresses.".into()),
        }
    }

    fn load_certificates(&mut self, config: &Config) -> Result<(), String> {
        let shared = self.shared.upgrade();
        shared.map_or(Ok(()), |shared| shared.tls.load(config)).map_err(cannot_update)
    }

    fn connector(&self) -> Option<mortise_tls::Connector> {
        self.shared.upgrade()?.tls.current.connector()
    }

    fn chdir(&mut self, dir: &str) -> Result<String, String> {
        change_dir(dir)
    }

    fn log_level(&mut self, level: LogLevel) {
        logging::set_level(level);
    }

    fn role_changed(&mut self, is_replica: bool) {
        logging::set_role(is_replica);
    }

    fn max_clients(&mut self, count: u32) -> Result<(), String> {
        match process::raise_open_files(count) {
            OpenFiles::Enough => Ok(()),
            OpenFiles::For(room) => Err(format!(
                "The operating system is not able to handle the specified number of clients, try with {room}"
            )),
        }
    }

    fn oom_score(&mut self, config: &Config) -> Result<(), String> {
        let (settings, is_replica) = (&config.server, config.replication.replicaof.0.is_some());
        self.score.apply(settings.oom_score_adj, &settings.oom_score_adj_values, is_replica)
    }

    fn config_changed(&mut self, config: &Config, users: &Users) {
        if let Some(shared) = self.shared.upgrade() {
            shared.apply_config(config, users);
        }
    }

    fn usage(&self) -> Usage {
        let shared = self.shared.upgrade();
        let traffic = shared.as_ref().map_or(&[][..], |shared| &shared.traffic);
        process::usage(Traffic::sum(traffic), Traffic::sum(traffic.get(1..).unwrap_or_default()))
    }
}

/// The log says what is wrong, and the client is told where to look.
fn cannot_update(problem: Problem) -> String {
    tracing::warn!("{problem}");
    tls::CANNOT_UPDATE.to_owned()
}

/// Changes the working directory, and returns its absolute path.
pub(super) fn change_dir(dir: &str) -> Result<String, String> {
    let changed = std::env::set_current_dir(dir).and_then(|()| std::env::current_dir());
    changed.map(|dir| dir.to_string_lossy().into_owned()).map_err(|error| error_text(&error))
}
