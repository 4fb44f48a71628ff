//! Who wants to hear of a key: clients that watch it, calls that wait for it. Also for keys that do not exist.

use std::collections::{HashMap, VecDeque};

use super::shrink::Shrink;

/// A watching client's id, or a waiting call's.
pub type ListenerId = u64;

/// A client that watches a key.
#[derive(Clone, Copy)]
pub struct Watcher {
    /// The client.
    pub client: ListenerId,
    /// For which time it watches: if it has given up watching since, this one means nothing any more.
    pub round: u32,
    /// The key had expired already when it was named, but was still there: that it goes is no change.
    pub stale: bool,
}

/// Who wants to hear of one key.
#[derive(Default)]
pub struct Interested {
    /// Clients that WATCH it, by id.
    pub watchers: Vec<Watcher>,
    /// Calls that wait for it, in the order of their arrival, in which their ids rise.
    pub waiters: VecDeque<ListenerId>,
    /// It has changed, and those calls are going to be tried again.
    pub is_ready: bool,
}

impl Interested {
    /// The first call that came after another, or of all.
    pub fn next_waiter(&self, after: Option<ListenerId>) -> Option<ListenerId> {
        let at = after.map_or(0, |after| self.waiters.partition_point(|id| *id <= after));
        self.waiters.get(at).copied()
    }

    /// Where a client stands among the watchers, or would.
    fn place_of_watcher(&self, client: ListenerId) -> Result<usize, usize> {
        self.watchers.binary_search_by_key(&client, |watcher| watcher.client)
    }
}

/// The side table of a database: keys that someone wants to hear of. The *listened* bit of an entry is only a filter in
/// front of it; a bit too many costs a look-up.
#[derive(Default)]
pub struct Interest {
    keys: HashMap<Box<[u8]>, Interested, foldhash::quality::RandomState>,
}

impl Interest {
    /// Whether nobody listens to any key.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Who listens to a key.
    pub fn of(&self, key: &[u8]) -> Option<&Interested> {
        self.keys.get(key)
    }

    /// Who listens to a key, to be changed.
    pub fn of_mut(&mut self, key: &[u8]) -> Option<&mut Interested> {
        self.keys.get_mut(key)
    }

    /// The keys that someone listens to.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.keys().map(|key| &**key)
    }

    /// A client begins to watch a key, which may be `stale`: expired, but still there.
    pub fn watch(&mut self, key: &[u8], client: ListenerId, round: u32, stale: bool) {
        let interested = self.keys.entry(key.into()).or_default();
        let watcher = Watcher { client, round, stale };
        match interested.place_of_watcher(client) {
            Err(place) => interested.watchers.insert(place, watcher),
            Ok(place) if interested.watchers[place].round != round => interested.watchers[place] = watcher,
            Ok(_) => {}
        }
    }

    /// What a client has watched in a round it no longer watches.
    pub fn unwatch(&mut self, key: &[u8], client: ListenerId, round: u32) {
        self.drop_from(key, |interested| {
            if let Ok(place) = interested.place_of_watcher(client)
                && interested.watchers[place].round == round
            {
                interested.watchers.remove(place);
            }
        });
    }

    /// A call begins to wait for a key.
    pub fn wait(&mut self, key: &[u8], call: ListenerId) {
        let interested = self.keys.entry(key.into()).or_default();
        if let Err(place) = interested.waiters.binary_search(&call) {
            interested.waiters.insert(place, call);
        }
    }

    /// A call no longer waits for a key.
    pub fn unwait(&mut self, key: &[u8], call: ListenerId) {
        self.drop_from(key, |interested| {
            if let Ok(place) = interested.waiters.binary_search(&call) {
                interested.waiters.remove(place);
            }
        });
    }

    fn drop_from(&mut self, key: &[u8], change: impl FnOnce(&mut Interested)) {
        if let Some(interested) = self.keys.get_mut(key) {
            change(interested);
            if interested.watchers.is_empty() && interested.waiters.is_empty() {
                self.keys.remove(key);
                self.keys.shrink();
            } else {
                interested.watchers.shrink();
                interested.waiters.shrink();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_no_interest_leave_no_room_behind() {
        let mut interest = Interest::default();
        let keys: Vec<_> = (0..20_000u64).map(|n| n.to_be_bytes()).collect();
        for key in &keys {
            interest.wait(key, 1);
            interest.watch(key, 2, 0, false);
            interest.wait(b"all", u64::from_be_bytes(*key));
        }
        for key in &keys[1..] {
            interest.unwait(key, 1);
            interest.unwatch(key, 2, 0);
            interest.unwait(b"all", u64::from_be_bytes(*key));
        }
        assert!(interest.keys.capacity() < 100, "{}", interest.keys.capacity());
        assert!(interest.of(b"all").unwrap().waiters.capacity() < 100);
    }

    #[test]
    fn who_comes_twice_counts_once_and_who_leaves_is_gone() {
        let mut interest = Interest::default();
        for id in [3, 9, 9, 12, 3] {
            interest.wait(b"key", id);
            interest.watch(b"key", 20 - id, 0, false);
        }
        let of = |interest: &Interest| {
            let of = interest.of(b"key")?;
            let watchers: Vec<_> = of.watchers.iter().map(|watcher| watcher.client).collect();
            Some((of.waiters.iter().copied().collect::<Vec<_>>(), watchers))
        };
        assert_eq!(of(&interest), Some((vec![3, 9, 12], vec![8, 11, 17])));
        interest.unwait(b"key", 9);
        interest.unwait(b"key", 4);
        interest.unwatch(b"key", 17, 0);
        assert_eq!(of(&interest), Some((vec![3, 12], vec![8, 11])));
        [3, 12].into_iter().for_each(|id| interest.unwait(b"key", id));
        [8, 11].into_iter().for_each(|id| interest.unwatch(b"key", id, 0));
        assert!(interest.is_empty(), "a key of no interest costs nothing");
    }

    #[test]
    fn who_watches_again_is_not_forgotten_with_what_it_has_given_up() {
        let mut interest = Interest::default();
        let rounds = |interest: &Interest| -> Vec<_> {
            interest
                .of(b"key")
                .into_iter()
                .flat_map(|of| &of.watchers)
                .map(|of| (of.round, of.stale))
                .collect()
        };
        for (round, stale) in [(0, true), (0, false), (1, false)] {
            interest.watch(b"key", 7, round, stale);
        }
        assert_eq!(rounds(&interest), [(1, false)]);
        interest.unwatch(b"key", 7, 0);
        assert_eq!(rounds(&interest), [(1, false)]);
        interest.unwatch(b"key", 7, 1);
        assert!(interest.is_empty());
    }

    #[test]
    fn many_may_wait_for_a_key() {
        // Each at its place among a hundred thousand: by looking at all of them this would take minutes.
        const CALLS: u64 = 100_000;
        let mut interest = Interest::default();
        (0..CALLS).for_each(|id| interest.wait(b"key", id));
        (0..CALLS).for_each(|id| interest.unwait(b"key", id * 7_919 % CALLS));
        assert!(interest.is_empty());
    }
}
