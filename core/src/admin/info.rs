//! INFO: how the server fares. Each feature declares its sections; this file knows their order and how they are shown.

use std::fmt::Write;

use mortise_sdk::declare::Spec;
use mortise_sdk::declare::category;
use mortise_sdk::declare::flags::{LOADING, STALE};
use mortise_sdk::declare::info::Shown;
use mortise_sdk::error::Result;

use crate::engine::Engine;
use crate::engine::call::Call;
use crate::features::{Command, FEATURES, Field, Section};

const SERVER: Spec = Spec::group("server");

const INFO: Command = Spec {
    usage: "INFO [section...]",
    about: "Tells how the server fares, in sections.",
    flags: &[LOADING, STALE],
    categories: &[category::DANGEROUS],
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    history: &[("7.0.0", "Takes several sections.")],
    ..SERVER
}
.runs(info);
pub(super) const COMMANDS: &[Command] = &[INFO];

/// The sections in the order in which they are shown, and whether they are shown unless others are asked for. Those that
/// are not named here follow, and belong to `everything` alone.
pub(super) const ORDER: &[(&str, bool)] = &[
    ("server", true),
    ("clients", true),
    ("memory", true),
    ("persistence", true),
    ("stats", true),
    ("replication", true),
    ("cpu", true),
    ("modules", true),
    ("commandstats", false),
    ("errorstats", true),
    ("latencystats", false),
    ("cluster", true),
    ("keyspace", true),
];

/// A field of a section.
pub(crate) const fn field(name: &'static str, about: &'static str, read: fn(&Engine) -> Shown) -> Field {
    Field { name, about, read }
}

/// The value of a field that counts what cannot happen.
pub(crate) fn never(_: &Engine) -> Shown {
    Shown::Int(0)
}

fn info(call: &mut Call<'_>) -> Result {
    call.engine.sample();
    let wanted = Wanted::of(call.options(1));
    let text = wanted.show(call.engine);
    call.out().verbatim(&text);
    Ok(())
}

/// Which sections are asked for.
#[derive(Default)]
struct Wanted {
    by_default: bool,
    all: bool,
    everything: bool,
    names: Vec<String>,
}

impl Wanted {
    fn of<'a>(words: impl Iterator<Item = &'a [u8]>) -> Wanted {
        let mut wanted = Wanted::default();
        let mut any = false;
        for word in words {
            any = true;
            match &*String::from_utf8_lossy(word).to_ascii_lowercase() {
                "default" => wanted.by_default = true,
                "all" => wanted.all = true,
                "everything" => wanted.everything = true,
                "module_list" => wanted.names.push("modules".to_owned()),
                name => wanted.names.push(name.to_owned()),
            }
        }
        wanted.by_default |= !any;
        wanted
    }

    fn has(&self, section: &str) -> bool {
        let place = ORDER.iter().find(|(name, _)| *name == section);
        self.everything
            || self.names.iter().any(|name| name == section)
            || place.is_some_and(|(_, by_default)| self.all || (self.by_default && *by_default))
    }

    fn show(&self, engine: &Engine) -> String {
        let mut sections: Vec<&Section> = FEATURES
            .iter()
            .flat_map(|feature| feature.info)
            .filter(|section| self.has(section.name))
            .collect();
        sections.sort_by_key(|section| {
            ORDER.iter().position(|(name, _)| *name == section.name).unwrap_or(usize::MAX)
        });
        let mut sections: Vec<_> = sections.iter().map(|section| show(section, engine)).collect();
        sections.extend(self.of_modules(engine));
        sections.join("\r\n")
    }

    /// The modules' own sections, which are shown by their names, with the list of modules, and with everything.
    fn of_modules(&self, engine: &Engine) -> Vec<String> {
        let wants = |name: &str| self.names.iter().any(|wanted| wanted == name);
        let wants_all = self.everything || wants("modules");
        if !wants_all && self.names.is_empty() {
            return Vec::new();
        }
        let of_module = |name: &str| name.split_once('_').is_some_and(|(module, _)| wants(module));
        let sections = engine.modules.sections().into_iter();
        let wanted =
            sections.filter(|(name, _)| wants_all || wants(&name.to_ascii_lowercase()) || of_module(name));
        wanted
            .map(|(name, lines)| {
                let lines: String =
                    lines.iter().map(|(field, value)| format!("{field}:{value}\r\n")).collect();
                format!("# {name}\r\n{lines}")
            })
            .collect()
    }
}

fn show(section: &Section, engine: &Engine) -> String {
    let mut text = format!("# {}\r\n", heading(section.name));
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        write!(text, "{name}:{value}\r\n").expect("writing to a string cannot fail");
    };
    for field in section.fields {
        match (field.read)(engine) {
            Shown::Int(number) => line(field.name, &number),
            Shown::Text(value) => line(field.name, &value),
            Shown::Ratio(number) => line(field.name, &format_args!("{number:.2}")),
            Shown::Hidden => {}
            Shown::Lines(lines) => lines.iter().for_each(|(name, value)| line(name, value)),
        }
    }
    text
}

fn heading(name: &str) -> String {
    if name == "cpu" {
        return "CPU".to_owned();
    }
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// Text that clients have chosen, without what would end a name or a line.
pub(crate) fn safe(text: &str) -> String {
    text.replace(['#', ':', '\r', '\n'], "_")
}

/// A number of bytes as people write it: 1.50K, 2.00M …
pub(crate) fn human(bytes: u64) -> Shown {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return Shown::Text(format!("{bytes}B"));
    }
    let (mut size, mut unit) = (bytes as f64 / 1024.0, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    Shown::Text(format!("{size:.2}{}", UNITS[unit]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(words: &str) -> String {
        let wanted = Wanted::of(words.split_whitespace().map(str::as_bytes));
        let names = ORDER.iter().map(|(name, _)| *name).chain(["other"]);
        names.filter(|name| wanted.has(name)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn sections_are_chosen() {
        let by_default =
            "server clients memory persistence stats replication cpu modules errorstats cluster keyspace";
        assert_eq!(wanted(""), by_default);
        assert_eq!(wanted("DEFAULT"), by_default);
        assert!(wanted("all").contains("commandstats") && !wanted("all").contains("other"));
        assert!(wanted("everything").ends_with(" other"));
        assert_eq!(wanted("sentinel"), "");
        assert_eq!(wanted("keyspace commandSTATS keyspace"), "commandstats keyspace");
        assert_eq!(wanted("module_list other"), "modules other");
        assert_eq!(wanted("latencystats default").split(' ').count(), 12);
    }

    #[test]
    fn every_section_has_its_place_once() {
        let mut names: Vec<_> =
            FEATURES.iter().flat_map(|feature| feature.info).map(|section| section.name).collect();
        let mut places: Vec<_> = ORDER.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        places.sort_unstable();
        assert_eq!(names, places);
    }

    #[test]
    fn bytes_for_people() {
        for (bytes, text) in
            [(0, "0B"), (1023, "1023B"), (1536, "1.50K"), (1 << 20, "1.00M"), (3 << 40, "3.00T")]
        {
            assert_eq!(human(bytes), Shown::Text(text.to_owned()));
        }
    }
}
