//! The text of a `.test` file: its steps, and its lines to be rewritten.
//!
//! Reads and prints scripts; `runner.rs` runs them. `README.md` shows the format.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::client::Protocol;
use crate::notation::{Expected, ParseError};
use crate::words;

/// A script, read.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// The file, for messages.
    pub path: PathBuf,
    /// What its header says.
    pub header: Header,
    /// What to do, in order.
    pub steps: Vec<Step>,
    lines: Vec<String>,
}

/// Where and how a script may run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// `@not-resp2`
    pub not_resp2: bool,
    /// `@not-resp3`
    pub not_resp3: bool,
    /// `@not-multi`: no command is wrapped into MULTI and EXEC.
    pub not_multi: bool,
    /// `@not-lua`: no command is called from Lua.
    pub not_lua: bool,
    /// `@mortise-only why`: the reference does not run it.
    pub mortise_only: bool,
    /// `@needs-config`: changes the configuration, which is put back afterwards.
    pub needs_config: bool,
    /// `@also directive value`: runs once more with this set by CONFIG SET, and put back afterwards.
    pub also: Vec<(String, String)>,
    /// `@server directive value`: runs on a server of its own with this configuration.
    pub server: Vec<String>,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its line, counted from 1.
    pub line: usize,
    /// The connection; the unnamed one is "".
    pub connection: String,
    /// What is done.
    pub action: Action,
    /// What the lines before it say.
    pub marks: Marks,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// `> COMMAND argument`; no expectation if it is told to wait.
    Call(Vec<Vec<u8>>, Option<Expectation>),
    /// `>> "bytes"`: sent as they are.
    Raw(Vec<u8>, Expectation),
    /// `A...`: the call has no reply yet, and the server says so.
    Waits,
    /// `A< reply`: the next that arrives.
    Receives(Expectation),
    /// `A! close`
    Close,
    /// `---`: all connections closed and all data gone, as at the start of a file.
    Reset,
}

/// `@…` lines directly before a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Marks {
    /// `@not-multi`
    pub not_multi: bool,
    /// `@not-lua`
    pub not_lua: bool,
    /// `@resp2-only` or `@resp3-only`
    pub only: Option<Protocol>,
    /// `@differs name`: a row of `differences.md`.
    pub differs: Option<String>,
    /// `@eventually`: asked again until the reply is the expected one.
    pub eventually: bool,
    /// `@after 20`: milliseconds to wait before.
    pub after_ms: u64,
}

/// What a step expects, and on which lines it says so.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    /// Indices of the lines; empty if nothing is written yet.
    pub lines: Range<usize>,
    /// On RESP2.
    pub resp2: Option<Awaited>,
    /// On RESP3.
    pub resp3: Option<Awaited>,
}

/// What may come.
#[derive(Clone, Debug, PartialEq)]
pub enum Awaited {
    /// A reply or push.
    Reply(Expected),
    /// `silence`: nothing.
    Silence,
    /// `closed`: the end of the connection.
    Closed,
}

impl Script {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Script, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Script::parse(path, &text)
    }

    /// Reads a text; `path` is for messages. Errors name the line.
    pub fn parse(path: &Path, text: &str) -> Result<Script, String> {
        let lines: Vec<String> = text.lines().map(|line| line.trim_end().to_string()).collect();
        let trimmed: Vec<&str> = lines.iter().map(|line| line.trim_start()).collect();
        let mut parser = Parser { lines: &trimmed, at: 0 };
        let (header, steps) = parser
            .script()
            .map_err(|error| format!("{}:{}: {error}", path.display(), parser.at.min(lines.len()) + 1))?;
        Ok(Script { path: path.to_path_buf(), header, steps, lines })
    }

    /// The text with some expectations replaced.
    pub fn rewritten(&self, changes: &[(Range<usize>, String)]) -> String {
        let mut lines: Vec<Option<String>> = self.lines.iter().cloned().map(Some).collect();
        let mut inserted: Vec<Vec<&str>> = vec![Vec::new(); lines.len() + 1];
        for (range, text) in changes {
            lines[range.clone()].fill(None);
            inserted[range.start].extend(text.lines());
        }
        let mut out = String::new();
        for (index, new) in inserted.iter().enumerate() {
            let kept = lines.get(index).and_then(Option::as_deref);
            new.iter().copied().chain(kept).for_each(|line| out.extend([line, "\n"]));
        }
        out
    }
}

