//! The journal is switched on and off: at the start, and by CONFIG SET.

use std::io::Write;

use super::super::disk::{AppendFile, NewFile, Target};
use super::manifest::{Form, Manifest, Names};
use super::placing;
use super::state::State;
use crate::config::file::Fatal;
use crate::engine::Engine;
use crate::server::error_text;

impl Engine {
    /// What the journal's files are called.
    pub(super) fn journal_names(&self) -> Names {
        let settings = &self.config.journal;
        Names::new(&self.config.server.dir, &settings.appenddirname.0, &settings.appendfilename.0)
    }

    /// What a new base is to hold.
    pub(super) fn base_form(&self) -> Form {
        let state = &self.persistence;
        // What nobody here understands cannot be said in commands.
        let is_sayable = state.frozen.is_empty() && state.kept.is_empty();
        match self.config.journal.aof_use_rdb_preamble || !is_sayable {
            true => Form::Snapshot,
            false => Form::Commands,
        }
    }

    /// Writes the manifest, which takes the old one's place as a whole.
    pub(super) fn write_manifest(&self, names: &Names, manifest: &Manifest) -> Result<(), String> {
        let state = &self.persistence;
        placing::write_manifest(manifest, names, &state.disk, &state.pending)
    }

    /// Goes on with a journal that has been played, or begins one. It has `size` bytes, of which so many are its base's.
    pub(super) fn open_journal(
        &mut self,
        mut manifest: Manifest,
        (size, base_size): (u64, u64),
    ) -> Result<(), Fatal> {
        self.refresh_clock();
        let names = self.journal_names();
        let kept = placing::make_dir(&names, &*self.persistence.disk)
            .and_then(|()| placing::keep_dir(&names, &*self.persistence.disk));
        kept.map_err(Fatal::new)?;
        if manifest.is_empty() {
            let form = self.base_form();
            let base = manifest.replace_base(&names, form, 0).clone();
            self.write_base_now(&names.path(&base), form).map_err(Fatal::new)?;
            tracing::info!("Creating AOF base file {base} on server start");
        }
        let begins = manifest.increments.is_empty();
        if begins {
            manifest.begin_increment(&names);
        }
        let Some(increment) = manifest.increments.last().cloned() else { return Ok(()) };
        let path = names.path(&increment);
        let disk = self.persistence.disk.clone();
        let opened = disk.append(&path).and_then(|file| Ok((file, disk.len(&path)?)));
        let (file, len) = opened.map_err(|error| {
            Fatal::new(format!("Can't open the append-only file {increment}: {}", error_text(&error)))
        })?;
        self.write_manifest(&names, &manifest).map_err(Fatal::new)?;
        let verb = if begins { "Creating" } else { "Opening" };
        tracing::info!("{verb} AOF incr file {increment} on server start");
        let measured_s = self.measured_s();
        let journal = &mut self.journal;
        (journal.state, journal.manifest) = (State::On, manifest);
        (journal.size, journal.base_size) = (size, base_size);
        journal.increment_len = len;
        journal.file = Some(file);
        journal.db = None;
        journal.last_sync_s = measured_s;
        self.follow_journal();
        self.remove_history();
        Ok(())
    }

    /// A base that is written at once, as everything is there already: when the server starts with nothing.
    fn write_base_now(&self, path: &std::path::Path, form: Form) -> Result<(), String> {
        let state = &self.persistence;
        let temporary = std::path::Path::new(&self.config.server.dir)
            .join(format!("temp-rewriteaof-{}.aof", self.process.pid));
        let target = Target { path: path.to_owned(), temporary };
        let file = NewFile::create(state.disk.clone(), target, &state.pending);
        let mut file =
            file.map_err(|error| format!("Opening the temp file for AOF rewrite: {}", error_text(&error)))?;
        if form == Form::Snapshot {
            let saved = self.save_base(&mut file);
            saved.map_err(|broken| format!("Write error writing append only file on disk: {broken}"))?;
        }
        file.flush().map_err(|error| ("fflush", error)).and_then(|()| file.place()).map_err(
            |(step, error)| {
                let reason = error_text(&error);
                format!("Write error writing append only file on disk: {step}: {reason}")
            },
        )
    }

