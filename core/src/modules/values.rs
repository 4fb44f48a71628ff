//! Values of modules' types, as the server holds them.

use std::sync::atomic::{AtomicUsize, Ordering};

use mortise_sdk::abi;

use super::border::{Table, text};
use crate::engine::event::{self, EventClass};
use crate::keyspace::entry::{Entry, NewValue, Payload};
use crate::types::foreign::{Foreign, ForeignType};
use crate::types::{Object, Type};

/// A module's type.
pub(super) struct GuestType {
    pub(super) id: abi::TypeId,
    name: &'static str,
    version: u32,
    place: u32,
    table: Table,
    /// How many values there are, copies that undo or a cut keeps among them.
    values: AtomicUsize,
}

/// Names of the server's own types.
const OWN: &[&str] = &["none", "string", "list", "set", "zset", "hash", "stream"];

impl GuestType {
    /// The type at a place of a module's table.
    pub(super) fn new(table: Table, place: u32, row: &abi::TypeRow<'static>) -> Result<GuestType, String> {
        let name = text(row.name)?;
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            return Err(format!("brings a data type with the wrong name '{name}'"));
        }
        if OWN.contains(&name) {
            return Err(format!("brings the data type '{name}', which exists already"));
        }
        if row.id != abi::type_id(name) {
            return Err(format!("brings the data type '{name}' with a wrong number"));
        }
        Ok(GuestType { id: row.id, name, version: row.version, place, table, values: AtomicUsize::new(0) })
    }

    /// Takes a value over from the module.
    pub(super) fn adopt(self: std::sync::Arc<Self>, handle: abi::Handle) -> Foreign {
        self.values.fetch_add(1, Ordering::Relaxed);
        Foreign::new(self, handle)
    }

    /// Whether a value is of this type, and not only of one with its name.
    #[inline]
    pub(super) fn is_of(&self, value: &Foreign) -> bool {
        std::ptr::eq(std::sync::Arc::as_ptr(value.of()).cast::<u8>(), std::ptr::from_ref(self).cast::<u8>())
    }

    /// Whether there are values.
    pub(super) fn is_in_use(&self) -> bool {
        self.values.load(Ordering::Relaxed) > 0
    }
}

impl ForeignType for GuestType {
    fn name(&self) -> &str {
        self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn copy(&self, value: u64) -> Option<u64> {
        let copy = self.table.copy(self.place, value)?;
        self.values.fetch_add(1, Ordering::Relaxed);
        Some(copy)
    }

    fn free(&self, value: u64) {
        self.table.free(self.place, value);
        self.values.fetch_sub(1, Ordering::Relaxed);
    }

    fn memory(&self, value: u64) -> usize {
        self.table.memory(self.place, value)
    }

    fn len(&self, value: u64) -> usize {
        self.table.len(self.place, value)
    }

    fn free_effort(&self, value: u64) -> usize {
        self.table.free_effort(self.place, value)
    }

    fn is_gone(&self, value: u64) -> bool {
        self.table.is_gone(self.place, value)
    }

    fn save(&self, value: u64) -> Result<Vec<u8>, String> {
        self.table.save(self.place, value).map_err(|failure| failure.to_string())
    }

    fn load(&self, bytes: &[u8], version: u32) -> Result<u64, String> {
        let value = self.table.load(self.place, bytes, version).map_err(|failure| failure.to_string())?;
        self.values.fetch_add(1, Ordering::Relaxed);
        Ok(value)
    }
}

/// The type of all values of modules, as edits know it.
pub(super) struct ModuleValue;

impl Type for ModuleValue {
    type View<'a> = &'a Foreign;
    const CLASS: EventClass = event::MODULE;

    fn view(entry: &Entry) -> Option<&Foreign> {
        match entry.payload() {
            Payload::Object(Object::Foreign(value)) => Some(value),
            _ => None,
        }
    }

    fn empty() -> NewValue<'static> {
        unreachable!("a module makes its values itself, and puts them")
    }

    fn is_gone(value: &Foreign) -> bool {
        value.is_empty()
    }
}
