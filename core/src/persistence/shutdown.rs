//! SHUTDOWN, and what else ends the server: with the data saved where there are save points, unless something else is
//! said, and after replicas have got what was written.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Spec, added};
use mortise_sdk::{Error, Result, error};

use super::journal::state::State;
use super::settings::Shutdown;
use crate::engine::Engine;
use crate::engine::alone::Alone;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[SHUTDOWN];

const SHUTDOWN: Command = Spec {
    usage: "SHUTDOWN [nosave_save=<NOSAVE | SAVE>] [NOW] [FORCE] [ABORT]",
    about: "Ends the server; saves all data before if there are save points.",
    cost: "O(N) if the data is saved, N being the keys of all databases; O(1) otherwise",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE, NO_MULTI, ALLOW_BUSY],
    history: &[("7.0.0", "Options `NOW`, `FORCE` and `ABORT`.")],
    ages: &[added("NOW", "7.0.0"), added("FORCE", "7.0.0"), added("ABORT", "7.0.0")],
    ..Spec::group("server")
}
.runs_alone(shutdown);

fn shutdown(call: &mut Alone<'_>) -> Result {
    let (mut how, mut aborts) = (Shutdown::default(), false);
    for word in call.args.iter().skip(1) {
        match &*word.to_ascii_lowercase() {
            b"nosave" if how.saves != Some(true) => how.saves = Some(false),
            b"save" if how.saves != Some(false) => how.saves = Some(true),
            b"now" => how.now = true,
            b"force" => how.forced = true,
            b"abort" => aborts = true,
            _ => return Err(error::SYNTAX),
        }
    }
    if aborts && how != Shutdown::default() {
        return Err(error::SYNTAX);
    }
    if aborts {
        if call.running.is_some() {
            return Err(error::BUSY_SCRIPT);
        }
        call.session.owes.calls_shutdown_off = true;
        call.out.simple("OK");
        return Ok(());
    }
    match call.running {
        None => call.session.owes.shutdown = Some(how),
        // What the script that runs has done so far is not to be saved.
        Some(running) if how.saves == Some(false) => {
            running.stop_server();
            call.session.closing = true;
        }
        Some(_) => return Err(error::BUSY_SCRIPT),
    }
    Ok(())
}

/// What SHUTDOWN says when the server goes on.
pub const FAILED: Error = Error::new("ERR Errors trying to SHUTDOWN. Check logs.");

/// What has become of the wish that the server end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It ends.
    Ends,
    /// It will, when replicas have what was written.
    Waits,
    /// It goes on.
    GoesOn,
}

/// The server's end, which waits for replicas.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    how: Shutdown,
    /// It waits no longer: Unix milliseconds.
    until_ms: i64,
}

impl Engine {
    /// Whether the server's end is one at which the data is saved.
    fn saves_at_end(&self, how: Shutdown) -> bool {
        // What is not loaded yet would be lost.
        !self.loading && how.saves.unwrap_or(!self.config.persistence.save.0.is_empty())
    }

    /// Brings the journal to its end. False: without the base that is being written it would hold nothing.
    fn end_journal(&mut self, forced: bool) -> bool {
        if self.persistence.is_rewriting() {
            if self.journal.state == State::Waiting {
                if !forced {
                    tracing::warn!("Writing initial AOF, can't exit.");
                    return false;
                }
                tracing::warn!("Writing initial AOF. Exit anyway.");
            }
            tracing::warn!("There is a child rewriting the AOF. Killing it!");
            self.cancel_rewrite();
        }
        tracing::info!("Calling fsync() on the AOF file.");
        self.settle_journal();
        true
    }

