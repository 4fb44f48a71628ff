//! CLIENT PAUSE, UNPAUSE, UNBLOCK: making others wait, and ending their waits.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Spec, added};
use mortise_sdk::{Error, Result};

use crate::engine::call::Call;
use crate::engine::session::ClientId;
use crate::features::Command;

const CONNECTION: Spec = Spec::group("connection");

/// This file's commands.
pub(in crate::session) const COMMANDS: &[Command] = &[CLIENT_PAUSE, CLIENT_UNPAUSE, CLIENT_UNBLOCK];

const CLIENT_PAUSE: Command = Spec {
    usage: "CLIENT PAUSE timeout:int [mode=<WRITE | ALL>]",
    about: "Suspends the commands of all clients for a time.",
    since: "2.9.50",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    history: &[("6.2.0", "Modes `WRITE` and `ALL`.")],
    ages: &[added("mode", "6.2.0")],
    ..CONNECTION
}
.runs(client_pause);

fn client_pause(call: &mut Call<'_>) -> Result {
    call.at_most(4)?;
    let mut options = call.options(3);
    let all = options.is_empty() || options.takes("ALL");
    if !all && !options.takes("WRITE") {
        return Err(Error::new("ERR CLIENT PAUSE mode must be WRITE or ALL"));
    }
    let timeout_ms =
        call.integer(2).map_err(|_| Error::new("ERR timeout is not an integer or out of range"))?;
    if timeout_ms < 0 {
        return Err(Error::new("ERR timeout is negative"));
    }
    let now_ms = call.now_ms();
    let until_ms = now_ms.checked_add(timeout_ms).ok_or(Error::new("ERR timeout is out of range"))?;
    call.engine.clients.pause.begin(until_ms, all, now_ms);
    call.ok()
}

const CLIENT_UNPAUSE: Command = Spec {
    usage: "CLIENT UNPAUSE",
    about: "Ends what CLIENT PAUSE began.",
    since: "6.2.0",
    cost: "O(N), N being the clients suspended",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_unpause);

fn client_unpause(call: &mut Call<'_>) -> Result {
    call.engine.unpause();
    call.ok()
}

const CLIENT_UNBLOCK: Command = Spec {
    usage: "CLIENT UNBLOCK client-id:int [TIMEOUT | ERROR]",
    about: "Ends the wait of another connection's blocking command.",
    since: "5.0.0",
    cost: "O(log N), N being the connections",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_unblock);

fn client_unblock(call: &mut Call<'_>) -> Result {
    call.at_most(4)?;
    let mut options = call.options(3);
    let with_error = options.takes("ERROR");
    if !with_error && !options.is_empty() && !options.takes("TIMEOUT") {
        return Err(Error::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
    }
    let id = call.integer(2)?;
    let client = ClientId::try_from(id).ok().and_then(|id| call.engine.clients.get(id));
    let wait = client.and_then(|client| client.waits);
    // A call that a pause holds back is not one that waits for anything of its own.
    let wait = wait.filter(|wait| call.engine.blocked.get(*wait).is_some_and(|wait| !wait.paused));
    let Some(wait) = wait else { return call.reply(0_i64) };
    let ended = call.engine.end_wait(wait, |out, then| {
        if with_error {
            return Err(Error::new("UNBLOCKED client unblocked via CLIENT UNBLOCK"));
        }
        then.reply(out);
        Ok(())
    });
    call.reply(ended)
}
