//! CONFIG: the directives, while the server runs.

use std::path::Path;
use std::sync::Arc;

use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::{ADMIN, CONTAINER, LOADING, NOSCRIPT, STALE};
use mortise_sdk::error::{self, Error, Result};

use crate::config::{self, rewrite};
use crate::engine::Engine;
use crate::engine::call::Call;
use crate::engine::deferred::Finish;
use crate::features::{Command, container};
use crate::server::error_text;

const SERVER: Spec = Spec::group("server");

const CONFIG_CONTAINER: Command = Spec {
    usage: "CONFIG",
    about: "Commands about the configuration.",
    since: "2.0.0",
    cost: "depends on the subcommand",
    flags: &[CONTAINER],
    ..SERVER
}
.runs(container);

const CONFIG_GET: Command = Spec {
    usage: "CONFIG GET parameter=<parameter>...",
    about: "Returns the directives that match patterns.",
    since: "2.0.0",
    cost: "O(N), N being the patterns given",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    history: &[("7.0.0", "Takes several patterns.")],
    ..SERVER
}
.runs(config_get);

const CONFIG_SET: Command = Spec {
    usage: "CONFIG SET <parameter value>...",
    about: "Changes directives while the server runs.",
    since: "2.0.0",
    cost: "O(N), N being the directives given",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    history: &[("7.0.0", "Takes several directives.")],
    ..SERVER
}
.runs(config_set);

const CONFIG_RESETSTAT: Command = Spec {
    usage: "CONFIG RESETSTAT",
    about: "Sets the counters of INFO back to zero.",
    since: "2.0.0",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    ..SERVER
}
.runs(config_resetstat);

const CONFIG_REWRITE: Command = Spec {
    usage: "CONFIG REWRITE",
    about: "Writes the configuration in force into its file.",
    since: "2.8.0",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    ..SERVER
}
.runs(config_rewrite);

const CONFIG_HELP: Command = Spec {
    usage: "CONFIG HELP",
    about: "Lists the subcommands of CONFIG.",
    since: "5.0.0",
    flags: &[LOADING, STALE],
    ..SERVER
}
.runs(config_help);

pub(super) const COMMANDS: &[Command] =
    &[CONFIG_CONTAINER, CONFIG_GET, CONFIG_SET, CONFIG_RESETSTAT, CONFIG_REWRITE, CONFIG_HELP];

fn config_help(call: &mut Call<'_>) -> Result {
    call.help(&[
        ("GET <pattern> [<pattern> ...]", "Returns the directives that match a pattern, with their values."),
        ("SET <directive> <value> [<directive> <value> ...]", "Changes directives: all of them, or none."),
        ("RESETSTAT", "Sets the counters of INFO back to zero."),
        ("REWRITE", "Writes the configuration in force into its file."),
    ])
}

fn config_get(call: &mut Call<'_>) -> Result {
    let patterns: Vec<_> = call.options(2).collect();
    let found = call.engine.directives.get_matching(&call.engine.config, &patterns);
    call.out().map(found.len());
    for (name, value) in found {
        call.out().bulk(name.as_bytes());
        call.out().bulk(value.as_bytes());
    }
    Ok(())
}

fn config_set(call: &mut Call<'_>) -> Result {
    if call.argc() % 2 == 1 {
        return Err(error::SYNTAX);
    }
    let args = call.args();
    let pairs: Vec<_> =
        (2..args.len()).step_by(2).map(|index| (args.at(index), args.at(index + 1))).collect();
    let trusted = call.engine.config.server.enable_protected_configs.allows(call.session.is_local);
    // What a transaction has done before is to be part of the journal that begins with it.
    call.engine.journal.is_in_unit = call.cannot_wait();
    let changed = call.engine.set_config(&pairs, trusted);
    call.engine.journal.is_in_unit = false;
    changed?;
    call.ok()
}

fn config_resetstat(call: &mut Call<'_>) -> Result {
    let usage = call.engine.rim.usage();
    call.engine.stats.reset(&usage);
    call.engine.replication.reset_counts();
    call.engine.memory.leaving.reset();
    call.engine.unit.expired_parts = 0;
    call.ok()
}

fn config_rewrite(call: &mut Call<'_>) -> Result {
    rewrite_file(call, false)
}

