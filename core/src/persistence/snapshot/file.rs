//! A whole data set as a file holds it.
//!
//! ```text
//! "REDIS" version in four digits   (mark …)…   end   checksum u64 (of all before; 0: nobody has worked it out)
//! ```
//!
//! A mark begins something about the file, a database, or something about the key that comes next. Every other byte is
//! the kind of a value, and key and value follow.

use std::io::Write;

use super::format::{VERSION, VERSION_MAX, mark, module};
use super::value::{self, Around, Loaded};
use super::writer::ENOUGH;
use super::{Broken, Out, Reader, Result, Writer};
use crate::keyspace::Entry;
use crate::types::AnyRef;

const MAGIC: &[u8; 5] = b"REDIS";
const VERSION_DIGITS: usize = 4;
/// From this version on there is a checksum.
pub const CHECKED_SINCE: u16 = 5;
/// What is wrong with a file that is something else.
pub const SIGNATURE: &str = "Wrong signature trying to load DB from file";

/// How a key is used, as far as a file says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Usage {
    /// It does not.
    #[default]
    Unknown,
    /// Seconds since it was used.
    IdleSeconds(u64),
    /// The logarithmic counter of its uses.
    Frequency(u8),
}

/// Writes a file.
pub struct Saving<W> {
    to: W,
    out: Writer,
    checksum: Option<u64>,
}

impl<W: Write> Saving<W> {
    /// Begins a file. Without a checksum a damaged one is not known for it.
    pub fn begin(to: W, compress: bool, is_checked: bool) -> Result<Saving<W>> {
        let mut file = Saving { to, out: Writer::new(compress), checksum: is_checked.then_some(0) };
        file.out.raw(MAGIC);
        file.out.raw(format!("{VERSION:04}").as_bytes());
        Ok(file)
    }

    /// Says something about the file.
    pub fn about(&mut self, name: &str, text: &[u8]) -> Result<()> {
        self.out.byte(mark::AUX);
        self.out.bytes(name.as_bytes());
        self.out.bytes(text);
        self.pass_on()
    }

    /// Writes the code of a library of functions.
    pub fn function(&mut self, code: &[u8]) -> Result<()> {
        self.out.byte(mark::FUNCTION);
        self.out.bytes(code);
        self.pass_on()
    }

    /// Writes what a module keeps beside its values, as it was found.
    pub fn of_module(&mut self, kept: &[u8]) -> Result<()> {
        self.out.byte(mark::MODULE_AUX);
        self.out.raw(kept);
        self.pass_on()
    }

    /// What follows is of this database.
    pub fn select(&mut self, index: u32) {
        self.out.byte(mark::SELECT_DB);
        self.out.number(index.into());
    }

    /// Begins a database with so many keys, of which some expire.
    pub fn database(&mut self, index: u32, keys: usize, expiring: usize) -> Result<()> {
        self.select(index);
        self.out.byte(mark::RESIZE_DB);
        self.out.len(keys);
        self.out.len(expiring);
        self.pass_on()
    }

    /// Writes a key with its value.
    pub fn entry(&mut self, entry: &Entry, usage: Usage) -> Result<()> {
        let value = AnyRef::of(entry);
        if let Some(deadline) = entry.deadline() {
            self.out.byte(mark::EXPIRE_MS);
            self.out.moment(deadline);
        }
        match usage {
            Usage::Unknown => {}
            Usage::IdleSeconds(seconds) => {
                self.out.byte(mark::IDLE);
                self.out.number(seconds);
            }
            Usage::Frequency(counter) => self.out.raw(&[mark::FREQ, counter]),
        }
        self.out.byte(value::kind_of(value));
        self.out.bytes(entry.key());
        let Saving { to, out, checksum } = self;
        value::save(value, &mut Out::passing(out, &mut |out| flush(to, checksum, out)))?;
        self.pass_on()
    }

    /// Ends the file; returns what it was written to.
    pub fn finish(mut self) -> Result<W> {
        self.out.byte(mark::END);
        self.flush()?;
        let checksum = self.checksum.unwrap_or(0);
        self.to.write_all(&checksum.to_le_bytes())?;
        Ok(self.to)
    }

