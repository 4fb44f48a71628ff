//! CLIENT: what a connection says of itself. What it may ask of others, and do to them, stands in the files beside.

mod filter;
pub(super) mod kill;
pub(super) mod list;
pub(super) mod pause;

use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;
use mortise_sdk::{Error, Result, error};

use crate::engine::call::Call;
use crate::engine::client::Client;
use crate::engine::session::Replies;
use crate::features::{Command, container};

const CONNECTION: Spec = Spec::group("connection");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[
    CLIENT_CONTAINER,
    CLIENT_ID,
    CLIENT_SETNAME,
    CLIENT_GETNAME,
    CLIENT_SETINFO,
    CLIENT_REPLY,
    CLIENT_CAPA,
    CLIENT_NO_EVICT,
    CLIENT_NO_TOUCH,
    CLIENT_HELP,
];

const CLIENT_CONTAINER: Command = Spec {
    usage: "CLIENT",
    about: "Commands about connections.",
    since: "2.4.0",
    cost: "depends on the subcommand",
    flags: &[CONTAINER],
    ..CONNECTION
}
.runs(container);

const CLIENT_ID: Command = Spec {
    usage: "CLIENT ID",
    about: "Returns the number of this connection.",
    since: "5.0.0",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_id);

fn client_id(call: &mut Call<'_>) -> Result {
    let id = call.session.id as i64;
    call.reply(id)
}

/// What others see of the caller.
fn own<'a>(call: &'a mut Call<'_>) -> Option<&'a mut Client> {
    let id = call.session.id;
    call.engine.clients.get_mut(id)
}

/// A name that CLIENT LIST can show: printable ASCII without spaces.
fn shown(name: &[u8]) -> Option<&str> {
    let printable = name.iter().all(|byte| (b'!'..=b'~').contains(byte));
    std::str::from_utf8(name).ok().filter(|_| printable)
}

/// A name that a connection may be given; the empty one takes its name away.
pub(super) fn client_name(name: &[u8]) -> Result<&str> {
    const REFUSED: Error =
        Error::new("ERR Client names cannot contain spaces, newlines or special characters.");
    shown(name).ok_or(REFUSED)
}

const CLIENT_SETNAME: Command = Spec {
    usage: "CLIENT SETNAME connection-name",
    about: "Names this connection.",
    since: "2.6.9",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_setname);

fn client_setname(call: &mut Call<'_>) -> Result {
    let name = client_name(call.arg(2))?;
    if let Some(client) = own(call) {
        client.name = name.to_owned();
    }
    call.ok()
}

const CLIENT_GETNAME: Command = Spec {
    usage: "CLIENT GETNAME",
    about: "Returns the name of this connection.",
    since: "2.6.9",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_getname);

fn client_getname(call: &mut Call<'_>) -> Result {
    let name = own(call).map(|client| client.name.clone()).filter(|name| !name.is_empty());
    call.reply(name)
}

const CLIENT_SETINFO: Command = Spec {
    usage: "CLIENT SETINFO attr=<LIB-NAME libname | LIB-VER libver>",
    about: "Notes the name or version of the library that uses this connection.",
    since: "7.2.0",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_setinfo);

fn client_setinfo(call: &mut Call<'_>) -> Result {
    let (attribute, value) = (call.arg(2), call.arg(3));
    let is_name = attribute.eq_ignore_ascii_case(b"LIB-NAME");
    if !is_name && !attribute.eq_ignore_ascii_case(b"LIB-VER") {
        return Err(Error::quoting("ERR Unrecognized option '{}'", &[attribute]));
    }
    let Some(value) = shown(value) else {
        return Err(Error::quoting(
            "ERR {} cannot contain spaces, newlines or special characters.",
            &[attribute],
        ));
    };
    if let Some(client) = own(call) {
        let place = if is_name { &mut client.lib_name } else { &mut client.lib_version };
        *place = value.to_owned();
    }
    call.ok()
}

const CLIENT_REPLY: Command = Spec {
    usage: "CLIENT REPLY <ON | OFF | SKIP>",
    about: "Turns this connection's replies off, on, or off for one command.",
    since: "3.2.0",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_reply);

fn client_reply(call: &mut Call<'_>) -> Result {
    if call.session.is_replica {
        // What goes this way is the stream.
        return Ok(());
    }
    let mut options = call.options(2);
    if options.takes("ON") {
        call.session.replies = Replies::On;
        return call.ok();
    }
    if options.takes("OFF") {
        call.session.replies = Replies::Off;
    } else if !options.takes("SKIP") {
        return Err(error::SYNTAX);
    } else if call.session.replies != Replies::Off {
        call.session.replies = Replies::SkipNext;
    }
    Ok(())
}

