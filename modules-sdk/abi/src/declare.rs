//! What a module declares: the handshake, and the rows of its tables.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicIsize, AtomicPtr, Ordering};

use abi_stable::StableAbi;

use crate::host::Host;
use crate::module::Module;
use crate::value::{Slice, TypeId};

/// The symbol under which a library exports its [`Declaration`].
pub const DECLARATION_SYMBOL: &str = "MORTISE_MODULE";
/// The symbol under which a library exports its [`crate::Root`].
pub const ROOT_SYMBOL: &str = "MORTISE_ROOT";

/// The version of the border: its major number.
pub const MAJOR: u32 = 0;
/// The version of the border: its minor number.
pub const MINOR: u32 = 3;

/// What a server can do beyond the tables. A module may require it; there is nothing yet.
pub const FEATURES: u64 = 0;

const MAGIC: [u8; 8] = *b"mortise\x01";

/// The handshake: what the server reads before it trusts anything else in a library.
///
/// Its beginning (magic and version) stays as it is for ever; the rest is read only if the version suits.
#[repr(C)]
pub struct Declaration {
    /// Shows that it is one.
    pub magic: [u8; 8],
    /// The border that the module was built for: major number.
    pub major: u32,
    /// The border that the module was built for: minor number.
    pub minor: u32,
    /// Bytes of each table and row, as the module knows them.
    pub sizes: Sizes,
    /// 1 if a panic unwinds, so that it can be caught; 0 if it ends the process.
    pub unwinds: u32,
    /// What the module needs the server to be able to do.
    pub features: u64,
    /// The module's name.
    pub name: Slice<'static>,
    /// The module's version: three numbers with points between them.
    pub version: Slice<'static>,
    /// Where the module gets its memory.
    pub allocator: &'static Allocator,
}

/// Bytes of each table and row.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// The handshake.
    pub declaration: u32,
    /// What a module gives.
    pub module: u32,
    /// What the server gives.
    pub host: u32,
    /// A command.
    pub command: u32,
    /// A data type.
    pub data_type: u32,
    /// A directive.
    pub directive: u32,
}

impl Sizes {
    /// As this build knows them.
    pub const OURS: Sizes = Sizes {
        declaration: size_of::<Declaration>() as u32,
        module: size_of::<Module>() as u32,
        host: size_of::<Host>() as u32,
        command: size_of::<CommandRow<'static>>() as u32,
        data_type: size_of::<TypeRow<'static>>() as u32,
        directive: size_of::<DirectiveRow<'static>>() as u32,
    };
}

/// Why a declaration does not suit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It is no declaration.
    Foreign,
    /// It was built for another version of the border: major and minor number.
    Version(u32, u32),
    /// It states the version of the border, but other sizes.
    Sizes,
    /// A panic would end the process.
    Aborts,
    /// It needs what the server cannot do.
    Features(u64),
}

impl Declaration {
    /// A declaration of a module that this build of the border belongs to.
    pub const fn new(
        name: &'static str,
        version: &'static str,
        unwinds: bool,
        allocator: &'static Allocator,
    ) -> Declaration {
        Declaration {
            magic: MAGIC,
            major: MAJOR,
            minor: MINOR,
            sizes: Sizes::OURS,
            unwinds: unwinds as u32,
            features: 0,
            name: Slice::text(name),
            version: Slice::text(version),
            allocator,
        }
    }

