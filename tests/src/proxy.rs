//! A way to a server that can be cut: what passes stalls, or breaks off at once or at a byte of choice.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Listens on a port of its own, and passes on what comes. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Where it leads; nowhere at first.
    to: Option<SocketAddr>,
    /// Nothing passes, though all connections stay.
    stalls: bool,
    /// How many bytes of the server still pass before all connections break off.
    left: Option<usize>,
    /// It is dropped.
    ended: bool,
    /// The connections: their numbers, and both ends.
    open: Vec<(u64, [TcpStream; 2])>,
    /// How many there have been.
    count: u64,
}

impl Proxy {
    /// A way that leads nowhere yet.
    pub fn new() -> io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let proxy = Proxy { address, shared: shared.clone() };
        thread::spawn(move || {
            for client in listener.incoming() {
                let to = shared.state().to;
                if shared.state().ended {
                    return;
                }
                // A server that is not there lets its clients go.
                if let (Ok(client), Some(to)) = (client, to)
                    && let Ok(server) = TcpStream::connect(to)
                {
                    let _ = shared.connect(client, server);
                }
            }
        });
        Ok(proxy)
    }

    /// From now on it leads to this server.
    pub fn lead_to(&self, server: SocketAddr) {
        self.shared.state().to = Some(server);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing passes any more, and nobody is told.
    pub fn stall(&self) {
        self.shared.state().stalls = true;
    }

    /// Everything passes again, what has waited first.
    pub fn flow(&self) {
        self.shared.state().stalls = false;
        self.shared.changed.notify_all();
    }

    /// All connections break off.
    pub fn sever(&self) {
        self.shared.sever();
    }

    /// All connections break off when so many more bytes of the server have passed.
    pub fn sever_after(&self, bytes: usize) {
        self.shared.state().left = Some(bytes);
    }

    /// How many connections there have been.
    pub fn count(&self) -> u64 {
        self.shared.state().count
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.shared.sever();
        // It waits for somebody to come.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sever(&self) {
        let mut state = self.state();
        state.left = None;
        let ends = std::mem::take(&mut state.open).into_iter().flat_map(|(_, ends)| ends);
        // One that is gone already is what is wanted.
        ends.for_each(|end| _ = end.shutdown(Shutdown::Both));
        drop(state);
        self.changed.notify_all();
    }

    fn connect(self: &Arc<Shared>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ends = [client.try_clone()?, server.try_clone()?];
        let mut state = self.state();
        state.count += 1;
        let number = state.count;
        state.open.push((number, ends));
        drop(state);
        let (shared, from, to) = (self.clone(), client.try_clone()?, server.try_clone()?);
        thread::spawn(move || shared.pass(number, from, to, false));
        let shared = self.clone();
        thread::spawn(move || shared.pass(number, server, client, true));
        Ok(())
    }

    /// Passes on what comes one way, until either end is gone.
    fn pass(&self, number: u64, mut from: TcpStream, mut to: TcpStream, is_servers: bool) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            let Some((passes, breaks)) = self.admit(number, read, is_servers) else { break };
            let written = to.write_all(&bytes[..passes]);
            if breaks {
                self.sever();
            }
            if breaks || written.is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
        self.state().open.retain(|(open, _)| *open != number);
    }

    /// Waits until something may pass: how much, and whether that was all. `None`: the connection is gone.
    fn admit(&self, number: u64, len: usize, is_servers: bool) -> Option<(usize, bool)> {
        let mut state = self.state();
        while state.stalls && !state.ended {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.open.iter().find(|(open, _)| *open == number)?;
        match state.left.filter(|_| is_servers) {
            Some(left) if left <= len => Some((left, true)),
            Some(left) => {
                state.left = Some(left - len);
                Some((len, false))
            }
            None => Some((len, false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A server that says everything again.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming().take(3).flatten() {
                thread::spawn(move || io::copy(&mut &client, &mut &client));
            }
        });
        address
    }

    fn said(client: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
        let mut got = vec![0; 100];
        client.write_all(bytes).unwrap();
        let read = client.read(&mut got).unwrap_or(0);
        got.truncate(read);
        got
    }

    #[test]
    fn what_passes_can_be_cut() {
        let proxy = Proxy::new().unwrap();
        proxy.lead_to(echo());
        let connect = || TcpStream::connect(proxy.address()).unwrap();
        let mut client = connect();
        assert_eq!(said(&mut client, b"one"), b"one");
        proxy.stall();
        client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(said(&mut client, b"two"), b"");
        client.set_read_timeout(None).unwrap();
        proxy.flow();
        let mut got = [0; 3];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"two");
        proxy.sever_after(2);
        assert_eq!(said(&mut client, b"three"), b"th");
        assert_eq!(client.read(&mut got).unwrap_or(0), 0);
        let mut client = connect();
        assert_eq!(said(&mut client, b"four"), b"four");
        proxy.sever();
        assert_eq!(client.read(&mut got).unwrap_or(0), 0);
        assert_eq!(proxy.count(), 2);
    }
}
