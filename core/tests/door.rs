//! The door of mutation: whatever is done to the data, undo and cuts give the state before, and nothing changes that
//! was not announced.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::call::{Call, Key, Run};
use mortise_core::engine::event::Clock;
use mortise_core::engine::session::Session;
use mortise_core::features;
use mortise_core::keyspace::door::Witness;
use mortise_core::keyspace::{Entry, Keyspace, SpaceId};
use mortise_core::types::AnyRef;
use mortise_core::types::hash::value::Hash;
use mortise_core::types::string::value::{Str, stored};
use mortise_core::types::zset::value::Zset;
use mortise_sdk::Result;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::WRITE;

const DBS: u32 = 3;

struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn monotonic_ns(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    fn unix_us(&self) -> i64 {
        1_700_000_000_000_000
    }
}

/// A picture of an entry: its deadline and its content in an order of its own.
type Picture = (Option<i64>, Vec<(Vec<u8>, Vec<u8>)>);

fn picture(entry: &Entry) -> Picture {
    let mut content: Vec<(Vec<u8>, Vec<u8>)> = match AnyRef::of(entry) {
        AnyRef::Str(text) => vec![(b"string".to_vec(), text.bytes().into_owned())],
        AnyRef::Hash(hash) => hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect(),
        AnyRef::Zset(zset) => {
            zset.iter().map(|(score, member)| (member.to_vec(), score.to_le_bytes().to_vec())).collect()
        }
        AnyRef::Foreign(foreign) => vec![(b"foreign".to_vec(), foreign.save().expect("it can be saved"))],
    };
    content.sort();
    (entry.deadline(), content)
}

fn pictures(keyspace: &Keyspace) -> BTreeMap<(u32, Vec<u8>), Picture> {
    keyspace
        .iter()
        .flat_map(|(_, db, contents)| {
            contents.dict().iter().map(move |entry| ((db, entry.key().to_vec()), picture(entry)))
        })
        .collect()
}

fn random_bytes(call: &mut Call<'_>, kinds: u64) -> Vec<u8> {
    let n = call.random() % kinds;
    // Now and then longer than what stays packed, or what stands inside a leaf.
    let padding = match call.random() % 50 {
        0 => 300,
        1 => 70,
        _ => 0,
    };
    format!("{n:08}{}", "x".repeat(padding)).into_bytes()
}

/// Does something at random to some key: the test's own command, on the road of every other.
fn change(call: &mut Call<'_>) -> Result {
    let members: u64 = std::str::from_utf8(call.arg(1)).unwrap().parse().unwrap();
    let kind = call.random() % 3;
    let name = format!("{}:{}", ["hash", "zset", "text"][kind as usize], call.random() % 6);
    let key = Key::new(name.as_bytes());
    let (one, other) = (random_bytes(call, members), random_bytes(call, members));
    let action = call.random() % 40;
    let score = (call.random() % 1000) as f64 / 4.0;
    let deadline = 1_800_000_000_000 + (call.random() % 1000) as i64;
    match action {
        0 => {
            call.remove(key, "del");
        }
        1 => {
            call.set_deadline(key, Some(deadline), "expire");
        }
        2 => {
            call.set_deadline(key, None, "persist");
        }
        _ if kind == 0 && action < 12 => {
            if let Some(mut hash) = call.edit::<Hash>(key)?
                && hash.remove(&one)
            {
                hash.changed("hdel");
            }
        }
        _ if kind == 0 => {
            let mut hash = call.create::<Hash>(key)?;
            hash.set(&one, &other);
            hash.set(&other, &one);
            hash.changed("hset");
        }
        _ if kind == 1 && action < 12 => {
            if let Some(mut zset) = call.edit::<Zset>(key)?
                && zset.remove(&one).is_some()
            {
                zset.changed("zrem");
            }
        }
        _ if kind == 1 => {
            let mut zset = call.create::<Zset>(key)?;
            zset.set(&one, score);
            zset.changed("zadd");
        }
        _ if action < 20 => {
            let mut text = call.create::<Str>(key)?;
            text.append(&one);
            text.changed("append");
        }
        _ if action < 25 => {
            let mut text = call.create::<Str>(key)?;
            text.write_at(70_000, &one);
            text.changed("setrange");
        }
        _ => call.put::<Str>(key, stored(&one), action < 30).changed("set"),
    }
    call.ok()
}

struct Bench {
    engine: Engine,
    session: Option<Box<Session>>,
}

impl Bench {
    fn new(seed: u64) -> Bench {
        let mut registry = features::registry().expect("the declarations are right");
        let spec = Spec {
            usage: "CHANGE members:int",
            about: "Changes something.",
            flags: &[WRITE],
            ..Spec::group("generic")
        };
        registry.install([(spec, Run::Core(change))].into_iter(), None).expect("the name is free");
        let mut engine =
            Engine::new(Config::default(), Arc::new(registry), Box::new(Ticks(AtomicU64::new(0))), seed);
        let session = engine.local_session();
        Bench { engine, session }
    }

