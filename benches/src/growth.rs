//! The longest stall while a table grows.
//!
//! Two connections fill the server with small keys; a third asks one GET after another and notes how long each
//! took. The queue ahead of a probe is at most two batches, so a long round trip is a stall. After one, nothing is
//! sent until the server has come to rest and the kernel's counters of it are exact. Whose it is, is told from four
//! sides:
//! - this thread never sleeps and never waits in a system call: a gap between two of its looks at the clock that
//!   falls into a stall is the machine's (the client was held up);
//! - the kernel counts how long the server's threads could have run but were given no CPU: the machine's too;
//! - the kernel counts the CPU time that the server did use: if that is less than half of the stall, the server was
//!   idle in it, and the request or its answer was on its way in the kernel: the machine's again;
//! - the kernel counts the server's page faults, whose mean cost is measured beforehand on this machine: a stall
//!   that they explain at least half of belongs to fresh memory.
//!
//! What remains is the server's own. A second pass, after FLUSHALL, grows over memory that the server may still
//! hold, and so with fewer faults.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use crate::connection::{Connection, ask};
use crate::control::{self, PageCost};
use crate::load::{READ_BUFFER, SILENCE_LIMIT, histogram};
use crate::process::{self, Gauge, Usage};
use crate::request::{Batch, Numbers};

/// Connections that fill, and how much each sends at once: the queue ahead of a probe.
const FILLERS: usize = 2;
const PIPELINE: usize = 16;
const PROBE: Token = Token(FILLERS);
/// Time between two probes.
const PROBE_INTERVAL: Duration = Duration::from_micros(100);
/// Age at which the counters that a stall is compared with are read anew.
const BASELINE_AGE: Duration = Duration::from_micros(250);
/// Time for the server to fall asleep once it has answered everything.
const REST: Duration = Duration::from_micros(100);
/// Round trips longer than this are stalls.
const STALL: Duration = Duration::from_micros(200);
/// How many of the longest are kept.
const STALLS_KEPT: usize = 20;
/// Fresh memory that a key takes on any server, amply: so much is touched beforehand.
const TOUCHED_PER_KEY: u64 = 200;

/// What is to grow.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// Its process.
    pub server_pid: u32,
    /// How many keys are set.
    pub keys: u64,
    /// How many times, with a FLUSHALL between.
    pub passes: usize,
}

/// Whose a stall is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Client or server were given no CPU, or both were idle.
    Machine,
    /// Page faults explain it.
    Faults,
    /// The server's own.
    Own,
}

/// A long round trip of the probe.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    /// How long it took.
    pub length: Duration,
    /// Keys that were set by its end.
    pub keys: u64,
    /// Longest gap in the client's own looks at the clock meanwhile.
    pub client_gap: Duration,
    /// What the server used meanwhile, a quarter of a millisecond before it, and until it came to rest.
    pub server: Usage,
    /// Whose it is.
    pub cause: Cause,
}

/// One growth from nothing to all keys.
#[derive(Debug)]
pub struct Pass {
    /// Keys set.
    pub keys: u64,
    /// Time it took.
    pub elapsed: Duration,
    /// What the server used.
    pub server: Usage,
    /// Resident memory before and after, in bytes.
    pub resident: (u64, u64),
    /// Round trips of the probe in nanoseconds, those included that a stall kept from being sent.
    pub probes: Histogram<u64>,
    /// The longest stalls, longest first.
    pub stalls: Vec<Stall>,
    /// How many round trips were stalls, by cause: machine, faults, own.
    pub counts: [u64; 3],
}

impl Pass {
    /// The longest stall of a cause; zero if there was none.
    pub fn longest(&self, cause: Cause) -> Duration {
        self.stalls
            .iter()
            .filter(|stall| stall.cause == cause)
            .map(|stall| stall.length)
            .max()
            .unwrap_or_default()
    }
}

/// What was seen.
#[derive(Debug)]
pub struct Outcome {
    /// The machine's price of memory that the host may not have provided yet, and once it has.
    pub page_cost: (PageCost, PageCost),
    /// The passes in order.
    pub passes: Vec<Pass>,
}

