//! A host with a few commands, and a driver that runs scripts on a coroutine as a server would.
#![allow(dead_code, unreachable_pub)] // each test takes what it needs

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use mortise_scripting::{Host, Outcome, Replication, Sandbox, Verdict};
use mortise_sdk::host::Level;
use mortise_sdk::resp::encode::{self, Version};

/// A value under a key.
#[derive(Clone, Debug)]
pub enum Value {
    String(Vec<u8>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Sorted(BTreeMap<Vec<u8>, f64>),
}

/// A host that keeps a few values, and notes what it is told.
#[derive(Default)]
pub struct Keyspace {
    pub values: BTreeMap<Vec<u8>, Value>,
    pub calls: Vec<Vec<Vec<u8>>>,
    pub logged: Vec<(Level, Vec<u8>)>,
    pub replication: Vec<Replication>,
    pub errors: Vec<Vec<u8>>,
    pub pauses: usize,
    /// Replies to give in turn, whatever is called.
    pub scripted: Vec<Vec<u8>>,
    pub panics: bool,
    pub ends: bool,
    pub reply: Vec<u8>,
}

impl Keyspace {
    fn answer(&mut self, words: &[&[u8]], version: Version) -> Result<(), &'static str> {
        const WRONGTYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
        const ARITY: &str = "ERR Wrong number of args calling Redis command from script";
        let out = &mut self.reply;
        let name = words[0].to_ascii_uppercase();
        let key = words.get(1).copied().unwrap_or_default();
        match (&*name, words.len() - 1) {
            (b"PING", 0) => encode::simple(out, "PONG"),
            (b"ECHO", 1) => encode::bulk(out, key),
            (b"SET", 2) => {
                self.values.insert(key.to_vec(), Value::String(words[2].to_vec()));
                encode::simple(out, "OK");
            }
            (b"GET", 1) => match self.values.get(key) {
                Some(Value::String(value)) => encode::bulk(out, value),
                Some(_) => return Err(WRONGTYPE),
                None => encode::null(out, version),
            },
            (b"MGET", 1..) => {
                encode::array(out, words.len() - 1);
                for key in &words[1..] {
                    match self.values.get(*key) {
                        Some(Value::String(value)) => encode::bulk(out, value),
                        _ => encode::null(out, version),
                    }
                }
            }
            (b"INCRBY", 2) => {
                let old = match self.values.get(key) {
                    Some(Value::String(value)) => String::from_utf8_lossy(value).parse().unwrap_or(0),
                    Some(_) => return Err(WRONGTYPE),
                    None => 0,
                };
                let Some(by) = mortise_sdk::args::parse_integer(words[2]) else {
                    return Err("ERR value is not an integer or out of range");
                };
                let new: i64 = old + by;
                self.values.insert(key.to_vec(), Value::String(new.to_string().into_bytes()));
                encode::integer(out, new);
            }
            (b"HSET", 3..) => {
                let Value::Hash(hash) =
                    self.values.entry(key.to_vec()).or_insert_with(|| Value::Hash(BTreeMap::new()))
                else {
                    return Err(WRONGTYPE);
                };
                let pairs = words[2..].chunks_exact(2);
                let added =
                    pairs.filter(|pair| hash.insert(pair[0].to_vec(), pair[1].to_vec()).is_none()).count();
                encode::integer(out, added as i64);
            }
            (b"HGETALL", 1) => match self.values.get(key) {
                Some(Value::Hash(hash)) => {
                    encode::map(out, version, hash.len());
                    hash.iter().for_each(|(field, value)| {
                        encode::bulk(out, field);
                        encode::bulk(out, value);
                    });
                }
                Some(_) => return Err(WRONGTYPE),
                None => encode::map(out, version, 0),
            },
            (b"SADD", 2..) => {
                let Value::Set(set) =
                    self.values.entry(key.to_vec()).or_insert_with(|| Value::Set(BTreeSet::new()))
                else {
                    return Err(WRONGTYPE);
                };
                let added = words[2..].iter().filter(|member| set.insert(member.to_vec())).count();
                encode::integer(out, added as i64);
            }
            (b"SMEMBERS", 1) => match self.values.get(key) {
                Some(Value::Set(set)) => {
                    encode::set(out, version, set.len());
                    set.iter().for_each(|member| encode::bulk(out, member));
                }
                Some(_) => return Err(WRONGTYPE),
                None => encode::set(out, version, 0),
            },
            (b"ZADD", 3) => {
                let Value::Sorted(sorted) =
                    self.values.entry(key.to_vec()).or_insert_with(|| Value::Sorted(BTreeMap::new()))
                else {
                    return Err(WRONGTYPE);
                };
                let score = String::from_utf8_lossy(words[2]).parse().unwrap_or(0.0);
                encode::integer(out, sorted.insert(words[3].to_vec(), score).is_none().into());
            }
            (b"ZSCORE", 2) => match self.values.get(key) {
                Some(Value::Sorted(sorted)) => match sorted.get(words[2]) {
                    Some(score) => encode::double(out, version, *score),
                    None => encode::null(out, version),
                },
                Some(_) => return Err(WRONGTYPE),
                None => encode::null(out, version),
            },
            (b"SUBSCRIBE" | b"EVAL", _) => return Err("ERR This Redis command is not allowed from script"),
            (
                b"PING" | b"ECHO" | b"SET" | b"GET" | b"MGET" | b"INCRBY" | b"HSET" | b"HGETALL" | b"SADD"
                | b"SMEMBERS" | b"ZADD" | b"ZSCORE",
                _,
            ) => return Err(ARITY),
            _ => return Err("ERR Unknown Redis command called from script"),
        }
        Ok(())
    }
}

