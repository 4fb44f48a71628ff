//! Requests that may be suspended half way: they run on a coroutine that owns the engine's lock.
//!
//! A batch comes here if it holds a command flagged SUSPENDS (or an EXEC that holds one). While such a *run* is suspended,
//! the other connections of its thread go on with the thread's own buffers, find the engine taken, and answer `-BUSY` once the
//! threshold has passed. A driver task resumes the run, never the connection's task: a client that leaves does not take
//! a live coroutine with it. A run that is ended is unwound, so whatever stands on its stack is dropped in order.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::Waker;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use mortise_sdk::Error;
use parking_lot::{ArcMutexGuard, Mutex, RawMutex};
use tokio::sync::watch;

use super::Shared;
use crate::engine::Engine;
use crate::engine::batch::Batch;
use crate::engine::dispatch::Stop;
use crate::engine::event::{Kill, RunInSight, Suspend};
use crate::engine::outbox::Outbox;
use crate::engine::registry::Registry;
use crate::engine::session::{ClientId, Session};
use crate::resp::output::Output;

/// How long a run that is to end may take to end by itself, before it is unwound where it stands.
const ENDING_PATIENCE_MS: i64 = 20;

const ENDED: Error = Error::new("ERR the call was ended half way");

/// Address space of a run's stack; pages are used as they are touched.
const STACK_LEN: usize = 8 << 20;

/// Whether a run holds the engine, and since when: read by every connection that finds the lock taken.
///
/// It is written under the engine's lock alone: whoever takes the engine finds that no run has it, and whoever sees a run
/// here can count on being woken when it is over.
pub struct Running {
    /// Stops the server.
    stop: watch::Sender<bool>,
    /// Unix milliseconds; 0 when there is no run.
    since_ms: AtomicI64,
    /// The number of the run; 0 when there is none.
    number: AtomicU64,
    /// How many runs there were.
    count: AtomicU64,
    /// Which run somebody wants ended.
    ending: AtomicU64,
    /// The script that runs has changed something.
    has_written: AtomicBool,
    /// Connections that wait for the engine, or for the threshold.
    waiting: Mutex<HashMap<ClientId, Waker>>,
}

impl RunInSight for Running {
    fn kill(&self) -> Kill {
        if self.since_ms().is_none() {
            Kill::NothingRuns
        } else if self.has_written.load(Ordering::Acquire) {
            Kill::HasWritten
        } else if self.end() {
            Kill::Asked
        } else {
            Kill::NothingRuns
        }
    }

    fn stop_server(&self) {
        tracing::warn!("User requested shutdown...");
        self.stop.send_replace(true);
    }
}

impl Running {
    /// No run, of a server that is stopped by `stop`.
    pub fn new(stop: watch::Sender<bool>) -> Running {
        Running {
            stop,
            since_ms: AtomicI64::new(0),
            number: AtomicU64::new(0),
            count: AtomicU64::new(0),
            ending: AtomicU64::new(0),
            has_written: AtomicBool::new(false),
            waiting: Mutex::default(),
        }
    }

    /// Since when a run has held the engine.
    #[inline(always)]
    pub fn since_ms(&self) -> Option<i64> {
        match self.since_ms.load(Ordering::Acquire) {
            0 => None,
            since => Some(since),
        }
    }

    /// Asks for the run to be ended; false if there is none.
    pub fn end(&self) -> bool {
        let number = self.number.load(Ordering::Acquire);
        if number != 0 {
            self.ending.store(number, Ordering::Release);
        }
        number != 0
    }

    /// Wakes a connection when the run is over, or when the threshold passes: at once if that has happened by now.
    pub fn wait(&self, client: ClientId, waker: &Waker, is_past_threshold: impl Fn(i64) -> bool) {
        self.waiting.lock().insert(client, waker.clone());
        if self.since_ms().is_none_or(is_past_threshold) {
            waker.wake_by_ref();
        }
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.values().for_each(Waker::wake_by_ref);
    }

    fn is_ending(&self, number: u64) -> bool {
        self.ending.load(Ordering::Acquire) == number
    }

    /// The next request of a run begins, or the next script of a request. Who wanted the one before to end has nothing
    /// against this one.
    #[inline(always)]
    fn renew(&self, now_ms: i64) {
        self.ending.store(0, Ordering::Release);
        self.since_ms.store(now_ms.max(1), Ordering::Release);
        self.has_written.store(false, Ordering::Release);
    }

