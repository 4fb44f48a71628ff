//! A second interpreter of the language of rules, made of strings, slow and plain: it keeps every rule that was accepted
//! and answers each question by reading them all. Random policies and calls must give the same answers, the same errors,
//! and must survive being printed and read, and modules that go and come.
//!
//! `ACL_MODEL_PAIRS` says how many pairs of a policy and a call, `ACL_MODEL_SEED` where to begin.

mod support;

use mortise_acl::{Refusal, User, Users};
use support::{ask, facts, setting, table};

// ---- the model: commands

/// A command as the model knows it.
struct Known {
    name: &'static str,
    categories: &'static str,
    /// Where keys are, and whether they are read and written: the model has its own idea of it.
    keys: fn(&[&str]) -> Vec<(usize, &'static str)>,
    channels: fn(&[&str]) -> Vec<usize>,
}

fn none<T>(_: &[&str]) -> Vec<T> {
    Vec::new()
}

fn rest(words: &[&str]) -> Vec<usize> {
    (1..words.len()).collect()
}

fn plain(name: &'static str, categories: &'static str) -> Known {
    Known { name, categories, keys: none, channels: none }
}

fn commands() -> Vec<Known> {
    vec![
        Known { keys: |_| vec![(1, "R")], ..plain("get", "string read fast") },
        Known { keys: |_| vec![(1, "W")], ..plain("set", "string write slow") },
        Known {
            keys: |words| (1..words.len()).step_by(2).map(|at| (at, "W")).collect(),
            ..plain("mset", "string write slow")
        },
        Known {
            keys: |words| rest(words).into_iter().map(|at| (at, "")).collect(),
            ..plain("exists", "keyspace read fast")
        },
        Known { keys: |_| vec![(1, "R"), (2, "W")], ..plain("copy", "keyspace write slow") },
        Known {
            keys: |words| match words[2].parse::<usize>() {
                Ok(count) if count > 0 && 3 + count <= words.len() => {
                    std::iter::once((1, "W")).chain((3..3 + count).map(|at| (at, "R"))).collect()
                }
                _ => vec![],
            },
            ..plain("zunionstore", "sortedset write slow")
        },
        Known { channels: |_| vec![1], ..plain("publish", "pubsub fast") },
        Known { channels: rest, ..plain("subscribe", "pubsub slow") },
        Known { channels: rest, ..plain("psubscribe", "pubsub slow") },
        plain("ping", "connection fast"),
        plain("auth", "connection fast"),
        plain("select", "connection fast"),
        plain("debug", "admin slow dangerous"),
        plain("config", "slow"),
        plain("config|get", "admin slow dangerous"),
        plain("config|set", "admin slow dangerous"),
        plain("client", "slow"),
        plain("client|id", "connection fast"),
        plain("client|kill", "admin slow dangerous connection"),
        plain("hello.greet", "read fast"),
        Known { keys: |_| vec![(1, "W")], ..plain("hello.sign", "write slow") },
    ]
}

const CATEGORIES: &str = "keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin \
                          fast slow blocking dangerous connection transaction scripting";

fn container_of(name: &str) -> Option<&str> {
    name.split_once('|').map(|(container, _)| container)
}

// ---- the model: a user

/// The accepted rules of each selector, the user's own first.
#[derive(Clone)]
struct Model {
    selectors: Vec<Vec<String>>,
    all_channels: bool,
}

const UNKNOWN: &str = "Unknown command or category name in ACL";
const SYNTAX: &str = "Syntax error";

impl Model {
    fn new(all_channels: bool) -> Model {
        Model { selectors: vec![vec![]], all_channels }
    }

    fn apply(&mut self, rule: &str, commands: &[Known]) -> Result<(), &'static str> {
        let lower = rule.to_lowercase();
        if rule.starts_with('(') && rule.ends_with(')') {
            let mut selector = vec![];
            for inner in rule[1..rule.len() - 1].split_whitespace() {
                selector = self.accept(selector, inner, commands)?;
            }
            self.selectors.push(selector);
        } else if lower == "clearselectors" {
            self.selectors.truncate(1);
        } else if lower == "reset" {
            self.selectors = vec![vec![]];
        } else if !["", "on", "off", "nopass"].contains(&&*lower) {
            let own = self.accept(self.selectors[0].clone(), rule, commands)?;
            self.selectors[0] = own;
        }
        Ok(())
    }

