//! An entry of the keyspace: key, deadline and value in one allocation.
//!
//! ```text
//! 0   meta u32      bits 0..24 LRU clock or LFU counter, 24..26 cut epoch, 26 has a deadline, 27 listened to
//! 4   kind u8       type and encoding of the value; three bytes spare
//! 8   key length    u32
//! 12  value length  u32, of values that stand inline
//! 16  deadline      i64, Unix milliseconds, if there is one
//!     word          8 bytes, if the value is an integer or a boxed object
//!     key
//!     value         if it stands inline: strings, packed collections
//! ```
//!
//! Small values stand inline, so that a key with its value costs one allocation and one cache miss. This file owns the
//! layout; nobody else knows it. It does not know the table, time, or what the bytes of a packed value mean.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::slice;

use crate::types::Object;

const HEADER: usize = 16;
const WORD: usize = 8;
const CLOCK_MASK: u32 = 0x00ff_ffff;
const EPOCH_SHIFT: u32 = 24;
const EPOCH_MASK: u32 = 0b11 << EPOCH_SHIFT;
const HAS_DEADLINE: u32 = 1 << 26;
const LISTENED: u32 = 1 << 27;

/// Type and encoding of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A string that holds a 64-bit integer in canonical form.
    Integer = 0,
    /// A string that stands inline.
    Text = 1,
    /// A string that stands inline and was edited, which Redis reports as `raw` however short it is.
    RawText = 2,
    /// A hash, packed.
    PackedHash = 3,
    /// A sorted set, packed.
    PackedZset = 4,
    /// A set of integers, packed.
    PackedInts = 5,
    /// A set, packed.
    PackedSet = 6,
    /// A list, packed.
    PackedList = 7,
    /// A hash with fields that have deadlines, packed.
    PackedExpiringHash = 8,
    /// A string in chunks, boxed.
    LongText = 9,
    /// A hash, boxed.
    Hash = 10,
    /// A sorted set, boxed.
    Zset = 11,
    /// A set, boxed.
    Set = 12,
    /// A list, boxed.
    List = 13,
    /// A stream, boxed.
    Stream = 14,
    /// A hash with fields that have deadlines, boxed.
    ExpiringHash = 15,
    /// A value whose type a module brought, boxed.
    Foreign = 16,
}

impl Kind {
    const fn is_boxed(self) -> bool {
        self as u8 >= Kind::LongText as u8
    }

    const fn has_word(self) -> bool {
        self.is_boxed() || matches!(self, Kind::Integer)
    }

    /// Whether parts of the value have deadlines of their own.
    #[inline(always)]
    pub const fn has_field_deadlines(self) -> bool {
        matches!(self, Kind::PackedExpiringHash | Kind::ExpiringHash)
    }

    const fn from_u8(byte: u8) -> Kind {
        match byte {
            0 => Kind::Integer,
            1 => Kind::Text,
            2 => Kind::RawText,
            3 => Kind::PackedHash,
            4 => Kind::PackedZset,
            5 => Kind::PackedInts,
            6 => Kind::PackedSet,
            7 => Kind::PackedList,
            8 => Kind::PackedExpiringHash,
            9 => Kind::LongText,
            10 => Kind::Hash,
            11 => Kind::Zset,
            12 => Kind::Set,
            13 => Kind::List,
            14 => Kind::Stream,
            15 => Kind::ExpiringHash,
            _ => Kind::Foreign,
        }
    }
}

