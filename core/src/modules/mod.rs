//! Loaded modules: what the server does with a library that speaks the border's language.
//!
//! `load.rs` opens a library and shakes hands; `border.rs` is the server's side of the border; `values.rs` the values of
//! modules' types; `commands.rs` MODULE. This file owns the modules there are, and how one comes and goes: all four of
//! its tables are taken, or nothing is. What a module's command does takes the same road as everything else.
//!
//! A module is native code in the server's process. Its panics are caught; a fault, an endless loop or an `abort` is not.
//! Its library stays mapped for ever, also when it has been unloaded.

pub(crate) mod border;
mod commands;
mod load;
mod values;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use mortise_sdk::declare::config::Access;
use mortise_sdk::declare::flags::{self, Flags};
use mortise_sdk::declare::info::Shown;
use mortise_sdk::declare::{self, Category, KeyUse, Spec, keys};
use mortise_sdk::error::{Error, Result};
use mortise_sdk::{abi, config, setting_enum};

use crate::config::External;
use crate::config::file::Fatal;
use crate::config::load::Loaded;
use crate::engine::Engine;
use crate::engine::call::{Call, Run};
use crate::features::{Feature, Field, Section};
use crate::types::foreign::ForeignType;
use border::{Failure, Table, text};
use load::Library;
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

/// Flags that a module's command may have; the others are the server's own.
const FLAGS: Flags = Flags::all(&[
    flags::WRITE,
    flags::READONLY,
    flags::DENYOOM,
    flags::ADMIN,
    flags::PUBSUB,
    flags::NOSCRIPT,
    flags::LOADING,
    flags::STALE,
    flags::SKIP_MONITOR,
    flags::SKIP_SLOWLOG,
    flags::FAST,
    flags::NO_MANDATORY_KEYS,
    flags::NO_MULTI,
    flags::ALLOW_BUSY,
]);

