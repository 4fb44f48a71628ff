//! INFO's section about persistence.

use mortise_sdk::declare::info::Shown;

use super::journal::state::State;
use super::state::Progress;
use crate::admin::info::{field, never};
use crate::engine::Engine;
use crate::features::Section;

/// A figure of the journal; nothing is shown of one that is not there.
fn of_journal(engine: &Engine, figure: u64) -> Shown {
    if engine.journal.state == State::Off { Shown::Hidden } else { figure.into() }
}

fn preserved(engine: &Engine) -> Shown {
    engine.preserved().into()
}

/// Keys that the snapshot in the background has written, and is to hold.
fn drawn(engine: &Engine) -> (u64, u64) {
    let drawing = engine.persistence.drawing.as_ref();
    drawing
        .map_or((0, 0), |drawing| (drawing.written.load(std::sync::atomic::Ordering::Relaxed), drawing.keys))
}

fn percent(part: u64, whole: u64) -> Shown {
    Shown::Ratio(if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 })
}

/// A figure of the file that is being loaded; nothing is shown of one that is not.
fn of_loading(engine: &Engine, read: fn(&Engine, Progress) -> Shown) -> Shown {
    engine.persistence.loading.map_or(Shown::Hidden, |progress| read(engine, progress))
}

/// How long the rest will take if it goes on like this.
fn eta_s(engine: &Engine, progress: Progress) -> Shown {
    let took_s = engine.now_ms / 1000 - progress.began_s;
    if took_s == 0 || progress.loaded == 0 {
        return Shown::Int(1);
    }
    let left = progress.total.saturating_sub(progress.loaded);
    Shown::Int((took_s as f64 * left as f64 / progress.loaded as f64) as i64)
}

