//! One current-thread tokio runtime, and its share of the connections.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use mortise_tls::Acceptor;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::Shared;
use super::connection;
use super::put_off::{self, PutOff};
use super::stream::Stream;
use super::tls::handshake::{self, Handshakes};
use super::turn::{self, Turn};
use crate::engine::Engine;
use crate::engine::batch::Batch;
use crate::engine::client::Origin;
use crate::engine::outbox::Piece;
use crate::engine::registry::Registry;
use crate::resp::output::Output;

/// How many task polls pass before the runtime looks for new events of the system.
const EVENT_INTERVAL: u32 = 512;

/// The thread that accepts connections for all.
const ACCEPTING: usize = 0;

/// What the connections of a thread share.
pub struct IoThread {
    /// What the one that runs uses.
    pub scratch: RefCell<Scratch>,
    /// What they have said.
    pub turn: RefCell<Turn>,
    /// Those that are to be told something, but not at once.
    pub put_off: PutOff,
    /// Those that are not through their handshakes yet.
    pub handshakes: Handshakes,
}

/// Buffers that only the connection that runs uses, and the thread's snapshot of the commands.
pub struct Scratch {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Where replies go.
    pub out: Output,
    /// What others have sent to a client, on its way to the socket.
    pub pieces: Vec<Piece>,
    /// The batch that is being parsed or run.
    pub batch: Batch,
    /// Requests that a run takes along.
    pub copy: Vec<u8>,
    /// The commands.
    pub registry: Arc<Registry>,
    /// The number of the thread.
    pub thread: usize,
}

impl Scratch {
    /// Makes the buffers good again after the connection before has panicked, so that nothing of it goes to the next.
    #[inline(always)]
    pub fn renew(&mut self) {
        if !self.out.is_empty() {
            self.out = Output::default();
            self.pieces.clear();
        }
    }
}

/// Takes over the commands as the engine has them now; false if they are the same.
#[inline(always)]
pub fn follow(registry: &mut Arc<Registry>, engine: &Engine) -> bool {
    let changed = !Arc::ptr_eq(registry, &engine.registry);
    if changed {
        *registry = engine.registry.clone();
    }
    changed
}

/// A connection on its way to its thread.
pub struct Arrival {
    /// The socket.
    pub stream: Stream,
    /// Where it comes from.
    pub origin: Origin,
    /// What its TLS begins with; nothing if it speaks none, or speaks it already.
    pub tls: Option<Acceptor>,
}

/// The threads, as the listeners see them.
#[derive(Clone)]
pub struct IoThreads {
    arrivals: Arc<Vec<mpsc::UnboundedSender<Arrival>>>,
    next: Arc<std::sync::atomic::AtomicUsize>,
}

impl IoThreads {
    /// Hands a connection to the next thread.
    pub fn hand_over(&self, mut arrival: Arrival) {
        let turn = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % self.arrivals.len();
        arrival.origin.io_thread = turn;
        // A thread that has ended takes no more connections: the server is stopping.
        let _ = self.arrivals[turn].send(arrival);
    }
}

/// Queues for `count` threads: the listeners' end, and each thread's own.
pub fn queues(count: usize) -> (IoThreads, Vec<mpsc::UnboundedReceiver<Arrival>>) {
    let (senders, receivers) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    (IoThreads { arrivals: Arc::new(senders), next: Arc::default() }, receivers)
}

/// The runtime of an I/O thread.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()
}

/// Takes connections and serves them until the server stops; `beside` runs on the same thread.
pub fn serve(
    runtime: &tokio::runtime::Runtime,
    shared: &Arc<Shared>,
    thread: usize,
    mut arrivals: mpsc::UnboundedReceiver<Arrival>,
    beside: impl Future<Output = ()>,
) {
    let registry = shared.engine.lock().registry.clone();
    let scratch = Scratch {
        shared: shared.clone(),
        out: Output::default(),
        pieces: Vec::new(),
        batch: Batch::default(),
        copy: Vec::new(),
        registry,
        thread,
    };
    let index = thread;
    let thread = Rc::new(IoThread {
        scratch: RefCell::new(scratch),
        turn: RefCell::new(Turn::default()),
        put_off: PutOff::default(),
        handshakes: Handshakes::default(),
    });
    let tasks = LocalSet::new();
    tasks.block_on(runtime, async {
        tokio::task::spawn_local(turn::end_each(thread.clone()));
        tokio::task::spawn_local(put_off::write_each(thread.clone()));
        let mut stop = shared.stop.subscribe();
        let takes_connections = async {
            while let Some(mut arrival) = arrivals.recv().await {
                if index != ACCEPTING {
                    arrival.stream = match arrival.stream.move_here() {
                        Ok(stream) => stream,
                        Err(_) => continue,
                    };
                }
                if let Arrival { stream: Stream::Tcp(socket), origin, tls: Some(acceptor) } = arrival {
                    handshake::begin(socket, origin, &acceptor, &thread);
                } else if let Some(connection) = connection::Task::accept(arrival, &thread) {
                    tokio::task::spawn_local(connection);
                }
            }
        };
        tokio::select! {
            () = takes_connections => {}
            () = beside => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    });
    thread.turn.borrow_mut().abandon();
}
