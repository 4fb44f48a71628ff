//! A command's declaration: one row from which everything else about it is derived.

use std::convert::Infallible;

use super::category::Category;
use super::flags::Flags;
use super::keys::{ChannelUse, KeyUse};

/// What is declared of a command. From it come look-up, arity, COMMAND INFO/DOCS/GETKEYS, ACL categories and key
/// permissions, and the generated reference.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The usage line: name, arguments and their order. See [`super::usage`] for its grammar.
    pub usage: &'static str,
    /// One or two plain sentences; the first ends with a full stop.
    pub about: &'static str,
    /// The version of Redis (or of Mortise or Valkey, for what Redis does not have) that brought it.
    pub since: &'static str,
    /// Time complexity.
    pub cost: &'static str,
    /// Chapter and ACL category of its own kind: "string", "hash", "sorted-set", "connection" …
    pub group: &'static str,
    /// Flags.
    pub flags: &'static [Flags],
    /// How its keys are used.
    pub keys: &'static [KeyUse],
    /// Channels that it publishes or listens to.
    pub channels: Option<ChannelUse>,
    /// ACL categories beyond those that group and flags imply.
    pub categories: &'static [Category],
    /// Arity, where the usage line does not imply it.
    pub arity: Option<i32>,
    /// Command tips for clients and proxies.
    pub tips: &'static [&'static str],
    /// What changed in which version.
    pub history: &'static [(&'static str, &'static str)],
    /// Since when, and in favour of what, it is deprecated.
    pub deprecated: Option<Deprecation>,
    /// Arguments that are younger than the command, or outdated.
    pub ages: &'static [ArgumentAge],
}

/// When an argument came, or was outdated: what COMMAND DOCS says of single arguments.
#[derive(Clone, Copy, Debug)]
pub struct ArgumentAge {
    /// Its token, or its name if it has none.
    pub argument: &'static str,
    /// The version that brought it.
    pub since: Option<&'static str>,
    /// The version that made it outdated.
    pub deprecated: Option<&'static str>,
}

/// The argument with this token (or name, if it has none) came with a version.
pub const fn added(argument: &'static str, version: &'static str) -> ArgumentAge {
    ArgumentAge { argument, since: Some(version), deprecated: None }
}

/// The argument with this token (or name, if it has none) is outdated since a version.
pub const fn outdated(argument: &'static str, version: &'static str) -> ArgumentAge {
    ArgumentAge { argument, since: None, deprecated: Some(version) }
}

/// Since when a command is deprecated, and what replaces it.
#[derive(Clone, Copy, Debug)]
pub struct Deprecation {
    /// Version.
    pub since: &'static str,
    /// What to use instead.
    pub replaced_by: &'static str,
}

impl Spec {
    /// An empty row of a group, to be filled with `..GROUP`.
    pub const fn group(group: &'static str) -> Spec {
        Spec {
            usage: "",
            about: "",
            since: "1.0.0",
            cost: "O(1)",
            group,
            flags: &[],
            keys: &[],
            channels: None,
            categories: &[],
            arity: None,
            tips: &[],
            history: &[],
            deprecated: None,
            ages: &[],
        }
    }

    /// The row together with the function that runs it.
    pub const fn runs<R, A>(self, run: R) -> Command<R, A> {
        Command { spec: self, run: Runs::Whole(run) }
    }

    /// The row together with a function that needs the session alone. Only the server's own commands have such.
    pub const fn runs_alone<R, A>(self, run: A) -> Command<R, A> {
        Command { spec: self, run: Runs::Alone(run) }
    }
}

/// A declared command: its row and its function.
#[derive(Clone, Copy, Debug)]
pub struct Command<R, A = Infallible> {
    /// The declaration.
    pub spec: Spec,
    /// What runs it.
    pub run: Runs<R, A>,
}

/// What runs a command.
#[derive(Clone, Copy, Debug)]
pub enum Runs<R, A = Infallible> {
    /// A function that may ask for anything.
    Whole(R),
    /// A function that is given no more than the session, and so is obeyed at any time.
    Alone(A),
}

impl<R: Copy> Command<R> {
    /// The function that runs it.
    pub fn function(&self) -> R {
        match self.run {
            Runs::Whole(run) => run,
            Runs::Alone(never) => match never {},
        }
    }
}
