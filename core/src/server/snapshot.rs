//! The thread that writes a snapshot while everything goes on, and whoever lends it the engine.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::Shared;
use crate::engine::Engine;
use crate::persistence::cut::{Fate, Lender, Snapshot};

/// How soon to try again while a run holds the engine.
const PATIENCE: Duration = Duration::from_millis(1);

impl Lender for Shared {
    fn lend(&self, what: &mut dyn FnMut(&mut Engine)) -> bool {
        loop {
            if let Some(mut engine) = self.acquire() {
                what(&mut engine);
                self.release(engine);
                return !*self.stop.borrow();
            }
            if *self.stop.borrow() {
                return false;
            }
            std::thread::sleep(PATIENCE);
        }
    }
}

/// The snapshot that is being written, as the rim knows it.
#[derive(Default)]
pub(super) struct Writing(Mutex<Option<(Arc<Fate>, JoinHandle<()>)>>);

impl Writing {
    /// Writes a snapshot on a thread of its own.
    pub(super) fn start(&self, shared: Arc<Shared>, snapshot: Box<Snapshot>) {
        let (fate, number) = (snapshot.fate(), snapshot.number());
        let lender = shared.clone();
        let thread = std::thread::Builder::new().name("mortise-snapshot".to_owned());
        match thread.spawn(move || snapshot.run(&*lender)) {
            // The one before it has ended, or was called off and is about to.
            Ok(thread) => *self.0.lock() = Some((fate, thread)),
            Err(error) => {
                tracing::warn!("Can't save in background: fork: {}", super::error_text(&error));
                shared.with_engine(move |engine| engine.fail_background_save(number));
            }
        }
    }

    /// Calls off what is being written, and waits until nothing is left of it.
    pub(super) fn end(&self) {
        if let Some((fate, thread)) = self.0.lock().take() {
            fate.cancel();
            // It says itself what is wrong.
            let _ = thread.join();
        }
    }
}
