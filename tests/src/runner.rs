//! Runs scripts against a server and compares what it answers.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{mem, thread};

use crate::client::{Client, Protocol};
use crate::differences::Differences;
use crate::notation::Expected;
use crate::reply::Reply;
use crate::script::{Action, Awaited, Expectation, Script, Step};
use crate::server::Server;
use crate::shadow::Shadowed;
use crate::words;

/// How a script is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As written, on RESP2.
    Resp2,
    /// As written, on RESP3.
    Resp3,
    /// Each command between MULTI and EXEC, where that changes nothing; on RESP2.
    Multi,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Resp2, Mode::Resp3, Mode::Multi];

    /// Which protocol the connections speak.
    pub fn protocol(self) -> Protocol {
        match self {
            Mode::Resp2 | Mode::Multi => Protocol::Resp2,
            Mode::Resp3 => Protocol::Resp3,
        }
    }
}

/// Commands that MULTI refuses, or that say something about the connection that queues them.
const NEVER_IN_MULTI: &[&str] = &[
    "auth",
    "client",
    "discard",
    "exec",
    "hello",
    "monitor",
    "multi",
    "psubscribe",
    "psync",
    "punsubscribe",
    "quit",
    "reset",
    "shutdown",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "sync",
    "unsubscribe",
    "unwatch",
    "watch",
];

/// How long `@eventually`, `A...` and closing wait for the server.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long nothing must arrive where `silence` is expected.
const SILENCE: Duration = Duration::from_millis(30);

/// A failed run says no more than this: what follows is mostly a consequence.
const FAILURES_MAX: usize = 8;

/// One step that went otherwise than written.
#[derive(Debug)]
pub struct Failure {
    /// The script's file.
    pub path: PathBuf,
    /// The step's line.
    pub line: usize,
    /// How it was run.
    pub mode: Mode,
    /// The step as written.
    pub step: String,
    /// What was written.
    pub expected: String,
    /// What came.
    pub got: String,
}

impl Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { path, line, mode, step, expected, got } = self;
        let indent = |text: &str| text.replace('\n', "\n            ");
        writeln!(out, "{}:{line}: on {mode:?}: {step}", path.display())?;
        writeln!(out, "  expected: {}", indent(expected))?;
        write!(out, "       got: {}", indent(got))
    }
}

/// What arrived for a step.
#[derive(Clone, Debug)]
pub enum Observed {
    /// A reply or push, and what the connection spoke.
    Reply(Reply, Protocol),
    /// Nothing, where nothing was expected.
    Silence,
    /// The end of the connection.
    Closed,
}

/// One run of a script.
#[derive(Debug)]
pub struct Outcome {
    /// What differed.
    pub failures: Vec<Failure>,
    /// What arrived, by step.
    pub observed: Vec<Option<Observed>>,
    /// Whether the run ended early, because a reply did not come.
    pub broken: bool,
}

/// A connection to a server under test, beside those that the scripts open.
#[derive(Debug)]
pub struct Runner<'a> {
    address: SocketAddr,
    control: Client,
    is_mortise: bool,
    differences: &'a Differences,
    /// A run ends after so many failures.
    pub failures_max: usize,
    /// Whose data is watched, if it is the server's in this process.
    pub watched: Option<&'a Shadowed>,
}

