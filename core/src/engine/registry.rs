//! Every command there is, by name; subcommands; renamed commands. An immutable snapshot: a change makes a new one.

use std::collections::HashMap;
use std::sync::Arc;

use mortise_sdk::declare::facts::{Facts, NAME_LEN_MAX};
use mortise_sdk::declare::flags::{self, Flags};
use mortise_sdk::declare::usage::{Argument, Kind};

use super::args::Args;
use super::call::Run;
use super::crossing;
use mortise_sdk::declare::Spec;

/// A command and what is known of it.
pub struct Command {
    /// Its place in the statistics.
    pub index: usize,
    /// Full name in lower case: "get", "config|set".
    pub name: String,
    /// What is derived from its declaration.
    pub facts: Facts,
    /// Its flags.
    pub flags: Flags,
    /// Which argument, if no optional one is given, names a field or member of the first key's value.
    pub member: Option<usize>,
    /// What runs it.
    pub run: Run,
    /// Its subcommands, by name in lower case.
    pub subcommands: HashMap<String, CommandRef>,
    /// Which module brought it.
    pub module: Option<Arc<str>>,
}

/// A command, shared by snapshots, batches and queues.
pub type CommandRef = Arc<Command>;

impl Command {
    /// The index of the first key, if it is always at the same place.
    #[inline(always)]
    pub fn first_key(&self) -> Option<usize> {
        self.facts.first_key
    }
}

/// What a look-up found.
pub enum Lookup {
    /// The command that is meant.
    Found(CommandRef),
    /// No command has this name.
    Unknown,
    /// The container has no such subcommand.
    UnknownSubcommand(CommandRef),
}

/// The names that clients may use.
#[derive(Clone, Default)]
pub struct Registry {
    by_name: HashMap<Box<[u8]>, CommandRef, foldhash::fast::RandomState>,
    /// Commands that nobody can call, as their names were taken away.
    nameless: Vec<CommandRef>,
    /// The places of the statistics that have been given out, by full name. A command of a module that is loaded again
    /// gets the place it had.
    indices: Arc<HashMap<String, usize>>,
}

impl Registry {
    /// Adds a table of commands; nothing is added if a name exists, or if a declaration is wrong.
    pub fn install(
        &mut self,
        commands: impl Iterator<Item = (Spec, Run)>,
        module: Option<&Arc<str>>,
    ) -> Result<(), String> {
        let mut next = self.clone();
        let mut pending: Vec<(Facts, Run)> = Vec::new();
        for (spec, run) in commands {
            let facts =
                Facts::of(&spec).map_err(|error| format!("the usage line '{}': {error}", spec.usage))?;
            pending.push((facts, run));
        }
        // Containers come into being before what they contain.
        pending.sort_by_key(|(facts, _)| facts.words.len());
        for (facts, run) in pending {
            next.add(facts, run, module)?;
        }
        *self = next;
        Ok(())
    }

    fn add(&mut self, facts: Facts, run: Run, module: Option<&Arc<str>>) -> Result<(), String> {
        let mut flags = facts.flags;
        if module.is_some() {
            flags = flags | flags::MODULE;
        }
        let name = facts.name.clone();
        let words = facts.words.clone();
        if words.iter().any(|word| crossing::is_foreign(word.as_bytes())) {
            return Err(format!("nobody could call '{name}', with which requests in HTTP begin"));
        }
        let index = self.index_of(&name);
        let command = Arc::new(Command {
            index,
            name: name.clone(),
            member: member_of(&facts),
            facts,
            flags,
            run,
            subcommands: HashMap::new(),
            module: module.cloned(),
        });
        match &words[..] {
            [word] => {
                if self.by_name.contains_key(word.as_bytes()) {
                    return Err(format!("command '{word}' already exists"));
                }
                self.by_name.insert(word.as_bytes().into(), command);
            }
            [container, word] => {
                let Some(parent) = self.by_name.get_mut(container.as_bytes()) else {
                    return Err(format!("'{name}' has no container '{container}'"));
                };
                // The core's own containers may be commands of their own as well, as COMMAND is.
                let contains = module.is_none() || parent.flags.has(flags::CONTAINER);
                if parent.module.as_ref() != module || !contains {
                    return Err(format!("'{name}' is added to what is no container of the same owner"));
                }
                let mut copy = parent.copy();
                if copy.subcommands.insert(word.clone(), command).is_some() {
                    return Err(format!("command '{name}' already exists"));
                }
                *parent = Arc::new(copy);
            }
            _ => return Err(format!("'{name}' is no name")),
        }
        Ok(())
    }

    fn index_of(&mut self, name: &str) -> usize {
        if let Some(index) = self.indices.get(name) {
            return *index;
        }
        let index = self.indices.len();
        Arc::make_mut(&mut self.indices).insert(name.to_owned(), index);
        index
    }

    /// Takes away what a module brought: its commands, with which its subcommands go. Returns the places that they had in
    /// the statistics.
    pub fn remove_module(&mut self, module: &str) -> Vec<usize> {
        let mut places = Vec::new();
        self.by_name.retain(|_, command| {
            if command.module.as_deref() != Some(module) {
                return true;
            }
            places.push(command.index);
            places.extend(command.subcommands.values().map(|subcommand| subcommand.index));
            false
        });
        places
    }

