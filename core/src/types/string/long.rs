//! A long string in chunks, so that sharing it is cheap and changing a shared one copies a chunk, not the whole.

use triomphe::Arc;

/// Bytes of a chunk; strings longer than this are stored in chunks.
pub const CHUNK_LEN: usize = 64 * 1024;

/// So many chunks of zeroes are made at once when a string grows; a megabyte takes some tens of microseconds.
const MADE_MAX: usize = 16;

/// A string in chunks of [`CHUNK_LEN`] bytes, the last one shorter.
#[derive(Clone, Default)]
pub struct LongText {
    chunks: Vec<Chunk>,
    len: usize,
}

/// Some bytes, alone or among those of others: of a request that was taken over, each chunk is a part.
#[derive(Clone)]
struct Chunk {
    whole: Arc<Vec<u8>>,
    start: usize,
    len: usize,
}

impl Chunk {
    fn new(bytes: Vec<u8>) -> Chunk {
        Chunk { start: 0, len: bytes.len(), whole: Arc::new(bytes) }
    }

    fn bytes(&self) -> &[u8] {
        &self.whole[self.start..self.start + self.len]
    }

    fn is_alone(&self) -> bool {
        self.len == self.whole.len()
    }

    /// Changes the bytes. What is shared, or stands among others, is copied before.
    fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_alone() {
            *self = Chunk::new(self.bytes().to_vec());
        }
        let bytes = Arc::make_mut(&mut self.whole);
        change(bytes);
        self.len = bytes.len();
    }

    fn memory(&self) -> usize {
        if self.is_alone() { self.whole.capacity() + 32 } else { self.len }
    }
}

impl LongText {
    /// A copy of some bytes.
    pub fn new(bytes: &[u8]) -> LongText {
        let chunks = bytes.chunks(CHUNK_LEN).map(|chunk| Chunk::new(chunk.to_vec())).collect();
        LongText { chunks, len: bytes.len() }
    }

    /// Bytes among others, without a copy: the others stay as long as one of its chunks does that has not been changed.
    pub fn within(whole: &Arc<Vec<u8>>, start: usize, len: usize) -> LongText {
        let starts = (start..start + len).step_by(CHUNK_LEN);
        let chunk =
            |at: usize| Chunk { whole: whole.clone(), start: at, len: CHUNK_LEN.min(start + len - at) };
        LongText { chunks: starts.map(chunk).collect(), len }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes on the heap. What is shared counts as often as it occurs.
    pub fn memory(&self) -> usize {
        self.chunks.capacity() * size_of::<Chunk>() + self.chunks.iter().map(Chunk::memory).sum::<usize>()
    }

    /// The chunks in order.
    pub fn chunks(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.chunks.iter().map(Chunk::bytes)
    }

    /// The parts of `start..end`.
    pub fn range(&self, start: usize, end: usize) -> impl Iterator<Item = &[u8]> {
        let (start, end) = (start.min(self.len), end.min(self.len));
        let first = start / CHUNK_LEN;
        self.chunks.iter().enumerate().skip(first).map_while(move |(i, chunk)| {
            let base = i * CHUNK_LEN;
            (base < end).then(|| {
                let from = start.saturating_sub(base).min(chunk.len);
                &chunk.bytes()[from..(end - base).min(chunk.len).max(from)]
            })
        })
    }

    /// A byte.
    pub fn byte(&self, at: usize) -> Option<u8> {
        self.chunks.get(at / CHUNK_LEN)?.bytes().get(at % CHUNK_LEN).copied()
    }

    /// All bytes in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        self.chunks().for_each(|chunk| bytes.extend_from_slice(chunk));
        bytes
    }

    /// Makes it at least `len` long; what is new is zero. Beyond the first few, chunks of nothing but zeroes are one and
    /// the same, so that a bit set far away does not hold everybody up.
    pub fn extend_to(&mut self, len: usize) {
        let zero = || Chunk::new(vec![0; CHUNK_LEN]);
        let (mut zeroes, mut made): (Option<Chunk>, usize) = (None, 0);
        while self.len < len {
            let within = self.len % CHUNK_LEN;
            let grow = (CHUNK_LEN - within).min(len - self.len);
            if grow == CHUNK_LEN {
                let chunk = if made < MADE_MAX { zero() } else { zeroes.get_or_insert_with(zero).clone() };
                self.chunks.push(chunk);
                made += 1;
            } else if within == 0 {
                self.chunks.push(Chunk::new(vec![0; grow]));
            } else if let Some(last) = self.chunks.last_mut() {
                last.change(|bytes| bytes.resize(within + grow, 0));
            }
            self.len += grow;
        }
    }