    fn accept(
        &self,
        mut rules: Vec<String>,
        rule: &str,
        commands: &[Known],
    ) -> Result<Vec<String>, &'static str> {
        let lower = rule.to_lowercase();
        let exists = |name: &str| commands.iter().any(|known| known.name == name);
        let words = "allkeys ~* resetkeys allchannels &* resetchannels allcommands +@all nocommands -@all";
        if words.split(' ').any(|word| word == lower) {
        } else if rule.starts_with('~') || rule.starts_with('%') {
            if self.has_all(&rules, "allkeys", "~*", "resetkeys", false) {
                return Err(
                    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any \
                            effect. Try 'resetkeys' to start with an empty list of patterns",
                );
            }
            let letters = lower[1..].split('~').next().unwrap_or("");
            if rule.starts_with('%') && !["r", "w", "rw", "wr"].contains(&letters) {
                return Err(SYNTAX);
            }
        } else if rule.starts_with('&') {
            if self.has_all(&rules, "allchannels", "&*", "resetchannels", self.all_channels) {
                return Err(
                    "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not \
                            have any effect. Try 'resetchannels' to start with an empty list of channels",
                );
            }
        } else if rule.starts_with("+@") || rule.starts_with("-@") {
            if !CATEGORIES.split_whitespace().any(|category| category == &lower[2..]) {
                return Err(UNKNOWN);
            }
        } else if rule.starts_with('-') {
            if !exists(&lower[1..]) {
                return Err(UNKNOWN);
            }
        } else if rule.starts_with('+') {
            let parts: Vec<&str> = lower[1..].split('|').collect();
            let is_container = commands.iter().any(|known| container_of(known.name) == Some(parts[0]));
            match parts[..] {
                [name] if exists(name) => {}
                [container, argument] if exists(container) => {
                    if argument.is_empty() {
                        return Err(SYNTAX);
                    }
                    if is_container && !exists(&lower[1..]) {
                        return Err(UNKNOWN);
                    }
                }
                [container, sub, _] if exists(&format!("{container}|{sub}")) => {
                    return Err("Allowing first-arg of a subcommand is not supported");
                }
                _ => return Err(UNKNOWN),
            }
        } else {
            return Err(SYNTAX);
        }
        rules.push(rule.to_owned());
        Ok(rules)
    }

    /// Whether the last word about it says all.
    fn has_all(&self, rules: &[String], all: &str, star: &str, reset: &str, at_first: bool) -> bool {
        let last = rules
            .iter()
            .rev()
            .map(|rule| rule.to_lowercase())
            .find(|rule| [all, star, reset].contains(&&**rule));
        last.map_or(at_first, |rule| rule != reset)
    }

    /// The rules behind the last word that clears a list.
    fn since<'r>(rules: &'r [String], clears: &[&str]) -> &'r [String] {
        let last = rules.iter().rposition(|rule| clears.contains(&&*rule.to_lowercase()));
        &rules[last.map_or(0, |at| at + 1)..]
    }

    fn allows_command(rules: &[String], known: &Known, words: &[&str]) -> bool {
        let mut allowed = false;
        let mut arguments: Vec<String> = vec![];
        let from_module = known.name.contains('.');
        let container = container_of(known.name);
        for rule in rules {
            let rule = rule.to_lowercase();
            let on = rule.starts_with('+') || rule == "allcommands";
            if ["+@all", "-@all", "allcommands", "nocommands"].contains(&&*rule) {
                allowed = on;
                arguments.clear();
            } else if let Some(category) = rule.strip_prefix("+@").or(rule.strip_prefix("-@")) {
                let is_in = |categories: &str| categories.split(' ').any(|own| own == category);
                // In this world containers are in one category alone.
                let by_container = container.is_some() && category == "slow";
                if !from_module && (is_in(known.categories) || by_container) {
                    allowed = on;
                }
                if !from_module && is_in(known.categories) {
                    arguments.clear();
                }
            } else if let Some(name) = rule.strip_prefix('+').or(rule.strip_prefix('-')) {
                if name == known.name || Some(name) == container {
                    allowed = on;
                    arguments.clear();
                } else if let Some((name, argument)) = name.split_once('|')
                    && name == known.name
                {
                    arguments.push(argument.to_owned());
                }
            }
        }
        allowed
            || known.name == "auth"
            || words.get(1).is_some_and(|word| arguments.iter().any(|arg| *arg == word.to_lowercase()))
    }

    fn allows_key(&self, rules: &[String], key: &str, needs: &str) -> bool {
        if self.has_all(rules, "allkeys", "~*", "resetkeys", false) {
            return true;
        }
        let rules = Model::since(rules, &["allkeys", "~*", "resetkeys"]);
        let patterns = rules.iter().filter(|rule| rule.starts_with('~') || rule.starts_with('%'));
        // What one pattern allows may stand in several rules.
        let texts: Vec<(String, &str)> = patterns
            .map(|rule| {
                let (letters, pattern) = rule.split_once('~').unwrap_or((rule, ""));
                (if letters.is_empty() { "RW".to_owned() } else { letters.to_uppercase() }, pattern)
            })
            .collect();
        texts.iter().any(|(_, pattern)| {
            let allowed: String =
                texts.iter().filter(|(_, other)| other == pattern).map(|(letters, _)| &**letters).collect();
            needs.chars().all(|need| allowed.contains(need)) && fits(pattern.as_bytes(), key.as_bytes())
        })
    }

    fn allows_channel(&self, rules: &[String], channel: &str, literally: bool) -> bool {
        if self.has_all(rules, "allchannels", "&*", "resetchannels", self.all_channels) {
            return true;
        }
        let rules = Model::since(rules, &["allchannels", "&*", "resetchannels"]);
        rules.iter().filter_map(|rule| rule.strip_prefix('&')).any(|pattern| {
            if literally { pattern == channel } else { fits(pattern.as_bytes(), channel.as_bytes()) }
        })
    }

    fn check_selector(&self, rules: &[String], known: &Known, words: &[&str]) -> Result<(), Refusal> {
        if !Model::allows_command(rules, known, words) {
            return Err(Refusal::Command);
        }
        for (at, needs) in (known.keys)(words) {
            if !self.allows_key(rules, words[at], needs) {
                return Err(Refusal::Key(at));
            }
        }
        for at in (known.channels)(words) {
            if !self.allows_channel(rules, words[at], known.name == "psubscribe") {
                return Err(Refusal::Channel(at));
            }
        }
        Ok(())
    }

    fn check(&self, known: &Known, words: &[&str]) -> Result<(), Refusal> {
        let answers: Vec<Result<(), Refusal>> =
            self.selectors.iter().map(|rules| self.check_selector(rules, known, words)).collect();
        if answers.contains(&Ok(())) {
            return Ok(());
        }
        let weight = |refusal: &Refusal| match refusal {
            Refusal::Command => (0, 0),
            Refusal::Key(at) => (1, *at),
            Refusal::Channel(at) => (2, *at),
        };
        answers.into_iter().max_by_key(|answer| weight(answer.as_ref().unwrap_err())).unwrap()
    }
}

