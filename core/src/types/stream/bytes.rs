//! The bytes of a chunk: its own while they change, a part of a slab that several chunks share when they are many.
//!
//! The allocator's sizes are an eighth apart, and what a chunk takes is what it takes; together, chunks fill a size nearly
//! to its end.

use std::ops::{Deref, Range};

use triomphe::ThinArc;

use crate::types::table::size_class;

/// Bytes, on their own or not.
#[derive(Clone)]
pub(super) enum Bytes {
    /// Its own.
    Own(Vec<u8>),
    /// A part of a slab.
    Part(ThinArc<(), u8>, Range<u32>),
}

/// What a slab holds: the size of the allocator that it fills, but for a count and a length.
pub(super) const SLAB_LEN_MAX: usize = (64 << 10) - 16;

/// The most parts of a slab.
pub(super) const SLAB_PARTS_MAX: usize = 256;

/// Which slab it is, as long as it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slab {
    place: usize,
    pub(super) len: usize,
}

impl Bytes {
    /// A slab of some bytes, and each of them as a part of it.
    pub(super) fn together<'a>(all: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = Bytes> {
        let (mut bytes, mut parts) = (Vec::with_capacity(SLAB_LEN_MAX), Vec::new());
        for one in all {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(one);
            parts.push(start..bytes.len() as u32);
        }
        let slab = ThinArc::from_header_and_slice((), &bytes);
        parts.into_iter().map(move |part| Bytes::Part(slab.clone(), part))
    }

    /// The bytes, to be changed: they are its own from then on.
    #[inline]
    pub(super) fn own(&mut self) -> &mut Vec<u8> {
        if let Bytes::Part(..) = self {
            *self = Bytes::Own(self.to_vec());
        }
        match self {
            Bytes::Own(bytes) => bytes,
            Bytes::Part(..) => unreachable!("they have just become its own"),
        }
    }

    /// Whether they are its own.
    pub(super) fn are_own(&self) -> bool {
        matches!(self, Bytes::Own(_))
    }

    /// The slab that they are a part of.
    pub(super) fn slab(&self) -> Option<Slab> {
        match self {
            Bytes::Own(_) => None,
            Bytes::Part(slab, _) => Some(Slab { place: slab.slice.as_ptr().addr(), len: slab.slice.len() }),
        }
    }

    /// What they take on the heap.
    #[inline]
    pub(super) fn memory(&self) -> usize {
        match self {
            Bytes::Own(bytes) => size_class(bytes.capacity()),
            Bytes::Part(_, part) => part.len(),
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Own(bytes) => bytes,
            Bytes::Part(slab, part) => &slab.slice[part.start as usize..part.end as usize],
        }
    }
}
