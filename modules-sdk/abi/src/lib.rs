//! The border between the server and its modules: the tables of functions that they give each other.
//!
//! Rules of the border:
//!
//! - **The handshake comes first.** A library exports [`declare::Declaration`] as plain data. The server reads it and
//!   refuses what does not suit before it trusts any type or runs any function of the library.
//! - **Tables hold plain data**: function pointers, slices, integers. Each call could be a message.
//! - **Tables only grow at their end** within a version of the border. `abi_stable` checks the layout of the module's
//!   table, and of all that it mentions, when a library is loaded.
//! - **Nothing unwinds across the border.** A module catches its panics; the server's functions do not panic.
//! - **Slices are borrowed for the call**, but for texts in declarations and names of events: they live as long as the
//!   library, which is never unmapped.
//! - **Whoever makes a value frees it.** A module's value crosses as the number of its type and a handle, which nobody
//!   but the module can interpret.
//! - **Commands run on the engine's thread**, one at a time. Functions on values that say so may be called on any thread.
//!
//! This crate's version is the border's. It changes when the border changes, and for no other reason; that is why these
//! types have a crate of their own. No other crate names `abi_stable`.

// This is where the border's pointers are; each block says why it holds.
#![allow(unsafe_code)]

pub mod declare;
pub mod host;
pub mod module;
pub mod value;

pub use declare::{
    Allocator, AllocatorFunctions, CommandRow, Declaration, DirectiveRow, Feature, KeyRow, Refusal, TypeRow,
};
pub use host::{Access, Found, Host, HostRef, Level, Stored};
pub use module::{InfoSink, Module, ModuleRef, Provide, Root, root};
pub use value::{Context, Handle, List, Outcome, Slice, Status, TypeId, type_id};
