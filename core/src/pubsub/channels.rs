//! A table from channel (or pattern) to its listeners.

use std::collections::HashMap;
use std::sync::Arc;

use mortise_sdk::resp::encode::Version;

use crate::engine::outbox::Outbox;
use crate::engine::session::ClientId;
use crate::keyspace::shrink::Shrink;

/// Somebody who listens.
pub struct Listener {
    /// Who.
    pub id: ClientId,
    /// Where messages go.
    pub outbox: Arc<Outbox>,
}

impl Listener {
    /// The protocol that the listener speaks.
    #[inline(always)]
    pub fn version(&self) -> Version {
        self.outbox.version()
    }
}

/// The listeners of a channel. Leaving takes constant time, however many there are.
#[derive(Default)]
pub struct Listeners {
    list: Vec<Listener>,
    places: HashMap<ClientId, usize, foldhash::fast::RandomState>,
}

impl Listeners {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn add(&mut self, id: ClientId, outbox: Arc<Outbox>) {
        if let std::collections::hash_map::Entry::Vacant(place) = self.places.entry(id) {
            place.insert(self.list.len());
            self.list.push(Listener { id, outbox });
        }
    }

    fn remove(&mut self, id: ClientId) {
        let Some(place) = self.places.remove(&id) else { return };
        self.list.swap_remove(place);
        if let Some(moved) = self.list.get(place) {
            self.places.insert(moved.id, place);
        }
        self.list.shrink();
        self.places.shrink();
    }
}

/// Channels, or patterns, with their listeners. One without listeners is not kept.
#[derive(Default)]
pub struct Channels {
    by_name: HashMap<Box<[u8]>, Listeners, foldhash::quality::RandomState>,
}

impl Channels {
    /// The listeners of a channel.
    pub fn get(&self, name: &[u8]) -> Option<&Listeners> {
        self.by_name.get(name)
    }

    /// Every channel with its listeners.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Listeners)> {
        self.by_name.iter().map(|(name, listeners)| (&**name, listeners))
    }

    /// For how many there is room.
    pub fn capacity(&self) -> usize {
        self.by_name.capacity()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// A client begins to listen.
    pub fn add(&mut self, name: &[u8], id: ClientId, outbox: Arc<Outbox>) {
        self.by_name.entry(name.into()).or_default().add(id, outbox);
    }

    /// A client no longer listens.
    pub fn remove(&mut self, name: &[u8], id: ClientId) {
        if let Some(listeners) = self.by_name.get_mut(name) {
            listeners.remove(id);
            if listeners.is_empty() {
                self.by_name.remove(name);
                self.by_name.shrink();
            }
        }
    }
}
