//! All data of an engine, to be compared with what another has.

use std::collections::BTreeMap;

use mortise_core::engine::Engine;
use mortise_core::keyspace::SpaceId;
use mortise_core::types::AnyRef;

use crate::witness;

/// Where a fact belongs: database, key, and the field where one has a deadline of its own.
type Place = (u32, Vec<u8>, Option<Vec<u8>>);

/// The data at some moment, as facts that hold until some time.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    /// What is there, in a number, and until when.
    facts: BTreeMap<Place, (u64, i64)>,
    /// The sum of what has no end, and what has one: so that two pictures are compared without looking at each fact.
    lasting: u64,
    ending: Vec<(u64, i64)>,
}

impl Picture {
    /// What an engine has, whether its time has come or not.
    pub(super) fn of(engine: &Engine) -> Picture {
        let mut picture = Picture::default();
        for (_, index, db) in engine.keyspace.iter().filter(|(space, ..)| *space == SpaceId::FIRST) {
            for entry in db.dict().iter() {
                let (key, until) = (entry.key().to_vec(), entry.deadline().unwrap_or(i64::MAX));
                let deadlines = match AnyRef::of(entry) {
                    AnyRef::Hash(hash) => hash.deadlines(),
                    _ => Vec::new(),
                };
                if deadlines.is_empty() {
                    let what = (AnyRef::of(entry).type_name(), witness::content(entry), entry.deadline());
                    picture.note((index, key, None), witness::number(&what), until);
                    continue;
                }
                let AnyRef::Hash(hash) = AnyRef::of(entry) else { continue };
                let deadlines: BTreeMap<_, _> = deadlines.into_iter().collect();
                for (field, value) in hash.iter() {
                    let own = deadlines.get(&field).copied();
                    let what = (value, own, entry.deadline());
                    let until = own.unwrap_or(i64::MAX).min(until);
                    picture.note((index, key.clone(), Some(field.to_vec())), witness::number(&what), until);
                }
            }
        }
        picture
    }

    fn note(&mut self, place: Place, what: u64, until: i64) {
        let here = witness::number(&(&place, what));
        match until {
            i64::MAX => self.lasting = self.lasting.wrapping_add(here),
            _ => self.ending.push((here, until)),
        }
        self.facts.insert(place, (what, until));
    }

    /// How many facts there are.
    pub(super) fn count(&self) -> usize {
        self.facts.len()
    }

    fn sum(&self, now_ms: i64) -> u64 {
        let left = self.ending.iter().filter(|(_, until)| *until > now_ms).map(|(what, _)| *what);
        left.fold(self.lasting, u64::wrapping_add)
    }

    /// Whether two are alike once what has expired by a moment is gone from both.
    pub(super) fn is_like(&self, other: &Picture, now_ms: i64) -> bool {
        self.sum(now_ms) == other.sum(now_ms)
    }

    /// The first places in which another one differs.
    pub(super) fn difference(&self, other: &Picture, now_ms: i64) -> String {
        let of = |picture: &Picture, place: &Place| {
            picture.facts.get(place).copied().filter(|(_, until)| *until > now_ms)
        };
        let mut places: Vec<_> = self.facts.keys().chain(other.facts.keys()).collect();
        places.sort();
        places.dedup();
        let differs = places.into_iter().filter(|place| of(self, place) != of(other, place));
        let told: Vec<String> = differs
            .take(8)
            .map(|place| {
                let (db, key, field) = place;
                let field =
                    field.as_ref().map_or(String::new(), |field| format!("[{}]", field.escape_ascii()));
                let (one, two) = (of(self, place), of(other, place));
                format!("{db}:{}{field} {one:?} against {two:?}", key.escape_ascii())
            })
            .collect();
        told.join(", ")
    }
}
