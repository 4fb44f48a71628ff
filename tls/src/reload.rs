//! The settings in force, which may change while connections come in.

use std::sync::{PoisonError, RwLock};

use crate::Problem;
use crate::config::{Acceptor, Settings};

/// What new connections are accepted with.
#[derive(Debug, Default)]
pub struct Current(RwLock<Option<Acceptor>>);

impl Current {
    /// What a new connection is accepted with; nothing before the first settings.
    pub fn acceptor(&self) -> Option<Acceptor> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads all files anew, for connections that come from now on; says what an operator should know. If something is
    /// wrong, all stays as it was. Nothing that was resumable under the settings before is resumable now: those who may
    /// come in may be others.
    pub fn replace(&self, settings: &Settings) -> Result<Vec<String>, Problem> {
        let loaded = settings.load()?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(loaded.acceptor);
        Ok(loaded.warnings)
    }

    /// Forgets the settings.
    pub fn clear(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
