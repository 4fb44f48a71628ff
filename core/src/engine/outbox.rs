//! The thread between the engine and a connection: what others send to a client, and what they may see of it without
//! asking the engine.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use bytes::Bytes;
use mortise_sdk::resp::encode::Version;
use parking_lot::Mutex;

use super::session::Session;
use crate::keyspace::memory::Departure;
use crate::replication::backlog::Feed;

/// Frames longer than this are shared between their receivers instead of being copied to each.
const SHARED_LEN_MIN: usize = 1024;

/// Room that is made for small frames before they come.
const ROOM_LEN_MAX: usize = 16 << 10;

/// Size of a read buffer from the first request on.
const INPUT_SIZE_MIN: u64 = 20 << 10;
/// A large read buffer grows by no more than this beyond what it has to hold.
const INPUT_STEP_MAX: u64 = 1 << 20;
/// A read buffer may have so much room that is never given back.
const INPUT_FREE_MAX: u64 = 4 << 10;

/// Bytes on their way to a client.
pub enum Piece {
    /// Copied.
    Own(Vec<u8>),
    /// Shared with other receivers.
    Shared(Bytes),
}

impl Piece {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Piece::Own(bytes) => bytes,
            Piece::Shared(bytes) => bytes,
        }
    }
}

#[derive(Default)]
struct Inbox {
    pieces: Vec<Piece>,
    /// Bytes that were last taken at once: room for as many is made when the next ones come.
    last_len: usize,
    resumed: Option<Box<Session>>,
    waker: Option<Waker>,
    /// What it takes no longer counts, as it is being closed.
    leaving: Option<Departure<()>>,
}

