//! The same random commands to Mortise and to redis-server: every reply is the same, and so are the data in the end.
//!
//! `DIFFER_SEED` and `DIFFER_COMMANDS` say which and how many; without them a fixed seed for some seconds (a minute in
//! CI). A sequence that tells the two apart is made as short as can be and printed as a script.

use std::time::{Duration, Instant};

use mortise_tests::Protocol;
use mortise_tests::differ::{Generator, Pair, SETTINGS, commands, script, shrink};
use mortise_tests::reference::Reference;
use mortise_tests::server::Server;

/// Commands in a sequence.
const LEN: usize = 800;
/// So many differences are shown at once.
const SHOWN: usize = 10;
const SEED: u64 = 7;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Redis, if it is installed, and Mortise; what both know, and a connection to each.
fn servers(seed: u64) -> Option<(Server, Server, Generator, Pair)> {
    let Some(reference @ Reference::Binary(_)) = Reference::installed() else {
        println!("redis-server is not installed: not compared");
        return None;
    };
    let theirs = reference.start(&[]).unwrap().expect("it was started");
    let ours = Server::start(&["enable-debug-command yes"]);
    let known = (commands(&mut ours.connect()).unwrap(), commands(&mut theirs.connect()).unwrap());
    let mut pair = Pair::new(ours.connect(), theirs.connect());
    let settings = pair.shared(&SETTINGS).unwrap();
    let without = Vec::new();
    let sequence = Generator::new(&known.0, &known.1, settings.clone(), without, seed).sequence(LEN);
    let payloads = pair.payloads(&sequence).unwrap();
    let generator = Generator::new(&known.0, &known.1, settings, payloads, seed);
    Some((ours, theirs, generator, pair))
}

#[test]
fn what_tells_the_two_apart_is_found_and_made_short() {
    let Some((_ours, _theirs, mut generator, mut pair)) = servers(SEED) else { return };
    let words = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    let mut sequence = generator.sequence(200);
    // The row `zrank-withscore` of differences.md.
    sequence.extend([words("ZADD board 1 ada"), words("ZRANK board ada WITHSCORE")]);
    sequence.extend(generator.sequence(200));
    let found = pair.run(&sequence).unwrap().0.expect("Redis has no such option");
    let (few, found) = shrink(&mut pair, sequence, found).unwrap();
    assert_eq!(few, [words("ZRANK board ada WITHSCORE")]);
    assert!(script(&few, &found).ends_with("\n> ZRANK board ada WITHSCORE\n"));

    let only_in_ours = [words("SET mine 1"), words("SET mine 2 IFEQ 1")];
    assert!(pair.run(&only_in_ours).unwrap().0.is_some());
    assert!(pair.run(&only_in_ours[..1]).unwrap().0.is_none());
}

#[test]
fn random_commands_are_answered_as_redis_answers_them() {
    let seed = number("DIFFER_SEED").unwrap_or(SEED);
    let Some((ours, _theirs, mut generator, mut pair)) = servers(seed) else { return };
    let wanted = number("DIFFER_COMMANDS");
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let time = Duration::from_secs(if is_ci { 60 } else { 10 });

    assert!(generator.commands().len() > 80, "{} commands", generator.commands().len());
    let (begun, mut said, mut sequences) = (Instant::now(), 0, 0u64);
    let mut shown: Vec<String> = Vec::new();
    while shown.len() < SHOWN && wanted.map_or(begun.elapsed() < time, |wanted| said < wanted) {
        let protocol = if sequences % 2 == 0 { Protocol::Resp2 } else { Protocol::Resp3 };
        sequences += 1;
        pair.speak(protocol).unwrap();
        let sequence = generator.sequence(LEN);
        let (found, answered) =
            pair.run(&sequence).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{}", ours.log()));
        said += answered as u64;
        if let Some(found) = found {
            let (few, found) = shrink(&mut pair, sequence, found).unwrap();
            let script = script(&few, &found);
            shown.push(format!("seed {seed}, after {said} commands, {protocol:?}:\n{found}\n\n{script}"));
        }
    }
    assert!(shown.is_empty(), "{}", shown.join("\n"));
    let useless: Vec<_> = pair.tally().iter().filter(|(_, (said, failed))| said == failed).collect();
    assert!(useless.is_empty(), "nothing was ever answered to {useless:?}");
    for (name, (said, failed)) in pair.tally() {
        println!("{:20} {said:8} {:3} %", String::from_utf8_lossy(name), 100 * (said - failed) / said);
    }
    println!("{said} commands of {} kinds in {:.1?}", generator.commands().len(), begun.elapsed());
}