impl<'a> Runner<'a> {
    /// Connects to a server, and asks what it is.
    pub fn connect(address: SocketAddr, differences: &'a Differences) -> io::Result<Runner<'a>> {
        let mut control = Client::connect(address)?;
        let info = control.call(&["INFO", "server"])?;
        // Whoever says that it is Redis and nothing else is the reference.
        let is_reference = matches!(&info, Reply::Bulk(text)
            if contains(text, b"redis_version") && !contains(text, b"mortise_version"));
        Ok(Runner {
            address,
            control,
            is_mortise: !is_reference,
            differences,
            failures_max: FAILURES_MAX,
            watched: None,
        })
    }

    /// Whether a script is meant for this server and mode.
    pub fn accepts(&self, script: &Script, mode: Mode) -> bool {
        let header = &script.header;
        (self.is_mortise || !header.mortise_only)
            && match mode {
                Mode::Resp2 => !header.not_resp2,
                Mode::Resp3 => !header.not_resp3,
                Mode::Multi => !header.not_multi && !header.not_resp2,
            }
    }

    /// Runs a script on an empty server.
    pub fn run(&mut self, script: &Script, mode: Mode) -> io::Result<Outcome> {
        let config = if script.header.needs_config { Some(self.config()?) } else { None };
        // A script that failed half way may have left a pause behind.
        self.control.call(&["CLIENT", "UNPAUSE"])?;
        self.control.call(&["FLUSHALL"])?;
        let mut run = Run { runner: self, script, mode, connections: HashMap::new(), ids: Vec::new() };
        let outcome = run.all_steps();
        run.close_all()?;
        if let Some(before) = config {
            self.restore(&before)?;
        }
        Ok(outcome)
    }

    /// Runs `what` with some directives set otherwise.
    pub fn with_config<T>(
        &mut self,
        directives: &[(String, String)],
        what: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        let before = self.config()?;
        for (name, value) in directives {
            let reply = self.control.call(&["CONFIG", "SET", name, value])?;
            if reply != Reply::Simple(b"OK".to_vec()) {
                return Err(io::Error::other(format!("CONFIG SET {name}: {}", Expected::of(&reply))));
            }
        }
        let done = what(self);
        self.restore(&before)?;
        done
    }

    fn restore(&mut self, before: &BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<()> {
        let after = self.config()?;
        for (name, value) in before.iter().filter(|(name, value)| after.get(*name) != Some(*value)) {
            self.control.call(&[&b"CONFIG"[..], b"SET", name, value])?;
        }
        Ok(())
    }

    fn config(&mut self) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let Reply::Array(items) = self.control.call(&["CONFIG", "GET", "*"])? else {
            return Ok(BTreeMap::new());
        };
        let pairs = items.chunks(2).filter_map(|pair| match pair {
            [Reply::Bulk(name), Reply::Bulk(value)] => Some((name.clone(), value.clone())),
            _ => None,
        });
        Ok(pairs.collect())
    }

    /// The line that CLIENT LIST has about a connection.
    fn client_line(&mut self, id: i64) -> io::Result<Option<String>> {
        let Reply::Bulk(list) = self.control.call(&["CLIENT", "LIST"])? else { return Ok(None) };
        let prefix = format!("id={id} ");
        Ok(String::from_utf8_lossy(&list).lines().find(|line| line.starts_with(&prefix)).map(str::to_string))
    }
}

/// Runs a piece of a script against a server, on RESP2, and leaves the data as it is; panics with what differs.
pub fn check(server: &Server, text: &str) {
    let script = Script::parse(Path::new("check"), text).unwrap_or_else(|error| panic!("{error}"));
    let differences = Differences::default();
    let mut runner =
        Runner::connect(server.address(), &differences).unwrap_or_else(|error| panic!("{error}"));
    let mut run = Run {
        runner: &mut runner,
        script: &script,
        mode: Mode::Resp2,
        connections: HashMap::new(),
        ids: Vec::new(),
    };
    let outcome = run.all_steps();
    let failures: Vec<String> = outcome.failures.iter().map(Failure::to_string).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What was expected and what came, as text.
type Mismatch = (String, String);

/// What arrived for a step, and whether it is wrong.
type Done = (Option<Observed>, Option<Mismatch>);

struct Connection {
    client: Client,
    id: Option<i64>,
    in_transaction: bool,
    /// RESET and HELLO change it.
    protocol: Protocol,
}

struct Run<'a, 'd> {
    runner: &'a mut Runner<'d>,
    script: &'a Script,
    mode: Mode,
    connections: HashMap<String, Connection>,
    /// Of all connections there ever were.
    ids: Vec<i64>,
}

impl Run<'_, '_> {
    fn all_steps(&mut self) -> Outcome {
        let observed = vec![None; self.script.steps.len()];
        let mut outcome = Outcome { failures: Vec::new(), observed, broken: false };
        for (index, step) in self.script.steps.iter().enumerate() {
            if step.marks.only.is_some_and(|only| only != self.mode.protocol()) {
                continue;
            }
            thread::sleep(Duration::from_millis(step.marks.after_ms));
            let failed = match self.step(step) {
                Ok((observed, failed)) => {
                    outcome.observed[index] = observed;
                    failed
                }
                // What follows would only wait for what does not come.
                Err(error) => {
                    outcome.failures.push(self.failure(step, "a reply".into(), error.to_string()));
                    outcome.broken = true;
                    break;
                }
            };
            if let Some((expected, got)) = failed {
                outcome.failures.push(self.failure(step, expected, got));
            }
            if let Some(seen) = self.runner.watched.and_then(Shadowed::unannounced) {
                outcome.failures.push(self.failure(step, "no change but what is announced".into(), seen));
            }
            if outcome.failures.len() == self.runner.failures_max {
                break;
            }
        }
        outcome
    }

    fn failure(&self, step: &Step, expected: String, got: String) -> Failure {
        let (path, mode) = (self.script.path.clone(), self.mode);
        Failure { path, line: step.line, mode, step: describe(step), expected, got }
    }

    /// Does a step; returns what arrived and, if it is wrong, both sides as text.
    fn step(&mut self, step: &Step) -> io::Result<Done> {
        match &step.action {
            Action::Reset => {
                self.close_all()?;
                self.runner.control.call(&["FLUSHALL"])?;
                Ok((None, None))
            }
            Action::Close => {
                if let Some(connection) = self.connections.remove(&step.connection) {
                    let id = connection.id;
                    drop(connection);
                    self.wait_until_gone(id)?;
                }
                Ok((None, None))
            }
            Action::Waits => {
                let waits = self.waits(&step.connection)?;
                Ok((None, (!waits).then(|| ("a call that waits".into(), "it does not".into()))))
            }
            Action::Call(arguments, None) => {
                self.connection(&step.connection)?.client.send(arguments)?;
                Ok((None, None))
            }
            Action::Call(arguments, Some(expectation)) => {
                let deadline = Instant::now() + PATIENCE;
                loop {
                    let awaited = self.awaited(step, expectation);
                    let observed = self.call(step, arguments, awaited.as_ref())?;
                    let failed = compare(awaited.as_ref(), &observed);
                    if failed.is_none() || !step.marks.eventually || Instant::now() > deadline {
                        return Ok((Some(observed), failed));
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            }
            Action::Raw(bytes, expectation) => {
                self.connection(&step.connection)?.client.send_raw(bytes)?;
                self.receive(step, expectation)
            }
            Action::Receives(expectation) => self.receive(step, expectation),
        }
    }

    fn receive(&mut self, step: &Step, expectation: &Expectation) -> io::Result<Done> {
        let awaited = self.awaited(step, expectation);
        let observed = observe(self.connection(&step.connection)?, awaited.as_ref())?;
        let failed = compare(awaited.as_ref(), &observed);
        Ok((Some(observed), failed))
    }

    /// What this server shall answer: what is written, or what the table of differences says of the reference.
    fn awaited(&self, step: &Step, expectation: &Expectation) -> Option<Awaited> {
        if let Some(name) = &step.marks.differs
            && !self.runner.is_mortise
        {
            let row = self.runner.differences.get(name);
            return Some(Awaited::Reply(row.and_then(|row| row.redis.clone()).unwrap_or(Expected::Any)));
        }
        expectation.on(self.mode.protocol()).cloned()
    }

    fn call(
        &mut self,
        step: &Step,
        arguments: &[Vec<u8>],
        awaited: Option<&Awaited>,
    ) -> io::Result<Observed> {
        let name = String::from_utf8_lossy(&arguments[0]).to_ascii_lowercase();
        let arguments = self.with_ids(arguments);
        let mode = self.mode;
        let connection = self.connection(&step.connection)?;
        let wrap = mode == Mode::Multi
            && !step.marks.not_multi
            && !connection.in_transaction
            && !NEVER_IN_MULTI.contains(&name.as_str());
        if wrap {
            let reply = call_in_multi(&mut connection.client, &arguments)?;
            return Ok(Observed::Reply(reply, connection.protocol));
        }
        connection.client.send(&arguments)?;
        let mut observed = observe(connection, awaited)?;
        match name.as_str() {
            "multi" => connection.in_transaction = true,
            "exec" | "discard" => connection.in_transaction = false,
            "reset" => (connection.in_transaction, connection.protocol) = (false, Protocol::Resp2),
            // Its reply is the first in the new protocol.
            "hello" => {
                if let Observed::Reply(reply, protocol) = &mut observed
                    && !matches!(reply, Reply::Error(_))
                {
                    match arguments.get(1).map(Vec::as_slice) {
                        Some(b"2") => connection.protocol = Protocol::Resp2,
                        Some(b"3") => connection.protocol = Protocol::Resp3,
                        _ => {}
                    }
                    *protocol = connection.protocol;
                }
            }
            _ => {}
        }
        Ok(observed)
    }

    /// The arguments, with `$A.id` replaced by the number that the server gave to connection A.
    fn with_ids(&self, arguments: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let id = |argument: &[u8]| {
            let name = argument.strip_prefix(b"$")?.strip_suffix(b".id")?;
            let connection = self.connections.get(std::str::from_utf8(name).ok()?)?;
            connection.id.map(|id| id.to_string().into_bytes())
        };
        arguments.iter().map(|argument| id(argument).unwrap_or_else(|| argument.clone())).collect()
    }

    fn connection(&mut self, name: &str) -> io::Result<&mut Connection> {
        if !self.connections.contains_key(name) {
            let mut client = Client::connect(self.runner.address)?;
            let id = match client.call(&["CLIENT", "ID"])? {
                Reply::Integer(id) => Some(id),
                _ => None,
            };
            let protocol = self.mode.protocol();
            if protocol == Protocol::Resp3 {
                client.call(&["HELLO", "3"])?;
            }
            self.ids.extend(id);
            self.connections
                .insert(name.to_string(), Connection { client, id, in_transaction: false, protocol });
        }
        Ok(self.connections.get_mut(name).expect("inserted above"))
    }

    /// Whether a connection's call waits: the server says that it is blocked, and no reply has come.
    fn waits(&mut self, name: &str) -> io::Result<bool> {
        let Some(id) = self.connections.get(name).and_then(|connection| connection.id) else {
            return Ok(false);
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.runner.client_line(id)?.unwrap_or_default();
            let flags = line.split(' ').find_map(|field| field.strip_prefix("flags=")).unwrap_or_default();
            if flags.contains('b') {
                return self.connection(name)?.client.is_silent(Duration::from_millis(1));
            }
            let answered = !self.connection(name)?.client.is_silent(Duration::from_millis(1))?;
            if answered || Instant::now() > deadline {
                return Ok(false);
            }
        }
    }

    /// Ends all connections, and waits until the server has noticed: the next file shall not see them.
    fn close_all(&mut self) -> io::Result<()> {
        drop(mem::take(&mut self.connections));
        for id in mem::take(&mut self.ids) {
            self.wait_until_gone(Some(id))?;
        }
        Ok(())
    }

    fn wait_until_gone(&mut self, id: Option<i64>) -> io::Result<()> {
        let Some(id) = id else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        while self.runner.client_line(id)?.is_some() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// What is wrong with what arrived, if anything is.
fn compare(awaited: Option<&Awaited>, observed: &Observed) -> Option<Mismatch> {
    let right = match (awaited, observed) {
        (Some(Awaited::Reply(expected)), Observed::Reply(reply, protocol)) => {
            expected.matches(reply, *protocol)
        }
        (Some(Awaited::Silence), Observed::Silence) | (Some(Awaited::Closed), Observed::Closed) => true,
        _ => false,
    };
    let expected = awaited.map_or("nothing is written (UPDATE=1 writes it)".to_string(), Awaited::to_string);
    (!right).then(|| (expected, observed.to_string()))
}

fn observe(connection: &mut Connection, awaited: Option<&Awaited>) -> io::Result<Observed> {
    if awaited == Some(&Awaited::Silence) && connection.client.is_silent(SILENCE)? {
        return Ok(Observed::Silence);
    }
    match connection.client.receive() {
        Ok(reply) => Ok(Observed::Reply(reply, connection.protocol)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Observed::Closed),
        Err(error) => Err(error),
    }
}

/// The reply that a command has inside a transaction of its own.
fn call_in_multi(client: &mut Client, arguments: &[Vec<u8>]) -> io::Result<Reply> {
    let begun = client.call(&["MULTI"])?;
    if begun != Reply::Simple(b"OK".to_vec()) {
        return Ok(begun);
    }
    let queued = client.call(arguments)?;
    let executed = client.call(&["EXEC"])?;
    Ok(match (queued, executed) {
        (Reply::Simple(text), Reply::Array(mut replies)) if text == b"QUEUED" && replies.len() == 1 => {
            replies.pop().expect("one reply")
        }
        // Refused when queued: the same error as without MULTI, and the transaction is lost.
        (Reply::Error(text), Reply::Error(abort)) if abort.starts_with(b"EXECABORT") => Reply::Error(text),
        (_, executed) => executed,
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn describe(step: &Step) -> String {
    let name = &step.connection;
    match &step.action {
        Action::Call(arguments, _) => {
            let bare = |word: &[u8]| !word.is_empty() && word.iter().all(|byte| byte.is_ascii_graphic());
            let quoted = arguments.iter().map(|word| match std::str::from_utf8(word) {
                Ok(text) if bare(word) => text.to_string(),
                _ => words::quote(word),
            });
            format!("{name}> {}", quoted.collect::<Vec<_>>().join(" "))
        }
        Action::Raw(bytes, _) => format!("{name}>> {}", words::quote(bytes)),
        Action::Waits => format!("{name}..."),
        Action::Receives(_) => format!("{name}<"),
        Action::Close => format!("{name}! close"),
        Action::Reset => "---".to_string(),
    }
}

impl Display for Awaited {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Awaited::Reply(expected) => expected.fmt(out),
            Awaited::Silence => out.write_str("silence"),
            Awaited::Closed => out.write_str("closed"),
        }
    }
}

impl Display for Observed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Observed::Reply(reply, _) => Expected::of(reply).fmt(out),
            Observed::Silence => out.write_str("silence"),
            Observed::Closed => out.write_str("closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::path::Path;
    use std::thread;

    use super::{Mode, Runner};
    use crate::differences::Differences;
    use crate::reply::Reply;
    use crate::script::Script;

    /// A server that knows three commands, and answers OK to all others.
    fn simple_server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut requests = BufReader::new(stream.try_clone().unwrap());
                    while let Ok(Reply::Array(words)) = Reply::read(&mut requests) {
                        let reply = match &words[0] {
                            Reply::Bulk(word) if word == b"ONE" => &b":1\r\n"[..],
                            Reply::Bulk(word) if word == b"NOTHING" => b"",
                            Reply::Bulk(word) if word == b"TWICE" => b"+a\r\n+b\r\n",
                            _ => b"+OK\r\n",
                        };
                        stream.write_all(reply).unwrap();
                    }
                });
            }
        });
        address
    }

    fn failures(text: &str) -> Vec<usize> {
        let differences = Differences::default();
        let mut runner = Runner::connect(simple_server(), &differences).unwrap();
        let script = Script::parse(Path::new("x.test"), text).unwrap();
        let outcome = runner.run(&script, Mode::Resp2).unwrap();
        outcome.failures.iter().map(|failure| failure.line).collect()
    }

    #[test]
    fn what_is_as_written_passes() {
        assert!(failures("> SET\n+OK\n> ONE\n:1\nA> TWICE\n+a\nA< +b\nA> NOTHING\nsilence\n").is_empty());
    }

    #[test]
    fn what_is_not_as_written_fails() {
        for (text, lines) in [
            ("> SET\n:1\n> ONE\n:1\n> ONE\n:2\n", &[1, 5][..]),
            ("> ONE\n", &[1]),
            ("> ONE\nsilence\n", &[1]),
            ("> ONE\nclosed\n", &[1]),
            ("A> ONE\nA...\n", &[2]),
            ("A> TWICE\n+a\nA< +c\n", &[3]),
            ("A> TWICE\n+a\nA< silence\n", &[3]),
        ] {
            assert_eq!(failures(text), lines, "{text:?}");
        }
    }
}
