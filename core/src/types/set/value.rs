//! What a set is, and what may be done to it: sorted integers in its entry while it has few members and all are integers,
//! members packed in its entry while it is small, a [`Table`] when it is large.
//!
//! To Redis only the first is a form of its own (`intset`); once a set has been another, it never is one again.

use std::hash::{Hash, Hasher};

use mortise_sdk::args::parse_integer;
use mortise_sdk::resp::{IntegerText, format_integer};

use super::ints::{self, Insertion, Ints};
use crate::engine::edit::{Edit, Limits};
use crate::engine::event::{self, EventClass};
use crate::keyspace::entry::{Entry, Kind, NewValue, Payload};
use crate::resp::output::Output;
use crate::types::packed::{self, Items};
use crate::types::table::{self, Table};
use crate::types::{Object, Type};

/// The type of sets.
pub struct Set;

/// A set as it is read.
#[derive(Clone, Copy)]
pub enum SetRef<'a> {
    /// Integers in ascending order.
    Ints(Ints<'a>),
    /// Members in the order in which they came.
    Packed(&'a [u8]),
    /// A table without values.
    Table(&'a Table),
}

/// A member as its set keeps it. Two are equal if they are the same text.
#[derive(Clone, Copy, Debug)]
pub enum Member<'a> {
    /// An integer in canonical form.
    Integer(i64),
    /// Any text, which may spell an integer as well.
    Text(&'a [u8]),
}

/// The text of a member.
pub enum Text<'a> {
    /// An integer's digits.
    Digits(IntegerText),
    /// Bytes of the set.
    Bytes(&'a [u8]),
}

impl std::ops::Deref for Text<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Text::Digits(digits) => digits.as_bytes(),
            Text::Bytes(bytes) => bytes,
        }
    }
}

impl<'a> Member<'a> {
    /// Its text.
    #[inline]
    pub fn text(self) -> Text<'a> {
        match self {
            Member::Integer(n) => Text::Digits(format_integer(n)),
            Member::Text(bytes) => Text::Bytes(bytes),
        }
    }

    /// The integer that it spells in canonical form.
    #[inline]
    pub fn integer(self) -> Option<i64> {
        match self {
            Member::Integer(n) => Some(n),
            Member::Text(bytes) => parse_integer(bytes),
        }
    }

    /// Writes it as a bulk string.
    #[inline]
    pub fn write(self, out: &mut Output) {
        match self {
            Member::Integer(n) => out.bulk_integer(n),
            Member::Text(bytes) => out.bulk(bytes),
        }
    }
}

impl PartialEq for Member<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Member::Text(one), Member::Text(other)) => one == other,
            _ => self.integer().is_some() && self.integer() == other.integer(),
        }
    }
}

impl Eq for Member<'_> {}

impl Hash for Member<'_> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        match (self.integer(), self) {
            (None, Member::Text(bytes)) => bytes.hash(hasher),
            (n, _) => n.hash(hasher),
        }
    }
}

impl Type for Set {
    type View<'a> = SetRef<'a>;
    const CLASS: EventClass = event::SET;

    #[inline]
    fn view(entry: &Entry) -> Option<SetRef<'_>> {
        match (entry.kind(), entry.payload()) {
            (Kind::PackedInts, Payload::Bytes(bytes)) => Some(SetRef::ints(bytes)),
            (Kind::PackedSet, Payload::Bytes(bytes)) => Some(SetRef::Packed(bytes)),
            (_, Payload::Object(Object::Set(table))) => Some(SetRef::Table(table)),
            _ => None,
        }
    }

    fn empty() -> NewValue<'static> {
        NewValue::Bytes(Kind::PackedInts, b"")
    }

    fn is_gone(view: SetRef<'_>) -> bool {
        view.is_empty()
    }
}

