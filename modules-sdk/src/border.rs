//! The module's side of the border: the server as a [`Host`], and the functions that the server calls.
//!
//! Each of these catches panics, so that nothing unwinds across the border. This file trusts what the border's rules
//! promise of the server: that a handle is one which this module gave for that type, and that a context and what was
//! found in it hold until the next request. It is what makes modules themselves free of `unsafe`.

#![allow(unsafe_code)]

use std::any::{Any, TypeId};
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use crate::abi::module::Call as AbiCall;
use crate::abi::{
    self, CommandRow, Context, DirectiveRow, Found, Handle, HostRef, InfoSink, KeyRow, List, Outcome,
    Provide, Slice, Status, Stored,
};
use crate::call::{Call, Settings};
use crate::data_type::{DataType, Loader, Saver};
use crate::declare::config::Access as Changeable;
use crate::declare::{Directive, Flags, Shown};
use crate::error::{self, Error, Result};
use crate::host::{Access, Host, Level};
use crate::module::{Definition, Run};
use crate::resp::decode::{Reply, decode};
use crate::resp::encode::Version;

// ---- values

/// A data type's functions, for values of which only the handle is known.
#[derive(Debug)]
pub struct TypeRow {
    /// Its name.
    pub name: &'static str,
    /// The version of its saved form.
    pub version: u32,
    id: abi::TypeId,
    rust: fn() -> TypeId,
    any: unsafe fn(Handle) -> *mut dyn Any,
    copy: unsafe fn(Handle) -> Option<Handle>,
    free: unsafe fn(Handle),
    memory: unsafe fn(Handle) -> usize,
    len: unsafe fn(Handle) -> usize,
    free_effort: unsafe fn(Handle) -> usize,
    is_gone: unsafe fn(Handle) -> bool,
    save: unsafe fn(Handle, &mut Saver),
    load: fn(&mut Loader<'_>, u32) -> Result<Handle>,
}

fn into_handle<T>(value: Box<T>) -> Handle {
    Box::into_raw(value).expose_provenance() as Handle
}

fn pointer<T>(handle: Handle) -> *mut T {
    std::ptr::with_exposed_provenance_mut(handle as usize)
}

/// # Safety
///
/// The handle came from `into_handle::<T>`, has not been freed, and nobody changes the value meanwhile.
unsafe fn view<'a, T>(handle: Handle) -> &'a T {
    // SAFETY: the caller's promise.
    unsafe { &*pointer::<T>(handle) }
}

impl TypeRow {
    /// The row of a type.
    pub const fn of<T: DataType>() -> TypeRow {
        // SAFETY (of each block below): the functions are called with handles of this row's type only, which is what
        // makes them `unsafe fn`s.
        TypeRow {
            name: T::NAME,
            version: T::VERSION,
            id: abi::type_id(T::NAME),
            rust: TypeId::of::<T>,
            any: |handle| pointer::<T>(handle),
            // SAFETY: see above.
            copy: |handle| unsafe { view::<T>(handle) }.copy().map(|copy| into_handle(Box::new(copy))),
            // SAFETY: see above.
            free: |handle| drop(unsafe { Box::from_raw(pointer::<T>(handle)) }),
            // SAFETY: see above.
            memory: |handle| unsafe { view::<T>(handle) }.memory() + size_of::<T>(),
            // SAFETY: see above.
            len: |handle| unsafe { view::<T>(handle) }.len(),
            // SAFETY: see above.
            free_effort: |handle| unsafe { view::<T>(handle) }.free_effort(),
            // SAFETY: see above.
            is_gone: |handle| unsafe { view::<T>(handle) }.is_gone(),
            // SAFETY: see above.
            save: |handle, out| unsafe { view::<T>(handle) }.save(out),
            load: |from, version| T::load(from, version).map(|value| into_handle(Box::new(value))),
        }
    }

