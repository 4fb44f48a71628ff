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
pub mod shrink;
mod space;

pub use db::{Db, EntryEdit};
pub use door::Door;
pub use entry::{Entry, Kind, NewValue, Payload};
pub use space::Space;

/// Which space: the isolation of tenants is which space a session holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SpaceId(pub u32);

impl SpaceId {
    /// The one that there is at first.
    pub const FIRST: SpaceId = SpaceId(0);
}

/// All data.
pub struct Keyspace {
    spaces: Vec<Space>,
    /// What every change passes.
    pub door: Door,
}

impl Default for Keyspace {
    fn default() -> Keyspace {
        Keyspace { spaces: vec![Space::new(SpaceId::FIRST)], door: Door::default() }
    }
}

impl Keyspace {
    /// Makes another space.
    pub fn add_space(&mut self) -> SpaceId {
        let id = SpaceId(self.spaces.len() as u32);
        self.spaces.push(Space::new(id));
        id
    }

    /// A database together with the door that its changes pass.
    #[inline(always)]
    pub fn db(&mut self, space: SpaceId, index: u32) -> (&mut Db, &mut Door) {
        (self.spaces[space.0 as usize].db(index), &mut self.door)
    }

    /// A database if it has come into being.
    pub fn existing(&self, space: SpaceId, index: u32) -> Option<&Db> {
        self.spaces.get(space.0 as usize)?.existing(index)
    }

    /// Every database there is: space, index, contents.
    pub fn iter(&self) -> impl Iterator<Item = (SpaceId, u32, &Db)> {
        let spaces = (0..).map(SpaceId).zip(&self.spaces);
        spaces.flat_map(|(id, space)| space.iter().map(move |(index, db)| (id, index, db)))
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
        self.spaces[space.0 as usize].swap(low, high);
    }

    /// Exchanges the contents of a database in two spaces; who listens to their keys stays. Not while a trial goes on.
    pub fn hand_over(&mut self, from: SpaceId, to: SpaceId, index: u32) {
        debug_assert!(!self.may_abort(), "a trial could not take it back");
        let spaces = self.spaces.get_disjoint_mut([from.0 as usize, to.0 as usize]);
        if let Ok([from, to]) = spaces {
            from.db(index).swap_contents(to.db(index));
        }
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
        self.door.take_undo().forget(&mut self.door);
    }

    /// Ends the trial: everything is again as it was when it began.
    pub fn abort(&mut self) {
        let mut undo = self.door.take_undo();
        for record in std::mem::take(&mut undo.records).into_iter().rev() {
            match record {
                door::UndoRecord::Entry { space, db, key, before } => {
                    let (database, door) = self.db(space, db);
                    let replaced = database.restore(door, &key, before);
                    if let Some(replaced) = replaced.filter(|entry| !entry.is_light()) {
                        self.door.spend(replaced);
                    }
                }
                door::UndoRecord::Flushed { space, db, contents } => {
                    let replaced = self.db(space, db).0.put_back(contents);
                    self.door.spend(replaced);
                }
                door::UndoRecord::Swapped { space, low, high } => self.swap(space, low, high),
            }
        }
        undo.forget(&mut self.door);
    }

    /// What trials and cuts no longer need, to be freed where nobody waits for it.
    pub fn take_spent(&mut self) -> Vec<Box<dyn Send>> {
        self.door.take_spent()
    }

    /// Begins a cut: a picture of all data as it is now, to be drawn by [`Keyspace::advance_cut`] while changes go on.
    /// False if one is being drawn, or a trial goes on; and after cuts that were all ended early, until
    /// [`Keyspace::advance_cut`] has made good for them.
    pub fn begin_cut(&mut self) -> bool {
        let Keyspace { spaces, door } = self;
        door.begin_cut() && {
            for (id, space) in (0..).map(SpaceId).zip(spaces) {
                space.iter_mut().for_each(|(index, db)| db.begin_cut(id, index));
            }
            true
        }
    }

    /// Goes on with a cut for about a table segment; true when nothing is left. After one that was ended early, there is
    /// as much to walk through as if it had not been, but nothing is saved.
    pub fn advance_cut(&mut self) -> bool {
        let Keyspace { spaces, door } = self;
        for space in spaces {
            for (_, db) in space.iter_mut() {
                if db.advance_cut(door) {
                    return false;
                }
            }
        }
        !door.advance_moved()
    }

    /// Whether a cut that was ended early has left something to walk through.
    pub fn is_stamping(&self) -> bool {
        self.door.is_stamping()
    }

    /// Hands over what a cut has saved so far; it goes on. An error says what could not be saved.
    pub fn take_saved(&mut self) -> Result<Vec<door::Saved>, String> {
        self.door.take_saved()
    }

    /// Ends a cut and hands over what it saved: all that there was when it began, or less if it is ended early.
    pub fn end_cut(&mut self) -> Vec<door::Saved> {
        self.door.end_cut()
    }
}
