//! The server as modules see it: each request crosses the border.

#![allow(unsafe_code)]

use std::any::Any;
use std::marker::PhantomData;

use super::values::{OwnedValue, TypeRow};
use crate::abi::module::Call as AbiCall;
use crate::abi::{self, Context, Found, Handle, HostRef, List, Set, Slice, Stored, StoredText};
use crate::error::{self, Error, Result};
use crate::host::{Access, Host, Level, Text};
use crate::resp::decode::{Reply, decode};
use crate::resp::encode::Version;

/// The server, during a call.
pub(super) struct Server<'a> {
    host: HostRef,
    types: &'static [TypeRow],
    context: Context,
    now_ms: i64,
    now_ns: i64,
    version: Version,
    /// The value that was found last, and whether the server knows that it is about to be changed.
    found: Option<(&'static TypeRow, Handle)>,
    access: Access,
    is_touched: bool,
    call: PhantomData<&'a ()>,
}

impl<'a> Server<'a> {
    /// The server, as the call it makes tells of it.
    #[inline(always)]
    pub(super) fn new(host: HostRef, types: &'static [TypeRow], call: &AbiCall<'a>) -> Server<'a> {
        Server {
            host,
            types,
            context: call.context,
            now_ms: call.now_ms,
            now_ns: call.now_ns,
            version: if call.resp == 3 { Version::Resp3 } else { Version::Resp2 },
            found: None,
            access: Access::Read,
            is_touched: false,
            call: PhantomData,
        }
    }

    /// The context of the call, for a request after which what was found does not hold any more.
    fn ask(&mut self) -> Context {
        self.found = None;
        self.context
    }
}

/// What a value is looked for, as the border says it.
fn crossing(access: Access) -> abi::Access {
    match access {
        Access::Read => abi::Access::READ,
        Access::Edit => abi::Access::EDIT,
    }
}

/// Runs a function on words as the border takes them. Few words need no allocation.
fn with_words<R>(words: &[&[u8]], run: impl FnOnce(List<'_, Slice<'_>>) -> R) -> R {
    const FEW: usize = 8;
    if words.len() <= FEW {
        let mut few = [Slice::new(b""); FEW];
        few.iter_mut().zip(words).for_each(|(to, word)| *to = Slice::new(word));
        return run(List::new(&few[..words.len()]));
    }
    let many: Vec<_> = words.iter().map(|word| Slice::new(word)).collect();
    run(List::new(&many))
}

