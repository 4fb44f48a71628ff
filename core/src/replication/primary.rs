//! Who follows this server: how a client becomes a replica, and what is done about replicas on the clock.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mortise_sdk::args as numbers;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;
use mortise_sdk::{Error, Result, error};
use parking_lot::Mutex;

use super::backlog::{Backlog, Feed};
use crate::engine::Engine;
use crate::engine::args::Args;
use crate::engine::call::Call;
use crate::engine::client::Client;
use crate::engine::outbox::Outbox;
use crate::engine::session::{ClientId, Replies};
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[PSYNC, SYNC, REPLCONF];

const SERVER: Spec = Spec::group("server");

/// What a client has said of itself that wants to become a replica.
#[derive(Clone, Debug, Default)]
pub struct Greeting {
    /// The port on which it listens; zero if it has not said so.
    pub port: u16,
    /// Where it can be reached, if it is not where it comes from.
    pub ip: Option<String>,
    /// It knows the end of a snapshot by a mark.
    pub eof: bool,
    /// It knows that a stream may change its name.
    pub psync2: bool,
    /// It wants the data alone, and not the stream.
    pub only_data: bool,
    /// What it does not want of the data.
    pub without: Without,
}

impl Greeting {
    /// What the log calls a replica that comes from there.
    fn called(&self, ip: &str) -> String {
        let ip = self.ip.as_deref().unwrap_or(ip);
        match self.port {
            0 => format!("{ip}:<unknown-replica-port>"),
            port => format!("{ip}:{port}"),
        }
    }
}

/// What a snapshot is to leave out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Without {
    /// Keys.
    pub keys: bool,
    /// Libraries of functions.
    pub functions: bool,
}

impl Without {
    /// Whether it is to leave out anything.
    pub fn anything(self) -> bool {
        self.keys || self.functions
    }
}

/// How far a replica is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It waits for a snapshot to begin.
    Waiting,
    /// The snapshot of this number is drawn for it.
    Drawing(u64),
    /// It is sent the snapshot's file.
    Sending(u64),
    /// It follows the stream.
    Online,
    /// It has the data, and wants no more.
    Sated,
}

/// A client that follows this server.
pub struct Replica {
    /// The client.
    pub id: ClientId,
    /// Where it comes from, without the port.
    pub ip: String,
    /// What it has said of itself.
    pub greeting: Greeting,
    /// How far it is.
    pub stage: Stage,
    /// How far it has said that it is in the stream.
    pub acked: u64,
    /// How much of it it has said to be durable there.
    pub durable: Option<u64>,
    /// When it was last heard of: Unix milliseconds.
    pub acked_ms: i64,
    /// How much it had said by then, as was seen last.
    said: u64,
    /// When it has asked for the data: Unix milliseconds.
    pub asked_ms: i64,
    /// It has been sent everything but has not said yet that it got it.
    pub starts_on_ack: bool,
    /// It speaks SYNC, which has no names and acknowledges nothing.
    pub is_old: bool,
    /// What it is sent of the stream.
    pub feed: Option<Arc<Feed>>,
    /// The way to its connection.
    pub outbox: Arc<Outbox>,
    /// How much it had been sent when it was last seen to take anything, and when that was.
    progress: (u64, i64),
}

impl Replica {
    /// The first offset that is still to be kept for it.
    pub(super) fn needs(&self) -> Option<u64> {
        self.feed.as_ref().map(|feed| feed.next())
    }

    /// Whether what the stream gets is sent to it.
    pub(super) fn is_fed(&self) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.flows())
    }

    /// How much is kept for it of a stream that is so long.
    pub fn behind(&self, end: u64) -> u64 {
        self.needs().map_or(0, |next| end.saturating_sub(next))
    }

    /// Whether it will say how far it is.
    pub(super) fn says_how_far(&self) -> bool {
        !self.is_old && !self.greeting.only_data
    }

    /// What the log calls it.
    pub fn called(&self) -> String {
        self.greeting.called(&self.ip)
    }

    /// How INFO calls its stage.
    pub fn stage_name(&self) -> Option<&'static str> {
        match self.stage {
            Stage::Waiting | Stage::Drawing(_) => Some("wait_bgsave"),
            Stage::Sending(_) => Some("send_bulk"),
            Stage::Online => Some("online"),
            Stage::Sated => None,
        }
    }
}

