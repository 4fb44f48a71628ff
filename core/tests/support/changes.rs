//! Random changes of all kinds, on the road of every command, in two spaces.

#![allow(dead_code, unreachable_pub)] // Not every test needs all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mortise_core::config::Config;
use mortise_core::engine::args::OwnedArgs;
use mortise_core::engine::call::{Call, Key, Run};
use mortise_core::engine::dispatch::Asked;
use mortise_core::engine::event::Clock;
use mortise_core::engine::registry::Lookup;
use mortise_core::engine::session::Session;
use mortise_core::engine::{Caller, Engine};
use mortise_core::features;
use mortise_core::keyspace::SpaceId;
use mortise_core::types::hash::value::Hash;
use mortise_core::types::list::End;
use mortise_core::types::list::value::List;
use mortise_core::types::set::value::Set;
use mortise_core::types::string::value::{Str, stored};
use mortise_core::types::zset::value::Zset;
use mortise_sdk::Result;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::WRITE;

/// Databases in each of the two spaces.
pub const DBS: u32 = 3;
pub const SPACES: [SpaceId; 2] = [SpaceId::FIRST, SpaceId(1)];

/// A clock that goes on by a step each time it is read.
struct Ticks {
    now: AtomicU64,
    step_ns: Arc<AtomicU64>,
}

impl Clock for Ticks {
    fn monotonic_ns(&self) -> u64 {
        self.now.fetch_add(self.step_ns.load(Ordering::Relaxed), Ordering::Relaxed)
    }

