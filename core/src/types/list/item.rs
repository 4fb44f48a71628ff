//! An element of a list as bytes: a head that says what it is, and what belongs to it.
//!
//! ```text
//! 0x00..=0x7f   text of that length, which follows
//! 0x80..=0xbf   an integer from 0 to 63: the head alone
//! 0xc0..=0xdf   an integer of 13 bits: five of them here, eight in the next byte
//! 0xe0..=0xe6   an integer in the two to eight bytes that follow, the lowest first
//! 0xf1..=0xf4   a length in the one to four bytes that follow, and text of that length
//! ```
//!
//! Each element has one form only, so that equal elements are equal bytes.

use std::borrow::Cow;

use memchr::memmem::Finder;
use mortise_sdk::args::parse_integer;
use mortise_sdk::resp::format_integer;

use crate::resp::output::Output;

const SHORT_TEXT_LEN_MAX: usize = 0x7f;
const SMALL: u8 = 0x80;
const SMALL_MAX: i64 = 0x3f;
const MIDDLE: u8 = 0xc0;
const MIDDLE_BIAS: i64 = 1 << 12;
const WIDE: u8 = 0xe0;
/// A wide integer takes at least so many bytes.
const WIDE_LEN_MIN: usize = 2;
const LONG_TEXT: u8 = 0xf0;

/// The longest head: that of text, whose length takes four bytes, or an integer of eight.
const HEAD_LEN_MAX: usize = 9;

/// Integers have no more digits, a sign included.
const INTEGER_DIGITS_MAX: usize = 20;

/// An element as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// Text.
    Text(&'a [u8]),
    /// Text that is an integer in canonical form.
    Integer(i64),
}

impl<'a> Item<'a> {
    /// As text.
    pub fn text(self) -> Cow<'a, [u8]> {
        match self {
            Item::Text(text) => Cow::Borrowed(text),
            Item::Integer(n) => Cow::Owned(format_integer(n).as_bytes().to_vec()),
        }
    }

    /// Shows it as text.
    pub fn with<T>(self, show: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Item::Text(text) => show(text),
            Item::Integer(n) => show(format_integer(n).as_bytes()),
        }
    }

    /// Writes it as a reply.
    #[inline(always)]
    pub fn reply(self, out: &mut Output) {
        match self {
            Item::Text(text) => out.bulk(text),
            Item::Integer(n) => out.bulk_integer(n),
        }
    }

    /// The element at the beginning of some bytes, and how many of them it takes. Nothing if they hold none.
    #[inline(always)]
    pub(super) fn read(bytes: &'a [u8]) -> Option<(Item<'a>, usize)> {
        let head = *bytes.first()?;
        if head <= SHORT_TEXT_LEN_MAX as u8 {
            let len = 1 + usize::from(head);
            return Some((Item::Text(bytes.get(1..len)?), len));
        }
        Item::read_other(head, bytes)
    }

    fn read_other(head: u8, bytes: &'a [u8]) -> Option<(Item<'a>, usize)> {
        Some(match head {
            SMALL..MIDDLE => (Item::Integer(i64::from(head - SMALL)), 1),
            MIDDLE..WIDE => {
                let bits = i64::from(head - MIDDLE) << 8 | i64::from(*bytes.get(1)?);
                (Item::Integer(bits - MIDDLE_BIAS), 2)
            }
            WIDE..LONG_TEXT => {
                let len = usize::from(head - WIDE) + WIDE_LEN_MIN;
                let given = bytes.get(1..=len).filter(|given| given.len() <= 8)?;
                let fill = if given[len - 1] & 0x80 == 0 { 0 } else { 0xff };
                let mut word = [fill; 8];
                word[..len].copy_from_slice(given);
                (Item::Integer(i64::from_le_bytes(word)), 1 + len)
            }
            _ => {
                let (start, len) = long_text(head, bytes)?;
                (Item::Text(bytes.get(start..start + len)?), start + len)
            }
        })
    }
}

