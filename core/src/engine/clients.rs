//! All clients: finding them, pausing them, keeping their output within limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::Engine;
use super::client::{Client, Origin};
use super::client_memory::ClientMemory;
use super::outbox::Outbox;
use super::session::{ClientId, Session};
use crate::config::values::BufferLimit;

/// CLIENT PAUSE, and what else makes writes wait.
#[derive(Default, Clone, Copy)]
pub struct Pause {
    until_ms: i64,
    all: bool,
    /// Writes wait for the end of a failover.
    pub for_failover: bool,
    /// Writes wait for the server's end, or for its being called off.
    pub for_shutdown: bool,
}

impl Pause {
    /// Pauses everything or only writes. A pause that is under way is never shortened or weakened.
    pub fn begin(&mut self, until_ms: i64, all: bool, now_ms: i64) {
        if self.until_ms <= now_ms {
            (self.until_ms, self.all) = (until_ms, all);
        } else {
            self.until_ms = self.until_ms.max(until_ms);
            self.all |= all;
        }
    }

    /// Ends what CLIENT PAUSE began.
    pub fn end(&mut self) {
        (self.until_ms, self.all) = (0, false);
    }

    /// Whether writes wait.
    pub fn stops_writes(self, now_ms: i64) -> bool {
        self.until_ms > now_ms || self.for_failover || self.for_shutdown
    }

    /// Whether everything waits.
    pub fn stops_all(self, now_ms: i64) -> bool {
        self.all && self.until_ms > now_ms
    }

    /// When it ends; `None` if there is none to end.
    pub fn until_ms(self) -> Option<i64> {
        (self.until_ms != 0).then_some(self.until_ms)
    }
}

/// Gives each connection a number, also while the engine is held by a run.
#[derive(Default)]
pub struct ClientIds(AtomicU64);

impl ClientIds {
    /// The next number: never one twice, and rising.
    pub fn next(&self) -> ClientId {
        self.0.fetch_add(1, Relaxed) + 1
    }
}

/// The clients there are.
#[derive(Default)]
pub struct Clients {
    by_id: BTreeMap<ClientId, Client>,
    /// Where their numbers come from.
    pub ids: Arc<ClientIds>,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// What they take.
    pub memory: ClientMemory,
    /// When some of them were last looked at on the clock, and which is the next.
    looked_at_ms: i64,
    next_look: ClientId,
}

impl Clients {
    /// How many there are.
    pub fn connected(&self) -> usize {
        self.by_id.len()
    }

    /// A client.
    pub fn get(&self, id: ClientId) -> Option<&Client> {
        self.by_id.get(&id)
    }

    /// A client, to be changed.
    pub fn get_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.by_id.get_mut(&id)
    }

    /// Whether there is a client of this number.
    pub fn contains(&self, id: ClientId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// All of them by their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.by_id.values()
    }
}

impl Engine {
    /// Puts a session into a database.
    pub fn select(&mut self, session: &mut Session, db: u32) {
        session.db = db;
        if let Some(client) = self.clients.get_mut(session.id) {
            client.db = db;
        }
    }

    /// A script of the session is over, however it has ended: the SELECT of a script is its own.
    pub(crate) fn return_home(&mut self, session: &mut Session) {
        if let Some(db) = session.home.take()
            && db != session.db
        {
            self.select(session, db);
        }
    }

    /// A connection was made: its session. `None` if there are as many as `maxclients` allows.
    pub fn connect(&mut self, outbox: Arc<Outbox>, origin: Origin) -> Option<Box<Session>> {
        let session = Session::arriving(&self.clients.ids, outbox, &origin, &self.users);
        self.refresh_clock();
        self.admit_client(&session, origin).then_some(session)
    }

