//! A blocking client, as plain as a client can be.

use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::reply::Reply;

/// Which version of RESP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// What every connection starts with.
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// How long a reply may take before the test fails instead of hanging.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// A request as it stands on the wire.
pub fn request<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        let argument = argument.as_ref();
        request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        request.extend_from_slice(argument);
        request.extend_from_slice(b"\r\n");
    }
    request
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects; the connection speaks RESP2.
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// How long a reply may take from now on.
    pub fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        let stream = self.stream.get_ref();
        stream.set_write_timeout(Some(patience))?;
        stream.set_read_timeout(Some(patience))
    }

    /// Sends a request and returns the next reply.
    pub fn call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> io::Result<Reply> {
        self.send(arguments)?;
        self.receive()
    }

    /// Sends a request without waiting for its reply.
    pub fn send<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> io::Result<()> {
        self.send_raw(&request(arguments))
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next reply or push. Fails with `UnexpectedEof` once the server has closed the connection.
    pub fn receive(&mut self) -> io::Result<Reply> {
        Reply::read(&mut self.stream).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                io::Error::new(io::ErrorKind::TimedOut, "no reply came in time")
            }
            io::ErrorKind::ConnectionReset => io::ErrorKind::UnexpectedEof.into(),
            _ => error,
        })
    }

    /// Whether nothing arrives within `patience`: no byte, and no end of the connection either.
    pub fn is_silent(&mut self, patience: Duration) -> io::Result<bool> {
        if !self.stream.buffer().is_empty() {
            return Ok(false);
        }
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(patience))?;
        let peeked = stream.peek(&mut [0]);
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        match peeked {
            Ok(_) => Ok(false),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }
}