/// A module that has been loaded.
pub struct Module {
    /// Its name.
    pub name: Arc<str>,
    /// Its version as one number: 1.2.3 is 10203.
    pub version: i64,
    /// Where it was loaded from.
    pub path: String,
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
type Setting = (String, String);

/// Loads a module: shakes hands, starts it, and takes its tables, or none of them. A refusal is a sentence.
pub fn load(
    engine: &mut Engine,
    path: &str,
    args: &[&[u8]],
    settings: &[Setting],
) -> std::result::Result<(), String> {
    let library = load::open(path)?;
    let name = library.name;
    if engine.modules.find(name).is_some() {
        return Err(format!("A module with the name '{name}' is loaded already"));
    }
    library.table.start(args).map_err(|failure| format!("Module '{name}' does not start: {failure}"))?;
    let taken = take(engine, &library, path, args, settings);
    if taken.is_err() {
        // It has begun, so it is told; what it says to that changes nothing.
        let _ = library.table.stop();
    }
    taken.map_err(|reason| format!("Module '{name}' {reason}"))?;
    tracing::info!("Module '{name}' loaded from {path}");
    Ok(())
}

/// Takes the tables of a module that has started. Everything that can fail comes before the first change.
fn take(
    engine: &mut Engine,
    library: &Library,
    path: &str,
    args: &[&[u8]],
    settings: &[Setting],
) -> std::result::Result<(), String> {
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
            return Err(format!("brings the data type '{}', which exists already", of.name()));
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
        args: args.iter().map(|arg| arg.to_vec()).collect(),
        table,
        memory: library.memory,
        types,
        is_loaded: AtomicBool::new(true),
        panics: AtomicU32::new(0),
    });
    let mut commands: Vec<(Spec, Run)> = Vec::new();
    for (place, row) in feature.commands.get().iter().enumerate() {
        let (module, place) = (module.clone(), place as u32);
        let run: Arc<dyn Fn(&mut Call<'_>) -> Result + Send + Sync> =
            Arc::new(move |call| module.run(place, call));
        commands.push((spec(row)?, Run::Module(run)));
    }
    let mut registry = (*engine.registry).clone();
    registry
        .install(commands.into_iter(), Some(&module.name))
        .map_err(|reason| format!("brings a wrong command: {reason}"))?;

    for (name, value) in settings {
        let directive = directives.iter().find(|directive| directive.name().eq_ignore_ascii_case(name));
        let directive = directive.ok_or_else(|| format!("has no directive '{name}'"))?;
        directive.set(value).map_err(|reason| format!("refuses '{value}' for '{name}': {reason}"))?;
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
    registry.remove_module(name);
    engine.set_registry(registry);
    let mut directives = (*engine.directives).clone();
    directives.remove_external(&format!("{name}."));
    engine.directives = Arc::new(directives);
    tracing::info!("Module '{name}' unloaded");
    Ok(())
}

/// Loads what the configuration names, with the directives it gives. The first refusal ends the start.
pub fn load_at_start(engine: &mut Engine, loaded: &Loaded) -> std::result::Result<(), Fatal> {
    let utf8 = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    let settings: Vec<_> = loaded
        .module_settings
        .iter()
        .map(|line| {
            let words: Vec<_> = line.words.iter().map(|word| utf8(word)).collect();
            (line.name.clone(), words.join(" "))
        })
        .collect();
    for line in &loaded.modules {
        let Some((path, args)) = line.words.split_first() else { continue };
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        // Which module a directive belongs to shows when its library has been opened, by the prefix of its name.
        let path = utf8(path);
        let name = load::name_of(&path).map_err(|reason| Fatal::at(line, reason))?;
        let own: Vec<_> = settings.iter().filter(|(setting, _)| is_of(setting, &name)).cloned().collect();
        load(engine, &path, &args, &own).map_err(|reason| Fatal::at(line, reason))?;
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

/// The declaration of a command as the server has it. It is leaked: libraries stay mapped, and few are loaded.
fn spec(row: &abi::CommandRow<'static>) -> std::result::Result<Spec, String> {
    let usage = text(row.usage)?;
    let wrong = |what: &str| Err(format!("brings a wrong command: {what} in '{usage}'"));
    if row.flags & !FLAGS.0 != 0 {
        return wrong("flags that are the server's own");
    }
    if Flags(row.flags).has(flags::WRITE | flags::READONLY) {
        return wrong("both WRITE and READONLY");
    }
    let mut key_uses: Vec<KeyUse> = Vec::new();
    for key in row.keys.get() {
        let Ok(access) = u16::try_from(key.access) else { return wrong("an unknown use of keys") };
        key_uses.push(keys::key(text(key.arg)?, &[declare::keys::Access(access)]));
    }
    let tips = row.tips.get().iter().map(|tip| text(*tip)).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Spec {
        usage,
        about: text(row.about)?,
        since: text(row.since)?,
        cost: text(row.cost)?,
        flags: vec![Flags(row.flags)].leak(),
        keys: key_uses.leak(),
        categories: vec![Category(row.categories)].leak(),
        arity: (row.arity != 0).then_some(row.arity),
        tips: tips.leak(),
        ..Spec::group(text(row.group)?)
    })
}

/// A directive of a module.
struct GuestDirective {
    name: String,
    access: Access,
    table: Table,
    place: u32,
}

impl GuestDirective {
    fn new(
        module: &str,
        table: Table,
        place: u32,
        row: &abi::DirectiveRow<'static>,
    ) -> std::result::Result<GuestDirective, String> {
        let name = text(row.name)?;
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(is_plain) {
            return Err(format!("brings a directive with the wrong name '{name}'"));
        }
        let access = match row.access {
            0 => Access::Live,
            1 => Access::Fixed,
            2 => Access::Protected,
            3 => Access::Secret,
            4 => Access::Hidden,
            _ => return Err(format!("brings the directive '{name}' with an unknown access")),
        };
        Ok(GuestDirective { name: format!("{module}.{name}"), access, table, place })
    }
}

impl External for GuestDirective {
    fn name(&self) -> &str {
        &self.name
    }

    fn access(&self) -> Access {
        self.access
    }

    fn get(&self) -> String {
        self.table.show(self.place, false).unwrap_or_default()
    }

    fn set(&self, value: &str) -> std::result::Result<(), String> {
        self.table.set(self.place, value).map_err(|failure| match failure {
            Failure::Error(reason) => reason,
            Failure::Panicked => "the module panicked".to_owned(),
        })
    }

    fn default(&self) -> String {
        self.table.show(self.place, true).unwrap_or_default()
    }
}
