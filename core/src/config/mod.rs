//! The configuration as a table: looked up by name, read by CONFIG GET, changed by CONFIG SET, loaded at
//! start.
//!
//! Each feature declares its directives with `config!` beside the code they tune. This module owns what all
//! of them share, and knows none of them; it is generic over the struct `C` that holds their values.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use mortise_sdk::declare::config::{Access, Directive};
use mortise_sdk::{Error, glob};

use absent::Absent;

pub mod absent;
pub mod docs;
pub mod file;
mod grammar;
pub mod load;
pub mod rewrite;
#[cfg(test)]
pub(crate) mod tempdir;
pub mod values;

/// A directive whose value lives elsewhere: in a loaded module.
pub trait External: Send + Sync {
    /// Its full name, the module's prefix included.
    fn name(&self) -> &str;
    /// Who may change it.
    fn access(&self) -> Access;
    /// Its value as CONFIG GET shows it, or why there is none to be shown.
    fn get(&self) -> Result<String, String>;
    /// Gives it a value as CONFIG SET does, in one piece; or says why not and leaves it as it was.
    fn set(&self, value: &str) -> Result<(), String>;
    /// Gives it a value as a line of a file does, in words.
    fn set_words(&self, words: &[&str]) -> Result<(), String>;
    /// Its value in the form that `set` takes back.
    fn kept(&self) -> Result<String, String>;
    /// What stands behind its name in a file, for each of its lines.
    fn lines(&self) -> Result<Vec<String>, String>;
    /// The same for the value it has if nobody sets it.
    fn default_lines(&self) -> Result<Vec<String>, String>;
}

/// Every directive there is, by name.
pub struct Directives<C: 'static> {
    rows: Vec<Row<C>>,
    /// Names and aliases to places in `rows`.
    by_name: HashMap<String, usize>,
}

enum Row<C: 'static> {
    Own(&'static Directive<C>),
    External(Arc<dyn External>),
}

/// What CONFIG SET changed.
pub struct Changed<C> {
    /// The directives whose value, or whatever it names, is another now, by the names (or aliases) they were called
    /// by.
    pub names: Vec<String>,
    /// What there is to do because of it, each once, in the order of the arguments.
    pub effects: Vec<Effect>,
    before: C,
    externals_before: Vec<(usize, String)>,
}

/// Something to do after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The name behind `=>` in the declaration.
    pub name: &'static str,
    /// The directive that asked for it, for an error that it may cause.
    pub directive: String,
}

impl<C> Row<C> {
    fn name(&self) -> &str {
        match self {
            Row::Own(directive) => directive.name,
            Row::External(external) => external.name(),
        }
    }

    fn aliases(&self) -> &'static [&'static str] {
        match self {
            Row::Own(directive) => directive.aliases,
            Row::External(_) => &[],
        }
    }

    fn access(&self) -> Access {
        match self {
            Row::Own(directive) => directive.access,
            Row::External(external) => external.access(),
        }
    }

    fn is_volatile(&self) -> bool {
        matches!(self, Row::Own(Directive { volatile: true, .. }))
    }

    /// Its value as CONFIG GET shows it; nothing if a module cannot say it.
    fn get(&self, config: &C) -> Option<String> {
        match self {
            Row::Own(directive) => Some((directive.get)(config)),
            Row::External(external) => external
                .get()
                .inspect_err(|reason| {
                    tracing::warn!("Directive {} cannot be read: {reason}", external.name())
                })
                .ok(),
        }
    }

    /// Sets it to `value`, as CONFIG SET gives it: in one piece, each word parted from the next by one space.
    fn set(&self, config: &mut C, value: &str) -> Result<(), String> {
        match self {
            Row::Own(directive) if directive.multiple => {
                let words: Vec<_> = if value.is_empty() { vec![] } else { value.split(' ').collect() };
                (directive.set)(config, &words)
            }
            Row::Own(directive) => (directive.set)(config, &[value]),
            Row::External(external) => external.set(value),
        }
    }
}

impl<C> Clone for Row<C> {
    fn clone(&self) -> Self {
        match self {
            Row::Own(directive) => Row::Own(directive),
            Row::External(external) => Row::External(external.clone()),
        }
    }
}

impl<C> Clone for Directives<C> {
    fn clone(&self) -> Self {
        Directives { rows: self.rows.clone(), by_name: self.by_name.clone() }
    }
}

impl<C> Default for Directives<C> {
    fn default() -> Self {
        Directives { rows: Vec::new(), by_name: HashMap::new() }
    }
}

impl<C: Clone> Directives<C> {
    /// Adds a feature's table. Nothing is added if one of its names is taken.
    pub fn install(&mut self, table: &'static [Directive<C>]) -> Result<(), String> {
        self.extend(table.iter().map(Row::Own).collect())
    }

