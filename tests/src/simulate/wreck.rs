//! What the power leaves of a disk when it goes.
//!
//! Each file keeps what was synced, and of what was written since then a prefix, perhaps one that ends within a write.
//! Names that were given or taken since their directory was synced may have come through or not: mostly up to some moment,
//! as a file system with a journal does it, sometimes any of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mortise_core::engine::random::Random;

use super::disk::{FileId, HERE, Image, Step};

/// How much of what is not safe comes through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Luck {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// What chance leaves.
    Chance(u64),
}

/// Follows what was done to a disk, and shows what it would hold if the power went now.
pub(super) struct Wreck {
    files: BTreeMap<FileId, Content>,
    names: BTreeMap<PathBuf, FileId>,
    /// Names that are not safe.
    renamed: Vec<Naming>,
}

#[derive(Default)]
struct Content {
    safe: Vec<u8>,
    /// What was done to it since.
    since: Vec<Change>,
}

enum Change {
    Write(Vec<u8>),
    Truncate(usize),
}

impl Change {
    /// How many bytes have to come through for it to be whole.
    fn len(&self) -> usize {
        match self {
            Change::Write(bytes) => bytes.len(),
            Change::Truncate(_) => 1,
        }
    }

    /// Makes so much of it.
    fn apply(&self, content: &mut Vec<u8>, part: usize) {
        match self {
            Change::Write(bytes) => content.extend(&bytes[..part]),
            Change::Truncate(len) if part > 0 => content.resize(*len, 0),
            Change::Truncate(_) => {}
        }
    }
}

/// What a directory's name stands for.
const DIR: FileId = usize::MAX;

/// A change of names, which happens as a whole: what a name stands for from then on.
struct Naming(Vec<(PathBuf, Option<FileId>)>);

impl Wreck {
    /// A disk that holds this, all of it safe.
    pub(super) fn new(image: &Image) -> Wreck {
        let mut names: BTreeMap<_, _> =
            image.keys().enumerate().map(|(id, path)| (path.clone(), id)).collect();
        names.extend(image.keys().filter_map(|path| path.parent()).map(|dir| (dir.to_owned(), DIR)));
        let content = |bytes: &Vec<u8>| Content { safe: bytes.clone(), since: Vec::new() };
        Wreck { files: image.values().map(content).enumerate().collect(), names, renamed: Vec::new() }
    }

    /// One more operation.
    pub(super) fn follow(&mut self, step: &Step) {
        match step {
            Step::Create(path, id) => {
                self.files.insert(*id, Content::default());
                self.renamed.push(Naming(vec![(path.clone(), Some(*id))]));
            }
            Step::Write(id, bytes) => self.content(*id).since.push(Change::Write(bytes.clone())),
            Step::Truncate(id, len) => self.content(*id).since.push(Change::Truncate(*len)),
            Step::MakeDir(dir) => self.renamed.push(Naming(vec![(dir.clone(), Some(DIR))])),
            Step::Sync(id) => {
                let content = self.content(*id);
                let Content { safe, since } = content;
                since.drain(..).for_each(|change| change.apply(safe, change.len()));
            }
            Step::Rename(from, to) => {
                let id = self.seen(from);
                self.renamed.push(Naming(vec![(to.clone(), id), (from.clone(), None)]));
            }
            Step::Remove(path) => self.renamed.push(Naming(vec![(path.clone(), None)])),
            Step::SyncDir(dir) => self.settle(dir),
            Step::Failed(_) => {}
        }
    }

    /// What a start finds after the power has gone.
    pub(super) fn image(&self, luck: Luck) -> Image {
        let mut random = Random::new(if let Luck::Chance(seed) = luck { seed } else { 0 });
        let mut names = self.names.clone();
        let is_ordered = random.below(4) > 0;
        let until = random.below(self.renamed.len() + 1);
        for (at, Naming(changes)) in self.renamed.iter().enumerate() {
            let comes_through = match luck {
                Luck::None => false,
                Luck::All => true,
                Luck::Chance(_) if is_ordered => at < until,
                Luck::Chance(_) => random.below(2) == 0,
            };
            if comes_through {
                changes.iter().for_each(|(path, id)| name(&mut names, path, *id));
            }
        }
        let content = |id: FileId, random: &mut Random| {
            let Content { safe, since } = &self.files[&id];
            let len = since.iter().map(Change::len).sum::<usize>();
            let kept = match luck {
                Luck::None => 0,
                Luck::All => len,
                // At the border of a write, or within one.
                Luck::Chance(_) if random.below(2) == 0 => {
                    let writes = random.below(since.len() + 1);
                    since[..writes].iter().map(Change::len).sum()
                }
                Luck::Chance(_) => random.below(len + 1),
            };
            let (mut bytes, mut left) = (safe.clone(), kept);
            for change in since {
                let part = change.len().min(left);
                change.apply(&mut bytes, part);
                left -= part;
            }
            bytes
        };
        let is_there = |path: &Path| {
            let dir = path.parent().unwrap_or(Path::new(""));
            HERE.iter().any(|here| dir == Path::new(here)) || names.get(dir) == Some(&DIR)
        };
        let files = names.iter().filter(|(path, id)| **id != DIR && is_there(path));
        files.map(|(path, &id)| (path.clone(), content(id, &mut random))).collect()
    }

    fn content(&mut self, id: FileId) -> &mut Content {
        self.files.get_mut(&id).expect("it was created, or there from the beginning")
    }

    /// What a name stands for while the power is on.
    fn seen(&self, path: &Path) -> Option<FileId> {
        let changes = self.renamed.iter().rev().flat_map(|Naming(changes)| changes);
        let last = changes.filter(|(of, _)| of == path).map(|(_, id)| *id).next();
        last.unwrap_or_else(|| self.names.get(path).copied())
    }

    fn settle(&mut self, dir: &Path) {
        // A file that has come from another directory is safe where it is now.
        let is_of =
            |Naming(changes): &Naming| changes.first().is_some_and(|(path, _)| path.parent() == Some(dir));
        let (safe, rest): (Vec<_>, Vec<_>) = self.renamed.drain(..).partition(is_of);
        self.renamed = rest;
        for (path, id) in safe.into_iter().flat_map(|Naming(changes)| changes) {
            name(&mut self.names, &path, id);
        }
    }
}

fn name(names: &mut BTreeMap<PathBuf, FileId>, path: &Path, id: Option<FileId>) {
    match id {
        Some(id) => names.insert(path.to_owned(), id),
        None => names.remove(path),
    };
}