    /// CONFIG SET appendonly: whether there is a journal follows what the setting says.
    pub(crate) fn switch_journal(&mut self) -> Result<(), String> {
        if self.loading {
            return Ok(());
        }
        match (self.config.journal.appendonly, self.journal.state) {
            (true, State::Off) => {
                if self.begin_waiting() {
                    Ok(())
                } else {
                    Err("Unable to turn on AOF. Check server logs.".to_owned())
                }
            }
            (false, State::Waiting | State::On) => {
                self.close_journal();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// There will be a journal as soon as its first base is written.
    fn begin_waiting(&mut self) -> bool {
        self.journal.state = State::Waiting;
        if self.persistence.is_saving() {
            self.journal.is_scheduled = true;
            tracing::warn!(
                "AOF was enabled but there is already another background operation. An AOF background was scheduled to \
                 start when possible."
            );
        } else if self.journal.is_in_unit {
            self.journal.is_scheduled = true;
            tracing::warn!(
                "AOF was enabled during a transaction. An AOF background was scheduled to start when possible."
            );
        } else {
            if self.persistence.is_rewriting() {
                tracing::warn!(
                    "AOF was enabled but there is already an AOF rewriting in background. Stopping background AOF and \
                     starting a rewrite now."
                );
                self.cancel_rewrite();
            }
            if !self.begin_rewrite() {
                self.journal.state = State::Off;
                self.follow_journal();
                tracing::warn!(
                    "The server needs to enable the AOF but can't trigger a background AOF rewrite operation. Check the \
                     above logs for more info about the error."
                );
                return false;
            }
        }
        let measured_s = self.measured_s();
        let journal = &mut self.journal;
        journal.last_sync_s = measured_s;
        if journal.syncs.has_failed() {
            tracing::warn!("AOF reopen, just ignore the AOF fsync error in bio job");
            journal.syncs.forget_failure();
        }
        if journal.write_error.take().is_some() {
            tracing::warn!("AOF reopen, just ignore the last error.");
        }
        self.follow_journal();
        true
    }

    /// All data is going to be replaced by a primary's. What the journal holds stays on the disk, as what is there if the
    /// server ends before it is begun anew.
    pub(crate) fn suspend_journal(&mut self) {
        if self.journal.state != State::Off {
            self.close_journal();
        }
    }

    /// The data has been replaced, or is not going to be any more: the journal begins anew with it, if there is to be one.
    pub(crate) fn begin_journal_anew(&mut self) {
        if !self.config.journal.appendonly || self.journal.state != State::Off || self.begin_waiting() {
            return;
        }
        // Nobody is there who could be told that it failed: the ticks try it again.
        self.journal.state = State::Waiting;
        self.journal.is_scheduled = true;
        self.follow_journal();
    }

    /// There is no journal from now on; what it holds by now is durable.
    fn close_journal(&mut self) {
        self.settle_journal();
        if self.persistence.is_rewriting() {
            self.cancel_rewrite();
        }
        let journal = &mut self.journal;
        journal.state = State::Off;
        journal.file = None;
        journal.db = None;
        journal.is_scheduled = false;
        journal.increment_len = 0;
        journal.forget_unwritten();
        self.follow_journal();
    }

    /// Takes over what the journal's state says, wherever it is kept in another form.
    pub(super) fn follow_journal(&mut self) {
        let is_rewriting = self.persistence.is_rewriting();
        let journal = &mut self.journal;
        journal.feeds = match journal.state {
            State::Off => false,
            State::Waiting => is_rewriting,
            State::On => true,
        };
        self.follow_readers();
        self.follow_hindrances();
    }

    /// DEBUG LOADAOF: all data is made anew of what the journal holds. It goes on to be written where it was.
    pub(crate) fn reload_from_journal(&mut self) -> Result<(), mortise_sdk::Error> {
        if self.journal.state == State::On {
            self.flush_journal(true);
        }
        self.reload_journal()?;
        tracing::info!("Append Only File loaded by DEBUG LOADAOF");
        Ok(())
    }

    /// Opens a file that begins empty.
    pub(super) fn begin_file(
        &self,
        path: &std::path::Path,
    ) -> std::io::Result<std::sync::Arc<dyn AppendFile>> {
        let file = self.persistence.disk.append(path)?;
        file.truncate(0)?;
        Ok(file)
    }
}
