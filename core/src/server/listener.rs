//! Listeners: TCP, with and without TLS, and Unix. A connection is handed to an I/O thread.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

use super::io_thread::{Arrival, IoThreads};
use super::stream::Stream;
use super::{Shared, error_text};
use crate::config::Config;
use crate::engine::client::Origin;

/// The sockets that the server listens on. A new one goes to the task that `accept` runs; one that is shut down ends its
/// share of that task by itself.
pub struct Listeners {
    tcp: Vec<Tcp>,
    unix: Option<PathBuf>,
    added: mpsc::UnboundedSender<Listener>,
}

/// A socket that is listened on.
struct Tcp {
    address: SocketAddr,
    /// Whether its connections speak TLS.
    secure: bool,
    socket: std::net::TcpListener,
}

/// Ports to listen on; zero means not to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Plain.
    pub tcp: u16,
    /// TLS.
    pub tls: u16,
}

impl Ports {
    /// Those that the settings name.
    pub fn of(config: &Config) -> Ports {
        Ports { tcp: config.server.port, tls: config.tls.tls_port }
    }

    fn has(self, port: u16) -> bool {
        port == self.tcp || port == self.tls
    }
}

/// A socket to accept connections from.
pub enum Listener {
    /// TCP, and whether its connections speak TLS.
    Tcp(std::net::TcpListener, bool),
    /// Unix, and its path.
    Unix(std::os::unix::net::UnixListener, String),
}

/// It cannot be listened on some address; the log says which, and why.
#[derive(Debug)]
pub struct Unavailable;

impl Listeners {
    /// None yet, and the queue for `accept`.
    pub fn new() -> (Listeners, mpsc::UnboundedReceiver<Listener>) {
        let (added, additions) = mpsc::unbounded_channel();
        (Listeners { tcp: Vec::new(), unix: None, added }, additions)
    }

    /// The first address of TCP, plain or with TLS.
    pub fn address(&self, secure: bool) -> Option<SocketAddr> {
        self.tcp.iter().find(|tcp| tcp.secure == secure)?.socket.local_addr().ok()
    }

    /// Whether there are listeners of TCP.
    pub fn has_tcp(&self) -> bool {
        !self.tcp.is_empty()
    }

    /// The path of the Unix socket.
    pub fn unix(&self) -> Option<&Path> {
        self.unix.as_deref()
    }

