//! A disk in memory that can fail, and that remembers what was asked of it, so that the power may be cut afterwards at any
//! of its operations.
//!
//! What is written to a file is safe when the file has been synced, that a name is given, changed or taken when its
//! directory has been. Until then the power may take any of it ([`Wreck`](super::wreck::Wreck)). While it is on everybody
//! sees everything.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mortise_core::engine::random::Random;
use mortise_core::persistence::disk::{AppendFile, Disk, DiskFile, Opened};

/// A file's number: names come and go.
pub(super) type FileId = usize;

/// Names of the directory that is always there.
pub(super) const HERE: [&str; 2] = ["", "."];

/// Files by name, as a start finds them.
pub(super) type Image = BTreeMap<PathBuf, Vec<u8>>;

/// What was done to the disk.
#[derive(Clone)]
pub(super) enum Step {
    Create(PathBuf, FileId),
    Write(FileId, Vec<u8>),
    Sync(FileId),
    Truncate(FileId, usize),
    MakeDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir(PathBuf),
    /// It was asked for, and failed.
    Failed(String),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Create(path, id) => write!(f, "create {} as {id}", path.display()),
            Step::Write(id, bytes) => {
                let shown = bytes[..bytes.len().min(60)].escape_ascii();
                write!(f, "write {} to {id}: {shown}", bytes.len())
            }
            Step::Sync(id) => write!(f, "sync {id}"),
            Step::Truncate(id, len) => write!(f, "truncate {id} to {len}"),
            Step::MakeDir(dir) => write!(f, "make_dir {}", dir.display()),
            Step::Rename(from, to) => write!(f, "rename {} to {}", from.display(), to.display()),
            Step::Remove(path) => write!(f, "remove {}", path.display()),
            Step::SyncDir(dir) => write!(f, "sync_dir {}", dir.display()),
            Step::Failed(what) => write!(f, "failed: {what}"),
        }
    }
}

/// What is going to go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The operation fails with EIO.
    Io,
    /// It fails with ENOSPC, a write after some of its bytes.
    Full,
}

impl Fault {
    fn error(self) -> io::Error {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        io::Error::from_raw_os_error(if self == Fault::Io { EIO } else { ENOSPC })
    }
}

/// What a disk says that it has done, and has not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// What was written to a file is safe.
    Sync,
    /// The names in a directory are safe.
    SyncDir,
    /// A write has found room.
    Write,
}

/// The disk. Clones are one disk.
#[derive(Clone)]
pub(super) struct SimDisk(Arc<Mutex<State>>);

struct State {
    files: Vec<Vec<u8>>,
    names: BTreeMap<PathBuf, FileId>,
    dirs: BTreeSet<PathBuf>,
    steps: Vec<Step>,
    random: Random,
    /// Operations until the next fault, and which.
    fault: Option<(usize, Fault)>,
    /// Writes fail as the disk is full.
    is_full: bool,
    /// Reading a file fails after so many bytes.
    read_limit: Option<usize>,
    lie: Option<Lie>,
}

impl SimDisk {
    /// A disk that holds this.
    pub(super) fn new(image: Image, seed: u64) -> SimDisk {
        let (mut files, mut names, mut dirs) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        for (path, bytes) in image {
            dirs.extend(path.parent().map(Path::to_owned));
            names.insert(path, files.len());
            files.push(bytes);
        }
        let random = Random::new(seed);
        let steps = Vec::new();
        SimDisk(Arc::new(Mutex::new(State {
            files,
            names,
            dirs,
            steps,
            random,
            fault: None,
            is_full: false,
            read_limit: None,
            lie: None,
        })))
    }