    /// Ends the server, at once or when replicas have what was written.
    pub fn shut_down(&mut self, how: Shutdown) -> Outcome {
        self.refresh_clock();
        if self.is_shutting_down() {
            return Outcome::Waits;
        }
        tracing::warn!("User requested shutdown...");
        let timeout_s = self.config.persistence.shutdown_timeout;
        if how.now || timeout_s == 0 || self.count_lagging_replicas() == 0 {
            return self.end(how);
        }
        tracing::info!("Waiting for replicas before shutting down.");
        let until_ms = self.now_ms.saturating_add(i64::from(timeout_s) * 1000);
        // Nobody is asked any more when writes wait.
        self.ask_for_acks();
        self.persistence.ending = Some(Ending { how, until_ms });
        self.clients.pause.for_shutdown = true;
        Outcome::Waits
    }

    /// A signal asks for the server's end, which waits for the next tick: until then it may be called off. False if that
    /// is under way already.
    pub fn ask_for_end(&mut self) -> bool {
        let is_news = self.persistence.end_asked.is_none() && !self.is_shutting_down();
        if is_news {
            self.persistence.end_asked = Some(false);
        }
        is_news
    }

    /// The clock has ticked.
    pub(crate) fn let_asked_end(&mut self) {
        if let Some(is_due) = &mut self.persistence.end_asked {
            *is_due = true;
        }
    }

    /// Whether the end that was asked for may begin, once; nothing if it has been called off.
    pub fn take_asked_end(&mut self) -> Option<bool> {
        let is_due = self.persistence.end_asked?;
        if is_due {
            self.persistence.end_asked = None;
        }
        Some(is_due)
    }

    /// Whether the server's end waits for replicas.
    pub fn is_shutting_down(&self) -> bool {
        self.persistence.ending.is_some()
    }

    /// How long it will wait at most, in milliseconds, if it does.
    pub(crate) fn shutdown_due_in_ms(&self) -> Option<i64> {
        self.persistence.ending.map(|ending| (ending.until_ms - self.now_ms).max(0))
    }

    /// Ends the server if it was to wait for replicas and need not do so any more. The ticks ask.
    pub(crate) fn end_if_due(&mut self) {
        let Some(ending) = self.persistence.ending else { return };
        if self.now_ms < ending.until_ms && self.count_lagging_replicas() > 0 {
            return;
        }
        self.persistence.ending = None;
        if self.end(ending.how) == Outcome::GoesOn {
            self.carry_on();
        }
    }

    /// SHUTDOWN ABORT.
    pub(crate) fn call_shutdown_off(&mut self) -> Result {
        let was_asked = self.persistence.end_asked.take().is_some();
        if self.persistence.ending.take().is_none() && !was_asked {
            return Err(Error::new("ERR No shutdown in progress."));
        }
        tracing::info!("Shutdown manually aborted.");
        self.carry_on();
        Ok(())
    }

    /// The server was to end, and does not.
    fn carry_on(&mut self) {
        self.clients.pause.for_shutdown = false;
        for id in self.blocked.waiting_for_shutdown() {
            self.end_wait(id, |_, _| Err(FAILED));
        }
        self.resume_paused();
    }

    /// Ends the server, unless the data cannot be saved.
    fn end(&mut self, how: Shutdown) -> Outcome {
        self.log_lagging_replicas();
        if self.persistence.is_saving() {
            tracing::warn!("There is a child saving an .rdb. Killing it!");
            self.cancel_background_save();
        }
        if self.journal.state != State::Off && !self.end_journal(how.forced) {
            tracing::warn!("Errors trying to shut down the server. Check the logs for more information.");
            return Outcome::GoesOn;
        }
        if self.saves_at_end(how) {
            tracing::info!("Saving the final RDB snapshot before exiting.");
            if !self.save_file() {
                if !how.forced {
                    tracing::warn!("Error trying to save the DB, can't exit.");
                    tracing::warn!(
                        "Errors trying to shut down the server. Check the logs for more information."
                    );
                    return Outcome::GoesOn;
                }
                tracing::warn!("Error trying to save the DB. Exit anyway.");
            }
        }
        self.shutdown = true;
        Outcome::Ends
    }
}
