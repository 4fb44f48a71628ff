//! ACL SETUSER, DELUSER, GETUSER, LIST, USERS, WHOAMI: users, looked at and changed.

use std::sync::Arc;

use mortise_acl::{DEFAULT, Refused, Selector, Table, User, Users, file};
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;
use mortise_sdk::{Error, Result};

use super::ACL;
use crate::engine::args::OwnedArgs;
use crate::engine::call::Call;
use crate::engine::deferred::{Finish, Work};
use crate::features::Command;
use crate::resp::output::Output;

/// This file's commands.
pub(super) const COMMANDS: &[Command] =
    &[ACL_SETUSER, ACL_DELUSER, ACL_GETUSER, ACL_LIST, ACL_USERS, ACL_WHOAMI];

const ACL_SETUSER: Command = Spec {
    usage: "ACL SETUSER username [rule...]",
    about: "Changes a user by rules, or makes one: all of the rules are applied, or none.",
    since: "6.0.0",
    cost: "O(N), N being the rules",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    history: &[
        ("6.2.0", "Rules for pub/sub channels."),
        ("7.0.0", "Selectors and rules for reading or writing keys."),
    ],
    ..ACL
}
.runs(acl_setuser);

/// The rules of a call that ACL SETUSER was.
fn rules(args: &OwnedArgs) -> impl Iterator<Item = &[u8]> {
    args.view().iter().skip(3)
}

fn acl_setuser(call: &mut Call<'_>) -> Result {
    let name = call.arg(2);
    if !Users::is_name(name) {
        return Err(Error::new("ERR Usernames can't contain spaces or null characters"));
    }
    let users = &call.engine.users;
    let setting = users.setting();
    let slow = match users.find(name) {
        Some(user) => user.takes_long(call.args().iter().skip(3), setting),
        None => User::new(name, setting).takes_long(call.args().iter().skip(3), setting),
    };
    if slow {
        let work = staging(call.owned_args(), users.clone());
        return call.defer(work);
    }
    let user = staged(users, name, call.args().iter().skip(3))?;
    call.engine.put_user(call.session, user);
    call.ok()
}

fn staged<'a>(users: &Users, name: &[u8], rules: impl Iterator<Item = &'a [u8]>) -> Result<User> {
    users.staged(name, rules).map_err(|refused| match refused {
        Refused::Unclosed(rule) => {
            Error::quoting("ERR Unmatched parenthesis in acl selector starting at '{}'.", &[&rule])
        }
        Refused::Rule(rule, wrong) => {
            Error::quoting("ERR Error in ACL SETUSER modifier '{}': {}", &[&rule, wrong.text().as_bytes()])
        }
    })
}

/// Hashes passwords where nobody else waits for it. If the user was changed meanwhile, it begins again.
fn staging(args: OwnedArgs, users: Users) -> Work {
    Box::new(move || {
        let staged = staged(&users, args.view().at(2), rules(&args));
        Finish::Engine(Box::new(move |engine, session, out| {
            let name = args.view().at(2);
            let (before, now) = (users.find(name), engine.users.find(name));
            let same_user = before.map(Arc::as_ptr) == now.map(Arc::as_ptr);
            let same_commands = Arc::ptr_eq(&users.setting().table, &engine.users.setting().table);
            if !(same_user && same_commands) {
                let users = engine.users.clone();
                return Ok(Some(staging(args, users)));
            }
            engine.put_user(session, staged?);
            out.ok();
            Ok(None)
        }))
    })
}

const ACL_DELUSER: Command = Spec {
    usage: "ACL DELUSER username...",
    about: "Removes users and disconnects who is logged in as one of them; returns how many there were.",
    since: "6.0.0",
    cost: "O(N), N being the users named and the clients",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    ..ACL
}
.runs(acl_deluser);

fn acl_deluser(call: &mut Call<'_>) -> Result {
    let names = call.args().iter().skip(2);
    if names.clone().any(|name| name == DEFAULT) {
        return Err(Error::new("ERR The 'default' user cannot be removed"));
    }
    let removed = call.engine.remove_users(call.session, names);
    call.reply(removed)
}

const ACL_GETUSER: Command = Spec {
    usage: "ACL GETUSER username",
    about: "Returns what a user is and may do.",
    since: "6.0.0",
    cost: "O(N), N being its passwords and rules",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    history: &[
        ("6.2.0", "Shows pub/sub channels."),
        ("7.0.0", "Shows selectors; keys and channels are shown as rules instead of lists."),
    ],
    ..ACL
}
.runs(acl_getuser);

fn acl_getuser(call: &mut Call<'_>) -> Result {
    let Some(user) = call.engine.users.find(call.arg(2)).cloned() else {
        call.out().null();
        return Ok(());
    };
    let table = call.engine.users.setting().table.clone();
    let out = call.out();
    out.map(6);
    out.bulk(b"flags");
    out.set(user.flags().count());
    user.flags().for_each(|flag| out.bulk(flag.as_bytes()));
    out.bulk(b"passwords");
    out.array(user.passwords().len());
    user.passwords().for_each(|digest| out.bulk(digest.as_bytes()));
    describe(user.own(), &table, out);
    out.bulk(b"selectors");
    out.array(user.further().len());
    for selector in user.further() {
        out.map(3);
        describe(selector, &table, out);
    }
    Ok(())
}

fn describe(selector: &Selector, table: &Table, out: &mut Output) {
    out.bulk(b"commands");
    out.bulk(&selector.describe_commands(table));
    out.bulk(b"keys");
    out.bulk(&selector.describe_keys());
    out.bulk(b"channels");
    out.bulk(&selector.describe_channels());
}

const ACL_LIST: Command = Spec {
    usage: "ACL LIST",
    about: "Returns all users, each as a line of the file of users.",
    since: "6.0.0",
    cost: "O(N), N being the users",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    ..ACL
}
.runs(acl_list);

fn acl_list(call: &mut Call<'_>) -> Result {
    let (engine, out) = call.engine_and_out();
    out.array(engine.users.iter().len());
    file::lines(&engine.users).for_each(|line| out.bulk(&line));
    Ok(())
}

const ACL_USERS: Command = Spec {
    usage: "ACL USERS",
    about: "Returns the names of all users.",
    since: "6.0.0",
    cost: "O(N), N being the users",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    ..ACL
}
.runs(acl_users);

fn acl_users(call: &mut Call<'_>) -> Result {
    let (engine, out) = call.engine_and_out();
    out.array(engine.users.iter().len());
    engine.users.iter().for_each(|user| out.bulk(user.name()));
    Ok(())
}

const ACL_WHOAMI: Command = Spec {
    usage: "ACL WHOAMI",
    about: "Returns the name of the user that the connection is logged in as.",
    since: "6.0.0",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..ACL
}
.runs(acl_whoami);

fn acl_whoami(call: &mut Call<'_>) -> Result {
    let user = call.session.user.clone();
    call.reply(user.name())
}
