//! Two servers that hear the same.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use crate::notation::Expected;
use crate::{Client, Protocol, Reply};

use super::Request;
use super::compare::agree;
use super::generate::Setting;

/// Ours, and the one that it is compared with.
#[derive(Debug)]
pub struct Pair {
    ours: Client,
    theirs: Client,
    /// Directives that both know, with their defaults.
    settings: Vec<Setting>,
    /// By the first words of requests: how many were answered, and how many of these with an error or by nothing.
    tally: BTreeMap<Vec<u8>, (u64, u64)>,
}

/// Where the two differ first.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The request's place in its sequence; its length, if all replies were alike and the data is not.
    pub at: usize,
    /// What was asked.
    pub request: Request,
    /// What ours answers.
    pub ours: Reply,
    /// What the other answers.
    pub theirs: Reply,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", line(&self.request))?;
        writeln!(f, "  the other: {}", Expected::of(&self.theirs))?;
        write!(f, "  ours:      {}", Expected::of(&self.ours))
    }
}

fn is_empty(reply: &Reply) -> bool {
    match reply {
        Reply::Error(_) | Reply::NullBulk | Reply::NullArray | Reply::Null => true,
        Reply::Array(elements) => elements.is_empty(),
        Reply::Integer(n) => *n == 0,
        _ => false,
    }
}

