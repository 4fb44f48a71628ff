//! Sets as clients see them, against a model; and what is propagated.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::engine::random::Random;
use crate::engine::settle::{StreamReader, StreamUnit};
use crate::engine::testing::Bench;

type Model = BTreeSet<String>;

/// The bulk strings of a reply, sorted.
fn members(reply: &str) -> Vec<String> {
    assert!(reply.starts_with('*'), "{reply}");
    let mut members: Vec<String> = reply.split("\r\n").skip(2).step_by(2).map(str::to_owned).collect();
    members.sort();
    members
}

fn sorted<'a>(model: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    model.into_iter().cloned().collect()
}

struct World {
    bench: Bench,
    client: usize,
    sets: [Model; 3],
    random: Random,
}

const KEYS: [&str; 3] = ["a", "b", "c"];

impl World {
    fn ask(&mut self, request: &str) -> String {
        self.bench.ask(self.client, &[request])
    }

    fn count(&mut self, request: &str, expected: usize) {
        assert_eq!(self.ask(request), format!(":{expected}\r\n"), "{request}");
    }

    fn same(&mut self, request: &str, model: &Model) {
        let reply = self.ask(request);
        assert_eq!(members(&reply), sorted(model), "{request}");
    }

    fn step(&mut self, name: &dyn Fn(usize) -> String, names: usize) {
        let (one, other) = (self.random.below(3), self.random.below(3));
        let (key, second) = (KEYS[one], KEYS[other]);
        let (member, further) = (name(self.random.below(names)), name(self.random.below(names)));
        let combined = |sets: &[Model; 3], operation: usize| -> Model {
            let (left, right) = (&sets[one], &sets[other]);
            match operation {
                0 => left.intersection(right).cloned().collect(),
                1 => left.union(right).cloned().collect(),
                _ => left.difference(right).cloned().collect(),
            }
        };
        match self.random.below(40) {
            0..14 => {
                let set = &mut self.sets[one];
                let added = [&member, &further].into_iter().filter(|m| set.insert((*m).clone())).count();
                self.count(&format!("SADD {key} {member} {further}"), added);
            }
            14..20 => {
                let removed = usize::from(self.sets[one].remove(&member));
                self.count(&format!("SREM {key} {member}"), removed);
            }
            20..24 => {
                let had = self.sets[one].contains(&member);
                if had && one != other {
                    self.sets[one].remove(&member);
                    self.sets[other].insert(member.clone());
                }
                self.count(&format!("SMOVE {key} {second} {member}"), usize::from(had));
            }
            24..27 => {
                let operation = self.random.below(3);
                let expected = combined(&self.sets, operation);
                let word = ["SINTER", "SUNION", "SDIFF"][operation];
                self.same(&format!("{word} {key} {second}"), &expected);
            }
            27 => {
                let operation = self.random.below(3);
                let target = self.random.below(3);
                let expected = combined(&self.sets, operation);
                let word = ["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"][operation];
                self.count(&format!("{word} {} {key} {second}", KEYS[target]), expected.len());
                self.sets[target] = expected;
            }
            28 => {
                let count = self.random.below(self.sets[one].len() + 3);
                let popped = members(&self.ask(&format!("SPOP {key} {count}")));
                assert_eq!(popped.len(), count.min(self.sets[one].len()));
                popped.iter().for_each(|member| assert!(self.sets[one].remove(member), "{member}"));
            }
            29 => {
                let reply = self.ask(&format!("SPOP {key}"));
                match reply.split("\r\n").nth(1) {
                    Some(member) if !member.is_empty() => assert!(self.sets[one].remove(member), "{member}"),
                    _ => assert!(self.sets[one].is_empty(), "{reply}"),
                }
            }
            30..32 => {
                let count = self.random.below(self.sets[one].len() + 3);
                let picked = members(&self.ask(&format!("SRANDMEMBER {key} {count}")));
                assert_eq!(picked.len(), count.min(self.sets[one].len()));
                assert!(picked.windows(2).all(|pair| pair[0] != pair[1]));
                assert!(picked.iter().all(|member| self.sets[one].contains(member)));
            }
            32..34 => {
                let limit = self.random.below(4);
                let shared = combined(&self.sets, 0).len();
                let expected = if limit == 0 { shared } else { shared.min(limit) };
                self.count(&format!("SINTERCARD 2 {key} {second} LIMIT {limit}"), expected);
            }
            34..37 => {
                let has = usize::from(self.sets[one].contains(&member));
                self.count(&format!("SISMEMBER {key} {member}"), has);
            }
            _ => {
                let len = self.sets[one].len();
                self.count(&format!("SCARD {key}"), len);
                let expected = self.sets[one].clone();
                self.same(&format!("SMEMBERS {key}"), &expected);
            }
        }
    }
}

