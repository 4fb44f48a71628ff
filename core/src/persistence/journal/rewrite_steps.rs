//! What a rewrite has to wait for the disk for, at its begin and at its end. Both are done by its thread, with the engine
//! free.
//!
//! **At the begin** the increment that ends is made durable, and the manifest that names the next one. Until then nothing is
//! written to either: what is done meanwhile stays in the buffer, as it does while any sync takes its time, and no longer.
//! If the step fails it goes to the file that has been written before.
//!
//! **At the end** the base gets its name, the manifest names it, and what it takes the place of is removed. The increment is
//! written on meanwhile.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::disk::{AppendFile, Disk, NewFile};
use super::AppendSync;
use super::manifest::{Form, Manifest, Names, Part};
use super::placing;
use super::state::State;
use super::step::Step;
use crate::engine::Engine;
use crate::server::error_text;

/// An increment that is to be written as soon as the manifest names it.
pub(super) struct Beginning {
    file: Arc<dyn AppendFile>,
    manifest: Manifest,
    name: String,
    /// What the increments before hold, which is durable then.
    upto: u64,
    step: Arc<Step<Result<(), String>>>,
}

/// A base that has its place.
pub(in crate::persistence) struct Placed {
    pub(super) manifest: Manifest,
    pub(super) base_size: u64,
}

/// The step that gives it that.
pub(in crate::persistence) type Placing = Step<Result<Placed, String>>;

/// What a rewrite's thread does first, if there is a journal.
pub(in crate::persistence) type Begin = Step<Result<(), String>>;

impl Engine {
    /// From now on another file is to be written.
    pub(super) fn begin_increment(&mut self, names: &Names) -> Result<(), String> {
        // What comes next stands in a file of its own, or will, which begins in no database.
        self.journal.db = None;
        self.journal.stamped_s = 0;
        let mut manifest = self.journal.manifest.clone();
        let (name, part) = match self.journal.state {
            State::Off => return Ok(()),
            State::Waiting => (names.temporary_increment(), None),
            State::On => {
                let part = manifest.begin_increment(names).clone();
                (part.to_string(), Some(part))
            }
        };
        let path = part.as_ref().map_or_else(|| names.dir.join(&name), |part| names.path(part));
        let file = self
            .begin_file(&path)
            .map_err(|error| format!("Can't open the append-only file {name}: {}", error_text(&error)))?;
        tracing::info!("Creating AOF incr file {name} on background rewrite");
        let Some(part) = part else {
            self.journal.file = Some(file);
            self.journal.increment_len = 0;
            return Ok(());
        };
        let ground = self.ground(names);
        let (old, new) = (self.journal.file.clone(), manifest.clone());
        let step = Step::new(move || {
            // Only the last file may be torn, so from here on the one before must not be.
            let safe = old.map_or(Ok(()), |old| old.sync());
            safe.map_err(|error| format!("Fail to fsync the AOF file: {}", error_text(&error)))
                .and_then(|()| ground.write_manifest(&new))
                .inspect_err(|_| ground.drop_part(&part))
        });
        let upto = self.journal.written;
        self.journal.beginning = Some(Beginning { file, manifest, name, upto, step });
        Ok(())
    }

    /// Goes on in the new increment if it may be written by now, in any case if that is `forced`. False: what there is to
    /// write has to wait.
    pub(super) fn follow_beginning(&mut self, forced: bool, now_s: i64) -> bool {
        let is_due = self.journal.is_due();
        let always = self.config.journal.appendfsync == AppendSync::Always;
        let journal = &mut self.journal;
        let Some(beginning) = &journal.beginning else { return true };
        if !forced && !beginning.step.is_done() {
            if always {
                // Who waits for it to be durable can wait for this, too.
                journal.syncs.promise(journal.written + journal.buffer.len() as u64);
                return false;
            }
            if !is_due || !self.is_impatient(now_s) {
                return false;
            }
        }
        self.end_beginning();
        true
    }

    /// Goes on in the new increment, or in the old one if that has failed; the rewrite is called off then.
    pub(in crate::persistence) fn end_beginning(&mut self) {
        let Some(Beginning { file, manifest, name, upto, step }) = self.journal.beginning.take() else {
            return;
        };
        let begun = step.take().unwrap_or_else(|| Err(format!("A panic while {name} was begun")));
        let journal = &mut self.journal;
        journal.postponed_since_s = None;
        match begun {
            Ok(()) => {
                journal.file = Some(file);
                journal.manifest = manifest;
                journal.increment_len = 0;
                journal.asked = journal.asked.max(upto);
                journal.syncs.note_durable(upto);
            }
            Err(reason) => {
                tracing::warn!("{reason}");
                journal.last_is_ok = false;
                journal.failures += 1;
                if self.persistence.is_rewriting() {
                    self.cancel_drawing();
                    self.follow_journal();
                }
            }
        }
    }

