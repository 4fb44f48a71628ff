//! One task a client: it reads, and its thread's turn does the rest; what is no part of a turn it does itself.

mod accept;
mod execute;
mod write;

use std::cell::RefCell;
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};

use tokio::io::ReadBuf;

use super::Shared;
use super::io_thread::{Arrival, IoThread, Scratch};
use super::stream::Stream;
use super::turn::{self, READ_LEN, SAID_LEN_MAX, Turn};
use crate::engine::outbox::{Outbox, Piece};
use crate::engine::session::Session;
use crate::resp::request::Partial;
use crate::types::string::value::Input;

/// Bytes after which other connections of the thread, and the system, get their turn.
const HEARD_LEN_MAX: usize = 16 * 1024;
/// Bytes that one read takes at most, unless they are known to belong to one request.
const SHORT_READ_LEN: usize = 16 * 1024;
/// Bytes that a client may send ahead while its call waits; more is left in the socket.
const AHEAD_LEN_MAX: usize = 1 << 20;

/// Replies of so many bytes are kept where they are.
pub const LARGE_LEN_MIN: usize = 1 << 20;

/// A client's connection.
pub struct Connection {
    stream: Stream,
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    /// Lent to the engine while a call waits.
    session: Option<Box<Session>>,
    id: u64,
    /// What was read and is not executed yet.
    input: Vec<u8>,
    /// What is executed, where a value may take it over.
    taken: Option<Input>,
    partial: Partial,
    /// What could not be written yet, and how much of its first piece was.
    unwritten: std::collections::VecDeque<Piece>,
    written: usize,
    waker: Option<Waker>,
    /// What waits until everything up to a place of the journal is durable.
    held: std::collections::VecDeque<(u64, Piece)>,
    /// A run holds the engine; what was read is executed when it is over, or answered when the threshold has passed.
    stalled: bool,
    /// Its requests have taken long: the others of the thread get their turn before the rest.
    gives_way: bool,
    /// Nothing more is read; the connection ends when everything is written.
    closing: bool,
    /// What others have sent is not fetched yet: it is in the queue of those that this is put off for.
    put_off: bool,
    /// What it has said is part of the thread's turn.
    in_turn: bool,
    /// It ends without another word.
    over: bool,
    /// Bytes heard since its task was woken.
    heard: usize,
}

enum Read {
    /// So many bytes, and maybe more at once.
    Some(usize),
    /// Nothing at the moment.
    Pending,
    /// The client is gone.
    Closed,
}

/// What a connection's task does next.
enum Step {
    /// It waits for the socket, or for somebody to wake it.
    Wait,
    /// It wants the thread's turn to end, and then goes on.
    EndTurn,
    /// The connection has ended.
    Over,
}

/// The task of a connection.
pub struct Task {
    connection: Rc<RefCell<Connection>>,
    thread: Rc<IoThread>,
}

impl Task {
    /// Takes a connection, or turns it away.
    pub fn accept(arrival: Arrival, thread: &Rc<IoThread>) -> Option<Task> {
        let connection = Connection::accept(arrival, &thread.scratch.borrow().shared)?;
        Some(Task { connection: Rc::new(RefCell::new(connection)), thread: thread.clone() })
    }
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.connection.borrow_mut().heard = 0;
        loop {
            let step = self.connection.borrow_mut().step(cx, &self.thread, &self.connection);
            match step {
                Step::Wait => return Poll::Pending,
                Step::EndTurn => turn::end(&self.thread),
                Step::Over => return Poll::Ready(()),
            }
        }
    }
}

