//! Writing: lengths, strings, numbers.

use mortise_sdk::resp::format_integer;

use super::format::string;
use super::lzf::Compressor;

/// So much room is kept to be used again.
const KEPT_MAX: usize = 1 << 20;

/// Writes what a [`Reader`](super::Reader) or Redis reads.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
    compressor: Option<Compressor>,
    /// Where a string is compressed before it is known whether that pays; used again and again.
    packed: Vec<u8>,
}

impl Writer {
    /// An empty one, which compresses strings or not.
    pub fn new(compress: bool) -> Writer {
        Writer { compressor: compress.then(Compressor::default), ..Writer::default() }
    }

    /// What has been written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What has been written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Forgets what has been written, and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_MAX);
    }

    /// Bytes as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A byte.
    #[inline]
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// A number that is short if it is small.
    pub fn number(&mut self, n: u64) {
        match n {
            0..0x40 => self.byte(n as u8),
            0x40..0x4000 => self.raw(&(n as u16 | 0x4000).to_be_bytes()),
            0x4000..0x1_0000_0000 => {
                self.byte(0x80);
                self.raw(&(n as u32).to_be_bytes());
            }
            _ => {
                self.byte(0x81);
                self.raw(&n.to_be_bytes());
            }
        }
    }

    /// A length or a count.
    pub fn len(&mut self, len: usize) {
        self.number(len as u64);
    }

    /// A 64-bit integer in eight bytes, as moments are written.
    pub fn moment(&mut self, ms: i64) {
        self.raw(&ms.to_le_bytes());
    }

    /// A floating-point number in eight bytes.
    pub fn double(&mut self, value: f64) {
        self.raw(&value.to_le_bytes());
    }

    /// A string: as an integer if it spells a small one, else compressed if that pays, else as it is.
    pub fn bytes(&mut self, bytes: &[u8]) {
        /// A longer text spells no integer of 32 bits.
        const INTEGER_LEN_MAX: usize = 11;
        /// Shorter texts are not worth the attempt.
        const COMPRESSED_LEN_MIN: usize = 21;
        if bytes.len() <= INTEGER_LEN_MAX
            && let Some(n) = mortise_sdk::args::parse_integer(bytes)
            && self.small_integer(n)
        {
            return;
        }
        if bytes.len() >= COMPRESSED_LEN_MIN && self.compressed(bytes) {
            return;
        }
        self.len(bytes.len());
        self.raw(bytes);
    }

    /// A string that spells an integer.
    pub fn integer(&mut self, n: i64) {
        if !self.small_integer(n) {
            let text = format_integer(n);
            self.len(text.as_bytes().len());
            self.raw(text.as_bytes());
        }
    }

    /// An integer of up to 32 bits; nothing and false if it is larger.
    fn small_integer(&mut self, n: i64) -> bool {
        if let Ok(n) = i8::try_from(n) {
            self.raw(&[0xc0 | string::INT8, n as u8]);
        } else if let Ok(n) = i16::try_from(n) {
            self.byte(0xc0 | string::INT16);
            self.raw(&n.to_le_bytes());
        } else if let Ok(n) = i32::try_from(n) {
            self.byte(0xc0 | string::INT32);
            self.raw(&n.to_le_bytes());
        } else {
            return false;
        }
        true
    }

    /// A string in compressed form; nothing and false if that would not be shorter.
    fn compressed(&mut self, bytes: &[u8]) -> bool {
        /// What the lengths cost must be gained.
        const GAIN_MIN: usize = 4;
        let Some(compressor) = &mut self.compressor else { return false };
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        let pays = compressor.compress(bytes, GAIN_MIN, &mut packed);
        if pays {
            self.byte(0xc0 | string::LZF);
            self.len(packed.len());
            self.len(bytes.len());
            self.raw(&packed);
        }
        packed.shrink_to(KEPT_MAX);
        self.packed = packed;
        pays
    }
}