#[test]
fn equal_to_a_model_in_every_form() {
    let widths = [1usize, 100, 100_000, 1 << 40];
    let number = move |n: usize| {
        (n as i64 * widths[n % 4] as i64 * if n.is_multiple_of(3) { -1 } else { 1 }).to_string()
    };
    let text = |n: usize| format!("m{n}");
    let mixed = move |n: usize| if n.is_multiple_of(2) { number(n) } else { text(n) };
    let long = |n: usize| format!("{n}{}", "x".repeat(n % 200));
    let names: [&dyn Fn(usize) -> String; 4] = [&number, &text, &mixed, &long];
    // What stays in its form, what leaves it on the way, what is a table at once.
    for (ints, entries, count) in [(1000, 1000, 80), (20, 30, 200), (0, 0, 600)] {
        for (kind, name) in names.iter().enumerate() {
            let mut bench = Bench::new();
            bench.engine.limits.set_ints = ints;
            bench.engine.limits.set_entries = entries;
            let client = bench.connect();
            let random = Random::new((ints + kind) as u64);
            let mut world = World { bench, client, sets: Default::default(), random };
            (0..3000).for_each(|_| world.step(name, count));
        }
    }
}

#[test]
fn many_integers_are_integers_beyond_what_is_packed() {
    let mut bench = Bench::new();
    bench.engine.limits.set_ints = 30_000;
    let client = bench.connect();
    let mut model = Model::new();
    for n in 0..20_000i64 {
        let member = (n * (1 << 33)).to_string();
        assert_eq!(bench.ask(client, &[&format!("SADD s {member}")]), ":1\r\n");
        model.insert(member);
    }
    assert_eq!(bench.ask(client, &["OBJECT ENCODING s"]), "$6\r\nintset\r\n");
    assert_eq!(members(&bench.ask(client, &["SMEMBERS s"])), sorted(&model));
    // Most go: the rest is packed again, and still an intset.
    let popped = members(&bench.ask(client, &["SPOP s 19990"]));
    popped.iter().for_each(|member| assert!(model.remove(member)));
    assert_eq!(members(&bench.ask(client, &["SMEMBERS s"])), sorted(&model));
    assert_eq!(bench.ask(client, &["OBJECT ENCODING s"]), "$6\r\nintset\r\n");
    bench.ask(client, &["SADD s text"]);
    assert_eq!(bench.ask(client, &["OBJECT ENCODING s"]), "$9\r\nhashtable\r\n");
    bench.ask(client, &["SREM s text"]);
    assert_eq!(bench.ask(client, &["OBJECT ENCODING s"]), "$9\r\nhashtable\r\n");
}

