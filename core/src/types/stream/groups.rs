//! Consumer groups as such: XGROUP.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{DELETE, INSERT, RW, Spec, UPDATE, key};
use mortise_sdk::{Error, Result, args, error};

use super::STREAM;
use super::group::Group;
use super::id::StreamId;
use super::value::Stream;
use crate::engine::call::Call;
use crate::engine::edit::Edit;
use crate::features::{Command, container};

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[
    XGROUP,
    XGROUP_CREATE,
    XGROUP_SETID,
    XGROUP_DESTROY,
    XGROUP_CREATECONSUMER,
    XGROUP_DELCONSUMER,
    XGROUP_HELP,
];

const NO_KEY: Error = Error::new(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option \
     to create an empty stream automatically.",
);

const XGROUP: Command = Spec {
    usage: "XGROUP",
    about: "Commands about consumer groups of streams.",
    since: "5.0.0",
    cost: "depends on the subcommand",
    flags: &[CONTAINER],
    ..STREAM
}
.runs(container);

/// The options of CREATE and SETID.
#[derive(Default)]
struct Options {
    makes_stream: bool,
    entries_read: Option<u64>,
}

impl Options {
    fn parse(call: &Call<'_>, creates: bool) -> Result<Options> {
        let mut parsed = Options::default();
        let mut options = call.options(5);
        while !options.is_empty() {
            if creates && options.takes("MKSTREAM") {
                parsed.makes_stream = true;
            } else if let Some(text) = options.takes_value("ENTRIESREAD") {
                let n = args::parse_integer(text).ok_or(error::NOT_INTEGER)?;
                if n < -1 {
                    return Err(Error::new("ERR value for ENTRIESREAD must be positive or -1"));
                }
                parsed.entries_read = u64::try_from(n).ok();
            } else {
                return Err(call.misused());
            }
        }
        Ok(parsed)
    }
}

/// An edit of a stream that there must be, with a group.
fn edit_with_group<'a>(call: &'a mut Call<'_>) -> Result<Edit<'a, Stream>> {
    let (key, name) = (call.key(2), call.arg(3));
    let edit = call.edit::<Stream>(key)?.ok_or(NO_KEY)?;
    if edit.view().group(name).is_none() {
        return Err(Error::quoting(
            "NOGROUP No such consumer group '{}' for key name '{}'",
            &[name, key.bytes],
        ));
    }
    Ok(edit)
}

const XGROUP_CREATE: Command = Spec {
    usage: "XGROUP CREATE key groupname id=<id | new_id=$> [MKSTREAM] [ENTRIESREAD entries_read:int]",
    about: "Creates a consumer group, which reads what comes behind an id.",
    since: "5.0.0",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[RW, INSERT])],
    history: &[("7.0.0", "`entries_read`.")],
    ..STREAM
}
.runs(xgroup_create);

fn xgroup_create(call: &mut Call<'_>) -> Result {
    let options = Options::parse(call, true)?;
    let (key, name, from) = (call.key(2), call.arg(3), call.arg(4));
    let known = call.edit::<Stream>(key)?.map(|edit| edit.view().last_id());
    if known.is_none() && !options.makes_stream {
        return Err(NO_KEY);
    }
    call.at_most(8)?;
    let id = match from {
        b"$" => known.unwrap_or_default(),
        id => StreamId::parse(id, 0)?,
    };
    let mut edit = call.create::<Stream>(key)?;
    if edit.view().group(name).is_some() {
        return Err(Error::new("BUSYGROUP Consumer Group name already exists"));
    }
    let is_new = edit.is_new();
    edit.add_group(name, Group::new(id, options.entries_read));
    match is_new {
        true => edit.also_changed("xgroup-create", crate::engine::event::STREAM),
        false => edit.changed_aside(Some("xgroup-create"), false),
    }
    drop(edit);
    call.ok()
}

const XGROUP_SETID: Command = Spec {
    usage: "XGROUP SETID key groupname id=<id | new_id=$> [ENTRIESREAD entries_read:int]",
    about: "Sets the id behind which a consumer group reads on.",
    since: "5.0.0",
    flags: &[WRITE],
    keys: &[key("key", &[RW, UPDATE])],
    history: &[("7.0.0", "`entries_read`.")],
    ..STREAM
}
.runs(xgroup_setid);

