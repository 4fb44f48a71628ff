//! What the server gives: the functions that a module may call. The table only grows at its end.

use abi_stable::StableAbi;

use crate::value::{Context, Handle, List, Slice, Text, TypeId};

/// What was found under a key.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found(pub u32);

impl Found {
    /// Nothing.
    pub const NOTHING: Found = Found(0);
    /// A value of the type.
    pub const VALUE: Found = Found(1);
    /// A value of another type.
    pub const OTHER_TYPE: Found = Found(2);
    /// The module has not declared this type.
    pub const UNDECLARED: Found = Found(3);
}

/// A value that was looked for.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Stored {
    /// What was found.
    pub found: Found,
    /// The value, if it was.
    pub handle: Handle,
}

/// A string that was looked for.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct StoredText {
    /// What was found: a value stands for a string.
    pub found: Found,
    /// When its key expires, in Unix milliseconds; -1 if never.
    pub deadline: i64,
    /// The string, if it was found.
    pub text: Text<'static>,
}

/// What became of a string that was to be set.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Set(pub u32);

impl Set {
    /// It is set.
    pub const DONE: Set = Set(0);
    /// It is not: its key would come into being, and there is no memory left for that.
    pub const OUT_OF_MEMORY: Set = Set(1);
}

/// What a value is looked for.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access(pub u32);

impl Access {
    /// To be read: it counts as a hit or a miss.
    pub const READ: Access = Access(0);
    /// To be changed.
    pub const EDIT: Access = Access(1);
}

/// How much a line of the log matters.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level(pub u32);

impl Level {
    /// Debug.
    pub const DEBUG: Level = Level(0);
    /// Verbose.
    pub const VERBOSE: Level = Level(1);
    /// Notice.
    pub const NOTICE: Level = Level(2);
    /// Warning.
    pub const WARNING: Level = Level(3);
}

/// The server's functions. All but `log` take the context of the call in which they are called, and are called on the
/// engine's thread.
///
/// A value or string that was found may be used until another function of the table is called that could change it:
/// `put`, `changed`, `remove`, `set_string` or `invoke`.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostRef, prefix_fields = HostFields)))]
#[sabi(missing_field(panic))]
pub struct Host {
    /// A random number.
    pub random: unsafe extern "C" fn(Context) -> u64,
    /// Looks for a value of a type.
    pub find: unsafe extern "C" fn(Context, Slice<'_>, TypeId, Access) -> Stored,
    /// A value found under the key is about to be changed; called once, before the change.
    pub touch: unsafe extern "C" fn(Context, Slice<'_>),
    /// A value was changed; names the event. Without a name it is propagated all the same. A value of which nothing is
    /// left goes.
    pub changed: unsafe extern "C" fn(Context, Slice<'_>, Slice<'static>),
    /// Puts a new value of a type under a key, whatever the key held, and names the event. The value is the server's.
    pub put: unsafe extern "C" fn(Context, Slice<'_>, TypeId, Handle, Slice<'static>),
    /// Whether there is such a key.
    pub exists: unsafe extern "C" fn(Context, Slice<'_>) -> bool,
    /// Removes a key and names the event; false if there was none.
    pub remove: unsafe extern "C" fn(Context, Slice<'_>, Slice<'static>) -> bool,
    /// When a key expires, in Unix milliseconds; -1 if never, -2 if there is no such key.
    pub deadline: unsafe extern "C" fn(Context, Slice<'_>) -> i64,
    /// Sets a key's deadline, or removes it (-1), and names the event; false if there is no such key.
    pub set_deadline: unsafe extern "C" fn(Context, Slice<'_>, i64, Slice<'static>) -> bool,
    /// Executes a command as part of this call, if the user whose call this is may make it. The reply is encoded, and
    /// holds until the next function is called.
    pub invoke: unsafe extern "C" fn(Context, List<'_, Slice<'_>>) -> Slice<'static>,
    /// Propagates these words in place of the call as it was said; without words, nothing.
    pub propagates: unsafe extern "C" fn(Context, List<'_, Slice<'_>>),
    /// Writes a line into the server's log. Any thread may.
    pub log: unsafe extern "C" fn(Level, Slice<'_>),
    /// Looks for a string and its deadline: one look-up, and no copy of what stands in one piece.
    pub string: unsafe extern "C" fn(Context, Slice<'_>, Access) -> StoredText,
    /// Sets a key to a string, whatever it held, which lives until a deadline (Unix milliseconds; -1: for ever). It is
    /// told and propagated as SET is, in place of the call as it was said.
    #[sabi(last_prefix_field)]
    pub set_string: unsafe extern "C" fn(Context, Slice<'_>, Text<'_>, i64) -> Set,
}

/// The table as a static.
pub mod table {
    use abi_stable::prefix_type::WithMetadata;

    use super::{Host, HostRef};

    /// A table that lives for ever.
    pub struct Static(WithMetadata<Host>);

    /// A table of these functions.
    pub const fn of(host: Host) -> Static {
        Static(WithMetadata::new(host))
    }

    impl Static {
        /// The table as modules are given it.
        pub fn get(&'static self) -> HostRef {
            HostRef(self.0.static_as_prefix())
        }
    }
}
