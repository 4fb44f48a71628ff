//! PING, ECHO, SELECT.

use mortise_sdk::Result;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;

use crate::engine::call::Call;
use crate::features::Command;

const CONNECTION: Spec = Spec::group("connection");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[PING, ECHO, SELECT];

const PING: Command = Spec {
    usage: "PING [message]",
    about: "Answers PONG, or the message given.",
    flags: &[FAST, SUBSCRIBER],
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    ..CONNECTION
}
.runs(ping);

fn ping(call: &mut Call<'_>) -> Result {
    let message = call.args().get(1);
    if call.argc() > 2 {
        return Err(mortise_sdk::Error::wrong_arity("ping"));
    }
    if call.session.is_subscriber() {
        call.out().array(2);
        call.out().bulk(b"pong");
        return call.reply(message.unwrap_or_default());
    }
    match message {
        Some(message) => call.out().bulk(message),
        None => call.out().simple("PONG"),
    }
    Ok(())
}

const ECHO: Command = Spec {
    usage: "ECHO message",
    about: "Answers with the message given.",
    flags: &[LOADING, STALE, FAST],
    ..CONNECTION
}
.runs(echo);

fn echo(call: &mut Call<'_>) -> Result {
    call.reply(call.arg(1))
}

const SELECT: Command = Spec {
    usage: "SELECT index:int",
    about: "Switches the connection to another database.",
    flags: &[LOADING, STALE, FAST],
    ..CONNECTION
}
.runs(select);

fn select(call: &mut Call<'_>) -> Result {
    const NOT_32_BITS: mortise_sdk::Error =
        mortise_sdk::Error::new("ERR value is out of range, value must between -2147483648 and 2147483647");
    let index = i32::try_from(call.integer(1)?).map_err(|_| NOT_32_BITS)?;
    let databases = call.engine.config.keyspace.databases;
    let index = u32::try_from(index).ok().filter(|index| *index < databases);
    let Some(index) = index else { return Err(mortise_sdk::Error::new("ERR DB index is out of range")) };
    call.engine.select(call.session, index);
    call.ok()
}
