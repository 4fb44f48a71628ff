//! A node of a stream: a listpack with entries that come one soon after another, and mostly have the same fields.
//!
//! ```text
//! entries · deleted ones · fields · field… · 0
//! flags · ms beyond the node's · seq beyond the node's · value…                       · how many items that are
//! flags · ms beyond the node's · seq beyond the node's · fields · (field · value)…    · how many items that are
//! ```

use super::super::blob::Item;
use super::super::blob::listpack::{Builder, Items, Listpack};
use super::super::{Broken, Result};
use super::{Id, Taker};

/// The entry is deleted.
const DELETED: i64 = 1;
/// The entry has the fields that stand at the beginning of the node.
const SAME_FIELDS: i64 = 2;

const BROKEN: Broken = Broken::Malformed("listpack integrity check failed");

/// The fields of an entry with their values.
#[derive(Clone)]
pub struct Fields<'a> {
    /// Where the names come from, unless they stand before each value.
    names: Option<Items<'a>>,
    items: Items<'a>,
    left: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Item<'a>, Item<'a>);

    fn next(&mut self) -> Option<(Item<'a>, Item<'a>)> {
        self.left = self.left.checked_sub(1)?;
        let name = self.names.as_mut().unwrap_or(&mut self.items).next()?;
        Some((name, self.items.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

impl Fields<'_> {
    /// Whether the names are those of the node.
    pub fn are_of_node(&self) -> bool {
        self.names.is_some()
    }
}

/// Names of fields.
pub type Names<'a> = std::iter::Take<Items<'a>>;

/// A walk over the items of a node that knows how many are left.
struct Walk<'a> {
    items: Items<'a>,
    left: usize,
}

impl<'a> Walk<'a> {
    fn integer(&mut self) -> Result<i64> {
        self.left = self.left.checked_sub(1).ok_or(BROKEN)?;
        self.items.next().and_then(Item::integer).ok_or(BROKEN)
    }

    fn natural(&mut self) -> Result<usize> {
        usize::try_from(self.integer()?).map_err(|_| BROKEN)
    }

    /// Passes so many items, and returns the walk over them.
    fn pass(&mut self, count: usize) -> Result<Items<'a>> {
        self.left = self.left.checked_sub(count).ok_or(BROKEN)?;
        let passed = self.items.clone();
        if count > 0 {
            self.items.nth(count - 1).ok_or(BROKEN)?;
        }
        Ok(passed)
    }
}

/// Hands over the entries of a node that are not deleted; returns how many those are. Their ids are above `last`, which
/// becomes the last of them.
pub(super) fn load(base: Id, bytes: &[u8], last: &mut Option<Id>, to: &mut dyn Taker) -> Result<u64> {
    let pack = Listpack::parse(bytes).map_err(|_| BROKEN)?;
    if pack.is_empty() {
        return Err(Broken::Malformed("Empty listpack inside stream"));
    }
    let mut walk = Walk { items: pack.iter(), left: pack.len() };
    let (entries, deleted, fields) = (walk.natural()?, walk.natural()?, walk.natural()?);
    let names = walk.pass(fields)?;
    if walk.integer()? != 0 {
        return Err(BROKEN);
    }
    to.node(names.clone().take(fields))?;
    let (mut entries_left, mut deleted_left) = (entries, deleted);
    while walk.left > 0 {
        let before = walk.left;
        let flags = walk.integer()?;
        let (ms, seq) = (walk.integer()? as u64, walk.integer()? as u64);
        let id = Id { ms: base.ms.checked_add(ms).ok_or(BROKEN)?, seq: base.seq.wrapping_add(seq) };
        let fields = match flags & SAME_FIELDS != 0 {
            true => Fields { names: Some(names.clone()), items: walk.pass(fields)?, left: fields },
            false => {
                let own = walk.natural()?;
                let items = walk.pass(own.checked_mul(2).ok_or(BROKEN)?)?;
                Fields { names: None, items, left: own }
            }
        };
        let passed = before - walk.left;
        if walk.natural()? != passed {
            return Err(BROKEN);
        }
        if flags & DELETED != 0 {
            // Its id may be above those that came when the stream's last id had been set back.
            deleted_left = deleted_left.checked_sub(1).ok_or(BROKEN)?;
        } else {
            if last.is_some_and(|last| last >= id) {
                return Err(BROKEN);
            }
            *last = Some(id);
            entries_left = entries_left.checked_sub(1).ok_or(BROKEN)?;
            to.entry(id, fields)?;
        }
    }
    if (entries_left, deleted_left) != (0, 0) {
        return Err(BROKEN);
    }
    Ok(entries as u64)
}

/// Makes a node of entries.
pub struct NodeBuilder {
    base: Id,
    names: Vec<Box<[u8]>>,
    entries: Builder,
    len: usize,
}

impl NodeBuilder {
    /// A node whose first entry has this id and these fields.
    pub fn new<'a>(base: Id, names: impl Iterator<Item = &'a [u8]>) -> NodeBuilder {
        NodeBuilder { base, names: names.map(Box::from).collect(), entries: Builder::default(), len: 0 }
    }

    /// Number of entries so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none so far.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// About how many bytes it takes so far.
    pub fn size(&self) -> usize {
        self.entries.size()
    }

    /// Appends an entry; ids ascend.
    pub fn push<'a>(&mut self, id: Id, fields: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone) {
        let is_same = fields.clone().map(|(name, _)| name).eq(self.names.iter().map(|name| &**name));
        let before = self.entries.len();
        self.entries.push_integer(if is_same { SAME_FIELDS } else { 0 });
        self.entries.push_integer(id.ms.wrapping_sub(self.base.ms) as i64);
        self.entries.push_integer(id.seq.wrapping_sub(self.base.seq) as i64);
        if !is_same {
            self.entries.push_integer(fields.len() as i64);
        }
        for (name, value) in fields {
            if !is_same {
                self.entries.push(name);
            }
            self.entries.push(value);
        }
        self.entries.push_integer((self.entries.len() - before) as i64);
        self.len += 1;
    }

    /// Appends an entry that is known to have the node's fields, which nobody looks at; ids ascend.
    pub fn push_same<'a>(&mut self, id: Id, values: impl Iterator<Item = &'a [u8]>) {
        let before = self.entries.len();
        self.entries.push_integer(SAME_FIELDS);
        self.entries.push_integer(id.ms.wrapping_sub(self.base.ms) as i64);
        self.entries.push_integer(id.seq.wrapping_sub(self.base.seq) as i64);
        values.for_each(|value| self.entries.push(value));
        self.entries.push_integer((self.entries.len() - before) as i64);
        self.len += 1;
    }

    /// The listpack.
    pub fn finish(self) -> Vec<u8> {
        let mut pack = Builder::default();
        [self.len, 0, self.names.len()].iter().for_each(|n| pack.push_integer(*n as i64));
        self.names.iter().for_each(|name| pack.push(name));
        pack.push_integer(0);
        pack.append(self.entries);
        pack.finish()
    }
}
