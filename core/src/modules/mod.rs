//! Loaded modules: what the server does with a library that speaks the border's language.
//!
//! `file.rs` reads a library's file; `load.rs` opens it and shakes hands; `border.rs` is the server's side of the border;
//! `tables.rs` understands what a module declares; `values.rs` are the values of modules' types; `commands.rs` is MODULE.
//! This file owns the modules there are, and how one comes and goes: all four of its tables are taken, or nothing is. What
//! a module's command does takes the same road as everything else.
//!
//! A module is native code in the server's process. Its panics are caught; a fault, an endless loop or an `abort` is not.
//! Its library stays mapped for ever, also when it has been unloaded.

pub(crate) mod border;
mod commands;
mod file;
mod load;
mod tables;
mod values;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use mortise_sdk::declare::config::word;
use mortise_sdk::declare::info::Shown;
use mortise_sdk::error::{Error, Result};
use mortise_sdk::{abi, config, setting_enum};

use crate::config::External;
use crate::config::file::{Fatal, Line};
use crate::config::load::Loaded;
use crate::config::rewrite::Entry;
use crate::engine::Engine;
use crate::engine::call::{Call, Run};
use crate::features::{Feature, Field, Section};
use crate::types::foreign::ForeignType;
use border::Table;
use load::Library;
use tables::GuestDirective;
use values::GuestType;

/// Modules.
pub const FEATURE: Feature = Feature {
    name: "modules",
    commands: &[commands::COMMANDS],
    config: ModulesConfig::directives(),
    info: &[INFO],
    ..Feature::EMPTY
};

/// The section of INFO that lists modules. Their own sections are told by [`Modules::sections`].
pub const INFO: Section = Section {
    name: "modules",
    fields: &[Field {
        name: "module",
        about: "A loaded module: name, version, and what Redis says of one.",
        read: |engine| Shown::Lines(engine.modules.lines()),
    }],
};

setting_enum! {
    /// Who may do what is forbidden by default.
    pub enum Permission {
        /// Nobody.
        No = "no",
        /// Everybody.
        Yes = "yes",
        /// Connections from this machine.
        Local = "local",
    }
}

impl Permission {
    /// Whether a connection may, given where it comes from.
    pub fn allows(self, is_local: bool) -> bool {
        match self {
            Permission::No => false,
            Permission::Yes => true,
            Permission::Local => is_local,
        }
    }
}

config! {
    /// Loading modules.
    pub struct ModulesConfig {
        /// Who may call MODULE.
        fixed enable_module_command: Permission = Permission::No;
    }
}

/// After so many panics a module is disabled: its commands are refused until it is loaded again.
const PANICS_MAX: u32 = 100;

/// A module that has been loaded.
pub struct Module {
    /// Its name.
    pub name: Arc<str>,
    /// Its version as one number: 1.2.3 is 10203.
    pub version: i64,
    /// Where it was loaded from, as it was said.
    pub path: String,
    /// The same, wherever the server may go.
    file: PathBuf,
    /// The arguments it was loaded with.
    pub args: Vec<Vec<u8>>,
    table: Table,
    memory: &'static abi::Allocator,
    types: Vec<Arc<GuestType>>,
    is_loaded: AtomicBool,
    panics: AtomicU32,
}

impl Module {
    /// Runs the command at a place in its table.
    #[inline(always)]
    fn run(&self, command: u32, call: &mut Call<'_>) -> Result {
        if !self.is_loaded.load(Ordering::Relaxed) || self.panics.load(Ordering::Relaxed) >= PANICS_MAX {
            return Err(self.refusal());
        }
        border::run(self, command, call)
    }

    #[cold]
    fn refusal(&self) -> Error {
        if !self.is_loaded.load(Ordering::Relaxed) {
            return Error::text(format!("ERR module '{}' has been unloaded", self.name));
        }
        Error::text(format!("ERR module '{}' is disabled, as it has panicked {PANICS_MAX} times", self.name))
    }

    /// A command has panicked: what its caller is told.
    #[cold]
    fn panicked(&self, command: &str) -> Error {
        if self.panics.fetch_add(1, Ordering::Relaxed) + 1 == PANICS_MAX {
            tracing::warn!("Module '{}' has panicked {PANICS_MAX} times and is disabled", self.name);
        }
        Error::text(format!("ERR module '{}' panicked in {}", self.name, command.to_ascii_uppercase()))
    }

    /// The type of a number, if it is the module's.
    #[inline]
    fn data_type(&self, id: abi::TypeId) -> Option<&Arc<GuestType>> {
        self.types.iter().find(|of| of.id == id)
    }

    /// Bytes that the module holds.
    pub fn memory(&self) -> usize {
        self.memory.live()
    }
}

/// The modules there are.
#[derive(Default)]
pub struct Modules {
    loaded: Vec<Arc<Module>>,
}

