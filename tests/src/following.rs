//! Servers that follow each other: what their tests ask of them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::server::Server;
use crate::{Client, Reply};

/// How long anything may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// Calls a command that is answered.
pub fn call(client: &mut Client, words: &[&str]) -> Reply {
    client.call(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// The reply as text.
pub fn text(client: &mut Client, words: &[&str]) -> String {
    match call(client, words) {
        Reply::Bulk(bytes) | Reply::Simple(bytes) | Reply::Error(bytes) => {
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Reply::Integer(n) => n.to_string(),
        other => format!("{other:?}"),
    }
}

/// A field of INFO, if it is shown.
pub fn shown(client: &mut Client, field: &str) -> Option<String> {
    let text = text(client, &["INFO", "everything"]);
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.map(|value| value.trim().to_owned())
}

/// A field of INFO that is shown.
pub fn info(client: &mut Client, field: &str) -> String {
    shown(client, field).unwrap_or_else(|| panic!("INFO has no {field}"))
}

/// The same as a number.
pub fn number(client: &mut Client, field: &str) -> u64 {
    let text = info(client, field);
    text.parse().unwrap_or_else(|_| panic!("{field} is no number: {text}"))
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(20));
    }
}

/// Makes one server follow another, and waits until it does.
pub fn follow(replica: &Server, primary: &Server) {
    let mut client = replica.connect();
    let port = primary.address().port().to_string();
    call(&mut client, &["REPLICAOF", "127.0.0.1", &port]);
    until("the link comes up", || info(&mut client, "master_link_status") == "up");
}

/// Both hold the same data, once the replica has everything.
pub fn agree(primary: &Server, replica: &Server) {
    let (mut primary, mut replica) = (primary.connect(), replica.connect());
    until("the replica has everything", || {
        number(&mut replica, "slave_repl_offset") == number(&mut primary, "master_repl_offset")
    });
    // What has expired may still have to be removed.
    until("the data is the same", || {
        text(&mut primary, &["DEBUG", "DIGEST"]) == text(&mut replica, &["DEBUG", "DIGEST"])
    });
}
