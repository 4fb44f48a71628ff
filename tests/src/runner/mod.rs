//! Runs scripts against a server: on an empty one, in each mode, with its configuration put back. `run.rs` goes through the
//! steps of a script; `outcome.rs` says how one went.

mod lua;
mod outcome;
mod run;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::client::{Client, Protocol};
use crate::differences::Differences;
use crate::notation::Expected;
use crate::reply::Reply;
use crate::script::Script;
use crate::server::Server;
use crate::shadow::Shadowed;
use lua::Commands;
use run::Run;

pub use outcome::{Failure, Observed, Outcome};

/// How a script is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As written, on RESP2.
    Resp2,
    /// As written, on RESP3.
    Resp3,
    /// Each command between MULTI and EXEC, where that changes nothing; on RESP2.
    Multi,
    /// Each command from a Lua script, where scripts may call it; on RESP2.
    Lua,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 4] = [Mode::Resp2, Mode::Resp3, Mode::Multi, Mode::Lua];

    /// Which protocol the connections speak.
    pub fn protocol(self) -> Protocol {
        match self {
            Mode::Resp2 | Mode::Multi | Mode::Lua => Protocol::Resp2,
            Mode::Resp3 => Protocol::Resp3,
        }
    }
}

/// A failed run says no more than this: what follows is mostly a consequence.
const FAILURES_MAX: usize = 8;

/// A connection to a server under test, beside those that the scripts open.
#[derive(Debug)]
pub struct Runner<'a> {
    address: SocketAddr,
    control: Client,
    /// What it says of its commands, once it was asked.
    commands: Option<Commands>,
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
            commands: None,
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
                Mode::Lua => !header.not_lua && !header.not_resp2,
            }
    }

    /// Runs a script on an empty server.
    pub fn run(&mut self, script: &Script, mode: Mode) -> io::Result<Outcome> {
        let config = if script.header.needs_config { Some(self.config()?) } else { None };
        // A script that failed half way may have left a pause behind.
        self.control.call(&["CLIENT", "UNPAUSE"])?;
        self.control.call(&["FLUSHALL"])?;
        if mode == Mode::Lua && self.commands.is_none() {
            self.commands = Some(Commands::of(&mut self.control)?);
        }
        let mut run = Run::new(self, script, mode);
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
    let outcome = Run::new(&mut runner, &script, Mode::Resp2).all_steps();
    let failures: Vec<String> = outcome.failures.iter().map(Failure::to_string).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
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
