//! What clients no longer listen to or watch, because they have left or given it up, is forgotten little by little.
//!
//! A client may have named a million channels, each of which stands in a table. To forget them all at once, when it goes
//! or says RESET, UNWATCH or UNSUBSCRIBE without names, would hold everybody else up. So the names are taken from it as a
//! whole, and taken out of the tables in slices. Until then the tables hold what is no longer so, and who looks into them
//! leaves it out: a listener is one only if it knows of that itself, and a watcher only if its round is not over.
//!
//! The same is done with what was pending in a group of a stream to a consumer that has been removed.

use std::collections::{HashSet, VecDeque, btree_set, hash_set};

use super::call::Key;
use super::session::ClientId;
use super::{Engine, Job};
use crate::keyspace::SpaceId;
use crate::pubsub::Kind;
use crate::pubsub::channels::Listeners;
use crate::transactions::watch::Watched;
use crate::types::Object;

/// So many names are forgotten at once.
const AT_ONCE: usize = 64;

/// What is still to be forgotten.
#[derive(Default)]
pub(super) struct Leaving {
    names: VecDeque<Left>,
    pending: VecDeque<PendingOf>,
}

/// A group of a stream that still knows what was pending to a consumer that has been removed.
struct PendingOf {
    space: SpaceId,
    db: u32,
    key: Box<[u8]>,
    group: Box<[u8]>,
}

/// What one client has left at one time.
struct Left {
    id: ClientId,
    space: SpaceId,
    names: Names,
}

enum Names {
    Heard(Kind, hash_set::IntoIter<Box<[u8]>>),
    Watched(u32, std::vec::IntoIter<Watched>),
    Prefixes(btree_set::IntoIter<Box<[u8]>>),
}

impl Names {
    fn len(&self) -> usize {
        match self {
            Names::Heard(_, names) => names.len(),
            Names::Watched(_, keys) => keys.len(),
            Names::Prefixes(prefixes) => prefixes.len(),
        }
    }
}

