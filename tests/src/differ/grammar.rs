//! What there is to say: commands with their arguments, as COMMAND and COMMAND DOCS tell them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Client, Reply};

/// A command.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its name, in one word or two.
    pub words: Vec<String>,
    /// How many words it has; so many at least, if that is negative.
    pub arity: i64,
    /// Its group: "string", "sorted-set" …
    pub group: String,
    /// Its flags.
    pub flags: BTreeSet<String>,
    /// Its tips.
    pub tips: BTreeSet<String>,
    /// Its arguments.
    pub arguments: Vec<Argument>,
}

impl Command {
    /// Its name, in capitals with spaces.
    pub fn name(&self) -> String {
        self.words.join(" ")
    }
}

/// An argument, or several that belong together.
#[derive(Clone, Debug)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The word in front of it, or that it is.
    pub token: Option<String>,
    /// It may be left out.
    pub optional: bool,
    /// It may be repeated.
    pub multiple: bool,
    /// If repeated, so is the word in front.
    pub multiple_token: bool,
}

/// What an argument is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Any bytes.
    String,
    /// An integer.
    Integer,
    /// A double.
    Double,
    /// A key.
    Key,
    /// A pattern.
    Pattern,
    /// Seconds or milliseconds since 1970.
    UnixTime,
    /// A word alone.
    Token,
    /// One of several.
    OneOf(Vec<Argument>),
    /// Several together.
    Block(Vec<Argument>),
}

/// The commands that a server has, by their names.
pub fn commands(client: &mut Client) -> std::io::Result<BTreeMap<String, Command>> {
    let mut found = BTreeMap::new();
    let info = client.call(&["COMMAND"])?;
    elements(&info).iter().for_each(|entry| note_info(entry, &mut found));
    let docs = client.call(&["COMMAND", "DOCS"])?;
    pairs(&docs).for_each(|(name, fields)| note_docs(&name, fields, &mut found));
    // A container says nothing by itself.
    found.retain(|_, command| !command.group.is_empty());
    Ok(found)
}

fn note_info(entry: &Reply, found: &mut BTreeMap<String, Command>) {
    let [name, arity, flags, _, _, _, _, tips, _, subcommands] = elements(entry) else { return };
    let words = text(name).split('|').map(str::to_ascii_uppercase).collect();
    let command = Command {
        words,
        arity: if let Reply::Integer(arity) = arity { *arity } else { 0 },
        group: String::new(),
        flags: elements(flags).iter().map(text).collect(),
        tips: elements(tips).iter().map(text).collect(),
        arguments: Vec::new(),
    };
    found.insert(text(name), command);
    elements(subcommands).iter().for_each(|entry| note_info(entry, found));
}

fn note_docs(name: &str, fields: &Reply, found: &mut BTreeMap<String, Command>) {
    let fields: BTreeMap<String, &Reply> = pairs(fields).collect();
    if let Some(subcommands) = fields.get("subcommands") {
        return pairs(subcommands).for_each(|(name, fields)| note_docs(&name, fields, found));
    }
    let Some(command) = found.get_mut(name) else { return };
    command.group = fields.get("group").map(|group| text(group)).unwrap_or_default();
    command.arguments = fields.get("arguments").map(|tree| arguments(tree)).unwrap_or_default();
}

fn arguments(tree: &Reply) -> Vec<Argument> {
    elements(tree).iter().filter_map(argument).collect()
}

fn argument(fields: &Reply) -> Option<Argument> {
    let fields: BTreeMap<String, &Reply> = pairs(fields).collect();
    let parts = || fields.get("arguments").map(|tree| arguments(tree)).unwrap_or_default();
    let kind = match text(fields.get("type")?).as_str() {
        "integer" => Kind::Integer,
        "double" => Kind::Double,
        "key" => Kind::Key,
        "pattern" => Kind::Pattern,
        "unix-time" => Kind::UnixTime,
        "pure-token" => Kind::Token,
        "oneof" => Kind::OneOf(parts()),
        "block" => Kind::Block(parts()),
        _ => Kind::String,
    };
    let flags: BTreeSet<String> =
        fields.get("flags").map(|flags| elements(flags).iter().map(text).collect()).unwrap_or_default();
    Some(Argument {
        name: text(fields.get("name")?),
        kind,
        token: fields.get("token").map(|token| text(token)),
        optional: flags.contains("optional"),
        multiple: flags.contains("multiple"),
        multiple_token: flags.contains("multiple_token"),
    })
}

pub(super) fn elements(reply: &Reply) -> &[Reply] {
    match reply {
        Reply::Array(elements) | Reply::Set(elements) => elements,
        _ => &[],
    }
}

fn pairs(reply: &Reply) -> impl Iterator<Item = (String, &Reply)> {
    elements(reply).chunks(2).filter_map(|pair| Some((text(pair.first()?), pair.get(1)?)))
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(bytes) | Reply::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}
