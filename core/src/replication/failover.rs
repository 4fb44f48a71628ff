//! FAILOVER: this server and one of its replicas exchange their roles, with nothing lost.
//!
//! Writes wait from the beginning on. When the replica has everything, this server follows it, and tells it so with its
//! PSYNC: that makes a primary of it. Writes that have waited are refused then, as by any replica.

use mortise_sdk::args as numbers;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;
use mortise_sdk::{Error, Result, error};

use super::primary::{Replica, Stage};
use crate::engine::Engine;
use crate::engine::call::Call;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[FAILOVER];

const FAILOVER: Command = Spec {
    usage: "FAILOVER [target=<TO host port:int [FORCE]>] [ABORT] [TIMEOUT milliseconds:int]",
    about: "Makes a replica the primary, and this server its replica, without losing anything.",
    since: "6.2.0",
    flags: &[ADMIN, NOSCRIPT, STALE],
    ..Spec::group("server")
}
.runs(failover);

/// A failover that goes on.
#[derive(Clone, Debug)]
pub struct Failover {
    /// Who becomes the primary: whichever is the first to have everything, if nobody is named.
    target: Option<(String, u16)>,
    /// Until when it has to have everything: Unix milliseconds.
    deadline_ms: Option<i64>,
    /// It becomes the primary then even if it has not.
    is_forced: bool,
    /// This server follows the new primary, which has not agreed yet.
    is_in_progress: bool,
}

impl Failover {
    /// How INFO calls the state that it is in.
    pub fn state(of: Option<&Failover>) -> &'static str {
        match of {
            None => "no-failover",
            Some(failover) if failover.is_in_progress => "failover-in-progress",
            Some(_) => "waiting-for-sync",
        }
    }

    /// Whether this server follows the new primary, which has not agreed yet.
    pub fn is_in_progress(&self) -> bool {
        self.is_in_progress
    }
}

/// What the command asks for.
#[derive(Default)]
struct Wish {
    target: Option<(String, i64)>,
    timeout_ms: Option<i64>,
    is_forced: bool,
    aborts: bool,
}

fn parse(call: &Call<'_>) -> Result<Wish> {
    let (mut wish, mut at) = (Wish::default(), 1);
    let number = |at: usize| numbers::parse_integer(call.arg(at)).ok_or(error::NOT_INTEGER);
    while at < call.argc() {
        let behind = call.argc() - at - 1;
        match &*call.arg(at).to_ascii_lowercase() {
            b"timeout" if behind >= 1 && wish.timeout_ms.is_none() => {
                let timeout_ms = number(at + 1)?;
                if timeout_ms <= 0 {
                    return Err(Error::new("ERR FAILOVER timeout must be greater than 0"));
                }
                wish.timeout_ms = Some(timeout_ms);
                at += 1;
            }
            b"abort" if call.argc() == 2 => wish.aborts = true,
            b"to" if behind >= 2 && wish.target.is_none() => {
                let host = String::from_utf8_lossy(call.arg(at + 1)).into_owned();
                wish.target = Some((host, number(at + 2)?));
                at += 2;
            }
            b"force" if !wish.is_forced => wish.is_forced = true,
            _ => return Err(error::SYNTAX),
        }
        at += 1;
    }
    Ok(wish)
}

fn failover(call: &mut Call<'_>) -> Result {
    let wish = parse(call)?;
    let now_ms = call.now_ms();
    let state = &call.engine.replication;
    if wish.aborts {
        if state.failover.is_none() {
            return Err(Error::new("ERR No failover in progress."));
        }
        call.engine.journal.is_in_unit = call.cannot_wait();
        call.engine.abort_failover("Failover manually aborted");
        call.engine.journal.is_in_unit = false;
        return call.ok();
    }
    let refusal = if state.failover.is_some() {
        Some("ERR FAILOVER already in progress.")
    } else if state.is_replica() {
        Some("ERR FAILOVER is not valid when server is a replica.")
    } else if state.replicas.is_empty() {
        Some("ERR FAILOVER requires connected replicas.")
    } else if wish.is_forced && (wish.timeout_ms.is_none() || wish.target.is_none()) {
        Some("ERR FAILOVER with force option requires both a timeout and target HOST and IP.")
    } else {
        None
    };
    if let Some(refusal) = refusal {
        return Err(Error::new(refusal));
    }
    let mut target = None;
    if let Some((host, port)) = wish.target {
        let found = u16::try_from(port).ok().and_then(|port| state.replica_at(&host, port));
        let Some(replica) = found else {
            return Err(Error::new("ERR FAILOVER target HOST and PORT is not a replica."));
        };
        if replica.stage != Stage::Online {
            return Err(Error::new("ERR FAILOVER target replica is not online."));
        }
        tracing::info!("FAILOVER requested to {host}:{port}.");
        target = Some((host, replica.greeting.port));
    } else {
        tracing::info!("FAILOVER requested.");
    }
    call.engine.begin_failover(Failover {
        target,
        deadline_ms: wish.timeout_ms.map(|timeout_ms| now_ms.saturating_add(timeout_ms)),
        is_forced: wish.is_forced,
        is_in_progress: false,
    });
    call.ok()
}

