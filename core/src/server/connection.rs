//! One task a client: read → parse → batch → engine → write.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Shared;
use super::io_thread::{Arrival, READ_LEN, Scratch};
use super::run::{Parts, Run};
use mortise_sdk::error;
use parking_lot::{ArcMutexGuard, RawMutex};

use crate::engine::Engine;
use crate::engine::busy;
use crate::engine::dispatch::{BATCH_LEN_MAX, Stop};
use crate::engine::outbox::{Outbox, Piece};
use crate::engine::session::Session;
use crate::resp::request::{self, Parsed, Partial, RequestLimits};

/// Rounds of reading after which other connections of the thread get their turn.
const ROUNDS_MAX: usize = 16;
/// Bytes that a client may send ahead while its call waits; more is left in the socket.
const AHEAD_LEN_MAX: usize = 1 << 20;
/// How long a client is listened to that the server has taken leave of.
const LINGER_MAX: Duration = Duration::from_millis(500);
/// A buffer that was once large is given back when it is empty.
const KEEP_LEN_MAX: usize = 64 * 1024;

/// A socket.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
    /// It is closed, or someone else's by now.
    Gone,
}

impl Stream {
    #[inline(always)]
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }

    #[inline(always)]
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Unix(stream) => stream.try_write(bytes),
            Stream::Gone => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_write_ready(cx),
            Stream::Unix(stream) => stream.poll_write_ready(cx),
            Stream::Gone => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
        }
    }

    async fn refuse(mut self, text: String) {
        // Whoever is turned away may be gone already.
        let _ = match &mut self {
            Stream::Tcp(stream) => stream.write_all(text.as_bytes()).await,
            Stream::Unix(stream) => stream.write_all(text.as_bytes()).await,
            Stream::Gone => Ok(()),
        };
    }

    /// Closes a socket whose last reply is written. If it were closed while requests are still unread, the system would
    /// tell the client that the connection is broken, and the reply might be lost: so the client is told that nothing more
    /// comes, and is listened to for a moment longer.
    async fn linger(self) {
        async fn drain(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
            stream.shutdown().await?;
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await? > 0 {}
            Ok(())
        }
        // Whatever happens, the socket is closed now.
        let _ = match self {
            Stream::Tcp(stream) => tokio::time::timeout(LINGER_MAX, drain(stream)).await,
            Stream::Unix(stream) => tokio::time::timeout(LINGER_MAX, drain(stream)).await,
            Stream::Gone => return,
        };
    }
}

/// A client's connection.
pub struct Connection {
    stream: Stream,
    shared: Arc<Shared>,
    scratch: Rc<RefCell<Scratch>>,
    outbox: Arc<Outbox>,
    /// Lent to the engine while a call waits.
    session: Option<Box<Session>>,
    id: u64,
    /// What was read and is not executed yet.
    input: Vec<u8>,
    partial: Partial,
    /// What could not be written yet, and how much of its first piece was.
    unwritten: std::collections::VecDeque<Piece>,
    written: usize,
    waker: Option<Waker>,
    /// A run holds the engine; what was read is executed when it is over, or answered when the threshold has passed.
    stalled: bool,
    /// What stands in place of an inline request with quotes.
    replacement: Vec<u8>,
    /// Nothing more is read; the connection ends when everything is written.
    closing: bool,
}

enum Read {
    /// Some bytes, and maybe more at once.
    Some,
    /// Nothing at the moment.
    Pending,
    /// The client is gone.
    Closed,
}

