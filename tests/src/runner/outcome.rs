//! How a step and a whole run went, and how that is said.

use std::fmt::{self, Display};
use std::path::PathBuf;

use super::Mode;
use crate::client::Protocol;
use crate::notation::Expected;
use crate::reply::Reply;
use crate::script::Awaited;

/// One step that went otherwise than written.
#[derive(Debug)]
pub struct Failure {
    /// The script's file.
    pub path: PathBuf,
    /// The step's line.
    pub line: usize,
    /// How it was run.
    pub mode: Mode,
    /// The step as written.
    pub step: String,
    /// What was written.
    pub expected: String,
    /// What came.
    pub got: String,
}

impl Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { path, line, mode, step, expected, got } = self;
        let indent = |text: &str| text.replace('\n', "\n            ");
        writeln!(out, "{}:{line}: on {mode:?}: {step}", path.display())?;
        writeln!(out, "  expected: {}", indent(expected))?;
        write!(out, "       got: {}", indent(got))
    }
}

/// What arrived for a step.
#[derive(Clone, Debug)]
pub enum Observed {
    /// A reply or push, and what the connection spoke.
    Reply(Reply, Protocol),
    /// Nothing, where nothing was expected.
    Silence,
    /// The end of the connection.
    Closed,
}

/// One run of a script.
#[derive(Debug)]
pub struct Outcome {
    /// What differed.
    pub failures: Vec<Failure>,
    /// What arrived, by step.
    pub observed: Vec<Option<Observed>>,
    /// Whether the run ended early, because a reply did not come.
    pub broken: bool,
}

/// What was expected and what came, as text.
pub(super) type Mismatch = (String, String);

/// What is wrong with what arrived, if anything is.
pub(super) fn compare(awaited: Option<&Awaited>, observed: &Observed) -> Option<Mismatch> {
    let right = match (awaited, observed) {
        (Some(Awaited::Reply(expected)), Observed::Reply(reply, protocol)) => {
            expected.matches(reply, *protocol)
        }
        (Some(Awaited::Silence), Observed::Silence) | (Some(Awaited::Closed), Observed::Closed) => true,
        _ => false,
    };
    let expected = awaited.map_or("nothing is written (UPDATE=1 writes it)".to_string(), Awaited::to_string);
    (!right).then(|| (expected, observed.to_string()))
}

impl Display for Awaited {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Awaited::Reply(expected) => expected.fmt(out),
            Awaited::Silence => out.write_str("silence"),
            Awaited::Closed => out.write_str("closed"),
        }
    }
}

impl Display for Observed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Observed::Reply(reply, _) => Expected::of(reply).fmt(out),
            Observed::Silence => out.write_str("silence"),
            Observed::Closed => out.write_str("closed"),
        }
    }
}
