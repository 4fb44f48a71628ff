//! Writes that replicas have to have, or that have to be durable: WAIT, WAITAOF, and `min-replicas-to-write`.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Spec, category};
use mortise_sdk::{Error, Result, error};

use super::primary::{Replica, Stage};
use crate::engine::Engine;
use crate::engine::args::OwnedArgs;
use crate::engine::blocked::OnTimeout;
use crate::engine::call::Call;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[WAIT, WAITAOF];

const WAIT: Command = Spec {
    usage: "WAIT numreplicas:int timeout:int",
    about: "Waits until so many replicas have what this connection has written.",
    since: "3.0.0",
    flags: &[NOSCRIPT],
    categories: &[category::CONNECTION],
    tips: &["request_policy:all_shards", "response_policy:agg_min"],
    ..Spec::group("generic")
}
.runs(wait);

const WAITAOF: Command = Spec {
    usage: "WAITAOF numlocal:int numreplicas:int timeout:int",
    about: "Waits until what this connection has written is durable here and on so many replicas.",
    since: "7.2.0",
    flags: &[NOSCRIPT],
    categories: &[category::CONNECTION],
    tips: &["request_policy:all_shards", "response_policy:agg_min"],
    ..Spec::group("generic")
}
.runs(wait_durable);

/// How often it is looked whether the journal is durable.
const LOOK_MS: i64 = 10;

fn wait_durable(call: &mut Call<'_>) -> Result {
    let local = call.integer(1)?;
    if !(0..=1).contains(&local) {
        return Err(Error::new("ERR value is out of range, value must between 0 and 1"));
    }
    let replicas = call.integer(2)?;
    if replicas < 0 {
        return Err(Error::new("ERR value is out of range, must be positive"));
    }
    let timeout_ms = timeout_ms(call, 3)?;
    if call.engine.replication.is_replica() {
        return Err(Error::new(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and \
             are not propagated.",
        ));
    }
    if local > 0 && !call.engine.config.journal.appendonly {
        return Err(Error::new(
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        ));
    }
    // When it is tried again, the places stand behind what the client has said.
    let is_again = call.argc() > 4;
    let place = match is_again {
        true => InStreams { offset: call.integer(4)? as u64, place: call.integer(5)? as u64 },
        false => InStreams { offset: call.session.stream_offset, place: call.session.journal_place },
    };
    let (here, there) = call.engine.count_durable(place);
    if here >= local && there >= replicas || call.cannot_wait() {
        call.out().array(2);
        call.reply(here)?;
        return call.reply(there);
    }
    let places = [place.offset.to_string(), place.place.to_string()];
    let said = [call.arg(0), call.arg(1), call.arg(2), call.arg(3)];
    let words = said.into_iter().chain(places.iter().map(String::as_bytes));
    let words: Vec<Vec<u8>> = words.map(<[u8]>::to_vec).collect();
    let deadline_ms = (timeout_ms > 0).then(|| call.now_ms().saturating_add(timeout_ms));
    call.wait_for_acks(deadline_ms, OnTimeout::Durable(place));
    call.wait_with(OwnedArgs::new(words.iter().map(Vec::as_slice)));
    if here < local {
        let next_ms = call.now_ms() + LOOK_MS;
        call.retry_at(next_ms);
    }
    if !is_again {
        call.engine.ask_for_acks();
    }
    Ok(())
}

fn timeout_ms(call: &Call<'_>, at: usize) -> Result<i64> {
    let timeout_ms =
        call.integer(at).map_err(|_| Error::new("ERR timeout is not an integer or out of range"))?;
    if timeout_ms < 0 {
        return Err(Error::new("ERR timeout is negative"));
    }
    Ok(timeout_ms)
}

fn wait(call: &mut Call<'_>) -> Result {
    if call.engine.replication.is_replica() {
        return Err(Error::new(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is \
             configured to be writable (which is not the default) writes to replicas are just local and are not propagated.",
        ));
    }
    let wanted = call.integer(1)?;
    // When it is tried again, the offset stands behind what the client has said.
    let offset = match call.args().get(3) {
        Some(_) => call.integer(3)? as u64,
        None => call.session.stream_offset,
    };
    let timeout_ms = timeout_ms(call, 2)?;
    let count = call.engine.count_acks(offset);
    if count >= wanted || call.cannot_wait() {
        return call.reply(count);
    }
    let words = [call.arg(0), call.arg(1), call.arg(2), offset.to_string().as_bytes()].map(<[u8]>::to_vec);
    let deadline_ms = (timeout_ms > 0).then(|| call.now_ms().saturating_add(timeout_ms));
    call.wait_for_acks(deadline_ms, OnTimeout::Acks(offset));
    call.wait_with(OwnedArgs::new(words.iter().map(Vec::as_slice)));
    call.engine.ask_for_acks();
    Ok(())
}

