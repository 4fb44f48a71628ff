//! What goes to the client: replies, and what others have sent.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use super::{Connection, LARGE_LEN_MIN};
use crate::engine::Engine;
use crate::engine::outbox::Piece;
use crate::replication::backlog::Fed;
use crate::resp::output::Output;
use crate::resp::request::Partial;
use crate::server::io_thread::Scratch;
use crate::server::put_off::{FULL_LEN, PutOff};

/// Replies that are kept for who has not authenticated and does not read them.
const STRANGER_BACKLOG_MAX: u64 = 1024;

/// Pieces that are written at once.
const PIECES_MAX: usize = 16;

impl Connection {
    /// Writes the replies; what does not fit is kept. False if the client is gone.
    #[inline(always)]
    pub(super) fn write_out(&mut self, scratch: &mut Scratch) -> bool {
        if scratch.out.mark() >= LARGE_LEN_MIN {
            // To copy what does not fit would hold the thread up.
            return self.keep_own(scratch.out.take());
        }
        let there = self.write(scratch.out.bytes(), scratch.thread);
        scratch.out.clear();
        there
    }

    #[inline(always)]
    pub(super) fn write(&mut self, replies: &[u8], thread: usize) -> bool {
        if self.shared.commits.holds() || !self.held.is_empty() {
            return self.hold_replies(replies);
        }
        let mut written = 0;
        if self.unwritten.is_empty() && !replies.is_empty() {
            match self.stream.try_write(replies) {
                Ok(len) => written = len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
            self.outbox.bytes_out.fetch_add(written as u64, Relaxed);
            self.shared.traffic[thread].wrote(written);
        }
        written == replies.len() || self.keep_own(replies[written..].to_vec())
    }

    /// Keeps what the client has been answered. False if it has to go.
    #[cold]
    fn keep_own(&mut self, replies: Vec<u8>) -> bool {
        let backlog = self.keep(Piece::Own(replies));
        if backlog > STRANGER_BACKLOG_MAX && self.session.as_ref().is_some_and(|own| !own.authenticated) {
            tracing::warn!(
                "Client id={} that has not authenticated is closed: it does not read its replies.",
                self.id
            );
            self.shared.with_engine(|engine| engine.stats.output_limit_disconnections += 1);
            return false;
        }
        self.check_backlog(backlog);
        true
    }

    /// Keeps replies until what they tell of is durable.
    #[cold]
    fn hold_replies(&mut self, replies: &[u8]) -> bool {
        if !replies.is_empty() {
            let backlog = self.keep(Piece::Own(replies.to_vec()));
            self.check_backlog(backlog);
        }
        true
    }

    #[cold]
    fn hold(&mut self, piece: Piece) {
        let upto = self.shared.commits.promised();
        // Whoever waits for a later place is woken at each.
        if self.held.back().is_none_or(|(last, _)| *last != upto)
            && let Some(waker) = &self.waker
        {
            self.shared.commits.wait(upto, waker);
        }
        self.held.push_back((upto, piece));
    }

    /// Lets go of what is durable by now.
    #[cold]
    pub(super) fn let_go(&mut self) {
        while let Some((upto, _)) = self.held.front()
            && self.shared.commits.is_durable(*upto)
            && let Some((_, piece)) = self.held.pop_front()
        {
            self.unwritten.push_back(piece);
        }
    }

    /// Keeps bytes until they can be written; says how many are kept.
    fn keep(&mut self, piece: Piece) -> u64 {
        let len = piece.bytes().len() as u64;
        if self.shared.commits.holds() || !self.held.is_empty() {
            self.hold(piece);
        } else {
            self.unwritten.push_back(piece);
        }
        self.outbox.unwritten.fetch_add(len, Relaxed) + len
    }

    fn check_backlog(&self, backlog: u64) {
        if backlog > self.shared.output_limit_min.load(Relaxed) {
            let id = self.id;
            self.shared.with_engine(move |engine| engine.check_output_limit(id, backlog));
        }
    }

    /// Writes the first pieces of what was kept, as far as there is room.
    fn try_write_pieces(&mut self) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let mut start = self.written;
        for (slice, piece) in slices.iter_mut().zip(&self.unwritten) {
            *slice = IoSlice::new(&piece.bytes()[std::mem::take(&mut start)..]);
        }
        match self.unwritten.len() {
            1 => self.stream.try_write(&slices[0]),
            count => self.stream.try_write_vectored(&slices[..count.min(PIECES_MAX)]),
        }
    }

