//! Requests of another protocol. A web page can make a browser send a request to a server that only its user reaches; what
//! stands in it would be obeyed line by line. So a connection that begins to speak HTTP is closed without an answer.

use super::Engine;
use super::args::Args;
use super::session::Session;

/// Milliseconds between two lines in the log: whoever sends such requests decides how many there are.
const LOG_PERIOD_MS: i64 = 60_000;

/// Names that no command can have, since a request in HTTP begins with them, or has them before its body.
const NAMES: [&[u8]; 2] = [b"post", b"host:"];

/// Whether a request with this name is one of another protocol. Like Redis, it reads up to a NUL.
pub(super) fn is_foreign(name: &[u8]) -> bool {
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    NAMES.iter().any(|foreign| foreign.eq_ignore_ascii_case(name))
}

/// The same for all arguments of a request that named no command: closes its connection if it is one.
#[cold]
pub(super) fn closes(session: &mut Session, args: Args<'_>) -> bool {
    let is_foreign = args.get(0).is_some_and(is_foreign);
    session.closing |= is_foreign;
    is_foreign
}

impl Engine {
    /// Says in the log that such a request has come, unless that was said a moment ago.
    #[cold]
    pub(super) fn log_crossing(&mut self) {
        if self.crossing_logged_ms != 0 && self.now_ms - self.crossing_logged_ms < LOG_PERIOD_MS {
            return;
        }
        self.crossing_logged_ms = self.now_ms;
        tracing::warn!(
            "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. This \
             is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis instance. \
             Connection aborted."
        );
    }
}

#[cfg(test)]
mod tests {
    use super::is_foreign;

    #[test]
    fn names_are_told_in_any_case_and_up_to_a_nul() {
        for name in ["post", "POST", "Host:", "hOST:", "post\0x", "host:\0"] {
            assert!(is_foreign(name.as_bytes()), "{name:?}");
        }
        for name in ["", "\0post", "posts", "host", "hostt:", "get"] {
            assert!(!is_foreign(name.as_bytes()), "{name:?}");
        }
    }
}