/// The members of a set. See [`SetRef::iter`].
pub enum Members<'a> {
    /// Of integers, from a rank on.
    Ints(Ints<'a>, usize),
    /// Packed ones.
    Packed(Items<'a>),
    /// Those of a table.
    Table(table::Iter<'a>),
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    #[inline]
    fn next(&mut self) -> Option<Member<'a>> {
        match self {
            Members::Ints(ints, rank) => {
                (*rank < ints.len()).then(|| Member::Integer(ints.at(std::mem::replace(rank, *rank + 1))))
            }
            Members::Packed(items) => items.next().map(Member::Text),
            Members::Table(iter) => iter.next().map(|(member, _)| Member::Text(member)),
        }
    }
}

impl<'a> SetRef<'a> {
    /// Packed integers.
    pub fn ints(bytes: &'a [u8]) -> SetRef<'a> {
        SetRef::Ints(Ints::new(bytes))
    }

    /// Number of members.
    pub fn len(self) -> usize {
        match self {
            SetRef::Ints(ints) => ints.len(),
            SetRef::Packed(bytes) => Items::new(bytes).count(),
            SetRef::Table(table) => table.len(),
        }
    }

    /// Whether it has no member.
    pub fn is_empty(self) -> bool {
        match self {
            SetRef::Ints(ints) => ints.is_empty(),
            SetRef::Packed(bytes) => bytes.is_empty(),
            SetRef::Table(table) => table.is_empty(),
        }
    }

    /// Whether a text is a member.
    pub fn contains(self, member: &[u8]) -> bool {
        self.has(Member::Text(member))
    }

    /// Whether it has a member of another set.
    pub fn has(self, member: Member<'_>) -> bool {
        match self {
            SetRef::Ints(ints) => member.integer().is_some_and(|n| ints.find(n).is_ok()),
            SetRef::Packed(bytes) => {
                let text = member.text();
                Items::new(bytes).any(|item| item == &*text)
            }
            SetRef::Table(table) => table.contains(&member.text()),
        }
    }

    /// Every member.
    pub fn iter(self) -> Members<'a> {
        match self {
            SetRef::Ints(ints) => Members::Ints(ints, 0),
            SetRef::Packed(bytes) => Members::Packed(Items::new(bytes)),
            SetRef::Table(table) => Members::Table(table.iter()),
        }
    }

    /// Visits members from a cursor on, as SSCAN does; returns the next cursor, 0 at the end. What stands in the entry is
    /// visited as a whole.
    pub fn scan(self, cursor: u64, count: usize, visit: &mut dyn FnMut(Member<'_>)) -> u64 {
        match self {
            SetRef::Ints(_) | SetRef::Packed(_) => {
                self.iter().for_each(visit);
                0
            }
            SetRef::Table(table) => table.scan(cursor, count, &mut |member, _| visit(Member::Text(member))),
        }
    }

    /// A member chosen uniformly by random numbers.
    pub fn random(self, next: &mut dyn FnMut() -> u64) -> Option<Member<'a>> {
        let mut rank = |len: usize| (len > 0).then(|| (next() % len as u64) as usize);
        match self {
            SetRef::Ints(ints) => rank(ints.len()).map(|rank| Member::Integer(ints.at(rank))),
            SetRef::Packed(bytes) => self.iter().nth(rank(Items::new(bytes).count())?),
            SetRef::Table(table) => table.random(next).map(|(member, _)| Member::Text(member)),
        }
    }
}

/// A set that is not yet a key's value.
pub struct Built {
    /// How many members it has.
    pub len: usize,
    form: Form,
}

enum Form {
    Inline(Kind, Vec<u8>),
    Boxed(Box<Object>),
}

impl Built {
    /// A set of members of which none comes twice, in the form that the limits allow.
    pub fn new(limits: Limits, members: &[Member<'_>]) -> Built {
        let integers = || members.iter().map(|member| member.integer());
        let few = members.len() <= limits.set_ints && integers().all(|n| n.is_some());
        if few && members.len() * size_of::<i64>() < packed::SIZE_MAX {
            let mut sorted: Vec<i64> = integers().flatten().collect();
            sorted.sort_unstable();
            return Built::inline(members.len(), Kind::PackedInts, ints::pack(&sorted));
        }
        if !few && members.len() <= limits.set_entries {
            let mut bytes = Vec::new();
            let fits = members.iter().all(|member| {
                let text = member.text();
                packed::push(&mut bytes, &text);
                text.len() <= limits.set_value_len && bytes.len() < packed::SIZE_MAX
            });
            if fits {
                return Built::inline(members.len(), Kind::PackedSet, bytes);
            }
        }
        let mut table = Table::new();
        table.keep_small(few);
        members.iter().for_each(|member| {
            table.set(&member.text(), b"");
        });
        Built { len: members.len(), form: Form::Boxed(Box::new(Object::Set(table))) }
    }

    fn inline(len: usize, kind: Kind, bytes: Vec<u8>) -> Built {
        Built { len, form: Form::Inline(kind, bytes) }
    }

    /// Gives it away as a value.
    pub fn give<T>(self, to: impl FnOnce(NewValue<'_>) -> T) -> T {
        match self.form {
            Form::Inline(kind, bytes) => to(NewValue::Bytes(kind, &bytes)),
            Form::Boxed(object) => to(NewValue::Object(object)),
        }
    }
}

impl Edit<'_, Set> {
    /// Adds a member; false if it is one.
    #[inline]
    pub fn add(&mut self, member: &[u8]) -> bool {
        match self.view() {
            SetRef::Table(table) => {
                let hash = Table::hash(member);
                if table.get_hashed(hash, member).is_some() {
                    return false;
                }
                let limits = self.limits();
                let Some(table) = self.table() else { return false };
                table.set_hashed(hash, member, b"");
                if table.is_kept_small() && (table.len() > limits.set_ints || parse_integer(member).is_none())
                {
                    table.keep_small(false);
                }
                true
            }
            SetRef::Ints(ints) => self.add_to_ints(ints.len(), member),
            SetRef::Packed(bytes) => self.add_packed(bytes.len(), member),
        }
    }

    fn add_to_ints(&mut self, len: usize, member: &[u8]) -> bool {
        let SetRef::Ints(ints) = self.view() else { return false };
        let Some(n) = parse_integer(member) else {
            self.rebuild(member);
            return true;
        };
        let Err(rank) = ints.find(n) else { return false };
        let has_room = ints.size() + size_of::<i64>() < packed::SIZE_MAX;
        if len >= self.limits().set_ints || !has_room {
            self.rebuild(member);
            return true;
        }
        match ints.insertion(rank, n) {
            Insertion::Splice { at, bytes, len } => self.open().splice(at, 0, &bytes[..len]),
            Insertion::Replace(bytes) => self.set_value(NewValue::Bytes(Kind::PackedInts, &bytes)),
        }
        true
    }

    fn add_packed(&mut self, size: usize, member: &[u8]) -> bool {
        let SetRef::Packed(bytes) = self.view() else { return false };
        let mut len = 0;
        for item in Items::new(bytes) {
            if item == member {
                return false;
            }
            len += 1;
        }
        let limits = self.limits();
        let fits = len < limits.set_entries && member.len() <= limits.set_value_len;
        if fits && size + member.len() < packed::SIZE_MAX {
            packed::with_items(&[member], |item| self.open().splice(size, 0, item));
        } else {
            self.rebuild(member);
        }
        true
    }

    /// Gives the set the form that it needs with one more member, which is not in it.
    #[cold]
    fn rebuild(&mut self, member: &[u8]) {
        let limits = self.limits();
        // Once they are no integers, or too many, they stay in the other form.
        let were_ints = matches!(self.view(), SetRef::Ints(_));
        let limits = Limits { set_ints: if were_ints { limits.set_ints } else { 0 }, ..limits };
        let members: Vec<Member<'_>> = self.view().iter().chain([Member::Text(member)]).collect();
        Built::new(limits, &members).give(|value| self.set_value(value));
    }

    /// Removes a member; false if it is none.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self.view() {
            SetRef::Ints(ints) => {
                let Some(Ok(rank)) = parse_integer(member).map(|n| ints.find(n)) else { return false };
                let (at, len) = ints.place(rank);
                self.open().splice(at, len, b"");
                true
            }
            SetRef::Packed(bytes) => {
                let mut items = Items::new(bytes);
                loop {
                    let start = items.position();
                    match items.next() {
                        None => return false,
                        Some(item) if item == member => {
                            let len = items.position() - start;
                            self.open().splice(start, len, b"");
                            return true;
                        }
                        Some(_) => {}
                    }
                }
            }
            SetRef::Table(table) => {
                let hash = Table::hash(member);
                if table.get_hashed(hash, member).is_none() {
                    return false;
                }
                self.part_with(member.len());
                self.table().is_some_and(|table| table.remove_hashed(hash, member))
            }
        }
    }

    /// Removes all members.
    pub fn clear(&mut self) {
        self.set_value(Set::empty());
    }

    /// What is left if only these members stay, all of which are in the set: in the form that the set has.
    pub fn rest(&self, members: &[Member<'_>]) -> Built {
        let limits = self.limits();
        let are_ints = match self.view() {
            SetRef::Ints(_) => true,
            SetRef::Packed(_) => false,
            SetRef::Table(table) => table.is_kept_small(),
        };
        Built::new(Limits { set_ints: if are_ints { usize::MAX } else { 0 }, ..limits }, members)
    }

    /// Puts another set in its place.
    pub fn replace(&mut self, built: Built) {
        built.give(|value| self.set_value(value));
    }

    fn table(&mut self) -> Option<&mut Table> {
        match self.open().object_mut() {
            Some(Object::Set(table)) => Some(table),
            _ => None,
        }
    }
}
