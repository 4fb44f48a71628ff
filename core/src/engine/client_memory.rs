//! What clients take, and `maxmemory-clients`: those that take most are closed when all together take too much.
//!
//! While there is no limit, nothing is measured. With one, a client is measured when its requests have been executed,
//! when it is sent something out of turn, when it has sent much of a request, and now and then on the clock.

use mortise_sdk::declare::config::BytesOrPercent;

use super::Engine;
use super::client::Client;
use super::outbox::Outbox;
use super::session::{ClientId, Queued, Session};
use crate::config::Config;

/// A lower limit would leave no room to set a higher one.
const LIMIT_MIN: u64 = 128 << 10;

/// How much all clients may take; `None` for as much as they like.
pub fn limit(config: &Config) -> Option<u64> {
    let limit = match config.clients.maxmemory_clients {
        BytesOrPercent::Bytes(0) | BytesOrPercent::Percent(0) => return None,
        BytesOrPercent::Bytes(bytes) => bytes,
        BytesOrPercent::Percent(_) if config.keyspace.maxmemory.0 == 0 => return None,
        BytesOrPercent::Percent(percent) => {
            (u128::from(config.keyspace.maxmemory.0) * u128::from(percent) / 100) as u64
        }
    };
    Some(limit.max(LIMIT_MIN))
}

/// What all clients take, as last measured.
#[derive(Default)]
pub struct ClientMemory {
    limit: Option<u64>,
    total: u64,
    /// None has been measured since there is a limit.
    is_new: bool,
}

impl Client {
    /// Bytes that it takes: buffers, the call that waits, its transaction, names of channels, keys and prefixes.
    pub fn memory(&self, waiting_args: u64) -> u64 {
        let outbox = &*self.outbox;
        let own = size_of::<Client>() + size_of::<Session>() + size_of::<Outbox>();
        let queue = self.queued_len + self.queued.unwrap_or(0) * size_of::<Queued>();
        outbox.held() + outbox.backlog() + waiting_args + (own + queue + self.names_memory()) as u64
    }

    /// Bytes of what it listens to, watches or tracks by name.
    fn names_memory(&self) -> usize {
        /// What a name takes beside its bytes.
        const NAME: usize = 4 * size_of::<usize>();
        let prefixes = self.tracking.as_ref().map_or((0, 0), |tracker| {
            (tracker.prefixes.len(), tracker.prefixes.iter().map(|prefix| prefix.len()).sum())
        });
        let names = self.subscriptions() + self.watched.len() + prefixes.0;
        names * NAME + self.names_len + prefixes.1
    }
}

impl Engine {
    /// Bytes that a client takes.
    pub(crate) fn client_memory(&self, client: &Client) -> u64 {
        let waits = client.waits.and_then(|id| self.blocked.get(id));
        client.memory(waits.map_or(0, |wait| wait.args.view().iter().map(<[u8]>::len).sum::<usize>() as u64))
    }

    /// Takes over the limit.
    pub(super) fn follow_client_limit(&mut self) {
        let limit = limit(&self.config);
        let memory = &mut self.clients.memory;
        memory.is_new = limit.is_some();
        memory.limit = limit;
    }

    /// A client may take more than before.
    #[inline(always)]
    pub(crate) fn measure_client(&mut self, id: ClientId) {
        if self.clients.memory.limit.is_some() {
            self.measure(id);
        }
    }

    #[cold]
    fn measure(&mut self, id: ClientId) {
        // What is being closed anyway is no reason to close others, and replicas and the primary are limited otherwise.
        let measured = |client: &Client| match client {
            Client { is_replica: true, .. } | Client { is_primary: true, .. } => 0,
            client if client.outbox.is_closing() => 0,
            client => self.client_memory(client),
        };
        let Some(bytes) = self.clients.get(id).map(measured) else { return };
        let Some(client) = self.clients.get_mut(id) else { return };
        let before = std::mem::replace(&mut client.measured, bytes);
        self.clients.memory.total = self.clients.memory.total - before + bytes;
    }

