//! A socket that speaks TLS.
//!
//! To whoever reads and writes it looks like any other: plaintext comes and goes. A read may find that what has come
//! is not a whole record yet, or that it is several. A write encrypts up to `CHUNK_LEN_MAX` bytes at a time into the
//! thread's buffer, and gives them to the system at once. What the system does not take is kept, and the write says that
//! the chunk is not done with; whoever keeps the rest of what was to be written then gives the same bytes again when there
//! is room. So a connection holds one encrypted chunk at most, however long its replies are.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use mortise_tls::{Problem, RECORD_LEN_MAX, Session, ciphertext_len_max};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Bytes that are encrypted at a time.
const CHUNK_LEN_MAX: usize = 4 * RECORD_LEN_MAX;
/// Bytes that a read takes at least: a whole record.
const READ_LEN_MIN: usize = ciphertext_len_max(RECORD_LEN_MAX);
/// Bytes that a read takes at most.
const READ_LEN_MAX: usize = ciphertext_len_max(4 * RECORD_LEN_MAX);
/// How often in a row a read may bring nothing to read, before others get their turn.
const FRUITLESS_READS_MAX: usize = 4;

thread_local! {
    /// Where ciphertext comes in and goes out: what stands there is used up before anybody else needs it.
    static SCRATCH: RefCell<Scratch> =
        RefCell::new(Scratch { input: vec![0; READ_LEN_MAX], output: vec![0; ciphertext_len_max(CHUNK_LEN_MAX)] });
}

struct Scratch {
    input: Vec<u8>,
    output: Vec<u8>,
}

/// A socket, and the state of its TLS.
pub struct TlsStream {
    socket: TcpStream,
    session: Session,
    /// Plaintext that there was no room for, and how much of it is read.
    unread: Vec<u8>,
    read: usize,
    /// Ciphertext that the system did not take, and how much of it by now.
    unsent: Vec<u8>,
    sent: usize,
    /// How many bytes of plaintext stand encrypted in `unsent`: they are given again, and count as written then.
    owed: usize,
}

impl TlsStream {
    /// A connection before its handshake.
    pub fn new(socket: TcpStream, session: Session) -> TlsStream {
        TlsStream { socket, session, unread: Vec::new(), read: 0, unsent: Vec::new(), sent: 0, owed: 0 }
    }

    /// Shakes hands. A step of it is taken when `lane` is free, and everybody else has a turn before the next one.
    pub async fn shake_hands(&mut self, lane: &Semaphore) -> io::Result<()> {
        while !self.session.is_established() {
            self.socket.readable().await?;
            let turn = lane.acquire().await;
            self.shake()?;
            tokio::task::yield_now().await;
            drop(turn);
            while !self.flush()? {
                self.socket.writable().await?;
            }
        }
        Ok(())
    }

