//! The connection to the primary as bytes, plain or encrypted, read with patience.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use mortise_tls::{ClientSession, Connector, Problem};
use socket2::{Domain, Protocol, Socket, Type};

use super::replica::Attempt;
use crate::engine::client::Origin;
use crate::engine::outbox::Outbox;

/// How often a link that hears nothing looks whether it is still wanted.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// How much is read at a time.
pub(super) const READ_LEN: usize = 64 << 10;
/// A line of the primary is not longer.
const LINE_LEN_MAX: usize = 1024;

/// A connection that is read with patience.
pub(super) struct Wire {
    socket: TcpStream,
    tls: Option<Encryption>,
    input: Vec<u8>,
    /// How much of the input has been taken.
    at: usize,
    timeout: Duration,
    heard: Instant,
    /// How much has come since that was last asked.
    pub(super) came: u64,
    pub(super) origin: Origin,
}

/// Connects to an address, from where the settings say.
fn open(address: &SocketAddr, attempt: &Attempt) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = &attempt.source {
        let mut sources = (&**source, 0).to_socket_addrs()?;
        let source = sources.find(|source| source.is_ipv4() == address.is_ipv4());
        socket.bind(&source.ok_or(ErrorKind::AddrNotAvailable)?.into())?;
    }
    socket.connect_timeout(&(*address).into(), attempt.timeout)?;
    Ok(socket.into())
}

/// TLS, and room for what it reads and writes.
struct Encryption {
    session: ClientSession,
    ciphertext: Vec<u8>,
    out: Vec<u8>,
}

/// A line that never ends.
pub(super) struct Endless;

impl Wire {
    pub(super) fn connect(attempt: &Attempt) -> io::Result<Wire> {
        let mut failed = io::Error::new(ErrorKind::NotFound, "Name or service not known");
        for address in (&*attempt.host, attempt.port).to_socket_addrs()? {
            match open(&address, attempt) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    socket.set_read_timeout(Some(LOOK))?;
                    socket.set_write_timeout(Some(attempt.timeout))?;
                    let origin = Origin {
                        address: address.to_string(),
                        local_address: socket.local_addr()?.to_string(),
                        fd: socket.as_raw_fd(),
                        is_local: true,
                        ..Origin::default()
                    };
                    let mut wire = Wire {
                        socket,
                        tls: None,
                        input: Vec::new(),
                        at: 0,
                        timeout: attempt.timeout,
                        heard: Instant::now(),
                        came: 0,
                        origin,
                    };
                    if attempt.is_encrypted {
                        wire.shake_hands(attempt.connector.as_ref())?;
                    }
                    return Ok(wire);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn shake_hands(&mut self, connector: Option<&Connector>) -> io::Result<()> {
        let connector = connector.ok_or_else(|| io::Error::other("TLS is not configured"))?;
        let mut tls = Encryption {
            session: connector.session().map_err(broken)?,
            ciphertext: vec![0; READ_LEN],
            out: Vec::new(),
        };
        tls.answer(&mut self.socket)?;
        while !tls.session.is_established() {
            if !tls.read(&mut self.socket, &mut self.input)? && self.is_silent() {
                return Err(ErrorKind::TimedOut.into());
            }
        }
        self.tls = Some(tls);
        Ok(())
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.socket.write_all(bytes),
            Some(tls) => {
                tls.session.send(bytes, &mut tls.out).map_err(broken)?;
                tls.answer(&mut self.socket)
            }
        }
    }

    /// The primary was heard, or could not be: only from now on is its silence counted.
    pub(super) fn hear(&mut self) {
        self.heard = Instant::now();
    }

    /// Bytes that have been read and not taken.
    pub(super) fn untaken(&self) -> u64 {
        (self.input.len() - self.at) as u64
    }

    /// Ends the connection when this outbox is closed: the link would not see that while it waits for the primary's next
    /// word.
    pub(super) fn end_with(&self, outbox: &Arc<Outbox>) -> io::Result<()> {
        let end = End { outbox: Arc::downgrade(outbox), socket: self.socket.try_clone()? };
        outbox.set_waker(&Waker::from(Arc::new(end)));
        Ok(())
    }

    /// Whether the primary has said nothing for too long.
    pub(super) fn is_silent(&self) -> bool {
        self.heard.elapsed() > self.timeout
    }

    /// Whether everything that was read has been taken.
    pub(super) fn has_nothing(&self) -> bool {
        self.at == self.input.len()
    }

    /// Waits a moment for more; false if nothing has come. What is encrypted may be more than was asked for.
    pub(super) fn fill(&mut self, len_max: usize) -> io::Result<bool> {
        if self.has_nothing() {
            self.input.clear();
            self.at = 0;
        }
        let start = self.input.len();
        match &mut self.tls {
            Some(tls) => {
                tls.read(&mut self.socket, &mut self.input)?;
            }
            None => {
                self.input.resize(start + len_max.clamp(1, READ_LEN), 0);
                let read = patiently(self.socket.read(&mut self.input[start..]));
                self.input.truncate(start + read.as_ref().copied().unwrap_or(0));
                read?;
            }
        }
        let came = self.input.len() - start;
        if came > 0 {
            self.hear();
            self.came += came as u64;
        }
        Ok(came > 0)
    }

    /// Takes what was read, up to so many bytes.
    pub(super) fn take(&mut self, len_max: usize) -> &[u8] {
        let start = self.at;
        self.at += len_max.min(self.input.len() - start);
        &self.input[start..self.at]
    }

    /// Takes a line, without its end, if one is complete.
    pub(super) fn take_line(&mut self) -> Result<Option<Vec<u8>>, Endless> {
        let rest = &self.input[self.at..];
        let Some(len) = memchr::memchr(b'\n', rest) else {
            return if rest.len() > LINE_LEN_MAX { Err(Endless) } else { Ok(None) };
        };
        let line = &rest[..len];
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        self.at += len + 1;
        Ok(Some(line))
    }
}

/// Ends a connection when it is to be closed.
struct End {
    outbox: Weak<Outbox>,
    socket: TcpStream,
}

impl Wake for End {
    fn wake(self: Arc<Self>) {
        if self.outbox.upgrade().is_some_and(|outbox| outbox.is_closing()) {
            // It may have been closed by the primary already.
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }
}

impl Encryption {
    /// Waits a moment for more, and appends what it says; false if that is nothing.
    fn read(&mut self, socket: &mut TcpStream, plaintext: &mut Vec<u8>) -> io::Result<bool> {
        let len = patiently(socket.read(&mut self.ciphertext))?;
        let before = plaintext.len();
        let received = self.session.receive(&self.ciphertext[..len], plaintext);
        // Also if the other end has broken the protocol: it is told.
        let answered = self.answer(socket);
        received.map_err(broken)?;
        answered?;
        Ok(plaintext.len() > before)
    }

    fn answer(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        self.session.collect(&mut self.out).map_err(broken)?;
        let sent = socket.write_all(&self.out);
        self.out.clear();
        sent
    }
}

/// What was read; nothing if nothing has come for a moment. The end is an error.
fn patiently(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
            ) =>
        {
            Ok(0)
        }
        other => other,
    }
}

fn broken(problem: Problem) -> io::Error {
    io::Error::other(problem.to_string())
}
