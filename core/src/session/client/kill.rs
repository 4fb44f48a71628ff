//! CLIENT KILL.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Spec, added, outdated};
use mortise_sdk::{Error, Result};

use super::filter::{Filter, Numbers};
use crate::engine::call::Call;
use crate::engine::session::ClientId;
use crate::features::Command;

const CONNECTION: Spec = Spec::group("connection");

/// This file's commands.
pub(in crate::session) const COMMANDS: &[Command] = &[CLIENT_KILL];

const CLIENT_KILL: Command = Spec {
    usage: "CLIENT KILL filter=<ip:port | new-format=<[ID client-id:int] | \
            [TYPE normal_master_slave_pubsub=<NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>] | \
            [USER username] | [ADDR ip:port] | [LADDR ip:port] | [SKIPME yes/no]>...>",
    about: "Closes the connections that match.",
    since: "2.4.0",
    cost: "O(N), N being the connections",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    arity: Some(-3),
    history: &[
        ("2.8.12", "Takes filters."),
        ("2.8.12", "Filter `ID`."),
        ("3.2.0", "`TYPE MASTER`."),
        ("5.0.0", "`TYPE REPLICA`, for which `SLAVE` stays an alias."),
        ("6.2.0", "Filter `LADDR`."),
    ],
    ages: &[
        outdated("ip:port", "2.8.12"),
        added("ID", "2.8.12"),
        added("TYPE", "2.8.12"),
        added("MASTER", "3.2.0"),
        added("REPLICA", "5.0.0"),
        added("LADDR", "6.2.0"),
    ],
    ..CONNECTION
}
.runs(client_kill);

fn client_kill(call: &mut Call<'_>) -> Result {
    let by_address = call.argc() == 3;
    // The old form lets a client kill itself.
    const NUMBERS: Numbers = Numbers { refused: "ERR client-id should be greater than 0", positive: true };
    let filter =
        if by_address { Filter::of_address(call.arg(2)) } else { Filter::skipping(call, 2, NUMBERS)? };
    let (own, engine) = (call.session.id, &*call.engine);
    let meant = engine.clients.iter().filter(|client| filter.applies(engine, client));
    let meant: Vec<ClientId> = meant.map(|client| client.id).collect();
    for id in &meant {
        if *id == own {
            // It still gets its reply.
            call.session.closing = true;
        } else {
            call.engine.kill(*id);
        }
    }
    if !by_address {
        return call.reply(meant.len());
    }
    if meant.is_empty() {
        return Err(Error::new("ERR No such client"));
    }
    call.ok()
}
