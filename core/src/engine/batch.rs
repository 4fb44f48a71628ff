//! Requests that run under one lock: looked up, hashed and fetched into the cache together.

use mortise_sdk::declare::flags::{RUNS_QUEUE, SUSPENDS};

use super::Engine;
use super::args::{Args, Span};
use super::dispatch::Asked;
use super::registry::{CommandRef, Lookup, Registry};
use super::session::Session;
use crate::keyspace::entry::Payload;
use crate::keyspace::hash::hash;
use crate::keyspace::{Db, SpaceId};
use crate::types::table::Approach;

/// For how many arguments room is kept.
const SPANS_KEPT: usize = 8192;

/// How many requests are looked up, hashed and fetched into the cache together.
pub const BATCH_LEN_MAX: usize = 32;

/// Requests that run under one lock. What can be known without the engine is known: the command, the place of the first
/// key, its hash.
#[derive(Default)]
pub struct Batch {
    /// Arguments of all requests, in the buffer into which they were read.
    pub spans: Vec<Span>,
    pub(super) requests: Vec<Request>,
    pub(super) lookups: Vec<Lookup>,
}

/// One of them.
pub(super) struct Request {
    pub(super) first_span: usize,
    pub(super) last_span: usize,
    /// Where the next request begins in the read buffer.
    end: usize,
    pub(super) lookup: usize,
    /// Where its keys are, unless a request before it chooses another database: for hints only.
    place: (SpaceId, u32),
    pub(super) hash: u64,
    pub(super) hashed: usize,
    /// Which argument names a field or member of the key's value.
    member: Option<usize>,
}

impl Batch {
    /// Empties it, and lets go of commands.
    pub fn clear(&mut self) {
        self.spans.clear();
        // A request of very many arguments has come, and another is not to be expected.
        self.spans.shrink_to(SPANS_KEPT);
        self.requests.clear();
        self.lookups.clear();
    }

    /// How many requests it holds.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Where the request at an index ends in the read buffer.
    pub fn end_of(&self, index: usize) -> usize {
        self.requests[index].end
    }

    /// Adds the request of a session whose spans were appended from `first_span` on; finds its command and hashes its key.
    #[inline]
    pub fn add(
        &mut self,
        registry: &Registry,
        session: &Session,
        buffer: &[u8],
        first_span: usize,
        end: usize,
    ) {
        let args = Args::new(buffer, &self.spans[first_span..]);
        if !self.repeats(buffer, args) {
            self.lookups.push(registry.find(args));
        }
        let (mut key_hash, mut hashed, mut member) = (0, usize::MAX, None);
        if let Some(Lookup::Found(command)) = self.lookups.last()
            && let Some(index) = command.first_key()
            && let Some(key) = args.get(index)
        {
            (key_hash, hashed) = (hash(key), index);
            member = command.member.filter(|member| *member < args.len()).map(|member| first_span + member);
        }
        let (last_span, lookup) = (self.spans.len(), self.lookups.len() - 1);
        let place = (session.space, session.db);
        self.requests.push(Request {
            first_span,
            last_span,
            end,
            lookup,
            place,
            hash: key_hash,
            hashed,
            member,
        });
    }

    /// Whether the request names the same command as the one before: the usual case in a pipeline.
    #[inline(always)]
    fn repeats(&self, buffer: &[u8], args: Args<'_>) -> bool {
        let Some(previous) = self.requests.last() else { return false };
        let (start, end) = self.spans[previous.first_span];
        matches!(self.lookups.last(), Some(Lookup::Found(command)) if command.facts.words.len() == 1 && command.subcommands.is_empty())
            && buffer[start as usize..end as usize] == *args.at(0)
    }

    /// Whether the last request may be suspended half way, so that the batch has to run on a coroutine: a command that
    /// says so of itself, or the EXEC of a transaction that holds one.
    #[inline(always)]
    pub fn suspends(&self, session: &Session) -> bool {
        let Some(Lookup::Found(command)) = self.lookups.last() else { return false };
        command.flags.has(SUSPENDS)
            || command.flags.has(RUNS_QUEUE)
                && session.transaction.as_ref().is_some_and(|transaction| {
                    transaction.queue.iter().any(|queued| queued.command.flags.has(SUSPENDS))
                })
    }

    /// Takes all but the first requests back: they will be parsed again.
    #[cold]
    pub fn truncate(&mut self, len: usize) {
        while self.requests.len() > len {
            self.pop();
        }
    }

    /// Takes the last request back: it will be parsed again.
    pub fn pop(&mut self) {
        if let Some(request) = self.requests.pop() {
            self.spans.truncate(request.first_span);
            if self.requests.last().is_none_or(|last| last.lookup != request.lookup) {
                self.lookups.pop();
            }
        }
    }

    /// The command of a request, if there is such a command, and its arguments.
    pub fn request<'a>(&'a self, buffer: &'a [u8], index: usize) -> (&'a Lookup, Args<'a>) {
        let request = &self.requests[index];
        let args = Args::new(buffer, &self.spans[request.first_span..request.last_span]);
        (&self.lookups[request.lookup], args)
    }

    /// The request at an index as it is asked of the engine, with the command that it means.
    #[inline]
    pub fn asked<'a>(&'a self, buffer: &'a [u8], index: usize, command: &'a CommandRef) -> Asked<'a> {
        let request = &self.requests[index];
        let args = Args::new(buffer, &self.spans[request.first_span..request.last_span]);
        Asked { command, args, hash: request.hash, hashed: request.hashed, suspend: None }
    }
}

impl Engine {
    /// Fetches what the batch will need into the cache: buckets first, then the entries in them.
    #[inline(always)]
    pub fn prefetch(&self, batch: &Batch, buffer: &[u8]) {
        if batch.len() < 2 {
            return;
        }
        let db = |request: &Request| self.keyspace.existing(request.place.0, request.place.1);
        let hashes = || {
            let hashed = batch.requests.iter().filter(|request| request.hashed != usize::MAX);
            hashed.filter_map(move |request| Some((request, db(request)?)))
        };
        hashes().for_each(|(request, db)| db.dict().prefetch_bucket(request.hash));
        hashes().for_each(|(request, db)| db.dict().prefetch_entry(request.hash));
        let mut approaches = [None; BATCH_LEN_MAX];
        let mut len = 0;
        for (request, db) in hashes().take(BATCH_LEN_MAX) {
            if let Some(member) = request.member {
                let key = batch.spans[request.first_span + request.hashed];
                approaches[len] = approach(db, buffer, key, request.hash, batch.spans[member]);
                len += 1;
            }
        }
        let mut leaves = [None; BATCH_LEN_MAX];
        for (leaf, approach) in leaves.iter_mut().zip(&approaches[..len]) {
            *leaf = approach.map(Approach::leaf);
        }
        leaves[..len].iter().flatten().for_each(|leaf| leaf.item());
    }
}

/// Asks for what a look-up of a field or member will need, if the key's value is a large one: a hint, which costs
/// little where it is of no use.
#[inline(always)]
fn approach<'a>(db: &'a Db, buffer: &[u8], key: Span, key_hash: u64, member: Span) -> Option<Approach<'a>> {
    let bytes = |(start, end): Span| &buffer[start as usize..end as usize];
    let Payload::Object(object) = db.find(key_hash, bytes(key))?.payload() else { return None };
    Some(object.table()?.approach(hash(bytes(member))))
}
