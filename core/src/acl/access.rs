//! May this user make this call? Asked at the gate, and by EXEC once more.

use mortise_acl::log::{Context, Reason};
use mortise_acl::{Asked, Refusal, User};
use mortise_sdk::Error;

use crate::engine::args::Args;
use crate::engine::registry::Command;
use crate::engine::session::Session;
use crate::engine::{Caller, Engine};

/// Whether a user may make a call.
#[inline(always)]
pub(crate) fn check(user: &User, command: &Command, args: Args<'_>) -> Result<(), Refusal> {
    let arg = |index| args.at(index);
    user.check(&Asked { index: command.index, facts: &command.facts, argc: args.len(), arg })
}

/// What a client is told whose call is refused.
pub(crate) fn error(refusal: Refusal, command: &Command) -> Error {
    match refusal {
        Refusal::Command => {
            Error::text(format!("NOPERM this user has no permissions to run the '{}' command", command.name))
        }
        Refusal::Key(_) => {
            Error::new("NOPERM this user has no permissions to access one of the keys used as arguments")
        }
        Refusal::Channel(_) => {
            Error::new("NOPERM this user has no permissions to access one of the channels used as arguments")
        }
    }
}

/// What EXEC answers in the place of a command that is not allowed any more.
fn changed(refusal: Refusal) -> Error {
    let reason = match refusal {
        Refusal::Command => "no permission to execute the command or subcommand",
        Refusal::Key(_) => "no permission to touch the specified keys",
        Refusal::Channel(_) => "no permission to access one of the channels used as arguments",
    };
    Error::text(format!(
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is \
         no longer allowed for the following reason: {reason}"
    ))
}

/// What a script is told whose call its user may not make.
fn to_script(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Command => {
            Error::new("ERR The user executing the script can't run this command or subcommand")
        }
        Refusal::Key(_) => Error::new(
            "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
        ),
        Refusal::Channel(_) => Error::new(
            "ERR The user executing the script can't publish to the channel mentioned in the command",
        ),
    }
}

/// Something that was refused to a session, to be noted in the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// In what.
    pub context: Context,
    /// The command, key or channel.
    pub object: Vec<u8>,
    /// To whom.
    pub user: Vec<u8>,
}

impl Refused {
    /// A call that a session may not make.
    pub fn call(session: &Session, refusal: Refusal, command: &Command, args: Args<'_>) -> Refused {
        let (reason, object) = match refusal {
            Refusal::Command => (Reason::Command, command.name.as_bytes()),
            Refusal::Key(index) => (Reason::Key, args.get(index).unwrap_or_default()),
            Refusal::Channel(index) => (Reason::Channel, args.get(index).unwrap_or_default()),
        };
        let context = if session.transaction.is_some() { Context::Multi } else { Context::Toplevel };
        Refused { reason, context, object: object.to_vec(), user: session.user.name().to_vec() }
    }
}

impl Engine {
    /// A call was refused: it is noted, and the error says why.
    #[cold]
    pub(crate) fn forbid(
        &mut self,
        session: &Session,
        refusal: Refusal,
        command: &Command,
        args: Args<'_>,
    ) -> Error {
        self.note_refused(session.id, Refused::call(session, refusal, command, args), args);
        error(refusal, command)
    }

    /// A call within a call was refused, whoever made it: it is noted as such, and the error is what that one is told.
    #[cold]
    pub(crate) fn forbid_within(
        &mut self,
        session: &Session,
        refusal: Refusal,
        command: &Command,
        args: Args<'_>,
        caller: Caller,
    ) -> Error {
        let (context, error) = match caller {
            Caller::Script => (Context::Lua, to_script(refusal)),
            _ => (Context::Module, error(refusal, command)),
        };
        let refused = Refused::call(session, refusal, command, args);
        self.note_refused(session.id, Refused { context, ..refused }, args);
        error
    }

    /// Whether a queued call may be made when EXEC comes to it.
    pub(crate) fn still_allowed(
        &mut self,
        session: &mut Session,
        command: &Command,
        args: Args<'_>,
    ) -> Result<(), Error> {
        if !session.follow(&self.users) {
            session.closing = true;
        }
        check(&session.user, command, args).map_err(|refusal| {
            let refused = Refused::call(session, refusal, command, args);
            self.note_refused(session.id, Refused { context: Context::Multi, ..refused }, args);
            changed(refusal)
        })
    }
}
