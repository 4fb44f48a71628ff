//! What comes before a connection is one: the handshake, on the I/O thread and without the engine.
//!
//! A handshake costs up to a millisecond of its thread's time. So a thread works on one at a time, and lets everybody else
//! have a turn between two steps. It may take `tls-handshake-timeout`, and only so many may be under way
//! (`tls-handshakes-max`): one more ends the oldest, since who means it is through in a moment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use mortise_tls::Acceptor;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::stream::{TlsStream, broken};
use crate::engine::client::Origin;
use crate::server::connection;
use crate::server::io_thread::{Arrival, IoThread};
use crate::server::stream::Stream;

/// Handshakes of a thread.
pub struct Handshakes {
    /// The one that is worked on.
    lane: Semaphore,
    under_way: RefCell<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    /// By number, and so by age.
    tasks: BTreeMap<u64, AbortHandle>,
    next: u64,
}

impl Default for Handshakes {
    fn default() -> Handshakes {
        Handshakes { lane: Semaphore::new(1), under_way: RefCell::default() }
    }
}

/// Begins the handshake of a connection, which is a client's when it is through.
pub fn begin(socket: TcpStream, origin: Origin, acceptor: &Acceptor, thread: &Rc<IoThread>) {
    let session = match acceptor.session() {
        Ok(session) => session,
        Err(problem) => return fail(&origin, &broken(problem)),
    };
    let shared = thread.scratch.borrow().shared.clone();
    let most = shared.tls.handshakes_max(shared.traffic.len());
    let timeout = shared.tls.handshake_timeout();
    let number = {
        let under_way = &mut *thread.handshakes.under_way.borrow_mut();
        while under_way.tasks.len() >= most
            && let Some((_, oldest)) = under_way.tasks.pop_first()
        {
            tracing::debug!("The oldest TLS handshake is given up: {most} are under way");
            oldest.abort();
        }
        under_way.next += 1;
        under_way.next
    };
    let shakes_hands = {
        let thread = thread.clone();
        async move {
            let mut stream = Box::new(TlsStream::new(socket, session));
            let shaken = tokio::time::timeout(timeout, stream.shake_hands(&thread.handshakes.lane)).await;
            thread.handshakes.under_way.borrow_mut().tasks.remove(&number);
            match shaken {
                Ok(Ok(())) => {
                    let arrival = Arrival { stream: Stream::Tls(stream), origin, tls: None };
                    if let Some(connection) = connection::Task::accept(arrival, &thread) {
                        tokio::task::spawn_local(connection);
                    }
                }
                Ok(Err(error)) => fail(&origin, &error),
                Err(_) => fail(&origin, &io::Error::new(ErrorKind::TimedOut, "the handshake takes too long")),
            }
        }
    };
    let task = tokio::task::spawn_local(shakes_hands).abort_handle();
    thread.handshakes.under_way.borrow_mut().tasks.insert(number, task);
}

fn fail(origin: &Origin, error: &io::Error) {
    tracing::warn!(
        "Error accepting a client connection: {} (addr={} laddr={})",
        crate::server::error_text(error),
        origin.address,
        origin.local_address
    );
}
