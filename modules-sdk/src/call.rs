//! What a module's command is given: the same verbs as the core's own commands have.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use crate::abi::Slice;
use crate::args as numbers;
use crate::border::{OwnedValue, TypeRow};
use crate::data_type::DataType;
use crate::error::{self, Error, Result};
use crate::host::{Access, Host, Level, Text};
use crate::resp::decode::Reply;
use crate::resp::encode::{self, Version};

/// One execution of a module's command.
pub struct Call<'c> {
    host: &'c mut dyn Host,
    args: &'c [Slice<'c>],
    out: &'c mut Vec<u8>,
    /// How many elements are still to come until the reply is whole; below zero if there were too many.
    missing: i64,
    settings: &'c Settings,
}

impl<'c> Call<'c> {
    /// A call with its arguments, the command's name first. The reply is appended to `out`.
    pub fn new(
        host: &'c mut dyn Host,
        args: &'c [Slice<'c>],
        out: &'c mut Vec<u8>,
        settings: &'c Settings,
    ) -> Call<'c> {
        Call { host, args, out, missing: 1, settings }
    }

    // ---- arguments

    /// The argument at an index that the command's arity has shown to exist; 0 is the name.
    #[inline]
    pub fn arg(&self, index: usize) -> &'c [u8] {
        self.args[index].get()
    }

    /// Number of arguments, the name included.
    #[inline]
    pub fn argc(&self) -> usize {
        self.args.len()
    }

    /// All arguments, the name included.
    pub fn args(&self) -> impl ExactSizeIterator<Item = &'c [u8]> + use<'c> {
        self.args.iter().map(|arg| arg.get())
    }

    /// The argument as text.
    pub fn text(&self, index: usize) -> Result<&'c str> {
        std::str::from_utf8(self.arg(index)).map_err(|_| Error::new("ERR value is not valid UTF-8"))
    }

    /// The argument as a 64-bit integer.
    #[inline]
    pub fn integer(&self, index: usize) -> Result<i64> {
        numbers::parse_integer(self.arg(index)).ok_or(error::NOT_INTEGER)
    }

    /// The argument as a double.
    pub fn float(&self, index: usize) -> Result<f64> {
        numbers::parse_float(self.arg(index)).ok_or(error::NOT_FLOAT)
    }

    // ---- time, chance, settings

    /// Unix milliseconds, the same for the whole call.
    pub fn now_ms(&self) -> i64 {
        self.host.now_ms()
    }

    /// The same moment in Unix nanoseconds, as finely as the server knows it.
    pub fn now_ns(&self) -> i64 {
        self.host.now_ns()
    }

    /// A random number.
    pub fn random(&mut self) -> u64 {
        self.host.random()
    }

    /// The module's settings: the struct that `module!` names under `config`.
    pub fn config<C: 'static>(&self) -> Config<'c, C> {
        self.settings.config()
    }

    // ---- values

    /// The value of a key and where to reply; WRONGTYPE if it is of another type.
    pub fn read<'a, T: DataType>(&'a mut self, key: &[u8]) -> Result<(Option<&'a T>, Out<'a>)> {
        let found = self.host.find(key, const { &TypeRow::of::<T>() }, Access::Read)?;
        let version = self.host.version();
        let value = if found { self.host.value().and_then(<dyn Any>::downcast_ref) } else { None };
        Ok((value, Out { bytes: self.out, missing: &mut self.missing, version }))
    }

    /// An edit of a key's value; `None` if there is no key, WRONGTYPE if it is of another type.
    pub fn edit<'a, T: DataType>(&'a mut self, key: &'a [u8]) -> Result<Option<Edit<'a, T>>> {
        if !self.host.find(key, const { &TypeRow::of::<T>() }, Access::Edit)? {
            return Ok(None);
        }
        Ok(Some(Edit { host: self.host, key, fresh: None, is_touched: false, of: PhantomData }))
    }

    /// An edit of a key's value, which comes into being if there is none.
    pub fn create<'a, T: DataType + Default>(&'a mut self, key: &'a [u8]) -> Result<Edit<'a, T>> {
        let found = self.host.find(key, const { &TypeRow::of::<T>() }, Access::Edit)?;
        let fresh = (!found).then(Box::<T>::default);
        Ok(Edit { host: self.host, key, fresh, is_touched: false, of: PhantomData })
    }

    /// Puts a value in place of whatever a key holds, and names the event.
    pub fn put<T: DataType>(&mut self, key: &[u8], value: T, event: &'static str) {
        self.host.put(key, OwnedValue::new(Box::new(value)), event);
    }

    /// Whether there is such a key.
    pub fn exists(&mut self, key: &[u8]) -> bool {
        self.host.exists(key)
    }

    /// Removes a key and names the event; false if there was none.
    pub fn remove(&mut self, key: &[u8], event: &'static str) -> bool {
        self.host.remove(key, event)
    }

    /// When a key expires, in Unix milliseconds: `None` if there is no key, `Some(None)` if never.
    pub fn deadline(&mut self, key: &[u8]) -> Option<Option<i64>> {
        self.host.deadline(key)
    }

    /// Sets or removes a key's deadline and names the event; false if there is no key.
    pub fn set_deadline(&mut self, key: &[u8], deadline: Option<i64>, event: &'static str) -> bool {
        self.host.set_deadline(key, deadline, event)
    }

    // ---- strings

    /// The string at a key and the key's deadline in Unix milliseconds, as GET sees it: it counts as a hit or a miss.
    /// `None` if there is no key, WRONGTYPE if it holds something else.
    pub fn string(&mut self, key: &[u8]) -> Result<Option<(Text<'_>, Option<i64>)>> {
        self.host.string(key, Access::Read)
    }

    /// The same for a string that is about to be set anew, as INCR sees it.
    pub fn string_to_set(&mut self, key: &[u8]) -> Result<Option<(Text<'_>, Option<i64>)>> {
        self.host.string(key, Access::Edit)
    }

    /// Sets a key to a string, whatever it held, which lives until a deadline (Unix milliseconds) or for ever. Everybody
    /// hears of it as of SET, and the call is propagated as that: a command that changes other things as well has to
    /// propagate these itself. Where `maxmemory` leaves no room, a key that is not there yet is refused.
    pub fn set_string<'t>(&mut self, key: &[u8], text: impl Into<Text<'t>>, deadline: Option<i64>) -> Result {
        self.host.set_string(key, text.into(), deadline)
    }

    // ---- reply

    /// Where the reply goes, piece by piece.
    #[inline]
    pub fn out(&mut self) -> Out<'_> {
        Out { version: self.host.version(), bytes: self.out, missing: &mut self.missing }
    }

    /// Whether exactly one whole reply has been written.
    #[inline(always)]
    pub fn has_replied_once(&self) -> bool {
        self.missing == 0
    }

    /// Whether anything has been written.
    pub fn has_replied(&self) -> bool {
        self.missing != 1 || !self.out.is_empty()
    }

    /// Answers with a value.
    pub fn reply(&mut self, answer: impl Answer) -> Result {
        answer.write(&mut self.out());
        Ok(())
    }

    /// `+OK`
    pub fn ok(&mut self) -> Result {
        self.out().simple("OK");
        Ok(())
    }

    // ---- the rest of the server

    /// Executes another command as part of this call; an error reply is an `Err`. It runs as the user whose call this is:
    /// what that user may not do, on these keys and channels, is refused with NOPERM and noted in ACL LOG. What it changes
    /// is not propagated by itself: this call is. SELECT holds until this call ends; the client is then in its own
    /// database again.
    pub fn invoke(&mut self, words: &[&[u8]]) -> Result<Reply> {
        self.host.invoke(words)
    }

    /// Propagates these words in place of the call as it was said: what a command does whose outcome depends on more
    /// than its arguments.
    pub fn propagates(&mut self, words: &[&[u8]]) {
        self.host.propagates(words);
    }

    /// Propagates nothing.
    pub fn propagates_nothing(&mut self) {
        self.host.propagates(&[]);
    }

    /// Writes a line into the server's log.
    pub fn log(&mut self, level: Level, text: &str) {
        self.host.log(level, text);
    }
}

