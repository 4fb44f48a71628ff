#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod gcra;

use std::sync::atomic::{AtomicU64, Ordering};

use mortise_sdk::prelude::*;

use gcra::{Limit, Refusal, Verdict};

module! {
    name: "ratelimit",
    about: "Limits how often something may happen.",
    types: [],
    commands: [CL_THROTTLE, RL_THROTTLE],
    info: [INFO],
}

const INFO: Section = Section {
    name: "",
    fields: &[
        Field {
            name: "allowed",
            about: "Requests that were within their limit, since the server started.",
            read: |_| ALLOWED.load(Ordering::Relaxed).into(),
        },
        Field {
            name: "limited",
            about: "Requests that were beyond their limit, since the server started.",
            read: |_| LIMITED.load(Ordering::Relaxed).into(),
        },
    ],
};

static ALLOWED: AtomicU64 = AtomicU64::new(0);
static LIMITED: AtomicU64 = AtomicU64::new(0);

/// Counts one more. Commands run one at a time, so nothing is lost between reading and writing.
fn tally(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

const RATELIMIT: Spec = Spec {
    about: "Asks a rate limit for some units, and takes them if it allows that; returns what is left and how long to wait.",
    since: "0.1.0",
    flags: &[WRITE],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    ..Spec::group("ratelimit")
};

const CL_THROTTLE: Command =
    Spec { usage: "CL.THROTTLE key max_burst:int count:int period:int [quantity:int]", ..RATELIMIT }
        .runs(throttle);

const RL_THROTTLE: Command =
    Spec { usage: "RL.THROTTLE key max_burst:int count:int period:int [quantity:int]", ..RATELIMIT }
        .runs(throttle);

fn throttle(call: &mut Call<'_>) -> Result {
    if call.argc() > 6 {
        return Err(too_many_words(call));
    }
    let (max_burst, count, period_s) = (number(call, 2)?, number(call, 3)?, number(call, 4)?);
    let quantity = if call.argc() > 5 { number(call, 5)? } else { 1 };
    let limit = Limit::new(max_burst, count, period_s).map_err(refused)?;

    let (key, now) = (call.arg(1), call.now_ns().max(0));
    let tat = match call.string_to_set(key)? {
        None => None,
        Some((text, _)) => Some(text.integer().filter(|tat| *tat >= 0).ok_or(NO_STATE)?),
    };
    let verdict = limit.ask(quantity, tat, now).map_err(refused)?;
    match verdict.tat {
        Some(tat) => {
            let deadline = gcra::millisecond_after(tat).max(call.now_ms() + 1);
            call.set_string(key, tat, Some(deadline))?;
            tally(&ALLOWED);
        }
        None => tally(&LIMITED),
    }
    reply(call, verdict)
}

/// What redis-cell says. Too few words do not come here: the server refuses them by the usage line.
#[cold]
fn too_many_words(call: &Call<'_>) -> Error {
    let name = call.arg(0).to_ascii_lowercase();
    Error::quoting(
        "Cell error: Store error: Usage: {} <key> <max_burst> <count per period> <period> [<quantity>]",
        &[&name],
    )
}

/// Five integers: limited or not, the limit, what remains of it, seconds until to try again (-1: now, or never) and until
/// all of it is there again.
fn reply(call: &mut Call<'_>, verdict: Verdict) -> Result {
    let Verdict { tat, limit, remaining, retry_ns, reset_ns } = verdict;
    let mut out = call.out();
    out.array(5);
    out.integer(i64::from(tat.is_none()));
    out.integer(limit);
    out.integer(remaining);
    out.integer(retry_ns.map_or(-1, gcra::seconds));
    out.integer(gcra::seconds(reset_ns));
    Ok(())
}

/// The argument as redis-cell reads it, which takes a plus and leading zeros as well.
fn number(call: &Call<'_>, index: usize) -> Result<i64> {
    call.integer(index).or_else(|_| lenient(call.arg(index)))
}

#[cold]
fn lenient(said: &[u8]) -> Result<i64> {
    const SAID_LEN_MAX: usize = 128;
    let number = std::str::from_utf8(said).ok().and_then(|said| said.parse().ok());
    number.ok_or_else(|| {
        let said = &said[..said.len().min(SAID_LEN_MAX)];
        Error::quoting("Cell error: Store error: Couldn't parse as integer: {}", &[said])
    })
}

const NO_STATE: Error = Error::new("ERR the key holds a string that is not the state of a rate limit");

/// Where redis-cell has a text, that is it.
#[cold]
fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::ZeroRate => Error::new("Cell error: Store error: Zero rates are not supported"),
        Refusal::Negative(name) => Error::text(format!("ERR {name} must not be negative")),
        Refusal::BurstTooLarge => Error::new("ERR max_burst is too large"),
        Refusal::TooLong => Error::new("ERR the limit would take too long to reset"),
    }
}

#[cfg(test)]
mod tests;