    /// Enters a connection among the clients; false if there are as many as `maxclients` allows.
    pub(super) fn admit_client(&mut self, session: &Session, origin: Origin) -> bool {
        if self.clients.connected() >= self.config.clients.maxclients as usize {
            self.stats.rejected_connections += 1;
            return false;
        }
        self.stats.connections += 1;
        let client = Client::new(session, origin, self.now_ms);
        self.clients.by_id.insert(session.id, client);
        self.stats.max_clients = self.stats.max_clients.max(self.clients.connected() as u64);
        true
    }

    /// Enters the connection to the primary among the clients, however many there are.
    pub(crate) fn admit_primary(&mut self, session: &Session, origin: Origin) {
        let mut client = Client::new(session, origin, self.now_ms);
        client.is_primary = true;
        self.clients.by_id.insert(session.id, client);
    }

    /// A connection is gone; what it watched, listened to and waited for goes with it.
    pub fn disconnect(&mut self, id: ClientId) {
        if let Some(wait) = self.clients.get(id).and_then(|client| client.waits) {
            self.unpark(wait);
        }
        self.unwatch(id);
        self.unsubscribe_all(id);
        self.end_tracking(id);
        self.end_monitor(id);
        self.forget_client_memory(id);
        self.clients.by_id.remove(&id);
        self.lose_replica(id);
    }

    /// Sends a frame to a client, out of turn. A client whose backlog grows beyond its limit is closed.
    pub(crate) fn deliver(&mut self, id: ClientId, outbox: &Arc<Outbox>, frame: &Bytes) {
        // Beside the reply of the command that is running, not in the middle of it.
        if self.retried == Some(id) {
            self.retried_pushes.extend_from_slice(frame);
            return;
        }
        if self.current == Some(id) {
            self.pushes.extend_from_slice(frame);
            return;
        }
        if outbox.push(frame) {
            self.wake.push(outbox.clone());
        }
        let backlog = outbox.backlog();
        if backlog > self.output_limits_min {
            self.check_output_limit(id, backlog);
        }
        self.measure_client(id);
    }

    /// Sends a frame to a client, out of turn; if its own command is running, behind the reply.
    pub(crate) fn deliver_behind(&mut self, id: ClientId, outbox: &Arc<Outbox>, frame: &Bytes) {
        if self.current == Some(id) && self.retried != Some(id) {
            self.pushes_behind.extend_from_slice(frame);
        } else {
            self.deliver(id, outbox, frame);
        }
    }

    /// The client whose command runs, or runs again after it has waited.
    pub(crate) fn acting(&self) -> Option<ClientId> {
        self.retried.or(self.current)
    }

    /// What was going to stand behind the reply comes before it: the command has not begun yet.
    pub(crate) fn bring_forward(&mut self) {
        self.pushes.append(&mut self.pushes_behind);
    }

    /// Whether a client's replies are more than it may leave unread, those counted that are not sent yet.
    #[cold]
    pub(super) fn is_flooded(&mut self, session: &Session, unsent: u64) -> bool {
        self.check_output_limit(session.id, session.outbox.backlog() + unsent);
        session.outbox.is_closing()
    }

    /// Closes a client whose backlog is beyond its hard limit, or has been beyond the soft one for too long.
    pub(crate) fn check_output_limit(&mut self, id: ClientId, backlog: u64) {
        let Some(client) = self.clients.by_id.get(&id) else { return };
        let limit = self.output_limit(client);
        let backlog = backlog + crate::replication::primary::unsent(self, client);
        let Some(client) = self.clients.by_id.get_mut(&id) else { return };
        let hard = limit.hard > 0 && backlog >= limit.hard;
        let over_soft = limit.soft > 0 && backlog >= limit.soft;
        let since = over_soft.then(|| *client.over_soft_limit_ms.get_or_insert(self.now_ms));
        if !over_soft {
            client.over_soft_limit_ms = None;
        }
        let soft = since.is_some_and(|since| self.now_ms - since > limit.soft_seconds as i64 * 1000);
        if (hard || soft) && !client.outbox.is_closing() {
            let outbox = client.outbox.clone();
            tracing::warn!(
                "Client id={id} addr={} scheduled to be closed ASAP for overcoming of output buffer limits.",
                client.origin.address
            );
            self.stats.output_limit_disconnections += 1;
            outbox.close();
            self.wake.push(outbox);
        }
    }

