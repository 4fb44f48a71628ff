//! Hashes whose fields expire, against a model, on the road of every command.

use std::collections::BTreeMap;

use crate::engine::random::Random;
use crate::engine::testing::Bench;
use crate::keyspace::SpaceId;

/// Fields with values and deadlines.
type Model = BTreeMap<String, BTreeMap<String, (String, Option<i64>)>>;

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// What HGETALL answers, its fields in order.
fn sorted_pairs(reply: &str) -> Vec<(String, String)> {
    let words: Vec<&str> = reply.split("\r\n").skip(2).step_by(2).filter(|word| !word.is_empty()).collect();
    let mut pairs: Vec<_> = words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect();
    pairs.sort();
    pairs
}

/// As many hashes stand in the index of deadlines as have some.
fn check_index(bench: &mut Bench) {
    for index in 0..2 {
        let (db, _) = bench.engine.keyspace.db(SpaceId::FIRST, index);
        let expiring = db.dict().iter().filter(|entry| entry.kind().has_field_deadlines()).count();
        assert_eq!(db.dict().partly_expiring(), expiring, "database {index}");
    }
}

#[test]
fn fields_expire_like_those_of_a_model() {
    let mut bench = Bench::new();
    let client = bench.connect();
    let mut random = Random::new(11);
    let mut model = Model::new();
    for round in 0..6000 {
        if round % 7 == 0 {
            bench.advance(random.below(30) as i64);
        }
        let now = bench.engine.now_ms;
        // Expired fields are gone from the model as soon as their time has come.
        for fields in model.values_mut() {
            fields.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > now));
        }
        model.retain(|_, fields| !fields.is_empty());

        let key = format!("h{}", random.below(5));
        // Two of the hashes are too large to be packed.
        let kinds = if key.as_str() > "h2" { 900 } else { 20 };
        let field = format!("f{}", random.below(kinds));
        let value = format!("{round}");
        let deadline = now + 1 + random.below(400) as i64;
        let (said, wanted) = match random.below(12) {
            0..4 => {
                let old = model.entry(key.clone()).or_default().insert(field.clone(), (value.clone(), None));
                (format!("HSET {key} {field} {value}"), format!(":{}\r\n", u8::from(old.is_none())))
            }
            4..7 => {
                let found = model.get_mut(&key).and_then(|fields| fields.get_mut(&field));
                let wanted = if found.is_some() { 1 } else { -2 };
                found.into_iter().for_each(|found| found.1 = Some(deadline));
                (format!("HPEXPIREAT {key} {deadline} FIELDS 1 {field}"), format!("*1\r\n:{wanted}\r\n"))
            }
            7 => {
                model.entry(key.clone()).or_default().insert(field.clone(), (value.clone(), Some(deadline)));
                (format!("HSETEX {key} PXAT {deadline} FIELDS 1 {field} {value}"), ":1\r\n".to_owned())
            }
            8 => {
                let found = model.get_mut(&key).and_then(|fields| fields.get_mut(&field));
                let wanted = found.map_or(-2, |found| if found.1.take().is_some() { 1 } else { -1 });
                (format!("HPERSIST {key} FIELDS 1 {field}"), format!("*1\r\n:{wanted}\r\n"))
            }
            9 => {
                let removed = model.get_mut(&key).and_then(|fields| fields.remove(&field));
                let wanted = removed.map_or("$-1\r\n".to_owned(), |(value, _)| bulk(&value));
                (format!("HGETDEL {key} FIELDS 1 {field}"), format!("*1\r\n{wanted}"))
            }
            10 => {
                let found = model.get(&key).and_then(|fields| fields.get(&field));
                let wanted = found.map_or(-2, |(_, deadline)| deadline.unwrap_or(-1));
                (format!("HPEXPIRETIME {key} FIELDS 1 {field}"), format!("*1\r\n:{wanted}\r\n"))
            }
            _ => match random.below(30) {
                0 => {
                    model.remove(&key);
                    (format!("UNLINK {key}"), String::new())
                }
                1 => {
                    let copied = model.get(&key).cloned();
                    match copied {
                        Some(fields) => model.insert("h4".to_owned(), fields),
                        None => model.remove("h4"),
                    };
                    // A hash of which all has expired may still be there, and is copied.
                    let _ = bench.ask(client, &["UNLINK h4"]);
                    if key == "h4" {
                        model.remove("h4");
                    }
                    (format!("COPY {key} h4 REPLACE"), String::new())
                }
                2 => {
                    bench.ask(client, &["SWAPDB 0 1", "SWAPDB 1 0"]);
                    check_index(&mut bench);
                    ("PING".to_owned(), String::new())
                }
                _ => {
                    let found = model.get(&key).and_then(|fields| fields.get(&field));
                    let wanted = found.map_or("$-1\r\n".to_owned(), |(value, _)| bulk(value));
                    (format!("HGET {key} {field}"), wanted)
                }
            },
        };
        model.retain(|_, fields| !fields.is_empty());
        let reply = bench.ask(client, &[&said]);
        if !wanted.is_empty() {
            assert_eq!(reply, wanted, "round {round}: {said}");
        }
        if round % 50 == 0 {
            check_index(&mut bench);
            for key in ["h0", "h1", "h2", "h3", "h4"] {
                let pairs = sorted_pairs(&bench.ask(client, &[&format!("HGETALL {key}")]));
                let fields = model.get(key).into_iter().flatten();
                let wanted: Vec<_> =
                    fields.map(|(field, (value, _))| (field.clone(), value.clone())).collect();
                assert_eq!(pairs, wanted, "round {round}: {key}");
            }
        }
    }
    // What has a deadline is gone when that has passed, without being asked for.
    bench.advance(3000);
    for fields in model.values_mut() {
        fields.retain(|_, (_, deadline)| deadline.is_none());
    }
    for key in ["h0", "h1", "h2", "h3", "h4"] {
        let left = model.get(key).map_or(0, BTreeMap::len);
        assert_eq!(bench.ask(client, &[&format!("HLEN {key}")]), format!(":{left}\r\n"));
    }
    check_index(&mut bench);
    let (db, _) = bench.engine.keyspace.db(SpaceId::FIRST, 0);
    assert_eq!(db.dict().partly_expiring(), 0);
    assert!(bench.engine.unit.expired_parts > 300);
}

