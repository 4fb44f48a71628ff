//! INCREX: a number that is added to within bounds, and may live for a time. Counters of requests are made of it.

use std::cmp::Ordering;

use mortise_sdk::args;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RW, Spec, UPDATE, key};
use mortise_sdk::error::{self, Error, Result};
use mortise_sdk::extended::Extended;
use mortise_sdk::resp::format_integer;

use super::STRING;
use super::expiry::Lifetime;
use super::value::{Str, StrRef};
use crate::engine::call::Call;
use crate::engine::event;
use crate::features::Command;
use crate::resp::output::Output;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[INCREX];

const INCREX: Command = Spec {
    usage: "INCREX key [increment=<BYFLOAT float:double | BYINT integer:int>] [SATURATE] [LBOUND lowerbound] \
            [UBOUND upperbound] [expiration=<EX seconds:int | PX milliseconds:int | \
            EXAT unix-time-seconds:time | PXAT unix-time-milliseconds:time | PERSIST>] [ENX]",
    about: "Adds to a number within bounds, and may set how long it lives; returns the number and what was added.",
    since: "8.8.0",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    ..STRING
}
.runs(increx);

fn increx(call: &mut Call<'_>) -> Result {
    let options = Options::parse(call)?;
    let deadline = match options.lifetime {
        Lifetime::Until(expiry) => Some(expiry.deadline(call)?),
        Lifetime::Unsaid | Lifetime::Keep | Lifetime::Persist => None,
    };
    match options.increment {
        Increment::Integer(increment) => {
            let bounds = (options.low.map(integer).transpose()?, options.high.map(integer).transpose()?);
            let bounds = (bounds.0.unwrap_or(i64::MIN), bounds.1.unwrap_or(i64::MAX));
            check_bounds(bounds.0.cmp(&bounds.1))?;
            change(call, &options, deadline, |old| add_integer(old, increment, bounds, options.saturates))
        }
        Increment::Float(increment) => {
            let bounds = (options.low.map(float).transpose()?, options.high.map(float).transpose()?);
            if let (Some(low), Some(high)) = bounds {
                check_bounds(low.compare(high))?;
            }
            change(call, &options, deadline, |old| add_float(old, increment, bounds, options.saturates))
        }
    }
}

fn check_bounds(order: Ordering) -> Result {
    if order == Ordering::Greater {
        return Err(Error::new("ERR LBOUND can't be greater than UBOUND"));
    }
    Ok(())
}

fn integer(text: &[u8]) -> Result<i64> {
    args::parse_integer(text).ok_or(error::NOT_INTEGER)
}

fn float(text: &[u8]) -> Result<Extended> {
    Extended::parse(text).ok_or(error::NOT_FLOAT)
}

/// What is added.
#[derive(Clone, Copy)]
enum Increment {
    Integer(i64),
    Float(Extended),
}

/// The options of INCREX.
struct Options<'a> {
    increment: Increment,
    low: Option<&'a [u8]>,
    high: Option<&'a [u8]>,
    saturates: bool,
    lifetime: Lifetime<'a>,
    /// ENX: a deadline that is there stays.
    only_first: bool,
}