    /// Whether both are of the same type, not only of the same name.
    fn is(&self, other: &TypeRow) -> bool {
        self.id == other.id && (self.rust)() == (other.rust)()
    }
}

/// A value of some data type, owned.
#[derive(Debug)]
pub struct OwnedValue {
    row: &'static TypeRow,
    handle: Handle,
}

impl OwnedValue {
    /// Takes over a value.
    pub fn new<T: DataType>(value: Box<T>) -> OwnedValue {
        OwnedValue { row: const { &TypeRow::of::<T>() }, handle: into_handle(value) }
    }

    /// A value of a row's type from its saved form.
    pub fn load(row: &'static TypeRow, bytes: &[u8], version: u32) -> Result<OwnedValue> {
        let handle = (row.load)(&mut Loader::new(bytes), version)?;
        Ok(OwnedValue { row, handle })
    }

    /// Its type.
    pub fn row(&self) -> &'static TypeRow {
        self.row
    }

    /// Whether its type is that of a row.
    pub fn is(&self, row: &TypeRow) -> bool {
        self.row.is(row)
    }

    /// The value.
    pub fn any(&self) -> &dyn Any {
        // SAFETY: the handle is of this row's type, and owned.
        unsafe { &*(self.row.any)(self.handle) }
    }

    /// The value, to be changed.
    pub fn any_mut(&mut self) -> &mut dyn Any {
        // SAFETY: the handle is of this row's type, and owned; `&mut self` is exclusive.
        unsafe { &mut *(self.row.any)(self.handle) }
    }

    /// Whether nothing is left of it.
    pub fn is_gone(&self) -> bool {
        // SAFETY: the handle is of this row's type, and owned.
        unsafe { (self.row.is_gone)(self.handle) }
    }

    /// Its saved form.
    pub fn save(&self) -> Vec<u8> {
        let mut out = Saver::default();
        // SAFETY: the handle is of this row's type, and owned.
        unsafe { (self.row.save)(self.handle, &mut out) };
        out.into_bytes()
    }

    fn into_handle(self) -> Handle {
        let handle = self.handle;
        std::mem::forget(self);
        handle
    }
}

impl Drop for OwnedValue {
    fn drop(&mut self) {
        // SAFETY: the handle is of this row's type, owned, and not used again.
        unsafe { (self.row.free)(self.handle) }
    }
}

// ---- the server

/// What the module keeps while it is loaded.
struct State {
    settings: Settings,
    commands: Vec<Run>,
    types: &'static [TypeRow],
    /// The server's functions.
    host: HostRef,
}

static STATE: OnceLock<State> = OnceLock::new();

/// The server, during a call.
struct Server<'a> {
    host: HostRef,
    types: &'static [TypeRow],
    context: Context,
    now_ms: i64,
    version: Version,
    /// The value that was found last, and whether the server knows that it is about to be changed.
    found: Option<(&'static TypeRow, Handle)>,
    access: Access,
    is_touched: bool,
    call: PhantomData<&'a ()>,
}

