//! ACL CAT, DRYRUN, GENPASS, HELP: questions about rules.

use mortise_acl::{Refusal, password};
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::category::CATEGORIES;
use mortise_sdk::declare::flags::*;
use mortise_sdk::{Error, Result};

use super::{ACL, check};
use crate::engine::call::Call;
use crate::engine::registry::Lookup;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[ACL_CAT, ACL_DRYRUN, ACL_GENPASS, ACL_HELP];

const ACL_CAT: Command = Spec {
    usage: "ACL CAT [categoryname]",
    about: "Lists the categories of commands, or the commands of one.",
    since: "6.0.0",
    cost: "O(1), there being no more categories and commands than there are",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..ACL
}
.runs(acl_cat);

fn acl_cat(call: &mut Call<'_>) -> Result {
    call.at_most(3)?;
    if call.argc() == 2 {
        call.out().array(CATEGORIES.len());
        CATEGORIES.iter().for_each(|(_, name)| call.out().bulk(name.as_bytes()));
        return Ok(());
    }
    let wanted = call.arg(2);
    let known = CATEGORIES.iter().find(|(_, name)| wanted.eq_ignore_ascii_case(name.as_bytes()));
    let Some((category, _)) = known else {
        return Err(Error::quoting("ERR Unknown category '{}'", &[&wanted[..wanted.len().min(128)]]));
    };
    let own = call.engine.registry.all().filter(|command| command.module.is_none());
    let members = own.filter(|command| command.facts.categories.has(*category));
    let mut names: Vec<String> = members.map(|command| command.name.clone()).collect();
    names.sort_unstable();
    call.out().array(names.len());
    names.iter().for_each(|name| call.out().bulk(name.as_bytes()));
    Ok(())
}

const ACL_DRYRUN: Command = Spec {
    usage: "ACL DRYRUN username command [arg...]",
    about: "Tells whether a user may make a call, without making it.",
    since: "7.0.0",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    ..ACL
}
.runs(acl_dryrun);

fn acl_dryrun(call: &mut Call<'_>) -> Result {
    let Some(user) = call.engine.users.find(call.arg(2)) else {
        return Err(Error::quoting("ERR User '{}' not found", &[call.arg(2)]));
    };
    let args = call.args().from(3);
    let Lookup::Found(command) = call.engine.registry.find(args) else {
        return Err(Error::quoting("ERR Command '{}' not found", &[call.arg(3)]));
    };
    if !command.facts.accepts(args.len()) {
        return Err(Error::wrong_arity(&command.name));
    }
    let (does, word, kind) = match check(user, &command, args) {
        Ok(()) => return call.ok(),
        Err(Refusal::Command) => ("run", command.name.as_bytes(), "command"),
        Err(Refusal::Key(index)) => ("access", args.at(index), "key"),
        Err(Refusal::Channel(index)) => ("access", args.at(index), "channel"),
    };
    // Redis shows the word as a C text.
    let word = word.split(|byte| *byte == 0).next().unwrap_or_default();
    let before = format!("This user has no permissions to {does} the '");
    call.out().bulk(&[before.as_bytes(), word, b"' ", kind.as_bytes()].concat());
    Ok(())
}

const ACL_GENPASS: Command = Spec {
    usage: "ACL GENPASS [bits:int]",
    about: "Makes up a password that nobody can guess, in hexadecimal digits.",
    since: "6.0.0",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..ACL
}
.runs(acl_genpass);

fn acl_genpass(call: &mut Call<'_>) -> Result {
    const BITS: i64 = 256;
    const BITS_MAX: i64 = 4096;
    call.at_most(3)?;
    let bits = if call.argc() == 3 { call.integer(2)? } else { BITS };
    if bits <= 0 || bits > BITS_MAX {
        return Err(Error::text(format!(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to {BITS_MAX}"
        )));
    }
    call.reply(password::generate(bits as usize))
}

const ACL_HELP: Command = Spec {
    usage: "ACL HELP",
    about: "Lists the subcommands of ACL.",
    since: "6.0.0",
    flags: &[LOADING, STALE],
    ..ACL
}
.runs(acl_help);

fn acl_help(call: &mut Call<'_>) -> Result {
    call.help(&[
        ("CAT [<category>]", "Lists the categories of commands, or the commands of one."),
        ("DELUSER <username> [<username> ...]", "Removes users."),
        (
            "DRYRUN <username> <command> [<arg> ...]",
            "Tells whether a user may make a call, without making it.",
        ),
        ("GETUSER <username>", "Returns what a user is and may do."),
        (
            "GENPASS [<bits>]",
            "Makes up a password that nobody can guess, of 256 bits or as many as are asked for.",
        ),
        ("LIST", "Returns all users, each as a line of the file of users."),
        ("LOAD", "Takes the users from their file."),
        ("LOG [<count> | RESET]", "Lists what was refused lately, or forgets it."),
        ("SAVE", "Writes the users into their file."),
        ("SETUSER <username> <rule> [<rule> ...]", "Changes a user by rules, or makes one."),
        ("USERS", "Returns the names of all users."),
        ("WHOAMI", "Returns the name of the user that the connection is logged in as."),
    ])
}
