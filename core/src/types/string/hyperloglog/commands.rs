//! PFADD, PFCOUNT, PFMERGE, and for tests PFDEBUG, PFSELFTEST.

use std::borrow::Cow;

use mortise_sdk::Result;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, INSERT, RO, RW, Spec, key};
use mortise_sdk::error::Error;

use super::{CARDINALITY_AT, REGISTERS, Registers, Sketch, dense, estimate, place, self_test, sparse};
use crate::engine::call::{Call, Key};
use crate::engine::edit::Edit;
use crate::engine::event::EventClass;
use crate::features::Command;
use crate::types::string::value::Str;

/// This folder's commands.
pub(crate) const COMMANDS: &[Command] = &[PFADD, PFCOUNT, PFMERGE, PFDEBUG, PFSELFTEST];

const HYPERLOGLOG: Spec = Spec::group("hyperloglog");

/// Nobody is told of a change that is none to its reader.
const UNPUBLISHED: EventClass = EventClass(0);

const PFADD: Command = Spec {
    usage: "PFADD key [element]...",
    about: "Adds elements to a HyperLogLog, which is created if need be; tells whether its estimate may have changed.",
    since: "2.8.9",
    cost: "O(1) for each element",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, INSERT])],
    ..HYPERLOGLOG
}
.runs(pfadd);

fn pfadd(call: &mut Call<'_>) -> Result {
    let args = call.args();
    let sparse_max = sparse_max(call);
    let mut string = call.create::<Str>(call.key(1))?;
    let (mut sketch, mut changed) = open(&string)?;
    for element in args.iter().skip(2) {
        let (index, value) = place(element);
        changed |= sketch.set(index, value, sparse_max)?;
    }
    if changed {
        sketch.spoil();
        let bytes = sketch.bytes.into_owned();
        string.set_raw(&bytes);
        string.changed("pfadd");
    } else {
        drop(string);
    }
    call.reply(changed)
}

fn sparse_max(call: &Call<'_>) -> usize {
    call.engine.config.hyperloglog.hll_sparse_max_bytes.0 as usize
}

/// What is there, or an empty one. True: it is new.
fn open<'a>(string: &'a Edit<'_, Str>) -> Result<(Sketch<'a>, bool)> {
    if string.is_new() { Ok((Sketch::empty(), true)) } else { Ok((Sketch::of(string.entry())?, false)) }
}

const PFCOUNT: Command = Spec {
    usage: "PFCOUNT key...",
    about: "Estimates how many different elements were added to HyperLogLogs, taken together.",
    since: "2.8.9",
    cost: "O(N), N being the keys; less for a single one that has not changed since",
    flags: &[READONLY, MAY_REPLICATE],
    keys: &[key("key", &[RW, ACCESS])
        .notes("RW because it may change the internal representation of the key, and propagate to replicas")],
    ..HYPERLOGLOG
}
.runs(pfcount);

fn pfcount(call: &mut Call<'_>) -> Result {
    if call.argc() > 2 {
        let (registers, _) = united(call, 1)?;
        return call.reply(estimate::cardinality_of(&registers) as i64);
    }
    let key = call.key(1);
    let (entry, out) = call.look(key);
    let Some(entry) = entry else {
        out.integer(0);
        return Ok(());
    };
    let sketch = Sketch::of(entry)?;
    if let Some(known) = sketch.known() {
        out.integer(known as i64);
        return Ok(());
    }
    let cardinality = sketch.estimate()?;
    out.integer(cardinality as i64);
    if let Some(mut string) = call.edit::<Str>(key)? {
        string.write_at(CARDINALITY_AT, &cardinality.to_le_bytes());
        string.also_changed("pfcount", UNPUBLISHED);
    }
    Ok(())
}

