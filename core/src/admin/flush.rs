//! Whole databases: DBSIZE, FLUSHDB, FLUSHALL, SWAPDB.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Spec, added, category};
use mortise_sdk::{Error, Result, args, error};

use crate::engine::Engine;
use crate::engine::call::Call;
use crate::engine::event::EventClass;
use crate::features::Command;
use crate::keyspace::SpaceId;
use crate::keyspace::hash::hash;

const SERVER: Spec = Spec::group("server");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[DBSIZE, FLUSHDB, FLUSHALL, SWAPDB];

const DBSIZE: Command = Spec {
    usage: "DBSIZE",
    about: "Counts the keys of the database.",
    flags: &[READONLY, FAST],
    categories: &[category::KEYSPACE],
    tips: &["request_policy:all_shards", "response_policy:agg_sum"],
    ..SERVER
}
.runs(dbsize);

fn dbsize(call: &mut Call<'_>) -> Result {
    let keys = call.db().0.dict().len();
    call.reply(keys)
}

const FLUSHDB: Command = Spec {
    usage: "FLUSHDB [async=<ASYNC | SYNC>]",
    about: "Deletes all keys of the database.",
    cost: "O(N), N being the keys of the database",
    flags: &[WRITE],
    categories: &[category::DANGEROUS, category::KEYSPACE],
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    history: &[("4.0.0", "Option `ASYNC`."), ("6.2.0", "Option `SYNC`.")],
    ages: &[added("ASYNC", "4.0.0"), added("SYNC", "6.2.0")],
    ..SERVER
}
.runs(flushdb);

fn flushdb(call: &mut Call<'_>) -> Result {
    let (space, db) = (call.session.space, call.session.db);
    flush(call, &[(space, db)])
}

const FLUSHALL: Command = Spec {
    usage: "FLUSHALL [async=<ASYNC | SYNC>]",
    about: "Deletes all keys of all databases.",
    cost: "O(N), N being the keys of all databases",
    flags: &[WRITE],
    categories: &[category::DANGEROUS, category::KEYSPACE],
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    history: &[("4.0.0", "Option `ASYNC`."), ("6.2.0", "Option `SYNC`.")],
    ages: &[added("ASYNC", "4.0.0"), added("SYNC", "6.2.0")],
    ..SERVER
}
.runs(flushall);

fn flushall(call: &mut Call<'_>) -> Result {
    let mut places = call.engine.keyspace.places();
    places.retain(|(space, _)| *space == call.session.space);
    flush(call, &places)?;
    call.engine.save_emptiness();
    Ok(())
}

fn flush(call: &mut Call<'_>, places: &[(SpaceId, u32)]) -> Result {
    let is = |word: &str| call.arg(1).eq_ignore_ascii_case(word.as_bytes());
    // The keys are gone at once either way, and no client waits for their memory: a worker frees it.
    match call.argc() {
        1 => {}
        2 if is("SYNC") || is("ASYNC") => {}
        _ => return Err(error::SYNTAX),
    }
    places.iter().for_each(|&(space, db)| empty(call.engine, space, db));
    let space = call.session.space;
    call.engine.unit.changes_all(space);
    // Even if nothing was there: whoever follows the stream may have more.
    if call.is_propagated() {
        let words: Vec<&[u8]> = call.args().iter().collect();
        call.propagates(&words);
    }
    call.ok()
}

fn empty(engine: &mut Engine, space: SpaceId, db: u32) {
    engine.spoil_all(space, db, None);
    let Engine { keyspace, unit, .. } = &mut *engine;
    let (database, door) = keyspace.db(space, db);
    let keys = database.dict().len() as u64;
    unit.dirty += keys;
    if let Some(contents) = database.flush(door) {
        let bytes = contents.memory() as u64;
        unit.discard_later(Box::new(unit.leaving.begin_values(contents, bytes, keys)));
    }
    wake_waiting(engine, space, db, "flush");
}

impl Engine {
    /// All keys of a space go, which is told nobody who follows the stream.
    pub(crate) fn empty_space(&mut self, space: SpaceId) {
        for (of, db) in self.keyspace.places() {
            if of == space {
                empty(self, space, db);
            }
        }
        self.unit.changes_all(space);
    }

    /// What another space holds takes the place of all keys of a space, which is told nobody who follows the stream.
    pub(crate) fn take_over(&mut self, space: SpaceId, from: SpaceId) {
        self.empty_space(space);
        for (of, db) in self.keyspace.places() {
            if of == from {
                self.keyspace.hand_over(from, space, db);
                self.spoil_all(space, db, None);
                wake_waiting(self, space, db, "swapdb");
            }
        }
    }
}

const SWAPDB: Command = Spec {
    usage: "SWAPDB index1:int index2:int",
    about: "Exchanges two databases.",
    since: "4.0.0",
    cost: "O(N), N being the clients that watch or wait for keys of either",
    flags: &[WRITE, FAST],
    categories: &[category::DANGEROUS, category::KEYSPACE],
    ..SERVER
}
.runs(swapdb);

fn swapdb(call: &mut Call<'_>) -> Result {
    let index = |call: &Call<'_>, at: usize, error: &'static str| {
        args::parse_integer(call.arg(at)).and_then(|n| i32::try_from(n).ok()).ok_or(Error::new(error))
    };
    let one = index(call, 1, "ERR invalid first DB index")?;
    let other = index(call, 2, "ERR invalid second DB index")?;
    let databases = call.engine.config.keyspace.databases;
    let exists = |index: i32| u32::try_from(index).ok().filter(|index| *index < databases);
    let (Some(one), Some(other)) = (exists(one), exists(other)) else {
        return Err(Error::new("ERR DB index is out of range"));
    };
    let space = call.session.space;
    if one != other {
        call.engine.spoil_all(space, one, Some(other));
        call.engine.spoil_all(space, other, Some(one));
        call.engine.keyspace.swap(space, one, other);
        // What a client has read of one of them it would now find in the other.
        call.engine.unit.changes_all(space);
        wake_waiting(call.engine, space, one, "swapdb");
        wake_waiting(call.engine, space, other, "swapdb");
    }
    call.engine.unit.dirty += 1;
    call.ok()
}

/// A database has become another, or empty: calls that wait for keys that it has will be tried again, and those that wait
/// for the end of keys.
fn wake_waiting(engine: &mut Engine, space: SpaceId, db: u32, event: &'static str) {
    /// No keyspace event is published of it.
    const UNPUBLISHED: EventClass = EventClass(0);
    let Engine { keyspace, unit, blocked, .. } = engine;
    let database = &*keyspace.db(space, db).0;
    let dirty = unit.dirty;
    for key in database.interest.keys() {
        let waited = database.interest.of(key).is_some_and(|of| !of.waiters.is_empty());
        // One that has expired serves nobody, but the calls see to it that it goes.
        let is_there = |key| database.find(hash(key), key).is_some();
        if waited && (is_there(key) || blocked.some_wait_for_ends()) {
            unit.changed(space, db, key, true, event, UNPUBLISHED);
        }
    }
    unit.dirty = dirty;
}
