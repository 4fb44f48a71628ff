//! Values under other keys and in other databases: RENAME, RENAMENX, COPY, MOVE.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, DELETE, INSERT, OW, RO, RW, Spec, UPDATE, key};
use mortise_sdk::{Error, Result, args, error};

use crate::engine::Engine;
use crate::engine::call::{Call, Key};
use crate::engine::event;
use crate::features::Command;
use crate::keyspace::{Entry, SpaceId};

const GENERIC: Spec = Spec::group("generic");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[RENAME, RENAMENX, COPY, MOVE];

const SAME_OBJECTS: Error = Error::new("ERR source and destination objects are the same");

const RENAME: Command = Spec {
    usage: "RENAME key newkey",
    about: "Gives a value another key, replacing what is there.",
    flags: &[WRITE],
    keys: &[key("key", &[RW, ACCESS, DELETE]), key("newkey", &[OW, UPDATE])],
    ..GENERIC
}
.runs(rename);

fn rename(call: &mut Call<'_>) -> Result {
    move_value(call, true)?;
    call.ok()
}

const RENAMENX: Command = Spec {
    usage: "RENAMENX key newkey",
    about: "Gives a value another key, unless that exists.",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE]), key("newkey", &[OW, INSERT])],
    history: &[("3.2.0", "Source and destination may be the same.")],
    ..GENERIC
}
.runs(renamenx);

fn renamenx(call: &mut Call<'_>) -> Result {
    let moved = move_value(call, false)?;
    call.reply(moved)
}

/// Moves the value at the first key to the second; false if that was not to be, as it exists or is the same.
fn move_value(call: &mut Call<'_>, replaces: bool) -> Result<bool> {
    let (from, to) = (call.key(1), call.key(2));
    if !call.exists(from) {
        return Err(error::NO_SUCH_KEY);
    }
    if from.bytes == to.bytes || (call.exists(to) && !replaces) {
        return Ok(false);
    }
    let (space, db) = (call.session.space, call.session.db);
    let engine = &mut *call.engine;
    let (database, door) = engine.keyspace.db(space, db);
    let Some(entry) = database.remove(door, from.hash, from.bytes) else { return Err(error::NO_SUCH_KEY) };
    let from_listened = entry.is_listened();
    let to_listened = put_entry(engine, space, db, to, entry.renamed(to.bytes));
    let unit = &mut engine.unit;
    unit.changed(space, db, from.bytes, from_listened, "rename_from", event::GENERIC);
    unit.changed(space, db, to.bytes, to_listened, "rename_to", event::GENERIC);
    // Both are one change.
    unit.dirty -= 1;
    Ok(true)
}

/// Puts an entry in its key's place, whatever that held; says whether someone listens to the key.
pub(super) fn put_entry(engine: &mut Engine, space: SpaceId, db: u32, key: Key<'_>, entry: Entry) -> bool {
    let Engine { keyspace, unit, .. } = engine;
    let (database, door) = keyspace.db(space, db);
    if let Some(replaced) = database.remove(door, key.hash, key.bytes) {
        unit.discard(replaced.into_object());
    }
    let listened = database.admit(door, key.hash, entry).entry().is_listened();
    unit.tell(space, db, key.bytes, "new", event::NEW);
    listened
}

const COPY: Command = Spec {
    usage: "COPY source destination [DB destination-db:int] [REPLACE]",
    about: "Copies a value to another key.",
    since: "6.2.0",
    cost: "O(N), N being the elements of a collection; O(1) for a string",
    flags: &[WRITE, DENYOOM],
    keys: &[key("source", &[RO, ACCESS]), key("destination", &[OW, UPDATE])],
    ..GENERIC
}
.runs(copy);

fn copy(call: &mut Call<'_>) -> Result {
    let (from, to) = (call.key(1), call.key(2));
    let (mut replaces, mut to_db) = (false, call.session.db);
    let mut options = call.options(3);
    while !options.is_empty() {
        if options.takes("REPLACE") {
            replaces = true;
        } else if let Some(index) = options.takes_value("DB") {
            to_db = database_index(call, index)?;
        } else {
            return Err(error::SYNTAX);
        }
    }
    if to_db == call.session.db && from.bytes == to.bytes {
        return Err(SAME_OBJECTS);
    }
    if call.look(from).0.is_none() || (exists_in(call, to_db, to) && !replaces) {
        return call.reply(false);
    }
    let Some(entry) = call.peek(from) else { return call.reply(false) };
    let copy = entry.share().ok_or(Error::new("ERR not supported for this module key"))?;
    let space = call.session.space;
    let listened = put_entry(call.engine, space, to_db, to, copy.renamed(to.bytes));
    call.engine.unit.changed(space, to_db, to.bytes, listened, "copy_to", event::GENERIC);
    call.reply(true)
}

const MOVE: Command = Spec {
    usage: "MOVE key db:int",
    about: "Moves a key to another database, unless it exists there.",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    ..GENERIC
}
.runs(move_key);

fn move_key(call: &mut Call<'_>) -> Result {
    let (key, from_db) = (call.key(1), call.session.db);
    let to_db = database_index(call, call.arg(2))?;
    if to_db == from_db {
        return Err(SAME_OBJECTS);
    }
    if !call.exists(key) || exists_in(call, to_db, key) {
        return call.reply(false);
    }
    let (space, engine) = (call.session.space, &mut *call.engine);
    let (database, door) = engine.keyspace.db(space, from_db);
    let Some(entry) = database.remove(door, key.hash, key.bytes) else { return call.reply(false) };
    let from_listened = entry.is_listened();
    let to_listened = put_entry(engine, space, to_db, key, entry);
    let unit = &mut engine.unit;
    unit.changed(space, from_db, key.bytes, from_listened, "move_from", event::GENERIC);
    unit.changed(space, to_db, key.bytes, to_listened, "move_to", event::GENERIC);
    // Both are one change.
    unit.dirty -= 1;
    call.reply(true)
}

fn database_index(call: &Call<'_>, text: &[u8]) -> Result<u32> {
    let index = args::parse_integer(text).ok_or(error::NOT_INTEGER)?;
    if i32::try_from(index).is_err() {
        return Err(Error::not_between(i32::MIN.into(), i32::MAX.into()));
    }
    let databases = call.engine.config.keyspace.databases;
    u32::try_from(index)
        .ok()
        .filter(|index| *index < databases)
        .ok_or(Error::new("ERR DB index is out of range"))
}

/// Whether a key exists in a database of the session's space; if it has expired, it goes.
fn exists_in(call: &mut Call<'_>, db: u32, key: Key<'_>) -> bool {
    let selected = std::mem::replace(&mut call.session.db, db);
    let exists = call.exists(key);
    call.session.db = selected;
    exists
}
