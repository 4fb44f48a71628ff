//! The functions that the server calls. Each of them catches what it panics with.

#![allow(unsafe_code)]

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use super::server::{Server, log};
use super::{Entry, OwnedValue, STATE, State, TypeRow};
use crate::abi::module::Call as AbiCall;
use crate::abi::{
    self, CommandRow, DirectiveRow, Form, Handle, HostRef, InfoSink, KeyRow, List, Outcome, Provide, Slice,
    Status,
};
use crate::call::{Call, Settings};
use crate::data_type::Saver;
use crate::declare::config::{self, Access as Changeable};
use crate::declare::{Directive, Flags, Shown};
use crate::error::{Error, Result};
use crate::host::Level;
use crate::module::Definition;

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
            bytes.extend_from_slice(error.as_bytes());
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

unsafe extern "C" fn start<E: Entry>(host: HostRef, args: List<'_, Slice<'_>>) -> Outcome {
    guarded(|_| {
        let definition = E::definition();
        quieten(host, definition.feature.name);
        let state = STATE.get_or_init(|| State {
            name: definition.feature.name,
            settings: Settings::new(E::Config::default()),
            commands: definition
                .feature
                .commands
                .iter()
                .flat_map(|table| table.iter())
                .map(|command| command.function())
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
        let args: Vec<&[u8]> = args.get().iter().map(|arg| arg.get()).collect();
        match definition.start {
            Some(start) => start(&args),
            None if args.is_empty() => Ok(()),
            None => Err(Error::new("ERR it takes no arguments")),
        }
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
                    multiple: directive.multiple.into(),
                })
                .collect(),
        ),
    }
}

unsafe extern "C" fn run(call: &AbiCall<'_>, command: u32) -> Outcome {
    guarded(|out| {
        let state = STATE.get().ok_or(NOT_STARTED)?;
        let run = state.commands.get(command as usize).ok_or(NOT_STARTED)?;
        let mut server = Server::new(state.host, state.types, call);
        let mut call = Call::new(&mut server, call.args.get(), out, &state.settings);
        run(&mut call)?;
        if !call.has_replied_once() {
            return Err(misreplied(state.name, &call));
        }
        Ok(())
    })
}

/// What the caller is told in place of what would confuse its client, and all that it asks afterwards.
#[cold]
fn misreplied(module: &str, call: &Call<'_>) -> Error {
    let command = String::from_utf8_lossy(call.arg(0)).to_ascii_uppercase();
    let what = if call.has_replied() { "did not give one whole reply" } else { "gave no reply" };
    Error::text(format!("ERR module '{module}' {what} in {command}"))
}

fn directive<E: Entry>(index: u32) -> Result<&'static Directive<E::Config>> {
    E::definition()
        .feature
        .config
        .get(index as usize)
        .ok_or(Error::new("ERR the module has no such directive"))
}

extern "C" fn show<E: Entry>(index: u32, form: Form) -> Outcome {
    guarded(|out| {
        let directive = directive::<E>(index)?;
        let settings = || STATE.get().map(|state| state.settings.config()).ok_or(NOT_STARTED);
        let text = match form {
            Form::DEFAULT => (directive.default)().join("\n"),
            Form::WRITTEN => (directive.lines)(&*settings()?).join("\n"),
            _ => (directive.get)(&*settings()?),
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
        let words: Vec<String> = if directive.multiple {
            let words = config::split_words(value.as_bytes()).ok_or(Error::new("unbalanced quotes"))?;
            let text = |word| String::from_utf8(word).map_err(|_| Error::new("argument must be valid UTF-8"));
            words.into_iter().map(text).collect::<Result<_>>()?
        } else {
            vec![value.to_owned()]
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
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
