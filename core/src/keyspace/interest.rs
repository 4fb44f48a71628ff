//! Who wants to hear of a key: clients that watch it, calls that wait for it. Also for keys that do not exist.

use std::collections::HashMap;

/// A watching client's id, or a waiting call's.
pub type ListenerId = u64;

/// A client that watches a key.
#[derive(Clone, Copy)]
pub struct Watcher {
    /// The client.
    pub client: ListenerId,
    /// The key had expired already when it was named, but was still there: that it goes is no change.
    pub stale: bool,
}

/// Who wants to hear of one key.
#[derive(Default)]
pub struct Interested {
    /// Clients that WATCH it.
    pub watchers: Vec<Watcher>,
    /// Calls that wait for it, in the order of their arrival, which is that of their numbers.
    pub waiters: Vec<ListenerId>,
    /// It has changed, and those calls are going to be tried again.
    pub is_ready: bool,
}

impl Interested {
    /// The first call that came after another, or of all.
    pub fn next_waiter(&self, after: Option<ListenerId>) -> Option<ListenerId> {
        let at = after.map_or(0, |after| self.waiters.partition_point(|id| *id <= after));
        self.waiters.get(at).copied()
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
    pub fn watch(&mut self, key: &[u8], client: ListenerId, stale: bool) {
        let interested = self.keys.entry(key.into()).or_default();
        if !interested.watchers.iter().any(|watcher| watcher.client == client) {
            interested.watchers.push(Watcher { client, stale });
        }
    }

    /// A client no longer watches a key.
    pub fn unwatch(&mut self, key: &[u8], client: ListenerId) {
        self.drop_from(key, |interested| interested.watchers.retain(|watcher| watcher.client != client));
    }

    /// A call begins to wait for a key.
    pub fn wait(&mut self, key: &[u8], call: ListenerId) {
        let interested = self.keys.entry(key.into()).or_default();
        if !interested.waiters.contains(&call) {
            interested.waiters.push(call);
        }
    }

    /// A call no longer waits for a key.
    pub fn unwait(&mut self, key: &[u8], call: ListenerId) {
        self.drop_from(key, |interested| interested.waiters.retain(|id| *id != call));
    }

    fn drop_from(&mut self, key: &[u8], change: impl FnOnce(&mut Interested)) {
        if let Some(interested) = self.keys.get_mut(key) {
            change(interested);
            if interested.watchers.is_empty() && interested.waiters.is_empty() {
                self.keys.remove(key);
            }
        }
    }
}
