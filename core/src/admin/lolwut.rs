//! LOLWUT: for nothing.

use mortise_sdk::Result;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;

use crate::engine::call::Call;
use crate::features::Command;
use crate::session::REDIS_VERSION;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[LOLWUT];

const LOLWUT: Command = Spec {
    usage: "LOLWUT [VERSION version:int]",
    about: "Draws something, and says which version drew it.",
    since: "5.0.0",
    flags: &[READONLY, FAST],
    arity: Some(-1),
    ..Spec::group("server")
}
.runs(lolwut);

/// A mortise, and the tenon that goes into it.
const DRAWING: &str = r"
    .--------.          .--------------
    |   .----'          |
    |   |   .-----------'   tenon
    |   |   '-----------.
    |   '----.          |
    '--------'          '--------------
     mortise
";

fn lolwut(call: &mut Call<'_>) -> Result {
    // Other versions of Redis draw other things; the number has to be one, as there.
    if call.argc() >= 3 && call.arg(1).eq_ignore_ascii_case(b"version") {
        call.integer(2)?;
    }
    let text =
        format!("{DRAWING}\nRedis ver. {REDIS_VERSION}, as Mortise {} has it\n", env!("CARGO_PKG_VERSION"));
    call.out().verbatim(&text);
    Ok(())
}
