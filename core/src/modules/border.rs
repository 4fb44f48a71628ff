//! The server's side of the border: the functions that modules call, and calls of theirs.
//!
//! A module's function gets a context: the address of the [`Frame`] of the call that it belongs to. The frame outlives
//! the module's function, the module gives the context back unchanged and on the same thread, and asks for one thing at a
//! time; so each of the server's functions has the frame to itself. These are rules of the border, which the SDK keeps.
//!
//! Nothing unwinds across the border. Should a command of the core panic that a module has invoked, the panic waits in
//! the frame and goes on when the module has returned.

#![allow(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;

use mortise_sdk::abi::host::HostRef;
use mortise_sdk::abi::module::Call as AbiCall;
use mortise_sdk::abi::{
    Access, Context, Feature, Form, Found, Handle, Host, InfoSink, Level, List, ModuleRef, Outcome, Set,
    Slice, Status, Stored, StoredText, Text, TypeId,
};
use mortise_sdk::declare::flags;
use mortise_sdk::error::{self, Error, Result};
use mortise_sdk::host as sdk;

use super::Module;
use super::values::ModuleValue;
use crate::acl;
use crate::engine::Caller;
use crate::engine::args::{Args, OwnedArgs};
use crate::engine::call::{Call, Key};
use crate::engine::dispatch::Asked;
use crate::engine::registry::{CommandRef, Lookup};
use crate::keyspace::entry::NewValue;
use crate::types::string::set_for_module;
use crate::types::string::value::{Str, StrRef};
use crate::types::{Object, Type};

/// How deep modules may invoke commands that invoke commands.
const INVOKED_MAX: u32 = 16;

/// Text of a declaration. It lives as long as the library, which is never unmapped.
pub(super) fn text(bytes: Slice<'static>) -> std::result::Result<&'static str, String> {
    std::str::from_utf8(bytes.get()).map_err(|_| "declares what is no text".to_owned())
}

// ---- the module's functions

/// How a module's function failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// With an error.
    Error(String),
    /// With a panic.
    Panicked,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(text) => f.write_str(text),
            Failure::Panicked => f.write_str("it panicked"),
        }
    }
}

/// A module's functions. Handles are those of values of the type at that place, which the module gave and which have
/// not been freed.
#[derive(Clone, Copy)]
pub(super) struct Table(ModuleRef);

fn copied(outcome: Outcome) -> std::result::Result<Vec<u8>, Failure> {
    // SAFETY: copied at once, before the module is entered again.
    let bytes = unsafe { outcome.bytes() };
    match outcome.status {
        Status::OK => Ok(bytes.to_vec()),
        Status::ERROR => Err(Failure::Error(String::from_utf8_lossy(bytes).into_owned())),
        _ => Err(Failure::Panicked),
    }
}