const PSYNC: Command = Spec {
    usage: "PSYNC replicationid offset:int",
    about: "Follows the stream of changes, from an offset on if that is possible. It serves replication.",
    since: "2.8.0",
    flags: &[ADMIN, NOSCRIPT, NO_ASYNC_LOADING, NO_MULTI],
    arity: Some(-3),
    ..SERVER
}
.runs(psync);

const SYNC: Command = Spec {
    usage: "SYNC",
    about: "Follows the stream of changes from the data on. It serves replication.",
    flags: &[ADMIN, NOSCRIPT, NO_ASYNC_LOADING, NO_MULTI],
    ..SERVER
}
.runs(psync);

/// What a client asks for with PSYNC: the name of a stream, and the first offset it has not got, counted from one.
struct Wish<'a> {
    name: &'a [u8],
    offset: i64,
}

fn psync(call: &mut Call<'_>) -> Result {
    let id = call.session.id;
    // To Redis whoever is shown what is executed is a replica.
    if call.session.is_replica || call.session.is_monitor {
        return Ok(());
    }
    let wish = match call.argc() {
        1 => None,
        _ => {
            let Some(offset) = numbers::parse_integer(call.arg(2)) else {
                let called = call.engine.called(id);
                tracing::warn!("Replica {called} asks for synchronization but with a wrong offset");
                return Err(error::NOT_INTEGER);
            };
            if call.argc() > 3 && call.arg(3).eq_ignore_ascii_case(b"failover") {
                obey_failover(call)?;
            }
            Some(Wish { name: call.args().at(1), offset })
        }
    };
    if call.engine.replication.failover.is_some() {
        return Err(Error::new("NOMASTERLINK Can't SYNC while failing over"));
    }
    if call.engine.replication.following.as_ref().is_some_and(|following| !following.is_up()) {
        return Err(Error::new("NOMASTERLINK Can't SYNC while not connected with my master"));
    }
    let is_pending = call.out().mark() > call.session.replies_start;
    if is_pending || call.session.outbox.backlog() > 0 {
        return Err(Error::new("ERR SYNC and PSYNC are invalid with pending output"));
    }
    let greeting = call.engine.replication.greetings.get(&id).cloned().unwrap_or_default();
    if greeting.without.anything() && !greeting.eof {
        return Err(Error::new("ERR Filtered replica requires EOF capability"));
    }
    let Some(mut replica) = call.engine.become_replica(id, greeting, wish.is_none()) else { return Ok(()) };
    tracing::info!("Replica {} asks for synchronization", replica.called());
    call.session.is_replica = true;
    call.session.replies = Replies::Replica;
    // What others send would stand in the stream.
    call.engine.unsubscribe_all(id);
    call.engine.end_tracking(id);
    (call.session.subscriptions, call.session.reads.tracked) = (0, false);
    if let Some(wish) = wish {
        // What is kept is trimmed before it is seen whether the offset is there, and not between that and sending it.
        call.engine.pass_stream_on();
        if let Some(from) = call.engine.can_go_on(&replica, &wish) {
            let name = call.engine.replication.name;
            match replica.greeting.psync2 {
                true => call.out().simple(&format!("CONTINUE {name}")),
                false => call.out().simple("CONTINUE"),
            }
            replica.stage = Stage::Online;
            call.engine.go_on(replica, from);
            return Ok(());
        }
        call.engine.replication.counts.partial_refused += u64::from(wish.name.first() != Some(&b'?'));
    }
    call.engine.begin_full(replica);
    Ok(())
}

/// The primary asks this server to take its place.
fn obey_failover(call: &mut Call<'_>) -> Result {
    tracing::warn!("Failover request received for replid {}.", call.arg(1).escape_ascii());
    if !call.engine.replication.is_replica() {
        return Err(Error::new("ERR PSYNC FAILOVER can't be sent to a master."));
    }
    if !call.engine.replication.name.is(call.arg(1)) {
        return Err(Error::new("ERR PSYNC FAILOVER replid must match my replid."));
    }
    let asker = crate::session::line_of(call.engine, call.session.id, call.args());
    call.engine.stand_alone();
    tracing::info!("MASTER MODE enabled (failover request from '{asker}')");
    Ok(())
}

impl Engine {
    /// What the log calls a client that wants to become a replica.
    fn called(&self, id: ClientId) -> String {
        let ip = self.clients.get(id).map_or("", ip_of);
        self.replication
            .greetings
            .get(&id)
            .map_or_else(|| Greeting::default().called(ip), |own| own.called(ip))
    }

