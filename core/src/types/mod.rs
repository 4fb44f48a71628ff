//! The values. Each type has a folder: `value.rs` (structure, encodings, what may be done to it) and `commands*.rs` (rows
//! and functions).
//!
//! No `&mut` to a value leaves this folder: each change is a verb of `Edit<T>`, implemented beside the value. Small
//! collections stand packed inside the key's entry, large ones are boxed and can be shared in constant time.

mod drawing;
pub mod foreign;
pub mod frozen;
pub mod hash;
pub mod list;
pub mod ordered;
pub mod packed;
mod popping;
pub mod ranked;
pub mod scan_options;
pub mod set;
pub mod stream;
pub mod string;
pub mod table;
pub mod zset;

use crate::engine::event::EventClass;
use crate::keyspace::entry::{Entry, Kind, NewValue, Payload};
use foreign::Foreign;
use hash::expiring::ExpiringHash;
use hash::value::HashRef;
use list::Sequence;
use list::value::ListRef;
use set::value::SetRef;
use stream::value::Stream;
use string::long::LongText;
use string::value::StrRef;
use table::Table;
use zset::value::{ZsetRef, ZsetTable};

/// A value that is too large or too unlike bytes to stand inside its entry.
pub enum Object {
    /// A string in chunks.
    LongText(LongText),
    /// A hash.
    Hash(Table),
    /// A set: a table without values.
    Set(Table),
    /// A hash with fields that have deadlines.
    ExpiringHash(Box<ExpiringHash>),
    /// A sorted set.
    Zset(ZsetTable),
    /// A list.
    List(Sequence),
    /// A stream.
    Stream(Box<Stream>),
    /// A value of a module's type.
    Foreign(Foreign),
}

impl Object {
    /// Type and encoding.
    pub fn kind(&self) -> Kind {
        match self {
            Object::LongText(_) => Kind::LongText,
            Object::Hash(_) => Kind::Hash,
            Object::Set(_) => Kind::Set,
            Object::ExpiringHash(_) => Kind::ExpiringHash,
            Object::Zset(_) => Kind::Zset,
            Object::List(_) => Kind::List,
            Object::Stream(_) => Kind::Stream,
            Object::Foreign(_) => Kind::Foreign,
        }
    }

    /// A copy that shares what is large; `None` if a module's type cannot be copied.
    pub fn share(&self) -> Option<Object> {
        Some(match self {
            Object::LongText(text) => Object::LongText(text.clone()),
            Object::Hash(table) => Object::Hash(table.clone()),
            Object::Set(table) => Object::Set(table.clone()),
            Object::ExpiringHash(hash) => Object::ExpiringHash(hash.clone()),
            Object::Zset(zset) => Object::Zset(zset.clone()),
            Object::List(list) => Object::List(list.clone()),
            Object::Stream(stream) => Object::Stream(stream.clone()),
            Object::Foreign(foreign) => Object::Foreign(foreign.share()?),
        })
    }

    /// The table in which its fields or members are looked up.
    #[inline]
    pub fn table(&self) -> Option<&Table> {
        match self {
            Object::Hash(table) | Object::Set(table) => Some(table),
            Object::ExpiringHash(hash) => Some(hash.table()),
            Object::Zset(zset) => Some(zset.scores()),
            Object::LongText(_) | Object::List(_) | Object::Stream(_) | Object::Foreign(_) => None,
        }
    }

    /// Bytes on the heap, about.
    pub fn memory(&self) -> usize {
        size_of::<Object>()
            + match self {
                Object::LongText(text) => text.memory(),
                Object::Hash(table) | Object::Set(table) => table.memory(),
                Object::ExpiringHash(hash) => hash.memory(),
                Object::Zset(zset) => zset.memory(),
                Object::List(list) => list.memory(),
                Object::Stream(stream) => stream.memory(),
                Object::Foreign(foreign) => foreign.memory(),
            }
    }

    /// Objects that take more steps than this to free are freed on a worker.
    pub const FREE_EFFORT_INLINE_MAX: usize = 64;

    /// How many steps it takes to free something of some parts that takes so much memory: large parts take longer, as
    /// their pages are given back one by one.
    pub(crate) fn effort_of(parts: usize, memory: usize) -> usize {
        const BYTES_A_STEP: usize = 64 * 1024;
        parts + memory / BYTES_A_STEP
    }

    /// How many steps it takes to free it.
    pub fn free_effort(&self) -> usize {
        match self {
            Object::LongText(text) => text.chunks().count(),
            Object::Hash(table) | Object::Set(table) => Object::effort_of(table.len(), table.memory()),
            Object::ExpiringHash(hash) => {
                Object::effort_of(hash.table().len() + hash.expiring(), hash.table().memory())
            }
            Object::Zset(zset) => Object::effort_of(zset.len(), zset.memory()),
            Object::List(list) => Object::effort_of(list.free_effort(), list.memory()),
            Object::Stream(stream) => stream.free_effort(),
            Object::Foreign(foreign) => foreign.free_effort(),
        }
    }
}

/// A data type of the core: how a value of it is viewed, and what an empty one is.
pub trait Type: 'static {
    /// A value as it is read.
    type View<'a>: Copy;
    /// The class of the events that its edits name.
    const CLASS: EventClass;

    /// The value of an entry, if it is of this type.
    fn view(entry: &Entry) -> Option<Self::View<'_>>;
    /// The same at a moment: what has expired of it by then is not seen. Types whose values expire as a whole have no
    /// such parts.
    #[inline(always)]
    fn view_at(entry: &Entry, _now_ms: i64) -> Option<Self::View<'_>> {
        Self::view(entry)
    }

    /// An empty value.
    fn empty() -> NewValue<'static>;
    /// Whether nothing is left of it, so that the key goes.
    fn is_gone(view: Self::View<'_>) -> bool;
}

