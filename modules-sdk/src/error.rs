//! Errors that a client sees: every standard text of the protocol, once.

use std::borrow::Cow;
use std::fmt;

/// An error reply: the text after the `-`, beginning with its code ("ERR", "WRONGTYPE" …). It may say what a client has
/// said, so it is bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Cow<'static, [u8]>);

/// What a command answers with: nothing on success, as replies are written through the call.
pub type Result<T = ()> = std::result::Result<T, Error>;

impl Error {
    /// An error with a constant text.
    pub const fn new(text: &'static str) -> Error {
        Error(Cow::Borrowed(text.as_bytes()))
    }

    /// An error with a text made for the occasion. Line ends become spaces, so that no text can break the protocol.
    pub fn text(text: impl Into<Vec<u8>>) -> Error {
        let mut text: Vec<u8> = text.into();
        text.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
        Error(Cow::Owned(text))
    }

    /// An error that repeats what a client has said, each word in the place of a `{}`. As in Redis's errors, a word ends
    /// at a NUL, and the text has no line ends at its end.
    ///
    /// ```
    /// # use mortise_sdk::Error;
    /// let error = Error::quoting("ERR no board '{}' for {}", &[b"a\xff", b"ada"]);
    /// assert_eq!(error.as_bytes(), b"ERR no board 'a\xff' for ada");
    /// ```
    pub fn quoting(template: &str, said: &[&[u8]]) -> Error {
        debug_assert_eq!(template.matches("{}").count(), said.len(), "{template}");
        let mut parts = template.split("{}");
        let mut text = parts.next().unwrap_or_default().as_bytes().to_vec();
        for (word, part) in said.iter().zip(parts) {
            text.extend(word.iter().take_while(|byte| **byte != 0));
            text.extend_from_slice(part.as_bytes());
        }
        let len = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        text.truncate(len);
        Error::text(text)
    }

    /// A call of a command has too few or too many arguments.
    #[cold]
    pub fn wrong_arity(command: &str) -> Error {
        Error::text(format!("ERR wrong number of arguments for '{command}' command"))
    }

    /// An integer that has to be in a range is not.
    #[cold]
    pub fn not_between(min: i64, max: i64) -> Error {
        Error::text(format!("ERR value is out of range, value must between {min} and {max}"))
    }

    /// The text with its code.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first word: "ERR", "WRONGTYPE" … What is not UTF-8 in it shows as U+FFFD.
    pub fn code(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.0.split(|byte| *byte == b' ').next().unwrap_or_default())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl std::error::Error for Error {}

macro_rules! errors {
    ($( $name:ident = $text:literal; )*) => {
        $( #[doc = concat!("`-", $text, "`")] pub const $name: Error = Error::new($text); )*
    };
}

errors! {
    WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value";
    SYNTAX = "ERR syntax error";
    NOT_INTEGER = "ERR value is not an integer or out of range";
    NOT_FLOAT = "ERR value is not a valid float";
    NO_SUCH_KEY = "ERR no such key";
    OUT_OF_RANGE = "ERR value is out of range";
    NOT_POSITIVE = "ERR value is out of range, must be positive";
    INDEX_OUT_OF_RANGE = "ERR index out of range";
    BUSYKEY = "BUSYKEY Target key name already exists.";
    NOAUTH = "NOAUTH Authentication required.";
    WRONGPASS = "WRONGPASS invalid username-password pair or user is disabled.";
    NOPROTO = "NOPROTO unsupported protocol version";
    EXECABORT = "EXECABORT Transaction discarded because of previous errors.";
    MULTI_NESTED = "ERR MULTI calls can not be nested";
    EXEC_WITHOUT_MULTI = "ERR EXEC without MULTI";
    DISCARD_WITHOUT_MULTI = "ERR DISCARD without MULTI";
    WATCH_INSIDE_MULTI = "ERR WATCH inside MULTI is not allowed";
    OVERFLOW = "ERR increment or decrement would overflow";
    NOT_FINITE = "ERR increment would produce NaN or Infinity";
    STRING_TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    OFFSET_OUT_OF_RANGE = "ERR offset is out of range";
    MAX_CLIENTS = "ERR max number of clients reached";
    IRREVOCABLE = "ERR a value of a module that cannot be copied cannot be changed in an atomic call";
    BUSY_SCRIPT = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
    LOADING = "LOADING Redis is loading the dataset in memory";
    READONLY = "READONLY You can't write against a read only replica.";
    NOREPLICAS = "NOREPLICAS Not enough good replicas to write.";
    MASTERDOWN = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    MISCONF = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may \
        modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting \
        fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.";
    OOM = "OOM command not allowed when used memory > 'maxmemory'.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_say_is_repeated_as_redis_does() {
        for (said, expected) in [
            (&b"\xff\xfe"[..], &b"ERR no \xff\xfe"[..]),
            (b"a\0b", b"ERR no a"),
            (b"a\r\nb\r\n", b"ERR no a  b"),
            (b"{}", b"ERR no {}"),
            (b"", b"ERR no "),
        ] {
            assert_eq!(Error::quoting("ERR no {}", &[said]).as_bytes(), expected);
        }
        assert_eq!(Error::quoting("ERR '{}' {}.", &[b"\n", b"b"]).as_bytes(), b"ERR ' ' b.");
    }

    #[test]
    fn no_text_breaks_the_protocol() {
        assert_eq!(Error::text("ERR a\r\nb\n".to_owned()).as_bytes(), b"ERR a  b ");
        assert_eq!(Error::text(b"\xff x".to_vec()).code(), "\u{fffd}");
        assert_eq!(WRONGTYPE.code(), "WRONGTYPE");
    }
}