    /// Listens on these ports of every address of `bind`, and nowhere else; if that is not possible, all stays as it was.
    pub fn listen_tcp(&mut self, bind: &[String], ports: Ports, backlog: u32) -> Result<(), Unavailable> {
        let mut wanted = if ports.tcp == 0 { Vec::new() } else { resolve(bind, ports.tcp, false)? };
        if ports.tls != 0 {
            wanted.extend(resolve(bind, ports.tls, true)?);
        }
        let before = std::mem::take(&mut self.tcp);
        let (kept, replaced): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|tcp| wanted.iter().any(|place| place.is(tcp)));
        // On the same port, a listener of all addresses stands in the way of one of a single address, and one with TLS in
        // the way of one without.
        let (in_the_way, others): (Vec<_>, Vec<_>) =
            replaced.into_iter().partition(|tcp| ports.has(tcp.address.port()));
        in_the_way.iter().for_each(|tcp| shut_down(&tcp.socket));
        self.tcp = kept;
        let kept = self.tcp.len();
        match self.add_tcp(&wanted, backlog) {
            Ok(()) => {
                others.iter().for_each(|tcp| shut_down(&tcp.socket));
                Ok(())
            }
            Err(unavailable) => {
                debug_assert_eq!(self.tcp.len(), kept, "all of them, or none");
                self.tcp.extend(others);
                let again = in_the_way.iter().map(Place::of).collect::<Vec<_>>();
                // These were ours a moment ago. Should another process have been quicker, the log says so.
                let _ = self.add_tcp(&again, backlog);
                Err(unavailable)
            }
        }
    }

    /// Listens on some free port of every address of `bind`, which is told.
    pub fn listen_anywhere(&mut self, bind: &[String], backlog: u32) -> Result<u16, Unavailable> {
        let mut port = 0;
        for place in resolve(bind, 0, false)? {
            let place = Place { address: SocketAddr::new(place.address.ip(), port), ..place };
            self.add_tcp(&[place], backlog)?;
            port = self.address(false).map_or(0, |address| address.port());
        }
        Ok(port)
    }

    /// Adds those of `wanted` that are missing: all of them, or none.
    fn add_tcp(&mut self, wanted: &[Place], backlog: u32) -> Result<(), Unavailable> {
        let mut sockets = Vec::new();
        for place in wanted.iter().filter(|place| !self.tcp.iter().any(|tcp| place.is(tcp))) {
            match listen(place.address, backlog) {
                // A port of zero has become a real one.
                Ok(socket) => {
                    let address = socket.local_addr().unwrap_or(place.address);
                    sockets.push(Tcp { address, secure: place.secure, socket });
                }
                Err(error) => {
                    let (Place { shown, .. }, port) = (place, place.address.port());
                    let reason = error_text(&error);
                    tracing::warn!(
                        "Warning: Could not create server TCP listening socket {shown}:{port}: bind: {reason}"
                    );
                    let missing = error.kind() == io::ErrorKind::AddrNotAvailable;
                    if !(is_unsupported(&error) || missing && place.optional) {
                        return Err(Unavailable);
                    }
                }
            }
        }
        for tcp in sockets {
            let twin = tcp.socket.try_clone().map_err(|error| {
                tracing::warn!(
                    "Warning: Could not create server TCP listening socket: {}",
                    error_text(&error)
                );
                Unavailable
            })?;
            let _ = self.added.send(Listener::Tcp(twin, tcp.secure));
            self.tcp.push(tcp);
        }
        Ok(())
    }

    /// Listens on a Unix socket, in the place of one that a server has left behind.
    pub fn listen_unix(&mut self, path: &str, permissions: u32, backlog: u32) -> io::Result<()> {
        let absolute = std::path::absolute(path)?;
        if std::fs::symlink_metadata(&absolute).is_ok_and(|file| file.file_type().is_socket()) {
            std::fs::remove_file(&absolute)?;
        }
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&socket2::SockAddr::unix(path)?)?;
        self.unix = Some(absolute);
        if permissions != 0 {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(permissions))?;
        }
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        let _ = self.added.send(Listener::Unix(socket.into(), path.to_owned()));
        Ok(())
    }

    /// Listens nowhere any more.
    pub fn close(&mut self) {
        self.tcp.drain(..).for_each(|tcp| shut_down(&tcp.socket));
        if let Some(path) = self.unix.take() {
            tracing::info!("Removing the unix socket file.");
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.close();
    }
}

/// An address to listen on.
struct Place {
    address: SocketAddr,
    /// As the settings name it.
    shown: String,
    /// It may be missing from this machine.
    optional: bool,
    /// Whether its connections speak TLS.
    secure: bool,
}

impl Place {
    fn of(tcp: &Tcp) -> Place {
        let Tcp { address, secure, .. } = *tcp;
        Place { address, shown: address.ip().to_string(), optional: true, secure }
    }

    fn is(&self, tcp: &Tcp) -> bool {
        self.address == tcp.address && self.secure == tcp.secure
    }
}

/// The addresses that `bind` means. A name without a colon means IPv4; a leading `-` allows an address to be missing.
fn resolve(bind: &[String], port: u16, secure: bool) -> Result<Vec<Place>, Unavailable> {
    let mut places: Vec<Place> = Vec::new();
    for name in bind.iter().filter(|name| !name.is_empty()) {
        let (optional, shown) = name.strip_prefix('-').map_or((false, name.as_str()), |shown| (true, shown));
        match find_ip(shown) {
            Some(ip) => {
                let address = SocketAddr::new(ip, port);
                if places.iter().all(|known| known.address != address) {
                    places.push(Place { address, shown: shown.to_owned(), optional, secure });
                }
            }
            None => {
                tracing::warn!(
                    "Warning: Could not create server TCP listening socket {shown}:{port}: Name or service not known"
                );
                return Err(Unavailable);
            }
        }
    }
    Ok(places)
}

