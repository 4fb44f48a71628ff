//! What is atomic and what is propagated: a command, a transaction, a script, a module's call.
//!
//! A unit collects, in order, what the world will hear of it; it is released when the unit settles. A change is only
//! noted if somebody listens, and propagation costs one branch while nobody reads the stream.

use std::ops::Range;

use mortise_sdk::resp::encode;

use super::args::{Args, OwnedArgs};
use super::event::EventClass;
use super::session::ClientId;
use crate::keyspace::SpaceId;
use crate::keyspace::memory::Leaving;
use crate::pubsub::Kind;
use crate::resp::request::{self, Parsed, Partial, RequestLimits};
use crate::types::Object;

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
    /// Who is to hear of it.
    pub reach: Reach,
    key: Range<usize>,
}

/// Who hears of a change, beside subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Nobody: it is no change, as a miss, or one beside the content.
    Subscribers,
    /// Calls that wait for the key: what they wait for has changed, but not the content.
    Waiters,
    /// They, and who watches the key: the value has changed.
    All,
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

/// A message to a channel.
pub struct Message {
    /// In which space.
    pub space: SpaceId,
    /// Whether the channel is sharded.
    pub kind: Kind,
    /// The channel.
    pub channel: Box<[u8]>,
    /// What is said.
    pub message: Box<[u8]>,
}

/// A client has read a key that it tracks.
pub struct Read {
    /// Who.
    pub client: ClientId,
    /// In which space.
    pub space: SpaceId,
    /// In which database.
    pub db: u32,
    /// The key.
    pub key: Box<[u8]>,
}

/// Something that the world will hear of.
pub enum Told {
    /// A change of a key, whose name stands beside it.
    Change(Change),
    /// A message.
    Message(Box<Message>),
    /// A key was read between the changes: only those that follow are news to the reader.
    Read(Box<Read>),
    /// All keys of a space may have changed.
    AllChanged(SpaceId),
    /// A whole database changed, and with it a key that this client watches.
    Spoilt(ClientId),
}

/// A command as the stream carries it.
#[derive(Clone, Copy)]
pub struct Propagated<'a> {
    /// Who is to hear of it.
    pub targets: Targets,
    /// In which space.
    pub space: SpaceId,
    /// In which database.
    pub db: u32,
    /// The command with its arguments, as a client would send it.
    pub bytes: &'a [u8],
}

impl Propagated<'_> {
    /// The command and its arguments as words, for whoever executes it.
    pub fn args(&self) -> OwnedArgs {
        let mut spans = Vec::new();
        let limits = RequestLimits { bulk_len_max: i64::MAX, authenticated: true };
        let parsed = request::parse(self.bytes, 0, &mut Partial::default(), &mut spans, limits);
        debug_assert!(matches!(parsed, Parsed::Request(end) if end == self.bytes.len()), "written below");
        Args::new(self.bytes, &spans).to_owned()
    }
}

/// Commands on their way into the stream, one behind the other in one buffer, so that none costs an allocation.
#[derive(Clone, Default)]
pub struct Commands {
    bytes: Vec<u8>,
    each: Vec<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    targets: Targets,
    space: SpaceId,
    db: u32,
    end: usize,
}

/// Buffers that have grown larger are not kept.
const KEPT_LEN_MAX: usize = 1 << 20;

impl Commands {
    /// How many there are.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.each.len()
    }

    /// Whether there are none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Each in order.
    #[inline(always)]
    pub fn iter(&self) -> impl Iterator<Item = Propagated<'_>> {
        let mut start = 0;
        self.each.iter().map(move |place| {
            let bytes = &self.bytes[start..place.end];
            start = place.end;
            Propagated { targets: place.targets, space: place.space, db: place.db, bytes }
        })
    }

    #[inline(always)]
    fn push<'a>(
        &mut self,
        targets: Targets,
        space: SpaceId,
        db: u32,
        words: impl ExactSizeIterator<Item = &'a [u8]>,
    ) {
        encode::append_request(&mut self.bytes, words);
        self.each.push(Place { targets, space, db, end: self.bytes.len() });
    }

    fn truncate(&mut self, len: usize) {
        self.each.truncate(len);
        self.bytes.truncate(self.each.last().map_or(0, |place| place.end));
    }

    fn clear(&mut self) {
        self.each.clear();
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_LEN_MAX {
            self.bytes = Vec::new();
        }
    }
}

