//! BITFIELD, BITFIELD_RO: a string as integers of any width at any bit.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, Access, RO, RW, Spec, UPDATE, VARIABLE_FLAGS, key};
use mortise_sdk::error::{self, Error};
use mortise_sdk::{Result, args};

use super::bits::{BIT_OFFSET, BITMAP};
use super::ranges::len_max;
use super::value::{Str, StrRef};
use crate::engine::call::Call;
use crate::engine::edit::Edit;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[BITFIELD, BITFIELD_RO];

const BITFIELD: Command = Spec {
    usage: "BITFIELD key [operation=<<GET encoding offset:int> | write=<[OVERFLOW wrap_sat_fail=<WRAP | SAT | \
            FAIL>] write_operation=<<SET encoding offset:int value:int> | <INCRBY encoding offset:int \
            increment:int>>>>]...",
    about: "Reads and changes integers of any width in a string.",
    since: "3.2.0",
    cost: "O(1) for each operation",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[RW, ACCESS, UPDATE, VARIABLE_FLAGS])
        .notes("This command allows both access and modification of the key")
        .refined(access)],
    ..BITMAP
}
.runs(|call| bitfield(call, true));

const BITFIELD_RO: Command = Spec {
    usage: "BITFIELD_RO key [GET encoding_offset=<encoding offset:int>]...",
    about: "Reads integers of any width in a string.",
    since: "6.0.0",
    cost: "O(1) for each operation",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..BITMAP
}
.runs(|call| bitfield(call, false));

/// Operations that only get need no more than to read.
fn access<'a>(argc: usize, arg: &dyn Fn(usize) -> &'a [u8]) -> Access {
    let mut index = 2;
    while index < argc {
        let (word, left) = (arg(index), argc - index - 1);
        if word.eq_ignore_ascii_case(b"get") && left >= 2 {
            index += 3;
        } else if word.eq_ignore_ascii_case(b"overflow") && left >= 1 {
            index += 2;
        } else {
            return RW.and(ACCESS).and(UPDATE);
        }
    }
    RO.and(ACCESS)
}

/// An integer's width, and whether it has a sign.
#[derive(Clone, Copy, Debug)]
struct Width {
    bits: u32,
    signed: bool,
}

impl Width {
    fn parse(text: &[u8]) -> Result<Width> {
        let (signed, digits) = match text {
            [b'i', digits @ ..] => (true, digits),
            [b'u', digits @ ..] => (false, digits),
            _ => (true, &b""[..]),
        };
        let bits_max = if signed { 64 } else { 63 };
        let bits = args::parse_integer(digits).filter(|bits| (1..=bits_max).contains(bits));
        let bits = bits.ok_or(Error::new(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        ))?;
        Ok(Width { bits: bits as u32, signed })
    }

    /// What it can hold.
    fn range(self) -> (i128, i128) {
        match self.signed {
            true => (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1),
            false => (0, (1 << self.bits) - 1),
        }
    }

    /// The integer that some bits mean, of which there may be more above.
    fn meant(self, bits: u64) -> i64 {
        let above = 64 - self.bits;
        match self.signed {
            true => (bits << above) as i64 >> above,
            false => (bits << above >> above) as i64,
        }
    }

    /// A value as it is stored; `None` if it does not fit and is not to be bent.
    fn fitted(self, value: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = self.range();
        if (min..=max).contains(&value) {
            return Some(value as i64);
        }
        match overflow {
            Overflow::Wrap => Some(self.meant(value as u64)),
            Overflow::Saturate => Some(value.clamp(min, max) as i64),
            Overflow::Fail => None,
        }
    }
}

/// What becomes of a value that does not fit.
#[derive(Clone, Copy, Debug)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

struct Operation {
    action: Action,
    width: Width,
    offset: u64,
    overflow: Overflow,
}

impl Operation {
    fn parse_all(call: &Call<'_>) -> Result<Vec<Operation>> {
        let len_max = len_max(call);
        let mut operations = Vec::new();
        let mut overflow = Overflow::Wrap;
        let mut options = call.options(2);
        while !options.is_empty() {
            let values = options.left() - 1;
            if let Some(name) = options.takes_value("OVERFLOW") {
                overflow = match name.to_ascii_lowercase().as_slice() {
                    b"wrap" => Overflow::Wrap,
                    b"sat" => Overflow::Saturate,
                    b"fail" => Overflow::Fail,
                    _ => return Err(Error::new("ERR Invalid OVERFLOW type specified")),
                };
                continue;
            }
            let gets = values >= 2 && options.takes("GET");
            let sets = !gets && values >= 3 && options.takes("SET");
            let adds = !gets && !sets && values >= 3 && options.takes("INCRBY");
            if !(gets || sets || adds) {
                return Err(error::SYNTAX);
            }
            let width = Width::parse(options.required()?)?;
            let offset = offset(options.required()?, width, len_max)?;
            let mut value = || args::parse_integer(options.required()?).ok_or(error::NOT_INTEGER);
            let action = match (gets, sets) {
                (true, _) => Action::Get,
                (_, true) => Action::Set(value()?),
                _ => Action::Add(value()?),
            };
            operations.push(Operation { action, width, offset, overflow });
        }
        Ok(operations)
    }

    fn writes(&self) -> bool {
        !matches!(self.action, Action::Get)
    }

    fn last_byte(&self) -> usize {
        ((self.offset + u64::from(self.width.bits) - 1) / 8) as usize
    }

    fn first_byte(&self) -> usize {
        (self.offset / 8) as usize
    }

    /// The bytes that hold the integer, as one number; beyond the end there are zeroes.
    fn bytes(&self, string: StrRef<'_>) -> u128 {
        let bytes = self.first_byte()..=self.last_byte();
        bytes.fold(0, |bits, at| bits << 8 | u128::from(string.byte(at).unwrap_or(0)))
    }

