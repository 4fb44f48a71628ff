//! The load generator: one thread, many connections, one command.
//!
//! *Closed loop*: each connection sends a batch, waits for all its replies, and sends the next; the load adapts to
//! the server. *Open loop*: batches are due at fixed times, spread over the connections, and are sent then whether
//! or not earlier ones were answered. The latency of a request counts from the time it was due, not from when it
//! could be sent, so a stall is charged to every request that fell into it (no coordinated omission).
//!
//! A pass allocates nothing: requests are encoded before the start, and replies are counted, not built.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::connection::Connection;
use crate::process::{self, Usage};
use crate::request::{Batch, Numbers};

/// A server that answers nothing for this long has failed.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// How long replies are awaited after the last request of an open loop.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// Room for what one read brings.
pub const READ_BUFFER: usize = 256 * 1024;
/// Batches that an open loop sends in a row before it looks for replies.
const BURST_MAX: usize = 64;

/// What is to be sent, how, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// Its process, if its CPU time and page faults are wanted.
    pub server_pid: Option<u32>,
    /// The command, with placeholders.
    pub command: String,
    /// How many connections send it.
    pub connections: usize,
    /// How many requests are sent at once.
    pub pipeline: usize,
    /// `__rand__` is below this.
    pub keys: u64,
    /// `__seq__` begins here.
    pub first: u64,
    /// When to end.
    pub length: Length,
    /// Time at the beginning that is not measured.
    pub warmup: Duration,
    /// Requests per second of an open loop; a closed loop without it.
    pub rate: Option<f64>,
}

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// After so many requests, rounded up to whole batches; all of them are measured.
    Requests(u64),
    /// After so much time.
    Time(Duration),
}

/// What was seen.
#[derive(Debug)]
pub struct Outcome {
    /// Requests whose replies came within the measured time.
    pub requests: u64,
    /// The measured time.
    pub elapsed: Duration,
    /// Requests of the whole run that were never answered; their latency counts up to the end of the waiting.
    pub unanswered: u64,
    /// Errors among the replies of the whole run.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// Nanoseconds from when a request was sent (closed loop) or due (open loop) to its reply.
    pub latency: Histogram<u64>,
    /// Nanoseconds by which the open loop itself was late in sending.
    pub lateness: Histogram<u64>,
    /// What this process used in the measured time.
    pub client: Usage,
    /// What the server used in the measured time.
    pub server: Option<Usage>,
}

/// A histogram for times from a microsecond to minutes, in nanoseconds, exact to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("the bounds are valid")
}

/// Runs a plan to its end.
pub fn run(plan: &Plan) -> io::Result<Outcome> {
    let mut generator = Generator::connect(plan)?;
    match plan.rate {
        None => generator.closed_loop()?,
        Some(rate) => generator.open_loop(rate)?,
    }
    generator.finish()
}

/// A connection and the batches that it owes.
struct Lane {
    connection: Connection,
    /// When the batches that are not fully answered were sent or due, oldest first.
    due: VecDeque<u64>,
    /// Replies that the oldest of them still awaits.
    awaited: u64,
    /// Batches that are due but wait for the socket to take an earlier one.
    unsent: usize,
}

/// Counters at one edge of the measured time.
struct Mark {
    at: Instant,
    answered: u64,
    client: Usage,
    server: Option<Usage>,
}

struct Generator<'a> {
    plan: &'a Plan,
    poll: Poll,
    lanes: Vec<Lane>,
    numbers: Numbers,
    buffer: Vec<u8>,
    start: Instant,
    /// Batches sent or due, and those answered.
    begun: u64,
    ended: u64,
    answered: u64,
    opening: Option<Mark>,
    closing: Option<Mark>,
    latency: Histogram<u64>,
    lateness: Histogram<u64>,
}

