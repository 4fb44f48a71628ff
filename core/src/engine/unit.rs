//! What is atomic and what is propagated: a command, a transaction, later a script or a module's call.
//!
//! A unit collects, in order, what the world will hear of it; it is released when the unit settles. A change is only
//! noted if somebody listens, and propagation costs one branch while nobody reads the stream.

use std::ops::Range;

use super::args::{Args, OwnedArgs};
use super::event::EventClass;
use crate::keyspace::SpaceId;
use crate::keyspace::memory::Leaving;
use crate::types::Object;

/// Objects that take more steps than this to free are freed on a worker.
const FREE_EFFORT_INLINE_MAX: usize = 64;

/// A key changed.
#[derive(Clone)]
pub struct Change {
    /// In which space.
    pub space: SpaceId,
    /// In which database.
    pub db: u32,
    /// The event's name: "set", "hset", "del" …
    pub event: &'static str,
    /// The event's class.
    pub class: EventClass,
    /// Whether the value changed (an event such as a miss is only told to subscribers).
    pub mutates: bool,
    key: Range<usize>,
}

/// Who is to hear of a command: all, unless a script says otherwise (`redis.set_repl`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Targets {
    /// The journal.
    pub journal: bool,
    /// Replicas.
    pub replicas: bool,
}

impl Default for Targets {
    fn default() -> Targets {
        Targets { journal: true, replicas: true }
    }
}

/// A command as the stream carries it.
#[derive(Clone)]
pub struct Propagated {
    /// Who is to hear of it.
    pub targets: Targets,
    /// In which space.
    pub space: SpaceId,
    /// In which database.
    pub db: u32,
    /// The command with its arguments.
    pub args: OwnedArgs,
}

/// What a unit of execution has done so far.
#[derive(Default)]
pub struct Unit {
    /// Changes since the server started; the unit's own are the difference.
    pub dirty: u64,
    /// Classes that somebody hears of without having marked the key.
    pub mask: EventClass,
    /// Whether anybody reads the stream.
    pub streaming: bool,
    /// Who is to hear of what a script does.
    pub targets: Targets,
    /// How deep in commands that modules invoke: what these do is propagated by the module's command.
    pub invoked: u32,
    changes: Vec<Change>,
    keys: Vec<u8>,
    said: Vec<Propagated>,
    garbage: Vec<Box<dyn Send>>,
    /// Where the bytes of what a worker is to free are counted.
    pub leaving: Leaving,
}

impl Unit {
    /// Nothing to settle: the usual case of a read, and of a write that nobody listens to.
    #[inline(always)]
    pub fn is_quiet(&self) -> bool {
        self.changes.is_empty() && self.said.is_empty() && self.garbage.is_empty()
    }

    /// A key changed.
    #[inline(always)]
    pub fn changed(
        &mut self,
        space: SpaceId,
        db: u32,
        key: &[u8],
        listened: bool,
        event: &'static str,
        class: EventClass,
    ) {
        self.dirty += 1;
        if listened || self.mask.any(class) {
            self.note(space, db, key, event, class, true);
        }
    }

    /// Something happened to a key that is no change of its value.
    pub fn tell(&mut self, space: SpaceId, db: u32, key: &[u8], event: &'static str, class: EventClass) {
        if self.mask.any(class) {
            self.note(space, db, key, event, class, false);
        }
    }

    #[cold]
    fn note(
        &mut self,
        space: SpaceId,
        db: u32,
        key: &[u8],
        event: &'static str,
        class: EventClass,
        mutates: bool,
    ) {
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        self.changes.push(Change { space, db, event, class, mutates, key: start..self.keys.len() });
    }

    /// The key of a change.
    pub fn key(&self, change: &Change) -> &[u8] {
        &self.keys[change.key.clone()]
    }

    /// Puts a command into the stream.
    pub fn say(&mut self, space: SpaceId, db: u32, args: Args<'_>) {
        if self.streaming && self.invoked == 0 {
            self.push(space, db, args.to_owned());
        }
    }

    /// Puts a command of given words into the stream.
    pub fn say_words(&mut self, space: SpaceId, db: u32, words: &[&[u8]]) {
        if self.invoked == 0 {
            self.say_expired(space, db, words);
        }
    }

    /// The same for a key that was met when it had expired, which no other command says.
    pub fn say_expired(&mut self, space: SpaceId, db: u32, words: &[&[u8]]) {
        if self.streaming {
            self.push(space, db, OwnedArgs::new(words.iter().copied()));
        }
    }

    fn push(&mut self, space: SpaceId, db: u32, args: OwnedArgs) {
        let targets = self.targets;
        if targets.journal || targets.replicas {
            self.said.push(Propagated { targets, space, db, args });
        }
    }

    /// How many commands are in the stream so far.
    pub fn said(&self) -> usize {
        self.said.len()
    }

    /// Lets go of a replaced or removed object: at once if it is small, on a worker if not.
    #[inline(always)]
    pub fn discard(&mut self, object: Option<Box<Object>>) {
        if let Some(object) = object {
            self.discard_object(object);
        }
    }

    #[cold]
    fn discard_object(&mut self, object: Box<Object>) {
        if object.free_effort() > FREE_EFFORT_INLINE_MAX {
            let bytes = object.memory() as u64;
            self.garbage.push(Box::new(self.leaving.begin(object, bytes)));
        }
    }

    /// Lets go of anything on a worker.
    pub fn discard_later(&mut self, thing: Box<dyn Send>) {
        self.garbage.push(thing);
    }

    /// Takes the noted changes and their keys; what is noted afterwards starts anew.
    pub fn take_changes(&mut self) -> Changes {
        Changes { changes: std::mem::take(&mut self.changes), keys: std::mem::take(&mut self.keys) }
    }

    /// Gives the buffers back for reuse.
    pub fn give_back(&mut self, mut changes: Changes) {
        if self.changes.is_empty() && changes.keys.capacity() < 1 << 16 {
            changes.changes.clear();
            changes.keys.clear();
            self.changes = changes.changes;
            self.keys = changes.keys;
        }
    }

    /// Takes what is to be propagated.
    pub fn take_said(&mut self) -> Vec<Propagated> {
        std::mem::take(&mut self.said)
    }

    /// Takes what is to be freed elsewhere.
    pub fn take_garbage(&mut self) -> Vec<Box<dyn Send>> {
        std::mem::take(&mut self.garbage)
    }
}

/// Changes of a unit, with the keys that they name.
pub struct Changes {
    changes: Vec<Change>,
    keys: Vec<u8>,
}

impl Changes {
    /// Each change with its key, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Change, &[u8])> {
        self.changes.iter().map(|change| (change, &self.keys[change.key.clone()]))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
