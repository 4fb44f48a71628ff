//! ACL LOG: what was refused lately.

use mortise_acl::log::Entry;
use mortise_sdk::Result;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;

use super::ACL;
use super::access::Refused;
use crate::engine::Engine;
use crate::engine::args::Args;
use crate::engine::call::Call;
use crate::engine::session::ClientId;
use crate::features::Command;
use crate::session::line_of;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[ACL_LOG];

const ACL_LOG: Command = Spec {
    usage: "ACL LOG [operation=<count:int | RESET>]",
    about: "Lists what was refused lately, the newest first; RESET forgets it.",
    since: "6.0.0",
    cost: "O(N), N being the entries shown",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    ..ACL
}
.runs(acl_log);

/// How many entries are shown if nobody says how many.
const SHOWN: i64 = 10;

fn acl_log(call: &mut Call<'_>) -> Result {
    call.at_most(3)?;
    if call.argc() == 3 && call.arg(2).eq_ignore_ascii_case(b"reset") {
        call.engine.acl_log.reset();
        return call.ok();
    }
    let count = if call.argc() == 3 { call.integer(2)?.max(0) } else { SHOWN };
    let now_ms = call.now_ms();
    let (engine, out) = call.engine_and_out();
    let entries = engine.acl_log.iter();
    let count = entries.len().min(usize::try_from(count).unwrap_or(usize::MAX));
    out.array(count);
    for entry in entries.take(count) {
        out.map(7);
        out.bulk(b"count");
        out.integer(entry.count as i64);
        out.bulk(b"reason");
        out.bulk(entry.reason.name().as_bytes());
        out.bulk(b"context");
        out.bulk(entry.context.name().as_bytes());
        out.bulk(b"object");
        out.bulk(&entry.object);
        out.bulk(b"username");
        out.bulk(&entry.user);
        out.bulk(b"age-seconds");
        out.double((now_ms - entry.at_ms) as f64 / 1000.0);
        out.bulk(b"client-info");
        out.bulk(&entry.client);
    }
    Ok(())
}

impl Engine {
    /// Notes what was refused to a client.
    #[cold]
    pub(crate) fn note_refused(&mut self, client: ClientId, refused: Refused, args: Args<'_>) {
        let Refused { reason, context, object, user } = refused;
        let client = line_of(self, client, args).into_bytes();
        let entry = Entry { count: 1, reason, context, object, user, at_ms: self.now_ms, client };
        self.acl_log.add(entry, self.config.acl.acllog_max_len);
    }
}