impl<'a> Options<'a> {
    fn parse(call: &Call<'a>) -> Result<Options<'a>> {
        let (mut increment, mut lifetime) = (None, Lifetime::default());
        let (mut low, mut high, mut saturates, mut only_first) = (None, None, false, false);
        let mut options = call.options(2);
        while !options.is_empty() {
            let accepted = if let Some(text) = options.takes_value("BYINT") {
                increment.replace(Increment::Integer(integer(text)?)).is_none()
            } else if let Some(text) = options.takes_value("BYFLOAT") {
                increment.replace(Increment::Float(float(text)?)).is_none()
            } else if let Some(text) = options.takes_value("LBOUND") {
                low.replace(text).is_none()
            } else if let Some(text) = options.takes_value("UBOUND") {
                high.replace(text).is_none()
            } else if options.takes("SATURATE") {
                saturates = true;
                true
            } else if options.takes("ENX") {
                only_first = true;
                true
            } else if options.takes("PERSIST") {
                lifetime.persist()
            } else {
                lifetime.take_expiry(&mut options)
            };
            if !accepted {
                return Err(error::SYNTAX);
            }
        }
        if only_first && !matches!(lifetime, Lifetime::Until(_)) {
            return Err(error::SYNTAX);
        }
        let increment = increment.unwrap_or(Increment::Integer(1));
        Ok(Options { increment, low, high, saturates, lifetime, only_first })
    }
}

/// What becomes of a number: its text, whether it is changed at all, and the answer.
struct Sum {
    text: String,
    is_set: bool,
    event: &'static str,
    answer: Answer,
}

/// The number, and what was added.
enum Answer {
    Integers(i64, i64),
    Texts(String, String),
}

impl Answer {
    fn write(&self, out: &mut Output) {
        out.array(2);
        match self {
            Answer::Integers(sum, added) => {
                out.integer(*sum);
                out.integer(*added);
            }
            Answer::Texts(sum, added) => {
                out.double_text(sum.as_bytes());
                out.double_text(added.as_bytes());
            }
        }
    }
}

fn add_integer(
    old: Option<StrRef<'_>>,
    increment: i64,
    (low, high): (i64, i64),
    saturates: bool,
) -> Result<Sum> {
    let old = old.map_or(Some(0), StrRef::integer).ok_or(error::NOT_INTEGER)?;
    let sum = i128::from(old) + i128::from(increment);
    let bounded = sum.clamp(i128::from(low), i128::from(high)) as i64;
    let is_set = saturates || i128::from(bounded) == sum;
    let (new, added) = match is_set {
        true => (bounded, bounded.checked_sub(old).ok_or(error::OVERFLOW)?),
        false => (old, 0),
    };
    let text = format_integer(new).as_bytes().iter().map(|&digit| char::from(digit)).collect();
    Ok(Sum { text, is_set, event: "incrby", answer: Answer::Integers(new, added) })
}

fn add_float(
    old: Option<StrRef<'_>>,
    increment: Extended,
    (low, high): (Option<Extended>, Option<Extended>),
    saturates: bool,
) -> Result<Sum> {
    let old = old.map_or(Some(Extended::ZERO), StrRef::extended);
    let old = old.ok_or(error::NOT_FLOAT)?;
    let sum = old.plus(increment).ok_or(error::NOT_FINITE)?;
    let is_above = |bound: &Extended| sum.compare(*bound) == Ordering::Greater;
    let is_below = |bound: &Extended| sum.compare(*bound) == Ordering::Less;
    let passed = high.filter(is_above).or(low.filter(is_below));
    let (is_set, new, added) = match passed {
        None => (true, sum, increment),
        Some(bound) if saturates => (true, bound, bound.plus(old.negated()).ok_or(error::NOT_FINITE)?),
        Some(_) => (false, old, Extended::ZERO),
    };
    if is_set && !(new.is_finite() && added.is_finite()) {
        return Err(error::NOT_FINITE);
    }
    let (text, added) = (new.format(), added.format());
    Ok(Sum { text: text.clone(), is_set, event: "incrbyfloat", answer: Answer::Texts(text, added) })
}

/// Sets the number to what becomes of it, and its deadline.
fn change(
    call: &mut Call<'_>,
    options: &Options<'_>,
    deadline: Option<i64>,
    add: impl FnOnce(Option<StrRef<'_>>) -> Result<Sum>,
) -> Result {
    let key = call.key(1);
    // A stream says itself what goes.
    let is_past = deadline.is_some_and(|ms| ms <= call.now_ms()) && !call.caller().is_stream();
    let mut number = call.create::<Str>(key)?;
    let old = (!number.is_new()).then(|| number.view());
    let sum = add(old)?;
    if !sum.is_set {
        drop(number);
        sum.answer.write(call.out());
        return Ok(());
    }
    match &sum.answer {
        Answer::Integers(new, _) => number.set_integer(*new),
        Answer::Texts(..) => number.set_text(sum.text.as_bytes()),
    }
    let old_deadline = number.deadline();
    let new_deadline = match (deadline, options.lifetime) {
        (Some(_), _) if options.only_first && old_deadline.is_some() => old_deadline,
        // It goes below.
        (Some(_), _) if is_past => old_deadline,
        (Some(deadline), _) => Some(deadline),
        (None, Lifetime::Persist) => None,
        (None, _) => old_deadline,
    };
    number.set_deadline(new_deadline);
    number.also_changed(sum.event, event::STRING);
    let expires_anew = deadline.is_some() && !(options.only_first && old_deadline.is_some());
    if expires_anew && !is_past {
        number.also_changed("expire", event::GENERIC);
    } else if new_deadline != old_deadline {
        number.also_changed("persist", event::GENERIC);
    }
    drop(number);
    sum.answer.write(call.out());

    if expires_anew && is_past {
        call.remove(key, "del");
        call.propagates_removal(key, call.engine.config.keyspace.lazyfree_lazy_expire);
        return Ok(());
    }
    // The number, so that whoever follows need not add as we do.
    match new_deadline {
        Some(deadline) if expires_anew => {
            let deadline = format_integer(deadline);
            call.propagates(&[b"SET", key.bytes, sum.text.as_bytes(), b"PXAT", deadline.as_bytes()]);
        }
        Some(_) => call.propagates(&[b"SET", key.bytes, sum.text.as_bytes(), b"KEEPTTL"]),
        None => call.propagates(&[b"SET", key.bytes, sum.text.as_bytes()]),
    }
    Ok(())
}
