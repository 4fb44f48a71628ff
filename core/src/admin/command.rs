//! COMMAND: what clients may learn about commands, derived from their declarations.

use mortise_sdk::declare::category::{self, CATEGORIES, Category};
use mortise_sdk::declare::flags::{self, LOADING, STALE};
use mortise_sdk::declare::keys::{Begin, Find};
use mortise_sdk::declare::{Argument, KeyRef, KeySpec, Spec};
use mortise_sdk::error::{self, Error, Result};
use mortise_sdk::glob;

use crate::engine::args::Args;
use crate::engine::call::Call;
use crate::engine::registry::{self, CommandRef, Lookup, Registry};
use crate::features::Command;
use crate::resp::output::Output;

const SERVER: Spec = Spec::group("server");

const COMMAND: Command = Spec {
    usage: "COMMAND",
    about: "Describes all commands.",
    since: "2.8.13",
    cost: "O(N), N being the commands",
    flags: &[LOADING, STALE],
    categories: &[category::CONNECTION],
    arity: Some(-1),
    tips: &["nondeterministic_output_order"],
    ..SERVER
}
.runs(info_of_all);

const COMMAND_COUNT: Command = Spec {
    usage: "COMMAND COUNT",
    about: "Counts the commands.",
    since: "2.8.13",
    flags: &[LOADING, STALE],
    categories: &[category::CONNECTION],
    ..SERVER
}
.runs(command_count);

const COMMAND_DOCS: Command = Spec {
    usage: "COMMAND DOCS [command-name...]",
    about: "Documents commands, all of them if none is named.",
    since: "7.0.0",
    cost: "O(N), N being the commands named",
    flags: &[LOADING, STALE],
    categories: &[category::CONNECTION],
    tips: &["nondeterministic_output_order"],
    ..SERVER
}
.runs(command_docs);

const COMMAND_GETKEYS: Command = Spec {
    usage: "COMMAND GETKEYS",
    about: "Returns the keys in a call that is given whole.",
    since: "2.8.13",
    cost: "O(N), N being the arguments",
    flags: &[LOADING, STALE],
    categories: &[category::CONNECTION],
    arity: Some(-4),
    ..SERVER
}
.runs(command_getkeys);

const COMMAND_GETKEYSANDFLAGS: Command = Spec {
    usage: "COMMAND GETKEYSANDFLAGS",
    about: "Returns the keys in a call that is given whole, and what would be done to them.",
    since: "7.0.0",
    cost: "O(N), N being the arguments",
    flags: &[LOADING, STALE],
    categories: &[category::CONNECTION],
    arity: Some(-4),
    ..SERVER
}
.runs(command_getkeysandflags);

const COMMAND_INFO: Command = Spec {
    usage: "COMMAND INFO [command-name...]",
    about: "Describes commands, all of them if none is named.",
    since: "2.8.13",
    cost: "O(N), N being the commands named",
    flags: &[LOADING, STALE],
    categories: &[category::CONNECTION],
    tips: &["nondeterministic_output_order"],
    history: &[("7.0.0", "May be called without a name.")],
    ..SERVER
}
.runs(command_info);

const COMMAND_LIST: Command = Spec {
    usage: "COMMAND LIST [FILTERBY filterby=<MODULE module-name | ACLCAT category | \
            PATTERN pattern:pattern>]",
    about: "Lists the names of commands.",
    since: "7.0.0",
    cost: "O(N), N being the commands",
    flags: &[LOADING, STALE],
    categories: &[category::CONNECTION],
    tips: &["nondeterministic_output_order"],
    ..SERVER
}
.runs(command_list);

const COMMAND_HELP: Command = Spec {
    usage: "COMMAND HELP",
    about: "Lists the subcommands of COMMAND.",
    since: "5.0.0",
    flags: &[LOADING, STALE],
    categories: &[category::CONNECTION],
    ..SERVER
}
.runs(command_help);

pub(super) const COMMANDS: &[Command] = &[
    COMMAND,
    COMMAND_COUNT,
    COMMAND_DOCS,
    COMMAND_GETKEYS,
    COMMAND_GETKEYSANDFLAGS,
    COMMAND_INFO,
    COMMAND_LIST,
    COMMAND_HELP,
];

