//! Listeners: TCP and Unix. A connection is handed to an I/O thread.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpListener, UnixListener};

use super::connection::Stream;
use super::io_thread::{Arrival, IoThreads};
use crate::engine::client::Origin;

/// Binds a TCP port on every address of `bind`; an address with a leading `-` may be missing from this machine.
pub fn bind_tcp(addresses: &[String], port: u16, backlog: u32) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::new();
    for address in addresses {
        let (optional, address) = match address.strip_prefix('-') {
            Some(address) => (true, address),
            None => (false, address.as_str()),
        };
        let ip: IpAddr = match address {
            "*" => IpAddr::from([0, 0, 0, 0]),
            "::*" => IpAddr::from([0u16; 8]),
            other => match other.parse() {
                Ok(ip) => ip,
                Err(_) if optional => continue,
                Err(_) => {
                    return Err(format!(
                        "Could not create server TCP listening socket {other}:{port}: Name or service not known"
                    ));
                }
            },
        };
        match listen(SocketAddr::new(ip, port), backlog) {
            Ok(listener) => listeners.push(listener),
            Err(error) if optional && is_absent(&error) => {}
            Err(error) => {
                let reason = error_text(&error);
                return Err(format!(
                    "Could not create server TCP listening socket {address}:{port}: {reason}"
                ));
            }
        }
    }
    Ok(listeners)
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, Unsupported};
    matches!(error.kind(), AddrNotAvailable | Unsupported)
        || error.raw_os_error().is_some_and(|code| matches!(code, 97 | 93 | 94)) // EAFNOSUPPORT and its kin
}

/// The system's words for an error, without Rust's addition.
pub fn error_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let domain = if address.is_ipv6() { socket2::Domain::IPV6 } else { socket2::Domain::IPV4 };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        // IPv4 has listeners of its own.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Takes connections of a TCP listener until the task is dropped.
pub async fn accept_tcp(listener: TcpListener, threads: IoThreads, keepalive_s: u32) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { continue };
        let _ = stream.set_nodelay(true);
        if keepalive_s > 0 {
            let time = std::time::Duration::from_secs(u64::from(keepalive_s));
            let keepalive =
                socket2::TcpKeepalive::new().with_time(time).with_interval(time / 3).with_retries(3);
            let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        }
        let origin = Origin {
            address: peer.to_string(),
            local_address: local.to_string(),
            fd: std::os::fd::AsRawFd::as_raw_fd(&stream),
            is_unix: false,
            is_local: peer.ip().to_canonical().is_loopback(),
            io_thread: 0,
        };
        threads.hand_over(Arrival { stream: Stream::Tcp(stream), origin });
    }
}

/// Takes connections of a Unix socket until the task is dropped.
pub async fn accept_unix(listener: UnixListener, path: String, threads: IoThreads) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let origin = Origin {
            address: format!("{path}:0"),
            local_address: format!("{path}:0"),
            fd: std::os::fd::AsRawFd::as_raw_fd(&stream),
            is_unix: true,
            is_local: true,
            io_thread: 0,
        };
        threads.hand_over(Arrival { stream: Stream::Unix(stream), origin });
    }
}

/// Out of file descriptors, say: accepting again at once would only burn time.
async fn pause_after(error: &io::Error) {
    tracing::warn!("Accepting client connection: {}", error_text(error));
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
}
