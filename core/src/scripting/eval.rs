//! EVAL, EVALSHA, and their read-only kin.

use mortise_scripting::{Flags, NOSCRIPT as UNKNOWN_SCRIPT, Outcome, Sandbox, Script};
use mortise_sdk::Result;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::keys::{ACCESS, RO, RW, UPDATE};
use mortise_sdk::declare::{KeyUse, Spec, key};
use mortise_sdk::error::{self, Error};

use super::host::Running;
use crate::engine::call::Call;
use crate::features::Command;
use crate::keyspace::shrink::empty;

const SCRIPTING: Spec = Spec::group("scripting");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[EVAL, EVAL_RO, EVALSHA, EVALSHA_RO];

const EVAL: Command = Spec {
    usage: "EVAL script numkeys:int [key...] [arg...]",
    about: "Runs a Lua script.",
    since: "2.6.0",
    cost: "Depends on the script.",
    flags: &[NOSCRIPT, STALE, SKIP_MONITOR, MAY_REPLICATE, NO_MANDATORY_KEYS, SUSPENDS],
    keys: &[KeyUse {
        notes: "What a script does with its keys cannot be told, so the most is assumed.",
        ..MAY_WRITE
    }],
    ..SCRIPTING
}
.runs(|call| eval(call, By::Text, false));

const EVAL_RO: Command = Spec {
    usage: "EVAL_RO script numkeys:int [key...] [arg...]",
    about: "Runs a Lua script that only reads.",
    since: "7.0.0",
    flags: &[READONLY, NOSCRIPT, STALE, SKIP_MONITOR, NO_MANDATORY_KEYS, SUSPENDS],
    keys: &[KeyUse {
        notes: "What a script does with its keys cannot be told, so the most is assumed.",
        ..READS
    }],
    ..EVAL.spec
}
.runs(|call| eval(call, By::Text, true));

const EVALSHA: Command = Spec {
    usage: "EVALSHA sha1 numkeys:int [key...] [arg...]",
    about: "Runs a Lua script that is known by the SHA1 of its text.",
    keys: &[MAY_WRITE],
    ..EVAL.spec
}
.runs(|call| eval(call, By::Digest, false));

const EVALSHA_RO: Command = Spec {
    usage: "EVALSHA_RO sha1 numkeys:int [key...] [arg...]",
    about: "Runs a Lua script that only reads, and is known by the SHA1 of its text.",
    keys: &[READS],
    ..EVAL_RO.spec
}
.runs(|call| eval(call, By::Digest, true));

const MAY_WRITE: KeyUse = key("key", &[RW, ACCESS, UPDATE]);
const READS: KeyUse = key("key", &[RO, ACCESS]);

/// How the script is named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Text,
    Digest,
}

fn eval(call: &mut Call<'_>, by: By, read_only: bool) -> Result {
    const TOO_MANY_KEYS: Error = Error::new("ERR Number of keys can't be greater than number of args");
    const NEGATIVE_KEYS: Error = Error::new("ERR Number of keys can't be negative");
    // Before what it calls.
    call.engine.show_script(call.session, call.command, call.args());
    let keys = call.integer(2)?;
    let keys = usize::try_from(keys).map_err(|_| NEGATIVE_KEYS)?;
    if keys > call.argc() - 3 {
        return Err(TOO_MANY_KEYS);
    }
    let memory_max = call.engine.config.scripting.script_memory_limit.0 as usize;
    let sandbox = call.engine.scripting.of(call.session.space, memory_max);
    // Scripts do not call scripts.
    let Some(mut sandbox) = sandbox.try_lock() else { return Err(NESTED) };
    let script = match by {
        By::Text => sandbox.load(call.arg(1))?,
        By::Digest => sandbox.find(call.arg(1)).ok_or(UNKNOWN_SCRIPT)?,
    };
    let read_only = may_run(call, script.flags(), read_only)?;
    run(call, &mut sandbox, script, keys, read_only)
}

const NESTED: Error = Error::new("ERR a script cannot run while another does");

/// Whether a script may run by what it says of itself; and whether it may only read.
fn may_run(call: &Call<'_>, flags: Flags, read_only: bool) -> Result<bool> {
    const WRITES: Error = Error::new("ERR Can not execute a script with write flag using *_ro command.");
    if !flags.declared {
        return Ok(read_only);
    }
    if !flags.no_writes {
        if let Some(error) = call.engine.refuses_writes() {
            return Err(error);
        }
        if let Some(refused) = call.engine.refuses_writers().filter(|_| !call.caller().is_stream()) {
            return Err(refused);
        }
        if call.engine.out_of_memory && !flags.allow_oom {
            return Err(error::OOM);
        }
        if read_only {
            return Err(WRITES);
        }
    }
    Ok(read_only || flags.no_writes)
}

fn run(call: &mut Call<'_>, sandbox: &mut Sandbox, script: Script, keys: usize, read_only: bool) -> Result {
    // What its commands change is propagated as said by them.
    call.propagates_nothing();
    let args = call.args().from(3);
    let (key_args, other_args) = (args.iter().take(keys), args.from(keys).iter());
    let version = call.session.version;
    call.session.home = Some(call.session.db);
    call.script_begins();
    let mut reply = std::mem::take(&mut call.engine.scripting.reply);
    let mut host = Running::new(call, script.flags(), read_only);
    let outcome = sandbox.run(script, key_args, other_args, &mut host, version, &mut reply);
    host.finish();
    call.engine.return_home(call.session);
    call.out().append(&mut reply);
    empty(&mut reply, super::KEEP_MAX);
    call.engine.scripting.reply = reply;
    if outcome != Outcome::Returned {
        call.note_failure();
    }
    Ok(())
}