    /// What the rewrite that has just begun has to do first.
    pub(in crate::persistence) fn begin_step(&self) -> Option<Arc<Begin>> {
        self.journal.beginning.as_ref().map(|beginning| beginning.step.clone())
    }

    /// The new base is written, and durable under a name that is not its own yet: says how it gets that.
    pub(in crate::persistence) fn begin_placing(&mut self, mut file: NewFile, form: Form) -> Arc<Placing> {
        tracing::info!("Background AOF rewrite terminated with success");
        let names = self.journal_names();
        // What waits for its sync is in the file, whatever it is called.
        self.flush_journal(true);
        let state = self.journal.state;
        let mut manifest = self.journal.manifest.clone();
        let base = manifest.replace_base(&names, form, usize::from(state == State::On)).clone();
        let increment = (state == State::Waiting).then(|| manifest.begin_increment(&names).clone());
        let ground = self.ground(&names);
        let keeps_history = self.config.journal.aof_disable_auto_gc;
        Step::new(move || {
            let temporary = file.temporary_name();
            file.rename().map_err(|error| {
                let reason = error_text(&error);
                format!("Error trying to rename the temporary AOF file {temporary} into {base}: {reason}")
            })?;
            tracing::info!("Successfully renamed the temporary AOF base file {temporary} into {base}");
            if let Some(new) = &increment
                && let Err(reason) = ground.name_increment(new)
            {
                let _ = ground.disk.remove(&ground.names.path(&base));
                return Err(reason);
            }
            let kept = match state {
                State::On => Ok(()),
                _ => placing::keep_dir(&ground.names, &*ground.disk),
            };
            if let Err(reason) = kept.and_then(|()| ground.write_manifest(&manifest)) {
                ground.drop_part(&base);
                increment.iter().for_each(|part| ground.drop_part(part));
                return Err(reason);
            }
            let base_size = ground.disk.len(&ground.names.path(&base)).unwrap_or(0);
            if !keeps_history {
                ground.remove_history(&mut manifest);
            }
            Ok(Placed { manifest, base_size })
        })
    }

    /// Removes what has been replaced, which may have been left when the server was stopped, or wanted.
    pub(crate) fn remove_history(&mut self) {
        if !self.config.journal.aof_disable_auto_gc {
            let ground = self.ground(&self.journal_names());
            ground.remove_history(&mut self.journal.manifest);
        }
    }

    fn ground(&self, names: &Names) -> Ground {
        let state = &self.persistence;
        Ground { disk: state.disk.clone(), pending: state.pending.clone(), names: names.clone() }
    }
}

/// Where a journal's files stand, for a thread that has no engine.
struct Ground {
    disk: Arc<dyn Disk>,
    pending: super::super::disk::Pending,
    names: Names,
}

impl Ground {
    fn write_manifest(&self, manifest: &Manifest) -> Result<(), String> {
        placing::write_manifest(manifest, &self.names, &self.disk, &self.pending)
    }

    /// The increment that was written while there was no base gets its name.
    fn name_increment(&self, part: &Part) -> Result<(), String> {
        let temporary = self.names.temporary_increment();
        let from: PathBuf = self.names.dir.join(&temporary);
        self.disk.rename(&from, &self.names.path(part)).map_err(|error| {
            let reason = error_text(&error);
            format!("Error trying to rename the temporary incr AOF file {temporary} into {part}: {reason}")
        })?;
        tracing::info!("Successfully renamed the temporary AOF incr file {temporary} into {part}");
        Ok(())
    }

    /// Removes a part that the manifest was to name, unless the one that lies there does: writing it may have failed when
    /// it had taken its place.
    fn drop_part(&self, part: &Part) {
        let mut text = Vec::new();
        let read = self
            .disk
            .open(&self.names.manifest().path)
            .and_then(|mut opened| opened.data.read_to_end(&mut text));
        let is_named = match (read, Manifest::parse(&text)) {
            (Ok(_), Ok(manifest)) => manifest.parts().any(|named| named.name == part.name),
            (Err(error), _) => error.kind() != std::io::ErrorKind::NotFound,
            (Ok(_), Err(_)) => true,
        };
        if !is_named {
            let _ = self.disk.remove(&self.names.path(part));
        }
    }

    /// Removes what has been replaced, and then says that it is gone. If that fails, the next time will do.
    fn remove_history(&self, manifest: &mut Manifest) {
        let mut without = manifest.clone();
        let history = without.take_history();
        if history.is_empty() {
            return;
        }
        for part in &history {
            tracing::info!("Removing the history file {part} in the background");
            let _ = self.disk.remove(&self.names.path(part));
        }
        match self.write_manifest(&without) {
            Ok(()) => *manifest = without,
            Err(reason) => tracing::warn!("{reason}"),
        }
    }
}
