//! Rewriting: a new base that holds what the old one and its increments do, written while everything goes on.
//!
//! The base is as of a cut. At that moment a new increment begins, and the manifest names it before anything is written to
//! it; when the base is there, the manifest names both and nothing else. So whatever happens in between, the files that it
//! names hold everything. What has to wait for the disk is a step that is done with the engine free (`rewrite_steps.rs`).

use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;
use mortise_sdk::{Error, Result};

use super::super::cut::Purpose;
use super::super::disk::Target;
use super::placing;
use super::rewrite_steps::Placed;
use super::state::{Journal, State};
use crate::engine::Engine;
use crate::engine::call::Call;
use crate::features::Command;

/// After so many failures in a row the next rewrite waits.
const FAILURES_MAX: u64 = 3;
/// So long at most.
const DELAY_MINUTES_MAX: i64 = 60;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[BGREWRITEAOF];

const IN_PROGRESS: Error = Error::new("ERR Background append only file rewriting already in progress");
const CANNOT: Error = Error::new(
    "ERR Can't execute an AOF background rewriting. Please check the server logs for more information.",
);

const BGREWRITEAOF: Command = Spec {
    usage: "BGREWRITEAOF",
    about: "Writes the append-only file anew, as short as it can be, while everything goes on.",
    flags: &[ADMIN, NOSCRIPT, NO_ASYNC_LOADING],
    ..Spec::group("server")
}
.runs(bgrewriteaof);

fn bgrewriteaof(call: &mut Call<'_>) -> Result {
    if call.engine.persistence.is_rewriting() {
        return Err(IN_PROGRESS);
    }
    let says = if call.engine.persistence.is_saving() || call.cannot_wait() {
        call.engine.journal.is_scheduled = true;
        // Whoever asks for it wants it now.
        call.engine.journal.failures = 0;
        "Background append only file rewriting scheduled"
    } else if call.engine.begin_rewrite() {
        "Background append only file rewriting started"
    } else {
        return Err(CANNOT);
    };
    call.out().simple(says);
    Ok(())
}

impl Engine {
    /// Begins a rewrite as of now. False if it cannot, and the log says why.
    pub(super) fn begin_rewrite(&mut self) -> bool {
        if self.persistence.drawing.is_some() {
            return false;
        }
        match self.prepare_rewrite() {
            Ok(true) => true,
            Ok(false) => {
                // Another cut is still being brought to its end.
                self.journal.is_scheduled = true;
                true
            }
            Err(reason) => {
                tracing::warn!("{reason}");
                self.journal.last_is_ok = false;
                false
            }
        }
    }

    fn prepare_rewrite(&mut self) -> std::result::Result<bool, String> {
        let names = self.journal_names();
        placing::make_dir(&names, &*self.persistence.disk)?;
        if !self.keyspace.begin_cut() {
            return Ok(false);
        }
        self.flush_journal(true);
        let begun = match self.journal.is_due() && self.journal.state == State::On {
            // It would stand behind a base that holds it.
            true => Err("Can't rewrite the AOF while the AOF file cannot be written".to_owned()),
            false => self.begin_increment(&names),
        };
        if let Err(reason) = begun {
            self.end_cut();
            return Err(reason);
        }
        let form = self.base_form();
        let mut manifest = self.journal.manifest.clone();
        let base = manifest.replace_base(&names, form, 0).clone();
        let temporary = std::path::Path::new(&self.config.server.dir)
            .join(format!("temp-rewriteaof-bg-{}.aof", self.process.pid));
        let target = Target { path: names.path(&base), temporary };
        self.journal.rewrites += 1;
        self.journal.is_scheduled = false;
        self.draw(Purpose::Base(form), target, None);
        tracing::info!("Background append only file rewriting started by pid {}", self.process.pid);
        self.follow_journal();
        Ok(true)
    }

    /// The new base is written and has its place, or something has failed.
    pub(in crate::persistence) fn end_rewrite(
        &mut self,
        placed: std::result::Result<Placed, String>,
        began_ms: i64,
    ) {
        let waits = self.journal.state == State::Waiting;
        match placed {
            Ok(placed) => {
                let journal = &mut self.journal;
                journal.manifest = placed.manifest;
                if journal.state != State::Off {
                    journal.size = placed.base_size + journal.increment_len;
                    journal.base_size = journal.size;
                }
                journal.last_is_ok = true;
                journal.failures = 0;
                tracing::info!("Background AOF rewrite finished successfully");
                if waits {
                    journal.state = State::On;
                }
            }
            Err(reason) => {
                tracing::warn!("{reason}");
                self.journal.last_is_ok = false;
                self.journal.failures += 1;
                self.forget_waiting();
                self.journal.is_scheduled |= waits;
            }
        }
        self.journal.last_took_s = Some((self.now_ms - began_ms) / 1000);
        self.journal.last_preserved = self.persistence.last_preserved;
        self.follow_journal();
    }

    /// Calls off the rewrite that goes on. If its base is about to take its place, that is waited for.
    pub(crate) fn cancel_rewrite(&mut self) {
        if self.end_placing(None) {
            return;
        }
        self.cancel_drawing();
        tracing::warn!("Background AOF rewrite was called off");
        self.forget_waiting();
        self.follow_journal();
    }

    /// What was written while there was no base is of no use without one.
    fn forget_waiting(&mut self) {
        if self.journal.state != State::Waiting {
            return;
        }
        let names = self.journal_names();
        let path = names.dir.join(names.temporary_increment());
        self.journal.file = None;
        self.journal.increment_len = 0;
        self.journal.forget_unwritten();
        // Nobody waits for it to be durable, as nobody was promised a journal yet.
        self.journal.syncs.note_durable(self.journal.written);
        let _ = self.persistence.disk.remove(&path);
    }

    /// Begins a rewrite if one is due. The ticks ask.
    pub(crate) fn rewrite_if_due(&mut self) {
        if self.loading || self.persistence.drawing.is_some() {
            return;
        }
        if self.journal.is_scheduled && !self.journal.is_limited(self.now_ms / 1000) {
            self.begin_rewrite();
            return;
        }
        let settings = &self.config.journal;
        let (percent, min) = (settings.auto_aof_rewrite_percentage, settings.auto_aof_rewrite_min_size.0);
        if self.journal.state != State::On || percent == 0 || self.journal.size <= min {
            return;
        }
        let growth = self.journal.size as i128 * 100 / i128::from(self.journal.base_size.max(1)) - 100;
        if growth >= i128::from(percent) && !self.journal.is_limited(self.now_ms / 1000) {
            tracing::info!("Starting automatic rewriting of AOF on {growth}% growth");
            self.begin_rewrite();
        }
    }
}

impl Journal {
    /// Whether rewrites have failed so often that the next has to wait.
    fn is_limited(&mut self, now_s: i64) -> bool {
        if self.failures < FAILURES_MAX {
            self.limit = Default::default();
            return false;
        }
        if let Some(next_s) = self.limit.next_s {
            if now_s < next_s {
                return true;
            }
            self.limit.next_s = None;
            return false;
        }
        let delay = (self.limit.delay_minutes * 2).clamp(1, DELAY_MINUTES_MAX);
        self.limit.delay_minutes = delay;
        self.limit.next_s = Some(now_s + delay * 60);
        tracing::warn!(
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {delay} minutes"
        );
        true
    }
}