    /// Passes on what has been written, if it is enough to be worth it.
    fn pass_on(&mut self) -> Result<()> {
        if self.out.as_bytes().len() < ENOUGH { Ok(()) } else { self.flush() }
    }

    /// Passes on what there is, and has it sent where it goes.
    pub fn send(&mut self) -> Result<()> {
        self.flush()?;
        Ok(self.to.flush()?)
    }

    fn flush(&mut self) -> Result<()> {
        flush(&mut self.to, &mut self.checksum, &mut self.out)
    }
}

fn flush(to: &mut impl Write, checksum: &mut Option<u64>, out: &mut Writer) -> Result<()> {
    if let Some(checksum) = checksum {
        *checksum = super::crc64::crc64(*checksum, out.as_bytes());
    }
    to.write_all(out.as_bytes())?;
    out.clear();
    Ok(())
}

/// A key with its value, as it was read.
pub struct Key {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Loaded,
    /// When it expires: Unix milliseconds.
    pub deadline: Option<i64>,
    /// How it is used.
    pub usage: Usage,
}

/// What a file holds, one after another.
pub enum Item {
    /// Something about the file: a name and a text.
    About(Vec<u8>, Vec<u8>),
    /// What follows is of this database.
    Database(u32),
    /// How many keys that has, as its writer saw it. It is a hint, and nothing is to be reserved for it unseen.
    Sizes {
        /// Keys.
        keys: u64,
        /// Those that expire.
        expiring: u64,
    },
    /// A key.
    Key(Key),
    /// A key whose value is an empty collection: no server keeps one, but some have saved one.
    Empty(Vec<u8>),
    /// The code of a library of functions.
    Function(Vec<u8>),
    /// What a module of this name keeps beside its values, as it stands in the file.
    Module(String, Vec<u8>),
}

/// Reads a file.
pub struct Loading<'a> {
    from: Reader<'a>,
    version: u16,
    is_checked: bool,
    is_over: bool,
    has_checksum: bool,
}