    /// What a library exports under [`DECLARATION_SYMBOL`], if it suits.
    ///
    /// # Safety
    ///
    /// `at` is the address of that symbol in a library that is never unmapped.
    pub unsafe fn read(at: *const Declaration) -> Result<&'static Declaration, Refusal> {
        // SAFETY: the symbol is ours, so at least the magic bytes stand there; each further part is read once what
        // stands before it has shown that it is there.
        unsafe {
            if ptr::addr_of!((*at).magic).read() != MAGIC {
                return Err(Refusal::Foreign);
            }
            let (major, minor) = (ptr::addr_of!((*at).major).read(), ptr::addr_of!((*at).minor).read());
            // Before 1.0 each minor version is a border of its own.
            if major != MAJOR || minor > MINOR || major == 0 && minor != MINOR {
                return Err(Refusal::Version(major, minor));
            }
            if ptr::addr_of!((*at).sizes).read() != Sizes::OURS {
                return Err(Refusal::Sizes);
            }
            let declaration = &*at;
            if declaration.unwinds != 1 {
                return Err(Refusal::Aborts);
            }
            if declaration.features & !FEATURES != 0 {
                return Err(Refusal::Features(declaration.features & !FEATURES));
            }
            Ok(declaration)
        }
    }
}

/// The server's functions that give and take memory; any thread may call them.
#[repr(C)]
pub struct AllocatorFunctions {
    /// Memory of a size and an alignment; null if there is none.
    pub alloc: unsafe extern "C" fn(size: usize, align: usize) -> *mut u8,
    /// The same, zeroed.
    pub alloc_zeroed: unsafe extern "C" fn(size: usize, align: usize) -> *mut u8,
    /// Takes memory back.
    pub free: unsafe extern "C" fn(memory: *mut u8, size: usize, align: usize),
    /// Memory of another size with the same content.
    pub resize: unsafe extern "C" fn(memory: *mut u8, size: usize, align: usize, new_size: usize) -> *mut u8,
}

/// A module's allocator: the server's, counted. Until the server connects it, and where no server does (in a module's
/// own tests), it is the system's. The loader of libraries runs their initialisers before anybody can connect anything;
/// so the server connects only what holds no memory yet, and all memory comes from one place.
#[repr(C)]
pub struct Allocator {
    functions: AtomicPtr<AllocatorFunctions>,
    live: AtomicIsize,
}

impl Allocator {
    /// An allocator that is not connected.
    #[allow(clippy::new_without_default)] // it is made in statics only
    pub const fn new() -> Allocator {
        Allocator { functions: AtomicPtr::new(ptr::null_mut()), live: AtomicIsize::new(0) }
    }

    /// Lets memory come from these functions.
    ///
    /// # Safety
    ///
    /// Nothing that was allocated is still held, unless it came from the same functions; and no thread allocates
    /// meanwhile.
    pub unsafe fn connect(&self, functions: &'static AllocatorFunctions) {
        self.functions.store(ptr::from_ref(functions).cast_mut(), Ordering::Release);
    }

    /// Whether memory is held that the system has given, since it was asked for before a server connected the allocator.
    pub fn holds_foreign_memory(&self) -> bool {
        self.functions().is_none() && self.live.load(Ordering::Acquire) != 0
    }

    /// Bytes that the module holds.
    pub fn live(&self) -> usize {
        usize::try_from(self.live.load(Ordering::Relaxed)).unwrap_or(0)
    }

