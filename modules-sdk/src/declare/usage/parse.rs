//! Reading a usage line: words and signs, then groups, then what a token belongs to.

use std::borrow::Cow;

use super::{Argument, Kind, Usage, UsageError};

impl Usage {
    /// Parses a usage line.
    pub fn parse(usage: &'static str) -> Result<Usage, UsageError> {
        let wrong = |reason| UsageError { usage, reason };
        let words = lex(usage);
        let name: Vec<&'static str> = words
            .iter()
            .take(2)
            .map_while(|word| match word {
                Word::Plain(text) if is_token(text) => Some(*text),
                _ => None,
            })
            .collect();
        if name.is_empty() {
            return Err(wrong("it begins with no name in capitals"));
        }
        let mut parser = Parser { words: &words, at: name.len() };
        let mut alternatives = parser.sequence(0).map_err(wrong)?;
        if parser.at < words.len() {
            return Err(wrong("a bracket is closed that was not opened"));
        }
        match (alternatives.pop(), alternatives.is_empty()) {
            (Some(items), true) => Ok(Usage { name, arguments: bind(items) }),
            _ => Err(wrong("a choice stands outside brackets")),
        }
    }
}

/// A word or sign of a usage line.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Word {
    Plain(&'static str),
    /// `name=`, right before a token or a group.
    Name(&'static str),
    Open(char),
    Close(char),
    Bar,
    Dots,
}

fn lex(usage: &'static str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = usage.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, len) = match first {
            '<' | '[' => (Word::Open(first), 1),
            '>' | ']' => (Word::Close(first), 1),
            '|' => (Word::Bar, 1),
            _ if rest.starts_with("...") => (Word::Dots, 3),
            _ => {
                let end = rest.find([' ', '<', '>', '[', ']', '|']).unwrap_or(rest.len());
                let end = rest[..end].find("...").unwrap_or(end);
                match rest[..end].find('=') {
                    Some(sign) if sign > 0 => (Word::Name(&rest[..sign]), sign + 1),
                    _ => (Word::Plain(&rest[..end]), end),
                }
            }
        };
        words.push(word);
        rest = rest[len..].trim_start();
    }
    words
}

fn is_token(word: &str) -> bool {
    let letters =
        word.chars().any(|c| c.is_ascii_uppercase()) && !word.chars().any(|c| c.is_ascii_lowercase());
    letters || matches!(word, "*" | "=" | "~" | "$")
}

/// A part of a sequence, before it is known what a token belongs to.
enum Item {
    Token(&'static str),
    Argument(Argument),
}

/// Deeper groups are surely a mistake.
const MAX_DEPTH: usize = 8;

struct Parser<'a> {
    words: &'a [Word],
    at: usize,
}

type Parsed<T> = Result<T, &'static str>;

impl Parser<'_> {
    fn next_is(&mut self, word: Word) -> bool {
        let found = self.words.get(self.at) == Some(&word);
        self.at += usize::from(found);
        found
    }

    /// Alternatives up to a closing bracket, which is left, or to the end.
    fn sequence(&mut self, depth: usize) -> Parsed<Vec<Vec<Item>>> {
        let mut alternatives = vec![Vec::new()];
        while let Some(&word) = self.words.get(self.at) {
            self.at += 1;
            let item = match word {
                Word::Close(_) => {
                    self.at -= 1;
                    break;
                }
                Word::Bar => {
                    alternatives.push(Vec::new());
                    continue;
                }
                Word::Dots => return Err("there is nothing before \"...\""),
                Word::Open(bracket) => self.group(None, bracket, depth)?,
                Word::Name(name) => match self.words.get(self.at).copied() {
                    Some(Word::Open(bracket)) => {
                        self.at += 1;
                        self.group(Some(name), bracket, depth)?
                    }
                    Some(Word::Plain(token)) if is_token(token) => {
                        self.at += 1;
                        Item::Argument(pure_token(Cow::Borrowed(name), token))
                    }
                    _ => return Err("a name is given to neither a group nor a token"),
                },
                Word::Plain(token) if is_token(token) => Item::Token(token),
                Word::Plain(word) => Item::Argument(plain(word)),
            };
            let item = if self.next_is(Word::Dots) { repeated(item, word) } else { item };
            if let Some(items) = alternatives.last_mut() {
                items.push(item);
            }
        }
        Ok(alternatives)
    }

    /// What stands between an opening bracket, which has been read, and its counterpart.
    fn group(&mut self, name: Option<&'static str>, bracket: char, depth: usize) -> Parsed<Item> {
        if depth == MAX_DEPTH {
            return Err("groups are nested too deeply");
        }
        let alternatives = self.sequence(depth + 1)?;
        if !self.next_is(Word::Close(if bracket == '<' { '>' } else { ']' })) {
            return Err("a bracket is not closed");
        }
        if alternatives.iter().any(Vec::is_empty) {
            return Err("a group or an alternative is empty");
        }
        let mut parts: Vec<Argument> = Vec::new();
        let choice = alternatives.len() > 1;
        for items in alternatives {
            parts.push(together(items, if choice { None } else { name }));
        }
        let mut argument = match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => {
                parts.extend(last);
                Argument::new(name.map_or_else(|| joined(&parts), Cow::Borrowed), Kind::OneOf(parts))
            }
        };
        argument.optional |= bracket == '[';
        Ok(Item::Argument(argument))
    }
}