    /// A run begins, under the engine's lock; says its number.
    fn begin(&self, now_ms: i64) -> u64 {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        self.number.store(number, Ordering::Release);
        self.since_ms.store(now_ms.max(1), Ordering::Release);
        number
    }

    /// A run ends; the engine's lock is still held.
    fn finish(&self) {
        self.number.store(0, Ordering::Release);
        self.since_ms.store(0, Ordering::Release);
    }
}

/// How far a run has come, as both ends of it see it.
#[derive(Default)]
struct Progress {
    /// The request that is being executed, and where its reply begins.
    request: Cell<(usize, usize)>,
    /// How much of the replies has been sent.
    sent: Cell<usize>,
    /// It has given way, so its connection has gone on without it.
    has_given_way: Cell<bool>,
    /// It is being ended from outside.
    is_forced: Cell<bool>,
}

struct Yields<'a> {
    yielder: &'a Yielder<(), ()>,
    progress: &'a Progress,
    running: &'a Running,
    number: u64,
    outbox: Arc<Outbox>,
}

impl Suspend for Yields<'_> {
    fn suspend(&self, out: &[u8]) {
        self.progress.has_given_way.set(true);
        let ((_, mark), sent) = (self.progress.request.get(), self.progress.sent.get());
        if mark > sent {
            self.progress.sent.set(mark);
            self.outbox.reply(out[sent..mark].to_vec());
            self.outbox.wake();
        }
        self.yielder.suspend(());
    }

    fn begins(&self, request: usize, mark: usize, now_ms: i64) {
        self.progress.request.set((request, mark));
        self.running.renew(now_ms);
    }

    fn script_begins(&self, now_ms: i64) {
        self.running.renew(now_ms);
    }

    fn is_ending(&self) -> bool {
        self.running.is_ending(self.number)
    }

    fn wrote(&self) {
        self.running.has_written.store(true, Ordering::Release);
    }
}

/// What a run is lent by its connection and its thread, and gives back.
pub struct Lent {
    /// The requests.
    pub batch: Batch,
    /// The bytes in which they stand.
    pub buffer: Vec<u8>,
    /// The commands as they were looked up.
    pub registry: Arc<Registry>,
    /// Where the replies go.
    pub out: Output,
    /// The connection's session. It does not come back at once if the last call waits for something else.
    pub session: Option<Box<Session>>,
    /// How many requests were executed, and why no more.
    pub executed: usize,
    /// Whether the connection is to be closed.
    pub closes: bool,
}

/// What stands on the run's stack. Dropping it (at the end, or when unwound) hands back what was lent, and releases the
/// engine.
struct OnStack {
    lent: Option<Lent>,
    engine: Option<ArcMutexGuard<RawMutex, Engine>>,
    stop: Option<Stop>,
    shared: Arc<Shared>,
    progress: Rc<Progress>,
    back: Rc<RefCell<Option<Lent>>>,
}

impl Drop for OnStack {
    fn drop(&mut self) {
        let (Some(mut engine), Some(mut lent)) = (self.engine.take(), self.lent.take()) else { return };
        let Some(mut session) = lent.session.take() else { return };
        if self.stop.is_none() {
            // Unwound: ended from outside, or by a panic, which costs the connection.
            let (request, mark) = self.progress.request.get();
            engine.abandon();
            engine.return_home(&mut session);
            lent.executed = request + 1;
            lent.out.rollback(mark);
            if self.progress.is_forced.get() {
                lent.out.error(&ENDED);
            } else {
                lent.closes = true;
            }
        }
        session.outbox.set_version(session.version);
        let driven = self.progress.has_given_way.get();
        let outbox = session.outbox.clone();
        if driven {
            // The connection has gone on: the replies go by its outbox, and what is left to be executed comes with the
            // session.
            let done = lent.executed.checked_sub(1).map_or(0, |last| lent.batch.end_of(last));
            session.rest = lent.buffer.split_off(done);
            session.closing |= lent.closes;
            outbox.reply(lent.out.bytes()[self.progress.sent.get()..].to_vec());
        }
        match self.stop.take() {
            Some(Stop::Waits(wait)) => {
                engine.park(session, wait);
                self.shared.ticker.hurry(&engine);
            }
            _ if driven => outbox.resume(Vec::new(), session),
            _ => lent.session = Some(session),
        }
        if !driven {
            *self.back.borrow_mut() = Some(lent);
        }
        self.shared.running.finish();
        self.shared.release_arc(engine);
        self.shared.running.wake_all();
        if driven {
            outbox.wake();
        }
    }
}

