//! What the commands have in common that pop from the first of several keys that holds anything: LMPOP and ZMPOP, and those
//! that wait.

use std::ops::Range;

use mortise_sdk::resp::format_integer;
use mortise_sdk::{Error, Result, args, error};

use crate::engine::Caller;
use crate::engine::blocked::OnTimeout;
use crate::engine::call::{Call, Key, Options};

/// Where a value is popped from.
pub(super) trait End: Copy {
    /// The end that the next argument names.
    fn parse(options: &mut Options<'_>) -> Result<Self>;
    /// The command that pops from one key.
    fn pop_command(self) -> &'static [u8];
}

/// An integer of at least `min`; the error says what is wrong, whatever it is.
pub(super) fn at_least(text: &[u8], min: i64, error: Error) -> Result<usize> {
    let n = args::parse_integer(text).filter(|n| *n >= min).ok_or(error)?;
    Ok(usize::try_from(n).unwrap_or(usize::MAX))
}

/// `numkeys key... <an end> [COUNT count]`
pub(super) struct ManyKeys<E> {
    /// Which arguments are keys.
    pub(super) keys: Range<usize>,
    /// Where to pop from.
    pub(super) end: E,
    /// How many at most.
    pub(super) count: usize,
}

impl<E: End> ManyKeys<E> {
    /// What stands from the argument `numkeys` on.
    pub(super) fn parse(call: &Call<'_>, numkeys: usize) -> Result<ManyKeys<E>> {
        let keys = at_least(call.arg(numkeys), 1, Error::new("ERR numkeys should be greater than 0"))?;
        let first = numkeys + 1;
        // More keys than arguments: there is no room for where to pop from.
        if keys >= call.argc() - first {
            return Err(error::SYNTAX);
        }
        let keys = first..first + keys;
        let mut options = call.options(keys.end);
        let end = E::parse(&mut options)?;
        let mut count = None;
        while !options.is_empty() {
            let Some(text) = options.takes_value("COUNT").filter(|_| count.is_none()) else {
                return Err(error::SYNTAX);
            };
            count = Some(at_least(text, 1, Error::new("ERR count should be greater than 0"))?);
        }
        Ok(ManyKeys { keys, end, count: count.unwrap_or(1) })
    }
}

/// Pops from the first key that holds anything, and propagates that as a pop from this key, of a number if it is `counted`;
/// false if none does. `pop` answers, and says how many there were, none if there is no such key.
pub(super) fn pop_first(
    call: &mut Call<'_>,
    keys: Range<usize>,
    end: impl End,
    counted: bool,
    mut pop: impl FnMut(&mut Call<'_>, Key<'_>) -> Result<Option<usize>>,
) -> Result<bool> {
    for index in keys {
        match pop(call, call.key(index)) {
            Ok(Some(popped)) => {
                say_pop(call, end, index, counted.then_some(popped));
                return Ok(true);
            }
            Ok(None) => {}
            // A key that comes to hold something else is no reason to stop waiting.
            Err(_) if call.caller() == Caller::Retry => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// As [`pop_first`]; waits if no key holds anything.
pub(super) fn pop_or_wait(
    call: &mut Call<'_>,
    keys: Range<usize>,
    end: impl End,
    counted: bool,
    timeout: f64,
    pop: impl FnMut(&mut Call<'_>, Key<'_>) -> Result<Option<usize>>,
) -> Result {
    if pop_first(call, keys.clone(), end, counted, pop)? {
        return Ok(());
    }
    let names: Vec<&[u8]> = keys.map(|index| call.arg(index)).collect();
    call.wait_for(&names, timeout, OnTimeout::NullArray)
}

/// Propagates what was popped as a pop from one key.
fn say_pop(call: &mut Call<'_>, end: impl End, index: usize, popped: Option<usize>) {
    if !call.is_propagated() {
        return;
    }
    let (command, key) = (end.pop_command(), call.arg(index));
    match popped {
        Some(popped) => call.propagates(&[command, key, format_integer(popped as i64).as_bytes()]),
        None => call.propagates(&[command, key]),
    }
}