fn copied_text(outcome: Outcome) -> std::result::Result<String, Failure> {
    copied(outcome).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

// SAFETY (of each block below): the table was checked when the library was loaded, which is never unmapped; slices hold
// for the call; handles are as the type says.
impl Table {
    pub(super) fn new(table: ModuleRef) -> Table {
        Table(table)
    }

    pub(super) fn start(self, args: &[&[u8]]) -> std::result::Result<(), Failure> {
        let args: Vec<_> = args.iter().map(|arg| Slice::new(arg)).collect();
        // SAFETY: see above.
        copied(unsafe { self.0.start()(host(), List::new(&args)) }).map(drop)
    }

    pub(super) fn describe(self) -> Feature<'static> {
        self.0.describe()()
    }

    pub(super) fn stop(self) -> std::result::Result<(), Failure> {
        copied(self.0.stop()()).map(drop)
    }

    pub(super) fn show(self, directive: u32, form: Form) -> std::result::Result<String, Failure> {
        copied_text(self.0.show()(directive, form))
    }

    pub(super) fn set(self, directive: u32, value: &str) -> std::result::Result<(), Failure> {
        // SAFETY: see above.
        copied(unsafe { self.0.set()(directive, Slice::text(value)) }).map(drop)
    }

    /// Tells section, field and value of each line of INFO.
    pub(super) fn info(self, mut line: impl FnMut(&str, &str, &str)) {
        type Line<'a> = &'a mut dyn FnMut(&str, &str, &str);
        unsafe extern "C" fn tell(context: Context, section: Slice<'_>, field: Slice<'_>, value: Slice<'_>) {
            // SAFETY: the context is the address of `line` below, which nobody else uses meanwhile.
            let line = unsafe { &mut *context.0.cast::<Line<'_>>() };
            let text = |slice: Slice<'_>| String::from_utf8_lossy(slice.get()).replace(['\r', '\n'], " ");
            // Without the line, should it panic.
            let _ = catch_unwind(AssertUnwindSafe(|| line(&text(section), &text(field), &text(value))));
        }
        let mut line: Line<'_> = &mut line;
        let sink = InfoSink { context: Context(ptr::from_mut(&mut line).cast()), line: tell };
        // SAFETY: see above; the sink holds for the call.
        let _ = copied(unsafe { self.0.info()(sink) });
    }

    pub(super) fn copy(self, place: u32, handle: Handle) -> Option<Handle> {
        // SAFETY: see above.
        Some(unsafe { self.0.copy()(place, handle) }).filter(|copy| *copy != 0)
    }

    pub(super) fn free(self, place: u32, handle: Handle) {
        // SAFETY: see above; the handle is not used again.
        unsafe { self.0.free()(place, handle) }
    }

    pub(super) fn memory(self, place: u32, handle: Handle) -> usize {
        // SAFETY: see above.
        unsafe { self.0.memory()(place, handle) }
    }

    pub(super) fn len(self, place: u32, handle: Handle) -> usize {
        // SAFETY: see above.
        unsafe { self.0.len()(place, handle) }
    }

    pub(super) fn free_effort(self, place: u32, handle: Handle) -> usize {
        // SAFETY: see above.
        unsafe { self.0.free_effort()(place, handle) }
    }

    pub(super) fn is_gone(self, place: u32, handle: Handle) -> bool {
        // SAFETY: see above.
        unsafe { self.0.is_gone()(place, handle) }
    }

    pub(super) fn save(self, place: u32, handle: Handle) -> std::result::Result<Vec<u8>, Failure> {
        // SAFETY: see above.
        copied(unsafe { self.0.save()(place, handle) })
    }

    pub(super) fn load(self, place: u32, bytes: &[u8], version: u32) -> std::result::Result<Handle, Failure> {
        // SAFETY: see above.
        let handle = copied(unsafe { self.0.load()(place, Slice::new(bytes), version) })?;
        let handle = handle.try_into().map_err(|_| Failure::Error("the module gave no value".to_owned()))?;
        Ok(Handle::from_ne_bytes(handle))
    }
}

// ---- a command

/// What a call's context is the address of.
struct Frame<'a, 'c> {
    module: &'a Module,
    call: &'a mut Call<'c>,
    /// The reply of the command that was invoked last, or a string that does not stand in one piece.
    reply: Vec<u8>,
    /// A panic of the server's own, which goes on when the module has returned.
    panic: Option<Box<dyn Any + Send>>,
}

/// Runs a module's command: one crossing, and a copy of its reply.
#[inline]
pub(super) fn run(module: &Module, command: u32, call: &mut Call<'_>) -> Result {
    const FEW: usize = 8;
    let args: Args<'_> = call.args();
    let (mut few, many);
    let args: &[Slice<'_>] = if args.len() <= FEW {
        few = [const { Slice::new(b"") }; FEW];
        for (index, to) in few[..args.len()].iter_mut().enumerate() {
            *to = Slice::new(args.at(index));
        }
        &few[..args.len()]
    } else {
        many = args.iter().map(Slice::new).collect::<Vec<_>>();
        &many
    };
    let (now_ms, now_ns) = (call.now_ms(), call.now_ns());
    let resp = if call.out().is_resp3() { 3 } else { 2 };
    let db = call.session.db;
    let mut frame = Frame { module, call, reply: Vec::new(), panic: None };
    let context = Context(ptr::from_mut(&mut frame).cast());
    let view = AbiCall { context, args: List::new(args), now_ms, now_ns, resp };
    // SAFETY: the table was checked when the library was loaded; all that `view` refers to holds for the call.
    let outcome = unsafe { module.table.0.run()(&view, command) };
    // SAFETY: used before the module is entered again.
    let bytes = unsafe { outcome.bytes() };
    let Frame { call, panic, .. } = frame;
    if call.session.db != db {
        // The module has invoked SELECT, which is no business of its caller's.
        call.engine.select(call.session, db);
    }
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
    match outcome.status {
        Status::OK if bytes.is_empty() => {
            Err(Error::text(format!("ERR module '{}' gave no reply", module.name)))
        }
        Status::OK => {
            call.out().raw(bytes);
            Ok(())
        }
        Status::ERROR => Err(Error::text(bytes)),
        _ => Err(module.panicked(&call.command.name)),
    }
}

// ---- the server's functions

/// The table that every module is given.
fn host() -> HostRef {
    use mortise_sdk::abi::host::table;
    static HOST: table::Static = table::of(Host {
        random,
        find,
        touch,
        changed,
        put,
        exists,
        remove,
        deadline,
        set_deadline,
        invoke,
        propagates,
        log,
        string,
        set_string,
    });
    HOST.get()
}

/// The frame that a context is the address of.
///
/// # Safety
///
/// The context came from `run`, whose frame is still there, and nobody else uses the frame meanwhile.
unsafe fn frame<'a>(context: Context) -> &'a mut Frame<'a, 'a> {
    // SAFETY: the caller's promise.
    unsafe { &mut *context.0.cast::<Frame<'a, 'a>>() }
}

/// The key, with its hash: the first key's is known.
fn key<'a>(call: &Call<'_>, bytes: Slice<'a>) -> Key<'a> {
    let bytes = bytes.get();
    if let Some(first) = call.command.first_key()
        && first < call.argc()
        && ptr::eq(call.arg(first), bytes)
    {
        return Key { bytes, hash: call.key(first).hash };
    }
    Key::new(bytes)
}

/// The name of an event. It lives as long as the library, which is never unmapped.
fn event(name: Slice<'static>) -> &'static str {
    std::str::from_utf8(name.get()).unwrap_or("module")
}

/// Serves a request of a module. A panic is kept in the frame; from then on each request gets `otherwise`.
///
/// # Safety
///
/// As of [`frame`].
#[inline(always)]
unsafe fn serve<R>(context: Context, otherwise: R, what: impl FnOnce(&mut Frame<'_, '_>) -> R) -> R {
    // SAFETY: the caller's promise.
    let frame = unsafe { frame(context) };
    if frame.panic.is_some() {
        return otherwise;
    }
    match catch_unwind(AssertUnwindSafe(|| what(frame))) {
        Ok(result) => result,
        Err(panic) => {
            // SAFETY: the caller's promise; the reference above has ended with the panic.
            unsafe { self::frame(context) }.panic = Some(panic);
            otherwise
        }
    }
}

// SAFETY (of each call of `serve` below): the rules at the head of this file.

unsafe extern "C" fn random(context: Context) -> u64 {
    // SAFETY: see above.
    unsafe { serve(context, 0, |frame| frame.call.random()) }
}

unsafe extern "C" fn find(context: Context, name: Slice<'_>, id: TypeId, access: Access) -> Stored {
    // SAFETY: see above.
    unsafe { serve(context, nothing(Found::NOTHING), |frame| found(frame, name, id, access)) }
}

fn nothing(found: Found) -> Stored {
    Stored { found, handle: 0 }
}

fn found(frame: &mut Frame<'_, '_>, name: Slice<'_>, id: TypeId, access: Access) -> Stored {
    let Frame { module, call, .. } = frame;
    let Some(of) = module.data_type(id) else { return nothing(Found::UNDECLARED) };
    let key = key(call, name);
    let stored = |value: &crate::types::foreign::Foreign| match of.is_of(value) {
        true => Stored { found: Found::VALUE, handle: value.handle() },
        false => nothing(Found::OTHER_TYPE),
    };
    if access == Access::READ {
        return match call.read::<ModuleValue>(key) {
            Ok((Some(value), _)) => stored(value),
            Ok((None, _)) => nothing(Found::NOTHING),
            Err(_) => nothing(Found::OTHER_TYPE),
        };
    }
    match call.edit::<ModuleValue>(key) {
        Ok(Some(edit)) => stored(edit.view()),
        Ok(None) => nothing(Found::NOTHING),
        Err(_) => nothing(Found::OTHER_TYPE),
    }
}

unsafe extern "C" fn string(context: Context, name: Slice<'_>, access: Access) -> StoredText {
    // SAFETY: see above.
    unsafe { serve(context, no_string(Found::NOTHING), |frame| found_string(frame, name, access)) }
}

fn no_string(found: Found) -> StoredText {
    StoredText { found, deadline: -1, text: Text::of_integer(0) }
}

#[inline(always)]
fn found_string(frame: &mut Frame<'_, '_>, name: Slice<'_>, access: Access) -> StoredText {
    let Frame { call, reply, .. } = frame;
    let key = key(call, name);
    let mut stored = |value: StrRef<'_>, deadline: Option<i64>| {
        let text = match value {
            StrRef::Integer(n) => Text::of_integer(n),
            StrRef::Bytes(bytes) => of_bytes(bytes),
            StrRef::Long(text) => {
                *reply = text.to_vec();
                of_bytes(reply)
            }
        };
        StoredText { found: Found::VALUE, deadline: deadline.unwrap_or(-1), text }
    };
    let found = if access == Access::READ {
        let entry = call.look(key).0;
        entry.map(|entry| Ok(stored(Str::view(entry).ok_or(error::WRONGTYPE)?, entry.deadline()))).transpose()
    } else {
        call.before_edit::<Str, _>(key, stored)
    };
    match found {
        Ok(Some(stored)) => stored,
        Ok(None) => no_string(Found::NOTHING),
        Err(_) => no_string(Found::OTHER_TYPE),
    }
}

/// Bytes that a module may look at until its next request.
fn of_bytes(bytes: &[u8]) -> Text<'static> {
    // SAFETY: by the border's rules the module uses them before its next request; until then nobody changes the entry or
    // the frame in which they stand.
    Text::of_bytes(unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) })
}

