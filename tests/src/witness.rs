//! A witness at the door of mutation: whatever changes in the data must have been announced before.
//!
//! Snapshots and undo hang on that. The witness keeps a picture of all data, is told of each change before it happens,
//! and compares when asked to: after each step of a script, so that no later change hides one that was not announced.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mortise_core::keyspace::door::Witness;
use mortise_core::keyspace::{Entry, Keyspace, SpaceId};
use mortise_core::types::AnyRef;

/// Where an entry is.
type Place = (SpaceId, u32, Vec<u8>);

/// Much data is compared less often: comparing takes no more than one part in so many of the time.
const SHARE: u32 = 4;

/// Keeps the pictures, and asks for an account.
#[derive(Debug)]
pub(crate) struct Watching {
    notes: Arc<Mutex<Notes>>,
    /// No comparison before.
    rests_until: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Notes {
    /// The data when it was last compared.
    known: HashMap<Place, u64>,
    announced: HashSet<Place>,
    databases: HashSet<(SpaceId, u32)>,
    /// What had changed by the time that it was announced.
    late: Vec<Place>,
}

struct AtTheDoor(Arc<Mutex<Notes>>);

impl Witness for AtTheDoor {
    fn before(&mut self, space: SpaceId, db: u32, key: &[u8], entry: Option<&Entry>) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (space, db, key.to_vec());
        if notes.announced.contains(&place) {
            return;
        }
        if !notes.databases.contains(&(space, db)) && notes.known.get(&place).copied() != entry.map(picture) {
            notes.late.push(place.clone());
        }
        notes.announced.insert(place);
    }

    fn before_all(&mut self, space: SpaceId, db: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).databases.insert((space, db));
    }
}

impl Watching {
    /// Begins to watch.
    pub(crate) fn begin(keyspace: &mut Keyspace) -> Watching {
        let notes = Arc::new(Mutex::new(Notes { known: pictures(keyspace), ..Notes::default() }));
        keyspace.door.set_witness(Some(Box::new(AtTheDoor(notes.clone()))));
        Watching { notes, rests_until: Mutex::default() }
    }

    /// What has changed without having been announced, if anything has; not always asked for, if there is much data.
    pub(crate) fn glance(&self, keyspace: &Keyspace) -> Option<String> {
        let mut rests_until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        if rests_until.is_some_and(|until| begun < until) {
            return None;
        }
        let found = self.look(keyspace);
        let took = begun.elapsed();
        *rests_until = (took > Duration::from_millis(1)).then(|| Instant::now() + took * SHARE);
        found
    }

    /// What has changed without having been announced since the last look.
    pub(crate) fn look(&self, keyspace: &Keyspace) -> Option<String> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let now = pictures(keyspace);
        let known = std::mem::replace(&mut *notes, Notes { known: now, ..Notes::default() });
        let now = &notes.known;
        let differs = |place: &&Place| now.get(*place) != known.known.get(*place);
        let silent = |place: &&Place| {
            !known.announced.contains(*place) && !known.databases.contains(&(place.0, place.1))
        };
        let unannounced = now.keys().chain(known.known.keys()).filter(differs).filter(silent);
        let mut names: Vec<String> = unannounced
            .chain(&known.late)
            .map(|(space, db, key)| format!("{} in database {db} of {space:?}", String::from_utf8_lossy(key)))
            .collect();
        names.sort();
        names.dedup();
        (!names.is_empty()).then(|| format!("changed without being announced before: {}", names.join(", ")))
    }
}

fn pictures(keyspace: &Keyspace) -> HashMap<Place, u64> {
    keyspace
        .iter()
        .flat_map(|(space, db, contents)| {
            contents.dict().iter().map(move |entry| ((space, db, entry.key().to_vec()), picture(entry)))
        })
        .collect()
}

fn hashed(add: &dyn Fn(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    add(&mut hasher);
    hasher.finish()
}

/// Anything in a number, the same in each run.
pub(crate) fn number(what: &impl Hash) -> u64 {
    hashed(&|hasher| what.hash(hasher))
}

/// Everything that a command can see of an entry, in a number.
fn picture(entry: &Entry) -> u64 {
    let content = content(entry);
    hashed(&|hasher| (content, entry.deadline(), entry.kind() as u8).hash(hasher))
}

/// What an entry's value is, in whatever encoding, in a number.
pub(crate) fn content(entry: &Entry) -> u64 {
    match AnyRef::of(entry) {
        AnyRef::Str(text) => hashed(&|hasher| text.bytes().hash(hasher)),
        // Fields have no order.
        AnyRef::Hash(hash) => {
            hash.iter()
                .map(|pair| hashed(&|hasher| pair.hash(hasher)))
                .fold(hash.len() as u64, u64::wrapping_add)
                ^ hash
                    .deadlines()
                    .iter()
                    .map(|deadline| hashed(&|hasher| deadline.hash(hasher)))
                    .fold(0, u64::wrapping_add)
        }
        AnyRef::Set(set) => set
            .iter()
            .map(|member| hashed(&|hasher| member.text().hash(hasher)))
            .fold(set.len() as u64, u64::wrapping_add),
        AnyRef::Zset(zset) => hashed(&|hasher| {
            zset.iter().for_each(|(score, member)| (score.to_bits(), member).hash(hasher));
        }),
        AnyRef::List(list) => hashed(&|hasher| {
            list.show_each(0..list.len(), |item| item.text().hash(hasher));
        }),
        AnyRef::Stream(stream) => hashed(&|hasher| stream.picture().hash(hasher)),
        AnyRef::Foreign(foreign) => hashed(&|hasher| foreign.save().hash(hasher)),
    }
}

#[cfg(test)]
mod tests {
    use mortise_core::keyspace::NewValue;
    use mortise_core::keyspace::hash::hash;

    use super::*;

    fn put(keyspace: &mut Keyspace, key: &[u8], n: i64) {
        let (db, door) = keyspace.db(SpaceId::FIRST, 0);
        db.put(door, hash(key), key, NewValue::Integer(n));
    }

    #[test]
    fn what_is_not_announced_is_seen() {
        let mut keyspace = Keyspace::default();
        put(&mut keyspace, b"old", 1);
        let watching = Watching::begin(&mut keyspace);
        put(&mut keyspace, b"old", 2);
        put(&mut keyspace, b"new", 1);
        assert_eq!(watching.look(&keyspace), None, "both were announced");

        // Behind the witness's back.
        keyspace.door.set_witness(None);
        put(&mut keyspace, b"old", 3);
        let seen = watching.look(&keyspace).expect("a change without a word");
        assert!(seen.contains("old") && !seen.contains("new"), "{seen}");

        // Announced, but too late.
        let watching = Watching::begin(&mut keyspace);
        let witness = AtTheDoor(watching.notes.clone());
        keyspace.door.set_witness(None);
        put(&mut keyspace, b"old", 4);
        keyspace.door.set_witness(Some(Box::new(witness)));
        put(&mut keyspace, b"old", 5);
        assert!(watching.look(&keyspace).is_some());

        let (db, door) = keyspace.db(SpaceId::FIRST, 0);
        drop(db.flush(door));
        assert_eq!(watching.look(&keyspace), None, "a whole database was announced");
    }
}
