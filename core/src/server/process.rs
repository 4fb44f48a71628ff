//! The process: background, pidfile, how many files it may open, what it has used.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeVal;

use super::traffic::Sum;
use crate::engine::rim::Usage;

/// Tells the server that it runs in the background already.
const IN_BACKGROUND: &str = "MORTISE_IN_BACKGROUND";
/// Where the number of a process in the background is written if no file is named.
const PIDFILE: &str = "/var/run/mortise.pid";
/// File descriptors for what are no clients: listeners, files, the event loops.
const RESERVED_FILES: u64 = 32;

/// Whether this process was started by `go_to_background`.
pub fn is_in_background() -> bool {
    std::env::var_os(IN_BACKGROUND).is_some()
}

/// Starts this program once more, from `dir`, detached and with the same arguments; `stdin` is what it will find there.
pub fn go_to_background(dir: &Path, stdin: &[u8]) -> io::Result<()> {
    let mut words = std::env::args_os();
    let mut command = Command::new(std::env::current_exe()?);
    command.arg0(words.next().unwrap_or_else(|| OsString::from("mortise-server")));
    command.args(words).env(IN_BACKGROUND, "1").current_dir(dir);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    if let Some(mut pipe) = child.stdin.take()
        && !stdin.is_empty()
    {
        pipe.write_all(stdin)?;
    }
    Ok(())
}

/// Leaves the terminal's session.
pub fn detach() {
    // It fails for a process that leads a session already.
    let _ = nix::unistd::setsid();
}

/// The file with the number of the process; removed when it is dropped.
pub struct Pidfile(PathBuf);

impl Pidfile {
    /// Writes the file, if there is to be one. A server that cannot is started all the same.
    pub fn write(path: Option<&str>, background: bool) -> Option<Pidfile> {
        let path = path.filter(|path| !path.is_empty()).or(background.then_some(PIDFILE))?;
        // Absolute: the working directory may change while the server runs.
        let path = std::path::absolute(path).ok()?;
        match fs::write(&path, format!("{}\n", std::process::id())) {
            Ok(()) => Some(Pidfile(path)),
            Err(error) => {
                tracing::warn!("Failed to write PID file {}: {}", path.display(), super::error_text(&error));
                None
            }
        }
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        tracing::info!("Removing the pid file.");
        let _ = fs::remove_file(&self.0);
    }
}

/// What the operating system grants a server that wants to serve many clients.
#[derive(Debug, PartialEq, Eq)]
pub enum OpenFiles {
    /// As many as are wanted.
    Enough,
    /// Only for so many clients, which may be none.
    For(u32),
}

/// Raises the limit of open files to what `clients` need, as far as that is possible.
pub fn raise_open_files(clients: u32) -> OpenFiles {
    let wanted = u64::from(clients) + RESERVED_FILES;
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!("Unable to obtain the current NOFILE limit ({}), assuming 1024.", error.desc());
            (1024, 1024)
        }
    };
    if soft >= wanted {
        return OpenFiles::Enough;
    }
    // Only the superuser may raise the hard limit.
    let raised = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted));
    let Err(error) = raised else {
        tracing::info!(
            "Increased maximum number of open files to {wanted} (it was originally set to {soft})."
        );
        return OpenFiles::Enough;
    };
    let granted = match setrlimit(Resource::RLIMIT_NOFILE, hard.min(wanted), hard) {
        Ok(()) => hard.min(wanted),
        Err(_) => soft,
    };
    let room = u32::try_from(granted.saturating_sub(RESERVED_FILES)).unwrap_or(u32::MAX);
    tracing::warn!("You requested maxclients of {clients} requiring at least {wanted} max file descriptors.");
    tracing::warn!("Server can't set maximum open files to {wanted} because of OS error: {}.", error.desc());
    tracing::warn!(
        "Current maximum open files is {granted}, enough for {room} clients. If you need more increase 'ulimit -n'."
    );
    OpenFiles::For(room)
}

/// What the process has used; the caller's thread counts as its main one.
pub fn usage(all: Sum, threaded: Sum) -> Usage {
    static MACHINE_MEMORY: OnceLock<u64> = OnceLock::new();
    let times =
        |who| getrusage(who).map_or((0, 0), |used| (micros(used.system_time()), micros(used.user_time())));
    let (cpu_system_us, cpu_user_us) = times(UsageWho::RUSAGE_SELF);
    let (cpu_system_main_us, cpu_user_main_us) = times(UsageWho::RUSAGE_THREAD);
    let (cpu_system_children_us, cpu_user_children_us) = times(UsageWho::RUSAGE_CHILDREN);
    Usage {
        resident: kilobytes("/proc/self/status", "VmRSS:") << 10,
        machine_memory: *MACHINE_MEMORY.get_or_init(|| kilobytes("/proc/meminfo", "MemTotal:") << 10),
        cpu_system_us,
        cpu_user_us,
        cpu_system_main_us,
        cpu_user_main_us,
        cpu_system_children_us,
        cpu_user_children_us,
        bytes_in: all.bytes_in,
        bytes_out: all.bytes_out,
        reads: all.reads,
        writes: all.writes,
        threaded_reads: threaded.reads,
        threaded_writes: threaded.writes,
    }
}

/// System, release and machine.
pub fn os() -> String {
    let kernel = |name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    format!("{} {} {}", kernel("ostype").trim(), kernel("osrelease").trim(), std::env::consts::ARCH)
}

fn micros(time: TimeVal) -> u64 {
    u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0)
}

/// A figure of a file that the kernel writes; zero where there is no such file.
fn kilobytes(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory_and_time() {
        let usage = usage(Sum { bytes_in: 1, reads: 3, ..Sum::default() }, Sum::default());
        assert!(usage.resident > 1 << 20 && usage.machine_memory > usage.resident);
        assert_eq!((usage.bytes_in, usage.reads, usage.threaded_reads), (1, 3, 0));
    }

    #[test]
    fn a_few_clients_need_no_more_files() {
        assert_eq!(raise_open_files(1), OpenFiles::Enough);
    }

    #[test]
    fn a_pidfile_lives_as_long_as_the_server() {
        let dir = crate::config::tempdir::TempDir::new("pidfile");
        let path = dir.path().join("pid");
        let file = Pidfile::write(path.to_str(), false);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
        assert!(Pidfile::write(Some("/no/such/directory/pid"), false).is_none());
        assert!(Pidfile::write(None, false).is_none());
    }
}