fn command_count(call: &mut Call<'_>) -> Result {
    let count = call.registry.len();
    call.reply(count)
}

fn command_help(call: &mut Call<'_>) -> Result {
    call.help(&[
        ("(no subcommand)", "Describes every command."),
        ("COUNT", "Counts the commands."),
        (
            "LIST [FILTERBY (MODULE <module-name>|ACLCAT <category>|PATTERN <pattern>)]",
            "Lists the names of commands.",
        ),
        ("INFO [<command-name> ...]", "Describes the commands that are named, or all of them."),
        ("DOCS [<command-name> ...]", "Documents the commands that are named, or all of them."),
        ("GETKEYS <full-command>", "Returns the keys in a call that is given whole."),
        ("GETKEYSANDFLAGS <full-command>", "Returns these keys, each with what the call does to it."),
    ])
}

/// Every command and container, in the order of their names.
fn sorted(registry: &Registry) -> Vec<&CommandRef> {
    let mut all: Vec<_> = registry.iter().map(|(_, command)| command).collect();
    all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The subcommands of a container, in the order of their names.
fn subcommands(command: &registry::Command) -> Vec<&CommandRef> {
    let mut all: Vec<_> = command.subcommands.values().collect();
    all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    all
}

// ---- LIST

/// Which commands COMMAND LIST names.
enum Filter<'a> {
    All,
    Module(&'a [u8]),
    Category(Option<Category>),
    Pattern(&'a [u8]),
}

impl Filter<'_> {
    fn admits(&self, command: &registry::Command) -> bool {
        match self {
            Filter::All => true,
            Filter::Module(module) => {
                command.module.as_deref().is_some_and(|name| name.as_bytes() == *module)
            }
            Filter::Category(category) => category.is_some_and(|category| categories(command).has(category)),
            Filter::Pattern(pattern) => glob::matches_nocase(pattern, command.name.as_bytes()),
        }
    }
}

fn command_list(call: &mut Call<'_>) -> Result {
    let mut options = call.options(2);
    let mut filter = Filter::All;
    if !options.is_empty() {
        if options.left() != 3 || !options.takes("FILTERBY") {
            return Err(error::SYNTAX);
        }
        let (kind, value) = (options.required()?, options.required()?);
        filter = if kind.eq_ignore_ascii_case(b"MODULE") {
            Filter::Module(value)
        } else if kind.eq_ignore_ascii_case(b"ACLCAT") {
            let named = |(_, name): &&(Category, &str)| value.eq_ignore_ascii_case(name.as_bytes());
            Filter::Category(CATEGORIES.iter().find(named).map(|(category, _)| *category))
        } else if kind.eq_ignore_ascii_case(b"PATTERN") {
            Filter::Pattern(value)
        } else {
            return Err(error::SYNTAX);
        };
    }
    let mut names: Vec<&str> = Vec::new();
    for command in sorted(call.registry) {
        let family = std::iter::once(command).chain(subcommands(command));
        names.extend(family.filter(|command| filter.admits(command)).map(|command| &*command.name));
    }
    call.out().array(names.len());
    names.iter().for_each(|name| call.out().bulk(name.as_bytes()));
    Ok(())
}

// ---- GETKEYS

fn command_getkeys(call: &mut Call<'_>) -> Result {
    let (args, keys) = keys_of_call(call)?;
    call.out().array(keys.len());
    keys.iter().for_each(|key| call.out().bulk(args.at(key.index)));
    Ok(())
}

fn command_getkeysandflags(call: &mut Call<'_>) -> Result {
    let (args, keys) = keys_of_call(call)?;
    call.out().array(keys.len());
    for key in &keys {
        call.out().array(2);
        call.out().bulk(args.at(key.index));
        status_set(call.out(), key.access.names());
    }
    Ok(())
}

/// The call that the arguments hold, and its keys.
fn keys_of_call<'c>(call: &Call<'c>) -> Result<(Args<'c>, Vec<KeyRef>)> {
    let args = call.args().from(2);
    let Lookup::Found(command) = call.registry.find(args) else {
        return Err(Error::new("ERR Invalid command specified"));
    };
    let facts = &command.facts;
    if !facts.has_keys() {
        return Err(Error::new("ERR The command has no key arguments"));
    }
    if !facts.accepts(args.len()) {
        return Err(Error::new("ERR Invalid number of arguments specified for command"));
    }
    let keys = facts.keys_of(args.len(), &|index| args.at(index)).unwrap_or_default();
    if keys.is_empty() && !command.flags.has(flags::NO_MANDATORY_KEYS) {
        return Err(Error::new("ERR Invalid arguments specified for command"));
    }
    Ok((args, keys))
}

