//! What crosses the border: slices, status, handles.

use std::marker::PhantomData;

use abi_stable::StableAbi;

/// A borrowed sequence.
#[repr(C)]
#[derive(StableAbi)]
pub struct List<'a, T> {
    first: *const T,
    len: usize,
    of: PhantomData<&'a T>,
}

/// Borrowed bytes.
pub type Slice<'a> = List<'a, u8>;

impl<T> Clone for List<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<'_, T> {}

// SAFETY: a `List` is a shared reference to its elements in another form.
unsafe impl<T: Sync> Send for List<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for List<'_, T> {}

impl<'a, T> List<'a, T> {
    /// The elements of a slice.
    #[inline(always)]
    pub const fn new(elements: &'a [T]) -> List<'a, T> {
        List { first: elements.as_ptr(), len: elements.len(), of: PhantomData }
    }

    /// The elements.
    #[inline(always)]
    pub const fn get(self) -> &'a [T] {
        // SAFETY: the fields are private and written by `new` alone, on one side of the border or the other, from a
        // slice that lives for 'a.
        unsafe { std::slice::from_raw_parts(self.first, self.len) }
    }
}

impl<'a> Slice<'a> {
    /// The bytes of a text.
    pub const fn text(text: &'a str) -> Slice<'a> {
        List::new(text.as_bytes())
    }
}

/// A string of the server's own type. One that spells an integer is kept as such, and crosses so.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Text<'a> {
    /// Which of the two below holds the string.
    is_integer: bool,
    integer: i64,
    bytes: Slice<'a>,
}

impl<'a> Text<'a> {
    /// A string that an integer spells.
    #[inline(always)]
    pub const fn of_integer(integer: i64) -> Text<'a> {
        Text { is_integer: true, integer, bytes: List::new(&[]) }
    }

    /// A string of bytes.
    #[inline(always)]
    pub const fn of_bytes(bytes: &'a [u8]) -> Text<'a> {
        Text { is_integer: false, integer: 0, bytes: List::new(bytes) }
    }

    /// The integer or the bytes.
    #[inline(always)]
    pub const fn get(self) -> std::result::Result<i64, &'a [u8]> {
        if self.is_integer { Ok(self.integer) } else { Err(self.bytes.get()) }
    }
}

/// What belongs to one call, on the server's side of the border.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy)]
pub struct Context(pub *mut u8);

/// A value of a module's type, as the server holds it: meaningless to anyone but the module.
pub type Handle = u64;

/// The number of a data type, which follows from its name.
pub type TypeId = u64;

/// The number of the type with a name.
pub const fn type_id(name: &str) -> TypeId {
    // FNV-1a. The server refuses a type whose number is taken, so a collision shows when a module is loaded.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let name = name.as_bytes();
    let mut i = 0;
    while i < name.len() {
        hash = (hash ^ name[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

/// How a function of the module ended.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(pub u32);

impl Status {
    /// Well; the bytes are the result.
    pub const OK: Status = Status(0);
    /// With an error; the bytes are its text.
    pub const ERROR: Status = Status(1);
    /// With a panic, which was caught.
    pub const PANICKED: Status = Status(2);
}

/// How a function of the module ended, and what came of it.
///
/// The bytes are the module's. They hold until the same thread enters the module again, so they are copied at once.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    first: *const u8,
    len: usize,
}

impl Outcome {
    /// An outcome with bytes that the module keeps.
    pub const fn new(status: Status, bytes: &[u8]) -> Outcome {
        Outcome { status, first: bytes.as_ptr(), len: bytes.len() }
    }

    /// The bytes.
    ///
    /// # Safety
    ///
    /// The module has not been entered again on this thread since it gave this outcome, and is not while the bytes are
    /// in use.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: written by `new` from a slice, which the module keeps as the caller promises.
        unsafe { std::slice::from_raw_parts(self.first, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_give_back_what_they_were_made_of() {
        let words = [Slice::text("a"), Slice::text(""), Slice::text("bc")];
        let crossed: Vec<&[u8]> = List::new(&words).get().iter().map(|word| word.get()).collect();
        assert_eq!(crossed, [&b"a"[..], b"", b"bc"]);
        assert!(List::<u64>::new(&[]).get().is_empty());
    }

    #[test]
    fn strings_are_integers_or_bytes() {
        assert_eq!(Text::of_integer(i64::MIN).get(), Ok(i64::MIN));
        assert_eq!(Text::of_bytes(b"12").get(), Err(&b"12"[..]));
    }

    #[test]
    fn names_have_numbers() {
        assert_eq!(type_id(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(type_id("a"), 0xaf63_dc4c_8601_ec8c);
        assert_ne!(type_id("guestbook"), type_id("guestbooks"));
    }
}
