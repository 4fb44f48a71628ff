//! A feature: four tables.

use super::config::Directive;
use super::info::Section;
use super::spec::Command;

/// The ground a declaration stands on: what its functions are given. The server's own features stand on one ground,
/// modules on another; the declarations are the same.
pub trait Ground: 'static {
    /// A command's function.
    type Run: 'static;
    /// The function of a command that needs the session alone.
    type Alone: 'static;
    /// What directives read and write.
    type Config: 'static;
    /// What INFO fields read.
    type Engine: 'static;
    /// How a data type is declared.
    type Type: 'static;
}

/// A feature of the server: what it adds, as four tables.
#[derive(Debug)]
pub struct Feature<G: Ground> {
    /// Its name.
    pub name: &'static str,
    /// Commands, a table per file.
    pub commands: &'static [&'static [Command<G::Run, G::Alone>]],
    /// Data types.
    pub types: &'static [G::Type],
    /// Configuration directives.
    pub config: &'static [Directive<G::Config>],
    /// INFO sections.
    pub info: &'static [Section<G::Engine>],
}

impl<G: Ground> Feature<G> {
    /// A feature without any table, to be filled with `..Feature::EMPTY`.
    pub const EMPTY: Feature<G> = Feature { name: "", commands: &[], types: &[], config: &[], info: &[] };
}
