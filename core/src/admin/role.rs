//! ROLE: what this server is to others.

use mortise_sdk::Result;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Spec, category};

use crate::engine::call::Call;
use crate::features::Command;
use crate::replication::primary::Stage;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[ROLE];

const ROLE: Command = Spec {
    usage: "ROLE",
    about: "Says whether this server is a primary or a replica, and who follows it.",
    since: "2.8.12",
    flags: &[NOSCRIPT, LOADING, STALE, FAST],
    categories: &[category::ADMIN, category::DANGEROUS],
    ..Spec::group("server")
}
.runs(role);

/// A replica says whom it follows and how far it is; a primary how long its stream is, and who follows it.
fn role(call: &mut Call<'_>) -> Result {
    let (engine, out) = call.engine_and_out();
    let state = &engine.replication;
    if let Some(following) = &state.following {
        out.array(5);
        out.bulk(b"slave");
        out.bulk(following.host.as_bytes());
        out.integer(following.port.into());
        out.bulk(following.stage.name().as_bytes());
        out.integer(if following.is_up() { state.offset as i64 } else { -1 });
        return Ok(());
    }
    let online = || state.replicas.values().filter(|replica| replica.stage == Stage::Online);
    out.array(3);
    out.bulk(b"master");
    out.integer(state.offset as i64);
    out.array(online().count());
    for replica in online() {
        let ip = replica.greeting.ip.as_ref().unwrap_or(&replica.ip);
        out.array(3);
        out.bulk(ip.as_bytes());
        out.bulk(replica.greeting.port.to_string().as_bytes());
        out.bulk(replica.acked.to_string().as_bytes());
    }
    Ok(())
}
