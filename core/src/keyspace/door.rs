//! The door of mutation: what happens before an entry changes, whatever the cause.
//!
//! Three slots, in order: the snapshot cut (saves the entry as it was when the cut began), undo (keeps it as it was when
//! the unit began), accounting (counts). With none in use the door costs one branch. Both cut and undo need one thing
//! only of a value: that it can be *shared* — copied when small, sharing its chunks when large — so no verb of any type
//! has an inverse to get wrong.

use std::collections::HashSet;
use std::sync::Arc;

use super::SpaceId;
use super::db::Contents;
use super::entry::{Entry, NewValue, Payload};
use crate::types::Object;
use crate::types::frozen::FrozenTypes;

/// What a cut has saved: where the entry was when the cut began, and the entry.
pub struct Saved {
    /// Space.
    pub space: SpaceId,
    /// Database.
    pub db: u32,
    /// The entry as it was.
    pub entry: Entry,
}

/// What a unit may have to put back.
pub(super) enum UndoRecord {
    /// An entry, or that there was none.
    Entry { space: SpaceId, db: u32, key: Box<[u8]>, before: Option<Entry> },
    /// All of a database.
    Flushed { space: SpaceId, db: u32, contents: Contents },
    /// Two databases changed places.
    Swapped { space: SpaceId, low: u32, high: u32 },
}

#[derive(Default)]
pub(super) struct Undo {
    pub(super) records: Vec<UndoRecord>,
    /// What has been kept since the last flush or swap: only the first change of an entry counts.
    kept: HashSet<(SpaceId, u32, Box<[u8]>)>,
}

#[derive(Default)]
struct Cut {
    saved: Vec<Saved>,
    moved: Vec<Contents>,
    /// Bytes of entries that were saved as they were about to change.
    preserved: u64,
    /// How much a step of the walk may still copy.
    room: usize,
    /// An entry could not be saved: why.
    failed: Option<String>,
    /// The walk has come to its end: every entry bears the cut's epoch.
    complete: bool,
    /// It was ended before: the walk goes on, but nothing is saved any more.
    only_stamps: bool,
}

/// Is told of every entry before its first change; tests prove with it that nothing else ever changes.
pub trait Witness: Send {
    /// The entry (or its absence) before a change.
    fn before(&mut self, space: SpaceId, db: u32, key: &[u8], entry: Option<&Entry>);
    /// A whole database changes.
    fn before_all(&mut self, space: SpaceId, db: u32);
}

/// The state of the three slots.
#[derive(Default)]
pub struct Door {
    /// Whether any slot beside counting is in use: the one branch on the hot path.
    armed: bool,
    /// The last cut's. Entries that it has taken care of bear it, and all that came into being since.
    epoch: u8,
    /// The epochs that entries may bear beside that, a bit each: those of cuts that ended before they had stamped all.
    older: u8,
    cut: Option<Cut>,
    undo: Option<Undo>,
    witness: Option<Box<dyn Witness>>,
    /// What nobody needs any more, to be freed where nobody waits for it.
    spent: Vec<Box<dyn Send>>,
    /// Whether what comes into being is marked as listened to, as anybody may have looked for its key.
    pub marks_newborns: bool,
    /// Who keeps copies of values that cannot be copied.
    pub frozen: Arc<FrozenTypes>,
    /// Entries whose change was announced, ever.
    pub touched: u64,
}

/// A step of a cut's walk ends when it has copied so many bytes, so that it takes the same time whatever entries hold.
const STEP_LEN: usize = 128 * 1024;

impl Door {
    fn rearm(&mut self) {
        self.armed = self.cut.is_some() || self.undo.is_some() || self.witness.is_some();
    }

    /// Installs a witness, or takes it away.
    pub fn set_witness(&mut self, witness: Option<Box<dyn Witness>>) {
        self.witness = witness;
        self.rearm();
    }

    /// Before an entry changes or goes.
    #[inline(always)]
    pub(super) fn touch(&mut self, home: Home, entry: &mut Entry) {
        self.touched += 1;
        if self.armed {
            self.touch_armed(home, entry);
        }
    }

    /// Before an entry comes into being; stamps it.
    #[inline(always)]
    pub(super) fn newborn(&mut self, home: Home, entry: &mut Entry) {
        self.touched += 1;
        entry.set_epoch(self.epoch);
        if self.armed {
            self.absent(home, entry.key());
        }
    }

