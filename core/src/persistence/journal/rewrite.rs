//! Rewriting: a new base that holds what the old one and its increments do, written while everything goes on.
//!
//! The base is as of a cut. At that moment a new increment begins, and the manifest names it before anything is written to
//! it; when the base is there, the manifest names both and nothing else. So whatever happens in between, the files that it
//! names hold everything.

use std::io::Read;

use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;
use mortise_sdk::{Error, Result};

use super::super::cut::Purpose;
use super::super::disk::{NewFile, Target};
use super::manifest::{Form, Manifest, Names, Part};
use super::state::{Journal, State};
use crate::engine::Engine;
use crate::engine::call::Call;
use crate::features::Command;
use crate::server::error_text;

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
        self.make_journal_dir(&names)?;
        if !self.keyspace.begin_cut() {
            return Ok(false);
        }
        self.flush_journal(true);
        let begun = match self.journal.is_due() && self.journal.state == State::On {
            // It would stand behind a base that holds it.
            true => Err("Can't rewrite the AOF while the AOF file cannot be written".to_owned()),
            false => self.begin_increment(),
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

    /// From now on another file is written.
    fn begin_increment(&mut self) -> std::result::Result<(), String> {
        let names = self.journal_names();
        // What comes next stands in a file of its own, or will, which begins in no database.
        self.journal.db = None;
        self.journal.stamped_s = 0;
        let (manifest, name, path) = match self.journal.state {
            State::Off => return Ok(()),
            State::Waiting => {
                let name = names.temporary_increment();
                let path = names.dir.join(&name);
                (None, name, path)
            }
            State::On => {
                let mut manifest = self.journal.manifest.clone();
                let part = manifest.begin_increment(&names);
                let (name, path) = (part.to_string(), names.path(part));
                (Some(manifest), name, path)
            }
        };
        let file = self
            .begin_file(&path)
            .map_err(|error| format!("Can't open the append-only file {name}: {}", error_text(&error)))?;
        if let Some(manifest) = &manifest {
            let increment = manifest.increments.last();
            // Only the last file may be torn, so from here on the one before must not be.
            self.make_safe()
                .and_then(|()| self.write_manifest(&names, manifest))
                .inspect_err(|_| increment.into_iter().for_each(|part| self.drop_part(&names, part)))?;
        }
        tracing::info!("Creating AOF incr file {name} on background rewrite");
        let always = self.config.journal.appendfsync == super::AppendSync::Always;
        let journal = &mut self.journal;
        if let Some(old) = journal.file.replace(file)
            && journal.asked < journal.written
        {
            // It is closed when that is done.
            journal.syncs.ask(&old, journal.written, always);
            journal.asked = journal.written;
        }
        journal.increment_len = 0;
        if let Some(manifest) = manifest {
            journal.manifest = manifest;
        }
        Ok(())
    }

    /// Makes durable what has been written.
    fn make_safe(&mut self) -> std::result::Result<(), String> {
        let Some(file) = &self.journal.file else { return Ok(()) };
        file.sync().map_err(|error| format!("Fail to fsync the AOF file: {}", error_text(&error)))?;
        self.journal.asked = self.journal.written;
        self.journal.syncs.note_durable(self.journal.written);
        Ok(())
    }

    /// The new base is written, and durable under a name that is not its own yet.
    pub(in crate::persistence) fn end_rewrite(
        &mut self,
        written: std::result::Result<NewFile, String>,
        form: Form,
        began_ms: i64,
    ) {
        let placed = match written {
            Ok(file) => {
                tracing::info!("Background AOF rewrite terminated with success");
                self.place_base(file, form)
            }
            Err(reason) => {
                tracing::warn!("Write error writing append only file on disk: {reason}");
                Err("Background AOF rewrite terminated with error".to_owned())
            }
        };
        let waits = self.journal.state == State::Waiting;
        match placed {
            Ok(history) => {
                self.remove_history(history);
                self.journal.last_is_ok = true;
                self.journal.failures = 0;
                tracing::info!("Background AOF rewrite finished successfully");
                if waits {
                    self.journal.state = State::On;
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

    /// Gives the base its name, and writes the manifest that names it.
    fn place_base(&mut self, mut file: NewFile, form: Form) -> std::result::Result<Manifest, String> {
        let names = self.journal_names();
        let mut manifest = self.journal.manifest.clone();
        let kept = if self.journal.state == State::On { 1 } else { 0 };
        let base = manifest.replace_base(&names, form, kept).clone();
        let disk = self.persistence.disk.clone();
        let temporary = file.temporary_name();
        file.rename().map_err(|error| {
            let reason = error_text(&error);
            format!("Error trying to rename the temporary AOF file {temporary} into {base}: {reason}")
        })?;
        tracing::info!("Successfully renamed the temporary AOF base file {temporary} into {base}");
        let base_path = names.path(&base);
        let mut increment = None;
        if self.journal.state == State::Waiting {
            // What waits for its sync is in the file, whatever it is called.
            self.flush_journal(true);
            let temporary = names.temporary_increment();
            let new = manifest.begin_increment(&names).clone();
            let path = names.path(&new);
            if let Err(error) = disk.rename(&names.dir.join(&temporary), &path) {
                let _ = disk.remove(&base_path);
                let reason = error_text(&error);
                return Err(format!(
                    "Error trying to rename the temporary incr AOF file {temporary} into {new}: {reason}"
                ));
            }
            tracing::info!("Successfully renamed the temporary AOF incr file {temporary} into {new}");
            increment = Some(new);
        }
        if let Err(reason) = self.write_manifest(&names, &manifest) {
            self.drop_part(&names, &base);
            increment.iter().for_each(|part| self.drop_part(&names, part));
            return Err(reason);
        }
        let base_size = disk.len(&base_path).unwrap_or(0);
        let journal = &mut self.journal;
        journal.manifest = manifest.clone();
        if journal.state != State::Off {
            journal.size = base_size + journal.increment_len;
            journal.base_size = journal.size;
        }
        Ok(manifest)
    }

    /// Removes a part that the manifest was to name, unless the one that lies there does: writing it may have failed when
    /// it had taken its place.
    fn drop_part(&self, names: &Names, part: &Part) {
        let disk = &self.persistence.disk;
        let mut text = Vec::new();
        let read =
            disk.open(&names.manifest().path).and_then(|mut opened| opened.data.read_to_end(&mut text));
        let is_named = match (read, Manifest::parse(&text)) {
            (Ok(_), Ok(manifest)) => manifest.parts().any(|named| named.name == part.name),
            (Err(error), _) => error.kind() != std::io::ErrorKind::NotFound,
            (Ok(_), Err(_)) => true,
        };
        if !is_named {
            let _ = disk.remove(&names.path(part));
        }
    }

    /// Removes what has been replaced, and then says that it is gone. If that fails, the next time will do.
    fn remove_history(&mut self, mut manifest: Manifest) {
        let names = self.journal_names();
        let history = manifest.take_history();
        if history.is_empty() {
            return;
        }
        for part in &history {
            tracing::info!("Removing the history file {part} in the background");
            let _ = self.persistence.disk.remove(&names.path(part));
        }
        match self.write_manifest(&names, &manifest) {
            Ok(()) => self.journal.manifest = manifest,
            Err(reason) => tracing::warn!("{reason}"),
        }
    }

    /// Calls off the rewrite that goes on.
    pub(crate) fn cancel_rewrite(&mut self) {
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