impl Modules {
    /// Each of them, in the order in which they were loaded.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Module>> {
        self.loaded.iter()
    }

    /// The module of a name.
    pub fn find(&self, name: &str) -> Option<&Arc<Module>> {
        self.loaded.iter().find(|module| *module.name == *name)
    }

    /// The data type of a name, for values that are read from a file.
    pub fn data_type(&self, name: &str) -> Option<Arc<dyn ForeignType>> {
        let of = self.loaded.iter().flat_map(|module| &module.types).find(|of| of.name() == name)?;
        Some(of.clone())
    }

    /// All data types, by their names.
    pub fn data_types(&self) -> HashMap<String, Arc<dyn ForeignType>> {
        let types = self.loaded.iter().flat_map(|module| &module.types);
        types.map(|of| (of.name().to_owned(), of.clone() as Arc<dyn ForeignType>)).collect()
    }

    /// What a file of directives says of them.
    pub fn entry(&self) -> Entry {
        use std::os::unix::ffi::OsStrExt as _;
        let line = |module: &Arc<Module>| {
            let path = module.file.as_os_str().as_bytes();
            let words = std::iter::once(path).chain(module.args.iter().map(Vec::as_slice));
            words.map(word).collect::<Vec<_>>().join(" ")
        };
        Entry { name: "loadmodule".to_owned(), lines: self.loaded.iter().map(line).collect(), force: true }
    }

    fn lines(&self) -> Vec<(String, String)> {
        let line = |module: &Arc<Module>| {
            let value = format!(
                "name={},ver={},api=1,filters=0,usedby=[],using=[],options=[]",
                module.name, module.version
            );
            ("module".to_owned(), value)
        };
        self.loaded.iter().map(line).collect()
    }

    /// The modules' own sections of INFO with their fields. Both bear the module's name in front.
    pub fn sections(&self) -> Vec<(String, Vec<(String, String)>)> {
        let mut sections: Vec<(String, Vec<(String, String)>)> = Vec::new();
        for module in &self.loaded {
            let name = &module.name;
            module.table.info(|section, field, value| {
                let section = if section.is_empty() { name.to_string() } else { format!("{name}_{section}") };
                let line = (format!("{name}_{field}"), value.to_owned());
                match sections.last_mut().filter(|(last, _)| *last == section) {
                    Some((_, lines)) => lines.push(line),
                    None => sections.push((section, vec![line])),
                }
            });
        }
        sections
    }
}

/// A directive and its value, as LOADEX or a file names it.
struct Setting {
    name: String,
    value: Value,
}

enum Value {
    /// In one piece, as CONFIG SET takes it.
    Whole(String),
    /// The words of a line.
    Words(Vec<String>),
}

/// Why a module is not loaded: a sentence, without the full stop.
#[derive(Debug)]
struct Refusal {
    reason: String,
    /// Which of the settings is at fault, if one is.
    setting: Option<usize>,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Refusal {
        Refusal { reason, setting: None }
    }
}

/// Loads a module: opens its library and shakes hands, starts it, and takes its tables, or none of them.
fn load(
    engine: &mut Engine,
    path: &str,
    args: &[&[u8]],
    settings: &[Setting],
) -> std::result::Result<(), Refusal> {
    begin(engine, &load::open(path)?, path, args, settings)
}

/// Starts a module whose library has been opened, and takes its tables.
fn begin(
    engine: &mut Engine,
    library: &Library,
    path: &str,
    args: &[&[u8]],
    settings: &[Setting],
) -> std::result::Result<(), Refusal> {
    let name = library.name;
    if engine.modules.find(name).is_some() {
        return Err(format!("A module with the name '{name}' is loaded already").into());
    }
    library.table.start(args).map_err(|failure| {
        let reason = failure.to_string();
        format!("Module '{name}' does not start: {}", reason.strip_prefix("ERR ").unwrap_or(&reason))
    })?;
    let taken = take(engine, library, path, args, settings);
    if taken.is_err() {
        // It has begun, so it is told; what it says to that changes nothing.
        let _ = library.table.stop();
    }
    taken.map_err(|Refusal { reason, setting }| Refusal {
        reason: format!("Module '{name}' {reason}"),
        setting,
    })?;
    tracing::info!("Module '{name}' loaded from {path}");
    engine.thaw();
    Ok(())
}

