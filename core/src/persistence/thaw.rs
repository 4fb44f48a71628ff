//! Values that were kept as no loaded module had their type, when a module with it is loaded.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::Engine;
use crate::keyspace::hash::hash;
use crate::keyspace::{Entry, NewValue, Payload};
use crate::types::Object;
use crate::types::foreign::{Foreign, ForeignType};

type Types = HashMap<String, Arc<dyn ForeignType>>;

impl Engine {
    /// Makes of such values what they were meant to be. To everybody else nothing has changed. It looks at every key if
    /// there are such values, and at none if there are not.
    pub(crate) fn thaw(&mut self) {
        let mut types = self.modules.data_types();
        types.retain(|name, _| self.persistence.frozen.count(name) > 0);
        if types.is_empty() {
            return;
        }
        let Engine { keyspace, unit, .. } = self;
        for (space, index) in keyspace.places() {
            let (db, door) = keyspace.db(space, index);
            let keys: Vec<Box<[u8]>> = db
                .dict()
                .iter()
                .filter(|entry| frozen(entry, &types).is_some())
                .map(|entry| entry.key().into())
                .collect();
            for key in keys {
                let Some(mut edit) = db.edit(door, hash(&key), &key) else { continue };
                let Some((value, of)) = frozen(edit.entry(), &types) else { continue };
                let loaded = value.save().and_then(|saved| of.load(&saved, value.of().version()));
                match loaded {
                    Ok(handle) => {
                        let value = Object::Foreign(Foreign::new(of.clone(), handle));
                        unit.discard(edit.set(NewValue::Object(Box::new(value))));
                    }
                    Err(reason) => tracing::warn!(
                        "The value of '{}' is kept as it was saved, as its module cannot read it: {reason}",
                        key.escape_ascii()
                    ),
                }
            }
        }
    }
}

/// The value of an entry, if it is kept, and the type that it is meant to have.
fn frozen<'e, 't>(entry: &'e Entry, types: &'t Types) -> Option<(&'e Foreign, &'t Arc<dyn ForeignType>)> {
    let Payload::Object(Object::Foreign(value)) = entry.payload() else { return None };
    let of = types.get(value.type_name())?;
    value.of().is_frozen().then_some((value, of))
}
