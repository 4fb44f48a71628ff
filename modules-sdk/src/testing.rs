//! An in-memory server, so that a module is tested without one.
//!
//! ```ignore
//! let mut host = Host::new();
//! host.run(&MODULE, &["HELLO.SIGN", "book", "Ann"]).unwrap();
//! assert_eq!(host.events(), [("book".into(), "hello.sign")]);
//! ```

use std::any::Any;
use std::collections::HashMap;

use crate::abi::Slice;
use crate::border::{OwnedValue, TypeRow};
use crate::call::{Call, Settings};
use crate::declare::Facts;
use crate::error::{self, Error, Result};
use crate::host::{self, Access, Level, Text};
use crate::module::Definition;
use crate::resp::decode::{Reply, decode};
use crate::resp::encode::Version;

/// What a key holds.
struct Held {
    value: Value,
    deadline: Option<i64>,
}

enum Value {
    /// A module's.
    Own(OwnedValue),
    /// A string.
    Text(Vec<u8>),
    /// One of another of the server's own types.
    Other,
}

impl Value {
    fn own(&self) -> Option<&OwnedValue> {
        match self {
            Value::Own(value) => Some(value),
            Value::Text(_) | Value::Other => None,
        }
    }

    fn own_mut(&mut self) -> Option<&mut OwnedValue> {
        match self {
            Value::Own(value) => Some(value),
            Value::Text(_) | Value::Other => None,
        }
    }
}

type Answer = Box<dyn FnMut(&[&[u8]]) -> Result<Reply>>;

/// A server with one database, in memory. Time stands still unless it is moved.
pub struct Host {
    /// Unix milliseconds.
    pub now_ms: i64,
    /// Nanoseconds beyond them.
    pub now_ns_beyond: i64,
    /// No memory is left for keys that are not there yet.
    pub out_of_memory: bool,
    /// The protocol of replies.
    pub version: Version,
    keys: HashMap<Vec<u8>, Held>,
    found: Option<Vec<u8>>,
    events: Vec<(String, &'static str)>,
    propagated: Option<Vec<Vec<Vec<u8>>>>,
    answer: Answer,
    random: u64,
    settings: Option<Settings>,
    log: Vec<(Level, String)>,
}

impl Default for Host {
    fn default() -> Host {
        Host {
            now_ms: 1_000_000,
            now_ns_beyond: 0,
            out_of_memory: false,
            version: Version::Resp3,
            keys: HashMap::new(),
            found: None,
            events: Vec::new(),
            propagated: None,
            answer: Box::new(|_| Err(Error::new("ERR unknown command"))),
            random: 0,
            settings: None,
            log: Vec::new(),
        }
    }
}

impl Host {
    /// A server without data.
    pub fn new() -> Host {
        Host::default()
    }

    /// Runs a command of a module as a client's request: looked up, its arity checked, its reply decoded.
    pub fn run<C: Default + Send + Sync>(&mut self, module: &Definition<C>, words: &[&str]) -> Result<Reply> {
        let name = words.first().copied().unwrap_or_default();
        let mut commands = module.feature.commands.iter().flat_map(|table| table.iter());
        let (facts, run) = commands
            .find_map(|command| {
                let facts = Facts::of(&command.spec).expect("usage lines of a tested module are right");
                facts.name.eq_ignore_ascii_case(name).then(|| (facts, command.function()))
            })
            .ok_or_else(|| Error::text(format!("ERR unknown command '{name}'")))?;
        if !facts.accepts(words.len()) {
            return Err(Error::text(format!("ERR wrong number of arguments for '{}' command", facts.name)));
        }
        self.propagated = None;
        let settings = self.settings.take().unwrap_or_else(|| Settings::new(C::default()));
        let args: Vec<_> = words.iter().map(|word| Slice::text(word)).collect();
        let mut out = Vec::new();
        let mut call = Call::new(self, &args, &mut out, &settings);
        let result = run(&mut call);
        let replied = call.has_replied_once();
        self.settings = Some(settings);
        result?;
        assert!(replied, "a command gives one reply, and all of it");
        let (reply, len) = decode(&out).expect("a reply is well-formed").expect("a reply is whole");
        assert_eq!(len, out.len(), "a command replies once");
        Ok(reply)
    }

    /// Sets a directive of a module, by its name without the module's.
    pub fn configure<C: Default + Send + Sync>(
        &mut self,
        module: &Definition<C>,
        name: &str,
        value: &str,
    ) -> std::result::Result<(), String> {
        let directive = module
            .feature
            .config
            .iter()
            .find(|directive| directive.name == name)
            .ok_or("no such directive")?;
        let settings = self.settings.get_or_insert_with(|| Settings::new(C::default()));
        settings.change(|config| (directive.set)(config, &[value])).ok_or("another module's settings")?
    }

    /// Lets a key hold a value of the server's own types that is no string.
    pub fn hold_other(&mut self, key: &str) {
        self.keys.insert(key.into(), Held { value: Value::Other, deadline: None });
    }

    /// Lets a key hold a string.
    pub fn hold_string(&mut self, key: &str, text: &str) {
        self.keys.insert(key.into(), Held { value: Value::Text(text.into()), deadline: None });
    }

    /// The string that a key holds and its deadline, if it does.
    pub fn held_string(&mut self, key: &str) -> Option<(String, Option<i64>)> {
        self.expire(key.as_bytes());
        let Held { value: Value::Text(text), deadline } = self.keys.get(key.as_bytes())? else { return None };
        Some((String::from_utf8_lossy(text).into_owned(), *deadline))
    }

