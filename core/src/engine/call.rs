//! What a command function is given: arguments, keys, reply.

mod keys;
mod options;
mod reply;
mod values;

use std::sync::Arc;

use mortise_sdk::args as numbers;
use mortise_sdk::declare::flags;
use mortise_sdk::error::{self, Error, Result};

use super::alone::{self, Alone, Slow};
use super::args::{Args, OwnedArgs};
use super::blocked::{OnTimeout, Wait};
use super::deferred::{Finish, Work};
use super::dispatch::Asked;
use super::edit::Limits;
use super::event::Suspend;
use super::registry::{Command, Registry};
use super::session::{Replies, Session};
use super::unit::removal;
use super::{Caller, Engine};
use crate::keyspace::hash::hash;
use crate::resp::output::Output;
pub use options::Options;
pub use reply::Reply;

/// A command's function.
#[derive(Clone)]
pub enum Run {
    /// Of the core.
    Core(fn(&mut Call<'_>) -> Result),
    /// Of the core, and it needs the session alone.
    Alone(alone::Run),
    /// Of a module.
    Module(Arc<dyn Fn(&mut Call<'_>) -> Result + Send + Sync>),
}

/// A key of a call with its hash.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    /// The key.
    pub bytes: &'a [u8],
    /// Its hash.
    pub hash: u64,
}

impl<'a> Key<'a> {
    /// A key whose hash is not known yet.
    pub fn new(bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hash: hash(bytes) }
    }
}

/// One execution of a command.
pub struct Call<'c> {
    /// The server's shared state.
    pub engine: &'c mut Engine,
    /// For whom it runs.
    pub session: &'c mut Session,
    /// The snapshot of commands it was found in.
    pub registry: &'c Arc<Registry>,
    /// The command.
    pub command: &'c Command,
    pub(super) args: Args<'c>,
    pub(super) out: &'c mut Output,
    pub(super) caller: Caller,
    /// The hash of the argument at `hashed`, worked out before the engine was entered.
    pub(super) hash: u64,
    pub(super) hashed: usize,
    pub(super) suspend: Option<&'c dyn Suspend>,
    /// Something else is propagated in place of the call.
    pub(super) rewritten: bool,
    /// It has failed, and its error has been written.
    pub(super) failed: bool,
    /// The call is not over.
    pub(super) wait: Option<Box<Wait>>,
}

impl<'c> Call<'c> {
    /// Runs a call that needs only the session, and tells the engine at once.
    pub(super) fn alone(&mut self, run: alone::Run) -> Result {
        let slow = if self.cannot_wait() { Slow::Verify } else { Slow::Leave };
        let in_transaction = self.caller == Caller::Transaction;
        let Call { engine, session, args, out, .. } = self;
        let mut alone = Alone {
            session,
            users: &engine.users,
            args: *args,
            out,
            slow,
            in_transaction,
            running: None,
            left: false,
        };
        let result = run(&mut alone);
        if alone.left {
            let work = alone::work(run, self.engine.users.clone(), self.owned_args());
            return self.defer(work);
        }
        let was_to_end = session.owes.shutdown.is_some();
        engine.catch_up(session)?;
        if was_to_end && self.engine.is_shutting_down() {
            self.wait_for(&[], 0.0, OnTimeout::NotEnded)?;
        }
        result
    }

    /// Whether it would change a value that could not be put back.
    #[cold]
    pub(super) fn changes_irrevocably(&mut self) -> bool {
        if !self.command.flags.has(flags::WRITE) {
            return false;
        }
        let args = self.args;
        let keys = self.command.facts.keys_of(args.len(), &|index| args.at(index)).unwrap_or_default();
        let (space, db) = (self.session.space, self.session.db);
        keys.iter().any(|key| {
            let key = Key::new(args.at(key.index));
            self.engine.keyspace.is_irrevocable(space, db, key.hash, key.bytes)
        })
    }