/// What a unit of execution has done so far.
#[derive(Default)]
pub struct Unit {
    /// Changes since the server started; the unit's own are the difference.
    pub dirty: u64,
    /// Classes that somebody hears of without having marked the key.
    pub mask: EventClass,
    /// Parts of values that expired by themselves, ever: fields of hashes.
    pub expired_parts: u64,
    /// Whether anybody reads the stream.
    pub streaming: bool,
    /// Who is to hear of what a script does.
    pub targets: Targets,
    /// How deep in commands that modules invoke: what these do is propagated by the module's command.
    pub invoked: u32,
    /// In the order in which it happened.
    told: Vec<Told>,
    keys: Vec<u8>,
    said: Commands,
    /// Its commands need not be one transaction.
    apart: bool,
    garbage: Vec<Box<dyn Send>>,
    /// Where the bytes of what a worker is to free are counted.
    pub leaving: Leaving,
}

impl Unit {
    /// Nothing to settle: the usual case of a read, and of a write that nobody listens to.
    #[inline(always)]
    pub fn is_quiet(&self) -> bool {
        self.told.is_empty() && self.said.is_empty() && self.garbage.is_empty()
    }

    /// There is something for the stream, and nothing else: the usual case of a write while there is a journal.
    #[inline(always)]
    pub fn only_says(&self) -> bool {
        self.told.is_empty() && self.garbage.is_empty()
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
            self.note(space, db, key, event, class, Reach::All);
        }
    }

    /// Something of a key changed beside its content: to watchers nothing has. Calls that wait for it are tried again if
    /// they are to be `woken`.
    pub fn changed_aside(
        &mut self,
        space: SpaceId,
        db: u32,
        key: &[u8],
        woken: bool,
        event: Option<(&'static str, EventClass)>,
    ) {
        self.dirty += 1;
        let (event, class) = event.unwrap_or(("", EventClass(0)));
        if woken {
            self.note(space, db, key, event, class, Reach::Waiters);
        } else {
            self.tell(space, db, key, event, class);
        }
    }

    /// Something happened to a key that is no change of its value.
    pub fn tell(&mut self, space: SpaceId, db: u32, key: &[u8], event: &'static str, class: EventClass) {
        if self.mask.any(class) {
            self.note(space, db, key, event, class, Reach::Subscribers);
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
        reach: Reach,
    ) {
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        let key = start..self.keys.len();
        self.told.push(Told::Change(Change { space, db, event, class, reach, key }));
    }

    /// Whether something is to be told: a message that is sent now comes after it.
    #[inline(always)]
    pub fn has_to_tell(&self) -> bool {
        !self.told.is_empty()
    }

    /// A message that is sent when the unit settles.
    pub fn send(&mut self, space: SpaceId, kind: Kind, channel: &[u8], message: &[u8]) {
        let message = Message { space, kind, channel: channel.into(), message: message.into() };
        self.told.push(Told::Message(Box::new(message)));
    }

    /// A client has read a key that it tracks.
    pub fn reads(&mut self, client: ClientId, space: SpaceId, db: u32, key: &[u8]) {
        self.told.push(Told::Read(Box::new(Read { client, space, db, key: key.into() })));
    }

    /// All keys of a space may change.
    pub fn changes_all(&mut self, space: SpaceId) {
        self.told.push(Told::AllChanged(space));
    }

    /// A whole database changes, and with it a key that this client watches.
    pub fn spoils(&mut self, client: ClientId) {
        self.told.push(Told::Spoilt(client));
    }

    /// Where the unit is, to go back to.
    pub fn mark(&self) -> Mark {
        Mark { dirty: self.dirty, told: self.told.len(), keys: self.keys.len(), said: self.said.len() }
    }

    /// Goes back to a mark: the world will not hear of what has been done since. What was replaced or removed since is
    /// freed all the same: what comes back are shares of it.
    pub fn rollback(&mut self, mark: Mark) {
        self.dirty = mark.dirty;
        self.told.truncate(mark.told);
        self.keys.truncate(mark.keys);
        self.said.truncate(mark.said);
    }

    /// Puts a command into the stream.
    #[inline(always)]
    pub fn say(&mut self, space: SpaceId, db: u32, args: Args<'_>) {
        if self.streaming && self.invoked == 0 {
            self.push(space, db, args.iter());
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
            self.push(space, db, words.iter().copied());
        }
    }

    #[inline(always)]
    fn push<'a>(&mut self, space: SpaceId, db: u32, words: impl ExactSizeIterator<Item = &'a [u8]>) {
        let targets = self.targets;
        if targets.journal || targets.replicas {
            self.said.push(targets, space, db, words);
        }
    }

    /// What has been said so far need not be done as one: keys have expired that a call has come across.
    pub fn says_apart(&mut self) {
        self.apart = !self.said.is_empty();
    }

    /// Whether what is said next is to be done as one. What was said before is taken.
    pub(super) fn take_wholeness(&mut self) -> bool {
        !std::mem::take(&mut self.apart)
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
        if object.free_effort() > Object::FREE_EFFORT_INLINE_MAX {
            let bytes = object.memory() as u64;
            self.garbage.push(Box::new(self.leaving.begin_values(object, bytes, 1)));
        }
    }

    /// Lets go of anything on a worker.
    pub fn discard_later(&mut self, thing: Box<dyn Send>) {
        self.garbage.push(thing);
    }

    /// Takes what is to be told; what is noted afterwards starts anew.
    pub fn take_told(&mut self) -> Tale {
        Tale { told: std::mem::take(&mut self.told), keys: std::mem::take(&mut self.keys) }
    }

    /// Gives the buffers back for reuse.
    pub fn give_back(&mut self, mut tale: Tale) {
        if self.told.is_empty() && tale.keys.capacity() < 1 << 16 {
            tale.told.clear();
            tale.keys.clear();
            self.told = tale.told;
            self.keys = tale.keys;
        }
    }

    /// Takes what is to be propagated.
    #[inline(always)]
    pub fn take_said(&mut self) -> Commands {
        std::mem::take(&mut self.said)
    }

    /// Gives the buffers back for reuse, unless there is something in others already.
    #[inline(always)]
    pub fn give_said_back(&mut self, mut said: Commands) {
        if self.said.is_empty() {
            said.clear();
            self.said = said;
        }
    }

    /// Takes what is to be freed elsewhere.
    pub fn take_garbage(&mut self) -> Vec<Box<dyn Send>> {
        std::mem::take(&mut self.garbage)
    }
}