    fn ask(&mut self, words: &[&[u8]]) {
        let session = self.session.take().expect("nothing waits here");
        let (session, reply) = self.engine.request(session, words);
        assert_ne!(reply.first(), Some(&b'-'), "{}", String::from_utf8_lossy(&reply));
        self.session = session;
    }

    fn changes(&mut self, count: usize, members: u64) {
        for _ in 0..count {
            let db = self.engine.random() % u64::from(DBS);
            self.session.as_mut().expect("nothing waits here").db = db as u32;
            self.ask(&[b"CHANGE", members.to_string().as_bytes()]);
        }
    }

    fn swap_or_flush(&mut self) {
        let (one, other) = (self.engine.random() % 3, self.engine.random() % 3);
        if self.engine.random().is_multiple_of(2) {
            self.engine.keyspace.swap(SpaceId::FIRST, one as u32, other as u32);
        } else {
            let (db, door) = self.engine.keyspace.db(SpaceId::FIRST, one as u32);
            drop(db.flush(door));
        }
    }
}

/// Members that values draw from: small ones stay packed, large ones do not.
const SIZES: [u64; 2] = [10, 5_000];

#[test]
fn undo_gives_the_state_before() {
    for members in SIZES {
        let mut bench = Bench::new(members);
        bench.changes(4_000, members);
        for round in 0..60 {
            let before = pictures(&bench.engine.keyspace);
            bench.engine.keyspace.begin_undo();
            bench.changes(100, members);
            if round % 3 == 0 {
                bench.swap_or_flush();
                bench.changes(50, members);
                bench.swap_or_flush();
                bench.changes(50, members);
            }
            assert_ne!(pictures(&bench.engine.keyspace), before, "the round changed something");
            bench.engine.keyspace.abort();
            assert!(pictures(&bench.engine.keyspace) == before, "round {round} of {members} members");
            // What is kept goes on as usual.
            bench.changes(20, members);
        }
    }
}

#[test]
fn a_cut_gives_the_state_at_its_beginning() {
    for members in SIZES {
        let mut bench = Bench::new(members + 1);
        bench.changes(3_000, members);
        // Many keys beside, so that a walk takes many steps.
        for n in 0..6_000 {
            bench.session.as_mut().expect("nothing waits here").db = n % DBS;
            bench.ask(&[b"SET", format!("key:{n}").as_bytes(), b"value"]);
        }
        for round in 0..10 {
            let before = pictures(&bench.engine.keyspace);
            assert!(bench.engine.keyspace.begin_cut());
            assert!(!bench.engine.keyspace.begin_cut(), "one at a time");
            let mut step = 0;
            while !bench.engine.keyspace.advance_cut() {
                bench.changes(5, members);
                if step == 3 && round % 2 == 1 {
                    bench.swap_or_flush();
                    bench.swap_or_flush();
                }
                step += 1;
            }
            let saved = bench.engine.keyspace.end_cut();
            assert_eq!(saved.len(), before.len(), "each entry once, in round {round}");
            let saved: BTreeMap<_, _> = saved
                .iter()
                .map(|saved| ((saved.db, saved.entry.key().to_vec()), picture(&saved.entry)))
                .collect();
            assert!(saved == before, "round {round} of {members} members");
        }
    }
}

/// Keeps a picture of all data, and takes notes of what was announced.
#[derive(Default)]
struct Notes {
    announced: Vec<(u32, Vec<u8>)>,
    databases: Vec<u32>,
    wrong: Vec<String>,
    known: BTreeMap<(u32, Vec<u8>), Picture>,
}

struct Watching(Arc<Mutex<Notes>>);

impl Witness for Watching {
    fn before(&mut self, _: SpaceId, db: u32, key: &[u8], entry: Option<&Entry>) {
        let mut notes = self.0.lock().unwrap();
        let place = (db, key.to_vec());
        let first = !notes.announced.contains(&place);
        if first && notes.known.get(&place) != entry.map(picture).as_ref() {
            notes.wrong.push(format!("{db} {}", String::from_utf8_lossy(key)));
        }
        notes.announced.push(place);
    }

    fn before_all(&mut self, _: SpaceId, db: u32) {
        self.0.lock().unwrap().databases.push(db);
    }
}

#[test]
fn what_was_not_announced_never_changes() {
    let mut bench = Bench::new(99);
    let notes = Arc::new(Mutex::new(Notes::default()));
    bench.engine.keyspace.door.set_witness(Some(Box::new(Watching(notes.clone()))));
    for _ in 0..1_500 {
        bench.changes(1, 200);
        let now = pictures(&bench.engine.keyspace);
        let mut notes = notes.lock().unwrap();
        assert!(notes.wrong.is_empty(), "changed before it was announced: {:?}", notes.wrong);
        let differs = |place: &(u32, Vec<u8>)| now.get(place) != notes.known.get(place);
        let unannounced: Vec<_> = now
            .keys()
            .chain(notes.known.keys())
            .filter(|place| {
                differs(place) && !notes.announced.contains(place) && !notes.databases.contains(&place.0)
            })
            .collect();
        assert!(unannounced.is_empty(), "changed without a word: {unannounced:?}");
        *notes = Notes { known: now, ..Notes::default() };
    }
}
