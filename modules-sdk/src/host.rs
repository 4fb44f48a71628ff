//! Everything that a guest may ask of the server.

use std::any::Any;
use std::borrow::Cow;

use crate::args::parse_integer;
use crate::border::{OwnedValue, TypeRow};
use crate::error::Result;
use crate::resp::decode::Reply;
use crate::resp::encode::Version;

/// What a value is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// To be read: it counts as a hit or a miss.
    Read,
    /// To be changed.
    Edit,
}

/// How much a line of the log matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// Much, but not all.
    Verbose,
    /// What an operator of a healthy server wants to see.
    Notice,
    /// What is wrong.
    Warning,
}

/// A string of the server's own type, as the server keeps it: as an integer if it spells one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Text<'a> {
    /// The integer that it spells in canonical form.
    Integer(i64),
    /// Its bytes.
    Bytes(&'a [u8]),
}

impl<'a> Text<'a> {
    /// The integer that it spells, however it is kept.
    #[inline]
    pub fn integer(self) -> Option<i64> {
        match self {
            Text::Integer(integer) => Some(integer),
            Text::Bytes(bytes) => parse_integer(bytes),
        }
    }

    /// Its bytes.
    pub fn bytes(self) -> Cow<'a, [u8]> {
        match self {
            Text::Integer(integer) => Cow::Owned(integer.to_string().into_bytes()),
            Text::Bytes(bytes) => Cow::Borrowed(bytes),
        }
    }
}

impl From<i64> for Text<'_> {
    fn from(integer: i64) -> Self {
        Text::Integer(integer)
    }
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Text::Bytes(bytes)
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Text::Bytes(text.as_bytes())
    }
}

/// The server, as a guest's call sees it. Modules use it through [`crate::call::Call`].
pub trait Host {
    /// Unix milliseconds, the same for the whole call.
    fn now_ms(&self) -> i64;
    /// The same moment in Unix nanoseconds, as finely as the server knows it.
    fn now_ns(&self) -> i64;
    /// The protocol in which the caller wants its reply.
    fn version(&self) -> Version;
    /// A random number.
    fn random(&mut self) -> u64;

    /// Looks for a value of a type, to which `value` and `value_mut` then refer; false if the key holds nothing,
    /// WRONGTYPE if it is of another type.
    fn find(&mut self, key: &[u8], of: &'static TypeRow, access: Access) -> Result<bool>;
    /// The value that was found last. It is forgotten with the next request to the server.
    fn value(&self) -> Option<&dyn Any>;
    /// The value that was found under the key, to be changed; it must have been looked for with [`Access::Edit`].
    fn value_mut(&mut self, key: &[u8]) -> Option<&mut dyn Any>;
    /// The value found under the key was changed; names the event.
    fn changed(&mut self, key: &[u8], event: &'static str);
    /// Puts a value under a key, whatever the key held, and names the event.
    fn put(&mut self, key: &[u8], value: OwnedValue, event: &'static str);

    /// Whether there is such a key.
    fn exists(&mut self, key: &[u8]) -> bool;
    /// Removes a key and names the event; false if there was none.
    fn remove(&mut self, key: &[u8], event: &'static str) -> bool;
    /// When a key expires, in Unix milliseconds: `None` if there is no key, `Some(None)` if never.
    fn deadline(&mut self, key: &[u8]) -> Option<Option<i64>>;
    /// Sets or removes a key's deadline and names the event; false if there is no key.
    fn set_deadline(&mut self, key: &[u8], deadline: Option<i64>, event: &'static str) -> bool;

    /// The string at a key and the key's deadline in Unix milliseconds: `None` if there is no key, WRONGTYPE if it holds
    /// something else.
    fn string(&mut self, key: &[u8], access: Access) -> Result<Option<(Text<'_>, Option<i64>)>>;
    /// Sets a key to a string, whatever it held, with a deadline or for ever. It is told and propagated as SET is. An
    /// error if the key would come into being and there is no memory left for it.
    fn set_string(&mut self, key: &[u8], text: Text<'_>, deadline: Option<i64>) -> Result;

    /// Executes a command as part of this call, if the user whose call this is may make it.
    fn invoke(&mut self, words: &[&[u8]]) -> Result<Reply>;
    /// Propagates these words in place of the call as it was said; without words, nothing.
    fn propagates(&mut self, words: &[&[u8]]);
    /// Writes a line into the server's log.
    fn log(&mut self, level: Level, text: &str);
}
