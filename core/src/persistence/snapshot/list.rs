//! What lists look like: their elements, in each of the forms that Redis has given them.

use super::blob::Item;
use super::blob::listpack::{self, Builder, Listpack};
use super::blob::ziplist::Ziplist;
use super::format::kind;
use super::{Broken, Out, Reader, Result};

/// The kinds that are lists.
pub const KINDS: &[u8] = &[kind::LIST, kind::LIST_ZIPLIST, kind::LIST_QUICKLIST, kind::LIST_QUICKLIST_2];

/// A node that is one long element.
const PLAIN: u64 = 1;
/// A node that is a listpack.
const PACKED: u64 = 2;

/// Reads a list and hands over each element, from left to right, of which there is one at least.
pub fn load(of: u8, from: &mut Reader<'_>, element: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut any = false;
    let mut each = |item: Item<'_>| {
        any = true;
        item.with(&mut *element)
    };
    match of {
        kind::LIST => {
            for _ in 0..from.count()? {
                each(Item::Bytes(&from.bytes()?))?;
            }
        }
        kind::LIST_ZIPLIST => Ziplist::parse(&from.bytes()?)?.iter().try_for_each(each)?,
        kind::LIST_QUICKLIST => {
            for _ in 0..from.count()? {
                Ziplist::parse(&from.bytes()?)?.iter().try_for_each(&mut each)?;
            }
        }
        kind::LIST_QUICKLIST_2 => {
            for _ in 0..from.count()? {
                let container = from.number()?;
                let node = from.bytes()?;
                match container {
                    PACKED => Listpack::parse(&node)?.iter().try_for_each(&mut each)?,
                    PLAIN if !node.is_empty() => each(Item::Bytes(&node))?,
                    PLAIN => return Err(Broken::Malformed("Quicklist plain node is empty")),
                    _ => return Err(Broken::Malformed("Quicklist integrity check failed.")),
                }
            }
        }
        _ => return Err(Broken::Malformed("it is no list")),
    }
    if any { Ok(()) } else { Err(Broken::Empty) }
}

/// The kind that [`save`] writes.
pub const SAVED: u8 = kind::LIST_QUICKLIST_2;

/// Writes a list. `walk` shows all its elements from left to right, and is called twice.
pub fn save(walk: impl Fn(&mut dyn FnMut(&[u8])), out: &mut Out<'_>) -> Result<()> {
    let (mut nodes, mut count) = (Nodes::default(), 0);
    walk(&mut |element| count += usize::from(nodes.begins(element)));
    out.small().len(count);
    let (mut nodes, mut pack, mut written) = (Nodes::default(), Builder::default(), Ok(()));
    walk(&mut |element| {
        if nodes.begins(element) && written.is_ok() {
            written = save_pack(&mut pack, out);
        }
        if is_plain(element) && written.is_ok() {
            out.small().number(PLAIN);
            written = out.bytes(element);
        } else if written.is_ok() {
            pack.push(element);
        }
    });
    written?;
    save_pack(&mut pack, out)
}

/// Where nodes begin.
#[derive(Default)]
struct Nodes {
    /// Bytes of the items of the last one, if another may follow.
    size: Option<usize>,
}

impl Nodes {
    /// Whether the next element begins a node.
    fn begins(&mut self, element: &[u8]) -> bool {
        /// As Redis has them unless it is told otherwise. An element that is longer has a listpack of its own.
        const NODE_LEN_MAX: usize = 8 * 1024;
        /// What an item needs beside its text, at most.
        const ITEM_OVERHEAD: usize = 10;
        let has_room =
            |size: &usize| listpack::FRAME_LEN + size + element.len() + ITEM_OVERHEAD <= NODE_LEN_MAX;
        let before = self.size.filter(|size| !is_plain(element) && has_room(size));
        self.size = (!is_plain(element)).then(|| before.unwrap_or(0) + listpack::item_len(element));
        before.is_none()
    }
}

/// A listpack could not hold it.
fn is_plain(element: &[u8]) -> bool {
    const PACKED_LEN_MAX: usize = 1 << 30;
    element.len() >= PACKED_LEN_MAX
}

/// Writes the listpack of a node, if it has elements, and begins another.
fn save_pack(pack: &mut Builder, out: &mut Out<'_>) -> Result<()> {
    if pack.is_empty() {
        return Ok(());
    }
    out.small().number(PACKED);
    out.bytes(&std::mem::take(pack).finish())
}

#[cfg(test)]
mod tests {
    use super::super::Writer;
    use super::super::blob::ziplist;
    use super::*;

    fn elements(of: u8, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut elements = Vec::new();
        load(of, &mut Reader::new(bytes), &mut |element| {
            elements.push(element.to_vec());
            Ok(())
        })?;
        Ok(elements)
    }

    #[test]
    fn what_is_saved_is_loaded() {
        for list in [
            vec![b"a".to_vec()],
            (0..5000).map(|n: i32| n.to_string().into_bytes()).collect(),
            vec![vec![b'x'; 9000], b"y".to_vec(), vec![], vec![b'z'; 20_000], b"12".to_vec()],
        ] {
            let mut out = Writer::new(true);
            save(|element| list.iter().for_each(|each| element(each)), &mut Out::whole(&mut out)).unwrap();
            assert_eq!(elements(SAVED, out.as_bytes()).unwrap(), list);
        }
    }

    #[test]
    fn every_form_is_read() {
        let zip = ziplist::tests::built(&[b"\x01a", b"\xf3"]);
        let mut quick = Writer::new(false);
        quick.len(2);
        quick.bytes(&zip);
        quick.bytes(&zip);
        let mut alone = Writer::new(false);
        alone.bytes(&zip);
        assert_eq!(elements(kind::LIST, b"\x02\x01a\xc0\x02").unwrap(), [b"a", b"2"]);
        assert_eq!(elements(kind::LIST_ZIPLIST, alone.as_bytes()).unwrap(), [b"a", b"2"]);
        assert_eq!(elements(kind::LIST_QUICKLIST, quick.as_bytes()).unwrap(), [b"a", b"2", b"a", b"2"]);
        assert_eq!(elements(kind::LIST_QUICKLIST_2, b"\x01\x01\x03abc").unwrap(), [b"abc"]);
    }

    #[test]
    fn what_is_empty_or_unknown_is_refused() {
        let empty = ziplist::tests::built(&[]);
        let mut quick = Writer::new(false);
        quick.len(1);
        quick.bytes(&empty);
        assert!(matches!(elements(kind::LIST_QUICKLIST, quick.as_bytes()), Err(Broken::Empty)));
        assert!(matches!(elements(kind::LIST, b"\0"), Err(Broken::Empty)));
        for broken in [&b"\x01\x03\x01a"[..], b"\x01\x01\0", b"\xbf", b"\x80\xff\xff\xff\xff\x01\x01a"] {
            assert!(elements(kind::LIST_QUICKLIST_2, broken).is_err(), "{broken:?}");
        }
    }
}