#[test]
fn sets_are_sources_of_sorted_sets() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.ask(client, &["SADD numbers 1 2 300", "SADD texts a b 2", "ZADD z 5 2 7 b 9 c"]);
    for member in 0..200 {
        bench.ask(client, &[&format!("SADD large {member}"), &format!("SADD large x{member}")]);
    }
    let zset = |pairs: &[(&str, &str)]| {
        let mut reply = format!("*{}\r\n", pairs.len() * 2);
        for (member, score) in pairs {
            reply += &format!("${}\r\n{member}\r\n${}\r\n{score}\r\n", member.len(), score.len());
        }
        reply
    };
    let asked = |bench: &mut Bench, request: &str| bench.ask(client, &[request]);
    let all = [("1", "1"), ("300", "1"), ("a", "1"), ("b", "8"), ("c", "9"), ("2", "7")];
    let mut union = all;
    union.sort_by_key(|(member, score)| (score.parse::<i32>().unwrap(), *member));
    assert_eq!(asked(&mut bench, "ZUNION 3 numbers texts z WITHSCORES"), zset(&union));
    assert_eq!(asked(&mut bench, "ZINTER 4 numbers texts z large WITHSCORES"), zset(&[("2", "8")]));
    assert_eq!(asked(&mut bench, "ZDIFF 2 numbers z WITHSCORES"), zset(&[("1", "1"), ("300", "1")]));
    assert_eq!(asked(&mut bench, "ZINTERCARD 2 large numbers"), ":2\r\n");
    let stored = "ZUNIONSTORE into 2 large numbers WEIGHTS 2 3 AGGREGATE MAX";
    assert_eq!(asked(&mut bench, stored), ":401\r\n");
    assert_eq!(asked(&mut bench, "ZSCORE into 2"), "$1\r\n3\r\n");
    assert_eq!(asked(&mut bench, "ZSCORE into x7"), "$1\r\n2\r\n");
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
fn what_chance_takes_is_propagated_by_name() {
    let mut bench = Bench::new();
    let lines = Arc::new(Mutex::new(Vec::new()));
    bench.engine.attach(Box::new(Lines(lines.clone())));
    let client = bench.connect();
    bench.ask(client, &["SADD s a", "SPOP s", "SADD s 1 2 3", "SPOP s 3", "SPOP s", "SPOP s 2", "SADD s b"]);
    bench.ask(client, &["SADD s b", "SREM s x", "SMOVE s t x", "SMOVE s t b", "SPOP t 0"]);
    let expected = ["SADD s a", "SREM s a", "SADD s 1 2 3", "DEL s", "SADD s b", "SMOVE s t b"];
    assert_eq!(*lines.lock().unwrap(), expected);
    lines.lock().unwrap().clear();
    let mut left: Model = (0..3000).map(|n| format!("m{n}")).collect();
    for member in &left {
        bench.ask(client, &[&format!("SADD many {member}")]);
    }
    lines.lock().unwrap().clear();
    let popped = members(&bench.ask(client, &["SPOP many 2500"]));
    for line in lines.lock().unwrap().iter() {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[..2], ["SREM", "many"]);
        words[2..].iter().for_each(|member| assert!(left.remove(*member)));
    }
    assert_eq!((left.len(), popped.len()), (500, 2500));
    assert_eq!(members(&bench.ask(client, &["SMEMBERS many"])), sorted(&left));
}

#[test]
fn a_difference_is_in_the_order_of_the_first_set() {
    // Of one other set, of some small ones, and of so many that it is worth gathering their members first.
    for others in [1, 2, 5, 40] {
        let mut bench = Bench::new();
        let client = bench.connect();
        let mut ask = |request: &str| bench.ask(client, &[request]);
        let numbered =
            |from: usize, to: usize| (from..to).map(|n| format!(" member:{n}")).collect::<String>();
        ask(&format!("SADD first{}", numbered(0, 600)));
        let mut keys = String::new();
        for other in 0..others {
            ask(&format!("SADD other:{other}{} alien", numbered(other * 3, other * 3 + 2)));
            keys += &format!(" other:{other}");
        }
        let is_taken = |member: &str| {
            let n: usize = member["member:".len()..].parse().expect("it is numbered");
            n < others * 3 && n % 3 < 2
        };
        let in_order = |reply: &str| -> Vec<String> {
            reply.split("\r\n").skip(2).step_by(2).map(str::to_owned).collect()
        };
        let mut expected = in_order(&ask("SMEMBERS first"));
        expected.retain(|member| !is_taken(member));
        assert_eq!(in_order(&ask(&format!("SDIFF first{keys}"))), expected, "{others}");
        assert_eq!(ask(&format!("SDIFFSTORE to first{keys}")), format!(":{}\r\n", 600 - 2 * others));
    }
}
