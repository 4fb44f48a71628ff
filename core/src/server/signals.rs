//! SIGTERM and SIGINT.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the server. SIGHUP, which a closed terminal sends, is taken and ignored.
pub struct Signals {
    runtime: tokio::runtime::Runtime,
    term: Signal,
    int: Signal,
    _hup: Signal,
}

impl Signals {
    /// Takes the signals from now on.
    pub fn take() -> io::Result<Signals> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _context = runtime.enter();
        let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let _hup = signal(SignalKind::hangup())?;
        drop(_context);
        Ok(Signals { runtime, term, int, _hup })
    }

    /// Waits for a signal, or for something else.
    pub fn next<T>(&mut self, other: impl Future<Output = T>) -> Heard<T> {
        let Signals { runtime, term, int, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => Heard::Term,
                _ = int.recv() => Heard::Int,
                other = other => Heard::Other(other),
            }
        })
    }
}

/// What was heard first.
pub enum Heard<T> {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
    /// What else was waited for.
    Other(T),
}