    /// Reads once, and takes the step of the handshake that this allows.
    fn shake(&mut self) -> io::Result<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            let len = match self.socket.try_read(&mut scratch.input[..READ_LEN_MIN]) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the client is gone")),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            // The first requests may come with the end of the handshake.
            let unread = &mut self.unread;
            let heard = self.session.receive(
                &mut scratch.input[..len],
                |plaintext| unread.extend_from_slice(plaintext),
                &mut self.unsent,
            );
            heard.map_err(|problem| {
                // The alert, as far as it can be sent now.
                let _ = self.flush();
                broken(problem)
            })
        })
    }

    /// Reads what is there.
    #[inline(never)]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read < self.unread.len() {
            self.hand_over(buffer);
            return Poll::Ready(Ok(()));
        }
        for _ in 0..FRUITLESS_READS_MAX {
            if self.session.is_ended() {
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            let len = match self.receive(cx, buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(len)) => len,
                Poll::Ready(Err(error)) => {
                    if error.kind() == ErrorKind::InvalidData {
                        tracing::debug!("Reading from client: {error}");
                    }
                    return Poll::Ready(Err(error));
                }
            };
            if len == 0 || buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes ciphertext from the socket, and puts what it says into `buffer`; says how much ciphertext there was.
    fn receive(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let room = buffer.remaining().clamp(READ_LEN_MIN, READ_LEN_MAX);
            let mut read = ReadBuf::new(&mut scratch.input[..room]);
            match Pin::new(&mut self.socket).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.poll_flush(cx)?;
                    return Poll::Pending;
                }
            }
            let len = read.filled().len();
            if len > 0 {
                self.hear(read.filled_mut(), buffer)?;
                self.poll_flush(cx)?;
            }
            Poll::Ready(Ok(len))
        })
    }

    /// Decrypts what has come. If the peer has broken the protocol, what it had said before still counts, and the next read
    /// tells.
    fn hear(&mut self, ciphertext: &mut [u8], buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let before = buffer.filled().len();
        let unread = &mut self.unread;
        let heard = self.session.receive(
            ciphertext,
            |plaintext| {
                let (fits, rest) = plaintext.split_at(plaintext.len().min(buffer.remaining()));
                buffer.put_slice(fits);
                unread.extend_from_slice(rest);
            },
            &mut self.unsent,
        );
        match heard {
            Err(problem) if buffer.filled().len() == before => {
                // The alert, as far as it can be sent now.
                let _ = self.flush();
                Err(broken(problem))
            }
            _ => Ok(()),
        }
    }

    fn hand_over(&mut self, buffer: &mut ReadBuf<'_>) {
        let len = buffer.remaining().min(self.unread.len() - self.read);
        buffer.put_slice(&self.unread[self.read..self.read + len]);
        self.read += len;
        if self.read == self.unread.len() {
            (self.unread, self.read) = (Vec::new(), 0);
        }
    }

    /// Writes what there is room for; says of how much it need not be told again.
    #[inline(never)]
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut done = 0;
        if !self.unsent.is_empty() {
            if !self.flush()? {
                return Err(ErrorKind::WouldBlock.into());
            }
            done = std::mem::take(&mut self.owed).min(bytes.len());
        }
        SCRATCH.with_borrow_mut(|scratch| {
            while done < bytes.len() {
                let chunk = &bytes[done..bytes.len().min(done + CHUNK_LEN_MAX)];
                let len = self.session.send(chunk, &mut scratch.output).map_err(broken)?;
                let sent = send(&self.socket, &scratch.output[..len])?;
                if sent < len {
                    self.unsent.extend_from_slice(&scratch.output[sent..len]);
                    self.owed = chunk.len();
                    break;
                }
                done += chunk.len();
            }
            if done == 0 && self.owed > 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(done) }
        })
    }

    /// Waits for room.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket.set_nodelay(nodelay)
    }

    /// Waits for room.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    /// Sends what the protocol itself has to say, and sees to it that the task is woken if there is no room for it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // What replies left is sent by whoever waits to go on with them.
        while self.owed == 0 && !self.flush()? {
            if self.socket.poll_write_ready(cx)?.is_pending() {
                break;
            }
        }
        Ok(())
    }

    /// Sends ciphertext that was kept; whether that was all.
    fn flush(&mut self) -> io::Result<bool> {
        if self.unsent.is_empty() {
            return Ok(true);
        }
        self.sent += send(&self.socket, &self.unsent[self.sent..])?;
        let all = self.sent == self.unsent.len();
        if all {
            (self.unsent, self.sent) = (Vec::new(), 0);
        }
        Ok(all)
    }

    /// Says that nothing more comes, as far as there is room for it.
    fn say_goodbye(&mut self) {
        self.session.close(&mut self.unsent);
        // The peer may be gone already.
        let _ = self.flush();
    }

    /// Says that nothing more comes, and leaves the socket to be closed.
    pub fn close(&mut self) -> &mut TcpStream {
        self.say_goodbye();
        &mut self.socket
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        self.say_goodbye();
    }
}

/// Gives bytes to the system until it takes no more; says how many it has taken.
fn send(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.try_write(&bytes[sent..]) {
            Ok(len) => sent += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// A peer that has broken the protocol.
pub(super) fn broken(problem: Problem) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem)
}
