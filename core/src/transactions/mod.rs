//! MULTI, EXEC, DISCARD: commands that run as one. And WATCH, which lets EXEC fail when a key has changed.

pub mod watch;

use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;
use mortise_sdk::{Result, error};

use crate::engine::Caller;
use crate::engine::alone::Alone;
use crate::engine::call::Call;
use crate::engine::dispatch::Asked;
use crate::engine::session::Transaction;
use crate::features::{Command, Feature};

/// Transactions.
pub const FEATURE: Feature =
    Feature { name: "transactions", commands: &[COMMANDS, watch::COMMANDS], ..Feature::EMPTY };

const TRANSACTIONS: Spec = Spec::group("transactions");

/// This file's commands.
pub const COMMANDS: &[Command] = &[MULTI, EXEC, DISCARD];

const MULTI: Command = Spec {
    usage: "MULTI",
    about: "Begins a transaction: commands are queued until EXEC.",
    since: "1.2.0",
    flags: &[NOSCRIPT, LOADING, STALE, FAST, ALLOW_BUSY, NOT_QUEUED],
    ..TRANSACTIONS
}
.runs_alone(multi);

fn multi(call: &mut Alone<'_>) -> Result {
    if call.session.transaction.is_some() {
        return Err(error::MULTI_NESTED);
    }
    call.session.transaction = Some(Transaction::default());
    call.out.ok();
    Ok(())
}

const EXEC: Command = Spec {
    usage: "EXEC",
    about: "Runs the commands queued since MULTI, as one.",
    since: "1.2.0",
    cost: "depends on the commands",
    flags: &[NOSCRIPT, LOADING, STALE, SKIP_SLOWLOG, NOT_QUEUED, RUNS_QUEUE],
    ..TRANSACTIONS
}
.runs(exec);

/// Runs what was queued, each command on the road of every other; what they change settles once, with EXEC.
fn exec(call: &mut Call<'_>) -> Result {
    let Some(transaction) = call.session.transaction.take() else {
        return Err(error::EXEC_WITHOUT_MULTI);
    };
    let result = run(call, &transaction);
    let id = call.session.id;
    if let Some(client) = call.engine.clients.get_mut(id) {
        (client.queued, client.queued_len) = (None, 0);
    }
    result
}

fn run(call: &mut Call<'_>, transaction: &Transaction) -> Result {
    // What EXEC's commands change is propagated as said by them.
    call.propagates_nothing();
    let spoilt = watch::is_spoilt(call);
    watch::forget(call);
    if transaction.broken {
        return Err(error::EXECABORT);
    }
    if spoilt {
        call.out().null_array();
        return Ok(());
    }
    call.out().array(transaction.queue.len());
    let caller = if call.caller().is_stream() { call.caller() } else { Caller::Transaction };
    for queued in &transaction.queue {
        let asked = Asked::new(&queued.command, queued.args.view());
        // Rules may have changed since the command was queued.
        if caller.is_stream() {
            call.execute(asked, caller);
            continue;
        }
        match call.engine.still_allowed(call.session, &queued.command, asked.args) {
            Ok(()) => call.execute(asked, caller),
            Err(error) => call.refuse(&error),
        }
    }
    Ok(())
}

const DISCARD: Command = Spec {
    usage: "DISCARD",
    about: "Gives up the transaction that MULTI began.",
    since: "2.0.0",
    cost: "O(N), N being the commands queued",
    flags: &[NOSCRIPT, LOADING, STALE, FAST, ALLOW_BUSY, NOT_QUEUED],
    ..TRANSACTIONS
}
.runs_alone(discard);

fn discard(call: &mut Alone<'_>) -> Result {
    if call.session.transaction.take().is_none() {
        return Err(error::DISCARD_WITHOUT_MULTI);
    }
    call.session.unwatch();
    call.out.ok();
    Ok(())
}