/// Whether a pattern of letters, `*` and `?` fits. Nothing but the empty pattern fits the empty text.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    fn walk(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => walk(rest, text) || (!text.is_empty() && walk(pattern, &text[1..])),
            ([b'?', rest @ ..], [_, tail @ ..]) => walk(rest, tail),
            ([a, rest @ ..], [b, tail @ ..]) => a == b && walk(rest, tail),
            _ => false,
        }
    }
    if text.is_empty() { pattern.is_empty() } else { walk(pattern, text) }
}

// ---- chance

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn of<'w>(&mut self, words: &'w str) -> &'w str {
        let words: Vec<&str> = words.split_whitespace().collect();
        words[self.below(words.len())]
    }
}

const NAMES: &str = "a b ab abc b1 user:1 user:12345678 user:123456789 zz";
const PATTERNS: &str = "a b* a* *b user:* user:12345678* user:?2* ? ab?* * user:123456789 zz";

fn random_rule(chance: &mut Chance, commands: &[Known]) -> String {
    let sign = chance.of("+ + + -");
    match chance.below(40) {
        0..=3 => format!("{}{}", chance.of("~ ~ %R~ %W~ %RW~ %wr~"), chance.of(PATTERNS)),
        4..=5 => format!("&{}", chance.of(PATTERNS)),
        6..=16 => format!("{sign}{}", commands[chance.below(commands.len())].name),
        17 => format!("{sign}{}", commands[chance.below(commands.len())].name.to_uppercase()),
        18..=24 => {
            let usual =
                "read write string keyspace slow fast admin dangerous pubsub connection sortedset list SLOW";
            format!("{sign}@{}", chance.of(usual))
        }
        25 => chance.of("allkeys ~* resetkeys allchannels &* resetchannels AllKeys ResetChannels").to_owned(),
        26..=29 => chance.of("+@all +@all -@all allcommands nocommands +@ALL NoCommands").to_owned(),
        30..=32 => {
            format!("{sign}{}|{}", chance.of("select debug ping get"), chance.of("0 1 a user:1 OBJECT"))
        }
        33..=36 => {
            let rules = (0..chance.below(5)).map(|_| random_rule(chance, commands));
            format!("({})", rules.filter(|rule| !rule.starts_with('(')).collect::<Vec<_>>().join(" "))
        }
        37 => chance.of("reset clearselectors on off nopass").to_owned(),
        38 => chance
            .of("+nothing -nothing +@nothing +config|x -select|0 +a|b|c +config|get|x +debug|")
            .to_owned(),
        _ => chance.of("%X~a %RR~a %~a % foo )x +@ + -").to_owned(),
    }
}

