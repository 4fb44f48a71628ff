//! COMMANDLOG: calls that took long, and those whose request or reply was large.

use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::{ADMIN, CONTAINER, LOADING, SKIP_SLOWLOG, STALE};
use mortise_sdk::error::{Error, Result};

use super::slowlog::{Slowlog, answer, count, secrets};
use crate::admin::latency::events::Event;
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::args::Args;
use crate::engine::call::Call;
use crate::engine::registry::Command as Registered;
use crate::engine::session::Session;
use crate::features::{Command, container};

const SERVER: Spec = Spec::group("server");

/// What the subcommands have in common.
const LOG: Spec = Spec { since: "8.1.0", flags: &[ADMIN, LOADING, STALE], ..SERVER };

/// This file's commands.
pub(super) const COMMANDS: &[Command] =
    &[COMMANDLOG_CONTAINER, COMMANDLOG_GET, COMMANDLOG_LEN, COMMANDLOG_RESET, COMMANDLOG_HELP];

const COMMANDLOG_CONTAINER: Command = Spec {
    usage: "COMMANDLOG",
    about: "Commands about the logs of calls that took long or were large.",
    cost: "depends on the subcommand",
    flags: &[CONTAINER],
    ..LOG
}
.runs(container);

const COMMANDLOG_GET: Command = Spec {
    usage: "COMMANDLOG GET count:int type",
    about: "Returns the latest entries of a log: slow, large-request or large-reply.",
    cost: "O(N), N being the entries returned",
    tips: &["request_policy:all_nodes", "nondeterministic_output"],
    ..LOG
}
.runs(commandlog_get);

const COMMANDLOG_LEN: Command = Spec {
    usage: "COMMANDLOG LEN type",
    about: "Counts the entries of a log.",
    tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
    ..LOG
}
.runs(commandlog_len);

const COMMANDLOG_RESET: Command = Spec {
    usage: "COMMANDLOG RESET type",
    about: "Empties a log.",
    cost: "O(N), N being its entries",
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    ..LOG
}
.runs(commandlog_reset);

const COMMANDLOG_HELP: Command = Spec {
    usage: "COMMANDLOG HELP",
    about: "Lists the subcommands of COMMANDLOG.",
    flags: &[LOADING, STALE],
    ..LOG
}
.runs(commandlog_help);

/// Which log.
#[derive(Clone, Copy)]
enum Kind {
    Slow,
    LargeRequest,
    LargeReply,
}

impl Kind {
    fn parse(name: &[u8]) -> Result<Kind> {
        match name.to_ascii_lowercase().as_slice() {
            b"slow" => Ok(Kind::Slow),
            b"large-request" => Ok(Kind::LargeRequest),
            b"large-reply" => Ok(Kind::LargeReply),
            _ => Err(Error::new("ERR type should be one of the following: slow, large-request, large-reply")),
        }
    }

    fn log(self, engine: &Engine) -> &Slowlog {
        match self {
            Kind::Slow => &engine.slowlog,
            Kind::LargeRequest => &engine.large.requests,
            Kind::LargeReply => &engine.large.replies,
        }
    }

    fn log_mut(self, engine: &mut Engine) -> &mut Slowlog {
        match self {
            Kind::Slow => &mut engine.slowlog,
            Kind::LargeRequest => &mut engine.large.requests,
            Kind::LargeReply => &mut engine.large.replies,
        }
    }
}

fn commandlog_get(call: &mut Call<'_>) -> Result {
    let (count, kind) = (count(call.arg(2))?, Kind::parse(call.arg(3))?);
    let space = call.session.space;
    let (engine, out) = call.engine_and_out();
    answer(out, kind.log(engine), space, count);
    Ok(())
}

fn commandlog_len(call: &mut Call<'_>) -> Result {
    let (kind, space) = (Kind::parse(call.arg(2))?, call.session.space);
    let len = kind.log(call.engine).calls(space).count();
    call.reply(len)
}

fn commandlog_reset(call: &mut Call<'_>) -> Result {
    let (kind, space) = (Kind::parse(call.arg(2))?, call.session.space);
    kind.log_mut(call.engine).reset(space);
    call.ok()
}

fn commandlog_help(call: &mut Call<'_>) -> Result {
    call.help(&[
        (
            "GET <count> <type>",
            "Returns the latest entries of a log, all of them for -1. The logs are slow, large-request\nand large-reply. An \
             entry consists of its number, the Unix time in seconds, how long the call\ntook in microseconds or how many \
             bytes there were, its arguments, and the client's address\nand name.",
        ),
        ("LEN <type>", "Counts the entries of a log."),
        ("RESET <type>", "Forgets the entries of a log."),
    ])
}

/// Calls whose request or reply was large, and from which length on they are.
#[derive(Default)]
pub struct LargeCalls {
    requests: Slowlog,
    replies: Slowlog,
    request_len_min: usize,
    reply_len_min: usize,
}

