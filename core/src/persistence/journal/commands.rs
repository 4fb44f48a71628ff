//! Values as the commands that make them: a base of the journal for whoever wants no snapshot in it.
//!
//! A command takes so many elements at once that it is done quickly, however large the value. What no command makes stands
//! in the file as RESTORE.

use std::io::{self, Write};

use mortise_sdk::resp::{encode, format_double, format_integer};

use super::super::snapshot::value::{kind_of, save};
use super::super::snapshot::{Out, Result, Writer, payload};
use super::append::timestamp;
use crate::keyspace::Entry;
use crate::keyspace::shrink::empty;
use crate::types::AnyRef;
use crate::types::stream::group::{Group, Name};
use crate::types::stream::value::Stream;

/// Elements that a command takes at most.
const ITEMS_MAX: usize = 64;
/// So much is written at once.
const PAGE_LEN: usize = 64 * 1024;

/// A file that takes entries as commands.
pub(in crate::persistence) struct Commands<W> {
    page: Page<W>,
    db: Option<u32>,
}

/// What is written next. It never holds more than is written at once and a command.
struct Page<W> {
    to: W,
    bytes: Vec<u8>,
    /// Why nothing more is written.
    failed: Option<io::Error>,
}

impl<W: Write> Page<W> {
    fn command(&mut self, words: &[&[u8]]) {
        encode::append_request(&mut self.bytes, words.iter().copied());
        if self.bytes.len() >= PAGE_LEN {
            self.pass_on();
        }
    }

    fn pass_on(&mut self) {
        if self.failed.is_none() {
            self.failed = self.to.write_all(&self.bytes).err();
        }
        empty(&mut self.bytes, 2 * PAGE_LEN);
    }
}

/// A command that grows until it is full, and begins again then.
struct Growing<'a, W> {
    page: &'a mut Page<W>,
    name: &'a [u8],
    key: &'a [u8],
    words: Vec<Vec<u8>>,
    len: usize,
    /// How many words make an item.
    step: usize,
}

impl<'a, W: Write> Growing<'a, W> {
    fn new(page: &'a mut Page<W>, name: &'a [u8], key: &'a [u8], step: usize) -> Growing<'a, W> {
        Growing { page, name, key, words: Vec::new(), len: 0, step }
    }

    fn push(&mut self, word: &[u8]) {
        self.words.push(word.to_vec());
        self.len += word.len();
        let is_item = self.words.len().is_multiple_of(self.step);
        if is_item && (self.words.len() == ITEMS_MAX * self.step || self.len >= PAGE_LEN) {
            self.end();
        }
    }

    fn end(&mut self) {
        if self.words.is_empty() {
            return;
        }
        let words: Vec<&[u8]> =
            [self.name, self.key].into_iter().chain(self.words.iter().map(Vec::as_slice)).collect();
        self.page.command(&words);
        self.words.clear();
        self.len = 0;
    }
}

impl<W: Write> Commands<W> {
    /// Begins a file, which says when that was if it is to.
    pub(in crate::persistence) fn begin(to: W, stamped_s: Option<i64>) -> Commands<W> {
        let mut page = Page { to, bytes: Vec::with_capacity(PAGE_LEN), failed: None };
        if let Some(now_s) = stamped_s {
            page.bytes.extend_from_slice(&timestamp(now_s));
        }
        Commands { page, db: None }
    }

