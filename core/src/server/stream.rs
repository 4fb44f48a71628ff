//! A socket, TCP, Unix or TLS: reading, writing, and taking leave.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::tls::stream::TlsStream;

/// How long a client is listened to that the server has taken leave of.
const LINGER_MAX: Duration = Duration::from_millis(500);

/// A socket.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
    /// TLS over TCP, its handshake done.
    Tls(Box<TlsStream>),
    /// It is closed, or someone else's by now.
    Gone,
}

impl Stream {
    /// From now on the runtime of this thread waits for it, and no longer that of the thread which has accepted it.
    pub fn move_here(self) -> io::Result<Stream> {
        Ok(match self {
            Stream::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream.into_std()?)?),
            Stream::Unix(stream) => Stream::Unix(UnixStream::from_std(stream.into_std()?)?),
            other => other,
        })
    }

    /// Reads what is there.
    #[inline(always)]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => stream.poll_read(cx, buffer),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }

    /// Writes what there is room for. What it does not take has to be given to it again, and nothing else before.
    #[inline(always)]
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Unix(stream) => stream.try_write(bytes),
            Stream::Tls(stream) => stream.try_write(bytes),
            Stream::Gone => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    /// The same for bytes that stand in several places.
    pub fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write_vectored(slices),
            Stream::Unix(stream) => stream.try_write_vectored(slices),
            Stream::Tls(stream) => slices.first().map_or(Ok(0), |first| stream.try_write(first)),
            Stream::Gone => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits for room.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_write_ready(cx),
            Stream::Unix(stream) => stream.poll_write_ready(cx),
            Stream::Tls(stream) => stream.poll_write_ready(cx),
            Stream::Gone => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
        }
    }

    /// Lets the system collect what is written for a moment before it is sent.
    pub fn collect(&self) {
        // If it cannot, everything arrives all the same.
        let _ = match self {
            Stream::Tcp(stream) => stream.set_nodelay(false),
            Stream::Tls(stream) => stream.set_nodelay(false),
            Stream::Unix(_) | Stream::Gone => Ok(()),
        };
    }

    /// Turns a client away.
    pub async fn refuse(mut self, text: String) {
        // Whoever is turned away may be gone already.
        let _ = match &mut self {
            Stream::Tcp(stream) => stream.write_all(text.as_bytes()).await,
            Stream::Unix(stream) => stream.write_all(text.as_bytes()).await,
            Stream::Tls(stream) => stream.try_write(text.as_bytes()).map(|_| ()),
            Stream::Gone => Ok(()),
        };
    }

    /// Closes a socket whose last reply is written. If it were closed while requests are still unread, the system would
    /// tell the client that the connection is broken, and the reply might be lost: so the client is told that nothing more
    /// comes, and is listened to for a moment longer.
    pub async fn linger(self) {
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
            Stream::Tls(mut stream) => tokio::time::timeout(LINGER_MAX, drain(stream.close())).await,
            Stream::Gone => return,
        };
    }
}