impl Connection {
    /// Reads once.
    #[inline(always)]
    fn read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8], thread: usize) -> Read {
        let mut read = ReadBuf::new(buffer);
        let len = match self.stream.poll_read(cx, &mut read) {
            Poll::Pending => return Read::Pending,
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::WouldBlock => return Read::Pending,
            Poll::Ready(Err(_)) => return Read::Closed,
            Poll::Ready(Ok(())) => read.filled().len(),
        };
        if len == 0 {
            return Read::Closed;
        }
        self.outbox.bytes_in.fetch_add(len as u64, Relaxed);
        self.shared.traffic[thread].read(len);
        self.outbox.note_input((self.input.len() + len) as u64);
        self.heard += len;
        Read::Some(len)
    }

    /// Ends without another word: something has gone wrong.
    #[cold]
    pub fn give_up(&mut self) {
        (self.in_turn, self.over) = (false, true);
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Makes good what the session owes the engine: now, or when the run that holds it is over.
    #[cold]
    fn catch_up(&mut self, scratch: &mut Scratch) {
        let Some(session) = &mut self.session else { return };
        match self.shared.acquire() {
            Some(mut engine) => {
                if let Err(error) = engine.catch_up(session) {
                    scratch.out.error(&error);
                    self.closing = true;
                }
                self.shared.release(engine);
            }
            None => {
                if let Some(waker) = &self.waker {
                    self.shared.running.wait(self.id, waker, |_| false);
                }
            }
        }
    }

    fn step(&mut self, cx: &mut Context<'_>, thread: &IoThread, this: &Rc<RefCell<Connection>>) -> Step {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            self.outbox.set_waker(cx.waker());
        }
        if self.in_turn {
            return Step::EndTurn;
        }
        if self.over {
            return Step::Over;
        }
        let scratch = &mut *thread.scratch.borrow_mut();
        scratch.renew();
        if self.session.as_ref().is_some_and(|session| session.owes.anything) {
            self.catch_up(scratch);
            if !self.write_out(scratch) {
                return Step::Over;
            }
        }
        loop {
            if self.outbox.is_full() {
                if self.outbox.is_closing() {
                    return Step::Over;
                }
                if !self.is_put_off(this, &thread.put_off) {
                    self.fetch(scratch);
                    if !self.write_out(scratch) {
                        return Step::Over;
                    }
                }
            }
            if !self.held.is_empty() {
                self.let_go();
                if self.closing && self.unwritten.is_empty() && !self.held.is_empty() {
                    return Step::Wait;
                }
            }
            if !self.unwritten.is_empty() {
                match self.write_kept(cx, scratch.thread) {
                    None => return Step::Over,
                    Some(false) if self.closing => return Step::Wait,
                    Some(_) => {}
                }
            }
            // What a replica was answered comes first, also where that waits for the disk.
            let is_clear = self.unwritten.is_empty() && self.held.is_empty();
            if is_clear && !self.closing && self.outbox.feed().is_some() {
                match self.write_feed(cx, scratch) {
                    None => return Step::Over,
                    Some(true) => {}
                    // There is more than is written at a time.
                    Some(false) => return self.give_way(cx),
                }
            }
            if self.closing && self.unwritten.is_empty() && self.held.is_empty() {
                let stream = std::mem::replace(&mut self.stream, Stream::Gone);
                tokio::task::spawn_local(stream.linger());
                return Step::Over;
            }
            if self.stalled {
                if std::mem::take(&mut self.gives_way) {
                    return self.give_way(cx);
                }
                self.stalled = false;
                self.execute_input(scratch);
                if !self.write_out(scratch) {
                    return Step::Over;
                }
                if self.gives_way {
                    continue;
                }
            }
            if self.input.len() as u64 > self.shared.query_len_max.load(Relaxed) {
                tracing::warn!("Closing client that reached max query buffer length: id={}", self.id);
                self.shared.with_engine(|engine| engine.stats.query_limit_disconnections += 1);
                return Step::Over;
            }
            if (self.session.is_none() || self.stalled) && self.input.len() > AHEAD_LEN_MAX {
                return Step::Wait;
            }
            if self.heard >= HEARD_LEN_MAX {
                return self.give_way(cx);
            }
            let turn = &mut *thread.turn.borrow_mut();
            if turn.is_full() {
                return Step::EndTurn;
            }
            let start = turn.used;
            let room = if self.partial.needed() > SHORT_READ_LEN { READ_LEN } else { SHORT_READ_LEN };
            let len = match self.read(cx, &mut turn.input[start..start + room], scratch.thread) {
                Read::Closed => return Step::Over,
                Read::Pending if self.outbox.is_full() && !self.put_off => return self.give_way(cx),
                Read::Pending => return Step::Wait,
                Read::Some(len) => len,
            };
            if self.join(this, turn, start..start + len, &scratch.registry) {
                return self.read_on(cx, turn, scratch.thread);
            }
            self.hear(&turn.input[start..start + len], scratch);
            if !self.write_out(scratch) {
                return Step::Over;
            }
        }
    }

    /// Its part of the turn is taken: says to the system that it wants to hear of more, which usually is not there yet.
    #[inline(always)]
    fn read_on(&mut self, cx: &mut Context<'_>, turn: &mut Turn, thread: usize) -> Step {
        let start = turn.used;
        match self.read(cx, &mut turn.input[start..start + SAID_LEN_MAX], thread) {
            Read::Pending if turn.is_full() => Step::EndTurn,
            Read::Pending => Step::Wait,
            Read::Some(len) => {
                turn.extend_last(len);
                Step::EndTurn
            }
            Read::Closed => {
                self.over = true;
                Step::EndTurn
            }
        }
    }

    /// Goes on when every other connection has had its turn, those among them of which the system has to tell first.
    fn give_way(&self, cx: &mut Context<'_>) -> Step {
        if pin!(tokio::task::yield_now()).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Step::Wait
    }
}

const _: () = assert!(READ_LEN <= AHEAD_LEN_MAX);

impl Drop for Connection {
    fn drop(&mut self) {
        let (id, mut session) = (self.id, self.session.take());
        self.shared.with_engine(move |engine| {
            if let Some(session) = session.as_mut().filter(|session| session.owes.anything) {
                // If there was no room for it, it leaves as it came.
                let _ = engine.catch_up(session);
            }
            engine.disconnect(id);
        });
    }
}