/// A request as a script has it.
pub(super) fn line(request: &Request) -> String {
    let is_bare = |word: &&Vec<u8>| {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:*+()[]?".contains(byte);
        !word.is_empty() && word.iter().all(is_plain)
    };
    let word = |word: &Vec<u8>| match Some(word).filter(is_bare) {
        Some(bare) => String::from_utf8_lossy(bare).into_owned(),
        None => crate::words::quote(word),
    };
    request.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// How many requests are on their way at once.
const PIPELINE: usize = 64;

impl Pair {
    /// Two connections, whose data is theirs to flush.
    pub fn new(ours: Client, theirs: Client) -> Pair {
        Pair { ours, theirs, settings: Vec::new(), tally: BTreeMap::new() }
    }

    /// Of each command: how many were answered, and how many of these with an error, a null, or by nothing.
    pub fn tally(&self) -> &BTreeMap<Vec<u8>, (u64, u64)> {
        &self.tally
    }

    /// The directives that both servers know.
    pub fn shared(&mut self, directives: &[Setting]) -> io::Result<Vec<Setting>> {
        let mut shared = Vec::new();
        for directive in directives {
            let request = ["CONFIG", "SET", directive.0, directive.1];
            let done = Reply::Simple(b"OK".to_vec());
            if self.ours.call(&request)? == done && self.theirs.call(&request)? == done {
                shared.push(*directive);
            }
        }
        self.settings.clone_from(&shared);
        Ok(shared)
    }

    /// From now on both speak this version of the protocol.
    pub fn speak(&mut self, protocol: Protocol) -> io::Result<()> {
        let version = if protocol == Protocol::Resp3 { "3" } else { "2" };
        for client in [&mut self.ours, &mut self.theirs] {
            client.call(&["HELLO", version])?;
        }
        Ok(())
    }

    /// Says a sequence to both, which have no data at first. Returns where they differ, and how many requests were
    /// answered.
    pub fn run(&mut self, requests: &[Request]) -> io::Result<(Option<Difference>, usize)> {
        for client in [&mut self.ours, &mut self.theirs] {
            // A sequence that was cut short may have left a transaction.
            client.call(&["DISCARD"])?;
            client.call(&["UNWATCH"])?;
            client.call(&["FLUSHALL"])?;
            for (name, default, _) in &self.settings {
                client.call(&["CONFIG", "SET", name, default])?;
            }
        }
        let mut queued: Option<Vec<&Request>> = None;
        let mut first: Option<Difference> = None;
        for (part, sent) in requests.chunks(PIPELINE).enumerate() {
            for client in [&mut self.ours, &mut self.theirs] {
                let bytes: Vec<u8> =
                    sent.iter().flat_map(|request| crate::client::request(request)).collect();
                client.send_raw(&bytes)?;
            }
            for (index, request) in sent.iter().enumerate() {
                let at = part * PIPELINE + index;
                let (ours, theirs) = (self.ours.receive()?, self.theirs.receive()?);
                let (said, failed) = self.tally.entry(request[0].clone()).or_default();
                *said += 1;
                *failed += u64::from(is_empty(&theirs));
                let before = &requests[..at];
                let same = match (&ours, &theirs, &queued) {
                    (Reply::Array(ours), Reply::Array(theirs), Some(queued))
                        if request[0] == b"EXEC"
                            && ours.len() == theirs.len()
                            && ours.len() == queued.len() =>
                    {
                        let mut replies = queued.iter().zip(ours.iter().zip(theirs));
                        replies.all(|(request, (ours, theirs))| agree(request, ours, theirs, before))
                    }
                    _ => agree(request, &ours, &theirs, before),
                };
                match &request[0][..] {
                    // Within a transaction it is refused, and the transaction goes on.
                    b"MULTI" if queued.is_none() => queued = Some(Vec::new()),
                    b"EXEC" | b"DISCARD" => queued = None,
                    _ if theirs == Reply::Simple(b"QUEUED".to_vec()) => {
                        queued.iter_mut().for_each(|queued| queued.push(request));
                    }
                    _ => {}
                }
                if !same && first.is_none() {
                    first = Some(Difference { at, request: request.clone(), ours, theirs });
                }
            }
            if first.is_some() {
                return Ok((first, requests.len().min((part + 1) * PIPELINE)));
            }
        }
        let mut found = self.differing_data(requests.len())?;
        if found.is_none() {
            self.exchange()?;
            found = self.differing_data(requests.len())?;
        }
        Ok((found, requests.len()))
    }

    /// Each takes what the other makes of its values, as other keys.
    fn exchange(&mut self) -> io::Result<()> {
        for client in [&mut self.ours, &mut self.theirs] {
            client.call(&["DISCARD"])?;
        }
        for key in self.keys(true)? {
            let copy = [b"copy:", &key[..]].concat();
            let dump = vec![b"DUMP".to_vec(), key];
            let (ours, theirs) = (self.ours.call(&dump)?, self.theirs.call(&dump)?);
            for (client, payload) in [(&mut self.ours, theirs), (&mut self.theirs, ours)] {
                let Reply::Bulk(payload) = payload else { continue };
                client.call(&[&b"RESTORE"[..], &copy, b"0", &payload])?;
            }
        }
        Ok(())
    }

    /// Payloads of the other's values, such as RESTORE takes.
    pub fn payloads(&mut self, requests: &[Request]) -> io::Result<Vec<Vec<u8>>> {
        self.run(requests)?;
        let keys = self.keys(false)?;
        let mut payloads = Vec::new();
        for key in keys {
            if let Reply::Bulk(payload) = self.theirs.call(&[&b"DUMP"[..], &key])? {
                payloads.push(payload);
            }
        }
        Ok(payloads)
    }

    /// A key whose value differs, or that only one has.
    fn differing_data(&mut self, at: usize) -> io::Result<Option<Difference>> {
        let whole = vec![b"DEBUG".to_vec(), b"DIGEST".to_vec()];
        let (ours, theirs) = (self.ours.call(&whole)?, self.theirs.call(&whole)?);
        if ours == theirs {
            return Ok(None);
        }
        let keys = vec![b"KEYS".to_vec(), b"*".to_vec()];
        let (mut our_keys, mut their_keys) = (self.keys(true)?, self.keys(false)?);
        our_keys.sort();
        their_keys.sort();
        if our_keys != their_keys {
            let shown = |keys: Vec<Vec<u8>>| Reply::Array(keys.into_iter().map(Reply::Bulk).collect());
            let (ours, theirs) = (shown(our_keys), shown(their_keys));
            return Ok(Some(Difference { at, request: keys, ours, theirs }));
        }
        for key in our_keys {
            let value = vec![b"DEBUG".to_vec(), b"DIGEST-VALUE".to_vec(), key];
            let (ours, theirs) = (self.ours.call(&value)?, self.theirs.call(&value)?);
            if ours != theirs {
                return Ok(Some(Difference { at, request: value, ours, theirs }));
            }
        }
        Ok(Some(Difference { at, request: whole, ours, theirs }))
    }

    fn keys(&mut self, of_ours: bool) -> io::Result<Vec<Vec<u8>>> {
        let client = if of_ours { &mut self.ours } else { &mut self.theirs };
        match client.call(&["KEYS", "*"])? {
            Reply::Array(keys) => Ok(keys
                .into_iter()
                .filter_map(|key| match key {
                    Reply::Bulk(key) => Some(key),
                    _ => None,
                })
                .collect()),
            _ => Ok(Vec::new()),
        }
    }
}