/// Brings the file up to date; if `all`, it names every directive afterwards.
pub(super) fn rewrite_file(call: &mut Call<'_>, all: bool) -> Result {
    let users = crate::acl::entry(call.engine);
    let Engine { process, directives, config, modules, .. } = &*call.engine;
    if process.config_file.is_empty() {
        return Err(Error::new("ERR The server is running without a config file"));
    }
    let failed = |reason: String| Error::text(format!("ERR Rewriting config file: {reason}"));
    let mut entries = directives.entries(config).map_err(failed)?;
    entries.iter_mut().for_each(|entry| entry.force |= all);
    entries.push(modules.entry());
    entries.push(users);
    // Disks take their time, and the others need not wait for it.
    let (path, directives) = (process.config_file.clone(), directives.clone());
    call.defer(Box::new(move || {
        let written = rewrite::update(Path::new(&path), &entries, &directives);
        Finish::Engine(Box::new(move |_, _, out| {
            written.map_err(|error| failed(error_text(&error)))?;
            out.ok();
            Ok(None)
        }))
    }))
}

/// Whether a directive cannot be changed while a file is being loaded: the server is at it in that place. Those that are
/// not trusted hear first that it is protected.
fn waits_for_data(name: &[u8], trusted: bool) -> bool {
    (name.eq_ignore_ascii_case(b"dir") && trusted) || name.eq_ignore_ascii_case(b"appendonly")
}

impl Engine {
    /// Changes directives and lets the changes take effect: all of them, or none if one is refused or cannot take effect.
    /// `trusted` says whether the caller may change protected ones.
    pub fn set_config(&mut self, pairs: &[(&[u8], &[u8])], trusted: bool) -> Result {
        let directives = Arc::clone(&self.directives);
        if self.loading && pairs.iter().any(|(name, _)| waits_for_data(name, trusted)) {
            return Err(error::LOADING);
        }
        let changed = directives.set_many(&mut self.config, pairs, trusted)?;
        let failure = changed.effects.iter().enumerate().find_map(|(index, effect)| {
            self.take_effect(effect.name)
                .err()
                .map(|reason| (index, config::refused(&effect.directive, &reason)))
        });
        let Some((failed, error)) = failure else {
            self.apply_config();
            self.rim.config_changed(&self.config, &self.users);
            return Ok(());
        };
        let directive = &changed.effects[failed].directive;
        tracing::warn!(
            "Failed applying new configuration. Possibly related to new {directive} setting. Restoring previous settings."
        );
        let done: Vec<_> = changed.effects[..failed].iter().map(|effect| effect.name).collect();
        directives.undo(&mut self.config, changed);
        for name in done.into_iter().rev() {
            if let Err(reason) = self.take_effect(name) {
                tracing::warn!("CONFIG SET failed, and so did the way back ({name}): {reason}");
            }
        }
        Err(error)
    }