impl Expectation {
    /// What is expected on a protocol.
    pub fn on(&self, protocol: Protocol) -> Option<&Awaited> {
        match protocol {
            Protocol::Resp2 => self.resp2.as_ref(),
            Protocol::Resp3 => self.resp3.as_ref(),
        }
    }
}

struct Parser<'a> {
    lines: &'a [&'a str],
    at: usize,
}

impl Parser<'_> {
    fn script(&mut self) -> Result<(Header, Vec<Step>), String> {
        let mut header = Header::default();
        let mut steps = Vec::new();
        let mut pending: Vec<String> = Vec::new();
        while let Some(&line) = self.lines.get(self.at) {
            if let Some(mark) = line.strip_prefix('@') {
                pending.push(mark.to_string());
                self.at += 1;
            } else if line.is_empty() || line.starts_with('#') {
                // Marks that no step follows directly are the file's.
                for mark in pending.drain(..) {
                    if !steps.is_empty() {
                        return Err(format!("@{mark} stands before no step"));
                    }
                    header.read(&mark)?;
                }
                self.at += 1;
            } else {
                let mut marks = Marks::default();
                pending.drain(..).try_for_each(|mark| marks.read(&mark))?;
                steps.push(self.step(marks)?);
            }
        }
        if !pending.is_empty() {
            return Err("the file ends with a mark".to_string());
        }
        Ok((header, steps))
    }

    fn step(&mut self, marks: Marks) -> Result<Step, String> {
        let line = self.lines[self.at];
        let number = self.at + 1;
        let (connection, rest) = opening(line).ok_or_else(|| format!("neither step nor comment: {line}"))?;
        let action = if rest == "---" {
            self.at += 1;
            Action::Reset
        } else if rest == "..." {
            self.at += 1;
            Action::Waits
        } else if rest == "! close" {
            self.at += 1;
            Action::Close
        } else if let Some(expected) = rest.strip_prefix('<') {
            Action::Receives(self.expectation(Some(expected))?)
        } else if let Some(bytes) = rest.strip_prefix(">> ") {
            self.at += 1;
            Action::Raw(words::split(bytes)?.concat(), self.expectation(None)?)
        } else {
            let arguments = words::split(&rest[1..])?;
            if arguments.is_empty() {
                return Err("a command is missing".to_string());
            }
            self.at += 1;
            let waits = format!("{connection}...");
            let next = self.lines[self.at..].iter().find(|line| !line.is_empty() && !line.starts_with('#'));
            if next.copied() == Some(&waits) {
                Action::Call(arguments, None)
            } else {
                Action::Call(arguments, Some(self.expectation(None)?))
            }
        };
        Ok(Step { line: number, connection: connection.to_string(), action, marks })
    }

    /// Reads what is expected: the rest of the step's line, or the lines that follow it.
    fn expectation(&mut self, same_line: Option<&str>) -> Result<Expectation, String> {
        let start = self.at;
        if let Some(text) = same_line {
            if let Some(text) = text.trim_start().strip_prefix("resp2:") {
                let resp2 = Some(self.awaited(text)?);
                let other = self.lines.get(self.at).and_then(|line| line.strip_prefix("resp3:"));
                let text = other.ok_or("what arrives on RESP3 stands on a line of its own behind")?;
                let resp3 = Some(self.awaited(text)?);
                return Ok(Expectation { lines: start..self.at, resp2, resp3 });
            }
            let awaited = if text.trim().is_empty() { None } else { Some(self.awaited(text)?) };
            self.at = self.at.max(start + 1);
            return Ok(Expectation { lines: start..self.at, resp2: awaited.clone(), resp3: awaited });
        }
        let mut expectation = Expectation::default();
        while let Some(&line) = self.lines.get(self.at).filter(|line| is_expectation(line)) {
            if let Some(text) = line.strip_prefix("resp2:") {
                expectation.resp2 = Some(self.awaited(text)?);
            } else if let Some(text) = line.strip_prefix("resp3:") {
                expectation.resp3 = Some(self.awaited(text)?);
            } else if self.at == start {
                let awaited = self.awaited(line)?;
                expectation.resp2 = Some(awaited.clone());
                expectation.resp3 = Some(awaited);
                break;
            } else {
                return Err(format!("one expectation is enough: {line}"));
            }
        }
        expectation.lines = start..self.at;
        Ok(expectation)
    }

    /// Reads a reply that begins with `text` on the current line and ends where its brackets are closed.
    fn awaited(&mut self, text: &str) -> Result<Awaited, String> {
        let mut text = text.trim().to_string();
        loop {
            let awaited = match text.as_str() {
                "silence" => Ok(Awaited::Silence),
                "closed" => Ok(Awaited::Closed),
                _ => Expected::parse(&text).map(Awaited::Reply),
            };
            match awaited {
                Ok(awaited) => {
                    self.at += 1;
                    return Ok(awaited);
                }
                Err(ParseError::Invalid(what)) => return Err(what),
                Err(ParseError::Unfinished) => {
                    let next = self.lines.get(self.at + 1).ok_or("the file ends inside a reply")?;
                    text.push(' ');
                    text.push_str(next);
                    self.at += 1;
                }
            }
        }
    }
}