const CLIENT_CAPA: Command = Spec {
    usage: "CLIENT CAPA capability...",
    about: "Says what the client at the other end is able to do: redirect.",
    since: "8.0.0",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_capa);

/// What is not known is none of this server's business.
fn client_capa(call: &mut Call<'_>) -> Result {
    let redirects = call.args().iter().skip(2).any(|word| word.eq_ignore_ascii_case(b"redirect"));
    if let Some(client) = own(call) {
        client.follows_redirects |= redirects;
    }
    call.ok()
}

/// ON or OFF.
fn switch(call: &Call<'_>) -> Result<bool> {
    let mut options = call.options(2);
    if options.takes("ON") {
        Ok(true)
    } else if options.takes("OFF") {
        Ok(false)
    } else {
        Err(error::SYNTAX)
    }
}

const CLIENT_NO_EVICT: Command = Spec {
    usage: "CLIENT NO-EVICT enabled=<ON | OFF>",
    about: "Exempts this connection from being closed when clients take too much memory.",
    since: "7.0.0",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_no_evict);

fn client_no_evict(call: &mut Call<'_>) -> Result {
    let on = switch(call)?;
    if let Some(client) = own(call) {
        client.no_evict = on;
    }
    call.ok()
}

const CLIENT_NO_TOUCH: Command = Spec {
    usage: "CLIENT NO-TOUCH enabled=<ON | OFF>",
    about: "Decides whether this connection's commands count as uses of keys.",
    since: "7.2.0",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_no_touch);

fn client_no_touch(call: &mut Call<'_>) -> Result {
    let on = switch(call)?;
    call.session.no_touch = on;
    if let Some(client) = own(call) {
        client.no_touch = on;
    }
    call.ok()
}

const CLIENT_HELP: Command = Spec {
    usage: "CLIENT HELP",
    about: "Lists the subcommands of CLIENT.",
    since: "5.0.0",
    flags: &[LOADING, STALE],
    ..CONNECTION
}
.runs(client_help);

fn client_help(call: &mut Call<'_>) -> Result {
    call.help(&[
        (
            "CACHING (YES|NO)",
            "Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
        ),
        ("GETREDIR", "Return the client ID we are redirecting to when tracking is enabled."),
        ("GETNAME", "Return the name of the current connection."),
        ("ID", "Return the ID of the current connection."),
        ("INFO", "Return information about the current client connection."),
        ("KILL <ip:port>", "Kill connection made from <ip:port>."),
        (
            "KILL <option> <value> [<option> <value> [...]]",
            "Kill connections. Options are:\n\
             * ADDR (<ip:port>|<unixsocket>:0)\n  Kill connections made from the specified address\n\
             * LADDR (<ip:port>|<unixsocket>:0)\n  Kill connections made to specified local address\n\
             * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)\n  Kill connections by type.\n\
             * USER <username>\n  Kill connections authenticated by <username>.\n\
             * SKIPME (YES|NO)\n  Skip killing current connection (default: yes).",
        ),
        (
            "LIST [options ...]",
            "Return information about client connections. Options:\n\
             * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)\n  Return clients of specified type.",
        ),
        ("UNPAUSE", "Stop the current client pause, resuming traffic."),
        ("PAUSE <timeout> [WRITE|ALL]", "Suspend all, or just write, clients for <timeout> milliseconds."),
        ("REPLY (ON|OFF|SKIP)", "Control the replies sent to the current connection."),
        ("SETNAME <name>", "Assign the name <name> to the current connection."),
        (
            "SETINFO <option> <value>",
            "Set client meta attr. Options are:\n\
             * LIB-NAME: the client lib name.\n\
             * LIB-VER: the client lib version.",
        ),
        (
            "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]\n         [OPTIN] [OPTOUT] [NOLOOP]",
            "Control server assisted client side caching.",
        ),
        ("TRACKINGINFO", "Report tracking status for the current connection."),
        ("UNBLOCK <clientid> [TIMEOUT|ERROR]", "Unblock the specified blocked client."),
        ("CAPA <option> [<option> ...]", "The client claims its capability options: redirect."),
        ("NO-EVICT (ON|OFF)", "Protect current client connection from eviction."),
        ("NO-TOUCH (ON|OFF)", "Will not touch LRU/LFU stats when this mode is on."),
    ])
}
