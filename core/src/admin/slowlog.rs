//! SLOWLOG: calls that took long.

use std::collections::VecDeque;

use mortise_sdk::args::parse_integer;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::{ADMIN, CONTAINER, LOADING, STALE};
use mortise_sdk::error::{Error, Result};

use crate::config::Directives;
use crate::engine::args::Args;
use crate::engine::call::Call;
use crate::features::{Command, container};
use crate::keyspace::SpaceId;
use crate::resp::output::Output;

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
    call.at_most(3)?;
    let count = call.args().get(2).map_or(Ok(UNLESS_TOLD), count)?;
    let space = call.session.space;
    let (engine, out) = call.engine_and_out();
    answer(out, &engine.slowlog, space, count);
    Ok(())
}

/// How many entries are wanted.
pub(super) fn count(text: &[u8]) -> Result<usize> {
    match parse_integer(text) {
        Some(-1) => Ok(usize::MAX),
        Some(count) if count >= 0 => Ok(count as usize),
        _ => Err(Error::new("ERR count should be greater than or equal to -1")),
    }
}

/// Answers with the latest entries of a log.
pub(super) fn answer(out: &mut Output, log: &Slowlog, space: SpaceId, count: usize) {
    out.array(count.min(log.calls(space).count()));
    for noted in log.calls(space).take(count) {
        out.array(6);
        out.integer(noted.id as i64);
        out.integer(noted.at_s);
        out.integer(noted.figure as i64);
        out.array(noted.args.len());
        noted.args.iter().for_each(|arg| out.bulk(arg));
        out.bulk(noted.address.as_bytes());
        out.bulk(noted.name.as_bytes());
    }
}

fn slowlog_len(call: &mut Call<'_>) -> Result {
    let len = call.engine.slowlog.calls(call.session.space).count();
    call.reply(len)
}

fn slowlog_reset(call: &mut Call<'_>) -> Result {
    call.engine.slowlog.reset(call.session.space);
    call.ok()
}

/// Arguments that are kept of a call; the last one says how many more there were.
const ARGS_MAX: usize = 32;
/// Bytes that are kept of an argument.
const ARG_LEN_MAX: usize = 128;

/// A call that is noted: a slow one, or a large one.
pub struct SlowCall {
    /// Its number since the start.
    pub id: u64,
    /// In which space: nobody else sees it.
    pub space: SpaceId,
    /// When: Unix seconds.
    pub at_s: i64,
    /// How long in microseconds, or how large in bytes.
    pub figure: u64,
    /// What was asked, shortened.
    pub args: Vec<Vec<u8>>,
    /// The client's address.
    pub address: String,
    /// The client's name.
    pub name: String,
}

/// The most recent of the calls that are noted for a reason.
#[derive(Default)]
pub struct Slowlog {
    calls: VecDeque<SlowCall>,
    next_id: u64,
    len_max: usize,
}

impl Slowlog {
    /// Notes a call of a client with an address and a name. `hidden` says which of its arguments nobody is to read.
    pub fn add(
        &mut self,
        space: SpaceId,
        at_s: i64,
        figure: u64,
        args: Args<'_>,
        hidden: &[usize],
        (address, name): (String, String),
    ) {
        let id = self.next_id;
        self.next_id += 1;
        self.calls.push_front(SlowCall {
            id,
            space,
            at_s,
            figure,
            args: shortened(args, hidden),
            address,
            name,
        });
        self.calls.truncate(self.len_max);
    }

    /// Keeps no more than so many.
    pub fn set_len_max(&mut self, len_max: usize) {
        self.len_max = len_max;
        self.calls.truncate(len_max);
    }

    /// The calls in a space, the newest first.
    pub fn calls(&self, space: SpaceId) -> impl Iterator<Item = &SlowCall> {
        self.calls.iter().filter(move |call| call.space == space)
    }

    /// Forgets those in a space.
    pub fn reset(&mut self, space: SpaceId) {
        self.calls.retain(|call| call.space != space);
    }
}

/// Which arguments of a call hold names and passwords that logs must not show.
pub fn secrets<C: Clone>(command: &str, args: Args<'_>, directives: &Directives<C>) -> Vec<usize> {
    let is_word = |index: usize, word: &str| args.at(index).eq_ignore_ascii_case(word.as_bytes());
    match command {
        "auth" => (1..args.len()).collect(),
        "acl|setuser" => (2..args.len()).collect(),
        "hello" => {
            // As the command walks its options, so that a name is no option; and on behind what it would refuse.
            let (mut hidden, mut index) = (Vec::new(), 1);
            while index < args.len() {
                index += match () {
                    () if is_word(index, "AUTH") => {
                        hidden.extend(index + 1..args.len().min(index + 3));
                        3
                    }
                    () if is_word(index, "SETNAME") => 2,
                    () => 1,
                };
            }
            hidden
        }
        "config|set" => {
            let names = (2..args.len()).step_by(2);
            let secret =
                names.filter(|&index| directives.is_secret(&String::from_utf8_lossy(args.at(index))));
            secret.map(|index| index + 1).collect()
        }
        _ => Vec::new(),
    }
}

