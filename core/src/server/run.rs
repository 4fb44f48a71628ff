//! A request that may be suspended half way: it runs on a coroutine that owns the engine's lock.
//!
//! Only commands flagged SUSPENDS (and an EXEC that holds one) come here. While such a *run* is suspended, the other
//! connections of its thread go on with the thread's own buffers, find the engine taken, and answer `-BUSY` once the
//! threshold has passed. A driver task resumes the run, never the connection's task: a client that leaves does not take
//! a live coroutine with it. A run that is ended is unwound, so whatever stands on its stack is dropped in order.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::Waker;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use parking_lot::{ArcMutexGuard, Mutex, RawMutex};

use super::Shared;
use crate::engine::Engine;
use crate::engine::dispatch::{Batch, Stop};
use crate::engine::event::Suspend;
use crate::engine::registry::Registry;
use crate::engine::session::{ClientId, Session};
use crate::resp::output::Output;

/// Address space of a run's stack; pages are used as they are touched.
const STACK_LEN: usize = 8 << 20;

/// Whether a run holds the engine, and since when: read by every connection that finds the lock taken.
#[derive(Default)]
pub struct Running {
    /// Unix milliseconds; 0 when there is no run.
    since_ms: AtomicI64,
    /// Somebody wants it ended.
    ending: AtomicBool,
    /// Connections that wait for the engine, or for the threshold.
    waiting: Mutex<HashMap<ClientId, Waker>>,
}

impl Running {
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
        let there = self.since_ms().is_some();
        self.ending.store(there, Ordering::Release);
        there
    }

    /// Wakes a connection when the run is over, or when the threshold passes.
    pub fn wait(&self, client: ClientId, waker: &Waker) {
        self.waiting.lock().insert(client, waker.clone());
        if self.since_ms().is_none() {
            waker.wake_by_ref();
        }
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.values().for_each(Waker::wake_by_ref);
    }
}

struct Yields<'a>(&'a Yielder<(), ()>);

impl Suspend for Yields<'_> {
    fn suspend(&self) {
        self.0.suspend(());
    }
}

/// What a run was lent by its connection and gives back, however it ends.
pub struct Parts {
    /// The connection's session.
    pub session: Box<Session>,
    /// The replies.
    pub out: Output,
    /// How it ended; nothing if it was ended from outside.
    pub stop: Option<Stop>,
}

/// What stands on the run's stack. Dropping it (at the end, or when unwound) hands the parts back and releases the lock.
struct Lent {
    engine: Option<ArcMutexGuard<RawMutex, Engine>>,
    session: Option<Box<Session>>,
    out: Output,
    stop: Option<Stop>,
    shared: Arc<Shared>,
    back: Rc<RefCell<Option<Parts>>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let (Some(mut engine), Some(session)) = (self.engine.take(), self.session.take()) else { return };
        if self.stop.is_none() {
            engine.abandon();
            self.out.rollback(0);
        }
        session.outbox.set_version(session.version);
        if let Some(Stop::Waits(wait)) = self.stop.take_if(|stop| matches!(stop, Stop::Waits(_))) {
            engine.park(session, wait);
            self.shared.ticker.hurry(&engine);
            self.shared.release_arc(engine);
            return;
        }
        *self.back.borrow_mut() =
            Some(Parts { session, out: std::mem::take(&mut self.out), stop: self.stop.take() });
        self.shared.release_arc(engine);
    }
}

/// A request on its coroutine.
pub struct Run {
    coroutine: Option<Coroutine<(), (), (), DefaultStack>>,
    back: Rc<RefCell<Option<Parts>>>,
    shared: Arc<Shared>,
}

impl Run {
    /// Begins a run: the batch holds the one request, whose arguments are in `buffer`.
    pub fn begin(
        shared: &Arc<Shared>,
        engine: ArcMutexGuard<RawMutex, Engine>,
        session: Box<Session>,
        registry: Arc<Registry>,
        batch: Batch,
        buffer: Vec<u8>,
    ) -> std::io::Result<Run> {
        let back = Rc::new(RefCell::new(None));
        shared.running.ending.store(false, Ordering::Release);
        shared.running.since_ms.store(engine.now_ms.max(1), Ordering::Release);
        let out = Output::new(session.version);
        let mut lent = Lent {
            engine: Some(engine),
            session: Some(session),
            out,
            stop: None,
            shared: shared.clone(),
            back: back.clone(),
        };
        let coroutine =
            Coroutine::with_stack(DefaultStack::new(STACK_LEN)?, move |yielder: &Yielder<(), ()>, ()| {
                let Lent { engine: Some(engine), session: Some(session), out, stop, .. } = &mut lent else {
                    return;
                };
                let yields = Yields(yielder);
                let all = (&batch, 0..batch.len());
                *stop = Some(engine.run(session, &registry, all, &buffer, out, Some(&yields)).1);
            });
        Ok(Run { coroutine: Some(coroutine), back, shared: shared.clone() })
    }

    /// Runs on until the run gives way or is over; true when it is over.
    pub fn resume(&mut self) -> bool {
        let Some(coroutine) = &mut self.coroutine else { return true };
        // A panic has unwound the stack by the time it arrives here, so all that was lent is back.
        let over = !matches!(
            catch_unwind(AssertUnwindSafe(|| coroutine.resume(()))),
            Ok(CoroutineResult::Yield(()))
        );
        if over {
            self.close();
        }
        over
    }

    /// What the connection had lent. Nothing if the call waits, with the session, for something else.
    pub fn parts(&mut self) -> Option<Parts> {
        let mut parts = self.back.borrow_mut().take()?;
        if parts.stop.is_none() {
            parts.out.error("ERR the call was ended half way");
        }
        Some(parts)
    }

    /// Drives a run that has given way until it is over or ended; then hands the session back to its connection.
    pub async fn drive(mut self, threshold_ms: i64, now_ms: impl Fn() -> i64) {
        let outbox_wake = self.shared.clone();
        let mut told = false;
        loop {
            tokio::task::yield_now().await;
            let running = &self.shared.running;
            if running.ending.load(Ordering::Acquire) {
                self.coroutine = None;
                self.close();
                break;
            }
            if !told && running.since_ms().is_some_and(|since| now_ms() - since >= threshold_ms) {
                told = true;
                running.wake_all();
            }
            if self.resume() {
                break;
            }
        }
        if let Some(Parts { mut session, mut out, stop }) = self.parts() {
            session.closing |= matches!(stop, Some(Stop::Closes));
            let outbox = session.outbox.clone();
            if let Some(session) = outbox.resume(out.take(), session) {
                outbox_wake.with_engine(move |engine| engine.forget(&session));
            }
            outbox.wake();
        }
        outbox_wake.running.wake_all();
    }

    fn close(&mut self) {
        self.coroutine = None;
        self.shared.running.since_ms.store(0, Ordering::Release);
        self.shared.running.ending.store(false, Ordering::Release);
    }
}