    // ---- arguments

    /// The argument at an index that the command's arity has shown to exist; 0 is the name.
    #[inline(always)]
    pub fn arg(&self, index: usize) -> &'c [u8] {
        self.args.at(index)
    }

    /// Number of arguments, the name included.
    #[inline(always)]
    pub fn argc(&self) -> usize {
        self.args.len()
    }

    /// All arguments.
    #[inline(always)]
    pub fn args(&self) -> Args<'c> {
        self.args
    }

    /// A cursor over the arguments from an index on.
    pub fn options(&self, from: usize) -> Options<'c> {
        Options::new(self.args, from)
    }

    /// The argument as a 64-bit integer.
    pub fn integer(&self, index: usize) -> Result<i64> {
        numbers::parse_integer(self.arg(index)).ok_or(error::NOT_INTEGER)
    }

    /// The argument as a double.
    pub fn float(&self, index: usize) -> Result<f64> {
        numbers::parse_float(self.arg(index)).ok_or(error::NOT_FLOAT)
    }

    /// The argument as a key.
    #[inline(always)]
    pub fn key(&self, index: usize) -> Key<'c> {
        let bytes = self.arg(index);
        let hash = if index == self.hashed { self.hash } else { hash(bytes) };
        Key { bytes, hash }
    }

    /// Up to which size collections stay packed.
    pub fn limits(&self) -> Limits {
        self.engine.limits
    }

    // ---- time and chance

    /// Unix milliseconds, the same for the whole call and for the unit it belongs to.
    #[inline(always)]
    pub fn now_ms(&self) -> i64 {
        self.engine.now_ms
    }

    /// The same moment in Unix nanoseconds.
    #[inline(always)]
    pub fn now_ns(&self) -> i64 {
        self.engine.now_ns()
    }

    /// A random number.
    pub fn random(&mut self) -> u64 {
        self.engine.random()
    }

    /// For whom the call runs.
    pub fn caller(&self) -> Caller {
        self.caller
    }

    // ---- reply

    /// Where the reply goes.
    #[inline(always)]
    pub fn out(&mut self) -> &mut Output {
        self.out
    }

    /// Bytes of replies that the batch has produced so far.
    pub fn written(&self) -> usize {
        self.out.mark()
    }

    /// The engine, to be read while the reply is written.
    pub fn engine_and_out(&mut self) -> (&Engine, &mut Output) {
        (self.engine, self.out)
    }

    /// `+OK`
    #[inline(always)]
    pub fn ok(&mut self) -> Result {
        self.out.ok();
        Ok(())
    }

    /// Answers with a value.
    #[inline(always)]
    pub fn reply(&mut self, reply: impl Reply) -> Result {
        reply.write(self.out);
        Ok(())
    }

    /// The container's name as the client called it: it may have been renamed.
    pub fn container(&self) -> String {
        String::from_utf8_lossy(self.arg(0)).to_ascii_uppercase()
    }

    /// Refuses a subcommand with more words than these, where its arity does not.
    pub fn at_most(&self, words: usize) -> Result {
        if self.argc() <= words {
            return Ok(());
        }
        Err(self.misused())
    }

    /// The error for a subcommand that the command itself does not know in this form.
    pub fn misused(&self) -> Error {
        const SAID_LEN_MAX: usize = 128;
        let said = &self.arg(1)[..self.arg(1).len().min(SAID_LEN_MAX)];
        Error::quoting(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try {} HELP.",
            &[said, self.container().as_bytes()],
        )
    }

    /// The reply of a HELP subcommand: subcommands with their arguments, each with what it does.
    pub fn help(&mut self, subcommands: &[(&str, &str)]) -> Result {
        let container = self.container();
        let mut lines = vec![format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")];
        for (usage, about) in subcommands {
            lines.extend(usage.lines().map(str::to_owned));
            lines.extend(about.lines().map(|line| format!("    {line}")));
        }
        lines.push("HELP".to_owned());
        lines.push("    Prints this help.".to_owned());
        self.out.array(lines.len());
        lines.iter().for_each(|line| self.out.simple(line));
        Ok(())
    }

    // ---- calls within a call

    /// Gives way for a moment, if the call runs where that is possible: only commands flagged SUSPENDS do.
    pub fn give_way(&mut self) {
        if let Some(suspend) = self.suspend {
            // Replies that were given before are sent meanwhile.
            if self.engine.journal.is_due() {
                self.engine.flush_journal(false);
            }
            suspend.suspend(self.out.bytes());
        }
    }

    /// A script begins, which may be one of several of a transaction.
    pub fn script_begins(&self) {
        if let Some(suspend) = self.suspend {
            suspend.script_begins(self.engine.now_ms);
        }
    }

    /// Whether somebody wants the call to end.
    pub fn is_ending(&self) -> bool {
        self.suspend.is_some_and(Suspend::is_ending)
    }

    /// From now on the call has changed something, and ending it would leave it half done.
    pub fn note_writing(&self) {
        if let Some(suspend) = self.suspend {
            suspend.wrote();
        }
    }

    /// The call has failed, with an error that has been written and counted.
    pub fn note_failure(&mut self) {
        self.failed = true;
    }

    /// What was written since a mark.
    pub fn written_since(&self, mark: usize) -> &[u8] {
        &self.out.bytes()[mark..]
    }

    /// Executes another command for a guest: as `execute`, but its reply is written even if the client wants none.
    #[inline(always)]
    pub fn invoke(&mut self, asked: Asked<'_>, caller: Caller) {
        let _ = self.engine.execute(self.session, self.registry, asked, self.out, caller);
    }

    /// Executes another command within this call and its unit; its reply follows what was written so far.
    pub fn execute(&mut self, asked: Asked<'_>, caller: Caller) {
        let asked = Asked { suspend: self.suspend, ..asked };
        // Nobody waits within a call, so nothing is left over.
        let mark = self.out.mark();
        let _ = self.engine.execute(self.session, self.registry, asked, self.out, caller);
        if self.session.replies == Replies::Off {
            self.out.rollback(mark);
        }
    }

    /// Answers with an error in the place of a call within this one.
    pub fn refuse(&mut self, error: &Error) {
        self.engine.stats.error(error);
        self.out.error(error);
    }

    // ---- propagation

    /// The call names a time that no deadline can be.
    #[cold]
    pub fn invalid_expire_time(&self) -> Error {
        let name = self.command.name.to_ascii_lowercase();
        Error::text(format!("ERR invalid expire time in '{name}' command"))
    }

    /// Propagates these words in place of the call as it was said. May be called more than once; the words follow each
    /// other.
    pub fn propagates(&mut self, words: &[&[u8]]) {
        self.rewritten = true;
        self.engine.unit.say_words(self.session.space, self.session.db, words);
    }

    /// Propagates that a key is removed.
    pub fn propagates_removal(&mut self, key: Key<'_>, lazily: bool) {
        self.propagates(&[removal(lazily), key.bytes]);
    }

    /// Propagates the call as it was said, but not to the journal: when that is played, nobody is there to hear it.
    pub fn propagates_to_replicas(&mut self) {
        self.rewritten = true;
        let unit = &mut self.engine.unit;
        let targets = unit.targets;
        unit.targets.journal = false;
        unit.say(self.session.space, self.session.db, self.args);
        unit.targets = targets;
    }

    /// Propagates nothing.
    pub fn propagates_nothing(&mut self) {
        self.rewritten = true;
    }

    /// Whether anybody will hear of it: what makes rewriting worth its cost.
    #[inline(always)]
    pub fn is_propagated(&self) -> bool {
        self.engine.unit.streaming
    }

    /// The keys that have expired, and of which the call has taken leave, do not go as one: it has only come across them.
    /// In a transaction or a script they do, as everything there.
    pub(crate) fn says_apart(&mut self) {
        if !self.cannot_wait() {
            self.engine.unit.says_apart();
        }
    }

    // ---- waiting

    /// Whether this call cannot wait: inside a transaction, a script or a replayed stream.
    pub fn cannot_wait(&self) -> bool {
        !matches!(self.caller, Caller::Client | Caller::Retry)
    }

    /// The call waits until one of the keys changes, and is then run again. Where nobody waits, it is over as if its
    /// time were.
    ///
    /// `timeout` is relative, in seconds; zero means for ever.
    pub fn wait_for(&mut self, keys: &[&[u8]], timeout: f64, then: OnTimeout) -> Result {
        if self.cannot_wait() {
            then.reply(self.out);
            return Ok(());
        }
        let deadline_ms =
            (timeout > 0.0).then(|| self.engine.now_ms.saturating_add((timeout * 1000.0).ceil() as i64));
        let keys = keys.iter().map(|key| (*key).into()).collect();
        let wait = Wait::new(self.session, self.owned_args(), then);
        self.wait = Some(Box::new(Wait { keys, deadline_ms, ..wait }));
        Ok(())
    }

    /// The call waits until replicas have said how far they are, and is then run again.
    pub(crate) fn wait_for_acks(&mut self, deadline_ms: Option<i64>, then: OnTimeout) {
        let wait = Wait::new(self.session, self.owned_args(), then);
        self.wait = Some(Box::new(Wait { deadline_ms, for_acks: true, ..wait }));
    }

    /// The call that waits is to be tried again with these arguments, in which what was relative to the moment is not.
    pub fn wait_with(&mut self, args: OwnedArgs) {
        if let Some(wait) = &mut self.wait {
            wait.args = args;
        }
    }

    /// The call that waits is to be tried again at a time, too, whatever happens to its keys: Unix milliseconds.
    pub fn retry_at(&mut self, ms: i64) {
        if let Some(wait) = &mut self.wait {
            wait.retry_ms = Some(ms);
        }
    }

    /// The call that waits is to be tried again when one of its keys is gone, too.
    pub fn retry_when_gone(&mut self) {
        if let Some(wait) = &mut self.wait {
            wait.when_gone = true;
        }
    }

    /// A worker goes on with the call. Where nobody waits, the work is done at once.
    pub fn defer(&mut self, work: Work) -> Result {
        if !self.cannot_wait() {
            let wait = Wait::new(self.session, OwnedArgs::new(std::iter::empty()), OnTimeout::Null);
            self.wait = Some(Box::new(Wait { work: Some(work), ..wait }));
            return Ok(());
        }
        let mut work = Some(work);
        while let Some(next) = work.take() {
            work = match next() {
                Finish::Alone(finish) => finish(self.session, self.out).map(|()| None)?,
                Finish::Engine(finish) => finish(self.engine, self.session, self.out)?,
            };
        }
        Ok(())
    }

    /// The timeout of a blocking command, in seconds.
    pub fn timeout(&self, index: usize) -> Result<f64> {
        let seconds = numbers::parse_float(self.arg(index))
            .ok_or(Error::new("ERR timeout is not a float or out of range"))?;
        // One that is too long has become negative by the time Redis looks at it, and one of less than a millisecond is
        // none. Redis reckons with more digits than a double has, which tell between whole numbers only.
        let is_too_long = match numbers::parse_integer(self.arg(index)) {
            Some(whole) => whole.checked_mul(1000).is_none(),
            None => seconds * 1000.0 >= i64::MAX as f64,
        };
        if (seconds * 1000.0).ceil() < 0.0 || is_too_long {
            return Err(Error::new("ERR timeout is negative"));
        }
        Ok(seconds)
    }

    /// A copy of the arguments that outlives the call.
    pub fn owned_args(&self) -> OwnedArgs {
        self.args.to_owned()
    }
}
