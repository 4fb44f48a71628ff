//! SHUTDOWN, and what else ends the server: with the data saved where there are save points, unless something else is
//! said.

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
        // None takes so long that it could be called off.
        return Err(Error::new("ERR No shutdown in progress."));
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

    /// Ends the server. False: it goes on, as the data could not be saved.
    pub fn shut_down(&mut self, how: Shutdown) -> bool {
        self.refresh_clock();
        tracing::warn!("User requested shutdown...");
        if self.persistence.is_saving() {
            tracing::warn!("There is a child saving an .rdb. Killing it!");
            self.cancel_background_save();
        }
        if self.journal.state != State::Off && !self.end_journal(how.forced) {
            tracing::warn!("Errors trying to shut down the server. Check the logs for more information.");
            return false;
        }
        if self.saves_at_end(how) {
            tracing::info!("Saving the final RDB snapshot before exiting.");
            if !self.save_file() {
                if !how.forced {
                    tracing::warn!("Error trying to save the DB, can't exit.");
                    tracing::warn!(
                        "Errors trying to shut down the server. Check the logs for more information."
                    );
                    return false;
                }
                tracing::warn!("Error trying to save the DB. Exit anyway.");
            }
        }
        self.shutdown = true;
        true
    }
}