#[test]
fn many_hashes_are_found_without_looking_at_others() {
    let mut bench = Bench::new();
    let client = bench.connect();
    for n in 0..20_000 {
        bench.ask(client, &[&format!("HSET h{n} f v g v")]);
    }
    for n in (0..20_000).step_by(100) {
        bench.ask(client, &[&format!("HPEXPIRE h{n} 500 FIELDS 2 f g")]);
    }
    let (db, _) = bench.engine.keyspace.db(SpaceId::FIRST, 0);
    let now_ms = bench.engine.now_ms;
    let found = db.dict().partly_expiring();
    assert_eq!(found, 200);
    let (db, _) = bench.engine.keyspace.db(SpaceId::FIRST, 0);
    let step = crate::keyspace::expire::walk_parts(db, now_ms, 10, 1);
    assert!(step.wrapped && step.keys.is_empty(), "one step to the end while nothing is due");
    check_index(&mut bench);
    bench.advance(2000);
    assert_eq!(bench.ask(client, &["DBSIZE"]), ":19800\r\n");
    assert_eq!(bench.engine.unit.expired_parts, 400);
    check_index(&mut bench);
}

#[test]
fn fields_that_expire_during_a_pause_are_hidden_and_stay() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.ask(client, &["HSET h f v g v", "HPEXPIRE h 100 FIELDS 1 f", "CLIENT PAUSE 1000 WRITE"]);
    bench.advance(500);
    assert_eq!(bench.ask(client, &["HGET h f", "HLEN h"]), "$-1\r\n:2\r\n");
    bench.ask(client, &["CLIENT UNPAUSE"]);
    bench.advance(200);
    assert_eq!(bench.ask(client, &["HLEN h"]), ":1\r\n");
}
