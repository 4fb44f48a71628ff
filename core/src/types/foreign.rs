//! A value whose type a module brought.

use std::sync::Arc;

/// What the server can do with a module's value: a row of functions, filled in when the module is loaded.
pub trait ForeignType: Send + Sync {
    /// The type's name, as TYPE shows it.
    fn name(&self) -> &str;
    /// The version of the saved form.
    fn version(&self) -> u32;
    /// A copy of a value; `None` if the type cannot be copied.
    fn copy(&self, value: u64) -> Option<u64>;
    /// Frees a value.
    fn free(&self, value: u64);
    /// Bytes that a value takes.
    fn memory(&self, value: u64) -> usize;
    /// How many elements a value has.
    fn len(&self, value: u64) -> usize;
    /// How many steps it takes to free it.
    fn free_effort(&self, value: u64) -> usize;
    /// Whether nothing is left of a value, so that its key goes.
    fn is_gone(&self, value: u64) -> bool;
    /// A value as bytes, for digests and files, or why there can be none.
    fn save(&self, value: u64) -> Result<Vec<u8>, String>;
    /// A value from what a version of the type saved, or why there can be none.
    fn load(&self, bytes: &[u8], version: u32) -> Result<u64, String>;
    /// The number of the type, if what `save` gives is all that stands behind that number in a file: a value that is kept
    /// as it was found, since nobody here understands it.
    fn kept_as(&self) -> Option<u64> {
        None
    }
    /// Whether its values are kept as a type saved them until a module with that type is loaded.
    fn is_frozen(&self) -> bool {
        false
    }
}

/// A module's value: its type, and the handle by which the module knows it.
pub struct Foreign {
    of: Arc<dyn ForeignType>,
    handle: u64,
}

impl Foreign {
    /// Takes over a value that the module made.
    pub fn new(of: Arc<dyn ForeignType>, handle: u64) -> Foreign {
        Foreign { of, handle }
    }

    /// The type.
    pub fn of(&self) -> &Arc<dyn ForeignType> {
        &self.of
    }

    /// The module's handle.
    pub fn handle(&self) -> u64 {
        self.handle
    }

    /// The type's name.
    pub fn type_name(&self) -> &str {
        self.of.name()
    }

    /// A copy, if the type can be copied.
    pub fn share(&self) -> Option<Foreign> {
        let handle = self.of.copy(self.handle)?;
        Some(Foreign { of: self.of.clone(), handle })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.of.len(self.handle)
    }

    /// Whether nothing is left of it.
    pub fn is_empty(&self) -> bool {
        self.of.is_gone(self.handle)
    }

    /// Bytes.
    pub fn memory(&self) -> usize {
        self.of.memory(self.handle)
    }

    /// Steps to free it.
    pub fn free_effort(&self) -> usize {
        self.of.free_effort(self.handle)
    }

    /// The value as bytes, or why there can be none.
    pub fn save(&self) -> Result<Vec<u8>, String> {
        self.of.save(self.handle)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.of.free(self.handle);
    }
}