fn find_ip(name: &str) -> Option<IpAddr> {
    match name {
        "*" => return Some(Ipv4Addr::UNSPECIFIED.into()),
        "::*" => return Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => {}
    }
    if let Some(ip) = name.parse().ok().or_else(|| numbers_and_dots(name).map(IpAddr::from)) {
        return Some(ip);
    }
    // What looks like an address and is none must not wait for a name server.
    if name.contains(':') || name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    (name, 0).to_socket_addrs().ok()?.map(|found| found.ip()).find(IpAddr::is_ipv4)
}

/// An address in one of the older forms that C's `inet_aton` knows: the last of up to four decimal, octal or hexadecimal
/// numbers stands for all bytes that are left, so that `127.1` is 127.0.0.1.
fn numbers_and_dots(name: &str) -> Option<Ipv4Addr> {
    let number = |text: &str| match text.strip_prefix('0') {
        Some("") => Some(0),
        Some(rest) if rest.starts_with(['x', 'X']) => u32::from_str_radix(&rest[1..], 16).ok(),
        Some(rest) => u32::from_str_radix(rest, 8).ok(),
        None => text.parse().ok(),
    };
    if !name.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b'x' | b'X')) {
        return None;
    }
    let parts: Vec<u32> = name.split('.').map(number).collect::<Option<_>>()?;
    let (last, bytes) = parts.split_last()?;
    if bytes.len() > 3
        || bytes.iter().any(|byte| *byte > 0xff)
        || last.leading_zeros() < 8 * bytes.len() as u32
    {
        return None;
    }
    let address = (0..).zip(bytes).fold(*last, |address, (place, byte)| address | byte << (24 - 8 * place));
    Some(address.into())
}

/// Stops a socket from listening at once, whoever else still holds it.
fn shut_down(socket: &std::net::TcpListener) {
    let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Both);
}

/// Whether the machine lacks the protocol: that is no error for Redis, as `*` means IPv6 too.
fn is_unsupported(error: &io::Error) -> bool {
    use nix::errno::Errno::{EAFNOSUPPORT, ENOPROTOOPT, EPFNOSUPPORT, EPROTONOSUPPORT, ESOCKTNOSUPPORT};
    let unsupported = [EAFNOSUPPORT, ENOPROTOOPT, EPFNOSUPPORT, EPROTONOSUPPORT, ESOCKTNOSUPPORT];
    error.raw_os_error().is_some_and(|code| unsupported.iter().any(|known| *known as i32 == code))
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<std::net::TcpListener> {
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
    Ok(socket.into())
}

/// Accepts connections of every listener that is added, until it is dropped.
pub async fn accept(
    mut additions: mpsc::UnboundedReceiver<Listener>,
    threads: IoThreads,
    shared: Arc<Shared>,
) {
    // Whoever comes earlier waits in the listener's queue.
    let _ = shared.is_open.subscribe().wait_for(|is_open| *is_open).await;
    while let Some(listener) = additions.recv().await {
        let threads = threads.clone();
        // Both fail only if the socket were none.
        match listener {
            Listener::Tcp(socket, secure) => {
                if let Ok(listener) = TcpListener::from_std(socket) {
                    tokio::task::spawn_local(accept_tcp(listener, secure, threads, shared.clone()));
                }
            }
            Listener::Unix(socket, path) => {
                if let Ok(listener) = UnixListener::from_std(socket) {
                    tokio::task::spawn_local(accept_unix(listener, path, threads));
                }
            }
        }
    }
}

/// Takes connections of a TCP listener until it is shut down.
async fn accept_tcp(listener: TcpListener, secure: bool, threads: IoThreads, shared: Arc<Shared>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // It was shut down.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { continue };
        let tls = if secure { shared.tls.current.acceptor() } else { None };
        if secure && tls.is_none() {
            // The port is about to be closed.
            continue;
        }
        let _ = stream.set_nodelay(true);
        let keepalive_s = u64::from(shared.tcp_keepalive_s.load(Ordering::Relaxed));
        if keepalive_s > 0 {
            let (time, interval) = (keepalive_s, (keepalive_s / 3).max(1));
            let keepalive = socket2::TcpKeepalive::new()
                .with_time(Duration::from_secs(time))
                .with_interval(Duration::from_secs(interval))
                .with_retries(3);
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
        threads.hand_over(Arrival { stream: Stream::Tcp(stream), origin, tls });
    }
}

/// Takes connections of a Unix socket until the task is dropped.
async fn accept_unix(listener: UnixListener, path: String, threads: IoThreads) {
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
        threads.hand_over(Arrival { stream: Stream::Unix(stream), origin, tls: None });
    }
}

