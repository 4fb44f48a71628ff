//! Which commands a selector allows.
//!
//! Rules are kept in their order, as far as later ones leave them any effect, and what follows from them is a set of
//! commands. When modules come and go the set is worked out again: `+@all` takes in what was loaded since, and a rule
//! for a command that is not there now takes effect again when it comes back.

use std::collections::BTreeMap;

use mortise_sdk::declare::category::CATEGORIES;

use crate::bits::Bits;
use crate::rule::{Wrong, has_spaces};
use crate::table::{Row, Table, category_named};

/// The commands that a selector allows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commands {
    rules: Vec<CommandRule>,
    /// Whether commands are allowed that nothing is known of yet: the rules begin with `+@all`.
    future: bool,
    allowed: Bits,
    /// Commands that are allowed for these first arguments only, by their places.
    first_args: BTreeMap<usize, Vec<Box<[u8]>>>,
}

#[derive(Clone, Debug)]
enum CommandRule {
    All(bool),
    /// A place among [`CATEGORIES`].
    Category(bool, usize),
    /// The full name in lower case.
    Command(bool, Box<[u8]>),
    FirstArg(Box<[u8]>, Box<[u8]>),
}

impl Commands {
    /// No command at all.
    pub(crate) fn none(table: &Table) -> Commands {
        Commands { allowed: Bits::filled(table.bound(), false), ..Commands::default() }
    }

    /// Whether everything is allowed, whatever the command.
    pub(crate) fn is_all(&self, table: &Table) -> bool {
        self.future && table.iter().all(|(_, row)| self.allowed.get(row.index) != Some(false))
    }

    /// Whether a command is allowed: by its place in the registry and its first argument.
    #[inline(always)]
    pub(crate) fn allows(&self, index: usize, first_arg: Option<&[u8]>) -> bool {
        self.allowed.get(index).unwrap_or(self.future) || self.allows_argument(index, first_arg)
    }

    #[cold]
    fn allows_argument(&self, index: usize, first_arg: Option<&[u8]>) -> bool {
        let (Some(allowed), Some(given)) = (self.first_args.get(&index), first_arg) else { return false };
        allowed.iter().any(|arg| arg.eq_ignore_ascii_case(given))
    }

    /// `+@all`, `-@all`
    pub(crate) fn set_all(&mut self, allow: bool, table: &Table) {
        self.rules.clear();
        self.add(CommandRule::All(allow), table);
    }

    /// `+@category`, `-@category`
    pub(crate) fn set_category(&mut self, allow: bool, name: &[u8], table: &Table) -> Result<(), Wrong> {
        let place = category_named(name).ok_or(Wrong::UnknownCommand)?;
        self.rules.retain(|rule| !matches!(rule, CommandRule::Category(_, other) if *other == place));
        self.add(CommandRule::Category(allow, place), table);
        Ok(())
    }