    /// A client becomes a replica; nothing if there is no such client any more.
    fn become_replica(&mut self, id: ClientId, greeting: Greeting, is_old: bool) -> Option<Replica> {
        let now_ms = self.now_ms;
        let client = self.clients.get_mut(id)?;
        client.is_replica = true;
        Some(Replica {
            id,
            ip: ip_of(client).to_owned(),
            greeting,
            stage: Stage::Waiting,
            acked: 0,
            durable: None,
            acked_ms: now_ms,
            said: 0,
            asked_ms: now_ms,
            starts_on_ack: false,
            is_old,
            feed: None,
            outbox: client.outbox.clone(),
            progress: (0, now_ms),
        })
    }

    /// From which offset on a replica can follow the stream without being sent the data; nothing if it cannot.
    fn can_go_on(&self, replica: &Replica, wish: &Wish<'_>) -> Option<u64> {
        let state = &self.replication;
        let asked = String::from_utf8_lossy(wish.name);
        let is_former = state.former.is(wish.name);
        let is_known = state.name.is(wish.name) || is_former && wish.offset <= state.former_end;
        if !is_known {
            if wish.name.first() == Some(&b'?') {
                tracing::info!("Full resync requested by replica {}", replica.called());
            } else if !is_former {
                tracing::info!(
                    "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{asked}', my \
                     replication IDs are '{}' and '{}')",
                    state.name,
                    state.former
                );
            } else {
                tracing::info!(
                    "Partial resynchronization not accepted: Requested offset for second ID was {}, but I can reply up to {}",
                    wish.offset,
                    state.former_end
                );
            }
            return None;
        }
        // Counted from one, as the first byte that is wanted.
        let from = u64::try_from(wish.offset).ok().and_then(|offset| offset.checked_sub(1));
        let kept = state.backlog.as_ref().map(|backlog| backlog.lock().start());
        if let (Some(from), Some(start)) = (from, kept)
            && (start..=state.offset).contains(&from)
        {
            return Some(from);
        }
        tracing::info!(
            "Unable to partial resync with replica {} for lack of backlog (Replica request was: {}).",
            replica.called(),
            wish.offset
        );
        if from.is_some_and(|from| from > state.offset) {
            tracing::warn!(
                "Warning: replica {} tried to PSYNC with an offset that is greater than the master replication offset.",
                replica.called()
            );
        }
        None
    }

    /// A replica follows the stream from an offset on.
    fn go_on(&mut self, mut replica: Replica, from: u64) {
        let Some(backlog) = self.replication.backlog.clone() else { return };
        tracing::info!(
            "Partial resynchronization request from {} accepted. Sending {} bytes of backlog starting from offset {}.",
            replica.called(),
            self.replication.offset - from,
            from + 1
        );
        self.replication.counts.partial += 1;
        let feed = self.feed(backlog, from);
        feed.start();
        replica.outbox.feed_from(feed.clone());
        replica.feed = Some(feed);
        self.wake.push(replica.outbox.clone());
        self.replication.replicas.insert(replica.id, replica);
        self.count_good_replicas();
    }

    /// What a replica is sent of the stream, from an offset on.
    pub(super) fn feed(&self, backlog: Arc<Mutex<Backlog>>, from: u64) -> Arc<Feed> {
        let feed = Feed::new(backlog, from);
        if self.config.replication.repl_disable_tcp_nodelay {
            feed.collect();
        }
        Arc::new(feed)
    }

    /// A client is gone: if it was a replica, it is none any more.
    pub(crate) fn lose_replica(&mut self, id: ClientId) {
        self.replication.greetings.remove(&id);
        let Some(replica) = self.replication.replicas.remove(&id) else { return };
        self.replication.counts.bytes_out += replica.outbox.bytes_out.load(Relaxed);
        tracing::warn!("Connection with replica {} lost.", replica.called());
        if self.replication.replicas.is_empty() {
            self.replication.alone_since_ms = self.now_ms;
        }
        // Whoever sends it a snapshot does not wait until it takes more.
        replica.outbox.close();
        self.leave_snapshot(&replica);
        // What was kept for it alone is not needed any more.
        self.trim_backlog();
        self.count_good_replicas();
    }

    /// Disconnects all replicas: they come back, and learn then what has changed.
    pub(super) fn disconnect_replicas(&mut self) {
        let ids: Vec<ClientId> = self.replication.replicas.keys().copied().collect();
        ids.into_iter().for_each(|id| self.kill(id));
    }

