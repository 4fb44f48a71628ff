//! The door of mutation: whatever is done to the data, undo and cuts give the state before, and nothing changes that
//! was not announced. (The scripts in `tests/scripts` run with such a witness as well.)

#[path = "support/changes.rs"]
mod changes;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use changes::{Bench, CHANGE, SIZES};
use mortise_core::engine::Caller;
use mortise_core::engine::args::OwnedArgs;
use mortise_core::engine::call::{Call, Run};
use mortise_core::engine::dispatch::Asked;
use mortise_core::engine::registry::Lookup;
use mortise_core::engine::session::Session;
use mortise_core::engine::settle::{StreamReader, StreamUnit};
use mortise_core::keyspace::door::Witness;
use mortise_core::keyspace::{Entry, Keyspace, SpaceId};
use mortise_core::types::AnyRef;
use mortise_sdk::Result;
use mortise_sdk::declare::Spec;

/// A picture of an entry: its deadline and its content in an order of its own.
type Picture = (Option<i64>, Vec<(Vec<u8>, Vec<u8>)>);

fn picture(entry: &Entry) -> Picture {
    let mut content: Vec<(Vec<u8>, Vec<u8>)> = match AnyRef::of(entry) {
        AnyRef::Str(text) => vec![(b"string".to_vec(), text.bytes().into_owned())],
        AnyRef::Hash(hash) => {
            let deadlines = hash.deadlines().into_iter();
            let deadlines =
                deadlines.map(|(field, at)| ([field, b" until"].concat(), at.to_le_bytes().to_vec()));
            let pairs = hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec()));
            pairs.chain(deadlines).collect()
        }
        AnyRef::Set(set) => set.iter().map(|member| (member.text().to_vec(), Vec::new())).collect(),
        AnyRef::Zset(zset) => {
            zset.iter().map(|(score, member)| (member.to_vec(), score.to_le_bytes().to_vec())).collect()
        }
        AnyRef::List(list) => {
            let mut elements = Vec::new();
            // The place comes first, so that sorting keeps the order.
            list.show_each(0..list.len(), |item| {
                elements.push((format!("{:09}", elements.len()).into_bytes(), item.text().into_owned()));
            });
            elements
        }
        AnyRef::Stream(stream) => vec![(b"stream".to_vec(), stream.picture().into_bytes())],
        AnyRef::Foreign(foreign) => vec![(b"foreign".to_vec(), foreign.save().expect("it can be saved"))],
    };
    content.sort();
    (entry.deadline(), content)
}

/// Where an entry is.
type Place = (SpaceId, u32, Vec<u8>);

fn pictures(keyspace: &Keyspace) -> BTreeMap<Place, Picture> {
    keyspace
        .iter()
        .flat_map(|(space, db, contents)| {
            contents.dict().iter().map(move |entry| ((space, db, entry.key().to_vec()), picture(entry)))
        })
        .collect()
}

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
            bench.turn_anywhere();
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
                .map(|saved| ((saved.space, saved.db, saved.entry.key().to_vec()), picture(&saved.entry)))
                .collect();
            assert!(saved == before, "round {round} of {members} members");
        }
    }
}

/// Keeps a picture of all data, and takes notes of what was announced.
#[derive(Default)]
struct Notes {
    announced: Vec<Place>,
    databases: Vec<(SpaceId, u32)>,
    wrong: Vec<String>,
    known: BTreeMap<Place, Picture>,
}

struct Watching(Arc<Mutex<Notes>>);

impl Witness for Watching {
    fn before(&mut self, space: SpaceId, db: u32, key: &[u8], entry: Option<&Entry>) {
        let mut notes = self.0.lock().unwrap();
        let place = (space, db, key.to_vec());
        let first = !notes.announced.contains(&place);
        if first && notes.known.get(&place) != entry.map(picture).as_ref() {
            notes.wrong.push(format!("{db} {}", String::from_utf8_lossy(key)));
        }
        notes.announced.push(place);
    }

    fn before_all(&mut self, space: SpaceId, db: u32) {
        self.0.lock().unwrap().databases.push((space, db));
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
        let differs = |place: &Place| now.get(place) != notes.known.get(place);
        let unannounced: Vec<_> = now
            .keys()
            .chain(notes.known.keys())
            .filter(|place| {
                differs(place)
                    && !notes.announced.contains(place)
                    && !notes.databases.contains(&(place.0, place.1))
            })
            .collect();
        assert!(unannounced.is_empty(), "changed without a word: {unannounced:?}");
        *notes = Notes { known: now, ..Notes::default() };
    }
}