fn shortened(args: Args<'_>, hidden: &[usize]) -> Vec<Vec<u8>> {
    let shown = if args.len() > ARGS_MAX { ARGS_MAX - 1 } else { args.len() };
    let mut kept: Vec<Vec<u8>> = args
        .iter()
        .take(shown)
        .enumerate()
        .map(|(index, arg)| {
            if hidden.contains(&index) {
                return b"(redacted)".to_vec();
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::args::OwnedArgs;
    use crate::server;

    fn noted(words: &[&str], command: &str) -> Vec<String> {
        let args = OwnedArgs::new(words.iter().map(|word| word.as_bytes()));
        let hidden = secrets(command, args.view(), &server::directives().unwrap());
        let mut log = Slowlog::default();
        log.set_len_max(1);
        log.add(SpaceId::FIRST, 1, 2, args.view(), &hidden, Default::default());
        let call = log.calls(SpaceId::FIRST).next().unwrap();
        call.args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
    }

    #[test]
    fn long_calls_are_shortened() {
        let words = ["x"; 40];
        let noted_words = noted(&words, "del");
        assert_eq!((noted_words.len(), &*noted_words[31]), (32, "... (9 more arguments)"));
        assert_eq!(noted(&["x"; 32], "del").len(), 32);
        let long = "y".repeat(130);
        assert_eq!(noted(&["set", "k", &long], "set")[2], "y".repeat(128) + "... (2 more bytes)");
    }

    #[test]
    fn passwords_are_not_noted() {
        assert_eq!(noted(&["AUTH", "me", "pw"], "auth"), ["AUTH", "(redacted)", "(redacted)"]);
        assert_eq!(
            noted(&["HELLO", "3", "auth", "me", "pw", "SETNAME", "x"], "hello"),
            ["HELLO", "3", "auth", "(redacted)", "(redacted)", "SETNAME", "x"]
        );
        for (words, expected) in [
            ("3 AUTH joe pw AUTH jim pw", "3 AUTH (redacted) (redacted) AUTH (redacted) (redacted)"),
            ("2 SETNAME auth AUTH jim pw", "2 SETNAME auth AUTH (redacted) (redacted)"),
            ("2 AUTH auth pw SETNAME x", "2 AUTH (redacted) (redacted) SETNAME x"),
            ("AUTH jim pw", "AUTH (redacted) (redacted)"),
            ("2 OTHER AUTH jim", "2 OTHER AUTH (redacted)"),
        ] {
            let words: Vec<&str> = std::iter::once("HELLO").chain(words.split(' ')).collect();
            assert_eq!(noted(&words, "hello")[1..].join(" "), expected);
        }
        assert_eq!(
            noted(&["config", "set", "port", "1", "RequirePass", "pw"], "config|set"),
            ["config", "set", "port", "1", "RequirePass", "(redacted)"]
        );
        // Also what is refused, as Mortise does not have it yet.
        assert_eq!(
            noted(&["config", "set", "TLS-client-key-file-pass", "pw"], "config|set"),
            ["config", "set", "TLS-client-key-file-pass", "(redacted)"]
        );
        assert_eq!(noted(&["HELLO", "3", "AUTH"], "hello"), ["HELLO", "3", "AUTH"]);
    }

    #[test]
    fn the_log_is_bounded_and_numbers_go_on() {
        let args = OwnedArgs::new([&b"ping"[..]].into_iter());
        let mut log = Slowlog::default();
        log.set_len_max(2);
        for at_s in 0..3 {
            log.add(SpaceId::FIRST, at_s, 1, args.view(), &[], Default::default());
        }
        assert_eq!(log.calls(SpaceId::FIRST).map(|call| call.id).collect::<Vec<_>>(), [2, 1]);
        log.reset(SpaceId::FIRST);
        log.add(SpaceId::FIRST, 9, 1, args.view(), &[], Default::default());
        assert_eq!(log.calls(SpaceId::FIRST).map(|call| call.id).collect::<Vec<_>>(), [3]);
        log.set_len_max(0);
        assert_eq!(log.calls(SpaceId::FIRST).count(), 0);
    }
}