// ---- INFO

fn command_info(call: &mut Call<'_>) -> Result {
    if call.argc() == 2 {
        return info_of_all(call);
    }
    let named = call.argc() - 2;
    call.out().array(named);
    let registry = call.registry;
    for index in 2..call.argc() {
        match registry.by_full_name(call.arg(index)) {
            Some(command) => info(command, call.out()),
            None => call.out().null(),
        }
    }
    Ok(())
}

fn info_of_all(call: &mut Call<'_>) -> Result {
    let all = sorted(call.registry);
    call.out().array(all.len());
    all.iter().for_each(|command| info(command, call.out()));
    Ok(())
}

/// The ACL categories by whose rules a command is allowed or forbidden: none reaches one of a module.
fn categories(command: &registry::Command) -> Category {
    if command.module.is_some() { Category::NONE } else { command.facts.categories }
}

fn info(command: &registry::Command, out: &mut Output) {
    let facts = &command.facts;
    out.array(10);
    out.bulk(command.name.as_bytes());
    out.integer(facts.arity.into());
    status_set(out, command.flags.names());
    out.integer(facts.first.into());
    out.integer(facts.last.into());
    out.integer(facts.step.into());
    let categories: Vec<_> = categories(command).names().map(|name| format!("@{name}")).collect();
    status_set(out, categories.iter().map(|name| &**name));
    out.set(facts.spec.tips.len());
    facts.spec.tips.iter().for_each(|tip| out.bulk(tip.as_bytes()));
    out.set(facts.keys.len());
    facts.keys.iter().for_each(|key| key_spec(key, out));
    let subcommands = subcommands(command);
    // Redis answers an empty set, but a full array.
    if subcommands.is_empty() {
        out.set(0)
    } else {
        out.array(subcommands.len())
    }
    subcommands.iter().for_each(|command| info(command, out));
}

fn key_spec(key: &KeySpec, out: &mut Output) {
    out.map(3 + usize::from(!key.notes.is_empty()));
    if !key.notes.is_empty() {
        text_pair(out, "notes", key.notes);
    }
    out.bulk(b"flags");
    status_set(out, key.access.names());
    out.bulk(b"begin_search");
    match key.position.begin {
        Begin::Index(index) => step(out, "index", &[("index", index)]),
        Begin::Keyword(keyword, from) => {
            out.map(2);
            text_pair(out, "type", "keyword");
            out.bulk(b"spec");
            out.map(2);
            text_pair(out, "keyword", keyword);
            integer_pair(out, "startfrom", from);
        }
        Begin::Unknown => step(out, "unknown", &[]),
    }
    out.bulk(b"find_keys");
    match key.position.find {
        Find::Range { last, step: distance, limit } => {
            step(out, "range", &[("lastkey", last), ("keystep", distance), ("limit", limit)]);
        }
        Find::KeyNum { index, first, step: distance } => {
            step(out, "keynum", &[("keynumidx", index), ("firstkey", first), ("keystep", distance)]);
        }
        Find::Unknown => step(out, "unknown", &[]),
    }
}

/// One step of a search for keys: its type, and the numbers that specify it.
fn step(out: &mut Output, kind: &str, spec: &[(&str, i32)]) {
    out.map(2);
    text_pair(out, "type", kind);
    out.bulk(b"spec");
    out.map(spec.len());
    spec.iter().for_each(|(name, number)| integer_pair(out, name, *number));
}

// ---- DOCS

