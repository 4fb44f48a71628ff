//! The table of directives, with some of its own and one of a module.

use super::values::*;
use super::*;
use mortise_sdk::declare::config::{Bytes, quote};
use std::sync::Mutex;

mortise_sdk::config! {
    /// Where to listen.
    pub(crate) struct NetConfig {
        /// TCP port.
        live port: u16 = 6379 => listen;
        /// Addresses.
        live bind: Addresses = Addresses::everywhere() => listen;
        /// Number of databases.
        fixed databases: u32 = 16, in 1..=i32::MAX;
        /// Working directory.
        protected dir: String = "./".into() => chdir;
        /// Password.
        secret requirepass: Option<String> = None;
    }
}

mortise_sdk::config! {
    /// Values.
    pub(crate) struct ValueConfig {
        /// Entries of a small hash.
        live hash_max_listpack_entries | hash_max_ziplist_entries: usize = 512;
        /// Length of a value in it.
        live hash_max_listpack_value | hash_max_ziplist_value: Bytes = Bytes(64), in 0..=i64::MAX;
        /// Buffers.
        live client_output_buffer_limit: OutputBufferLimits = OutputBufferLimits::default();
        /// Snapshots.
        live save: SavePoints = SavePoints(vec![]);
        /// Not for everyone.
        hidden hash_seed: i64 = 0;
    }
}

parts! {
    /// Both.
    pub(crate) struct Config { net: NetConfig, value: ValueConfig }
}

pub(crate) fn directives() -> Directives<Config> {
    let mut directives = Directives::default();
    directives.install(NetConfig::directives()).unwrap();
    directives.install(ValueConfig::directives()).unwrap();
    directives
}

/// A module's directive that accepts what is shorter than five letters.
struct Greeting(Mutex<String>);

impl External for Greeting {
    fn name(&self) -> &str {
        "hello.greeting"
    }
    fn access(&self) -> Access {
        Access::Live
    }
    fn get(&self) -> Result<String, String> {
        match &*self.0.lock().unwrap() {
            text if text == "dumb" => Err("it panicked".into()),
            text => Ok(text.clone()),
        }
    }
    fn set(&self, value: &str) -> Result<(), String> {
        if value.len() > 4 {
            return Err("too long".into());
        }
        *self.0.lock().unwrap() = value.to_owned();
        Ok(())
    }
    fn set_words(&self, words: &[&str]) -> Result<(), String> {
        self.set(&words.join(" "))
    }
    fn kept(&self) -> Result<String, String> {
        self.get()
    }
    fn lines(&self) -> Result<Vec<String>, String> {
        Ok(vec![quote(self.get()?.as_bytes())])
    }
    fn default_lines(&self) -> Result<Vec<String>, String> {
        Ok(vec!["\"Hi\"".into()])
    }
}

