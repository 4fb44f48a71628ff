//! Whoever has started the server and waits for its word that it is ready: systemd, upstart.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::signal::{Signal, raise};

use super::{Supervision, error_text};

/// Where systemd wants to be told.
const SOCKET: &str = "NOTIFY_SOCKET";
/// Set by upstart.
const JOB: &str = "UPSTART_JOB";

/// Who supervises the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Supervisor {
    /// Nobody.
    Nobody,
    /// upstart, which is told by the process stopping itself.
    Upstart,
    /// systemd, which is told by datagrams.
    Systemd,
}

impl Supervisor {
    /// Who it is, by the directive and the environment.
    pub fn find(wanted: Supervision) -> Supervisor {
        let has = |name| std::env::var_os(name).is_some();
        match wanted {
            Supervision::No => Supervisor::Nobody,
            Supervision::Auto if has(JOB) => Supervisor::Upstart,
            Supervision::Auto if has(SOCKET) => Supervisor::Systemd,
            Supervision::Auto => Supervisor::Nobody,
            Supervision::Upstart if has(JOB) => Supervisor::Upstart,
            Supervision::Upstart => {
                tracing::warn!("upstart supervision requested, but UPSTART_JOB not found!");
                Supervisor::Nobody
            }
            Supervision::Systemd if has(SOCKET) => Supervisor::Systemd,
            Supervision::Systemd => {
                tracing::warn!("systemd supervision error: NOTIFY_SOCKET not found!");
                Supervisor::Nobody
            }
        }
    }

    /// The server is starting.
    pub fn starting(self) {
        match self {
            Supervisor::Nobody => {}
            Supervisor::Upstart => {
                tracing::info!("supervised by upstart, will stop to signal readiness.");
                // It is continued by upstart.
                let _ = raise(Signal::SIGSTOP);
            }
            Supervisor::Systemd => {
                tell("STATUS=Mortise is loading...\n");
                tracing::info!(
                    "Supervised by systemd. Please make sure you set appropriate values for TimeoutStartSec and \
                     TimeoutStopSec in your service unit."
                );
            }
        }
    }

    /// The server takes connections.
    pub fn ready(self) {
        if self == Supervisor::Systemd {
            tell("STATUS=Ready to accept connections\nREADY=1\n");
        }
    }

    /// The server is about to end.
    pub fn stopping(self) {
        if self == Supervisor::Systemd {
            tell("STOPPING=1\n");
        }
    }
}

fn tell(text: &str) {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    if let Err(error) = send(&socket, text) {
        tracing::warn!("systemd supervision error: sd_notify: {}", error_text(&error));
    }
}

fn send(socket: &OsStr, text: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abstract_sockets_are_told_too() {
        let name = format!("mortise-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), "READY=1\n").unwrap();
        let mut bytes = [0; 64];
        let len = socket.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"READY=1\n");
    }

    #[test]
    fn who_does_not_listen_is_an_error() {
        assert!(send(OsStr::new("/no/such/socket"), "READY=1\n").is_err());
    }
}
