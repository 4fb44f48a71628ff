//! A client's reply buffer: RESP2 or RESP3, with marks to roll back to.

use mortise_sdk::Error;
use mortise_sdk::resp::encode::{self, Version};

use crate::keyspace::shrink::empty;

/// Replies on their way to the caller.
#[derive(Default)]
pub struct Output {
    bytes: Vec<u8>,
    version: Version,
}

impl Output {
    /// An empty buffer.
    pub fn new(version: Version) -> Output {
        Output { bytes: Vec::new(), version }
    }

    /// What has been written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes what has been written.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Number of bytes so far: a mark to roll back to.
    #[inline(always)]
    pub fn mark(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets what was written after a mark.
    pub fn rollback(&mut self, mark: usize) {
        self.bytes.truncate(mark);
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Empties it and keeps its memory, unless that has become large.
    pub fn clear(&mut self) {
        const KEEP_MAX: usize = 1 << 20;
        empty(&mut self.bytes, KEEP_MAX);
    }

    /// The protocol's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Changes the protocol's version.
    #[inline(always)]
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Whether it speaks RESP3.
    pub fn is_resp3(&self) -> bool {
        self.version == Version::Resp3
    }

    /// Already encoded bytes that the caller no longer needs: into an empty buffer they are not copied. What comes back is
    /// empty.
    pub fn append(&mut self, bytes: &mut Vec<u8>) {
        if self.bytes.is_empty() {
            std::mem::swap(&mut self.bytes, bytes);
        } else {
            self.bytes.append(bytes);
        }
    }

    /// Already encoded bytes.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Already encoded bytes, put in front of what was written after a mark.
    pub fn insert(&mut self, mark: usize, bytes: &[u8]) {
        self.bytes.splice(mark..mark, bytes.iter().copied());
    }

    /// `+OK`
    #[inline(always)]
    pub fn ok(&mut self) {
        self.bytes.extend_from_slice(b"+OK\r\n");
    }

    /// A status.
    pub fn simple(&mut self, text: &str) {
        encode::simple(&mut self.bytes, text);
    }

    /// An error.
    pub fn error(&mut self, error: &Error) {
        encode::error(&mut self.bytes, error.as_bytes());
    }

    /// An integer.
    #[inline(always)]
    pub fn integer(&mut self, n: i64) {
        encode::integer(&mut self.bytes, n);
    }

    /// A length or count.
    #[inline(always)]
    pub fn count(&mut self, n: usize) {
        self.integer(n as i64);
    }

    /// A bulk string.
    #[inline(always)]
    pub fn bulk(&mut self, bytes: &[u8]) {
        encode::bulk(&mut self.bytes, bytes);
    }

    /// A bulk string of parts.
    pub fn bulk_parts<'a>(&mut self, len: usize, parts: impl Iterator<Item = &'a [u8]>) {
        self.bytes.reserve(len + 32);
        self.bytes.push(b'$');
        self.bytes.extend_from_slice(mortise_sdk::resp::format_integer(len as i64).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
        parts.for_each(|part| self.bytes.extend_from_slice(part));
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// An integer as a bulk string.
    pub fn bulk_integer(&mut self, n: i64) {
        encode::bulk_integer(&mut self.bytes, n);
    }

    /// No value.
    #[inline(always)]
    pub fn null(&mut self) {
        encode::null(&mut self.bytes, self.version);
    }

    /// No array.
    pub fn null_array(&mut self) {
        encode::null_array(&mut self.bytes, self.version);
    }

    /// A value, or none.
    pub fn bulk_or_null(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bulk(value),
            None => self.null(),
        }
    }

    /// An array; `len` elements follow.
    pub fn array(&mut self, len: usize) {
        encode::array(&mut self.bytes, len);
    }

    /// A map; `len` pairs follow.
    pub fn map(&mut self, len: usize) {
        encode::map(&mut self.bytes, self.version, len);
    }

    /// A set; `len` elements follow.
    pub fn set(&mut self, len: usize) {
        encode::set(&mut self.bytes, self.version, len);
    }

    /// A message out of turn; `len` elements follow.
    pub fn push(&mut self, len: usize) {
        encode::push(&mut self.bytes, self.version, len);
    }

    /// A floating-point number.
    pub fn double(&mut self, x: f64) {
        encode::double(&mut self.bytes, self.version, x);
    }

    /// A double whose text was made elsewhere.
    pub fn double_text(&mut self, text: &[u8]) {
        encode::double_text(&mut self.bytes, self.version, text);
    }

    /// A truth value.
    pub fn boolean(&mut self, value: bool) {
        encode::boolean(&mut self.bytes, self.version, value);
    }

    /// Text to be shown as it is.
    pub fn verbatim(&mut self, text: &str) {
        encode::verbatim(&mut self.bytes, self.version, b"txt", text.as_bytes());
    }

    /// Inserts an array's header in front of what was written after a mark: for arrays whose length shows at the end.
    pub fn array_before(&mut self, mark: usize, len: usize) {
        let mut header = Vec::with_capacity(16);
        encode::array(&mut header, len);
        self.bytes.splice(mark..mark, header);
    }
}
