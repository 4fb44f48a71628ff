//! INFO's sections about memory and keys.

use mortise_sdk::declare::info::Shown;

use crate::admin::info::{field, human, never};
use crate::engine::Engine;
use crate::engine::random::Random;
use crate::features::Section;
use crate::keyspace::SpaceId;
use crate::keyspace::dict::Dict;

/// The allocator that the server is built with.
const ALLOCATOR: &str = "jemalloc-5.3.0";

/// Memory.
pub(super) const MEMORY: Section = Section {
    name: "memory",
    fields: &[
        field("used_memory", "What was allocated, bytes.", |e| e.memory.allocated.into()),
        field("used_memory_human", "The same for people.", |e| human(e.memory.allocated)),
        field("used_memory_rss", "Resident memory, bytes.", |e| e.usage.resident.into()),
        field("used_memory_rss_human", "The same for people.", |e| human(e.usage.resident)),
        field("used_memory_peak", "The most that was allocated, bytes.", |e| e.memory.peak.into()),
        field("used_memory_peak_human", "The same for people.", |e| human(e.memory.peak)),
        field("used_memory_peak_perc", "What is allocated, in percent of that.", |e| {
            percent(e.memory.allocated, e.memory.peak)
        }),
        field("used_memory_overhead", "What is allocated for other things than data, bytes.", |e| {
            overhead(e).into()
        }),
        field("used_memory_startup", "What was allocated before there was data, bytes.", |e| {
            e.memory.startup.into()
        }),
        field("used_memory_dataset", "What is allocated for data, bytes.", |e| dataset(e).into()),
        field(
            "used_memory_dataset_perc",
            "The same in percent of what was allocated since the start.",
            |e| percent(dataset(e), e.memory.allocated.saturating_sub(e.memory.startup)),
        ),
        field("allocator_allocated", "What was allocated, bytes.", |e| e.memory.allocated.into()),
        field("allocator_active", "The pages that hold it, bytes.", |e| e.memory.active.into()),
        field("allocator_resident", "The allocator's resident pages, bytes.", |e| e.memory.resident.into()),
        field("total_system_memory", "Memory of the machine, bytes.", |e| e.usage.machine_memory.into()),
        field("total_system_memory_human", "The same for people.", |e| human(e.usage.machine_memory)),
        field("used_memory_lua", "Memory of the Lua interpreters, bytes.", |e| lua(e).into()),
        field("used_memory_vm_eval", "Memory of interpreters of scripts, bytes.", |e| lua(e).into()),
        field("used_memory_lua_human", "The same for people.", |e| human(lua(e))),
        field("used_memory_scripts_eval", "Memory of cached scripts, bytes.", |e| scripts(e).into()),
        field("number_of_cached_scripts", "Cached scripts.", |e| (e.scripting.usage().scripts as u64).into()),
        field("number_of_functions", "Functions.", never),
        field("number_of_libraries", "Libraries of functions.", never),
        field("used_memory_vm_functions", "Memory of interpreters of functions.", never),
        field("used_memory_vm_total", "Memory of interpreters, bytes.", |e| lua(e).into()),
        field("used_memory_vm_total_human", "The same for people.", |e| human(lua(e))),
        field("used_memory_functions", "Memory of functions.", never),
        field("used_memory_scripts", "Memory of scripts and functions, bytes.", |e| scripts(e).into()),
        field("used_memory_scripts_human", "The same for people.", |e| human(scripts(e))),
        field("maxmemory", "The limit of memory; zero means none.", |e| e.config.keyspace.maxmemory.0.into()),
        field("maxmemory_human", "The same for people.", |e| human(e.config.keyspace.maxmemory.0)),
        field("maxmemory_policy", "What to evict when memory is short.", |e| {
            e.config.keyspace.maxmemory_policy.name().into()
        }),
        field("allocator_frag_ratio", "Active pages, relative to what is allocated.", |e| {
            ratio(e.memory.active, e.memory.allocated)
        }),
        field("allocator_frag_bytes", "Their difference.", |e| {
            e.memory.active.saturating_sub(e.memory.allocated).into()
        }),
        field("allocator_rss_ratio", "The allocator's resident pages, relative to active ones.", |e| {
            ratio(e.memory.resident, e.memory.active)
        }),
        field("allocator_rss_bytes", "Their difference.", |e| beyond(e.memory.resident, e.memory.active)),
        field("rss_overhead_ratio", "Resident memory, relative to the allocator's.", |e| {
            ratio(e.usage.resident, e.memory.resident)
        }),
        field("rss_overhead_bytes", "Their difference.", |e| beyond(e.usage.resident, e.memory.resident)),
        field("mem_fragmentation_ratio", "Resident memory, relative to what is allocated.", |e| {
            ratio(e.usage.resident, e.memory.allocated)
        }),
        field("mem_fragmentation_bytes", "Their difference.", |e| {
            beyond(e.usage.resident, e.memory.allocated)
        }),
        field("mem_not_counted_for_evict", "What maxmemory does not limit, bytes.", |e| {
            e.not_counted_for_evict().into()
        }),
        field("mem_replication_backlog", "The part of the stream of changes that is kept, bytes.", |e| {
            e.backlog_memory().0.into()
        }),
        field(
            "mem_total_replication_buffers",
            "What is kept of the stream of changes, also for replicas that are behind, bytes.",
            |e| e.backlog_memory().1.into(),
        ),
        field("mem_clients_slaves", "Buffers of replicas, bytes.", |e| {
            let (own, whole) = e.backlog_memory();
            (whole - own).into()
        }),
        field("mem_clients_normal", "Clients and their buffers, bytes.", |e| clients(e).into()),
        field("mem_cluster_links", "Connections to nodes of a cluster, bytes.", never),
        field("mem_aof_buffer", "What waits to be appended to a file, bytes.", |e| {
            e.journal.buffer_memory().into()
        }),
        field("mem_allocator", "The allocator.", |_| ALLOCATOR.into()),
        field("active_defrag_running", "How hard memory is being defragmented; it is not.", never),
        field("lazyfree_pending_objects", "Values that wait to be freed.", |e| {
            e.memory.leaving.values().into()
        }),
        field("lazyfreed_objects", "Values freed in the background.", |e| e.memory.leaving.freed().into()),
    ],
};

