//! Strings as bits: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP. Bit 0 is the highest of the first byte.

use std::ops::ControlFlow;

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, OW, RO, RW, Spec, UPDATE, added, key};
use mortise_sdk::error::{self, Error};
use mortise_sdk::{Result, args};

use super::long::{CHUNK_LEN, LongText};
use super::ranges::{clamp, len_max};
use super::value::{Str, StrRef};
use crate::engine::call::{Call, Key};
use crate::features::Command;
use crate::keyspace::entry::{Kind, NewValue};
use crate::types::{Object, Type};

pub(super) const BITMAP: Spec = Spec::group("bitmap");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[BITCOUNT, BITOP, BITPOS, GETBIT, SETBIT];

pub(super) const BIT_OFFSET: Error = Error::new("ERR bit offset is not an integer or out of range");
const BIT_VALUE: Error = Error::new("ERR bit is not an integer or out of range");

// ---- one bit

/// A bit's place: its byte, and which bit of the byte.
#[derive(Clone, Copy)]
struct Place {
    byte: usize,
    mask: u8,
}

fn place(call: &Call<'_>, index: usize) -> Result<Place> {
    let offset = args::parse_integer(call.arg(index)).and_then(|offset| usize::try_from(offset).ok());
    let offset = offset.filter(|offset| ((offset >> 3) as u64) < len_max(call)).ok_or(BIT_OFFSET)?;
    Ok(Place { byte: offset >> 3, mask: 0x80 >> (offset & 7) })
}

const SETBIT: Command = Spec {
    usage: "SETBIT key offset:int value:int",
    about: "Sets or clears one bit of a string, which grows to hold it; returns the old bit.",
    since: "2.2.0",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    ..BITMAP
}
.runs(setbit);

fn setbit(call: &mut Call<'_>) -> Result {
    let Place { byte, mask } = place(call, 2)?;
    let on = match args::parse_integer(call.arg(3)) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(BIT_VALUE),
    };
    let mut string = call.create::<Str>(call.key(1))?;
    let old = string.view().byte(byte);
    let was_on = old.is_some_and(|old| old & mask != 0);
    if old.is_none() || was_on != on {
        let rest = old.unwrap_or(0) & !mask;
        string.write_at(byte, &[if on { rest | mask } else { rest }]);
        string.changed("setbit");
    } else {
        drop(string);
    }
    call.reply(was_on)
}

const GETBIT: Command = Spec {
    usage: "GETBIT key offset:int",
    about: "Returns one bit of a string.",
    since: "2.2.0",
    flags: &[READONLY, FAST],
    keys: &[key("key", &[RO, ACCESS])],
    ..BITMAP
}
.runs(getbit);

fn getbit(call: &mut Call<'_>) -> Result {
    let Place { byte, mask } = place(call, 2)?;
    let (value, out) = call.read::<Str>(call.key(1))?;
    let byte = value.and_then(|value| value.byte(byte)).unwrap_or(0);
    out.integer(i64::from(byte & mask != 0));
    Ok(())
}

// ---- ranges of bits

/// What the indices of a range count.
#[derive(Clone, Copy)]
enum Unit {
    Byte,
    Bit,
}

fn unit(word: Option<&[u8]>) -> Result<Unit> {
    match word {
        None => Ok(Unit::Byte),
        Some(word) if word.eq_ignore_ascii_case(b"byte") => Ok(Unit::Byte),
        Some(word) if word.eq_ignore_ascii_case(b"bit") => Ok(Unit::Bit),
        Some(_) => Err(error::SYNTAX),
    }
}

/// Bits `first..past` of a string.
#[derive(Clone, Copy)]
struct Bits {
    first: usize,
    past: usize,
}

impl Bits {
    /// The bits that two indices of a string of `len` bytes mean; `None` if there are none.
    fn range(len: usize, start: i64, end: i64, unit: Unit) -> Option<Bits> {
        let bits = match unit {
            Unit::Byte => 8,
            Unit::Bit => 1,
        };
        let (first, past) = clamp(len * 8 / bits, start, end)?;
        Some(Bits { first: first * bits, past: past * bits })
    }

    fn first_byte(self) -> usize {
        self.first / 8
    }

    fn past_byte(self) -> usize {
        self.past.div_ceil(8)
    }

    /// The bits of a byte that belong to the range.
    fn mask(self, byte: usize) -> u8 {
        let mut mask = 0xff;
        if byte == self.first_byte() {
            mask &= 0xff >> (self.first % 8);
        }
        if byte + 1 == self.past_byte() && !self.past.is_multiple_of(8) {
            mask &= !(0xff >> (self.past % 8));
        }
        mask
    }
}

