//! The program as an operator meets it: how it starts, what it says, how it ends.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// A directory for one test.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mortise-start-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server process; killed if the test forgets it.
struct Server {
    child: Child,
    out: PathBuf,
}

impl Server {
    fn start(dir: &TempDir, arguments: &[&str]) -> Server {
        Server::start_with(dir, arguments, "", |command| command)
    }

    fn start_with(
        dir: &TempDir,
        arguments: &[&str],
        stdin: &str,
        change: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Server {
        let out = dir.path("out");
        let file = fs::File::create(&out).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mortise-server"));
        command.args(arguments).current_dir(&dir.0).env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::piped()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut child = change(&mut command).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        Server { child, out }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    fn wait_for(&self, text: &str) {
        wait_until(|| self.log().contains(text), || format!("'{text}' is missing in:\n{}", self.log()));
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

fn wait_until(what: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < PATIENCE, "{}", otherwise());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn ask(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = [0; 512];
    let len = stream.read(&mut reply).unwrap();
    String::from_utf8_lossy(&reply[..len]).into_owned()
}

fn ping(port: u16) -> String {
    ask(TcpStream::connect(("127.0.0.1", port)).unwrap(), "PING\r\n")
}

#[test]
fn a_file_standard_input_and_options_configure_it() {
    let dir = TempDir::new();
    let port = free_port();
    let file = dir
        .write("redis.conf", "port 1\nbind 127.0.0.1\nloglevel verbose\nlogfile ''\nalways-show-logo yes\n");
    let port_text = port.to_string();
    let arguments = [file.to_str().unwrap(), "--port", &port_text, "-"];
    let mut server =
        Server::start_with(&dir, &arguments, "rename-command ECHO say\nport 2\n", |command| command);
    server.wait_for("Ready to accept connections");
    assert_eq!(ping(port), "+PONG\r\n");
    let renamed = ask(TcpStream::connect(("127.0.0.1", port)).unwrap(), "SAY x\r\n");
    assert_eq!(renamed, "$1\r\nx\r\n");

    let log = server.log();
    let pid = server.child.id();
    for expected in [
        "oO0OoO0OoO0Oo Mortise is starting",
        "Configuration loaded",
        &format!("Running mode=standalone, port={port}."),
        &format!(" PID: {pid}"),
        "Server initialized",
        "always-show-logo",
    ] {
        assert!(log.contains(expected), "'{expected}' is missing in:\n{log}");
    }
    // 12345:M 21 Nov 2026 00:10:00.123 * Ready to accept connections
    let line = log.lines().last().unwrap();
    let words: Vec<_> = line.split(' ').collect();
    assert_eq!(words[0], format!("{pid}:M"));
    assert!(words[4].len() == "00:10:00.123".len() && words[5] == "*", "{line}");

    server.signal("TERM");
    assert!(server.ended().success());
    let log = server.log();
    for expected in ["Received SIGTERM scheduling shutdown...", "User requested shutdown...", "bye bye..."] {
        assert!(log.contains(expected), "'{expected}' is missing in:\n{log}");
    }
}

#[test]
fn standard_input_alone_configures_it() {
    let dir = TempDir::new();
    let port = free_port();
    let mut server =
        Server::start_with(&dir, &["-"], &format!("port {port}\nbind 127.0.0.1\n"), |command| command);
    server.wait_for("Ready to accept connections");
    assert_eq!(ping(port), "+PONG\r\n");
    server.signal("INT");
    assert!(server.ended().success());
    server.wait_for("Received SIGINT scheduling shutdown...");
}

#[test]
fn a_broken_configuration_is_named_with_file_line_and_reason() {
    let dir = TempDir::new();
    for (line, reason) in [
        ("port abc", "argument couldn't be parsed into an integer"),
        ("no-such-directive 1", "Bad directive or wrong number of arguments"),
        ("dir /no/such/directory", "Can't chdir to '/no/such/directory': No such file or directory"),
        ("logfile /no/such/log", "Can't open the log file: No such file or directory"),
        ("rename-command nosuch x", "No such command in rename-command"),
        ("cluster-enabled yes", "ignoring this value would cost durability or safety"),
        ("loadmodule /no/such/module.so", "There is no file '/no/such/module.so'"),
        ("nosuch.directive 1", "Module config specified, but no such module is loaded"),
    ] {
        let file = dir.write("broken.conf", &format!("# a comment\n{line}\n"));
        let mut server = Server::start(&dir, &[file.to_str().unwrap()]);
        assert_eq!(server.ended().code(), Some(1), "{line}");
        let text = server.log();
        let place = format!("at line 2 of {}\n>>> '{line}'\n", file.display());
        assert!(text.contains("FATAL CONFIG FILE ERROR") && text.contains(&place), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}

#[test]
fn a_broken_option_is_named_with_its_line() {
    let dir = TempDir::new();
    let mut server = Server::start(&dir, &["--hz", "5", "--port", "abc"]);
    assert_eq!(server.ended().code(), Some(1));
    server.wait_for("at line 3 of the command line\n>>> 'port \"abc\"'\n");
}

#[test]
fn a_limit_of_memory_that_nobody_means_is_mentioned() {
    let dir = TempDir::new();
    let port = free_port().to_string();
    let arguments = ["--port", &port, "--bind", "127.0.0.1", "--maxmemory", "1000"];
    let server = Server::start(&dir, &arguments);
    server.wait_for(
        "# WARNING: You specified a maxmemory value that is less than 1MB (current value is 1000 bytes). Are you sure this \
         is what you really want?",
    );
}

#[test]
fn a_port_in_use_stops_the_start_and_leaves_the_pidfile_alone() {
    let dir = TempDir::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let pidfile = dir.write("pid", "another server's\n");
    let arguments = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--pidfile", "pid"];
    let mut server = Server::start(&dir, &arguments);
    assert_eq!(server.ended().code(), Some(1));
    server.wait_for(&format!(
        "Warning: Could not create server TCP listening socket 127.0.0.1:{port}: bind: Address already in use"
    ));
    server.wait_for(&format!("Failed listening on port {port} (TCP), aborting."));
    assert_eq!(fs::read_to_string(pidfile).unwrap(), "another server's\n");
}

#[test]
fn nowhere_to_listen_stops_the_start() {
    let dir = TempDir::new();
    let mut server = Server::start(&dir, &["--port", "0"]);
    assert_eq!(server.ended().code(), Some(1));
    server.wait_for("Configured to not listen anywhere, exiting.");
}

#[test]
fn a_unix_socket_is_served_and_removed() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let arguments = ["--port", "0", "--unixsocket", path.to_str().unwrap(), "--unixsocketperm", "700"];
    let mut server = Server::start(&dir, &arguments);
    server.wait_for("The server is now ready to accept connections at");
    assert_eq!(ask(UnixStream::connect(&path).unwrap(), "PING\r\n"), "+PONG\r\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    server.signal("TERM");
    assert!(server.ended().success());
    assert!(!path.exists());
}

#[test]
fn it_serves_in_the_background() {
    let dir = TempDir::new();
    let port = free_port();
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndaemonize yes\npidfile pid\nlogfile log\ndir {}\n",
        dir.0.display()
    );
    let mut parent = Server::start_with(&dir, &["-"], &text, |command| command);
    assert!(parent.ended().success());
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let (log, pidfile) = (dir.path("log"), dir.path("pid"));
    wait_until(|| read(&log).contains("Ready to accept connections"), || read(&log));
    let pid: u32 = read(&pidfile).trim().parse().unwrap();
    assert_ne!(pid, parent.child.id());
    assert!(read(&log).contains(&format!(" PID: {pid}")));
    assert_eq!(ping(port), "+PONG\r\n");
    signal(pid, "TERM");
    wait_until(|| read(&log).contains("bye bye"), || read(&log));
    assert!(!pidfile.exists());
}

#[test]
fn systemd_is_told_that_it_is_ready() {
    let dir = TempDir::new();
    let path = dir.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = free_port().to_string();
    let arguments = ["--port", &port, "--bind", "127.0.0.1", "--supervised", "systemd"];
    let _server = Server::start_with(&dir, &arguments, "", |command| command.env("NOTIFY_SOCKET", &path));
    let mut told = String::new();
    while !told.contains("READY=1\n") {
        let mut bytes = [0; 512];
        let len = socket.recv(&mut bytes).expect("a datagram");
        told.push_str(&String::from_utf8_lossy(&bytes[..len]));
    }
    assert!(told.contains("STATUS=Ready to accept connections\n"), "{told}");
}

#[test]
fn a_protocol_error_is_readable_although_more_was_sent() {
    let dir = TempDir::new();
    let port = free_port();
    let server = Server::start(&dir, &["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    server.wait_for("Ready to accept connections");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let flood = [b"*3000000000\r\n".as_slice(), &[b'x'; 1 << 20]].concat();
    // The server may stop reading while this is under way.
    let _ = stream.write_all(&flood);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    assert_eq!(String::from_utf8_lossy(&reply), "-ERR Protocol error: invalid multibulk length\r\n");
}

#[test]
fn a_short_wait_is_a_short_wait() {
    let dir = TempDir::new();
    let port = free_port();
    let server = Server::start(&dir, &["--port", &port.to_string(), "--bind", "127.0.0.1", "--hz", "1"]);
    server.wait_for("Ready to accept connections");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let start = Instant::now();
    let reply = ask(&mut stream, "BZPOPMIN nokey 0.01\r\n");
    let waited = start.elapsed();
    assert_eq!(reply, "*-1\r\n");
    assert!(waited >= Duration::from_millis(9) && waited < Duration::from_millis(300), "{waited:?}");
}