    /// Gives a command another name, or none at all.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), String> {
        let from = from.to_ascii_lowercase();
        let to = to.to_ascii_lowercase();
        // Under these names nobody can call it.
        let to = if crossing::is_foreign(to.as_bytes()) { String::new() } else { to };
        let Some(command) = self.by_name.remove(from.as_bytes()) else {
            return Err("No such command in rename-command".to_owned());
        };
        if to.is_empty() {
            self.nameless.push(command);
        } else if self.by_name.insert(to.as_bytes().into(), command).is_some() {
            return Err("Target command name already exists".to_owned());
        }
        Ok(())
    }

    /// The command that arguments mean. Names are compared without regard to case.
    pub fn find(&self, args: Args<'_>) -> Lookup {
        let Some(command) = args.get(0).and_then(|name| self.by_name(name)) else { return Lookup::Unknown };
        if command.subcommands.is_empty() {
            return Lookup::Found(command.clone());
        }
        // With another word it means a subcommand, even if it is a command without one, as COMMAND is.
        let Some(word) = args.get(1) else { return Lookup::Found(command.clone()) };
        let word = std::str::from_utf8(word).map(str::to_ascii_lowercase);
        match word.ok().and_then(|word| command.subcommands.get(&word)) {
            Some(subcommand) => Lookup::Found(subcommand.clone()),
            None => Lookup::UnknownSubcommand(command.clone()),
        }
    }

    /// The command that has another name now, or none, and had this one. What the server itself writes down goes by the
    /// names that commands had at first.
    pub fn by_original_name(&self, name: &[u8]) -> Option<&CommandRef> {
        let mut all = self.by_name.values().chain(&self.nameless);
        all.find(|command| command.facts.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The command (or container) of a name.
    #[inline]
    pub fn by_name(&self, name: &[u8]) -> Option<&CommandRef> {
        if name.len() > NAME_LEN_MAX {
            return None;
        }
        let mut lower = [0; NAME_LEN_MAX];
        let lower = &mut lower[..name.len()];
        for (to, from) in lower.iter_mut().zip(name) {
            *to = from.to_ascii_lowercase();
        }
        self.by_name.get(&*lower)
    }

    /// The command of a full name, "config|set" or "get".
    pub fn by_full_name(&self, name: &[u8]) -> Option<&CommandRef> {
        match name.iter().position(|byte| *byte == b'|') {
            None => self.by_name(name),
            Some(at) => {
                let word = std::str::from_utf8(&name[at + 1..]).ok()?.to_ascii_lowercase();
                self.by_name(&name[..at])?.subcommands.get(&word)
            }
        }
    }

    /// Every command and container.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &CommandRef)> {
        self.by_name.iter().map(|(name, command)| (&**name, command))
    }

    /// Every command, container and subcommand, also those that nobody can call: each bears its own name, whatever it is
    /// called by.
    pub fn all(&self) -> impl Iterator<Item = &CommandRef> {
        let containers = self.by_name.values().chain(&self.nameless);
        containers.flat_map(|command| std::iter::once(command).chain(command.subcommands.values()))
    }

    /// How many there are, containers counted, subcommands not.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many places of the statistics have been given out.
    pub fn indices(&self) -> usize {
        self.indices.len()
    }
}

/// Where the usage line puts the first field or member.
fn member_of(facts: &Facts) -> Option<usize> {
    fn walk(arguments: &[Argument], at: &mut usize) -> Option<usize> {
        for argument in arguments.iter().filter(|argument| !argument.optional) {
            match &argument.kind {
                Kind::Block(inner) => {
                    if let Some(found) = walk(inner, at) {
                        return Some(found);
                    }
                }
                Kind::OneOf(_) | Kind::PureToken => return None,
                _ if argument.name == "field" || argument.name == "member" => return Some(*at),
                _ => *at += 1,
            }
        }
        None
    }
    let mut at = facts.words.len();
    walk(&facts.arguments, &mut at)
}

impl Command {
    fn copy(&self) -> Command {
        Command {
            index: self.index,
            name: self.name.clone(),
            facts: self.facts.clone(),
            flags: self.flags,
            member: self.member,
            run: self.run.clone(),
            subcommands: self.subcommands.clone(),
            module: self.module.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(registry: &mut Registry, usage: &'static str, module: &str) -> Result<(), String> {
        let flags = if usage.ends_with("BOX") { &[flags::CONTAINER][..] } else { &[] };
        let run = Run::Core(|call| call.ok());
        let module = Arc::from(module);
        registry.install([(Spec { usage, flags, ..Spec::group("x") }, run)].into_iter(), Some(&module))
    }

    #[test]
    fn a_subcommand_belongs_to_the_owner_of_its_container() {
        let mut registry = Registry::default();
        install(&mut registry, "BOX", "one").unwrap();
        install(&mut registry, "PLAIN", "one").unwrap();
        install(&mut registry, "BOX IN", "one").unwrap();
        assert!(install(&mut registry, "BOX OUT", "two").is_err());
        assert!(install(&mut registry, "PLAIN IN", "one").is_err());
        assert!(install(&mut registry, "NOTHING IN", "one").is_err());
        assert_eq!(registry.remove_module("two"), [0; 0]);
        assert_eq!(registry.remove_module("one").len(), 3);
        assert!(registry.is_empty());
    }

    #[test]
    fn a_name_keeps_its_place() {
        let mut registry = Registry::default();
        install(&mut registry, "A", "one").unwrap();
        install(&mut registry, "B", "two").unwrap();
        let place = |registry: &Registry| registry.by_name(b"b").unwrap().index;
        let before = place(&registry);
        registry.remove_module("two");
        install(&mut registry, "C", "one").unwrap();
        install(&mut registry, "B", "two").unwrap();
        assert_eq!((place(&registry), registry.indices()), (before, 3));
    }

    #[test]
    fn names_of_another_protocol_are_not_given() {
        let mut registry = Registry::default();
        assert!(install(&mut registry, "POST", "one").is_err());
        install(&mut registry, "A", "one").unwrap();
        registry.rename("a", "Post").unwrap();
        assert!(registry.is_empty());
    }
}