const BITCOUNT: Command = Spec {
    usage: "BITCOUNT key [index=<start:int end:int [index_unit=<BYTE | BIT>]>]",
    about: "Counts the bits that are set in a string or a part of it.",
    since: "2.6.0",
    cost: "O(N)",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    history: &[("7.0.0", "Ranges in `BYTE` or `BIT`.")],
    ages: &[added("index_unit", "7.0.0")],
    ..BITMAP
}
.runs(bitcount);

fn bitcount(call: &mut Call<'_>) -> Result {
    let words = call.args();
    let (value, out) = call.read::<Str>(call.key(1))?;
    let Some(value) = value else {
        out.integer(0);
        return Ok(());
    };
    let bits = match words.len() {
        2 => Bits::range(value.len(), 0, -1, Unit::Byte),
        4 | 5 => {
            let start = args::parse_integer(words.at(2)).ok_or(error::NOT_INTEGER)?;
            let end = args::parse_integer(words.at(3)).ok_or(error::NOT_INTEGER)?;
            if start < 0 && end < 0 && start > end {
                None
            } else {
                Bits::range(value.len(), start, end, unit(words.get(4))?)
            }
        }
        _ => return Err(error::SYNTAX),
    };
    out.count(bits.map_or(0, |bits| count(value, bits)));
    Ok(())
}

/// How many bits of a range are set.
fn count(value: StrRef<'_>, bits: Bits) -> usize {
    let (first, last) = (bits.first_byte(), bits.past_byte() - 1);
    let mut ones = 0;
    let _ = value.visit(first, last + 1, |part| {
        ones += count_ones(part);
        ControlFlow::<()>::Continue(())
    });
    // The edges were counted as a whole.
    let outside = |byte: usize| (value.byte(byte).unwrap_or(0) & !bits.mask(byte)).count_ones() as usize;
    ones - outside(first) - if last > first { outside(last) } else { 0 }
}

fn count_ones(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    let words: u32 = words.iter().map(|word| u64::from_ne_bytes(*word).count_ones()).sum();
    let rest: u32 = rest.iter().map(|byte| byte.count_ones()).sum();
    (words + rest) as usize
}

const BITPOS: Command = Spec {
    usage: "BITPOS key bit:int [index=<start:int [end_index=<end:int [index_unit=<BYTE | BIT>]>]>]",
    about: "Finds the first bit that is set, or that is not.",
    since: "2.8.7",
    cost: "O(N)",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    history: &[("7.0.0", "Ranges in `BYTE` or `BIT`.")],
    ages: &[added("index_unit", "7.0.0")],
    ..BITMAP
}
.runs(bitpos);

fn bitpos(call: &mut Call<'_>) -> Result {
    let wanted = match call.integer(2)? {
        0 => false,
        1 => true,
        _ => return Err(Error::new("ERR The bit argument must be 1 or 0.")),
    };
    let words = call.args();
    let (value, out) = call.read::<Str>(call.key(1))?;
    let Some(value) = value else {
        out.integer(if wanted { -1 } else { 0 });
        return Ok(());
    };
    let (mut start, mut end, mut counted) = (0, -1, Unit::Byte);
    if words.len() > 6 {
        return Err(error::SYNTAX);
    }
    if let Some(word) = words.get(3) {
        start = args::parse_integer(word).ok_or(error::NOT_INTEGER)?;
        counted = unit(words.get(5))?;
    }
    if let Some(word) = words.get(4) {
        end = args::parse_integer(word).ok_or(error::NOT_INTEGER)?;
    }
    let position = Bits::range(value.len(), start, end, counted).and_then(|bits| {
        // Behind a string whose end nobody named there are zeroes.
        find(value, bits, wanted).or((!wanted && words.len() < 5).then_some(bits.past))
    });
    out.integer(position.map_or(-1, |position| position as i64));
    Ok(())
}

/// The first bit of a range that is as wanted.
fn find(value: StrRef<'_>, bits: Bits, wanted: bool) -> Option<usize> {
    let others = if wanted { 0x00 } else { 0xff };
    let mut base = bits.first_byte();
    let found = value.visit(base, bits.past_byte(), |part| {
        let mut at = 0;
        while let Some(skipped) = position_of_other(&part[at..], others) {
            at += skipped;
            let hits = (part[at] ^ others) & bits.mask(base + at);
            if hits != 0 {
                return ControlFlow::Break((base + at) * 8 + hits.leading_zeros() as usize);
            }
            at += 1;
        }
        base += part.len();
        ControlFlow::Continue(())
    });
    found.break_value()
}

/// Where the first byte stands that is not `byte`.
fn position_of_other(bytes: &[u8], byte: u8) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    let same = [byte; 8];
    match words.iter().position(|word| *word != same) {
        Some(index) => Some(index * 8 + words[index].iter().position(|&other| other != byte)?),
        None => Some(words.len() * 8 + rest.iter().position(|&other| other != byte)?),
    }
}

