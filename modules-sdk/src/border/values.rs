//! Values of data types behind the handles by which the server knows them.

#![allow(unsafe_code)]

use std::any::{Any, TypeId};

use crate::abi::{self, Handle};
use crate::data_type::{DataType, Loader, Saver};
use crate::error::Result;

/// A data type's functions, for values of which only the handle is known.
#[derive(Debug)]
pub struct TypeRow {
    /// Its name.
    pub name: &'static str,
    /// The version of its saved form.
    pub version: u32,
    pub(super) id: abi::TypeId,
    pub(super) rust: fn() -> TypeId,
    pub(super) any: unsafe fn(Handle) -> *mut dyn Any,
    pub(super) copy: unsafe fn(Handle) -> Option<Handle>,
    pub(super) free: unsafe fn(Handle),
    pub(super) memory: unsafe fn(Handle) -> usize,
    pub(super) len: unsafe fn(Handle) -> usize,
    pub(super) free_effort: unsafe fn(Handle) -> usize,
    pub(super) is_gone: unsafe fn(Handle) -> bool,
    pub(super) save: unsafe fn(Handle, &mut Saver),
    pub(super) load: fn(&mut Loader<'_>, u32) -> Result<Handle>,
}

fn into_handle<T>(value: Box<T>) -> Handle {
    Box::into_raw(value).expose_provenance() as Handle
}

fn pointer<T>(handle: Handle) -> *mut T {
    std::ptr::with_exposed_provenance_mut(handle as usize)
}

/// # Safety
///
/// The handle came from `into_handle::<T>`, has not been freed, and nobody changes the value meanwhile.
unsafe fn view<'a, T>(handle: Handle) -> &'a T {
    // SAFETY: the caller's promise.
    unsafe { &*pointer::<T>(handle) }
}

impl TypeRow {
    /// The row of a type.
    pub const fn of<T: DataType>() -> TypeRow {
        // SAFETY (of each block below): the functions are called with handles of this row's type only, which is what
        // makes them `unsafe fn`s.
        TypeRow {
            name: T::NAME,
            version: T::VERSION,
            id: abi::type_id(T::NAME),
            rust: TypeId::of::<T>,
            any: |handle| pointer::<T>(handle),
            // SAFETY: see above.
            copy: |handle| unsafe { view::<T>(handle) }.copy().map(|copy| into_handle(Box::new(copy))),
            // SAFETY: see above.
            free: |handle| drop(unsafe { Box::from_raw(pointer::<T>(handle)) }),
            // SAFETY: see above.
            memory: |handle| unsafe { view::<T>(handle) }.memory() + size_of::<T>(),
            // SAFETY: see above.
            len: |handle| unsafe { view::<T>(handle) }.len(),
            // SAFETY: see above.
            free_effort: |handle| unsafe { view::<T>(handle) }.free_effort(),
            // SAFETY: see above.
            is_gone: |handle| unsafe { view::<T>(handle) }.is_gone(),
            // SAFETY: see above.
            save: |handle, out| unsafe { view::<T>(handle) }.save(out),
            load: |from, version| T::load(from, version).map(|value| into_handle(Box::new(value))),
        }
    }

    /// Whether both are of the same type, not only of the same name.
    pub(super) fn is(&self, other: &TypeRow) -> bool {
        self.id == other.id && (self.rust)() == (other.rust)()
    }
}

/// A value of some data type, owned.
#[derive(Debug)]
pub struct OwnedValue {
    pub(super) row: &'static TypeRow,
    handle: Handle,
}

impl OwnedValue {
    /// Takes over a value.
    pub fn new<T: DataType>(value: Box<T>) -> OwnedValue {
        OwnedValue { row: const { &TypeRow::of::<T>() }, handle: into_handle(value) }
    }

    /// A value of a row's type from its saved form.
    pub fn load(row: &'static TypeRow, bytes: &[u8], version: u32) -> Result<OwnedValue> {
        let handle = (row.load)(&mut Loader::new(bytes), version)?;
        Ok(OwnedValue { row, handle })
    }

    /// Its type.
    pub fn row(&self) -> &'static TypeRow {
        self.row
    }

    /// Whether its type is that of a row.
    pub fn is(&self, row: &TypeRow) -> bool {
        self.row.is(row)
    }

    /// The value.
    pub fn any(&self) -> &dyn Any {
        // SAFETY: the handle is of this row's type, and owned.
        unsafe { &*(self.row.any)(self.handle) }
    }

    /// The value, to be changed.
    pub fn any_mut(&mut self) -> &mut dyn Any {
        // SAFETY: the handle is of this row's type, and owned; `&mut self` is exclusive.
        unsafe { &mut *(self.row.any)(self.handle) }
    }

    /// Whether nothing is left of it.
    pub fn is_gone(&self) -> bool {
        // SAFETY: the handle is of this row's type, and owned.
        unsafe { (self.row.is_gone)(self.handle) }
    }

    /// Its saved form.
    pub fn save(&self) -> Vec<u8> {
        let mut out = Saver::default();
        // SAFETY: the handle is of this row's type, and owned.
        unsafe { (self.row.save)(self.handle, &mut out) };
        out.into_bytes()
    }

    pub(super) fn into_handle(self) -> Handle {
        let handle = self.handle;
        std::mem::forget(self);
        handle
    }
}

impl Drop for OwnedValue {
    fn drop(&mut self) {
        // SAFETY: the handle is of this row's type, owned, and not used again.
        unsafe { (self.row.free)(self.handle) }
    }
}
