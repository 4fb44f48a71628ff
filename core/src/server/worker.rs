//! Work off the engine's thread: one thread frees what is large, another goes on with calls that take long (rules, files),
//! and a third verifies passwords, so that none of them waits for the others.
//!
//! Whoever does not know a password can have many verified, each of which takes long on purpose. So addresses take turns:
//! who sends wrong ones makes those wait who come from the same place, and everybody else for one of his. There is one for
//! each connection at most, so `maxclients` bounds them.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::Builder;

use parking_lot::Mutex;

use super::Shared;
use crate::engine::deferred::Deferred;

/// Passwords that wait to be verified.
type Logins = Turns<(Arc<Shared>, Deferred)>;

/// The worker threads, as the rim sees them.
pub struct Worker {
    garbage: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    calls: mpsc::Sender<(Arc<Shared>, Deferred)>,
    logins: Arc<Mutex<Logins>>,
    /// Says that there is one more.
    login_came: mpsc::Sender<()>,
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
        let logins: Arc<Mutex<Logins>> = Arc::default();
        let (login_came, inbox) = mpsc::channel();
        let queue = logins.clone();
        Builder::new().name("mortise-logins".to_owned()).spawn(move || {
            while let Ok(()) = inbox.recv() {
                let next = queue.lock().pop();
                if let Some((shared, call)) = next {
                    go_on(&shared, call);
                }
            }
        })?;
        Ok(Worker { garbage, calls, logins, login_came })
    }

    /// Hands over something to be freed. If the thread is gone, the server is stopping, and all is freed with it.
    pub fn free(&self, free: Box<dyn FnOnce() + Send>) {
        let _ = self.garbage.send(free);
    }

    /// Hands over a call. If the thread is gone, the server is stopping, and the call with it.
    pub fn go_on(&self, shared: Arc<Shared>, call: Deferred) {
        if call.is_login() {
            let from = call.peer().into();
            self.logins.lock().push(from, (shared, call));
            let _ = self.login_came.send(());
        } else {
            let _ = self.calls.send((shared, call));
        }
    }
}

/// What waits, by where it comes from: each place has one turn after the other.
struct Turns<T> {
    waiting: HashMap<Box<str>, VecDeque<T>>,
    /// The places for which something waits, the next one first.
    order: VecDeque<Box<str>>,
}

impl<T> Default for Turns<T> {
    fn default() -> Turns<T> {
        Turns { waiting: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    fn push(&mut self, from: Box<str>, what: T) {
        let waiting = self.waiting.entry(from.clone()).or_default();
        if waiting.is_empty() {
            self.order.push_back(from);
        }
        waiting.push_back(what);
    }

    fn pop(&mut self) -> Option<T> {
        let from = self.order.pop_front()?;
        let waiting = self.waiting.get_mut(&from)?;
        let what = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&from);
        } else {
            self.order.push_back(from);
        }
        what
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_take_turns() {
        let mut turns = Turns::default();
        for (from, what) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)] {
            turns.push(from.into(), what);
        }
        assert_eq!([(); 2].map(|()| turns.pop()), [Some(1), Some(4)]);
        // Who comes anew waits for one of each.
        turns.push("d".into(), 7);
        let rest: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(rest, [5, 2, 6, 7, 3]);
        assert!(turns.waiting.is_empty() && turns.order.is_empty(), "nothing is kept of who is through");
    }
}
