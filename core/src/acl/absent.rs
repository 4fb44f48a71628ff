//! Commands of Redis 7.0 that Mortise does not have yet, as far as rules name them.
//!
//! A file of users that was written for Redis says `+lpush` or `-eval`; it is accepted, and means what it says when the
//! command comes. Categories are what they are in Redis, too, so that users are printed as Redis prints them. A command
//! leaves this table when a feature declares it.

use std::collections::HashSet;

use mortise_acl::{Named, Table};
use mortise_sdk::declare::Category;
use mortise_sdk::declare::category::CATEGORIES;

use crate::engine::registry::Registry;

/// Categories, and the commands that are in just these.
const ALL: &[(&str, &str)] = &[
    ("keyspace write slow dangerous", "migrate restore-asking"),
    (
        "admin slow dangerous",
        "cluster|addslots cluster|addslotsrange cluster|bumpepoch \
         cluster|count-failure-reports cluster|delslots cluster|delslotsrange cluster|failover \
         cluster|flushslots cluster|forget cluster|meet cluster|replicas cluster|replicate \
         cluster|reset cluster|saveconfig cluster|set-config-epoch cluster|setslot cluster|slaves",
    ),
    (
        "slow",
        "cluster cluster|countkeysinslot cluster|getkeysinslot cluster|help cluster|info \
         cluster|keyslot cluster|links cluster|myid cluster|nodes cluster|shards cluster|slots \
         function",
    ),
    ("fast connection", "asking readonly readwrite"),
    ("write slow scripting", "function|delete function|flush function|load function|restore"),
    (
        "slow scripting",
        "fcall fcall_ro function|dump function|help function|kill function|list function|stats",
    ),
];

fn categories(names: &str) -> Category {
    let of = |name: &str| CATEGORIES.iter().find(|(_, known)| *known == name).map(|(category, _)| *category);
    names.split(' ').filter_map(of).fold(Category::NONE, Category::and)
}

/// Every command that rules can name: those of a registry, and those that are yet to come.
pub(super) fn table_with(registry: &Registry) -> Table {
    let there = registry.all().map(|command| Named {
        index: command.index,
        name: &command.name,
        categories: command.facts.categories,
        from_module: command.module.is_some(),
        is_subcommand: command.facts.words.len() > 1,
    });
    let names_there: HashSet<&str> = registry.all().map(|command| &*command.name).collect();
    let names = ALL.iter().flat_map(|(of, names)| names.split(' ').map(|name| (name, categories(of))));
    let absent = names.filter(|(name, _)| !names_there.contains(name)).enumerate().map(
        |(place, (name, categories))| Named {
            index: registry.indices() + place,
            name,
            categories,
            from_module: false,
            is_subcommand: name.contains('|'),
        },
    );
    Table::new(there.chain(absent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().flat_map(|(_, names)| names.split(' '))
    }

    #[test]
    fn what_is_there_is_not_absent() {
        let registry = crate::features::registry().unwrap();
        let there: Vec<&str> =
            names().filter(|name| registry.by_full_name(name.as_bytes()).is_some()).collect();
        assert!(there.is_empty(), "these rows can go: {}", there.join(" "));
    }

    #[test]
    fn rows_are_well_formed() {
        let mut seen = HashSet::new();
        assert!(names().all(|name| !name.is_empty() && seen.insert(name)));
        for (of, _) in ALL {
            assert_eq!(categories(of).names().count(), of.split(' ').count(), "{of}");
        }
    }
}