    /// Writes what was kept. `None` if the client is gone, otherwise whether everything is written.
    pub(super) fn write_kept(&mut self, cx: &mut Context<'_>, thread: usize) -> Option<bool> {
        while !self.unwritten.is_empty() {
            match self.try_write_pieces() {
                Ok(len) => {
                    self.outbox.unwritten.fetch_sub(len as u64, Relaxed);
                    self.outbox.bytes_out.fetch_add(len as u64, Relaxed);
                    self.shared.traffic[thread].wrote(len);
                    self.written += len;
                    while let Some(piece) = self.unwritten.front()
                        && self.written >= piece.bytes().len()
                    {
                        self.written -= piece.bytes().len();
                        self.unwritten.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => match self.stream.poll_write_ready(cx)
                {
                    Poll::Pending => return Some(false),
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return None,
                },
                Err(_) => return None,
            }
        }
        Some(true)
    }

    /// Writes what the stream of changes has for a replica. `None` if the connection has to end, otherwise whether it is
    /// up to date, or will be woken when it can go on.
    #[cold]
    pub(super) fn write_feed(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Option<bool> {
        /// Bytes that are copied and written at a time, and after how many others have their turn.
        const PIECE_LEN: usize = 64 << 10;
        const TURN_LEN: usize = 1 << 20;
        let (mut piece, mut written) = (std::mem::take(&mut scratch.copy), 0);
        let end = loop {
            if written >= TURN_LEN {
                break Some(false);
            }
            let Some(feed) = self.outbox.feed() else { break Some(true) };
            if feed.is_to_collect() {
                self.stream.collect();
            }
            piece.clear();
            match feed.peek(PIECE_LEN, &mut piece) {
                Fed::Nothing => break Some(true),
                Fed::Lost => {
                    tracing::warn!(
                        "Client id={} needs a part of the stream that is not kept any more.",
                        self.id
                    );
                    break None;
                }
                Fed::Some(_) => {}
            }
            match self.stream.try_write(&piece) {
                Ok(len) => {
                    feed.sent(len);
                    written += len;
                    self.outbox.bytes_out.fetch_add(len as u64, Relaxed);
                    self.shared.traffic[scratch.thread].wrote(len);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => match self.stream.poll_write_ready(cx)
                {
                    Poll::Pending => break Some(true),
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => break None,
                },
                Err(_) => break None,
            }
        };
        piece.clear();
        scratch.copy = piece;
        end
    }

    /// Whether what others have sent may wait: nothing else is to be done for the connection.
    fn can_be_put_off(&self) -> bool {
        let is_busy = self.closing || self.over || self.stalled || self.in_turn || self.session.is_none();
        // What a replica is sent of the stream comes behind.
        !is_busy
            && !self.outbox.is_fed()
            && self.unwritten.is_empty()
            && self.held.is_empty()
            && !self.outbox.is_closing()
    }

    /// Whether what others have sent is left for later, to be written from the queue.
    #[inline(always)]
    pub(super) fn is_put_off(&mut self, this: &Rc<RefCell<Connection>>, queue: &PutOff) -> bool {
        if !self.can_be_put_off() {
            return false;
        }
        if !self.put_off && !queue.is_next() {
            self.put_off = true;
            queue.add(this);
        }
        self.put_off
    }

    /// Whether so much was sent that it is not put off further.
    pub fn is_laden(&self) -> bool {
        self.outbox.queued.load(Relaxed) >= FULL_LEN
    }

    /// Fetches and writes what was put off.
    pub fn write_put_off(&mut self, scratch: &mut Scratch) {
        self.put_off = false;
        let Some(waker) = self.waker.clone() else { return };
        if !self.can_be_put_off() {
            return waker.wake();
        }
        self.fetch(scratch);
        if self.write_kept(&mut Context::from_waker(&waker), scratch.thread).is_none() {
            self.over = true;
            waker.wake();
        }
    }

    /// Fetches what others have sent.
    pub(super) fn fetch(&mut self, scratch: &mut Scratch) {
        let mut pieces = std::mem::take(&mut scratch.pieces);
        let resumed = self.outbox.take(&mut pieces);
        for piece in pieces.drain(..) {
            let backlog = self.keep(piece);
            self.check_backlog(backlog);
        }
        scratch.pieces = pieces;
        if let Some(mut session) = resumed {
            self.closing |= session.closing;
            if !session.rest.is_empty() {
                self.input.splice(..0, session.rest.drain(..));
                self.partial = Partial::default();
            }
            self.session = Some(session);
            self.execute_input(scratch);
            self.outbox.unread.store(self.input.len() as u64, Relaxed);
        }
    }

    /// Puts replies where messages will follow them: what the client has been answered by then is older than what others
    /// have sent since.
    #[cold]
    pub(super) fn keep_replies(&mut self, out: &mut Output) {
        if !out.is_empty() {
            self.keep(Piece::Own(out.take()));
        }
    }

    /// Fetches what others have sent before its requests are executed, so that it comes before the replies: a message
    /// must not be seen after the reply to UNSUBSCRIBE.
    #[cold]
    pub(super) fn fetch_before(&mut self, engine: &mut Engine) {
        if self.session.is_none() || self.outbox.is_closing() {
            return;
        }
        let mut pieces = Vec::new();
        let resumed = self.outbox.take(&mut pieces);
        debug_assert!(resumed.is_none(), "the session is here");
        for piece in pieces {
            let backlog = self.keep(piece);
            if backlog > engine.output_limits_min {
                engine.check_output_limit(self.id, backlog);
            }
        }
    }
}