    /// Adds a module's directives. Nothing is added if one of their names is taken.
    pub fn install_external(&mut self, table: Vec<Arc<dyn External>>) -> Result<(), String> {
        self.extend(table.into_iter().map(Row::External).collect())
    }

    /// Takes out the directives of modules whose names begin with `prefix`.
    pub fn remove_external(&mut self, prefix: &str) {
        self.rows.retain(|row| matches!(row, Row::Own(_)) || !row.name().starts_with(prefix));
        self.by_name.clear();
        for (i, row) in self.rows.iter().enumerate() {
            let names = [row.name()].into_iter().chain(row.aliases().iter().copied());
            self.by_name.extend(names.map(|name| (name.to_owned(), i)));
        }
    }

    fn extend(&mut self, rows: Vec<Row<C>>) -> Result<(), String> {
        let mut added: HashMap<String, usize> = HashMap::new();
        for (i, row) in rows.iter().enumerate() {
            for name in [row.name()].into_iter().chain(row.aliases().iter().copied()) {
                let name = name.to_ascii_lowercase();
                if self.by_name.contains_key(&name) || added.insert(name, self.rows.len() + i).is_some() {
                    return Err(format!("the directive '{}' exists already", row.name()));
                }
            }
        }
        self.by_name.extend(added);
        self.rows.extend(rows);
        Ok(())
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(&name.to_ascii_lowercase()).copied()
    }

    /// Whether there is a directive that `name` names, in any case, by alias too.
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// Whether the value of `name` must not appear in logs.
    pub fn is_secret(&self, name: &str) -> bool {
        self.position(name).is_some_and(|i| self.rows[i].access() == Access::Secret)
    }

