//! Any value: which kind it is written as, and who reads and writes it.

use std::sync::Arc;

use super::format::{kind, module};
use super::{Broken, Out, Reader, Result, Writer};
use crate::engine::edit::Limits;
use crate::keyspace::entry::{Entry, Kind, NewValue};
use crate::types::foreign::{Foreign, ForeignType};
use crate::types::frozen::FrozenTypes;
use crate::types::{AnyRef, Object, hash, list, set, stream, string, zset};

/// A value that was read, and is not yet a key's.
pub enum Loaded {
    /// An integer.
    Integer(i64),
    /// What stands inline in an entry.
    Bytes(Kind, Vec<u8>),
    /// What does not.
    Object(Box<Object>),
}

impl Loaded {
    /// The value under a key.
    pub fn into_entry(self, key: &[u8]) -> Entry {
        match self {
            Loaded::Integer(n) => Entry::new(key, NewValue::Integer(n)),
            Loaded::Bytes(kind, bytes) => Entry::new(key, NewValue::Bytes(kind, &bytes)),
            Loaded::Object(object) => Entry::new(key, NewValue::Object(object)),
        }
    }
}

impl From<NewValue<'_>> for Loaded {
    fn from(value: NewValue<'_>) -> Loaded {
        match value {
            NewValue::Integer(n) => Loaded::Integer(n),
            NewValue::Bytes(kind, bytes) => Loaded::Bytes(kind, bytes.to_vec()),
            NewValue::Object(object) => Loaded::Object(object),
        }
    }
}

/// What there must be around to read a value.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Up to which size collections stay packed.
    pub limits: Limits,
    /// The types that modules have brought.
    pub types: &'a dyn ForeignTypes,
    /// Who keeps values of types that no loaded module has. Without it they are refused.
    pub frozen: Option<&'a FrozenTypes>,
}

/// Types that modules have brought, by name.
pub trait ForeignTypes {
    /// The type of a name.
    fn find(&self, name: &str) -> Option<Arc<dyn ForeignType>>;
}

/// No module is loaded.
pub struct NoTypes;

impl ForeignTypes for NoTypes {
    fn find(&self, _: &str) -> Option<Arc<dyn ForeignType>> {
        None
    }
}

impl ForeignTypes for crate::modules::Modules {
    fn find(&self, name: &str) -> Option<Arc<dyn ForeignType>> {
        self.data_type(name)
    }
}

/// The kind that a value is written as.
pub fn kind_of(value: AnyRef<'_>) -> u8 {
    match value {
        AnyRef::Str(_) => kind::STRING,
        AnyRef::Hash(hash) => hash::rdb::kind_of(hash),
        AnyRef::List(_) => list::rdb::SAVED,
        AnyRef::Set(set) => set::rdb::kind_of(set),
        AnyRef::Zset(zset) => zset::rdb::kind_of(zset),
        AnyRef::Stream(_) => stream::rdb::SAVED,
        AnyRef::Foreign(_) => kind::MODULE_2,
    }
}

/// Writes a value; its kind stands elsewhere.
pub fn save(value: AnyRef<'_>, out: &mut Out<'_>) -> Result<()> {
    match value {
        AnyRef::Str(text) => string::rdb::save(text, out),
        AnyRef::Hash(hash) => hash::rdb::save(hash, out),
        AnyRef::List(list) => list::rdb::save(list, out),
        AnyRef::Set(set) => set::rdb::save(set, out),
        AnyRef::Zset(zset) => zset::rdb::save(zset, out),
        AnyRef::Stream(stream) => stream::rdb::save(stream, out),
        AnyRef::Foreign(foreign) => save_foreign(foreign, out),
    }
}

/// Reads a value of a kind.
pub fn load(of: u8, from: &mut Reader<'_>, around: Around<'_>) -> Result<Loaded> {
    let (name, loaded) = match of {
        kind::STRING => ("String", string::rdb::load(from)),
        _ if hash::rdb::KINDS.contains(&of) => ("Hash", hash::rdb::load(of, from, around.limits)),
        _ if list::rdb::KINDS.contains(&of) => ("List", list::rdb::load(of, from, around.limits)),
        _ if set::rdb::KINDS.contains(&of) => ("Set", set::rdb::load(of, from, around.limits)),
        _ if zset::rdb::KINDS.contains(&of) => ("Zset", zset::rdb::load(of, from, around.limits)),
        _ if stream::rdb::KINDS.contains(&of) => ("Stream", stream::rdb::load(of, from)),
        kind::MODULE_2 => ("Module", load_foreign(from, around)),
        _ => return Err(Broken::Malformed("Unknown RDB encoding type")),
    };
    loaded.map_err(|error| match error {
        Broken::Malformed(why) => Broken::Value(name, why),
        other => other,
    })
}

/// Writes a module's value: a number, as Redis has it, then the type's name, the version of the saved form, and that.
///
/// Redis passes over it where it knows no module of that number; the name is what Mortise goes by.
fn save_foreign(value: &Foreign, out: &mut Out<'_>) -> Result<()> {
    let saved = value.save().map_err(Broken::Module)?;
    let head = out.small();
    if let Some(id) = value.of().kept_as() {
        head.number(id);
        head.raw(&saved);
        return Ok(());
    }
    head.number(module_id(value.type_name(), value.of().version()));
    head.number(module::STRING);
    head.bytes(value.type_name().as_bytes());
    head.number(module::UNSIGNED);
    head.number(value.of().version().into());
    head.number(module::STRING);
    out.bytes(&saved)?;
    out.small().number(module::END);
    Ok(())
}

