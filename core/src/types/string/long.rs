//! A long string in chunks, so that sharing it is cheap and changing a shared one copies a chunk, not the whole.

use triomphe::Arc;

/// Bytes of a chunk; strings longer than this are stored in chunks.
pub const CHUNK_LEN: usize = 64 * 1024;

/// So many chunks of zeroes are made at once when a string grows; a megabyte takes some tens of microseconds.
const MADE_MAX: usize = 16;

/// A string in chunks of [`CHUNK_LEN`] bytes, the last one shorter.
#[derive(Clone, Default)]
pub struct LongText {
    chunks: Vec<Arc<Vec<u8>>>,
    len: usize,
}

impl LongText {
    /// A copy of some bytes.
    pub fn new(bytes: &[u8]) -> LongText {
        let chunks = bytes.chunks(CHUNK_LEN).map(|chunk| Arc::new(chunk.to_vec())).collect();
        LongText { chunks, len: bytes.len() }
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
        self.chunks.capacity() * 8 + self.chunks.iter().map(|chunk| chunk.capacity() + 32).sum::<usize>()
    }

    /// The chunks in order.
    pub fn chunks(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.chunks.iter().map(|chunk| chunk.as_slice())
    }

    /// The parts of `start..end`.
    pub fn range(&self, start: usize, end: usize) -> impl Iterator<Item = &[u8]> {
        let (start, end) = (start.min(self.len), end.min(self.len));
        let first = start / CHUNK_LEN;
        self.chunks.iter().enumerate().skip(first).map_while(move |(i, chunk)| {
            let base = i * CHUNK_LEN;
            (base < end).then(|| {
                let from = start.saturating_sub(base).min(chunk.len());
                &chunk[from..(end - base).min(chunk.len()).max(from)]
            })
        })
    }

    /// A byte.
    pub fn byte(&self, at: usize) -> Option<u8> {
        self.chunks.get(at / CHUNK_LEN)?.get(at % CHUNK_LEN).copied()
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
        let zero = || Arc::new(vec![0; CHUNK_LEN]);
        let (mut zeroes, mut made): (Option<Arc<Vec<u8>>>, usize) = (None, 0);
        while self.len < len {
            let within = self.len % CHUNK_LEN;
            let grow = (CHUNK_LEN - within).min(len - self.len);
            if grow == CHUNK_LEN {
                let chunk = if made < MADE_MAX { zero() } else { zeroes.get_or_insert_with(zero).clone() };
                self.chunks.push(chunk);
                made += 1;
            } else if within == 0 {
                self.chunks.push(Arc::new(vec![0; grow]));
            } else if let Some(last) = self.chunks.last_mut() {
                Arc::make_mut(last).resize(within + grow, 0);
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
            Arc::make_mut(&mut self.chunks[at / CHUNK_LEN])[within..within + part]
                .copy_from_slice(&rest[..part]);
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
                self.chunks.push(Arc::new(rest[..part].to_vec()));
            } else if let Some(last) = self.chunks.last_mut() {
                Arc::make_mut(last).extend_from_slice(&rest[..part]);
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
}