/// The highest values of the registers of all keys from an argument on, and whether one of them is dense.
fn united(call: &mut Call<'_>, first: usize) -> Result<(Box<Registers>, bool)> {
    let keys: Vec<Key<'_>> = (first..call.argc()).map(|index| call.key(index)).collect();
    let (entries, _) = call.look_all(&keys);
    let mut registers = Box::new([0; REGISTERS]);
    let mut dense = false;
    for entry in entries.into_iter().flatten() {
        let sketch = Sketch::of(entry)?;
        dense |= sketch.is_dense();
        sketch.raise(&mut registers)?;
    }
    Ok((registers, dense))
}

const PFMERGE: Command = Spec {
    usage: "PFMERGE destkey [sourcekey]...",
    about: "Adds to a HyperLogLog what was added to others.",
    since: "2.8.9",
    cost: "O(N), N being the keys",
    flags: &[WRITE, DENYOOM],
    keys: &[key("destkey", &[RW, ACCESS, INSERT]), key("sourcekey", &[RO, ACCESS])],
    ..HYPERLOGLOG
}
.runs(pfmerge);

fn pfmerge(call: &mut Call<'_>) -> Result {
    let sparse_max = sparse_max(call);
    let (registers, dense) = united(call, 1)?;
    let mut string = call.create::<Str>(call.key(1))?;
    let (mut sketch, _) = open(&string)?;
    if dense {
        sketch.make_dense()?;
    }
    for (index, value) in registers.iter().enumerate().filter(|(_, value)| **value > 0) {
        sketch.set(index, *value, sparse_max)?;
    }
    sketch.spoil();
    let bytes = sketch.bytes.into_owned();
    string.set_raw(&bytes);
    string.changed("pfadd");
    call.ok()
}

const PFDEBUG: Command = Spec {
    usage: "PFDEBUG subcommand key",
    about: "Shows how a HyperLogLog is kept: GETREG, DECODE, ENCODING, or changes it: TODENSE.",
    since: "2.8.9",
    cost: "N/A",
    flags: &[WRITE, DENYOOM, ADMIN, SYSCMD],
    keys: &[key("key", &[RW, ACCESS])],
    ..HYPERLOGLOG
}
.runs(pfdebug);

fn pfdebug(call: &mut Call<'_>) -> Result {
    let word = call.arg(1);
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let Some(mut string) = call.edit::<Str>(call.key(2))? else {
        return Err(Error::new("ERR The specified key does not exist"));
    };
    let mut sketch = Sketch::of(string.entry())?;
    let was_dense = sketch.is_dense();
    if is("decode") {
        if was_dense {
            return Err(Error::new("ERR HLL encoding is not sparse"));
        }
        let described = sparse::described(sketch.body());
        drop(string);
        return call.reply(described);
    }
    if is("encoding") {
        drop(string);
        call.out().simple(if was_dense { "dense" } else { "sparse" });
        return Ok(());
    }
    if !is("getreg") && !is("todense") {
        return Err(Error::quoting("ERR Unknown PFDEBUG subcommand '{}'", &[word]));
    }
    sketch.make_dense()?;
    let bytes = sketch.bytes.into_owned();
    if was_dense {
        drop(string);
    } else {
        string.set_raw(&bytes);
        string.also_changed("pfdebug", UNPUBLISHED);
        drop(string);
    }
    if is("todense") {
        return call.reply(!was_dense);
    }
    let sketch = Sketch { bytes: Cow::Owned(bytes) };
    let out = call.out();
    out.array(REGISTERS);
    (0..REGISTERS).for_each(|index| out.integer(i64::from(dense::get(sketch.body(), index))));
    Ok(())
}

const PFSELFTEST: Command = Spec {
    usage: "PFSELFTEST",
    about: "Tests the server's HyperLogLogs.",
    since: "2.8.9",
    cost: "N/A",
    flags: &[ADMIN, SYSCMD],
    ..HYPERLOGLOG
}
.runs(pfselftest);

fn pfselftest(call: &mut Call<'_>) -> Result {
    self_test().map_err(Error::text)?;
    call.ok()
}