impl Engine {
    /// A client no longer listens to any channel of a kind.
    pub(crate) fn leave_heard(&mut self, id: ClientId, kind: Kind) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let (space, names) = (client.space, client.take_heard(kind));
        self.leave(Left { id, space, names: Names::Heard(kind, names.into_iter()) });
    }

    /// A client listens to nothing any more.
    pub(crate) fn unsubscribe_all(&mut self, id: ClientId) {
        [Kind::Channel, Kind::Pattern, Kind::Shard].into_iter().for_each(|kind| self.leave_heard(id, kind));
    }

    /// A client no longer watches anything.
    pub(crate) fn unwatch(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.spoilt = false;
        if client.watched.is_empty() {
            return;
        }
        let (space, watched, round) = (client.space, client.take_watched(), client.watch_round);
        client.watch_round = round.wrapping_add(1);
        self.leave(Left { id, space, names: Names::Watched(round, watched.into_iter()) });
    }

    /// A client no longer hears of what changes under these prefixes.
    pub(crate) fn leave_prefixes(
        &mut self,
        id: ClientId,
        space: SpaceId,
        prefixes: btree_set::BTreeSet<Box<[u8]>>,
    ) {
        self.leave(Left { id, space, names: Names::Prefixes(prefixes.into_iter()) });
    }

    /// What a session has watched, the engine having been told: many keys are freed elsewhere.
    pub(crate) fn drop_watched(&mut self, watched: HashSet<Watched>) {
        if watched.len() > AT_ONCE {
            self.jobs.push(Job::Free(Box::new(move || drop(watched))));
        }
    }

    /// Few names are forgotten at once, unless they are to wait for others that came before.
    fn leave(&mut self, left: Left) {
        let len = left.names.len();
        if len == 0 {
            return;
        }
        self.leaving.names.push_back(left);
        if len <= AT_ONCE && self.leaving.names.len() == 1 {
            self.forget_names();
        }
    }

    /// Forgets some of what is to be forgotten; false if nothing is left to do.
    pub(crate) fn forget_names(&mut self) -> bool {
        let Engine { leaving, clients, pubsub, keyspace, tracking, .. } = self;
        let Some(Left { id, space, names }) = leaving.names.front_mut() else { return false };
        let (id, space) = (*id, *space);
        // It may be gone, or listen again to what it has given up.
        let mut client = clients.get_mut(id);
        let mut forgotten = 0;
        match names {
            Names::Heard(kind, names) => {
                for name in names.by_ref().take(AT_ONCE) {
                    if !client.as_ref().is_some_and(|client| client.heard(*kind).contains(&name)) {
                        pubsub.of(space).remove(*kind, &name, id);
                    }
                    client.as_mut().into_iter().for_each(|client| client.forgets(name.len()));
                    forgotten += 1;
                }
            }
            Names::Watched(round, watched) => {
                for Watched { db, key } in watched.by_ref().take(AT_ONCE) {
                    keyspace.db(space, db).0.interest.unwatch(&key, id, *round);
                    client.as_mut().into_iter().for_each(|client| client.forgets(key.len()));
                    forgotten += 1;
                }
            }
            Names::Prefixes(prefixes) => {
                let tracker = client.as_ref().and_then(|client| client.tracking.as_ref());
                for prefix in prefixes.by_ref().take(AT_ONCE) {
                    if !tracker.is_some_and(|tracker| tracker.prefixes.contains(&prefix)) {
                        tracking.forget_prefix(space, &prefix, id);
                    }
                    forgotten += 1;
                }
            }
        }
        if names.len() == 0 {
            let were_prefixes = matches!(names, Names::Prefixes(_));
            self.leaving.names.pop_front();
            if were_prefixes {
                self.follow_tracking();
            }
        }
        forgotten > 0
    }

    /// A group has lost a consumer to whom much was pending. Whoever reads leaves that out, but it takes memory.
    pub(crate) fn forget_pending_later(&mut self, (space, db): (SpaceId, u32), key: &[u8], group: &[u8]) {
        self.leaving.pending.push_back(PendingOf { space, db, key: key.into(), group: group.into() });
    }

    /// Forgets some of what was pending to consumers that have been removed; false if nothing is left to do.
    pub(crate) fn forget_pending(&mut self) -> bool {
        let Some(PendingOf { space, db, key, group }) = self.leaving.pending.front() else { return false };
        let key = Key::new(key);
        let (database, door) = self.keyspace.db(*space, *db);
        let entry = database.edit(door, key.hash, key.bytes);
        let leaves_some = entry.is_some_and(|mut entry| match entry.rearrange().object_mut() {
            Some(Object::Stream(stream)) => stream.forget_pending(group, AT_ONCE),
            _ => false,
        });
        if !leaves_some {
            self.leaving.pending.pop_front();
        }
        true
    }

    /// How many of those listen who stand in a table as listeners to a name.
    pub(crate) fn count_listeners(&self, kind: Kind, name: &[u8], listeners: &Listeners) -> usize {
        if self.leaving.names.is_empty() {
            return listeners.len();
        }
        listeners.iter().filter(|listener| self.listens(listener.id, kind, name)).count()
    }

    /// How many patterns somebody in a space listens to.
    pub(crate) fn count_patterns(&self, space: SpaceId) -> usize {
        let Some(pubsub) = self.pubsub.get(space) else { return 0 };
        if self.leaving.names.is_empty() {
            return pubsub.patterns.len();
        }
        let all = pubsub.patterns.iter();
        all.filter(|(name, listeners)| self.count_listeners(Kind::Pattern, name, listeners) > 0).count()
    }

    /// Whether a client that stands in a table as a listener to a name is one.
    #[inline(always)]
    pub(crate) fn listens(&self, id: ClientId, kind: Kind, name: &[u8]) -> bool {
        self.leaving.names.is_empty()
            || self.clients.get(id).is_some_and(|client| client.heard(kind).contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::Bench;

    const NAMES: usize = 1000;

    /// A command for each of many names, in which `{n}` is its number.
    fn of_each(command: &str) -> Vec<String> {
        (0..NAMES).map(|n| command.replace("{n}", &n.to_string())).collect()
    }

    fn ask_each(bench: &mut Bench, client: usize, command: &str) {
        let lines = of_each(command);
        bench.ask(client, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn known(bench: &mut Bench) -> usize {
        let pubsub = bench.engine.pubsub.of(SpaceId::FIRST);
        let watched = bench.engine.keyspace.db(SpaceId::FIRST, 0).0.interest.keys().count();
        pubsub.channels.len() + pubsub.patterns.len() + pubsub.shards.len() + watched
    }

    #[test]
    fn what_is_given_up_at_once_is_forgotten_in_slices() {
        // What a client does to many names, how it gives them up, and a name that it takes up again meanwhile.
        let cases = [
            ("SUBSCRIBE ch:{n}", "UNSUBSCRIBE", "SUBSCRIBE ch:999"),
            ("PSUBSCRIBE ch:{n}*", "PUNSUBSCRIBE", "PSUBSCRIBE ch:999*"),
            ("SSUBSCRIBE ch:{n}", "SUNSUBSCRIBE", "SSUBSCRIBE ch:999"),
            ("SUBSCRIBE ch:{n}", "RESET", "SUBSCRIBE ch:999"),
            ("WATCH key:{n}", "UNWATCH", "WATCH key:999"),
            ("WATCH key:{n}", "RESET", "WATCH key:999"),
            ("WATCH key:{n}", "EXEC", "WATCH key:999"),
        ];
        for (takes, gives_up, again) in cases {
            let mut bench = Bench::new();
            let client = bench.connect();
            ask_each(&mut bench, client, takes);
            if gives_up == "EXEC" {
                bench.ask(client, &["MULTI"]);
            }
            bench.ask(client, &[gives_up, again]);
            assert_eq!(known(&mut bench), NAMES, "{gives_up}: nothing is forgotten at once");
            let mut before = NAMES;
            while bench.engine.forget_names() {
                let now = known(&mut bench);
                assert!(before - now <= AT_ONCE, "{gives_up}: {before} and then {now}");
                before = now;
            }
            assert_eq!(before, 1, "{gives_up}: what has been taken up again stays");
            bench.engine.disconnect(bench.id(client));
            assert_eq!(known(&mut bench), 0, "{gives_up}");
        }
    }

    #[test]
    fn who_has_given_up_hears_nothing_meanwhile_but_what_it_takes_up_again() {
        let mut bench = Bench::new();
        let (client, other) = (bench.connect(), bench.connect());
        ask_each(&mut bench, client, "SUBSCRIBE ch:{n}");
        ask_each(&mut bench, client, "PSUBSCRIBE other:{n}*");
        let answers = bench.ask(client, &["UNSUBSCRIBE", "PUNSUBSCRIBE", "SUBSCRIBE ch:7"]);
        assert_eq!(answers.matches("unsubscribe").count(), 2 * NAMES);
        assert!(answers.ends_with("*3\r\n$9\r\nsubscribe\r\n$4\r\nch:7\r\n:1\r\n"));
        for (line, reply) in [
            ("PUBLISH ch:7 x", ":1\r\n"),
            ("PUBLISH ch:8 x", ":0\r\n"),
            ("PUBLISH other:8 x", ":0\r\n"),
            ("PUBSUB NUMPAT", ":0\r\n"),
            ("PUBSUB CHANNELS", "*1\r\n$4\r\nch:7\r\n"),
        ] {
            assert_eq!(bench.ask(other, &[line]), reply, "{line}");
        }
        assert_eq!(bench.received(client), "*3\r\n$7\r\nmessage\r\n$4\r\nch:7\r\n$1\r\nx\r\n");
    }

    #[test]
    fn keys_that_were_watched_before_spoil_nothing() {
        // What is changed, by a command of another, and whether that spoils a transaction that watches key:7.
        let cases = [("SET key:8 x", false), ("SET key:7 x", true), ("FLUSHALL", true)];
        for (change, spoils) in cases {
            let mut bench = Bench::new();
            let (client, other) = (bench.connect(), bench.connect());
            bench.ask(other, &["SET key:7 x", "SET key:8 x"]);
            ask_each(&mut bench, client, "WATCH key:{n}");
            bench.ask(client, &["UNWATCH", "WATCH key:7", "MULTI", "PING"]);
            bench.ask(other, &[change]);
            let expected = if spoils { "*-1\r\n" } else { "*1\r\n+PONG\r\n" };
            assert_eq!(bench.ask(client, &["EXEC"]), expected, "{change}");
        }
        let mut bench = Bench::new();
        let (client, other) = (bench.connect(), bench.connect());
        bench.ask(other, &["SET key:8 x"]);
        ask_each(&mut bench, client, "WATCH key:{n}");
        bench.ask(client, &["UNWATCH", "WATCH key:7", "MULTI", "PING"]);
        bench.ask(other, &["FLUSHALL"]);
        assert_eq!(bench.ask(client, &["EXEC"]), "*1\r\n+PONG\r\n", "key:7 has never been there");
    }

    #[test]
    fn prefixes_that_are_given_up_are_not_told_of() {
        let mut bench = Bench::new();
        let (client, other) = (bench.connect(), bench.connect());
        bench.ask(client, &["HELLO 3"]);
        let prefixes: Vec<String> = (0..NAMES).map(|n| format!(" PREFIX p{n}:")).collect();
        bench.ask(client, &[&format!("CLIENT TRACKING ON BCAST{}", prefixes.concat())]);
        bench.ask(client, &["CLIENT TRACKING OFF", "CLIENT TRACKING ON BCAST PREFIX p7:"]);
        bench.ask(other, &["SET p8:x 1", "SET p7:x 1"]);
        let told = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$4\r\np7:x\r\n";
        assert_eq!(bench.received(client), told);
        while bench.engine.forget_names() {}
        bench.ask(other, &["SET p8:x 2", "SET p7:x 2"]);
        assert_eq!(bench.received(client), told);
    }

    #[test]
    fn what_was_pending_to_who_is_removed_goes_by_itself() {
        const ENTRIES: usize = 5000;
        let mut bench = Bench::new();
        let client = bench.connect();
        bench.ask(client, &["XGROUP CREATE s g 0 MKSTREAM"]);
        (1..=ENTRIES).for_each(|n| _ = bench.ask(client, &[&format!("XADD s {n} f v")]));
        bench.ask(client, &["XREADGROUP GROUP g ann COUNT 4000 STREAMS s >"]);
        bench.ask(client, &["XREADGROUP GROUP g bob COUNT 5 STREAMS s >"]);
        let memory = |bench: &mut Bench| {
            let reply = bench.ask(client, &["MEMORY USAGE s SAMPLES 0"]);
            reply[1..].trim().parse::<usize>().expect("it is an integer")
        };
        assert_eq!(bench.ask(client, &["XGROUP DELCONSUMER s g ann"]), ":4000\r\n");
        let (before, mut slices) = (memory(&mut bench), 0);
        while bench.engine.forget_pending() {
            slices += 1;
        }
        assert!(slices >= 4000 / AT_ONCE, "{slices} slices");
        let after = memory(&mut bench);
        assert!(before - after > 4000 * 40, "{before} bytes, and then {after}");
        assert!(bench.ask(client, &["XPENDING s g"]).starts_with("*4\r\n:5\r\n"));
    }
}