    /// Answers what modules ask other commands.
    pub fn answers(&mut self, answer: impl FnMut(&[&[u8]]) -> Result<Reply> + 'static) {
        self.answer = Box::new(answer);
    }

    /// Saves the value of a key and loads it again in its place, as a restart does.
    pub fn reload(&mut self, key: &str) -> Result {
        let Some(held) = self.keys.get_mut(key.as_bytes()) else { return Err(error::NO_SUCH_KEY) };
        if let Value::Own(value) = &mut held.value {
            *value = OwnedValue::load(value.row(), &value.save(), value.row().version)?;
        }
        Ok(())
    }

    /// Keys and their events, in order.
    pub fn events(&self) -> &[(String, &'static str)] {
        &self.events
    }

    /// What the last command is propagated as; `None` if as it was said.
    pub fn propagated(&self) -> Option<&[Vec<Vec<u8>>]> {
        self.propagated.as_deref()
    }

    /// What was logged.
    pub fn logged(&self) -> &[(Level, String)] {
        &self.log
    }

    fn expire(&mut self, key: &[u8]) {
        let due =
            self.keys.get(key).and_then(|held| held.deadline).is_some_and(|deadline| deadline <= self.now_ms);
        if due {
            self.keys.remove(key);
            self.note(key, "expired");
        }
    }

    fn note(&mut self, key: &[u8], event: &'static str) {
        self.events.push((String::from_utf8_lossy(key).into_owned(), event));
    }

    fn found_value(&mut self) -> Option<&mut OwnedValue> {
        self.keys.get_mut(self.found.as_deref()?)?.value.own_mut()
    }
}

impl host::Host for Host {
    fn now_ms(&self) -> i64 {
        self.now_ms
    }

    fn now_ns(&self) -> i64 {
        self.now_ms * 1_000_000 + self.now_ns_beyond
    }

    fn version(&self) -> Version {
        self.version
    }

    fn random(&mut self) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random
    }

    fn find(&mut self, key: &[u8], of: &'static TypeRow, _access: Access) -> Result<bool> {
        self.expire(key);
        self.found = None;
        match self.keys.get(key) {
            None => Ok(false),
            Some(Held { value: Value::Own(value), .. }) if value.is(of) => {
                self.found = Some(key.to_vec());
                Ok(true)
            }
            Some(_) => Err(error::WRONGTYPE),
        }
    }

    fn value(&self) -> Option<&dyn Any> {
        self.keys.get(self.found.as_deref()?)?.value.own().map(OwnedValue::any)
    }

    fn value_mut(&mut self, _key: &[u8]) -> Option<&mut dyn Any> {
        self.found_value().map(OwnedValue::any_mut)
    }

    fn changed(&mut self, key: &[u8], event: &'static str) {
        self.note(key, event);
        if self.keys.get(key).and_then(|held| held.value.own()).is_some_and(OwnedValue::is_gone) {
            self.keys.remove(key);
            self.note(key, "del");
        }
    }

    fn put(&mut self, key: &[u8], value: OwnedValue, event: &'static str) {
        self.keys.insert(key.into(), Held { value: Value::Own(value), deadline: None });
        self.note(key, event);
    }

    fn exists(&mut self, key: &[u8]) -> bool {
        self.expire(key);
        self.keys.contains_key(key)
    }

    fn remove(&mut self, key: &[u8], event: &'static str) -> bool {
        self.expire(key);
        let removed = self.keys.remove(key).is_some();
        if removed {
            self.note(key, event);
        }
        removed
    }

    fn deadline(&mut self, key: &[u8]) -> Option<Option<i64>> {
        self.expire(key);
        self.keys.get(key).map(|held| held.deadline)
    }

    fn set_deadline(&mut self, key: &[u8], deadline: Option<i64>, event: &'static str) -> bool {
        self.expire(key);
        let Some(held) = self.keys.get_mut(key) else { return false };
        held.deadline = deadline;
        self.note(key, event);
        true
    }

    fn string(&mut self, key: &[u8], _access: Access) -> Result<Option<(Text<'_>, Option<i64>)>> {
        self.expire(key);
        match self.keys.get(key) {
            None => Ok(None),
            Some(Held { value: Value::Text(text), deadline }) => Ok(Some((Text::Bytes(text), *deadline))),
            Some(_) => Err(error::WRONGTYPE),
        }
    }

    fn set_string(&mut self, key: &[u8], text: Text<'_>, deadline: Option<i64>) -> Result {
        self.expire(key);
        if self.out_of_memory && !self.keys.contains_key(key) {
            return Err(error::OOM);
        }
        let text = text.bytes().into_owned();
        let mut words: Vec<&[u8]> = vec![b"SET", key, &text];
        let ms = deadline.map(|deadline| deadline.to_string());
        self.note(key, "set");
        if let Some(ms) = &ms {
            self.note(key, "expire");
            words.extend([&b"PXAT"[..], ms.as_bytes()]);
        }
        host::Host::propagates(self, &words);
        self.keys.insert(key.into(), Held { value: Value::Text(text), deadline });
        Ok(())
    }

    fn invoke(&mut self, words: &[&[u8]]) -> Result<Reply> {
        (self.answer)(words)
    }

    fn propagates(&mut self, words: &[&[u8]]) {
        let said = self.propagated.get_or_insert_default();
        if !words.is_empty() {
            said.push(words.iter().map(|word| word.to_vec()).collect());
        }
    }

    fn log(&mut self, level: Level, text: &str) {
        self.log.push((level, text.to_owned()));
    }
}
