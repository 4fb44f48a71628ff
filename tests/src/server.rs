//! A server as a child process: started on a free port in a directory of its own, killed, restarted, stopped.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crate::client::Client;
use crate::reply::Reply;
use crate::source;
use crate::tempdir::TempDir;

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a start is tried again when another process took the port first.
const ATTEMPTS: u32 = 5;

/// A running server, ended when dropped.
#[derive(Debug)]
pub struct Server {
    binary: PathBuf,
    directives: Vec<String>,
    dir: TempDir,
    address: SocketAddr,
    child: Option<Child>,
}

impl Server {
    /// Starts Mortise with these lines of configuration. A server that does not start fails the test.
    pub fn start(directives: &[&str]) -> Server {
        let server = mortise_binary().and_then(|binary| Server::start_binary(&binary, directives));
        server.unwrap_or_else(|error| panic!("the server does not start: {error}"))
    }

    /// Starts any server that reads a configuration file as Redis does.
    pub fn start_binary(binary: &Path, directives: &[&str]) -> Result<Server, String> {
        let dir = TempDir::create().map_err(|error| format!("no temporary directory: {error}"))?;
        let mut server = Server {
            binary: binary.to_path_buf(),
            directives: directives.iter().map(|line| line.to_string()).collect(),
            dir,
            address: free_address()?,
            child: None,
        };
        let mut attempt = 1;
        while let Err(error) = server.launch() {
            if attempt == ATTEMPTS || !server.log().contains("in use") {
                return Err(error);
            }
            attempt += 1;
            server.address = free_address()?;
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its working directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        Client::connect(self.address)
            .unwrap_or_else(|error| panic!("cannot connect to {}: {error}", self.address))
    }

    /// All that it has printed since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }

    /// Its process id, unless it was stopped or killed.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends the process a signal, such as STOP; false if there is no process.
    pub fn signal(&self, name: &str) -> bool {
        let Some(pid) = self.pid() else { return false };
        let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
        sent.is_ok_and(|status| status.success())
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already: that is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the process to end (SIGTERM) and waits until it has; false if it had to be killed or failed.
    pub fn stop(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return true };
        let asked = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
        let deadline = Instant::now() + PATIENCE;
        while asked.is_ok() && Instant::now() < deadline {
            if let Ok(Some(status)) = child.try_wait() {
                return status.success();
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.child = Some(child);
        self.kill();
        false
    }

    /// Starts the process again, in the same directory and on the same port.
    pub fn restart(&mut self) {
        self.stop();
        self.launch().unwrap_or_else(|error| panic!("the server does not start again: {error}"));
    }

    /// Starts the process again with its configuration as it stands in its file now.
    pub fn restart_as_it_is(&mut self) {
        self.stop();
        self.spawn().unwrap_or_else(|error| panic!("the server does not start again: {error}"));
    }

    /// The file that it was started with.
    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("server.conf")
    }

    fn launch(&mut self) -> Result<(), String> {
        let dir = self.dir.path();
        let mut config = format!(
            "bind 127.0.0.1\nport {}\ndir {}\nsave \"\"\n# the test's own\n",
            self.address.port(),
            dir.display()
        );
        self.directives.iter().for_each(|line| config.extend([line, "\n"]));
        let path = self.config_file();
        fs::write(&path, config).map_err(|error| format!("{}: {error}", path.display()))?;
        self.spawn()
    }

    fn spawn(&mut self) -> Result<(), String> {
        let (dir, path) = (self.dir.path(), self.config_file());
        let log = fs::File::create(dir.join("server.log")).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let child = Command::new(&self.binary)
            .arg(&path)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.binary.display()))?;
        self.child = Some(child);
        self.wait_until_ready().inspect_err(|_| self.kill())
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                return Err(format!("it ended with {status}\n{}", self.log()));
            }
            // Only once our own process says so: another server may answer on a port that we failed to get.
            if self.log().contains("Ready to accept connections") && answers_ping(self.address) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("it does not answer\n{}", self.log()));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn answers_ping(address: SocketAddr) -> bool {
    let reply = Client::connect(address).and_then(|mut client| client.call(&["PING"]));
    // A server that wants a password, or is loading, is there too.
    matches!(reply, Ok(Reply::Simple(_) | Reply::Error(_)))
}

fn free_address() -> Result<SocketAddr, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port: {error}"))
}

/// The server under test: what `MORTISE_SERVER` names, or a build that is as fresh as the sources.
pub fn mortise_binary() -> Result<PathBuf, String> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BINARY
        .get_or_init(|| match env::var_os("MORTISE_SERVER") {
            Some(path) => Ok(PathBuf::from(path)),
            None => {
                Ok(build(&["--package", "mortise-core", "--bin", "mortise-server"])?.join("mortise-server"))
            }
        })
        .clone()
}

/// The library of a module of this workspace, as fresh as its sources.
pub fn module_library(name: &str) -> Result<PathBuf, String> {
    let folder = build(&["--package", &format!("mortise-{name}"), "--lib"])?;
    Ok(folder.join(format!("libmortise_{name}.so")))
}

/// Builds a part of the workspace; returns the folder in which it lies then.
fn build(what: &[&str]) -> Result<PathBuf, String> {
    // Tests are built into <target>/<profile>/deps; `cargo test` builds no binary of another package.
    let test = env::current_exe().map_err(|error| error.to_string())?;
    let profile = test.ancestors().nth(2).ok_or("the test runs outside a target directory")?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(source::workspace_root()).args(["build", "--quiet"]).args(what);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    match cargo.status() {
        Ok(status) if status.success() => Ok(profile.to_path_buf()),
        Ok(status) => Err(format!("cargo build ended with {status}")),
        Err(error) => Err(format!("cargo build: {error}")),
    }
}