/// Out of file descriptors, say: accepting again at once would only burn time.
async fn pause_after(error: &io::Error) {
    tracing::warn!("Accepting client connection: {}", error_text(error));
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    const BACKLOG: u32 = 16;

    fn bind(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn plain(tcp: u16) -> Ports {
        Ports { tcp, tls: 0 }
    }

    fn is_open(ip: &str, port: u16) -> bool {
        TcpStream::connect(SocketAddr::new(ip.parse().unwrap(), port)).is_ok()
    }

    #[test]
    fn names_are_addresses() {
        assert_eq!(find_ip("*"), Some(IpAddr::from([0, 0, 0, 0])));
        assert_eq!(find_ip("::*"), Some(IpAddr::from([0_u16; 8])));
        assert_eq!(find_ip("::1"), Some(IpAddr::from(Ipv6Addr::LOCALHOST)));
        assert_eq!(find_ip("999.999.999.999"), None);
        assert_eq!(find_ip("a:b"), None);
    }

    #[test]
    fn a_port_in_use_leaves_all_as_it_was() {
        let (mut ours, _additions) = Listeners::new();
        let port = ours.listen_anywhere(&bind(&["127.0.0.1"]), BACKLOG).unwrap();
        let (mut theirs, _more) = Listeners::new();
        let taken = theirs.listen_anywhere(&bind(&["127.0.0.1"]), BACKLOG).unwrap();
        assert!(ours.listen_tcp(&bind(&["127.0.0.1"]), plain(taken), BACKLOG).is_err());
        assert_eq!(ours.address(false).unwrap().port(), port);
        assert!(is_open("127.0.0.1", port));
    }

    #[test]
    fn another_port_closes_the_first_at_once() {
        let (mut listeners, _additions) = Listeners::new();
        let first = listeners.listen_anywhere(&bind(&["127.0.0.1"]), BACKLOG).unwrap();
        let second = {
            let (mut others, _more) = Listeners::new();
            others.listen_anywhere(&bind(&["127.0.0.1"]), BACKLOG).unwrap()
        };
        listeners.listen_tcp(&bind(&["127.0.0.1"]), plain(second), BACKLOG).unwrap();
        assert!(is_open("127.0.0.1", second) && !is_open("127.0.0.1", first));
        listeners.listen_tcp(&[], plain(second), BACKLOG).unwrap();
        assert!(!is_open("127.0.0.1", second) && !listeners.has_tcp());
    }

    #[test]
    fn plain_and_tls_may_change_places() {
        let (mut listeners, mut additions) = Listeners::new();
        let port = listeners.listen_anywhere(&bind(&["127.0.0.1"]), BACKLOG).unwrap();
        let other = {
            let (mut others, _more) = Listeners::new();
            others.listen_anywhere(&bind(&["127.0.0.1"]), BACKLOG).unwrap()
        };
        let addresses = |listeners: &Listeners| {
            [false, true].map(|secure| listeners.address(secure).map(|address| address.port()))
        };
        listeners.listen_tcp(&bind(&["127.0.0.1"]), Ports { tcp: port, tls: other }, BACKLOG).unwrap();
        assert_eq!(addresses(&listeners), [Some(port), Some(other)]);
        listeners.listen_tcp(&bind(&["127.0.0.1"]), Ports { tcp: other, tls: port }, BACKLOG).unwrap();
        assert_eq!(addresses(&listeners), [Some(other), Some(port)]);
        assert!(
            listeners.listen_tcp(&bind(&["127.0.0.1"]), Ports { tcp: other, tls: other }, BACKLOG).is_err()
        );
        assert_eq!(addresses(&listeners), [Some(other), Some(port)]);
        listeners.listen_tcp(&bind(&["127.0.0.1"]), Ports { tcp: 0, tls: port }, BACKLOG).unwrap();
        assert_eq!(addresses(&listeners), [None, Some(port)]);
        let mut secure = Vec::new();
        while let Ok(addition) = additions.try_recv() {
            secure.push(matches!(addition, Listener::Tcp(_, true)));
        }
        assert_eq!(secure[..4], [false, true, false, true]);
    }

    #[test]
    fn one_address_takes_the_place_of_all_and_back() {
        let (mut listeners, _additions) = Listeners::new();
        let port = listeners.listen_anywhere(&bind(&["*"]), BACKLOG).unwrap();
        listeners.listen_tcp(&bind(&["127.0.0.2"]), plain(port), BACKLOG).unwrap();
        assert!(is_open("127.0.0.2", port) && !is_open("127.0.0.1", port));
        // 192.0.2.1 is nobody's address (RFC 5737).
        assert!(listeners.listen_tcp(&bind(&["127.0.0.1", "192.0.2.1"]), plain(port), BACKLOG).is_err());
        assert!(is_open("127.0.0.2", port) && !is_open("127.0.0.1", port));
        listeners.listen_tcp(&bind(&["127.0.0.1", "-192.0.2.1"]), plain(port), BACKLOG).unwrap();
        assert!(is_open("127.0.0.1", port));
        listeners.listen_tcp(&bind(&["*", "-::*"]), plain(port), BACKLOG).unwrap();
        assert!(is_open("127.0.0.2", port));
    }

    #[test]
    fn addresses_have_older_forms() {
        for (name, expected) in [
            ("1", Some([0, 0, 0, 1])),
            ("127.1", Some([127, 0, 0, 1])),
            ("127.0.258", Some([127, 0, 1, 2])),
            ("0x7f.0.0.010", Some([127, 0, 0, 8])),
            ("4294967295", Some([255; 4])),
            ("4294967296", None),
            ("1.2.3.256", None),
            ("256.1", None),
            ("1.2.3.4.5", None),
            ("+1", None),
            ("1.", None),
            ("08", None),
            ("", None),
        ] {
            assert_eq!(numbers_and_dots(name), expected.map(Ipv4Addr::from), "{name}");
        }
        let (mut listeners, _additions) = Listeners::new();
        let port = listeners.listen_anywhere(&bind(&["127.1"]), BACKLOG).unwrap();
        listeners.listen_tcp(&bind(&["-1"]), plain(port), BACKLOG).unwrap();
        assert!(!listeners.has_tcp());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_other_files_are_not() {
        let dir = crate::config::tempdir::TempDir::new("unixsocket");
        let path = dir.path().join("socket");
        let name = path.to_str().unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (mut listeners, _additions) = Listeners::new();
        listeners.listen_unix(name, 0o700, BACKLOG).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(listeners);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        let (mut listeners, _additions) = Listeners::new();
        assert!(listeners.listen_unix(name, 0, BACKLOG).is_err());
        drop(listeners);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