    /// How many bits of those bytes stand behind the integer.
    fn below(&self) -> u32 {
        let bits = (self.last_byte() - self.first_byte() + 1) as u32 * 8;
        bits - (self.offset % 8) as u32 - self.width.bits
    }

    fn get(&self, string: StrRef<'_>) -> i64 {
        self.width.meant((self.bytes(string) >> self.below()) as u64)
    }

    /// The bytes that hold the integer, with another in its place.
    fn with(&self, string: StrRef<'_>, value: i64) -> Vec<u8> {
        let mask = (1u128 << self.width.bits) - 1;
        let value = (value as u128 & mask) << self.below();
        let bits = self.bytes(string) & !(mask << self.below()) | value;
        let len = self.last_byte() - self.first_byte() + 1;
        bits.to_be_bytes()[16 - len..].to_vec()
    }
}

/// A place in bits; after `#`, in integers of this width.
fn offset(text: &[u8], width: Width, len_max: u64) -> Result<u64> {
    let (digits, unit) = match text {
        [b'#', digits @ ..] => (digits, u64::from(width.bits)),
        digits => (digits, 1),
    };
    let number = args::parse_integer(digits).and_then(|number| u64::try_from(number).ok());
    let offset = number.and_then(|number| number.checked_mul(unit));
    offset.filter(|offset| *offset <= i64::MAX as u64 && offset >> 3 < len_max).ok_or(BIT_OFFSET)
}

fn bitfield(call: &mut Call<'_>, may_write: bool) -> Result {
    let operations = Operation::parse_all(call)?;
    let key = call.key(1);
    let Some(last) = operations.iter().filter(|op| op.writes()).map(Operation::last_byte).max() else {
        let (string, out) = call.read::<Str>(key)?;
        let string = string.unwrap_or(StrRef::Bytes(b""));
        out.array(operations.len());
        operations.iter().for_each(|operation| out.integer(operation.get(string)));
        return Ok(());
    };
    if !may_write {
        return Err(Error::new("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let mut string = call.create::<Str>(key)?;
    let mut changed = false;
    let replies: Vec<Option<i64>> =
        operations.iter().map(|operation| apply(&mut string, operation, last + 1, &mut changed)).collect();
    if changed {
        string.changed("setbit");
    } else {
        drop(string);
    }
    let out = call.out();
    out.array(replies.len());
    for reply in replies {
        match reply {
            Some(value) => out.integer(value),
            None => out.null(),
        }
    }
    Ok(())
}

/// Does one operation and says what it answers. The first that writes gives the string the length that all need.
fn apply(string: &mut Edit<'_, Str>, operation: &Operation, len: usize, changed: &mut bool) -> Option<i64> {
    let old = operation.get(string.view());
    let (value, answers_old) = match operation.action {
        Action::Get => return Some(old),
        // Without a sign, what is set is taken as it stands in memory.
        Action::Set(value) if !operation.width.signed => (i128::from(value as u64), true),
        Action::Set(value) => (i128::from(value), true),
        Action::Add(increment) => (i128::from(old) + i128::from(increment), false),
    };
    let value = operation.width.fitted(value, operation.overflow)?;
    if value != old || string.view().len() < len {
        let bytes = operation.with(string.view(), value);
        string.extend_to(len);
        string.write_at(operation.first_byte(), &bytes);
        *changed = true;
    }
    Some(if answers_old { old } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_bent() {
        let (i8_, u8_, i64_, u63) = (
            Width { bits: 8, signed: true },
            Width { bits: 8, signed: false },
            Width { bits: 64, signed: true },
            Width { bits: 63, signed: false },
        );
        for (width, value, wrapped, saturated) in [
            (i8_, 127, 127, 127),
            (i8_, 128, -128, 127),
            (i8_, -129, 127, -128),
            (u8_, 256, 0, 255),
            (u8_, -1, 255, 0),
            (i64_, i128::from(i64::MAX) + 1, i64::MIN, i64::MAX),
            (i64_, i128::from(i64::MIN) - 1, i64::MAX, i64::MIN),
            (u63, i128::from(u64::MAX), i64::MAX, i64::MAX),
        ] {
            assert_eq!(width.fitted(value, Overflow::Wrap), Some(wrapped), "{width:?} {value}");
            assert_eq!(width.fitted(value, Overflow::Saturate), Some(saturated), "{width:?} {value}");
            let fits = value == i128::from(wrapped) && wrapped == saturated;
            assert_eq!(width.fitted(value, Overflow::Fail).is_some(), fits, "{width:?} {value}");
        }
    }

    #[test]
    fn an_integer_leaves_its_neighbours_alone() {
        let string = [0b1010_1010; 12];
        for bits in 1..=64 {
            for offset in 0..20 {
                let width = Width { bits, signed: true };
                let operation = Operation { action: Action::Get, width, offset, overflow: Overflow::Wrap };
                for value in [0, -1, 1, i64::MIN, i64::MAX, 0x1234_5678_9abc_def0] {
                    let value = width.meant(value as u64);
                    let mut written = string;
                    let bytes = operation.with(StrRef::Bytes(&string), value);
                    written[operation.first_byte()..=operation.last_byte()].copy_from_slice(&bytes);
                    assert_eq!(operation.get(StrRef::Bytes(&written)), value, "{bits} {offset}");
                    let bit = |bytes: &[u8; 12], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
                    let outside = (0..96).filter(|at| !(offset..offset + u64::from(bits)).contains(at));
                    let mut outside = outside.map(|at| at as usize);
                    assert!(outside.all(|at| bit(&string, at) == bit(&written, at)), "{bits} {offset}");
                }
            }
        }
    }
}