unsafe extern "C" fn set_string(context: Context, name: Slice<'_>, text: Text<'_>, deadline: i64) -> Set {
    let set = |frame: &mut Frame<'_, '_>| {
        let call = &mut *frame.call;
        let key = key(call, name);
        if call.engine.out_of_memory && !call.caller().is_stream() && !call.exists(key) {
            return Set::OUT_OF_MEMORY;
        }
        let text = text.get().map_or_else(sdk::Text::Bytes, sdk::Text::Integer);
        set_for_module(call, key, text, (deadline >= 0).then_some(deadline));
        Set::DONE
    };
    // SAFETY: see above.
    unsafe { serve(context, Set::DONE, set) }
}

unsafe extern "C" fn touch(context: Context, name: Slice<'_>) {
    let touched = |frame: &mut Frame<'_, '_>| {
        let key = key(frame.call, name);
        let (db, door) = frame.call.db();
        if let Some(mut edit) = db.edit(door, key.hash, key.bytes) {
            edit.open();
        }
    };
    // SAFETY: see above.
    unsafe { serve(context, (), touched) }
}

unsafe extern "C" fn changed(context: Context, name: Slice<'_>, what: Slice<'static>) {
    let noted = |frame: &mut Frame<'_, '_>| {
        let key = key(frame.call, name);
        if what.get().is_empty() {
            // The module's author forgot the event; the change is propagated all the same.
            frame.call.engine.unit.dirty += 1;
        } else if let Ok(Some(edit)) = frame.call.edit::<ModuleValue>(key) {
            edit.changed(event(what));
        }
    };
    // SAFETY: see above.
    unsafe { serve(context, (), noted) }
}

