//! Opening a library and shaking hands: all that can be wrong with a file is found here, before anything in it runs.

#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::mem::ManuallyDrop;

use libloading::os::unix;
use mortise_sdk::abi::declare::{DECLARATION_SYMBOL, MAJOR, MINOR, ROOT_SYMBOL};
use mortise_sdk::abi::{self, Allocator, AllocatorFunctions, Declaration, Refusal, Root};

use super::border::{Table, text};

/// A library that is a module and suits the server.
pub(super) struct Library {
    pub(super) name: &'static str,
    pub(super) version: i64,
    pub(super) table: Table,
    pub(super) memory: &'static Allocator,
}

/// How a shared library of this system begins.
const ELF: &[u8] = b"\x7fELF";

/// The name of the module in a file, without running anything in it.
pub(super) fn name_of(path: &str) -> Result<String, String> {
    let library = map(path)?;
    let name = declaration(&library, path).and_then(|declaration| text(declaration.name));
    Ok(name?.to_owned())
}

/// Opens a library and shakes hands. A refusal is a sentence, without the full stop.
pub(super) fn open(path: &str) -> Result<Library, String> {
    let library = map(path)?;
    let declaration = declaration(&library, path)?;
    let name = text(declaration.name)?;
    if name.is_empty()
        || name.len() > 64
        || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return Err(format!("'{path}' is a module with a wrong name"));
    }
    let version = text(declaration.version).map(number)?;
    let at = symbol::<Root>(&library, ROOT_SYMBOL)
        .ok_or_else(|| format!("'{path}' lacks the symbol {ROOT_SYMBOL}"))?;

    // From here on the library's code runs, so it stays mapped for ever.
    let _library = ManuallyDrop::new(library);
    // SAFETY: nothing in the library has run, or it was connected to the same functions when it was loaded before.
    unsafe { declaration.allocator.connect(&ALLOCATOR) };
    // SAFETY: the symbol is the module's root, as its declaration has shown, and the library stays mapped.
    let table = unsafe { abi::root(at) }.map_err(|difference| {
        tracing::debug!("The tables of '{path}' differ: {difference}");
        format!("'{path}' states version {MAJOR}.{MINOR} of the border, but its tables are others than the server's")
    })?;
    Ok(Library { name, version, table: Table::new(table), memory: declaration.allocator })
}

/// Maps a library into the process, which runs no code of ours in it yet.
fn map(path: &str) -> Result<unix::Library, String> {
    let mut start = [0; ELF.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(format!("There is no file '{path}'"));
        }
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(format!("'{path}' is no shared library"));
        }
        Err(error) => return Err(format!("'{path}' cannot be read: {error}")),
        Ok(()) if start != ELF => return Err(format!("'{path}' is no shared library")),
        Ok(()) => {}
    }
    // dlopen looks a name without a slash up in the system's folders; a path means a file.
    let full = std::path::absolute(path).map_err(|error| format!("'{path}' cannot be read: {error}"))?;
    // SAFETY: initialisers of the library may run. An operator who may load modules may run code in the server.
    unsafe { unix::Library::open(Some(full), unix::RTLD_NOW | unix::RTLD_LOCAL) }
        .map_err(|error| format!("'{path}' cannot be loaded: {error}"))
}

fn symbol<T>(library: &unix::Library, name: &str) -> Option<*const T> {
    // SAFETY: the address alone is taken; whoever reads there says why it may.
    let found = unsafe { library.get::<*const T>(name.as_bytes()) }.ok()?;
    let address = found.into_raw().cast::<T>().cast_const();
    (!address.is_null()).then_some(address)
}

fn declaration(library: &unix::Library, path: &str) -> Result<&'static Declaration, String> {
    let at = symbol::<Declaration>(library, DECLARATION_SYMBOL)
        .ok_or_else(|| format!("'{path}' is a library, but no module of Mortise"))?;
    // SAFETY: the symbol of a declaration. `name_of` and `open` use what it says before the library is unmapped; from
    // then on `open` keeps it mapped.
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

    #[test]
    fn what_is_no_library_is_refused() {
        let refusal = |path: &str| open(path).err().unwrap_or_default();
        assert_eq!(refusal("/nowhere/x.so"), "There is no file '/nowhere/x.so'");
        assert_eq!(refusal("Cargo.toml"), "'Cargo.toml' is no shared library");
        assert_eq!(refusal("/dev/null"), "'/dev/null' is no shared library");
        assert!(refusal("src").starts_with("'src' cannot be read: "), "{}", refusal("src"));
    }
}