    fn unix_us(&self) -> i64 {
        1_700_000_000_000_000
    }
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

/// Half of the sets hold integers, as long as no text comes that is none.
fn member(set: &str, text: &[u8]) -> Vec<u8> {
    let digits = std::str::from_utf8(text).unwrap().trim_start_matches('0');
    if set < "set:3" { digits.as_bytes().to_vec() } else { text.to_vec() }
}

/// Does something at random to some key: the test's own command, on the road of every other.
fn change(call: &mut Call<'_>) -> Result {
    let members: u64 = std::str::from_utf8(call.arg(1)).unwrap().parse().unwrap();
    let kind = call.random() % 6;
    let name = ["hash", "zset", "text", "set", "list", "stream"][kind as usize];
    let name = format!("{name}:{}", call.random() % 6);
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
        _ if kind == 0 && action < 20 => {
            // Some have expired as soon as they are set: the clock stands still between.
            let deadline = match action {
                12..17 => Some(deadline),
                17..19 => Some(1_600_000_000_000 + deadline % 1000),
                _ => None,
            };
            if let Some(mut hash) = call.edit::<Hash>(key)?
                && hash.view().get(&one).is_some()
            {
                hash.set_field_deadline(&one, deadline);
                hash.changed("hexpire");
            }
        }
        _ if kind == 0 && action < 23 => {
            if let Some(mut hash) = call.edit::<Hash>(key)?
                && !hash.remove_expired(3).is_empty()
            {
                hash.changed("hexpired");
            }
        }
        _ if kind == 0 => {
            let mut hash = call.create::<Hash>(key)?;
            if action == 23 {
                hash.set_keeping_deadline(&one, &other);
            }
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
        _ if kind == 3 && action < 12 => {
            if let Some(mut set) = call.edit::<Set>(key)?
                && set.remove(&member(&name, &one))
            {
                set.changed("srem");
            }
        }
        _ if kind == 3 => {
            let mut set = call.create::<Set>(key)?;
            if set.add(&member(&name, &one)) {
                set.changed("sadd");
            }
        }
        _ if kind == 4 => change_list(call, key, action, &one, members)?,
        _ if kind == 5 => change_stream(call, &name, action, (&one, &other)),
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

/// Does something at random to a list, which as it grows is cut to `members` elements.
fn change_list(call: &mut Call<'_>, key: Key<'_>, action: u64, element: &[u8], members: u64) -> Result {
    let (place, end) =
        (call.random() as usize, if action.is_multiple_of(2) { End::Left } else { End::Right });
    if action < 30 {
        let mut list = call.create::<List>(key)?;
        // Many at once, so that lists become large enough to have a tree.
        (0..place % 20).for_each(|_| list.push(end, element));
        list.insert(place % (list.view().len() + 1), element);
        let len = list.view().len();
        list.remove(0..len.saturating_sub(members as usize));
        list.changed("rpush");
        return Ok(());
    }
    let Some(mut list) = call.edit::<List>(key)? else { return Ok(()) };
    let len = list.view().len();
    match action {
        30..32 => list.pop(end),
        32..34 => list.replace(place % len, element),
        34..36 => list.remove(place % len..len.min(place % len + 50)),
        _ => {
            if list.remove_same(element, 3, end) == 0 {
                return Ok(());
            }
        }
    }
    list.changed("lrem");
    Ok(())
}

/// Changes a stream, its groups included, by commands.
fn change_stream(call: &mut Call<'_>, key: &str, action: u64, (one, other): (&[u8], &[u8])) {
    let id = format!("1700000000000-{}", call.random() % 400);
    let (field, value) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    let reader = format!("XREADGROUP GROUP g c{} COUNT 5", call.random() % 3);
    let line = match action {
        2..5 => format!("XDEL {key} {id}"),
        5 => format!("XTRIM {key} MINID ~ {id}"),
        6 => format!("XTRIM {key} MAXLEN 300"),
        7 => format!("XGROUP CREATE {key} g 0 MKSTREAM"),
        8..12 => format!("{reader} STREAMS {key} >"),
        12 => format!("{reader} STREAMS {key} 0"),
        13..15 => format!("XACK {key} g {id}"),
        15 => format!("XCLAIM {key} g c9 0 {id} FORCE"),
        16 => format!("XGROUP DELCONSUMER {key} g c1"),
        17 if call.random().is_multiple_of(4) => format!("XGROUP DESTROY {key} g"),
        18 => format!("XSETID {key} 1700000000000-{}", 1_000_000 + call.random() % 1000),
        _ => format!("XADD {key} * {field} {value} number {}", value.len()),
    };
    let registry = call.engine.registry.clone();
    let args = OwnedArgs::new(line.split(' ').map(str::as_bytes));
    let Lookup::Found(command) = registry.find(args.view()) else { panic!("{line}") };
    // That there is no stream or group may well be the answer.
    let mark = call.out().mark();
    call.execute(Asked::new(&command, args.view()), Caller::Transaction);
    call.out().rollback(mark);
}

/// Does something at random to some key.
pub const CHANGE: Spec = Spec {
    usage: "CHANGE members:int",
    about: "Changes something.",
    flags: &[WRITE],
    ..Spec::group("generic")
};

/// An engine and a client.
pub struct Bench {
    pub engine: Engine,
    /// How far the clock goes on when it is read.
    pub step_ns: Arc<AtomicU64>,
    session: Option<Box<Session>>,
}

impl Bench {
    pub fn new(seed: u64) -> Bench {
        Bench::with(seed, Vec::new())
    }

    /// With more commands than there are.
    pub fn with(seed: u64, more: Vec<(Spec, Run)>) -> Bench {
        let mut registry = features::registry().expect("the declarations are right");
        let commands = std::iter::once((CHANGE, Run::Core(change))).chain(more);
        registry.install(commands, None).expect("the names are free");
        let step_ns = Arc::new(AtomicU64::new(1));
        let clock = Ticks { now: AtomicU64::new(0), step_ns: step_ns.clone() };
        let mut engine = Engine::new(Config::default(), Arc::new(registry), Box::new(clock), seed);
        assert_eq!(engine.keyspace.add_space(), SPACES[1]);
        let session = engine.local_session();
        Bench { engine, step_ns, session }
    }

    /// What is asked next is asked in this database.
    pub fn turn_to(&mut self, space: SpaceId, db: u32) {
        let session = self.session.as_mut().expect("nothing waits here");
        (session.space, session.db) = (space, db);
    }

    pub fn turn_anywhere(&mut self) {
        let drawn = self.engine.random();
        self.turn_to(SPACES[drawn as usize % 2], (drawn >> 8) as u32 % DBS);
    }

    pub fn ask(&mut self, words: &[&[u8]]) {
        let reply = self.answer(words);
        assert!(!reply.starts_with('-'), "{reply}");
    }

    /// What is answered, whatever it is.
    pub fn answer(&mut self, words: &[&[u8]]) -> String {
        let session = self.session.take().expect("nothing waits here");
        let (session, reply) = self.engine.request(session, words);
        self.session = session;
        String::from_utf8_lossy(&reply).into_owned()
    }

    pub fn changes(&mut self, count: usize, members: u64) {
        for _ in 0..count {
            self.turn_anywhere();
            self.ask(&[b"CHANGE", members.to_string().as_bytes()]);
        }
    }

    pub fn swap_or_flush(&mut self) {
        let (one, other) = (self.engine.random() % 3, self.engine.random() % 3);
        let space = SPACES[self.engine.random() as usize % 2];
        if self.engine.random().is_multiple_of(2) {
            self.engine.keyspace.swap(space, one as u32, other as u32);
        } else {
            let (db, door) = self.engine.keyspace.db(space, one as u32);
            drop(db.flush(door));
        }
    }
}

/// Members that values draw from: small ones stay packed, large ones do not.
pub const SIZES: [u64; 2] = [10, 5_000];
