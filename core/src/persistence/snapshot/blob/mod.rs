//! Small collections in one string each, as Redis has them in memory and on disk.
//!
//! Each kind is checked as a whole when it is parsed: after that its items come without any doubt.

pub mod intset;
pub mod listpack;
pub mod ziplist;
pub mod zipmap;

use mortise_sdk::resp::format_integer;

/// An item of a listpack or a ziplist.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// An integer, which stands for its text.
    Integer(i64),
}

impl<'a> Item<'a> {
    /// Lets its text be used.
    #[inline]
    pub fn with<T>(self, used: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Item::Bytes(bytes) => used(bytes),
            Item::Integer(n) => used(format_integer(n).as_bytes()),
        }
    }

    /// Its text, in a buffer that is used again and again.
    pub fn text_in(self, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        match self {
            Item::Bytes(bytes) => bytes,
            Item::Integer(n) => {
                buffer.clear();
                buffer.extend_from_slice(format_integer(n).as_bytes());
                buffer
            }
        }
    }

    /// Its text.
    pub fn to_vec(self) -> Vec<u8> {
        self.with(<[u8]>::to_vec)
    }

    /// The integer that it is or spells.
    pub fn integer(self) -> Option<i64> {
        match self {
            Item::Bytes(bytes) => mortise_sdk::args::parse_integer(bytes),
            Item::Integer(n) => Some(n),
        }
    }

    /// The floating-point number that it is or spells; none if that is no number.
    pub fn double(self) -> Option<f64> {
        match self {
            Item::Bytes(bytes) => mortise_sdk::args::parse_float(bytes).filter(|number| !number.is_nan()),
            Item::Integer(n) => Some(n as f64),
        }
    }
}

/// Items as pairs, if their number is even.
fn pairs<'a, I: Iterator<Item = Item<'a>> + Clone>(
    mut items: I,
    len: usize,
) -> Option<impl Iterator<Item = (Item<'a>, Item<'a>)> + Clone + use<'a, I>> {
    len.is_multiple_of(2).then(|| std::iter::from_fn(move || Some((items.next()?, items.next()?))))
}
