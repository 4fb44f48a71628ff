//! What a running script asks of the server: its commands take the road of every other.

use std::sync::Arc;

use mortise_scripting::{Flags, Host, Replication, Verdict};
use mortise_sdk::declare::flags::{
    CONTAINER, DENYOOM, MAY_REPLICATE, NEEDS_DEBUG, NOSCRIPT, READONLY, WRITE,
};
use mortise_sdk::error::{self, Error};
use mortise_sdk::host::Level;
use mortise_sdk::resp::encode::Version;

use crate::acl;
use crate::engine::Caller;
use crate::engine::args::{Args, Span};
use crate::engine::call::Call;
use crate::engine::dispatch::Asked;
use crate::engine::registry::{Command, CommandRef, Lookup};
use crate::engine::unit::Targets;
use crate::keyspace::shrink::empty;

/// A script that runs, on the server's side.
pub(super) struct Running<'r, 'c> {
    call: &'r mut Call<'c>,
    flags: Flags,
    read_only: bool,
    /// Memory was short when it began.
    out_of_memory: bool,
    /// Nothing could be saved that it would write.
    unsaved: Option<Error>,
    /// It would not be replicated, or is another server's business.
    refused: Option<Error>,
    /// It has called a command that writes.
    has_written: bool,
    /// Where the replies of its commands begin in the output.
    mark: usize,
    words: Vec<u8>,
    spans: Vec<Span>,
    recent: Recent,
    targets: Targets,
}

impl<'r, 'c> Running<'r, 'c> {
    /// A script that is about to run.
    pub(super) fn new(call: &'r mut Call<'c>, flags: Flags, read_only: bool) -> Running<'r, 'c> {
        let mark = call.out().mark();
        let out_of_memory = call.engine.out_of_memory;
        let is_stream = call.caller().is_stream();
        let unsaved = call.engine.refuses_writes().filter(|_| !is_stream);
        let refused = call.engine.refuses_writers().filter(|_| !is_stream);
        let words = std::mem::take(&mut call.engine.scripting.words);
        let spans = std::mem::take(&mut call.engine.scripting.spans);
        let recent = std::mem::take(&mut call.engine.scripting.recent);
        let targets = call.engine.unit.targets;
        Running {
            call,
            flags,
            read_only,
            out_of_memory,
            unsaved,
            refused,
            has_written: false,
            mark,
            words,
            spans,
            recent,
            targets,
        }
    }

    /// It is over: nothing of its commands' replies stays.
    pub(super) fn finish(self) {
        let Running { call, mark, mut words, mut spans, recent, targets, .. } = self;
        call.out().rollback(mark);
        let version = call.session.version;
        call.out().set_version(version);
        call.engine.unit.targets = targets;
        let is_current = Arc::ptr_eq(call.registry, &call.engine.registry);
        empty(&mut words, super::KEEP_MAX);
        empty(&mut spans, super::KEEP_MAX / size_of::<Span>());
        let scripting = &mut call.engine.scripting;
        (scripting.words, scripting.spans) = (words, spans);
        // One of its commands may have changed what commands there are.
        if is_current {
            scripting.recent = recent;
        }
    }

    /// Puts the words where a command's arguments are read from. Together they may be as long as a client's request.
    #[inline(always)]
    fn gather(&mut self, words: &[&[u8]]) -> Result<(), Error> {
        const TOO_LONG: Error = Error::new("ERR The arguments of a command called from script are too long");
        let len: usize = words.iter().map(|word| word.len()).sum();
        let len_max = self.call.engine.config.clients.client_query_buffer_limit.0;
        if len as u64 > len_max.min(u32::MAX.into()) {
            return Err(TOO_LONG);
        }
        self.words.clear();
        self.spans.clear();
        for word in words {
            let start = self.words.len() as u32;
            self.words.extend_from_slice(word);
            self.spans.push((start, self.words.len() as u32));
        }
        Ok(())
    }

    /// The command that the words name, if scripts may call it and it takes so many of them.
    fn look_up(&self, args: Args<'_>) -> Result<CommandRef, Error> {
        match self.call.registry.find(args) {
            Lookup::Found(command) if command.facts.accepts(args.len()) => {
                const NOT_ALLOWED: Error = Error::new("ERR This Redis command is not allowed from script");
                let refused = command.flags.any(NOSCRIPT | CONTAINER) && !self.may_debug(&command);
                if refused { Err(NOT_ALLOWED) } else { Ok(command) }
            }
            Lookup::Found(_) => Err(WRONG_COUNT),
            Lookup::Unknown | Lookup::UnknownSubcommand(_) => {
                Err(Error::new("ERR Unknown Redis command called from script"))
            }
        }
    }

    /// Whether it is DEBUG, and scripts have been let use it.
    #[cold]
    fn may_debug(&self, command: &Command) -> bool {
        let Call { engine, session, .. } = &*self.call;
        engine.scripting.may_debug
            && command.flags.has(NEEDS_DEBUG)
            && engine.config.debug.enable_debug_command.allows(session.is_local)
    }

