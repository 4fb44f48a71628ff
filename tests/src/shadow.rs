//! A server in this process with a shadow: a second engine that is fed nothing but the stream of changes, and has to hold
//! the same data. The cheapest guard that journals, replicas and scripts can have.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::replay::Replay;
use mortise_core::engine::settle::{StreamReader, StreamUnit};
use mortise_core::features;
use mortise_core::server::clock::SystemClock;
use mortise_core::server::{Server, Settings};

/// A server with its shadow.
pub struct Shadowed {
    server: Server,
    shadow: Arc<Mutex<Shadow>>,
}

impl std::fmt::Debug for Shadowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shadowed").field("address", &self.address()).finish_non_exhaustive()
    }
}

struct Shadow {
    engine: Engine,
    replay: Replay,
    /// Commands of the stream that could not be replayed.
    failures: Vec<String>,
    /// The offset that comes next.
    offset: u64,
}

struct Reader(Arc<Mutex<Shadow>>);

impl StreamReader for Reader {
    fn unit(&mut self, unit: &StreamUnit) {
        let mut shadow = self.0.lock().expect("nobody panics with the shadow locked");
        let Shadow { engine, replay, failures, offset } = &mut *shadow;
        if unit.offset != *offset {
            failures.push(format!("a unit at offset {} follows one that ended at {offset}", unit.offset));
        }
        *offset = unit.offset + unit.commands.len() as u64;
        failures.extend(replay.unit(engine, unit).err());
    }
}

impl Shadowed {
    /// Starts a server with these directives on some free port, and its shadow.
    pub fn start(directives: &str) -> Result<Shadowed, String> {
        let settings = Settings::parse(directives).map_err(|fatal| fatal.to_string())?.on_any_port();
        let server = Server::start(settings).map_err(|fatal| fatal.to_string())?;
        let registry = Arc::new(features::registry()?);
        let shadow = Arc::new(Mutex::new(Shadow {
            engine: Engine::new(Config::default(), registry, Box::new(SystemClock::new()), 1),
            replay: Replay::new(),
            failures: Vec::new(),
            offset: 0,
        }));
        server.attach(Box::new(Reader(shadow.clone())));
        Ok(Shadowed { server, shadow })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address().expect("it listens on TCP")
    }

    /// How the shadow differs from the server since it was last asked; nothing if it does not.
    pub fn difference(&self) -> Option<String> {
        let engine = self.server.shared().engine.lock();
        let mut shadow = self.shadow.lock().expect("nobody panics with the shadow locked");
        let failures = std::mem::take(&mut shadow.failures);
        if !failures.is_empty() {
            return Some(format!("the stream cannot be replayed: {}", failures.join("; ")));
        }
        let (data, copy) = (engine.digest(), shadow.engine.digest());
        (data != copy).then(|| format!("the stream leads to other data: {copy} instead of {data}"))
    }
}