fn load_foreign(from: &mut Reader<'_>, around: Around<'_>) -> Result<Loaded> {
    let id = from.number()?;
    let mut frame = Writer::new(false);
    copy_module(from, &mut frame)?;
    let foreign = match Own::of(id, frame.as_bytes()) {
        Some(own) => match around.types.find(&own.name) {
            Some(of) => {
                let value = of.load(&own.saved, own.version).map_err(Broken::Module)?;
                Foreign::new(of, value)
            }
            None => {
                let frozen = around.frozen.ok_or_else(|| missing(&own.name))?;
                frozen.freeze(&own.name, own.version, own.saved)
            }
        },
        None => {
            let name = module_name(id);
            let frozen = around.frozen.ok_or_else(|| missing(&name))?;
            frozen.freeze_as_it_is(&name, id, frame.into_bytes())
        }
    };
    Ok(Loaded::Object(Box::new(Object::Foreign(foreign))))
}

fn missing(name: &str) -> Broken {
    Broken::Module(format!("The value is of the data type '{name}', which no loaded module has"))
}

/// A module's value in Mortise's own frame.
struct Own {
    name: String,
    version: u32,
    saved: Vec<u8>,
}

impl Own {
    /// Understands what stands behind the number, if it is in that frame.
    fn of(id: u64, frame: &[u8]) -> Option<Own> {
        let expect = |from: &mut Reader<'_>, kind| (from.number().ok()? == kind).then_some(());
        let from = &mut Reader::new(frame);
        expect(from, module::STRING)?;
        let name = String::from_utf8_lossy(&from.bytes().ok()?).into_owned();
        expect(from, module::UNSIGNED)?;
        let version = u32::try_from(from.number().ok()?).ok()?;
        expect(from, module::STRING)?;
        let saved = from.bytes().ok()?.into_owned();
        expect(from, module::END)?;
        (id == module_id(&name, version)).then_some(Own { name, version, saved })
    }
}

const ID_LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const ID_NAME_LEN: usize = 9;
const ID_VERSION_BITS: u32 = 10;

/// The number by which Redis would know a type: nine letters of its name, six bits each, and ten bits of its version.
fn module_id(name: &str, version: u32) -> u64 {
    let letters = name.bytes().chain(std::iter::repeat(b'_')).take(ID_NAME_LEN);
    let digit = |letter| ID_LETTERS.iter().position(|known| *known == letter).unwrap_or(63) as u64;
    let name = letters.fold(0, |id, letter| id << 6 | digit(letter));
    name << ID_VERSION_BITS | u64::from(version) & ((1 << ID_VERSION_BITS) - 1)
}

/// The letters that a number stands for.
pub fn module_name(id: u64) -> String {
    let letter = |place| char::from(ID_LETTERS[(id >> (ID_VERSION_BITS + 6 * place)) as usize & 63]);
    (0..ID_NAME_LEN as u32).rev().map(letter).collect()
}

/// Copies a module's value, or what a module keeps beside its values, whose number has been read: all of its parts, and
/// their end.
pub fn copy_module(from: &mut Reader<'_>, out: &mut Writer) -> Result<()> {
    loop {
        let part = from.number()?;
        out.number(part);
        match part {
            module::END => return Ok(()),
            module::SIGNED | module::UNSIGNED => out.number(from.number()?),
            module::FLOAT => out.raw(&from.array::<4>()?),
            module::DOUBLE => out.raw(&from.array::<8>()?),
            module::STRING => out.bytes(&from.bytes()?),
            _ => return Err(Broken::Malformed("a module's value is made of unknown parts")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_modules_are_redis_own() {
        // A letter is worth its place in the row; the version stands below.
        assert_eq!(module_id("AAAAAAAAB", 3), 1 << 10 | 3);
        assert_eq!(module_id("_________", 1023), u64::MAX);
        assert_eq!(module_name(module_id("ReJSON-RL", 3)), "ReJSON-RL");
        assert_eq!(module_name(module_id("list", 1)), "list_____");
        assert_eq!(module_name(module_id("guestbook-long", 1)), "guestbook");
    }

    #[test]
    fn a_value_of_an_unknown_module_is_refused_by_name_and_can_be_passed() {
        let mut out = Writer::new(false);
        out.number(module_id("ReJSON-RL", 3));
        let start = out.as_bytes().len();
        for part in [module::SIGNED, 5, module::UNSIGNED, 6] {
            out.number(part);
        }
        out.number(module::DOUBLE);
        out.double(1.5);
        out.number(module::FLOAT);
        out.raw(&[0; 4]);
        out.number(module::STRING);
        out.bytes(b"{}");
        out.number(module::END);
        let mut from = Reader::new(&out.as_bytes()[start..]);
        let mut copy = Writer::new(false);
        copy_module(&mut from, &mut copy).unwrap();
        assert_eq!(copy.as_bytes(), &out.as_bytes()[start..]);
        assert!(from.byte().is_err(), "all of it was passed");
        let around = Around { limits: Limits::default(), types: &NoTypes, frozen: None };
        let Err(error) = load(kind::MODULE_2, &mut Reader::new(out.as_bytes()), around) else {
            panic!("there is no such module")
        };
        assert!(error.to_string().contains("'ReJSON-RL'"), "{error}");
    }
}
