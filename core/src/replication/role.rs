//! Whom this server follows: REPLICAOF, and what it is to others.

use mortise_sdk::args as numbers;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Deprecation, Spec};
use mortise_sdk::{Error, Result};

use super::backlog::StreamName;
use super::replica::Following;
use super::settings::PrimaryAddress;
use crate::engine::call::Call;
use crate::engine::{Engine, Job};
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[REPLICAOF, SLAVEOF];

const SERVER: Spec = Spec::group("server");

const REPLICAOF: Command = Spec {
    usage: "REPLICAOF args=<host-port=<host port:int> | no-one=<NO ONE>>",
    about: "Makes this server follow another one, or with NO ONE nobody any more.",
    since: "5.0.0",
    flags: &[ADMIN, NOSCRIPT, STALE, NO_ASYNC_LOADING],
    ..SERVER
}
.runs(replicaof);

const SLAVEOF: Command = Spec {
    usage: "SLAVEOF args=<host-port=<host port:int> | no-one=<NO ONE>>",
    about: "Makes this server follow another one: the old name of REPLICAOF.",
    since: "1.0.0",
    flags: &[ADMIN, NOSCRIPT, STALE, NO_ASYNC_LOADING],
    deprecated: Some(Deprecation { since: "5.0.0", replaced_by: "`REPLICAOF`" }),
    ..SERVER
}
.runs(replicaof);

fn replicaof(call: &mut Call<'_>) -> Result {
    let (host, port) = (call.arg(1), call.arg(2));
    if call.engine.replication.failover.is_some() {
        return Err(Error::new("ERR REPLICAOF not allowed while failing over."));
    }
    let asker = crate::session::line_of(call.engine, call.session.id, call.args());
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        if call.engine.replication.is_replica() {
            call.engine.journal.is_in_unit = call.cannot_wait();
            call.engine.stand_alone();
            call.engine.journal.is_in_unit = false;
            tracing::info!("MASTER MODE enabled (user request from '{asker}')");
        }
        return call.ok();
    }
    if call.session.is_replica {
        // Its primary could not be told what it does.
        return Err(Error::new("ERR Command is not valid when client is a replica."));
    }
    const PORT: Error = Error::new("ERR Invalid master port");
    let port = numbers::parse_integer(port).and_then(|port| u16::try_from(port).ok()).ok_or(PORT)?;
    let host = String::from_utf8_lossy(host).into_owned();
    let following = call.engine.replication.following.as_ref();
    if following.is_some_and(|of| of.host.eq_ignore_ascii_case(&host) && of.port == port) {
        tracing::info!(
            "REPLICAOF would result into synchronization with the master we are already connected with. No operation performed."
        );
        call.out().simple("OK Already connected to specified master");
        return Ok(());
    }
    call.engine.follow(host.clone(), port);
    tracing::info!("REPLICAOF {host}:{port} enabled (user request from '{asker}')");
    call.ok()
}

impl Engine {
    /// Follows another server from now on.
    pub(crate) fn follow(&mut self, host: String, port: u16) {
        let was_primary = !self.replication.is_replica();
        let before = self.replication.following.take();
        let resumes = match &before {
            Some(before) => before.resumes,
            // What it has is the beginning of what the other one has, if that has followed this one.
            None => true,
        };
        if let Some(client) = before.as_ref().and_then(|before| before.client) {
            self.kill(client);
        }
        if was_primary {
            tracing::info!(
                "Before turning into a replica, using my own master parameters to synthesize a cached master: I may be able \
                 to synchronize with the new master with just a partial transfer."
            );
        }
        // This server's replicas stay: whether they can go on is seen when its link is up.
        self.pass_stream_on();
        self.unblock_all();
        self.replication.followed += 1;
        let number = self.replication.followed;
        let db = before.map_or(0, |before| before.db);
        self.config.replication.replicaof = PrimaryAddress(Some((host.clone(), port)));
        self.adapt_oom_score();
        self.replication.following = Some(Following::new(host, port, number, resumes, db));
        self.rim.role_changed(true);
        self.follow_readers();
        self.follow_hindrances();
        self.begin_replication();
    }

    /// The link to whom is to be followed begins, unless it has begun.
    pub(crate) fn begin_replication(&mut self) {
        if let Some(following) = &mut self.replication.following
            && !std::mem::replace(&mut following.has_link, true)
        {
            self.jobs.push(Job::Follow(following.number));
        }
    }

    /// Whom the settings name is followed, though the link does not begin yet.
    pub(crate) fn adopt_primary(&mut self) {
        let Some((host, port)) = self.config.replication.replicaof.0.clone() else { return };
        self.replication.followed += 1;
        self.replication.following = Some(Following::new(host, port, self.replication.followed, false, 0));
        self.rim.role_changed(true);
        self.follow_hindrances();
    }

    /// Follows nobody any more.
    pub(crate) fn stand_alone(&mut self) {
        let Some(before) = self.replication.following.take() else { return };
        if let Some(client) = before.client {
            self.kill(client);
        }
        self.rim.role_changed(false);
        self.pass_stream_on();
        self.config.replication.replicaof = PrimaryAddress(None);
        self.adapt_oom_score();
        // What comes from now on is this server's own; up to here the stream is the primary's, too.
        let state = &mut self.replication;
        (state.former, state.former_end) = (state.name, state.offset as i64 + 1);
        self.rename_stream();
        let state = &mut self.replication;
        tracing::warn!(
            "Setting secondary replication ID to {}, valid up to offset: {}. New replication ID is {}",
            state.former,
            state.former_end,
            state.name
        );
        // Readers have to be told which database they are in.
        state.selected = None;
        state.own_keys.clear();
        state.alone_since_ms = self.now_ms;
        // Replicas come back at once, and learn the new name.
        self.disconnect_replicas();
        self.follow_readers();
        self.count_good_replicas();
        self.begin_journal_anew();
    }

    /// The kernel is told how soon to end a primary, or a replica, when memory runs out.
    fn adapt_oom_score(&mut self) {
        // If it will not be told, the log is.
        let _ = self.rim.oom_score(&self.config);
    }

    /// Calls that wait for keys would write, and those that wait for replicas would do so for another stream's. Redis ends
    /// the connections as well, so that clients see that they may be talking to the wrong server.
    fn unblock_all(&mut self) {
        const UNBLOCKED: Error = Error::new(
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        );
        for id in self.blocked.waiting_for_others() {
            self.end_wait_and_close(id, UNBLOCKED);
        }
    }

    /// What a file says of the stream that its data is a part of: it was loaded at the start.
    pub(crate) fn adopt_stream(&mut self, name: StreamName, offset: u64, db: u32) {
        self.refresh_clock();
        let now_ms = self.now_ms;
        let state = &mut self.replication;
        match &mut state.following {
            Some(following) => {
                (following.resumes, following.db) = (true, db);
                (state.name, state.offset) = (name, offset);
            }
            None => {
                (state.former, state.former_end) = (name, offset as i64 + 1);
                state.offset += offset;
                state.alone_since_ms = now_ms;
                self.begin_backlog();
            }
        }
    }
}
