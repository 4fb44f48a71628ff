//! Sorted sets as clients see them, against a model; what waits for them, and what is propagated.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::engine::random::Random;
use crate::engine::settle::{StreamReader, StreamUnit};
use crate::engine::testing::Bench;

type Model = BTreeMap<String, i64>;

fn ordered(model: &Model) -> Vec<(i64, &str)> {
    let mut members: Vec<(i64, &str)> = model.iter().map(|(member, score)| (*score, &**member)).collect();
    members.sort_unstable();
    members
}

/// The reply to WITHSCORES.
fn listed<'a>(members: impl ExactSizeIterator<Item = (i64, &'a str)>) -> String {
    let mut reply = format!("*{}\r\n", members.len() * 2);
    for (score, member) in members {
        let score = score.to_string();
        reply += &format!("${}\r\n{member}\r\n${}\r\n{score}\r\n", member.len(), score.len());
    }
    reply
}

fn remove(model: &mut Model, members: Vec<String>) -> String {
    members.iter().for_each(|member| assert!(model.remove(member).is_some()));
    format!(":{}\r\n", members.len())
}

fn step(bench: &mut Bench, client: usize, model: &mut Model, random: &mut Random, members: usize) {
    let member = format!("m{}", random.below(members));
    let score = random.below(20) as i64 - 10;
    let low = random.below(20) as i64 - 10;
    let high = low + random.below(3) as i64;
    let names = |chosen: &[(i64, &str)]| chosen.iter().map(|(_, member)| (*member).to_owned()).collect();
    let (request, expected) = match random.below(24) {
        0..10 => {
            let new = model.insert(member.clone(), score).is_none();
            (format!("ZADD z {score} {member}"), format!(":{}\r\n", i32::from(new)))
        }
        10..14 => {
            let total = model.entry(member.clone()).and_modify(|old| *old += score).or_insert(score);
            let text = total.to_string();
            (format!("ZINCRBY z {score} {member}"), format!("${}\r\n{text}\r\n", text.len()))
        }
        14..17 => {
            let old = model.get(&member).copied();
            let changed = old.is_some_and(|old| old < score);
            if changed {
                model.insert(member.clone(), score);
            }
            (format!("ZADD z XX GT CH {score} {member}"), format!(":{}\r\n", i32::from(changed)))
        }
        17..19 => {
            let removed = model.remove(&member).is_some();
            (format!("ZREM z {member}"), format!(":{}\r\n", i32::from(removed)))
        }
        19 => {
            let chosen: Vec<String> = names(
                &ordered(model)
                    .into_iter()
                    .filter(|(score, _)| low < *score && *score <= high)
                    .collect::<Vec<_>>(),
            );
            (format!("ZREMRANGEBYSCORE z ({low} {high}"), remove(model, chosen))
        }
        20 => {
            let rank = random.below(model.len() + 1);
            let chosen = names(&ordered(model).into_iter().skip(rank).take(5).collect::<Vec<_>>());
            (format!("ZREMRANGEBYRANK z {rank} {}", rank + 4), remove(model, chosen))
        }
        21 => {
            let chosen: Vec<(i64, String)> = ordered(model)
                .into_iter()
                .rev()
                .take(3)
                .map(|(score, member)| (score, member.to_owned()))
                .collect();
            model.retain(|member, _| !chosen.iter().any(|(_, taken)| taken == member));
            ("ZPOPMAX z 3".to_owned(), listed(chosen.iter().map(|(score, member)| (*score, &**member))))
        }
        22 => {
            let members = ordered(model);
            let rank = members.iter().position(|(_, other)| *other == member);
            let expected =
                rank.map_or("$-1\r\n".to_owned(), |rank| format!(":{}\r\n", members.len() - 1 - rank));
            (format!("ZREVRANK z {member}"), expected)
        }
        _ => {
            let chosen: Vec<(i64, &str)> = ordered(model)
                .into_iter()
                .rev()
                .filter(|(score, _)| (low..high).contains(score))
                .skip(1)
                .take(4)
                .collect();
            let request = format!("ZREVRANGEBYSCORE z ({high} {low} LIMIT 1 4 WITHSCORES");
            (request, listed(chosen.into_iter()))
        }
    };
    assert_eq!(bench.ask(client, &[&request]), expected, "{request}");
}

#[test]
fn equal_to_a_model_in_every_encoding() {
    // Packed throughout, converted on the way, a table from the first member.
    for (entries, members) in [(1000, 60), (30, 200), (0, 400)] {
        let mut bench = Bench::new();
        bench.engine.limits.zset_entries = entries;
        let client = bench.connect();
        let (mut model, mut random) = (Model::new(), Random::new(entries as u64 + 1));
        for round in 0..3000 {
            step(&mut bench, client, &mut model, &mut random, members);
            if round % 50 == 0 {
                assert_eq!(
                    bench.ask(client, &["ZRANGE z 0 -1 WITHSCORES"]),
                    listed(ordered(&model).into_iter())
                );
                let reversed: Vec<(i64, &str)> = ordered(&model).into_iter().rev().collect();
                assert_eq!(bench.ask(client, &["ZREVRANGE z 0 -1 WITHSCORES"]), listed(reversed.into_iter()));
                assert_eq!(bench.ask(client, &["ZCARD z"]), format!(":{}\r\n", model.len()));
            }
        }
    }
}

