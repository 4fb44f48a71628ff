//! The thread that makes the journal durable, and the replies that wait for it.
//!
//! With `appendfsync always` nothing is said to anybody before what it tells of is durable. The engine goes on meanwhile:
//! replies wait at their connections, and one sync serves all who wait. When it is done those who are answered come back
//! with their next requests one by one. If the next sync began with the first of them, the others would wait for the one
//! after it, and half of them would always be too late. So it waits a moment for as many as it has answered before.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::persistence::journal::syncs::Syncs;

/// Who comes back later than this is not waited for.
const GATHER_MAX: Duration = Duration::from_millis(2);
/// Nor is who would make a sync so much later, as a part of what it takes.
const GATHER_PART: u32 = 2;
/// How often to look who has come.
const GLANCE: Duration = Duration::from_micros(50);

/// The connections that wait.
pub struct Commits {
    syncs: Arc<Syncs>,
    waiting: Mutex<Vec<(u64, Waker)>>,
    /// How many have replies that wait.
    held: AtomicUsize,
}

impl Commits {
    /// Those of a journal's server.
    pub fn new(syncs: Arc<Syncs>) -> Arc<Commits> {
        Arc::new(Commits { syncs, waiting: Mutex::default(), held: AtomicUsize::new(0) })
    }

    /// Starts the thread.
    pub fn start(self: &Arc<Commits>) -> io::Result<()> {
        let commits = self.clone();
        std::thread::Builder::new().name("mortise-journal".to_owned()).spawn(move || commits.run())?;
        Ok(())
    }

    /// Whether what is said now has to wait.
    #[inline(always)]
    pub fn holds(&self) -> bool {
        self.syncs.holds()
    }

    /// Up to where everything has to be durable before what is said now is sent.
    pub fn promised(&self) -> u64 {
        self.syncs.promised()
    }

    /// Whether everything up to here is durable.
    #[inline(always)]
    pub fn is_durable(&self, upto: u64) -> bool {
        self.syncs.durable() >= upto
    }

    /// A connection begins to wait; it is woken when everything up to here is durable.
    pub fn wait(&self, upto: u64, waker: &Waker) {
        let mut waiting = self.waiting.lock();
        if self.is_durable(upto) {
            // Whoever wakes those who wait has been there already.
            drop(waiting);
            return waker.wake_by_ref();
        }
        waiting.push((upto, waker.clone()));
        self.held.store(waiting.len(), Ordering::Relaxed);
    }

    /// Nothing will be asked any more.
    pub fn close(&self) {
        self.syncs.close();
    }

    fn run(&self) {
        let (mut answered, mut took) = (0, Duration::ZERO);
        while self.syncs.wait() {
            if self.syncs.holds() {
                self.gather(answered, took);
            }
            let Some(task) = self.syncs.take() else { continue };
            let (is_promised, began) = (task.is_promised, Instant::now());
            if let Err(reason) = self.syncs.perform(task)
                && is_promised
            {
                tracing::warn!(
                    "Can't persist AOF for fsync error when the AOF fsync policy is 'always': {reason}. Exiting..."
                );
                std::process::exit(1);
            }
            took = began.elapsed();
            answered = self.wake();
        }
    }

    /// Waits until as many connections wait as were answered before, but not for long.
    fn gather(&self, answered: usize, took: Duration) {
        let until = Instant::now() + (took / GATHER_PART).min(GATHER_MAX);
        while self.held.load(Ordering::Relaxed) < answered && Instant::now() < until {
            std::thread::sleep(GLANCE);
        }
    }

    /// Wakes those who have waited long enough; says how many.
    fn wake(&self) -> usize {
        let durable = self.syncs.durable();
        let mut ready = Vec::new();
        let mut waiting = self.waiting.lock();
        waiting.retain(|(upto, waker)| {
            let waits = *upto > durable;
            if !waits {
                ready.push(waker.clone());
            }
            waits
        });
        self.held.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        ready.iter().for_each(Waker::wake_by_ref);
        ready.len()
    }
}
