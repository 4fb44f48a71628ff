//! The usage line: one string from which arity, argument tree and key positions are derived.
//!
//! ```text
//! SET key value [condition=<NX | XX>] [GET] [expiration=<EX seconds:int | PX milliseconds:int | KEEPTTL>]
//! ```
//!
//! # Grammar
//!
//! | written | meaning |
//! |---|---|
//! | `CONFIG GET` | up to two leading words in capitals are the name: a command, or container and subcommand |
//! | `member` | an argument: a string, or a key if the row's `keys` name it |
//! | `count:int` | an argument of another type: `int`, `double`, `pattern`, `time` (Unix time), `key` |
//! | `NX` | another word in capitals (or of signs: `*`, `=`, `~`, `$`) is a token, to be sent as it stands |
//! | `EX seconds:int` | a token belongs to the argument after it, unless that is optional or a token itself |
//! | `sorting=ALPHA` | a token with a name of its own; it stands alone, whatever follows |
//! | `[x]` | may be left out |
//! | `<a \| b>`, `[a \| b]` | one of several |
//! | `<a b>`, `[a b]` | several together, a block |
//! | `[LIMIT offset:int count:int]` | a token that leads a group belongs to all of it |
//! | `condition=<a \| b>` | a group with a name of its own; else its name is its parts' names, joined by `_` |
//! | `x...` | may be repeated; `<TOKEN x>...` and `[TOKEN x]...` with the token, `TOKEN x...` without |
//!
//! A group of one is a block only if it has a name; without one it just holds its content together.

mod parse;

use std::borrow::Cow;
use std::fmt;

use super::keys::{Begin, Find, KeyPosition};

/// A parsed usage line.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// The name in capitals: one word, or container and subcommand.
    pub name: Vec<&'static str>,
    /// The arguments, in order.
    pub arguments: Vec<Argument>,
}

/// An argument, or several that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What it is.
    pub kind: Kind,
    /// The token before it, or the token that it is.
    pub token: Option<&'static str>,
    /// It may be left out.
    pub optional: bool,
    /// It may be repeated.
    pub multiple: bool,
    /// If repeated, so is its token.
    pub multiple_token: bool,
    /// Which of the command's key specifications finds it. Known once the row's keys are.
    pub key_spec: Option<usize>,
    /// The version that brought it, where that is not the command's own.
    pub since: Option<&'static str>,
    /// The version that made it outdated.
    pub deprecated: Option<&'static str>,
}

/// What an argument is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Any bytes.
    String,
    /// An integer.
    Integer,
    /// A double.
    Double,
    /// A key.
    Key,
    /// A glob pattern.
    Pattern,
    /// A moment, as seconds or milliseconds since 1970.
    UnixTime,
    /// A token alone.
    PureToken,
    /// One of several.
    OneOf(Vec<Argument>),
    /// Several together.
    Block(Vec<Argument>),
}

impl Kind {
    /// The name that COMMAND DOCS shows.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::Key => "key",
            Kind::Pattern => "pattern",
            Kind::UnixTime => "unix-time",
            Kind::PureToken => "pure-token",
            Kind::OneOf(_) => "oneof",
            Kind::Block(_) => "block",
        }
    }

    /// What it consists of, if it is a choice or a block.
    pub fn parts(&self) -> &[Argument] {
        match self {
            Kind::OneOf(parts) | Kind::Block(parts) => parts,
            _ => &[],
        }
    }

    fn parts_mut(&mut self) -> &mut [Argument] {
        match self {
            Kind::OneOf(parts) | Kind::Block(parts) => parts,
            _ => &mut [],
        }
    }
}

/// Why a row is not a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError {
    /// The usage line.
    pub usage: &'static str,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "usage line \"{}\": {}", self.usage, self.reason)
    }
}

impl std::error::Error for UsageError {}

impl Usage {
    /// The number of words of a call, the name among them; negative if it is a minimum.
    pub fn arity(&self) -> i32 {
        let least = self.name.len() as i32 + width(&self.arguments);
        if self.arguments.iter().all(Argument::is_fixed) { least } else { -least }
    }

    /// Where the keys are that the argument `name` stands for, if the line tells.
    pub fn key_position(&self, name: &str) -> Option<KeyPosition> {
        let mut at = self.name.len() as i32;
        let mut fixed = true;
        // Where the part begins whose positions depend on what is sent.
        let mut head = at;
        for (i, argument) in self.arguments.iter().enumerate() {
            if let Some(offset) = argument.offset_of(name) {
                let step = argument.stride();
                let paired = argument.kind.parts().iter().filter(|part| part.multiple).count() as i32;
                let counted = i > 0 && self.arguments[i - 1].name == "numkeys" && argument.multiple;
                let (begin, find) = match argument.token {
                    _ if counted && fixed => {
                        (Begin::Index(at - 1), Find::KeyNum { index: 0, first: 1, step })
                    }
                    Some(token) => {
                        let (last, limit) = match paired {
                            0 if !argument.multiple => (0, 0),
                            0 | 1 => (-1, 0),
                            lists => (-1, lists),
                        };
                        (Begin::Keyword(token, head), Find::Range { last, step, limit })
                    }
                    None if !fixed => return None,
                    None => {
                        let tail = width(&self.arguments[i + 1..]);
                        let last = if argument.multiple { -1 - tail } else { 0 };
                        (Begin::Index(at + offset), Find::Range { last, step, limit: 0 })
                    }
                };
                return Some(KeyPosition { begin, find });
            }
            fixed &= argument.is_fixed();
            at += argument.least();
            if fixed {
                head = at;
            }
        }
        None
    }

