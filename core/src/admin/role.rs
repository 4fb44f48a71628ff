//! ROLE: what this server is to others.

use mortise_sdk::Result;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Spec, category};

use crate::engine::call::Call;
use crate::features::Command;

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

/// A primary that stands alone: how long its stream of changes is, and that nobody follows it.
fn role(call: &mut Call<'_>) -> Result {
    let out = call.out();
    out.array(3);
    out.bulk(b"master");
    out.integer(0);
    out.array(0);
    Ok(())
}