impl Host for Keyspace {
    fn call(&mut self, words: &[&[u8]], version: Version) -> &[u8] {
        assert!(!self.panics, "as the test wants it");
        self.calls.push(words.iter().map(|word| word.to_vec()).collect());
        self.reply.clear();
        if !self.scripted.is_empty() {
            self.reply = self.scripted.remove(0);
        } else if let Err(error) = self.answer(words, version) {
            encode::error(&mut self.reply, error);
        }
        &self.reply
    }

    fn permits(&mut self, words: &[&[u8]]) -> Option<bool> {
        match &*words[0].to_ascii_uppercase() {
            b"SET" => Some(true),
            b"GET" => Some(false),
            _ => None,
        }
    }

    fn log(&mut self, level: Level, line: &[u8]) {
        self.logged.push((level, line.to_vec()));
    }

    fn set_replication(&mut self, replication: Replication) {
        self.replication.push(replication);
    }

    fn pause(&mut self) -> Verdict {
        self.pauses += 1;
        if self.ends { Verdict::End } else { Verdict::GoOn }
    }

    fn count_error(&mut self, text: &[u8]) {
        self.errors.push(text.to_vec());
    }
}

/// Runs a script where it stands, without a coroutine.
pub fn run(sandbox: &mut Sandbox, host: &mut dyn Host, version: Version, text: &str) -> (Outcome, Vec<u8>) {
    run_with(sandbox, host, version, text.as_bytes(), &[], &[])
}

/// The same with keys and arguments.
pub fn run_with(
    sandbox: &mut Sandbox,
    host: &mut dyn Host,
    version: Version,
    text: &[u8],
    keys: &[&[u8]],
    arguments: &[&[u8]],
) -> (Outcome, Vec<u8>) {
    let mut out = Vec::new();
    match sandbox.load(text) {
        Ok(script) => {
            let (keys, arguments) = (keys.iter().copied(), arguments.iter().copied());
            let outcome = sandbox.run(script, keys, arguments, host, version, &mut out);
            (outcome, out)
        }
        Err(error) => {
            encode::error(&mut out, error.as_bytes());
            (Outcome::Failed, out)
        }
    }
}

/// Bytes as text, line ends and the like escaped.
pub fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// What a reply says after its mark, for statuses, errors and integers.
pub fn text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).trim_end().to_owned()
}

type Stack = Coroutine<(), (), (Sandbox, Outcome, Vec<u8>), DefaultStack>;

/// A script on a coroutine with a server's stack, which can be suspended, resumed and ended.
pub struct Run {
    coroutine: Stack,
    ends: Rc<Cell<bool>>,
}

/// Suspends the coroutine whenever the script pauses.
struct Suspends<'y> {
    keyspace: Keyspace,
    yielder: &'y Yielder<(), ()>,
    ends: Rc<Cell<bool>>,
}

impl Host for Suspends<'_> {
    fn call(&mut self, words: &[&[u8]], version: Version) -> &[u8] {
        self.keyspace.call(words, version)
    }

    fn permits(&mut self, words: &[&[u8]]) -> Option<bool> {
        self.keyspace.permits(words)
    }

    fn log(&mut self, level: Level, line: &[u8]) {
        self.keyspace.log(level, line);
    }

    fn set_replication(&mut self, replication: Replication) {
        self.keyspace.set_replication(replication);
    }

    fn pause(&mut self) -> Verdict {
        self.yielder.suspend(());
        if self.ends.get() { Verdict::End } else { Verdict::GoOn }
    }
}

impl Run {
    /// Begins a script; nothing runs before it is resumed.
    pub fn begin(mut sandbox: Sandbox, text: &str) -> Run {
        let ends = Rc::new(Cell::new(false));
        let (seen, text) = (ends.clone(), text.to_owned());
        let stack = DefaultStack::new(8 << 20).unwrap();
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
            let mut host = Suspends { keyspace: Keyspace::default(), yielder, ends: seen };
            let (outcome, reply) = run(&mut sandbox, &mut host, Version::Resp2, &text);
            (sandbox, outcome, reply)
        });
        Run { coroutine, ends }
    }

    /// Goes on until the script pauses, or is over.
    pub fn resume(&mut self) -> Option<(Sandbox, Outcome, Vec<u8>)> {
        match self.coroutine.resume(()) {
            CoroutineResult::Yield(()) => None,
            CoroutineResult::Return(result) => Some(result),
        }
    }

    /// Resumes it for so long; the result if it is over by then. The longest time that it did not give way comes, too.
    pub fn resume_for(&mut self, time: Duration) -> (Option<(Sandbox, Outcome, Vec<u8>)>, Duration) {
        let start = Instant::now();
        let mut longest = Duration::ZERO;
        while start.elapsed() < time {
            let slice = Instant::now();
            let result = self.resume();
            longest = longest.max(slice.elapsed());
            if result.is_some() {
                return (result, longest);
            }
        }
        (None, longest)
    }

    /// From now on it is told to end.
    pub fn end(&self) {
        self.ends.set(true);
    }
}