    /// What CONFIG GET answers: names and values. A name without wildcards is answered as it was asked for.
    pub fn get_matching(&self, config: &C, patterns: &[&[u8]]) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        // However they are spelled, each is answered with once.
        let mut known = HashSet::new();
        for pattern in patterns {
            let pattern = String::from_utf8_lossy(pattern);
            if !pattern.contains(['*', '?', '[']) {
                let value = match self.position(&pattern) {
                    Some(i) => self.rows[i].get(config),
                    None => absent::find(&pattern).and_then(Absent::in_force).map(str::to_owned),
                };
                if let Some(value) = value.filter(|_| known.insert(pattern.to_ascii_lowercase())) {
                    found.push((pattern.into_owned(), value));
                }
                continue;
            }
            let pattern = pattern.to_ascii_lowercase();
            for row in self.rows.iter().filter(|row| row.access() != Access::Hidden) {
                for name in [row.name()].into_iter().chain(row.aliases().iter().copied()) {
                    let matches = glob::matches(pattern.as_bytes(), name.as_bytes());
                    if matches
                        && !known.contains(name)
                        && let Some(value) = row.get(config)
                    {
                        known.insert(name.to_owned());
                        found.push((name.to_owned(), value));
                    }
                }
            }
            for (name, value) in Absent::shown() {
                let matches = glob::matches(pattern.as_bytes(), name.as_bytes());
                if matches && known.insert(name.to_owned()) {
                    found.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        found
    }

    /// What CONFIG SET does: sets all of `pairs`, or none of them if one is refused. `protected` says whether
    /// the caller may change protected directives. What takes effect beyond the value itself is left to the
    /// caller.
    pub fn set_many(
        &self,
        config: &mut C,
        pairs: &[(&[u8], &[u8])],
        protected: bool,
    ) -> Result<Changed<C>, Error> {
        let mut chosen: Vec<(usize, String, &[u8])> = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let said = *name;
            let name = String::from_utf8_lossy(said).into_owned();
            let Some(i) = self.position(&name) else {
                match absent::find(&name) {
                    Some(row) => match row.refusal(value) {
                        None => continue,
                        Some(reason) => return Err(refused(&name, reason)),
                    },
                    None => return Err(unknown(said)),
                }
            };
            match self.rows[i].access() {
                Access::Fixed => return Err(refused(&name, absent::IMMUTABLE)),
                Access::Protected if !protected => return Err(refused(&name, "can't set protected config")),
                _ if chosen.iter().any(|(other, ..)| *other == i) => {
                    return Err(refused(&name, "duplicate parameter"));
                }
                // From here on it is called as it is declared.
                _ => chosen.push((i, name.to_ascii_lowercase(), value)),
            }
        }

        // Own directives change in a copy that is thrown away on failure; those of modules are set back one
        // by one.
        let mut copy = config.clone();
        let mut changed =
            Changed { names: vec![], effects: vec![], before: config.clone(), externals_before: vec![] };
        for (i, name, value) in chosen {
            let row = &self.rows[i];
            if let Row::External(external) = row {
                match external.kept() {
                    Ok(before) => changed.externals_before.push((i, before)),
                    Err(reason) => {
                        self.restore_externals(&changed);
                        return Err(refused(&name, &format!("its present value cannot be read: {reason}")));
                    }
                }
            }
            let before = row.get(&copy);
            let set = match std::str::from_utf8(value) {
                Ok(value) => row.set(&mut copy, value),
                Err(_) => Err("argument must be valid UTF-8".into()),
            };
            if let Err(reason) = set {
                self.restore_externals(&changed);
                return Err(refused(&name, &reason));
            }
            if row.get(&copy) == before && !row.is_volatile() {
                continue;
            }
            if let Row::Own(Directive { on_change: Some(effect), .. }) = row
                && changed.effects.iter().all(|known| known.name != *effect)
            {
                changed.effects.push(Effect { name: effect, directive: name.clone() });
            }
            changed.names.push(name);
        }
        changed.before = mem::replace(config, copy);
        Ok(changed)
    }

    /// Takes back what `set_many` did, when one of its effects has failed.
    pub fn undo(&self, config: &mut C, changed: Changed<C>) {
        self.restore_externals(&changed);
        *config = changed.before;
    }

    fn restore_externals(&self, changed: &Changed<C>) {
        for (i, value) in &changed.externals_before {
            if let Row::External(external) = &self.rows[*i] {
                // The module has taken this value before; should it refuse it now, nothing can be done about
                // it.
                let _ = external.set(value);
            }
        }
    }

    /// What redis.conf says of each directive, for CONFIG REWRITE.
    pub fn entries(&self, config: &C) -> Result<Vec<rewrite::Entry>, String> {
        let entry = |row: &Row<C>| {
            let name = row.name().to_owned();
            let (lines, default) = match row {
                Row::Own(directive) => ((directive.lines)(config), (directive.default)()),
                Row::External(external) => external
                    .lines()
                    .and_then(|lines| Ok((lines, external.default_lines()?)))
                    .map_err(|reason| format!("directive {name} cannot be read: {reason}"))?,
            };
            let force = lines != default;
            Ok(rewrite::Entry { name, lines, force })
        };
        self.rows.iter().map(entry).collect()
    }

    /// The name that `name`, perhaps an alias, stands for.
    pub fn canonical(&self, name: &str) -> Option<&str> {
        self.position(name).map(|i| self.rows[i].name())
    }
}

/// `-ERR CONFIG SET failed …`: `reason` as the directive, or an effect of its change, gave it.
pub fn refused(directive: &str, reason: &str) -> Error {
    Error::text(format!("ERR CONFIG SET failed (possibly related to argument '{directive}') - {reason}"))
}

fn unknown(directive: &[u8]) -> Error {
    Error::quoting("ERR Unknown option or number of arguments for CONFIG SET - '{}'", &[directive])
}

/// Defines a configuration out of its parts, one for each feature that has directives.
///
/// ```ignore
/// parts! {
///     /// Every setting of the server.
///     pub struct Config { server: ServerConfig, clients: ClientsConfig }
/// }
/// ```
macro_rules! parts {
    (
        $(#[$head:meta])*
        $vis:vis struct $Config:ident { $( $(#[$doc:meta])* $part:ident : $Part:ty ),* $(,)? }
    ) => {
        $(#[$head])*
        #[derive(Clone, Default)]
        $vis struct $Config {
            $( $(#[$doc])* #[doc = concat!("Settings of ", stringify!($part), ".")] pub $part: $Part, )*
        }
        $(
            impl AsRef<$Part> for $Config {
                fn as_ref(&self) -> &$Part {
                    &self.$part
                }
            }

            impl AsMut<$Part> for $Config {
                fn as_mut(&mut self) -> &mut $Part {
                    &mut self.$part
                }
            }
        )*
    };
}

parts! {
    /// The server's settings, one part a feature.
    pub struct Config {
        server: crate::server::ServerConfig,
        tls: crate::server::tls::TlsConfig,
        clients: crate::session::ClientsConfig,
        keyspace: crate::keys::KeyspaceConfig,
        hash: crate::types::hash::HashConfig,
        hyperloglog: crate::types::string::hyperloglog::HyperLogLogConfig,
        set: crate::types::set::SetConfig,
        zset: crate::types::zset::ZsetConfig,
        persistence: crate::persistence::PersistenceConfig,
        journal: crate::persistence::journal::JournalConfig,
        replication: crate::replication::ReplicationConfig,
        list: crate::types::list::ListConfig,
        stream: crate::types::stream::StreamConfig,
        notifications: crate::pubsub::NotificationsConfig,
        tracking: crate::tracking::TrackingConfig,
        acl: crate::acl::AclConfig,
        stats: crate::admin::StatsConfig,
        debug: crate::admin::DebugConfig,
        scripting: crate::scripting::ScriptingConfig,
        modules: crate::modules::ModulesConfig,
    }
}

impl Config {
    /// The port that stands for the server where only one can: that for TLS if there is no other.
    pub fn any_port(&self) -> u16 {
        if self.server.port == 0 { self.tls.tls_port } else { self.server.port }
    }
}

#[cfg(test)]
pub(crate) mod tests;