/// Bytes that Lua holds.
pub(crate) fn lua(engine: &Engine) -> u64 {
    engine.scripting.usage().lua_bytes as u64
}

/// Bytes that the texts of scripts take.
pub(crate) fn scripts(engine: &Engine) -> u64 {
    engine.scripting.usage().scripts_bytes as u64
}

/// Databases.
pub(super) const KEYSPACE: Section = Section {
    name: "keyspace",
    fields: &[field("db*", "Keys of a database, and how many of them expire.", |e| {
        let dbs =
            e.keyspace.iter().filter(|(space, _, db)| *space == SpaceId::FIRST && !db.dict().is_empty());
        let line = |(_, index, db): (SpaceId, u32, &crate::keyspace::Db)| {
            let (keys, expires) = (db.dict().len(), db.dict().expiring());
            let mut value =
                format!("keys={keys},expires={expires},avg_ttl={}", average_ttl(db.dict(), e.now_ms));
            if db.dict().partly_expiring() > 0 {
                value += &format!(",keys_with_volatile_items={}", db.dict().partly_expiring());
            }
            (format!("db{index}"), value)
        };
        Shown::Lines(dbs.map(line).collect())
    })],
};

/// How many milliseconds keys that expire have left, on average of some that chance picks.
fn average_ttl(dict: &Dict, now_ms: i64) -> i64 {
    const SAMPLES: i64 = 16;
    let mut random = Random::new(now_ms as u64);
    let drawn = (0..SAMPLES).filter_map(|_| dict.sample_expiring(|| random.word())?.deadline());
    let left = drawn.map(|deadline| deadline.saturating_sub(now_ms).max(0));
    left.fold(0, i64::saturating_add) / SAMPLES
}

fn ratio(one: u64, other: u64) -> Shown {
    Shown::Ratio(if other == 0 { 0.0 } else { one as f64 / other as f64 })
}

fn percent(part: u64, whole: u64) -> Shown {
    Shown::Text(format!("{:.2}%", part as f64 * 100.0 / whole.max(1) as f64))
}

fn beyond(one: u64, other: u64) -> Shown {
    Shown::Int(one as i64 - other as i64)
}

/// Clients with what they have sent and what waits for them.
pub(crate) fn clients(engine: &Engine) -> u64 {
    engine.clients.iter().map(|client| engine.client_memory(client)).sum()
}

/// What is allocated for other things than data.
pub(crate) fn overhead(engine: &Engine) -> u64 {
    let tables: u64 = engine.keyspace.iter().map(|(_, _, db)| db.dict().memory() as u64).sum();
    engine.memory.startup + tables + clients(engine) + scripts(engine) + engine.journal.buffer_memory()
}

/// What is allocated for data.
pub(crate) fn dataset(engine: &Engine) -> u64 {
    engine.memory.allocated.saturating_sub(overhead(engine))
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Bench;

    #[test]
    fn an_average_of_what_keys_have_left_is_told() {
        let mut bench = Bench::new();
        let client = bench.connect();
        for (request, expected) in [
            ("SET stays v", "keys=1,expires=0,avg_ttl=0"),
            ("SET goes v PX 16000", "keys=2,expires=1,avg_ttl=16000"),
            ("SET too v PX 16000", "keys=3,expires=2,avg_ttl=16000"),
        ] {
            bench.ask(client, &[request]);
            let shown = bench.ask(client, &["INFO keyspace"]);
            assert!(shown.contains(expected), "{request}: {shown}");
        }
    }
}
