#![doc = include_str!("../README.md")]
// This is where the border's pointers are; each block says why it holds.
#![allow(unsafe_code)]

pub mod declare;
pub mod host;
pub mod module;
pub mod value;

pub use declare::{
    Allocator, AllocatorFunctions, CommandRow, Declaration, DirectiveRow, Feature, KeyRow, Refusal, TypeRow,
};
pub use host::{Access, Found, Host, HostRef, Level, Set, Stored, StoredText};
pub use module::{Form, InfoSink, Module, ModuleRef, Provide, Root, root};
pub use value::{Context, Handle, List, Outcome, Slice, Status, Text, TypeId, type_id};
