//! MEMORY STATS, DOCTOR, MALLOC-STATS, PURGE: where memory goes, and giving it back.

use mortise_sdk::Result;
use mortise_sdk::declare::Spec;

use crate::engine::call::Call;
use crate::engine::{Engine, Job};
use crate::features::Command;
use crate::keys::info;
use crate::keyspace::SpaceId;
use crate::keyspace::memory;
use crate::resp::output::Output;

const SERVER: Spec = Spec::group("server");

/// This file's commands.
pub(in crate::admin) const COMMANDS: &[Command] =
    &[MEMORY_STATS, MEMORY_DOCTOR, MEMORY_MALLOC_STATS, MEMORY_PURGE];

/// What those that describe memory have in common.
const DESCRIBES: Spec = Spec {
    since: "4.0.0",
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    ..SERVER
};

const MEMORY_STATS: Command =
    Spec { usage: "MEMORY STATS", about: "Says what memory is used for.", ..DESCRIBES }.runs(memory_stats);

/// A figure of MEMORY STATS.
enum Figure {
    Bytes(u64),
    Difference(i64),
    Share(f64),
    /// Of a database: bytes of its tables.
    Tables(u64),
}

fn memory_stats(call: &mut Call<'_>) -> Result {
    call.engine.sample();
    let figures = figures(call.engine, call.session.space);
    let out = call.out();
    out.map(figures.len());
    figures.iter().for_each(|(name, figure)| write(out, name, figure));
    Ok(())
}

fn write(out: &mut Output, name: &str, figure: &Figure) {
    out.bulk(name.as_bytes());
    match *figure {
        Figure::Bytes(bytes) => out.integer(bytes as i64),
        Figure::Difference(bytes) => out.integer(bytes),
        Figure::Share(share) => out.double(share),
        Figure::Tables(bytes) => {
            out.map(3);
            out.bulk(b"overhead.hashtable.main");
            out.integer(bytes as i64);
            // Deadlines stand in the entries, and slots in their hashes.
            out.bulk(b"overhead.hashtable.expires");
            out.integer(0);
            out.bulk(b"overhead.hashtable.slot-to-keys");
            out.integer(0);
        }
    }
}

fn figures(engine: &Engine, space: SpaceId) -> Vec<(String, Figure)> {
    use Figure::{Bytes, Difference, Share, Tables};
    let memory = &engine.memory;
    let resident = engine.usage.resident;
    let ratio = |one: u64, other: u64| Share(one as f64 / other.max(1) as f64);
    let percent = |part: u64, whole: u64| Share(part as f64 * 100.0 / whole.max(1) as f64);
    let beyond = |one: u64, other: u64| Difference(one as i64 - other as i64);
    let scripts = engine.scripting.usage();
    let dbs = || engine.keyspace.iter().filter(|(of, _, db)| *of == space && !db.dict().is_empty());
    let keys: u64 = dbs().map(|(_, _, db)| db.dict().len() as u64).sum();
    let (overhead, dataset) = (info::overhead(engine), info::dataset(engine));
    let net = memory.allocated.saturating_sub(memory.startup);

    let mut figures = vec![
        ("peak.allocated".to_owned(), Bytes(memory.peak)),
        ("total.allocated".to_owned(), Bytes(memory.allocated)),
        ("startup.allocated".to_owned(), Bytes(memory.startup)),
        ("replication.backlog".to_owned(), Bytes(0)),
        ("clients.slaves".to_owned(), Bytes(0)),
        ("clients.normal".to_owned(), Bytes(info::clients(engine))),
        ("cluster.links".to_owned(), Bytes(0)),
        ("aof.buffer".to_owned(), Bytes(engine.journal.buffer_memory())),
        ("lua.caches".to_owned(), Bytes(scripts.scripts_bytes as u64)),
        ("functions.caches".to_owned(), Bytes(0)),
    ];
    figures.extend(dbs().map(|(_, index, db)| (format!("db.{index}"), Tables(db.dict().memory() as u64))));
    let rest = [
        ("overhead.total", Bytes(overhead)),
        ("keys.count", Bytes(keys)),
        ("keys.bytes-per-key", Bytes(net.checked_div(keys).unwrap_or(0))),
        ("dataset.bytes", Bytes(dataset)),
        ("dataset.percentage", percent(dataset, net)),
        ("peak.percentage", percent(memory.allocated, memory.peak)),
        ("allocator.allocated", Bytes(memory.allocated)),
        ("allocator.active", Bytes(memory.active)),
        ("allocator.resident", Bytes(memory.resident)),
        ("allocator-fragmentation.ratio", ratio(memory.active, memory.allocated)),
        ("allocator-fragmentation.bytes", beyond(memory.active, memory.allocated)),
        ("allocator-rss.ratio", ratio(memory.resident, memory.active)),
        ("allocator-rss.bytes", beyond(memory.resident, memory.active)),
        ("rss-overhead.ratio", ratio(resident, memory.resident)),
        ("rss-overhead.bytes", beyond(resident, memory.resident)),
        ("fragmentation", ratio(resident, memory.allocated)),
        ("fragmentation.bytes", beyond(resident, memory.allocated)),
    ];
    figures.extend(rest.map(|(name, figure)| (name.to_owned(), figure)));
    figures
}

