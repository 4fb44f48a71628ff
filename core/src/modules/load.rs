//! Opening a library and shaking hands: all that can be wrong with a module is found here, before its code is used.

#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use libloading::os::unix;
use mortise_sdk::abi::declare::{DECLARATION_SYMBOL, MAJOR, MINOR, ROOT_SYMBOL};
use mortise_sdk::abi::{self, Allocator, AllocatorFunctions, Declaration, Refusal, Root};
use mortise_sdk::declare::Spec;

use super::border::{Table, text};
use super::file::{self, Digest};

/// A library that is a module and suits the server.
pub(super) struct Library {
    pub(super) name: &'static str,
    pub(super) version: i64,
    pub(super) table: Table,
    pub(super) memory: &'static Allocator,
    /// Its commands' declarations, once they have been understood.
    pub(super) specs: &'static OnceLock<Result<Vec<Spec>, String>>,
}

/// A library in the process. It is never unmapped: once its initialisers have run, nobody knows what refers to it.
struct Held {
    library: unix::Library,
    specs: OnceLock<Result<Vec<Spec>, String>>,
    /// Open for ever, as the system's loader knows a library by the path that leads here.
    _copy: File,
}

/// The libraries in the process, by their content: what is loaded again is not mapped again.
static HELD: LazyLock<Mutex<HashMap<Digest, &'static Held>>> = LazyLock::new(Mutex::default);

/// Opens a library and shakes hands. A refusal is a sentence, without the full stop.
pub(super) fn open(path: &str) -> Result<Library, String> {
    let held = hold(path)?;
    let declaration = declaration(&held.library, path)?;
    let name = text(declaration.name)?;
    if name.is_empty()
        || name.len() > 64
        || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return Err(format!("'{path}' is a module with a wrong name"));
    }
    let version = text(declaration.version).map(number)?;
    let at = symbol::<Root>(&held.library, ROOT_SYMBOL)
        .ok_or_else(|| format!("'{path}' lacks the symbol {ROOT_SYMBOL}"))?;
    if declaration.allocator.holds_foreign_memory() {
        return Err(format!("'{path}' keeps memory that it has asked for before the server could count it"));
    }
    // SAFETY: what its initialisers have allocated is freed, as has just been seen, or it was connected to the same
    // functions when it was loaded before. That no initialiser has left a thread behind which allocates at this very
    // moment is for the operator to know who trusts the library with the process.
    unsafe { declaration.allocator.connect(&ALLOCATOR) };
    // SAFETY: the symbol is the module's root, as its declaration has shown, and the library stays mapped.
    let table = unsafe { abi::root(at) }.map_err(|difference| {
        tracing::debug!("The tables of '{path}' differ: {difference}");
        format!("'{path}' states version {MAJOR}.{MINOR} of the border, but its tables are others than the server's")
    })?;
    let (table, memory) = (Table::new(table), declaration.allocator);
    Ok(Library { name, version, table, memory, specs: &held.specs })
}

/// Maps a library into the process, unless it is there. Its initialisers run.
fn hold(path: &str) -> Result<&'static Held, String> {
    let copy = file::copy(path)?;
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = held.get(&copy.digest) {
        return Ok(known);
    }
    let place = format!("/proc/self/fd/{}", copy.file.as_raw_fd());
    // SAFETY: initialisers of the library may run. An operator who may load modules may run code in the server.
    let library = unsafe { unix::Library::open(Some(&place), unix::RTLD_NOW | unix::RTLD_LOCAL) }
        .map_err(|error| format!("'{path}' cannot be loaded: {}", error.to_string().replace(&place, path)))?;
    let new: &'static Held = Box::leak(Box::new(Held { library, specs: OnceLock::new(), _copy: copy.file }));
    held.insert(copy.digest, new);
    Ok(new)
}

fn symbol<T>(library: &unix::Library, name: &str) -> Option<*const T> {
    // SAFETY: the address alone is taken; whoever reads there says why it may.
    let found = unsafe { library.get::<*const T>(name.as_bytes()) }.ok()?;
    let address = found.into_raw().cast::<T>().cast_const();
    (!address.is_null()).then_some(address)
}

fn declaration(library: &'static unix::Library, path: &str) -> Result<&'static Declaration, String> {
    let at = symbol::<Declaration>(library, DECLARATION_SYMBOL)
        .ok_or_else(|| format!("'{path}' is a library, but no module of Mortise"))?;
    // SAFETY: the symbol of a declaration, in a library that is never unmapped.
    unsafe { Declaration::read(at) }.map_err(|refusal| match refusal {
        Refusal::Foreign => format!("'{path}' is a library, but no module of Mortise"),
        Refusal::Version(major, minor) => format!(
            "'{path}' was built for version {major}.{minor} of the border between server and modules, which here is \
             {MAJOR}.{MINOR}"
        ),
        Refusal::Sizes => {
            format!("'{path}' states version {MAJOR}.{MINOR} of the border, but its tables are others than the server's")
        }
        Refusal::Aborts => {
            format!("'{path}' was built with panic=abort, so that a panic in it would end the server")
        }
        Refusal::Features(features) => {
            format!("'{path}' needs what this server cannot do (features {features:#x})")
        }
    })
}

/// A version of three numbers as one.
fn number(version: &str) -> i64 {
    let parts = version.split(['.', '-', '+']).take(3);
    parts.fold((0, 10_000), |(sum, unit), part| (sum + part.parse::<i64>().unwrap_or(0) * unit, unit / 100)).0
}

/// The server's own allocator, for modules.
static ALLOCATOR: AllocatorFunctions = AllocatorFunctions { alloc, alloc_zeroed, free, resize };

// SAFETY (of each block below): these are called by a module's `GlobalAlloc` with the size and alignment of a `Layout`,
// and with memory that came from here.

unsafe extern "C" fn alloc(size: usize, align: usize) -> *mut u8 {
    // SAFETY: see above.
    unsafe { alloc::alloc(Layout::from_size_align_unchecked(size, align)) }
}

unsafe extern "C" fn alloc_zeroed(size: usize, align: usize) -> *mut u8 {
    // SAFETY: see above.
    unsafe { alloc::alloc_zeroed(Layout::from_size_align_unchecked(size, align)) }
}

unsafe extern "C" fn free(memory: *mut u8, size: usize, align: usize) {
    // SAFETY: see above.
    unsafe { alloc::dealloc(memory, Layout::from_size_align_unchecked(size, align)) }
}

unsafe extern "C" fn resize(memory: *mut u8, size: usize, align: usize, new_size: usize) -> *mut u8 {
    // SAFETY: see above.
    unsafe { alloc::realloc(memory, Layout::from_size_align_unchecked(size, align), new_size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(["0.1.0", "1.2.3", "2.0.1-beta", "x"].map(number), [100, 10_203, 20_001, 0]);
    }
}
