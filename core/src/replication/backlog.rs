//! The stream of changes as replicas read it: its names, its offsets, and as much of it as is kept.
//!
//! An offset is the number of bytes before a place. What is kept is one copy, from which every replica is sent what it has
//! not got yet; a replica that is behind costs nothing but that its part is kept for longer.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// How many digits a name has.
pub const NAME_LEN: usize = 40;

/// An offset as a peer or a file says it: half of what can be counted is left for the stream to grow.
pub fn parse_offset(text: &[u8]) -> Option<u64> {
    let offset = std::str::from_utf8(text).ok()?.parse().ok()?;
    (offset <= i64::MAX as u64 / 2).then_some(offset)
}

/// Bytes of a block, unless it holds something longer.
const BLOCK_LEN: usize = 16 << 10;

/// The name of a stream: 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StreamName([u8; NAME_LEN]);

impl StreamName {
    /// The name of no stream.
    pub const NONE: StreamName = StreamName([b'0'; NAME_LEN]);

    /// A name made of chance.
    pub fn random(mut word: impl FnMut() -> u64) -> StreamName {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut name = [b'0'; NAME_LEN];
        for digits in name.chunks_mut(16) {
            let word = word();
            for (place, digit) in (0u32..).zip(digits) {
                *digit = DIGITS[(word >> (4 * place) & 15) as usize];
            }
        }
        StreamName(name)
    }

    /// A name that nobody foretells, whatever is known of those before it.
    pub fn secret() -> StreamName {
        const DIGIT_BITS: usize = 4;
        let digits = mortise_acl::password::generate(NAME_LEN * DIGIT_BITS);
        StreamName::parse(digits.as_bytes()).unwrap_or(StreamName::NONE)
    }

    /// The name that a text gives, if it has the length of one.
    pub fn parse(text: &[u8]) -> Option<StreamName> {
        let name: [u8; NAME_LEN] = text.try_into().ok()?;
        name.iter().all(u8::is_ascii_graphic).then_some(StreamName(name))
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether a text gives this name, in whatever case.
    pub fn is(&self, text: &[u8]) -> bool {
        self.0.eq_ignore_ascii_case(text)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part of the stream that is kept.
#[derive(Debug, Default)]
pub struct Backlog {
    blocks: VecDeque<Block>,
    end: u64,
    /// Bytes of memory that the blocks take.
    memory: u64,
}

#[derive(Debug)]
struct Block {
    start: u64,
    bytes: Vec<u8>,
}

impl Block {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn memory(&self) -> u64 {
        (self.bytes.capacity() + size_of::<Block>()) as u64
    }
}

impl Backlog {
    /// Nothing, of a stream that is so long already.
    pub fn from(end: u64) -> Backlog {
        Backlog { end, ..Backlog::default() }
    }

    /// Length of the stream.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Where the part begins that is kept.
    pub fn start(&self) -> u64 {
        self.blocks.front().map_or(self.end, |block| block.start)
    }

    /// How long that part is.
    pub fn len(&self) -> u64 {
        self.end - self.start()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// The stream goes on.
    pub fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let is_full = self.blocks.back().is_none_or(|block| block.bytes.len() == block.bytes.capacity());
            if is_full {
                let block = Block { start: self.end, bytes: Vec::with_capacity(BLOCK_LEN) };
                self.memory += block.memory();
                self.blocks.push_back(block);
            }
            let Some(block) = self.blocks.back_mut() else { return };
            let room = block.bytes.capacity() - block.bytes.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            block.bytes.extend_from_slice(now);
            self.end += now.len() as u64;
            bytes = later;
        }
    }

    /// Copies what stands from an offset on to where the caller wants it, up to `limit` bytes. False: it is not kept.
    pub fn read(&self, from: u64, limit: usize, to: &mut Vec<u8>) -> bool {
        if from < self.start() || from > self.end {
            return false;
        }
        let first = self.blocks.partition_point(|block| block.end() <= from);
        let (mut at, mut left) = (from, limit);
        for block in self.blocks.range(first..) {
            let bytes = &block.bytes[(at - block.start) as usize..];
            let bytes = &bytes[..bytes.len().min(left)];
            to.extend_from_slice(bytes);
            (at, left) = (at + bytes.len() as u64, left - bytes.len());
            if left == 0 {
                break;
            }
        }
        true
    }

    /// Gives up what is kept beyond `size` bytes, but nothing from `needed` on: so much of it at a time that it does not
    /// take long.
    pub fn trim(&mut self, size: u64, needed: u64) {
        const BLOCKS_MAX: usize = 1024;
        for _ in 0..BLOCKS_MAX {
            let Some(block) = self.blocks.front() else { return };
            let is_spare = self.blocks.len() > 1 && block.end() <= needed && self.end - block.end() >= size;
            if !is_spare {
                return;
            }
            self.memory -= block.memory();
            self.blocks.pop_front();
        }
    }
}

/// How far a replica's connection has come in the stream, which it is sent from the place where everybody's stands.
pub struct Feed {
    backlog: Arc<Mutex<Backlog>>,
    /// The offset of what it is sent next.
    next: AtomicU64,
    /// Whether it is sent anything yet.
    flows: AtomicBool,
    /// Whether its connection is still to be told to collect what it is sent.
    collects: AtomicBool,
}

/// What a replica can be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fed {
    /// So many bytes.
    Some(usize),
    /// Nothing at the moment.
    Nothing,
    /// What it needs is not kept any more.
    Lost,
}

impl Feed {
    /// A feed that is to begin at an offset, when it is told to.
    pub fn new(backlog: Arc<Mutex<Backlog>>, next: u64) -> Feed {
        Feed { backlog, next: AtomicU64::new(next), flows: false.into(), collects: false.into() }
    }