    /// From now on it says what is not so.
    pub(super) fn lie(&self, lie: Option<Lie>) {
        self.lock().lie = lie;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many operations there have been.
    pub(super) fn now(&self) -> usize {
        self.lock().steps.len()
    }

    /// All that was done.
    pub(super) fn steps(&self) -> Vec<Step> {
        self.lock().steps.clone()
    }

    /// What it holds for those who can still see it.
    pub(super) fn image(&self) -> Image {
        let state = self.lock();
        state.names.iter().map(|(path, &id)| (path.clone(), state.files[id].clone())).collect()
    }

    /// Lets an operation fail: the `after`th from now, the next being 0.
    pub(super) fn break_at(&self, after: usize, fault: Fault) {
        self.lock().fault = Some((after, fault));
    }

    /// Fills the disk, or makes room.
    pub(super) fn fill(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    /// Lets reading a file fail after so many bytes.
    pub(super) fn break_reading_after(&self, bytes: usize) {
        self.lock().read_limit = Some(bytes);
    }

    /// No fault is to come any more.
    pub(super) fn mend(&self) {
        let mut state = self.lock();
        (state.fault, state.is_full) = (None, false);
    }

    /// Whether something is going to fail.
    pub(super) fn is_broken(&self) -> bool {
        let state = self.lock();
        state.fault.is_some() || state.is_full
    }

    /// Whether somebody has begun, or could not begin, this file since there were so many operations.
    pub(super) fn was_begun(&self, path: &str, since: usize) -> bool {
        let failed = format!("create {path}:");
        self.lock().steps[since..].iter().any(|step| match step {
            Step::Create(created, _) => created == Path::new(path),
            Step::Failed(what) => what.starts_with(&failed),
            _ => false,
        })
    }

    /// Whether an operation of this name has failed since there were so many operations; any, if it is empty.
    pub(super) fn has_failed(&self, name: &str, since: usize) -> bool {
        let failed = |step: &Step| matches!(step, Step::Failed(what) if what.starts_with(name));
        self.lock().steps[since..].iter().any(failed)
    }
}

impl State {
    /// Whether an operation fails.
    fn fault(&mut self, needs_room: bool) -> Option<Fault> {
        let due = self.fault.take_if(|(left, _)| *left == 0).map(|(_, fault)| fault);
        if let Some((left, _)) = &mut self.fault {
            *left -= 1;
        }
        due.or((needs_room && self.is_full).then_some(Fault::Full))
    }

    /// Fails, or goes on with an operation.
    fn begin(&mut self, needs_room: bool, what: impl Fn() -> String) -> io::Result<()> {
        match self.fault(needs_room) {
            None => Ok(()),
            Some(fault) => {
                self.steps.push(Step::Failed(format!("{}: {fault:?}", what())));
                Err(fault.error())
            }
        }
    }

    fn add(&mut self, path: &Path) -> io::Result<FileId> {
        let dir = path.parent().unwrap_or(Path::new(""));
        if !HERE.iter().any(|here| dir == Path::new(here)) && !self.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let id = self.files.len();
        self.files.push(Vec::new());
        self.names.insert(path.to_owned(), id);
        self.steps.push(Step::Create(path.to_owned(), id));
        Ok(id)
    }

    fn cut(&mut self, id: FileId, len: usize) {
        self.files[id].resize(len, 0);
        self.steps.push(Step::Truncate(id, len));
    }

    fn named(&self, path: &Path) -> io::Result<FileId> {
        self.names.get(path).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        state.begin(true, || format!("create {}", path.display()))?;
        // What has another name besides, or is still being read, stays as it is: a new file, not an emptied one.
        let id = state.add(path)?;
        Ok(Box::new(SimFile { disk: self.clone(), id }))
    }

    fn open(&self, path: &Path) -> io::Result<Opened> {
        let mut state = self.lock();
        state.begin(false, || format!("open {}", path.display()))?;
        let bytes = state.files[state.named(path)?].clone();
        let len = bytes.len() as u64;
        let data: Box<dyn Read + Send> = match state.read_limit {
            None => Box::new(io::Cursor::new(bytes)),
            Some(limit) => Box::new(io::Cursor::new(bytes).take(limit as u64).chain(Unreadable)),
        };
        Ok(Opened { len, data })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(false, || format!("rename {} {}", from.display(), to.display()))?;
        let id = state.named(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), id);
        state.steps.push(Step::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(false, || format!("remove {}", path.display()))?;
        state.named(path)?;
        state.names.remove(path);
        state.steps.push(Step::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(false, || format!("sync_dir {}", dir.display()))?;
        if state.lie != Some(Lie::SyncDir) {
            state.steps.push(Step::SyncDir(dir.to_owned()));
        }
        Ok(())
    }

    fn append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        let mut state = self.lock();
        let is_new = !state.names.contains_key(path);
        state.begin(is_new, || format!("append {}", path.display()))?;
        let id = match state.names.get(path) {
            Some(&id) => id,
            None => state.add(path)?,
        };
        Ok(Arc::new(SimFile { disk: self.clone(), id }))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let mut state = self.lock();
        state.begin(false, || format!("len {}", path.display()))?;
        let id = state.named(path)?;
        Ok(state.files[id].len() as u64)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(false, || format!("truncate {}", path.display()))?;
        let id = state.named(path)?;
        state.cut(id, len as usize);
        Ok(())
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(true, || format!("make_dir {}", dir.display()))?;
        if state.dirs.insert(dir.to_owned()) {
            state.steps.push(Step::MakeDir(dir.to_owned()));
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let mut state = self.lock();
        state.begin(false, || format!("list {}", dir.display()))?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let here = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| path.file_name()).map(OsString::from).collect())
    }
}

impl SimFile {
    /// Now and then takes less than it is given, as a real one may.
    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.lock();
        let fault = state.fault(true);
        let all = bytes.len();
        let len = match fault {
            Some(Fault::Full) if all > 0 => state.random.below(all),
            Some(_) => 0,
            None if all > 1 && state.random.below(2) == 0 => 1 + state.random.below(all),
            None => all,
        };
        if fault.is_some() && state.lie == Some(Lie::Write) {
            return Ok(all);
        }
        if let (Some(fault), 0) = (fault, len) {
            let id = self.id;
            state.steps.push(Step::Failed(format!("write to {id}: {fault:?}")));
            return Err(fault.error());
        }
        if fault.is_some() {
            // The rest finds no room.
            state.fault = Some((0, Fault::Full));
        }
        let taken = bytes[..len.min(all)].to_vec();
        state.files[self.id].extend_from_slice(&taken);
        state.steps.push(Step::Write(self.id, taken));
        Ok(len.min(all))
    }

    fn make_safe(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        let id = self.id;
        state.begin(false, || format!("sync {id}"))?;
        if state.lie != Some(Lie::Sync) {
            state.steps.push(Step::Sync(id));
        }
        Ok(())
    }
}

impl AppendFile for SimFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.make_safe()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.begin(false, || format!("truncate {}", self.id))?;
        state.cut(self.id, len as usize);
        Ok(())
    }
}

/// Where a file cannot be read.
struct Unreadable;

impl Read for Unreadable {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(Fault::Io.error())
    }
}

struct SimFile {
    disk: SimDisk,
    id: FileId,
}

impl Write for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn sync(&mut self) -> io::Result<()> {
        self.make_safe()
    }
}