/// Where a write stands in the stream of changes and in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InStreams {
    /// How much of the stream it is the end of.
    pub offset: u64,
    /// How much of the journal.
    pub place: u64,
}

impl Engine {
    /// Whether a write is durable here, zero or one, and on how many replicas that is so.
    pub(crate) fn count_durable(&self, write: InStreams) -> (i64, i64) {
        let here = self.journal.has_durable(write.place);
        let there = self.replicas_at(Stage::Online).filter(|replica| replica.durable >= Some(write.offset));
        (here.into(), there.count() as i64)
    }

    /// How many replicas have said that they have the stream up to an offset.
    pub(crate) fn count_acks(&self, offset: u64) -> i64 {
        self.replicas_at(Stage::Online).filter(|replica| replica.acked >= offset).count() as i64
    }

    /// Asks replicas how far they are, unless that was the last thing said.
    pub(crate) fn ask_for_acks(&mut self) {
        const ASKED: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";
        // While writes wait, the stream is to stay as it is. Replicas say it by themselves once a second.
        let is_free = !self.clients.pause.stops_writes(self.now_ms);
        if is_free && !self.replication.pending.ends_with(ASKED) {
            self.replication.tell(&[b"REPLCONF", b"GETACK", b"*"]);
        }
    }

    /// Replicas that have not said yet that they have the whole stream.
    fn lagging_replicas(&self) -> impl Iterator<Item = &Replica> {
        let end = self.replication.offset;
        let replicas = self.replication.replicas.values();
        replicas.filter(move |replica| replica.says_how_far() && replica.acked != end)
    }

    /// How many these are.
    pub(crate) fn count_lagging_replicas(&self) -> usize {
        self.lagging_replicas().count()
    }

    /// Tells the log about them, as the server is about to end.
    pub(crate) fn log_lagging_replicas(&self) {
        let (mut lagging, end) = (0, self.replication.offset);
        for replica in self.lagging_replicas() {
            lagging += 1;
            let lag_s = match replica.stage {
                Stage::Online => self.now_ms / 1000 - replica.acked_ms / 1000,
                _ => 0,
            };
            tracing::info!(
                "Lagging replica {} reported offset {} behind master, lag={lag_s}, state={}.",
                replica.called(),
                end.saturating_sub(replica.acked),
                replica.stage_name().unwrap_or("rdb_transmitted")
            );
        }
        let all = self.replication.replicas.values().filter(|replica| replica.says_how_far()).count();
        if all > 0 {
            tracing::info!("{} of {all} replicas are in sync when shutting down.", all - lagging);
        }
    }

    /// Tries the calls again that wait for replicas, if these have said something.
    #[inline(always)]
    pub(crate) fn serve_acks(&mut self) {
        if self.replication.acked {
            self.replication.acked = false;
            self.retry_for_acks();
            self.advance_failover();
        }
    }

    /// Counts the replicas that are near enough for writes to be taken.
    pub(super) fn count_good_replicas(&mut self) {
        let settings = &self.config.replication;
        let lag_max_s = i64::from(settings.min_replicas_max_lag);
        let now_s = self.now_ms / 1000;
        let near = self.replicas_at(Stage::Online);
        let near = near.filter(|replica| now_s - replica.acked_ms / 1000 <= lag_max_s).count() as u32;
        self.replication.good = near;
        self.follow_hindrances();
    }

    /// Whether writes are refused, as there are too few replicas.
    pub(crate) fn lacks_replicas(&self) -> bool {
        let settings = &self.config.replication;
        let wanted = settings.min_replicas_to_write;
        wanted > 0
            && settings.min_replicas_max_lag > 0
            && !self.replication.is_replica()
            && self.replication.good < wanted
    }

    /// Whether clients may not write, as this server follows another one.
    pub(crate) fn is_read_only(&self) -> bool {
        self.replication.is_replica() && self.config.replication.replica_read_only
    }

    /// Whether the data may be old and is not to be shown.
    pub(crate) fn is_stale(&self) -> bool {
        let following = self.replication.following.as_ref();
        following.is_some_and(|following| !following.is_up())
            && !self.config.replication.replica_serve_stale_data
    }

    /// Why nothing may be written because of replication.
    pub(crate) fn refuses_writers(&self) -> Option<Error> {
        if self.lacks_replicas() {
            return Some(error::NOREPLICAS);
        }
        self.is_read_only().then_some(error::READONLY)
    }
}