    /// What a script may not do, though its user might.
    #[inline(always)]
    fn admit(&self, command: &CommandRef) -> Result<(), Error> {
        const READS_ONLY: Error = Error::new("ERR Write commands are not allowed from read-only scripts.");
        // What others hear of counts as a write, as PUBLISH.
        if self.read_only && command.flags.any(WRITE | MAY_REPLICATE) {
            return Err(READS_ONLY);
        }
        if let Some(error) = self.unsaved.as_ref().filter(|_| command.flags.has(WRITE)) {
            return Err(error.clone());
        }
        if let Some(refused) = self.refused.as_ref().filter(|_| command.flags.has(WRITE)) {
            return Err(refused.clone());
        }
        if self.out_of_memory && command.flags.has(DENYOOM) && !self.flags.allow_oom && !self.has_written {
            return Err(error::OOM);
        }
        Ok(())
    }

    #[inline(always)]
    fn execute(&mut self, words: &[&[u8]]) -> Result<(), Error> {
        self.gather(words)?;
        let name = words.first().copied().unwrap_or_default();
        if let Some(named) = self.recent.take(name) {
            let accepts = named.command.facts.accepts(words.len());
            let done = if accepts { self.execute_as(&named.command) } else { Err(WRONG_COUNT) };
            self.recent.put(named);
            return done;
        }
        let command = self.look_up(Args::new(&self.words, &self.spans))?;
        let done = self.execute_as(&command);
        let always_allowed = !command.flags.has(NOSCRIPT);
        if always_allowed && command.facts.words.len() == 1 && command.subcommands.is_empty() {
            self.recent.put(Named { name: name.into(), command });
        }
        done
    }

    #[inline(always)]
    fn execute_as(&mut self, command: &CommandRef) -> Result<(), Error> {
        let args = Args::new(&self.words, &self.spans);
        if let Err(refusal) = acl::check(&self.call.session.user, command, args) {
            let Call { engine, session, .. } = &mut *self.call;
            return Err(engine.forbid_within(session, refusal, command, args, Caller::Script));
        }
        self.admit(command)?;
        if command.flags.has(WRITE) && !self.has_written {
            self.has_written = true;
            self.call.note_writing();
        }
        let caller = if self.call.caller().is_stream() { self.call.caller() } else { Caller::Script };
        self.call.invoke(Asked::new(command, args), caller);
        if self.call.session.reads.tracked && command.flags.has(READONLY) {
            // A script that reads may have read any of the keys that it declares.
            let args = self.call.args();
            let Call { engine, session, command, .. } = &mut *self.call;
            engine.remember_keys(session, command, args);
        }
        Ok(())
    }
}

const WRONG_COUNT: Error = Error::new("ERR Wrong number of args calling Redis command from script");

/// The commands that scripts have called last, by their names as they were said: a script calls few, and often.
#[derive(Default)]
pub(super) struct Recent {
    slots: Vec<Option<Named>>,
}

struct Named {
    name: Box<[u8]>,
    command: CommandRef,
}

impl Recent {
    const SLOTS: usize = 16;

    /// Forgets them: there are others.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }

    /// Lends the command of a name: it is to be put back.
    #[inline(always)]
    fn take(&mut self, name: &[u8]) -> Option<Named> {
        self.slots.get_mut(Recent::slot(name))?.take_if(|named| *named.name == *name)
    }

    #[inline(always)]
    fn put(&mut self, named: Named) {
        if self.slots.is_empty() {
            self.slots.resize_with(Recent::SLOTS, || None);
        }
        let slot = Recent::slot(&named.name);
        self.slots[slot] = Some(named);
    }

    #[inline(always)]
    fn slot(name: &[u8]) -> usize {
        let byte = |byte: Option<&u8>| usize::from(byte.copied().unwrap_or_default());
        (byte(name.first()) ^ byte(name.last()) << 2 ^ name.len()) % Recent::SLOTS
    }
}

impl Host for Running<'_, '_> {
    fn call(&mut self, words: &[&[u8]], version: Version) -> &[u8] {
        let mark = self.mark;
        let out = self.call.out();
        out.rollback(mark);
        out.set_version(version);
        if let Err(error) = self.execute(words) {
            self.call.out().error(&error);
        }
        self.call.written_since(mark)
    }

    fn permits(&mut self, words: &[&[u8]]) -> Option<bool> {
        self.gather(words).ok()?;
        let args = Args::new(&self.words, &self.spans);
        // Also what no script may call, and whatever its arguments are: it is only a question.
        let Lookup::Found(command) = self.call.registry.find(args) else { return None };
        Some(acl::check(&self.call.session.user, &command, args).is_ok())
    }

    fn log(&mut self, level: Level, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        match level {
            Level::Debug => tracing::trace!("{line}"),
            Level::Verbose => tracing::debug!("{line}"),
            Level::Notice => tracing::info!("{line}"),
            Level::Warning => tracing::warn!("{line}"),
        }
    }

    fn set_replication(&mut self, replication: Replication) {
        let Replication { journal, replicas } = replication;
        self.call.engine.unit.targets = Targets { journal, replicas };
    }

    fn pause(&mut self) -> Verdict {
        self.call.give_way();
        if self.call.is_ending() { Verdict::End } else { Verdict::GoOn }
    }

    fn count_error(&mut self, text: &[u8]) {
        self.call.engine.stats.error(&Error::text(text));
    }
}
