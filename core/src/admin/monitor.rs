//! MONITOR: shows what everybody asks for.
//!
//! A call is shown when it has been executed, a script before what it calls. What is an operator's business alone is not
//! shown, nor are passwords.

use std::fmt::Write;
use std::sync::Arc;

use mortise_sdk::declare::Spec;
use mortise_sdk::declare::config::quote;
use mortise_sdk::declare::flags::*;
use mortise_sdk::{Error, Result};

use super::slowlog::secrets;
use crate::engine::args::Args;
use crate::engine::call::Call;
use crate::engine::outbox::Outbox;
use crate::engine::registry::Command as Registered;
use crate::engine::session::{ClientId, Session};
use crate::engine::{Caller, Engine};
use crate::features::Command;
use crate::keyspace::SpaceId;

const SERVER: Spec = Spec::group("server");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[MONITOR];

const MONITOR: Command = Spec {
    usage: "MONITOR",
    about: "Shows this connection what everybody asks for, as it is executed.",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    ..SERVER
}
.runs(monitor);

fn monitor(call: &mut Call<'_>) -> Result {
    if call.cannot_wait() {
        return Err(Error::new("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    if call.session.is_monitor {
        // As Redis has it, there is no second reply.
        return Ok(());
    }
    let Session { id, space, outbox, is_monitor, .. } = &mut *call.session;
    *is_monitor = true;
    call.engine.monitors.push(Monitor { id: *id, space: *space, outbox: outbox.clone() });
    call.ok()
}

/// Somebody who is shown what is executed.
pub struct Monitor {
    /// Who.
    pub id: ClientId,
    /// In which space.
    space: SpaceId,
    outbox: Arc<Outbox>,
}

impl Engine {
    /// Shows a call to those who watch what is executed.
    #[cold]
    pub(crate) fn show(&mut self, session: &Session, command: &Registered, args: Args<'_>, caller: Caller) {
        let again = caller == Caller::Retry || caller.is_stream();
        if again || command.flags.any(SKIP_MONITOR | ADMIN) {
            return;
        }
        self.show_as(session, command, args, caller == Caller::Script);
    }

    /// Shows a script, before it runs.
    pub(crate) fn show_script(&mut self, session: &Session, command: &Registered, args: Args<'_>) {
        if !self.monitors.is_empty() {
            self.show_as(session, command, args, false);
        }
    }

    #[cold]
    fn show_as(&mut self, session: &Session, command: &Registered, args: Args<'_>, by_script: bool) {
        let hidden = secrets(&command.name, args, &self.directives);
        let address = self.clients.get(session.id).map_or("", |client| match client.origin.is_unix {
            true => client.origin.local_address.as_str(),
            false => client.origin.address.as_str(),
        });
        let is_unix = self.clients.get(session.id).is_some_and(|client| client.origin.is_unix);
        let source = match (by_script, is_unix) {
            (true, _) => "lua".to_owned(),
            // Without the port that a socket's path has in CLIENT LIST.
            (_, true) => format!("unix:{}", address.strip_suffix(":0").unwrap_or(address)),
            (_, false) => address.to_owned(),
        };
        let unix_us = self.unix_us();
        let mut line =
            format!("+{}.{:06} [{} {source}]", unix_us / 1_000_000, unix_us % 1_000_000, session.db);
        for (index, arg) in args.iter().enumerate() {
            let shown = if hidden.contains(&index) { "\"(redacted)\"".to_owned() } else { quote(arg) };
            // Writing to a String does not fail.
            let _ = write!(line, " {shown}");
        }
        line.push_str("\r\n");
        let line = line.into_bytes().into();
        // They stay where they are meanwhile: a panic is not to cost them.
        let mut next = 0;
        while let Some(Monitor { id, space, outbox }) = self.monitors.get(next) {
            next += 1;
            // Whoever goes is shown nothing behind the last reply.
            let leaves = *id == session.id && session.closing;
            if *space == session.space && !leaves {
                let (id, outbox) = (*id, outbox.clone());
                self.deliver_behind(id, &outbox, &line);
            }
        }
    }

    /// A client is shown nothing any more.
    pub(crate) fn end_monitor(&mut self, id: ClientId) {
        self.monitors.retain(|monitor| monitor.id != id);
    }
}
