//! The databases of one tenant: where each stands, however high its number.

use std::collections::BTreeMap;

use super::SpaceId;
use super::db::Db;

/// Databases below this number are found by one index, in a table that is as long as the highest of them asks for. Those
/// above stand in a tree, so that a number costs no memory.
const NEAR: u32 = 1024;

/// The databases of a tenant. They come into being on first use.
pub struct Space {
    id: SpaceId,
    near: Vec<Option<Box<Db>>>,
    far: BTreeMap<u32, Box<Db>>,
}

impl Space {
    pub(super) fn new(id: SpaceId) -> Space {
        Space { id, near: Vec::new(), far: BTreeMap::new() }
    }

    /// A database, which comes into being if need be.
    #[inline(always)]
    pub(super) fn db(&mut self, index: u32) -> &mut Db {
        let at = index as usize;
        if at >= self.near.len() || self.near[at].is_none() {
            return self.far_or_new(index);
        }
        self.near[at].as_mut().expect("looked at above")
    }

    #[cold]
    fn far_or_new(&mut self, index: u32) -> &mut Db {
        let id = self.id;
        let new = || Box::new(Db::new(id, index));
        if index >= NEAR {
            return self.far.entry(index).or_insert_with(new);
        }
        let at = index as usize;
        if at >= self.near.len() {
            self.near.resize_with(at + 1, || None);
        }
        self.near[at].get_or_insert_with(new)
    }

    /// A database if it has come into being.
    #[inline(always)]
    pub(super) fn existing(&self, index: u32) -> Option<&Db> {
        match self.near.get(index as usize) {
            Some(db) => db.as_deref(),
            None => self.far.get(&index).map(|db| &**db),
        }
    }

    /// Every database there is, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Db)> {
        let near = (0..).zip(&self.near).filter_map(|(index, db)| Some((index, db.as_deref()?)));
        near.chain(self.far.iter().map(|(index, db)| (*index, &**db)))
    }

    /// Every database there is, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Db)> {
        let near = (0..).zip(&mut self.near).filter_map(|(index, db)| Some((index, db.as_deref_mut()?)));
        near.chain(self.far.iter_mut().map(|(index, db)| (*index, &mut **db)))
    }

    /// Exchanges the contents of two databases; who listens to their keys stays.
    pub(super) fn swap(&mut self, one: u32, other: u32) {
        let id = self.id;
        // One is taken out meanwhile: both are to be changed.
        let mut taken = std::mem::replace(self.db(one), Db::new(id, one));
        taken.swap_contents(self.db(other));
        *self.db(one) = taken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_high_number_costs_no_memory() {
        let mut space = Space::new(SpaceId::FIRST);
        for index in [u32::MAX, 3, NEAR, NEAR - 1] {
            assert!(space.existing(index).is_none());
            assert_eq!(space.db(index).index(), index);
            assert!(space.existing(index).is_some());
        }
        assert!(space.existing(NEAR + 1).is_none() && space.existing(4).is_none());
        assert!(space.near.len() <= NEAR as usize);
        let indexes: Vec<u32> = space.iter().map(|(index, _)| index).collect();
        assert_eq!(indexes, [3, NEAR - 1, NEAR, u32::MAX]);
        assert!(space.iter_mut().map(|(index, db)| (index, db.index())).all(|(index, own)| index == own));
    }
}