// ---- combining strings

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
    /// What the first has and no other.
    Diff,
    /// What others have, and not the first.
    Diff1,
    /// What the first has, and any other.
    AndOr,
    /// What exactly one has.
    One,
}

const BITOP: Command = Spec {
    usage: "BITOP operation destkey key...",
    about: "Combines strings bit by bit and stores the result.",
    since: "2.6.0",
    cost: "O(N)",
    flags: &[WRITE, DENYOOM],
    keys: &[key("destkey", &[OW, UPDATE]), key("key", &[RO, ACCESS])],
    history: &[("8.2.0", "Operations `DIFF`, `DIFF1`, `ANDOR` and `ONE`.")],
    ..BITMAP
}
.runs(bitop);

fn bitop(call: &mut Call<'_>) -> Result {
    let operation = match call.arg(1) {
        word if word.eq_ignore_ascii_case(b"and") => Operation::And,
        word if word.eq_ignore_ascii_case(b"or") => Operation::Or,
        word if word.eq_ignore_ascii_case(b"xor") => Operation::Xor,
        word if word.eq_ignore_ascii_case(b"not") => Operation::Not,
        word if word.eq_ignore_ascii_case(b"diff") => Operation::Diff,
        word if word.eq_ignore_ascii_case(b"diff1") => Operation::Diff1,
        word if word.eq_ignore_ascii_case(b"andor") => Operation::AndOr,
        word if word.eq_ignore_ascii_case(b"one") => Operation::One,
        _ => return Err(error::SYNTAX),
    };
    if operation == Operation::Not && call.argc() != 4 {
        return Err(Error::new("ERR BITOP NOT must be called with a single source key."));
    }
    let target = call.key(2);
    let mut len = 0;
    let mut sources: Vec<Option<Key<'_>>> = Vec::with_capacity(call.argc() - 3);
    for index in 3..call.argc() {
        let key = call.key(index);
        let (value, _) = call.read::<Str>(key)?;
        len = len.max(value.map_or(0, StrRef::len));
        sources.push(value.is_some().then_some(key));
    }
    if len == 0 {
        call.remove(target, "del");
    } else {
        // Looked up once more, since noting an access excludes holding the others.
        let db = &*call.db().0;
        let view = |key: &Key<'_>| db.find(key.hash, key.bytes).and_then(Str::view);
        let views: Vec<StrRef<'_>> =
            sources.iter().map(|key| key.as_ref().and_then(view).unwrap_or(StrRef::Bytes(b""))).collect();
        match combine(operation, &views, len) {
            Combined::Short(bytes) => call.put::<Str>(target, NewValue::Bytes(Kind::RawText, &bytes), false),
            Combined::Long(text) => {
                call.put::<Str>(target, NewValue::Object(Box::new(Object::LongText(text))), false)
            }
        }
        .changed("set");
    }
    call.reply(len)
}

enum Combined {
    Short(Vec<u8>),
    Long(LongText),
}

