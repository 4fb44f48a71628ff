//! Sequences of random commands.

use std::collections::BTreeMap;

use super::grammar::{Argument, Command, Kind};
use super::values::{GROUPS, PATTERNS, TYPES, key, lex_write, value};
use super::{Chance, Request};

/// A directive with its default, and what it is where values are to be few and small.
pub type Setting = (&'static str, &'static str, &'static str);

/// Directives that say how large a value is kept small.
pub const SETTINGS: [Setting; 10] = [
    ("hash-max-listpack-entries", "512", "4"),
    ("hash-max-listpack-value", "64", "5"),
    ("zset-max-listpack-entries", "128", "4"),
    ("zset-max-listpack-value", "64", "5"),
    ("set-max-intset-entries", "512", "4"),
    ("list-max-listpack-size", "-2", "4"),
    ("list-compress-depth", "0", "1"),
    ("stream-node-max-entries", "100", "4"),
    ("stream-node-max-bytes", "4096", "100"),
    ("hll-sparse-max-bytes", "3000", "100"),
];

/// What is not said: it waits, has an answer that depends on chance or on the clock, or is about the server.
const UNSAID: [&str; 9] = [
    "MIGRATE",
    "RESTORE-ASKING",
    "WAIT",
    "RANDOMKEY",
    "PFDEBUG",
    "PFSELFTEST",
    "OBJECT FREQ",
    "OBJECT IDLETIME",
    "OBJECT REFCOUNT",
];

/// What depends on the clock, or has an answer in no order, and can be compared all the same.
const SAID: [&str; 24] = [
    "TTL",
    "PTTL",
    "EXPIRETIME",
    "PEXPIRETIME",
    "OBJECT ENCODING",
    "DUMP",
    "XADD",
    "XTRIM",
    "XREAD",
    "XREADGROUP",
    "XPENDING",
    "XCLAIM",
    "XAUTOCLAIM",
    "XINFO STREAM",
    "XINFO CONSUMERS",
    "SPOP",
    "SRANDMEMBER",
    "HRANDFIELD",
    "ZRANDMEMBER",
    "SCAN",
    "SSCAN",
    "HSCAN",
    "ZSCAN",
    "KEYS",
];

/// An id that the server makes up is no two servers' same; and the row `bitfield-failed` of differences.md.
const UNSAID_TOKENS: [&str; 2] = ["*", "FAIL"];

/// Whether a command compares the names of members, which is defined where their scores are equal.
pub(super) fn is_by_name(name: &str) -> bool {
    name.contains("LEX")
}

/// Makes sequences.
#[derive(Debug)]
pub struct Generator {
    /// Each, and whether ours takes more words than the other.
    commands: Vec<(Command, bool)>,
    settings: Vec<Setting>,
    payloads: Vec<Vec<u8>>,
    /// The milliseconds of the id that an entry was given last.
    last_id: usize,
    chance: Chance,
}

impl Generator {
    /// Of the commands that both servers have, of settings that both know, and of payloads that RESTORE is to be given.
    pub fn new(
        ours: &BTreeMap<String, Command>,
        theirs: &BTreeMap<String, Command>,
        settings: Vec<Setting>,
        payloads: Vec<Vec<u8>>,
        seed: u64,
    ) -> Generator {
        let is_said = |command: &Command| {
            let name = command.name();
            let is_of_values =
                command.group == "generic" || GROUPS.iter().any(|(group, _)| *group == command.group);
            let by_chance =
                command.tips.contains("nondeterministic_output") && !SAID.contains(&name.as_str());
            is_of_values && !by_chance && !name.ends_with(" HELP") && !UNSAID.contains(&name.as_str())
        };
        let shared = theirs.iter().filter_map(|(name, command)| Some((command, ours.get(name)?)));
        // Where ours takes more words than the other, it is not asked what it says of them.
        let with_limit = |(command, ours): (&Command, &Command)| {
            let takes_more = command.arity != ours.arity;
            (command.clone(), takes_more)
        };
        let commands = shared.filter(|(command, _)| is_said(command)).map(with_limit).collect();
        Generator { commands, settings, payloads, last_id: 0, chance: Chance::new(seed) }
    }

    /// The commands that are said.
    pub fn commands(&self) -> impl ExactSizeIterator<Item = &Command> {
        self.commands.iter().map(|(command, _)| command)
    }

    /// A sequence of about so many commands, to be said to servers without data.
    pub fn sequence(&mut self, len: usize) -> Vec<Request> {
        let mut requests = self.settings();
        self.last_id = 1;
        // A few commands often, so that their values grow.
        let favourites: Vec<usize> = (0..4).map(|_| self.chance.below(self.commands.len())).collect();
        // And those that make values grow, or nearly all keys would be empty.
        let is_growing = |(command, _): &(Command, bool)| {
            command.flags.contains("denyoom")
                && !command.name().contains("STORE")
                && !command.name().contains("BITOP")
        };
        let growing: Vec<usize> =
            (0..self.commands.len()).filter(|index| is_growing(&self.commands[*index])).collect();
        let mut left_in_transaction = 0;
        while requests.len() < len {
            if left_in_transaction > 0 {
                left_in_transaction -= 1;
                if left_in_transaction == 0 {
                    let end: &[u8] = if self.chance.percent(90) { b"EXEC" } else { b"DISCARD" };
                    requests.push(vec![end.to_vec()]);
                    continue;
                }
            } else if self.chance.below(60) == 0 {
                if self.chance.percent(50) {
                    let letter = self.chance.one_of(&GROUPS).1;
                    requests.push(vec![b"WATCH".to_vec(), format!("{letter}:1").into_bytes()]);
                    for _ in 0..self.chance.below(5) {
                        let index = self.chance.below(self.commands.len());
                        if !self.commands[index].0.flags.contains("blocking") {
                            requests.push(self.request(index));
                        }
                    }
                }
                requests.push(vec![b"MULTI".to_vec()]);
                left_in_transaction = 1 + self.chance.below(12);
                continue;
            }
            let index = match self.chance.below(100) {
                0..20 => *self.chance.one_of(&favourites),
                20..55 => *self.chance.one_of(&growing),
                _ => self.chance.below(self.commands.len()),
            };
            if is_by_name(&self.commands[index].0.name()) && self.chance.percent(40) {
                requests.push(lex_write(&mut self.chance));
            }
            let command = &self.commands[index].0;
            let waits = command.flags.contains("blocking") && command.group != "stream";
            // Where nobody waits, what would wait is answered at once.
            if !waits || left_in_transaction > 0 || self.chance.below(10) == 0 {
                requests.push(self.request(index));
            }
        }
        if left_in_transaction > 0 {
            requests.push(vec![b"EXEC".to_vec()]);
        }
        requests
    }

    /// From which sizes on values are kept otherwise: small ones half of the time, so that both sides are met.
    fn settings(&mut self) -> Vec<Request> {
        let small = self.chance.percent(50);
        let request = |(name, default, when_small): &Setting| {
            let value = if small { when_small } else { default };
            ["CONFIG", "SET", name, value].iter().map(|word| word.as_bytes().to_vec()).collect()
        };
        self.settings.iter().map(request).collect()
    }

    /// Requests whose arguments are no matter of chance alone; false if the command is none of these.
    fn special(&mut self, command: &Command, request: &mut Request) -> bool {
        let name = command.name();
        let chance = &mut self.chance;
        let mut words: Vec<&str> = Vec::new();
        match name.as_str() {
            "RESTORE" if !self.payloads.is_empty() && chance.percent(97) => {
                let payload = chance.one_of(&self.payloads).clone();
                request.extend([key(command, chance), b"0".to_vec(), payload]);
                words.extend(Some("REPLACE").filter(|_| chance.percent(80)));
            }
            "SPOP" | "SRANDMEMBER" | "HRANDFIELD" | "ZRANDMEMBER" => {
                request.push(key(command, chance));
                words.push(ALL);
                match name.as_str() {
                    "HRANDFIELD" if chance.percent(50) => words.push("WITHVALUES"),
                    "ZRANDMEMBER" if chance.percent(50) => words.push("WITHSCORES"),
                    _ => {}
                }
            }
            "SCAN" | "SSCAN" | "HSCAN" | "ZSCAN" => {
                if name != "SCAN" {
                    request.push(key(command, chance));
                }
                words.extend(["0", "COUNT", ALL]);
                if chance.percent(40) {
                    words.extend(["MATCH", *chance.one_of(&PATTERNS)]);
                }
                if name == "SCAN" && chance.percent(40) {
                    words.extend(["TYPE", *chance.one_of(&TYPES)]);
                }
            }
            _ => return false,
        }
        request.extend(words.into_iter().map(|word| word.as_bytes().to_vec()));
        true
    }

    /// Ids of entries: those of new ones rise, the others have mostly been given.
    fn put_ids(&mut self, command: &Command, request: &mut Request) {
        for word in request.iter_mut().filter(|word| *word == ID) {
            if command.name() == "XADD" {
                self.last_id += self.chance.below(3);
                let number = if self.chance.percent(20) { "*" } else { "1" };
                *word = format!("{}-{number}", self.last_id).into_bytes();
            } else {
                let ago = self.chance.below(12);
                *word = format!("{}-1", self.last_id.saturating_sub(ago)).into_bytes();
            }
        }
    }

    fn request(&mut self, index: usize) -> Request {
        let (command, takes_more) = self.commands[index].clone();
        let mut request: Request = command.words.iter().map(|word| word.as_bytes().to_vec()).collect();
        if self.special(&command, &mut request) {
            return request;
        }
        for argument in &command.arguments {
            put(&command, argument, &mut request, &mut self.chance);
        }
        count_keys(&mut request);
        self.put_ids(&command, &mut request);
        without_chance(&command, &mut request);
        between_deadlines(&mut request);
        match self.chance.below(300) {
            0 => {
                request.pop();
            }
            1 if !takes_more => request.push(key(&command, &mut self.chance)),
            _ => {}
        }
        request
    }
}

/// What a server is asked for that is to give all it has.
const ALL: &str = "100000";

/// Where a number of things has to be said, this stands until they are.
const NUMBER: &[u8] = b"\x01number";

/// And this for the id of a stream's entry.
pub(super) const ID: &[u8] = b"\x01id";

fn put(command: &Command, argument: &Argument, request: &mut Request, chance: &mut Chance) {
    // Few texts are numbers.
    let left_out = if argument.name == "sorting" { 30 } else { 65 };
    if argument.optional && chance.percent(left_out) {
        return;
    }
    let token = argument.token.as_ref().map(|token| token.as_bytes().to_vec());
    let repetitions = match argument.multiple {
        true if chance.below(30) == 0 => 1 + chance.below(20),
        true => 1 + chance.below(3),
        false => 1,
    };
    for repetition in 0..repetitions {
        if repetition == 0 || argument.multiple_token {
            request.extend(token.clone());
        }
        match &argument.kind {
            Kind::Token => {}
            Kind::OneOf(parts) => {
                let is_said =
                    |part: &&Argument| !UNSAID_TOKENS.contains(&part.token.as_deref().unwrap_or(""));
                let parts: Vec<&Argument> = parts.iter().filter(is_said).collect();
                if !parts.is_empty() {
                    let chosen = parts[chance.below(parts.len())];
                    put_part(command, chosen, request, chance);
                }
            }
            // Lists beside each other, as of keys and ids, are of one length.
            Kind::Block(parts) if parts.len() > 1 && parts.iter().all(|part| part.multiple) => {
                let len = 1 + chance.below(2);
                for part in parts {
                    let part = Argument { multiple: false, ..part.clone() };
                    (0..len).for_each(|_| put(command, &part, request, chance));
                }
            }
            Kind::Block(parts) => parts.iter().for_each(|part| put(command, part, request, chance)),
            _ if ["numkeys", "numfields"].contains(&argument.name.as_str()) => request.push(NUMBER.to_vec()),
            _ => request.push(value(command, argument, chance)),
        }
    }
}

/// A part that was chosen is not left out.
fn put_part(command: &Command, part: &Argument, request: &mut Request, chance: &mut Chance) {
    let chosen = Argument { optional: false, ..part.clone() };
    put(command, &chosen, request, chance);
}

/// A deadline that is compared with another one is not close to any.
fn between_deadlines(request: &mut Request) {
    let by: i64 = match &request[0][..] {
        b"EXPIRE" => 5,
        b"PEXPIRE" => 5000,
        _ => return,
    };
    let compares = request.iter().any(|word| [&b"GT"[..], b"LT"].contains(&&word[..]));
    let time = request.get(2).and_then(|word| std::str::from_utf8(word).ok()?.parse::<i64>().ok());
    if compares && let Some(time) = time {
        request[2] = time.saturating_add(by).to_string().into_bytes();
    }
}

/// What is stored has to be what is promised: not in the order of other keys' texts, which may be the same, nor some of
/// the places that are equally far away.
fn without_chance(command: &Command, request: &mut Request) {
    let at = |token: &str| request.iter().position(|word| word == token.as_bytes());
    match (command.group.as_str(), at("COUNT"), at("STORE").or(at("STOREDIST"))) {
        ("generic", _, Some(store)) if at("BY").is_some() && at("ALPHA").is_some() => request.truncate(store),
        ("geo", Some(count), stores)
            if (stores.is_some() || command.words[0] == "GEOSEARCHSTORE") && at("ANY").is_none() =>
        {
            request.drain(count..count + 2);
        }
        _ => {}
    }
}

/// Puts in the number of keys that were said, which are known by their form.
fn count_keys(request: &mut Request) {
    let Some(at) = request.iter().position(|word| word == NUMBER) else { return };
    let is_key = |word: &&Vec<u8>| word.len() == 3 && word[1] == b':' || word.starts_with(b"lex:");
    let number = request[at + 1..].iter().take_while(is_key).count();
    request[at] = number.to_string().into_bytes();
}
