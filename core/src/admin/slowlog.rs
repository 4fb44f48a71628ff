//! SLOWLOG: calls that took long.

use std::collections::VecDeque;

use mortise_sdk::args::parse_integer;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::{ADMIN, CONTAINER, LOADING, STALE};
use mortise_sdk::error::{Error, Result};

use crate::engine::args::Args;
use crate::engine::call::Call;
use crate::features::{Command, container};

const SERVER: Spec = Spec::group("server");

const SLOWLOG_CONTAINER: Command = Spec {
    usage: "SLOWLOG",
    about: "Commands about the log of slow calls.",
    since: "2.2.12",
    cost: "depends on the subcommand",
    flags: &[CONTAINER],
    ..SERVER
}
.runs(container);

const SLOWLOG_GET: Command = Spec {
    usage: "SLOWLOG GET [count:int]",
    about: "Returns the latest entries of the slow log.",
    since: "2.2.12",
    cost: "O(N), N being the entries returned",
    flags: &[ADMIN, LOADING, STALE],
    tips: &["request_policy:all_nodes", "nondeterministic_output"],
    history: &[("4.0.0", "Shows the client's address and name.")],
    ..SERVER
}
.runs(slowlog_get);

const SLOWLOG_LEN: Command = Spec {
    usage: "SLOWLOG LEN",
    about: "Counts the entries of the slow log.",
    since: "2.2.12",
    flags: &[ADMIN, LOADING, STALE],
    tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
    ..SERVER
}
.runs(slowlog_len);

const SLOWLOG_RESET: Command = Spec {
    usage: "SLOWLOG RESET",
    about: "Empties the slow log.",
    since: "2.2.12",
    cost: "O(N), N being its entries",
    flags: &[ADMIN, LOADING, STALE],
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    ..SERVER
}
.runs(slowlog_reset);

const SLOWLOG_HELP: Command = Spec {
    usage: "SLOWLOG HELP",
    about: "Lists the subcommands of SLOWLOG.",
    since: "6.2.0",
    flags: &[LOADING, STALE],
    ..SERVER
}
.runs(slowlog_help);

pub(super) const COMMANDS: &[Command] =
    &[SLOWLOG_CONTAINER, SLOWLOG_GET, SLOWLOG_LEN, SLOWLOG_RESET, SLOWLOG_HELP];

fn slowlog_help(call: &mut Call<'_>) -> Result {
    call.help(&[
        (
            "GET [<count>]",
            "Returns the latest entries, 10 unless told, all of them for -1. An entry consists of\n\
             its number, the Unix time in seconds, how long the call took in microseconds, its\n\
             arguments, and the client's address and name.",
        ),
        ("LEN", "Counts the entries."),
        ("RESET", "Forgets the entries."),
    ])
}

fn slowlog_get(call: &mut Call<'_>) -> Result {
    const UNLESS_TOLD: usize = 10;
    if call.argc() > 3 {
        return Err(Error::new(
            "ERR unknown subcommand or wrong number of arguments for 'get'. Try SLOWLOG HELP.",
        ));
    }
    let count = match call.args().get(2).map(parse_integer) {
        None => UNLESS_TOLD,
        Some(Some(-1)) => usize::MAX,
        Some(Some(count)) if count >= 0 => count as usize,
        _ => return Err(Error::new("ERR count should be greater than or equal to -1")),
    };
    let (engine, out) = call.engine_and_out();
    let calls = engine.slowlog.calls();
    out.array(count.min(calls.len()));
    for slow in calls.take(count) {
        out.array(6);
        out.integer(slow.id as i64);
        out.integer(slow.at_s);
        out.integer(slow.us as i64);
        out.array(slow.args.len());
        slow.args.iter().for_each(|arg| out.bulk(arg));
        out.bulk(slow.address.as_bytes());
        out.bulk(slow.name.as_bytes());
    }
    Ok(())
}

fn slowlog_len(call: &mut Call<'_>) -> Result {
    let len = call.engine.slowlog.calls().len();
    call.reply(len)
}

fn slowlog_reset(call: &mut Call<'_>) -> Result {
    call.engine.slowlog.reset();
    call.ok()
}

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
