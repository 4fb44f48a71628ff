//! Servers that follow each other, Mortise and redis-server in a tree, while the connections between them break off again
//! and again: at any byte of the stream, or as somebody ends them. Random commands of all types lead to the same data
//! everywhere, and nobody is sent all of it a second time.
//!
//! `CUTS` says how often; without it, twenty times. `DIFFER_SEED` says which commands.

use std::time::Instant;

use mortise_tests::Client;
use mortise_tests::differ::{Chance, Generator, SETTINGS, commands};
use mortise_tests::following::{call, info, number, text, until};
use mortise_tests::proxy::Proxy;
use mortise_tests::reference::Reference;
use mortise_tests::server::Server;

const CUTS: usize = 20;
const SEED: u64 = 11;
/// Commands between two cuts.
const LEN: usize = 120;
/// How many of them are on their way at once.
const PIPELINE: usize = 40;
/// A cut comes within so many bytes of the stream.
const CUT_WITHIN: usize = 4000;
/// Data and databases begin anew after so many cuts.
const RENEWED_AFTER: usize = 50;

const DIRECTIVES: [&str; 3] = ["enable-debug-command yes", "repl-diskless-sync-delay 0", "save \"\""];

/// A tree of servers: whether each is Mortise's, and whom it follows. The first is the primary of all.
type Tree = [(bool, usize)];

const UNDER_MORTISE: [(bool, usize); 5] = [(true, 0), (false, 0), (true, 0), (true, 1), (false, 2)];
const UNDER_REDIS: [(bool, usize); 4] = [(false, 0), (true, 0), (true, 1), (false, 1)];

struct Node {
    server: Server,
    /// By which the one that it follows is reached.
    way: Option<Proxy>,
    follows: usize,
}

fn grow(reference: &Reference, tree: &Tree) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for (is_mortise, follows) in tree {
        let server = match is_mortise {
            true => Server::start(&DIRECTIVES),
            false => reference.start(&DIRECTIVES[1..]).unwrap().expect("it was started"),
        };
        let way = nodes.get(*follows).map(|primary| {
            let proxy = Proxy::new().unwrap();
            proxy.lead_to(primary.server.address());
            follow(&server, &proxy);
            proxy
        });
        nodes.push(Node { server, way, follows: *follows });
    }
    nodes
}

fn follow(replica: &Server, way: &Proxy) {
    let mut client = replica.connect();
    call(&mut client, &["REPLICAOF", "127.0.0.1", &way.address().port().to_string()]);
    until("the link comes up", || info(&mut client, "master_link_status") == "up");
}

fn say(client: &mut Client, requests: &[Vec<Vec<u8>>]) {
    for some in requests.chunks(PIPELINE) {
        some.iter().for_each(|request| client.send(request).unwrap());
        for request in some {
            let reply = client.receive();
            assert!(reply.is_ok(), "{}: {reply:?}", request.join(&b' ').escape_ascii());
        }
    }
}

/// Ends a connection in one of several ways, or says when it is to end.
fn cut(nodes: &[Node], at: usize, chance: &mut Chance) {
    let (node, primary) = (&nodes[at], &nodes[nodes[at].follows]);
    let way = node.way.as_ref().expect("the first is not cut off");
    match chance.below(4) {
        0 => way.sever(),
        1 => _ = text(&mut primary.server.connect(), &["CLIENT", "KILL", "TYPE", "replica"]),
        2 => _ = text(&mut node.server.connect(), &["CLIENT", "KILL", "TYPE", "master"]),
        _ => way.sever_after(1 + chance.below(CUT_WITHIN)),
    }
}

fn sum(nodes: &[Node], field: &str) -> u64 {
    nodes.iter().map(|node| number(&mut node.server.connect(), field)).sum()
}

fn live_through(reference: &Reference, tree: &Tree, seed: u64, cuts: usize) {
    let nodes = grow(reference, tree);
    let is_mortise = |wanted: bool| tree.iter().position(|(is, _)| *is == wanted).expect("both are there");
    let known = |node: usize| commands(&mut nodes[node].server.connect()).unwrap();
    // What redis-server knows as well: nobody is told more.
    let (ours, theirs) = (known(is_mortise(true)), known(is_mortise(false)));
    let mut generator = Generator::new(&ours, &theirs, SETTINGS.to_vec(), Vec::new(), seed);
    let mut chance = Chance::new(seed);
    let mut client = nodes[0].server.connect();
    let (full, begun) = (sum(&nodes, "sync_full"), Instant::now());
    let ups = |nodes: &[Node]| {
        let is_up = |node: &Node| info(&mut node.server.connect(), "master_link_status") == "up";
        nodes[1..].iter().all(is_up)
    };
    let mut resumed = 0;
    // Not each attempt at a cut strikes, and some strike several connections.
    for number in 0..cuts * 4 {
        if number % RENEWED_AFTER == RENEWED_AFTER - 1 {
            agree(&nodes, number);
            text(&mut client, &["FLUSHALL"]);
        }
        let requests = generator.sequence(LEN);
        let (before, after) = requests.split_at(chance.below(requests.len()));
        say(&mut client, before);
        cut(&nodes, 1 + chance.below(nodes.len() - 1), &mut chance);
        say(&mut client, after);
        // A cut that is still to come must not take those by surprise that follow.
        nodes.iter().flat_map(|node| &node.way).for_each(|way| way.sever_after(usize::MAX));
        until(&format!("all links are up after cut {number}"), || ups(&nodes));
        resumed = sum(&nodes, "sync_partial_ok") as usize;
        if resumed >= cuts {
            break;
        }
    }
    agree(&nodes, cuts);
    println!("{tree:?}: cut in {:.1?} so that {resumed} partial resyncs followed", begun.elapsed());
    assert!(resumed >= cuts, "{resumed} partial resyncs");
    assert_eq!(sum(&nodes, "sync_full"), full, "somebody was sent all data again");
}

/// All have everything, and it is the same.
fn agree(nodes: &[Node], cut: usize) {
    let ask = |node: &Node, words: &[&str]| text(&mut node.server.connect(), words);
    until(&format!("all have everything after cut {cut}"), || {
        let offset = |node: &Node| info(&mut node.server.connect(), "master_repl_offset");
        nodes.iter().all(|node| offset(node) == offset(&nodes[0]))
    });
    let digests = || nodes.iter().map(|node| ask(node, &["DEBUG", "DIGEST"])).collect::<Vec<_>>();
    // What has expired may still have to be removed.
    until(&format!("the data is the same after cut {cut}"), || {
        let digests = digests();
        digests.iter().all(|digest| *digest == digests[0])
    });
}

fn wanted() -> (u64, usize) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    (number("DIFFER_SEED").unwrap_or(SEED), number("CUTS").map_or(CUTS, |cuts| cuts as usize))
}

fn with(tree: &Tree) {
    let Some(reference @ Reference::Binary(_)) = Reference::installed() else {
        println!("redis-server is not installed: left out");
        return;
    };
    let (seed, cuts) = wanted();
    live_through(&reference, tree, seed, cuts.div_ceil(2));
}

#[test]
fn a_tree_under_mortise_lives_through_cuts() {
    with(&UNDER_MORTISE);
}

#[test]
fn a_tree_under_redis_lives_through_cuts() {
    with(&UNDER_REDIS);
}
