//! The disk, as snapshots and the journal need it: a handful of operations that may fail, so that a test can put another
//! one in its place.
//!
//! A file is only ever replaced as a whole: the new one is written beside it, made durable, and renamed over it; then the
//! directory is made durable as well. Whatever goes wrong, and whenever, there is the old file or the new one. The
//! journal's increments alone grow where they stand.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// The operations.
pub trait Disk: Send + Sync {
    /// Makes an empty file to be written, also where there is one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file to be read.
    fn open(&self, path: &Path) -> io::Result<Opened>;
    /// Gives a file another name, in the place of the file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes durable what names there are in a directory.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file that is written at its end, or makes one.
    fn append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>>;
    /// The length of a file.
    fn len(&self, path: &Path) -> io::Result<u64>;
    /// Cuts a file off at this length.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Makes a directory, unless it is there.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names of what stands in a directory, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
}

/// A file that is written at its end. What has been written may be made durable while more is being written, by another
/// thread.
pub trait AppendFile: Send + Sync {
    /// Writes at the end, perhaps not all of it; says how much.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Makes durable what has been appended before.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file off at this length; what is appended next stands there.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// A file that is written from its beginning to its end.
pub trait DiskFile: Write + Send {
    /// Makes durable what has been written.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file that is read.
pub struct Opened {
    /// Its length in bytes.
    pub len: u64,
    /// What it holds.
    pub data: Box<dyn Read + Send>,
}

/// Files that are being written under a name that is not yet theirs. Whoever ends the process in a hurry removes them.
#[derive(Clone, Default)]
pub struct Pending(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Pending {
    /// Removes all of them.
    pub fn remove_all(&self, disk: &dyn Disk) {
        for path in std::mem::take(&mut *self.0.lock()) {
            // It may not even have come into being.
            let _ = disk.remove(&path);
        }
    }
}

/// What a file is to be called, and where it stands until it is whole.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is to stand.
    pub path: PathBuf,
    /// Where it stands until then, in the same directory.
    pub temporary: PathBuf,
}

/// What failed of writing a file, by the system's name for it.
pub type Failed = (&'static str, io::Error);

/// A new file, which takes its place when it is whole. It is removed if it is dropped before.
pub struct NewFile {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    target: Target,
    pending: Pending,
    is_placed: bool,
    /// How many bytes are made durable at once while it is written, and how many are not yet.
    sync_len: Option<u64>,
    unsynced: u64,
}

impl NewFile {
    /// Begins a file.
    pub fn create(disk: Arc<dyn Disk>, target: Target, pending: &Pending) -> io::Result<NewFile> {
        let pending = pending.clone();
        pending.0.lock().insert(target.temporary.clone());
        match disk.create(&target.temporary) {
            Ok(file) => {
                Ok(NewFile { disk, file, target, pending, is_placed: false, sync_len: None, unsynced: 0 })
            }
            Err(error) => {
                pending.0.lock().remove(&target.temporary);
                Err(error)
            }
        }
    }

    /// From now on what is written is made durable bit by bit, so that the last step does not take long.
    pub fn sync_each(&mut self, len: u64) {
        self.sync_len = Some(len);
    }

    /// What it is called until it has its place.
    pub fn temporary_name(&self) -> String {
        self.target.temporary.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Opens what was written, to be read from its beginning, whatever becomes of its name.
    pub fn open(&self) -> io::Result<Opened> {
        self.disk.open(&self.target.temporary)
    }

    /// Makes durable what was written: the last step that takes long.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    /// Puts the file in its place.
    pub fn rename(&mut self) -> io::Result<()> {
        self.disk.rename(&self.target.temporary, &self.target.path)?;
        self.is_placed = true;
        Ok(())
    }

    /// Makes durable that it has its place.
    pub fn sync_dir(&self) -> io::Result<()> {
        let dir = self.target.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        self.disk.sync_dir(dir.unwrap_or(Path::new(".")))
    }

    /// All three steps.
    pub fn place(mut self) -> Result<(), Failed> {
        self.sync().map_err(|error| ("fsync", error))?;
        self.rename().map_err(|error| ("rename", error))?;
        self.sync_dir().map_err(|error| ("fsyncFileDir", error))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written as u64;
        if self.sync_len.is_some_and(|len| self.unsynced >= len) {
            self.unsynced = 0;
            self.file.sync()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_placed {
            // If it cannot be removed, it lies there under a name that nobody reads.
            let _ = self.disk.remove(&self.target.temporary);
        }
        self.pending.0.lock().remove(&self.target.temporary);
    }
}

/// A disk in memory, for engines that run without a process around them.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<PathBuf, Contents>>>,
}

type Contents = Arc<Mutex<Vec<u8>>>;

impl MemoryDisk {
    /// What a file holds.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let contents = self.files.lock().get(path.as_ref())?.clone();
        let bytes = contents.lock().clone();
        Some(bytes)
    }

    /// Puts a file there.
    pub fn put(&self, path: impl Into<PathBuf>, bytes: Vec<u8>) {
        self.files.lock().insert(path.into(), Arc::new(Mutex::new(bytes)));
    }

    /// Which files there are.
    pub fn names(&self) -> Vec<PathBuf> {
        self.files.lock().keys().cloned().collect()
    }
}

fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "No such file or directory")
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let contents = Contents::default();
        self.files.lock().insert(path.to_owned(), contents.clone());
        Ok(Box::new(MemoryFile(contents)))
    }

