//! Connections: a non-blocking one that sends batches and counts replies, and a blocking question.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mio::{Interest, Registry, Token};

use crate::replies::Replies;
use crate::request::{Batch, Numbers, encode};

/// How long a blocking question waits for its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// A non-blocking connection with the batch it sends over and over.
#[derive(Debug)]
pub struct Connection {
    stream: mio::net::TcpStream,
    batch: Batch,
    /// Bytes of the batch that the socket has taken.
    written: usize,
    replies: Replies,
}

impl Connection {
    /// Connects, and waits until the server serves the connection: it sends `greeting` and takes one reply.
    pub fn open(address: SocketAddr, greeting: &[&str], batch: Batch) -> io::Result<Connection> {
        let mut stream = connect(address)?;
        // A greeting may have several answers, the last of which comes in part.
        let mut replies = Replies::default();
        let answer = ask_on(&mut stream, &encode(greeting), &mut replies)?;
        if let Err(error) = answer {
            return Err(io::Error::other(format!("{} was answered: {error}", greeting.join(" "))));
        }
        stream.set_nonblocking(true)?;
        let stream = mio::net::TcpStream::from_std(stream);
        let written = batch.bytes().len();
        Ok(Connection { stream, batch, written, replies })
    }

    /// Asks to be told of readiness, edge by edge.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// True if the socket has taken the whole batch, so that the next may begin.
    pub fn idle(&self) -> bool {
        self.written == self.batch.bytes().len()
    }

    /// Begins to send the next batch, with new numbers. The connection must be idle.
    pub fn start(&mut self, numbers: &mut Numbers) -> io::Result<()> {
        debug_assert!(self.idle(), "a batch is on its way");
        self.batch.renew(numbers);
        self.written = 0;
        self.send()
    }

    /// Sends on until the batch is out or the socket is full.
    pub fn send(&mut self) -> io::Result<()> {
        while !self.idle() {
            match self.stream.write(&self.batch.bytes()[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what has come; returns how many replies became complete.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<u64> {
        let mut complete = 0;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => {
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed a connection"));
                }
                Ok(count) => {
                    complete += self.replies.feed(&buffer[..count])?;
                    // A short read has emptied the socket, and what comes later raises a new edge.
                    if count < buffer.len() {
                        return Ok(complete);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(complete),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What the replies said.
    pub fn replies(&self) -> &Replies {
        &self.replies
    }
}

/// One request on a connection of its own; the inner error is the server's.
pub fn ask(address: SocketAddr, words: &[&str]) -> io::Result<Result<(), String>> {
    ask_on(&mut connect(address)?, &encode(words), &mut Replies::default())
}

/// The same for a command with placeholders, which are zero.
pub fn try_command(address: SocketAddr, command: &str) -> io::Result<Result<(), String>> {
    let batch = Batch::new(command, 1).map_err(io::Error::other)?;
    ask_on(&mut connect(address)?, batch.bytes(), &mut Replies::default())
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    Ok(stream)
}

fn ask_on(stream: &mut TcpStream, request: &[u8], replies: &mut Replies) -> io::Result<Result<(), String>> {
    stream.write_all(request)?;
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        if replies.feed(&buffer[..count])? > 0 {
            return Ok(replies.first_error().map_or(Ok(()), |error| Err(error.to_owned())));
        }
    }
}
