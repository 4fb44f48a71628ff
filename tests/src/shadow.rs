//! A server in this process with a shadow: a second engine that is fed nothing but the stream of changes, and has to hold
//! the same data, each key until the same moment. The cheapest guard that journals, replicas and scripts can have.
//!
//! The shadow's clock is a day slow: what counts from now in the stream, where a moment should stand, leads elsewhere.
//! Beside it a witness sees that nothing changes that was not announced.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::event::Clock;
use mortise_core::engine::replay::Replay;
use mortise_core::engine::settle::{StreamReader, StreamUnit};
use mortise_core::features;
use mortise_core::keyspace::hash::hash;
use mortise_core::keyspace::{Entry, Keyspace};
use mortise_core::server::clock::SystemClock;
use mortise_core::server::{Server, Settings};
use mortise_core::types::AnyRef;

use crate::witness::Watching;

/// A server with its shadow.
pub struct Shadowed {
    server: Server,
    shadow: Arc<Mutex<Shadow>>,
    watching: Watching,
}

/// A day slow.
struct Yesterday(SystemClock);

impl Clock for Yesterday {
    fn monotonic_ns(&self) -> u64 {
        self.0.monotonic_ns()
    }

    fn unix_us(&self) -> i64 {
        const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;
        self.0.unix_us() - DAY_US
    }
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
            engine: Engine::new(Config::default(), registry, Box::new(Yesterday(SystemClock::new())), 1),
            replay: Replay::new(),
            failures: Vec::new(),
            offset: 0,
        }));
        server.attach(Box::new(Reader(shadow.clone())));
        let watching = Watching::begin(&mut server.shared().engine.lock().keyspace);
        Ok(Shadowed { server, shadow, watching })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address().expect("it listens on TCP")
    }

    /// What has changed without having been announced, if it is time to ask.
    pub fn unannounced(&self) -> Option<String> {
        self.watching.glance(&self.server.shared().engine.lock().keyspace)
    }

    /// What has changed without having been announced, or how the shadow differs from the server since it was last asked; nothing if it does not.
    pub fn difference(&self) -> Option<String> {
        let engine = self.server.shared().engine.lock();
        if let Some(unannounced) = self.watching.look(&engine.keyspace) {
            return Some(unannounced);
        }
        let mut shadow = self.shadow.lock().expect("nobody panics with the shadow locked");
        let failures = std::mem::take(&mut shadow.failures);
        if !failures.is_empty() {
            return Some(format!("the stream cannot be replayed: {}", failures.join("; ")));
        }
        let (data, copy) = (engine.digest(), shadow.engine.digest());
        if data != copy {
            return Some(format!("the stream leads to other data: {copy} instead of {data}"));
        }
        let (data, copy) = (&engine.keyspace, &shadow.engine.keyspace);
        other_deadline(data, copy).or_else(|| other_groups(data, copy))
    }
}

/// A stream that in the copy differs in what is beside its entries; those are the same.
fn other_groups(data: &Keyspace, copy: &Keyspace) -> Option<String> {
    for (space, index, db) in data.iter() {
        for entry in db.dict().iter() {
            let AnyRef::Stream(stream) = AnyRef::of(entry) else { continue };
            let key = entry.key();
            let other = copy.existing(space, index).and_then(|db| db.find(hash(key), key));
            let other = other.map(|entry| match AnyRef::of(entry) {
                AnyRef::Stream(stream) => stream.picture(),
                _ => String::new(),
            });
            let picture = stream.picture();
            if other.as_ref() != Some(&picture) {
                let (key, other) = (String::from_utf8_lossy(key), other.unwrap_or_default());
                return Some(format!("the stream of changes makes {key}\n{other}instead of\n{picture}"));
            }
        }
    }
    None
}

/// Until when fields of a hash are kept.
fn field_deadlines(entry: &Entry) -> BTreeMap<String, i64> {
    match AnyRef::of(entry) {
        AnyRef::Hash(hash) => {
            let deadlines = hash.deadlines().into_iter();
            deadlines.map(|(field, at)| (String::from_utf8_lossy(field).into_owned(), at)).collect()
        }
        _ => BTreeMap::new(),
    }
}

/// A key of the data, or a field of a hash, that the copy keeps for another time; the data is the same.
fn other_deadline(data: &Keyspace, copy: &Keyspace) -> Option<String> {
    for (space, index, db) in data.iter() {
        for entry in db.dict().iter() {
            let key = entry.key();
            let other = copy.existing(space, index).and_then(|db| db.find(hash(key), key)?.deadline());
            if other != entry.deadline() {
                let (key, right) = (String::from_utf8_lossy(key), entry.deadline());
                return Some(format!("the stream keeps {key} until {other:?} instead of {right:?}"));
            }
            let other = copy.existing(space, index).and_then(|db| db.find(hash(key), key));
            let (other, right) = (other.map(field_deadlines).unwrap_or_default(), field_deadlines(entry));
            if other != right {
                let key = String::from_utf8_lossy(key);
                return Some(format!(
                    "the stream keeps fields of {key} until {other:?} instead of {right:?}"
                ));
            }
        }
    }
    None
}
