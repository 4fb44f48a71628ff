//! How a call reads and changes values: look-ups that count, edits that name their event.

use mortise_sdk::error::{self, Result};

use super::{Call, Key};
use crate::engine::edit::Edit;
use crate::engine::{Engine, event};
use crate::keyspace::entry::{Entry, NewValue};
use crate::keyspace::{Db, Door};
use crate::resp::output::Output;
use crate::types::hash::value::NEVER;
use crate::types::{AnyRef, Type};

impl Call<'_> {
    /// The database that the session has chosen, with the door.
    #[inline(always)]
    pub fn db(&mut self) -> (&mut Db, &mut Door) {
        self.engine.keyspace.db(self.session.space, self.session.db)
    }

    /// The moment at which the call sees values: a replayed stream says itself what has expired of them.
    #[inline(always)]
    fn seen_ms(&self) -> i64 {
        if self.caller.is_stream() { NEVER } else { self.engine.now_ms }
    }

    /// Removes the key if it has expired; true if it had.
    #[inline(always)]
    fn expire_if_due(&mut self, key: Key<'_>) -> bool {
        let now_ms = self.engine.now_ms;
        self.db().0.is_expired(key.hash, key.bytes, now_ms) && self.expire(key)
    }

    /// An expired key goes when it is met, but not while writes are paused (then it is hidden), and not because a stream
    /// is replayed (which says itself what goes), and not on a replica (whose primary says it).
    #[cold]
    fn expire(&mut self, key: Key<'_>) -> bool {
        if self.caller.is_stream() {
            return false;
        }
        if !self.engine.replication.is_replica()
            && !self.engine.clients.pause.stops_writes(self.engine.now_ms)
        {
            self.remove_expired(key);
        }
        true
    }

    /// The entry of a key, whose access is noted, or none; and where to reply.
    #[inline(always)]
    pub fn look<'a>(&'a mut self, key: Key<'_>) -> (Option<&'a Entry>, &'a mut Output) {
        self.look_up(key, !self.session.no_touch)
    }

    /// As [`Call::look`], but the access says nothing about the use of the key: EXISTS, TYPE, TTL.
    pub fn glance<'a>(&'a mut self, key: Key<'_>) -> (Option<&'a Entry>, &'a mut Output) {
        self.look_up(key, false)
    }

    /// Notes an access even if the client has said that its accesses do not count; false if there is no key.
    pub fn touch(&mut self, key: Key<'_>) -> bool {
        self.look_up(key, true).0.is_some()
    }

    #[inline(always)]
    fn look_up<'a>(&'a mut self, key: Key<'_>, touches: bool) -> (Option<&'a Entry>, &'a mut Output) {
        let hidden = self.expire_if_due(key);
        let Call { engine, session, out, .. } = self;
        let Engine { keyspace, stats, unit, clock24, .. } = &mut **engine;
        let (db, _) = keyspace.db(session.space, session.db);
        let entry = if hidden {
            None
        } else if !touches {
            db.find(key.hash, key.bytes)
        } else {
            let now = *clock24;
            db.access(key.hash, key.bytes, |old| now.touched(old))
        };
        if entry.is_some() {
            stats.keyspace_hits += 1;
        } else {
            stats.keyspace_misses += 1;
            unit.tell(session.space, session.db, key.bytes, "keymiss", event::MISSED);
        }
        (entry, out)
    }

    /// The entries of several keys at once, each looked up as by [`Call::look`]; and where to reply.
    pub fn look_all<'a>(&'a mut self, keys: &[Key<'_>]) -> (Vec<Option<&'a Entry>>, &'a mut Output) {
        let seen: Vec<bool> = keys.iter().map(|key| self.look(*key).0.is_some()).collect();
        let Call { engine, session, out, .. } = self;
        let db: &Db = engine.keyspace.db(session.space, session.db).0;
        let find = |(key, seen): (&Key<'_>, bool)| if seen { db.find(key.hash, key.bytes) } else { None };
        (keys.iter().zip(seen).map(find).collect(), out)
    }

    /// The value of a key and where to reply; WRONGTYPE if it is of another type.
    #[inline(always)]
    pub fn read<'a, T: Type>(&'a mut self, key: Key<'_>) -> Result<(Option<T::View<'a>>, &'a mut Output)> {
        let now_ms = self.seen_ms();
        let (entry, out) = self.look(key);
        match entry {
            None => Ok((None, out)),
            Some(entry) => match T::view_at(entry, now_ms) {
                Some(view) => Ok((Some(view), out)),
                None => Err(error::WRONGTYPE),
            },
        }
    }

    /// The value of a key of any type, or none; and where to reply.
    pub fn look_any<'a>(&'a mut self, key: Key<'_>) -> (Option<AnyRef<'a>>, &'a mut Output) {
        let now_ms = self.seen_ms();
        let (entry, out) = self.look(key);
        (entry.map(|entry| AnyRef::at(entry, now_ms)), out)
    }

    /// The entry of a key without noting an access or counting a hit.
    pub fn peek<'a>(&'a mut self, key: Key<'_>) -> Option<&'a Entry> {
        if self.expire_if_due(key) {
            return None;
        }
        self.db().0.find(key.hash, key.bytes)
    }

    /// Whether a key exists, as a look-up for writing sees it.
    pub fn exists(&mut self, key: Key<'_>) -> bool {
        self.peek(key).is_some()
    }

    /// The value of a key of any type, without noting an access.
    pub fn peek_any<'a>(&'a mut self, key: Key<'_>) -> Option<AnyRef<'a>> {
        let now_ms = self.seen_ms();
        self.peek(key).map(|entry| AnyRef::at(entry, now_ms))
    }

    /// An edit of a key's value; `None` if there is no key, WRONGTYPE if it is of another type.
    #[inline(always)]
    pub fn edit<'a, T: Type>(&'a mut self, key: Key<'_>) -> Result<Option<Edit<'a, T>>> {
        Ok(self.edit_replying(key)?.0)
    }

    /// As [`Call::edit`], and where to reply: for commands that answer with what they take away.
    #[inline(always)]
    pub fn edit_replying<'a, T: Type>(
        &'a mut self,
        key: Key<'_>,
    ) -> Result<(Option<Edit<'a, T>>, &'a mut Output)> {
        if self.expire_if_due(key) {
            // What is only hidden on a read must go before a write.
            self.remove_expired(key);
            return Ok((None, self.out));
        }
        let seen_ms = self.seen_ms();
        let Call { engine, session, out, .. } = self;
        let Engine { keyspace, unit, limits, clock24, .. } = &mut **engine;
        let (db, door) = keyspace.db(session.space, session.db);
        let Some(mut edit) = db.edit(door, key.hash, key.bytes) else { return Ok((None, out)) };
        if T::view(edit.entry()).is_none() {
            return Err(error::WRONGTYPE);
        }
        let clock = clock24.touched(edit.entry().clock());
        edit.set_clock(clock);
        Ok((Some(Edit::new(edit, unit, *limits, (session.space, session.db), seen_ms, false)), out))
    }

    /// An edit of a key's value, which comes into being if there is none.
    #[inline(always)]
    pub fn create<'a, T: Type>(&'a mut self, key: Key<'_>) -> Result<Edit<'a, T>> {
        if self.expire_if_due(key) {
            self.remove_expired(key);
        }
        let seen_ms = self.seen_ms();
        let Call { engine, session, .. } = self;
        let Engine { keyspace, unit, limits, clock24, .. } = &mut **engine;
        let (db, door) = keyspace.db(session.space, session.db);
        let (mut edit, new) = db.edit_or_create(door, key.hash, key.bytes, T::empty);
        if T::view(edit.entry()).is_none() {
            return Err(error::WRONGTYPE);
        }
        let clock = clock24.touched(edit.entry().clock());
        edit.set_clock(clock);
        Ok(Edit::new(edit, unit, *limits, (session.space, session.db), seen_ms, new))
    }

    /// Puts a value of whatever type in place of what a key holds. The deadline goes unless `keep_deadline`.
    #[inline(always)]
    pub fn put<'a, T: Type>(
        &'a mut self,
        key: Key<'_>,
        value: NewValue<'_>,
        keep_deadline: bool,
    ) -> Edit<'a, T> {
        if self.expire_if_due(key) {
            self.remove_expired(key);
        }
        let seen_ms = self.seen_ms();
        let Call { engine, session, .. } = self;
        let Engine { keyspace, unit, limits, clock24, .. } = &mut **engine;
        let (db, door) = keyspace.db(session.space, session.db);
        let (mut edit, new, old) = db.put(door, key.hash, key.bytes, value);
        let clock = clock24.touched(edit.entry().clock());
        edit.set_clock(clock);
        if !keep_deadline {
            edit.set_deadline(None);
        }
        unit.discard(old);
        let mut edit = Edit::new(edit, unit, *limits, (session.space, session.db), seen_ms, new);
        edit.fresh_value();
        edit
    }

    /// As [`Call::put`] with `keep_deadline`, but what is done with the edit stands in a function, so that one look-up is
    /// enough where the key is there.
    #[inline(always)]
    pub fn put_and<T: Type, R>(
        &mut self,
        key: Key<'_>,
        value: NewValue<'_>,
        finish: impl FnOnce(Edit<'_, T>) -> R,
    ) -> R {
        let Call { engine, session, .. } = self;
        let Engine { keyspace, unit, limits, clock24, now_ms, .. } = &mut **engine;
        let (db, door) = keyspace.db(session.space, session.db);
        if let Some(mut edit) = db.edit(door, key.hash, key.bytes)
            && edit.entry().deadline().is_none_or(|deadline| deadline > *now_ms)
        {
            let clock = clock24.touched(edit.entry().clock());
            unit.discard(edit.set(value));
            edit.set_clock(clock);
            let mut edit = Edit::new(edit, unit, *limits, (session.space, session.db), *now_ms, false);
            edit.fresh_value();
            return finish(edit);
        }
        finish(self.put(key, value, true))
    }

    /// What a function makes of a key's value and deadline, for a command that will set it anew: as [`Call::edit`], but
    /// one look-up is enough.
    #[inline(always)]
    pub fn before_edit<T: Type, R>(
        &mut self,
        key: Key<'_>,
        look: impl FnOnce(T::View<'_>, Option<i64>) -> R,
    ) -> Result<Option<R>> {
        let Call { engine, session, .. } = self;
        let Engine { keyspace, clock24, now_ms, .. } = &mut **engine;
        let (db, _) = keyspace.db(session.space, session.db);
        let Some(entry) = db.access(key.hash, key.bytes, |old| clock24.touched(old)) else { return Ok(None) };
        let deadline = entry.deadline();
        if deadline.is_none_or(|deadline| deadline > *now_ms) {
            let view = T::view(entry).ok_or(error::WRONGTYPE)?;
            return Ok(Some(look(view, deadline)));
        }
        Ok(self.edit::<T>(key)?.map(|edit| look(edit.view(), edit.deadline())))
    }

    /// Removes a key and names the event; false if there was none.
    pub fn remove(&mut self, key: Key<'_>, event: &'static str) -> bool {
        if self.expire_if_due(key) {
            self.remove_expired(key);
            return false;
        }
        let (space, db) = (self.session.space, self.session.db);
        self.engine.remove_key(space, db, key, event, event::GENERIC)
    }

    fn remove_expired(&mut self, key: Key<'_>) {
        self.engine.expire_key(self.session.space, self.session.db, key);
    }

    /// Sets or removes a key's deadline and names the event; false if there is no key.
    pub fn set_deadline(&mut self, key: Key<'_>, deadline: Option<i64>, event: &'static str) -> bool {
        if self.expire_if_due(key) {
            self.remove_expired(key);
            return false;
        }
        let Call { engine, session, .. } = self;
        let Engine { keyspace, unit, clock24, .. } = &mut **engine;
        let (db, door) = keyspace.db(session.space, session.db);
        let Some(mut edit) = db.edit(door, key.hash, key.bytes) else { return false };
        let clock = clock24.touched(edit.entry().clock());
        edit.set_clock(clock);
        edit.set_deadline(deadline);
        let listened = edit.entry().is_listened();
        unit.changed(session.space, session.db, key.bytes, listened, event, event::GENERIC);
        true
    }
}
