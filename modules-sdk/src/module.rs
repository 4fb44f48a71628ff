//! What a module is: the tables of a feature, standing on the ground of guests, and `module!`.

use std::convert::Infallible;
use std::marker::PhantomData;

use crate::border::TypeRow;
use crate::call::{Call, Settings};
use crate::declare;
use crate::error::Result;

/// The ground that a module's declarations stand on; `C` is the struct of its settings.
pub struct Guest<C = NoConfig>(PhantomData<C>);

/// A module's command.
pub type Run = fn(&mut Call<'_>) -> Result;

/// What a module does when it is loaded, or why it cannot be. It is given the arguments behind the path.
pub type Start = fn(&[&[u8]]) -> Result;

impl<C: 'static> declare::Ground for Guest<C> {
    type Run = Run;
    type Alone = Infallible;
    type Config = C;
    type Engine = Settings;
    type Type = TypeRow;
}

/// A command of a module.
pub type Command = declare::Command<Run>;
/// The four tables of a module.
pub type Feature<C = NoConfig> = declare::Feature<Guest<C>>;
/// An INFO section of a module. The server puts the module's name before those of section and fields.
pub type Section = declare::Section<Settings>;
/// An INFO field of a module.
pub type Field = declare::Field<Settings>;

/// A module as a whole: what `module!` makes.
pub struct Definition<C: 'static = NoConfig> {
    /// What it is for, in a sentence.
    pub about: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its tables.
    pub feature: Feature<C>,
    /// What it does when it is loaded, given the arguments of MODULE LOAD; without it, it takes none.
    pub start: Option<Start>,
}

crate::config! {
    /// The settings of a module that has none.
    pub struct NoConfig {}
}

/// Declares the module that a library is. Stands once, in the root of the crate, which is built as a `cdylib` (and as
/// `rlib`, if it has tests).
///
/// ```ignore
/// module! {
///     name: "hello",
///     about: "Greets people and keeps guestbooks.",
///     types: [Guestbook],
///     commands: [GREET, SIGN],
///     config: HelloConfig, // optional: a struct declared with `config!`
///     info: [INFO],        // optional
///     start: begin,        // optional: fn(&[&[u8]]) -> Result, given the arguments of MODULE LOAD
/// }
/// ```
///
/// It declares `MODULE` (the tables, for tests), the library's memory, and the two symbols that the server reads. The
/// module's version is its package's.
#[macro_export]
macro_rules! module {
    (@config) => { $crate::module::NoConfig };
    (@config $Config:ty) => { $Config };
    (@start) => { None };
    (@start $start:expr) => { Some($start) };
    (
        name: $name:literal,
        about: $about:literal,
        types: [$($Type:ty),* $(,)?],
        commands: [$($command:expr),* $(,)?]
        $(, config: $Config:ty)?
        $(, info: [$($section:expr),* $(,)?])?
        $(, start: $start:expr)?
        $(,)?
    ) => {
        #[doc = $about]
        pub static MODULE: $crate::module::Definition<$crate::module!(@config $($Config)?)> =
            $crate::module::Definition {
                about: $about,
                version: env!("CARGO_PKG_VERSION"),
                feature: $crate::declare::Feature {
                    name: $name,
                    commands: &[&[$($command),*]],
                    types: &[$($crate::border::TypeRow::of::<$Type>()),*],
                    config: <$crate::module!(@config $($Config)?)>::directives(),
                    info: &[$($($section),*)?],
                },
                start: $crate::module!(@start $($start)?),
            };

        const _: () = {
            struct __Entry;

            impl $crate::border::Entry for __Entry {
                type Config = $crate::module!(@config $($Config)?);

                fn definition() -> &'static $crate::module::Definition<Self::Config> {
                    &MODULE
                }
            }

            $crate::export!($name, __Entry);
        };
    };
}