#[test]
fn a_range_of_most_members_leaves_the_others() {
    let mut bench = Bench::new();
    let client = bench.connect();
    for (start, stop, left) in [(10, 989, 20), (0, 998, 1), (1, 999, 1), (100, 299, 800)] {
        for member in 0..1000 {
            bench.ask(client, &[&format!("ZADD z {member} m{member}")]);
        }
        let removed = format!(":{}\r\n", stop - start + 1);
        assert_eq!(bench.ask(client, &[&format!("ZREMRANGEBYRANK z {start} {stop}")]), removed);
        let rest = (0..1000).filter(|member| !(start..=stop).contains(member));
        let rest: Vec<(i64, String)> = rest.map(|member| (member, format!("m{member}"))).collect();
        let expected = listed(rest.iter().map(|(score, member)| (*score, &**member)));
        assert_eq!(bench.ask(client, &["ZRANGE z 0 -1 WITHSCORES"]), expected);
        let found =
            (0..1000).filter(|member| bench.ask(client, &[&format!("ZSCORE z m{member}")]) != "$-1\r\n");
        assert_eq!(found.count(), left);
        assert_eq!(bench.ask(client, &["OBJECT ENCODING z"]), "$8\r\nskiplist\r\n");
        bench.ask(client, &["ZREMRANGEBYRANK z 0 -1"]);
    }
}

#[test]
fn minus_zero_is_zero_while_packed() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.ask(client, &["ZADD z -0 a", "ZADD z 1 b", "ZADD z -0 b"]);
    assert_eq!(bench.ask(client, &["ZMSCORE z a b"]), "*2\r\n$1\r\n0\r\n$1\r\n0\r\n");
    bench.engine.limits.zset_entries = 0;
    bench.ask(client, &["ZADD large -0 a"]);
    assert_eq!(bench.ask(client, &["ZSCORE large a"]), "$2\r\n-0\r\n");
}

/// Keeps what is propagated, a command a line.
struct Lines(Arc<Mutex<Vec<String>>>);

impl StreamReader for Lines {
    fn unit(&mut self, unit: &StreamUnit) {
        for command in unit.iter() {
            let words: Vec<_> =
                command.args().view().iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            self.0.lock().expect("no test panics while it holds this").push(words.join(" "));
        }
    }
}

#[test]
fn pops_are_propagated_as_pops_of_one_key() {
    let mut bench = Bench::new();
    let lines = Arc::new(Mutex::new(Vec::new()));
    bench.engine.attach(Box::new(Lines(lines.clone())));
    let (client, waiting) = (bench.connect(), bench.connect());
    bench.ask(
        client,
        &["ZADD z 1 a 2 b 3 c 4 d 5 e", "ZPOPMIN z", "ZMPOP 2 no z MAX COUNT 2", "BZPOPMIN no z 0"],
    );
    bench.ask(client, &["BZMPOP 0 1 z MIN COUNT 7", "ZPOPMAX z 3", "ZADD z XX 1 a", "ZREM z a"]);
    assert_eq!(bench.ask(waiting, &["BZMPOP 0 1 z MAX COUNT 2"]), "");
    bench.ask(client, &["ZADD z 1 a"]);
    assert_eq!(bench.received(waiting), "*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n");
    let lines = lines.lock().expect("no test panics while it holds this");
    let expected = [
        "ZADD z 1 a 2 b 3 c 4 d 5 e",
        "ZPOPMIN z",
        "ZPOPMAX z 2",
        "ZPOPMIN z",
        "ZPOPMIN z 1",
        "ZADD z 1 a",
        "ZPOPMAX z 1",
    ];
    assert_eq!(*lines, expected);
}

#[test]
fn waiting_calls_are_served_in_order_and_not_by_other_types() {
    let mut bench = Bench::new();
    let (first, second, other) = (bench.connect(), bench.connect(), bench.connect());
    bench.ask(first, &["BZPOPMIN a b a 0"]);
    bench.ask(second, &["BZPOPMAX b 0.5"]);
    bench.ask(other, &["SET b text"]);
    assert_eq!(bench.received(first), "");
    bench.ask(other, &["DEL b", "MULTI", "ZADD b 1 x", "ZREM b x", "EXEC"]);
    assert_eq!(bench.received(first), "");
    bench.ask(other, &["MULTI", "ZADD b 2 y", "ZADD b 1 x", "EXEC"]);
    assert_eq!(bench.received(first), "*3\r\n$1\r\nb\r\n$1\r\nx\r\n$1\r\n1\r\n");
    assert_eq!(bench.received(second), "*3\r\n$1\r\nb\r\n$1\r\ny\r\n$1\r\n2\r\n");
    assert_eq!(bench.ask(other, &["EXISTS b"]), ":0\r\n");
    bench.ask(second, &["BZPOPMAX b 0.5"]);
    bench.advance(600);
    assert_eq!(bench.received(second), "*-1\r\n");
}