fn command_docs(call: &mut Call<'_>) -> Result {
    let registry = call.registry;
    let named: Vec<&CommandRef> = if call.argc() == 2 {
        sorted(registry)
    } else {
        call.options(2).filter_map(|name| registry.by_full_name(name)).collect()
    };
    call.out().map(named.len());
    for command in named {
        call.out().bulk(command.name.as_bytes());
        docs(command, call.out());
    }
    Ok(())
}

fn docs(command: &registry::Command, out: &mut Output) {
    let facts = &command.facts;
    let spec = &facts.spec;
    let subcommands = subcommands(command);
    let doc_flags: Vec<_> = facts.doc_flags().collect();
    let texts = [
        ("summary", Some(spec.about)),
        ("since", Some(spec.since)),
        ("group", Some(if command.module.is_some() { "module" } else { spec.group })),
        ("complexity", Some(spec.cost)),
        ("module", command.module.as_deref()),
    ];
    let texts =
        texts.iter().filter_map(|(name, text)| text.filter(|text| !text.is_empty()).map(|text| (name, text)));
    let tables = [
        !doc_flags.is_empty(),
        !spec.history.is_empty(),
        !facts.arguments.is_empty(),
        !subcommands.is_empty(),
    ];
    let deprecation = spec.deprecated.map_or(0, |_| 2);
    out.map(texts.clone().count() + deprecation + tables.iter().filter(|shown| **shown).count());

    texts.for_each(|(name, text)| text_pair(out, name, text));
    if !doc_flags.is_empty() {
        out.bulk(b"doc_flags");
        status_set(out, doc_flags.into_iter());
    }
    if let Some(deprecated) = spec.deprecated {
        text_pair(out, "deprecated_since", deprecated.since);
        text_pair(out, "replaced_by", deprecated.replaced_by);
    }
    if !spec.history.is_empty() {
        out.bulk(b"history");
        out.set(spec.history.len());
        for (version, change) in spec.history {
            out.array(2);
            out.bulk(version.as_bytes());
            out.bulk(change.as_bytes());
        }
    }
    if !facts.arguments.is_empty() {
        out.bulk(b"arguments");
        arguments(&facts.arguments, out);
    }
    if !subcommands.is_empty() {
        out.bulk(b"subcommands");
        out.map(subcommands.len());
        for command in subcommands {
            out.bulk(command.name.as_bytes());
            docs(command, out);
        }
    }
}

fn arguments(list: &[Argument], out: &mut Output) {
    out.array(list.len());
    for argument in list {
        let texts =
            [("token", argument.token), ("since", argument.since), ("deprecated_since", argument.deprecated)];
        let texts = texts.iter().filter_map(|(name, text)| text.map(|text| (name, text)));
        let flags = [
            (argument.optional, "optional"),
            (argument.multiple, "multiple"),
            (argument.multiple_token, "multiple_token"),
        ];
        let flags: Vec<_> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        let parts = argument.kind.parts();
        let others = [argument.key_spec.is_some(), !flags.is_empty(), !parts.is_empty()];
        out.map(2 + texts.clone().count() + others.iter().filter(|shown| **shown).count());

        text_pair(out, "name", &argument.name);
        text_pair(out, "type", argument.kind.name());
        if let Some(key_spec) = argument.key_spec {
            out.bulk(b"key_spec_index");
            out.count(key_spec);
        }
        texts.for_each(|(name, text)| text_pair(out, name, text));
        if !flags.is_empty() {
            out.bulk(b"flags");
            status_set(out, flags.into_iter());
        }
        if !parts.is_empty() {
            out.bulk(b"arguments");
            arguments(parts, out);
        }
    }
}

fn status_set<'a>(out: &mut Output, names: impl Iterator<Item = &'a str>) {
    let names: Vec<_> = names.collect();
    out.set(names.len());
    names.iter().for_each(|name| out.simple(name));
}

fn text_pair(out: &mut Output, name: &str, value: &str) {
    out.bulk(name.as_bytes());
    out.bulk(value.as_bytes());
}

fn integer_pair(out: &mut Output, name: &str, value: i32) {
    out.bulk(name.as_bytes());
    out.integer(value.into());
}