    /// Measures a client, and closes those that take most while all together take too much. True if that client is one
    /// of them.
    #[inline(always)]
    pub(crate) fn limit_clients(&mut self, id: ClientId) -> bool {
        self.clients.memory.limit.is_some() && self.limit_clients_to_memory(id)
    }

    #[cold]
    fn limit_clients_to_memory(&mut self, id: ClientId) -> bool {
        if std::mem::take(&mut self.clients.memory.is_new) {
            self.measure_all();
        } else {
            self.measure(id);
        }
        self.evict_clients() && !self.clients.contains(id)
    }

    /// Measures all, and keeps them within the limit.
    pub(super) fn look_at_client_memory(&mut self) {
        if self.clients.memory.limit.is_some() {
            self.measure_all();
            self.evict_clients();
        }
    }

    fn measure_all(&mut self) {
        let ids: Vec<ClientId> = self.clients.iter().map(|client| client.id).collect();
        ids.into_iter().for_each(|id| self.measure(id));
    }

    /// Closes clients until the others take little enough; false if none was.
    pub(crate) fn evict_clients(&mut self) -> bool {
        self.evict_clients_but(None)
    }

    /// The same before keys go for the sake of clients; whose request is being executed stays. False if none was closed.
    pub(super) fn limit_other_clients(&mut self) -> bool {
        if self.clients.memory.limit.is_none() {
            return false;
        }
        self.measure_all();
        self.evict_clients_but(self.current)
    }

    fn evict_clients_but(&mut self, spared: Option<ClientId>) -> bool {
        let is_over = |engine: &Engine| {
            engine.clients.memory.limit.is_some_and(|limit| engine.clients.memory.total >= limit)
        };
        if !is_over(self) {
            return false;
        }
        let evictable =
            |client: &&Client| !client.no_evict && client.measured > 0 && Some(client.id) != spared;
        let mut largest: Vec<(u64, ClientId)> =
            self.clients.iter().filter(evictable).map(|client| (client.measured, client.id)).collect();
        largest.sort_unstable();
        let mut any = false;
        while is_over(self)
            && let Some((bytes, id)) = largest.pop()
        {
            let address = self.clients.get(id).map_or("", |client| &client.origin.address);
            tracing::info!("Evicting client: id={id} addr={address} tot-mem={bytes}");
            self.stats.evicted_clients += 1;
            if let Some(client) = self.clients.get(id) {
                client.outbox.leave(self.memory.leaving.begin((), bytes));
            }
            self.kill(id);
            any = true;
        }
        if is_over(self) {
            tracing::warn!("Over client maxmemory after evicting all evictable clients");
        }
        any
    }

