//! What a process uses, read from `/proc`: CPU time, page faults, memory.

use std::fs::{self, File};
use std::io;
use std::ops::Sub;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

/// Linux counts CPU time for users in hundredths of a second, whatever the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used since it began, or between two looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time of all threads.
    pub cpu: Duration,
    /// Its user part, in hundredths of a second.
    pub user_ticks: u64,
    /// Its kernel part, in hundredths of a second.
    pub system_ticks: u64,
    /// Time in which threads could have run, but no CPU was given to them.
    pub waited: Duration,
    /// Page faults that read nothing from a disk.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
}

impl Sub for Usage {
    type Output = Usage;

    fn sub(self, earlier: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
            waited: self.waited.saturating_sub(earlier.waited),
            minor_faults: self.minor_faults.saturating_sub(earlier.minor_faults),
            major_faults: self.major_faults.saturating_sub(earlier.major_faults),
        }
    }
}

impl Usage {
    /// The user part of the CPU time, in percent.
    pub fn user_percent(&self) -> f64 {
        100.0 * self.user_ticks as f64 / ((self.user_ticks + self.system_ticks) as f64).max(1.0)
    }
}

/// The open files of one process, so that a look costs a few reads and no look-up of paths.
#[derive(Debug)]
pub struct Gauge {
    stat: File,
    threads: Vec<File>,
}

impl Gauge {
    /// Opens the files of process `pid`. Threads that it starts later are not seen by this gauge.
    pub fn new(pid: u32) -> io::Result<Gauge> {
        let stat = File::open(format!("/proc/{pid}/stat"))?;
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            // Absent where the kernel keeps no scheduling statistics: then ticks must do.
            threads.extend(File::open(entry?.path().join("schedstat")));
        }
        Ok(Gauge { stat, threads })
    }

    /// What has been used until now.
    pub fn read(&self) -> io::Result<Usage> {
        let mut buffer = [0; 1024];
        let count = self.stat.read_at(&mut buffer, 0)?;
        let mut usage = parse_stat(&buffer[..count])?;

        let ticks = (usage.user_ticks + usage.system_ticks) as f64 / TICKS_PER_SECOND;
        let (mut ran_ns, mut waited_ns) = (0, 0);
        for thread in &self.threads {
            // A thread that has ended can no longer be read; the ticks below still count it.
            let Ok(count) = thread.read_at(&mut buffer, 0) else { continue };
            let mut fields = numbers(&buffer[..count]);
            ran_ns += fields.next().unwrap_or(0);
            waited_ns += fields.next().unwrap_or(0);
        }
        let from_ticks = Duration::from_secs_f64((ticks - 2.0 / TICKS_PER_SECOND).max(0.0));
        usage.cpu = Duration::from_nanos(ran_ns).max(from_ticks);
        usage.waited = Duration::from_nanos(waited_ns);
        Ok(usage)
    }
}

/// Gives this process, and what it starts from now on, another priority.
pub fn set_priority(nice: i32) -> io::Result<()> {
    let pid = std::process::id().to_string();
    let done = Command::new("renice").args(["-n", &nice.to_string(), "-p", &pid]).output()?;
    if !done.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
    }
    // Where the kernel groups processes by session, the group's priority counts; elsewhere the file is absent.
    let _ = fs::write("/proc/self/autogroup", nice.to_string());
    Ok(())
}

/// What process `pid` has used until now, with all the threads it has now.
pub fn usage(pid: u32) -> io::Result<Usage> {
    Gauge::new(pid)?.read()
}

/// Resident memory of process `pid`, in bytes.
pub fn resident(pid: u32) -> io::Result<u64> {
    kilobytes(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmRSS:")
}

/// Memory that the machine could give without swapping, in bytes.
pub fn available() -> io::Result<u64> {
    kilobytes(&fs::read_to_string("/proc/meminfo")?, "MemAvailable:")
}

/// CPU time of the machine so far: what the hypervisor gave to others, and all, in ticks.
pub fn stolen() -> io::Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = numbers(line.as_bytes()).collect();
    Ok((fields.get(7).copied().unwrap_or(0), fields.iter().sum()))
}

fn kilobytes(text: &str, label: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.map(|kb| kb * 1024).ok_or_else(|| io::Error::other(format!("{label} is missing")))
}

fn parse_stat(text: &[u8]) -> io::Result<Usage> {
    // The name in parentheses may hold blanks: fields are counted from its end, the state being the first.
    let end = text.iter().rposition(|&byte| byte == b')').ok_or_else(|| io::Error::other("no /proc stat"))?;
    let fields: Vec<u64> = numbers(text.get(end + 3..).unwrap_or_default()).collect(); // from the parent's pid on
    let field = |index: usize| fields.get(index).copied().unwrap_or(0);
    Ok(Usage {
        minor_faults: field(6),
        major_faults: field(8),
        user_ticks: field(10),
        system_ticks: field(11),
        ..Usage::default()
    })
}

/// The numbers in a text; a word that is none counts as zero if it is negative, and is left out otherwise.
fn numbers(text: &[u8]) -> impl Iterator<Item = u64> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|word| match word.parse() {
        Ok(number) => Some(number),
        Err(_) => word.starts_with('-').then_some(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_a_strange_name() {
        let line = b"42 (a) b (c) S 1 42 42 0 -1 4194560 1234 0 5 0 77 33 0 0 20 0 5 0 100 2 3";
        let usage = parse_stat(line).unwrap();
        assert_eq!((usage.minor_faults, usage.major_faults), (1234, 5));
        assert_eq!((usage.user_ticks, usage.system_ticks), (77, 33));
    }

    #[test]
    fn work_shows_as_cpu_time() {
        let gauge = Gauge::new(std::process::id()).unwrap();
        let before = gauge.read().unwrap();
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(100) {}
        let used = gauge.read().unwrap() - before;
        assert!(used.cpu + used.waited > Duration::from_millis(30), "{used:?}");
        assert!(resident(std::process::id()).unwrap() > 100_000);
    }
}