    /// `+command`, `-command`, `+command|subcommand`, `+command|argument`
    pub(crate) fn set_command(&mut self, allow: bool, name: &[u8], table: &Table) -> Result<(), Wrong> {
        if let Some(bar) = name.iter().rposition(|byte| *byte == b'|')
            && allow
        {
            let (command, arg) = (&name[..bar], &name[bar + 1..]);
            let row = table.find(command).ok_or(Wrong::UnknownCommand)?;
            if row.is_subcommand {
                return Err(Wrong::SubcommandArgument);
            }
            if arg.is_empty() || has_spaces(arg) {
                return Err(Wrong::Syntax);
            }
            if row.subcommands.is_empty() {
                if !self.allows_argument(row.index, Some(arg)) {
                    self.add(CommandRule::FirstArg(command.to_ascii_lowercase().into(), arg.into()), table);
                }
                return Ok(());
            }
        }
        table.find(name).ok_or(Wrong::UnknownCommand)?;
        let name = name.to_ascii_lowercase();
        // Whatever was said of it, or of its subcommands, is void now.
        let is_within = |other: &[u8]| {
            other.strip_prefix(&name[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'|')
        };
        self.rules.retain(|rule| match rule {
            CommandRule::Command(_, other) | CommandRule::FirstArg(other, _) => !is_within(other),
            CommandRule::All(_) | CommandRule::Category(..) => true,
        });
        self.add(CommandRule::Command(allow, name.into()), table);
        Ok(())
    }

    /// Works the set out again, for other commands than before.
    pub(crate) fn resolve(&mut self, table: &Table) {
        self.future = false;
        self.allowed = Bits::filled(table.bound(), false);
        self.first_args.clear();
        for rule in std::mem::take(&mut self.rules) {
            self.add(rule, table);
        }
    }

    fn add(&mut self, rule: CommandRule, table: &Table) {
        match &rule {
            CommandRule::All(allow) => {
                self.future = *allow;
                self.allowed = Bits::filled(table.bound(), *allow);
                self.first_args.clear();
            }
            CommandRule::Category(allow, place) => {
                if let Some(reach) = table.category(*place) {
                    self.allowed.set_all(&reach.changed, *allow);
                    self.first_args.retain(|index, _| reach.members.get(*index) != Some(true));
                }
            }
            CommandRule::Command(allow, name) => {
                if let Some(row) = table.find(name) {
                    change(&mut self.allowed, row, *allow);
                    self.first_args.remove(&row.index);
                }
            }
            CommandRule::FirstArg(name, arg) => {
                if let Some(row) = table.find(name) {
                    let allowed = self.first_args.entry(row.index).or_default();
                    if !allowed.iter().any(|known| known.eq_ignore_ascii_case(arg)) {
                        allowed.push(arg.clone());
                    }
                }
            }
        }
        self.rules.push(rule);
    }

    /// The rules that give the same set, as Redis finds them: the categories that fit best, then single commands.
    ///
    /// The order of single commands is that of their names; in Redis it differs from run to run.
    pub(crate) fn describe(&self, table: &Table) -> Vec<u8> {
        let additive = !self.future;
        let mut text = if additive { b"-@all".to_vec() } else { b"+@all".to_vec() };
        let mut described = Bits::filled(table.bound(), self.future);
        // What is still to be described.
        let mut rest = self.allowed.clone();
        let mut applied = [false; CATEGORIES.len()];
        while let Some((place, reach)) = best_fit(&rest, additive, &applied, table) {
            described.set_all(&reach.changed, additive);
            rest.set_all(&reach.changed, !additive);
            applied[place] = true;
            push_rule(&mut text, additive, &[b"@", CATEGORIES[place].1.as_bytes()]);
        }
        for (name, row) in table.iter() {
            let allowed = self.allowed.get(row.index).unwrap_or(self.future);
            if described.get(row.index).unwrap_or(self.future) != allowed {
                push_rule(&mut text, allowed, &[name]);
                change(&mut described, row, allowed);
            }
            if !allowed {
                for arg in self.first_args.get(&row.index).into_iter().flatten() {
                    push_rule(&mut text, true, &[name, b"|", arg]);
                }
            }
        }
        // What is not there now may come back.
        for rule in &self.rules {
            match rule {
                CommandRule::Command(allow, name) if *allow != self.future && table.find(name).is_none() => {
                    push_rule(&mut text, *allow, &[name]);
                }
                CommandRule::FirstArg(name, arg) if !self.future && table.find(name).is_none() => {
                    push_rule(&mut text, true, &[name, b"|", arg]);
                }
                _ => {}
            }
        }
        text
    }
}

/// A command with its subcommands.
fn change(bits: &mut Bits, row: &Row, allow: bool) {
    bits.set(row.index, allow);
    row.subcommands.iter().for_each(|index| bits.set(*index, allow));
}

/// The category of which most is in the set (or, if that is to be taken away from everything, most is not), if it is
/// more than half: first by the fewest that do not fit, then by the most that do.
fn best_fit<'t>(
    rest: &Bits,
    additive: bool,
    applied: &[bool],
    table: &'t Table,
) -> Option<(usize, &'t crate::table::Reach)> {
    let mut best = None;
    let (mut fewest, mut most) = (u32::MAX, 0);
    for (place, _) in applied.iter().enumerate().filter(|(_, applied)| !**applied) {
        let reach = table.category(place)?;
        let on = rest.common(&reach.members);
        let off = reach.len - on;
        let (fits, differs) = if additive { (on, off) } else { (off, on) };
        if fits > differs && (differs < fewest || differs == fewest && fits > most) {
            (fewest, most) = (differs, fits);
            best = Some((place, reach));
        }
    }
    best
}

fn push_rule(text: &mut Vec<u8>, allow: bool, parts: &[&[u8]]) {
    text.extend_from_slice(if allow { b" +" } else { b" -" });
    parts.iter().for_each(|part| text.extend_from_slice(part));
}