impl Server<'_> {
    /// The context of the call, for a request after which what was found does not hold any more.
    fn ask(&mut self) -> Context {
        self.found = None;
        self.context
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
        let wanted = match access {
            Access::Read => abi::Access::READ,
            Access::Edit => abi::Access::EDIT,
        };
        // SAFETY: see above.
        let Stored { found, handle } =
            unsafe { self.host.find()(self.ask(), Slice::new(key), row.id, wanted) };
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

    fn invoke(&mut self, words: &[&[u8]]) -> Result<Reply> {
        let context = self.ask();
        // SAFETY: see above; the reply is decoded before the next request.
        let reply = with_words(words, |words| unsafe { self.host.invoke()(context, words) });
        match decode(reply.get()) {
            Ok(Some((Reply::Error(text), _))) => Err(Error::text(String::from_utf8_lossy(&text))),
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

fn log(host: HostRef, level: Level, text: &str) {
    let level = match level {
        Level::Debug => abi::Level::DEBUG,
        Level::Verbose => abi::Level::VERBOSE,
        Level::Notice => abi::Level::NOTICE,
        Level::Warning => abi::Level::WARNING,
    };
    // SAFETY: the server's function, which any thread may call at any time.
    unsafe { host.log()(level, Slice::text(text)) }
}

// ---- the module

/// What `module!` says of the module to this file.
pub trait Entry: 'static {
    /// Its settings.
    type Config: Default + Send + Sync + 'static;
    /// The rest.
    fn definition() -> &'static Definition<Self::Config>;
}

/// The library's memory and the two symbols that the server reads: the part of `module!` that belongs to the border.
#[doc(hidden)]
#[macro_export]
macro_rules! export {
    ($name:literal, $Entry:ty) => {
        #[global_allocator]
        static __ALLOCATOR: $crate::abi::Allocator = $crate::abi::Allocator::new();

        #[unsafe(no_mangle)]
        static MORTISE_MODULE: $crate::abi::Declaration = $crate::abi::Declaration::new(
            $name,
            env!("CARGO_PKG_VERSION"),
            cfg!(panic = "unwind"),
            &__ALLOCATOR,
        );

        #[unsafe(no_mangle)]
        static MORTISE_ROOT: $crate::abi::Root = $crate::abi::Root::of::<$crate::border::Border<$Entry>>();
    };
}

/// The module's table.
pub struct Border<E>(PhantomData<E>);

impl<E: Entry> Provide for Border<E> {
    const MODULE: fn() -> abi::Module = || abi::Module {
        start: start::<E>,
        describe: describe::<E>,
        stop,
        run,
        show: show::<E>,
        set: set::<E>,
        info: info::<E>,
        copy,
        free,
        memory,
        len,
        free_effort,
        is_gone,
        save,
        load,
    };
}

thread_local! {
    /// What the last outcome on this thread refers to. Reused, so that a call needs no allocation.
    static BYTES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn take_buffer() -> Vec<u8> {
    const KEEP_MAX: usize = 1 << 16;
    let mut bytes = BYTES.take();
    bytes.clear();
    bytes.shrink_to(KEEP_MAX);
    bytes
}

fn outcome(status: Status, bytes: Vec<u8>) -> Outcome {
    let outcome = Outcome::new(status, &bytes);
    BYTES.set(bytes);
    outcome
}

/// Runs a function that writes its result, and catches what it panics with.
#[inline(always)]
fn guarded(run: impl FnOnce(&mut Vec<u8>) -> Result) -> Outcome {
    let mut bytes = take_buffer();
    match catch_unwind(AssertUnwindSafe(|| run(&mut bytes))) {
        Ok(Ok(())) => outcome(Status::OK, bytes),
        Ok(Err(error)) => {
            bytes.clear();
            bytes.extend_from_slice(error.as_str().as_bytes());
            outcome(Status::ERROR, bytes)
        }
        Err(payload) => {
            forget(payload);
            outcome(Status::PANICKED, Vec::new())
        }
    }
}

/// Lets go of what a panic carried, which may panic in turn.
#[cold]
fn forget(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

/// The same for functions with a plain result.
fn guarded_or<R>(otherwise: R, run: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(payload) => {
            forget(payload);
            otherwise
        }
    }
}

const NOT_STARTED: Error = Error::new("ERR the module has not been started");

unsafe extern "C" fn start<E: Entry>(host: HostRef, _args: List<'_, Slice<'_>>) -> Outcome {
    guarded(|_| {
        let definition = E::definition();
        quieten(host, definition.feature.name);
        let state = STATE.get_or_init(|| State {
            settings: Settings::new(E::Config::default()),
            commands: definition
                .feature
                .commands
                .iter()
                .flat_map(|table| table.iter())
                .map(|command| command.run)
                .collect(),
            types: definition.feature.types,
            host,
        });
        for (i, row) in state.types.iter().enumerate() {
            if state.types[..i].iter().any(|other| other.id == row.id) {
                return Err(Error::text(format!("ERR the data type '{}' is declared twice", row.name)));
            }
        }
        state.settings.change(|config| *config = E::Config::default());
        Ok(())
    })
}

/// A caught panic is a line in the server's log, not a backtrace on its standard error: with backtraces on, the first
/// one reads all symbols into memory and keeps them.
fn quieten(host: HostRef, name: &'static str) {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        std::panic::set_hook(Box::new(move |panic| {
            let place =
                panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
            let text = panic.payload_as_str().unwrap_or("without a message");
            log(host, Level::Warning, &format!("module '{name}' panicked{place}: {text}"));
        }));
    });
}