/// The connection's name and the rest, if a step begins here.
fn opening(line: &str) -> Option<(&str, &str)> {
    let end = line.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let begins = match rest {
        "---" => name.is_empty(),
        "..." | "! close" => !name.is_empty(),
        _ => rest == "<" || ["< ", "> ", ">> "].iter().any(|sign| rest.starts_with(sign)),
    };
    (begins && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, rest))
}

fn is_expectation(line: &str) -> bool {
    !(line.is_empty()
        || line.starts_with("# ")
        || line == "#"
        || line.starts_with('@')
        || opening(line).is_some())
}

impl Header {
    fn read(&mut self, mark: &str) -> Result<(), String> {
        let (name, value) = mark.split_once(' ').unwrap_or((mark, ""));
        match name {
            "not-resp2" => self.not_resp2 = true,
            "not-resp3" => self.not_resp3 = true,
            "not-multi" => self.not_multi = true,
            "not-lua" => self.not_lua = true,
            "mortise-only" if value.is_empty() => return Err("@mortise-only needs a reason".to_string()),
            "mortise-only" => self.mortise_only = true,
            "needs-config" => self.needs_config = true,
            "also" => match value.split_once(' ') {
                Some((directive, value)) => self.also.push((directive.to_string(), value.to_string())),
                None => return Err("@also needs a directive and its value".to_string()),
            },
            "server" if value.is_empty() => return Err("@server needs a directive".to_string()),
            "server" => self.server.push(value.to_string()),
            _ => return Err(format!("unknown flag @{mark} (a mark stands directly before its step)")),
        }
        Ok(())
    }
}

