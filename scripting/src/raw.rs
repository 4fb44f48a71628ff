//! The raw binding to Lua: the one place that speaks C, beside `hook.rs`.
//!
//! Lua raises errors by `longjmp`, which skips what stands on the stack in between. What makes the rest of the crate safe
//! to write is one rule: **nothing that Rust code asks of Lua raises an error.** While Rust code runs, a *guest* in Lua,
//! the allocator does not refuse (what it gave beyond the limit is settled when the guest leaves), no hook and no tick
//! does anything, no metamethod is called (tables are read and written raw), and read-only tables, nil and NaN as keys
//! are looked for before. A guest's own error is a value, [`Raise`], and becomes a `longjmp` in the trampoline, when
//! nothing of the guest is left. So guests may hold vectors and borrow from their host like any other code.
//!
//! A panic needs no such rule: it unwinds through Lua's frames, which are compiled for it, and the state it leaves is
//! never used again ([`State`] is closed).

mod call;
mod control;
mod errors;
mod frame;
mod state;

pub(crate) use call::out_of_memory;
pub(crate) use control::{Control, of as control_of};
pub(crate) use errors::{Place, place};
pub(crate) use frame::{Frame, Kind, Raise, Returns};
pub(crate) use state::{Failed, Reference, State};
