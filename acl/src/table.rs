//! The commands that rules can name: the server's registry, as far as rules need it.

use std::collections::BTreeMap;

use mortise_sdk::declare::Category;
use mortise_sdk::declare::category::CATEGORIES;

use crate::bits::Bits;

/// A command that rules can name.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Its place in the registry; no two commands have the same.
    pub index: usize,
    /// Its full name: "get", "config|get".
    pub name: &'a str,
    /// Its categories.
    pub categories: Category,
    /// Whether a module brought it. Categories do not reach such commands: rules name them one by one.
    pub from_module: bool,
    /// Whether it is the subcommand of a container.
    pub is_subcommand: bool,
}

/// All commands that rules can name, by their own names: who renames a command does not change what rules call it.
#[derive(Debug, Default)]
pub struct Table {
    /// By name in lower case. A container comes before its subcommands, as its name is the beginning of theirs.
    rows: BTreeMap<Box<[u8]>, Row>,
    /// What each category reaches, in the order of [`CATEGORIES`].
    categories: Vec<Reach>,
    /// The places of commands in the registry are below this.
    bound: usize,
}

/// A command of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) index: usize,
    pub(crate) is_subcommand: bool,
    pub(crate) subcommands: Vec<usize>,
}

/// What a category reaches.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Commands that are in it.
    pub(crate) members: Bits,
    /// How many these are.
    pub(crate) len: u32,
    /// They, and all subcommands of containers among them: what a rule for the category changes.
    pub(crate) changed: Bits,
}

impl Table {
    /// A table of these commands.
    pub fn new<'a>(commands: impl IntoIterator<Item = Named<'a>>) -> Table {
        let commands: Vec<Named<'a>> = commands.into_iter().collect();
        let bound = commands.iter().map(|command| command.index + 1).max().unwrap_or(0);
        let mut rows: BTreeMap<Box<[u8]>, Row> = BTreeMap::new();
        for command in &commands {
            let Named { index, name, is_subcommand, .. } = *command;
            let row = Row { index, is_subcommand, subcommands: Vec::new() };
            rows.insert(name.to_ascii_lowercase().into_bytes().into(), row);
        }
        for command in commands.iter().filter(|command| command.is_subcommand) {
            if let Some((container, _)) = command.name.rsplit_once('|')
                && let Some(row) = rows.get_mut(container.to_ascii_lowercase().as_bytes())
            {
                row.subcommands.push(command.index);
            }
        }
        let categories = CATEGORIES.iter().map(|(category, _)| {
            let mut members = Bits::filled(bound, false);
            let mut changed = Bits::filled(bound, false);
            for command in &commands {
                if !command.from_module && command.categories.has(*category) {
                    members.set(command.index, true);
                    changed.set(command.index, true);
                    let row = rows.get(command.name.to_ascii_lowercase().as_bytes());
                    row.into_iter().flat_map(|row| &row.subcommands).for_each(|sub| changed.set(*sub, true));
                }
            }
            Reach { len: members.count(), members, changed }
        });
        Table { categories: categories.collect(), rows, bound }
    }

    /// The command of a full name, in whatever case.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&Row> {
        self.rows.get(&*name.to_ascii_lowercase())
    }

    /// Every command with its name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Row)> {
        self.rows.iter().map(|(name, row)| (&**name, row))
    }

    /// What the category at a place in [`CATEGORIES`] reaches. An empty table knows no categories.
    pub(crate) fn category(&self, place: usize) -> Option<&Reach> {
        self.categories.get(place)
    }

    /// The places of commands in the registry are below this.
    pub(crate) fn bound(&self) -> usize {
        self.bound
    }
}

/// The place of a category in [`CATEGORIES`], by its name in whatever case.
pub(crate) fn category_named(name: &[u8]) -> Option<usize> {
    CATEGORIES.iter().position(|(_, known)| name.eq_ignore_ascii_case(known.as_bytes()))
}
