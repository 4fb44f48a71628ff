//! SCRIPT: which scripts are known, and ending the one that runs.

use mortise_scripting::Sandbox;
use mortise_sdk::Result;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;
use mortise_sdk::error::Error;
use parking_lot::ArcMutexGuard;

use crate::engine::alone::Alone;
use crate::engine::call::Call;
use crate::engine::event::Kill;
use crate::features::{Command, container};

const SCRIPTING: Spec = Spec::group("scripting");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[SCRIPT, LOAD, EXISTS, FLUSH, KILL, DEBUG, SHOW, HELP];

const SCRIPT: Command = Spec {
    usage: "SCRIPT",
    about: "Commands about scripts.",
    since: "2.6.0",
    cost: "Depends on the subcommand.",
    flags: &[CONTAINER],
    ..SCRIPTING
}
.runs(container);

const LOAD: Command = Spec {
    usage: "SCRIPT LOAD script",
    about: "Makes a script known, and returns the SHA1 of its text.",
    since: "2.6.0",
    cost: "O(N), N being the length of the script",
    flags: &[NOSCRIPT, STALE],
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    ..SCRIPTING
}
.runs(|call| {
    let mut sandbox = sandbox(call)?;
    let script = sandbox.load(call.arg(2))?;
    let digest = sandbox.text(script).map(|(digest, _)| digest.hex());
    call.reply(&digest.unwrap_or([b'0'; 40])[..])
});

const EXISTS: Command = Spec {
    usage: "SCRIPT EXISTS sha1...",
    about: "Tells of each script whether it is known.",
    since: "2.6.0",
    cost: "O(N), N being the scripts asked for",
    flags: &[NOSCRIPT],
    tips: &["request_policy:all_shards", "response_policy:agg_logical_and"],
    ..SCRIPTING
}
.runs(|call| {
    let mut sandbox = sandbox(call)?;
    let digests = call.args().from(2);
    call.out().array(digests.len());
    digests.iter().for_each(|digest| call.out().integer(sandbox.find(digest).is_some().into()));
    Ok(())
});

const FLUSH: Command = Spec {
    usage: "SCRIPT FLUSH [async=<ASYNC | SYNC>]",
    about: "Forgets all scripts.",
    since: "2.6.0",
    cost: "O(N), N being the scripts",
    flags: &[NOSCRIPT],
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    history: &[("6.2.0", "Added the `ASYNC` and `SYNC` flushing mode modifiers.")],
    ages: &[mortise_sdk::declare::added("async", "6.2.0")],
    ..SCRIPTING
}
.runs(|call| {
    const ONLY: Error = Error::new("ERR SCRIPT FLUSH only support SYNC|ASYNC option");
    let is = |word: &str| call.arg(2).eq_ignore_ascii_case(word.as_bytes());
    if call.argc() > 3 || call.argc() == 3 && !is("SYNC") && !is("ASYNC") {
        return Err(ONLY);
    }
    // Nobody can tell when the memory is given back, so a worker does it in any case.
    let remains = sandbox(call)?.flush();
    call.engine.unit.discard_later(Box::new(remains));
    call.ok()
});

const KILL: Command = Spec {
    usage: "SCRIPT KILL",
    about: "Ends the script that is running, if it has not written yet.",
    since: "2.6.0",
    flags: &[NOSCRIPT, ALLOW_BUSY],
    tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
    ..SCRIPTING
}
.runs_alone(kill);

/// Asks the script that runs to end.
fn kill(call: &mut Alone<'_>) -> Result {
    const NOTHING_RUNS: Error = Error::new("NOTBUSY No scripts in execution right now.");
    const HAS_WRITTEN: Error = Error::new(
        "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script \
         termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
    );
    match call.running.map_or(Kill::NothingRuns, |running| running.kill()) {
        Kill::NothingRuns => Err(NOTHING_RUNS),
        Kill::HasWritten => Err(HAS_WRITTEN),
        Kill::Asked => {
            call.out.ok();
            Ok(())
        }
    }
}

const DEBUG: Command = Spec {
    usage: "SCRIPT DEBUG mode=<YES | SYNC | NO>",
    about: "Refuses to debug scripts.",
    since: "3.2.0",
    flags: &[NOSCRIPT],
    ..SCRIPTING
}
.runs(|call| {
    const NOT_HERE: Error = Error::new("ERR there is no debugger for scripts in this server");
    const USE: Error = Error::new("ERR Use SCRIPT DEBUG YES/SYNC/NO");
    let is = |word: &str| call.arg(2).eq_ignore_ascii_case(word.as_bytes());
    match () {
        () if is("NO") => call.ok(),
        () if is("YES") || is("SYNC") => Err(NOT_HERE),
        () => Err(USE),
    }
});

const SHOW: Command = Spec {
    usage: "SCRIPT SHOW sha1",
    about: "Returns the text of a script that is known.",
    since: "8.0.0",
    flags: &[NOSCRIPT, STALE],
    ..SCRIPTING
}
.runs(|call| {
    const UNKNOWN: Error = Error::new("NOSCRIPT No matching script.");
    let mut sandbox = sandbox(call)?;
    let script = sandbox.find(call.arg(2)).ok_or(UNKNOWN)?;
    let (_, text) = sandbox.text(script).ok_or(UNKNOWN)?;
    call.reply(text)
});

const HELP: Command = Spec {
    usage: "SCRIPT HELP",
    about: "Lists the subcommands of SCRIPT.",
    since: "5.0.0",
    flags: &[LOADING, STALE],
    ..SCRIPTING
}
.runs(|call| {
    call.help(&[
        ("DEBUG (YES|SYNC|NO)", "There is no debugger: NO is obeyed."),
        ("EXISTS <sha1> [<sha1> ...]", "Tells of each script whether it is known."),
        ("FLUSH [ASYNC|SYNC]", "Forgets all scripts."),
        ("KILL", "Ends the script that is running, if it has not written yet."),
        ("LOAD <script>", "Makes a script known without running it."),
        ("SHOW <sha1>", "Returns the text of a script that is known."),
    ])
});

/// The sandbox of the caller's space.
fn sandbox(call: &mut Call<'_>) -> Result<ArcMutexGuard<parking_lot::RawMutex, Sandbox>> {
    let memory_max = call.engine.config.scripting.script_memory_limit.0 as usize;
    let sandbox = call.engine.scripting.of(call.session.space, memory_max);
    // No script runs while one of these commands does.
    sandbox.try_lock_arc().ok_or(mortise_sdk::error::BUSY_SCRIPT)
}