    #[cold]
    fn touch_armed(&mut self, home: Home, entry: &mut Entry) {
        if let Some(witness) = &mut self.witness {
            witness.before(home.space, home.db, entry.key(), Some(entry));
        }
        if let Some(cut) = &mut self.cut
            && entry.epoch() != self.epoch
        {
            cut.save(home.cut_space, home.cut_db, entry, &self.frozen);
            cut.preserved += entry.memory() as u64;
            entry.set_epoch(self.epoch);
        }
        if let Some(undo) = &mut self.undo
            && undo.kept.insert((home.space, home.db, entry.key().into()))
        {
            let record = UndoRecord::Entry {
                space: home.space,
                db: home.db,
                key: entry.key().into(),
                before: entry.share(),
            };
            undo.records.push(record);
        }
    }

    #[cold]
    fn absent(&mut self, home: Home, key: &[u8]) {
        if let Some(witness) = &mut self.witness {
            witness.before(home.space, home.db, key, None);
        }
        if let Some(undo) = &mut self.undo
            && undo.kept.insert((home.space, home.db, key.into()))
        {
            undo.records.push(UndoRecord::Entry {
                space: home.space,
                db: home.db,
                key: key.into(),
                before: None,
            });
        }
    }

    /// A database is about to be emptied: cut and undo take what they need of it; the rest is the caller's.
    pub(super) fn flushed(&mut self, home: Home, contents: Contents) -> Option<Contents> {
        self.touched += 1;
        if let Some(witness) = &mut self.witness {
            witness.before_all(home.space, home.db);
        }
        if let Some(undo) = &mut self.undo {
            undo.kept.clear();
            undo.records.push(UndoRecord::Flushed { space: home.space, db: home.db, contents });
            return None;
        }
        self.discard(contents)
    }

    /// Contents that no database holds any more: a cut may still have to walk them.
    pub(super) fn discard(&mut self, contents: Contents) -> Option<Contents> {
        match &mut self.cut {
            Some(cut) if !cut.only_stamps && !contents.is_cut() => {
                cut.moved.push(contents);
                None
            }
            _ => Some(contents),
        }
    }

    /// Two databases are about to change places.
    pub(super) fn swapped(&mut self, space: SpaceId, low: u32, high: u32) {
        self.touched += 1;
        if let Some(witness) = &mut self.witness {
            witness.before_all(space, low);
            witness.before_all(space, high);
        }
        if let Some(undo) = &mut self.undo {
            undo.kept.clear();
            undo.records.push(UndoRecord::Swapped { space, low, high });
        }
    }

    #[inline(always)]
    pub(super) fn may_abort(&self) -> bool {
        self.undo.is_some()
    }

    /// Whether undo already knows what stood here.
    pub(super) fn keeps(&self, space: SpaceId, db: u32, key: &[u8]) -> bool {
        self.undo.as_ref().is_some_and(|undo| undo.kept.contains(&(space, db, key.into())))
    }

    pub(super) fn begin_undo(&mut self) {
        self.undo = Some(Undo::default());
        self.rearm();
    }

    pub(super) fn take_undo(&mut self) -> Undo {
        let undo = self.undo.take().unwrap_or_default();
        self.rearm();
        undo
    }

    /// Takes something that nobody needs any more.
    pub(super) fn spend(&mut self, thing: impl Send + 'static) {
        self.spent.push(Box::new(thing));
    }

    pub(super) fn take_spent(&mut self) -> Vec<Box<dyn Send>> {
        std::mem::take(&mut self.spent)
    }

    /// False while another cut is being drawn, while a trial goes on (what it changed may be put back), and if no epoch
    /// is free that no entry bears.
    pub(super) fn begin_cut(&mut self) -> bool {
        if self.undo.is_some() || self.cut.as_ref().is_some_and(|cut| !cut.only_stamps) {
            return false;
        }
        let borne = self.older | 1 << self.epoch;
        let Some(epoch) = (0..4).find(|epoch| borne & 1 << epoch == 0) else { return false };
        (self.epoch, self.older) = (epoch, borne);
        self.cut = Some(Cut::default());
        self.rearm();
        true
    }

    /// A step of the walk begins.
    pub(super) fn begin_step(&mut self) {
        if let Some(cut) = &mut self.cut {
            cut.room = STEP_LEN;
        }
    }

    /// Saves an entry that the walk has reached, unless a change was quicker. False: that was enough for this step.
    #[inline]
    pub(super) fn walk(&mut self, space: SpaceId, db: u32, entry: &mut Entry) -> bool {
        if entry.epoch() == self.epoch {
            return true;
        }
        entry.set_epoch(self.epoch);
        let Some(cut) = &mut self.cut else { return true };
        cut.save(space, db, entry, &self.frozen);
        cut.room = cut.room.saturating_sub(entry.memory());
        cut.room > 0 || cut.only_stamps
    }