    /// What a directive asks for beyond its value; the names stand in the declarations. What is only a copy of a setting
    /// is brought up to date by `apply_config`.
    fn take_effect(&mut self, name: &str) -> std::result::Result<(), String> {
        let Engine { rim, config, users, .. } = self;
        match name {
            "listen" => rim.listen(config),
            "tls" => rim.load_certificates(config),
            "chdir" => {
                // CONFIG GET shows where the server is, not how it came there.
                config.server.dir = rim.chdir(&config.server.dir)?;
                Ok(())
            }
            "loglevel" => {
                rim.log_level(config.server.loglevel);
                Ok(())
            }
            "maxclients" => rim.max_clients(config.clients.maxclients),
            "requirepass" => {
                users.set_default_password(config.clients.requirepass.as_deref().map(str::as_bytes));
                Ok(())
            }
            "appendonly" => self.switch_journal(),
            "aof_disable_auto_gc" => {
                self.remove_history();
                Ok(())
            }
            "maxmemory" => {
                self.limit_changed();
                Ok(())
            }
            "oom_score" => rim.oom_score(config),
            // Whatever is refused because of it is looked at anew with all settings.
            "hindrances" => Ok(()),
            _ => Err(format!("nobody knows its effect '{name}'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::config::Config;
    use crate::engine::event::Clock;
    use crate::engine::registry::Registry;
    use crate::engine::rim::{Rim, Usage};
    use crate::server::{self, LogLevel};

    struct Still;

    impl Clock for Still {
        fn monotonic_ns(&self) -> u64 {
            0
        }

        fn unix_us(&self) -> i64 {
            0
        }
    }

    /// Notes what it is asked for, and does not listen on port 1.
    struct Scribe(Arc<Mutex<Vec<String>>>);

    impl Scribe {
        fn note(&self, text: String) {
            self.0.lock().unwrap().push(text);
        }
    }

    impl Rim for Scribe {
        fn listen(&mut self, config: &Config) -> std::result::Result<(), String> {
            self.note(format!("listen {}", config.server.port));
            if config.server.port == 1 { Err("Unable to listen on this port".into()) } else { Ok(()) }
        }

        fn load_certificates(&mut self, config: &Config) -> std::result::Result<(), String> {
            self.note(format!("certificates {}", config.tls.tls_protocols));
            Ok(())
        }

        fn chdir(&mut self, dir: &str) -> std::result::Result<String, String> {
            self.note(format!("chdir {dir}"));
            Ok(format!("/abs/{dir}"))
        }

        fn log_level(&mut self, level: LogLevel) {
            self.note(format!("log {}", level.name()));
        }

        fn max_clients(&mut self, count: u32) -> std::result::Result<(), String> {
            self.note(format!("clients {count}"));
            Ok(())
        }

        fn oom_score(&mut self, config: &Config) -> std::result::Result<(), String> {
            self.note(format!("oom score {}", config.server.oom_score_adj.name()));
            Ok(())
        }

        fn config_changed(&mut self, config: &Config, _: &mortise_acl::Users) {
            self.note(format!("changed {}", config.server.port));
        }

        fn usage(&self) -> Usage {
            Usage::default()
        }
    }

    fn engine() -> (Engine, Arc<Mutex<Vec<String>>>) {
        let mut engine = Engine::new(Config::default(), Arc::new(Registry::default()), Box::new(Still), 1);
        let notes = Arc::default();
        engine.directives = Arc::new(server::directives().unwrap());
        engine.rim = Box::new(Scribe(Arc::clone(&notes)));
        (engine, notes)
    }

    fn set(engine: &mut Engine, words: &str) -> Result {
        let words: Vec<_> = words.split(' ').map(str::as_bytes).collect();
        let pairs: Vec<_> = words.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        engine.set_config(&pairs, true)
    }

    #[test]
    fn changes_take_effect() {
        let (mut engine, notes) = engine();
        set(&mut engine, "port 7 dir x loglevel debug hash-max-listpack-entries 5 maxclients 3").unwrap();
        assert_eq!(*notes.lock().unwrap(), ["listen 7", "chdir x", "log debug", "clients 3", "changed 7"]);
        assert_eq!((&*engine.config.server.dir, engine.limits.hash_entries), ("/abs/x", 5));
        set(&mut engine, "requirepass secret").unwrap();
        assert!(!engine.users.default_needs_no_password());
    }

    #[test]
    fn what_is_being_loaded_stays_where_it_is() {
        let (mut engine, notes) = engine();
        engine.loading = true;
        for (words, expected) in [
            ("dir x", error::LOADING),
            ("maxmemory 1 Dir x", error::LOADING),
            ("dir x nonsense y", error::LOADING),
            ("appendonly yes", error::LOADING),
        ] {
            assert_eq!(set(&mut engine, words), Err(expected), "{words}");
        }
        assert!(notes.lock().unwrap().is_empty() && engine.config.keyspace.maxmemory.0 == 0);
        set(&mut engine, "loglevel debug dbfilename x").unwrap();
        engine.loading = false;
        set(&mut engine, "dir x").unwrap();
    }

    #[test]
    fn a_failed_effect_takes_everything_back() {
        let (mut engine, notes) = engine();
        let error =
            set(&mut engine, "loglevel debug requirepass secret port 1 slowlog-max-len 0").unwrap_err();
        assert_eq!(
            error.to_string(),
            "ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port"
        );
        assert_eq!(*notes.lock().unwrap(), ["log debug", "listen 1", "log notice"]);
        assert!(engine.users.default_needs_no_password());
        assert_eq!((engine.config.server.port, engine.config.stats.slowlog_max_len), (6379, 128));
    }

    #[test]
    fn every_effect_is_known() {
        let (mut engine, _) = engine();
        for feature in crate::features::FEATURES {
            for effect in feature.config.iter().filter_map(|directive| directive.on_change) {
                engine.take_effect(effect).unwrap();
            }
        }
    }
}