    /// Calls `visit` with every argument, at any depth, in order.
    pub fn each_argument(&mut self, visit: &mut dyn FnMut(&mut Argument)) {
        fn walk(arguments: &mut [Argument], visit: &mut dyn FnMut(&mut Argument)) {
            for argument in arguments {
                visit(argument);
                walk(argument.kind.parts_mut(), visit);
            }
        }
        walk(&mut self.arguments, visit);
    }
}

/// How many words some arguments are at least.
fn width(arguments: &[Argument]) -> i32 {
    arguments.iter().map(Argument::least).sum()
}

impl Argument {
    fn new(name: Cow<'static, str>, kind: Kind) -> Argument {
        Argument {
            name,
            kind,
            token: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            key_spec: None,
            since: None,
            deprecated: None,
        }
    }

    /// How many words it is at least.
    fn least(&self) -> i32 {
        if self.optional { 0 } else { self.once() }
    }

    /// How many words it is if it is sent once.
    fn once(&self) -> i32 {
        match self.kind {
            Kind::PureToken => 1,
            _ => i32::from(self.token.is_some()) + self.without_token(),
        }
    }

    fn without_token(&self) -> i32 {
        match &self.kind {
            Kind::OneOf(parts) => parts.iter().map(Argument::least).min().unwrap_or(0),
            Kind::Block(parts) => width(parts),
            _ => 1,
        }
    }

    /// How many words lie between one repetition and the next.
    fn stride(&self) -> i32 {
        // In a block of lists it is each list's own elements that repeat.
        if self.multiple { self.without_token() + i32::from(self.multiple_token) } else { 1 }
    }

    /// Whether it is the same number of words in every call.
    fn is_fixed(&self) -> bool {
        let inner = match &self.kind {
            Kind::OneOf(parts) => {
                parts.iter().all(|part| part.is_fixed() && part.least() == parts[0].least())
            }
            kind => kind.parts().iter().all(Argument::is_fixed),
        };
        inner && !self.optional && !self.multiple
    }

    /// How many words after its token it names `name`, if it does at a place that does not move.
    fn offset_of(&self, name: &str) -> Option<i32> {
        match &self.kind {
            _ if self.name == name && self.kind.parts().is_empty() && self.kind != Kind::PureToken => Some(0),
            Kind::Block(parts) => {
                let mut at = 0;
                for part in parts {
                    if let Some(offset) = part.offset_of(name) {
                        return Some(at + offset);
                    }
                    if !part.is_fixed() {
                        return None;
                    }
                    at += part.least();
                }
                None
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(usage: &'static str) -> Usage {
        Usage::parse(usage).unwrap()
    }

    #[test]
    fn arities() {
        for (usage, arity) in [
            ("PING [message]", -1),
            ("GET key", 2),
            ("LMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT>", 5),
            ("SET key value [NX | XX] [EX seconds:int | KEEPTTL]", -3),
            ("MSET <key value>...", -3),
            ("CONFIG SET <parameter value>...", -4),
            ("OBJECT ENCODING key", 3),
            ("BLPOP key... timeout:double", -3),
            ("ZUNIONSTORE destination numkeys:int key... [WEIGHTS weight:int...]", -4),
            ("GEO key <FROMMEMBER m | FROMLONLAT x:double y:double>", -4),
            ("XREAD [COUNT count:int] STREAMS streams=<key... id...>", -4),
        ] {
            assert_eq!(parse(usage).arity(), arity, "{usage}");
        }
    }

    #[test]
    fn key_positions() {
        use Begin::{Index, Keyword};
        let range = |last, step, limit| Find::Range { last, step, limit };
        for (usage, arg, begin, find) in [
            ("GET key", "key", Index(1), range(0, 1, 0)),
            ("OBJECT ENCODING key", "key", Index(2), range(0, 1, 0)),
            ("DEL key...", "key", Index(1), range(-1, 1, 0)),
            ("SUNSUBSCRIBE [channel...]", "channel", Index(1), range(-1, 1, 0)),
            ("MSET <key value>...", "key", Index(1), range(-1, 2, 0)),
            ("BLPOP key... timeout:double", "key", Index(1), range(-2, 1, 0)),
            ("LMOVE source destination", "destination", Index(2), range(0, 1, 0)),
            (
                "XREAD [COUNT n:int] STREAMS streams=<key... id...>",
                "key",
                Keyword("STREAMS", 1),
                range(-1, 1, 2),
            ),
            ("GEO key x [STORE to]", "to", Keyword("STORE", 3), range(0, 1, 0)),
            (
                "EVAL script numkeys:int [key...] [arg...]",
                "key",
                Index(2),
                Find::KeyNum { index: 0, first: 1, step: 1 },
            ),
            (
                "BZMPOP timeout:double numkeys:int key... <MIN | MAX>",
                "key",
                Index(2),
                Find::KeyNum { index: 0, first: 1, step: 1 },
            ),
        ] {
            assert_eq!(parse(usage).key_position(arg), Some(KeyPosition { begin, find }), "{usage}");
        }
        assert_eq!(parse("X [a] key").key_position("key"), None);
        assert_eq!(parse("X key").key_position("other"), None);
    }
}
