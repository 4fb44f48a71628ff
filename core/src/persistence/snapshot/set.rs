//! What sets look like: their members, in each of the forms that Redis has given them.

use std::ops::Deref;

use super::blob::Item;
use super::blob::intset::{self, Intset};
use super::blob::listpack::Listpack;
use super::format::kind;
use super::{Broken, Out, Reader, Result, Writer};

/// The kinds that are sets.
pub const KINDS: &[u8] = &[kind::SET, kind::SET_INTSET, kind::SET_LISTPACK];

/// What is said of a member that comes twice.
pub const DUPLICATE: Broken = Broken::Malformed("Duplicate set members detected");

/// Reads a set and hands over each member, of which there is one at least. Whoever takes them answers [`DUPLICATE`] to
/// one that has come before.
pub fn load(of: u8, from: &mut Reader<'_>, member: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
    match of {
        kind::SET => {
            for _ in 0..from.count()? {
                member(Item::Bytes(&from.bytes()?))?;
            }
        }
        kind::SET_INTSET => {
            let bytes = from.bytes()?;
            let set = Intset::parse(&bytes)?;
            if set.is_empty() {
                return Err(Broken::Empty);
            }
            set.iter().map(Item::Integer).try_for_each(member)?;
        }
        kind::SET_LISTPACK => {
            let bytes = from.bytes()?;
            let pack = Listpack::parse(&bytes)?;
            if pack.is_empty() {
                return Err(Broken::Empty);
            }
            pack.iter().try_for_each(member)?;
        }
        _ => return Err(Broken::Malformed("it is no set")),
    }
    Ok(())
}

/// Writes a set of integers, which come in ascending order, as [`kind::SET_INTSET`].
pub fn save_integers(integers: impl ExactSizeIterator<Item = i64> + Clone, out: &mut Writer) {
    out.bytes(&intset::build(integers));
}

/// Writes a set of `len` members as [`kind::SET`].
pub fn save_members<T: Deref<Target = [u8]>>(
    len: usize,
    mut members: impl Iterator<Item = T>,
    out: &mut Out<'_>,
) -> Result<()> {
    out.small().len(len);
    members.try_for_each(|member| out.bytes(&member))
}

#[cfg(test)]
mod tests {
    use super::super::blob::listpack::Builder;
    use super::*;

    fn members(of: u8, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut members = Vec::new();
        load(of, &mut Reader::new(bytes), &mut |member| {
            members.push(member.to_vec());
            Ok(())
        })?;
        Ok(members)
    }

    #[test]
    fn every_form_is_read() {
        let mut out = Writer::new(false);
        save_members(2, [&b"a"[..], b"-7"].into_iter(), &mut Out::whole(&mut out)).unwrap();
        assert_eq!(members(kind::SET, out.as_bytes()).unwrap(), [&b"a"[..], b"-7"]);
        let mut out = Writer::new(false);
        save_integers([-7, 1 << 40].into_iter(), &mut out);
        assert_eq!(members(kind::SET_INTSET, out.as_bytes()).unwrap(), [&b"-7"[..], b"1099511627776"]);
        let (mut out, mut pack) = (Writer::new(false), Builder::default());
        pack.push(b"x");
        out.bytes(&pack.finish());
        assert_eq!(members(kind::SET_LISTPACK, out.as_bytes()).unwrap(), [b"x"]);
    }

    #[test]
    fn what_is_empty_is_refused() {
        let mut empty = Writer::new(false);
        save_integers([].into_iter(), &mut empty);
        assert!(matches!(members(kind::SET_INTSET, empty.as_bytes()), Err(Broken::Empty)));
        assert!(matches!(members(kind::SET, b"\0"), Err(Broken::Empty)));
    }
}