unsafe extern "C" fn put(
    context: Context,
    name: Slice<'_>,
    id: TypeId,
    handle: Handle,
    what: Slice<'static>,
) {
    let put = |frame: &mut Frame<'_, '_>| {
        let Frame { module, call, .. } = frame;
        // The SDK puts values of declared types only; of another nothing is known, so it can only be let go of.
        let Some(of) = module.data_type(id) else { return };
        let value = Object::Foreign(of.clone().adopt(handle));
        let key = key(call, name);
        call.put::<ModuleValue>(key, NewValue::Object(Box::new(value)), false).changed(event(what));
    };
    // SAFETY: see above.
    unsafe { serve(context, (), put) }
}

unsafe extern "C" fn exists(context: Context, name: Slice<'_>) -> bool {
    let exists = |frame: &mut Frame<'_, '_>| frame.call.exists(key(frame.call, name));
    // SAFETY: see above.
    unsafe { serve(context, false, exists) }
}

unsafe extern "C" fn remove(context: Context, name: Slice<'_>, what: Slice<'static>) -> bool {
    let removed = |frame: &mut Frame<'_, '_>| frame.call.remove(key(frame.call, name), event(what));
    // SAFETY: see above.
    unsafe { serve(context, false, removed) }
}

unsafe extern "C" fn deadline(context: Context, name: Slice<'_>) -> i64 {
    let deadline = |frame: &mut Frame<'_, '_>| {
        let key = key(frame.call, name);
        frame.call.peek(key).map_or(-2, |entry| entry.deadline().unwrap_or(-1))
    };
    // SAFETY: see above.
    unsafe { serve(context, -2, deadline) }
}

