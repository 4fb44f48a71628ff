//! What becomes of requests that were read: parsed into batches, and executed.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mortise_sdk::Error;
use parking_lot::{ArcMutexGuard, RawMutex};

use super::{AHEAD_LEN_MAX, Connection};
use crate::engine::batch::{BATCH_LEN_MAX, Batch};
use crate::engine::busy;
use crate::engine::deferred::Deferred;
use crate::engine::dispatch::Stop;
use crate::engine::registry::Registry;
use crate::engine::session::Session;
use crate::engine::{Engine, Job};
use crate::keyspace::shrink::empty;
use crate::resp::output::Output;
use crate::resp::request::{self, Parsed, Partial, RequestLimits};
use crate::server::Shared;
use crate::server::io_thread::{Scratch, follow};
use crate::server::run::{Begun, Lent, Run};
use crate::server::turn::{SAID_LEN_MAX, Said, Turn};
use crate::types::string::value::{Input, TAKEN_LEN_MIN};

/// A buffer that was once large is given back when it is empty.
const KEEP_LEN_MAX: usize = 64 * 1024;

/// A part of a request that is longer is measured with the client's memory while it grows.
const MEASURED_LEN_MIN: usize = 32 * 1024;

/// How far a batch was executed.
enum Executed {
    /// Every request.
    All,
    /// Those before this place in the buffer.
    UpTo(usize),
    /// None.
    Nothing,
}

/// What is behind the requests that are done with. A buffer that was large for them is not kept for a little.
fn rest(mut input: Vec<u8>, used: usize) -> Vec<u8> {
    if used > 0 && input.capacity() > KEEP_LEN_MAX && input.len() - used < input.capacity() / 4 {
        return input[used..].to_vec();
    }
    input.drain(..used);
    input
}

impl Connection {
    /// Makes what was read a part of the thread's turn, if it begins with requests that can be one.
    #[inline(always)]
    pub(super) fn join(
        &mut self,
        this: &Rc<RefCell<Connection>>,
        turn: &mut Turn,
        bytes: Range<usize>,
        registry: &Registry,
    ) -> bool {
        if bytes.len() > SAID_LEN_MAX || !self.input.is_empty() || self.closing {
            return false;
        }
        let Some(session) = &self.session else { return false };
        let first = turn.batch.len();
        let buffer = &turn.input[..bytes.end];
        let taken =
            take(buffer, bytes.start, session, &self.shared, &mut self.partial, &mut turn.batch, registry);
        let requests = first..turn.batch.len();
        if taken.suspends || requests.is_empty() {
            turn.batch.truncate(first);
            self.partial = Partial::default();
            return false;
        }
        if taken.broken.is_some() {
            // It will be found again, behind what stands before it.
            self.partial = Partial::default();
        }
        self.in_turn = true;
        let said = Said { executed: bytes.start, parsed: taken.end, requests, bytes };
        turn.add(this.clone(), said);
        true
    }

    /// Executes its part of the thread's turn.
    #[inline(always)]
    pub fn execute_said(
        &mut self,
        engine: &mut Engine,
        registry: &Arc<Registry>,
        said: &mut Said,
        batch: &Batch,
        input: &[u8],
        replies: &mut Output,
    ) {
        let requests = said.requests.clone();
        let end = self.execute_batch(engine, registry, (batch, requests), input, (replies, 0));
        said.executed = match end {
            _ if self.closing => said.bytes.end,
            Executed::All => said.parsed,
            Executed::UpTo(end) => end,
            Executed::Nothing => said.bytes.start,
        };
    }

