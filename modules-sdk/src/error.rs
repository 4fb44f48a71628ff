//! Errors that a client sees: every standard text of the protocol, once.

use std::borrow::Cow;
use std::fmt;

/// An error reply: the text after the `-`, beginning with its code ("ERR", "WRONGTYPE" …).
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Cow<'static, str>);

/// What a command answers with: nothing on success, as replies are written through the call.
pub type Result<T = ()> = std::result::Result<T, Error>;

impl Error {
    /// An error with a constant text.
    pub const fn new(text: &'static str) -> Error {
        Error(Cow::Borrowed(text))
    }

    /// An error with a text made for the occasion. Line ends become spaces, so that no text can break the protocol.
    pub fn text(text: impl Into<String>) -> Error {
        let text: String = text.into();
        if text.bytes().any(|b| b == b'\r' || b == b'\n') {
            return Error(Cow::Owned(text.replace(['\r', '\n'], " ")));
        }
        Error(Cow::Owned(text))
    }

    /// The text with its code.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first word: "ERR", "WRONGTYPE" …
    pub fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or("")
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
    OOM = "OOM command not allowed when used memory > 'maxmemory'.";
}
