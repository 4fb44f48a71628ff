//! TIME.

use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::{FAST, LOADING, STALE};
use mortise_sdk::error::Result;

use crate::engine::call::Call;
use crate::features::Command;

const SERVER: Spec = Spec::group("server");

const TIME: Command = Spec {
    usage: "TIME",
    about: "Returns the time: seconds since 1970, and microseconds.",
    since: "2.6.0",
    flags: &[LOADING, STALE, FAST],
    tips: &["nondeterministic_output"],
    ..SERVER
}
.runs(time);

pub(super) const COMMANDS: &[Command] = &[TIME];

fn time(call: &mut Call<'_>) -> Result {
    let us = call.engine.unix_us();
    call.out().array(2);
    call.out().bulk_integer(us / 1_000_000);
    call.out().bulk_integer(us % 1_000_000);
    Ok(())
}