    /// Writes the replies to its part of the thread's turn, and goes on with the rest of what it had said.
    #[inline(always)]
    pub fn answer(&mut self, replies: &[u8], rest: &[u8], scratch: &mut Scratch) {
        self.in_turn = false;
        let there = if rest.is_empty() {
            self.outbox.unread.store(0, Relaxed);
            if scratch.out.is_empty() { self.write(replies, scratch.thread) } else { self.write_out(scratch) }
        } else {
            scratch.out.raw(replies);
            self.hear(rest, scratch);
            self.write_out(scratch)
        };
        self.over |= !there;
        let busy = self.over
            || self.closing
            || self.stalled
            || !self.unwritten.is_empty()
            || self.input.len() > AHEAD_LEN_MAX;
        if busy && let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Executes what is complete of what was read, and keeps the rest.
    pub(super) fn hear(&mut self, said: &[u8], scratch: &mut Scratch) {
        if self.input.is_empty() && !self.stalled {
            let used = self.execute(said, scratch);
            self.input.extend_from_slice(&said[used..]);
        } else {
            self.input.extend_from_slice(said);
            if !self.stalled {
                self.execute_input(scratch);
            }
        }
        let needed = self.partial.needed();
        if needed >= TAKEN_LEN_MIN && needed / 2 > self.input.capacity() {
            // A long argument is to come: while the buffer doubled again and again, all would be copied as often.
            self.input.reserve_exact(needed - self.input.len());
        }
        self.outbox.unread.store(self.input.len().saturating_sub(self.partial.head_len()) as u64, Relaxed);
        let announced = if self.input.is_empty() { 0 } else { self.partial.announced() };
        self.outbox.announced.store(announced as u64, Relaxed);
        if self.input.len().max(announced) > MEASURED_LEN_MIN && self.shared.limits_clients.load(Relaxed) {
            self.measure();
        }
    }

    /// It holds much of a request that is not complete: that counts before it is.
    #[cold]
    fn measure(&self) {
        let id = self.id;
        self.shared.with_engine(move |engine| {
            engine.limit_clients(id);
        });
    }

    /// Executes what is complete of what was read before.
    pub(super) fn execute_input(&mut self, scratch: &mut Scratch) {
        if self.input.is_empty() || self.input.len() < self.partial.needed() {
            return;
        }
        let input = std::mem::take(&mut self.input);
        if self.partial.announced() >= TAKEN_LEN_MIN {
            return self.execute_long(input, scratch);
        }
        let used = self.execute(&input, scratch);
        if used < input.len() || input.capacity() <= KEEP_LEN_MAX {
            self.input = rest(input, used);
        }
    }

    /// The same where a value may take over the bytes that it comes in.
    #[cold]
    fn execute_long(&mut self, mut input: Vec<u8>, scratch: &mut Scratch) {
        // What it takes over stays as long as the value does. Where more arguments are to come the room is for them.
        if self.partial.is_last() && input.capacity() - input.len() > input.len() / 8 {
            input.shrink_to_fit();
        }
        let input = Input::new(input);
        self.taken = Some(input.clone());
        let used = self.execute(&input, scratch);
        self.taken = None;
        if used < input.len() {
            self.input = match Input::try_unwrap(input) {
                Ok(input) => rest(input, used),
                Err(input) => input[used..].to_vec(),
            };
        }
    }

    /// Parses requests and runs them, batch by batch, until one is not complete or has to wait; says how many bytes are
    /// done with.
    fn execute(&mut self, buffer: &[u8], scratch: &mut Scratch) -> usize {
        let mut used = 0;
        while let Some(session) = &self.session
            && !self.closing
        {
            scratch.batch.clear();
            let authenticated = session.authenticated;
            let Scratch { batch, registry, .. } = scratch;
            let taken = take(buffer, used, session, &self.shared, &mut self.partial, batch, registry);
            if let Some(request) = taken.quoted {
                if self.execute(&request, scratch) < request.len() {
                    // It waits for a run to end, and is parsed again then.
                    self.partial = Partial::default();
                    return used;
                }
                used = taken.end;
                continue;
            }
            if scratch.batch.is_empty() {
                if let Some(error) = taken.broken {
                    self.protocol_error(&error, scratch);
                    return buffer.len();
                }
                return taken.end;
            }
            let executed = if taken.suspends {
                // Before the engine is taken: others need not wait for the copy.
                let is_free = self.shared.running.since_ms().is_none();
                scratch.copy.extend_from_slice(if is_free { &buffer[..taken.end] } else { &[] });
                let engine = if is_free { self.shared.acquire_for_run() } else { None };
                let executed = engine.map(|engine| self.run(engine, scratch));
                empty(&mut scratch.copy, KEEP_LEN_MAX);
                executed
            } else {
                let Scratch { batch, registry, out, shared, .. } = &mut *scratch;
                shared.acquire().map(|mut engine| {
                    engine.prefetch(batch, buffer);
                    if self.outbox.is_full() {
                        self.keep_replies(out);
                    }
                    let all = (&*batch, 0..batch.len());
                    let unsent = out.mark();
                    engine.input.clone_from(&self.taken);
                    let executed = self.execute_batch(&mut engine, registry, all, buffer, (out, unsent));
                    engine.input = None;
                    follow(registry, &engine);
                    shared.release(engine);
                    executed
                })
            };
            let Some(executed) = executed else {
                used = match self.answer_busy(buffer, scratch) {
                    Executed::All => taken.end,
                    Executed::UpTo(end) => end,
                    Executed::Nothing => {
                        self.partial = Partial::default();
                        return used;
                    }
                };
                continue;
            };
            match executed {
                _ if self.closing => break,
                Executed::All => used = taken.end,
                Executed::UpTo(end) if self.gives_way => return end,
                Executed::UpTo(end) => {
                    used = end;
                    continue;
                }
                Executed::Nothing => continue,
            }
            if let Some(error) = taken.broken {
                let Some(session) = &self.session else { return used };
                if session.authenticated != authenticated {
                    // What it may send has changed.
                    self.partial = Partial::default();
                    continue;
                }
                self.protocol_error(&error, scratch);
                break;
            }
        }
        if self.closing { buffer.len() } else { used }
    }

    /// Executes requests of a batch under the engine's lock. So many bytes in front of its replies are this client's, too.
    #[inline(always)]
    fn execute_batch(
        &mut self,
        engine: &mut Engine,
        registry: &Arc<Registry>,
        (batch, requests): (&Batch, Range<usize>),
        buffer: &[u8],
        (out, unsent): (&mut Output, usize),
    ) -> Executed {
        if self.outbox.is_full() {
            self.fetch_before(engine);
        }
        let Some(session) = &mut self.session else { return Executed::Nothing };
        session.unsent = unsent;
        let (executed, stop) = engine.run(session, registry, (batch, requests.clone()), buffer, out, None);
        match stop {
            Stop::Done | Stop::Stale => {}
            Stop::Enough => (self.stalled, self.gives_way) = (true, true),
            Stop::Waits(wait) => {
                if let Some(session) = self.session.take() {
                    engine.park(session, wait);
                    self.shared.ticker.hurry(engine);
                }
            }
            Stop::Closes => self.closing = true,
        }
        self.executed(batch, requests, executed)
    }

    /// How far a batch was executed if so many of its requests were.
    #[inline(always)]
    fn executed(&mut self, batch: &Batch, requests: Range<usize>, count: usize) -> Executed {
        if count == requests.len() {
            return Executed::All;
        }
        // What was parsed behind it is parsed again later, from its beginning.
        self.partial = Partial::default();
        match count.checked_sub(1) {
            Some(last) => Executed::UpTo(batch.end_of(requests.start + last)),
            None => Executed::Nothing,
        }
    }

    /// Runs the batch, whose bytes have been copied, on a coroutine; if it gives way, a task of its own drives it from
    /// here, and the session comes back when it is over, with what was not executed.
    fn run(&mut self, mut engine: ArcMutexGuard<RawMutex, Engine>, scratch: &mut Scratch) -> Executed {
        if follow(&mut scratch.registry, &engine) {
            return Executed::Nothing;
        }
        if self.outbox.is_full() {
            self.keep_replies(&mut scratch.out);
            self.fetch_before(&mut engine);
        }
        engine.prefetch(&scratch.batch, &scratch.copy);
        let Some(mut session) = self.session.take() else { return Executed::Nothing };
        session.unsent = scratch.out.mark();
        let lent = Lent {
            batch: std::mem::take(&mut scratch.batch),
            buffer: std::mem::take(&mut scratch.copy),
            registry: scratch.registry.clone(),
            out: std::mem::take(&mut scratch.out),
            session: Some(session),
            executed: 0,
            closes: false,
        };
        let mut lent = match Run::begin(&self.shared, engine, lent) {
            Ok(Begun::Over(lent)) => lent,
            Ok(Begun::Suspended(run)) => {
                let threshold_ms = self.shared.busy_threshold_ms.load(Relaxed);
                tokio::task::spawn_local(run.drive(threshold_ms, unix_ms));
                return Executed::All;
            }
            Err(error) => {
                tracing::warn!("A call that may be suspended has no stack: {error}");
                self.closing = true;
                return Executed::Nothing;
            }
        };
        self.closing |= lent.closes;
        self.session = lent.session.take();
        let executed = self.executed(&lent.batch, 0..lent.batch.len(), lent.executed);
        (scratch.batch, scratch.out, scratch.copy) = (lent.batch, lent.out, lent.buffer);
        executed
    }

    /// A run holds the engine. Once it has for longer than the threshold, requests are answered with that; until then
    /// none is.
    #[cold]
    fn answer_busy(&mut self, buffer: &[u8], scratch: &mut Scratch) -> Executed {
        let threshold_ms = self.shared.busy_threshold_ms.load(Relaxed);
        let is_past = |since_ms: i64| unix_ms() - since_ms >= threshold_ms;
        if self.shared.running.since_ms().is_some_and(is_past) {
            let known = self.shared.known();
            for index in 0..scratch.batch.len() {
                let Some(session) = &mut self.session else { break };
                let (lookup, args) = scratch.batch.request(buffer, index);
                let left = busy::answer(session, lookup, args, &known, &mut scratch.out);
                if session.closing {
                    self.closing = true;
                    break;
                }
                if let Some((command, work)) = left
                    && let Some(session) = self.session.take()
                {
                    self.shared.start_job(Job::Call(Deferred::new(session, command, work)));
                    self.partial = Partial::default();
                    return Executed::UpTo(scratch.batch.end_of(index));
                }
            }
            return Executed::All;
        }
        self.stalled = true;
        if let Some(waker) = &self.waker {
            self.shared.running.wait(self.id, waker, is_past);
        }
        Executed::Nothing
    }

    #[cold]
    fn protocol_error(&mut self, error: &Error, scratch: &mut Scratch) {
        scratch.out.error(error);
        self.shared.with_engine(|engine| engine.stats.errors("ERR", 1));
        self.closing = true;
    }
}

/// What was taken from a buffer into a batch.
struct Taken {
    /// The end of its requests.
    end: usize,
    /// A request of the batch may be suspended: the batch runs on a coroutine.
    suspends: bool,
    /// What stands at `end` is not the protocol.
    broken: Option<Error>,
    /// The batch is empty, and this is what the request that ends at `end` says without its quotes.
    quoted: Option<Vec<u8>>,
}

/// Takes requests from a buffer into a batch until it is full, or one is not complete.
#[inline(always)]
fn take(
    buffer: &[u8],
    start: usize,
    session: &Session,
    shared: &Shared,
    partial: &mut Partial,
    batch: &mut Batch,
    registry: &Registry,
) -> Taken {
    let limits = RequestLimits {
        bulk_len_max: shared.bulk_len_max.load(Relaxed),
        authenticated: session.authenticated,
    };
    let first = batch.len();
    let mut taken = Taken { end: start, suspends: false, broken: None, quoted: None };
    while batch.len() < BATCH_LEN_MAX {
        let first_span = batch.spans.len();
        match request::parse(buffer, taken.end, partial, &mut batch.spans, limits) {
            Parsed::Request(end) => {
                if batch.spans.len() > first_span {
                    batch.add(registry, session, buffer, first_span, end);
                    taken.suspends |= batch.suspends(session);
                }
                taken.end = end;
            }
            Parsed::Quoted(end, request) if batch.len() == first => {
                (taken.end, taken.quoted) = (end, Some(request));
                break;
            }
            Parsed::Quoted(..) | Parsed::Incomplete => break,
            Parsed::Broken(error) => {
                taken.broken = Some(error);
                break;
            }
        }
    }
    taken
}

/// The time of day, for comparisons with when a run began: read without the engine, which the run holds.
fn unix_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
