//! A thread's turn: every connection that has something to say is read, then the engine is taken once for all of them,
//! then everybody's replies are written.
//!
//! So what the small requests of many clients need is fetched into the cache together, as a pipeline's is, and the lock
//! and the clock are paid for once. A turn ends when no connection of the thread has anything left to say, or when it is
//! full. What does not fit into it (a large read, the rest of an incomplete request, a call that may be suspended) is a
//! connection's own affair, with the engine to itself.

use std::cell::RefCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::connection::{Connection, LARGE_LEN_MIN};
use super::io_thread::{IoThread, Scratch, follow};
use crate::engine::Engine;
use crate::engine::batch::{BATCH_LEN_MAX, Batch};
use crate::engine::registry::Registry;
use crate::resp::output::Output;

/// Bytes that one read takes at most.
pub const READ_LEN: usize = 64 * 1024;
/// Longer reads are not part of a turn: they hold a batch of their own.
pub const SAID_LEN_MAX: usize = 2 * 1024;

/// What the connections of a thread have said that is not answered yet.
pub struct Turn {
    /// Where reads go, one behind the other.
    pub input: Vec<u8>,
    /// How much of it is taken.
    pub used: usize,
    /// The first requests of each connection.
    pub batch: Batch,
    parts: Vec<Part>,
    replies: Output,
    /// Wakes the task that ends the turn when everybody has been read.
    waker: Option<Waker>,
}

/// A connection's part of a turn.
struct Part {
    connection: Rc<RefCell<Connection>>,
    said: Said,
    /// Where its replies stand.
    replies: Range<usize>,
}

/// What a connection has said.
pub struct Said {
    /// Its place in the turn's input.
    pub bytes: Range<usize>,
    /// Its requests in the turn's batch.
    pub requests: Range<usize>,
    /// The end of those requests in the input.
    pub parsed: usize,
    /// Up to where the input has been executed.
    pub executed: usize,
}

impl Default for Turn {
    fn default() -> Turn {
        Turn {
            input: vec![0; 2 * READ_LEN],
            used: 0,
            batch: Batch::default(),
            parts: Vec::new(),
            replies: Output::default(),
            waker: None,
        }
    }
}

impl Turn {
    /// Whether it has to end before anybody else is read.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_LEN_MAX || self.used > READ_LEN
    }

    /// Adds what a connection has said.
    #[inline(always)]
    pub fn add(&mut self, connection: Rc<RefCell<Connection>>, said: Said) {
        if self.parts.is_empty()
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
        self.used = said.bytes.end;
        self.parts.push(Part { connection, said, replies: 0..0 });
    }

    /// The connection that was added last has said more.
    pub fn extend_last(&mut self, len: usize) {
        if let Some(part) = self.parts.last_mut() {
            part.said.bytes.end += len;
            self.used = part.said.bytes.end;
        }
    }

    /// Forgets what was said: the thread ends.
    pub fn abandon(&mut self) {
        self.parts.clear();
    }

    fn execute(&mut self, engine: &mut Engine, registry: &Arc<Registry>) {
        engine.prefetch(&self.batch, &self.input);
        for Part { connection, said, replies } in &mut self.parts {
            let connection = &mut *connection.borrow_mut();
            let mark = self.replies.mark();
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                connection.execute_said(engine, registry, said, &self.batch, &self.input, &mut self.replies);
            }));
            if panicked.is_err() {
                self.replies.rollback(mark);
                connection.give_up();
            }
            *replies = mark..self.replies.mark();
        }
    }

    fn answer(&mut self, scratch: &mut Scratch) {
        for Part { connection, said, replies } in self.parts.drain(..) {
            let connection = &mut *connection.borrow_mut();
            let rest = &self.input[said.executed..said.bytes.end];
            // If somebody else has taken all, there are none.
            let mut replies = self.replies.bytes().get(replies).unwrap_or_default();
            if replies.len() >= LARGE_LEN_MIN && replies.len() == self.replies.mark() {
                // Nobody else was answered.
                scratch.out.append(&mut self.replies.take());
                replies = &[];
            }
            if catch_unwind(AssertUnwindSafe(|| connection.answer(replies, rest, scratch))).is_err() {
                scratch.renew();
                connection.give_up();
            }
        }
        self.batch.clear();
        self.replies.clear();
        self.used = 0;
    }
}

/// Ends a thread's turn: executes what was said, and answers it.
pub fn end(thread: &IoThread) {
    let turn = &mut *thread.turn.borrow_mut();
    if turn.parts.is_empty() {
        return;
    }
    thread.put_off.begin_slice();
    let scratch = &mut *thread.scratch.borrow_mut();
    // If a run holds the engine, nothing is executed here, and each connection sees what it can do.
    let Scratch { shared, registry, .. } = scratch;
    if let Some(mut engine) = shared.acquire() {
        turn.execute(&mut engine, registry);
        follow(registry, &engine);
        shared.release(engine);
    }
    turn.answer(scratch);
}

/// Ends the thread's turns whenever everybody has been read: its task is woken by the first connection of a turn, and
/// comes after those that were ready with it.
pub async fn end_each(thread: Rc<IoThread>) {
    std::future::poll_fn(|cx| {
        thread.turn.borrow_mut().waker.get_or_insert_with(|| cx.waker().clone());
        end(&thread);
        Poll::Pending
    })
    .await
}