unsafe extern "C" fn set_deadline(context: Context, name: Slice<'_>, at: i64, what: Slice<'static>) -> bool {
    let set = |frame: &mut Frame<'_, '_>| {
        let key = key(frame.call, name);
        frame.call.set_deadline(key, (at >= 0).then_some(at), event(what))
    };
    // SAFETY: see above.
    unsafe { serve(context, false, set) }
}

unsafe extern "C" fn invoke(context: Context, words: List<'_, Slice<'_>>) -> Slice<'static> {
    let invoke = |frame: &mut Frame<'_, '_>| -> Slice<'static> {
        frame.reply = invoked(frame.call, words);
        // SAFETY: by the border's rules the module uses the reply before its next request, and the frame keeps it so
        // long.
        Slice::new(unsafe { std::slice::from_raw_parts(frame.reply.as_ptr(), frame.reply.len()) })
    };
    // SAFETY: see above.
    unsafe { serve(context, Slice::text("-ERR the server has panicked\r\n"), invoke) }
}

/// The encoded reply of a command that a module invokes.
fn invoked(call: &mut Call<'_>, words: List<'_, Slice<'_>>) -> Vec<u8> {
    let words = OwnedArgs::new(words.get().iter().map(|word| word.get()));
    let words = words.view();
    let error = match invocable(call, words) {
        Ok(command) => {
            let mark = call.out().mark();
            let caller = if call.caller().is_stream() { call.caller() } else { Caller::Module };
            let depth = call.engine.unit.invoked;
            call.engine.unit.invoked = depth + 1;
            let executed =
                catch_unwind(AssertUnwindSafe(|| call.execute(Asked::new(&command, words), caller)));
            call.engine.unit.invoked = depth;
            if let Err(panic) = executed {
                resume_unwind(panic);
            }
            let reply = call.out().bytes()[mark..].to_vec();
            call.out().rollback(mark);
            return reply;
        }
        Err(error) => error,
    };
    let mut reply = Vec::new();
    mortise_sdk::resp::encode::error(&mut reply, error.as_bytes());
    reply
}

/// The command that a module may invoke by these words. A module's command lends nobody rights: what it invokes has to be
/// allowed to the user whose call it serves. What is replayed was allowed when it was said.
fn invocable(call: &mut Call<'_>, words: Args<'_>) -> Result<CommandRef> {
    let command = match call.registry.find(words) {
        Lookup::Found(command) => command,
        Lookup::Unknown | Lookup::UnknownSubcommand(_) => {
            let name = words.get(0).unwrap_or_default();
            return Err(Error::quoting("ERR unknown command '{}'", &[name]));
        }
    };
    if !command.facts.accepts(words.len()) {
        return Err(Error::wrong_arity(&command.name));
    }
    if command.flags.any(flags::NOSCRIPT | flags::CONTAINER) {
        return Err(Error::text(format!("ERR a module cannot invoke '{}'", command.name)));
    }
    if !call.caller().is_stream()
        && let Err(refusal) = acl::check(&call.session.user, &command, words)
    {
        let Call { engine, session, .. } = call;
        return Err(engine.forbid_within(session, refusal, &command, words, Caller::Module));
    }
    if call.engine.unit.invoked >= INVOKED_MAX {
        return Err(Error::new("ERR commands of modules invoke each other too deeply"));
    }
    Ok(command)
}

unsafe extern "C" fn propagates(context: Context, words: List<'_, Slice<'_>>) {
    let said = |frame: &mut Frame<'_, '_>| {
        let words: Vec<&[u8]> = words.get().iter().map(|word| word.get()).collect();
        if words.is_empty() {
            frame.call.propagates_nothing();
        } else {
            frame.call.propagates(&words);
        }
    };
    // SAFETY: see above.
    unsafe { serve(context, (), said) }
}

unsafe extern "C" fn log(level: Level, line: Slice<'_>) {
    // Without the line, should it panic.
    let _ = catch_unwind(|| {
        let line = String::from_utf8_lossy(line.get());
        match level {
            Level::DEBUG => tracing::trace!("{line}"),
            Level::VERBOSE => tracing::debug!("{line}"),
            Level::NOTICE => tracing::info!("{line}"),
            _ => tracing::warn!("{line}"),
        }
    });
}