/// The command that removes a key, for whoever follows: what is freed elsewhere here shall be so there.
pub fn removal(lazily: bool) -> &'static [u8] {
    if lazily { b"UNLINK" } else { b"DEL" }
}

/// How far a unit had come.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    dirty: u64,
    told: usize,
    keys: usize,
    said: usize,
}

/// What a unit tells, with the keys that its changes name.
pub struct Tale {
    told: Vec<Told>,
    keys: Vec<u8>,
}

impl Tale {
    /// Each thing in order.
    pub fn iter(&self) -> impl Iterator<Item = &Told> {
        self.told.iter()
    }

    /// The key of a change.
    pub fn key(&self, change: &Change) -> &[u8] {
        &self.keys[change.key.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_in_one_buffer_and_are_words_again() {
        let long = vec![b'x'; 100];
        let lines: [&[&[u8]]; 4] =
            [&[b"SET", b"k", b"\r\n"], &[b""], &[b"A", &long, &long[..10]], &[&b"DEL"[..]; 12]];
        let mut commands = Commands::default();
        for (db, words) in lines.iter().enumerate() {
            commands.push(Targets::default(), SpaceId::FIRST, db as u32, words.iter().copied());
        }
        let mark = 3;
        let found: Vec<_> = commands.iter().map(|said| (said.db, said.args())).collect();
        for (index, words) in lines.iter().enumerate() {
            let (db, args) = &found[index];
            assert_eq!((*db, args.view().iter().collect::<Vec<_>>()), (index as u32, words.to_vec()));
        }
        assert_eq!(
            commands.iter().next().map(|said| said.bytes),
            Some(&b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n"[..])
        );
        commands.truncate(mark);
        assert_eq!(commands.len(), mark);
        commands.push(Targets::default(), SpaceId::FIRST, 9, [&b"PING"[..]].into_iter());
        assert_eq!(commands.iter().last().map(|said| said.bytes), Some(&b"*1\r\n$4\r\nPING\r\n"[..]));
    }
}
