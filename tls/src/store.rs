//! Sessions that clients may resume: kept in memory, so many of them, for so long.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::server::StoresServerSessions;

/// What sessions are kept of. A connection under other settings cannot resume one: each configuration has a store of its own.
pub(crate) struct Store {
    sessions: Mutex<Sessions>,
    most: usize,
    lifetime: Duration,
}

#[derive(Default)]
struct Sessions {
    by_key: HashMap<Vec<u8>, (u64, Instant, Vec<u8>)>,
    /// Keys in the order in which they came, by their number.
    by_age: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

impl Store {
    /// Keeps `most` sessions at a time (any number if zero), each for `lifetime`.
    pub(crate) fn new(most: usize, lifetime: Duration) -> Store {
        let most = if most == 0 { usize::MAX } else { most };
        Store { sessions: Mutex::default(), most, lifetime }
    }

    fn put_at(&self, now: Instant, key: Vec<u8>, value: Vec<u8>) {
        let sessions = &mut *self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&key);
        while let Some((_, oldest)) = sessions.by_age.first_key_value() {
            let is_over =
                |(_, since, _): &(u64, Instant, Vec<u8>)| now.duration_since(*since) >= self.lifetime;
            if sessions.by_key.len() < self.most && !sessions.by_key.get(oldest).is_none_or(is_over) {
                break;
            }
            if let Some((_, oldest)) = sessions.by_age.pop_first() {
                sessions.by_key.remove(&oldest);
            }
        }
        let number = sessions.next;
        sessions.next += 1;
        sessions.by_age.insert(number, key.clone());
        sessions.by_key.insert(key, (number, now, value));
    }

    fn find_at(&self, now: Instant, key: &[u8], take: bool) -> Option<Vec<u8>> {
        let sessions = &mut *self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, since, value) = sessions.by_key.get(key)?;
        let found = (now.duration_since(*since) < self.lifetime).then(|| value.clone());
        if take || found.is_none() {
            sessions.remove(key);
        }
        found
    }
}

impl Sessions {
    fn remove(&mut self, key: &[u8]) {
        if let Some((number, ..)) = self.by_key.remove(key) {
            self.by_age.remove(&number);
        }
    }
}

impl StoresServerSessions for Store {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.put_at(Instant::now(), key, value);
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.find_at(Instant::now(), key, false)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.find_at(Instant::now(), key, true)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// Without the sessions: they are secrets.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("most", &self.most).field("lifetime", &self.lifetime).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(300);

    #[test]
    fn the_oldest_makes_room() {
        let (store, now) = (Store::new(2, LIFETIME), Instant::now());
        for key in [1, 2, 3_u8] {
            store.put_at(now, vec![key], vec![key, 0]);
        }
        let found: Vec<_> = [1, 2, 3_u8].iter().map(|key| store.find_at(now, &[*key], false)).collect();
        assert_eq!(found, [None, Some(vec![2, 0]), Some(vec![3, 0])]);
        store.put_at(now, vec![2], vec![9]);
        assert_eq!(store.find_at(now, &[2], true), Some(vec![9]));
        assert_eq!(store.find_at(now, &[2], true), None, "it was taken");
        assert_eq!(store.sessions.lock().unwrap().by_age.len(), 1);
    }

    #[test]
    fn a_session_ends_with_its_time() {
        let (store, now) = (Store::new(0, LIFETIME), Instant::now());
        store.put_at(now, vec![1], vec![1]);
        store.put_at(now + LIFETIME / 2, vec![2], vec![2]);
        let later = now + LIFETIME;
        assert_eq!(store.find_at(later, &[1], false), None);
        assert_eq!(store.find_at(later, &[2], false), Some(vec![2]));
        store.put_at(now, vec![3], vec![3]);
        store.put_at(later + LIFETIME, vec![4], vec![4]);
        assert_eq!(store.sessions.lock().unwrap().by_key.len(), 1, "what is over makes room");
    }
}