    /// Overwrites bytes from `at` on; grows where needed.
    pub fn write_at(&mut self, at: usize, bytes: &[u8]) {
        self.extend_to(at + bytes.len());
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let within = at % CHUNK_LEN;
            let part = rest.len().min(CHUNK_LEN - within);
            self.chunks[at / CHUNK_LEN]
                .change(|bytes| bytes[within..within + part].copy_from_slice(&rest[..part]));
            rest = &rest[part..];
            at += part;
        }
    }

    /// Appends bytes.
    pub fn append(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = self.len % CHUNK_LEN;
            let part = rest.len().min(CHUNK_LEN - within);
            if within == 0 {
                self.chunks.push(Chunk::new(rest[..part].to_vec()));
            } else if let Some(last) = self.chunks.last_mut() {
                last.change(|bytes| bytes.extend_from_slice(&rest[..part]));
            }
            self.len += part;
            rest = &rest[part..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_vec() {
        let (mut text, mut model) = (LongText::default(), Vec::new());
        for step in 0usize..400 {
            let bytes = vec![step as u8; step * 37 % 5_000];
            if step % 3 == 0 {
                let at = step * 7919 % (model.len() + 1_000);
                text.write_at(at, &bytes);
                if model.len() < at + bytes.len() {
                    model.resize(at + bytes.len(), 0);
                }
                model[at..at + bytes.len()].copy_from_slice(&bytes);
            } else {
                text.append(&bytes);
                model.extend_from_slice(&bytes);
            }
            assert_eq!(text.len(), model.len());
        }
        assert_eq!(text.to_vec(), model);
        text.extend_to(model.len() + 2 * MADE_MAX * CHUNK_LEN);
        model.resize(model.len() + 2 * MADE_MAX * CHUNK_LEN, 0);
        text.write_at(model.len() - CHUNK_LEN - 5, b"far");
        let at = model.len() - CHUNK_LEN - 5;
        model[at..at + 3].copy_from_slice(b"far");
        assert!(text.to_vec() == model, "zeroes that are shared stay zero");
        let shared = text.clone();
        text.write_at(100_000, b"changed");
        assert_eq!(shared.to_vec(), model, "a shared copy does not change");
        for (start, end) in [(0, 10), (65_530, 65_540), (1, model.len()), (70_000, 200_000)] {
            let range: Vec<u8> = shared.range(start, end).flatten().copied().collect();
            assert_eq!(range, model[start..end]);
        }
    }

    #[test]
    fn what_is_taken_over_is_not_copied_until_it_changes() {
        let whole: Vec<u8> = (0..5 * CHUNK_LEN).map(|n| n as u8).collect();
        let (start, len) = (77, 4 * CHUNK_LEN + 5);
        let mut model = whole[start..start + len].to_vec();
        let whole = Arc::new(whole);
        let mut text = LongText::within(&whole, start, len);
        assert!(
            text.chunks().map(<[u8]>::as_ptr).eq((0..5).map(|n| whole[start + n * CHUNK_LEN..].as_ptr()))
        );
        assert_eq!(text.to_vec(), model);
        let changes: [(usize, &[u8]); 4] =
            [(3, b"x"), (CHUNK_LEN - 1, b"yz"), (len - 1, b"longer"), (len + 9, b"!")];
        for (at, bytes) in changes {
            text.write_at(at, bytes);
            model.resize(model.len().max(at + bytes.len()), 0);
            model[at..at + bytes.len()].copy_from_slice(bytes);
            assert!(text.to_vec() == model, "after {bytes:?}");
        }
        // The first two and the end of the last are its own now, and two chunks are where they were.
        assert!((4 * CHUNK_LEN..4 * CHUNK_LEN + 1024).contains(&text.memory()), "{}", text.memory());
        assert!(whole.iter().enumerate().all(|(n, byte)| *byte == n as u8));
        drop(whole);
        assert_eq!(text.to_vec(), model);
    }
}
