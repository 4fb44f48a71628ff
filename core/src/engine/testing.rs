//! For tests: an engine with a clock that the test turns, and several clients that talk to it, without any socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use mortise_sdk::Result;
use mortise_sdk::declare::{RO, Spec, flags, key};
use mortise_sdk::resp::encode;

use super::Engine;
use super::batch::Batch;
use super::blocked::OnTimeout;
use super::call::{Call, Run};
use super::client::Origin;
use super::dispatch::Stop;
use super::event::Clock;
use super::outbox::Outbox;
use super::session::{ClientId, Session};
use crate::config::Config;
use crate::features;
use crate::resp::output::Output;
use crate::resp::request::{self, Parsed, Partial, RequestLimits};

/// A clock that stands still until it is turned, unless each look at it takes a time.
struct TestClock(Arc<AtomicI64>, Arc<AtomicI64>);

impl Clock for TestClock {
    fn unix_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic_ns(&self) -> u64 {
        let look_us = self.1.load(Ordering::Relaxed);
        (self.0.fetch_add(look_us, Ordering::Relaxed) + look_us) as u64 * 1000
    }
}

struct TestClient {
    id: ClientId,
    outbox: Arc<Outbox>,
    /// With the engine while a call waits.
    session: Option<Box<Session>>,
}

/// A blocking command that needs no data type: answers with the value's presence once the key is there.
const AWAIT: Spec = Spec {
    usage: "AWAIT key timeout:double",
    flags: &[flags::WRITE, flags::BLOCKING],
    keys: &[key("key", &[RO])],
    ..Spec::group("generic")
};

fn await_key(call: &mut Call<'_>) -> Result {
    let timeout = call.timeout(2)?;
    if call.exists(call.key(1)) {
        return call.reply(call.arg(1));
    }
    call.wait_for(&[call.arg(1)], timeout, OnTimeout::NullArray)
}

/// Answers once the key is gone.
const AWAIT_END: Spec = Spec { usage: "AWAIT.END key timeout:double", ..AWAIT };

fn await_end(call: &mut Call<'_>) -> Result {
    let timeout = call.timeout(2)?;
    if !call.exists(call.key(1)) {
        return call.reply(call.arg(1));
    }
    call.wait_for(&[call.arg(1)], timeout, OnTimeout::NullArray)?;
    call.retry_when_gone();
    Ok(())
}

/// Answers at a time of day, in three steps of which each names the next.
const AWAIT_TIME: Spec = Spec { usage: "AWAIT.TIME key ms:int timeout:double", ..AWAIT };

fn await_time(call: &mut Call<'_>) -> Result {
    let (time_ms, timeout) = (call.integer(2)?, call.timeout(3)?);
    let now_ms = call.engine.now_ms;
    if now_ms >= time_ms {
        return call.reply(call.arg(1));
    }
    call.wait_for(&[], timeout, OnTimeout::NullArray)?;
    call.retry_at(now_ms + ((time_ms - now_ms) / 2).max(1));
    Ok(())
}

/// An engine and its clients.
pub(crate) struct Bench {
    /// The engine.
    pub(crate) engine: Engine,
    time_us: Arc<AtomicI64>,
    look_us: Arc<AtomicI64>,
    clients: Vec<TestClient>,
}

/// When tests begin: Unix milliseconds.
const BEGIN_MS: i64 = 1_700_000_000_000;

impl Bench {
    /// An empty engine without clients.
    pub(crate) fn new() -> Bench {
        let time_us = Arc::new(AtomicI64::new(BEGIN_MS * 1000));
        let mut registry = features::registry().expect("the built-in commands are declared without mistakes");
        registry
            .install(
                [
                    (AWAIT, Run::Core(await_key)),
                    (AWAIT_END, Run::Core(await_end)),
                    (AWAIT_TIME, Run::Core(await_time)),
                ]
                .into_iter(),
                None,
            )
            .expect("no command has this name");
        let look_us: Arc<AtomicI64> = Arc::default();
        let clock = Box::new(TestClock(time_us.clone(), look_us.clone()));
        Bench {
            engine: Engine::new(Config::default(), Arc::new(registry), clock, 1),
            time_us,
            look_us,
            clients: Vec::new(),
        }
    }