/// A value of any core type, as it is read.
#[derive(Clone, Copy)]
pub enum AnyRef<'a> {
    /// A string.
    Str(StrRef<'a>),
    /// A hash.
    Hash(HashRef<'a>),
    /// A set.
    Set(SetRef<'a>),
    /// A sorted set.
    Zset(ZsetRef<'a>),
    /// A list.
    List(ListRef<'a>),
    /// A stream.
    Stream(&'a Stream),
    /// A value of a module's type.
    Foreign(&'a Foreign),
}

impl<'a> AnyRef<'a> {
    /// The value of an entry, with what has expired of it and has not been removed yet.
    pub fn of(entry: &'a Entry) -> AnyRef<'a> {
        AnyRef::at(entry, hash::value::NEVER)
    }

    /// The value of an entry at a moment.
    pub fn at(entry: &'a Entry, now_ms: i64) -> AnyRef<'a> {
        match (entry.kind(), entry.payload()) {
            (Kind::PackedExpiringHash, Payload::Bytes(bytes)) => {
                AnyRef::Hash(HashRef::PackedExpiring(bytes, now_ms))
            }
            (_, Payload::Object(Object::ExpiringHash(hash))) => AnyRef::Hash(HashRef::Expiring(hash, now_ms)),
            (Kind::PackedHash, Payload::Bytes(bytes)) => AnyRef::Hash(HashRef::packed(bytes)),
            (Kind::PackedInts, Payload::Bytes(bytes)) => AnyRef::Set(SetRef::ints(bytes)),
            (Kind::PackedSet, Payload::Bytes(bytes)) => AnyRef::Set(SetRef::Packed(bytes)),
            (Kind::PackedZset, Payload::Bytes(bytes)) => AnyRef::Zset(ZsetRef::packed(bytes)),
            (Kind::PackedList, Payload::Bytes(bytes)) => AnyRef::List(ListRef::packed(bytes)),
            (_, Payload::Bytes(bytes)) => AnyRef::Str(StrRef::Bytes(bytes)),
            (_, Payload::Integer(n)) => AnyRef::Str(StrRef::Integer(n)),
            (_, Payload::Object(Object::LongText(text))) => AnyRef::Str(StrRef::Long(text)),
            (_, Payload::Object(Object::Hash(table))) => AnyRef::Hash(HashRef::Table(table)),
            (_, Payload::Object(Object::Set(table))) => AnyRef::Set(SetRef::Table(table)),
            (_, Payload::Object(Object::Zset(zset))) => AnyRef::Zset(ZsetRef::Table(zset)),
            (_, Payload::Object(Object::List(list))) => AnyRef::List(ListRef::Sequence(list)),
            (_, Payload::Object(Object::Stream(stream))) => AnyRef::Stream(stream),
            (_, Payload::Object(Object::Foreign(foreign))) => AnyRef::Foreign(foreign),
        }
    }

    /// What TYPE says.
    pub fn type_name(self) -> &'a str {
        match self {
            AnyRef::Str(_) => "string",
            AnyRef::Hash(_) => "hash",
            AnyRef::Set(_) => "set",
            AnyRef::Zset(_) => "zset",
            AnyRef::List(_) => "list",
            AnyRef::Stream(_) => "stream",
            AnyRef::Foreign(foreign) => foreign.type_name(),
        }
    }
}

/// Before which moment no part of a value expires; `None` if none has a deadline of its own.
#[inline(always)]
pub fn field_due(entry: &Entry) -> Option<i64> {
    if entry.kind().has_field_deadlines() { hash::value::due(entry) } else { None }
}

/// What OBJECT REFCOUNT says. Nothing is shared here; but small integers are shared objects in Redis, and clients may look for that.
pub fn refcount(entry: &Entry) -> i64 {
    const SHARED_INTEGERS: std::ops::Range<i64> = 0..10_000;
    match entry.payload() {
        Payload::Integer(n) if SHARED_INTEGERS.contains(&n) => i64::from(i32::MAX),
        _ => 1,
    }
}

/// What OBJECT ENCODING says.
pub fn encoding(entry: &Entry) -> &'static str {
    /// Strings up to this length are `embstr` in Redis.
    const EMBEDDED_LEN_MAX: usize = 44;
    match (entry.kind(), entry.payload()) {
        (Kind::Text, Payload::Bytes(bytes)) if bytes.len() <= EMBEDDED_LEN_MAX => "embstr",
        (Kind::Text | Kind::RawText | Kind::LongText, _) => "raw",
        (Kind::Integer, _) => "int",
        (Kind::PackedHash | Kind::PackedZset, _) => "listpack",
        (Kind::PackedInts, _) => "intset",
        (Kind::Set, Payload::Object(Object::Set(table))) if table.is_kept_small() => "intset",
        // With deadlines, a small hash is of a kind of its own in Redis, too.
        (Kind::PackedExpiringHash, _) => "listpackex",
        (Kind::ExpiringHash, Payload::Object(object)) if object.table().is_some_and(Table::is_kept_small) => {
            "listpackex"
        }
        (_, Payload::Object(object)) if object.table().is_some_and(Table::is_kept_small) => "listpack",
        (Kind::Hash | Kind::ExpiringHash | Kind::PackedSet | Kind::Set, _) => "hashtable",
        (Kind::Zset, _) => "skiplist",
        (Kind::PackedList | Kind::List, _) => "quicklist",
        (Kind::Stream, _) => "stream",
        (Kind::Foreign, _) => "raw",
    }
}
