//! INFO's section about replication.

use mortise_sdk::declare::info::Shown;

use super::failover::Failover;
use super::primary::{Replica, Stage};
use super::replica::Following;
use crate::admin::info::field;
use crate::engine::Engine;
use crate::features::Section;

/// Something of whom this server follows; not shown if it follows nobody.
fn of_primary(engine: &Engine, what: impl FnOnce(&Following) -> Shown) -> Shown {
    engine.replication.following.as_ref().map_or(Shown::Hidden, what)
}

fn seconds_since(engine: &Engine, ms: i64) -> Shown {
    Shown::Int((engine.now_ms - ms).max(0) / 1000)
}

/// Replicas and the primary.
pub(super) const REPLICATION: Section = Section {
    name: "replication",
    fields: &[
        field("role", "Whether it is a primary or a replica: master or slave.", |e| {
            Shown::from(if e.replication.is_replica() { "slave" } else { "master" })
        }),
        field("master_host", "Whom it follows.", |e| of_primary(e, |f| f.host.clone().into())),
        field("master_port", "The port of whom it follows.", |e| of_primary(e, |f| f.port.into())),
        field("master_link_status", "Whether it hears the primary.", |e| {
            of_primary(e, |f| Shown::from(if f.is_up() { "up" } else { "down" }))
        }),
        field("master_last_io_seconds_ago", "When it heard the primary last; -1 if it does not.", |e| {
            of_primary(e, |f| if f.is_up() { seconds_since(e, f.heard_ms) } else { Shown::Int(-1) })
        }),
        field("master_sync_in_progress", "Whether it is sent all data.", |e| {
            of_primary(e, |f| f.transfer.is_some().into())
        }),
        field("slave_read_repl_offset", "How much of the stream it has read.", |e| {
            of_primary(e, |f| f.read_offset(e).into())
        }),
        field("slave_repl_offset", "How much of the stream it has applied.", |e| {
            of_primary(e, |f| f.shown_offset(e).into())
        }),
        field(
            "master_sync_total_bytes",
            "How long the data is that it is sent; 0 if that is not known.",
            |e| of_primary(e, |f| f.transfer.map_or(Shown::Hidden, |t| t.total.unwrap_or(0).into())),
        ),
        field("master_sync_read_bytes", "How much of it has come.", |e| {
            of_primary(e, |f| f.transfer.map_or(Shown::Hidden, |t| t.read.into()))
        }),
        field(
            "master_sync_left_bytes",
            "How much of it is still to come; negative if that is not known.",
            |e| {
                of_primary(e, |f| {
                    f.transfer
                        .map_or(Shown::Hidden, |t| Shown::Int(t.total.unwrap_or(0) as i64 - t.read as i64))
                })
            },
        ),
        field("master_sync_perc", "How much of it has come, in percent.", |e| {
            of_primary(e, |f| {
                f.transfer.map_or(Shown::Hidden, |t| {
                    let total = t.total.unwrap_or(0);
                    Shown::Ratio(if total == 0 { 0.0 } else { t.read as f64 * 100.0 / total as f64 })
                })
            })
        }),
        field("master_sync_last_io_seconds_ago", "When something of it came last.", |e| {
            of_primary(e, |f| f.transfer.map_or(Shown::Hidden, |t| seconds_since(e, t.heard_ms)))
        }),
        field(
            "master_link_down_since_seconds",
            "For how long it has not heard the primary; -1 if it never did.",
            |e| {
                of_primary(e, |f| match f.is_up() {
                    true => Shown::Hidden,
                    false => f.down_since_ms.map_or(Shown::Int(-1), |ms| seconds_since(e, ms)),
                })
            },
        ),
        field("slave_priority", "Which replica is to be promoted first.", |e| {
            of_primary(e, |_| e.config.replication.replica_priority.into())
        }),
        field("slave_read_only", "Whether it refuses writes.", |e| {
            of_primary(e, |_| e.config.replication.replica_read_only.into())
        }),
        field("replica_announced", "Whether Sentinel is to know of it.", |e| {
            of_primary(e, |_| e.config.replication.replica_announced.into())
        }),
        field("connected_slaves", "Replicas.", |e| e.replication.replicas.len().into()),
        field("min_slaves_good_slaves", "Replicas that are near enough for writes to be taken.", |e| {
            let settings = &e.config.replication;
            match settings.min_replicas_to_write > 0 && settings.min_replicas_max_lag > 0 {
                true => e.replication.good.into(),
                false => Shown::Hidden,
            }
        }),
        field("slave0", "A replica: where it is, and how far. A line for each.", replicas),
        field("master_failover_state", "How far a failover is.", |e| {
            Shown::from(Failover::state(e.replication.failover.as_ref()))
        }),
        field("master_replid", "The name of the stream of changes.", |e| {
            e.replication.name.to_string().into()
        }),
        field("master_replid2", "The name it had before a failover.", |e| {
            e.replication.former.to_string().into()
        }),
        field("master_repl_offset", "Length of the stream of changes.", |e| e.replication.offset.into()),
        field("second_repl_offset", "Up to where the second name is valid.", |e| {
            e.replication.former_end.into()
        }),
        field("repl_backlog_active", "Whether a part of the stream is kept for replicas.", |e| {
            e.replication.backlog.is_some().into()
        }),
        field("repl_backlog_size", "How much of it is kept at least, bytes.", |e| {
            e.config.replication.repl_backlog_size.0.into()
        }),
        field(
            "repl_backlog_first_byte_offset",
            "Where the part begins that is kept, counted from one.",
            |e| {
                let kept = e.replication.backlog.as_ref();
                kept.map_or(0, |backlog| backlog.lock().start() + 1).into()
            },
        ),
        field("repl_backlog_histlen", "How long it is, bytes.", |e| e.kept_len().into()),
    ],
};

impl Engine {
    /// How much of the stream is kept, what has not joined it yet included.
    fn kept_len(&self) -> u64 {
        let kept = self.replication.backlog.as_ref();
        kept.map_or(0, |backlog| self.replication.offset - backlog.lock().start())
    }

    /// Bytes of memory that the kept part of the stream takes for itself, and that it takes with what is kept only for
    /// replicas that are behind.
    pub(crate) fn backlog_memory(&self) -> (u64, u64) {
        let (len, whole) = self.replication.kept;
        let size = self.config.replication.repl_backlog_size.0;
        let own = if len > size && !self.replication.replicas.is_empty() {
            whole - (len - size).min(whole)
        } else {
            whole
        };
        (own, whole)
    }

    /// Bytes of memory that are kept only because replicas are behind, or will be.
    pub(crate) fn behind_memory(&self) -> u64 {
        let (own, whole) = self.backlog_memory();
        whole - own + self.replication.pending_memory()
    }
}

fn replicas(engine: &Engine) -> Shown {
    let shown =
        engine.replication.replicas.values().filter_map(|replica| Some((replica, replica.stage_name()?)));
    let line = |(place, (replica, stage)): (usize, (&Replica, &str))| {
        let lag_s = match replica.stage {
            Stage::Online => engine.now_ms / 1000 - replica.acked_ms / 1000,
            _ => 0,
        };
        let ip = replica.greeting.ip.as_ref().unwrap_or(&replica.ip);
        let text = format!(
            "ip={ip},port={},state={stage},offset={},lag={lag_s}",
            replica.greeting.port, replica.acked
        );
        (format!("slave{place}"), text)
    };
    Shown::Lines(shown.enumerate().map(line).collect())
}