    /// Takes what has been saved so far; the cut goes on. An error says what could not be saved.
    pub(super) fn take_saved(&mut self) -> Result<Vec<Saved>, String> {
        let Some(cut) = &mut self.cut else { return Ok(Vec::new()) };
        match cut.failed.take() {
            Some(reason) => Err(reason),
            None => Ok(std::mem::take(&mut cut.saved)),
        }
    }

    /// Bytes of entries that the cut has saved as they were about to change.
    pub fn preserved(&self) -> u64 {
        self.cut.as_ref().map_or(0, |cut| cut.preserved)
    }

    /// Walks on in the databases that were moved out; false when there are none left, and the cut is complete.
    pub(super) fn advance_moved(&mut self) -> bool {
        let Some(cut) = &mut self.cut else { return false };
        if let Some(mut contents) = cut.moved.pop() {
            if contents.advance_cut(self)
                && let Some(cut) = &mut self.cut
            {
                cut.moved.push(contents);
            } else {
                self.spend(contents);
            }
            return true;
        }
        cut.complete = true;
        self.older = 0;
        if cut.only_stamps {
            self.cut = None;
            self.rearm();
        }
        false
    }

    /// Whether a cut that was ended early has still entries to stamp.
    pub(super) fn is_stamping(&self) -> bool {
        self.cut.as_ref().is_some_and(|cut| cut.only_stamps)
    }

    pub(super) fn end_cut(&mut self) -> Vec<Saved> {
        let Some(cut) = &mut self.cut else { return Vec::new() };
        let saved = std::mem::take(&mut cut.saved);
        let moved = std::mem::take(&mut cut.moved);
        if !moved.is_empty() {
            self.spent.push(Box::new(moved));
        }
        match cut.complete {
            true => self.cut = None,
            false => cut.only_stamps = true,
        }
        self.rearm();
        saved
    }
}

impl Cut {
    #[inline]
    fn save(&mut self, space: SpaceId, db: u32, entry: &Entry, frozen: &FrozenTypes) {
        if self.only_stamps {
            return;
        }
        match entry.share() {
            Some(entry) => self.saved.push(Saved { space, db, entry }),
            None => match freeze(entry, frozen) {
                Ok(entry) => self.saved.push(Saved { space, db, entry }),
                Err(reason) => self.failed = Some(reason),
            },
        }
    }
}

/// A copy of an entry whose value cannot be copied: what it says of itself when it is saved.
#[cold]
fn freeze(entry: &Entry, frozen: &FrozenTypes) -> Result<Entry, String> {
    let Payload::Object(Object::Foreign(value)) = entry.payload() else {
        return Err("a value cannot be copied".to_owned());
    };
    let copy = NewValue::Object(Box::new(Object::Foreign(frozen.copy_of(value)?)));
    let mut copy = Entry::new(entry.key(), copy);
    copy.set_deadline(entry.deadline());
    copy.set_clock(entry.clock());
    Ok(copy)
}

impl Undo {
    /// Whether dropping it takes no time worth speaking of.
    fn is_light(&self) -> bool {
        const RECORDS_MAX: usize = 16;
        let light = |record: &UndoRecord| match record {
            UndoRecord::Entry { before: Some(entry), .. } => entry.is_light(),
            UndoRecord::Entry { before: None, .. } | UndoRecord::Swapped { .. } => true,
            UndoRecord::Flushed { .. } => false,
        };
        self.records.len() <= RECORDS_MAX && self.records.iter().all(light)
    }

    /// Nobody will go back: what was kept is no longer needed, but a cut may still have to walk through what was flushed.
    pub(super) fn forget(mut self, door: &mut Door) {
        if self.is_light() {
            return;
        }
        for record in self.records.extract_if(.., |record| matches!(record, UndoRecord::Flushed { .. })) {
            if let UndoRecord::Flushed { contents, .. } = record
                && let Some(contents) = door.discard(contents)
            {
                door.spend(contents);
            }
        }
        door.spend(self);
    }
}

/// Where an entry is, and where it was when the cut began.
#[derive(Clone, Copy)]
pub(super) struct Home {
    pub(super) space: SpaceId,
    pub(super) db: u32,
    pub(super) cut_space: SpaceId,
    pub(super) cut_db: u32,
}
