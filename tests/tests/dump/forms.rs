//! Every form of a value that redis-server writes is read by Mortise's readers, and what their writers make is read by
//! redis-server: for the forms as such, whether the server has commands for the type or not.

use mortise_core::engine::random::Random;
use mortise_core::persistence::snapshot::stream::{self, Facts, Fields, Id, Names, NodeBuilder, Taker};
use mortise_core::persistence::snapshot::{Out, Reader, Result, Writer, list, payload, set};
use mortise_tests::{Client, Reply};

use super::values::{MAKERS, text};
use super::{call, dump, redis, run};

/// Bulk replies within a reply, one after another.
fn flat(reply: Reply) -> Vec<Vec<u8>> {
    match reply {
        Reply::Bulk(bytes) => vec![bytes],
        Reply::Array(items) => items.into_iter().flat_map(flat).collect(),
        other => panic!("{other:?}"),
    }
}

/// Lets redis-server make a value of a type, and returns what it shows of it, its kind taken off.
fn made<'p>(redis: &mut Client, kind: &str, seed: u64, shown: &'p mut Vec<u8>) -> (u8, Reader<'p>) {
    let maker = MAKERS.iter().find(|maker| maker.name == kind).expect("it is known");
    call(redis, &[b"DEL", b"k"]);
    run(redis, &(maker.make)(&mut Random::new(seed), "k"));
    *shown = dump(redis, "k");
    let mut from = payload::open(shown, true).expect("the checksum is right");
    (from.byte().expect("the kind comes first"), from)
}

