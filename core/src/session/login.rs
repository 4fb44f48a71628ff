//! HELLO, AUTH, QUIT, RESET: how a conversation begins and ends.

use mortise_acl::DEFAULT;
use mortise_acl::log::{Context, Reason};
use mortise_sdk::args::parse_integer;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Spec, added};
use mortise_sdk::resp::encode::Version;
use mortise_sdk::{Error, Result, error};

use super::REDIS_VERSION;
use super::client::client_name;
use crate::acl::Refused;
use crate::engine::alone::{Alone, Slow};
use crate::engine::call::Options;
use crate::engine::session::Replies;
use crate::features::Command;

const CONNECTION: Spec = Spec::group("connection");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[HELLO, AUTH, QUIT, RESET];

const HELLO: Command = Spec {
    usage: "HELLO [arguments=<protover:int [AUTH username password] [SETNAME clientname]>]",
    about: "Shows the connection's server and protocol; may switch the protocol, log in and name it.",
    since: "6.0.0",
    flags: &[NOSCRIPT, LOADING, STALE, FAST, NO_AUTH, ALLOW_BUSY],
    history: &[("6.2.0", "May be called without a version.")],
    ..CONNECTION
}
.runs_alone(hello);

pub(crate) fn hello(call: &mut Alone<'_>) -> Result {
    let mut options = Options::new(call.args, 1);
    let version = match options.next() {
        None => None,
        Some(text) => {
            const NO_INTEGER: Error = Error::new("ERR Protocol version is not an integer or out of range");
            match parse_integer(text).ok_or(NO_INTEGER)? {
                2 => Some(Version::Resp2),
                3 => Some(Version::Resp3),
                _ => return Err(error::NOPROTO),
            }
        }
    };
    while let Some(option) = options.peek() {
        if options.left() >= 3 && options.takes("AUTH") {
            let (user, password) = (options.required()?, options.required()?);
            if !log_in(call, Some(user), password)? {
                return Ok(());
            }
        } else if let Some(name) = options.takes_value("SETNAME") {
            call.session.owes.name = Some(client_name(name)?.to_owned());
        } else {
            return Err(Error::quoting("ERR Syntax error in HELLO option '{}'", &[option]));
        }
    }
    if !call.session.authenticated {
        return Err(Error::new(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> \
             option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(version) = version {
        call.session.set_version(version);
        call.out.set_version(version);
    }
    let id = call.session.id as i64;
    let out = &mut *call.out;
    out.map(7);
    out.bulk(b"server");
    out.bulk(b"redis");
    out.bulk(b"version");
    out.bulk(REDIS_VERSION.as_bytes());
    out.bulk(b"proto");
    out.integer(if out.is_resp3() { 3 } else { 2 });
    out.bulk(b"id");
    out.integer(id);
    out.bulk(b"mode");
    out.bulk(b"standalone");
    out.bulk(b"role");
    out.bulk(b"master");
    out.bulk(b"modules");
    out.array(0);
    Ok(())
}

/// Logs the connection in as a user; without a name, as the default user. False if it is left to a worker, so that nothing
/// is to be answered yet.
fn log_in(call: &mut Alone<'_>, name: Option<&[u8]>, password: &[u8]) -> Result<bool> {
    let users = call.users;
    if name.is_none() && users.default_user().needs_no_password() {
        return Err(Error::new(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        ));
    }
    let name = name.unwrap_or(DEFAULT);
    if let Some(user) = users.find(name) {
        let verified = user.verifies(password).or_else(|| match call.slow {
            Slow::Verify => Some(user.verifies_slowly(password)),
            Slow::Leave => None,
        });
        match verified {
            Some(true) => {
                call.session.log_in(user.clone(), users);
                return Ok(true);
            }
            Some(false) => {}
            None => {
                call.left = true;
                return Ok(false);
            }
        }
    }
    let in_transaction = call.in_transaction || call.session.transaction.is_some();
    call.session.owes.refused(Refused {
        reason: Reason::Auth,
        context: if in_transaction { Context::Multi } else { Context::Toplevel },
        object: call.args.at(0).to_vec(),
        user: name.to_vec(),
    });
    Err(error::WRONGPASS)
}

const AUTH: Command = Spec {
    usage: "AUTH [username] password",
    about: "Logs the connection in.",
    cost: "O(N), N being the user's passwords",
    flags: &[NOSCRIPT, LOADING, STALE, FAST, NO_AUTH, ALLOW_BUSY],
    history: &[("6.0.0", "Takes a user name.")],
    ages: &[added("username", "6.0.0")],
    ..CONNECTION
}
.runs_alone(auth);

pub(crate) fn auth(call: &mut Alone<'_>) -> Result {
    let args = call.args;
    let answered = match args.len() {
        2 => log_in(call, None, args.at(1))?,
        3 => log_in(call, Some(args.at(1)), args.at(2))?,
        _ => return Err(error::SYNTAX),
    };
    if answered {
        call.out.ok();
    }
    Ok(())
}

const QUIT: Command = Spec {
    usage: "QUIT",
    about: "Closes the connection once its replies are sent.",
    flags: &[NOSCRIPT, LOADING, STALE, FAST, NO_AUTH, ALLOW_BUSY, NOT_QUEUED, SUBSCRIBER],
    arity: Some(-1),
    ..CONNECTION
}
.runs_alone(quit);

pub(crate) fn quit(call: &mut Alone<'_>) -> Result {
    call.session.closing = true;
    call.out.ok();
    Ok(())
}

const RESET: Command = Spec {
    usage: "RESET",
    about: "Brings the connection back to the state it was opened in.",
    since: "6.2.0",
    flags: &[NOSCRIPT, LOADING, STALE, FAST, NO_AUTH, ALLOW_BUSY, NOT_QUEUED, SUBSCRIBER],
    ..CONNECTION
}
.runs_alone(reset);

/// Everything but what says who is at the other end: library name and version.
pub(crate) fn reset(call: &mut Alone<'_>) -> Result {
    let session = &mut *call.session;
    session.unwatch();
    session.owes.reset = true;
    (session.owes.user, session.owes.name) = (None, None);
    session.db = 0;
    session.set_version(Version::Resp2);
    session.log_out(call.users);
    session.transaction = None;
    session.subscriptions = 0;
    session.reads = Default::default();
    session.is_monitor = false;
    session.no_touch = false;
    if session.replies != Replies::Skip {
        session.replies = Replies::On;
    }
    call.out.set_version(Version::Resp2);
    call.out.simple("RESET");
    Ok(())
}