/// A value being changed. It can be used as `&mut T`; an edit that changed something ends with [`Edit::changed`].
#[must_use]
pub struct Edit<'a, T: DataType> {
    host: &'a mut dyn Host,
    key: &'a [u8],
    /// The value, if the key had none.
    fresh: Option<Box<T>>,
    is_touched: bool,
    of: PhantomData<T>,
}

/// The server found a value of this type, and nobody else can ask it for anything during an edit.
const HELD: &str = "an edit holds its value until it ends";

impl<T: DataType> Edit<'_, T> {
    /// Whether the edit brings the key into being.
    pub fn is_new(&self) -> bool {
        self.fresh.is_some()
    }

    /// Names the change; everyone who should know will. A value of which nothing is left goes.
    pub fn changed(mut self, event: &'static str) {
        self.is_touched = false;
        match self.fresh.take() {
            None => self.host.changed(self.key, event),
            Some(value) if value.is_gone() => {}
            Some(value) => self.host.put(self.key, OwnedValue::new(value), event),
        }
    }
}

impl<T: DataType> Deref for Edit<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.fresh {
            Some(value) => value,
            None => self.host.value().and_then(<dyn Any>::downcast_ref).expect(HELD),
        }
    }
}

impl<T: DataType> DerefMut for Edit<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.is_touched = true;
        match &mut self.fresh {
            Some(value) => value,
            None => self.host.value_mut(self.key).and_then(<dyn Any>::downcast_mut).expect(HELD),
        }
    }
}

impl<T: DataType> Drop for Edit<'_, T> {
    fn drop(&mut self) {
        if !self.is_touched {
            return;
        }
        if self.fresh.is_none() {
            // Propagated all the same.
            self.host.changed(self.key, "");
        }
        debug_assert!(std::thread::panicking(), "an edited value must name its event");
    }
}

