//! The module's side of the border: what a library exports, and what it keeps while it is loaded.
//!
//! `values.rs` holds values of data types behind handles; `server.rs` is the server as a [`Host`](crate::host::Host);
//! `entries.rs` are the functions that the server calls. Each of these catches panics, so that nothing unwinds across the
//! border. These files trust what the border's rules promise of the server: that a handle is one which this module gave
//! for that type, and that a context and what was found in it hold until the next request. They are what makes modules
//! themselves free of `unsafe`.

mod entries;
mod server;
mod values;

use std::sync::OnceLock;

use crate::abi::HostRef;
use crate::call::Settings;
use crate::module::{Definition, Run};

pub use entries::Border;
pub use values::{OwnedValue, TypeRow};

/// What the module keeps while it is loaded.
struct State {
    name: &'static str,
    settings: Settings,
    commands: Vec<Run>,
    types: &'static [TypeRow],
    /// The server's functions.
    host: HostRef,
}

static STATE: OnceLock<State> = OnceLock::new();

/// What `module!` says of the module to this file.
pub trait Entry: 'static {
    /// Its settings.
    type Config: Default + Send + Sync + 'static;
    /// The rest.
    fn definition() -> &'static Definition<Self::Config>;
}

/// The library's memory and the two symbols that the server reads: the part of `module!` that belongs to the border.
#[doc(hidden)]
#[macro_export]
macro_rules! export {
    ($name:literal, $Entry:ty) => {
        #[global_allocator]
        static __ALLOCATOR: $crate::abi::Allocator = $crate::abi::Allocator::new();

        #[unsafe(no_mangle)]
        static MORTISE_MODULE: $crate::abi::Declaration = $crate::abi::Declaration::new(
            $name,
            env!("CARGO_PKG_VERSION"),
            cfg!(panic = "unwind"),
            &__ALLOCATOR,
        );

        #[unsafe(no_mangle)]
        static MORTISE_ROOT: $crate::abi::Root = $crate::abi::Root::of::<$crate::border::Border<$Entry>>();
    };
}
