//! Writing: lengths, strings, numbers; and values that are passed on while they are being written.

use mortise_sdk::resp::format_integer;

use super::Result;
use super::format::string;
use super::lzf::Compressor;

/// So much is worth being passed on.
pub(super) const ENOUGH: usize = 64 * 1024;

/// What the lengths of a compressed string cost must be gained.
const GAIN_MIN: usize = 4;

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
        let Some(compressor) = &mut self.compressor else { return false };
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        let pays = compressor.compress(bytes, GAIN_MIN, &mut packed);
        if pays {
            self.begin_compressed(packed.len(), bytes.len());
            self.raw(&packed);
        }
        packed.shrink_to(KEPT_MAX);
        self.packed = packed;
        pays
    }

    /// What stands before a compressed string.
    fn begin_compressed(&mut self, packed_len: usize, len: usize) {
        self.byte(0xc0 | string::LZF);
        self.len(packed_len);
        self.len(len);
    }

    /// How long a string in pieces is when it is compressed; nothing if that does not pay. What comes of it is in `packed`
    /// afterwards if it `keeps` it.
    fn packed_len<'t>(
        &mut self,
        len: usize,
        pieces: impl Iterator<Item = &'t [u8]>,
        keeps: bool,
    ) -> Option<usize> {
        let (compressor, len_max) = (self.compressor.as_mut()?, len.checked_sub(GAIN_MIN + 1)?);
        let mut packed_len = 0;
        self.packed.clear();
        for piece in pieces {
            let before = self.packed.len();
            if !compressor.compress_to(piece, usize::MAX, &mut self.packed) {
                return None;
            }
            packed_len += self.packed.len() - before;
            if packed_len > len_max {
                return None;
            }
            if !keeps {
                self.packed.clear();
            }
        }
        Some(packed_len)
    }
}

/// Where a value is written that may be too large to be held in one piece: between two items, what there is of it is
/// passed on.
pub struct Out<'a> {
    writer: &'a mut Writer,
    pass_on: Option<&'a mut PassOn<'a>>,
}

/// Takes what has been written, and leaves the writer empty.
pub(super) type PassOn<'a> = dyn FnMut(&mut Writer) -> Result<()> + 'a;

impl<'a> Out<'a> {
    /// Nothing is passed on: all of it will be in the writer.
    pub fn whole(writer: &'a mut Writer) -> Out<'a> {
        Out { writer, pass_on: None }
    }

    /// What has been written is passed on whenever it is enough.
    pub fn passing(writer: &'a mut Writer, pass_on: &'a mut PassOn<'a>) -> Out<'a> {
        Out { writer, pass_on: Some(pass_on) }
    }

    /// Writes something that is short.
    pub fn small(&mut self) -> &mut Writer {
        self.writer
    }

    /// Passes on what has been written, if it is enough to be worth it.
    #[inline]
    pub fn pass_on(&mut self) -> Result<()> {
        match &mut self.pass_on {
            Some(pass_on) if self.writer.bytes.len() >= ENOUGH => pass_on(self.writer),
            _ => Ok(()),
        }
    }

    /// A string, however long.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() > ENOUGH {
            return self.text(bytes.len(), || bytes.chunks(ENOUGH));
        }
        self.writer.bytes(bytes);
        self.pass_on()
    }

    /// A string that comes in pieces and spells no integer.
    pub fn text<'t, P: Iterator<Item = &'t [u8]>>(
        &mut self,
        len: usize,
        pieces: impl Fn() -> P,
    ) -> Result<()> {
        /// A longer one is compressed twice if it can be passed on: first to learn how long it becomes. Else all of that
        /// would have to be held until it is known.
        const PACKED_ONCE_LEN_MAX: usize = KEPT_MAX;
        let once = self.pass_on.is_none() || len <= PACKED_ONCE_LEN_MAX;
        let packed_len = self.writer.packed_len(len, pieces(), once);
        match packed_len {
            Some(packed_len) => self.writer.begin_compressed(packed_len, len),
            None => self.writer.len(len),
        }
        let packed = std::mem::take(&mut self.writer.packed);
        if packed_len.is_some() && once {
            packed.chunks(ENOUGH).try_for_each(|piece| self.piece(piece))?;
        } else {
            for piece in pieces() {
                match &mut self.writer.compressor {
                    // It has been seen that it can be.
                    Some(compressor) if packed_len.is_some() => {
                        _ = compressor.compress_to(piece, usize::MAX, &mut self.writer.bytes);
                        self.pass_on()?;
                    }
                    _ => self.piece(piece)?,
                }
            }
        }
        self.writer.packed = packed;
        self.writer.packed.clear();
        self.writer.packed.shrink_to(KEPT_MAX);
        Ok(())
    }

    fn piece(&mut self, piece: &[u8]) -> Result<()> {
        self.writer.raw(piece);
        self.pass_on()
    }
}