impl Marks {
    fn read(&mut self, mark: &str) -> Result<(), String> {
        let (name, value) = mark.split_once(' ').unwrap_or((mark, ""));
        match name {
            "not-multi" => self.not_multi = true,
            "not-lua" => self.not_lua = true,
            "resp2-only" => self.only = Some(Protocol::Resp2),
            "resp3-only" => self.only = Some(Protocol::Resp3),
            "eventually" => self.eventually = true,
            "differs" if value.is_empty() => return Err("@differs needs a row's name".to_string()),
            "differs" => self.differs = Some(value.to_string()),
            "after" => self.after_ms = value.parse().map_err(|_| "@after needs milliseconds".to_string())?,
            _ => return Err(format!("unknown mark @{mark} (a file's flags are followed by an empty line)")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Awaited, Script};
    use crate::client::Protocol;
    use std::path::Path;

    fn parse(text: &str) -> Result<Script, String> {
        Script::parse(Path::new("x.test"), text)
    }

    #[test]
    fn a_file_is_read() {
        let script = parse(
            "# x.test\n@not-multi because\n@server databases 2\n\n> SET k \"a b\"\n+OK\n\n@after 5\n@resp3-only\n\
             A> BZPOPMIN k 0\nA...\nB> ZADD k 1 a\n:1\nA< [k a\n  ,1]\n---\n>> \"PING\\r\\n\"\n+PONG\n\
             > HELLO\nresp2: [a\n  b]\nresp3: {a: b}\nA! close\nA< closed\nB< resp2: [a\n  b]\nresp3: {a: b}\n",
        )
        .unwrap();
        assert!(script.header.not_multi && script.header.server == ["databases 2"]);
        let kinds: Vec<_> = script.steps.iter().map(|step| (step.line, step.connection.as_str())).collect();
        assert_eq!(
            kinds,
            [
                (5, ""),
                (10, "A"),
                (11, "A"),
                (12, "B"),
                (14, "A"),
                (16, ""),
                (17, ""),
                (19, ""),
                (23, "A"),
                (24, "A"),
                (25, "B")
            ]
        );
        assert_eq!((script.steps[1].marks.after_ms, script.steps[1].marks.only), (5, Some(Protocol::Resp3)));
        assert!(matches!(&script.steps[1].action, Action::Call(_, None)));
        assert!(matches!(&script.steps[4].action, Action::Receives(expected) if expected.lines == (13..15)));
        assert!(matches!(&script.steps[6].action, Action::Raw(bytes, _) if bytes == b"PING\r\n"));
        assert!(
            matches!(&script.steps[7].action, Action::Call(_, Some(e)) if e.lines == (19..22) && e.resp2 != e.resp3)
        );
        assert!(matches!(&script.steps[9].action, Action::Receives(e) if e.resp2 == Some(Awaited::Closed)));
        assert!(
            matches!(&script.steps[10].action, Action::Receives(e) if e.lines == (24..27) && e.resp2 != e.resp3)
        );
    }

    #[test]
    fn broken_files_name_the_line() {
        for (text, line) in [
            ("+OK\n", 1),
            ("> GET k\n[a\n", 2),
            ("> GET k\nword\n", 2),
            ("> GET k\nnil\nnil\n", 3),
            ("@unknown\n\n", 2),
            ("> PING\n+PONG\n@not-multi\n\n", 4),
            ("@mortise-only\n\n", 2),
            ("> GET \"k\n", 1),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.starts_with(&format!("x.test:{line}:")) || line > text.lines().count(),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn expectations_are_replaced_in_place() {
        let text = "# c\n> A\n:1\n\n> B\n> C\n[a\n    b]\nX< :1\n";
        let script = parse(text).unwrap();
        assert_eq!(script.rewritten(&[]), text);
        let range = |step: usize| match &script.steps[step].action {
            Action::Call(_, Some(expected)) | Action::Receives(expected) => expected.lines.clone(),
            other => panic!("{other:?}"),
        };
        let changes = [
            (range(0), ":2".to_string()),
            (range(1), "nil".to_string()),
            (range(2), "[\n    c\n]".to_string()),
            (range(3), "X< :3".to_string()),
        ];
        let expected = "# c\n> A\n:2\n\n> B\nnil\n> C\n[\n    c\n]\nX< :3\n";
        assert_eq!(script.rewritten(&changes), expected);
    }
}