    /// A client is gone, and takes nothing any more.
    pub(super) fn forget_client_memory(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get(id) {
            self.clients.memory.total -= client.measured;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::engine::testing::Bench;

    fn limited(bytes: u64) -> Bench {
        let mut bench = Bench::new();
        bench.engine.config.clients.maxmemory_clients = BytesOrPercent::Bytes(bytes);
        bench.engine.apply_config();
        bench
    }

    #[test]
    fn the_limit_is_a_number_or_a_share() {
        let mut config = Config::default();
        assert_eq!(limit(&config), None);
        for (setting, maxmemory, expected) in [
            (BytesOrPercent::Bytes(1 << 20), 0, Some(1 << 20)),
            (BytesOrPercent::Bytes(1), 0, Some(LIMIT_MIN)),
            (BytesOrPercent::Percent(7), 0, None),
            (BytesOrPercent::Percent(7), 100 << 20, Some((100 << 20) * 7 / 100)),
            (BytesOrPercent::Percent(100), u64::MAX, Some(u64::MAX)),
        ] {
            config.clients.maxmemory_clients = setting;
            config.keyspace.maxmemory.0 = maxmemory;
            assert_eq!(limit(&config), expected);
        }
    }

    #[test]
    fn those_that_take_most_go_first() {
        let mut bench = limited(1 << 20);
        let clients = [0; 4].map(|_| bench.connect());
        // Nobody reads what these are sent.
        for (client, times) in clients[..3].iter().zip([1, 4, 2]) {
            bench.ask(*client, &["SUBSCRIBE big"]);
            bench.ask(*client, &["PING"]);
            bench.outbox(*client).unwritten.fetch_add(times * (100 << 10), Relaxed);
        }
        bench.ask(clients[3], &["PING"]);
        assert!(clients.iter().all(|client| !bench.is_closed(*client)));
        bench.outbox(clients[0]).unwritten.fetch_add(500 << 10, Relaxed);
        bench.ask(clients[3], &["PING"]);
        bench.advance(1000);
        let closed = clients.map(|client| bench.is_closed(client));
        assert_eq!(closed, [true, false, false, false]);
        assert_eq!(bench.engine.stats.evicted_clients, 1);
        assert_eq!(bench.engine.clients.connected(), 3);
    }

    #[test]
    fn a_large_request_counts_as_a_whole_from_its_beginning() {
        let mut bench = limited(1 << 20);
        let (client, other) = (bench.connect(), bench.connect());
        bench.outbox(client).unread.store(16 << 10, Relaxed);
        bench.outbox(client).announced.store(2 << 20, Relaxed);
        bench.advance(1000);
        assert!(bench.is_closed(client) && !bench.is_closed(other));
    }

    #[test]
    fn who_takes_too_much_goes_with_its_own_request() {
        let mut bench = limited(200_000);
        let (client, other) = (bench.connect(), bench.connect());
        let mut asked = 0;
        while !bench.is_closed(client) {
            bench.ask(client, &[&format!("WATCH a-key-with-a-long-name-{asked}")]);
            asked += 1;
        }
        assert!((500..5000).contains(&asked), "{asked}");
        assert_eq!(bench.ask(other, &["PING"]), "+PONG\r\n");
    }

    #[test]
    fn names_are_measured_and_given_back() {
        let mut bench = limited(100 << 20);
        let client = bench.connect();
        let memory = |bench: &mut Bench| {
            bench.ask(client, &["PING"]);
            bench.engine.clients.get(bench.id(client)).unwrap().measured
        };
        bench.ask(client, &["HELLO 3"]);
        let before = memory(&mut bench);
        let words = format!("some-{}", "x".repeat(1000));
        for (begin, end) in [
            (format!("SUBSCRIBE {words}"), "UNSUBSCRIBE".to_owned()),
            (format!("PSUBSCRIBE {words}"), "PUNSUBSCRIBE".to_owned()),
            (format!("SSUBSCRIBE {words} {words}"), format!("SUNSUBSCRIBE {words}")),
            (format!("WATCH {words} {words}"), "UNWATCH".to_owned()),
            (format!("CLIENT TRACKING ON BCAST PREFIX {words}"), "CLIENT TRACKING OFF".to_owned()),
        ] {
            bench.ask(client, &[&begin]);
            let during = memory(&mut bench);
            bench.ask(client, &[&end]);
            assert!(during - before >= 1000 && during - before < 2000, "{begin}: {during} after {before}");
            assert_eq!(memory(&mut bench), before, "{end}");
        }
        let own = bench.id(client);
        bench.engine.kill(own);
        assert_eq!(bench.engine.clients.memory.total, 0);
    }

    #[test]
    fn who_is_exempt_stays() {
        let mut bench = limited(200_000);
        let (client, other) = (bench.connect(), bench.connect());
        bench.ask(client, &["CLIENT NO-EVICT ON"]);
        bench.outbox(client).unwritten.fetch_add(1 << 20, Relaxed);
        bench.advance(200);
        assert!(!bench.is_closed(client) && bench.is_closed(other));
        bench.ask(client, &["CLIENT NO-EVICT OFF"]);
        assert!(bench.is_closed(client));
    }
}
