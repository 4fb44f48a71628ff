//! Messages that are put off a little: what others have sent is written in slices, between which everybody is read.
//!
//! A message to many clients costs a write for each of them, and they are what it costs. If all were made at once, who
//! published it and everybody else of the thread would wait for the last one. So after a few of them the system is asked
//! who has said something, and that is obeyed first. What is published meanwhile joins what still waits: under load
//! one write carries several messages. Nobody waits for more than one round of the queue, and who has much to be written
//! waits for no slice.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use super::connection::Connection;
use super::io_thread::IoThread;
use super::turn;

/// Connections that are written to before everybody is read again.
const SLICE_LEN: usize = 16;
/// A connection that so many bytes wait for is written to in any slice: more messages would not make its write cheaper.
pub const FULL_LEN: u64 = 16 * 1024;

/// The connections of a thread for which messages wait that were put off.
#[derive(Default)]
pub struct PutOff {
    queue: RefCell<VecDeque<Weak<RefCell<Connection>>>>,
    /// Connections that may be written to in this slice.
    left: Cell<usize>,
    /// Wakes the task that writes the slices.
    waker: RefCell<Option<Waker>>,
}

impl PutOff {
    /// Everybody has been read: a slice begins.
    #[inline(always)]
    pub fn begin_slice(&self) {
        self.left.set(SLICE_LEN);
    }

    /// Whether a connection may be written to at once; it is one of the slice then.
    #[inline(always)]
    pub fn is_next(&self) -> bool {
        self.queue.borrow().is_empty() && self.take_place()
    }

    fn take_place(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    /// Puts a connection at the end of the queue.
    pub fn add(&self, connection: &Rc<RefCell<Connection>>) {
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty()
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
        queue.push_back(Rc::downgrade(connection));
    }

    /// Writes to the next connections of the queue.
    fn write_slice(&self, thread: &IoThread) {
        self.begin_slice();
        let scratch = &mut *thread.scratch.borrow_mut();
        loop {
            let Some(next) = self.queue.borrow_mut().pop_front() else { return };
            let Some(connection) = next.upgrade() else { continue };
            let connection = &mut *connection.borrow_mut();
            if !connection.is_laden() && !self.take_place() {
                self.queue.borrow_mut().push_front(next);
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| connection.write_put_off(scratch))).is_err() {
                scratch.renew();
                connection.give_up();
            }
        }
    }
}

/// Writes what is put off, slice by slice.
pub async fn write_each(thread: Rc<IoThread>) {
    let put_off = &thread.put_off;
    loop {
        std::future::poll_fn(|cx| {
            if !put_off.queue.borrow().is_empty() {
                return Poll::Ready(());
            }
            put_off.waker.borrow_mut().get_or_insert_with(|| cx.waker().clone());
            Poll::Pending
        })
        .await;
        // The others, those among them of which the system has to tell first.
        tokio::task::yield_now().await;
        turn::end(&thread);
        put_off.write_slice(&thread);
    }
}
