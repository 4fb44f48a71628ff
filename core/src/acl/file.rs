//! The file of users, and the users in the configuration file: at the start, and by ACL LOAD and ACL SAVE.

use std::path::Path;

use mortise_acl::password::Scheme;
use mortise_acl::{DEFAULT, Refused, Setting, User, Users, Wrong, file};
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::config::quote;
use mortise_sdk::declare::flags::*;
use mortise_sdk::{Error, Result};

use super::{ACL, table_of};
use crate::config::file::{Fatal, Line};
use crate::config::rewrite::{self, Entry};
use crate::engine::Engine;
use crate::engine::call::Call;
use crate::engine::deferred::Finish;
use crate::engine::registry::Registry;
use crate::features::Command;
use crate::server::error_text;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[ACL_LOAD, ACL_SAVE];

const ACL_LOAD: Command = Spec {
    usage: "ACL LOAD",
    about: "Takes the users from their file, in the place of all there are; nothing changes if a line is wrong.",
    since: "6.0.0",
    cost: "O(N), N being the users",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    ..ACL
}
.runs(acl_load);

fn acl_load(call: &mut Call<'_>) -> Result {
    let path = configured(call)?;
    let setting = call.engine.users.setting().clone();
    // Reading takes its time, and so may hashing passwords that stand in the clear.
    call.defer(Box::new(move || {
        let read = read(&path, &setting);
        Finish::Engine(Box::new(move |engine, session, out| {
            let users = read.map_err(|errors| Error::text(format!("ERR {errors}")))?;
            engine.replace_users(session, users);
            out.ok();
            Ok(None)
        }))
    }))
}

const ACL_SAVE: Command = Spec {
    usage: "ACL SAVE",
    about: "Writes the users into their file.",
    since: "6.0.0",
    cost: "O(N), N being the users",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    ..ACL
}
.runs(acl_save);

fn acl_save(call: &mut Call<'_>) -> Result {
    let path = configured(call)?;
    let users = call.engine.users.clone();
    call.defer(Box::new(move || {
        let saved = rewrite::replace(Path::new(&path), &file::print(&users));
        Finish::Engine(Box::new(move |_, _, out| {
            saved.map_err(|error| {
                tracing::warn!("Writing ACL file for ACL SAVE: {}", error_text(&error));
                Error::new(
                    "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
                )
            })?;
            out.ok();
            Ok(None)
        }))
    }))
}

/// The path of the file of users.
fn configured(call: &Call<'_>) -> Result<String> {
    let path = &call.engine.config.acl.aclfile;
    if path.is_empty() {
        return Err(Error::new(
            "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL \
             SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order \
             to store users in the Redis configuration.",
        ));
    }
    Ok(path.clone())
}

fn read(path: &str, setting: &Setting) -> std::result::Result<Vec<User>, String> {
    let text = std::fs::read(path)
        .map_err(|error| format!("Error loading ACLs, opening file '{path}': {}", error_text(&error)))?;
    file::parse(&text, path, setting)
}

// ---- at the start

/// Whether `user` lines can be meant, before modules are loaded: commands may be missing that these bring.
pub(crate) fn check_lines(lines: &[Line], registry: &Registry) -> std::result::Result<(), Fatal> {
    let setting = Setting { table: table_of(registry), all_channels: false, scheme: Scheme::Sha256 };
    for (index, line) in lines.iter().enumerate() {
        let name = &line.words[0];
        let wrong = |rule: &[u8], reason: &str| {
            let rule = String::from_utf8_lossy(rule);
            Fatal::at(line, format!("Error in user declaration '{rule}': {reason}"))
        };
        if lines[..index].iter().any(|other| other.words[0] == *name) {
            return Err(wrong(name, "Duplicate user found. A user can only be defined once in config files"));
        }
        if !Users::is_name(name) {
            return Err(Fatal::at(line, "Spaces not allowed in ACL usernames"));
        }
        match User::new(name, &setting).with(rules(line), &setting) {
            Ok(_) | Err(Refused::Rule(_, Wrong::UnknownCommand)) => {}
            Err(Refused::Rule(rule, reason)) => return Err(wrong(&rule, reason.text())),
            Err(Refused::Unclosed(rule)) => {
                return Err(wrong(&rule, "Unmatched parenthesis in selector definition"));
            }
        }
    }
    Ok(())
}

fn rules(line: &Line) -> impl Iterator<Item = &[u8]> {
    line.words[1..].iter().map(Vec::as_slice)
}

/// Takes over the users that the configuration names: in `user` lines, or in a file.
pub(crate) fn load_at_start(engine: &mut Engine, lines: &[Line]) -> std::result::Result<(), Fatal> {
    let path = engine.config.acl.aclfile.clone();
    if !path.is_empty() && !lines.is_empty() {
        return Err(Fatal::new(
            "Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is invalid. This \
             setup is very likely to lead to configuration errors and security holes, please define either an ACL file \
             or declare users directly in your redis.conf, but not both.",
        ));
    }
    let setting = engine.users.setting().clone();
    for line in lines {
        let name = &line.words[0];
        // The default user is there already: what it is so far is forgotten.
        let reset = (**name == *DEFAULT).then_some(&b"reset"[..]);
        let rules = reset.into_iter().chain(rules(line));
        let user = User::new(name, &setting).with(rules, &setting).map_err(|refused| {
            let name = String::from_utf8_lossy(name);
            Fatal::new(format!("Error loading ACL rules for the user named '{name}': {refused}"))
        })?;
        if !user.is_on() {
            tracing::info!(
                "The user '{}' is off, as no rule says 'on': nobody can log in as it. Make sure that it is meant so.",
                String::from_utf8_lossy(name)
            );
        }
        engine.users.insert(user);
    }
    if !path.is_empty() {
        let users = read(&path, &setting).map_err(|errors| {
            Fatal::new(format!("Aborting Redis startup because of ACL errors: {errors}"))
        })?;
        engine.users.replace(users);
    }
    Ok(())
}

/// What CONFIG REWRITE writes of users: all of them, or none if they have a file of their own.
pub(crate) fn entry(engine: &Engine) -> Entry {
    let own_file = !engine.config.acl.aclfile.is_empty();
    let lines = if own_file { Vec::new() } else { file::lines(&engine.users).map(line).collect() };
    Entry { name: "user".to_owned(), lines, force: true }
}

/// A line of the file of users as the configuration file has it behind `user`: words with quotes in them are quoted.
fn line(line: Vec<u8>) -> String {
    let words = line.split(|byte| *byte == b' ').skip(1).map(|word| match std::str::from_utf8(word) {
        Ok(plain) if !plain.contains(['"', '\'']) && !plain.is_empty() => plain.to_owned(),
        _ => quote(word),
    });
    words.collect::<Vec<_>>().join(" ")
}
