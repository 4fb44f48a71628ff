//! What the inside asks of the rim: whatever of a setting takes effect in the process, and facts about the process.

use mortise_acl::Users;

use crate::config::Config;
use crate::server::LogLevel;

/// The rim, as the engine sees it. It is called with the engine locked, so none of this may take long or call back.
///
/// What can fail leaves everything as it was when it does, and says why in words that follow `CONFIG SET failed … - `.
pub trait Rim: Send {
    /// Listens where the settings say now (`port`, `tls-port`, `bind`), and nowhere else.
    fn listen(&mut self, config: &Config) -> Result<(), String>;

    /// Reads certificates and keys anew, as the settings name them now, for connections that are yet to come.
    fn load_certificates(&mut self, config: &Config) -> Result<(), String>;

    /// What an encrypted connection to another server is made with; nothing unless the settings say that such are made.
    fn connector(&self) -> Option<mortise_tls::Connector> {
        None
    }

    /// Changes the working directory, and returns its absolute path.
    fn chdir(&mut self, dir: &str) -> Result<String, String>;

    /// Changes how much is logged.
    fn log_level(&mut self, level: LogLevel);

    /// Whether this server follows another one from now on: the log's lines show it.
    fn role_changed(&mut self, _is_replica: bool) {}

    /// Makes room for this many clients, as far as the operating system limits their number.
    fn max_clients(&mut self, count: u32) -> Result<(), String>;

    /// Tells the kernel how soon to end the process when memory is short (`oom-score-adj`).
    fn oom_score(&mut self, config: &Config) -> Result<(), String>;

    /// Settings have changed and are in force: for those that the rim keeps in a form of its own.
    fn config_changed(&mut self, config: &Config, users: &Users);

    /// What the process has used so far.
    fn usage(&self) -> Usage;
}

/// What a process has used of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Resident memory in bytes.
    pub resident: u64,
    /// Memory of the machine in bytes.
    pub machine_memory: u64,
    /// Microseconds that all its threads have run in the kernel.
    pub cpu_system_us: u64,
    /// Microseconds that all its threads have run outside the kernel.
    pub cpu_user_us: u64,
    /// The same of its main thread, in the kernel.
    pub cpu_system_main_us: u64,
    /// The same of its main thread, outside the kernel.
    pub cpu_user_main_us: u64,
    /// The same of children that have ended, in the kernel.
    pub cpu_system_children_us: u64,
    /// The same of children that have ended, outside the kernel.
    pub cpu_user_children_us: u64,
    /// Bytes read from sockets.
    pub bytes_in: u64,
    /// Bytes written to sockets.
    pub bytes_out: u64,
    /// Reads from sockets.
    pub reads: u64,
    /// Writes to sockets.
    pub writes: u64,
    /// Reads from sockets by threads other than the main one.
    pub threaded_reads: u64,
    /// Writes to sockets by threads other than the main one.
    pub threaded_writes: u64,
}

/// A rim without a process around it, for engines that run in tests: it agrees to everything.
pub struct NoRim;

impl Rim for NoRim {
    fn listen(&mut self, _: &Config) -> Result<(), String> {
        Ok(())
    }

    fn load_certificates(&mut self, _: &Config) -> Result<(), String> {
        Ok(())
    }

    fn chdir(&mut self, dir: &str) -> Result<String, String> {
        Ok(dir.to_owned())
    }

    fn log_level(&mut self, _: LogLevel) {}

    fn max_clients(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }

    fn oom_score(&mut self, _: &Config) -> Result<(), String> {
        Ok(())
    }

    fn config_changed(&mut self, _: &Config, _: &Users) {}

    fn usage(&self) -> Usage {
        Usage::default()
    }
}