/// Where long text begins behind its head, and how long it is.
fn long_text(head: u8, bytes: &[u8]) -> Option<(usize, usize)> {
    let len_len = usize::from(head - LONG_TEXT);
    let given = bytes.get(1..=len_len).filter(|given| given.len() <= 4)?;
    let mut word = [0; 4];
    word[..len_len].copy_from_slice(given);
    Some((1 + len_len, u32::from_le_bytes(word) as usize))
}

/// How many bytes the element at `at` takes. What is not there takes what there is.
#[inline(always)]
pub(super) fn len_at(bytes: &[u8], at: usize) -> usize {
    match bytes[at] {
        head @ 0..SMALL => 1 + usize::from(head),
        SMALL..MIDDLE => 1,
        MIDDLE..WIDE => 2,
        head @ WIDE..LONG_TEXT => 1 + usize::from(head - WIDE) + WIDE_LEN_MIN,
        head => long_text(head, &bytes[at..]).map_or(bytes.len() - at, |(start, len)| start + len),
    }
}

/// An element on its way into a list: its head, and the text that follows if it is one.
#[derive(Clone, Copy)]
pub(super) struct Encoded<'a> {
    head: [u8; HEAD_LEN_MAX],
    head_len: u8,
    text: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// What is said as text; an integer is known by its digits.
    #[inline(always)]
    pub(super) fn of(text: &'a [u8]) -> Encoded<'a> {
        if matches!(text.first(), Some(b'-' | b'0'..=b'9'))
            && text.len() <= INTEGER_DIGITS_MAX
            && let Some(n) = parse_integer(text)
        {
            return Encoded::integer(n);
        }
        let mut head = [0; HEAD_LEN_MAX];
        let len = text.len();
        let head_len = if len <= SHORT_TEXT_LEN_MAX {
            head[0] = len as u8;
            1
        } else {
            // The protocol limits elements to less than 2^32 bytes.
            let bytes = (len as u32).to_le_bytes();
            let len_len = 4 - (len as u32).leading_zeros() as usize / 8;
            head[0] = LONG_TEXT + len_len as u8;
            head[1..5].copy_from_slice(&bytes);
            1 + len_len as u8
        };
        Encoded { head, head_len, text }
    }

    fn integer(n: i64) -> Encoded<'a> {
        let mut head = [0; HEAD_LEN_MAX];
        let head_len = if (0..=SMALL_MAX).contains(&n) {
            head[0] = SMALL + n as u8;
            1
        } else if (-MIDDLE_BIAS..MIDDLE_BIAS).contains(&n) {
            let bits = (n + MIDDLE_BIAS) as u16;
            head[0] = MIDDLE + (bits >> 8) as u8;
            head[1] = bits as u8;
            2
        } else {
            // As many bytes as hold it with its sign.
            let significant = 65 - (n ^ (n >> 63)).leading_zeros() as usize;
            let len = significant.div_ceil(8).max(WIDE_LEN_MIN);
            head[0] = WIDE + (len - WIDE_LEN_MIN) as u8;
            head[1..].copy_from_slice(&n.to_le_bytes());
            1 + len as u8
        };
        Encoded { head, head_len, text: b"" }
    }

    /// How many bytes it takes.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        usize::from(self.head_len) + self.text.len()
    }

    fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// Writes it behind others.
    pub(super) fn append_to(&self, items: &mut Vec<u8>) {
        items.extend_from_slice(self.head());
        items.extend_from_slice(self.text);
    }

    /// Writes it to where there is room for it.
    #[inline(always)]
    pub(super) fn write(&self, to: &mut [u8]) {
        let (head, text) = to[..self.len()].split_at_mut(usize::from(self.head_len));
        head.copy_from_slice(self.head());
        text.copy_from_slice(self.text);
    }

    /// Writes it behind what is there.
    #[inline(always)]
    pub(super) fn push_to(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.head());
        to.extend_from_slice(self.text);
    }

    /// Whether it is what some bytes begin with.
    #[inline(always)]
    pub(super) fn is_at(&self, bytes: &[u8]) -> bool {
        bytes.len() >= self.len()
            && bytes[..usize::from(self.head_len)] == *self.head()
            && bytes[usize::from(self.head_len)..self.len()] == *self.text
    }
}

