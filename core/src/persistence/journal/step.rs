//! A step that takes as long as the disk does. The engine hands it out, so that a thread does it with the engine free;
//! where the engine cannot go on without it, it waits, or does it itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// A step, and what came of it.
pub struct Step<T> {
    state: Mutex<State<T>>,
    is_done: AtomicBool,
}

enum State<T> {
    ToDo(Box<dyn FnOnce() -> T + Send>),
    Done(T),
    /// Whoever asked has been told, or doing it has ended in a panic.
    Over,
}

impl<T> Step<T> {
    /// This is to be done.
    pub(super) fn new(what: impl FnOnce() -> T + Send + 'static) -> Arc<Step<T>> {
        Arc::new(Step { state: Mutex::new(State::ToDo(Box::new(what))), is_done: AtomicBool::new(false) })
    }

    /// Does it, unless somebody has; whoever does it now is waited for.
    pub fn perform(&self) {
        let state = &mut *self.state.lock();
        match std::mem::replace(state, State::Over) {
            State::ToDo(what) => {
                *state = State::Done(what());
                self.is_done.store(true, Ordering::Release);
            }
            other => *state = other,
        }
    }

    /// Waits until whoever does it has done it, but no longer; whether that is so.
    pub fn wait_for(&self, patience: Duration) -> bool {
        self.is_done() || self.state.try_lock_for(patience).is_some() && self.is_done()
    }

    /// Whether it has been done.
    pub(super) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    /// What came of it, once. If it has not been done, that comes first.
    pub(in crate::persistence) fn take(&self) -> Option<T> {
        self.perform();
        match std::mem::replace(&mut *self.state.lock(), State::Over) {
            State::Done(outcome) => Some(outcome),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn it_is_done_once_whoever_comes_first() {
        let count = Arc::new(AtomicU32::new(0));
        let counting = count.clone();
        let step = Step::new(move || {
            std::thread::sleep(Duration::from_millis(20));
            counting.fetch_add(1, Ordering::Relaxed)
        });
        assert!(!step.is_done());
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4).map(|_| scope.spawn(|| step.take())).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).collect()
        });
        assert!(step.is_done() && step.take().is_none());
        assert_eq!(outcomes.into_iter().flatten().collect::<Vec<_>>(), [0]);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_panic_leaves_nothing() {
        let step: Arc<Step<u32>> = Step::new(|| panic!("the step"));
        let thrown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| step.perform()));
        assert!(thrown.is_err() && !step.is_done() && step.take().is_none());
    }
}
