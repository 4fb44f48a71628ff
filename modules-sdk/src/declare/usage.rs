//! The usage line: one string from which arity, argument tree and key positions are derived.

/// A parsed usage line.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// The name: one word, or container and subcommand.
    pub name: Vec<String>,
}
