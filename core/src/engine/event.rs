//! Classes of key events, and the time the engine is handed.

pub use crate::config::values::EventClasses as EventClass;

/// Commands for any type: DEL, EXPIRE, RENAME …
pub const GENERIC: EventClass = EventClass::GENERIC;
/// String commands.
pub const STRING: EventClass = EventClass::STRING;
/// List commands.
pub const LIST: EventClass = EventClass::LIST;
/// Hash commands.
pub const HASH: EventClass = EventClass::HASH;
/// Set commands.
pub const SET: EventClass = EventClass::SET;
/// Sorted set commands.
pub const ZSET: EventClass = EventClass::ZSET;
/// Stream commands.
pub const STREAM: EventClass = EventClass::STREAM;
/// A key expired.
pub const EXPIRED: EventClass = EventClass::EXPIRED;
/// A key was evicted.
pub const EVICTED: EventClass = EventClass::EVICTED;
/// A module's types.
pub const MODULE: EventClass = EventClass::MODULE;
/// A key was looked for in vain.
pub const MISSED: EventClass = EventClass::KEY_MISS;
/// A key came into being.
pub const NEW: EventClass = EventClass::NEW;
/// Events are published by key.
pub const KEYSPACE: EventClass = EventClass::KEYSPACE;
/// Events are published by name.
pub const KEYEVENT: EventClass = EventClass::KEYEVENT;

/// The way out of a call that is half way: the call is suspended, and goes on when its driver wants it to. Nothing that
/// others need may be held across a suspension.
pub trait Suspend {
    /// Gives way; returns when the call goes on. A call that is ended instead may be unwound from here. `out` is what the
    /// batch has written so far: the replies before this call's are sent meanwhile.
    fn suspend(&self, out: &[u8]);
    /// A request of the batch begins, whose reply begins at `mark`.
    fn begins(&self, request: usize, mark: usize, now_ms: i64);
    /// A script begins: what was asked of the one before it, and what that has done, is no matter of this one.
    fn script_begins(&self, now_ms: i64);
    /// Whether the call is to come to its end soon, before it is unwound.
    fn is_ending(&self) -> bool;
    /// The call has changed something, so that ending it would leave it half done.
    fn wrote(&self);
}

/// The run that holds the engine, as those see it who want it to end.
pub trait RunInSight: Send + Sync {
    /// Asks the call that runs to end.
    fn kill(&self) -> Kill;
    /// Stops the server, and with it the call that runs.
    fn stop_server(&self);
}

/// What becomes of a call that somebody wants to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kill {
    /// There is none.
    NothingRuns,
    /// It goes on: it has changed something, and would leave it half done.
    HasWritten,
    /// It will end soon.
    Asked,
}

/// The clock that the engine reads: once per command, and nowhere else.
pub trait Clock: Send {
    /// Nanoseconds since some fixed moment; never goes back.
    fn monotonic_ns(&self) -> u64;
    /// Microseconds since 1970.
    fn unix_us(&self) -> i64;
}
