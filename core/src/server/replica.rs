//! The thread on which the link to a primary runs.

use std::sync::Arc;

use super::Shared;
use crate::replication::link;

/// Follows the primary of this number, on a thread of its own.
pub(super) fn start(shared: Arc<Shared>, number: u64) {
    let thread = std::thread::Builder::new().name("mortise-replica".to_owned());
    if let Err(error) = thread.spawn(move || link::run(&*shared, number)) {
        tracing::warn!("Can't follow the master: {}", super::error_text(&error));
    }
}