impl<'a> Loading<'a> {
    /// Begins with the head of a file. Its checksum may be left alone.
    pub fn begin(mut from: Reader<'a>, is_checked: bool) -> Result<Loading<'a>> {
        if from.take(MAGIC.len())? != MAGIC {
            return Err(Broken::Malformed(SIGNATURE));
        }
        let digits: [u8; VERSION_DIGITS] = from.array()?;
        let version = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        if !(1..=VERSION_MAX).contains(&version) {
            return Err(Broken::Version(String::from_utf8_lossy(&digits).into_owned()));
        }
        Ok(Loading { from, version, is_checked, is_over: false, has_checksum: false })
    }

    /// The version of the format.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Whether there was a checksum to compare with, once the end has been read.
    pub fn has_checksum(&self) -> bool {
        self.has_checksum
    }

    /// How far the file has been read, in bytes.
    pub fn position(&self) -> u64 {
        self.from.position()
    }

    /// What has been read beyond the end of the file: the beginning of what follows it in its medium.
    pub fn beyond(&self) -> &[u8] {
        self.from.untaken()
    }

    /// What comes next; nothing at the end, which has been checked then.
    pub fn next(&mut self, around: Around<'_>) -> Result<Option<Item>> {
        if self.is_over {
            return Ok(None);
        }
        let (mut deadline, mut usage) = (None, Usage::Unknown);
        loop {
            let from = &mut self.from;
            return Ok(Some(match from.byte()? {
                mark::EXPIRE_S => {
                    deadline = Some(i64::from(i32::from_le_bytes(from.array()?)) * 1000);
                    continue;
                }
                mark::EXPIRE_MS => {
                    deadline = Some(from.moment()?);
                    continue;
                }
                mark::FREQ => {
                    usage = Usage::Frequency(from.byte()?);
                    continue;
                }
                mark::IDLE => {
                    usage = Usage::IdleSeconds(from.number()?);
                    continue;
                }
                mark::AUX => Item::About(from.bytes()?.into_owned(), from.bytes()?.into_owned()),
                mark::SELECT_DB => {
                    let index = u32::try_from(from.number()?);
                    Item::Database(index.map_err(|_| Broken::Malformed("a database has too high a number"))?)
                }
                mark::RESIZE_DB => Item::Sizes { keys: from.number()?, expiring: from.number()? },
                mark::FUNCTION => Item::Function(from.bytes()?.into_owned()),
                mark::FUNCTION_PRE_GA => {
                    return Err(Broken::Malformed("Pre-release function format not supported."));
                }
                mark::MODULE_AUX => self.of_module()?,
                mark::END => {
                    self.end()?;
                    return Ok(None);
                }
                of => {
                    let key = from.bytes()?.into_owned();
                    match value::load(of, from, around) {
                        Ok(value) => Item::Key(Key { key, value, deadline, usage }),
                        Err(Broken::Empty) => Item::Empty(key),
                        Err(error) => return Err(error),
                    }
                }
            }));
        }
    }

    fn of_module(&mut self) -> Result<Item> {
        let mut kept = Writer::new(false);
        let id = self.from.number()?;
        kept.number(id);
        // When it is to be loaded: before the keys or behind them.
        let (kind, when) = (self.from.number()?, self.from.number()?);
        if kind != module::UNSIGNED {
            return Err(Broken::Malformed("a module's data is not framed as it should be"));
        }
        kept.number(kind);
        kept.number(when);
        value::copy_module(&mut self.from, &mut kept)?;
        Ok(Item::Module(value::module_name(id), kept.into_bytes()))
    }

    fn end(&mut self) -> Result<()> {
        self.is_over = true;
        if self.version < CHECKED_SINCE {
            return Ok(());
        }
        let expected = self.from.checksum();
        let found = u64::from_le_bytes(self.from.array()?);
        self.has_checksum = found != 0;
        if self.is_checked && found != 0 && found != expected {
            return Err(Broken::Checksum { expected, got: found });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::edit::Limits;
    use crate::engine::random::Random;
    use crate::engine::testing::Bench;
    use crate::keyspace::{NewValue, SpaceId};
    use crate::persistence::snapshot::value::NoTypes;

    const AROUND: fn() -> Around<'static> =
        || Around { limits: Limits::default(), types: &NoTypes, frozen: None };

    fn saved(is_checked: bool) -> Vec<u8> {
        let mut file = Saving::begin(Vec::new(), true, is_checked).unwrap();
        file.about("redis-ver", b"7.0.15").unwrap();
        file.database(3, 2, 1).unwrap();
        let mut entry = Entry::new(b"k", NewValue::Integer(5));
        entry.set_deadline(Some(1_700_000_000_000));
        file.entry(&entry, Usage::Frequency(9)).unwrap();
        let text = vec![b'x'; 60_000];
        let entry = Entry::new(b"long", NewValue::Bytes(crate::keyspace::Kind::Text, &text));
        for _ in 0..3 {
            file.entry(&entry, Usage::IdleSeconds(70)).unwrap();
        }
        file.finish().unwrap()
    }

    /// What a file says, in short.
    fn read(from: Reader<'_>) -> Result<Vec<String>> {
        let (mut file, mut items) = (Loading::begin(from, true)?, Vec::new());
        while let Some(item) = file.next(AROUND())? {
            items.push(match item {
                Item::About(name, text) => format!("{}={}", name.escape_ascii(), text.escape_ascii()),
                Item::Database(index) => format!("db{index}"),
                Item::Sizes { keys, expiring } => format!("{keys}/{expiring}"),
                Item::Key(Key { key, deadline, usage, .. }) => {
                    format!("{} {deadline:?} {usage:?}", key.escape_ascii())
                }
                Item::Empty(key) => format!("empty {}", key.escape_ascii()),
                Item::Function(code) => format!("function {}", code.escape_ascii()),
                Item::Module(name, kept) => format!("module {name} {}", kept.len()),
            });
        }
        Ok(items)
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let long = "long None IdleSeconds(70)";
        let expected =
            ["redis-ver=7.0.15", "db3", "2/1", "k Some(1700000000000) Frequency(9)", long, long, long];
        for is_checked in [true, false] {
            let bytes = saved(is_checked);
            assert_eq!(read(Reader::new(&bytes)).unwrap(), expected);
            assert_eq!(read(Reader::from_medium(&mut &bytes[..])).unwrap(), expected);
        }
    }

    #[test]
    fn a_changed_or_cut_file_is_found_out() {
        let bytes = saved(true);
        for at in (0..bytes.len()).step_by(17).chain(bytes.len() - 30..bytes.len()) {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(read(Reader::new(&changed)).is_err(), "{at}");
            assert!(read(Reader::new(&bytes[..at])).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn old_and_foreign_parts() {
        let file = b"REDIS0003\xfd\x10\0\0\0\x00\x01k\x01v\x04\x01e\0\xff";
        assert_eq!(read(Reader::new(file)).unwrap(), ["k Some(16000) Unknown", "empty e"]);
        let file = b"REDIS0010\xf5\x04code\xf7\x81\x41\x04\x10\x41\x04\x10\x41\x00\x02\x01\x05\x02hi\x00\xff\0\0\0\0\0\0\0\0";
        let items = read(Reader::new(file)).unwrap();
        assert_eq!((items.len(), &*items[0]), (2, "function code"));
        assert!(items[1].starts_with("module Q"), "{}", items[1]);
        for refused in
            [&b"REDIS0012\xff"[..], b"REDIS0000\xff", b"RADIS0010\xff", b"REDIS00x0\xff", b"REDIS0010\xf6"]
        {
            assert!(read(Reader::new(refused)).is_err(), "{refused:?}");
        }
    }
    /// Notes how much it is given at once.
    #[derive(Default)]
    struct Gulps {
        len: usize,
        largest: usize,
    }

    impl Write for Gulps {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.len += bytes.len();
            self.largest = self.largest.max(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_value_is_held_in_one_piece() {
        let mut bench = Bench::new();
        let client = bench.connect();
        let noise = |len: usize| {
            let mut random = Random::new(3);
            (0..len).map(|_| char::from(33 + random.below(90) as u8)).collect::<String>()
        };
        let (noisy, same) = (noise(3_000_000), "x".repeat(3_000_000));
        for (key, text) in [("noisy", &noisy), ("same", &same)] {
            bench.ask(client, &[&format!("SET {key} {text}"), &format!("HSET of-{key} f {text}")]);
        }
        for i in 0..30_000 {
            let requests = [
                format!("HSET hash field:{i} value:{i}"),
                format!("HSETEX expiring EX 1000 FIELDS 1 field:{i} value:{i}"),
                format!("SADD set member:{i}"),
                format!("ZADD zset {i} member:{i}"),
                format!("RPUSH list element:{i}"),
                format!("XADD stream {}-1 field value:{i}", i + 1),
            ];
            bench.ask(client, &requests.each_ref().map(String::as_str));
        }
        bench.ask(client, &["XGROUP CREATE stream group 0", "XREADGROUP GROUP group ann STREAMS stream >"]);
        for compress in [false, true] {
            let mut file = Saving::begin(Gulps::default(), compress, true).unwrap();
            let (_, _, db) = bench.engine.keyspace.iter().next().unwrap();
            let (mut from, mut keys) = (Some(0), 0);
            while let Some(hash) = from {
                from = db.dict().visit_segment(hash, |entry| {
                    keys += 1;
                    file.entry(entry, Usage::Unknown).unwrap();
                });
            }
            let gulps = file.finish().unwrap();
            assert_eq!(keys, 10);
            assert!(gulps.len > 3_000_000, "{}", gulps.len);
            assert!(gulps.largest < 3 * ENOUGH, "{} at once", gulps.largest);
        }
        let mut saved = Vec::new();
        bench.engine.save(SpaceId::FIRST, &mut saved).unwrap();
        let mut other = Bench::new();
        other.connect();
        other.engine.load(SpaceId::FIRST, Reader::new(&saved)).unwrap();
        let digest = |bench: &mut Bench| bench.ask(0, &["DEBUG DIGEST"]);
        assert_eq!(digest(&mut bench), digest(&mut other));
    }
}
