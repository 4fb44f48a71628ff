//! Servers under test: started on a free port and a chosen CPU, ended by their own process, never by name.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::connection::ask;
use crate::request::split_words;

/// How long a server may take until it answers PING.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How a server is started: `NAME=COMMAND`, where the command may hold `{port}` and `{dir}`.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The name in the report.
    pub name: String,
    /// The command as it was given.
    pub command: String,
    words: Vec<String>,
}

impl Recipe {
    /// Reads `NAME=COMMAND`.
    pub fn parse(text: &str) -> Result<Recipe, String> {
        let (name, command) =
            text.split_once('=').ok_or_else(|| format!("NAME=COMMAND is wanted, not: {text}"))?;
        let words = split_words(command)?;
        if name.is_empty() || words.is_empty() {
            return Err(format!("NAME=COMMAND is wanted, not: {text}"));
        }
        if !command.contains("{port}") {
            return Err(format!("the command of {name} does not say where {{port}} goes"));
        }
        Ok(Recipe { name: name.into(), command: command.into(), words })
    }
}

/// A running server; ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    dir: PathBuf,
}

impl Server {
    /// Starts a server and waits until it answers.
    pub fn start(recipe: &Recipe, cpus: Option<&str>) -> io::Result<Server> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mortise-bench-{}-{count}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();

        let fill = |word: &String| {
            word.replace("{port}", &port.to_string()).replace("{dir}", &dir.to_string_lossy())
        };
        let words: Vec<String> = recipe.words.iter().map(fill).collect();
        let log = File::create(dir.join("log"))?;
        let child = pinned(&words[0], cpus, true)
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| io::Error::other(format!("cannot start {}: {error}", words[0])))?;
        let mut server = Server { child, address: (Ipv4Addr::LOCALHOST, port).into(), dir };
        server.wait_until_ready().map_err(|error| {
            let log = fs::read_to_string(server.dir.join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n  ");
            io::Error::other(format!("{}: {error}; its log ends:\n  {tail}", recipe.name))
        })?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id() // the prefixes below replace themselves by the server: the process is the same
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        let end = Instant::now() + START_LIMIT;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("ended with {status}")));
            }
            if let Ok(Ok(())) = ask(self.address, &["PING"]) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(io::Error::other("did not answer PING"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It holds nothing worth saving. If it ended by itself there is nothing to kill, and nothing to say.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A command that runs on given CPUs, and, if wanted, ends when we do.
pub fn pinned(program: &str, cpus: Option<&str>, ends_with_us: bool) -> Command {
    let mut words: Vec<&str> = Vec::new();
    if ends_with_us && exists("setpriv") {
        words.extend(["setpriv", "--pdeathsig", "KILL"]);
    }
    if let Some(cpus) = cpus {
        words.extend(["taskset", "-c", cpus]);
    }
    words.push(program);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// True if a program is on the path.
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_has_a_name_and_a_port() {
        let recipe = Recipe::parse("a=redis-server --port {port} --save ''").unwrap();
        assert_eq!(recipe.words, ["redis-server", "--port", "{port}", "--save", ""]);
        assert!(Recipe::parse("redis-server").is_err());
        assert!(Recipe::parse("a=redis-server").unwrap_err().contains("{port}"));
    }

    #[test]
    fn a_server_that_ends_at_once_is_reported() {
        let recipe = Recipe::parse("broken=sh -c 'echo no good; exit 3 # {port}'").unwrap();
        let error = Server::start(&recipe, None).unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains("exit status: 3"), "{error}");
    }
}