impl Connection {
    /// Takes a connection, or turns it away.
    pub fn accept(
        arrival: Arrival,
        shared: &Arc<Shared>,
        scratch: &Rc<RefCell<Scratch>>,
    ) -> Option<Connection> {
        const DENIED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no \
            password is set for the default user. In this mode connections are only accepted from the loopback \
            interface. If you want to connect from external computers to Redis you may adopt one of the following \
            solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the \
            loopback interface by connecting to Redis from the same host the server is running, however MAKE SURE Redis \
            is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) \
            Alternatively you can just disable the protected mode by editing the Redis configuration file, and setting \
            the protected mode option to 'no', and then restarting the server. 3) If you started the server manually \
            just for testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication password \
            for the default user. NOTE: You only need to do one of the above things in order for the server to start \
            accepting connections from the outside.\r\n";
        let Arrival { stream, origin } = arrival;
        let outbox = Arc::new(Outbox::new());
        let known = shared.known();
        if known.admits_only_local() && !origin.is_local {
            shared.with_engine(|engine| engine.stats.rejected_connections += 1);
            tokio::task::spawn_local(stream.refuse(DENIED.to_owned()));
            return None;
        }
        let session = match shared.acquire() {
            Some(mut engine) => {
                engine.connect(outbox.clone(), origin).ok_or_else(|| format!("-{}\r\n", error::MAX_CLIENTS))
            }
            None => {
                // The engine hears of it when it is free.
                let mut session = Session::arriving(&shared.ids, outbox.clone(), &origin, &known.users);
                session.owes.anything = true;
                session.owes.arrival = Some(Box::new(origin));
                Ok(session)
            }
        };
        let session = match session {
            Ok(session) => session,
            Err(text) => {
                tokio::task::spawn_local(stream.refuse(text));
                return None;
            }
        };
        Some(Connection {
            stream,
            shared: shared.clone(),
            scratch: scratch.clone(),
            outbox,
            id: session.id,
            session: Some(session),
            input: Vec::new(),
            partial: Partial::default(),
            unwritten: Default::default(),
            written: 0,
            waker: None,
            stalled: false,
            replacement: Vec::new(),
            closing: false,
        })
    }

    /// Reads once, executes what is complete, writes once.
    #[inline(always)]
    fn read(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Read {
        let mut buffer = std::mem::take(&mut scratch.read);
        let mut read = ReadBuf::new(&mut buffer);
        let outcome = match self.stream.poll_read(cx, &mut read) {
            Poll::Pending => Read::Pending,
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::WouldBlock => Read::Pending,
            Poll::Ready(Err(_)) => Read::Closed,
            Poll::Ready(Ok(())) if read.filled().is_empty() => Read::Closed,
            Poll::Ready(Ok(())) => Read::Some,
        };
        if let Read::Some = outcome {
            let len = read.filled().len();
            self.outbox.bytes_in.fetch_add(len as u64, Relaxed);
            self.shared.traffic[scratch.thread].read(len);
            self.outbox.note_input((self.input.len() + len) as u64);
            if self.input.is_empty() {
                let used = self.execute(&buffer[..len], scratch);
                self.input = std::mem::take(&mut self.replacement);
                let replaced = !self.input.is_empty();
                self.input.extend_from_slice(&buffer[used..len]);
                if replaced {
                    self.execute_input(scratch);
                }
            } else {
                self.input.extend_from_slice(&buffer[..len]);
                if !self.stalled {
                    self.execute_input(scratch);
                }
            }
            self.outbox.unread.store(self.input.len() as u64, Relaxed);
        }
        scratch.read = buffer;
        outcome
    }

    /// Executes what is complete of what was read before.
    fn execute_input(&mut self, scratch: &mut Scratch) {
        if self.input.is_empty() || self.input.len() < self.partial.needed() {
            return;
        }
        loop {
            let mut input = std::mem::take(&mut self.input);
            let used = self.execute(&input, scratch);
            if used == input.len() && input.capacity() > KEEP_LEN_MAX && self.replacement.is_empty() {
                return;
            }
            let replaced = !self.replacement.is_empty();
            input.splice(..used, self.replacement.drain(..));
            self.input = input;
            if !replaced {
                return;
            }
        }
    }

    /// Parses requests and runs them, batch by batch, until one is not complete or has to wait; says how many bytes are
    /// done with.
    fn execute(&mut self, buffer: &[u8], scratch: &mut Scratch) -> usize {
        let mut used = 0;
        while let Some(session) = &mut self.session
            && !self.closing
        {
            let limits = RequestLimits {
                bulk_len_max: self.shared.bulk_len_max.load(Relaxed),
                authenticated: session.authenticated,
            };
            scratch.batch.clear();
            let mut at = used;
            let mut broken = None;
            let mut suspends = false;
            while scratch.batch.len() < BATCH_LEN_MAX {
                let first_span = scratch.batch.spans.len();
                match request::parse(buffer, at, &mut self.partial, &mut scratch.batch.spans, limits) {
                    Parsed::Request(end) => {
                        at = end;
                        if scratch.batch.spans.len() > first_span {
                            scratch.batch.add(&scratch.registry, buffer, first_span, end);
                            if scratch.batch.suspends(session) {
                                // It runs alone, after what stands before it.
                                suspends = scratch.batch.len() == 1;
                                if !suspends {
                                    scratch.batch.pop();
                                    at = scratch.batch.end_of(scratch.batch.len() - 1);
                                }
                                break;
                            }
                        }
                    }
                    Parsed::Quoted(end, request) if scratch.batch.is_empty() => {
                        self.replacement = request;
                        return end;
                    }
                    Parsed::Quoted(..) => break,
                    Parsed::Incomplete => break,
                    Parsed::Broken(text) => {
                        broken = Some(text);
                        break;
                    }
                }
            }
            if scratch.batch.is_empty() {
                if let Some(text) = broken {
                    self.protocol_error(&text, scratch);
                    return buffer.len();
                }
                return at;
            }
            if suspends && let Some(engine) = self.shared.acquire_for_run() {
                if !Arc::ptr_eq(&scratch.registry, &engine.registry) {
                    scratch.registry = engine.registry.clone();
                    continue;
                }
                self.begin_run(engine, buffer, scratch);
                used = at;
                continue;
            }
            let stop = {
                let Some(mut engine) = self.shared.acquire() else {
                    if self.answer_busy(buffer, scratch) {
                        used = at;
                        continue;
                    }
                    self.partial = Partial::default();
                    return used;
                };
                let (executed, stop) =
                    engine.run(session, &scratch.registry, &scratch.batch, buffer, &mut scratch.out, None);
                if executed == scratch.batch.len() {
                    used = at;
                } else {
                    if let Some(last) = executed.checked_sub(1) {
                        used = scratch.batch.end_of(last);
                    }

                    // What was parsed behind it is parsed again later, from its beginning.
                    self.partial = Partial::default();
                }
                let stop = match stop {
                    Stop::Waits(wait) => {
                        if let Some(session) = self.session.take() {
                            engine.park(session, wait);
                            self.shared.ticker.hurry(&engine);
                        }
                        Stop::Done
                    }
                    Stop::Stale => {
                        scratch.registry = engine.registry.clone();
                        Stop::Done
                    }
                    other => other,
                };
                self.shared.release(engine);
                stop
            };
            if let Stop::Closes = stop {
                self.closing = true;
                return buffer.len();
            }
            if used < at {
                continue;
            }
            if let Some(text) = broken {
                if self.session.is_some() {
                    self.protocol_error(&text, scratch);
                    return buffer.len();
                }
                return used;
            }
        }
        if self.closing { buffer.len() } else { used }
    }

    /// Runs the one request of the batch on a coroutine; if it gives way, a task of its own drives it from here.
    #[cold]
    fn begin_run(&mut self, engine: ArcMutexGuard<RawMutex, Engine>, buffer: &[u8], scratch: &mut Scratch) {
        let Some(session) = self.session.take() else { return };
        let batch = std::mem::take(&mut scratch.batch);
        let begun =
            Run::begin(&self.shared, engine, session, scratch.registry.clone(), batch, buffer.to_vec());
        let Ok(mut run) = begun else {
            tracing::warn!("No memory for the stack of a suspendable call");
            self.closing = true;
            return;
        };
        if !run.resume() {
            let threshold_ms = self.shared.busy_threshold_ms.load(Relaxed);
            tokio::task::spawn_local(run.drive(threshold_ms, unix_ms));
            return;
        }
        if let Some(Parts { session, out, stop }) = run.parts() {
            scratch.out.raw(out.bytes());
            self.closing |= matches!(stop, Some(Stop::Closes));
            self.session = Some(session);
        }
    }

    /// A run holds the engine. Once it has for longer than the threshold, every request is answered with that; false if
    /// it has not yet.
    #[cold]
    fn answer_busy(&mut self, buffer: &[u8], scratch: &mut Scratch) -> bool {
        let Some(session) = &mut self.session else { return true };
        let threshold_ms = self.shared.busy_threshold_ms.load(Relaxed);
        let since_ms = self.shared.running.since_ms();
        if since_ms.is_some_and(|since| unix_ms() - since >= threshold_ms) {
            let known = self.shared.known();
            for index in 0..scratch.batch.len() {
                let (lookup, args) = scratch.batch.request(buffer, index);
                busy::answer(session, lookup, args, &known, &mut scratch.out);
                if session.closing {
                    self.closing = true;
                    break;
                }
            }
            return true;
        }
        self.stalled = true;
        if let Some(waker) = &self.waker {
            self.shared.running.wait(self.id, waker);
        }
        false
    }

    /// Makes good what the session owes the engine: now, or when the run that holds it is over.
    #[cold]
    fn catch_up(&mut self, scratch: &mut Scratch) {
        let Some(session) = &mut self.session else { return };
        match self.shared.acquire() {
            Some(mut engine) => {
                if let Err(error) = engine.catch_up(session) {
                    scratch.out.error(error.as_str());
                    self.closing = true;
                }
                self.shared.release(engine);
            }
            None => {
                if let Some(waker) = &self.waker {
                    self.shared.running.wait(self.id, waker);
                }
            }
        }
    }

    #[cold]
    fn protocol_error(&mut self, text: &str, scratch: &mut Scratch) {
        scratch.out.error(&format!("ERR {text}"));
        self.shared.with_engine(|engine| engine.stats.error("ERR"));
        self.closing = true;
    }

    /// Writes the replies; what does not fit is kept. False if the client is gone.
    #[inline(always)]
    fn write(&mut self, scratch: &mut Scratch) -> bool {
        if scratch.out.is_empty() {
            return true;
        }
        let mut written = 0;
        if self.unwritten.is_empty() {
            match self.stream.try_write(scratch.out.bytes()) {
                Ok(len) => written = len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    scratch.out.clear();
                    return false;
                }
            }
            self.outbox.bytes_out.fetch_add(written as u64, Relaxed);
            self.shared.traffic[scratch.thread].wrote(written);
        }
        if written < scratch.out.bytes().len() {
            let rest = scratch.out.bytes()[written..].to_vec();
            self.keep(Piece::Own(rest));
        }
        scratch.out.clear();
        true
    }

    fn keep(&mut self, piece: Piece) {
        let len = piece.bytes().len() as u64;
        let backlog = self.outbox.unwritten.fetch_add(len, Relaxed) + len;
        self.unwritten.push_back(piece);
        if backlog > self.shared.output_limit_min.load(Relaxed) {
            let id = self.id;
            self.shared.with_engine(move |engine| engine.check_output_limit(id, backlog));
        }
    }

    /// Writes what was kept. `None` if the client is gone, otherwise whether everything is written.
    fn write_kept(&mut self, cx: &mut Context<'_>, thread: usize) -> Option<bool> {
        while let Some(piece) = self.unwritten.front() {
            match self.stream.try_write(&piece.bytes()[self.written..]) {
                Ok(len) => {
                    self.written += len;
                    self.outbox.unwritten.fetch_sub(len as u64, Relaxed);
                    self.outbox.bytes_out.fetch_add(len as u64, Relaxed);
                    self.shared.traffic[thread].wrote(len);
                    if self.written == piece.bytes().len() {
                        self.unwritten.pop_front();
                        self.written = 0;
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

    /// Fetches what others have sent.
    fn fetch(&mut self, scratch: &mut Scratch) {
        let mut pieces = std::mem::take(&mut scratch.pieces);
        let resumed = self.outbox.take(&mut pieces);
        pieces.drain(..).for_each(|piece| self.keep(piece));
        scratch.pieces = pieces;
        if let Some(session) = resumed {
            self.closing |= session.closing;
            self.session = Some(session);
            self.execute_input(scratch);
            self.outbox.unread.store(self.input.len() as u64, Relaxed);
        }
    }

    fn run(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            self.outbox.set_waker(cx.waker());
        }
        let shared_scratch = self.scratch.clone();
        let scratch = &mut *shared_scratch.borrow_mut();
        scratch.renew();
        if self.session.as_ref().is_some_and(|session| session.owes.anything) {
            self.catch_up(scratch);
            if !self.write(scratch) {
                return Poll::Ready(());
            }
        }
        for _ in 0..ROUNDS_MAX {
            if self.outbox.is_full() {
                if self.outbox.is_closing() {
                    return Poll::Ready(());
                }
                self.fetch(scratch);
                if !self.write(scratch) {
                    return Poll::Ready(());
                }
            }
            if !self.unwritten.is_empty() {
                match self.write_kept(cx, scratch.thread) {
                    None => return Poll::Ready(()),
                    Some(false) if self.closing => return Poll::Pending,
                    Some(_) => {}
                }
            }
            if self.closing && self.unwritten.is_empty() {
                let stream = std::mem::replace(&mut self.stream, Stream::Gone);
                tokio::task::spawn_local(stream.linger());
                return Poll::Ready(());
            }
            if self.stalled {
                self.stalled = false;
                self.execute_input(scratch);
                if !self.write(scratch) {
                    return Poll::Ready(());
                }
            }
            if (self.session.is_none() || self.stalled) && self.input.len() > AHEAD_LEN_MAX {
                return Poll::Pending;
            }
            match self.read(cx, scratch) {
                Read::Closed => return Poll::Ready(()),
                Read::Pending => {
                    return if self.outbox.is_full() { self.again(cx) } else { Poll::Pending };
                }
                Read::Some => {}
            }
            if !self.write(scratch) {
                return Poll::Ready(());
            }
            if self.input.len() as u64 > self.shared.query_len_max.load(Relaxed) {
                tracing::warn!("Closing client that reached max query buffer length: id={}", self.id);
                self.shared.with_engine(|engine| engine.stats.query_limit_disconnections += 1);
                return Poll::Ready(());
            }
        }
        self.again(cx)
    }

    fn again(&self, cx: &Context<'_>) -> Poll<()> {
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The time of day, for comparisons with when a run began: read without the engine, which the run holds.
fn unix_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

const _: () = assert!(READ_LEN <= AHEAD_LEN_MAX);

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.run(cx)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (id, mut session) = (self.id, self.session.take());
        self.shared.with_engine(move |engine| {
            if let Some(session) = session.as_mut().filter(|session| session.owes.anything) {
                // If there was no room for it, it leaves as it came.
                let _ = engine.catch_up(session);
            }
            engine.disconnect(id, session.as_deref());
        });
    }
}