    /// Connects a client; its number is its place, from 0.
    pub(crate) fn connect(&mut self) -> usize {
        let outbox = Arc::new(Outbox::new());
        let place = self.clients.len();
        let origin = Origin { address: format!("10.0.0.1:{place}"), is_local: true, ..Origin::default() };
        let session = self.engine.connect(outbox.clone(), origin).expect("there is room for a client");
        self.clients.push(TestClient { id: session.id, outbox, session: Some(session) });
        place
    }

    /// The number under which the engine knows a client.
    pub(crate) fn id(&self, client: usize) -> ClientId {
        self.clients[client].id
    }

    /// A client's outbox.
    pub(crate) fn outbox(&self, client: usize) -> &Outbox {
        &self.clients[client].outbox
    }

    /// Sends lines, whose words are separated by spaces, as one batch; returns what the client receives at once, on the
    /// wire. Empty while a call waits.
    pub(crate) fn ask(&mut self, client: usize, lines: &[&str]) -> String {
        let words = |line: &str| -> Vec<u8> {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            encode::request(words.into_iter())
        };
        let requests: Vec<u8> = lines.iter().flat_map(|line| words(line)).collect();
        self.say(client, &requests)
    }

    /// Sends requests as one batch; returns what the client receives at once.
    fn say(&mut self, client: usize, buffer: &[u8]) -> String {
        const LIMITS: RequestLimits = RequestLimits { bulk_len_max: i64::MAX, authenticated: true };
        let TestClient { session, outbox, .. } = &mut self.clients[client];
        let mut session = session.take().expect("the client's last call is over");
        let (mut batch, mut partial, mut end) = (Batch::default(), Partial::default(), 0);
        let registry = self.engine.registry.clone();
        while end < buffer.len() {
            let first = batch.spans.len();
            let parsed = request::parse(buffer, end, &mut partial, &mut batch.spans, LIMITS);
            let Parsed::Request(next) = parsed else { panic!("the requests are whole") };
            batch.add(&registry, &session, buffer, first, next);
            end = next;
        }
        outbox.note_input(buffer.len() as u64);
        let mut out = Output::default();
        let (_, stop) =
            self.engine.run(&mut session, &registry, (&batch, 0..batch.len()), buffer, &mut out, None);
        self.engine.broadcast();
        outbox.unread.store(0, Ordering::Relaxed);
        match stop {
            Stop::Waits(wait) => self.engine.park(session, wait),
            Stop::Closes => {
                outbox.close();
                self.engine.disconnect(session.id);
            }
            Stop::Done | Stop::Stale | Stop::Enough => self.clients[client].session = Some(session),
        }
        String::from_utf8_lossy(out.bytes()).into_owned() + &self.received(client)
    }

    /// What a client has received since: messages, and the replies of calls that have waited. What comes back to it to be
    /// executed is, as by its connection.
    pub(crate) fn received(&mut self, client: usize) -> String {
        let place = client;
        let client = &mut self.clients[place];
        let mut pieces = Vec::new();
        let session = client.outbox.take(&mut pieces);
        let mut rest = Vec::new();
        if let Some(mut session) = session {
            rest = std::mem::take(&mut session.rest);
            client.session = Some(session);
        }
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes().to_vec()).collect();
        let received = String::from_utf8_lossy(&bytes).into_owned();
        if rest.is_empty() { received } else { received + &self.say(place, &rest) }
    }

    /// Whether a client's connection is to be closed, or is.
    pub(crate) fn is_closed(&self, client: usize) -> bool {
        self.clients[client].outbox.is_closing()
    }

    /// From now on each look at the clock takes so long: commands do, as they look at it when they end.
    pub(crate) fn slow_down(&mut self, us: i64) {
        self.look_us.store(us, Ordering::Relaxed);
    }

    /// Turns the clock by less than a tick would notice.
    pub(crate) fn advance_us(&mut self, us: i64) {
        self.time_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Turns the clock, with a tick every 100 ms.
    pub(crate) fn advance(&mut self, ms: i64) {
        const PERIOD_MS: i64 = 100;
        let mut left = ms;
        while left > 0 {
            let step = left.min(PERIOD_MS);
            self.time_us.fetch_add(step * 1000, Ordering::Relaxed);
            left -= step;
            self.engine.tick(PERIOD_MS as u64);
            self.engine.broadcast();
        }
    }
}