    /// Writes an entry.
    pub(in crate::persistence) fn entry(&mut self, db: u32, entry: &Entry) -> Result<()> {
        if self.db != Some(db) {
            self.db = Some(db);
            self.say(&[b"SELECT", db.to_string().as_bytes()]);
        }
        self.value(entry)?;
        if let Some(deadline) = entry.deadline() {
            self.say(&[b"PEXPIREAT", entry.key(), deadline.to_string().as_bytes()]);
        }
        self.page.failed.take().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Writes what is left.
    pub(in crate::persistence) fn finish(mut self) -> Result<W> {
        self.page.pass_on();
        match self.page.failed {
            None => Ok(self.page.to),
            Some(error) => Err(error.into()),
        }
    }

    fn say(&mut self, words: &[&[u8]]) {
        self.page.command(words);
    }

    fn value(&mut self, entry: &Entry) -> Result<()> {
        let (key, value) = (entry.key(), AnyRef::of(entry));
        match value {
            AnyRef::Str(text) => self.say(&[b"SET", key, &text.bytes()]),
            AnyRef::List(list) => {
                let mut command = Growing::new(&mut self.page, b"RPUSH", key, 1);
                list.show_each(0..list.len(), |item| item.with(|item| command.push(item)));
                command.end();
            }
            AnyRef::Set(set) => {
                let mut command = Growing::new(&mut self.page, b"SADD", key, 1);
                set.iter().for_each(|member| command.push(&member.text()));
                command.end();
            }
            AnyRef::Zset(zset) => {
                let mut command = Growing::new(&mut self.page, b"ZADD", key, 2);
                for (score, member) in zset.iter() {
                    command.push(format_double(score).as_bytes());
                    command.push(member);
                }
                command.end();
            }
            AnyRef::Hash(hash) => {
                let mut command = Growing::new(&mut self.page, b"HMSET", key, 2);
                for (field, value) in hash.iter() {
                    command.push(field);
                    command.push(value);
                }
                command.end();
                for (field, deadline) in hash.deadlines() {
                    let deadline = format_integer(deadline);
                    self.say(&[b"HPEXPIREAT", key, deadline.as_bytes(), b"FIELDS", b"1", field]);
                }
            }
            AnyRef::Stream(stream) if is_sayable(stream) => self.stream(key, stream),
            AnyRef::Stream(_) | AnyRef::Foreign(_) => {
                let mut blob = Writer::new(true);
                blob.byte(kind_of(value));
                save(value, &mut Out::whole(&mut blob))?;
                payload::seal(&mut blob);
                self.say(&[b"RESTORE", key, b"0", blob.as_bytes()]);
            }
        }
        Ok(())
    }

    fn stream(&mut self, key: &[u8], stream: &Stream) {
        let mut words: Vec<Vec<u8>> = Vec::new();
        for entry in stream.iter() {
            words.clear();
            for item in entry.pairs().flat_map(|(field, value)| [field, value]) {
                item.with_bytes(|text| words.push(text.to_vec()));
            }
            let id = entry.id().text();
            let all: Vec<&[u8]> =
                [b"XADD", key, id.as_bytes()].into_iter().chain(words.iter().map(Vec::as_slice)).collect();
            self.say(&all);
        }
        let last = stream.last_id().text();
        if stream.is_empty() {
            // It comes into being with an entry that is gone at once.
            let id: &[u8] = if last.as_bytes() == b"0-0" { b"0-1" } else { last.as_bytes() };
            self.say(&[b"XADD", key, b"MAXLEN", b"0", id, b"x", b"y"]);
        }
        let (added, deleted) = (stream.entries_added().to_string(), stream.max_deleted_id().text());
        self.say(&[
            b"XSETID",
            key,
            last.as_bytes(),
            b"ENTRIESADDED",
            added.as_bytes(),
            b"MAXDELETEDID",
            deleted.as_bytes(),
        ]);
        for (name, group) in stream.groups().iter() {
            self.group(key, name, group);
        }
    }

    fn group(&mut self, key: &[u8], name: &Name, group: &Group) {
        let name = name.bytes();
        let read = group.entries_read.map_or("-1".to_owned(), |read| read.to_string());
        let last = group.last_id.text();
        self.say(&[b"XGROUP", b"CREATE", key, name, last.as_bytes(), b"ENTRIESREAD", read.as_bytes()]);
        for (consumer, _) in group.consumers.iter() {
            self.say(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer.bytes()]);
        }
        for (id, pending) in group.iter() {
            self.say(&[
                b"XCLAIM",
                key,
                name,
                pending.consumer_name(),
                b"0",
                id.text().as_bytes(),
                b"TIME",
                pending.delivered_ms.to_string().as_bytes(),
                b"RETRYCOUNT",
                pending.deliveries.to_string().as_bytes(),
                b"JUSTID",
                b"FORCE",
            ]);
        }
    }
}

/// Whether there are commands for all that a stream holds. There is none for what is pending to nobody, nor for what is
/// pending although its entry is gone.
fn is_sayable(stream: &Stream) -> bool {
    stream
        .groups()
        .iter()
        .all(|(_, group)| group.released_len() == 0 && group.iter().all(|(id, _)| stream.get(id).is_some()))
}