impl super::Replication {
    /// The replica that can be reached there.
    fn replica_at(&self, host: &str, port: u16) -> Option<&Replica> {
        self.replicas.values().find(|replica| {
            let ip = replica.greeting.ip.as_ref().unwrap_or(&replica.ip);
            ip.eq_ignore_ascii_case(host) && replica.greeting.port == port
        })
    }

    /// Whether writes wait until a replica has everything: nothing may be added to the stream.
    pub(super) fn waits_for_failover(&self) -> bool {
        self.failover.as_ref().is_some_and(|failover| !failover.is_in_progress)
    }
}

impl Engine {
    fn begin_failover(&mut self, failover: Failover) {
        // Or the replica would say how far it is only after up to a second.
        self.ask_for_acks();
        self.replication.failover = Some(failover);
        self.clients.pause.for_failover = true;
        self.replication.acked = true;
    }

    /// Goes on with a failover, if its replica has everything now or its time is over.
    pub(crate) fn advance_failover(&mut self) {
        let state = &self.replication;
        let Some(failover) = state.failover.as_ref().filter(|failover| !failover.is_in_progress) else {
            return;
        };
        let has_all = |replica: &&Replica| replica.stage == Stage::Online && replica.acked == state.offset;
        let is_late = failover.deadline_ms.is_some_and(|deadline| deadline <= self.now_ms);
        let target = match &failover.target {
            Some((host, port)) => {
                let ready = state.replica_at(host, *port).filter(has_all).is_some();
                (ready || is_late && failover.is_forced).then(|| (host.clone(), *port))
            }
            // One that has not said where it listens could not be followed.
            None => state.replicas.values().filter(|replica| replica.greeting.port != 0).find(has_all).map(
                |replica| {
                    let ip = replica.greeting.ip.as_ref().unwrap_or(&replica.ip);
                    tracing::info!("Failover target selected: {ip}:{}", replica.greeting.port);
                    (ip.clone(), replica.greeting.port)
                },
            ),
        };
        let Some((host, port)) = target else {
            if is_late {
                self.abort_failover("Replica never caught up before timeout");
            }
            return;
        };
        if is_late && failover.is_forced {
            tracing::info!("Failover to {host}:{port} time out exceeded, failing over.");
        } else {
            tracing::info!("Failover target {host}:{port} is synced, failing over.");
        }
        if let Some(failover) = &mut self.replication.failover {
            failover.target = Some((host.clone(), port));
            failover.is_in_progress = true;
        }
        self.follow(host, port);
    }

    /// When a failover has taken too long: Unix milliseconds.
    pub(crate) fn failover_due_ms(&self) -> Option<i64> {
        let failover = self.replication.failover.as_ref().filter(|failover| !failover.is_in_progress);
        failover.and_then(|failover| failover.deadline_ms)
    }

    /// Everything is as it was before the failover: if it had begun, this server is a primary again.
    pub(super) fn abort_failover(&mut self, reason: &str) {
        let Some(failover) = self.replication.failover.clone() else { return };
        let state = Failover::state(Some(&failover));
        match &failover.target {
            Some((host, port)) => {
                tracing::info!("Aborting failover to {host}:{port} while {state}: {reason}");
            }
            None => tracing::info!("Aborting failover while {state}: {reason}"),
        }
        if failover.is_in_progress {
            self.stand_alone();
        }
        self.end_failover();
    }

    /// It is over: what has waited for that is done, or refused by a replica.
    fn end_failover(&mut self) {
        self.replication.failover = None;
        self.clients.pause.for_failover = false;
        self.resume_paused();
    }

    /// The server of this number has answered the PSYNC that was to make it the primary.
    pub fn note_failover(&mut self, number: u64, agrees: bool) -> bool {
        self.refresh_clock();
        if !self.follows(number) {
            return false;
        }
        match agrees {
            true => self.end_failover(),
            false => self.abort_failover("Failover target rejected psync request"),
        }
        self.settle();
        self.follows(number)
    }
}
