//! Work off the engine's thread: one thread frees what is large, another goes on with calls that take long (hashing
//! passwords, files), so that neither waits for the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::Builder;

use super::Shared;
use crate::engine::deferred::Deferred;

/// The worker threads, as the rim sees them.
pub struct Worker {
    garbage: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    calls: mpsc::Sender<(Arc<Shared>, Deferred)>,
}

impl Worker {
    /// Starts the threads.
    pub fn start() -> std::io::Result<Worker> {
        let (garbage, inbox) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        Builder::new().name("mortise-worker".to_owned()).spawn(move || {
            while let Ok(free) = inbox.recv() {
                free();
            }
        })?;
        let (calls, inbox) = mpsc::channel::<(Arc<Shared>, Deferred)>();
        Builder::new().name("mortise-calls".to_owned()).spawn(move || {
            while let Ok((shared, call)) = inbox.recv() {
                go_on(&shared, call);
            }
        })?;
        Ok(Worker { garbage, calls })
    }

    /// Hands over something to be freed. If the thread is gone, the server is stopping, and all is freed with it.
    pub fn free(&self, free: Box<dyn FnOnce() + Send>) {
        let _ = self.garbage.send(free);
    }

    /// Hands over a call. If the thread is gone, the server is stopping, and the call with it.
    pub fn go_on(&self, shared: Arc<Shared>, call: Deferred) {
        let _ = self.calls.send((shared, call));
    }
}

fn go_on(shared: &Shared, call: Deferred) {
    let outbox = call.outbox().clone();
    let run = || call.run(&|what| shared.with_engine(what));
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        // A defect: it costs its connection, as every panic does.
        outbox.close();
        outbox.wake();
    }
}
