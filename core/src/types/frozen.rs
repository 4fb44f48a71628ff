//! Values of modules' types that no loaded module has: they are kept as they were found, are saved again as they were, and
//! become what they were meant to be when a module with their type is loaded.
//!
//! To commands they are values of a module's type like any other: TYPE shows its name, and whoever wants another type is
//! told so.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::foreign::{Foreign, ForeignType};

/// The types that such values have.
#[derive(Default)]
pub struct FrozenTypes {
    types: Mutex<HashMap<Form, Arc<FrozenType>>>,
}

/// In which form a value was found.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Form {
    /// As a version of a type saved it.
    Own { name: String, version: u32 },
    /// As a file of Redis holds it, behind this number.
    AsItIs { name: String, id: u64 },
}

/// A type of which only the name is known.
struct FrozenType {
    form: Form,
    values: Mutex<Values>,
}

#[derive(Default)]
struct Values {
    by_handle: HashMap<u64, Arc<[u8]>>,
    last: u64,
}

impl FrozenTypes {
    /// Keeps what a version of a type has saved.
    pub fn freeze(&self, name: &str, version: u32, saved: Vec<u8>) -> Foreign {
        self.of(Form::Own { name: name.to_owned(), version }).keep(saved.into())
    }

    /// Keeps what stands behind a type's number in a file of Redis.
    pub fn freeze_as_it_is(&self, name: &str, id: u64, bytes: Vec<u8>) -> Foreign {
        self.of(Form::AsItIs { name: name.to_owned(), id }).keep(bytes.into())
    }

    /// A copy of a value of a type that cannot be copied: what it saves.
    pub fn copy_of(&self, value: &Foreign) -> Result<Foreign, String> {
        Ok(self.freeze(value.type_name(), value.of().version(), value.save()?))
    }

    /// How many values of a type are kept that a module with the type could understand.
    pub fn count(&self, name: &str) -> usize {
        let types = self.types.lock();
        let of_name =
            types.values().filter(|of| matches!(&of.form, Form::Own { name: known, .. } if known == name));
        of_name.map(|of| of.values.lock().by_handle.len()).sum()
    }

    /// Whether no value is kept.
    pub fn is_empty(&self) -> bool {
        self.types.lock().values().all(|of| of.values.lock().by_handle.is_empty())
    }

    fn of(&self, form: Form) -> Arc<FrozenType> {
        let new = || Arc::new(FrozenType { form: form.clone(), values: Mutex::default() });
        self.types.lock().entry(form.clone()).or_insert_with(new).clone()
    }
}

impl FrozenType {
    fn keep(self: Arc<Self>, bytes: Arc<[u8]>) -> Foreign {
        let handle = self.put(bytes);
        Foreign::new(self, handle)
    }

    fn put(&self, bytes: Arc<[u8]>) -> u64 {
        let mut values = self.values.lock();
        values.last += 1;
        let handle = values.last;
        values.by_handle.insert(handle, bytes);
        handle
    }

    fn bytes(&self, value: u64) -> Option<Arc<[u8]>> {
        self.values.lock().by_handle.get(&value).cloned()
    }
}

impl ForeignType for FrozenType {
    fn name(&self) -> &str {
        match &self.form {
            Form::Own { name, .. } | Form::AsItIs { name, .. } => name,
        }
    }

    fn version(&self) -> u32 {
        match &self.form {
            Form::Own { version, .. } => *version,
            Form::AsItIs { .. } => 0,
        }
    }

    fn copy(&self, value: u64) -> Option<u64> {
        Some(self.put(self.bytes(value)?))
    }

    fn free(&self, value: u64) {
        self.values.lock().by_handle.remove(&value);
    }

    fn memory(&self, value: u64) -> usize {
        self.bytes(value).map_or(0, |bytes| bytes.len())
    }

    fn len(&self, _: u64) -> usize {
        1
    }

    fn free_effort(&self, _: u64) -> usize {
        1
    }

    fn is_gone(&self, _: u64) -> bool {
        false
    }

    fn save(&self, value: u64) -> Result<Vec<u8>, String> {
        self.bytes(value).map(|bytes| bytes.to_vec()).ok_or_else(|| "the value is not there".to_owned())
    }

    fn load(&self, bytes: &[u8], _: u32) -> Result<u64, String> {
        Ok(self.put(bytes.into()))
    }

    fn is_frozen(&self) -> bool {
        matches!(self.form, Form::Own { .. })
    }

    fn kept_as(&self) -> Option<u64> {
        match &self.form {
            Form::Own { .. } => None,
            Form::AsItIs { id, .. } => Some(*id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_saved_as_it_was() {
        let frozen = FrozenTypes::default();
        let own = frozen.freeze("guestbook", 3, b"ann".to_vec());
        let other = frozen.freeze_as_it_is("ReJSON-RL", 77, b"{}".to_vec());
        assert_eq!((own.type_name(), own.of().version(), own.of().kept_as()), ("guestbook", 3, None));
        assert_eq!((other.type_name(), other.of().kept_as()), ("ReJSON-RL", Some(77)));
        let copy = own.share().expect("it can be copied");
        assert_eq!(frozen.count("guestbook"), 2);
        drop(own);
        assert_eq!((copy.save(), copy.memory()), (Ok(b"ann".to_vec()), 3));
        assert_eq!(frozen.copy_of(&copy).unwrap().save(), Ok(b"ann".to_vec()));
        drop(copy);
        assert_eq!(frozen.count("guestbook"), 0);
    }
}
