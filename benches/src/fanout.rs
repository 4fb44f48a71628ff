//! Publishing to many subscribers: one connection publishes, the others receive.
//!
//! A batch of PUBLISH has ended when its replies and all its deliveries have come; then the next is sent. So nothing
//! piles up in the server, and the latency is that of the last subscriber.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use crate::connection::Connection;
use crate::load::{Outcome, READ_BUFFER, SILENCE_LIMIT, histogram};
use crate::process;
use crate::request::{Batch, Numbers};

/// The channel that is used.
const CHANNEL: &str = "mortise-bench";
/// The publisher's token; subscribers follow.
const PUBLISHER: usize = 0;

/// How much is published, and to how many.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// Its process, if its CPU time and page faults are wanted.
    pub server_pid: Option<u32>,
    /// Connections that receive.
    pub subscribers: usize,
    /// Patterns that another connection listens to, none of which matches.
    pub patterns: usize,
    /// How many PUBLISH are sent at once.
    pub pipeline: usize,
    /// How many are sent in all, rounded up to whole batches.
    pub requests: u64,
}

/// Runs a plan to its end. `requests` of the outcome counts delivered messages; the latency is a batch's.
pub fn run(plan: &Plan) -> io::Result<Outcome> {
    let command = format!("PUBLISH {CHANNEL} __x64__");
    let publish = Batch::new(&command, plan.pipeline).map_err(io::Error::other)?;
    let nothing = Batch::new("PING", 0).map_err(io::Error::other)?;
    let mut poll = Poll::new()?;
    let mut connections = vec![Connection::open(plan.address, &["PING"], publish)?];
    for _ in 0..plan.subscribers {
        connections.push(Connection::open(plan.address, &["SUBSCRIBE", CHANNEL], nothing.clone())?);
    }
    if plan.patterns > 0 {
        let patterns: Vec<String> = (0..plan.patterns).map(|n| format!("{CHANNEL}.{n}.*")).collect();
        let words: Vec<&str> =
            ["PSUBSCRIBE"].into_iter().chain(patterns.iter().map(String::as_str)).collect();
        connections.push(Connection::open(plan.address, &words, nothing)?);
    }
    for (index, connection) in connections.iter_mut().enumerate() {
        connection.register(poll.registry(), Token(index))?;
    }

    let mut numbers = Numbers::new(1, 0);
    let mut buffer = vec![0; READ_BUFFER];
    let mut events = Events::with_capacity(1024);
    let mut latency: Histogram<u64> = histogram();
    let per_batch = plan.pipeline as u64 * (plan.subscribers as u64 + 1);
    let batches = plan.requests.div_ceil(plan.pipeline as u64);

    let server = plan.server_pid.map(process::usage).transpose()?;
    let client = process::usage(std::process::id())?;
    let start = Instant::now();
    for _ in 0..batches {
        let sent = Instant::now();
        let mut awaited = per_batch;
        connections[PUBLISHER].start(&mut numbers)?;
        while awaited > 0 {
            match poll.poll(&mut events, Some(SILENCE_LIMIT)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            if events.is_empty() {
                return Err(io::Error::other(format!("{awaited} of {per_batch} messages did not come")));
            }
            for event in &events {
                let connection = &mut connections[event.token().0];
                connection.send()?;
                if event.is_readable() {
                    let came = connection.receive(&mut buffer)?;
                    if event.token().0 > plan.subscribers {
                        // The rest of what its PSUBSCRIBE was answered.
                        continue;
                    }
                    awaited = awaited
                        .checked_sub(came)
                        .ok_or_else(|| io::Error::other("too many messages came"))?;
                }
            }
            if let Some(error) = connections[PUBLISHER].replies().first_error() {
                return Err(io::Error::other(format!("PUBLISH was answered: {error}")));
            }
        }
        latency.saturating_record(sent.elapsed().as_nanos() as u64);
    }

    let elapsed = start.elapsed();
    let server =
        server.zip(plan.server_pid.map(process::usage).transpose()?).map(|(early, late)| late - early);
    Ok(Outcome {
        requests: batches * plan.pipeline as u64 * plan.subscribers as u64,
        elapsed,
        unanswered: 0,
        errors: 0,
        first_error: None,
        latency,
        lateness: histogram(),
        client: process::usage(std::process::id())? - client,
        server,
    })
}