/// Stacks of a thread that are not in use.
const SPARE_STACKS_MAX: usize = 4;
thread_local! {
    static SPARE_STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

/// Requests on their coroutine.
pub struct Run {
    coroutine: Option<Coroutine<(), (), (), DefaultStack>>,
    progress: Rc<Progress>,
    shared: Arc<Shared>,
    number: u64,
}

/// What has become of a run by the time the thread goes on.
pub enum Begun {
    /// It is over, and what was lent is back.
    Over(Box<Lent>),
    /// It has given way: somebody has to drive it.
    Suspended(Run),
}

impl Run {
    /// Begins a run, and goes on until it gives way or is over.
    pub fn begin(
        shared: &Arc<Shared>,
        engine: ArcMutexGuard<RawMutex, Engine>,
        lent: Lent,
    ) -> std::io::Result<Begun> {
        let stack = match SPARE_STACKS.with_borrow_mut(Vec::pop) {
            Some(stack) => stack,
            None => DefaultStack::new(STACK_LEN)?,
        };
        let back = Rc::new(RefCell::new(None));
        let progress = Rc::new(Progress::default());
        let number = shared.running.begin(engine.now_ms);
        let mut on_stack = OnStack {
            lent: Some(lent),
            engine: Some(engine),
            stop: None,
            shared: shared.clone(),
            progress: progress.clone(),
            back: back.clone(),
        };
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
            let OnStack { engine: Some(engine), lent: Some(lent), stop, shared, progress, .. } =
                &mut on_stack
            else {
                return;
            };
            let Lent { batch, buffer, registry, out, session: Some(session), executed, closes } = lent else {
                return;
            };
            let outbox = session.outbox.clone();
            let yields = Yields { yielder, progress, running: &shared.running, number, outbox };
            let all = (&*batch, 0..batch.len());
            let (count, why) = engine.run(session, registry, all, buffer, out, Some(&yields));
            *executed = count;
            *closes = matches!(why, Stop::Closes);
            *stop = Some(why);
        });
        let mut run = Run { coroutine: Some(coroutine), progress, shared: shared.clone(), number };
        if !run.resume() {
            return Ok(Begun::Suspended(run));
        }
        let lent = back.borrow_mut().take();
        lent.map(|lent| Begun::Over(Box::new(lent))).ok_or_else(|| std::io::ErrorKind::Other.into())
    }

    /// Runs on until the run gives way or is over; true when it is over.
    fn resume(&mut self) -> bool {
        let Some(coroutine) = &mut self.coroutine else { return true };
        // A panic has unwound the stack by the time it arrives here, so all that was lent is back.
        let over = !matches!(
            catch_unwind(AssertUnwindSafe(|| coroutine.resume(()))),
            Ok(CoroutineResult::Yield(()))
        );
        if over {
            self.put_stack_by();
        }
        over
    }

    /// Ends the run where it stands.
    fn unwind(&mut self) {
        self.progress.is_forced.set(true);
        if let Some(coroutine) = &mut self.coroutine {
            coroutine.force_unwind();
        }
        self.put_stack_by();
    }

    fn put_stack_by(&mut self) {
        let Some(coroutine) = self.coroutine.take().filter(Coroutine::done) else { return };
        let stack = coroutine.into_stack();
        SPARE_STACKS.with_borrow_mut(|spare| {
            if spare.len() < SPARE_STACKS_MAX {
                spare.push(stack);
            }
        });
    }

    /// Drives a run that has given way until it is over or ended.
    pub async fn drive(mut self, threshold_ms: i64, now_ms: impl Fn() -> i64) {
        let mut told_of = None;
        let mut ending_since = None;
        loop {
            tokio::task::yield_now().await;
            let running = &self.shared.running;
            if running.is_ending(self.number) {
                let since = *ending_since.get_or_insert_with(&now_ms);
                if now_ms() - since >= ENDING_PATIENCE_MS {
                    self.unwind();
                    return;
                }
            } else {
                ending_since = None;
            }
            // Each request of the run has its own beginning, and so have those who wait for it.
            if let Some(since) = running.since_ms()
                && told_of != Some(since)
                && now_ms() - since >= threshold_ms
            {
                told_of = Some(since);
                running.wake_all();
            }
            if self.resume() {
                return;
            }
        }
    }
}
