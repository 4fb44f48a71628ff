//! The settings in force, which may change while connections come in.

use std::sync::{PoisonError, RwLock};

use crate::Problem;
use crate::client::Connector;
use crate::config::{Acceptor, Settings};

/// What new connections are accepted with, and made with.
#[derive(Debug, Default)]
pub struct Current(RwLock<Option<(Acceptor, Option<Connector>)>>);

impl Current {
    /// What a new connection is accepted with; nothing before the first settings.
    pub fn acceptor(&self) -> Option<Acceptor> {
        self.get(|(acceptor, _)| Some(acceptor.clone()))
    }

    /// What a connection to another server is made with; nothing unless the settings say that such are made.
    pub fn connector(&self) -> Option<Connector> {
        self.get(|(_, connector)| connector.clone())
    }

    fn get<T>(&self, what: impl FnOnce(&(Acceptor, Option<Connector>)) -> Option<T>) -> Option<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(what)
    }

    /// Reads all files anew, for connections that come from now on; says what an operator should know. If something is
    /// wrong, all stays as it was. Nothing that was resumable under the settings before is resumable now: those who may
    /// come in may be others.
    pub fn replace(&self, settings: &Settings) -> Result<Vec<String>, Problem> {
        let loaded = settings.load()?;
        let current = (loaded.acceptor, loaded.connector);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(current);
        Ok(loaded.warnings)
    }

    /// Forgets the settings.
    pub fn clear(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
