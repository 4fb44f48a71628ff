//! A small world of commands: some as Redis has them, two of a module.

use std::sync::Arc;

use mortise_acl::{Asked, Named, Refusal, Setting, Table, User};
use mortise_sdk::declare::*;

/// The rows, in the order of their places in the registry.
pub(crate) const ROWS: &[Spec] = &[
    row("string", "GET key", &[READONLY, FAST], &[key("key", &[RO, ACCESS])], None),
    row("string", "SET key value", &[WRITE], &[key("key", &[OW, UPDATE])], None),
    row("string", "MSET <key value>...", &[WRITE], &[key("key", &[OW, UPDATE])], None),
    row("generic", "EXISTS key...", &[READONLY, FAST], &[key("key", &[RO])], None),
    row(
        "generic",
        "COPY source destination",
        &[WRITE],
        &[key("source", &[RO, ACCESS]), key("destination", &[OW, UPDATE])],
        None,
    ),
    row(
        "sorted-set",
        "ZUNIONSTORE destination numkeys:int key...",
        &[WRITE],
        &[key("destination", &[OW, UPDATE]), key("key", &[RO, ACCESS])],
        None,
    ),
    row("pubsub", "PUBLISH channel message", &[PUBSUB, FAST], &[], channel("channel")),
    row("pubsub", "SUBSCRIBE channel...", &[PUBSUB], &[], channel("channel")),
    row("pubsub", "PSUBSCRIBE pattern...", &[PUBSUB], &[], channel_pattern("pattern")),
    row("connection", "PING [message]", &[FAST], &[], None),
    row("connection", "AUTH [username] password", &[FAST, NO_AUTH], &[], None),
    row("connection", "SELECT index:int", &[FAST], &[], None),
    row("server", "DEBUG subcommand [argument...]", &[ADMIN], &[], None),
    row("server", "CONFIG", &[CONTAINER], &[], None),
    row("server", "CONFIG GET parameter...", &[ADMIN], &[], None),
    row("server", "CONFIG SET <parameter value>...", &[ADMIN], &[], None),
    row("connection", "CLIENT", &[CONTAINER], &[], None),
    row("connection", "CLIENT ID", &[FAST], &[], None),
    row("connection", "CLIENT KILL address", &[ADMIN], &[], None),
    row("hello", "HELLO.GREET name", &[READONLY, FAST], &[], None),
    row("hello", "HELLO.SIGN book name", &[WRITE], &[key("book", &[RW, INSERT])], None),
];

const fn row(
    group: &'static str,
    usage: &'static str,
    flags: &'static [Flags],
    keys: &'static [KeyUse],
    channels: Option<ChannelUse>,
) -> Spec {
    Spec { usage, flags, keys, channels, ..Spec::group(group) }
}

/// Facts of all commands, by their places.
pub(crate) fn facts() -> Vec<Facts> {
    ROWS.iter().map(|row| Facts::of(row).unwrap()).collect()
}

/// The table of these commands, with those of the module or without.
pub(crate) fn table(facts: &[Facts], with_module: bool) -> Arc<Table> {
    let named = facts.iter().enumerate().map(|(index, facts)| Named {
        index,
        name: &facts.name,
        categories: facts.categories,
        from_module: facts.spec.group == "hello",
        is_subcommand: facts.words.len() > 1,
    });
    Arc::new(Table::new(named.filter(|named| with_module || !named.from_module)))
}

/// How rules are read here.
pub(crate) fn setting(facts: &[Facts], all_channels: bool) -> Setting {
    Setting { table: table(facts, true), all_channels, ..Setting::default() }
}

/// Asks a user, by the words of a call.
pub(crate) fn ask(user: &User, facts: &[Facts], words: &[&str]) -> Result<(), Refusal> {
    let lower: Vec<String> = words.iter().take(2).map(|word| word.to_ascii_lowercase()).collect();
    let names = [lower.join("|"), lower[0].clone()];
    let index = names.iter().find_map(|name| facts.iter().position(|facts| facts.name == *name));
    let index = index.unwrap_or_else(|| panic!("no command: {words:?}"));
    user.check(&Asked { index, facts: &facts[index], argc: words.len(), arg: |i: usize| words[i].as_bytes() })
}
