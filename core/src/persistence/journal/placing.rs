//! The journal's directory, and the manifest's place in it.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::super::disk::{Disk, NewFile, Pending};
use super::manifest::{Manifest, Names};
use crate::server::error_text;

/// Makes the directory, unless it is there.
pub(super) fn make_dir(names: &Names, disk: &dyn Disk) -> Result<(), String> {
    disk.make_dir(&names.dir).map_err(|error| no_dir(names, &error))
}

/// Makes durable that it is there.
pub(super) fn keep_dir(names: &Names, disk: &dyn Disk) -> Result<(), String> {
    disk.sync_dir(&names.above).map_err(|error| no_dir(names, &error))
}

fn no_dir(names: &Names, error: &io::Error) -> String {
    format!("Can't open or create append-only dir {}: {}", name(&names.dir), error_text(error))
}

/// Writes the manifest, which takes the old one's place as a whole.
pub(super) fn write_manifest(
    manifest: &Manifest,
    names: &Names,
    disk: &Arc<dyn Disk>,
    pending: &Pending,
) -> Result<(), String> {
    let target = names.manifest();
    let (temporary, placed) = (name(&target.temporary), name(&target.path));
    let unwritten = |error: io::Error| {
        format!("Error trying to write the temporary AOF manifest file {temporary}: {}", error_text(&error))
    };
    let mut file = NewFile::create(disk.clone(), target, pending).map_err(unwritten)?;
    file.write_all(&manifest.to_text()).and_then(|()| file.flush()).map_err(unwritten)?;
    // The files that it names have their names before it says so.
    let named = disk.sync_dir(&names.dir).map_err(|error| ("fsyncFileDir", error));
    named.and_then(|()| file.place()).map_err(|(step, error)| match step {
        "rename" => format!(
            "Error trying to rename the temporary AOF manifest file {temporary} into {placed}: {}",
            error_text(&error)
        ),
        "fsync" => format!("Fail to fsync the temp AOF file {temporary}: {}.", error_text(&error)),
        _ => format!("Fail to fsync AOF directory {}: {}.", names.dir.display(), error_text(&error)),
    })
}

/// A file's name without its directories.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