fn random_call<'c>(chance: &mut Chance, commands: &'c [Known]) -> (&'c Known, Vec<String>) {
    let known = &commands[chance.below(commands.len())];
    let mut words: Vec<String> = known.name.split('|').map(str::to_owned).collect();
    let argument = |chance: &mut Chance| chance.of(NAMES).to_owned();
    match known.name {
        "zunionstore" => {
            words.push(argument(chance));
            words.push(chance.of("0 1 2 2 3 9 x").to_owned());
            words.extend((0..1 + chance.below(3)).map(|_| argument(chance)));
        }
        "mset" => words.extend((0..2 + 2 * chance.below(2)).map(|_| argument(chance))),
        "copy" | "set" | "publish" | "hello.sign" => words.extend((0..2).map(|_| argument(chance))),
        "select" => words.push(chance.of("0 1 2").to_owned()),
        "debug" => words.push(chance.of("object 0 jmap").to_owned()),
        "get" | "hello.greet" | "auth" => words.push(argument(chance)),
        "config" | "client" | "ping" | "client|id" => {}
        _ => words.extend((0..1 + chance.below(3)).map(|_| argument(chance))),
    }
    (known, words)
}

#[test]
fn the_model_agrees() {
    let number =
        |name: &str, otherwise| std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap());
    let (pairs, seed): (u64, u64) = (number("ACL_MODEL_PAIRS", 100_000), number("ACL_MODEL_SEED", 1));
    let (facts, commands) = (facts(), commands());
    assert!(facts.iter().map(|facts| &*facts.name).eq(commands.iter().map(|known| known.name)));
    let settings = [false, true].map(|all_channels| setting(&facts, all_channels));
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut compared, mut allowed) = (0, 0);
    while compared < pairs {
        let setting = &settings[chance.below(2)];
        let mut model = Model::new(setting.all_channels);
        let mut user = User::new(b"ann", setting);
        let mut policy = vec![];
        for _ in 0..chance.below(16) {
            let rule = random_rule(&mut chance, &commands);
            let expected = model.apply(&rule, &commands);
            policy.push(rule.clone());
            match user.with([rule.as_bytes()].into_iter(), setting) {
                Ok(changed) => {
                    assert_eq!(expected, Ok(()), "{policy:?}");
                    user = changed;
                }
                Err(refused) => {
                    let why = expected.expect_err(&format!("{policy:?}: {refused}"));
                    assert_eq!(refused.to_string(), format!("Error in ACL SETUSER modifier '{rule}': {why}"));
                }
            }
        }
        let printed = String::from_utf8(user.describe(&setting.table).to_vec()).unwrap();
        let read = User::new(b"ann", setting).with(printed.split(' ').map(str::as_bytes), setting);
        let read = read.unwrap_or_else(|refused| panic!("{policy:?} is printed as {printed}: {refused}"));
        let mut users = Users::new(setting.clone());
        users.insert(user.clone());
        for with_module in [false, true] {
            users.set(mortise_acl::Setting { table: table(&facts, with_module), ..setting.clone() });
        }
        let back = users.find(b"ann").unwrap();
        for _ in 0..8 {
            let (known, words) = random_call(&mut chance, &commands);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let expected = model.check(known, &words);
            for (which, user) in
                [("", &user), ("printed and read: ", &read), ("after a module's return: ", &**back)]
            {
                assert_eq!(ask(user, &facts, &words), expected, "{which}{policy:?} {words:?}; {printed}");
            }
            compared += 1;
            allowed += u64::from(expected.is_ok());
        }
    }
    // A model that refused everything would agree with too much.
    assert!(allowed > compared / 10 && allowed < compared / 2, "{allowed} of {compared} allowed");
    println!("{compared} pairs agree, {allowed} of them allowed");
}