/// Runs a plan to its end.
pub fn run(plan: &Plan) -> io::Result<Outcome> {
    let touched = (plan.keys * TOUCHED_PER_KEY).min(process::available()? / 2) as usize;
    let page_cost = (control::touch_memory(touched)?, control::touch_memory(touched)?);
    let mut passes = Vec::new();
    for pass in 0..plan.passes {
        if pass > 0 && ask(plan.address, &["FLUSHALL"])?.is_err() {
            break; // there is no second growth on a server that cannot forget the first
        }
        passes.push(grow(plan, Duration::from_nanos(page_cost.1.fault_ns))?);
    }
    Ok(Outcome { page_cost, passes })
}

/// The probe's side of the run.
struct Probe {
    gauge: Gauge,
    baseline: Usage,
    baseline_at: Instant,
    /// When the probe on its way was sent.
    sent: Option<Instant>,
    next: Instant,
    /// Longest gap between two looks at the clock since it was sent.
    client_gap: Duration,
    fault_cost: Duration,
    /// A stall to be judged once the server has come to rest.
    suspect: Option<Suspect>,
}

/// A long round trip that was just seen.
struct Suspect {
    length: Duration,
    client_gap: Duration,
    keys: u64,
    /// When the last answer came, this one's or a later one.
    quiet_since: Instant,
}

fn grow(plan: &Plan, fault_cost: Duration) -> io::Result<Pass> {
    let fill = Batch::new("SET key:__seq__ valuexxx", PIPELINE).map_err(io::Error::other)?;
    let question = Batch::new("GET key:000000000000", 1).map_err(io::Error::other)?;
    let mut poll = Poll::new()?;
    let mut connections = Vec::new();
    for index in 0..=FILLERS {
        let batch = if Token(index) == PROBE { &question } else { &fill };
        let mut connection = Connection::open(plan.address, &["PING"], batch.clone())?;
        connection.register(poll.registry(), Token(index))?;
        connections.push(connection);
    }

    let mut numbers = Numbers::new(1, 0);
    let mut buffer = vec![0; READ_BUFFER];
    let mut events = Events::with_capacity(16);
    let batches = plan.keys.div_ceil(PIPELINE as u64);
    let (mut begun, mut set, mut awaited) = (0, 0, [0; FILLERS]);

    let resident_before = process::resident(plan.server_pid)?;
    let usage_before = process::usage(plan.server_pid)?;
    let start = Instant::now();
    let gauge = Gauge::new(plan.server_pid)?;
    let baseline = gauge.read()?;
    let (sent, next, client_gap) = (None, start, Duration::ZERO);
    let mut probe =
        Probe { gauge, baseline, baseline_at: start, sent, next, client_gap, fault_cost, suspect: None };
    let mut pass = Pass {
        keys: batches * PIPELINE as u64,
        elapsed: Duration::ZERO,
        server: Usage::default(),
        resident: (resident_before, 0),
        probes: histogram(),
        stalls: Vec::new(),
        counts: [0; 3],
    };

    let mut last = start;
    let mut last_event = start;
    while set < pass.keys || probe.sent.is_some() || probe.suspect.is_some() {
        if awaited == [0; FILLERS] {
            probe.judge(&mut pass)?;
        }
        for (index, awaited) in awaited.iter_mut().enumerate() {
            if *awaited == 0 && begun < batches && probe.suspect.is_none() {
                connections[index].start(&mut numbers)?;
                *awaited = PIPELINE as u64;
                begun += 1;
            }
        }
        let free = probe.sent.is_none() && probe.suspect.is_none();
        if free && set < pass.keys && Instant::now() >= probe.next {
            probe.refresh_baseline()?;
            connections[PROBE.0].start(&mut numbers)?;
            let now = Instant::now();
            (probe.sent, probe.client_gap, last) = (Some(now), Duration::ZERO, now);
        }
        match poll.poll(&mut events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            let connection = &mut connections[event.token().0];
            connection.send()?;
            if !event.is_readable() {
                continue;
            }
            let replies = connection.receive(&mut buffer)?;
            if event.token() == PROBE {
                if replies > 0 {
                    probe.answered(&mut pass, last, set)?;
                }
            } else {
                let awaited = &mut awaited[event.token().0];
                *awaited =
                    awaited.checked_sub(replies).ok_or_else(|| io::Error::other("too many replies"))?;
                set += replies;
            }
        }
        let now = Instant::now();
        probe.client_gap = probe.client_gap.max(now - last);
        last = now;
        if !events.is_empty() {
            last_event = now;
            if let Some(suspect) = &mut probe.suspect {
                suspect.quiet_since = now;
            }
        } else if now - last_event > SILENCE_LIMIT {
            return Err(io::Error::other("the server fell silent while it grew"));
        }
    }

    if let Some(error) = connections.iter().find_map(|connection| connection.replies().first_error()) {
        return Err(io::Error::other(format!("while it grew, the server answered: {error}")));
    }
    pass.elapsed = start.elapsed();
    pass.server = process::usage(plan.server_pid)? - usage_before;
    pass.resident.1 = process::resident(plan.server_pid)?;
    Ok(pass)
}