/// Snapshots and the append-only file.
pub(super) const PERSISTENCE: Section = Section {
    name: "persistence",
    fields: &[
        field("loading", "Whether a file is being loaded.", |e| (e.loading && !e.serves_meanwhile).into()),
        field("async_loading", "Whether a primary's data is being loaded beside the data in use.", |e| {
            e.serves_meanwhile.into()
        }),
        field("current_cow_peak", "Most memory copied because of the present save, bytes.", preserved),
        field("current_cow_size", "Memory copied because of the present save, bytes.", preserved),
        field("current_cow_size_age", "Age of that figure in seconds; it is always new.", never),
        field("current_fork_perc", "How far the present save is, in percent.", |e| {
            let (written, keys) = drawn(e);
            percent(written, keys)
        }),
        field("current_save_keys_processed", "Keys that the present save has written.", |e| {
            drawn(e).0.into()
        }),
        field("current_save_keys_total", "Keys that it is to write.", |e| drawn(e).1.into()),
        field("rdb_changes_since_last_save", "Changes that no snapshot holds.", |e| {
            e.unsaved_changes().into()
        }),
        field("rdb_bgsave_in_progress", "Whether a snapshot is being written in the background.", |e| {
            e.persistence.is_saving().into()
        }),
        field(
            "rdb_last_save_time",
            "When a snapshot was written, or the server started: Unix seconds.",
            |e| e.persistence.last_save_s.into(),
        ),
        field("rdb_last_bgsave_status", "How the last snapshot ended.", |e| {
            if e.persistence.last_is_ok { "ok" } else { "err" }.into()
        }),
        field("rdb_last_bgsave_time_sec", "How long the last snapshot in the background took.", |e| {
            e.persistence.last_took_s.unwrap_or(-1).into()
        }),
        field("rdb_current_bgsave_time_sec", "How long the present one has taken.", |e| {
            let drawing = e.persistence.drawing.as_ref().filter(|_| e.persistence.is_saving());
            drawing.map_or(-1, |drawing| (e.now_ms - drawing.began_ms) / 1000).into()
        }),
        field("rdb_saves", "Snapshots written.", |e| e.persistence.saves.into()),
        field("rdb_last_cow_size", "Memory copied because of the last snapshot, bytes.", |e| {
            e.persistence.last_preserved.into()
        }),
        field("rdb_last_load_keys_expired", "Keys of the loaded snapshot that had expired.", |e| {
            e.persistence.loaded.expired.into()
        }),
        field("rdb_last_load_keys_loaded", "Keys of the loaded snapshot.", |e| {
            e.persistence.loaded.keys.into()
        }),
        field("aof_enabled", "Whether changes are appended to a file.", |e| {
            let is_being_loaded = e.loading && e.config.journal.appendonly;
            (is_being_loaded || e.journal.state != State::Off).into()
        }),
        field("aof_rewrite_in_progress", "Whether that file is being rewritten.", |e| {
            e.persistence.is_rewriting().into()
        }),
        field("aof_rewrite_scheduled", "Whether a rewrite is to begin as soon as may be.", |e| {
            e.journal.is_scheduled.into()
        }),
        field("aof_last_rewrite_time_sec", "How long the last rewrite took.", |e| {
            e.journal.last_took_s.unwrap_or(-1).into()
        }),
        field("aof_current_rewrite_time_sec", "How long the present rewrite has taken.", |e| {
            let drawing = e.persistence.drawing.as_ref().filter(|_| e.persistence.is_rewriting());
            drawing.map_or(-1, |drawing| (e.now_ms - drawing.began_ms) / 1000).into()
        }),
        field("aof_last_bgrewrite_status", "How the last rewrite ended.", |e| {
            if e.journal.last_is_ok { "ok" } else { "err" }.into()
        }),
        field("aof_rewrites", "Rewrites.", |e| e.journal.rewrites.into()),
        field(
            "aof_rewrites_consecutive_failures",
            "Rewrites that failed since the last that did not.",
            |e| e.journal.failures.into(),
        ),
        field("aof_last_write_status", "How the last write to the file ended.", |e| {
            if e.journal.last_write_is_ok() { "ok" } else { "err" }.into()
        }),
        field("aof_last_cow_size", "Memory copied because of the last rewrite, bytes.", |e| {
            e.journal.last_preserved.into()
        }),
        field("module_fork_in_progress", "Whether a module has forked; none can.", never),
        field("module_fork_last_cow_size", "Memory copied because of it, bytes.", never),
        field("aof_current_size", "Bytes of the append-only file.", |e| {
            of_journal(e, e.journal.current_size())
        }),
        field("aof_base_size", "Bytes that it had when it was last rewritten, or loaded.", |e| {
            of_journal(e, e.journal.base_size)
        }),
        field("aof_pending_rewrite", "Whether a rewrite waits for something else to end.", |e| {
            of_journal(e, e.journal.is_scheduled.into())
        }),
        field("aof_buffer_length", "Bytes that are still to be written to it.", |e| {
            of_journal(e, e.journal.buffered() as u64)
        }),
        field("aof_pending_bio_fsync", "Files that wait to be made durable.", |e| {
            of_journal(e, e.journal.syncs.waiting() as u64)
        }),
        field("aof_delayed_fsync", "Writes that could not wait for the disk any longer.", |e| {
            of_journal(e, e.journal.delayed)
        }),
        field("loading_start_time", "When loading began, while it goes on: Unix seconds.", |e| {
            of_loading(e, |_, progress| progress.began_s.into())
        }),
        field("loading_total_bytes", "Length of the file that is loaded.", |e| {
            of_loading(e, |_, progress| progress.total.into())
        }),
        field("loading_rdb_used_mem", "Memory that its data took when it was saved, bytes.", |e| {
            of_loading(e, |_, progress| progress.used_memory.into())
        }),
        field("loading_loaded_bytes", "How much of the file has been loaded.", |e| {
            of_loading(e, |_, progress| progress.loaded.into())
        }),
        field("loading_loaded_perc", "The same in percent.", |e| {
            of_loading(e, |_, progress| percent(progress.loaded, progress.total))
        }),
        field("loading_eta_seconds", "Seconds until it is loaded, if it goes on like this.", |e| {
            of_loading(e, eta_s)
        }),
    ],
};