    /// What it is sent is to be collected for a moment.
    pub fn collect(&self) {
        self.collects.store(true, Ordering::Release);
    }

    /// Whether the connection is to be told so, which is said once.
    pub fn is_to_collect(&self) -> bool {
        self.collects.load(Ordering::Relaxed) && self.collects.swap(false, Ordering::AcqRel)
    }

    /// From now on it flows.
    pub fn start(&self) {
        self.flows.store(true, Ordering::Release);
    }

    /// Whether it flows.
    pub fn flows(&self) -> bool {
        self.flows.load(Ordering::Acquire)
    }

    /// The offset of what is sent next.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Copies what is to be sent next.
    pub fn peek(&self, limit: usize, to: &mut Vec<u8>) -> Fed {
        if !self.flows() {
            return Fed::Nothing;
        }
        let before = to.len();
        if !self.backlog.lock().read(self.next(), limit, to) {
            return Fed::Lost;
        }
        match to.len() - before {
            0 => Fed::Nothing,
            len => Fed::Some(len),
        }
    }

    /// So many bytes of it have been sent.
    pub fn sent(&self, len: usize) {
        self.next.fetch_add(len as u64, Ordering::AcqRel);
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("next", &self.next).field("flows", &self.flows).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(from: u64, len: u64) -> Vec<u8> {
        (from..from + len).map(|n| (n % 251) as u8).collect()
    }

    #[test]
    fn what_is_kept_can_be_read_from_anywhere() {
        let mut backlog = Backlog::from(1000);
        for (from, len) in [(1000, 1), (1001, 16_384), (17_385, 100_000)] {
            backlog.append(&stream(from, len));
        }
        assert_eq!((backlog.start(), backlog.end(), backlog.len()), (1000, 117_385, 116_385));
        for from in [1000, 1001, 17_384, 17_385, 50_000, 117_384, 117_385] {
            for limit in [0, 1, 16_384, 1 << 20] {
                let mut read = Vec::new();
                assert!(backlog.read(from, limit, &mut read));
                assert_eq!(read, stream(from, (limit as u64).min(117_385 - from)), "{from} {limit}");
            }
        }
        for from in [0, 999, 117_386] {
            assert!(!backlog.read(from, 1, &mut Vec::new()), "{from}");
        }
    }

    #[test]
    fn what_nobody_needs_is_given_up() {
        let mut backlog = Backlog::from(0);
        backlog.append(&stream(0, 200_000));
        backlog.trim(50_000, 100_000);
        assert!(backlog.start() <= 100_000 && backlog.start() > 100_000 - 16_384);
        let memory = backlog.memory();
        backlog.trim(50_000, u64::MAX);
        assert!((backlog.len()..memory).contains(&backlog.memory()), "{} {memory}", backlog.memory());
        assert!((50_000..50_000 + 16_384).contains(&backlog.len()), "{}", backlog.len());
        backlog.trim(0, u64::MAX);
        assert!(!backlog.is_empty(), "the last block may still grow");
        let block_memory = (BLOCK_LEN + size_of::<Block>()) as u64;
        assert_eq!(backlog.memory(), block_memory, "one is left");
        let mut read = Vec::new();
        assert!(backlog.read(backlog.start(), 1 << 20, &mut read));
        assert_eq!(read, stream(backlog.start(), backlog.len()));
    }

    #[test]
    fn a_feed_goes_on_where_it_was() {
        let backlog = Arc::new(Mutex::new(Backlog::from(5)));
        let feed = Feed::new(backlog.clone(), 5);
        backlog.lock().append(b"hello");
        let mut to = Vec::new();
        assert_eq!(feed.peek(100, &mut to), Fed::Nothing, "it has not begun");
        feed.start();
        assert_eq!((feed.peek(100, &mut to), &*to), (Fed::Some(5), &b"hello"[..]));
        feed.sent(3);
        to.clear();
        assert_eq!((feed.peek(1, &mut to), &*to), (Fed::Some(1), &b"l"[..]));
        feed.sent(2);
        assert_eq!(feed.peek(1, &mut to), Fed::Nothing);
        *backlog.lock() = Backlog::from(11);
        assert_eq!(feed.peek(1, &mut to), Fed::Lost);
    }

    #[test]
    fn names() {
        let mut words = [0x0123_4567_89ab_cdef_u64, 1, 2].into_iter();
        let name = StreamName::random(|| words.next().unwrap_or(0));
        assert_eq!(name.as_str(), "fedcba987654321010000000000000002".to_owned() + "0000000");
        assert_eq!(StreamName::parse(name.as_str().as_bytes()), Some(name));
        assert!(name.is(name.as_str().to_uppercase().as_bytes()));
        assert_eq!(StreamName::parse(b"abc"), None);
        assert!(StreamName::secret() != StreamName::NONE && StreamName::secret() != StreamName::secret());
        assert_eq!(StreamName::parse(&[b' '; 40]), None);
    }

    #[test]
    fn offsets() {
        for (text, offset) in [("0", Some(0)), ("4611686018427387903", Some(i64::MAX as u64 / 2))] {
            assert_eq!(parse_offset(text.as_bytes()), offset);
        }
        for text in
            ["", "-1", "x", "1 ", "4611686018427387904", "18446744073709551615", "99999999999999999999"]
        {
            assert_eq!(parse_offset(text.as_bytes()), None, "{text}");
        }
    }
}