/// Takes the tables of a module that has started. Everything that can fail comes before the first change.
fn take(
    engine: &mut Engine,
    library: &Library,
    path: &str,
    args: &[&[u8]],
    settings: &[Setting],
) -> std::result::Result<(), Refusal> {
    let (name, table) = (library.name, library.table);
    let feature = table.describe();

    let mut types: Vec<Arc<GuestType>> = Vec::new();
    for (place, row) in feature.types.get().iter().enumerate() {
        let of = GuestType::new(table, place as u32, row)?;
        let is_taken = engine.modules.data_type(of.name()).is_some()
            || engine
                .modules
                .iter()
                .flat_map(|module| &module.types)
                .chain(&types)
                .any(|other| other.id == of.id);
        if is_taken {
            return Err(format!("brings the data type '{}', which exists already", of.name()).into());
        }
        types.push(Arc::new(of));
    }

    let mut directives: Vec<Arc<dyn External>> = Vec::new();
    for (place, row) in feature.directives.get().iter().enumerate() {
        directives.push(Arc::new(GuestDirective::new(name, table, place as u32, row)?));
    }
    let mut names = (*engine.directives).clone();
    names
        .install_external(directives.clone())
        .map_err(|reason| format!("brings a wrong directive: {reason}"))?;

    let module = Arc::new(Module {
        name: name.into(),
        version: library.version,
        path: path.to_owned(),
        file: std::path::absolute(path).unwrap_or_else(|_| path.into()),
        args: args.iter().map(|arg| arg.to_vec()).collect(),
        table,
        memory: library.memory,
        types,
        is_loaded: AtomicBool::new(true),
        panics: AtomicU32::new(0),
    });
    let specs = library.specs.get_or_init(|| feature.commands.get().iter().map(tables::spec).collect());
    let commands = specs.as_ref().map_err(String::clone)?.iter().enumerate().map(|(place, spec)| {
        let (module, place) = (module.clone(), place as u32);
        let run: Arc<dyn Fn(&mut Call<'_>) -> Result + Send + Sync> =
            Arc::new(move |call| module.run(place, call));
        (*spec, Run::Module(run))
    });
    let mut registry = (*engine.registry).clone();
    registry
        .install(commands, Some(&module.name))
        .map_err(|reason| format!("brings a wrong command: {reason}"))?;

    for (index, Setting { name, value }) in settings.iter().enumerate() {
        let refusal = |reason| Refusal { reason, setting: Some(index) };
        let directive = directives.iter().find(|directive| directive.name().eq_ignore_ascii_case(name));
        let directive = directive.ok_or_else(|| refusal(format!("has no directive '{name}'")))?;
        let (set, shown) = match value {
            Value::Whole(value) => (directive.set(value), value.clone()),
            Value::Words(words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                (directive.set_words(&words), words.join(" "))
            }
        };
        set.map_err(|reason| refusal(format!("refuses '{shown}' for '{name}': {reason}")))?;
    }

    engine.set_registry(registry);
    engine.directives = Arc::new(names);
    engine.modules.loaded.push(module);
    Ok(())
}

/// Unloads a module: its commands and directives go, its library stays mapped. A refusal is in Redis's words.
pub fn unload(engine: &mut Engine, name: &str) -> std::result::Result<(), &'static str> {
    let Some(place) = engine.modules.loaded.iter().position(|module| *module.name == *name) else {
        return Err("no such module with that name");
    };
    if engine.modules.loaded[place].types.iter().any(|of| of.is_in_use()) {
        return Err("the module exports one or more module-side data types, can't unload");
    }
    let module = engine.modules.loaded.remove(place);
    // Transactions that are queued, and batches that were looked up before, still know its commands.
    module.is_loaded.store(false, Ordering::Relaxed);
    if let Err(failure) = module.table.stop() {
        tracing::warn!("Module '{name}' does not stop as it should: {failure}");
    }
    let mut registry = (*engine.registry).clone();
    registry.remove_module(name).into_iter().for_each(|index| engine.stats.forget(index));
    engine.set_registry(registry);
    let mut directives = (*engine.directives).clone();
    directives.remove_external(&format!("{name}."));
    engine.directives = Arc::new(directives);
    tracing::info!("Module '{name}' unloaded");
    Ok(())
}

/// Loads what the configuration names, with the directives it gives. The first refusal ends the start.
pub fn load_at_start(engine: &mut Engine, loaded: &Loaded) -> std::result::Result<(), Fatal> {
    const NO_TEXT: &str = "argument must be valid UTF-8";
    for line in &loaded.modules {
        let Some((path, args)) = line.words.split_first() else { continue };
        let path = std::str::from_utf8(path).map_err(|_| Fatal::at(line, NO_TEXT))?;
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        // Which module a directive belongs to shows when its library has been opened, by the prefix of its name.
        let library = load::open(path).map_err(|reason| Fatal::at(line, reason))?;
        let own: Vec<&Line> =
            loaded.module_settings.iter().filter(|line| is_of(&line.name, library.name)).collect();
        let mut settings = Vec::new();
        for line in &own {
            let words = line.words.iter().map(|word| String::from_utf8(word.clone()));
            let words = words.collect::<std::result::Result<_, _>>().map_err(|_| Fatal::at(line, NO_TEXT))?;
            settings.push(Setting { name: line.name.clone(), value: Value::Words(words) });
        }
        begin(engine, &library, path, &args, &settings).map_err(|Refusal { reason, setting }| {
            Fatal::at(setting.and_then(|index| own.get(index).copied()).unwrap_or(line), reason)
        })?;
    }
    for line in &loaded.module_settings {
        if !engine.modules.iter().any(|module| is_of(&line.name, &module.name)) {
            return Err(Fatal::at(line, "Module config specified, but no such module is loaded"));
        }
    }
    Ok(())
}

/// Whether a directive is a module's.
fn is_of(directive: &str, module: &str) -> bool {
    directive.split_once('.').is_some_and(|(prefix, _)| prefix.eq_ignore_ascii_case(module))
}