/// Lets redis-server take a value.
fn taken(redis: &mut Client, kind: u8, write: impl FnOnce(&mut Out<'_>) -> Result<()>) {
    let mut out = Writer::new(true);
    out.byte(kind);
    write(&mut Out::whole(&mut out)).expect("it is not passed on");
    payload::seal(&mut out);
    let reply = call(redis, &[b"RESTORE", b"k", b"0", out.as_bytes(), b"REPLACE"]);
    assert_eq!(reply, Reply::Simple(b"OK".to_vec()), "{}", out.as_bytes().escape_ascii());
}

const SEEDS: std::ops::Range<u64> = 0..40;

#[test]
fn lists() {
    let Some(server) = redis() else { return };
    let (mut redis, mut shown) = (server.connect(), Vec::new());
    for seed in SEEDS {
        let (kind, mut from) = made(&mut redis, "list", seed, &mut shown);
        let mut elements = Vec::new();
        list::load(kind, &mut from, &mut |element| {
            elements.push(element.to_vec());
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{seed}: {error}"));
        assert!(elements == flat(call(&mut redis, &[b"LRANGE", b"k", b"0", b"-1"])), "{seed}");
        taken(&mut redis, list::SAVED, |out| {
            list::save(|each| elements.iter().for_each(|element| each(element)), out)
        });
        assert!(elements == flat(call(&mut redis, &[b"LRANGE", b"k", b"0", b"-1"])), "{seed}");
    }
}

#[test]
fn sets() {
    let Some(server) = redis() else { return };
    let (mut redis, mut shown) = (server.connect(), Vec::new());
    for seed in SEEDS {
        let (kind, mut from) = made(&mut redis, "set", seed, &mut shown);
        let mut members = Vec::new();
        set::load(kind, &mut from, &mut |member| {
            members.push(member.to_vec());
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{seed}: {error}"));
        members.sort();
        let smembers = |redis: &mut Client| {
            let mut members = flat(call(redis, &[b"SMEMBERS", b"k"]));
            members.sort();
            members
        };
        assert!(members == smembers(&mut redis), "{seed}");
        taken(&mut redis, mortise_core::persistence::snapshot::format::kind::SET, |out| {
            set::save_members(members.len(), members.iter().map(|member| &member[..]), out)
        });
        assert!(members == smembers(&mut redis), "{seed}");
    }
}

/// A stream as it was read, in the words of its replies.
#[derive(Default)]
struct Read {
    nodes: Vec<NodeBuilder>,
    bases: Vec<Id>,
    entries: Vec<Vec<u8>>,
    facts: Facts,
    groups: Vec<Group>,
}

struct Group {
    name: Vec<u8>,
    last: Id,
    read: i64,
    pending: Vec<(Id, i64, u64)>,
    consumers: Vec<(Vec<u8>, i64, Vec<Id>)>,
}

impl Taker for Read {
    fn node(&mut self, _: Names<'_>) -> Result<()> {
        self.bases.push(Id::default());
        Ok(())
    }

    fn entry(&mut self, id: Id, fields: Fields<'_>) -> Result<()> {
        let fields: Vec<_> = fields.map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        if self.nodes.len() < self.bases.len() {
            *self.bases.last_mut().expect("a node has begun") = id;
            self.nodes.push(NodeBuilder::new(id, fields.iter().map(|(name, _)| &name[..])));
        }
        let node = self.nodes.last_mut().expect("a node has begun");
        node.push(id, fields.iter().map(|(name, value)| (&name[..], &value[..])));
        self.entries.push(format!("{}-{}", id.ms, id.seq).into_bytes());
        self.entries.extend(fields.into_iter().flat_map(|(name, value)| [name, value]));
        Ok(())
    }

    fn facts(&mut self, facts: &Facts) -> Result<()> {
        self.facts = *facts;
        Ok(())
    }

    fn group(&mut self, name: &[u8], last: Id, read: Option<i64>) -> Result<()> {
        let read = read.expect("redis-server 7.0 says it");
        self.groups.push(Group {
            name: name.to_vec(),
            last,
            read,
            pending: Vec::new(),
            consumers: Vec::new(),
        });
        Ok(())
    }

    fn consumer(&mut self, name: &[u8], seen_ms: i64, _: Option<i64>) -> Result<()> {
        let group = self.groups.last_mut().expect("a group has begun");
        group.consumers.push((name.to_vec(), seen_ms, Vec::new()));
        Ok(())
    }

    fn pending(&mut self, id: Id, delivered_ms: i64, deliveries: u64) -> Result<()> {
        let group = self.groups.last_mut().expect("a group has begun");
        group.consumers.last_mut().expect("a consumer has begun").2.push(id);
        group.pending.push((id, delivered_ms, deliveries));
        Ok(())
    }
}

fn save(stream: Read, out: &mut Out<'_>) -> Result<()> {
    stream::save_nodes(stream.nodes.len(), out.small());
    for (node, base) in stream.nodes.into_iter().zip(stream.bases) {
        stream::save_node(base, &node.finish(), out)?;
    }
    stream::save_facts(&stream.facts, stream.groups.len(), out.small());
    for mut group in stream.groups {
        group.pending.sort_unstable();
        stream::save_group(&group.name, group.last, group.read, group.pending.len(), out.small());
        for (id, delivered_ms, deliveries) in group.pending {
            stream::save_pending(id, delivered_ms, deliveries, out.small());
        }
        stream::save_consumers(group.consumers.len(), out.small());
        for (name, seen_ms, ids) in group.consumers {
            stream::save_consumer(&name, seen_ms, ids.len(), ids.into_iter(), out)?;
        }
    }
    Ok(())
}

#[test]
fn streams() {
    let Some(server) = redis() else { return };
    let (mut redis, mut shown) = (server.connect(), Vec::new());
    for seed in SEEDS {
        let (kind, mut from) = made(&mut redis, "stream", seed, &mut shown);
        let mut stream = Read::default();
        stream::load(kind, &mut from, &mut stream).unwrap_or_else(|error| panic!("{seed}: {error}"));
        let entries = flat(call(&mut redis, &[b"XRANGE", b"k", b"-", b"+"]));
        assert!(stream.entries == entries, "{seed}");
        let facts = |redis: &mut Client| {
            let asked: [&[&[u8]]; 4] = [
                &[b"XINFO", b"GROUPS", b"k"],
                &[b"XPENDING", b"k", b"group0", b"-", b"+", b"1000"],
                &[b"XPENDING", b"k", b"group1", b"-", b"+", b"1000"],
                &[b"XRANGE", b"k", b"-", b"+"],
            ];
            let Reply::Array(info) = call(redis, &[b"XINFO", b"STREAM", b"k"]) else {
                panic!("it is a stream")
            };
            // How the entries are spread over nodes is not a fact.
            let info = info
                .chunks(2)
                .filter(|pair| !matches!(&pair[0], Reply::Bulk(name) if name.starts_with(b"radix-tree")));
            let info: Vec<Reply> = info.flatten().cloned().collect();
            let replies = asked.map(|command| without_time(call(redis, command)));
            (info, replies)
        };
        let before = facts(&mut redis);
        // A node whose entries were all deleted is none any more.
        stream.bases.retain(|base| *base != Id::default());
        taken(&mut redis, stream::SAVED, |out| save(stream, out));
        assert_eq!(facts(&mut redis), before, "{seed}");
    }
}

/// Idle times go on while the test runs.
fn without_time(reply: Reply) -> Reply {
    match reply {
        Reply::Array(items)
            if items.len() == 4 && matches!(items[2..], [Reply::Integer(_), Reply::Integer(_)]) =>
        {
            Reply::Array(
                items.into_iter().enumerate().filter(|(at, _)| *at != 2).map(|(_, item)| item).collect(),
            )
        }
        Reply::Array(items) => Reply::Array(items.into_iter().map(without_time).collect()),
        other => other,
    }
}

#[test]
fn long_texts() {
    // Each length about which a listpack's items change, and the one that stands behind them.
    let Some(server) = redis() else { return };
    let mut redis = server.connect();
    call(&mut redis, &[b"CONFIG", b"SET", b"hash-max-listpack-value", b"100000000"]);
    let mut random = Random::new(7);
    for len in [
        62, 63, 64, 125, 126, 127, 128, 4095, 4096, 16_376, 16_377, 16_378, 16_379, 2_097_145, 2_097_146,
        2_097_147,
    ] {
        let value: Vec<u8> = (0..len).map(|_| random.word() as u8).collect();
        let field = text(&mut random);
        call(&mut redis, &[b"DEL", b"k"]);
        call(&mut redis, &[b"HSET", b"k", &field, &value, b"behind", b"x"]);
        let shown = dump(&mut redis, "k");
        let mut from = payload::open(&shown, true).expect("the checksum is right");
        from.byte().expect("the kind comes first");
        let blob = from.bytes().expect("a listpack").into_owned();
        let pack = mortise_core::persistence::snapshot::blob::listpack::Listpack::parse(&blob);
        let items: Vec<_> =
            pack.unwrap_or_else(|error| panic!("{len}: {error}")).iter().map(|item| item.to_vec()).collect();
        assert!(items == [field.clone(), value.clone(), b"behind".to_vec(), b"x".to_vec()], "{len}");
        let mut again = mortise_core::persistence::snapshot::blob::listpack::Builder::default();
        items.iter().for_each(|item| again.push(item));
        assert!(again.finish() == blob, "{len}");
    }
}