    #[inline(always)]
    fn functions(&self) -> Option<&'static AllocatorFunctions> {
        // SAFETY: null, or what `connect` has been given.
        unsafe { self.functions.load(Ordering::Acquire).as_ref() }
    }

    fn count(&self, bytes: isize) {
        self.live.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: forwards to an allocator, always the same one (see `connect`), and counts beside it.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe {
            match self.functions() {
                Some(functions) => (functions.alloc)(layout.size(), layout.align()),
                None => System.alloc(layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe {
            match self.functions() {
                Some(functions) => (functions.alloc_zeroed)(layout.size(), layout.align()),
                None => System.alloc_zeroed(layout),
            }
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.count(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe {
            match self.functions() {
                Some(functions) => (functions.free)(memory, layout.size(), layout.align()),
                None => System.dealloc(memory, layout),
            }
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        self.count(new_size as isize - layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe {
            match self.functions() {
                Some(functions) => (functions.resize)(memory, layout.size(), layout.align(), new_size),
                None => System.realloc(memory, layout, new_size),
            }
        }
    }
}

/// The tables of a module.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Feature<'a> {
    /// What it is for, in a sentence.
    pub about: Slice<'a>,
    /// Commands. `Module::run` knows each by its place.
    pub commands: crate::List<'a, CommandRow<'a>>,
    /// Data types. `Module`'s functions on values know each by its place.
    pub types: crate::List<'a, TypeRow<'a>>,
    /// Directives. `Module::show` and `Module::set` know each by its place.
    pub directives: crate::List<'a, DirectiveRow<'a>>,
}

/// A command.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct CommandRow<'a> {
    /// The usage line.
    pub usage: Slice<'a>,
    /// What it does.
    pub about: Slice<'a>,
    /// Which version of the module brought it.
    pub since: Slice<'a>,
    /// Time complexity.
    pub cost: Slice<'a>,
    /// Chapter.
    pub group: Slice<'a>,
    /// Bits of its flags.
    pub flags: u64,
    /// Bits of its ACL categories.
    pub categories: u32,
    /// Arity, where the usage line does not imply it; 0 where it does.
    pub arity: i32,
    /// How its keys are used.
    pub keys: crate::List<'a, KeyRow<'a>>,
    /// Command tips.
    pub tips: crate::List<'a, Slice<'a>>,
}

/// How a command uses the keys that an argument names.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct KeyRow<'a> {
    /// The argument in the usage line.
    pub arg: Slice<'a>,
    /// Bits of what is done.
    pub access: u32,
}

/// A data type.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct TypeRow<'a> {
    /// Its name.
    pub name: Slice<'a>,
    /// The number that follows from the name.
    pub id: TypeId,
    /// The version of its saved form.
    pub version: u32,
}

/// A directive.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct DirectiveRow<'a> {
    /// Its name without the module's.
    pub name: Slice<'a>,
    /// What it is for.
    pub about: Slice<'a>,
    /// Who may change it: 0 live, 1 fixed, 2 protected, 3 secret, 4 hidden.
    pub access: u32,
    /// 1 if its value is several words, which stand in quotes where they hold spaces; 0 if it is one text.
    pub multiple: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    static ALLOCATOR: Allocator = Allocator::new();

    fn read(change: impl FnOnce(&mut Declaration)) -> Result<(), Refusal> {
        let mut declaration = Declaration::new("x", "1.2.3", true, &ALLOCATOR);
        change(&mut declaration);
        // SAFETY: the declaration is leaked, so it lives for ever.
        unsafe { Declaration::read(Box::leak(Box::new(declaration))) }.map(drop)
    }

    #[test]
    fn a_suitable_declaration_is_taken() {
        assert_eq!(read(|_| ()), Ok(()));
    }

    #[test]
    fn what_does_not_suit_is_refused() {
        assert_eq!(read(|d| d.magic[0] = b'x'), Err(Refusal::Foreign));
        assert_eq!(read(|d| d.minor += 1), Err(Refusal::Version(MAJOR, MINOR + 1)));
        assert_eq!(read(|d| d.major += 1), Err(Refusal::Version(MAJOR + 1, MINOR)));
        assert_eq!(read(|d| d.sizes.host += 8), Err(Refusal::Sizes));
        assert_eq!(read(|d| d.unwinds = 0), Err(Refusal::Aborts));
        assert_eq!(read(|d| d.features = 2), Err(Refusal::Features(2)));
    }

    #[test]
    fn memory_is_counted() {
        static COUNTED: Allocator = Allocator::new();
        let (layout, larger) = (Layout::new::<[u8; 100]>(), Layout::new::<[u8; 300]>());
        // SAFETY: freed with the layout it was last given.
        unsafe {
            let memory = COUNTED.alloc(layout);
            assert_eq!(COUNTED.live(), 100);
            assert!(COUNTED.holds_foreign_memory());
            let memory = COUNTED.realloc(memory, layout, 300);
            assert_eq!(COUNTED.live(), 300);
            COUNTED.dealloc(memory, larger);
        }
        assert_eq!(COUNTED.live(), 0);
        assert!(!COUNTED.holds_foreign_memory());
    }
}