/// What the engine has for a connection.
pub struct Outbox {
    inbox: Mutex<Inbox>,
    /// Whether there is anything to fetch: read before the lock is taken.
    full: AtomicBool,
    closing: AtomicBool,
    resp3: AtomicBool,
    /// Bytes waiting here.
    pub queued: AtomicU64,
    /// Bytes that the connection could not write yet.
    pub unwritten: AtomicU64,
    /// Bytes of requests that were read but not executed.
    pub unread: AtomicU64,
    /// Bytes of a request that is not complete, as far as it has said how long it will be, if that is much.
    pub announced: AtomicU64,
    /// Size of the read buffer that is put down to the connection: the memory itself is shared by those of a thread.
    input_size: AtomicU64,
    /// The most bytes of requests held at once since the connection was last looked at on the clock.
    input_peak: AtomicU64,
    /// When it last sent a request: Unix milliseconds.
    pub active_ms: AtomicU64,
    /// The last command's index in the statistics, plus one.
    pub last_command: AtomicU32,
    /// What it is sent of the stream of changes, if it is a replica.
    feed: OnceLock<Arc<Feed>>,
    /// Bytes read, ever.
    pub bytes_in: AtomicU64,
    /// Bytes written, ever.
    pub bytes_out: AtomicU64,
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Outbox {
        Outbox {
            inbox: Mutex::default(),
            full: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            resp3: AtomicBool::new(false),
            queued: AtomicU64::new(0),
            unwritten: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            announced: AtomicU64::new(0),
            input_size: AtomicU64::new(0),
            input_peak: AtomicU64::new(0),
            active_ms: AtomicU64::new(0),
            last_command: AtomicU32::new(0),
            feed: OnceLock::new(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    /// Puts a frame in; true if the connection has to be woken for it.
    pub fn push(&self, frame: &Bytes) -> bool {
        let mut inbox = self.inbox.lock();
        self.add_queued(frame.len());
        if frame.len() >= SHARED_LEN_MIN {
            inbox.pieces.push(Piece::Shared(frame.clone()));
        } else {
            if !matches!(inbox.pieces.last(), Some(Piece::Own(_))) {
                let room = frame.len().max(inbox.last_len.min(ROOM_LEN_MAX));
                inbox.pieces.push(Piece::Own(Vec::with_capacity(room)));
            }
            if let Some(Piece::Own(bytes)) = inbox.pieces.last_mut() {
                bytes.extend_from_slice(frame);
            }
        }
        let was_full = self.full.load(Ordering::Relaxed);
        if !was_full {
            self.full.store(true, Ordering::Release);
        }
        !was_full
    }

    /// Only whoever has the lock of the inbox changes this, so it needs no more than to be seen by others.
    fn add_queued(&self, len: usize) {
        self.queued.store(self.queued.load(Ordering::Relaxed) + len as u64, Ordering::Relaxed);
    }

    /// Replies, of calls of which the connection's task has been relieved.
    pub fn reply(&self, reply: Vec<u8>) {
        if !reply.is_empty() {
            let mut inbox = self.inbox.lock();
            self.add_queued(reply.len());
            inbox.pieces.push(Piece::Own(reply));
            self.full.store(true, Ordering::Release);
        }
    }

    /// A waiting call is over: its reply, and the session it had been lent.
    pub fn resume(&self, reply: Vec<u8>, session: Box<Session>) {
        self.reply(reply);
        let mut inbox = self.inbox.lock();
        inbox.resumed = Some(session);
        self.full.store(true, Ordering::Release);
    }

    /// The protocol in which messages are to be sent.
    #[inline(always)]
    pub fn version(&self) -> Version {
        if self.resp3.load(Ordering::Relaxed) { Version::Resp3 } else { Version::Resp2 }
    }

    /// Changes the protocol in which messages are to be sent.
    pub fn set_version(&self, version: Version) {
        self.resp3.store(version == Version::Resp3, Ordering::Relaxed);
    }

    /// The connection is to be closed.
    pub fn close(&self) {
        // Not while the connection takes what is here: it would not see this.
        let _inbox = self.inbox.lock();
        self.closing.store(true, Ordering::Release);
        self.full.store(true, Ordering::Release);
    }

    /// Its connection is going to be closed, so what it takes does not count from now on, and will be free when it is.
    pub fn leave(&self, leaving: Departure<()>) {
        self.inbox.lock().leaving = Some(leaving);
    }

    /// Whether the connection is to be closed.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Wakes the connection.
    pub fn wake(&self) {
        let waker = self.inbox.lock().waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Registers who is to be woken.
    pub fn set_waker(&self, waker: &Waker) {
        let mut inbox = self.inbox.lock();
        if !inbox.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inbox.waker = Some(waker.clone());
        }
    }

    /// From now on the connection is a replica's, and is sent this behind everything else.
    pub fn feed_from(&self, feed: Arc<Feed>) {
        // A connection becomes a replica's once.
        let _ = self.feed.set(feed);
    }

    /// Whether it is a replica's.
    pub fn is_fed(&self) -> bool {
        self.feed.get().is_some()
    }

    /// What it is sent of the stream of changes at the moment: nothing before everything else is fetched.
    pub fn feed(&self) -> Option<&Arc<Feed>> {
        // In this order: what was pushed before the feed began is seen by whoever sees that it has begun.
        self.feed.get().filter(|feed| feed.flows()).filter(|_| !self.is_full())
    }

    /// Whether there is anything to fetch.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Takes what is there: the pieces go where the caller says, which must be empty.
    pub fn take(&self, pieces: &mut Vec<Piece>) -> Option<Box<Session>> {
        debug_assert!(pieces.is_empty());
        let mut inbox = self.inbox.lock();
        self.full.store(self.is_closing(), Ordering::Release);
        inbox.last_len = self.queued.swap(0, Ordering::Relaxed) as usize;
        std::mem::swap(&mut inbox.pieces, pieces);
        inbox.resumed.take()
    }

    /// The connection has read, and holds so many bytes of requests.
    #[inline(always)]
    pub fn note_input(&self, held: u64) {
        self.unread.store(held, Ordering::Relaxed);
        if held > self.input_peak.load(Ordering::Relaxed) {
            self.input_peak.store(held, Ordering::Relaxed);
        }
        let size = self.input_size.load(Ordering::Relaxed);
        if size < INPUT_SIZE_MIN || size < held {
            // Beyond its first size it grows as a buffer does that is doubled, up to a megabyte at a time.
            let grown = if held <= INPUT_SIZE_MIN { INPUT_SIZE_MIN } else { held + held.min(INPUT_STEP_MAX) };
            self.input_size.store(grown, Ordering::Relaxed);
        }
    }

    /// Size of the read buffer that is put down to the connection.
    pub fn input_size(&self) -> u64 {
        self.input_size.load(Ordering::Relaxed).max(self.unread.load(Ordering::Relaxed))
    }

    /// Bytes that the connection holds of what it has read, and of the room for what comes next. A large request counts
    /// as a whole from its beginning: it will take as much.
    pub fn held(&self) -> u64 {
        let room = self.input_size.load(Ordering::Relaxed).min(INPUT_SIZE_MIN);
        self.unread.load(Ordering::Relaxed).max(self.announced.load(Ordering::Relaxed)).max(room)
    }

    /// Gives back what the read buffer has too much: all that is unused when the connection is idle, and otherwise what
    /// a large request has left behind.
    pub fn shrink_input(&self, idle: bool) {
        let (size, unread) = (self.input_size.load(Ordering::Relaxed), self.unread.load(Ordering::Relaxed));
        let peak = self.input_peak.load(Ordering::Relaxed);
        if size.saturating_sub(unread) > INPUT_FREE_MAX {
            if idle {
                self.input_size.store(unread, Ordering::Relaxed);
            } else if size > 2 * INPUT_SIZE_MIN && size / 2 > peak {
                self.input_size.store(peak.max(unread), Ordering::Relaxed);
            }
        }
        self.input_peak.store(unread, Ordering::Relaxed);
    }

    /// Bytes that wait to be written, here and in the connection.
    pub fn backlog(&self) -> u64 {
        self.queued.load(Ordering::Relaxed) + self.unwritten.load(Ordering::Relaxed)
    }
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox::new()
    }
}