#[test]
fn a_cut_may_be_ended_before_it_is_complete() {
    let mut bench = Bench::new(5);
    for n in 0..5_000 {
        bench.turn_anywhere();
        bench.ask(&[b"SET", format!("key:{n}").as_bytes(), b"value"]);
    }
    let complete = |bench: &mut Bench| {
        let before = pictures(&bench.engine.keyspace);
        assert!(bench.engine.keyspace.begin_cut());
        while !bench.engine.keyspace.advance_cut() {
            bench.changes(3, 10);
        }
        let saved = bench.engine.keyspace.end_cut();
        assert_eq!(saved.len(), before.len(), "each entry once, whatever happened to the cuts before");
    };
    // So often that every epoch has been used, at different places, with changes in between.
    for cancelled in [1, 2, 3, 1, 3, 3] {
        for steps in 0..cancelled {
            assert!(bench.engine.keyspace.begin_cut(), "so many may be ended one after another");
            (0..steps).for_each(|_| assert!(!bench.engine.keyspace.advance_cut()));
            bench.changes(5, 10);
            bench.swap_or_flush();
            bench.engine.keyspace.end_cut();
            bench.changes(5, 10);
        }
        if cancelled == 3 {
            assert!(bench.engine.keyspace.is_stamping() && !bench.engine.keyspace.begin_cut());
            // The ticks make good for it.
            while bench.engine.keyspace.is_stamping() {
                bench.changes(5, 10);
                bench.engine.tick(100);
            }
        }
        complete(&mut bench);
    }
    bench.engine.keyspace.begin_undo();
    assert!(!bench.engine.keyspace.begin_cut(), "what a trial has changed may be put back");
}

/// Counts the commands of the stream.
struct Counting(Arc<AtomicU64>);

impl StreamReader for Counting {
    fn unit(&mut self, unit: &StreamUnit) {
        self.0.fetch_add(unit.commands.len() as u64, Ordering::Relaxed);
    }
}

/// Does several things in a trial, which ends well if the argument says so: the test's own command.
fn attempt(call: &mut Call<'_>) -> Result {
    assert!(call.engine.begin_trial());
    assert!(!call.engine.begin_trial(), "one at a time");
    let registry = call.engine.registry.clone();
    let lines =
        ["SET key 2", "SET new 1", "DEL hash", "ZADD zset 1 a", "PUBLISH news a", "FLUSHALL", "SET last 1"];
    for line in lines {
        let args = OwnedArgs::new(line.split(' ').map(str::as_bytes));
        let Lookup::Found(command) = registry.find(args.view()) else { panic!("{line}") };
        call.execute(Asked::new(&command, args.view()), Caller::Transaction);
    }
    match call.arg(1) {
        b"well" => call.engine.commit_trial(),
        _ => call.engine.abort_trial(),
    }
    call.propagates_nothing();
    Ok(())
}

#[test]
fn nobody_hears_of_what_was_aborted() {
    let attempt_spec = Spec { usage: "ATTEMPT end", about: "Changes much, or nothing.", ..CHANGE };
    let mut bench = Bench::with(8, vec![(attempt_spec, Run::Core(attempt))]);
    let commands = Arc::new(AtomicU64::new(0));
    bench.engine.attach(Box::new(Counting(commands.clone())));
    bench.engine.directives = Arc::new(mortise_core::server::directives().expect("they are in order"));
    bench.ask(&[b"CONFIG", b"SET", b"notify-keyspace-events", b"KEA"]);
    bench.ask(&[b"SET", b"key", b"1"]);
    bench.ask(&[b"HSET", b"hash", b"field", b"1"]);
    let mut others: Vec<_> = (0..3).map(|_| bench.engine.local_session()).collect();
    let ask = |bench: &mut Bench, other: &mut Option<Box<Session>>, words: &[&[u8]]| {
        let (session, reply) = bench.engine.request(other.take().expect("it does not wait"), words);
        *other = session;
        String::from_utf8_lossy(&reply).into_owned()
    };
    let outbox = |other: &Option<Box<Session>>| other.as_ref().expect("it is there").outbox.clone();
    let (ear, waiting) = (outbox(&others[1]), outbox(&others[2]));
    let watch = |bench: &mut Bench, other: &mut Option<Box<Session>>| {
        ask(bench, other, &[b"WATCH", b"key", b"hash", b"new"]);
        ask(bench, other, &[b"MULTI"]);
    };
    watch(&mut bench, &mut others[0]);
    ask(&mut bench, &mut others[1], &[b"PSUBSCRIBE", b"*"]);
    ask(&mut bench, &mut others[2], &[b"BZPOPMIN", b"zset", b"0"]);

    let state = |bench: &Bench| {
        (pictures(&bench.engine.keyspace), commands.load(Ordering::Relaxed), bench.engine.unit.dirty)
    };
    let before = state(&bench);
    bench.ask(&[b"ATTEMPT", b"badly"]);
    assert!(state(&bench) == before);
    assert!(!ear.is_full() && !waiting.is_full());
    assert_eq!(ask(&mut bench, &mut others[0], &[b"EXEC"]), "*0\r\n", "what was watched has not changed");

    watch(&mut bench, &mut others[0]);
    bench.ask(&[b"ATTEMPT", b"well"]);
    assert_eq!(commands.load(Ordering::Relaxed) - before.1, 7, "all of it");
    assert_eq!(ask(&mut bench, &mut others[0], &[b"EXEC"]), "*-1\r\n");
    let mut pieces = Vec::new();
    ear.take(&mut pieces);
    let heard: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes().to_vec()).collect();
    let at = |text: &[u8]| heard.windows(text.len()).position(|part| part == text).expect("it was told");
    assert!(at(b"zadd") < at(b"news") && at(b"news") < at(b"last"), "in the order in which it was done");
}
