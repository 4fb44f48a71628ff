//! The clock's task: regular ticks, and one more whenever a call's time is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Shared;
use crate::engine::Engine;

/// How soon to try again while a run holds the engine.
const BUSY_WAIT_MS: u64 = 10;

/// When the next tick is due, as those know who may want it earlier.
#[derive(Default)]
pub struct Ticker {
    /// Unix milliseconds. It changes under the engine's lock.
    due_ms: AtomicI64,
    earlier: Notify,
}

impl Ticker {
    /// A call has begun to wait: the next tick may have to come earlier.
    pub fn hurry(&self, engine: &Engine) {
        if let Some(due_ms) = engine.next_due_ms()
            && due_ms < self.due_ms.load(Ordering::Relaxed)
        {
            self.due_ms.store(due_ms, Ordering::Relaxed);
            self.earlier.notify_one();
        }
    }
}

/// Ticks until it is dropped.
pub async fn run(shared: Arc<Shared>) {
    let mut regular = Instant::now();
    loop {
        let wait = if let Some(mut engine) = shared.acquire() {
            let now = Instant::now();
            if now >= regular {
                let period_ms = 1000 / u64::from(engine.config.server.hz.0.clamp(1, 500));
                engine.tick(period_ms);
                regular = now + Duration::from_millis(period_ms);
            } else {
                engine.end_due();
            }
            let regular_ms = (regular - now).as_millis() as i64;
            let due_ms = engine.next_due_ms().unwrap_or(i64::MAX).min(engine.now_ms + regular_ms);
            shared.ticker.due_ms.store(due_ms, Ordering::Relaxed);
            let wait_ms = due_ms - engine.now_ms;
            shared.release(engine);
            wait_ms.max(1) as u64
        } else {
            BUSY_WAIT_MS
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
            () = shared.ticker.earlier.notified() => {}
        }
    }
}