fn get(config: &Config, patterns: &[&str]) -> Vec<String> {
    let patterns: Vec<_> = patterns.iter().map(|p| p.as_bytes()).collect();
    let found = directives().get_matching(config, &patterns);
    found.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn set(config: &mut Config, pairs: &[(&str, &str)]) -> Result<Changed<Config>, String> {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    directives().set_many(config, &pairs, false).map_err(|e| e.to_string())
}

#[test]
fn get_answers_names_as_asked_and_patterns_by_name() {
    let config = Config::default();
    assert_eq!(get(&config, &["PORT", "nosuch", "PORT"]), ["PORT=6379"]);
    assert_eq!(get(&config, &["PORT", "port", "por?"]), ["PORT=6379"], "however it is spelled");
    assert_eq!(
        get(&config, &["HASH-MAX-ziplist-*", "hash-max-ziplist-value"]),
        ["hash-max-ziplist-entries=512", "hash-max-ziplist-value=64"]
    );
    assert_eq!(get(&config, &["hash-*"]).len(), 4, "two directives and their aliases, not the hidden one");
    assert_eq!(get(&config, &["hash-seed"]), ["hash-seed=0"]);
    assert_eq!(get(&config, &["tls-cluster"]), ["tls-cluster=no"], "not there yet, but its value is known");
}

#[test]
fn set_changes_all_and_names_each_effect_once() {
    let mut config = Config::default();
    let pairs = [("PORT", "7000"), ("bind", "127.0.0.1 ::1"), ("hash-max-ziplist-entries", "512")];
    let changed = set(&mut config, &pairs).unwrap();
    assert_eq!(changed.names, ["port", "bind"], "what keeps its value has not changed");
    assert_eq!(changed.effects, [Effect { name: "listen", directive: "port".into() }]);
    assert_eq!(get(&config, &["port", "bind"]), ["port=7000", "bind=127.0.0.1 ::1"]);
    directives().undo(&mut config, changed);
    assert_eq!(get(&config, &["port", "bind"]), ["port=6379", "bind=* -::*"]);
}

#[test]
fn set_changes_nothing_if_one_is_refused() {
    let failed = |name: &str, why: &str| {
        format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
    };
    for (pairs, error) in [
        (
            &[("port", "1"), ("nosuch", "2")][..],
            "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'".to_owned(),
        ),
        (
            &[("port", "1"), ("hash-max-ziplist-entries", "x")],
            failed("hash-max-ziplist-entries", "argument couldn't be parsed into an integer"),
        ),
        (&[("port", "1"), ("Databases", "2")], failed("Databases", "can't set immutable config")),
        (&[("port", "1"), ("dir", "/")], failed("dir", "can't set protected config")),
        (&[("port", "1"), ("PORT", "2")], failed("PORT", "duplicate parameter")),
        (
            &[("port", "1"), ("tls-cluster", "yes")],
            failed("tls-cluster", "Mortise does not have this directive yet"),
        ),
    ] {
        let mut config = Config::default();
        assert_eq!(set(&mut config, pairs).map(|_| ()).unwrap_err(), error);
        assert_eq!(config.net.port, 6379);
    }
}

#[test]
fn values_must_be_text() {
    let pairs: [(&[u8], &[u8]); 1] = [(b"requirepass", b"\xff")];
    let error = directives().set_many(&mut Config::default(), &pairs, false).map(|_| ()).unwrap_err();
    assert!(error.to_string().ends_with("argument must be valid UTF-8"));
    assert!(directives().is_secret("RequirePass") && !directives().is_secret("port"));
}

#[test]
fn protected_directives_are_set_by_those_who_may() {
    let mut config = Config::default();
    let changed = directives().set_many(&mut config, &[(b"dir", b"/tmp")], true).unwrap();
    assert_eq!((config.net.dir.as_str(), changed.effects[0].name), ("/tmp", "chdir"));
}

#[test]
fn a_modules_directive_takes_part() {
    let mut table = directives();
    table.install_external(vec![Arc::new(Greeting(Mutex::new("Hi".into())))]).unwrap();
    let mut config = Config::default();

    table.set_many(&mut config, &[(b"hello.greeting", b"Ahoy")], false).unwrap();
    let refused = table.set_many(&mut config, &[(b"hello.greeting", b"Yo"), (b"port", b"x")], false);
    assert!(refused.is_err());
    assert_eq!(table.get_matching(&config, &[b"hello.*"]), [("hello.greeting".into(), "Ahoy".into())]);
    let entry = table.entries(&config).unwrap().pop().unwrap();
    assert_eq!((entry.lines, entry.force), (vec!["\"Ahoy\"".to_owned()], true));

    // What cannot be read is not shown, not written as if it were empty, and not changed, as there is no way back.
    table.set_many(&mut config, &[(b"hello.greeting", b"dumb")], false).unwrap();
    assert_eq!(table.get_matching(&config, &[b"hello.*", b"hello.greeting"]), []);
    assert_eq!(
        table.entries(&config).map(|_| ()),
        Err("directive hello.greeting cannot be read: it panicked".to_owned())
    );
    let refused = table.set_many(&mut config, &[(b"hello.greeting", b"Yo")], false).map(|_| ()).unwrap_err();
    assert!(refused.to_string().ends_with("its present value cannot be read: it panicked"), "{refused}");

    table.remove_external("hello.");
    assert!(!table.contains("hello.greeting") && table.contains("hash-max-ziplist-value"));
}

#[test]
fn a_name_is_taken_once() {
    let mut table = directives();
    assert!(table.install(NetConfig::directives()).unwrap_err().contains("'port' exists already"));
    assert_eq!(table.canonical("HASH-MAX-ZIPLIST-VALUE"), Some("hash-max-listpack-value"));
}
