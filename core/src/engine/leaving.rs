//! Clients that have left: what they listened to and watched is forgotten little by little.
//!
//! A client may have named a million channels, each of which stands in a table. To forget them all at once, when it goes,
//! would hold everybody else up. So the names are taken from it as a whole, and taken out of the tables in slices.
//! Until then the tables hold numbers of a client that there is not, and which nobody else is ever given: who looks
//! into them leaves these out.

use std::collections::{VecDeque, btree_set, hash_set};

use super::Engine;
use super::session::ClientId;
use crate::keyspace::SpaceId;
use crate::pubsub::Kind;
use crate::pubsub::channels::Listeners;
use crate::transactions::watch::Watched;

/// So many names are forgotten at once.
const AT_ONCE: usize = 64;

/// Clients that have left, and what is still to be forgotten of them.
#[derive(Default)]
pub(super) struct Leaving(VecDeque<Left>);

struct Left {
    id: ClientId,
    space: SpaceId,
    heard: Vec<(Kind, hash_set::IntoIter<Box<[u8]>>)>,
    watched: std::vec::IntoIter<Watched>,
    prefixes: btree_set::IntoIter<Box<[u8]>>,
}

impl Engine {
    /// A client goes: if it has named much, that is taken from it, to be forgotten later.
    pub(super) fn take_names(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let prefixes = client.tracking.as_ref().map_or(0, |tracker| tracker.prefixes.len());
        if client.subscriptions() + client.watched.len() + prefixes <= AT_ONCE {
            return;
        }
        let heard = [Kind::Channel, Kind::Pattern, Kind::Shard];
        let left = Left {
            id,
            space: client.space,
            heard: heard.map(|kind| (kind, client.take_heard(kind).into_iter())).into(),
            watched: std::mem::take(&mut client.watched).into_iter(),
            prefixes: client
                .tracking
                .as_mut()
                .map(|tracker| std::mem::take(&mut tracker.prefixes))
                .unwrap_or_default()
                .into_iter(),
        };
        self.leaving.0.push_back(left);
    }

    /// Forgets some of what clients had named that have left; false if nothing is left to do.
    pub(crate) fn forget_names(&mut self) -> bool {
        let Some(left) = self.leaving.0.front_mut() else { return false };
        let Left { id, space, heard, watched, prefixes } = left;
        let (id, space) = (*id, *space);
        let pubsub = self.pubsub.of(space);
        let mut forgotten = 0;
        for (kind, names) in heard {
            for name in names.by_ref().take(AT_ONCE - forgotten) {
                pubsub.remove(*kind, &name, id);
                forgotten += 1;
            }
        }
        for Watched { db, key } in watched.by_ref().take(AT_ONCE - forgotten) {
            self.keyspace.db(space, db).0.interest.unwatch(&key, id);
            forgotten += 1;
        }
        for prefix in prefixes.by_ref().take(AT_ONCE - forgotten) {
            self.tracking.forget_prefix(space, &prefix, id);
            forgotten += 1;
        }
        if forgotten < AT_ONCE {
            self.leaving.0.pop_front();
            self.follow_tracking();
        }
        true
    }

    /// How many listen who have not left.
    pub(crate) fn count_listeners(&self, listeners: &Listeners) -> usize {
        if self.leaving.0.is_empty() {
            return listeners.len();
        }
        listeners.iter().filter(|listener| self.is_there(listener.id)).count()
    }

    /// Whether somebody who listens has not left.
    #[inline(always)]
    pub(crate) fn is_there(&self, id: ClientId) -> bool {
        self.leaving.0.is_empty() || self.clients.contains(id)
    }
}
