//! What a module gives: the functions that the server calls. The table only grows at its end.

use abi_stable::library::{
    __call_root_module_loader, AbiHeaderRef, CheckTypeLayout, LibHeader, RootModule, RootModuleResult,
};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::{StableAbi, package_version_strings};

use crate::declare::Feature;
use crate::host::HostRef;
use crate::value::{Context, Handle, List, Outcome, Slice};

/// One execution of a command.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Call<'a> {
    /// What belongs to the call on the server's side.
    pub context: Context,
    /// The arguments, the command's name first.
    pub args: List<'a, Slice<'a>>,
    /// Unix milliseconds, the same for the whole call.
    pub now_ms: i64,
    /// The same moment in Unix nanoseconds, as finely as the server knows it.
    pub now_ns: i64,
    /// The protocol in which the reply is encoded: 2 or 3.
    pub resp: u32,
}

/// In which form a directive's value is shown.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form(pub u32);

impl Form {
    /// As CONFIG GET shows it.
    pub const SHOWN: Form = Form(0);
    /// As a file of directives holds it: the text behind the name, in as many lines as it takes.
    pub const WRITTEN: Form = Form(1);
    /// The same for the value that it has if nobody sets it.
    pub const DEFAULT: Form = Form(2);
}

/// Takes lines of INFO: section, name, value.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct InfoSink {
    /// What belongs to the sink.
    pub context: Context,
    /// Takes a line.
    pub line: unsafe extern "C" fn(Context, Slice<'_>, Slice<'_>, Slice<'_>),
}

/// A module's functions.
///
/// Types, commands and directives are named by their place in the table that `describe` gives. Functions on values may
/// be called on any thread, but for one value only by one thread at a time; the others on the engine's thread only.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ModuleRef, prefix_fields = ModuleFields)))]
#[sabi(missing_field(panic))]
pub struct Module {
    /// Begins, with every directive at its default. Called first, with the arguments of MODULE LOAD.
    pub start: unsafe extern "C" fn(HostRef, List<'_, Slice<'_>>) -> Outcome,
    /// The module's tables.
    pub describe: extern "C" fn() -> Feature<'static>,
    /// Ends. No command is run afterwards, unless it starts again.
    pub stop: extern "C" fn() -> Outcome,
    /// Runs a command; the bytes are its reply, encoded.
    pub run: unsafe extern "C" fn(&Call<'_>, u32) -> Outcome,
    /// The value of a directive, in the form that the second argument names.
    pub show: extern "C" fn(u32, Form) -> Outcome,
    /// Gives a directive a value, or says why not. Several words come in one text, each in quotes if it needs them.
    pub set: unsafe extern "C" fn(u32, Slice<'_>) -> Outcome,
    /// Tells the module's lines of INFO.
    pub info: unsafe extern "C" fn(InfoSink) -> Outcome,
    /// A copy of a value; 0 if there can be none.
    pub copy: unsafe extern "C" fn(u32, Handle) -> Handle,
    /// Frees a value.
    pub free: unsafe extern "C" fn(u32, Handle),
    /// Bytes that a value takes.
    pub memory: unsafe extern "C" fn(u32, Handle) -> usize,
    /// How many elements it has.
    pub len: unsafe extern "C" fn(u32, Handle) -> usize,
    /// How many steps it takes to free it.
    pub free_effort: unsafe extern "C" fn(u32, Handle) -> usize,
    /// Whether nothing is left of it, so that its key goes.
    pub is_gone: unsafe extern "C" fn(u32, Handle) -> bool,
    /// The value as bytes.
    pub save: unsafe extern "C" fn(u32, Handle) -> Outcome,
    /// A value from bytes that a version of the type saved. The bytes of the outcome are the handle's eight, in the
    /// machine's order.
    #[sabi(last_prefix_field)]
    pub load: unsafe extern "C" fn(u32, Slice<'_>, u32) -> Outcome,
}

impl RootModule for ModuleRef {
    abi_stable::declare_root_module_statics! { ModuleRef }
    const BASE_NAME: &'static str = "mortise_module";
    const NAME: &'static str = "mortise_module";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// Whoever has a module's table.
pub trait Provide: 'static {
    /// The table.
    const MODULE: fn() -> Module;
}

/// A module's table with its layout, as a library exports it under [`crate::declare::ROOT_SYMBOL`].
#[repr(transparent)]
pub struct Root(LibHeader);

impl Root {
    /// The table of `P`.
    pub const fn of<P: Provide>() -> Root {
        extern "C" fn construct<P: Provide>() -> RootModuleResult {
            __call_root_module_loader::<ModuleRef>(|| (P::MODULE)().leak_into_prefix())
        }
        // SAFETY: `construct` gives a `ModuleRef`, as the type says.
        Root(unsafe { LibHeader::from_constructor::<ModuleRef>(construct::<P>, CheckTypeLayout::Yes) })
    }
}

/// The table of a library, once its layout has been compared with ours; or what differs.
///
/// # Safety
///
/// `at` is the address of [`crate::declare::ROOT_SYMBOL`] in a library that is never unmapped and whose declaration
/// suited.
pub unsafe fn root(at: *const Root) -> Result<ModuleRef, String> {
    // SAFETY: `Root` and `LibHeader` begin with the header that `AbiHeaderRef` refers to; both are transparent. The
    // header's own magic bytes are checked by `upgrade`, before anything behind it is used.
    let header = unsafe { std::mem::transmute::<*const Root, AbiHeaderRef>(at) };
    let library = header.upgrade().map_err(|error| error.to_string())?;
    library.init_root_module::<ModuleRef>().map_err(|error| error.to_string())
}