    /// How much a client may leave unread. What is kept for all replicas anyway costs nothing that one does not read.
    fn output_limit(&self, client: &Client) -> BufferLimit {
        let limits = &self.config.clients.client_output_buffer_limit;
        if !client.is_replica {
            return if client.subscriptions() > 0 { limits.pubsub } else { limits.normal };
        }
        let kept = self.config.replication.repl_backlog_size.0;
        let at_least = |limit: u64| if limit > 0 { limit.max(kept) } else { 0 };
        let limit = limits.replica;
        BufferLimit { hard: at_least(limit.hard), soft: at_least(limit.soft), ..limit }
    }

    /// A message to the client whose command runs: it stands beside the reply.
    pub(crate) fn push_to_caller(&mut self, frame: &[u8]) {
        self.pushes.extend_from_slice(frame);
    }

    /// Closes a client that is not the one whose command runs. For everybody else it is gone at once.
    pub fn kill(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get(id) {
            let outbox = client.outbox.clone();
            outbox.close();
            self.wake.push(outbox);
            self.disconnect(id);
        }
    }

    /// Ends CLIENT PAUSE: what waited for that is done after the current batch.
    pub fn unpause(&mut self) {
        self.clients.pause.end();
        self.unpaused = true;
    }

    /// Looks at some of the clients, so that each has its turn about once a second: closes those that are idle for too
    /// long or have been over their soft limit for too long, and gives back what their read buffers do not need.
    pub(super) fn look_at_clients(&mut self, period_ms: u64) {
        const LOOKS_MIN: usize = 5;
        if self.now_ms - self.clients.looked_at_ms < period_ms as i64 {
            return;
        }
        self.clients.looked_at_ms = self.now_ms;
        let connected = self.clients.connected();
        let looks = (connected * period_ms as usize / 1000).max(LOOKS_MIN).min(connected);
        let next = self.clients.next_look;
        let ahead = self.clients.by_id.range(next..).chain(self.clients.by_id.range(..next));
        let ids: Vec<ClientId> = ahead.map(|(id, _)| *id).take(looks).collect();
        for id in ids {
            self.clients.next_look = id + 1;
            self.look_at_client(id);
        }
    }

    fn look_at_client(&mut self, id: ClientId) {
        const IDLE_SHRINK_S: i64 = 2;
        let Some(client) = self.clients.by_id.get_mut(&id) else { return };
        let bytes_out = client.outbox.bytes_out.load(Relaxed);
        let backlog = client.outbox.backlog();
        if bytes_out != client.seen_bytes_out && (backlog > 0 || client.subscriptions() > 0) {
            // It sends nothing, but it reads.
            client.outbox.active_ms.store(self.now_ms as u64, Relaxed);
        }
        client.seen_bytes_out = bytes_out;
        let idle_s = client.idle_s(self.now_ms);
        let timeout_s = i64::from(self.config.clients.timeout);
        let is_of_replication = client.is_replica || client.is_primary;
        let listens = client.subscriptions() > 0 || self.monitors.iter().any(|monitor| monitor.id == id);
        let may_idle = is_of_replication || listens || client.waits.is_some();
        if timeout_s > 0 && idle_s > timeout_s && !may_idle {
            tracing::debug!("Closing idle client id={id}");
            self.kill(id);
            return;
        }
        client.outbox.shrink_input(idle_s > IDLE_SHRINK_S);
        if backlog > self.output_limits_min || client.over_soft_limit_ms.is_some() {
            self.check_output_limit(id, backlog);
        }
    }
}
