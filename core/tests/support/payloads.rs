//! What becomes of a payload, with what must hold of each: RESTORE refuses it or makes a value that is whole. Shared with
//! the fuzz targets.

use std::sync::Arc;

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::session::Session;
use mortise_core::features;
use mortise_core::persistence::snapshot::stream::{self, Facts, Fields, Id, Names, Taker};
use mortise_core::persistence::snapshot::{Reader, Result, list, set};
use mortise_core::server::clock::SystemClock;

/// A server without sockets.
pub(crate) struct Bench {
    engine: Engine,
    session: Option<Box<Session>>,
}

impl Bench {
    /// A server that believes any checksum.
    pub(crate) fn new() -> Bench {
        let registry = Arc::new(features::registry().expect("the declarations are right"));
        let mut engine = Engine::new(Config::default(), registry, Box::new(SystemClock::new()), 1);
        engine.directives = Arc::new(mortise_core::server::directives().expect("they are in order"));
        engine.skips_checksums = true;
        let session = engine.local_session();
        Bench { engine, session }
    }

    /// The encoded reply to a request.
    pub(crate) fn ask(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let session = self.session.take().expect("no call waits");
        let (session, reply) = self.engine.request(session, words);
        self.session = session;
        reply
    }

    /// What DUMP shows of a key, without version and checksum.
    pub(crate) fn shown(&mut self, key: &[u8]) -> Vec<u8> {
        const SIGNATURE_LEN: usize = 10;
        let reply = self.ask(&[b"DUMP", key]);
        let head = reply.iter().position(|byte| *byte == b'\n').expect("a bulk string has a head") + 1;
        reply[head..reply.len() - b"\r\n".len() - SIGNATURE_LEN].to_vec()
    }

    /// Restores a value (kind and body). What is accepted is read, saved and restored again, and stays the same; what is
    /// refused leaves nothing behind.
    pub(crate) fn restore(&mut self, value: &[u8]) -> bool {
        let payload = [value, b"\x0a\x00", &[0; 8]].concat();
        let reply = self.ask(&[b"RESTORE", b"k", b"0", &payload]);
        if reply != b"+OK\r\n" {
            assert_eq!(reply, b"-ERR Bad data format\r\n");
            assert_eq!(self.ask(&[b"EXISTS", b"k"]), b":0\r\n");
            return false;
        }
        let reading: [&[&[u8]]; 9] = [
            &[b"HGETALL", b"k"],
            &[b"ZRANGE", b"k", b"0", b"-1", b"WITHSCORES"],
            &[b"GET", b"k"],
            &[b"LRANGE", b"k", b"0", b"-1"],
            &[b"SMEMBERS", b"k"],
            &[b"XRANGE", b"k", b"-", b"+"],
            &[b"XREVRANGE", b"k", b"+", b"-", b"COUNT", b"10"],
            &[b"XINFO", b"STREAM", b"k", b"FULL"],
            &[b"XPENDING", b"k", b"readers", b"-", b"+", b"10"],
        ];
        for words in reading {
            self.ask(words);
        }
        let digest = self.engine.digest();
        let again = [&self.shown(b"k")[..], b"\x0a\x00", &[0; 8]].concat();
        assert_eq!(self.ask(&[b"RESTORE", b"k", b"0", &again, b"REPLACE"]), b"+OK\r\n");
        assert_eq!(self.engine.digest(), digest, "it is the same when it has been saved and loaded");
        self.ask(&[b"DEL", b"k"]);
        // What a worker would do, so that it does not pile up.
        self.engine.jobs.clear();
        drop(self.engine.keyspace.take_spent());
        true
    }
}

/// Takes a stream and sees that ids ascend.
#[derive(Default)]
struct Ascending {
    last: Option<Id>,
    entries: u64,
}

impl Taker for Ascending {
    fn node(&mut self, names: Names<'_>) -> Result<()> {
        names.for_each(|name| drop(name.to_vec()));
        Ok(())
    }

    fn entry(&mut self, id: Id, fields: Fields<'_>) -> Result<()> {
        assert!(self.last.is_none_or(|last| last < id));
        self.last = Some(id);
        self.entries += 1;
        let promised = fields.len();
        assert_eq!(fields.count(), promised);
        Ok(())
    }

    fn facts(&mut self, facts: &Facts) -> Result<()> {
        assert_eq!(facts.len, self.entries);
        assert!(self.last.is_none_or(|last| last <= facts.last));
        Ok(())
    }

    fn group(&mut self, _: &[u8], _: Id, _: Option<i64>) -> Result<()> {
        Ok(())
    }

    fn consumer(&mut self, _: &[u8], _: i64, _: Option<i64>) -> Result<()> {
        Ok(())
    }

    fn pending(&mut self, _: Id, _: i64, _: u64) -> Result<()> {
        Ok(())
    }
}

/// Reads a value (kind and body) as a list, a set or a stream, whether there are such values or not.
pub(crate) fn read_forms(value: &[u8]) {
    let Some((kind, body)) = value.split_first() else { return };
    let mut from = Reader::new(body);
    if list::KINDS.contains(kind) {
        let mut bytes = 0;
        let _ = list::load(*kind, &mut from, &mut |element| {
            bytes += element.len();
            Ok(())
        });
    } else if set::KINDS.contains(kind) {
        let mut bytes = 0;
        let _ = set::load(*kind, &mut from, &mut |member| {
            bytes += member.to_vec().len();
            Ok(())
        });
    } else if stream::KINDS.contains(kind) {
        let _ = stream::load(*kind, &mut from, &mut Ascending::default());
    }
}
