//! The slow log: calls that took long.

use std::collections::VecDeque;

use crate::engine::args::Args;

/// Arguments that are kept of a call; the last one says how many more there were.
const ARGS_MAX: usize = 32;
/// Bytes that are kept of an argument.
const ARG_LEN_MAX: usize = 128;

/// A slow call.
pub struct SlowCall {
    /// Its number since the start.
    pub id: u64,
    /// When: Unix seconds.
    pub at_s: i64,
    /// How long: microseconds.
    pub us: u64,
    /// What was asked, shortened.
    pub args: Vec<Vec<u8>>,
    /// The client's address.
    pub address: String,
    /// The client's name.
    pub name: String,
}

/// The most recent slow calls.
#[derive(Default)]
pub struct Slowlog {
    calls: VecDeque<SlowCall>,
    next_id: u64,
    len_max: usize,
}

impl Slowlog {
    /// Notes a call.
    pub fn add(&mut self, at_s: i64, us: u64, args: Args<'_>, address: String, name: String) {
        let id = self.next_id;
        self.next_id += 1;
        self.calls.push_front(SlowCall { id, at_s, us, args: shortened(args), address, name });
        self.calls.truncate(self.len_max);
    }

    /// Keeps no more than so many.
    pub fn set_len_max(&mut self, len_max: usize) {
        self.len_max = len_max;
        self.calls.truncate(len_max);
    }

    /// The calls, the newest first.
    pub fn calls(&self) -> impl ExactSizeIterator<Item = &SlowCall> {
        self.calls.iter()
    }

    /// Forgets them.
    pub fn reset(&mut self) {
        self.calls.clear();
    }
}

fn shortened(args: Args<'_>) -> Vec<Vec<u8>> {
    let shown = if args.len() > ARGS_MAX { ARGS_MAX - 1 } else { args.len() };
    let mut kept: Vec<Vec<u8>> = args
        .iter()
        .take(shown)
        .map(|arg| {
            if arg.len() <= ARG_LEN_MAX {
                return arg.to_vec();
            }
            let more = format!("... ({} more bytes)", arg.len() - ARG_LEN_MAX);
            [&arg[..ARG_LEN_MAX], more.as_bytes()].concat()
        })
        .collect();
    if shown < args.len() {
        kept.push(format!("... ({} more arguments)", args.len() - shown).into_bytes());
    }
    kept
}
