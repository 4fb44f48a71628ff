//! The numbers of the format: kinds of values, marks between them, versions.

/// The version that is written: Redis 7.0's.
pub const VERSION: u16 = 10;
/// The latest version that is read: Redis 7.2's.
pub const VERSION_MAX: u16 = 11;

/// Kinds of values: type and encoding in one byte.
pub mod kind {
    /// A string.
    pub const STRING: u8 = 0;
    /// A list: its elements.
    pub const LIST: u8 = 1;
    /// A set: its members.
    pub const SET: u8 = 2;
    /// A sorted set: members with scores as texts.
    pub const ZSET: u8 = 3;
    /// A hash: fields with values.
    pub const HASH: u8 = 4;
    /// A sorted set: members with scores as doubles.
    pub const ZSET_2: u8 = 5;
    /// A module's value.
    pub const MODULE_2: u8 = 7;
    /// A hash as a zipmap.
    pub const HASH_ZIPMAP: u8 = 9;
    /// A list as a ziplist.
    pub const LIST_ZIPLIST: u8 = 10;
    /// A set as an intset.
    pub const SET_INTSET: u8 = 11;
    /// A sorted set as a ziplist.
    pub const ZSET_ZIPLIST: u8 = 12;
    /// A hash as a ziplist.
    pub const HASH_ZIPLIST: u8 = 13;
    /// A list as ziplists.
    pub const LIST_QUICKLIST: u8 = 14;
    /// A stream, as Redis 5 wrote it.
    pub const STREAM_LISTPACKS: u8 = 15;
    /// A hash as a listpack.
    pub const HASH_LISTPACK: u8 = 16;
    /// A sorted set as a listpack.
    pub const ZSET_LISTPACK: u8 = 17;
    /// A list as listpacks and long elements.
    pub const LIST_QUICKLIST_2: u8 = 18;
    /// A stream with what Redis 7.0 added.
    pub const STREAM_LISTPACKS_2: u8 = 19;
    /// A set as a listpack (Redis 7.2).
    pub const SET_LISTPACK: u8 = 20;
    /// A stream with what Redis 7.2 added.
    pub const STREAM_LISTPACKS_3: u8 = 21;
    /// A hash: fields with values and deadlines (Valkey 9.0).
    pub const HASH_2: u8 = 22;
}

/// Marks that stand in a file where a kind could stand.
pub mod mark {
    /// A library of functions.
    pub const FUNCTION: u8 = 245;
    /// A library of functions, as a release candidate of Redis 7.0 wrote it.
    pub const FUNCTION_PRE_GA: u8 = 246;
    /// What a module keeps beside its values.
    pub const MODULE_AUX: u8 = 247;
    /// Seconds since the next key was used.
    pub const IDLE: u8 = 248;
    /// How often the next key is used.
    pub const FREQ: u8 = 249;
    /// Something about the file: a name and a text.
    pub const AUX: u8 = 250;
    /// How many keys the database has, and how many of them expire.
    pub const RESIZE_DB: u8 = 251;
    /// When the next key expires, in milliseconds.
    pub const EXPIRE_MS: u8 = 252;
    /// When the next key expires, in seconds.
    pub const EXPIRE_S: u8 = 253;
    /// The database that follows.
    pub const SELECT_DB: u8 = 254;
    /// The end.
    pub const END: u8 = 255;
}

/// What a module's value is made of.
pub mod module {
    /// The end of the value.
    pub const END: u64 = 0;
    /// A signed integer.
    pub const SIGNED: u64 = 1;
    /// An unsigned integer.
    pub const UNSIGNED: u64 = 2;
    /// Four bytes of a floating-point number.
    pub const FLOAT: u64 = 3;
    /// Eight bytes of a floating-point number.
    pub const DOUBLE: u64 = 4;
    /// A string.
    pub const STRING: u64 = 5;
}

/// How strings are written that have no plain length.
pub mod string {
    /// An integer in a byte.
    pub const INT8: u8 = 0;
    /// An integer in two bytes.
    pub const INT16: u8 = 1;
    /// An integer in four bytes.
    pub const INT32: u8 = 2;
    /// Compressed.
    pub const LZF: u8 = 3;
}