/// Where a reply is written: one value, which may be an array, a map or a set with as many elements as it says. A
/// command that writes more or less has failed, and its caller is told so.
pub struct Out<'a> {
    bytes: &'a mut Vec<u8>,
    missing: &'a mut i64,
    version: Version,
}

impl Out<'_> {
    /// Answers with a value.
    pub fn reply(&mut self, answer: impl Answer) -> Result {
        answer.write(self);
        Ok(())
    }

    /// The protocol.
    pub fn version(&self) -> Version {
        self.version
    }

    /// A status. Line ends within become spaces.
    pub fn simple(&mut self, text: &str) {
        self.element();
        if text.bytes().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return encode::simple(self.bytes, &text.replace(['\r', '\n'], " "));
        }
        encode::simple(self.bytes, text);
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, n: i64) {
        self.element();
        encode::integer(self.bytes, n);
    }

    /// A bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.element();
        encode::bulk(self.bytes, bytes);
    }

    /// No value.
    pub fn null(&mut self) {
        self.element();
        encode::null(self.bytes, self.version);
    }

    /// A floating-point number.
    pub fn double(&mut self, x: f64) {
        self.element();
        encode::double(self.bytes, self.version, x);
    }

    /// A truth value.
    pub fn boolean(&mut self, value: bool) {
        self.element();
        encode::boolean(self.bytes, self.version, value);
    }

    /// An array; `len` elements follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.elements(len, 1);
        encode::array(self.bytes, len);
    }

    /// An array of bulk strings.
    pub fn bulks<T: AsRef<[u8]>>(&mut self, elements: &[T]) {
        self.array(elements.len());
        elements.iter().for_each(|element| self.bulk(element.as_ref()));
    }

    /// A map; `len` pairs follow.
    pub fn map(&mut self, len: usize) {
        self.elements(len, 2);
        encode::map(self.bytes, self.version, len);
    }

    /// A set; `len` elements follow.
    pub fn set(&mut self, len: usize) {
        self.elements(len, 1);
        encode::set(self.bytes, self.version, len);
    }

    /// One element follows.
    #[inline(always)]
    fn element(&mut self) {
        // Once the reply is whole, nothing makes it right again.
        *self.missing = if *self.missing > 0 { *self.missing - 1 } else { i64::MIN };
    }

    /// An element follows that holds `len` times `each` more.
    #[inline]
    fn elements(&mut self, len: usize, each: usize) {
        self.element();
        // So many can never follow.
        let held = i64::try_from(len.saturating_mul(each)).unwrap_or(i64::MAX / 2);
        *self.missing = self.missing.saturating_add(held);
    }
}

/// What a call can answer with.
pub trait Answer {
    /// Writes it.
    fn write(self, out: &mut Out<'_>);
}

macro_rules! answers {
    ($( $T:ty: |$value:ident, $out:ident| $write:expr; )*) => {
        $( impl Answer for $T {
            fn write(self, $out: &mut Out<'_>) {
                let $value = self;
                $write;
            }
        } )*
    };
}

answers! {
    i64: |n, out| out.integer(n);
    u32: |n, out| out.integer(i64::from(n));
    usize: |n, out| out.integer(n as i64);
    bool: |is, out| out.integer(i64::from(is));
    f64: |x, out| out.double(x);
    &str: |text, out| out.bulk(text.as_bytes());
    String: |text, out| out.bulk(text.as_bytes());
    &[u8]: |bytes, out| out.bulk(bytes);
    Vec<u8>: |bytes, out| out.bulk(&bytes);
}

impl<T: Answer> Answer for Option<T> {
    fn write(self, out: &mut Out<'_>) {
        match self {
            Some(value) => value.write(out),
            None => out.null(),
        }
    }
}

/// A module's settings: the value of the struct that `module!` names under `config`.
#[derive(Debug)]
pub struct Settings(RwLock<Box<dyn Any + Send + Sync>>);

impl Settings {
    /// Settings of a type.
    pub fn new<C: Any + Send + Sync>(config: C) -> Settings {
        Settings(RwLock::new(Box::new(config)))
    }

    /// The settings, to be read.
    ///
    /// # Panics
    ///
    /// If `module!` names another type.
    pub fn config<C: 'static>(&self) -> Config<'_, C> {
        let config = Config { guard: self.0.read().unwrap_or_else(PoisonError::into_inner), of: PhantomData };
        assert!(config.guard.is::<C>(), "`module!` names another type under `config`");
        config
    }

    /// Changes the settings.
    pub(crate) fn change<C: 'static, R>(&self, change: impl FnOnce(&mut C) -> R) -> Option<R> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).downcast_mut().map(change)
    }
}

/// Settings, held while they are read.
pub struct Config<'a, C> {
    guard: RwLockReadGuard<'a, Box<dyn Any + Send + Sync>>,
    of: PhantomData<C>,
}

impl<C: 'static> Deref for Config<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.guard.downcast_ref().expect("the type was compared when the settings were asked for")
    }
}