const MEMORY_DOCTOR: Command =
    Spec { usage: "MEMORY DOCTOR", about: "Looks for what is wrong with the use of memory.", ..DESCRIBES }
        .runs(memory_doctor);

fn memory_doctor(call: &mut Call<'_>) -> Result {
    call.engine.sample();
    let report = report(call.engine);
    call.out().verbatim(&report);
    Ok(())
}

fn report(engine: &Engine) -> String {
    /// With less there is nothing to be found.
    const ALLOCATED_MIN: u64 = 5 << 20;
    /// Less than this is not worth a word.
    const WASTE_MIN: u64 = 10 << 20;
    const CLIENT_MAX: u64 = 200 << 10;
    let memory = &engine.memory;
    if memory.allocated < ALLOCATED_MIN {
        return "There is too little data here to say anything about the memory that it takes.\n".to_owned();
    }
    let exceeds = |one: u64, other: u64, percent: u64| {
        one > other.saturating_mul(percent) / 100 && one - other > WASTE_MIN
    };
    let clients = engine.clients.connected().max(1) as u64;
    let symptoms = [
        (
            exceeds(memory.peak, memory.allocated, 150),
            "At its peak the server used more than half as much again as now. Pages of that time may still be resident: \
             MEMORY PURGE gives back what it can.",
        ),
        (
            exceeds(engine.usage.resident, memory.allocated, 140),
            "Much more memory is resident than allocated: the allocator's pages are used in part only, or have not been \
             given back yet. MEMORY PURGE helps with the latter, a restart with the former.",
        ),
        (
            exceeds(engine.usage.resident, memory.resident, 110),
            "The process has resident memory that is not the allocator's: loaded modules, or Lua.",
        ),
        (
            info::clients(engine) / clients > CLIENT_MAX,
            "Clients take more than 200 KB each: some do not read their replies, or send large requests. CLIENT LIST says \
             which (omem, qbuf); client-output-buffer-limit and maxmemory-clients set limits.",
        ),
        (
            engine.scripting.usage().scripts > 1000,
            "More than a thousand scripts are cached. Scripts should take what differs from call to call as arguments.",
        ),
    ];
    let found: Vec<&str> = symptoms.iter().filter(|(applies, _)| *applies).map(|(_, text)| *text).collect();
    if found.is_empty() {
        return "Nothing is wrong with the memory of this server.\n".to_owned();
    }
    found.iter().map(|text| format!("- {text}\n")).collect()
}

const MEMORY_MALLOC_STATS: Command =
    Spec { usage: "MEMORY MALLOC-STATS", about: "Returns what the allocator says of itself.", ..DESCRIBES }
        .runs(memory_malloc_stats);

fn memory_malloc_stats(call: &mut Call<'_>) -> Result {
    let report = memory::report();
    call.out().verbatim(&report);
    Ok(())
}

const MEMORY_PURGE: Command = Spec {
    usage: "MEMORY PURGE",
    about: "Gives memory that is not used back to the system.",
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    ..DESCRIBES
}
.runs(memory_purge);

/// A worker does it: unmapping pages takes time, for which nobody should have to wait.
fn memory_purge(call: &mut Call<'_>) -> Result {
    call.engine.jobs.push(Job::Free(Box::new(memory::purge)));
    call.ok()
}
