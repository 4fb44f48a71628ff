//! What COMMAND INFO and COMMAND DOCS say of every command that both have is what redis-server says, but for what rows of
//! `differences.md` name: `info-NAME` and `docs-NAME`, with a dash between container and subcommand.

use std::collections::{BTreeMap, BTreeSet};

use mortise_tests::differences::Differences;
use mortise_tests::reference::Reference;
use mortise_tests::server::Server;
use mortise_tests::{Client, Reply, suite};

/// The elements of an entry of COMMAND INFO that are compared; the last are subcommands, which come by themselves.
const INFO: [&str; 9] = ["name", "arity", "flags", "first", "last", "step", "categories", "tips", "keys"];
/// The fields of COMMAND DOCS that are compared. Summaries and the like are in words of our own.
const DOCS: [&str; 7] =
    ["since", "group", "doc_flags", "deprecated_since", "replaced_by", "arguments", "history"];

/// By the names of commands, subcommands as `container|name`: what is said of each.
type Said = BTreeMap<String, BTreeMap<&'static str, Reply>>;

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(bytes) | Reply::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}

fn elements(reply: &Reply) -> &[Reply] {
    match reply {
        Reply::Array(elements) | Reply::Set(elements) => elements,
        _ => &[],
    }
}

/// A map as RESP2 has it.
fn pairs(reply: &Reply) -> impl Iterator<Item = (String, &Reply)> {
    elements(reply).chunks(2).filter_map(|pair| Some((text(pair.first()?), pair.get(1)?)))
}

/// Lists that have no order, in one.
fn in_order(what: &str, reply: &Reply) -> Reply {
    if !["flags", "categories", "tips", "doc_flags"].contains(&what) {
        return reply.clone();
    }
    let names: BTreeSet<String> = elements(reply).iter().map(text).collect();
    Reply::Array(names.into_iter().map(|name| Reply::Bulk(name.into_bytes())).collect())
}

/// Where keys are and what becomes of them, without notes, which are our own.
fn without_notes(specs: &Reply) -> Reply {
    let facts = |spec: &Reply| {
        let pairs =
            elements(spec).chunks(2).filter(|pair| pair.first().is_none_or(|name| text(name) != "notes"));
        Reply::Array(pairs.flatten().cloned().collect())
    };
    Reply::Array(elements(specs).iter().map(facts).collect())
}

fn note_info(entry: &Reply, said: &mut Said) {
    let Some(name) = elements(entry).first() else { return };
    let about = said.entry(text(name)).or_default();
    for (what, reply) in INFO.iter().zip(elements(entry)) {
        about.insert(what, if *what == "keys" { without_notes(reply) } else { in_order(what, reply) });
    }
    elements(entry).get(INFO.len()).into_iter().flat_map(elements).for_each(|entry| note_info(entry, said));
}

/// Of the history only the versions: the sentences are our own.
fn versions(history: &Reply) -> Reply {
    Reply::Array(elements(history).iter().filter_map(|change| elements(change).first().cloned()).collect())
}

fn note_docs(entry: (String, &Reply), said: &mut Said) {
    let (name, fields) = entry;
    for (field, reply) in pairs(fields) {
        if field == "subcommands" {
            pairs(reply).for_each(|entry| note_docs(entry, said));
        } else if let Some(what) = DOCS.iter().find(|what| **what == field) {
            let reply = if *what == "history" { versions(reply) } else { in_order(what, reply) };
            said.entry(name.clone()).or_default().insert(what, reply);
        }
    }
}

fn info(client: &mut Client) -> Said {
    let (mut said, reply) = (Said::new(), client.call(&["COMMAND"]).unwrap());
    elements(&reply).iter().for_each(|entry| note_info(entry, &mut said));
    said
}

fn docs(client: &mut Client) -> Said {
    let (mut said, reply) = (Said::new(), client.call(&["COMMAND", "DOCS"]).unwrap());
    pairs(&reply).for_each(|entry| note_docs(entry, &mut said));
    said
}

/// What differs, by the row that has to name it.
fn differences(kind: &str, ours: &Said, theirs: &Said) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for (name, about) in ours {
        let Some(reference) = theirs.get(name) else { continue };
        let fields: BTreeSet<_> = about.keys().chain(reference.keys()).collect();
        let differing = fields.into_iter().filter(|what| about.get(**what) != reference.get(**what));
        let lines: Vec<String> = differing
            .map(|what| {
                let of = |said: &BTreeMap<_, _>| said.get(*what).map_or("nothing".to_owned(), shown);
                format!("{name}, {what}:\n    redis   {}\n    mortise {}", of(reference), of(about))
            })
            .collect();
        if !lines.is_empty() {
            found.insert(format!("{kind}-{}", name.replace('|', "-")), lines);
        }
    }
    found
}

fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Array(elements) => {
            format!("[{}]", elements.iter().map(shown).collect::<Vec<_>>().join(" "))
        }
        Reply::Integer(n) => n.to_string(),
        other => text(other),
    }
}

#[test]
fn commands_are_described_as_redis_describes_them() {
    let Some(reference @ Reference::Binary(_)) = Reference::installed() else {
        println!("redis-server is not installed: not compared");
        return;
    };
    let theirs = reference.start(&[]).unwrap().expect("it was started");
    let ours = Server::start(&[]);
    let (mut ours, mut theirs) = (ours.connect(), theirs.connect());
    let mut found = differences("info", &info(&mut ours), &info(&mut theirs));
    found.extend(differences("docs", &docs(&mut ours), &docs(&mut theirs)));

    let rows = Differences::load(&suite::scripts_folder().with_file_name("differences.md")).unwrap();
    let unexplained: Vec<String> = found
        .iter()
        .filter(|(row, _)| rows.get(row).is_none())
        .flat_map(|(_, lines)| lines)
        .cloned()
        .collect();
    assert!(unexplained.is_empty(), "not in differences.md:\n{}", unexplained.join("\n"));
    let outdated: Vec<&str> = rows
        .names()
        .filter(|name| name.starts_with("info-") || name.starts_with("docs-"))
        .filter(|name| !found.contains_key(*name))
        .collect();
    assert!(outdated.is_empty(), "nothing differs that these rows name: {outdated:?}");
}
