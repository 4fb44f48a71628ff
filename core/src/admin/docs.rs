//! The reference of commands and of INFO's fields, generated from their declarations: COMMANDS.md and INFO.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mortise_sdk::declare::{Spec, flags};

use super::info::ORDER;
use crate::features::{Feature, Section};

/// The text of COMMANDS.md: a chapter a group, in it the commands by name. Those for tests of the server are left out.
pub fn commands_md(features: &[Feature]) -> String {
    let mut text = String::from(
        "# Commands\n\nGenerated from the commands' own declarations. A usage line says in brackets what may be left \
         out, between `<` and `>` of what one is chosen, and with `...` what may be repeated.\n",
    );
    let mut groups: BTreeMap<&str, BTreeMap<&str, Spec>> = BTreeMap::new();
    for command in features.iter().flat_map(|feature| feature.commands).flat_map(|table| table.iter()) {
        let spec = command.spec;
        let is_internal = spec.flags.iter().any(|flag| flag.any(flags::SYSCMD | flags::CONTAINER));
        if !is_internal {
            groups.entry(spec.group).or_default().insert(spec.usage, spec);
        }
    }
    for (group, commands) in groups {
        write!(text, "\n## {group}\n").expect(WRITTEN);
        commands.values().for_each(|spec| describe(spec, &mut text));
    }
    text
}

/// Writing to a string cannot fail.
const WRITTEN: &str = "writing to a string cannot fail";

fn describe(spec: &Spec, text: &mut String) {
    let usage = spec.usage.split_whitespace().collect::<Vec<_>>().join(" ");
    write!(text, "\n**`{usage}`**\n{}", spec.about).expect(WRITTEN);
    write!(text, " *Since {}, {}.*", spec.since, spec.cost).expect(WRITTEN);
    if let Some(deprecated) = spec.deprecated {
        write!(text, " Outdated since {}: {}.", deprecated.since, deprecated.replaced_by).expect(WRITTEN);
    }
    text.push('\n');
    for (version, change) in spec.history {
        writeln!(text, "- {version}: {change}").expect(WRITTEN);
    }
}

/// The text of INFO.md: a chapter a section, in the order of INFO.
pub fn info_md(features: &[Feature]) -> String {
    let mut text = String::from(
        "# INFO\n\nGenerated from the fields' own declarations. `INFO` shows the sections that are marked with a star, \
         `INFO section` any of them, `INFO everything` all. A module's section bears the module's name.\n",
    );
    let mut sections: Vec<&Section> = features.iter().flat_map(|feature| feature.info).collect();
    let place = |name: &str| ORDER.iter().position(|(known, _)| *known == name).unwrap_or(ORDER.len());
    sections.sort_by_key(|section| place(section.name));
    for section in sections {
        let star = if ORDER.contains(&(section.name, true)) { " \\*" } else { "" };
        write!(text, "\n## {}{star}\n\n| field | |\n|---|---|\n", section.name).expect(WRITTEN);
        for field in section.fields {
            writeln!(text, "| `{}` | {} |", field.name, field.about).expect(WRITTEN);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::FEATURES;

    /// Compares a file of the package with what the declarations say; writes it anew if the environment says UPDATE.
    fn is_up_to_date(name: &str, text: &str) {
        let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let file = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(file == text, "core/{name} is not what the declarations say: run this test with UPDATE=1");
    }

    #[test]
    fn the_list_of_commands_is_up_to_date() {
        let text = commands_md(FEATURES);
        assert!(text.contains("\n## string\n") && text.contains("\n**`GET key`**\n"), "{text}");
        assert!(!text.contains("**`DEBUG"));
        is_up_to_date("COMMANDS.md", &text);
    }

    #[test]
    fn the_list_of_fields_is_up_to_date() {
        let text = info_md(FEATURES);
        assert!(text.find("\n## server \\*\n") < text.find("\n## keyspace \\*\n"));
        assert!(text.contains("\n## commandstats\n"));
        is_up_to_date("INFO.md", &text);
    }
}
