//! WATCH and UNWATCH.

use std::sync::Arc;

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{RO, Spec, key};
use mortise_sdk::{Result, error};

use crate::engine::Engine;
use crate::engine::alone::Alone;
use crate::engine::call::{Call, Key};
use crate::engine::session::Session;
use crate::features::Command;
use crate::keyspace::SpaceId;
use crate::keyspace::interest::Interested;

const TRANSACTIONS: Spec = Spec::group("transactions");

/// This file's commands.
pub const COMMANDS: &[Command] = &[WATCH, UNWATCH];

const WATCH: Command = Spec {
    usage: "WATCH key...",
    about: "Watches keys: if one changes before EXEC, the transaction is not run.",
    since: "2.2.0",
    cost: "O(N), N being the keys",
    flags: &[NOSCRIPT, LOADING, STALE, FAST, ALLOW_BUSY, NOT_QUEUED],
    keys: &[key("key", &[RO])],
    ..TRANSACTIONS
}
.runs_alone(watch);

fn watch(call: &mut Alone<'_>) -> Result {
    if call.session.transaction.is_some() {
        return Err(error::WATCH_INSIDE_MULTI);
    }
    let session = &mut *call.session;
    for key in call.args.iter().skip(1) {
        let watched = Watched { db: session.db, key: key.into() };
        if session.watched.insert(watched.clone()) {
            session.owes.to_watch.push(watched);
        }
    }
    call.out.ok();
    Ok(())
}

const UNWATCH: Command = Spec {
    usage: "UNWATCH",
    about: "Forgets the keys that this connection watches.",
    since: "2.2.0",
    flags: &[NOSCRIPT, LOADING, STALE, FAST, ALLOW_BUSY],
    ..TRANSACTIONS
}
.runs_alone(unwatch);

fn unwatch(call: &mut Alone<'_>) -> Result {
    call.session.unwatch();
    call.out.ok();
    Ok(())
}

/// A watched key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Watched {
    /// In which database.
    pub db: u32,
    /// The key.
    pub key: Arc<[u8]>,
}

/// Whether a watched key has changed, or has expired since.
pub(super) fn is_spoilt(call: &mut Call<'_>) -> bool {
    let Call { engine, session, .. } = call;
    if engine.clients.get(session.id).is_some_and(|client| client.spoilt) {
        return true;
    }
    let now_ms = engine.now_ms;
    let round = engine.clients.get(session.id).map_or(0, |client| client.watch_round);
    session.watched.iter().any(|watched| {
        let key = Key::new(&watched.key);
        let (db, _) = engine.keyspace.db(session.space, watched.db);
        let stale = |of: &Interested| {
            let mut own = of.watchers.iter().filter(|of| (of.client, of.round) == (session.id, round));
            own.any(|watcher| watcher.stale)
        };
        db.is_expired(key.hash, key.bytes, now_ms) && !db.interest.of(key.bytes).is_some_and(stale)
    })
}

/// Forgets what the session watches.
pub(super) fn forget(call: &mut Call<'_>) {
    call.engine.unwatch(call.session.id);
    let watched = std::mem::take(&mut call.session.watched);
    call.engine.drop_watched(watched);
}

impl Engine {
    /// A client begins to watch a key.
    pub(crate) fn watch(&mut self, session: &Session, watched: Watched) {
        let key = Key::new(&watched.key);
        let now_ms = self.now_ms;
        let (database, _) = self.keyspace.db(session.space, watched.db);
        let stale = database.is_expired(key.hash, key.bytes, now_ms);
        let Some(client) = self.clients.get_mut(session.id) else { return };
        database.interest.watch(key.bytes, session.id, client.watch_round, stale);
        database.listen(key.bytes);
        client.watch(watched);
    }

    /// All keys of a database go, or change places with those of another: who watches one of them that exists, here or
    /// there, is told. A key that has expired counts as missing, for those to whom it was missing before.
    pub(crate) fn spoil_all(&mut self, space: SpaceId, db: u32, other: Option<u32>) {
        let now_ms = self.now_ms;
        let watched: Vec<Box<[u8]>> = self.keyspace.db(space, db).0.interest.keys().map(Into::into).collect();
        for key in watched {
            let key = Key::new(&key);
            let here = self.keyspace.db(space, db).0.find(key.hash, key.bytes).is_some();
            let comes = other.and_then(|other| {
                let (db, _) = self.keyspace.db(space, other);
                db.find(key.hash, key.bytes).map(|_| db.is_expired(key.hash, key.bytes, now_ms))
            });
            if !here && comes.is_none() {
                continue;
            }
            let Engine { keyspace, unit, clients, .. } = self;
            let Some(interested) = keyspace.db(space, db).0.interest.of_mut(key.bytes) else { continue };
            for watcher in &mut interested.watchers {
                let was_missing = watcher.stale || !here;
                let is_missing = comes != Some(false);
                if was_missing && is_missing {
                    watcher.stale = comes == Some(true);
                } else if clients.get(watcher.client).is_some_and(|of| of.watch_round == watcher.round) {
                    unit.spoils(watcher.client);
                }
            }
        }
    }
}