impl LargeCalls {
    /// Takes over what the settings say.
    pub fn follow(&mut self, config: &Config) {
        let stats = &config.stats;
        let min = |larger_than: i64| usize::try_from(larger_than).unwrap_or(usize::MAX);
        self.request_len_min = min(stats.commandlog_request_larger_than);
        self.reply_len_min = min(stats.commandlog_reply_larger_than);
        self.requests.set_len_max(stats.commandlog_large_request_max_len);
        self.replies.set_len_max(stats.commandlog_large_reply_max_len);
    }

    /// Whether a call's request or reply may be large: a cheap look, which errs on the side of yes.
    #[inline(always)]
    pub fn may_note(&self, args: Args<'_>, reply_len: usize) -> bool {
        /// What stands before and behind an argument on the wire takes less.
        const AROUND: usize = 16;
        (reply_len >= self.reply_len_min) | (args.extent() + AROUND * args.len() >= self.request_len_min)
    }
}

/// Bytes that a request takes on the wire.
fn wire_len(args: Args<'_>) -> usize {
    let digits = |n: usize| n.checked_ilog10().unwrap_or(0) as usize + 1;
    let line = |n: usize| 1 + digits(n) + 2;
    line(args.len()) + args.iter().map(|arg| line(arg.len()) + arg.len() + 2).sum::<usize>()
}

impl Engine {
    /// A call took long, or may have been large: notes it in the logs that want it.
    #[cold]
    pub(crate) fn note_call(
        &mut self,
        session: &Session,
        command: &Registered,
        args: Args<'_>,
        (ns, reply_len): (u64, usize),
    ) {
        let is_fast = command.flags.has(mortise_sdk::declare::flags::FAST);
        self.note_latency(if is_fast { Event::FastCommand } else { Event::Command }, ns);
        if command.flags.has(SKIP_SLOWLOG) {
            return;
        }
        let request_len = wire_len(args);
        let is_slow = ns >= self.slowlog_ns;
        let (large_request, large_reply) =
            (request_len >= self.large.request_len_min, reply_len >= self.large.reply_len_min);
        if !is_slow && !large_request && !large_reply {
            return;
        }
        let client = self.clients.get(session.id);
        let who = client.map(|c| (c.origin.address.clone(), c.name.clone())).unwrap_or_default();
        let hidden = secrets(&command.name, args, &self.directives);
        let (space, at_s) = (session.space, self.now_ms / 1000);
        if is_slow {
            self.slowlog.add(space, at_s, ns / 1000, args, &hidden, who.clone());
        }
        if large_request {
            self.large.requests.add(space, at_s, request_len as u64, args, &hidden, who.clone());
        }
        if large_reply {
            self.large.replies.add(space, at_s, reply_len as u64, args, &hidden, who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::args::OwnedArgs;
    use crate::engine::testing::Bench;

    #[test]
    fn requests_are_measured_as_they_are_sent() {
        for words in [&["PING"][..], &["SET", "k", ""], &["x"; 12], &["ECHO", "0123456789"]] {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            let sent = mortise_sdk::resp::encode::request(words.iter().copied());
            assert_eq!(wire_len(OwnedArgs::new(words.into_iter()).view()), sent.len());
        }
    }

    #[test]
    fn large_calls_are_noted() {
        let mut bench = Bench::new();
        let client = bench.connect();
        let long = "x".repeat(200);
        // The limits are included: a request of just so many bytes is noted.
        let stats = &mut bench.engine.config.stats;
        (stats.commandlog_request_larger_than, stats.commandlog_reply_larger_than) = (228, 208);
        bench.engine.apply_config();
        bench.ask(client, &[&format!("SET k {long}")]);
        bench.ask(client, &[&format!("SET k {}", &long[1..])]);
        bench.ask(client, &["GET k", "STRLEN k"]);
        bench.ask(client, &[&format!("SET k {long}"), "GET k"]);
        let len = |bench: &mut Bench, kind: &str| bench.ask(client, &[&format!("COMMANDLOG LEN {kind}")]);
        assert_eq!(len(&mut bench, "large-request"), ":2\r\n");
        assert_eq!(len(&mut bench, "LARGE-REPLY"), ":1\r\n");
        assert_eq!(len(&mut bench, "slow"), ":0\r\n");
        bench.engine.config.stats.commandlog_reply_larger_than = -1;
        bench.engine.apply_config();
        bench.ask(client, &["GET k"]);
        assert_eq!(len(&mut bench, "large-reply"), ":1\r\n");
        let entry = bench.ask(client, &["COMMANDLOG GET 1 large-request"]);
        assert!(entry.contains(":228\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n"), "{entry}");
        assert!(
            bench.ask(client, &["COMMANDLOG GET -1 large-reply"]).contains(":208\r\n*2\r\n$3\r\nGET\r\n")
        );
        bench.ask(client, &["COMMANDLOG RESET large-request"]);
        assert_eq!(len(&mut bench, "large-request"), ":0\r\n");
    }
}