impl Generator<'_> {
    fn connect(plan: &Plan) -> io::Result<Generator<'_>> {
        let batch = Batch::new(&plan.command, plan.pipeline).map_err(io::Error::other)?;
        let poll = Poll::new()?;
        let mut lanes = Vec::with_capacity(plan.connections);
        for index in 0..plan.connections {
            let mut connection = Connection::open(plan.address, &["PING"], batch.clone())?;
            connection.register(poll.registry(), Token(index))?;
            let due = VecDeque::with_capacity(1024);
            lanes.push(Lane { connection, due, awaited: plan.pipeline as u64, unsent: 0 });
        }
        Ok(Generator {
            plan,
            poll,
            lanes,
            numbers: Numbers::new(plan.keys, plan.first),
            buffer: vec![0; READ_BUFFER],
            start: Instant::now(),
            begun: 0,
            ended: 0,
            answered: 0,
            opening: None,
            closing: None,
            latency: histogram(),
            lateness: histogram(),
        })
    }

    fn closed_loop(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        self.start = Instant::now();
        if self.plan.warmup.is_zero() {
            self.opening = Some(self.mark()?);
        }
        for index in 0..self.lanes.len() {
            if self.more_to_begin() {
                self.begin(index, self.now())?;
            }
        }
        while self.begun > self.ended {
            self.wait(&mut events, Some(SILENCE_LIMIT))?;
            if events.is_empty() {
                return Err(silence());
            }
            for event in &events {
                let now = self.now();
                let index = event.token().0;
                if self.serve(event, now)? && self.lanes[index].due.is_empty() && self.more_to_begin() {
                    self.begin(index, self.now())?;
                }
            }
            self.note_edges()?;
        }
        Ok(())
    }

    fn open_loop(&mut self, rate: f64) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let interval_ns = self.plan.pipeline as f64 / rate * 1e9;
        let mut lane = 0;
        self.start = Instant::now();
        if self.plan.warmup.is_zero() {
            self.opening = Some(self.mark()?);
        }
        let mut due_ns = self.now() as f64;
        let mut last_reply = self.now();
        while self.closing.is_none() && self.more_to_begin() {
            for _ in 0..BURST_MAX {
                let now = self.now();
                if due_ns > now as f64 || !self.more_to_begin() {
                    break;
                }
                if self.opening.is_some() {
                    self.lateness.saturating_record(now - due_ns as u64);
                }
                self.begin(lane, due_ns as u64)?;
                lane = (lane + 1) % self.lanes.len();
                due_ns += interval_ns;
            }
            // Never asleep: a wait that the system rounds to its own tick would make every request late.
            self.wait(&mut events, Some(Duration::ZERO))?;
            let now = self.now();
            for event in &events {
                self.serve(event, now)?;
                last_reply = now;
            }
            if self.begun > self.ended && now - last_reply > SILENCE_LIMIT.as_nanos() as u64 {
                return Err(silence());
            }
            self.note_edges()?;
        }

        let drain_end = Instant::now() + DRAIN_LIMIT;
        while self.begun > self.ended && Instant::now() < drain_end {
            self.wait(&mut events, Some(Duration::from_millis(1)))?;
            let now = self.now();
            for event in &events {
                self.serve(event, now)?;
            }
        }
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    /// Nanoseconds since the start.
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn more_to_begin(&self) -> bool {
        match self.plan.length {
            Length::Requests(requests) => self.begun * (self.plan.pipeline as u64) < requests,
            Length::Time(_) => self.closing.is_none(),
        }
    }

    /// Sends a batch, or leaves it to be sent once the socket has taken the one before.
    fn begin(&mut self, index: usize, due: u64) -> io::Result<()> {
        let lane = &mut self.lanes[index];
        lane.due.push_back(due);
        self.begun += 1;
        if lane.connection.idle() {
            lane.connection.start(&mut self.numbers)
        } else {
            lane.unsent += 1;
            Ok(())
        }
    }

    /// Moves one connection on; true if replies came.
    fn serve(&mut self, event: &Event, now: u64) -> io::Result<bool> {
        let lane = &mut self.lanes[event.token().0];
        if event.is_writable() {
            lane.connection.send()?;
            while lane.unsent > 0 && lane.connection.idle() {
                lane.unsent -= 1;
                lane.connection.start(&mut self.numbers)?;
            }
        }
        if !event.is_readable() {
            return Ok(false);
        }
        let mut replies = lane.connection.receive(&mut self.buffer)?;
        let any = replies > 0;
        self.answered += replies;
        while replies > 0 {
            let Some(&due) = lane.due.front() else {
                return Err(io::Error::other("more replies came than requests were sent"));
            };
            let step = replies.min(lane.awaited);
            if self.opening.as_ref().is_some_and(|mark| due >= (mark.at - self.start).as_nanos() as u64) {
                self.latency.saturating_record_n(now.saturating_sub(due), step);
            }
            replies -= step;
            lane.awaited -= step;
            if lane.awaited == 0 {
                lane.awaited = self.plan.pipeline as u64;
                lane.due.pop_front();
                self.ended += 1;
            }
        }
        Ok(any)
    }

    /// Opens and closes the measured time when the clock says so.
    fn note_edges(&mut self) -> io::Result<()> {
        let elapsed = self.start.elapsed();
        if self.opening.is_none() && elapsed >= self.plan.warmup {
            self.opening = Some(self.mark()?);
        }
        if let Length::Time(length) = self.plan.length
            && self.closing.is_none()
            && elapsed >= self.plan.warmup + length
        {
            self.closing = Some(self.mark()?);
        }
        Ok(())
    }

    fn mark(&self) -> io::Result<Mark> {
        let server = self.plan.server_pid.map(process::usage).transpose()?;
        let client = process::usage(std::process::id())?;
        Ok(Mark { at: Instant::now(), answered: self.answered, client, server })
    }

    fn finish(mut self) -> io::Result<Outcome> {
        let now = self.now();
        let mut unanswered = 0;
        for lane in &self.lanes {
            let mut awaited = lane.awaited;
            for &due in &lane.due {
                unanswered += awaited;
                self.latency.saturating_record_n(now - due, awaited);
                awaited = self.plan.pipeline as u64;
            }
        }
        let closing = match self.closing.take() {
            Some(mark) => mark,
            None => self.mark()?,
        };
        let Some(opening) = self.opening else {
            return Err(io::Error::other("the run ended before its warm-up"));
        };
        let replies = || self.lanes.iter().map(|lane| lane.connection.replies());
        Ok(Outcome {
            requests: closing.answered - opening.answered,
            elapsed: closing.at - opening.at,
            unanswered,
            errors: replies().map(|replies| replies.errors()).sum(),
            first_error: replies().find_map(|replies| replies.first_error()).map(str::to_owned),
            latency: self.latency,
            lateness: self.lateness,
            client: closing.client - opening.client,
            server: closing.server.zip(opening.server).map(|(late, early)| late - early),
        })
    }
}

fn silence() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no reply for {} s", SILENCE_LIMIT.as_secs()))
}