    /// Replicas whose stage this is, in the order of their arrival.
    pub(super) fn replicas_at(&self, stage: Stage) -> impl Iterator<Item = &Replica> {
        self.replication.replicas.values().filter(move |replica| replica.stage == stage)
    }

    /// What is done about replicas on the clock, most of it once a second.
    pub(crate) fn look_at_replicas(&mut self) {
        const PERIOD_MS: i64 = 1000;
        self.trim_backlog();
        if self.now_ms - self.replication.looked_at_ms < PERIOD_MS {
            return;
        }
        self.replication.looked_at_ms = self.now_ms;
        self.ping_replicas();
        self.part_with_silent_replicas();
        self.forget_backlog();
        self.begin_waiting_snapshots();
        self.remove_file_for_replicas();
        self.count_good_replicas();
        self.replication.looks += 1;
    }

    fn ping_replicas(&mut self) {
        let period = u64::from(self.config.replication.repl_ping_replica_period);
        let is_time = self.replication.looks.is_multiple_of(period) && !self.replication.waits_for_failover();
        if is_time && !self.replication.replicas.is_empty() {
            self.replication.tell(&[b"PING"]);
        }
        // Those that wait for their data hear that this server is still there.
        let is_diskless = self.draws_for_replicas();
        let waiting: Vec<Arc<Outbox>> = self
            .replication
            .replicas
            .values()
            .filter(|replica| match replica.stage {
                Stage::Waiting => true,
                Stage::Drawing(_) => !is_diskless,
                _ => false,
            })
            .map(|replica| replica.outbox.clone())
            .collect();
        let newline = bytes::Bytes::from_static(b"\n");
        for outbox in waiting {
            if outbox.push(&newline) {
                self.wake.push(outbox);
            }
        }
    }

    fn part_with_silent_replicas(&mut self) {
        let timeout_ms = i64::from(self.config.replication.repl_timeout) * 1000;
        let now_ms = self.now_ms;
        let mut silent = Vec::new();
        for replica in self.replication.replicas.values_mut() {
            // A replica that loads says nothing but newlines, and while a script runs nobody obeys what it says.
            let said = replica.outbox.bytes_in.load(Relaxed);
            if said != replica.said {
                (replica.said, replica.acked_ms) = (said, now_ms);
            }
            let sent = replica.outbox.bytes_out.load(Relaxed);
            if sent != replica.progress.0 || replica.outbox.backlog() == 0 {
                replica.progress = (sent, now_ms);
            }
            let (since_ms, how) = match replica.stage {
                Stage::Online if replica.is_old => continue,
                Stage::Online | Stage::Sated => (replica.acked_ms, "streaming sync"),
                Stage::Waiting => continue,
                Stage::Drawing(_) | Stage::Sending(_) => (replica.progress.1, "full sync"),
            };
            if now_ms - since_ms > timeout_ms {
                tracing::warn!("Disconnecting timedout replica ({how}): {}", replica.called());
                silent.push(replica.id);
            }
        }
        silent.into_iter().for_each(|id| self.kill(id));
    }

    /// Without replicas for long, nothing is kept. Whoever comes back then must not take what follows for a continuation.
    fn forget_backlog(&mut self) {
        let ttl_s = self.config.replication.repl_backlog_ttl;
        let state = &self.replication;
        if ttl_s == 0 || !state.replicas.is_empty() || !state.is_fed() {
            return;
        }
        if self.now_ms - state.alone_since_ms > i64::from(ttl_s) * 1000 {
            self.forget_stream_names();
            self.end_backlog();
            tracing::info!("Replication backlog freed after {ttl_s} seconds without connected replicas.");
        }
    }
}

const REPLCONF: Command = Spec {
    usage: "REPLCONF",
    about: "Tells a primary about its replica, and the other way round. It serves replication.",
    since: "3.0.0",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE, ALLOW_BUSY, SYSCMD],
    arity: Some(-1),
    ..SERVER
}
.runs(replconf);