// SAFETY (of each block below): the server gave these functions for as long as it runs, and the context for this call;
// slices hold for the call, names of events for ever.
impl Host for Server<'_> {
    fn now_ms(&self) -> i64 {
        self.now_ms
    }

    fn now_ns(&self) -> i64 {
        self.now_ns
    }

    fn version(&self) -> Version {
        self.version
    }

    fn random(&mut self) -> u64 {
        // SAFETY: see above.
        unsafe { self.host.random()(self.ask()) }
    }

    fn find(&mut self, key: &[u8], of: &'static TypeRow, access: Access) -> Result<bool> {
        const UNDECLARED: Error = Error::new("ERR the module uses a data type that it has not declared");
        let row = self.types.iter().find(|row| row.is(of)).ok_or(UNDECLARED)?;
        // SAFETY: see above.
        let Stored { found, handle } =
            unsafe { self.host.find()(self.ask(), Slice::new(key), row.id, crossing(access)) };
        match found {
            Found::NOTHING => Ok(false),
            Found::VALUE => {
                (self.found, self.access, self.is_touched) = (Some((row, handle)), access, false);
                Ok(true)
            }
            Found::OTHER_TYPE => Err(error::WRONGTYPE),
            _ => Err(UNDECLARED),
        }
    }

    fn value(&self) -> Option<&dyn Any> {
        // SAFETY: the server found it, it is of the row's type, and holds until the next request, for which `self` has
        // to be borrowed mutably.
        self.found.map(|(row, handle)| unsafe { &*(row.any)(handle) })
    }

    fn value_mut(&mut self, key: &[u8]) -> Option<&mut dyn Any> {
        let (row, handle) = self.found.filter(|_| self.access == Access::Edit)?;
        if !self.is_touched {
            self.is_touched = true;
            // SAFETY: see above.
            unsafe { self.host.touch()(self.context, Slice::new(key)) };
        }
        // SAFETY: as in `value`; `&mut self` is exclusive, and on the engine's thread nobody else has the value.
        Some(unsafe { &mut *(row.any)(handle) })
    }

    fn changed(&mut self, key: &[u8], event: &'static str) {
        // SAFETY: see above.
        unsafe { self.host.changed()(self.ask(), Slice::new(key), Slice::text(event)) }
    }

    fn put(&mut self, key: &[u8], value: OwnedValue, event: &'static str) {
        let Some(row) = self.types.iter().find(|row| row.is(value.row)) else {
            panic!("the module puts a value of a data type that it has not declared");
        };
        // SAFETY: see above; the value is the server's from here on.
        unsafe {
            self.host.put()(self.ask(), Slice::new(key), row.id, value.into_handle(), Slice::text(event))
        }
    }

    fn exists(&mut self, key: &[u8]) -> bool {
        // SAFETY: see above.
        unsafe { self.host.exists()(self.ask(), Slice::new(key)) }
    }

    fn remove(&mut self, key: &[u8], event: &'static str) -> bool {
        // SAFETY: see above.
        unsafe { self.host.remove()(self.ask(), Slice::new(key), Slice::text(event)) }
    }

    fn deadline(&mut self, key: &[u8]) -> Option<Option<i64>> {
        // SAFETY: see above.
        match unsafe { self.host.deadline()(self.ask(), Slice::new(key)) } {
            -2 => None,
            -1 => Some(None),
            deadline => Some(Some(deadline)),
        }
    }

    fn set_deadline(&mut self, key: &[u8], deadline: Option<i64>, event: &'static str) -> bool {
        let deadline = deadline.map_or(-1, |deadline| deadline.max(0));
        // SAFETY: see above.
        unsafe { self.host.set_deadline()(self.ask(), Slice::new(key), deadline, Slice::text(event)) }
    }

    fn string(&mut self, key: &[u8], access: Access) -> Result<Option<(Text<'_>, Option<i64>)>> {
        // SAFETY: see above.
        let StoredText { found, deadline, text } =
            unsafe { self.host.string()(self.ask(), Slice::new(key), crossing(access)) };
        match found {
            Found::NOTHING => Ok(None),
            // What it borrows holds until the next request, for which `self` has to be borrowed mutably.
            Found::VALUE => {
                let text = text.get().map_or_else(Text::Bytes, Text::Integer);
                Ok(Some((text, (deadline >= 0).then_some(deadline))))
            }
            _ => Err(error::WRONGTYPE),
        }
    }

    fn set_string(&mut self, key: &[u8], text: Text<'_>, deadline: Option<i64>) -> Result {
        let text = match text {
            Text::Integer(integer) => abi::Text::of_integer(integer),
            Text::Bytes(bytes) => abi::Text::of_bytes(bytes),
        };
        let deadline = deadline.map_or(-1, |deadline| deadline.max(0));
        // SAFETY: see above.
        match unsafe { self.host.set_string()(self.ask(), Slice::new(key), text, deadline) } {
            Set::DONE => Ok(()),
            _ => Err(error::OOM),
        }
    }

    fn invoke(&mut self, words: &[&[u8]]) -> Result<Reply> {
        let context = self.ask();
        // SAFETY: see above; the reply is decoded before the next request.
        let reply = with_words(words, |words| unsafe { self.host.invoke()(context, words) });
        match decode(reply.get()) {
            Ok(Some((Reply::Error(text), _))) => Err(Error::text(text)),
            Ok(Some((reply, _))) => Ok(reply),
            _ => Err(Error::new("ERR the server's reply to the module is malformed")),
        }
    }

    fn propagates(&mut self, words: &[&[u8]]) {
        let context = self.ask();
        // SAFETY: see above.
        with_words(words, |words| unsafe { self.host.propagates()(context, words) });
    }

    fn log(&mut self, level: Level, text: &str) {
        log(self.host, level, text);
    }
}

pub(super) fn log(host: HostRef, level: Level, text: &str) {
    let level = match level {
        Level::Debug => abi::Level::DEBUG,
        Level::Verbose => abi::Level::VERBOSE,
        Level::Notice => abi::Level::NOTICE,
        Level::Warning => abi::Level::WARNING,
    };
    // SAFETY: the server's function, which any thread may call at any time.
    unsafe { host.log()(level, Slice::text(text)) }
}
