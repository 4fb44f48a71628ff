//! The data: spaces of databases, their table, and the door through which every change passes.
//!
//! Owns look-up, entries, deadlines, cuts and undo. Knows no command, no client, no clock: whoever calls hands the time.

pub mod db;
pub mod dict;
pub mod door;
pub mod entry;
pub mod evict;
pub mod expire;
pub mod hash;
pub mod interest;
pub mod memory;

pub use db::{Db, EntryEdit};
pub use door::Door;
pub use entry::{Entry, Kind, NewValue, Payload};

/// Which space: the isolation of tenants is which space a session holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SpaceId(pub u32);

impl SpaceId {
    /// The one that there is at first.
    pub const FIRST: SpaceId = SpaceId(0);
}

/// The databases of a tenant. They come into being on first use.
#[derive(Default)]
pub struct Space {
    dbs: Vec<Option<Box<Db>>>,
}

/// All data.
pub struct Keyspace {
    spaces: Vec<Space>,
    /// What every change passes.
    pub door: Door,
}

impl Default for Keyspace {
    fn default() -> Keyspace {
        Keyspace { spaces: vec![Space::default()], door: Door::default() }
    }
}

impl Keyspace {
    /// Makes another space.
    pub fn add_space(&mut self) -> SpaceId {
        self.spaces.push(Space::default());
        SpaceId(self.spaces.len() as u32 - 1)
    }

    /// A database together with the door that its changes pass.
    #[inline(always)]
    pub fn db(&mut self, space: SpaceId, index: u32) -> (&mut Db, &mut Door) {
        let space = &mut self.spaces[space.0 as usize];
        let at = index as usize;
        if at >= space.dbs.len() || space.dbs[at].is_none() {
            space.make(at);
        }
        (space.dbs[at].as_mut().expect("made above"), &mut self.door)
    }

    /// A database if it has come into being.
    pub fn existing(&self, space: SpaceId, index: u32) -> Option<&Db> {
        self.spaces.get(space.0 as usize)?.dbs.get(index as usize)?.as_deref()
    }

    /// Every database there is: space, index, contents.
    pub fn iter(&self) -> impl Iterator<Item = (SpaceId, u32, &Db)> {
        self.spaces.iter().enumerate().flat_map(|(space, dbs)| {
            dbs.dbs
                .iter()
                .enumerate()
                .filter_map(move |(index, db)| Some((SpaceId(space as u32), index as u32, db.as_deref()?)))
        })
    }

    /// Space and index of every database there is.
    pub fn places(&self) -> Vec<(SpaceId, u32)> {
        self.iter().map(|(space, index, _)| (space, index)).collect()
    }

    /// Exchanges the contents of two databases; who listens to their keys stays.
    pub fn swap(&mut self, space: SpaceId, one: u32, other: u32) {
        if one == other {
            return;
        }
        let (low, high) = (one.min(other), one.max(other));
        self.db(space, low);
        self.db(space, high);
        self.door.swapped(space, low, high);
        let dbs = &mut self.spaces[space.0 as usize].dbs;
        let (head, tail) = dbs.split_at_mut(high as usize);
        let (Some(low), Some(high)) = (&mut head[low as usize], &mut tail[0]) else { return };
        low.swap_contents(high);
    }

    /// Begins a trial of atomicity: from now on the state of whatever changes is kept.
    pub fn begin_undo(&mut self) {
        self.door.begin_undo();
    }

    /// Whether what changes now may be put back.
    #[inline(always)]
    pub fn may_abort(&self) -> bool {
        self.door.may_abort()
    }

    /// Whether a key's value could not be put back: it is of a module's type that cannot be copied, and no change of this
    /// trial has met it yet.
    pub fn is_irrevocable(&mut self, space: SpaceId, db: u32, hash: u64, key: &[u8]) -> bool {
        let (database, door) = self.db(space, db);
        !door.keeps(space, db, key) && database.find(hash, key).is_some_and(|entry| entry.share().is_none())
    }

    /// Ends the trial and keeps the changes.
    pub fn commit_undo(&mut self) {
        for record in self.door.take_undo() {
            if let door::UndoRecord::Flushed { contents, .. } = record {
                self.door.discard(contents);
            }
        }
    }

    /// Ends the trial: everything is again as it was when it began. What was replaced is handed over, to be freed where
    /// nobody waits for it.
    pub fn abort(&mut self) -> Vec<Box<dyn Send>> {
        let mut replaced: Vec<Box<dyn Send>> = Vec::new();
        for record in self.door.take_undo().into_iter().rev() {
            match record {
                door::UndoRecord::Entry { space, db, key, before } => {
                    let entry = self.db(space, db).0.restore(&key, before);
                    replaced.extend(entry.map(|entry| Box::new(entry) as Box<dyn Send>));
                }
                door::UndoRecord::Flushed { space, db, contents } => {
                    replaced.push(self.db(space, db).0.put_back(contents));
                }
                door::UndoRecord::Swapped { space, low, high } => self.swap(space, low, high),
            }
        }
        replaced
    }

    /// Begins a cut: a picture of all data as it is now, to be drawn by [`Keyspace::advance_cut`] while changes go on.
    /// False if one is being drawn.
    pub fn begin_cut(&mut self) -> bool {
        let Keyspace { spaces, door } = self;
        door.begin_cut() && {
            for (space, dbs) in spaces.iter_mut().enumerate() {
                for (index, db) in dbs.dbs.iter_mut().enumerate() {
                    if let Some(db) = db {
                        db.begin_cut(SpaceId(space as u32), index as u32);
                    }
                }
            }
            true
        }
    }

    /// Goes on with a cut for about a table segment; true when nothing is left.
    pub fn advance_cut(&mut self) -> bool {
        let Keyspace { spaces, door } = self;
        for space in spaces {
            for db in space.dbs.iter_mut().flatten() {
                if db.advance_cut(door) {
                    return false;
                }
            }
        }
        !door.advance_moved()
    }

    /// Ends a cut and hands over what it saved.
    pub fn end_cut(&mut self) -> Vec<door::Saved> {
        self.door.end_cut()
    }
}

impl Space {
    #[cold]
    fn make(&mut self, at: usize) {
        if at >= self.dbs.len() {
            self.dbs.resize_with(at + 1, || None);
        }
        self.dbs[at] = Some(Box::new(Db::new(at as u32)));
    }
}