fn xgroup_setid(call: &mut Call<'_>) -> Result {
    let options = Options::parse(call, false)?;
    let (name, from) = (call.arg(3), call.arg(4));
    // As Redis counts them: with ENTRIESREAD once or not at all.
    let counts = call.argc() == 5 || call.argc() == 7;
    let misused = call.misused();
    let mut edit = edit_with_group(call)?;
    if !counts {
        return Err(misused);
    }
    let id = match from {
        b"$" => edit.view().last_id(),
        id => StreamId::parse_bound(id, 0)?,
    };
    edit.change_group(name, |group| {
        group.last_id = id;
        group.entries_read = options.entries_read;
    });
    edit.changed_aside(Some("xgroup-setid"), false);
    drop(edit);
    call.ok()
}

const XGROUP_DESTROY: Command = Spec {
    usage: "XGROUP DESTROY key groupname",
    about: "Removes a consumer group with all that is pending in it.",
    since: "5.0.0",
    flags: &[WRITE],
    keys: &[key("key", &[RW, DELETE])],
    ..STREAM
}
.runs(xgroup_destroy);

fn xgroup_destroy(call: &mut Call<'_>) -> Result {
    let name = call.arg(3);
    let mut edit = call.edit::<Stream>(call.key(2))?.ok_or(NO_KEY)?;
    let removed = edit.remove_group(name);
    if removed {
        // Who waits for what the group would read learns that it is gone.
        edit.changed_aside(Some("xgroup-destroy"), true);
    }
    drop(edit);
    call.reply(removed)
}

const XGROUP_CREATECONSUMER: Command = Spec {
    usage: "XGROUP CREATECONSUMER key groupname consumername",
    about: "Creates a consumer of a group; returns whether there was none of that name.",
    since: "6.2.0",
    flags: &[WRITE, DENYOOM],
    keys: &[key("key", &[RW, INSERT])],
    ..STREAM
}
.runs(xgroup_createconsumer);

fn xgroup_createconsumer(call: &mut Call<'_>) -> Result {
    let (name, consumer, now_ms) = (call.arg(3), call.arg(4), call.now_ms());
    let mut edit = edit_with_group(call)?;
    let there = edit.view().group(name).is_some_and(|group| group.consumers.contains(consumer));
    if !there {
        edit.hear_of(name, consumer, now_ms);
        edit.changed_aside(Some("xgroup-createconsumer"), false);
    }
    drop(edit);
    call.reply(!there)
}

const XGROUP_DELCONSUMER: Command = Spec {
    usage: "XGROUP DELCONSUMER key groupname consumername",
    about: "Removes a consumer of a group; returns how many entries were pending to it.",
    since: "5.0.0",
    cost: "O(log(N)), N being the entries pending in the group, which forgets those of the consumer little by little",
    flags: &[WRITE],
    keys: &[key("key", &[RW, DELETE])],
    ..STREAM
}
.runs(xgroup_delconsumer);

fn xgroup_delconsumer(call: &mut Call<'_>) -> Result {
    let (name, consumer) = (call.arg(3), call.arg(4));
    let mut edit = edit_with_group(call)?;
    let there = edit.view().group(name).is_some_and(|group| group.consumers.contains(consumer));
    let mut pending = 0;
    if there {
        pending = edit.remove_consumer(name, consumer);
        edit.changed_aside(Some("xgroup-delconsumer"), false);
    }
    let remembers_gone = edit.view().group(name).is_some_and(Group::remembers_gone);
    drop(edit);
    if remembers_gone {
        let at = (call.session.space, call.session.db);
        call.engine.forget_pending_later(at, call.arg(2), name);
    }
    call.reply(pending)
}

const XGROUP_HELP: Command = Spec {
    usage: "XGROUP HELP",
    about: "Lists the subcommands of XGROUP.",
    since: "5.0.0",
    flags: &[LOADING, STALE],
    ..STREAM
}
.runs(xgroup_help);

fn xgroup_help(call: &mut Call<'_>) -> Result {
    call.help(&[
        (
            "CREATE <key> <groupname> <id|$> [option]",
            "Create a consumer group that reads what comes behind <id>; `$` stands for the last\nentry. Options are:\n\
             * MKSTREAM\n  Create the stream if there is none.\n\
             * ENTRIESREAD entries_read\n  Say how many entries the group has read already.",
        ),
        ("CREATECONSUMER <key> <groupname> <consumer>", "Create a consumer of a group."),
        ("DELCONSUMER <key> <groupname> <consumer>", "Remove a consumer of a group."),
        ("DESTROY <key> <groupname>", "Remove a group."),
        (
            "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
            "Set the id behind which a group reads on.",
        ),
    ])
}
