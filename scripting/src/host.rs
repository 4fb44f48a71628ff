//! What a script may ask of the server.

use mortise_sdk::host::Level;
use mortise_sdk::resp::encode::Version;

/// The server, as a running script sees it.
pub trait Host {
    /// Executes a command: the words as the script gave them, the name first. The reply comes back encoded in the
    /// version of the protocol that the script has chosen; a refusal is an error reply like any other.
    fn call(&mut self, words: &[&[u8]], version: Version) -> &[u8];

    /// Whether the user for whom the script runs may execute this command; nothing if there is no such command.
    fn permits(&mut self, words: &[&[u8]]) -> Option<bool>;

    /// Writes a line into the server's log.
    fn log(&mut self, level: Level, line: &[u8]);

    /// From now on the script's commands are propagated like this.
    fn set_replication(&mut self, replication: Replication);

    /// Called about once a millisecond while the script runs: the place to give way to others, and to look whether
    /// the script is to go on. No borrow of the script's is held meanwhile. A host may be unwound from here (by a
    /// panic, or because the coroutine it runs on is dropped): the script ends, and its state is closed.
    fn pause(&mut self) -> Verdict;

    /// An error reply of the script's own making was written; those of commands have been counted before. Here to be
    /// counted.
    fn count_error(&mut self, text: &[u8]) {
        let _ = text;
    }
}

/// Whether a script goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes on.
    GoOn,
    /// It ends here.
    End,
}

/// Where a script's commands are propagated to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replication {
    /// To the append-only file.
    pub journal: bool,
    /// To replicas.
    pub replicas: bool,
}

impl Replication {
    /// Everywhere, as at first.
    pub const ALL: Replication = Replication { journal: true, replicas: true };
}