/// An element that is looked for among others.
pub(super) struct Wanted<'a> {
    item: Encoded<'a>,
    /// Finds its bytes, wherever they stand; nothing if they are so few that they stand everywhere.
    finder: Option<Finder<'static>>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(item: Encoded<'a>) -> Wanted<'a> {
        const RARE_LEN_MIN: usize = 4;
        let finder = (item.len() >= RARE_LEN_MIN).then(|| {
            let mut bytes = Vec::with_capacity(item.len());
            item.push_to(&mut bytes);
            Finder::new(&bytes).into_owned()
        });
        Wanted { item, finder }
    }

    /// The element itself.
    pub(super) fn item(&self) -> &Encoded<'a> {
        &self.item
    }

    /// Where it may stand at the earliest: what looks like it may also be a part of others.
    pub(super) fn hint(&self, bytes: &[u8]) -> Option<usize> {
        match &self.finder {
            Some(finder) => finder.find(bytes),
            None => Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let encoded = Encoded::of(text);
        encoded.push_to(&mut bytes);
        assert_eq!(bytes.len(), encoded.len());
        assert!(encoded.is_at(&bytes));
        let mut written = vec![0; bytes.len()];
        encoded.write(&mut written);
        assert_eq!(written, bytes);
        bytes
    }

    #[test]
    fn elements_come_back_and_take_what_they_should() {
        let long = |len: usize| vec![b'x'; len];
        let cases: [(Vec<u8>, usize); 29] = [
            (b"".to_vec(), 1),
            (b"a".to_vec(), 2),
            (long(127), 128),
            (long(128), 130),
            (long(255), 257),
            (long(256), 259),
            (long(65_535), 65_538),
            (long(65_536), 65_540),
            (long(1 << 24), (1 << 24) + 5),
            (b"0".to_vec(), 1),
            (b"63".to_vec(), 1),
            (b"64".to_vec(), 2),
            (b"-1".to_vec(), 2),
            (b"-4096".to_vec(), 2),
            (b"4095".to_vec(), 2),
            (b"4096".to_vec(), 3),
            (b"-4097".to_vec(), 3),
            (b"32767".to_vec(), 3),
            (b"32768".to_vec(), 4),
            (b"-32768".to_vec(), 3),
            (b"-32769".to_vec(), 4),
            (b"8388607".to_vec(), 4),
            (b"8388608".to_vec(), 5),
            (b"9223372036854775807".to_vec(), 9),
            (b"-9223372036854775808".to_vec(), 9),
            (b"9223372036854775808".to_vec(), 20),
            (b"007".to_vec(), 4),
            (b"-0".to_vec(), 3),
            (b"+5".to_vec(), 3),
        ];
        for (text, len) in cases {
            let name = String::from_utf8_lossy(&text[..text.len().min(20)]).into_owned();
            let mut packed = bytes(&text);
            assert_eq!(packed.len(), len, "{name}");
            packed.extend_from_slice(b"\x01z");
            let (item, read) = Item::read(&packed).expect("an element is there");
            assert_eq!((item.text().as_ref(), read), (&text[..], len), "{name}");
            assert_eq!(len_at(&packed, 0), len, "{name}");
            for cut in 0..len.min(12) {
                assert_eq!(Item::read(&packed[..cut.min(len - 1)]), None, "{name}, cut off");
            }
        }
    }

    #[test]
    fn every_integer_has_its_own_form() {
        for shift in 0..63 {
            for n in [1i64 << shift, (1 << shift) - 1, -(1 << shift), -(1i64 << shift) - 1] {
                let packed = bytes(n.to_string().as_bytes());
                assert_eq!(Item::read(&packed), Some((Item::Integer(n), packed.len())), "{n}");
            }
        }
    }
}
