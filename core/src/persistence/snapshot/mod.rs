//! Values and whole data sets as bytes, in the format that Redis calls RDB: what DUMP shows, RESTORE takes, and files hold.
//!
//! Everything here is pure: bytes in, bytes or values out. It opens no file and knows no command and no clock. What a value
//! of a type looks like stands beside the type, in `types/*/rdb.rs`; this folder owns what these have in common.
//!
//! | file | owns |
//! |---|---|
//! | `format.rs` | the numbers: kinds of values, marks between them, versions |
//! | `reader.rs` `writer.rs` | lengths, strings, numbers, in and out |
//! | `lzf.rs` `crc64.rs` | compression and checksum |
//! | `blob/` | strings that hold a whole small collection: listpack, ziplist, intset, zipmap |
//! | `list.rs` `set.rs` `stream.rs` | what lists, sets and streams look like: their items, one after another |
//! | `value.rs` | any value: which kind it is, and who reads and writes it |
//! | `payload.rs` | a value with version and checksum, as DUMP shows it |
//! | `file.rs` | a whole data set, as a file holds it |
//!
//! **What is read is not trusted.** A length is compared with the bytes there are before anything is reserved for it;
//! every blob is checked from end to end before its first item is used; items that must differ are found to differ. So
//! memory is bounded by a small multiple of what was sent, but for compression, which no format can do without: 88 times
//! is what it can make of its input at most.

pub mod blob;
pub mod crc64;
pub mod file;
pub mod format;
pub mod list;
pub mod lzf;
pub mod payload;
mod reader;
pub mod set;
pub mod stream;
pub mod value;
mod writer;

use std::fmt;
use std::io;

pub use reader::{Reader, Text};
pub use writer::{Out, Writer};

/// Why something could not be read.
#[derive(Debug)]
pub enum Broken {
    /// It ends before what it promises.
    CutShort,
    /// It is of a version that is not known: the digits that say so.
    Version(String),
    /// Its checksum says that it has been damaged.
    Checksum {
        /// What it says.
        expected: u64,
        /// What it comes to.
        got: u64,
    },
    /// It is not what it says it is.
    Malformed(&'static str),
    /// A value of this type is not what it says it is.
    Value(&'static str, &'static str),
    /// It is a collection without anything in it, which no server keeps.
    Empty,
    /// It is a value of a module's type, and no module with it is loaded; or the module says why it cannot be read.
    Module(String),
    /// The medium failed.
    Io(io::Error),
}

/// What is said of a hash or a sorted set in which a name comes twice.
pub const DUPLICATE: Broken =
    Broken::Malformed("integrity check failed: it is a table, ziplist or listpack with dup elements");

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::CutShort => f.write_str("it is cut short"),
            Broken::Version(digits) => {
                let version = digits.trim_start_matches('0');
                write!(
                    f,
                    "Can't handle RDB format version {}",
                    if version.is_empty() { "0" } else { version }
                )
            }
            Broken::Checksum { expected, got } => {
                write!(f, "Wrong RDB checksum expected: ({expected:x}) but got ({got:x})")
            }
            Broken::Malformed(why) => f.write_str(why),
            Broken::Value(of, why) => write!(f, "{of} {why}"),
            Broken::Empty => f.write_str("it is an empty collection"),
            Broken::Module(why) => f.write_str(why),
            Broken::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Broken {}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Broken::CutShort,
            _ => Broken::Io(error),
        }
    }
}

/// What reading comes to.
pub type Result<T> = std::result::Result<T, Broken>;
