//! One run of a script: its connections, and its steps one after another.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};
use std::{mem, thread};

use super::outcome::{Failure, Mismatch, Observed, Outcome, compare};
use super::{Mode, Runner, lua};
use crate::client::{Client, Protocol};
use crate::notation::Expected;
use crate::reply::Reply;
use crate::script::{Action, Awaited, Expectation, Script, Step};
use crate::shadow::Shadowed;
use crate::words;

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

/// What arrived for a step, and whether it is wrong.
type Done = (Option<Observed>, Option<Mismatch>);

struct Connection {
    client: Client,
    id: Option<i64>,
    in_transaction: bool,
    /// RESET and HELLO change it.
    protocol: Protocol,
}

pub(super) struct Run<'a, 'd> {
    runner: &'a mut Runner<'d>,
    script: &'a Script,
    mode: Mode,
    connections: HashMap<String, Connection>,
    /// Of all connections there ever were.
    ids: Vec<i64>,
}

impl<'a, 'd> Run<'a, 'd> {
    pub(super) fn new(runner: &'a mut Runner<'d>, script: &'a Script, mode: Mode) -> Run<'a, 'd> {
        Run { runner, script, mode, connections: HashMap::new(), ids: Vec::new() }
    }

    /// Goes through all steps, until too many have failed.
    pub(super) fn all_steps(&mut self) -> Outcome {
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
                    let by_lua = self.is_for_lua(step, arguments);
                    let mut awaited = self.awaited(step, expectation);
                    let observed = if by_lua {
                        awaited = awaited.map(lua::returned);
                        self.call_from_lua(step, arguments)?
                    } else {
                        self.call(step, arguments, awaited.as_ref())?
                    };
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

    /// Whether a command is to be called from Lua.
    fn is_for_lua(&self, step: &Step, arguments: &[Vec<u8>]) -> bool {
        let plainly = self
            .connections
            .get(&step.connection)
            .is_none_or(|connection| !connection.in_transaction && connection.protocol == Protocol::Resp2);
        let commands = self.runner.commands.as_ref().filter(|_| self.mode == Mode::Lua);
        plainly && !step.marks.not_lua && commands.is_some_and(|commands| commands.may_be_called(arguments))
    }

    fn call_from_lua(&mut self, step: &Step, arguments: &[Vec<u8>]) -> io::Result<Observed> {
        let arguments = self.with_ids(arguments);
        let request = lua::called(&mut self.runner.control, &arguments)?;
        let connection = self.connection(&step.connection)?;
        Ok(Observed::Reply(connection.client.call(&request)?, connection.protocol))
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
    pub(super) fn close_all(&mut self) -> io::Result<()> {
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