extern "C" fn stop() -> Outcome {
    guarded(|_| Ok(()))
}

/// Rows as the border takes them, made once.
extern "C" fn describe<E: Entry>() -> abi::Feature<'static> {
    static ROWS: OnceLock<abi::Feature<'static>> = OnceLock::new();
    const NOTHING: abi::Feature<'static> = abi::Feature {
        about: Slice::new(b""),
        commands: List::new(&[]),
        types: List::new(&[]),
        directives: List::new(&[]),
    };
    guarded_or(NOTHING, || *ROWS.get_or_init(|| rows(E::definition())))
}

fn rows<C>(definition: &'static Definition<C>) -> abi::Feature<'static> {
    fn leak<T>(rows: Vec<T>) -> List<'static, T> {
        List::new(rows.leak())
    }
    let feature = &definition.feature;
    let commands = feature.commands.iter().flat_map(|table| table.iter()).map(|command| {
        let spec = &command.spec;
        CommandRow {
            usage: Slice::text(spec.usage),
            about: Slice::text(spec.about),
            since: Slice::text(spec.since),
            cost: Slice::text(spec.cost),
            group: Slice::text(spec.group),
            flags: Flags::all(spec.flags).0,
            categories: spec.categories.iter().fold(0, |bits, category| bits | category.0),
            arity: spec.arity.unwrap_or(0),
            keys: leak(
                spec.keys
                    .iter()
                    .map(|key| KeyRow { arg: Slice::text(key.arg), access: key.access.0.into() })
                    .collect(),
            ),
            tips: leak(spec.tips.iter().map(|tip| Slice::text(tip)).collect()),
        }
    });
    let types = feature.types.iter();
    let directives = feature.config.iter();
    abi::Feature {
        about: Slice::text(definition.about),
        commands: leak(commands.collect()),
        types: leak(
            types
                .map(|row| abi::TypeRow { name: Slice::text(row.name), id: row.id, version: row.version })
                .collect(),
        ),
        directives: leak(
            directives
                .map(|directive| DirectiveRow {
                    name: Slice::text(directive.name),
                    about: Slice::text(directive.about),
                    access: match directive.access {
                        Changeable::Live => 0,
                        Changeable::Fixed => 1,
                        Changeable::Protected => 2,
                        Changeable::Secret => 3,
                        Changeable::Hidden => 4,
                    },
                })
                .collect(),
        ),
    }
}

unsafe extern "C" fn run(call: &AbiCall<'_>, command: u32) -> Outcome {
    guarded(|out| {
        let state = STATE.get().ok_or(NOT_STARTED)?;
        let run = state.commands.get(command as usize).ok_or(NOT_STARTED)?;
        let mut server = Server {
            host: state.host,
            types: state.types,
            context: call.context,
            now_ms: call.now_ms,
            version: if call.resp == 3 { Version::Resp3 } else { Version::Resp2 },
            found: None,
            access: Access::Read,
            is_touched: false,
            call: PhantomData,
        };
        run(&mut Call::new(&mut server, call.args.get(), out, &state.settings))
    })
}

fn directive<E: Entry>(index: u32) -> Result<&'static Directive<E::Config>> {
    E::definition()
        .feature
        .config
        .get(index as usize)
        .ok_or(Error::new("ERR the module has no such directive"))
}