/// An argument that is written `name` or `name:type`.
fn plain(word: &'static str) -> Argument {
    let (name, kind) = match word.rsplit_once(':') {
        Some((name, "int")) => (name, Kind::Integer),
        Some((name, "double")) => (name, Kind::Double),
        Some((name, "pattern")) => (name, Kind::Pattern),
        Some((name, "time")) => (name, Kind::UnixTime),
        Some((name, "key")) => (name, Kind::Key),
        // `ip:port` is a name.
        _ => (word, Kind::String),
    };
    Argument::new(Cow::Borrowed(name), kind)
}

fn pure_token(name: Cow<'static, str>, token: &'static str) -> Argument {
    Argument { token: Some(token), ..Argument::new(name, Kind::PureToken) }
}

/// The item, followed by `...`; `begin` is the word that it began with.
fn repeated(item: Item, begin: Word) -> Item {
    let mut argument = settled(item);
    argument.multiple = true;
    argument.multiple_token = matches!(begin, Word::Open(_) | Word::Name(_))
        && argument.token.is_some()
        && argument.kind != Kind::PureToken;
    Item::Argument(argument)
}

/// The item, if it is a token, as an argument of its own.
fn settled(item: Item) -> Argument {
    match item {
        Item::Token(token) => pure_token(Cow::Owned(token.to_ascii_lowercase()), token),
        Item::Argument(argument) => argument,
    }
}

/// Whether a token before this item belongs to it.
fn takes_token(item: &Item) -> bool {
    matches!(item, Item::Argument(argument) if argument.token.is_none() && !argument.optional)
}

/// Gives each token to the argument after it.
fn bind(items: Vec<Item>) -> Vec<Argument> {
    let mut arguments = Vec::with_capacity(items.len());
    let mut waiting: Option<&'static str> = None;
    for item in items {
        if let Some(token) = waiting.take() {
            if takes_token(&item) {
                arguments.push(Argument { token: Some(token), ..settled(item) });
                continue;
            }
            arguments.push(settled(Item::Token(token)));
        }
        match item {
            Item::Token(token) => waiting = Some(token),
            Item::Argument(argument) => arguments.push(argument),
        }
    }
    arguments.extend(waiting.map(|token| settled(Item::Token(token))));
    arguments
}

/// The items of a group or alternative as one argument: the only one there is, or a block.
fn together(mut items: Vec<Item>, name: Option<&'static str>) -> Argument {
    let mut token = None;
    if let [Item::Token(leading), second, ..] = &items[..]
        && takes_token(second)
    {
        token = Some(*leading);
        items.remove(0);
    }
    let mut parts = bind(items);
    if parts.len() == 1
        && name.is_none()
        && let Some(mut only) = parts.pop()
    {
        only.token = token.or(only.token);
        return only;
    }
    let name = name.map_or_else(|| joined(&parts), Cow::Borrowed);
    Argument { token, ..Argument::new(name, Kind::Block(parts)) }
}

