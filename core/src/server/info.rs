//! INFO's sections about the process.

use mortise_sdk::declare::info::Shown;

use crate::admin::info::field;
use crate::features::Section;
use crate::session::REDIS_VERSION;

/// The server.
pub(super) const SERVER: Section = Section {
    name: "server",
    fields: &[
        field("redis_version", "The version of Redis that clients may take it for.", |_| {
            REDIS_VERSION.into()
        }),
        field("mortise_version", "Its own version.", |_| env!("CARGO_PKG_VERSION").into()),
        field("redis_git_sha1", "The commit it was built from; not recorded.", |_| "00000000".into()),
        field("redis_git_dirty", "Whether the commit was changed; not recorded.", |_| 0.into()),
        field("redis_build_id", "The build; not recorded.", |_| "0000000000000000".into()),
        field("redis_mode", "Alone, or in a cluster.", |_| "standalone".into()),
        field("os", "The operating system.", |e| e.process.os.clone().into()),
        field("arch_bits", "Width of a pointer.", |_| usize::BITS.into()),
        field("monotonic_clock", "The clock that measures.", |_| "POSIX clock_gettime".into()),
        field("multiplexing_api", "How sockets are waited for.", |_| {
            if cfg!(target_os = "linux") { "epoll" } else { "kqueue" }.into()
        }),
        field("atomicvar_api", "How threads share counters.", |_| "c11-builtin".into()),
        field("gcc_version", "The C compiler; there is none.", |_| "0.0.0".into()),
        field("process_id", "Process id.", |e| e.process.pid.into()),
        field("process_supervised", "Who started the process and waits for its word.", |e| {
            e.config.server.supervised.name().into()
        }),
        field("run_id", "40 digits that no other run has.", |e| e.process.run_id.clone().into()),
        field("tcp_port", "The port it listens on; the one for TLS if there is no other.", |e| {
            e.config.any_port().into()
        }),
        field("server_time_usec", "Unix microseconds.", |e| e.unix_us().into()),
        field("uptime_in_seconds", "Seconds since the start.", |e| uptime_s(e).into()),
        field("uptime_in_days", "Days since the start.", |e| (uptime_s(e) / 86400).into()),
        field("hz", "How often a second background work is done.", |e| e.config.server.hz.0.into()),
        field("configured_hz", "How often it is to be done.", |e| e.config.server.hz.0.into()),
        field("lru_clock", "The clock that keys carry.", |e| e.clock24.seconds().into()),
        field("executable", "The executable.", |e| e.process.executable.clone().into()),
        field("config_file", "The configuration file.", |e| e.process.config_file.clone().into()),
        field("shutdown_in_milliseconds", "How long its end waits for replicas at most, if it does.", |e| {
            e.shutdown_due_in_ms().map_or(Shown::Hidden, Shown::Int)
        }),
        field("io_threads_active", "Whether more than one thread reads and writes.", |e| {
            (e.config.server.io_threads > 1).into()
        }),
    ],
};

/// Processor time.
pub(super) const CPU: Section = Section {
    name: "cpu",
    fields: &[
        field("used_cpu_sys", "Seconds that all threads have run in the kernel.", |e| {
            seconds(e.usage.cpu_system_us)
        }),
        field("used_cpu_user", "Seconds that all threads have run outside it.", |e| {
            seconds(e.usage.cpu_user_us)
        }),
        field("used_cpu_sys_children", "Seconds that ended children have run in the kernel.", |e| {
            seconds(e.usage.cpu_system_children_us)
        }),
        field("used_cpu_user_children", "Seconds that ended children have run outside it.", |e| {
            seconds(e.usage.cpu_user_children_us)
        }),
        field("used_cpu_sys_main_thread", "Seconds that the main thread has run in the kernel.", |e| {
            seconds(e.usage.cpu_system_main_us)
        }),
        field("used_cpu_user_main_thread", "Seconds that the main thread has run outside it.", |e| {
            seconds(e.usage.cpu_user_main_us)
        }),
    ],
};

fn uptime_s(engine: &crate::engine::Engine) -> i64 {
    (engine.now_ms - engine.process.started_ms) / 1000
}

fn seconds(us: u64) -> Shown {
    Shown::Text(format!("{}.{:06}", us / 1_000_000, us % 1_000_000))
}