extern "C" fn show<E: Entry>(index: u32, default: bool) -> Outcome {
    guarded(|out| {
        let directive = directive::<E>(index)?;
        let text = if default {
            (directive.get)(&E::Config::default())
        } else {
            (directive.get)(&STATE.get().ok_or(NOT_STARTED)?.settings.config())
        };
        out.extend_from_slice(text.as_bytes());
        Ok(())
    })
}

unsafe extern "C" fn set<E: Entry>(index: u32, value: Slice<'_>) -> Outcome {
    guarded(|_| {
        let directive = directive::<E>(index)?;
        let value =
            std::str::from_utf8(value.get()).map_err(|_| Error::new("argument must be valid UTF-8"))?;
        let words: Vec<&str> = if directive.multiple {
            value.split(' ').filter(|word| !word.is_empty()).collect()
        } else {
            vec![value]
        };
        let settings = &STATE.get().ok_or(NOT_STARTED)?.settings;
        let set = settings.change(|config| (directive.set)(config, &words));
        set.ok_or(NOT_STARTED)?.map_err(Error::text)
    })
}

unsafe extern "C" fn info<E: Entry>(sink: InfoSink) -> Outcome {
    guarded(|_| {
        let settings = &STATE.get().ok_or(NOT_STARTED)?.settings;
        for section in E::definition().feature.info {
            let line = |name: &str, value: &str| {
                // SAFETY: the server gave function and context for this call.
                unsafe {
                    (sink.line)(
                        sink.context,
                        Slice::text(section.name),
                        Slice::text(name),
                        Slice::text(value),
                    )
                }
            };
            for field in section.fields {
                match (field.read)(settings) {
                    Shown::Int(n) => line(field.name, &n.to_string()),
                    Shown::Text(text) => line(field.name, &text),
                    Shown::Ratio(ratio) => line(field.name, &format!("{ratio:.2}")),
                    Shown::Hidden => {}
                    Shown::Lines(lines) => lines.iter().for_each(|(name, value)| line(name, value)),
                }
            }
        }
        Ok(())
    })
}

/// The row at a place that the server knows from `describe`.
fn row(index: u32) -> &'static TypeRow {
    &STATE.get().expect("no value comes into being before the start").types[index as usize]
}

// SAFETY (of each block below): the server gives handles of the type at `index`, which it has not given to `free`.

unsafe extern "C" fn copy(index: u32, handle: Handle) -> Handle {
    // SAFETY: see above.
    guarded_or(0, || unsafe { (row(index).copy)(handle) }.unwrap_or(0))
}

unsafe extern "C" fn free(index: u32, handle: Handle) {
    // SAFETY: see above.
    guarded_or((), || unsafe { (row(index).free)(handle) });
}

macro_rules! measures {
    ($($name:ident)*) => { $(
        unsafe extern "C" fn $name(index: u32, handle: Handle) -> usize {
            // SAFETY: see above.
            guarded_or(0, || unsafe { (row(index).$name)(handle) })
        }
    )* };
}
measures!(memory len free_effort);

unsafe extern "C" fn is_gone(index: u32, handle: Handle) -> bool {
    // SAFETY: see above.
    guarded_or(false, || unsafe { (row(index).is_gone)(handle) })
}

unsafe extern "C" fn save(index: u32, handle: Handle) -> Outcome {
    guarded(|out| {
        let mut saver = Saver::default();
        // SAFETY: see above.
        unsafe { (row(index).save)(handle, &mut saver) };
        *out = saver.into_bytes();
        Ok(())
    })
}

unsafe extern "C" fn load(index: u32, bytes: Slice<'_>, version: u32) -> Outcome {
    guarded(|out| {
        let value = OwnedValue::load(row(index), bytes.get(), version)?;
        out.extend_from_slice(&value.into_handle().to_ne_bytes());
        Ok(())
    })
}