fn joined(parts: &[Argument]) -> Cow<'static, str> {
    Cow::Owned(parts.iter().map(|part| &*part.name).collect::<Vec<_>>().join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(usage: &'static str) -> Usage {
        Usage::parse(usage).unwrap()
    }

    /// One argument in a compact form: token~name:kind(parts)flags.
    fn shown(argument: &Argument) -> String {
        let token = argument.token.map_or(String::new(), |token| format!("{token}~"));
        let parts = argument.kind.parts().iter().map(shown).collect::<Vec<_>>().join(" ");
        let parts = if parts.is_empty() { parts } else { format!("({parts})") };
        let flags = [(argument.optional, "?"), (argument.multiple, "*"), (argument.multiple_token, "t")];
        let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect();
        format!("{token}{}:{}{parts}{flags}", argument.name, argument.kind.name())
    }

    fn tree(usage: &'static str) -> String {
        parse(usage).arguments.iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn trees() {
        for (usage, expected) in [
            ("GET key", "key:string"),
            ("CONFIG GET parameter=<parameter>...", "parameter:block(parameter:string)*"),
            ("MSET <key value>...", "key_value:block(key:string value:string)*"),
            (
                "S k [condition=<NX | XX>] [GET] [expiration=<EX seconds:int | EXAT at:time | KEEPTTL>]",
                "k:string condition:oneof(NX~nx:pure-token XX~xx:pure-token)? GET~get:pure-token? \
                 expiration:oneof(EX~seconds:integer EXAT~at:unix-time KEEPTTL~keepttl:pure-token)?",
            ),
            ("Z [LIMIT offset:int count:int]", "LIMIT~offset_count:block(offset:integer count:integer)?"),
            (
                "Z [WEIGHTS weight:int...] [AGGREGATE aggregate=<SUM | MIN>]",
                "WEIGHTS~weight:integer?* AGGREGATE~aggregate:oneof(SUM~sum:pure-token MIN~min:pure-token)?",
            ),
            (
                "S [GET pattern:pattern]... [sorting=ALPHA]",
                "GET~pattern:pattern?*t ALPHA~sorting:pure-token?",
            ),
            ("C I [ID id=<client-id:int...>]", "ID~id:block(client-id:integer*)?"),
            (
                "R O <h p:int | NO ONE>",
                "h_p_no_one:oneof(h_p:block(h:string p:integer) no_one:block(NO~no:pure-token ONE~one:pure-token))",
            ),
            ("X STREAMS streams=<key... id...>", "streams:block(key:string* id:string*)"),
            (
                "X [A] STREAMS streams=<key... id...>",
                "A~a:pure-token? STREAMS~streams:block(key:string* id:string*)",
            ),
            ("C K <ip:port | ADDR ip:port>", "ip:port_ip:port:oneof(ip:port:string ADDR~ip:port:string)"),
            ("G [count=<<COUNT count:int> [ANY]>]", "count:block(COUNT~count:integer ANY~any:pure-token?)?"),
            ("X A <= | ~> n", "=_~:oneof(=~=:pure-token ~~~:pure-token) n:string"),
        ] {
            assert_eq!(tree(usage), expected, "{usage}");
        }
    }

    #[test]
    fn refusals() {
        for usage in [
            "",
            "get key",
            "GET [key",
            "GET key]",
            "GET <key]",
            "GET ...",
            "GET a | b",
            "GET <>",
            "GET <a | >",
            "GET a=b",
            "GET [[[[[[[[[[a]]]]]]]]]]",
        ] {
            assert!(Usage::parse(usage).is_err(), "{usage}");
        }
    }

    #[test]
    fn no_line_makes_the_parser_panic() {
        const WORDS: [&str; 12] =
            ["key", "n:int", "TOKEN", "<", ">", "[", "]", "|", "...", "name=", "x=Y", "="];
        let mut state = 1u64;
        let mut parsed = 0;
        for round in 0..5_000 {
            let mut line = String::from("NAME");
            for _ in 0..=round % 8 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                line.push_str(if state >> 63 == 0 { " " } else { "" });
                line.push_str(WORDS[(state >> 33) as usize % WORDS.len()]);
            }
            if let Ok(usage) = Usage::parse(line.leak()) {
                parsed += 1;
                usage.key_position("key");
                assert!(usage.arity().unsigned_abs() <= 10, "{usage:?}");
            }
        }
        assert!(parsed > 100, "{parsed} lines were valid");
    }
}