    fn open(&self, path: &Path) -> io::Result<Opened> {
        let bytes = self.read(path).ok_or_else(missing)?;
        Ok(Opened { len: bytes.len() as u64, data: Box::new(io::Cursor::new(bytes)) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock();
        let contents = files.remove(from).ok_or_else(missing)?;
        files.insert(to.to_owned(), contents);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.lock().remove(path).map(drop).ok_or_else(missing)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        let contents = self.files.lock().entry(path.to_owned()).or_default().clone();
        Ok(Arc::new(MemoryFile(contents)))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.read(path).map(|bytes| bytes.len() as u64).ok_or_else(missing)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let contents = self.files.lock().get(path).cloned().ok_or_else(missing)?;
        MemoryFile(contents).truncate(len)
    }

    fn make_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let is_there = |path: &&PathBuf| path.parent() == Some(dir);
        let names = self.names();
        Ok(names.iter().filter(is_there).filter_map(|path| path.file_name()).map(OsString::from).collect())
    }
}

struct MemoryFile(Contents);

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AppendFile for MemoryFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.lock().resize(usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target { path: "dump.rdb".into(), temporary: "temp-1.rdb".into() }
    }

    #[test]
    fn a_file_grows_at_its_end() {
        let disk = MemoryDisk::default();
        let (dir, path) = (Path::new("journal"), Path::new("journal/increment"));
        disk.make_dir(dir).unwrap();
        assert!(disk.len(path).is_err() && disk.truncate(path, 0).is_err());
        disk.append(path).unwrap().append(b"one").unwrap();
        let file = disk.append(path).unwrap();
        file.append(b"two").unwrap();
        file.truncate(4).unwrap();
        file.append(b".").unwrap();
        assert_eq!((disk.read(path), disk.len(path).unwrap()), (Some(b"onet.".to_vec()), 5));
        disk.truncate(path, 2).unwrap();
        assert_eq!(disk.read(path), Some(b"on".to_vec()));
        assert_eq!(disk.list(dir).unwrap(), ["increment"]);
    }

    #[test]
    fn a_file_takes_its_place_when_it_is_whole() {
        let (disk, pending) = (MemoryDisk::default(), Pending::default());
        disk.put("dump.rdb", b"old".to_vec());
        let begin = || NewFile::create(Arc::new(disk.clone()), target(), &pending).unwrap();
        let mut file = begin();
        file.write_all(b"half").unwrap();
        assert_eq!(disk.names().len(), 2);
        drop(file);
        assert_eq!((disk.read("dump.rdb"), disk.names().len()), (Some(b"old".to_vec()), 1));

        let mut file = begin();
        file.write_all(b"new").unwrap();
        file.place().unwrap();
        assert_eq!((disk.read("dump.rdb"), disk.names().len()), (Some(b"new".to_vec()), 1));

        let _file = begin();
        pending.remove_all(&disk);
        assert_eq!(disk.names().len(), 1, "whoever is in a hurry leaves nothing");
    }
}