/// Combines strings, of which the longest has `len` bytes and the others count as padded with zeroes.
fn combine(operation: Operation, sources: &[StrRef<'_>], len: usize) -> Combined {
    let mut chunk = vec![0; len.min(CHUNK_LEN)];
    if len <= CHUNK_LEN {
        combine_chunk(operation, sources, 0, &mut chunk);
        return Combined::Short(chunk);
    }
    let mut text = LongText::default();
    while text.len() < len {
        chunk.truncate(len - text.len());
        combine_chunk(operation, sources, text.len(), &mut chunk);
        text.append(&chunk);
    }
    Combined::Long(text)
}

/// Writes what the operation makes of the bytes from `start` on.
fn combine_chunk(operation: Operation, sources: &[StrRef<'_>], start: usize, result: &mut [u8]) {
    match operation {
        Operation::Diff | Operation::Diff1 | Operation::AndOr => {
            return combine_first(operation, sources, start, result);
        }
        Operation::One => return only_one(sources, start, result),
        Operation::And | Operation::Or | Operation::Xor | Operation::Not => {}
    }
    for (index, source) in sources.iter().enumerate() {
        let mut done = 0;
        let _ = source.visit(start, start + result.len(), |part| {
            let target = &mut result[done..done + part.len()];
            let pairs = target.iter_mut().zip(part);
            match operation {
                _ if index == 0 => target.copy_from_slice(part),
                Operation::And => pairs.for_each(|(to, from)| *to &= from),
                Operation::Or => pairs.for_each(|(to, from)| *to |= from),
                Operation::Xor => pairs.for_each(|(to, from)| *to ^= from),
                _ => {}
            }
            done += part.len();
            ControlFlow::<()>::Continue(())
        });
        if index == 0 || operation == Operation::And {
            result[done..].fill(0);
        }
    }
    if operation == Operation::Not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
}

/// What the bits of the first source make with those that any of the others has.
fn combine_first(operation: Operation, sources: &[StrRef<'_>], start: usize, result: &mut [u8]) {
    let Some((first, others)) = sources.split_first() else { return };
    result.fill(0);
    combine_chunk(Operation::Or, others, start, result);
    let mut bytes = vec![0; result.len()];
    combine_chunk(Operation::Or, &[*first], start, &mut bytes);
    for (any, first) in result.iter_mut().zip(bytes) {
        *any = match operation {
            Operation::Diff => first & !*any,
            Operation::Diff1 => !first & *any,
            _ => first & *any,
        };
    }
}

/// The bits that one of the sources has and no other.
fn only_one(sources: &[StrRef<'_>], start: usize, result: &mut [u8]) {
    let mut several = vec![0; result.len()];
    result.fill(0);
    for source in sources {
        let mut done = 0;
        let _ = source.visit(start, start + result.len(), |part| {
            let pairs = result[done..].iter_mut().zip(&mut several[done..]).zip(part);
            pairs.for_each(|((any, several), part)| {
                *several |= *any & part;
                *any |= part;
            });
            done += part.len();
            ControlFlow::<()>::Continue(())
        });
    }
    result.iter_mut().zip(several).for_each(|(any, several)| *any &= !several);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits that repeat only after many chunks, at a length beyond one.
    fn sample(len: usize, seed: u64) -> Vec<u8> {
        let mut random = crate::engine::random::Random::new(seed);
        (0..len).map(|_| random.word() as u8).collect()
    }

    fn bit(bytes: &[u8], at: usize) -> bool {
        bytes[at / 8] & (0x80 >> (at % 8)) != 0
    }

    #[test]
    fn ranges_agree_with_counting_bit_by_bit() {
        let long = sample(CHUNK_LEN + 100, 1);
        let text = LongText::new(&long);
        let edge = CHUNK_LEN * 8;
        let ranges = [
            (0, 1),
            (0, 8),
            (3, 5),
            (7, 9),
            (8, 16),
            (5, 800),
            (edge - 3, edge + 3),
            (edge, edge + 8),
            (1, edge + 799),
        ];
        for (first, past) in ranges {
            let bits = Bits { first, past };
            let model = (first..past).filter(|&at| bit(&long, at)).count();
            assert_eq!(count(StrRef::Long(&text), bits), model, "{first}..{past}");
            assert_eq!(count(StrRef::Bytes(&long), bits), model, "{first}..{past}");
            for wanted in [true, false] {
                let model = (first..past).find(|&at| bit(&long, at) == wanted);
                assert_eq!(find(StrRef::Long(&text), bits, wanted), model, "{first}..{past} {wanted}");
            }
        }
    }

    #[test]
    fn a_lonely_bit_is_found_wherever_it_stands() {
        for at in [0, 1, 63, 64, 1000, CHUNK_LEN * 8 - 1, CHUNK_LEN * 8, CHUNK_LEN * 8 + 77] {
            for (background, wanted) in [(0x00, true), (0xff, false)] {
                let mut bytes = vec![background; CHUNK_LEN + 50];
                bytes[at / 8] ^= 0x80 >> (at % 8);
                let text = LongText::new(&bytes);
                let find = |first, past| find(StrRef::Long(&text), Bits { first, past }, wanted);
                assert_eq!(find(0, bytes.len() * 8), Some(at));
                assert_eq!(find(at, at + 1), Some(at));
                assert_eq!(find(at + 1, bytes.len() * 8), None);
                assert_eq!(find(0, at.max(1)), (at == 0).then_some(0));
            }
        }
    }

    #[test]
    fn strings_are_combined_across_chunks() {
        let (a, b) = (sample(CHUNK_LEN * 2 + 5, 2), sample(CHUNK_LEN + 9, 3));
        let (text, short) = (LongText::new(&a), &b[..100]);
        let sources = [StrRef::Long(&text), StrRef::Bytes(&b), StrRef::Bytes(short)];
        let padded = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
        for operation in [Operation::And, Operation::Or, Operation::Xor] {
            let model: Vec<u8> = (0..a.len())
                .map(|at| match operation {
                    Operation::And => a[at] & padded(&b, at) & padded(short, at),
                    Operation::Or => a[at] | padded(&b, at) | padded(short, at),
                    _ => a[at] ^ padded(&b, at) ^ padded(short, at),
                })
                .collect();
            match combine(operation, &sources, a.len()) {
                Combined::Long(text) => assert!(text.to_vec() == model),
                Combined::Short(_) => panic!("it is longer than a chunk"),
            }
        }
        match combine(Operation::Not, &sources[2..], 100) {
            Combined::Short(bytes) => assert!(bytes.iter().zip(short).all(|(not, byte)| *not == !byte)),
            Combined::Long(_) => panic!("it is shorter than a chunk"),
        }
    }
}