impl Probe {
    fn refresh_baseline(&mut self) -> io::Result<()> {
        if self.baseline_at.elapsed() > BASELINE_AGE {
            self.baseline = self.gauge.read()?;
            self.baseline_at = Instant::now();
        }
        Ok(())
    }

    /// Notes a round trip; `last` is the client's look at the clock before this one.
    fn answered(&mut self, pass: &mut Pass, last: Instant, keys: u64) -> io::Result<()> {
        let now = Instant::now();
        let Some(sent) = self.sent.take() else { return Err(io::Error::other("an answer nobody asked for")) };
        let length = now - sent;
        self.next = sent + PROBE_INTERVAL;
        // Probes that could not be sent meanwhile would have waited too.
        pass.probes
            .record_correct(length.as_nanos() as u64, PROBE_INTERVAL.as_nanos() as u64)
            .map_err(|error| io::Error::other(error.to_string()))?;
        if length < STALL {
            return Ok(());
        }
        let client_gap = self.client_gap.max(now - last);
        self.suspect = Some(Suspect { length, client_gap, keys, quiet_since: now });
        Ok(())
    }

    /// Judges the stall that was just seen, if the server is at rest.
    fn judge(&mut self, pass: &mut Pass) -> io::Result<()> {
        let at_rest = |suspect: &mut Suspect| suspect.quiet_since.elapsed() >= REST;
        let Some(Suspect { length, client_gap, keys, .. }) = self.suspect.take_if(at_rest) else {
            return Ok(());
        };
        let server = self.gauge.read()? - self.baseline;
        let cause = cause(length, client_gap, &server, self.fault_cost);
        pass.counts[cause as usize] += 1;
        let stall = Stall { length, keys, client_gap, server, cause };
        // Kept by cause, or many hiccups of a busy machine would hide the server's own.
        pass.stalls.push(stall);
        pass.stalls.sort_by_key(|stall| std::cmp::Reverse(stall.length));
        if pass.stalls.iter().filter(|other| other.cause == cause).count() > STALLS_KEPT
            && let Some(shortest) = pass.stalls.iter().rposition(|other| other.cause == cause)
        {
            pass.stalls.remove(shortest);
        }
        Ok(())
    }
}

fn cause(length: Duration, client_gap: Duration, server: &Usage, fault_cost: Duration) -> Cause {
    let faults = fault_cost * u32::try_from(server.minor_faults).unwrap_or(u32::MAX);
    if client_gap + server.waited >= length / 2 || server.cpu < length / 2 {
        Cause::Machine
    } else if server.major_faults > 0 || faults >= length / 2 {
        Cause::Faults
    } else {
        Cause::Own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_told_by_what_explains_half_of_it() {
        let ms = Duration::from_millis;
        let us = Duration::from_micros;
        let used = |waited, minor_faults, major_faults| Usage {
            cpu: ms(4),
            waited,
            minor_faults,
            major_faults,
            ..Usage::default()
        };
        let idle = Usage { cpu: ms(1), ..used(us(5), 3, 0) };
        assert_eq!(cause(ms(4), us(10), &idle, us(1)), Cause::Machine);
        assert_eq!(cause(ms(4), us(10), &used(us(5), 3, 0), us(1)), Cause::Own);
        assert_eq!(cause(ms(4), ms(2), &used(us(5), 3, 0), us(1)), Cause::Machine);
        assert_eq!(cause(ms(4), ms(1), &used(ms(1), 3, 0), us(1)), Cause::Machine);
        assert_eq!(cause(ms(4), us(10), &used(us(5), 2000, 0), us(1)), Cause::Faults);
        assert_eq!(cause(ms(4), us(10), &used(us(5), 3, 1), us(1)), Cause::Faults);
    }
}
