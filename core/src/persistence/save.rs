//! SAVE, BGSAVE and LASTSAVE, and everything else that writes the snapshot's file.

use std::io::Write;

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Spec, added, category};
use mortise_sdk::{Error, Result, error};

use super::disk::NewFile;
use super::snapshot::{Broken, Reader};
use super::state::Persistence;
use crate::engine::Engine;
use crate::engine::call::Call;
use crate::features::Command;
use crate::server::error_text;

const SERVER: Spec = Spec::group("server");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[SAVE, BGSAVE, LASTSAVE];

/// What a client hears when the log says more.
const FAILED: Error = Error::new("ERR");
const IN_PROGRESS: Error = Error::new("ERR Background save already in progress");

const REWRITING: Error = Error::new(
    "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a \
     BGSAVE whenever possible.",
);

const SAVE: Command = Spec {
    usage: "SAVE",
    about: "Saves all data; nothing else happens meanwhile.",
    cost: "O(N), N being the keys of all databases",
    flags: &[ADMIN, NOSCRIPT, NO_ASYNC_LOADING, NO_MULTI],
    ..SERVER
}
.runs(save);

fn save(call: &mut Call<'_>) -> Result {
    if call.engine.persistence.is_saving() {
        return Err(IN_PROGRESS);
    }
    if !call.engine.save_file() {
        return Err(FAILED);
    }
    call.ok()
}

const BGSAVE: Command = Spec {
    usage: "BGSAVE [SCHEDULE]",
    about: "Saves all data as it is now, while everything goes on.",
    flags: &[ADMIN, NOSCRIPT, NO_ASYNC_LOADING],
    history: &[("3.2.2", "Option `SCHEDULE`.")],
    ages: &[added("SCHEDULE", "3.2.2")],
    ..SERVER
}
.runs(bgsave);

fn bgsave(call: &mut Call<'_>) -> Result {
    let may_wait = match call.argc() {
        1 => false,
        2 if call.arg(1).eq_ignore_ascii_case(b"SCHEDULE") => true,
        _ => return Err(error::SYNTAX),
    };
    if call.engine.persistence.is_saving() {
        return Err(IN_PROGRESS);
    }
    // What a transaction is going to change is meant to be saved as well.
    if call.cannot_wait() || may_wait && call.engine.persistence.is_rewriting() {
        call.engine.persistence.is_scheduled = true;
        return call.reply_status("Background saving scheduled");
    }
    if call.engine.persistence.is_rewriting() {
        return Err(REWRITING);
    }
    if !call.engine.begin_background_save() {
        return Err(FAILED);
    }
    call.reply_status("Background saving started")
}

const LASTSAVE: Command = Spec {
    usage: "LASTSAVE",
    about: "Returns when the data was saved last: Unix seconds.",
    flags: &[LOADING, STALE, FAST],
    categories: &[category::ADMIN, category::DANGEROUS],
    tips: &["nondeterministic_output"],
    ..SERVER
}
.runs(lastsave);

fn lastsave(call: &mut Call<'_>) -> Result {
    let at = call.engine.persistence.last_save_s;
    call.reply(at)
}

impl Call<'_> {
    fn reply_status(&mut self, status: &str) -> Result {
        self.out().simple(status);
        Ok(())
    }
}

impl Engine {
    /// Writes the snapshot's file, now. False: it could not be written, and the log says why.
    pub(crate) fn save_file(&mut self) -> bool {
        let target = Persistence::target(&self.config, self.process.pid, None);
        let state = &self.persistence;
        let file = match NewFile::create(state.disk.clone(), target.clone(), &state.pending) {
            Ok(file) => file,
            Err(error) => {
                self.note_not_begun(&target.temporary, &error);
                return false;
            }
        };
        let written = self.write_file(file);
        match written {
            Ok(()) => {
                tracing::info!("DB saved on disk");
                self.note_saved(self.unit.dirty);
                self.persistence.saves += 1;
                self.note_outcome(true);
                true
            }
            Err(reason) => {
                tracing::warn!("Write error saving DB on disk{reason}");
                false
            }
        }
    }

    fn write_file(&self, mut file: NewFile) -> std::result::Result<(), String> {
        self.save(self.saved_space(), &mut file)
            .and_then(|()| file.flush().map_err(Broken::from))
            .map_err(|broken| failed("rdbSaveRio", &broken))?;
        file.place().map_err(|(step, error)| failed(step, &error.into()))
    }

    /// The file could not even be begun.
    pub(super) fn note_not_begun(&self, temporary: &std::path::Path, error: &std::io::Error) {
        tracing::warn!(
            "Failed opening the temp RDB file {} (in server root dir {}) for saving: {}",
            temporary.file_name().unwrap_or_default().to_string_lossy(),
            self.config.server.dir,
            error_text(error)
        );
    }

    /// After FLUSHALL: a snapshot in the background would hold what is gone, and the file does. Where there are save
    /// points, it is to hold nothing from now on.
    pub(crate) fn save_emptiness(&mut self) {
        if self.loading {
            // A journal is played: what it flushed then is no reason to touch the file now.
            return;
        }
        self.cancel_background_save();
        if !self.config.persistence.save.0.is_empty() {
            self.save_file();
        }
    }

    /// DEBUG RELOAD: loads the file, in the place of what is there if `flushes`; saves it before if `saves`.
    pub(crate) fn reload_file(&mut self, saves: bool, flushes: bool) -> Result {
        if saves && !self.save_file() {
            return Err(FAILED);
        }
        let path = Persistence::target(&self.config, self.process.pid, None).path;
        let opened = self.persistence.disk.open(&path).map_err(Broken::from);
        let space = self.saved_space();
        let report = opened.and_then(|mut opened| {
            let from = Reader::from_medium(&mut *opened.data);
            self.reload(space, from, flushes)
        });
        self.persistence.loaded = report.map_err(|reason| {
            tracing::warn!("DEBUG RELOAD: {}: {reason}", path.display());
            Error::new("ERR Error trying to load the RDB dump")
        })?;
        self.note_saved(self.unit.dirty);
        Ok(())
    }
}

/// How a step of writing failed, in the words that follow `Write error saving DB on disk`.
pub(super) fn failed(step: &str, reason: &Broken) -> String {
    match reason {
        Broken::Io(error) => format!("({step}): {}", error_text(error)),
        other => format!("({step}): {other}"),
    }
}
