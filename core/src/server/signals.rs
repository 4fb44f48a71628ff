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

    /// Waits for a signal, or until `stopped`; then calls `stop` and waits until `ended`. False if a second SIGINT has cut
    /// that short.
    pub fn wait(
        &mut self,
        stopped: impl Future<Output = ()>,
        stop: impl FnOnce(),
        ended: impl Future<Output = ()>,
    ) -> bool {
        let Signals { runtime, term, int, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => tracing::warn!("Received SIGTERM scheduling shutdown..."),
                _ = int.recv() => tracing::warn!("Received SIGINT scheduling shutdown..."),
                () = stopped => {}
            }
            stop();
            tokio::select! {
                () = ended => true,
                _ = int.recv() => {
                    tracing::warn!("You insist... exiting now.");
                    false
                }
            }
        })
    }
}
