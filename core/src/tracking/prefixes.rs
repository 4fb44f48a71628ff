//! Who hears of every key under which prefixes, and what has changed under them.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::session::ClientId;
use crate::keyspace::SpaceId;

/// What has changed under a prefix since it was last told.
pub(super) struct Changes {
    /// Under which.
    pub(super) prefix: Box<[u8]>,
    /// Who hears of it.
    pub(super) clients: Vec<ClientId>,
    /// The keys in order, each with the client that has changed it last, if one has.
    pub(super) keys: Vec<(Box<[u8]>, Option<ClientId>)>,
}

#[derive(Default)]
struct Prefix {
    clients: BTreeSet<ClientId>,
    changed: BTreeMap<Box<[u8]>, Option<ClientId>>,
}

/// The prefixes of one space. A key is looked up under each length that a prefix has, however many prefixes there are.
#[derive(Default)]
struct OfSpace {
    by_name: BTreeMap<Box<[u8]>, Prefix>,
    /// How many prefixes have which length.
    lens: BTreeMap<usize, usize>,
    /// Prefixes under which something has changed.
    changed: BTreeSet<Box<[u8]>>,
}

/// All prefixes.
#[derive(Default)]
pub(super) struct Prefixes {
    spaces: BTreeMap<SpaceId, OfSpace>,
    has_changes: bool,
}

impl Prefixes {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.spaces.values().map(|space| space.by_name.len()).sum()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.spaces.is_empty()
    }

    /// A client begins to hear of a prefix.
    pub(super) fn add(&mut self, space: SpaceId, name: &[u8], id: ClientId) {
        let space = self.spaces.entry(space).or_default();
        let prefix = space.by_name.entry(name.into()).or_default();
        if prefix.clients.is_empty() {
            *space.lens.entry(name.len()).or_default() += 1;
        }
        prefix.clients.insert(id);
    }

    /// A client no longer hears of a prefix.
    pub(super) fn remove(&mut self, space: SpaceId, name: &[u8], id: ClientId) {
        let Some(of_space) = self.spaces.get_mut(&space) else { return };
        let Some(prefix) = of_space.by_name.get_mut(name) else { return };
        prefix.clients.remove(&id);
        if !prefix.clients.is_empty() {
            return;
        }
        of_space.by_name.remove(name);
        of_space.changed.remove(name);
        if let Some(count) = of_space.lens.get_mut(&name.len()) {
            *count -= 1;
            if *count == 0 {
                of_space.lens.remove(&name.len());
            }
        }
        if of_space.by_name.is_empty() {
            self.spaces.remove(&space);
        }
    }

    /// A key has changed, by a client's doing or by itself.
    pub(super) fn changed(&mut self, space: SpaceId, key: &[u8], by: Option<ClientId>) {
        let Some(OfSpace { by_name, lens, changed }) = self.spaces.get_mut(&space) else { return };
        for (&len, _) in lens.range(..=key.len()) {
            let Some(prefix) = by_name.get_mut(&key[..len]) else { continue };
            if prefix.changed.is_empty() {
                changed.insert(key[..len].into());
                self.has_changes = true;
            }
            prefix.changed.insert(key.into(), by);
        }
    }

    /// Whether something has changed.
    #[inline(always)]
    pub(super) fn has_changes(&self) -> bool {
        self.has_changes
    }

    /// Takes what has changed, in the order of the prefixes.
    pub(super) fn take_changes(&mut self) -> Vec<Changes> {
        self.has_changes = false;
        let mut all = Vec::new();
        for OfSpace { by_name, changed, .. } in self.spaces.values_mut() {
            for name in std::mem::take(changed) {
                let Some(prefix) = by_name.get_mut(&name) else { continue };
                all.push(Changes {
                    clients: prefix.clients.iter().copied().collect(),
                    keys: std::mem::take(&mut prefix.changed).into_iter().collect(),
                    prefix: name,
                });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(prefixes: &mut Prefixes) -> Vec<(Vec<ClientId>, Vec<String>)> {
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        let changes = prefixes.take_changes().into_iter();
        changes
            .map(|of| (of.clients, of.keys.iter().map(|(key, by)| format!("{}{by:?}", text(key))).collect()))
            .collect()
    }

    #[test]
    fn keys_are_told_under_each_of_their_prefixes() {
        let mut prefixes = Prefixes::default();
        let space = SpaceId::FIRST;
        for (name, id) in [("a:", 1), ("a:b", 2), ("", 3), ("a:", 4), ("z", 5)] {
            prefixes.add(space, name.as_bytes(), id);
        }
        assert_eq!(prefixes.len(), 4);
        for (key, by) in [("a:bc", Some(1)), ("a:x", None), ("", Some(2)), ("a:bc", Some(9)), ("b", None)] {
            prefixes.changed(space, key.as_bytes(), by);
        }
        prefixes.changed(SpaceId(1), b"a:y", None);
        let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            told(&mut prefixes),
            [
                (vec![3], words("Some(2) a:bcSome(9) a:xNone bNone")),
                (vec![1, 4], words("a:bcSome(9) a:xNone")),
                (vec![2], words("a:bcSome(9)")),
            ]
        );
        assert!(!prefixes.has_changes());
        for (name, id) in [("a:", 1), ("a:b", 2), ("", 3), ("a:", 4), ("a:", 4)] {
            prefixes.changed(space, b"a:b", None);
            prefixes.remove(space, name.as_bytes(), id);
        }
        assert_eq!((prefixes.len(), told(&mut prefixes)), (1, vec![]));
        prefixes.remove(space, b"z", 5);
        assert!(prefixes.is_empty());
    }
}