fn replconf(call: &mut Call<'_>) -> Result {
    const ADDRESS_LEN_MAX: usize = 256;
    if call.argc().is_multiple_of(2) {
        return Err(error::SYNTAX);
    }
    let id = call.session.id;
    let mut at = 1;
    while at < call.argc() {
        let (option, value) = (call.arg(at).to_ascii_lowercase(), call.arg(at + 1));
        at += 2;
        match &option[..] {
            b"ack" => {
                if let Some(said) = acknowledged(call.args(), at - 2) {
                    call.engine.acknowledge(id, said);
                }
                // Nothing is answered, whatever follows.
                return Ok(());
            }
            b"getack" => {
                call.engine.answer_getack();
                return Ok(());
            }
            _ => {}
        }
        let greeting = call.engine.replication.greetings.entry(id).or_default();
        match &option[..] {
            b"listening-port" => {
                let port = numbers::parse_integer(value).ok_or(error::NOT_INTEGER)?;
                greeting.port = u16::try_from(port).unwrap_or_default();
            }
            b"ip-address" if value.len() < ADDRESS_LEN_MAX => {
                greeting.ip = Some(String::from_utf8_lossy(value).into_owned()).filter(|ip| !ip.is_empty());
            }
            b"ip-address" => {
                let text = "ERR REPLCONF ip-address provided by replica instance is too long: ";
                return Err(Error::text(format!("{text}{} bytes", value.len())));
            }
            b"capa" => match &value.to_ascii_lowercase()[..] {
                b"eof" => greeting.eof = true,
                b"psync2" => greeting.psync2 = true,
                // What a newer replica is able to do beside is of no use here.
                _ => {}
            },
            b"rdb-only" => {
                greeting.only_data = match numbers::parse_integer(value).ok_or(error::NOT_INTEGER)? {
                    0 => false,
                    1 => true,
                    _ => return Err(Error::new("ERR value is out of range, value must between 0 and 1")),
                };
            }
            b"rdb-filter-only" => {
                let mut without = Without { keys: true, functions: true };
                for word in value.split(|byte| *byte == b' ').filter(|word| !word.is_empty()) {
                    if !word.eq_ignore_ascii_case(b"functions") {
                        return Err(Error::quoting("ERR Unsupported rdb-filter-only option: {}", &[word]));
                    }
                    without.functions = false;
                }
                greeting.without = without;
            }
            _ => return Err(Error::quoting("ERR Unrecognized REPLCONF option: {}", &[call.arg(at - 2)])),
        }
    }
    call.ok()
}

/// How far a replica is in the stream, and how much of that is durable there, if it has a journal.
pub(crate) type Acknowledged = (u64, Option<u64>);

/// What the words from `at` on say of that: `ACK offset [FACK offset]`.
pub(crate) fn acknowledged(args: Args<'_>, at: usize) -> Option<Acknowledged> {
    let number = |at: usize| u64::try_from(numbers::parse_integer(args.get(at)?)?).ok();
    let is = |at: usize, word: &[u8]| args.get(at).is_some_and(|said| said.eq_ignore_ascii_case(word));
    let durable = if is(at + 2, b"fack") { number(at + 3) } else { None };
    number(at + 1).filter(|_| is(at, b"ack")).map(|offset| (offset, durable))
}

impl Engine {
    /// A replica says how far it is.
    pub(crate) fn acknowledge(&mut self, id: ClientId, (offset, durable): Acknowledged) {
        let now_ms = self.now_ms;
        let Some(replica) = self.replication.replicas.get_mut(&id) else { return };
        (replica.acked, replica.acked_ms) = (replica.acked.max(offset), now_ms);
        replica.durable = replica.durable.max(durable);
        if replica.stage == Stage::Online && std::mem::take(&mut replica.starts_on_ack) {
            self.start_stream(id);
        }
        self.replication.acked = true;
        self.count_good_replicas();
    }

    /// A replica that has its data is sent the stream from where the data ends.
    pub(super) fn start_stream(&mut self, id: ClientId) {
        let Some(replica) = self.replication.replicas.get(&id) else { return };
        tracing::info!("Synchronization with replica {} succeeded", replica.called());
        let Some(feed) = &replica.feed else { return };
        feed.start();
        let outbox = replica.outbox.clone();
        self.wake.push(outbox);
        self.count_good_replicas();
    }
}

/// Where a client comes from, without the port.
fn ip_of(client: &Client) -> &str {
    let (ip, _) = client.origin.address.rsplit_once(':').unwrap_or((&client.origin.address, ""));
    ip.trim_matches(['[', ']'])
}

/// How much of a replica's output counts against its limit.
pub(crate) fn unsent(engine: &Engine, client: &Client) -> u64 {
    let replica = engine.replication.replicas.get(&client.id);
    replica.map_or(0, |replica| replica.behind(engine.replication.offset))
}