/// A value as it is read.
#[derive(Clone, Copy)]
pub enum Payload<'a> {
    /// A string's or packed collection's bytes.
    Bytes(&'a [u8]),
    /// An integer.
    Integer(i64),
    /// A boxed object.
    Object(&'a Object),
}

/// A value to be stored: what it is, and its bytes, which are copied once, into the entry.
pub enum NewValue<'a> {
    /// An integer.
    Integer(i64),
    /// Bytes that stand inline, of a kind that does.
    Bytes(Kind, &'a [u8]),
    /// A boxed object.
    Object(Box<Object>),
}

impl NewValue<'_> {
    fn kind(&self) -> Kind {
        match self {
            NewValue::Integer(_) => Kind::Integer,
            NewValue::Bytes(kind, _) => {
                assert!(!kind.has_word(), "inline bytes need an inline kind");
                *kind
            }
            NewValue::Object(object) => object.kind(),
        }
    }

    fn inline_len(&self) -> usize {
        match self {
            NewValue::Bytes(_, bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// An owned entry. It is one pointer wide, and so is `Option<Entry>`.
#[repr(transparent)]
pub struct Entry(NonNull<u8>);

// SAFETY: an entry owns its allocation and, through it, an `Object`, which is `Send` and `Sync` (asserted below);
// nothing in it is tied to a thread.
unsafe impl Send for Entry {}
// SAFETY: as above; a shared entry is only read.
unsafe impl Sync for Entry {}

const fn assert_send_sync<T: Send + Sync>() {}
const _: () = assert_send_sync::<Object>();

impl Entry {
    /// A new entry without deadline. Keys and inline values are at most `u32::MAX` bytes (the protocol's limits are
    /// far below).
    pub fn new(key: &[u8], value: NewValue<'_>) -> Entry {
        let (kind, inline_len) = (value.kind(), value.inline_len());
        let key_len = u32::try_from(key.len()).expect("the protocol limits keys to 512 MB");
        let value_len = u32::try_from(inline_len).expect("longer values are boxed");
        let word = if kind.has_word() { WORD } else { 0 };
        let size = HEADER + word + key.len() + inline_len;
        let layout = Layout::from_size_align(size, 8).expect("sizes are far below isize::MAX");
        // SAFETY: the layout is not zero-sized. Every write below stays within `size`: header, word, key, value follow
        // each other as counted above. `ptr` is 8-aligned, so u32 writes at 0, 8, 12 and the word at 16 are aligned.
        unsafe {
            let ptr = NonNull::new(alloc(layout)).unwrap_or_else(|| handle_alloc_error(layout));
            let base = ptr.as_ptr();
            base.cast::<u32>().write(0);
            base.add(4).cast::<[u8; 4]>().write([kind as u8, 0, 0, 0]);
            base.add(8).cast::<u32>().write(key_len);
            base.add(12).cast::<u32>().write(value_len);
            ptr::copy_nonoverlapping(key.as_ptr(), base.add(HEADER + word), key.len());
            match value {
                NewValue::Integer(n) => base.add(HEADER).cast::<i64>().write(n),
                NewValue::Object(object) => {
                    base.add(HEADER).cast::<*mut Object>().write(Box::into_raw(object))
                }
                NewValue::Bytes(_, bytes) => {
                    ptr::copy_nonoverlapping(bytes.as_ptr(), base.add(HEADER + key.len()), bytes.len());
                }
            }
            Entry(ptr)
        }
    }

    /// A copy that shares what is large: inline values are copied, boxed ones share their chunks.
    /// `None` if the value belongs to a module that cannot copy it.
    pub fn share(&self) -> Option<Entry> {
        let value = match self.payload() {
            Payload::Integer(n) => NewValue::Integer(n),
            Payload::Bytes(bytes) => NewValue::Bytes(self.kind(), bytes),
            Payload::Object(object) => NewValue::Object(Box::new(object.share()?)),
        };
        let mut copy = Entry::new(self.key(), value);
        copy.set_deadline(self.deadline());
        let bits = self.meta() & (CLOCK_MASK | EPOCH_MASK);
        copy.set_meta(copy.meta() | bits);
        Some(copy)
    }

    /// The same value, deadline and clock under another key.
    pub fn renamed(mut self, key: &[u8]) -> Entry {
        let deadline = self.deadline();
        let clock = self.clock();
        let mut renamed = match self.payload() {
            Payload::Integer(n) => Entry::new(key, NewValue::Integer(n)),
            Payload::Bytes(bytes) => Entry::new(key, NewValue::Bytes(self.kind(), bytes)),
            Payload::Object(_) => {
                let object = self.take_object().expect("the payload is an object");
                Entry::new(key, NewValue::Object(object))
            }
        };
        renamed.set_deadline(deadline);
        renamed.set_clock(clock);
        renamed
    }

    #[inline(always)]
    fn base(&self) -> *mut u8 {
        self.0.as_ptr()
    }

    #[inline(always)]
    fn meta(&self) -> u32 {
        // SAFETY: the header is initialised by `new` and always present.
        unsafe { self.base().cast::<u32>().read() }
    }

    #[inline(always)]
    fn set_meta(&mut self, meta: u32) {
        // SAFETY: as in `meta`; `&mut self` is exclusive.
        unsafe { self.base().cast::<u32>().write(meta) }
    }

    /// Type and encoding.
    #[inline(always)]
    pub fn kind(&self) -> Kind {
        // SAFETY: the header is initialised by `new`; byte 4 was written from a `Kind`.
        unsafe { Kind::from_u8(self.base().add(4).read()) }
    }

    #[inline(always)]
    fn set_kind(&mut self, kind: Kind) {
        // SAFETY: as in `kind`; `&mut self` is exclusive.
        unsafe { self.base().add(4).write(kind as u8) }
    }

    #[inline(always)]
    fn key_len(&self) -> usize {
        // SAFETY: the header is initialised by `new`.
        unsafe { self.base().add(8).cast::<u32>().read() as usize }
    }

    #[inline(always)]
    fn value_len(&self) -> usize {
        // SAFETY: the header is initialised by `new`.
        unsafe { self.base().add(12).cast::<u32>().read() as usize }
    }

    #[inline(always)]
    fn word_at(&self) -> usize {
        HEADER + if self.has_deadline() { WORD } else { 0 }
    }

    #[inline(always)]
    fn key_at(&self) -> usize {
        self.word_at() + if self.kind().has_word() { WORD } else { 0 }
    }

    fn size(&self) -> usize {
        self.key_at() + self.key_len() + self.value_len()
    }

    fn layout(&self) -> Layout {
        Layout::from_size_align(self.size(), 8).expect("it was allocated with this layout")
    }

    /// The key.
    #[inline(always)]
    pub fn key(&self) -> &[u8] {
        // SAFETY: `key_len` bytes at `key_at` were initialised and live as long as the entry.
        unsafe { slice::from_raw_parts(self.base().add(self.key_at()), self.key_len()) }
    }

    /// The value.
    #[inline(always)]
    pub fn payload(&self) -> Payload<'_> {
        let kind = self.kind();
        // SAFETY: the kind says what was written where: an integer or an owned object's pointer in the word, or
        // `value_len` initialised bytes after the key. The word is 8-aligned. The object is only reachable through
        // this entry, so a shared borrow of the entry is one of the object.
        unsafe {
            if kind.is_boxed() {
                Payload::Object(&*self.base().add(self.word_at()).cast::<*mut Object>().read())
            } else if let Kind::Integer = kind {
                Payload::Integer(self.base().add(self.word_at()).cast::<i64>().read())
            } else {
                let at = self.key_at() + self.key_len();
                Payload::Bytes(slice::from_raw_parts(self.base().add(at), self.value_len()))
            }
        }
    }

    /// The boxed object to be changed, if the value is one.
    pub fn object_mut(&mut self) -> Option<&mut Object> {
        if !self.kind().is_boxed() {
            return None;
        }
        // SAFETY: boxed kinds keep an owned, valid `*mut Object` in the word; `&mut self` is exclusive.
        Some(unsafe { &mut *self.base().add(self.word_at()).cast::<*mut Object>().read() })
    }

    /// The inline bytes to be changed without changing their number.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if self.kind().has_word() {
            return None;
        }
        let at = self.key_at() + self.key_len();
        // SAFETY: as in `payload`; `&mut self` is exclusive.
        Some(unsafe { slice::from_raw_parts_mut(self.base().add(at), self.value_len()) })
    }

    /// Takes the boxed object out; the entry holds an integer from then on.
    fn take_object(&mut self) -> Option<Box<Object>> {
        if !self.kind().is_boxed() {
            return None;
        }
        // SAFETY: the word holds the pointer that `Box::into_raw` gave. Ownership moves to the caller, and as the kind
        // becomes `Integer` (which also has a word, so that the layout stays), nobody frees it twice.
        unsafe {
            let word = self.base().add(self.word_at());
            let object = Box::from_raw(word.cast::<*mut Object>().read());
            word.cast::<i64>().write(0);
            self.set_kind(Kind::Integer);
            Some(object)
        }
    }

    /// Replaces the value; key, deadline and meta data stay. Returns the boxed object that was replaced, so that a large
    /// one can be freed elsewhere.
    pub fn set(&mut self, value: NewValue<'_>) -> Option<Box<Object>> {
        let (kind, new_len) = (value.kind(), value.inline_len());
        let old = self.take_object();
        let same_shape = kind.has_word() == self.kind().has_word();
        if !same_shape {
            let deadline = self.deadline();
            let meta = self.meta();
            let mut fresh = Entry::new(self.key(), value);
            fresh.set_deadline(deadline);
            fresh.set_meta(meta);
            *self = fresh;
            return old;
        }
        match value {
            NewValue::Bytes(_, bytes) => {
                self.resize(new_len);
                self.set_kind(kind);
                self.bytes_mut().expect("the kind is inline").copy_from_slice(bytes);
            }
            NewValue::Integer(n) => {
                self.set_kind(kind);
                // SAFETY: the kind has a word at `word_at`; `&mut self` is exclusive.
                unsafe { self.base().add(self.word_at()).cast::<i64>().write(n) }
            }
            NewValue::Object(object) => {
                self.set_kind(kind);
                // SAFETY: as above; the old object was taken out before.
                unsafe {
                    self.base().add(self.word_at()).cast::<*mut Object>().write(Box::into_raw(object));
                }
            }
        }
        old
    }

    /// Changes the number of inline bytes; what is new is zero.
    fn resize(&mut self, new_len: usize) {
        let old_len = self.value_len();
        if new_len == old_len {
            return;
        }
        let layout = self.layout();
        let size = layout.size() - old_len + new_len;
        let value_len = u32::try_from(new_len).expect("longer values are boxed");
        // SAFETY: `base` was allocated with `layout`; the new size is not zero (the header stays). The bytes beyond the
        // old length are initialised before anyone can read them.
        unsafe {
            let ptr = realloc(self.base(), layout, size);
            let Some(ptr) = NonNull::new(ptr) else {
                handle_alloc_error(Layout::from_size_align_unchecked(size, 8))
            };
            self.0 = ptr;
            self.base().add(12).cast::<u32>().write(value_len);
            if new_len > old_len {
                ptr::write_bytes(self.base().add(size - (new_len - old_len)), 0, new_len - old_len);
            }
        }
    }

    /// Replaces `remove` inline bytes at `at` by `insert`.
    pub fn splice(&mut self, at: usize, remove: usize, insert: &[u8]) {
        let len = self.value_len();
        assert!(!self.kind().has_word() && at + remove <= len, "a splice stays within the inline value");
        let tail = len - at - remove;
        let new_len = at + insert.len() + tail;
        if new_len > len {
            self.resize(new_len);
        }
        let bytes = self.bytes_mut().expect("the kind is inline");
        bytes.copy_within(at + remove..at + remove + tail, at + insert.len());
        bytes[at..at + insert.len()].copy_from_slice(insert);
        if new_len < len {
            self.resize(new_len);
        }
    }

    /// Marks an inline string as edited, which Redis calls `raw`.
    pub fn mark_raw(&mut self) {
        if self.kind() == Kind::Text {
            self.set_kind(Kind::RawText);
        }
    }

    /// Whether it has a deadline.
    #[inline(always)]
    pub fn has_deadline(&self) -> bool {
        self.meta() & HAS_DEADLINE != 0
    }

    /// When it expires, in Unix milliseconds.
    #[inline(always)]
    pub fn deadline(&self) -> Option<i64> {
        if !self.has_deadline() {
            return None;
        }
        // SAFETY: the flag says that 8 bytes at HEADER hold the deadline; they are 8-aligned.
        Some(unsafe { self.base().add(HEADER).cast::<i64>().read() })
    }

    /// Sets or removes the deadline.
    pub fn set_deadline(&mut self, deadline: Option<i64>) {
        match (self.has_deadline(), deadline) {
            (false, None) => {}
            (true, Some(at)) => {
                // SAFETY: as in `deadline`; `&mut self` is exclusive.
                unsafe { self.base().add(HEADER).cast::<i64>().write(at) }
            }
            (false, Some(at)) => {
                let layout = self.layout();
                let size = layout.size() + WORD;
                // SAFETY: `base` was allocated with `layout`. After growing, everything behind the header moves up by
                // one word (`copy` allows overlap) and the deadline is written into the gap.
                unsafe {
                    let Some(ptr) = NonNull::new(realloc(self.base(), layout, size)) else {
                        handle_alloc_error(Layout::from_size_align_unchecked(size, 8))
                    };
                    self.0 = ptr;
                    let gap = self.base().add(HEADER);
                    ptr::copy(gap, gap.add(WORD), layout.size() - HEADER);
                    gap.cast::<i64>().write(at);
                }
                self.set_meta(self.meta() | HAS_DEADLINE);
            }
            (true, None) => {
                let layout = self.layout();
                let size = layout.size() - WORD;
                // SAFETY: everything behind the deadline moves down by one word within the allocation, which then
                // shrinks to exactly what is left.
                unsafe {
                    let gap = self.base().add(HEADER);
                    ptr::copy(gap.add(WORD), gap, size - HEADER);
                    let Some(ptr) = NonNull::new(realloc(self.base(), layout, size)) else {
                        handle_alloc_error(Layout::from_size_align_unchecked(size, 8))
                    };
                    self.0 = ptr;
                }
                self.set_meta(self.meta() & !HAS_DEADLINE);
            }
        }
    }

    /// The LRU clock or LFU counter, 24 bits.
    #[inline(always)]
    pub fn clock(&self) -> u32 {
        self.meta() & CLOCK_MASK
    }

    /// Sets the LRU clock or LFU counter.
    #[inline(always)]
    pub fn set_clock(&mut self, clock: u32) {
        self.set_meta(self.meta() & !CLOCK_MASK | clock & CLOCK_MASK);
    }

    /// The cut that last took care of this entry (2 bits).
    #[inline(always)]
    pub fn epoch(&self) -> u8 {
        ((self.meta() & EPOCH_MASK) >> EPOCH_SHIFT) as u8
    }

    /// Stamps the entry as taken care of by a cut.
    pub fn set_epoch(&mut self, epoch: u8) {
        self.set_meta(self.meta() & !EPOCH_MASK | (u32::from(epoch) << EPOCH_SHIFT) & EPOCH_MASK);
    }

    /// Whether someone may want to hear of its changes.
    #[inline(always)]
    pub fn is_listened(&self) -> bool {
        self.meta() & LISTENED != 0
    }

    /// Marks that someone wants to hear of its changes, or no longer.
    pub fn set_listened(&mut self, listened: bool) {
        let meta = self.meta();
        self.set_meta(if listened { meta | LISTENED } else { meta & !LISTENED });
    }

    /// Bytes of the entry's own allocation.
    pub fn memory(&self) -> usize {
        self.size()
    }

    /// Whether it is freed so quickly that no worker is needed for it.
    pub fn is_light(&self) -> bool {
        match self.payload() {
            Payload::Object(object) => object.free_effort() <= Object::FREE_EFFORT_INLINE_MAX,
            _ => true,
        }
    }

    /// Where the entry lies: for prefetching, and for DEBUG OBJECT.
    #[inline(always)]
    pub(crate) fn address(&self) -> *const u8 {
        self.base()
    }

    /// Takes the value out as a boxed object if it is one, and frees the rest.
    pub fn into_object(mut self) -> Option<Box<Object>> {
        self.take_object()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        drop(self.take_object());
        // SAFETY: the allocation has exactly this layout (taking the object out did not change it), and nobody uses it
        // afterwards.
        unsafe { dealloc(self.base(), self.layout()) }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({:?}, {:?})", String::from_utf8_lossy(self.key()), self.kind())
    }
}

/// Keeps clippy honest about the width that the table counts on.
const _: () = assert!(size_of::<Option<Entry>>() == 8 && size_of::<ManuallyDrop<Entry>>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    fn text(entry: &Entry) -> &[u8] {
        match entry.payload() {
            Payload::Bytes(bytes) => bytes,
            _ => panic!("not inline"),
        }
    }

    #[test]
    fn value_and_deadline_survive_each_other() {
        let mut entry = Entry::new(b"key", NewValue::Bytes(Kind::Text, b"value"));
        entry.set_clock(0x00ab_cdef);
        entry.set_deadline(Some(77));
        assert_eq!((entry.key(), text(&entry), entry.deadline()), (&b"key"[..], &b"value"[..], Some(77)));
        entry.splice(1, 3, b"ALU and m");
        assert_eq!(text(&entry), b"vALU and me");
        assert!(entry.set(NewValue::Integer(-5)).is_none());
        assert!(matches!(entry.payload(), Payload::Integer(-5)));
        assert_eq!(entry.deadline(), Some(77));
        entry.set_deadline(None);
        assert!(entry.set(NewValue::Bytes(Kind::Text, b"again")).is_none());
        assert_eq!((entry.key(), text(&entry)), (&b"key"[..], &b"again"[..]));
        assert_eq!(entry.clock(), 0x00ab_cdef);
        let entry = entry.renamed(b"a longer key");
        assert_eq!((entry.key(), text(&entry)), (&b"a longer key"[..], &b"again"[..]));
    }

    #[test]
    fn splice_at_either_end() {
        let mut entry = Entry::new(b"", NewValue::Bytes(Kind::PackedHash, b""));
        entry.splice(0, 0, b"abc");
        entry.splice(3, 0, b"def");
        entry.splice(0, 1, b"");
        entry.splice(4, 1, b"");
        assert_eq!(text(&entry), b"bcde");
        entry.splice(0, 4, b"");
        assert_eq!(text(&entry), b"");
    }
}
